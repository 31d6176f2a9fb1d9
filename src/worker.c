/*
 * worker.c
 *	  Does in one database what is due: synchronisations, members about whom webhooks came,
 *	  check-ins. Runs as a background worker that the launcher starts and that leaves
 *	  again some seconds after the last work; or for one round, for somebody who waits.
 *
 * All jobs (job.h) share one libcurl multi handle. While answers are awaited no
 * transaction is open. Only memory, jobs and connections live from round to round.
 *
 * A connection to a database is in the way of whoever wants to drop, rename or copy it.
 * They have a lock on the database by then and wait a few seconds for others to leave: so
 * the worker looks for such a lock, gives everything up that it is at (nothing is lost by
 * that), and leaves.
 */
#include "postgres.h"

#include "catalog/pg_database.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "checkin.h"
#include "compat.h"
#include "http.h"
#include "job.h"
#include "launcher.h"
#include "query.h"
#include "shared.h"
#include "smartspace_cobot.h"
#include "sync_job.h"
#include "worker.h"
#include "worker_job.h"

PGDLLEXPORT void worker_main(Datum arg);

/* How often to look whether somebody wants the database for themselves. */
#define LOOK_ASIDE_MS 250

/* After it has left for somebody else. */
#define COME_BACK_MS 5000

/* A lock that somebody else holds for longer ends the job, which is tried again later. */
#define LOCK_TIMEOUT "10s"

/* Whoever calls cobot_run_due() every half hour shall not miss by seconds what is due every half hour. */
#define RUN_DUE_SLACK_S 600

static WorkerOrder order;
static MemoryContext round_context;
static bool unwanted = false;	/* the setting names this database no more */

/* ---- place in shared memory, for a worker of the launcher ---- */

static SharedDatabase *
own_place(void)
{
	for (int i = 0; i < shared->database_count; i++)
		if (shared->database[i].worker_pid == MyProcPid)
			return &shared->database[i];
	return NULL;
}

static void
leave_place(int code, Datum arg)
{
	(void) code;
	(void) arg;
	shared_lock();

	SharedDatabase *place = own_place();

	if (place)
		place->worker_pid = 0;
	if (shared->launcher_pid != 0)
		shared_wake(shared->launcher_procno);
	shared_unlock();
}

/* False: somebody has it already, or it is not wanted any more. */
static bool
take_place(void)
{
	bool		taken = false;

	shared_lock();
	for (int i = 0; i < shared->database_count; i++)
	{
		SharedDatabase *place = &shared->database[i];

		if (strcmp(place->name, order.name) != 0 || place->worker_pid != 0)
			continue;
		place->worker_pid = MyProcPid;
		place->worker_procno = compat_my_procno();
		taken = true;
	}
	shared_unlock();
	before_shmem_exit(leave_place, (Datum) 0);
	return taken;
}

/* True once after somebody queued work. */
static bool
was_woken(void)
{
	bool		woken = false;

	if (order.task != WORKER_LAUNCHED)
		return false;
	shared_lock();

	SharedDatabase *place = own_place();

	if (place)
	{
		woken = place->woken;
		place->woken = false;
	}
	shared_unlock();
	return woken;
}

/* Tells the launcher when to come back. False: there is more to do. */
static bool
say_good_bye(TimestampTz due)
{
	bool		stay = false;

	if (order.task != WORKER_LAUNCHED)
		return true;
	shared_lock();

	SharedDatabase *place = own_place();

	if (place && place->woken && due > GetCurrentTimestamp())
		stay = true;
	else if (place)
	{
		place->worker_pid = 0;
		place->failed = false;
		place->next_due = due;
	}
	shared_unlock();
	return !stay;
}

/* ---- waiting ---- */

/*
 * DROP DATABASE, RENAME and TEMPLATE lock the database against new connections before they
 * look who is connected.
 */
static bool
somebody_wants_database(void)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, MyDatabaseId, 0);
	if (LockAcquire(&tag, RowExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	LockRelease(&tag, RowExclusiveLock, true);
	return false;
}

static void
report_activity(void)
{
	static int	reported = -1;
	int			count = worker_job_count();

	if (count == reported)
		return;
	reported = count;
	if (count == 0)
		pgstat_report_activity(STATE_IDLE, NULL);
	else
		pgstat_report_activity(STATE_RUNNING, psprintf("waiting for Cobot: %d under way", count));
}

static void
wait_for_news(TimestampTz until)
{
	long		wait_ms = LOOK_ASIDE_MS;
	long		jobs_ms = worker_job_wait_ms();

	wait_ms = Min(wait_ms, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until));
	if (jobs_ms >= 0)
		wait_ms = Min(wait_ms, jobs_ms);
	report_activity();
	http_wait(wait_ms);
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		unwanted = order.task == WORKER_LAUNCHED && !launcher_names(order.name);
	}
}

/* ---- the process ---- */

/* Works until there is nothing to do; gives when there will be something again. */
static TimestampTz
work(void)
{
	TimestampTz leave_at = DT_NOEND;	/* when to leave if nothing more comes */
	TimestampTz look_aside_at = 0;

	worker_job_look_everywhere();
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();

		MemoryContextReset(round_context);
		if (was_woken())
			worker_job_look_everywhere();
		worker_job_advance();
		if (unwanted || !worker_job_find_work())
		{
			worker_job_give_up_all();
			return DT_NOEND;
		}
		if (now >= look_aside_at)
		{
			look_aside_at = TimestampTzPlusMilliseconds(now, LOOK_ASIDE_MS);
			if (somebody_wants_database())
			{
				worker_job_give_up_all();
				return TimestampTzPlusMilliseconds(now, COME_BACK_MS);
			}
		}

		if (worker_job_count() > 0)
			leave_at = DT_NOEND;
		else if (order.task != WORKER_LAUNCHED)
			return worker_job_next_due();
		else if (leave_at == DT_NOEND)
			leave_at = TimestampTzPlusMilliseconds(now, smartspace_worker_linger_s * 1000L);
		else if (now >= leave_at)
			return worker_job_next_due();
		wait_for_news(Min(leave_at, worker_job_next_due()));
	}
}

static void
set_up(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"}, {"lock_timeout", LOCK_TIMEOUT}, {"jit", "off"},
		{"default_transaction_isolation", "read committed"}, {"default_transaction_read_only", "off"}
	};

	for (int i = 0; i < (int) lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("smartspace_cobot.max_connections", psprintf("%d", smartspace_worker_connections),
					PGC_SUSET, PGC_S_OVERRIDE);
	pgstat_report_appname("smartspace_cobot");
	query_keep_plans();
}

/* What comes first: what an earlier worker left behind, and what this one was called for. */
static void
prepare(void)
{
	if (!job_begin())
		return;
	if (order.task == WORKER_RUN_DUE)
		sync_job_set_slack(RUN_DUE_SLACK_S);
	if (order.task == WORKER_DELIVER && order.checkin_member != 0)
		checkin_request(order.checkin_member, order.checkin_building, order.requested_by);
	else
		sync_job_recover();
	job_commit();
}

void
worker_main(Datum arg)
{
	TimestampTz due;

	(void) arg;
	memcpy(&order, MyBgworkerEntry->bgw_extra, sizeof(order));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	if (order.task == WORKER_LAUNCHED)
	{
		if (!take_place())
			proc_exit(0);
		BackgroundWorkerInitializeConnection(order.name, NULL, 0);
	}
	else
		BackgroundWorkerInitializeConnectionByOid(order.database, InvalidOid, 0);

	round_context = AllocSetContextCreate(TopMemoryContext, "smartspace_cobot round", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(round_context);
	set_up();
	worker_job_init(round_context, order.task == WORKER_DELIVER);
	prepare();
	do
	{
		due = work();
	} while (!say_good_bye(due));
	proc_exit(0);
}
