/*
 * checkin_deliver.c
 *	  The delivery of one integration's check-ins: a job of the worker, and its steps from
 *	  one transaction to the next. Runs in the worker alone.
 *
 *	 claim		counted and committed, so that a row that breaks something is given up;
 *				what needs no network ends here
 *	 read		Cobot's list, once for all: who is in already is not sent
 *	 send		marked as sending and committed first, a wave at a time, so that nothing
 *				waits for long between its last check and its request
 *	 read again for what was refused (already in?) or not answered
 *
 * A check-in can cost a pass, and Cobot knows no key by which it would recognise a second
 * request as the first. So what may have been sent is looked up before it is sent again,
 * and that it is not there is believed only after smartspace_cobot.checkin_settle_time.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "pgtime.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "checkin.h"
#include "checkin_guard.h"
#include "checkin_row.h"
#include "lock.h"
#include "query.h"
#include "smartspace_cobot.h"

/* Requests of a wave: they leave within moments of their last check. */
#define WAVE 16

/* After so many requests that Cobot did not carry out nor answer, it is given up. */
#define POSTS_LIMIT 3

/* An older list says too little about who is in by now: slow answers end the batch. */
#define LIST_AGE_LIMIT_MS 30000

/* Cobot's clock may differ from ours by so much. */
#define CLOCK_SLACK (2 * USECS_PER_MINUTE)

/* Somebody else delivers, or writes a row that is due: look again then. */
#define LOCKED_AGAIN_MS 200

typedef enum DeliveryStep
{
	CLAIM,
	READ,
	SEND,
	READ_AGAIN
} DeliveryStep;

/* A job's own. */
typedef struct Delivery
{
	LOCKTAG		lock;
	DeliveryStep step;			/* that comes next */
	char	   *token;			/* with which the client was opened */
	Datum		ids;			/* of the rows claimed, as an array */
	CheckinRow *row;
	int			count;
	CobotCall  *list[2];		/* that are being read, or just were */
	int			list_count;
	TimestampTz read_at;		/* when they were asked for */
} Delivery;

/* Rows are due that somebody else is writing: nothing is looked for until then. */
static TimestampTz rest_until = 0;

static void
leave_calls(Job *job, CobotCall **calls, int count)
{
	job->calls = MemoryContextAlloc(job->context, sizeof(CobotCall *) * Max(count, 1));
	memcpy(job->calls, calls, sizeof(CobotCall *) * count);
	job->call_count = count;
}

/* Cobot's own way to write a moment. */
static char *
cobot_moment(TimestampTz when)
{
	char		text[64];
	pg_time_t	seconds = timestamptz_to_time_t(when);

	pg_strftime(text, sizeof(text), "%Y/%m/%d %H:%M:%S +0000", pg_gmtime(&seconds));
	return pstrdup(text);
}

/* The integration as it is now; false if it is not there or may not be used as it was. */
static bool
is_still_usable(const Job *job)
{
	const Delivery *own = job->data;
	QueryArg	arg = query_int64(job->integration);
	Integration integration;
	bool		usable;

	if (query_run_kept("SELECT FROM smartspace.cobot_integration i WHERE i.id = $1", 1, &arg) == 0)
		return false;
	integration_load(&integration, job->integration, false);
	usable = integration_can_ask(&integration) && strcmp(integration.subdomain, job->client.subdomain) == 0 &&
		strcmp(integration.token.value, own->token) == 0;
	integration_wipe(&integration);
	return usable;
}

/* ---- claim ---- */

static void
open_client(Job *job, Delivery *own, const Integration *integration)
{
	integration_open_client(integration, &job->client, job->context);
	job->client.urgent = true;
	job->client.user = MemoryContextStrdup(job->context,
										   integration->connected_by ? integration->connected_by : integration->subdomain);
	own->token = MemoryContextStrdup(job->context, integration->token.value);
}

/*
 * Today's check-ins; for rows whose outcome is not known also those around them, because
 * which day is "today" at Cobot is not known either.
 */
static void
ask_lists(Job *job, Delivery *own)
{
	TimestampTz first = DT_NOEND;

	for (int i = 0; i < own->count; i++)
		if (own->row[i].sending)
			first = Min(first, own->row[i].sent_at);
	own->list_count = 0;
	own->list[own->list_count++] = cobot_ask_check_ins(&job->client);
	if (first != DT_NOEND)
		own->list[own->list_count++] = cobot_ask_work_sessions(&job->client, cobot_moment(first - USECS_PER_DAY),
															   cobot_moment(GetCurrentTimestamp() + USECS_PER_DAY));
	leave_calls(job, own->list, own->list_count);
	own->read_at = GetCurrentTimestamp();
	own->step = READ;
}

static void
claim(Job *job, Delivery *own)
{
	Integration integration;

	checkin_rows_tidy();
	own->ids = checkin_rows_claim(job->integration, job->context);
	if (own->ids == (Datum) 0)
	{
		rest_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOCKED_AGAIN_MS);
		return;
	}
	checkin_rows_end_late(own->ids);
	integration_load(&integration, job->integration, false);
	if (!integration_can_ask(&integration))
		checkin_rows_cannot_ask(own->ids, !home_is_here(&integration.home) ? "foreign_database" :
								strcmp(integration.state, "paused") == 0 ? "paused" :
								!integration_has_token(&integration) ? "disconnected" : secret_reason(integration.token.state));
	else
	{
		checkin_rows_end_unwanted(own->ids);
		own->row = checkin_rows_load(own->ids, job->context, &own->count);
		if (own->count > 0)
		{
			open_client(job, own, &integration);
			ask_lists(job, own);
		}
	}
	integration_wipe(&integration);
}

/* ---- when Cobot takes no more ---- */

/* How long Cobot wants to be left alone; 0: it did not say. */
static TimestampTz
not_before(const CobotCall *call)
{
	return call->retry_after_s < 0 ? 0 : TimestampTzPlusMilliseconds(GetCurrentTimestamp(), call->retry_after_s * INT64CONST(1000));
}

/* What follows for the integration from a call that failed for a reason that is no row's own. */
static void
report(const Job *job, const CobotCall *call)
{
	if (call->outcome == COBOT_UNAUTHORIZED || call->outcome == COBOT_SUSPENDED || call->outcome == COBOT_FORBIDDEN)
		integration_report(job->integration, cobot_failure_reason(call->outcome));
	if (not_before(call) > 0)
		checkin_rows_put_off(job->integration, not_before(call));
}

/* Whatever was not decided waits. */
static void
put_all_back(Delivery *own, const char *reason, const char *message, TimestampTz until)
{
	for (int i = 0; i < own->count; i++)
		if (own->row[i].open && own->row[i].call == NULL)
			checkin_row_put_back(&own->row[i], false, reason, message, until);
}

/* ---- send ---- */

/* Marks the next rows and leaves their requests; false if there are none. */
static bool
send_wave(Job *job, Delivery *own)
{
	CheckinRow *wave[WAVE];
	CobotCall  *calls[WAVE];
	int			count = 0;
	int			sent = 0;

	for (int i = 0; i < own->count && count < WAVE; i++)
		if (own->row[i].open && !own->row[i].sending)
			wave[count++] = &own->row[i];
	if (count == 0)
		return false;
	if (TimestampDifferenceExceeds(own->read_at, GetCurrentTimestamp(), LIST_AGE_LIMIT_MS))
	{
		put_all_back(own, NULL, NULL, 0);
		return false;
	}
	if (!is_still_usable(job))
	{
		put_all_back(own, "disconnected", NULL, 0);
		return false;
	}
	checkin_rows_mark(wave, count);
	for (int i = 0; i < count; i++)
		if (wave[i]->open)
			calls[sent++] = wave[i]->call = cobot_post_work_session(&job->client, wave[i]->member);
	if (sent == 0)
		return send_wave(job, own);
	leave_calls(job, calls, sent);
	own->step = SEND;
	return true;
}

/* It had no effect, and the next one would have none either. */
static const CobotCall *
stop_for(const Job *job, CheckinRow *row)
{
	const CobotCall *call = row->call;

	report(job, call);
	checkin_row_put_back(row, true, cobot_failure_reason(call->outcome), cobot_failure_message(call), not_before(call));
	return call;
}

static void
note(Job *job, CheckinRow *row, const char *reason, const char *message)
{
	checkin_row_note(row, reason, MemoryContextStrdup(job->context, message));
}

/* What the answer to one request means. Gives the call if it stops the delivery. */
static const CobotCall *
judge_answer(Job *job, CheckinRow *row)
{
	CobotCall  *call = row->call;
	CheckinRecord record;

	switch (call->outcome)
	{
		case COBOT_UNAUTHORIZED:
		case COBOT_SUSPENDED:
		case COBOT_FORBIDDEN:
		case COBOT_RATE_LIMITED:
			return stop_for(job, row);
		case COBOT_NOT_FOUND:
			checkin_row_settle(row, "refused", "refused", "Cobot does not know this member", NULL);
			return NULL;
		case COBOT_REJECTED:
			note(job, row, "refused", checkin_refusal(call->request->response, call->request->response_length,
													  call->request->status));
			return NULL;
		default:
			break;
	}
	if (!call->request->sent)
		return stop_for(job, row);
	if (call->outcome == COBOT_OK &&
		checkin_read_answer(call->request->response, call->request->response_length, row->member, &record))
		checkin_row_settle(row, "done", NULL, NULL, &record);
	else if (call->outcome == COBOT_OK || call->outcome == COBOT_NOT_JSON || call->outcome == COBOT_WRONG_SHAPE)
		note(job, row, "bad_answer", psprintf("Cobot answered with HTTP status %ld, but with no check-in of this member",
											  call->request->status));
	else
		note(job, row, "no_answer", cobot_failure_message(call));
	return NULL;
}

static bool
was_refused(const CheckinRow *row)
{
	return row->reason && strcmp(row->reason, "refused") == 0;
}

/* Nothing more can be read in this delivery: a refusal is one, and the rest is looked up later. */
static void
end_without_reading(Delivery *own)
{
	for (int i = 0; i < own->count; i++)
		if (own->row[i].look_again && was_refused(&own->row[i]))
			checkin_row_settle(&own->row[i], "refused", "refused", own->row[i].message, NULL);
}

static void
read_again_if_needed(Job *job, Delivery *own)
{
	for (int i = 0; i < own->count; i++)
	{
		if (!own->row[i].look_again)
			continue;
		own->list[0] = cobot_ask_check_ins(&job->client);
		own->list_count = 1;
		leave_calls(job, own->list, own->list_count);
		own->step = READ_AGAIN;
		return;
	}
}

static void
look_at_answers(Job *job, Delivery *own)
{
	const CobotCall *stopped_by = NULL;

	for (int i = 0; i < own->count; i++)
	{
		CheckinRow *row = &own->row[i];
		const CobotCall *stopping;

		if (row->call == NULL || !row->open)
			continue;
		stopping = judge_answer(job, row);
		stopped_by = stopped_by ? stopped_by : stopping;
		row->open = false;
	}
	if (stopped_by)
	{
		put_all_back(own, cobot_failure_reason(stopped_by->outcome), cobot_failure_message(stopped_by), not_before(stopped_by));
		end_without_reading(own);
	}
	else if (!send_wave(job, own))
		read_again_if_needed(job, own);
}

/* ---- read ---- */

/*
 * What a row that may have been sent was, by a list that does not have it. The request may
 * have left long after the row was marked, because the rate limit held it back.
 */
static void
judge_absence(CheckinRow *row)
{
	TimestampTz believed_at = TimestampTzPlusMilliseconds(row->lost_at, smartspace_checkin_settle_time_ms);

	if (was_refused(row))
		checkin_row_settle(row, "refused", "refused", row->message, NULL);
	else if (believed_at > GetCurrentTimestamp())
		checkin_row_wait_for_list(row);
	else if (row->reason && strcmp(row->reason, "bad_answer") == 0)
		checkin_row_settle(row, "failed", "bad_answer", row->message, NULL);
	else if (row->posts >= POSTS_LIMIT)
		checkin_row_settle(row, "failed", "gave_up",
						   psprintf("%d requests to Cobot had no answer and no effect", row->posts), NULL);
	else
		checkin_row_not_made(row);
}

static void
judge_by_list(CheckinRow *row, const CheckinList *list)
{
	const CheckinRecord *since = row->sending ? checkin_find_since(list, row->member, row->sent_at - CLOCK_SLACK) : NULL;
	const CheckinRecord *current = checkin_find_current(list, row->member, GetCurrentTimestamp());

	if (since && !was_refused(row))
		checkin_row_settle(row, "done", NULL, NULL, since);
	else if (current)
		checkin_row_settle(row, "already_in", NULL, NULL, current);
	else if (checkin_is_unclear(list, row->member))
		checkin_row_put_back(row, false, "bad_answer", "Cobot's list has a check-in of this member that cannot be read", 0);
	/* right after the request, absence says nothing */
	else if (row->sending && (!row->look_again || was_refused(row)))
		judge_absence(row);
}

/* Puts the answers together; false if they cannot be used, with the call that is to blame. */
static bool
read_lists(Delivery *own, CheckinList *list, CobotCall **failed, JsonError *error)
{
	*failed = cobot_first_failure(own->list, own->list_count);
	for (int i = 0; i < own->list_count && *failed == NULL; i++)
		if (!checkin_read_list(&own->list[i]->elements, list, error))
			return false;
	return *failed == NULL;
}

static void
look_at_lists(Job *job, Delivery *own)
{
	CheckinList list = {0};
	CobotCall  *failed;
	JsonError	error;

	if (!read_lists(own, &list, &failed, &error))
	{
		if (failed)
			report(job, failed);
		put_all_back(own, failed ? cobot_failure_reason(failed->outcome) : "bad_answer",
					 failed ? cobot_failure_message(failed) : psprintf("Cobot's list of check-ins cannot be read: %s %s", error.path, error.message),
					 failed ? not_before(failed) : 0);
		return;
	}
	for (int i = 0; i < own->count; i++)
		judge_by_list(&own->row[i], &list);
	(void) send_wave(job, own);
}

/* Right after the requests the list is believed where it has something, and where Cobot refused. */
static void
look_at_list_again(Delivery *own)
{
	CheckinList list = {0};
	CobotCall  *failed;
	JsonError	error;

	if (!read_lists(own, &list, &failed, &error))
	{
		end_without_reading(own);
		return;
	}
	for (int i = 0; i < own->count; i++)
		if (own->row[i].look_again)
			judge_by_list(&own->row[i], &list);
}

/* ---- the job ---- */

static void
step(Job *job)
{
	Delivery   *own = job->data;

	if (!job_begin())
		return;
	switch (own->step)
	{
		case CLAIM:
			claim(job, own);
			break;
		case READ:
			look_at_lists(job, own);
			break;
		case SEND:
			look_at_answers(job, own);
			break;
		case READ_AGAIN:
			look_at_list_again(own);
			break;
	}
	job_commit();
}

/* What was claimed is due again after its back-off, and says why it was not done. */
static void
failed(Job *job, const char *error)
{
	Delivery   *own = job->data;

	checkin_rest_integration(job->integration);
	if (own->ids != (Datum) 0)
		checkin_rows_say_error(own->ids, error);
}

static void
ended(Job *job)
{
	lock_release(&((Delivery *) job->data)->lock);
}

static Job *
create(int64 integration, const LOCKTAG *lock)
{
	Job		   *job = job_create("delivery of check-ins", integration);
	Delivery   *own = MemoryContextAllocZero(job->context, sizeof(Delivery));

	own->lock = *lock;
	job->data = own;
	job->urgent = true;
	job->step = step;
	job->failed = failed;
	job->ended = ended;
	return job;
}

Job *
checkin_job_next(void)
{
	Job		   *job = NULL;
	LOCKTAG		lock;

	if (rest_until > GetCurrentTimestamp() || !job_begin())
		return NULL;

	QueryArg	args[] = {checkin_resting_rows(), checkin_resting_integrations()};

	query_run_kept("SELECT c.integration_id FROM smartspace.cobot_checkin c"
				   " WHERE c.state IN ('queued', 'sending') AND c.next_attempt_at <= pg_catalog.now()"
				   "  AND c.id <> ALL ($1) AND c.integration_id <> ALL ($2)"
				   " GROUP BY 1 ORDER BY pg_catalog.min(c.next_attempt_at)", lengthof(args), args);
	for (uint64 i = 0; i < SPI_processed && job == NULL; i++)
	{
		int64		integration = query_result_int64(i, 1);

		if (lock_try_delivery_job(integration, &lock))
			job = create(integration, &lock);
	}
	job_commit();
	return job;
}

TimestampTz
checkin_next_due(void)
{
	TimestampTz soon = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOCKED_AGAIN_MS);

	QueryArg	args[] = {checkin_resting_rows(), checkin_resting_integrations()};

	query_run_kept("SELECT pg_catalog.min(c.next_attempt_at) FROM smartspace.cobot_checkin c"
				   " WHERE c.state IN ('queued', 'sending') AND c.id <> ALL ($1) AND c.integration_id <> ALL ($2)", lengthof(args), args);
	return Max(soon, query_result_is_null(0, 1) ? checkin_rest_ends() : Min(query_result_int64(0, 1), checkin_rest_ends()));
}
