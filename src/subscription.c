/*
 * subscription.c
 *	  Webhook subscriptions at Cobot: made, listed and deleted on purpose, by a
 *	  person who waits. Runs in the backend that calls, inside its transaction.
 *
 * Facts: Cobot's webhooks are not signed and do not say which event they are
 * about, so each event gets a callback of its own, whose last part is a secret of 32
 * random bytes. Cobot knows it, because it is in the URL that it calls; here is only
 * its SHA-256. Whether a subscription that Cobot lists is ours is told by that
 * digest alone.
 *
 * The row comes before the request: a POST whose answer got lost may have worked, and
 * the next call finds what it made in Cobot's list. Rows of subscriptions that Cobot
 * lists no more go. What differs (switched off, another callback) is made anew
 * before the old one is deleted, so that no event falls between them. A transaction
 * that is rolled back cannot take back what it made at Cobot; callbacks of such a
 * subscription have an unknown path, and Cobot gives them up by itself.
 *
 * The secret part must not get out of here in any other way than to Cobot: no
 * message contains a URL, and the list shows hosts only.
 */
#include "postgres.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "cobot_answer.h"
#include "lock.h"
#include "query.h"
#include "subscription.h"
#include "webhook_event.h"

PG_FUNCTION_INFO_V1(subscription_list_webhooks);
PG_FUNCTION_INFO_V1(subscription_delete_webhooks);

/* ---- what there is ---- */

static void
read_stored(Webhooks *webhooks)
{
	QueryArg	arg = query_int64(webhooks->integration.id);
	uint64		count = query_run("SELECT s.secret_digest, s.callback_url, s.cobot_id IS NOT NULL"
								  " FROM smartspace.cobot_webhook_subscription s WHERE s.integration_id = $1", 1, &arg);

	webhooks->stored = palloc0(sizeof(StoredSubscription) * Max(count, 1));
	webhooks->stored_count = (int) count;
	for (uint64 i = 0; i < count; i++)
	{
		webhook_secret_result_digest(i, 1, webhooks->stored[i].digest);
		webhooks->stored[i].callback_url = query_result_text(i, 2);
		webhooks->stored[i].has_cobot_id = query_result_bool(i, 3);
	}
}

/* The last part of a callback's path, which is the secret of one that is ours. */
static const char *
last_part(const char *callback_url)
{
	const char *slash = strrchr(callback_url, '/');

	return slash ? slash + 1 : callback_url;
}

static StoredSubscription *
find_stored(Webhooks *webhooks, const char *callback_url)
{
	uint8		digest[WEBHOOK_DIGEST_LENGTH];

	webhook_secret_digest(last_part(callback_url), digest);
	for (int i = 0; i < webhooks->stored_count; i++)
	{
		if (webhook_secret_same_digest(webhooks->stored[i].digest, digest))
			return &webhooks->stored[i];
	}
	return NULL;
}

static bool
read_listed(const cJSON *element, const char *where, ListedSubscription *listed, JsonError *error)
{
	CobotSubscription subscription;

	if (!cobot_read_subscription(element, where, &subscription, error))
		return false;
	listed->cobot_id = subscription.id;
	listed->event = subscription.event;
	listed->callback_url = subscription.callback_url;
	listed->active = subscription.active;
	return true;
}

static void raise_forbidden(const Webhooks *webhooks, const CobotCall *call, const char *scope) pg_attribute_noreturn();

static void
raise_forbidden(const Webhooks *webhooks, const CobotCall *call, const char *scope)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("%s; it needs the scope %s", cobot_failure_message(call), scope),
			 errdetail("%s", cobot_failure_detail(call)),
			 errhint("Add the scope %s to the OAuth client in Cobot, let an admin of \"%s\" authorise it again, and connect with the new token. If the token has the scope, its user is no admin any more.",
					 scope, webhooks->integration.subdomain)));
}

static void
ask_list(Webhooks *webhooks)
{
	CobotCall  *call = cobot_ask_subscriptions(&webhooks->client);
	JsonError	error;
	int			i = 0;

	cobot_perform(&call, 1);
	if (call->outcome == COBOT_FORBIDDEN)
		raise_forbidden(webhooks, call, "read_subscriptions");
	if (call->outcome != COBOT_OK)
		cobot_raise_call(call);

	const cJSON *list = cobot_answer(call, &error);
	const cJSON *element;

	if (list == NULL)
		cobot_raise_answer(call, &error);
	webhooks->listed = palloc0(sizeof(ListedSubscription) * Max(cJSON_GetArraySize(list), 1));
	cJSON_ArrayForEach(element, list)
	{
		ListedSubscription *listed = &webhooks->listed[i];

		if (!read_listed(element, psprintf("subscriptions[%d]", i), listed, &error))
			cobot_raise_answer(call, &error);

		StoredSubscription *own = find_stored(webhooks, listed->callback_url);

		if (own)
			own->listed = true;
		listed->own = own;
		i++;
	}
	webhooks->listed_count = i;
}

void
subscription_open(Webhooks *webhooks, FunctionCallInfo fcinfo)
{
	InitMaterializedSRF(fcinfo, 0);
	webhooks->result = (ReturnSetInfo *) fcinfo->resultinfo;
	webhooks->context = AllocSetContextCreate(CurrentMemoryContext, "smartspace_cobot webhooks",
											  ALLOCSET_DEFAULT_SIZES);

	SPI_connect();
	integration_load(&webhooks->integration, PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0), PG_ARGISNULL(0));
	integration_open_client(&webhooks->integration, &webhooks->client, webhooks->context);
	integration_wipe(&webhooks->integration);
}

void
subscription_close(Webhooks *webhooks)
{
	SPI_finish();
	MemoryContextDelete(webhooks->context);
}

void
subscription_put_result(Webhooks *webhooks, const char *event, const char *result, const char *message)
{
	Datum		values[] = {
		CStringGetTextDatum(event), CStringGetTextDatum(result),
		message ? CStringGetTextDatum(message) : (Datum) 0
	};
	bool		nulls[] = {false, false, message == NULL};

	tuplestore_putvalues(webhooks->result->setResult, webhooks->result->setDesc, values, nulls);
}

bool
subscription_leads_to(const ListedSubscription *listed, const char *callback_url)
{
	size_t		length = strlen(callback_url);

	return listed->own != NULL && strncmp(listed->callback_url, callback_url, length) == 0 &&
		listed->callback_url + length + 1 == last_part(listed->callback_url);
}

bool
subscription_is_for(const ListedSubscription *listed, const char *event)
{
	return listed->own != NULL && strcmp(listed->event, event) == 0;
}

void
subscription_forget(const uint8 *digest)
{
	QueryArg	arg = webhook_secret_query_digest(digest);

	query_run("DELETE FROM smartspace.cobot_webhook_subscription WHERE secret_digest = $1", 1, &arg);
}

/* Reads what is stored and asks Cobot for what it has. Throws if Cobot does not say. */
static void
look(Webhooks *webhooks)
{
	read_stored(webhooks);
	ask_list(webhooks);
}

void
subscription_look_and_lock(Webhooks *webhooks)
{
	lock_subscriptions(webhooks->integration.id);
	look(webhooks);
	for (int i = 0; i < webhooks->stored_count; i++)
	{
		if (!webhooks->stored[i].listed)
			subscription_forget(webhooks->stored[i].digest);
	}
}

bool
subscription_is_deleted(const CobotCall *call)
{
	return call->outcome == COBOT_OK || call->outcome == COBOT_NOT_FOUND;
}

CobotCall **
subscription_delete(Webhooks *webhooks)
{
	CobotCall **calls = palloc0(sizeof(CobotCall *) * Max(webhooks->listed_count, 1));
	CobotCall **sent = palloc(sizeof(CobotCall *) * Max(webhooks->listed_count, 1));
	int			count = 0;

	for (int i = 0; i < webhooks->listed_count; i++)
	{
		const ListedSubscription *listed = &webhooks->listed[i];

		if (listed->own && !listed->keep)
			calls[i] = sent[count++] = cobot_delete_subscription(&webhooks->client, listed->cobot_id);
	}
	cobot_perform(sent, count);
	for (int i = 0; i < webhooks->listed_count; i++)
	{
		if (calls[i] && subscription_is_deleted(calls[i]))
			subscription_forget(webhooks->listed[i].own->digest);
	}
	return calls;
}

void
subscription_check_forbidden(const Webhooks *webhooks, CobotCall **calls, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (calls[i]->outcome != COBOT_FORBIDDEN)
			return;
	}
	if (count > 0)
		raise_forbidden(webhooks, calls[0], "write_subscriptions");
}

/* By the ids alone: to ask for the list first would take one more scope. */
void
subscription_end(int64 integration, CobotClient *client, int *deleted, int *left)
{
	QueryArg	arg = query_int64(integration);

	lock_subscriptions(integration);

	uint64		count = query_run("SELECT s.secret_digest, s.cobot_id FROM smartspace.cobot_webhook_subscription s"
								  " WHERE s.integration_id = $1 ORDER BY s.cobot_id", 1, &arg);
	uint8		(*digests)[WEBHOOK_DIGEST_LENGTH] = palloc(sizeof(*digests) * Max(count, 1));
	CobotCall **calls = palloc(sizeof(CobotCall *) * Max(count, 1));
	int			sent = 0;

	for (uint64 i = 0; i < count && client; i++)
	{
		char	   *cobot_id = query_result_text(i, 2);

		if (cobot_id == NULL)
			continue;
		webhook_secret_result_digest(i, 1, digests[sent]);
		calls[sent++] = cobot_delete_subscription(client, cobot_id);
	}
	cobot_perform(calls, sent);
	*deleted = 0;
	for (int i = 0; i < sent; i++)
	{
		if (!subscription_is_deleted(calls[i]))
			continue;
		subscription_forget(digests[i]);
		(*deleted)++;
	}
	*left = (int) count - *deleted;
}

/* ---- list ---- */

/* Of a callback, what may be shown: the scheme and the host. Others' URLs may hold their secrets anywhere. */
static char *
host_of(const char *callback_url)
{
	const char *host = strstr(callback_url, "://");
	const char *end = host ? host + 3 + strcspn(host + 3, "/?#") : NULL;
	const char *user = host ? memchr(host, '@', end - host) : NULL;

	return host && user == NULL ? pnstrdup(callback_url, end - callback_url) : NULL;
}

static void
put_listed(Webhooks *webhooks, const ListedSubscription *listed)
{
	bool		ours = listed->own != NULL;
	bool		as_expected = ours && subscription_leads_to(listed, listed->own->callback_url);
	const char *note = !ours ? "made by somebody else, or before this database was restored" :
		!listed->active ? "Cobot switched it off because callbacks failed; run cobot_create_webhooks again" :
		!as_expected ? "it leads to another address than was asked for; run cobot_create_webhooks again" :
		"as it should be";
	char	   *host = host_of(listed->callback_url);
	Datum		values[] = {
		CStringGetTextDatum(listed->event), BoolGetDatum(listed->active), BoolGetDatum(ours),
		BoolGetDatum(as_expected), host ? CStringGetTextDatum(host) : (Datum) 0, CStringGetTextDatum(note)
	};
	bool		nulls[] = {false, false, false, false, host == NULL, false};

	tuplestore_putvalues(webhooks->result->setResult, webhooks->result->setDesc, values, nulls);
}

static void
put_missing(Webhooks *webhooks, const char *event)
{
	Datum		values[] = {
		CStringGetTextDatum(event), (Datum) 0, (Datum) 0, BoolGetDatum(false), (Datum) 0,
		CStringGetTextDatum("missing at Cobot; run cobot_create_webhooks")
	};
	bool		nulls[] = {false, true, true, false, true, false};

	tuplestore_putvalues(webhooks->result->setResult, webhooks->result->setDesc, values, nulls);
}

/*
 * cobot_list_webhooks(integration bigint) -> (event, active, ours, as_expected, host, note)
 */
Datum
subscription_list_webhooks(PG_FUNCTION_ARGS)
{
	Webhooks	webhooks = {0};

	subscription_open(&webhooks, fcinfo);
	look(&webhooks);
	for (int i = 0; i < webhook_event_count; i++)
	{
		bool		found = false;

		for (int j = 0; j < webhooks.listed_count && !found; j++)
			found = subscription_is_for(&webhooks.listed[j], webhook_events[i].name);
		if (!found && webhook_events[i].kind != WEBHOOK_IGNORED)
			put_missing(&webhooks, webhook_events[i].name);
	}
	for (int i = 0; i < webhooks.listed_count; i++)
		put_listed(&webhooks, &webhooks.listed[i]);
	subscription_close(&webhooks);
	PG_RETURN_NULL();
}

/* ---- delete ---- */

/*
 * cobot_delete_webhooks(integration bigint) -> (event, result, message)
 */
Datum
subscription_delete_webhooks(PG_FUNCTION_ARGS)
{
	Webhooks	webhooks = {0};
	int			sent = 0;

	PreventCommandIfReadOnly("cobot_delete_webhooks()");

	subscription_open(&webhooks, fcinfo);
	subscription_look_and_lock(&webhooks);

	CobotCall **calls = palloc(sizeof(CobotCall *) * Max(webhooks.listed_count, 1));
	CobotCall **deletions = subscription_delete(&webhooks);

	for (int i = 0; i < webhooks.listed_count; i++)
	{
		if (deletions[i])
			calls[sent++] = deletions[i];
	}
	subscription_check_forbidden(&webhooks, calls, sent);
	for (int i = 0; i < webhooks.listed_count; i++)
	{
		if (deletions[i] == NULL)
			continue;
		if (subscription_is_deleted(deletions[i]))
			subscription_put_result(&webhooks, webhooks.listed[i].event, "deleted", NULL);
		else
			subscription_put_result(&webhooks, webhooks.listed[i].event, "failed", cobot_failure_message(deletions[i]));
	}
	subscription_close(&webhooks);
	PG_RETURN_NULL();
}
