/*
 * sync.c
 *	  One synchronisation as a whole: lock, order of steps, result. Runs in the
 *	  backend that calls, inside its transaction.
 *
 * A failure on Cobot's side is a result, not an error: it is recorded, so that
 * state and history are committed, and said in a WARNING. Misuse and cancel
 * are errors and leave nothing behind.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "lock.h"
#include "query.h"
#include "sync.h"

PG_FUNCTION_INFO_V1(sync_integration);
PG_FUNCTION_INFO_V1(sync_preview);

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
	run->retry_after_s = call->retry_after_s;
	return false;
}

/* The time since start, in milliseconds; start becomes now. */
static double
lap_ms(instr_time *start)
{
	instr_time	now,
				lap;

	INSTR_TIME_SET_CURRENT(now);
	lap = now;
	INSTR_TIME_SUBTRACT(lap, *start);
	*start = now;
	return INSTR_TIME_GET_MILLISEC(lap);
}

/* What Cobot says, the comparison with the mirror, and evidence. False: the run ends here. */
static bool
find_out(SyncRun *run, SyncSnapshot *snapshot, SyncPlan *plan)
{
	if (!run->source->fetch(run, snapshot, plan))
		return false;
	if (run->unchanged)
		return true;

	run->covers_all = !snapshot->partial;
	if (run->covers_all)
	{
		run->members_seen = (int) snapshot->members->count;
		run->plans_seen = snapshot->plans ? (int) snapshot->plans->count : 0;
		run->fields_seen = snapshot->field_values ? (int) snapshot->field_values->count : 0;
	}
	if (snapshot->members && !sync_compare(run, snapshot, plan))
		return false;
	sync_verify(run, snapshot, plan);
	return true;
}

/* The result of a run as a row, or of a preview as a set. */
static Datum
conclude(SyncRun *run, SyncPlan *plan, bool usable, ReturnSetInfo *preview)
{
	if (preview)
	{
		sync_show(run, plan, preview);
		return (Datum) 0;
	}
	/* One member alone proves little about the rest: only trouble is news. */
	if (run->kind != SYNC_MEMBER || run->reason)
		integration_report(run->integration.id, run->reason);
	return sync_record(run, plan, usable);
}

bool
sync_try_run(SyncRun *run, ReturnSetInfo *preview, Datum *result)
{
	SyncSnapshot snapshot = {0};
	SyncPlan	plan = {0};
	instr_time	clock;

	INSTR_TIME_SET_CURRENT(clock);
	run->preview = preview != NULL;
	run->retry_after_s = -1;
	run->released_count = -1;
	run->context = AllocSetContextCreate(CurrentMemoryContext, "smartspace_cobot run", ALLOCSET_DEFAULT_SIZES);
	sync_plan_init(run, &plan);

	/* Cobot's limits count for each endpoint; that for one member is another one. */
	bool		must_wait = run->kind != SYNC_MEMBER && run->kind != SYNC_INGEST && sync_must_wait(run);
	bool		usable = !must_wait && find_out(run, &snapshot, &plan);
	bool		done = run->questions == NULL || !sync_questions_open(run->questions);

	if (done)
	{
		sync_take_id(run);
		if (usable && !run->unchanged)
		{
			sync_carry_out(run, &snapshot, &plan);
			if (!run->preview)
				sync_apply_problems(run, &plan, snapshot.partial);
		}
		run->apply_ms += lap_ms(&clock);
		*result = conclude(run, &plan, usable, preview);
		if (run->reason || (run->preview && run->result))
			sync_warn(run);
	}
	run->apply_ms += lap_ms(&clock);
	sync_plan_free(&plan);
	return done;
}

static void
report_progress(void *progress)
{
	progress_notice(progress);
}

/* Begins the run until everything is answered that it wants to know. */
static Datum
synchronise(SyncRun *run, ReturnSetInfo *preview)
{
	Progress   *progress = progress_begin(run->integration.id, run->integration.name);
	Datum		result;

	for (;;)
	{
		SyncRun		attempt = *run;
		bool		first = run->questions == NULL || run->questions->count == 0;

		progress_enter(progress, PROGRESS_APPLYING);

		bool		done = sync_try_run(&attempt, preview, &result);

		MemoryContextDelete(attempt.context);
		if (done)
		{
			*run = attempt;
			break;
		}

		int			count;
		CobotCall **calls = sync_questions_take(run->questions, &count);
		instr_time	clock;

		progress_enter(progress, first ? PROGRESS_ASKING : PROGRESS_VERIFYING);
		progress_count(progress, run->questions->client.requests + count, attempt.members_seen);
		run->apply_ms = attempt.apply_ms;
		INSTR_TIME_SET_CURRENT(clock);
		cobot_perform_and(calls, count, report_progress, progress);
		run->fetch_ms += lap_ms(&clock);
	}
	progress_end(progress);
	return result;
}

/* Another run of the integration is under way. */
static Datum
skip(SyncRun *run, ReturnSetInfo *preview)
{
	SyncPlan	none = {0};

	sync_stop(run, "skipped_locked", NULL, NULL, "another synchronisation of it is under way");
	run->preview = preview != NULL;
	if (preview)
	{
		sync_warn(run);
		return (Datum) 0;
	}
	sync_take_id(run);
	return sync_record(run, &none, false);
}

Datum
sync_run_integration(SyncRun *run, int64 integration, bool is_null, ReturnSetInfo *preview)
{
	SyncQuestions questions;
	MemoryContext context;
	Datum		result;

	run->started_at = GetCurrentTimestamp();
	integration_load(&run->integration, integration, is_null);
	/* before a row says there was a run */
	if (run->kind == SYNC_INGEST)
		integration_require_not_paused(&run->integration);
	else
		integration_require_connected(&run->integration);
	if (!lock_try_run(run->integration.id))
	{
		integration_wipe(&run->integration);
		return skip(run, preview);
	}

	context = AllocSetContextCreate(CurrentMemoryContext, "smartspace_cobot answers", ALLOCSET_DEFAULT_SIZES);
	if (run->kind != SYNC_INGEST)
	{
		sync_questions_init(&questions, context);
		integration_open_client(&run->integration, &questions.client, context);
		run->questions = &questions;
	}
	integration_wipe(&run->integration);
	result = synchronise(run, preview);
	run->questions = NULL;
	MemoryContextDelete(context);
	return result;
}

/*
 * cobot_sync(integration bigint, reread boolean) -> cobot_sync_run
 */
Datum
sync_integration(PG_FUNCTION_ARGS)
{
	SyncRun		run = {
		.kind = SYNC_WHOLE, .source = &sync_from_cobot, .reread = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1)
	};
	Datum		result;

	PreventCommandIfReadOnly("cobot_sync()");
	SPI_connect();
	result = sync_run_integration(&run, PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0), PG_ARGISNULL(0), NULL);
	SPI_finish();
	PG_RETURN_DATUM(result);
}

/*
 * cobot_preview(integration bigint, reread boolean) -> set of the columns of cobot_sync_changes()
 */
Datum
sync_preview(PG_FUNCTION_ARGS)
{
	SyncRun		run = {
		.kind = SYNC_WHOLE, .source = &sync_from_cobot, .reread = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1)
	};

	PreventCommandIfReadOnly("cobot_preview()");
	InitMaterializedSRF(fcinfo, 0);
	SPI_connect();
	sync_run_integration(&run, PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0), PG_ARGISNULL(0), (ReturnSetInfo *) fcinfo->resultinfo);
	SPI_finish();
	return (Datum) 0;
}
