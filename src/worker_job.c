/*
 * worker_job.c
 *	  The jobs that the worker has under way. Runs in the worker. See job.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "backoff.h"
#include "checkin.h"
#include "http.h"
#include "job.h"
#include "smartspace_cobot.h"
#include "sync_job.h"
#include "worker_job.h"

/*
 * After so long the jobs that have their answers, and those that could begin, let others
 * go first: whoever came in at a door meanwhile.
 */
#define TURN_MS 10

/*
 * Jobs whose errors follow each other without one that succeeds: after so many nothing new
 * is begun for a tenth of a second, then two, four ..., whatever it is that cannot be
 * written down.
 */
#define ERRORS_IN_A_ROW 5
#define REST_FIRST_MS 100
#define REST_LIMIT_MS 10000

/*
 * A job that is older than this waits for a slow space. It takes no place from others, up
 * to so many times the places.
 */
#define SLOW_AFTER_MS 10000
#define SLOW_PLACES 3

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

static dlist_head jobs = DLIST_STATIC_INIT(jobs);
static MemoryContext round_context;
static bool only_deliveries;
static TimestampTz turn_ends;
static bool answers_left;		/* when the turn was over */
static int	errors_in_a_row;
static TimestampTz rest_until;	/* after many errors */

void
worker_job_init(MemoryContext round, bool deliveries)
{
	round_context = round;
	only_deliveries = deliveries;
	worker_job_look_everywhere();
}

/* ---- steps ---- */

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

	errors_in_a_row = error ? errors_in_a_row + 1 : 0;
	if (error)
	{
		if (errors_in_a_row >= ERRORS_IN_A_ROW)
			rest_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
													 (int64) backoff_delay(REST_FIRST_MS, REST_LIMIT_MS, errors_in_a_row - ERRORS_IN_A_ROW + 1));
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
 * The urgent ones first. Between two of them requests go on their way and answers are
 * taken in: other spaces' time runs on.
 */
void
worker_job_advance(void)
{
	dlist_mutable_iter iter;
	bool		ended = false;

	turn_ends = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), TURN_MS);
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
	if (ended)
		worker_job_look_everywhere();
}

void
worker_job_give_up_all(void)
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

void
worker_job_look_everywhere(void)
{
	for (int i = 0; i < (int) lengthof(sources); i++)
		sources[i].due_at = !only_deliveries || sources[i].in_delivery ? DT_NOBEGIN : DT_NOEND;
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
 * One at least of each kind: places that are free shall not wait for all answers to be
 * looked at.
 */
bool
worker_job_find_work(void)
{
	for (int i = 0; i < (int) lengthof(sources); i++)
	{
		WorkSource *source = &sources[i];
		Job		   *job;

		while (Max(source->due_at, rest_until) <= GetCurrentTimestamp() && (!source->has_places || has_room()))
		{
			MemoryContextReset(round_context);
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
TimestampTz
worker_job_next_due(void)
{
	TimestampTz due = DT_NOEND;
	bool		room = has_room();

	for (int i = 0; i < (int) lengthof(sources); i++)
		if (room || !sources[i].has_places)
			due = Min(due, sources[i].due_at);
	return Max(due, rest_until);
}

/* ---- waiting ---- */

int
worker_job_count(void)
{
	dlist_iter	iter;
	int			count = 0;

	dlist_foreach(iter, &jobs)
		count++;
	return count;
}

long
worker_job_wait_ms(void)
{
	long		wait_ms = answers_left ? 0 : -1;
	dlist_iter	iter;

	dlist_foreach(iter, &jobs)
	{
		Job		   *job = dlist_container(Job, node, iter.cur);
		long		job_ms = cobot_wait_ms(job->calls, job->call_count);

		if (job_ms >= 0)
			wait_ms = wait_ms < 0 ? job_ms : Min(wait_ms, job_ms);
	}
	return wait_ms;
}
