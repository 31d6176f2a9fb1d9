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
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "caller.h"
#include "compat.h"
#include "smartspace_cobot.h"
#include "trust.h"

PG_FUNCTION_INFO_V1(caller_cobot_sees);
PG_FUNCTION_INFO_V1(caller_cobot_sees_member);
PG_FUNCTION_INFO_V1(caller_cobot_sees_plan);
PG_FUNCTION_INFO_V1(caller_cobot_sees_building);

/* What one caller may do. */
typedef struct Reach
{
	Oid			caller;
	Oid			function;		/* that they called; InvalidOid: they read or write a table */
	bool		to_write;
	bool		everything;
	int			count;
	int64	   *integrations;
} Reach;

/*
 * The one that was asked for last is kept from call to call, because doors and policies ask
 * for the same again and again, until what it was made of changes: the rows of cobot_role
 * (their trigger says so), roles and their members, privileges of functions.
 */
static Reach kept;
static uint64 kept_after = 0;	/* as many changes; 0: none is kept */
static uint64 changes = 1;
static Oid	kept_table = InvalidOid;
static MemoryContext kept_context = NULL;

/* Where to look for the integration of a row; for a whole statement. */
typedef struct RowTable
{
	Oid			table;
	Oid			index;
	AttrNumber	id;
	AttrNumber	integration;
} RowTable;

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

static void
forget_for_table(Datum arg, Oid table)
{
	(void) arg;
	if (table == InvalidOid || table == kept_table)
		changes++;
}

static void
forget(Datum arg, int cache, uint32 hash)
{
	(void) arg;
	(void) cache;
	(void) hash;
	changes++;
}

static void
prepare_to_keep(void)
{
	if (kept_context != NULL)
	{
		MemoryContextReset(kept_context);
		return;
	}
	kept_context = AllocSetContextCreate(TopMemoryContext, "smartspace_cobot caller", ALLOCSET_SMALL_SIZES);
	CacheRegisterRelcacheCallback(forget_for_table, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHOID, forget, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, forget, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, forget, (Datum) 0);
}

/* Valid until it is asked for again. */
static const Reach *
find_reach(Oid caller, Oid function, bool to_write)
{
	if (kept_after == changes && kept.caller == caller && kept.function == function && kept.to_write == to_write)
		return &kept;

	Relation	table = table_open(get_relname_relid("cobot_role", get_namespace_oid(SMARTSPACE_SCHEMA, false)), AccessShareLock);

	kept_after = 0;
	prepare_to_keep();
	kept_table = RelationGetRelid(table);

	const uint64 before = changes;

	kept = (Reach) {.caller = caller, .function = function, .to_write = to_write};
	if (OidIsValid(caller) && has_privs_of_role(caller, table->rd_rel->relowner))
		kept.everything = true;
	else
		add_up(&kept, table, kept_context);
	table_close(table, AccessShareLock);
	kept_after = before;
	return &kept;
}

static bool
reaches(const Reach *reach, int64 integration)
{
	bool		found = reach->everything;

	for (int i = 0; !found && i < reach->count; i++)
		found = reach->integrations[i] == integration;
	return found;
}

static void
find_row_table(RowTable *found, const char *name, const char *index)
{
	Oid			schema = get_namespace_oid(SMARTSPACE_SCHEMA, false);

	found->table = get_relname_relid(name, schema);
	found->index = get_relname_relid(index, schema);
	found->id = get_attnum(found->table, "id");
	found->integration = get_attnum(found->table, "integration_id");
}

/* The integration of a row by its id; 0: no such row. */
static int64
integration_of(const RowTable *where, int64 id)
{
	Relation	table = table_open(where->table, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	int64		integration = 0;
	bool		isnull;

	ScanKeyInit(&key, where->id, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	scan = systable_beginscan(table, where->index, true, NULL, 1, &key);
	if (HeapTupleIsValid(tuple = systable_getnext(scan)))
		integration = DatumGetInt64(heap_getattr(tuple, where->integration, RelationGetDescr(table), &isnull));
	systable_endscan(scan);
	table_close(table, AccessShareLock);
	return integration;
}

static const Reach *
reach_of_caller(bool to_write)
{
	Oid			function;
	Oid			caller = trust_caller(&function);

	return find_reach(caller, function, to_write);
}

bool
caller_sees(int64 integration)
{
	return reaches(reach_of_caller(false), integration);
}

bool
caller_sees_member(int64 member)
{
	const Reach *reach = reach_of_caller(false);
	RowTable	where;

	if (reach->everything)
		return true;
	find_row_table(&where, "cobot_membership", "cobot_membership_pkey");
	return reaches(reach, integration_of(&where, member));
}

/*
 * cobot_sees(integration bigint, to_write boolean) -> boolean; null, as what belongs to no
 * integration, is seen by whoever is not limited
 */
Datum
caller_cobot_sees(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(reaches(reach_of_caller(PG_GETARG_BOOL(1)), PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0)));
}

static Datum
sees_row(FunctionCallInfo fcinfo, const char *table, const char *index)
{
	const Reach *reach = reach_of_caller(PG_GETARG_BOOL(1));

	if (reach->everything)
		PG_RETURN_BOOL(true);
	if (PG_ARGISNULL(0))
		PG_RETURN_BOOL(false);
	if (fcinfo->flinfo->fn_extra == NULL)
	{
		RowTable   *where = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(RowTable));

		find_row_table(where, table, index);
		fcinfo->flinfo->fn_extra = where;
	}
	PG_RETURN_BOOL(reaches(reach, integration_of(fcinfo->flinfo->fn_extra, PG_GETARG_INT64(0))));
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
