/*
 * cobot_client.c
 *	  Cobot's HTTP API: URLs and tokens, retries, and what an answer means. Runs
 *	  in any backend or background worker, inside or outside a transaction; only
 *	  cobot_perform() waits.
 *
 * Each attempt has a small memory context of its own below the client's, so that
 * the body of a failed one is gone before the next one arrives.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "portability/instr_time.h"
#include "utils/memutils.h"

#include "cobot_client.h"
#include "smartspace_cobot.h"

#define COBOT_WWW "https://www.cobot.me"

#define BACKOFF_FIRST_MS 250
#define BACKOFF_LIMIT_MS 8000
#define BACKOFF_JITTER 0.25

/* ---- questions ---- */

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

/* A text as one segment of a URL's path, palloc'd. */
static char *
encode(const char *text)
{
	char	   *encoded = palloc(COBOT_PERCENT_ENCODED_SIZE(text));

	cobot_percent_encode(encoded, text);
	return encoded;
}

static char *
encode_token(const CobotClient *client)
{
	if (client->token == NULL)
		elog(ERROR, "Cobot client has no token");
	return encode(client->token);
}

/* An URL of the client's space. */
static char *
space_url(const CobotClient *client, const char *path)
{
	return psprintf("https://%s.cobot.me%s", client->subdomain, path);
}

static HttpRequest *
new_request(CobotClient *client, const char *method, const char *url)
{
	MemoryContext context = AllocSetContextCreate(client->context, "Cobot request",
												  ALLOCSET_SMALL_SIZES);

	return http_request_create(context, method, url);
}

/*
 * Takes over url, which may hold a token, and subject. A call that was never
 * performed must not look like a success.
 */
static CobotCall *
new_call(CobotClient *client, const char *method, char *url, char *subject)
{
	CobotCall  *call = MemoryContextAllocZero(client->context, sizeof(CobotCall));

	call->client = client;
	call->subject = MemoryContextStrdup(client->context, subject);
	call->is_read = strcmp(method, "GET") == 0;
	call->outcome = COBOT_LOCAL_FAILURE;
	call->retry_after_s = -1;
	call->request = new_request(client, method, url);
	call->request->bearer = client->token;
	pfree(url);
	pfree(subject);
	return call;
}

static CobotCall *
ask_list(CobotClient *client, const char *path, const char *what, const char *id_key)
{
	CobotCall  *call = new_call(client, "GET", space_url(client, path),
								psprintf("%s of \"%s\"", what, client->subdomain));

	call->expect_array = true;
	call->id_key = id_key;
	return call;
}

/*
 * Gives the call a JSON body, which is freed even if there is no memory left for
 * the copy that the call needs.
 */
static void
set_body(CobotCall *call, char *json)
{
	if (json == NULL)
		ereport(ERROR,
				errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("out of memory"),
				errdetail("Failed on a request body for Cobot."));
	PG_TRY();
	{
		call->request->body = MemoryContextStrdup(call->client->context, json);
	}
	PG_FINALLY();
	{
		cJSON_free(json);
	}
	PG_END_TRY();
	call->request->body_length = strlen(call->request->body);
	call->request->content_type = "application/json";
}

CobotCall *
cobot_ask_space(CobotClient *client)
{
	CobotCall  *call = new_call(client, "GET",
								psprintf(COBOT_WWW "/api/spaces/%s", client->subdomain),
								psprintf("the space \"%s\"", client->subdomain));

	call->request->bearer = NULL;
	return call;
}

CobotCall *
cobot_ask_user(CobotClient *client)
{
	return new_call(client, "GET", pstrdup(COBOT_WWW "/api/user"),
					pstrdup("the Cobot user of the token"));
}

CobotCall *
cobot_ask_token_scopes(CobotClient *client)
{
	char	   *token = encode_token(client);
	CobotCall  *call = new_call(client, "GET", psprintf(COBOT_WWW "/api/access_tokens/%s", token),
								pstrdup("the scopes of the token"));

	pfree(token);
	return call;
}

CobotCall *
cobot_ask_space_token(CobotClient *client, const char *space_id)
{
	char	   *token = encode_token(client);
	CobotCall  *call = new_call(client, "POST",
								psprintf(COBOT_WWW "/api/access_tokens/%s/space", token),
								psprintf("a space token for \"%s\"", client->subdomain));
	cJSON	   *body = cJSON_CreateObject();
	char	   *json = NULL;

	if (cJSON_AddStringToObject(body, "space_id", space_id) != NULL)
		json = cJSON_PrintUnformatted(body);
	cJSON_Delete(body);
	set_body(call, json);
	pfree(token);
	return call;
}

CobotCall *
cobot_ask_plans(CobotClient *client)
{
	return ask_list(client, "/api/plans", "the plans", "id");
}

CobotCall *
cobot_ask_memberships(CobotClient *client)
{
	return ask_list(client, "/api/memberships", "the members", "id");
}

CobotCall *
cobot_ask_member_emails(CobotClient *client)
{
	return ask_list(client, "/api/memberships?attributes=id,email", "the members", "id");
}

CobotCall *
cobot_ask_membership(CobotClient *client, const char *cobot_id)
{
	char	   *id = encode(cobot_id);
	CobotCall  *call = new_call(client, "GET",
								psprintf("https://%s.cobot.me/api/memberships/%s",
										 client->subdomain, id),
								psprintf("the member \"%s\" of \"%s\"",
										 cobot_id, client->subdomain));

	pfree(id);
	return call;
}

CobotCall *
cobot_ask_member_fields(CobotClient *client, const char *cobot_id)
{
	char	   *id = encode(cobot_id);
	CobotCall  *call = new_call(client, "GET",
								psprintf("https://%s.cobot.me/api/memberships/%s/custom_fields",
										 client->subdomain, id),
								psprintf("the custom fields of the member \"%s\" of \"%s\"",
										 cobot_id, client->subdomain));

	pfree(id);
	return call;
}

CobotCall *
cobot_ask_custom_fields(CobotClient *client)
{
	return ask_list(client, "/api/custom_fields", "the custom fields", "membership_id");
}

CobotCall *
cobot_ask_field_definitions(CobotClient *client)
{
	return ask_list(client, "/api/space/custom_fields", "the custom field definitions", "id");
}

CobotCall *
cobot_put_field_definitions(CobotClient *client, const cJSON *current, const char *label)
{
	CobotCall  *call = new_call(client, "PUT", space_url(client, "/api/space/custom_fields"),
								psprintf("the custom field definitions of \"%s\"",
										 client->subdomain));
	cJSON	   *list = cJSON_Duplicate(current, true);
	cJSON	   *added = cJSON_CreateObject();
	char	   *json = NULL;

	/* every step must have worked: a list that lacks something must not be sent */
	if (cJSON_AddStringToObject(added, "label", label) == NULL || !cJSON_AddItemToArray(list, added))
		cJSON_Delete(added);
	else if (cJSON_GetArraySize(list) == cJSON_GetArraySize(current) + 1)
		json = cJSON_PrintUnformatted(list);
	cJSON_Delete(list);

	call->expect_array = true;
	call->id_key = "id";
	set_body(call, json);
	return call;
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
outcome_of_status(long status)
{
	switch (status)
	{
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
	switch (status / 100)
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
		call->outcome = outcome_of_status(request->status);
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

/* The jitter keeps the calls that failed together from coming back together. */
static double
backoff_ms(int attempts)
{
	double		delay_ms = BACKOFF_FIRST_MS;

	for (int i = 1; i < attempts && delay_ms < BACKOFF_LIMIT_MS; i++)
		delay_ms *= 2;
	delay_ms *= 1 - BACKOFF_JITTER + 2 * BACKOFF_JITTER * pg_prng_double(&pg_global_prng_state);
	return Min(delay_ms, BACKOFF_LIMIT_MS);
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
			return Max(asked_ms, 0) + backoff_ms(call->attempts);
		default:
			return -1;
	}
}

static void
start_attempt(CobotCall *call)
{
	call->attempts++;
	call->client->requests++;
	http_start(call->request);
}

/* The same question once more (a read, so it has no body); what the failed attempt holds is freed. */
static void
start_again(CobotCall *call)
{
	HttpRequest *failed = call->request;
	HttpRequest *request = new_request(call->client, failed->method, failed->url);

	request->bearer = failed->bearer;
	call->request = request;
	MemoryContextDelete(GetMemoryChunkContext(failed));
	start_attempt(call);
}

/*
 * Brings one call forward. due_ms is when its next attempt shall start, or 0
 * while one is under way; gives true once nothing more will come.
 */
static bool
advance(CobotCall *call, double *due_ms)
{
	if (*due_ms > 0)
	{
		if (*due_ms > now_ms())
			return false;
		*due_ms = 0;
		start_again(call);
	}
	if (!call->request->done)
		return false;

	settle(call);

	double		delay_ms = retry_delay_ms(call);

	if (delay_ms < 0)
		return true;
	*due_ms = now_ms() + delay_ms;
	elog(DEBUG1, "asking for %s again in %.0f ms: %s",
		 call->subject, delay_ms, cobot_outcome_label(call->outcome));
	return false;
}

/* Settles all calls. due_ms and ended have one entry for each. */
static void
perform_all(CobotCall **calls, int count, double *due_ms, bool *ended)
{
	int			left = count;

	for (int i = 0; i < count; i++)
		start_attempt(calls[i]);
	while (left > 0)
	{
		double		next_ms = 0;
		long		timeout_ms = -1;

		for (int i = 0; i < count; i++)
		{
			if (!ended[i])
			{
				ended[i] = advance(calls[i], &due_ms[i]);
				if (ended[i])
					left--;
			}
			if (due_ms[i] > 0 && (next_ms == 0 || due_ms[i] < next_ms))
				next_ms = due_ms[i];
		}
		/* rounded up: waking too early would mean a turn for nothing */
		if (next_ms > 0)
			timeout_ms = (long) Max(next_ms - now_ms(), 0) + 1;
		if (left > 0)
			http_wait(timeout_ms);
	}
}

void
cobot_perform(CobotCall **calls, int count)
{
	double	   *due_ms = palloc0(count * sizeof(double));
	bool	   *ended = palloc0(count * sizeof(bool));

	PG_TRY();
	{
		perform_all(calls, count, due_ms, ended);
	}
	PG_CATCH();
	{
		for (int i = 0; i < count; i++)
			http_abandon(calls[i]->request);
		PG_RE_THROW();
	}
	PG_END_TRY();
	pfree(due_ms);
	pfree(ended);
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
