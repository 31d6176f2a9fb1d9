/*
 * entry_look.c
 *	  Is somebody who comes in checked in already? Runs in whichever backend inserts an
 *	  entry. Two index look-ups, without the start-up of an executor, which would cost
 *	  more than all the rest that an entry costs.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "entry_look.h"
#include "smartspace_cobot.h"

static Oid
relation_oid(const char *name)
{
	Oid			oid = get_relname_relid(name, get_namespace_oid(SMARTSPACE_SCHEMA, false));

	if (!OidIsValid(oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"%s.%s\" does not exist", SMARTSPACE_SCHEMA, name)));
	return oid;
}

static Datum
column(HeapTuple tuple, Relation table, const char *name)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, SPI_fnumber(RelationGetDescr(table), name), RelationGetDescr(table), &isnull);

	/* the columns that are asked for here are NOT NULL */
	Assert(!isnull);
	return value;
}

/* The space of a building; 0: no such building. */
static int64
find_space(Oid type, Datum building)
{
	bool		by_id = type == INT8OID;
	Relation	table = table_open(relation_oid("building"), AccessShareLock);
	AttrNumber	key = (AttrNumber) SPI_fnumber(RelationGetDescr(table), by_id ? "id" : "external_identifier");
	ScanKeyData scan_key;
	SysScanDesc scan;
	HeapTuple	tuple;
	int64		space;

	ScanKeyEntryInitialize(&scan_key, 0, key, BTEqualStrategyNumber, InvalidOid,
						   by_id ? InvalidOid : DEFAULT_COLLATION_OID, by_id ? F_INT8EQ : F_TEXTEQ, building);
	scan = systable_beginscan(table, relation_oid(by_id ? "building_pkey" : "building_external_identifier_key"), true,
							  GetActiveSnapshot(), 1, &scan_key);
	tuple = systable_getnext(scan);
	space = HeapTupleIsValid(tuple) ? DatumGetInt64(column(tuple, table, "integration_id")) : 0;
	systable_endscan(scan);
	table_close(table, AccessShareLock);
	return space;
}

static bool
is_current(HeapTuple tuple, Relation table, int64 space)
{
	static const char *const current[] = {"done", "already_in"};
	text	   *state = DatumGetTextPP(column(tuple, table, "state"));

	if (DatumGetInt64(column(tuple, table, "integration_id")) != space)
		return false;
	for (int i = 0; i < (int) lengthof(current); i++)
		if (VARSIZE_ANY_EXHDR(state) == strlen(current[i]) &&
			memcmp(VARDATA_ANY(state), current[i], strlen(current[i])) == 0)
			return true;
	return false;
}

bool
entry_look_is_in(int64 membership, Oid building_type, Datum building)
{
	int64		space = ActiveSnapshotSet() ? find_space(building_type, building) : 0;
	ScanKeyData keys[2];
	HeapTuple	tuple;
	bool		found = false;

	if (space == 0)
		return false;

	Relation	table = table_open(relation_oid("cobot_checkin"), AccessShareLock);
	TupleDesc	desc = RelationGetDescr(table);

	ScanKeyInit(&keys[0], (AttrNumber) SPI_fnumber(desc, "membership_id"), BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(membership));
	ScanKeyInit(&keys[1], (AttrNumber) SPI_fnumber(desc, "holds_until"), BTGreaterStrategyNumber, F_TIMESTAMPTZ_GT,
				TimestampTzGetDatum(GetCurrentStatementStartTimestamp()));

	SysScanDesc scan = systable_beginscan(table, relation_oid("cobot_checkin_membership_idx"), true, GetActiveSnapshot(),
										  lengthof(keys), keys);

	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
		found = is_current(tuple, table, space);
	systable_endscan(scan);
	table_close(table, AccessShareLock);
	return found;
}
