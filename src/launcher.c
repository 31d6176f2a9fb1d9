/*
 * launcher.c
 *	  Starts a worker for each database that has something to do, when it is due or when
 *	  somebody queued it. Runs as one background worker of the cluster, connected to no
 *	  database, because a connection would be in the way of DROP DATABASE, RENAME and CREATE
 *	  DATABASE ... TEMPLATE.
 *
 * For each database in smartspace_cobot.databases, by what is in shared memory:
 *
 *	asleep	 --(next_due is over, or woken)-->	starting
 *	starting --(it has taken its place)-->		working
 *	working  --(it ends, and says when something is due next)--> asleep
 *	starting or working --(it ends otherwise)--> asleep, failed, for a second, two, four ... a minute
 *
 * It sleeps until the first of these times; nothing is polled. On a standby it does not run:
 * the postmaster starts it when recovery has finished, also after a promotion.
 */
#include "postgres.h"

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"
#include "utils/wait_event.h"

#include "backoff.h"
#include "compat.h"
#include "launcher.h"
#include "shared.h"
#include "smartspace_cobot.h"
#include "worker.h"

#define RESTART_S 5
#define FAILED_FIRST_MS 1000
#define FAILED_LIMIT_MS 60000

/* A clock that was set must not let it oversleep for long. */
#define SLEEP_LIMIT_MS 60000

/* When no background worker is free. */
#define NO_WORKER_WAIT_MS 5000

PGDLLEXPORT void launcher_main(Datum arg);

/* What only the launcher knows of a database, by its place in shared memory. */
static struct
{
	BackgroundWorkerHandle *handle; /* of the worker it started; NULL: none */
	TimestampTz not_before;		/* no new worker until then */
}			own[SHARED_DATABASE_LIMIT];

static MemoryContext handle_context;
static bool no_worker_reported = false;

/* ---- which databases ---- */

/* The names in the setting, in the current context; *raw holds them. NIL with *valid false if they cannot be read. */
static List *
read_databases(const char *setting, char **raw, bool *valid)
{
	List	   *names = NIL;

	*raw = pstrdup(setting ? setting : "");
	*valid = SplitIdentifierString(*raw, ',', &names);
	return names;
}

bool
launcher_check_databases(char **newval, void **extra, GucSource source)
{
	char	   *raw;
	bool		valid;
	List	   *names = read_databases(*newval, &raw, &valid);

	(void) extra;
	(void) source;
	if (!valid)
		GUC_check_errdetail("It must be a list of database names, separated by commas.");
	else if (list_length(names) > SHARED_DATABASE_LIMIT)
	{
		GUC_check_errdetail("At most %d databases can be named.", SHARED_DATABASE_LIMIT);
		valid = false;
	}
	list_free(names);
	pfree(raw);
	return valid;
}

static bool
is_member(List *names, const char *name)
{
	ListCell   *cell;

	foreach(cell, names)
		if (strcmp(lfirst(cell), name) == 0)
			return true;
	return false;
}

bool
launcher_names(const char *database)
{
	char	   *raw;
	bool		valid;
	List	   *names = read_databases(smartspace_databases, &raw, &valid);
	bool		named = is_member(names, database);

	list_free(names);
	pfree(raw);
	return named;
}

static int
find_database(const char *name)
{
	for (int i = 0; i < shared->database_count; i++)
		if (strcmp(shared->database[i].name, name) == 0)
			return i;
	return -1;
}

/* Takes the place at the end; a worker finds its own by pid, so places may move only while nobody works there. */
static void
forget_database(int place)
{
	int			last = --shared->database_count;

	if (own[place].handle)
		pfree(own[place].handle);
	shared->database[place] = shared->database[last];
	own[place] = own[last];
	memset(&shared->database[last], 0, sizeof(SharedDatabase));
	memset(&own[last], 0, sizeof(own[last]));
}

/*
 * Makes shared memory follow the setting. A database that is named no more goes when its
 * worker has ended. A new one is looked into at once.
 */
static void
follow_setting(void)
{
	char	   *raw;
	bool		valid;
	List	   *names = read_databases(smartspace_databases, &raw, &valid);
	ListCell   *cell;

	shared_lock();
	for (int i = shared->database_count - 1; i >= 0; i--)
		if (!is_member(names, shared->database[i].name) && shared->database[i].worker_pid == 0 && own[i].handle == NULL)
			forget_database(i);
	foreach(cell, names)
	{
		const char *name = lfirst(cell);

		if (strlen(name) >= NAMEDATALEN || find_database(name) >= 0 || shared->database_count == SHARED_DATABASE_LIMIT)
			continue;

		SharedDatabase *database = &shared->database[shared->database_count];

		memset(database, 0, sizeof(SharedDatabase));
		memset(&own[shared->database_count], 0, sizeof(own[0]));
		strlcpy(database->name, name, NAMEDATALEN);
		database->woken = true;
		shared->database_count++;
	}
	shared_unlock();
	list_free(names);
	pfree(raw);
}

/* ---- workers ---- */

/* Has the worker of a database ended, or never begun? An earlier launcher may have started it: then there is no handle. */
static bool
has_stopped(int place)
{
	pid_t		pid;

	if (own[place].handle == NULL)
		return shared->database[place].worker_pid == 0;
	if (GetBackgroundWorkerPid(own[place].handle, &pid) != BGWH_STOPPED)
		return false;
	pfree(own[place].handle);
	own[place].handle = NULL;
	return true;
}

static void
reap(int place, TimestampTz now)
{
	SharedDatabase *database = &shared->database[place];

	if (!database->started || !has_stopped(place))
		return;
	database->started = false;
	if (database->failed)
	{
		database->failures++;
		database->woken = true;
		own[place].not_before = TimestampTzPlusMilliseconds(now, (int64) backoff_delay(FAILED_FIRST_MS, FAILED_LIMIT_MS, database->failures));
	}
	else
		database->failures = 0;
}

/* Registers the worker of a database that has been marked as started. */
static bool
start(int place)
{
	WorkerOrder order = {.task = WORKER_LAUNCHED};
	BackgroundWorker worker;
	MemoryContext old = MemoryContextSwitchTo(handle_context);
	bool		started;

	strlcpy(order.name, shared->database[place].name, NAMEDATALEN);
	worker_describe(&worker, &order);
	started = RegisterDynamicBackgroundWorker(&worker, &own[place].handle);
	MemoryContextSwitchTo(old);
	if (!started)
	{
		own[place].handle = NULL;
		shared_lock();
		shared->database[place].started = false;
		shared->database[place].woken = true;
		shared_unlock();
	}
	return started;
}

/* How many are at work, those that somebody else's launcher started included. */
static int
count_workers(void)
{
	int			count = 0;

	for (int i = 0; i < shared->database_count; i++)
		if (own[i].handle != NULL || shared->database[i].worker_pid != 0)
			count++;
	return count;
}

static void
report_no_worker(void)
{
	if (!no_worker_reported)
		ereport(LOG,
				(errmsg("no free background worker for smartspace_cobot"),
				 errhint("Raise max_worker_processes.")));
	no_worker_reported = true;
}

/* Finds out who is due, and marks them as started; gives how many. sleep_ms shrinks to when the next one is. */
static int
find_due(int *due_places, long *sleep_ms)
{
	TimestampTz now = GetCurrentTimestamp();
	int			count = 0;

	shared_lock();
	for (int i = 0; i < shared->database_count; i++)
		reap(i, now);

	int			workers = count_workers();

	for (int i = 0; i < shared->database_count; i++)
	{
		SharedDatabase *database = &shared->database[i];
		TimestampTz due = database->woken ? own[i].not_before : Max(database->next_due, own[i].not_before);

		if (own[i].handle != NULL || database->worker_pid != 0)
			continue;
		if (due > now)
			*sleep_ms = Min(*sleep_ms, TimestampDifferenceMilliseconds(now, due));
		else if (workers + count < smartspace_max_workers)
		{
			/* failed until it says otherwise */
			database->started = database->failed = true;
			database->woken = false;
			database->next_due = DT_NOEND;
			due_places[count++] = i;
		}
	}
	shared_unlock();
	return count;
}

/* Starts who is due; gives how long to sleep. */
static long
look_after_databases(void)
{
	int			due_places[SHARED_DATABASE_LIMIT];
	long		sleep_ms = SLEEP_LIMIT_MS;
	int			count = find_due(due_places, &sleep_ms);
	bool		started = true;

	for (int i = 0; i < count; i++)
		started &= start(due_places[i]);
	if (!started)
	{
		report_no_worker();
		return NO_WORKER_WAIT_MS;
	}
	no_worker_reported = false;
	return sleep_ms;
}

/* ---- the process ---- */

static void
leave(int code, Datum arg)
{
	(void) code;
	(void) arg;
	shared_lock();
	if (shared->launcher_pid == MyProcPid)
		shared->launcher_pid = 0;
	shared_unlock();
}

void
launcher_main(Datum arg)
{
	(void) arg;
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, SIG_IGN);	/* there is nothing to cancel */
	BackgroundWorkerUnblockSignals();

	/* to no database; without it pg_stat_activity does not know the launcher */
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("smartspace_cobot");
	pgstat_report_activity(STATE_IDLE, NULL);

	handle_context = AllocSetContextCreate(TopMemoryContext, "smartspace_cobot workers", ALLOCSET_DEFAULT_SIZES);

	MemoryContext round = AllocSetContextCreate(TopMemoryContext, "smartspace_cobot round", ALLOCSET_DEFAULT_SIZES);

	shared_lock();
	shared->launcher_pid = MyProcPid;
	shared->launcher_procno = compat_my_procno();
	/* whatever was queued while there was no launcher */
	for (int i = 0; i < shared->database_count; i++)
		shared->database[i].woken = true;
	shared_unlock();
	before_shmem_exit(leave, (Datum) 0);

	/* a reload before the handler was there is lost */
	ConfigReloadPending = true;
	for (;;)
	{
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		MemoryContextSwitchTo(round);
		follow_setting();

		long		sleep_ms = look_after_databases();

		MemoryContextReset(round);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, sleep_ms, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
launcher_register(void)
{
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_RecoveryFinished,
		.bgw_restart_time = RESTART_S
	};

	strlcpy(worker.bgw_name, "smartspace_cobot launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "smartspace_cobot launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_library_name, "smartspace_cobot", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "launcher_main", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}
