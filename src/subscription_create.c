/*
 * subscription_create.c
 *	  Makes the webhook subscriptions that Cobot lacks, and renews those that will
 *	  not do; see subscription.c for the whole. Runs in the backend that calls.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "query.h"
#include "subscription.h"
#include "webhook_event.h"

PG_FUNCTION_INFO_V1(subscription_create_webhooks);

#define CALLBACK_LENGTH_LIMIT 1000
#define SCHEME "https://"

/* What becomes of one event in cobot_create_webhooks(). */
typedef struct Wanted
{
	const char *event;
	bool		renewal;		/* there is one of ours that will not do */
	CobotCall  *call;			/* NULL: present */
	uint8		digest[WEBHOOK_DIGEST_LENGTH];
	const char *result;
	char	   *message;
} Wanted;

static void
store(const Webhooks *webhooks, const Wanted *wanted, const char *callback_url)
{
	QueryArg	args[] = {
		webhook_secret_query_digest(wanted->digest), query_int64(webhooks->integration.id),
		query_text(wanted->event), query_text(callback_url)
	};

	query_run("INSERT INTO smartspace.cobot_webhook_subscription (secret_digest, integration_id, event, callback_url)"
			  " VALUES ($1, $2, $3, $4)", lengthof(args), args);
}

static void
store_cobot_id(const uint8 *digest, const char *cobot_id)
{
	QueryArg	args[] = {webhook_secret_query_digest(digest), query_text(cobot_id)};

	query_run("UPDATE smartspace.cobot_webhook_subscription SET cobot_id = $2 WHERE secret_digest = $1",
			  lengthof(args), args);
}

/* The callback without a slash at its end. Others than https would show the secret part on the way. */
static char *
checked_callback_url(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the callback URL must not be null")));

	char	   *url = text_to_cstring(PG_GETARG_TEXT_PP(1));
	size_t		length = strlen(url);
	const char *wrong = NULL;

	while (length > 0 && url[length - 1] == '/')
		url[--length] = '\0';

	if (length > CALLBACK_LENGTH_LIMIT)
		wrong = "is longer than " CppAsString2(CALLBACK_LENGTH_LIMIT) " characters";
	for (const char *c = url; *c != '\0' && wrong == NULL; c++)
	{
		if (*c <= ' ' || *c > '~')
			wrong = "contains a blank, a control character or one that is not ASCII";
		else if (strchr("?#@\\\"<>", *c) != NULL)
			wrong = "contains a character that has no place in it, such as ? or #";
	}
	if (wrong == NULL && (strncmp(url, SCHEME, strlen(SCHEME)) != 0 || strchr("/:", url[strlen(SCHEME)]) != NULL))
		wrong = "does not begin with https:// and a host";
	if (wrong)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid callback URL"),
				 errdetail("It %s.", wrong),
				 errhint("Give the public address of the backend that Cobot shall call, such as https://backend.example/cobot. A secret part is put behind it.")));
	return url;
}

/* Says what is to be done for one event; for what is missing, the row and the request. */
static void
plan_event(Webhooks *webhooks, const char *event, const char *callback_url, Wanted *wanted)
{
	*wanted = (Wanted) {.event = event};
	for (int i = 0; i < webhooks->listed_count; i++)
	{
		ListedSubscription *listed = &webhooks->listed[i];

		if (!subscription_is_for(listed, event))
			continue;
		if (listed->active && subscription_leads_to(listed, callback_url))
		{
			listed->keep = true;
			wanted->result = "present";
			if (!listed->own->has_cobot_id)
				store_cobot_id(listed->own->digest, listed->cobot_id);
			return;
		}
		wanted->renewal = true;
	}

	char		secret[WEBHOOK_SECRET_LENGTH + 1];

	webhook_secret_create(secret);
	webhook_secret_digest(secret, wanted->digest);
	store(webhooks, wanted, callback_url);

	char	   *whole_url = psprintf("%s/%s", callback_url, secret);

	wanted->call = cobot_post_subscription(&webhooks->client, event, whole_url);
	explicit_bzero(secret, sizeof(secret));
	explicit_bzero(whole_url, strlen(whole_url));
}

/* True if Cobot certainly did not make it. Anything else may have worked, though nobody heard of it. */
static bool
is_refusal(CobotOutcome outcome)
{
	switch (outcome)
	{
		case COBOT_UNAUTHORIZED:
		case COBOT_SUSPENDED:
		case COBOT_FORBIDDEN:
		case COBOT_NOT_FOUND:
		case COBOT_REJECTED:
		case COBOT_RATE_LIMITED:
		case COBOT_REDIRECTED:
			return true;
		default:
			return false;
	}
}

static void
settle_event(Webhooks *webhooks, Wanted *wanted)
{
	JsonError	error;

	if (wanted->call == NULL)
		return;
	if (wanted->call->outcome != COBOT_OK)
	{
		wanted->result = "failed";
		wanted->message = psprintf("%s (%s)", cobot_failure_message(wanted->call), cobot_failure_detail(wanted->call));
		if (is_refusal(wanted->call->outcome))
			subscription_forget(wanted->digest);

		/* until there is a new one, the old one is better than none */
		for (int i = 0; i < webhooks->listed_count; i++)
			webhooks->listed[i].keep |= subscription_is_for(&webhooks->listed[i], wanted->event);
		return;
	}
	wanted->result = wanted->renewal ? "renewed" : "created";

	/* an answer without an id is no harm: the next list has it */
	const cJSON *answer = cobot_answer(wanted->call, &error);
	const char *cobot_id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(answer, "id"));

	if (cobot_id)
		store_cobot_id(wanted->digest, cobot_id);
}

/* What cobot_create_webhooks() says of the old ones that are not needed any more. */
static void
report_old(Webhooks *webhooks, CobotCall **calls, Wanted *wanted, int count)
{
	for (int i = 0; i < webhooks->listed_count; i++)
	{
		if (calls[i] == NULL || subscription_is_deleted(calls[i]))
			continue;
		for (int j = 0; j < count; j++)
		{
			if (subscription_is_for(&webhooks->listed[i], wanted[j].event))
				wanted[j].message = psprintf("the one before is still there: %s", cobot_failure_message(calls[i]));
		}
	}
}

/*
 * cobot_create_webhooks(integration bigint, callback_url text) -> (event, result, message)
 */
Datum
subscription_create_webhooks(PG_FUNCTION_ARGS)
{
	Webhooks	webhooks = {0};
	Wanted	   *wanted = palloc(sizeof(Wanted) * webhook_event_count);
	CobotCall **calls = palloc(sizeof(CobotCall *) * webhook_event_count);
	int			count = 0,
				missing = 0;

	PreventCommandIfReadOnly("cobot_create_webhooks()");

	char	   *callback_url = checked_callback_url(fcinfo);

	subscription_open(&webhooks, fcinfo);
	subscription_look_and_lock(&webhooks);

	for (int i = 0; i < webhook_event_count; i++)
	{
		if (webhook_events[i].kind == WEBHOOK_IGNORED)
			continue;
		plan_event(&webhooks, webhook_events[i].name, callback_url, &wanted[count]);
		if (wanted[count].call)
			calls[missing++] = wanted[count].call;
		count++;
	}
	cobot_perform(calls, missing);
	subscription_check_forbidden(&webhooks, calls, missing);
	for (int i = 0; i < count; i++)
		settle_event(&webhooks, &wanted[i]);

	report_old(&webhooks, subscription_delete(&webhooks), wanted, count);
	for (int i = 0; i < count; i++)
		subscription_put_result(&webhooks, wanted[i].event, wanted[i].result, wanted[i].message);
	subscription_close(&webhooks);
	PG_RETURN_NULL();
}

