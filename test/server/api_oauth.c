/*
 * api_oauth.c
 *	  How an app gets a token: the user is sent here and back with a code, which
 *	  the app exchanges (facts, 3). There is nobody to click: settings say who
 *	  logs in and whether the consent is given.
 */
#include "api.h"

#include <stdlib.h>
#include <string.h>

#include "oauth.h"
#include "record.h"
#include "start.h"

/* What the app sent the user with. */
typedef struct Authorization
{
	const cJSON *client;		/* NULL: unknown */
	char	   *redirect_uri;	/* each of these is NULL if missing */
	char	   *state;
	char	   *response_type;
	char	   *scope;
	char	   *challenge;
	char	   *method;
} Authorization;

static Authorization
authorization_read(const Request *request)
{
	Authorization asked = {0};
	char	   *client_id = request_query(request, "client_id");

	asked.client = oauth_client_find(client_id);
	asked.redirect_uri = request_query(request, "redirect_uri");
	asked.state = request_query(request, "state");
	asked.response_type = request_query(request, "response_type");
	asked.scope = request_query(request, "scope");
	asked.challenge = request_query(request, "code_challenge");
	asked.method = request_query(request, "code_challenge_method");
	free(client_id);
	return asked;
}

static void
authorization_free(Authorization *asked)
{
	free(asked->redirect_uri);
	free(asked->state);
	free(asked->response_type);
	free(asked->scope);
	free(asked->challenge);
	free(asked->method);
}

static bool
text_is(const char *text, const char *wanted)
{
	return text != NULL && strcmp(text, wanted) == 0;
}

static void
add_parameter(Text *location, const char *name, const char *value)
{
	char	   *encoded = url_encode(value);

	text_add_char(location, strchr(location->data, '?') != NULL ? '&' : '?');
	text_add_format(location, "%s=%s", name, encoded);
	free(encoded);
}

/* Back to the app, with one parameter and its own state. */
static void
redirect(Request *request, const Authorization *asked, const char *name, const char *value)
{
	Text		location = {0};

	text_add(&location, asked->redirect_uri);
	add_parameter(&location, name, value);
	if (asked->state != NULL)
		add_parameter(&location, "state", asked->state);
	answer_empty(&request->answer, 302);
	answer_header(&request->answer, "Location", location.data);
	free(location.data);
}

/* OAuth's name of what is wrong, or NULL and the scopes, which the caller owns. */
static const char *
wrong_with_authorization(const Authorization *asked, cJSON **scopes)
{
	if (!text_is(asked->response_type, "code"))
		return "unsupported_response_type";
	if (asked->challenge != NULL ? !text_is(asked->method, "S256") || !oauth_challenge_is_valid(asked->challenge)
		: asked->method != NULL)
		return "invalid_request";
	if ((*scopes = oauth_client_scopes(asked->client, asked->scope)) == NULL)
		return "invalid_scope";
	return NULL;
}

static void
authorize(Request *request)
{
	Authorization asked = authorization_read(request);
	cJSON	   *scopes = NULL;
	const char *wrong;
	char	   *code;

	/* Nobody is sent to an address that is not known to be the app's. */
	if (asked.client == NULL)
		answer_html(&request->answer, 400, "There is no app with this client id.");
	else if (!oauth_client_may_redirect(asked.client, asked.redirect_uri))
		answer_html(&request->answer, 400, "The redirect URI is not one of the app's.");
	else if ((wrong = wrong_with_authorization(&asked, &scopes)) != NULL)
		redirect(request, &asked, "error", wrong);
	else if (world.settings.consent_denied)
	{
		redirect(request, &asked, "error", "access_denied");
		cJSON_Delete(scopes);
	}
	else
	{
		code = oauth_code_give(asked.client, start_login_user()->id, asked.redirect_uri, asked.challenge, scopes);
		redirect(request, &asked, "code", code);
		free(code);
	}
	authorization_free(&asked);
}

/* A value of the form; unlike elsewhere in the API, JSON is not understood. */
static char *
form_value(const Request *request, const char *name)
{
	return url_query_value(request->body.data, name);
}

static bool
form_value_is(const Request *request, const char *name, const char *wanted)
{
	char	   *value = form_value(request, name);
	bool		is = text_is(value, wanted);

	free(value);
	return is;
}

/* The app that sent the form, or NULL if it is unknown or does not know its secret. */
static const cJSON *
client_of_form(const Request *request)
{
	char	   *client_id = form_value(request, "client_id");
	const cJSON *client = oauth_client_find(client_id);

	free(client_id);
	if (client == NULL || !form_value_is(request, "client_secret", record_text(client, "client_secret")))
		return NULL;
	return client;
}

/* Given to this app, for this address if one is named, and to whoever has the verifier. */
static bool
is_good_for(const OAuthCode *code, const Request *request, const cJSON *client)
{
	char	   *redirect_uri = form_value(request, "redirect_uri");
	char	   *verifier = form_value(request, "code_verifier");
	bool		is_good = strcmp(code->client_id, record_text(client, "client_id")) == 0 &&
		(redirect_uri == NULL || strcmp(redirect_uri, code->redirect_uri) == 0) &&
		oauth_code_is_proven(code, verifier);

	free(redirect_uri);
	free(verifier);
	return is_good;
}

/* Whoever shows a code uses it up, whether or not it proves to be theirs. */
static void
give_token(Request *request, const cJSON *client)
{
	char	   *name = form_value(request, "code");
	OAuthCode  *code = oauth_code_take(name);
	char	   *token;
	cJSON	   *json;

	free(name);
	if (code == NULL || !is_good_for(code, request, client))
		answer_error(&request->answer, 400, "invalid_grant");
	else
	{
		token = world_new_id(64);
		token_put(token, code->user_id, NULL, code->client_id, cJSON_Duplicate(code->scopes, true));
		json = cJSON_CreateObject();
		cJSON_AddStringToObject(json, "access_token", token);
		cJSON_AddStringToObject(json, "token_type", "bearer");
		answer_json(&request->answer, 200, json);
		free(token);
	}
	oauth_code_free(code);
}

static void
exchange_code(Request *request)
{
	const cJSON *client = client_of_form(request);

	answer_header(&request->answer, "Cache-Control", "no-store");
	if (client == NULL)
		answer_error(&request->answer, 401, "invalid_client");
	else if (!form_value_is(request, "grant_type", "authorization_code"))
		answer_error(&request->answer, 400, "unsupported_grant_type");
	else
		give_token(request, client);
}

const ApiEndpoint api_oauth_endpoints[] = {
	{"GET", API_ANY_HOST, "/oauth/authorize", API_OPEN, NULL, API_DEFAULT_LIMIT, authorize},
	{"POST", API_WWW, "/oauth/access_token", API_OPEN, NULL, API_DEFAULT_LIMIT, exchange_code},
	{NULL, API_WWW, NULL, API_OPEN, NULL, 0, NULL}
};
