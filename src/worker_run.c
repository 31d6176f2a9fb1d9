/*
 * worker_run.c
 *	  How others start a worker, and wait for one. Runs in any backend, and worker_describe()
 *	  in the launcher as well.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "query.h"
#include "wake.h"
#include "worker.h"

PG_FUNCTION_INFO_V1(worker_run_due);

StaticAssertDecl(sizeof(WorkerOrder) <= BGW_EXTRALEN, "an order must fit into bgw_extra");

void
worker_describe(BackgroundWorker *worker, const WorkerOrder *what)
{
	*worker = (BackgroundWorker) {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = BGW_NEVER_RESTART,
		.bgw_notify_pid = MyProcPid
	};
	snprintf(worker->bgw_name, BGW_MAXLEN, "smartspace_cobot worker%s%s", what->name[0] ? ": " : "", what->name);
	strlcpy(worker->bgw_type, "smartspace_cobot worker", BGW_MAXLEN);
	strlcpy(worker->bgw_library_name, "smartspace_cobot", BGW_MAXLEN);
	strlcpy(worker->bgw_function_name, "worker_main", BGW_MAXLEN);
	memcpy(worker->bgw_extra, what, sizeof(*what));
}

/* Until the worker has ended or the time is over; true if it has. */
static bool
wait_for_end(BackgroundWorkerHandle *handle, long wait_ms)
{
	TimestampTz until = wait_ms < 0 ? DT_NOEND : TimestampTzPlusMilliseconds(GetCurrentTimestamp(), wait_ms);

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		pid_t		pid;
		BgwHandleStatus status = GetBackgroundWorkerPid(handle, &pid);

		if (status == BGWH_STOPPED)
			return true;
		if (status == BGWH_POSTMASTER_DIED || now >= until)
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min(TimestampDifferenceMilliseconds(now, until), 1000), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

bool
worker_run_once(WorkerOrder *what, long wait_ms)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	volatile bool ended = false;

	what->database = MyDatabaseId;
	worker_describe(&worker, what);
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("no free background worker"),
				 errhint("Raise max_worker_processes, or try again when others have ended.")));
	PG_TRY();
	{
		ended = wait_for_end(handle, wait_ms);
	}
	PG_CATCH();
	{
		TerminateBackgroundWorker(handle);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return ended;
}

/*
 * cobot_run_due() -> text
 */
Datum
worker_run_due(PG_FUNCTION_ARGS)
{
	WorkerOrder what = {.task = WORKER_RUN_DUE};
	char	   *words;

	(void) fcinfo;
	PreventCommandIfReadOnly("cobot_run_due()");
	if (wake_has_worker())
	{
		wake_at_commit();
		PG_RETURN_TEXT_P(cstring_to_text("the worker takes up what is due"));
	}

	TimestampTz began_at = GetCurrentTimestamp();

	worker_run_once(&what, -1);

	SPI_connect();

	QueryArg	arg = query_value(TIMESTAMPTZOID, TimestampTzGetDatum(began_at));

	query_run("SELECT pg_catalog.format('%s synchronised, %s of them not well',"
			  "  pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE r.result NOT IN ('ok', 'ok_with_problems')))"
			  " FROM smartspace.cobot_sync_run r WHERE r.finished_at >= $1 AND r.kind = 'sync'", 1, &arg);
	words = query_result_text(0, 1);

	PG_RETURN_DATUM(query_finish_text(words));
}
