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

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "access.h"
#include "field_token.h"
#include "lock.h"

PG_FUNCTION_INFO_V1(access_follow);
PG_FUNCTION_INFO_V1(access_recompute_all);
PG_FUNCTION_INFO_V1(access_field_tokens);

/*
 * Writes the difference between due and stored grants within a scope and counts
 * it. DUE and HAVE are conditions on the view access_due d, and on
 * user_group_member g joined with its membership m.
 */
#define FOLLOW(DUE, HAVE) \
	"WITH due AS MATERIALIZED (" \
	" SELECT d.membership_id, d.user_group_id, d.source, d.valid FROM smartspace.access_due d WHERE " DUE \
	"), have AS MATERIALIZED (" \
	" SELECT g.membership_id, g.user_group_id, g.source, g.valid" \
	" FROM smartspace.user_group_member g JOIN smartspace.cobot_membership m ON m.id = g.membership_id" \
	" WHERE g.source <> 'manual' AND " HAVE \
	"), difference AS MATERIALIZED (" \
	" SELECT membership_id, user_group_id, source, d.valid, h.valid AS valid_before" \
	" FROM due d FULL JOIN have h USING (membership_id, user_group_id, source)" \
	" WHERE d.valid IS DISTINCT FROM h.valid" \
	"), taken AS (" \
	" DELETE FROM smartspace.user_group_member g USING difference x" \
	" WHERE x.valid IS NULL AND g.membership_id = x.membership_id" \
	" AND g.user_group_id = x.user_group_id AND g.source = x.source RETURNING 1" \
	"), changed AS (" \
	" UPDATE smartspace.user_group_member g SET valid = x.valid FROM difference x" \
	" WHERE x.valid IS NOT NULL AND x.valid_before IS NOT NULL AND g.membership_id = x.membership_id" \
	" AND g.user_group_id = x.user_group_id AND g.source = x.source RETURNING 1" \
	"), given AS (" \
	" INSERT INTO smartspace.user_group_member (membership_id, user_group_id, source, valid)" \
	" SELECT x.membership_id, x.user_group_id, x.source, x.valid FROM difference x" \
	" WHERE x.valid_before IS NULL RETURNING 1" \
	") SELECT (SELECT count(*) FROM given), (SELECT count(*) FROM changed), (SELECT count(*) FROM taken)"

/* Every statement of this file; each is planned once per process. */
typedef enum AccessQuery
{
	MEMBERSHIPS_INSERTED,
	MEMBERSHIPS_UPDATED,
	ASSIGNMENTS_INSERTED,
	ASSIGNMENTS_UPDATED,
	ASSIGNMENTS_DELETED,
	GROUPS_INSERTED,
	GROUPS_UPDATED,
	GROUPS_DELETED,
	INTEGRATIONS_UPDATED,
	ALL_INTEGRATIONS,
	FOLLOW_MEMBERSHIPS,
	FOLLOW_ASSIGNMENTS,
	FOLLOW_INTEGRATION,
	ACCESS_QUERY_COUNT
} AccessQuery;

/*
 * The first group finds the scope: one row for each integration concerned, in
 * lock order, with up to two arrays of ids.
 */
static const char *const access_query[ACCESS_QUERY_COUNT] = {
	[MEMBERSHIPS_INSERTED] =
	"SELECT n.integration_id, pg_catalog.array_agg(n.id) FROM new_row n GROUP BY 1 ORDER BY 1",
	[MEMBERSHIPS_UPDATED] =
	"SELECT n.integration_id, pg_catalog.array_agg(n.id)"
	" FROM new_row n LEFT JOIN old_row o ON o.id = n.id"
	" WHERE (n.integration_id, n.plan_id, n.confirmed_at, n.starts_at, n.canceled_to, n.individual_access, n.departed_at)"
	" IS DISTINCT FROM"
	" (o.integration_id, o.plan_id, o.confirmed_at, o.starts_at, o.canceled_to, o.individual_access, o.departed_at)"
	" GROUP BY 1 ORDER BY 1",
	[ASSIGNMENTS_INSERTED] =
	"SELECT p.integration_id, pg_catalog.array_agg(DISTINCT a.plan_id), pg_catalog.array_agg(DISTINCT a.user_group_id)"
	" FROM new_row a JOIN smartspace.cobot_plan p ON p.id = a.plan_id GROUP BY 1 ORDER BY 1",
	[ASSIGNMENTS_UPDATED] =
	"SELECT p.integration_id, pg_catalog.array_agg(DISTINCT a.plan_id), pg_catalog.array_agg(DISTINCT a.user_group_id)"
	" FROM (SELECT plan_id, user_group_id FROM new_row UNION ALL SELECT plan_id, user_group_id FROM old_row) a"
	" JOIN smartspace.cobot_plan p ON p.id = a.plan_id GROUP BY 1 ORDER BY 1",
	[ASSIGNMENTS_DELETED] =
	"SELECT p.integration_id, pg_catalog.array_agg(DISTINCT a.plan_id), pg_catalog.array_agg(DISTINCT a.user_group_id)"
	" FROM old_row a JOIN smartspace.cobot_plan p ON p.id = a.plan_id GROUP BY 1 ORDER BY 1",
	[GROUPS_INSERTED] =
	"SELECT t.integration_id, pg_catalog.array_agg(DISTINCT t.membership_id)"
	" FROM new_row g JOIN smartspace.cobot_individual_token t"
	" ON pg_catalog.lower(t.token) = pg_catalog.lower(g.external_identifier) GROUP BY 1 ORDER BY 1",
	[GROUPS_UPDATED] =
	"SELECT t.integration_id, pg_catalog.array_agg(DISTINCT t.membership_id)"
	" FROM new_row n JOIN old_row o ON o.id = n.id AND o.external_identifier IS DISTINCT FROM n.external_identifier"
	" JOIN smartspace.cobot_individual_token t"
	" ON pg_catalog.lower(t.token) IN (pg_catalog.lower(n.external_identifier), pg_catalog.lower(o.external_identifier))"
	" GROUP BY 1 ORDER BY 1",
	[GROUPS_DELETED] =
	"SELECT t.integration_id, pg_catalog.array_agg(DISTINCT t.membership_id)"
	" FROM old_row g JOIN smartspace.cobot_individual_token t"
	" ON pg_catalog.lower(t.token) = pg_catalog.lower(g.external_identifier) GROUP BY 1 ORDER BY 1",
	[INTEGRATIONS_UPDATED] =
	"SELECT n.id FROM new_row n JOIN old_row o ON o.id = n.id"
	" WHERE (n.sync_plan_access, n.sync_individual_access, n.time_zone)"
	" IS DISTINCT FROM (o.sync_plan_access, o.sync_individual_access, o.time_zone) ORDER BY 1",
	[ALL_INTEGRATIONS] =
	"SELECT i.id FROM smartspace.cobot_integration i WHERE $1 IS NULL OR i.id = $1 ORDER BY 1",

	[FOLLOW_MEMBERSHIPS] = FOLLOW("d.membership_id = ANY ($1)", "g.membership_id = ANY ($1)"),
	[FOLLOW_ASSIGNMENTS] =
	FOLLOW("d.source = 'plan' AND d.plan_id = ANY ($1) AND d.user_group_id = ANY ($2)",
		   "g.source = 'plan' AND m.plan_id = ANY ($1) AND g.user_group_id = ANY ($2)"),
	[FOLLOW_INTEGRATION] = FOLLOW("d.integration_id = $1", "m.integration_id = $1"),
};

static SPIPlanPtr access_plan[ACCESS_QUERY_COUNT];
static AccessCounts counts;

AccessCounts
access_counts(void)
{
	return counts;
}

/*
 * In a transaction that keeps one snapshot. Where a grant is due to a member, or
 * of a group, that the snapshot does not show, the foreign key refuses it, since
 * it looks with the transaction's own eyes: that is a serialization failure.
 */
static int
run_with_latest_snapshot(SPIPlanPtr plan, Datum *args, const char *nulls)
{
	int			result = 0;

	CommandCounterIncrement();	/* so that the snapshot shows what the statement did */
	PG_TRY();
	{
		result = SPI_execute_snapshot(plan, args, nulls, GetLatestSnapshot(), InvalidSnapshot,
									  false, true, 0);
	}
	PG_CATCH();
	{
		if (geterrcode() == ERRCODE_FOREIGN_KEY_VIOLATION)
		{
			FlushErrorState();
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not serialize access due to concurrent changes of members or user groups"),
					 errhint("The transaction might succeed if retried.")));
		}
		PG_RE_THROW();
	}
	PG_END_TRY();
	return result;
}

static void
run(AccessQuery query, int nargs, Oid *types, Datum *args, const char *nulls)
{
	if (access_plan[query] == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(access_query[query], nargs, types);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare a statement about grants: %s", SPI_result_code_string(SPI_result));
		access_plan[query] = plan;
	}

	int			result = IsolationUsesXactSnapshot() ?
		run_with_latest_snapshot(access_plan[query], args, nulls) :
		SPI_execute_plan(access_plan[query], args, nulls, false, 0);

	if (result < 0)
		elog(ERROR, "could not run a statement about grants: %s", SPI_result_code_string(result));
}

static void
follow(AccessQuery query, int nargs, Oid *types, Datum *args)
{
	bool		isnull;

	run(query, nargs, types, args, NULL);

	HeapTuple	row = SPI_tuptable->vals[0];
	TupleDesc	desc = SPI_tuptable->tupdesc;

	counts.given += DatumGetInt64(SPI_getbinval(row, desc, 1, &isnull));
	counts.changed += DatumGetInt64(SPI_getbinval(row, desc, 2, &isnull));
	counts.taken += DatumGetInt64(SPI_getbinval(row, desc, 3, &isnull));
	SPI_freetuptable(SPI_tuptable);
}

/*
 * Carries out one FOLLOW_ statement for each row of scope, after taking the
 * locks of all of them in order.
 */
static void
follow_scope(AccessQuery query)
{
	SPITupleTable *scope = SPI_tuptable;
	uint64		rows = SPI_processed;
	bool		isnull;

	for (uint64 i = 0; i < rows; i++)
		lock_access(DatumGetInt64(SPI_getbinval(scope->vals[i], scope->tupdesc, 1, &isnull)));

	for (uint64 i = 0; i < rows; i++)
	{
		HeapTuple	row = scope->vals[i];

		if (query == FOLLOW_INTEGRATION)
		{
			Datum		integration = SPI_getbinval(row, scope->tupdesc, 1, &isnull);

			follow(query, 1, (Oid[]) {INT8OID}, &integration);
		}
		else
		{
			int			nargs = query == FOLLOW_ASSIGNMENTS ? 2 : 1;
			Datum		args[2] = {0};

			for (int j = 0; j < nargs; j++)
				args[j] = SPI_getbinval(row, scope->tupdesc, j + 2, &isnull);
			follow(query, nargs, (Oid[]) {INT8ARRAYOID, INT8ARRAYOID}, args);
		}
	}
	SPI_freetuptable(scope);
}

/* Index of the event for the tables of queries above: insert, update, delete. */
static int
event_number(TriggerData *trigdata)
{
	if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event))
		return 0;
	if (TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event))
		return 1;
	return 2;
}

/* Compares all grants of one integration, or of every one (is_null), with what is due. */
static void
follow_everything(Datum integration, bool is_null)
{
	lock_identifiers(false);
	run(ALL_INTEGRATIONS, 1, (Oid[]) {INT8OID}, &integration, is_null ? "n" : " ");
	follow_scope(FOLLOW_INTEGRATION);
}

/*
 * Trigger function. BEFORE STATEMENT takes the lock on identifiers early, ahead
 * of the row locks, so that a synchronisation which makes a grant for a group
 * never waits for somebody who waits for it. On user_group_assignment the shared
 * lock keeps out those who delete groups: their cascade takes the locks of grants
 * in no order. AFTER STATEMENT follows the change.
 */
Datum
access_follow(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by a trigger", "access_follow")));

	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	const char *table = RelationGetRelationName(trigdata->tg_relation);
	int			event = event_number(trigdata);

	if (TRIGGER_FIRED_BEFORE(trigdata->tg_event))
	{
		lock_identifiers(strcmp(table, "user_group") == 0);
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
	else if (strcmp(table, "cobot_membership") == 0)
	{
		run(MEMBERSHIPS_INSERTED + event, 0, NULL, NULL, NULL);
		if (SPI_processed > 0)
			lock_identifiers(false);
		follow_scope(FOLLOW_MEMBERSHIPS);
	}
	else if (strcmp(table, "user_group_assignment") == 0)
	{
		run(ASSIGNMENTS_INSERTED + event, 0, NULL, NULL, NULL);
		follow_scope(FOLLOW_ASSIGNMENTS);
	}
	else if (strcmp(table, "user_group") == 0)
	{
		run(GROUPS_INSERTED + event, 0, NULL, NULL, NULL);
		follow_scope(FOLLOW_MEMBERSHIPS);
	}
	else
	{
		run(INTEGRATIONS_UPDATED, 0, NULL, NULL, NULL);
		if (SPI_processed > 0)
			lock_identifiers(false);
		follow_scope(FOLLOW_INTEGRATION);
	}

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

/*
 * cobot_field_tokens(text) -> setof text, in the order of the value, doubles included
 */
Datum
access_field_tokens(PG_FUNCTION_ARGS)
{
	text	   *field = PG_GETARG_TEXT_PP(0);
	const char *cursor = VARDATA_ANY(field);
	const char *end = cursor + VARSIZE_ANY_EXHDR(field);
	const char *token;
	size_t		length;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);

	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	while (field_token_next(&cursor, end, &token, &length))
	{
		Datum		value = PointerGetDatum(cstring_to_text_with_len(token, (int) length));
		bool		isnull = false;

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
	}
	return (Datum) 0;
}
