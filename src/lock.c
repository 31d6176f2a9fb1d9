/*
 * lock.c
 *	  The heavyweight locks of this extension. Object locks on our own tables
 *	  rather than advisory locks, whose keys belong to the applications.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/lsyscache.h"

#include "lock.h"
#include "smartspace_cobot.h"

static Oid
table_oid(const char *table)
{
	Oid			oid = get_relname_relid(table, get_namespace_oid(SMARTSPACE_SCHEMA, false));

	if (!OidIsValid(oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s.%s\" does not exist", SMARTSPACE_SCHEMA, table)));
	return oid;
}

/*
 * A lock tag for one number within one of our tables. The number is cut to 48
 * bits; two integrations that fall together would only wait for each other.
 */
static LOCKTAG
object_tag(const char *table, int64 number)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, table_oid(table), (uint32) number, (uint16) (number >> 32));
	return tag;
}

bool
lock_try_run(int64 integration)
{
	LOCKTAG		tag = object_tag("cobot_sync_run", integration);

	/*
	 * Already held means that this very transaction synchronised before, which
	 * is fine: statements of one session follow each other.
	 */
	return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

/*
 * Whoever computes grants reads the assignments in the end. TRUNCATE locks that
 * table before any trigger of ours can take a lock, so the others must, too.
 */
static void
open_assignments(void)
{
	LockRelationOid(table_oid("user_group_assignment"), AccessShareLock);
}

void
lock_identifiers(bool exclusive)
{
	LOCKTAG		tag = object_tag("user_group", 0);

	open_assignments();
	(void) LockAcquire(&tag, exclusive ? ExclusiveLock : ShareLock, false, false);
}

void
lock_access(int64 integration)
{
	LOCKTAG		tag = object_tag("user_group_member", integration);

	open_assignments();
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}
