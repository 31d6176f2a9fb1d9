/*
 * access.c
 *	  Keeps user_group_member equal to the view access_due. Runs in whichever
 *	  backend changed a membership, an assignment, a user group or a switch, at
 *	  the end of its statement, set-based.
 *
 * The trigger finds out which grants may be concerned (the scope), takes the
 * locks of lock.h, and lets one statement compare what is due with what is
 * there and write the difference. That statement has a snapshot taken after the
 * locks, so it sees what committed while it waited. That holds above READ
 * COMMITTED, too, because grants as old as the transaction would stay wrong.
 *
 * All statements name their objects in full; the functions pin search_path.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "access.h"
#include "lock.h"
#include "smartspace_cobot.h"

PG_FUNCTION_INFO_V1(access_follow);
PG_FUNCTION_INFO_V1(access_recompute_all);

/*
 * Writes the difference between due and stored grants within a scope, and the
 * journal, and gives one row: how many were given, changed and taken, the
 * journal's position, and the first few changes as JSON. DUE is a condition on
 * the view access_due d, HAVE a join or condition on user_group_member g.
 * Parameters: $1 now, $2 the run; the scope's own follow.
 */
#define FOLLOW(DUE, HAVE) \
	"WITH due AS MATERIALIZED (" \
	" SELECT d.membership_id, d.user_group_id, d.source, d.valid FROM smartspace.access_due d WHERE " DUE \
	"), have AS MATERIALIZED (" \
	" SELECT g.membership_id, g.user_group_id, g.source, g.valid FROM smartspace.user_group_member g " HAVE \
	"), difference AS MATERIALIZED (" \
	" SELECT membership_id, user_group_id, source, d.valid, h.valid AS valid_before," \
	"  CASE WHEN d.valid IS NULL THEN 'taken' WHEN h.valid IS NULL THEN 'given' ELSE 'changed' END AS action" \
	" FROM due d FULL JOIN have h USING (membership_id, user_group_id, source)" \
	" WHERE d.valid IS DISTINCT FROM h.valid" \
	"), taken AS (" \
	" DELETE FROM smartspace.user_group_member g USING difference x" \
	" WHERE x.action = 'taken' AND g.membership_id = x.membership_id" \
	" AND g.user_group_id = x.user_group_id AND g.source = x.source" \
	"), changed AS (" \
	" UPDATE smartspace.user_group_member g SET valid = x.valid, granted_at = $1, run_id = $2 FROM difference x" \
	" WHERE x.action = 'changed' AND g.membership_id = x.membership_id" \
	" AND g.user_group_id = x.user_group_id AND g.source = x.source" \
	"), given AS (" \
	" INSERT INTO smartspace.user_group_member (membership_id, user_group_id, source, valid, granted_at, run_id)" \
	" SELECT x.membership_id, x.user_group_id, x.source, x.valid, $1, $2 FROM difference x WHERE x.action = 'given'" \
	"), journal AS (" \
	" INSERT INTO smartspace.access_journal" \
	" (position, at, action, membership_id, user_group_id, source, valid_before, valid, run_id, done_by)" \
	" SELECT (SELECT " POSITION "), $1, x.action, x.membership_id, x.user_group_id, x.source, x.valid_before, x.valid," \
	"  $2, session_user FROM difference x" \
	") SELECT pg_catalog.count(*) FILTER (WHERE x.action = 'given')," \
	" pg_catalog.count(*) FILTER (WHERE x.action = 'changed')," \
	" pg_catalog.count(*) FILTER (WHERE x.action = 'taken')," \
	" CASE WHEN pg_catalog.count(*) > 0 THEN (SELECT " POSITION ") END," \
	" (SELECT pg_catalog.string_agg(pg_catalog.row_to_json(f)::text, ',')" \
	"  FROM (SELECT y.action, y.membership_id, y.user_group_id, y.source FROM difference y LIMIT " NOTIFIED_CHANGES ") f)" \
	" FROM difference x"

/* The number of the transaction, as access_position() counts. */
#define POSITION "pg_catalog.pg_current_xact_id()::text::bigint"

/* A notification names this many changes; of more it gives only the count. */
#define NOTIFIED_CHANGES "5"
#define NOTIFIED_CHANGES_LIMIT 5
#define NOTIFY_CHANNEL "smartspace_access"

#define TOKENS_LIKE(ROWS) \
	"SELECT t.integration_id, t.membership_id FROM " ROWS " r JOIN smartspace.cobot_individual_token t" \
	" ON pg_catalog.lower(t.token) = pg_catalog.lower(r.external_identifier)"

#define ASSIGNMENTS(ROWS) \
	"SELECT p.integration_id, pg_catalog.array_agg(DISTINCT a.plan_id), pg_catalog.array_agg(DISTINCT a.user_group_id)" \
	" FROM " ROWS " a JOIN smartspace.cobot_plan p ON p.id = a.plan_id GROUP BY 1 ORDER BY 1"

#define MANUAL_GRANTS(ROWS) \
	"SELECT m.integration_id, pg_catalog.array_agg(DISTINCT x.membership_id), pg_catalog.array_agg(DISTINCT x.user_group_id)" \
	" FROM " ROWS " x JOIN smartspace.cobot_membership m ON m.id = x.membership_id GROUP BY 1 ORDER BY 1"

#define BOTH(COLUMNS) "(SELECT " COLUMNS " FROM new_row UNION ALL SELECT " COLUMNS " FROM old_row)"

/* Every statement of this file; each is planned once per process. */
typedef enum AccessQuery
{
	NONE,
	MEMBERSHIPS_INSERTED,
	MEMBERSHIPS_UPDATED,
	MEMBERSHIPS_DELETED,
	ASSIGNMENTS_INSERTED,
	ASSIGNMENTS_UPDATED,
	ASSIGNMENTS_DELETED,
	MANUAL_INSERTED,
	MANUAL_UPDATED,
	MANUAL_DELETED,
	GROUPS_INSERTED,
	GROUPS_UPDATED,
	GROUPS_DELETED,
	INTEGRATIONS_UPDATED,
	ALL_INTEGRATIONS,
	FOLLOW_MEMBERSHIPS,
	FOLLOW_ASSIGNMENTS,
	FOLLOW_MANUAL,
	FOLLOW_INTEGRATION,
	FOLLOW_EVERYTHING,
	ACCESS_QUERY_COUNT
} AccessQuery;

/*
 * The first group finds the scope: one row for each integration concerned, in
 * lock order, with the arrays that the FOLLOW_ statement wants.
 */
static const char *const access_query[ACCESS_QUERY_COUNT] = {
	[MEMBERSHIPS_INSERTED] =
	"SELECT n.integration_id, pg_catalog.array_agg(n.id) FROM new_row n GROUP BY 1 ORDER BY 1",
	[MEMBERSHIPS_UPDATED] =
	"SELECT COALESCE(n.integration_id, o.integration_id), pg_catalog.array_agg(COALESCE(n.id, o.id))"
	" FROM new_row n FULL JOIN old_row o ON o.id = n.id"
	" WHERE (n.integration_id, n.plan_id, n.confirmed_at, n.starts_at, n.canceled_to, n.individual_access, n.departed_at)"
	" IS DISTINCT FROM"
	" (o.integration_id, o.plan_id, o.confirmed_at, o.starts_at, o.canceled_to, o.individual_access, o.departed_at)"
	" GROUP BY 1 ORDER BY 1",
	[MEMBERSHIPS_DELETED] =
	"SELECT o.integration_id, pg_catalog.array_agg(o.id) FROM old_row o GROUP BY 1 ORDER BY 1",
	[ASSIGNMENTS_INSERTED] = ASSIGNMENTS("new_row"),
	[ASSIGNMENTS_UPDATED] = ASSIGNMENTS(BOTH("plan_id, user_group_id")),
	[ASSIGNMENTS_DELETED] = ASSIGNMENTS("old_row"),
	[MANUAL_INSERTED] = MANUAL_GRANTS("new_row"),
	[MANUAL_UPDATED] = MANUAL_GRANTS(BOTH("membership_id, user_group_id")),
	[MANUAL_DELETED] = MANUAL_GRANTS("old_row"),
	[GROUPS_INSERTED] =
	"SELECT f.integration_id, pg_catalog.array_agg(DISTINCT f.membership_id)"
	" FROM (" TOKENS_LIKE("new_row") ") f GROUP BY 1 ORDER BY 1",
	[GROUPS_UPDATED] =
	"SELECT f.integration_id, pg_catalog.array_agg(DISTINCT f.membership_id)"
	" FROM (" TOKENS_LIKE("(SELECT u.external_identifier FROM new_row n FULL JOIN old_row o ON o.id = n.id"
						  " CROSS JOIN LATERAL (VALUES (n.external_identifier), (o.external_identifier)) u (external_identifier)"
						  " WHERE (o.id, o.external_identifier) IS DISTINCT FROM (n.id, n.external_identifier))")
	") f GROUP BY 1 ORDER BY 1",
	[GROUPS_DELETED] =
	"SELECT f.integration_id, pg_catalog.array_agg(DISTINCT f.membership_id)"
	" FROM (" TOKENS_LIKE("old_row")
	" UNION ALL SELECT m.integration_id, m.id FROM old_row o"
	" JOIN smartspace.user_group_member g ON g.user_group_id = o.id"
	" JOIN smartspace.cobot_membership m ON m.id = g.membership_id) f GROUP BY 1 ORDER BY 1",
	[INTEGRATIONS_UPDATED] =
	"SELECT n.id, n.id FROM new_row n JOIN old_row o ON o.id = n.id"
	" WHERE (n.sync_plan_access, n.sync_individual_access, n.time_zone)"
	" IS DISTINCT FROM (o.sync_plan_access, o.sync_individual_access, o.time_zone) ORDER BY 1",
	[ALL_INTEGRATIONS] =
	"SELECT i.id, i.id FROM smartspace.cobot_integration i WHERE $1 IS NULL OR i.id = $1 ORDER BY 1",

	[FOLLOW_MEMBERSHIPS] = FOLLOW("d.membership_id = ANY ($3)", "WHERE g.membership_id = ANY ($3)"),
	[FOLLOW_ASSIGNMENTS] =
	FOLLOW("d.source = 'plan' AND d.plan_id = ANY ($3) AND d.user_group_id = ANY ($4)",
		   "JOIN smartspace.cobot_membership m ON m.id = g.membership_id"
		   " WHERE g.source = 'plan' AND m.plan_id = ANY ($3) AND g.user_group_id = ANY ($4)"),
	[FOLLOW_MANUAL] =
	FOLLOW("d.source = 'manual' AND d.membership_id = ANY ($3) AND d.user_group_id = ANY ($4)",
		   "WHERE g.source = 'manual' AND g.membership_id = ANY ($3) AND g.user_group_id = ANY ($4)"),
	[FOLLOW_INTEGRATION] =
	FOLLOW("d.integration_id = $3",
		   "JOIN smartspace.cobot_membership m ON m.id = g.membership_id WHERE m.integration_id = $3"),
	[FOLLOW_EVERYTHING] = FOLLOW("true", "WHERE true"),
};

/* What to do for a change of each table: find the scope by event, then follow. */
typedef struct AccessTable
{
	const char *name;
	AccessQuery find[3];		/* insert, update, delete */
	AccessQuery follow;
	bool		reads_identifiers;
} AccessTable;

static const AccessTable access_table[] = {
	{"cobot_membership", {MEMBERSHIPS_INSERTED, MEMBERSHIPS_UPDATED, MEMBERSHIPS_DELETED}, FOLLOW_MEMBERSHIPS, true},
	{"user_group_assignment", {ASSIGNMENTS_INSERTED, ASSIGNMENTS_UPDATED, ASSIGNMENTS_DELETED}, FOLLOW_ASSIGNMENTS, false},
	{"manual_grant", {MANUAL_INSERTED, MANUAL_UPDATED, MANUAL_DELETED}, FOLLOW_MANUAL, false},
	{"user_group", {GROUPS_INSERTED, GROUPS_UPDATED, GROUPS_DELETED}, FOLLOW_MEMBERSHIPS, false},
	{"cobot_integration", {NONE, INTEGRATIONS_UPDATED, NONE}, FOLLOW_INTEGRATION, true},
};

/*
 * For a handful of rows planning would cost more than running, so one generic
 * plan is kept, another one for a table that has grown; for many rows the plan has
 * to fit their number and is made each time.
 */
typedef enum AccessScale
{
	A_HANDFUL,
	A_HANDFUL_OF_MANY,
	MANY,
	ACCESS_SCALE_COUNT
} AccessScale;

#define HANDFUL_LIMIT 100

/* From here on (some 2,000 members) an index is the way to one, also by the planner's reckoning. */
#define LARGE_PAGES 256

static SPIPlanPtr access_plan[ACCESS_QUERY_COUNT][ACCESS_SCALE_COUNT];
static AccessCounts counts;
static int64 current_run = 0;	/* 0: no synchronisation is writing */

AccessCounts
access_counts(void)
{
	return counts;
}

void
access_set_run(int64 run_id)
{
	current_run = run_id;
}

/*
 * In a transaction that keeps one snapshot, grants as old as that snapshot would
 * stay wrong: they are computed with one taken after the locks.
 */
static int
run_with_latest_snapshot(SPIPlanPtr plan, Datum *args, const char *nulls)
{
	CommandCounterIncrement();	/* so that the snapshot shows what the statement did */
	return SPI_execute_snapshot(plan, args, nulls, GetLatestSnapshot(), InvalidSnapshot, false, true, 0);
}

/* A plan that is kept has to fit the table as it will be, and not as small as it was when the first members came. */
static bool
is_large(void)
{
	Relation	members = table_open(get_relname_relid("cobot_membership", get_namespace_oid(SMARTSPACE_SCHEMA, false)), AccessShareLock);
	BlockNumber pages = RelationGetNumberOfBlocks(members);

	table_close(members, NoLock);
	return pages >= LARGE_PAGES;
}

static void
run(AccessQuery query, AccessScale scale, int nargs, Oid *types, Datum *args, const char *nulls)
{
	if (scale == A_HANDFUL && is_large())
		scale = A_HANDFUL_OF_MANY;

	SPIPlanPtr	plan = access_plan[query][scale];

	if (plan == NULL)
	{
		plan = SPI_prepare_cursor(access_query[query], nargs, types,
								  scale == MANY ? CURSOR_OPT_CUSTOM_PLAN : CURSOR_OPT_GENERIC_PLAN);
		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare a statement about grants: %s", SPI_result_code_string(SPI_result));
		access_plan[query][scale] = plan;
	}

	int			result = IsolationUsesXactSnapshot() ?
		run_with_latest_snapshot(plan, args, nulls) :
		SPI_execute_plan(plan, args, nulls, false, 0);

	if (result < 0)
		elog(ERROR, "could not run a statement about grants: %s", SPI_result_code_string(result));
}

/*
 * Tells listeners what a statement changed; they read the journal from their
 * last position. Ids only, no names, and far below the size limit.
 */
static void
notify(int64 changes, HeapTuple row, TupleDesc desc)
{
	char	   *position = SPI_getvalue(row, desc, 4);
	StringInfoData payload;

	initStringInfo(&payload);
	appendStringInfo(&payload, "{\"position\":%s,\"count\":%lld", position, (long long) changes);
	if (changes <= NOTIFIED_CHANGES_LIMIT)
		appendStringInfo(&payload, ",\"changes\":[%s]", SPI_getvalue(row, desc, 5));
	appendStringInfoChar(&payload, '}');
	Async_Notify(NOTIFY_CHANNEL, payload.data);
}

/* How many memberships a FOLLOW_ statement is about; a plan or an integration may have any number. */
static AccessScale
scale_of(AccessQuery query, const Datum *scope_args)
{
	if (query != FOLLOW_MEMBERSHIPS && query != FOLLOW_MANUAL)
		return MANY;

	ArrayType  *ids = DatumGetArrayTypeP(scope_args[0]);

	return ArrayGetNItems(ARR_NDIM(ids), ARR_DIMS(ids)) <= HANDFUL_LIMIT ? A_HANDFUL : MANY;
}

/* Carries out one FOLLOW_ statement; scope_args are those after the first two. */
static void
follow(AccessQuery query, int scope_nargs, Oid scope_type, const Datum *scope_args)
{
	Oid			types[4] = {TIMESTAMPTZOID, INT8OID, scope_type, scope_type};
	Datum		args[4] = {TimestampTzGetDatum(GetCurrentTimestamp()), Int64GetDatum(current_run)};
	bool		isnull;

	for (int i = 0; i < scope_nargs; i++)
		args[2 + i] = scope_args[i];
	run(query, scale_of(query, scope_args), 2 + scope_nargs, types, args, current_run == 0 ? " n  " : NULL);

	HeapTuple	row = SPI_tuptable->vals[0];
	TupleDesc	desc = SPI_tuptable->tupdesc;
	int64		given = DatumGetInt64(SPI_getbinval(row, desc, 1, &isnull));
	int64		changed = DatumGetInt64(SPI_getbinval(row, desc, 2, &isnull));
	int64		taken = DatumGetInt64(SPI_getbinval(row, desc, 3, &isnull));

	counts.given += given;
	counts.changed += changed;
	counts.taken += taken;
	if (given + changed + taken > 0)
		notify(given + changed + taken, row, desc);
	SPI_freetuptable(SPI_tuptable);
}

/* Takes the locks of all integrations in scope, in order; gives how many there are. */
static uint64
lock_scope(void)
{
	bool		isnull;

	for (uint64 i = 0; i < SPI_processed; i++)
		lock_access(DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull)));
	return SPI_processed;
}

/* Locks the scope that was just found and follows it, integration by integration. */
static void
follow_scope(AccessQuery query)
{
	SPITupleTable *scope = SPI_tuptable;
	uint64		rows = lock_scope();
	int			nargs = scope->tupdesc->natts - 1;
	Oid			type = query == FOLLOW_INTEGRATION ? INT8OID : INT8ARRAYOID;

	for (uint64 i = 0; i < rows; i++)
	{
		Datum		args[2];
		bool		isnull;

		for (int j = 0; j < nargs; j++)
			args[j] = SPI_getbinval(scope->vals[i], scope->tupdesc, j + 2, &isnull);
		follow(query, nargs, type, args);
	}
	SPI_freetuptable(scope);
}

/* Compares all grants of one integration, or all there are (is_null), with what is due. */
static void
follow_everything(Datum integration, bool is_null)
{
	lock_identifiers(false);
	run(ALL_INTEGRATIONS, A_HANDFUL, 1, (Oid[]) {INT8OID}, &integration, is_null ? "n" : NULL);
	if (!is_null)
		follow_scope(FOLLOW_INTEGRATION);
	else
	{
		lock_scope();
		follow(FOLLOW_EVERYTHING, 0, InvalidOid, NULL);
	}
}

static const AccessTable *
find_table(const char *name)
{
	for (int i = 0; i < (int) lengthof(access_table); i++)
		if (strcmp(access_table[i].name, name) == 0)
			return &access_table[i];
	elog(ERROR, "access_follow() does not know table \"%s\"", name);
}

static void
follow_change(TriggerData *trigdata)
{
	const AccessTable *table = find_table(RelationGetRelationName(trigdata->tg_relation));
	int			event = TRIGGER_FIRED_BY_INSERT(trigdata->tg_event) ? 0 :
		TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) ? 1 : 2;

	run(table->find[event], A_HANDFUL, 0, NULL, NULL, NULL);
	if (table->reads_identifiers && SPI_processed > 0)
		lock_identifiers(false);
	follow_scope(table->follow);
}

/*
 * Trigger function. BEFORE STATEMENT takes the lock on identifiers early, ahead
 * of the row locks, so that a synchronisation which makes a grant for a group
 * never waits for somebody who waits for it. On user_group_assignment and
 * manual_grant the shared lock keeps out those who delete groups: their cascade
 * takes the locks of grants in no order. AFTER STATEMENT follows the change.
 */
Datum
access_follow(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by a trigger", "access_follow")));

	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (TRIGGER_FIRED_BEFORE(trigdata->tg_event))
	{
		lock_identifiers(strcmp(RelationGetRelationName(trigdata->tg_relation), "user_group") == 0);
		return PointerGetDatum(NULL);
	}

	/* A statement that touched no row needs nothing. */
	Tuplestorestate *rows = trigdata->tg_newtable ? trigdata->tg_newtable : trigdata->tg_oldtable;

	if (rows && tuplestore_tuple_count(rows) == 0)
		return PointerGetDatum(NULL);

	SPI_connect();
	SPI_register_trigger_data(trigdata);
	if (TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event))
		follow_everything((Datum) 0, true); /* there are no rows to look at */
	else
		follow_change(trigdata);
	SPI_finish();
	return PointerGetDatum(NULL);
}

/*
 * cobot_recompute_access(integration bigint) -> (given, changed, taken)
 */
Datum
access_recompute_all(PG_FUNCTION_ARGS)
{
	TupleDesc	tupdesc;
	AccessCounts before = counts;

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);

	SPI_connect();
	follow_everything(PG_ARGISNULL(0) ? (Datum) 0 : PG_GETARG_DATUM(0), PG_ARGISNULL(0));
	SPI_finish();

	Datum		values[3] = {
		Int64GetDatum(counts.given - before.given),
		Int64GetDatum(counts.changed - before.changed),
		Int64GetDatum(counts.taken - before.taken)
	};
	bool		nulls[3] = {false, false, false};

	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(tupdesc, values, nulls)));
}
