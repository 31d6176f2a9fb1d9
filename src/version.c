/*
 * version.c
 *	  Which versions of the extension's SQL objects this library works with. Runs in the
 *	  worker.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "smartspace_cobot.h"
#include "version.h"

#define MINOR_LIMIT 1000

char *
version_installed(Oid extension)
{
	Relation	extensions = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	char	   *version = NULL;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(extension));
	scan = systable_beginscan(extensions, ExtensionOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		is_null;
		Datum		value = heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(extensions), &is_null);

		version = TextDatumGetCString(value);
	}
	systable_endscan(scan);
	table_close(extensions, AccessShareLock);
	return version;
}

/* "1.2" as a number that can be compared; -1 for what is no version of ours. */
static int
number_of(const char *version)
{
	char	   *end;
	long		major = strtol(version, &end, 10);
	long		minor = *end == '.' ? strtol(end + 1, &end, 10) : -1;

	if (*end != '\0' || major < 0 || major > MINOR_LIMIT || minor < 0 || minor >= MINOR_LIMIT)
		return -1;
	return (int) (major * MINOR_LIMIT + minor);
}

bool
version_is_served(const char *version)
{
	int			number = number_of(version);

	return number >= number_of(VERSION_OLDEST_SQL) && number <= number_of(SMARTSPACE_COBOT_VERSION);
}

const char *
version_hint(const char *version)
{
	return number_of(version) > number_of(SMARTSPACE_COBOT_VERSION) ?
		"Install the package of that version and restart the server." :
		"Run in that database: ALTER EXTENSION smartspace_cobot UPDATE.";
}
