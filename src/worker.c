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

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "checkin.h"
#include "compat.h"
#include "http.h"
#include "job.h"
#include "query.h"
#include "shared.h"
#include "smartspace_cobot.h"
#include "sync_job.h"
#include "wake.h"
#include "worker.h"

PG_FUNCTION_INFO_V1(worker_run_due);
PGDLLEXPORT void worker_main(Datum arg);

/* How often to look whether somebody wants the database for themselves. */
#define LOOK_ASIDE_MS 250

/* After it has left for somebody else. */
#define COME_BACK_MS 5000

/* A lock that somebody else holds for longer ends the job, which is tried again later. */
#define LOCK_TIMEOUT "10s"

/* Whoever calls cobot_run_due() every half hour shall not miss by seconds what is due every half hour. */
#define RUN_DUE_SLACK_S 600

/*
 * After so long the jobs that have their answers, and those that could begin, let others
 * go first: whoever came in at a door meanwhile.
 */
#define TURN_MS 10

/*
 * A job that is older than this waits for a slow space. It takes no place from others, up
 * to so many times the places.
 */
#define SLOW_AFTER_MS 10000
#define SLOW_PLACES 3

StaticAssertDecl(sizeof(WorkerOrder) <= BGW_EXTRALEN, "an order must fit into bgw_extra");

/* Where work comes from, in order of urgency. */
typedef struct WorkSource
{
	Job		   *(*next) (void);
	TimestampTz (*due) (void);
	bool		has_places;		/* counts for worker_concurrency */
	bool		in_delivery;	/* also where check-ins alone are delivered */
	TimestampTz due_at;			/* not before this time is there anything */
} WorkSource;

static WorkSource sources[] = {
	{.next = checkin_job_next, .due = checkin_next_due, .in_delivery = true},
	{.next = hint_job_next, .due = hint_job_due, .has_places = true},
	{.next = sync_job_next, .due = sync_job_due, .has_places = true}
};

static WorkerOrder order;
static dlist_head jobs = DLIST_STATIC_INIT(jobs);
static MemoryContext round_context;
static TimestampTz turn_ends;
static bool answers_left;		/* when the turn was over */

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

/* ---- jobs ---- */

static void
end_job(Job *job)
{
	dlist_delete(&job->node);
	job->ended(job);
	MemoryContextDelete(job->context);
}

/* In a transaction of its own: what a job has to say about the error that ended it. */
static void
tell_failed(Job *job, const char *error)
{
	PG_TRY();
	{
		if (job_begin())
		{
			job->failed(job, error);
			job_commit();
		}
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(round_context);
		HOLD_INTERRUPTS();
		EmitErrorReport();
		FlushErrorState();
		AbortCurrentTransaction();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
}

static void
say_what_failed(void *job)
{
	errcontext("%s of integration %lld", ((Job *) job)->doing, (long long) ((Job *) job)->integration);
}

/* One step, and its calls on their way. False: the job is over. */
static bool
make_step(Job *job)
{
	ErrorContextCallback context = {.callback = say_what_failed, .arg = job, .previous = error_context_stack};
	char	   *volatile error = NULL;

	error_context_stack = &context;
	PG_TRY();
	{
		job->calls = NULL;
		job->call_count = 0;
		job->step(job);
		for (int i = 0; i < job->call_count; i++)
			cobot_start(job->calls[i]);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(round_context);
		HOLD_INTERRUPTS();

		ErrorData  *data = CopyErrorData();

		error = data->message ? data->message : pstrdup("unknown error");
		EmitErrorReport();
		FlushErrorState();
		AbortCurrentTransaction();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	error_context_stack = context.previous;
	MemoryContextSwitchTo(round_context);

	if (error)
	{
		cobot_abandon(job->calls, job->call_count);
		tell_failed(job, error);
		MemoryContextSwitchTo(round_context);
		return false;
	}
	return job->call_count > 0;
}

static bool
has_settled(Job *job)
{
	bool		settled = true;

	for (int i = 0; i < job->call_count; i++)
		settled &= cobot_advance(job->calls[i]);
	return settled;
}

static bool
turn_is_over(void)
{
	return GetCurrentTimestamp() >= turn_ends;
}

/*
 * Brings jobs forward, the urgent ones first; true if one came to its end. Between two of
 * them requests go on their way and answers are taken in: other spaces' time runs on.
 */
static bool
advance_jobs(void)
{
	dlist_mutable_iter iter;
	bool		ended = false;

	answers_left = false;
	dlist_foreach_modify(iter, &jobs)
	{
		Job		   *job = dlist_container(Job, node, iter.cur);

		if (!has_settled(job))
			continue;
		if (!job->urgent && turn_is_over())
		{
			answers_left = true;
			break;
		}
		if (!make_step(job))
		{
			end_job(job);
			ended = true;
		}
		http_progress();
	}
	return ended;
}

/* Nothing is lost: what is under way is claimed again, and check-ins are looked up before they are sent. */
static void
give_everything_up(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &jobs)
	{
		Job		   *job = dlist_container(Job, node, iter.cur);

		cobot_abandon(job->calls, job->call_count);
		end_job(job);
	}
}

/* ---- finding work ---- */

/* True if another job that counts for the places may begin. */
static bool
has_room(void)
{
	TimestampTz slow = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), -SLOW_AFTER_MS);
	int			quick = 0;
	int			all = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &jobs)
	{
		Job		   *job = dlist_container(Job, node, iter.cur);

		all++;
		if (job->began_at > slow)
			quick++;
	}
	return quick < smartspace_worker_concurrency && all < smartspace_worker_concurrency * (1 + SLOW_PLACES);
}

/* Whatever is done by now may have made more: everything is looked at again. */
static void
look_everywhere(void)
{
	for (int i = 0; i < (int) lengthof(sources); i++)
		sources[i].due_at = order.task != WORKER_DELIVER || sources[i].in_delivery ? DT_NOBEGIN : DT_NOEND;
}

static void
begin_job(Job *job)
{
	job->began_at = GetCurrentTimestamp();
	if (job->urgent)
		dlist_push_head(&jobs, &job->node);
	else
		dlist_push_tail(&jobs, &job->node);
	if (job->call_count == 0)
	{
		if (!make_step(job))
			end_job(job);
		return;
	}
	for (int i = 0; i < job->call_count; i++)
		cobot_start(job->calls[i]);
}

/*
 * Begins what is due, as far as there is room, and one at least of each kind: places that
 * are free shall not wait for all answers to be looked at. False: the extension is not here.
 */
static bool
find_work(void)
{
	for (int i = 0; i < (int) lengthof(sources); i++)
	{
		WorkSource *source = &sources[i];
		Job		   *job;

		while (source->due_at <= GetCurrentTimestamp() && (!source->has_places || has_room()))
		{
			job = source->next();
			MemoryContextSwitchTo(round_context);
			if (job)
			{
				begin_job(job);
				http_progress();
				if (source->has_places && turn_is_over())
					break;
				continue;
			}
			if (!job_begin())
				return false;
			source->due_at = source->due();
			job_commit();
			MemoryContextSwitchTo(round_context);
			break;
		}
	}
	return true;
}

/* What there is no place for becomes due when a job ends. */
static TimestampTz
next_due(void)
{
	TimestampTz due = DT_NOEND;
	bool		room = has_room();

	for (int i = 0; i < (int) lengthof(sources); i++)
		if (room || !sources[i].has_places)
			due = Min(due, sources[i].due_at);
	return due;
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
	dlist_iter	iter;
	int			count = 0;

	dlist_foreach(iter, &jobs)
		count++;
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
	long		wait_ms = answers_left ? 0 : LOOK_ASIDE_MS;
	dlist_iter	iter;

	wait_ms = Min(wait_ms, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until));
	dlist_foreach(iter, &jobs)
	{
		Job		   *job = dlist_container(Job, node, iter.cur);
		long		job_ms = cobot_wait_ms(job->calls, job->call_count);

		if (job_ms >= 0)
			wait_ms = Min(wait_ms, job_ms);
	}
	report_activity();
	http_wait(wait_ms);
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/* ---- the process ---- */

/* Works until there is nothing to do; gives when there will be something again. */
static TimestampTz
work(void)
{
	TimestampTz leave_at = DT_NOEND;	/* when to leave if nothing more comes */
	TimestampTz look_aside_at = 0;

	look_everywhere();
	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();

		MemoryContextReset(round_context);
		turn_ends = TimestampTzPlusMilliseconds(now, TURN_MS);
		if (was_woken())
			look_everywhere();
		if (advance_jobs())
			look_everywhere();
		if (!find_work())
		{
			give_everything_up();
			return DT_NOEND;
		}
		if (now >= look_aside_at)
		{
			look_aside_at = TimestampTzPlusMilliseconds(now, LOOK_ASIDE_MS);
			if (somebody_wants_database())
			{
				give_everything_up();
				return TimestampTzPlusMilliseconds(now, COME_BACK_MS);
			}
		}

		if (!dlist_is_empty(&jobs))
			leave_at = DT_NOEND;
		else if (order.task != WORKER_LAUNCHED)
			return next_due();
		else if (leave_at == DT_NOEND)
			leave_at = TimestampTzPlusMilliseconds(now, smartspace_worker_linger_s * 1000L);
		else if (now >= leave_at)
			return next_due();
		wait_for_news(Min(leave_at, next_due()));
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
		shared_lock();
		own_place()->oid = MyDatabaseId;
		shared_unlock();
	}
	else
		BackgroundWorkerInitializeConnectionByOid(order.database, InvalidOid, 0);

	round_context = AllocSetContextCreate(TopMemoryContext, "smartspace_cobot round", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(round_context);
	set_up();
	prepare();
	do
	{
		due = work();
	} while (!say_good_bye(due));
	proc_exit(0);
}

/* ---- for others ---- */

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

	Datum		result = SPI_datumTransfer(CStringGetTextDatum(words), false, -1);

	SPI_finish();
	PG_RETURN_DATUM(result);
}
