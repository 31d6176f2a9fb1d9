/*
 * webhook.c
 *	  What Cobot posts to the backend's callback, passed on by the backend. Runs
 *	  in the backend that calls, inside its transaction.
 *
 * A webhook is not signed, so it is a hint and nothing more: webhook_event.c gets an
 * id out of it, and the member is fetched with our own token by the same run that
 * cobot_sync_member() makes. Hints come in storms (an import at Cobot, one person who
 * clicks through a form) and at once, in many sessions. So:
 *
 * - Writing a hint down waits for nobody: each call inserts a row of its own into
 *	 cobot_webhook_hint. One row for each member with a counter would make the second
 *	 call for a member wait until the transaction of the first has ended, network
 *	 included; not to write it down would lose it, because the fetch that is under way
 *	 may have read the member before the change.
 * - What is to be done is decided in SQL, by cobot_pending_hints(), and done by
 *	 whoever has the lock of a run (lock_try_run(), one for each integration, held to
 *	 the end of the transaction). Without it a call looks first, so that one that has
 *	 nothing to do takes no lock; with it, it looks again, and then nobody else
 *	 decides, and all that others decided is committed and visible. So no member is
 *	 fetched twice for the same hints.
 * - Who does not get the lock goes away; the hint stays pending. Whoever has it looks
 *	 again after each round and takes up what came meanwhile, a bounded number of times.
 * - Hints are deleted by the ids that were seen before the fetch, or by the start
 *	 of a good run of the whole space: a hint that came later stays. Only the holder of
 *	 the lock deletes, so nobody waits for that either.
 *
 * A call that throws leaves nothing behind, and the backend answers Cobot with an
 * error, so that Cobot sends the webhook again.
 *
 * Above READ COMMITTED the second look sees no more than the first: a member may
 * then be fetched once more than necessary.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "integration.h"
#include "lock.h"
#include "query.h"
#include "statement.h"
#include "sync_member.h"
#include "wake.h"
#include "webhook_event.h"
#include "webhook_pending.h"
#include "webhook_secret.h"

PG_FUNCTION_INFO_V1(webhook_told);
PG_FUNCTION_INFO_V1(webhook_received);
PG_FUNCTION_INFO_V1(webhook_process_hints);

/* Of an event's name in messages. */
#define EVENT_QUOTED_BYTES 100

/* Facts: a payload is a URL, with the record beside it after a deletion. */
#define PAYLOAD_LIMIT_BYTES (1024 * 1024)

/* How often one call looks for what came while it was busy. */
#define ROUNDS 3

/* What one call did about pending hints. */
typedef struct Progress
{
	int			fetched;		/* members, one by one */
	bool		all;			/* synchronised all at once */
	bool		busy;			/* another run of the integration is under way */
	char	   *failure;		/* in words; NULL: none */
} Progress;

/* ---- pending hints ---- */

/* False: something is in the way, and the rest stays pending. */
static bool
fetch_member(int64 integration, const PendingMember *member, Progress *progress)
{
	TimestampTz started_at = GetCurrentTimestamp();

	if (!sync_member_by_cobot_id(integration, member->cobot_id, true))
	{
		progress->busy = true;
		return false;
	}

	progress->failure = webhook_settle_member(integration, member, started_at);
	if (progress->failure)
		return false;
	progress->fetched++;
	return true;
}

static bool
fetch_all(int64 integration, Progress *progress)
{
	if (!sync_whole(integration))
	{
		progress->busy = true;
		return false;
	}
	progress->failure = webhook_last_failure(integration);
	if (progress->failure)
		return false;
	progress->all = true;
	return true;
}

/* Does what is due, as far as it goes. */
static void
take_up(int64 integration, Progress *progress)
{
	for (int round = 0; round < ROUNDS; round++)
	{
		Pending		pending;
		bool		done = true;

		webhook_look(integration, &pending);
		if (!pending.due)
			return;
		if (!lock_try_run(integration))
		{
			progress->busy = true;
			return;
		}
		webhook_look(integration, &pending);
		if (!pending.due)
			return;
		if (pending.all_at_once)
			done = fetch_all(integration, progress);
		else
		{
			for (int i = 0; i < pending.count && done; i++)
				if (pending.member[i].due)
					done = fetch_member(integration, &pending.member[i], progress);
		}
		webhook_tidy(integration);
		if (!done)
			return;
	}
}

/* Why Cobot is not asked about this integration, in words; NULL if it can be asked. */
static char *
why_not_asked(const Integration *integration)
{
	if (strcmp(integration->state, "paused") == 0)
		return psprintf("ignored: integration \"%s\" is paused", integration->name);
	if (!integration_has_token(integration))
		return psprintf("ignored: integration \"%s\" is not connected to Cobot", integration->name);
	return NULL;
}

/* ---- one webhook ---- */

static int64
store_hint(int64 integration, const char *cobot_id)
{
	QueryArg	args[] = {query_int64(integration), query_text(cobot_id[0] != '\0' ? cobot_id : NULL)};

	query_run("INSERT INTO smartspace.cobot_webhook_hint (integration_id, cobot_id) VALUES ($1, $2) RETURNING id",
			  lengthof(args), args);
	return query_result_int64(0, 1);
}

/* What became of one hint. The worker sees to one that is pending. */
static char *
in_words(int64 integration, int64 hint, const Progress *progress)
{
	QueryArg	args[] = {query_int64(integration), query_int64(hint)};

	if (query_run("SELECT FROM smartspace.cobot_webhook_hint h WHERE h.id = $2 AND h.integration_id = $1", lengthof(args), args) == 0)
		return pstrdup(progress->all ? "synchronised together with all members" : "synchronised");
	wake_at_commit();
	if (progress->busy)
		return pstrdup("pending: another synchronisation is under way");
	if (progress->failure)
		return psprintf("pending: %s", progress->failure);
	if (query_run("SELECT p.why FROM smartspace.cobot_pending_hints($1) p WHERE $2 = ANY (p.ids) AND p.why IS NOT NULL",
				  lengthof(args), args) > 0)
		return psprintf("pending: %s", query_result_text(0, 1));
	return pstrdup("pending: the next call takes it up");
}

/* The payload as a tree, malloc'd; NULL with an error. */
static cJSON *
read_payload(Jsonb *payload, JsonError *error)
{
	if (payload == NULL)
		json_fail(error, "", "", "is null, expected an object");
	else if (VARSIZE(payload) > PAYLOAD_LIMIT_BYTES)
		json_fail(error, "", "", "is larger than 1 MB");
	else
	{
		char	   *text = JsonbToCString(NULL, &payload->root, VARSIZE(payload));

		if (json_check(text, strlen(text), error))
			return json_parse(text, strlen(text), "", error);
	}
	return NULL;
}

/* What a webhook comes to; in *answer, words for one that is ignored. Nothing is thrown while the tree is there. */
static bool
read_hint(const Integration *integration, const char *event, Jsonb *payload, WebhookHint *hint, char **answer)
{
	JsonError	error;
	const WebhookEvent *known = webhook_event_find(event);
	bool		wanted = known != NULL && known->kind != WEBHOOK_IGNORED;
	cJSON	   *tree = wanted ? read_payload(payload, &error) : NULL;
	bool		good = (tree != NULL || !wanted) && webhook_read(event, tree, integration->subdomain, hint, &error);
	char		shown[EVENT_QUOTED_BYTES + 1];
	int			length = pg_mbcliplen(event, (int) strlen(event), EVENT_QUOTED_BYTES);

	cJSON_Delete(tree);
	memcpy(shown, event, length);
	shown[length] = '\0';
	if (!good)
	{
		*answer = psprintf("ignored: the payload%s%s %s", error.path[0] != '\0' ? "'s " : "", error.path, error.message);
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("webhook \"%s\" for integration \"%s\" is %s", shown, integration->name, *answer),
				 errhint("If Cobot sent it, its webhooks have changed: report it. Synchronisations go on without them.")));
		return false;
	}
	if (hint->kind == WEBHOOK_IGNORED)
	{
		*answer = psprintf(hint->is_known ? "ignored: event \"%s\" says nothing about members" : "ignored: unknown event \"%s\"",
						   shown);
		ereport(NOTICE, (errmsg("webhook for integration \"%s\" is %s", integration->name, *answer)));
		return false;
	}
	return true;
}

/* The caller has connected to SPI. */
static char *
receive(int64 id, bool is_null, const char *event, Jsonb *payload)
{
	Integration integration;
	WebhookHint hint;
	Progress	progress = {0};
	char	   *answer;

	integration_load(&integration, id, is_null);
	answer = why_not_asked(&integration);
	integration_wipe(&integration);
	if (answer || !read_hint(&integration, event, payload, &hint, &answer))
		return answer;

	int64		stored = store_hint(id, hint.cobot_id);

	/* no error, after ten of which Cobot would call no more: the key will come back */
	if (secret_reason(integration.token.state))
		progress.failure = integration.token.detail;
	else
		take_up(id, &progress);
	return in_words(id, stored, &progress);
}

/*
 * cobot_webhook(integration bigint, event text, payload jsonb) -> text
 */
Datum
webhook_told(PG_FUNCTION_ARGS)
{
	PreventCommandIfReadOnly("cobot_webhook()");
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the event must not be null"),
				 errhint("Cobot does not say it in the payload: use one callback for each event.")));

	SPI_connect();
	return query_finish_text(receive(PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0), PG_ARGISNULL(0),
							   text_to_cstring(PG_GETARG_TEXT_PP(1)),
							   PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2)));
}

/*
 * Finds integration and event of a secret part. The index looks for a digest, of
 * which nobody can choose the first bytes, and not for the secret itself; what it
 * finds is compared in constant time.
 */
static bool
find_subscription(const char *secret, int64 *integration, char **event)
{
	uint8		digest[WEBHOOK_DIGEST_LENGTH];
	uint8		stored[WEBHOOK_DIGEST_LENGTH];

	webhook_secret_digest(secret, digest);

	QueryArg	arg = webhook_secret_query_digest(digest);

	if (query_run("SELECT s.secret_digest, s.integration_id, s.event FROM smartspace.cobot_webhook_subscription s"
				  " WHERE s.secret_digest = $1", 1, &arg) == 0)
		return false;
	webhook_secret_result_digest(0, 1, stored);
	*integration = query_result_int64(0, 2);
	*event = query_result_text(0, 3);
	return webhook_secret_same_digest(digest, stored);
}

/*
 * cobot_webhook_received(secret_path_part text, payload jsonb) -> text
 */
Datum
webhook_received(PG_FUNCTION_ARGS)
{
	ErrorContextCallback *callers = statement_hide();
	int64		integration;
	char	   *event;
	const char *answer = "ignored: unknown path";

	PreventCommandIfReadOnly("cobot_webhook_received()");

	SPI_connect();
	if (!PG_ARGISNULL(0) && find_subscription(text_to_cstring(PG_GETARG_TEXT_PP(0)), &integration, &event))
		answer = receive(integration, false, event, PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1));
	error_context_stack = callers;
	return query_finish_text(answer);
}

/*
 * cobot_process_hints(integration bigint) -> text
 */
Datum
webhook_process_hints(PG_FUNCTION_ARGS)
{
	Integration integration;
	Progress	progress = {0};
	StringInfoData words;

	PreventCommandIfReadOnly("cobot_process_hints()");

	SPI_connect();
	integration_load(&integration, PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0), PG_ARGISNULL(0));

	char	   *ignored = why_not_asked(&integration);
	QueryArg	arg = query_int64(integration.id);

	integration_wipe(&integration);
	if (ignored)
		return query_finish_text(ignored);
	take_up(integration.id, &progress);

	initStringInfo(&words);
	if (progress.all)
		appendStringInfoString(&words, "synchronised all members");
	else if (progress.fetched > 0)
		appendStringInfo(&words, "synchronised %d %s", progress.fetched, progress.fetched == 1 ? "member" : "members");
	if (query_run("SELECT pg_catalog.count(*), pg_catalog.min(p.why) FROM smartspace.cobot_pending_hints($1) p"
				  " HAVING pg_catalog.count(*) > 0", 1, &arg) > 0)
	{
		const char *why = progress.busy ? "another synchronisation is under way" :
			progress.failure ? progress.failure : query_result_text(0, 2);

		appendStringInfo(&words, "%s%lld pending%s%s", words.len > 0 ? ", " : "",
						 (long long) query_result_int64(0, 1), why ? ": " : "", why ? why : "");
	}
	return query_finish_text(words.len > 0 ? words.data : "nothing to do");
}
