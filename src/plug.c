/*
 * plug.c
 *	  The plug: an admin of a space connects an integration in the browser, and somebody
 *	  pulls it again. Runs in the backend that calls, inside its transaction.
 *
 * cobot_connect_url() sends the admin to Cobot, cobot_connect() takes what comes back.
 * The token that the code is exchanged for goes the same way as a pasted one (connect.c),
 * and ends when it is swapped for the space's own. That the admin says no is a result;
 * everything else that goes wrong is an error, and leaves the integration as it was.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "argument.h"
#include "connect.h"
#include "integration.h"
#include "oauth.h"
#include "query.h"
#include "statement.h"
#include "subscription.h"

PG_FUNCTION_INFO_V1(plug_connect_url);
PG_FUNCTION_INFO_V1(plug_connect);
PG_FUNCTION_INFO_V1(plug_set_client);
PG_FUNCTION_INFO_V1(plug_disconnect);

static void
load(FunctionCallInfo fcinfo, Integration *integration)
{
	integration_load(integration, PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0), PG_ARGISNULL(0));
}

/* ---- the OAuth client ---- */

/*
 * cobot_set_client(integration bigint, client_id text, client_secret text) -> void
 */
Datum
plug_set_client(PG_FUNCTION_ARGS)
{
	ErrorContextCallback *callers = statement_hide();
	Integration integration;

	PreventCommandIfReadOnly("cobot_set_client()");

	char	   *client_id = argument_required_text(fcinfo, 1, "client id");
	char	   *client_secret = argument_required_text(fcinfo, 2, "client secret");

	oauth_check_client(client_id, client_secret);
	SPI_connect();
	load(fcinfo, &integration);
	integration_wipe(&integration);
	integration_lock(integration.id);

	QueryArg	id_args[] = {query_int64(integration.id), query_text(client_id)};
	query_run("UPDATE smartspace.cobot_integration SET client_id = $2 WHERE id = $1", lengthof(id_args), id_args);
	secret_store(SECRET_CLIENT_SECRET, integration.id, client_secret);
	explicit_bzero(client_secret, strlen(client_secret));
	SPI_finish();
	error_context_stack = callers;
	PG_RETURN_VOID();
}

/* ---- connect ---- */

/*
 * cobot_connect_url(integration bigint, redirect_uri text) -> text
 */
Datum
plug_connect_url(PG_FUNCTION_ARGS)
{
	Integration integration;
	OauthClient client;
	OauthFlow	flow = {.purpose = OAUTH_CONNECT};

	PreventCommandIfReadOnly("cobot_connect_url()");
	flow.redirect_uri = argument_required_text(fcinfo, 1, "redirect URI");

	const char *wrong = oauth_check_redirect_uri(flow.redirect_uri);

	if (wrong)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid redirect URI"),
				 errdetail("It %s.", wrong),
				 errhint("Give the address of the backend that is registered for the OAuth client in Cobot, such as https://backend.example/cobot/connected.")));

	SPI_connect();
	load(fcinfo, &integration);
	integration_wipe(&integration);
	home_require(&integration.home, integration.id, integration.name);
	integration_load_client(&integration, &client);
	oauth_wipe_client(&client);

	QueryArg	arg = query_int64(integration.id);

	query_run("SELECT i.oauth_scope FROM smartspace.cobot_integration i WHERE i.id = $1", 1, &arg);
	flow.owner = integration.id;
	flow.scope = query_result_text(0, 1);
	return query_finish_text(oauth_begin(&flow, client.id, integration.subdomain));
}

/* What cobot_connect() returns. message: why not, else NULL. */
static Datum
connect_result(TupleDesc tupdesc, int64 integration, const char *state, const Connected *connected, const char *message)
{
	Datum		values[] = {
		Int64GetDatum(integration), CStringGetTextDatum(state),
		connected && connected->space_name ? CStringGetTextDatum(connected->space_name) : (Datum) 0,
		connected ? CStringGetTextDatum(connected->time_zone) : (Datum) 0,
		connected ? connected->granted_scope : (Datum) 0,
		connected ? connected->missing_scope : (Datum) 0,
		connected ? CStringGetTextDatum(connected->custom_field) : (Datum) 0,
		message ? CStringGetTextDatum(message) : (Datum) 0
	};
	bool		nulls[] = {
		false, false, connected == NULL || connected->space_name == NULL, connected == NULL, connected == NULL,
		connected == NULL, connected == NULL, message == NULL
	};

	return PointerGetDatum(SPI_returntuple(heap_form_tuple(tupdesc, values, nulls), tupdesc));
}

static void
connect_with_code(const Integration *integration, const OauthFlow *flow, const char *code, MemoryContext context,
				  Connected *connected)
{
	OauthClient client;
	CobotClient cobot;

	integration_load_client(integration, &client);
	integration_open_client_with(integration, &cobot, context, NULL);

	char	   *token = oauth_exchange(&cobot, flow, &client, code);

	oauth_wipe_client(&client);
	connect_integration(integration, context, token, true, connected);
	explicit_bzero(token, strlen(token));
}

/* What Cobot sent the person back with. */
typedef struct Return
{
	char	   *state;
	char	   *code;
	char	   *error;
	char	   *error_description;
	char	   *redirect_uri;
} Return;

static Return
read_return(FunctionCallInfo fcinfo)
{
	Return		came = {
		.state = argument_given_text(fcinfo, 0), .code = argument_given_text(fcinfo, 1), .error = argument_given_text(fcinfo, 2),
		.error_description = argument_given_text(fcinfo, 3), .redirect_uri = argument_given_text(fcinfo, 4)
	};

	if (came.state == NULL || (came.code == NULL && came.error == NULL))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 came.state == NULL ? errmsg("there is no state") : errmsg("there is neither a code nor an error"),
				 errhint("Give the parameters state and code, or state, error and error_description, of the URL that Cobot sent the person back to.")));
	return came;
}

/*
 * cobot_connect(state text, code text, error text, error_description text, redirect_uri text)
 *		-> (integration, state, space_name, time_zone, granted_scope, missing_scope, custom_field, message)
 */
Datum
plug_connect(PG_FUNCTION_ARGS)
{
	ErrorContextCallback *callers = statement_hide();
	Integration integration;
	OauthFlow	flow;
	Connected	connected;
	TupleDesc	tupdesc;
	Datum		result;

	PreventCommandIfReadOnly("cobot_connect()");
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);

	Return		came = read_return(fcinfo);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "smartspace_cobot connect",
												  ALLOCSET_DEFAULT_SIZES);

	SPI_connect();
	oauth_take(&flow, OAUTH_CONNECT, came.state, came.redirect_uri);
	integration_load(&integration, flow.owner, false);
	if (came.error)
	{
		bool		denied;
		char	   *words = oauth_refusal(came.error, came.error_description, &denied);

		result = connect_result(tupdesc, flow.owner, denied ? "denied" : "failed", NULL, words);
	}
	else
	{
		connect_with_code(&integration, &flow, came.code, context, &connected);
		explicit_bzero(came.code, strlen(came.code));
		result = connect_result(tupdesc, flow.owner, "connected", &connected, NULL);
	}
	integration_wipe(&integration);
	oauth_wipe(&flow);
	SPI_finish();
	MemoryContextDelete(context);
	error_context_stack = callers;
	PG_RETURN_DATUM(result);
}

/* ---- disconnect ---- */

/* The one in use, and one that waits to be revoked. */
#define TOKEN_LIMIT 2

/* What became of tokens at Cobot, in words; call: the worst case. */
static char *
revoked_in_words(const CobotCall *call)
{
	if (call->outcome == COBOT_OK)
		return pstrdup("its token is revoked");
	if (cobot_token_is_gone(call))
		return pstrdup("Cobot did not know its token any more");
	return psprintf("its token could not be revoked (%s), and is kept for nothing but that: call cobot_disconnect again",
					cobot_failure_message(call));
}

/*
 * Deletes the webhooks while there is a token to do so, then revokes it, and the one that
 * waited for that. What could not be revoked waits for the next time; of two, the newer one.
 */
static char *
ask_to_end(const Integration *integration, const Secret *const *tokens, int count, int *deleted, int *left)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "smartspace_cobot disconnect",
												  ALLOCSET_SMALL_SIZES);
	CobotClient clients[TOKEN_LIMIT];
	CobotCall  *calls[TOKEN_LIMIT];
	int			worst = 0;

	for (int i = 0; i < count; i++)
	{
		integration_open_client_with(integration, &clients[i], context, tokens[i]->value);
		calls[i] = cobot_delete_token(&clients[i]);
	}
	subscription_end(integration->id, &clients[0], deleted, left);
	cobot_perform(calls, count);
	for (int i = 0; i < count; i++)
	{
		if (cobot_token_is_gone(calls[worst]) && !cobot_token_is_gone(calls[i]))
			worst = i;
		explicit_bzero((char *) clients[i].token, strlen(clients[i].token));
	}
	if (!cobot_token_is_gone(calls[worst]))
		secret_store(SECRET_RETIRED_TOKEN, integration->id, tokens[worst]->value);

	char	   *words = revoked_in_words(calls[worst]);

	MemoryContextDelete(context);
	return words;
}

/* Ends at Cobot what can be ended, and says in words what became of it. */
static char *
end_connection(const Integration *integration, const Secret *retired)
{
	const Secret *tokens[TOKEN_LIMIT];
	int			count = 0;
	StringInfoData words;
	int			deleted,
				left;

	if (integration->token.state == SECRET_READ)
		tokens[count++] = &integration->token;
	if (retired->state == SECRET_READ)
		tokens[count++] = retired;
	initStringInfo(&words);
	if (count > 0 && home_is_here(&integration->home))
		appendStringInfoString(&words, ask_to_end(integration, tokens, count, &deleted, &left));
	else
	{
		appendStringInfoString(&words, count > 0 ? "its token was not revoked, because this is not the place it is armed for" :
							   integration->token.state == SECRET_NONE ? "there was no token" :
							   "its token is deleted here but could not be revoked, because it could not be read: revoke it in Cobot");
		subscription_end(integration->id, NULL, &deleted, &left);
	}
	if (deleted > 0)
		appendStringInfo(&words, "; webhooks deleted at Cobot: %d", deleted);
	if (left > 0)
		appendStringInfo(&words, "; webhooks left at Cobot, and ignored here: %d", left);
	return words.data;
}

/*
 * cobot_disconnect(integration bigint) -> text
 *
 * The token here is the first to go, so that nobody begins anything with it while Cobot is
 * asked; what is under way elsewhere looks again before each of its steps.
 */
Datum
plug_disconnect(PG_FUNCTION_ARGS)
{
	Integration integration;

	PreventCommandIfReadOnly("cobot_disconnect()");

	SPI_connect();
	if (!PG_ARGISNULL(0))
		integration_lock(PG_GETARG_INT64(0));
	load(fcinfo, &integration);

	QueryArg	arg = query_int64(integration.id);
	Secret		retired = secret_load(SECRET_RETIRED_TOKEN, integration.id);

	query_run("UPDATE smartspace.cobot_integration SET state = 'disconnected', state_reason = NULL, state_since = pg_catalog.now()"
			  " WHERE id = $1 AND state <> 'disconnected'", 1, &arg);
	secret_store(SECRET_TOKEN, integration.id, NULL);
	if (retired.state != SECRET_NONE)
		secret_store(SECRET_RETIRED_TOKEN, integration.id, NULL);
	/* an admin who comes back at this moment is not waited for, and connects it again */
	query_run("DELETE FROM smartspace.cobot_oauth_flow WHERE state_digest IN (SELECT f.state_digest FROM smartspace.cobot_oauth_flow f"
			  " WHERE f.integration_id = $1 FOR UPDATE SKIP LOCKED)", 1, &arg);
	query_run("UPDATE smartspace.cobot_sync_task SET due_at = 'infinity', requested_at = NULL, requested_by = NULL, check_due_at = 'infinity'"
			  " WHERE integration_id = $1", 1, &arg);

	char	   *words = psprintf("disconnected; %s", end_connection(&integration, &retired));

	secret_wipe(&retired);
	integration_wipe(&integration);
	return query_finish_text(words);
}
