/*
 * caller.c
 *	  Which integrations the caller may see and touch. Runs in any backend, reads tables and
 *	  indexes directly, because the caller need not have any rights on them.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "caller.h"
#include "compat.h"
#include "smartspace_cobot.h"
#include "trust.h"

PG_FUNCTION_INFO_V1(caller_cobot_sees);
PG_FUNCTION_INFO_V1(caller_cobot_sees_member);
PG_FUNCTION_INFO_V1(caller_cobot_sees_plan);
PG_FUNCTION_INFO_V1(caller_cobot_sees_building);

/* What one caller may do; for a whole statement where it is asked about many rows. */
typedef struct Reach
{
	Oid			caller;
	Oid			function;		/* that they called; InvalidOid: they read or write a table */
	bool		to_write;
	bool		everything;
	int			count;
	int64	   *integrations;
} Reach;

static Datum
column(HeapTuple tuple, Relation table, const char *name, bool *isnull)
{
	return heap_getattr(tuple, SPI_fnumber(RelationGetDescr(table), name), RelationGetDescr(table), isnull);
}

static void
add_integrations(Reach *reach, Datum value, MemoryContext context)
{
	Datum	   *elements;
	int			count;

	deconstruct_array(DatumGetArrayTypeP(value), INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &elements, NULL, &count);

	int64	   *grown = MemoryContextAlloc(context, sizeof(int64) * (reach->count + count));

	for (int i = 0; i < reach->count; i++)
		grown[i] = reach->integrations[i];
	for (int i = 0; i < count; i++)
		grown[reach->count + i] = DatumGetInt64(elements[i]);
	reach->integrations = grown;
	reach->count += count;
}

/* Does this role give what is being done, or something else that the caller also may? */
static bool
role_gives(const Reach *reach, Oid role, HeapTuple tuple, Relation table)
{
	bool		isnull;

	if (OidIsValid(reach->function))
		return compat_may_execute(reach->function, role);
	if (!reach->to_write)
		return true;
	return strcmp(TextDatumGetCString(column(tuple, table, "level", &isnull)), "look") != 0;
}

/*
 * Adds up the rows of cobot_role that count for the caller: of all roles whose rights they
 * have, those that give what is being done; if none of them does, all of them, for then the
 * right was granted by hand, and that lifts no limit. Of a caller who is not known, nothing
 * is known but that they are none of the limited ones if there are no limited ones.
 */
static void
add_up(Reach *reach, Relation table, MemoryContext context)
{
	SysScanDesc scan = systable_beginscan(table, InvalidOid, false, NULL, 0, NULL);
	Reach		given = *reach;
	Reach		other = *reach;
	bool		is_given = false;
	bool		is_other = false;
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Oid			role = DatumGetObjectId(column(tuple, table, "role", &isnull));
		Datum		integrations = column(tuple, table, "integrations", &isnull);
		bool		gives = OidIsValid(reach->caller) && role_gives(reach, role, tuple, table);

		if (OidIsValid(reach->caller) ? !has_privs_of_role(reach->caller, role) : isnull)
			continue;

		Reach	   *sum = gives ? &given : &other;

		*(gives ? &is_given : &is_other) = true;
		if (!OidIsValid(reach->caller))
			continue;
		if (isnull)
			sum->everything = true;
		else
			add_integrations(sum, integrations, context);
	}
	systable_endscan(scan);
	*reach = is_given ? given : other;
	if (!is_given && !is_other)
		reach->everything = true;
}

static Reach *
find_reach(Oid caller, Oid function, bool to_write, MemoryContext context)
{
	Relation	table = table_open(get_relname_relid("cobot_role", get_namespace_oid(SMARTSPACE_SCHEMA, false)), AccessShareLock);
	Reach	   *reach = MemoryContextAllocZero(context, sizeof(Reach));

	reach->caller = caller;
	reach->function = function;
	reach->to_write = to_write;
	if (OidIsValid(caller) && has_privs_of_role(caller, table->rd_rel->relowner))
		reach->everything = true;
	else
		add_up(reach, table, context);
	table_close(table, AccessShareLock);
	return reach;
}

static bool
reaches(const Reach *reach, int64 integration)
{
	bool		found = reach->everything;

	for (int i = 0; !found && i < reach->count; i++)
		found = reach->integrations[i] == integration;
	return found;
}

/* Kept from call to call of one statement, unless somebody else calls it by then. */
static const Reach *
reach_of_call(FunctionCallInfo fcinfo)
{
	Reach	   *reach = fcinfo->flinfo->fn_extra;
	bool		to_write = PG_GETARG_BOOL(1);
	Oid			function;
	Oid			caller = trust_caller(&function);

	if (reach == NULL || reach->caller != caller || reach->function != function || reach->to_write != to_write)
		fcinfo->flinfo->fn_extra = reach = find_reach(caller, function, to_write, fcinfo->flinfo->fn_mcxt);
	return reach;
}

/* The integration of a row by its id; 0: no such row. */
static int64
integration_of(const char *name, const char *index, int64 id)
{
	Oid			schema = get_namespace_oid(SMARTSPACE_SCHEMA, false);
	Relation	table = table_open(get_relname_relid(name, schema), AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	int64		integration = 0;
	bool		isnull;

	ScanKeyInit(&key, (AttrNumber) SPI_fnumber(RelationGetDescr(table), "id"), BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	scan = systable_beginscan(table, get_relname_relid(index, schema), true, NULL, 1, &key);
	if (HeapTupleIsValid(tuple = systable_getnext(scan)))
		integration = DatumGetInt64(column(tuple, table, "integration_id", &isnull));
	systable_endscan(scan);
	table_close(table, AccessShareLock);
	return integration;
}

bool
caller_sees(int64 integration)
{
	Oid			function;
	Oid			caller = trust_caller(&function);

	return reaches(find_reach(caller, function, false, CurrentMemoryContext), integration);
}

bool
caller_sees_member(int64 member)
{
	Oid			function;
	Oid			caller = trust_caller(&function);
	const Reach *reach = find_reach(caller, function, false, CurrentMemoryContext);

	return reach->everything || reaches(reach, integration_of("cobot_membership", "cobot_membership_pkey", member));
}

/*
 * cobot_sees(integration bigint, to_write boolean) -> boolean; null, as what belongs to no
 * integration, is seen by whoever is not limited
 */
Datum
caller_cobot_sees(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(reaches(reach_of_call(fcinfo), PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0)));
}

static Datum
sees_row(FunctionCallInfo fcinfo, const char *table, const char *index)
{
	const Reach *reach = reach_of_call(fcinfo);

	PG_RETURN_BOOL(reach->everything ||
				   (!PG_ARGISNULL(0) && reaches(reach, integration_of(table, index, PG_GETARG_INT64(0)))));
}

/* cobot_sees_member(member bigint, to_write boolean) -> boolean */
Datum
caller_cobot_sees_member(PG_FUNCTION_ARGS)
{
	return sees_row(fcinfo, "cobot_membership", "cobot_membership_pkey");
}

/* cobot_sees_plan(plan bigint, to_write boolean) -> boolean */
Datum
caller_cobot_sees_plan(PG_FUNCTION_ARGS)
{
	return sees_row(fcinfo, "cobot_plan", "cobot_plan_pkey");
}

/* cobot_sees_building(building bigint, to_write boolean) -> boolean */
Datum
caller_cobot_sees_building(PG_FUNCTION_ARGS)
{
	return sees_row(fcinfo, "building", "building_pkey");
}
