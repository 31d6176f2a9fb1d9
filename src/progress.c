/*
 * progress.c
 *	  How far synchronisations are. Runs in any backend or background worker.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "caller.h"
#include "progress.h"
#include "shared.h"

PG_FUNCTION_INFO_V1(progress_rows);

#define NOTICE_EVERY_MS 5000

struct Progress
{
	const char *name;
	SharedProgress now;
	int			place;			/* in shared memory; -1: none */
	TimestampTz notice_at;		/* the next one */
	MemoryContextCallback release;
};

static const char *const phase_label[] = {
	[PROGRESS_ASKING] = "asking", [PROGRESS_VERIFYING] = "verifying", [PROGRESS_APPLYING] = "applying"
};

static bool exit_registered = false;

/* A process that ends in the middle frees its places. */
static void
free_places(int code, Datum arg)
{
	(void) code;
	(void) arg;
	shared_lock();
	for (int i = 0; i < SHARED_PROGRESS_LIMIT; i++)
		if (shared->progress[i].pid == MyProcPid)
			shared->progress[i].pid = 0;
	shared_unlock();
}

static void
publish(const Progress *progress)
{
	if (progress->place < 0)
		return;
	shared_lock();
	shared->progress[progress->place] = progress->now;
	shared_unlock();
}

static void
release(void *arg)
{
	progress_end(arg);
}

Progress *
progress_begin(int64 integration, const char *name)
{
	Progress   *progress = palloc0(sizeof(Progress));

	progress->name = name;
	progress->place = -1;
	progress->now = (SharedProgress) {
		.pid = MyProcPid, .database = MyDatabaseId, .integration = integration,
		.phase = PROGRESS_ASKING, .started_at = GetCurrentTimestamp()
	};
	progress->notice_at = TimestampTzPlusMilliseconds(progress->now.started_at, NOTICE_EVERY_MS);
	progress->release.func = release;
	progress->release.arg = progress;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &progress->release);
	if (shared == NULL)
		return progress;

	if (!exit_registered)
		before_shmem_exit(free_places, (Datum) 0);
	exit_registered = true;
	shared_lock();
	for (int i = 0; i < SHARED_PROGRESS_LIMIT && progress->place < 0; i++)
		if (shared->progress[i].pid == 0)
		{
			progress->place = i;
			shared->progress[i] = progress->now;
		}
	shared_unlock();
	return progress;
}

void
progress_enter(Progress *progress, ProgressPhase phase)
{
	progress->now.phase = phase;
	publish(progress);
}

void
progress_count(Progress *progress, int requests, int members)
{
	progress->now.requests = requests;
	progress->now.members = members;
	publish(progress);
}

void
progress_notice(Progress *progress)
{
	TimestampTz now = GetCurrentTimestamp();

	if (progress->name == NULL || now < progress->notice_at)
		return;
	progress->notice_at = TimestampTzPlusMilliseconds(now, NOTICE_EVERY_MS);
	ereport(NOTICE,
			(errmsg("synchronising \"%s\": %s, %d requests so far, %d members, %.0f s", progress->name,
					progress->now.phase == PROGRESS_VERIFYING ? "asking for members one by one" : "waiting for Cobot's lists",
					progress->now.requests, progress->now.members, (now - progress->now.started_at) / (double) USECS_PER_SEC)));
}

void
progress_end(Progress *progress)
{
	if (progress->place < 0)
		return;
	shared_lock();
	shared->progress[progress->place].pid = 0;
	shared_unlock();
	progress->place = -1;
}

/*
 * cobot_progress() -> set of (integration_id, pid, phase, members, requests, started_at) of this database
 */
Datum
progress_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	SharedProgress *copy;

	InitMaterializedSRF(fcinfo, 0);
	if (shared == NULL)
		return (Datum) 0;
	copy = palloc(sizeof(shared->progress));
	shared_lock();
	memcpy(copy, shared->progress, sizeof(shared->progress));
	shared_unlock();
	for (int i = 0; i < SHARED_PROGRESS_LIMIT; i++)
	{
		Datum		values[] = {
			Int64GetDatum(copy[i].integration), Int32GetDatum(copy[i].pid), CStringGetTextDatum(phase_label[copy[i].phase]),
			Int32GetDatum(copy[i].members), Int32GetDatum(copy[i].requests), TimestampTzGetDatum(copy[i].started_at)
		};
		bool		nulls[lengthof(values)] = {false};

		if (copy[i].pid != 0 && copy[i].database == MyDatabaseId && caller_sees(copy[i].integration))
			tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
