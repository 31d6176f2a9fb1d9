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

#include "connect.h"
#include "integration.h"
#include "oauth.h"
#include "query.h"
#include "statement.h"

PG_FUNCTION_INFO_V1(plug_connect_url);
PG_FUNCTION_INFO_V1(plug_connect);
PG_FUNCTION_INFO_V1(plug_set_client);
PG_FUNCTION_INFO_V1(plug_disconnect);

#define CLIENT_LENGTH_LIMIT 500 /* of id and secret, in characters */

static void
load(FunctionCallInfo fcinfo, Integration *integration)
{
	integration_load(integration, PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0), PG_ARGISNULL(0));
}

static char *
text_or_null(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

/* A text as the function's result, beyond SPI. */
static Datum
text_result(const char *text)
{
	Datum		result = SPI_datumTransfer(CStringGetTextDatum(text), false, -1);

	SPI_finish();
	return result;
}

/* ---- the OAuth client ---- */

static char *
checked_client_text(FunctionCallInfo fcinfo, int arg, const char *name)
{
	char	   *text = text_or_null(fcinfo, arg);

	if (text == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the %s must not be null", name)));

	bool		printable = text[0] != '\0' && strlen(text) <= CLIENT_LENGTH_LIMIT;

	for (const char *c = text; *c != '\0'; c++)
		if (*c <= ' ' || *c > '~')
			printable = false;
	if (!printable)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("this is not a %s", name),
				 errdetail("It is 1 to %d printable ASCII characters without blanks.", CLIENT_LENGTH_LIMIT),
				 errhint("Copy it from the OAuth client at dev.cobot.me/oauth2_clients.")));
	return text;
}

/*
 * cobot_set_client(integration bigint, client_id text, client_secret text) -> void
 */
Datum
plug_set_client(PG_FUNCTION_ARGS)
{
	ErrorContextCallback *callers = statement_hide();
	Integration integration;

	PreventCommandIfReadOnly("cobot_set_client()");

	char	   *client_id = checked_client_text(fcinfo, 1, "client id");
	char	   *client_secret = checked_client_text(fcinfo, 2, "client secret");

	SPI_connect();
	load(fcinfo, &integration);
	integration_wipe(&integration);
	integration_lock(integration.id);

	QueryArg	id_args[] = {query_int64(integration.id), query_text(client_id)};
	QueryArg	secret_args[] = {query_int64(integration.id), query_text(client_secret)};

	query_run("UPDATE smartspace.cobot_integration SET client_id = $2 WHERE id = $1", lengthof(id_args), id_args);
	query_run("INSERT INTO smartspace.cobot_secret AS s (integration_id, client_secret) VALUES ($1, $2)"
			  " ON CONFLICT (integration_id) DO UPDATE SET client_secret = excluded.client_secret",
			  lengthof(secret_args), secret_args);
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
	OauthFlow	flow = {.purpose = OAUTH_CONNECT, .redirect_uri = text_or_null(fcinfo, 1)};

	PreventCommandIfReadOnly("cobot_connect_url()");
	if (flow.redirect_uri == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the redirect URI must not be null")));

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
	return text_result(oauth_begin(&flow, client.id, integration.subdomain));
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
connect_with_code(const OauthFlow *flow, const char *code, MemoryContext context, Connected *connected)
{
	Integration integration;
	OauthClient client;
	CobotClient cobot;

	integration_load(&integration, flow->owner, false);
	integration_load_client(&integration, &client);
	integration_open_client_with(&integration, &cobot, context, NULL);

	char	   *text = oauth_exchange(&cobot, flow, &client, code);
	char	   *token = connect_check_token(text);

	oauth_wipe_client(&client);
	explicit_bzero(text, strlen(text));
	connect_integration(&integration, context, token, true, connected);
	explicit_bzero(token, strlen(token));
	integration_wipe(&integration);
}

/*
 * cobot_connect(state text, code text, error text, error_description text)
 *		-> (integration, state, space_name, time_zone, granted_scope, missing_scope, custom_field, message)
 */
Datum
plug_connect(PG_FUNCTION_ARGS)
{
	ErrorContextCallback *callers = statement_hide();
	char	   *state = text_or_null(fcinfo, 0);
	char	   *code = text_or_null(fcinfo, 1);
	char	   *error = text_or_null(fcinfo, 2);
	OauthFlow	flow;
	Connected	connected;
	TupleDesc	tupdesc;
	Datum		result;

	PreventCommandIfReadOnly("cobot_connect()");
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);
	if (state == NULL || (code == NULL && error == NULL))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the %s must not be null", state == NULL ? "state" : "code and the error"),
				 errhint("Give the parameters state and code, or state, error and error_description, of the URL that Cobot sent the person back to.")));

	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "smartspace_cobot connect",
												  ALLOCSET_DEFAULT_SIZES);

	SPI_connect();
	oauth_take(&flow, OAUTH_CONNECT, state, NULL);
	if (error)
	{
		bool		denied;
		char	   *words = oauth_refusal(error, text_or_null(fcinfo, 3), &denied);

		result = connect_result(tupdesc, flow.owner, denied ? "denied" : "failed", NULL, words);
	}
	else
	{
		connect_with_code(&flow, code, context, &connected);
		explicit_bzero(code, strlen(code));
		result = connect_result(tupdesc, flow.owner, "connected", &connected, NULL);
	}
	oauth_wipe(&flow);
	SPI_finish();
	MemoryContextDelete(context);
	error_context_stack = callers;
	PG_RETURN_DATUM(result);
}

/* ---- disconnect ---- */

/* Revokes the token if that can be had, and says in words what became of it. */
static char *
end_token(const Integration *integration)
{
	if (integration->token == NULL)
		return pstrdup("there was no token");
	if (!home_is_here(&integration->home))
		return pstrdup("its token was not revoked, because this is not the place it is armed for");

	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "smartspace_cobot disconnect",
												  ALLOCSET_SMALL_SIZES);
	CobotClient client;
	char	   *words;

	integration_open_client_with(integration, &client, context, integration->token);

	CobotCall  *call = cobot_delete_token(&client);

	cobot_perform(&call, 1);
	if (call->outcome == COBOT_OK)
		words = pstrdup("its token is revoked");
	else if (call->outcome == COBOT_UNAUTHORIZED || call->outcome == COBOT_NOT_FOUND)
		words = pstrdup("Cobot did not know its token any more");
	else
		words = psprintf("its token is deleted here but could not be revoked (%s): revoke it in Cobot",
						 cobot_failure_message(call));
	explicit_bzero((char *) client.token, strlen(client.token));
	MemoryContextDelete(context);
	return words;
}

/*
 * cobot_disconnect(integration bigint) -> text
 *
 * The token is the first to go, so that nobody begins anything with it while Cobot is
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

	query_run("UPDATE smartspace.cobot_integration SET state = 'disconnected', state_reason = NULL, state_since = pg_catalog.now()"
			  " WHERE id = $1 AND state <> 'disconnected'", 1, &arg);
	query_run("UPDATE smartspace.cobot_secret SET token = NULL WHERE integration_id = $1 AND token IS NOT NULL", 1, &arg);
	/* an admin who comes back at this moment is not waited for, and connects it again */
	query_run("DELETE FROM smartspace.cobot_oauth_flow WHERE state_digest IN (SELECT f.state_digest FROM smartspace.cobot_oauth_flow f"
			  " WHERE f.integration_id = $1 FOR UPDATE SKIP LOCKED)", 1, &arg);
	query_run("UPDATE smartspace.cobot_sync_task SET due_at = 'infinity', requested_at = NULL, requested_by = NULL, check_due_at = 'infinity'"
			  " WHERE integration_id = $1", 1, &arg);

	char	   *words = psprintf("disconnected; %s", end_token(&integration));

	integration_wipe(&integration);
	return text_result(words);
}
