/*
 * sync.c
 *	  One synchronisation as a whole: lock, order of steps, result. Runs in the
 *	  backend that calls cobot_sync(), inside its transaction.
 *
 * A failure on Cobot's side is a result, not an error: it is recorded, so that
 * state and history are committed, and said in a WARNING. Misuse and cancel
 * are errors and leave nothing behind.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "access.h"
#include "lock.h"
#include "query.h"
#include "sync.h"

PG_FUNCTION_INFO_V1(sync_integration);

bool
sync_stop(SyncRun *run, const char *result, const char *reason, const char *hint,
		  const char *message,...)
{
	StringInfoData text;
	va_list		args;
	int			needed;

	initStringInfo(&text);
	for (;;)
	{
		va_start(args, message);
		needed = appendStringInfoVA(&text, message, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&text, needed);
	}

	run->result = result;
	run->reason = reason;
	run->message = text.data;
	run->detail = NULL;
	run->hint = hint;
	return false;
}

bool
sync_fail(SyncRun *run, const CobotCall *call)
{
	const char *reason = cobot_failure_reason(call->outcome);
	bool		answered = strcmp(reason, "bad_answer") == 0 || strcmp(reason, "rate_limited") == 0;

	sync_stop(run, answered ? "incomplete" : "failed", reason, cobot_failure_hint(call),
			  "%s", cobot_failure_message(call));
	run->detail = cobot_failure_detail(call);
	return false;
}

/* The steps that talk to Cobot, and the comparison. False: the run ends here. */
static bool
find_out(SyncRun *run, SyncSnapshot *snapshot, SyncPlan *plan)
{
	instr_time	started,
				fetched;

	INSTR_TIME_SET_CURRENT(started);
	sync_plan_init(run, plan);

	bool		complete = sync_fetch(run, snapshot, plan);

	INSTR_TIME_SET_CURRENT(fetched);
	INSTR_TIME_SUBTRACT(fetched, started);
	run->fetch_ms = INSTR_TIME_GET_MILLISEC(fetched);
	if (!complete)
		return false;

	INSTR_TIME_SET_CURRENT(run->apply_started);
	if (!sync_compare(run, snapshot, plan))
		return false;

	if (plan->vanished_count > 0)
	{
		instr_time	asked;

		INSTR_TIME_SET_CURRENT(started);
		sync_verify_vanished(run, snapshot, plan);
		INSTR_TIME_SET_CURRENT(asked);
		INSTR_TIME_SUBTRACT(asked, started);
		run->fetch_ms += INSTR_TIME_GET_MILLISEC(asked);
		run->apply_ms -= INSTR_TIME_GET_MILLISEC(asked);
	}
	return true;
}

/* What happened, for cobot_sync_run.message. */
static char *
in_words(const SyncRun *run, const AccessCounts *grants)
{
	return psprintf("%d members seen: %d joined, %d left, %d changed; %lld grants given, %lld changed, %lld taken",
					run->members_seen, run->members_added, run->members_removed, run->members_changed,
					(long long) grants->given, (long long) grants->changed, (long long) grants->taken);
}

/* Writes the row of the run and returns it as a composite datum in the caller's context. */
static Datum
record_run(SyncRun *run, const AccessCounts *grants)
{
	QueryArg	problem_args[] = {query_int64(run->integration.id)};

	query_run("SELECT pg_catalog.count(*) FROM smartspace.cobot_problem p"
			  " WHERE p.integration_id = $1 AND p.severity = 'problem'",
			  lengthof(problem_args), problem_args);

	int64		problems = query_result_int64(0, 1);

	if (run->result == NULL)
		run->result = problems > 0 ? "ok_with_problems" : "ok";

	QueryArg	args[] = {
		query_int64(run->id), query_int64(run->integration.id), query_text(run->result), query_text(run->reason),
		query_text(run->message ? run->message : in_words(run, grants)),
		query_int64(run->members_seen), query_int64(run->members_added),
		query_int64(run->members_changed), query_int64(run->members_removed),
		query_int64(grants->given), query_int64(grants->changed), query_int64(grants->taken),
		query_int64(problems), query_int64(run->client.requests), query_int64((int64) run->client.bytes),
		query_value(FLOAT8OID, Float8GetDatum(run->fetch_ms)),
		query_value(FLOAT8OID, Float8GetDatum(run->apply_ms)),
		query_value(TIMESTAMPTZOID, TimestampTzGetDatum(run->started_at)),
		query_value(TIMESTAMPTZOID, TimestampTzGetDatum(GetCurrentTimestamp())),
		query_text(GetUserNameFromId(GetSessionUserId(), true))
	};

	query_run("INSERT INTO smartspace.cobot_sync_run (id, integration_id, result, reason, message,"
			  " members_seen, members_added, members_changed, members_removed,"
			  " grants_given, grants_changed, grants_taken, problems, requests, bytes,"
			  " fetch_ms, apply_ms, started_at, finished_at, run_by)"
			  " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)"
			  " RETURNING *", lengthof(args), args);
	return PointerGetDatum(SPI_returntuple(SPI_tuptable->vals[0], SPI_tuptable->tupdesc));
}

static void
warn(const SyncRun *run)
{
	const char *verb = strcmp(run->result, "failed") == 0 ? "" : "is ";

	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("synchronisation of \"%s\" %s%s: %s", run->integration.name, verb, run->result, run->message),
			 run->detail ? errdetail("%s", run->detail) : 0,
			 run->hint ? errhint("%s", run->hint) : 0));
}

/* Grants that are made from here on are this run's. */
static void
apply(SyncRun *run, SyncSnapshot *snapshot, SyncPlan *plan)
{
	access_set_run(run->id);
	PG_TRY();
	{
		sync_apply(run, snapshot, plan);
	}
	PG_FINALLY();
	{
		access_set_run(0);
	}
	PG_END_TRY();
}

static Datum
synchronise(SyncRun *run)
{
	SyncSnapshot snapshot = {0};
	SyncPlan	plan = {0};
	AccessCounts before = access_counts();

	integration_open_client(&run->integration, &run->client, run->context);
	integration_wipe(&run->integration);

	INSTR_TIME_SET_ZERO(run->apply_started);

	bool		usable = find_out(run, &snapshot, &plan);

	if (usable)
		apply(run, &snapshot, &plan);
	sync_plan_free(&plan);

	AccessCounts after = access_counts();
	AccessCounts grants = {
		.given = after.given - before.given,
		.changed = after.changed - before.changed,
		.taken = after.taken - before.taken
	};

	if (!INSTR_TIME_IS_ZERO(run->apply_started))
	{
		instr_time	now;

		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, run->apply_started);
		run->apply_ms += INSTR_TIME_GET_MILLISEC(now);
	}

	integration_report(run->integration.id, run->reason);
	return record_run(run, &grants);
}

/*
 * cobot_sync(integration bigint, reread boolean) -> cobot_sync_run
 */
Datum
sync_integration(PG_FUNCTION_ARGS)
{
	SyncRun		run = {.started_at = GetCurrentTimestamp(), .reread = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1)};
	Datum		result;

	PreventCommandIfReadOnly("cobot_sync()");

	SPI_connect();
	integration_load(&run.integration, PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0), PG_ARGISNULL(0));
	integration_require_connected(&run.integration);

	query_run("SELECT pg_catalog.nextval('smartspace.cobot_sync_run_id_seq')", 0, NULL);
	run.id = query_result_int64(0, 1);

	if (lock_try_run(run.integration.id))
	{
		run.context = AllocSetContextCreate(CurrentMemoryContext, "smartspace_cobot run",
											ALLOCSET_DEFAULT_SIZES);
		result = synchronise(&run);
		MemoryContextDelete(run.context);
	}
	else
	{
		AccessCounts none = {0};

		integration_wipe(&run.integration);
		sync_stop(&run, "skipped_locked", NULL, NULL, "another synchronisation of it is under way");
		result = record_run(&run, &none);
	}

	if (run.reason)
		warn(&run);
	SPI_finish();
	PG_RETURN_DATUM(result);
}
