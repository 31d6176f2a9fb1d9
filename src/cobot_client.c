/*
 * cobot_client.c
 *	  Cobot's HTTP API: retries, and what an answer means. Runs in any backend or
 *	  background worker, inside or outside a transaction; only cobot_perform()
 *	  waits. The questions are in cobot_question.c.
 *
 * Each attempt has a small memory context of its own below the client's, so that
 * the body of a failed one is gone before the next one arrives.
 */
#include "postgres.h"

#include "portability/instr_time.h"
#include "utils/memutils.h"

#include "backoff.h"
#include "cobot_client.h"
#include "smartspace_cobot.h"

#define BACKOFF_FIRST_MS 250
#define BACKOFF_LIMIT_MS 8000
#define MEANWHILE_MS 500L

void
cobot_client_init(CobotClient *client, MemoryContext context,
				  const char *subdomain, const char *token)
{
	/* the last line of defence before a token goes to a host made of this text */
	if (cobot_check_subdomain(subdomain) != NULL)
		elog(ERROR, "unchecked Cobot subdomain");

	*client = (CobotClient) {
		.context = context,
		.subdomain = MemoryContextStrdup(context, subdomain),
		.token = token != NULL ? MemoryContextStrdup(context, token) : NULL
	};
}

HttpRequest *
cobot_new_request(CobotClient *client, const char *method, const char *url)
{
	MemoryContext context = AllocSetContextCreate(client->context, "Cobot request",
												  ALLOCSET_SMALL_SIZES);

	return http_request_create(context, method, url);
}

/* ---- what an answer means ---- */

static CobotOutcome
outcome_of_failure(HttpFailure failure)
{
	switch (failure)
	{
		case HTTP_NO_FAILURE:
			return COBOT_OK;
		case HTTP_DNS_FAILURE:
			return COBOT_DNS_FAILURE;
		case HTTP_CONNECT_FAILURE:
			return COBOT_UNREACHABLE;
		case HTTP_TLS_FAILURE:
			return COBOT_TLS_FAILURE;
		case HTTP_TIMED_OUT:
			return COBOT_TIMED_OUT;
		case HTTP_TOO_LARGE:
			return COBOT_TOO_LARGE;
		case HTTP_BROKEN_ANSWER:
			return COBOT_BROKEN_ANSWER;
		case HTTP_LOCAL_FAILURE:
			break;
	}
	return COBOT_LOCAL_FAILURE;
}

static CobotOutcome
outcome_of_status(const HttpRequest *request)
{
	switch (request->status)
	{
		case 304:
			return request->if_none_match ? COBOT_NOT_MODIFIED : COBOT_REDIRECTED;
		case 401:
			return COBOT_UNAUTHORIZED;
		case 402:
			return COBOT_SUSPENDED;
		case 403:
			return COBOT_FORBIDDEN;
		case 404:
			return COBOT_NOT_FOUND;
		case 429:
			return COBOT_RATE_LIMITED;
	}
	switch (request->status / 100)
	{
		case 2:
			return COBOT_OK;
		case 3:
			return COBOT_REDIRECTED;
		case 4:
			return COBOT_REJECTED;
		case 5:
			return COBOT_SERVER_ERROR;
	}
	return COBOT_BROKEN_ANSWER;
}

static void
free_elements(void *call)
{
	json_free_array(&((CobotCall *) call)->elements);
}

/* One pass over the body: what it is made of, and whether it is what was asked for. */
static CobotOutcome
outcome_of_body(CobotCall *call)
{
	const char *body = call->request->response;
	size_t		length = call->request->response_length;
	bool		is_array = body[strspn(body, " \t\r\n")] == '[';

	if (length == 0 && call->expect_empty)
		return COBOT_OK;
	if (call->expect_array && is_array)
	{
		MemoryContextCallback *callback = MemoryContextAlloc(call->client->context,
															 sizeof(MemoryContextCallback));

		callback->func = free_elements;
		callback->arg = call;
		MemoryContextRegisterResetCallback(call->client->context, callback);
		return json_split_array(body, length, call->id_key, &call->elements, &call->json_error) ?
			COBOT_OK : COBOT_NOT_JSON;
	}
	if (!json_check(body, length, &call->json_error))
		return COBOT_NOT_JSON;
	if (call->expect_array || body[strspn(body, " \t\r\n")] != '{')
	{
		json_fail(&call->json_error, "", "", "is not an %s",
				  call->expect_array ? "array" : "object");
		return COBOT_WRONG_SHAPE;
	}
	return COBOT_OK;
}

static void
free_answer(void *tree)
{
	cJSON_Delete(tree);
}

const cJSON *
cobot_answer(CobotCall *call, JsonError *error)
{
	MemoryContextCallback *callback = MemoryContextAlloc(call->client->context,
														 sizeof(MemoryContextCallback));
	cJSON	   *tree = json_parse(call->request->response, call->request->response_length, "", error);

	callback->func = free_answer;
	callback->arg = tree;
	MemoryContextRegisterResetCallback(call->client->context, callback);
	return tree;
}

/* Judges an attempt that ended, and books it. */
static void
settle(CobotCall *call)
{
	const HttpRequest *request = call->request;

	call->client->bytes += request->bytes_received;
	call->retry_after_s = -1;
	call->outcome = outcome_of_failure(request->failure);
	/* the body of an error answer is not used, so its size does not matter */
	if (call->outcome == COBOT_OK || (call->outcome == COBOT_TOO_LARGE && request->status >= 300))
		call->outcome = outcome_of_status(request);
	if (call->outcome == COBOT_OK)
		call->outcome = outcome_of_body(call);
	if (call->outcome == COBOT_RATE_LIMITED ||
		(call->outcome == COBOT_SERVER_ERROR && request->status == 503))
		call->retry_after_s = cobot_parse_retry_after(request->retry_after, time(NULL));
}

/* ---- running calls ---- */

static double
now_ms(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return INSTR_TIME_GET_MILLISEC(now);
}

/*
 * How long to wait before the next attempt, or -1 if there shall be none. What
 * has already cost its whole timeout, or what will not be different next time,
 * is not tried again.
 */
static double
retry_delay_ms(const CobotCall *call)
{
	double		asked_ms = call->retry_after_s * 1000.0;

	if (!call->is_read || call->attempts > smartspace_max_retries ||
		call->retry_after_s > smartspace_retry_wait_limit_s)
		return -1;
	if (call->outcome == COBOT_RATE_LIMITED && call->retry_after_s < 0)
		return -1;
	switch (call->outcome)
	{
		case COBOT_RATE_LIMITED:
		case COBOT_SERVER_ERROR:
		case COBOT_BROKEN_ANSWER:
		case COBOT_DNS_FAILURE:
		case COBOT_UNREACHABLE:
			return Max(asked_ms, 0) + backoff_delay(BACKOFF_FIRST_MS, BACKOFF_LIMIT_MS, call->attempts);
		default:
			return -1;
	}
}

/*
 * Puts the next attempt on the wire, or off until the rate limits allow it. A write is
 * never put off: what it was decided by would be old then.
 */
static void
start_attempt(CobotCall *call)
{
	CobotClient *client = call->client;
	double		wait_ms = client->user ? cobot_rate_reserve(client->user, call->endpoint, now_ms()) : 0;

	if (wait_ms > 0 && !call->is_read)
	{
		call->outcome = COBOT_RATE_LIMITED;
		call->retry_after_s = (int) (wait_ms / 1000) + 1;
		call->settled = true;
		return;
	}
	if (wait_ms > 0)
	{
		call->due_ms = now_ms() + wait_ms;
		return;
	}
	call->due_ms = 0;
	call->attempts++;
	client->requests++;
	call->request->urgent = client->urgent;
	http_start(call->request);
}

/* The same question once more (a read, so it has no body); what the failed attempt holds is freed. */
static void
renew_request(CobotCall *call)
{
	HttpRequest *failed = call->request;
	HttpRequest *request = cobot_new_request(call->client, failed->method, failed->url);

	request->bearer = failed->bearer;
	request->if_none_match = failed->if_none_match;
	call->request = request;
	MemoryContextDelete(GetMemoryChunkContext(failed));
}

void
cobot_note_request(const char *user, CobotEndpoint endpoint, double age_ms)
{
	cobot_rate_note(user, endpoint, now_ms() - age_ms);
}

void
cobot_start(CobotCall *call)
{
	start_attempt(call);
}

bool
cobot_advance(CobotCall *call)
{
	if (call->settled)
		return true;
	if (call->due_ms > 0)
	{
		if (call->due_ms > now_ms())
			return false;
		if (call->request->done)
			renew_request(call);
		start_attempt(call);
	}
	if (call->due_ms > 0 || !call->request->done)
		return false;

	settle(call);

	double		delay_ms = retry_delay_ms(call);

	if (delay_ms < 0)
		return call->settled = true;
	call->due_ms = now_ms() + delay_ms;
	elog(DEBUG1, "asking for %s again in %.0f ms: %s",
		 call->subject, delay_ms, cobot_outcome_label(call->outcome));
	return false;
}

long
cobot_wait_ms(CobotCall *const *calls, int count)
{
	double		next_ms = 0;

	for (int i = 0; i < count; i++)
		if (!calls[i]->settled && calls[i]->due_ms > 0 && (next_ms == 0 || calls[i]->due_ms < next_ms))
			next_ms = calls[i]->due_ms;
	/* rounded up: waking too early would mean a turn for nothing */
	return next_ms > 0 ? (long) Max(next_ms - now_ms(), 0) + 1 : -1;
}

void
cobot_abandon(CobotCall **calls, int count)
{
	for (int i = 0; i < count; i++)
		http_abandon(calls[i]->request);
}

static void
perform_all(CobotCall **calls, int count, void (*meanwhile) (void *), void *arg)
{
	for (int i = 0; i < count; i++)
		cobot_start(calls[i]);
	for (;;)
	{
		int			left = 0;

		for (int i = 0; i < count; i++)
			if (!cobot_advance(calls[i]))
				left++;
		if (left == 0)
			return;

		long		wait_ms = cobot_wait_ms(calls, count);

		if (meanwhile)
		{
			meanwhile(arg);
			wait_ms = wait_ms < 0 ? MEANWHILE_MS : Min(wait_ms, MEANWHILE_MS);
		}
		http_wait(wait_ms);
	}
}

void
cobot_perform_and(CobotCall **calls, int count, void (*meanwhile) (void *), void *arg)
{
	PG_TRY();
	{
		perform_all(calls, count, meanwhile, arg);
	}
	PG_CATCH();
	{
		cobot_abandon(calls, count);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

void
cobot_perform(CobotCall **calls, int count)
{
	cobot_perform_and(calls, count, NULL, NULL);
}

CobotCall *
cobot_first_failure(CobotCall **calls, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (calls[i]->outcome != COBOT_OK)
			return calls[i];
	}
	return NULL;
}
