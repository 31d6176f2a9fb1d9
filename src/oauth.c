/*
 * oauth.c
 *	  Authorisation at Cobot: flows from the URL to the token. Runs in the backend that
 *	  calls, inside its transaction. See oauth.h.
 *
 * Facts: Cobot asks on the space's own host as well as on www, and exchanges codes on www
 * alone, by a form without redirect_uri; PKCE is supported with S256. An answer holds no
 * more than the token, which does not expire. Errors are HTTP 400 with JSON.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/base64.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "cobot_answer.h"
#include "oauth.h"
#include "query.h"
#include "webhook_secret.h"

#define RANDOM_BYTES 32
#define BASE64_LENGTH 44		/* of 32 bytes, with one = at its end */
#define RANDOM_LENGTH (BASE64_LENGTH - 1)

/* What comes back in an URL is not longer than this. */
#define CODE_LIMIT_BYTES 2000

/* The form for the exchange: all of its values percent-encoded, and its names. */
#define FORM_SIZE \
	(3 * (CODE_LIMIT_BYTES + OAUTH_CLIENT_ID_LIMIT_BYTES + OAUTH_CLIENT_SECRET_LIMIT_BYTES + RANDOM_LENGTH) + 200)

/* What Cobot may tell about a refusal; it is written by who knows what, so it is clipped. */
#define DESCRIPTION_LIMIT_CHARACTERS 200

/* Flows of one owner that are not over; with more, the oldest ones end. */
#define CONNECT_FLOW_LIMIT "100"
#define LOGIN_FLOW_LIMIT "10000"

/* Everything that depends on the purpose. */
typedef struct PurposeWords
{
	const char *label;
	const char *owner_column;
	const char *flow_limit;
	const char *begin_again;
} PurposeWords;

static const PurposeWords purpose_words[] = {
	[OAUTH_CONNECT] = {
		"connect", "integration_id", CONNECT_FLOW_LIMIT,
		"Begin again with a new URL of smartspace.cobot_connect_url()."
	},
	[OAUTH_LOGIN] = {
		"login", "mobile_app_id", LOGIN_FLOW_LIMIT,
		"Begin again with a new URL of smartspace.cobot_login_url()."
	},
};

/* Cobot's words for why it gives no token, and ours. */
static const struct
{
	const char *code;
	int			sqlstate;
	const char *words;
	const char *hint;
}			exchange_errors[] = {
	{
		"invalid_grant", ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
		"the code is used up, expired, or of another OAuth client or another flow",
		"Begin again with a new URL."
	},
	{
		"invalid_client", ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
		"the client id or the client secret is wrong",
		"Copy both from the OAuth client at dev.cobot.me/oauth2_clients."
	},
	{
		"unauthorized_client", ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
		"the OAuth client may not do this",
		"Look at the OAuth client at dev.cobot.me/oauth2_clients."
	},
	{
		"invalid_request", ERRCODE_PROTOCOL_VIOLATION,
		"the request lacks something",
		"Report this: the request does not fit what Cobot expects."
	},
	{
		"unsupported_grant_type", ERRCODE_PROTOCOL_VIOLATION,
		"authorisation codes are not supported",
		"Report this: the request does not fit what Cobot expects."
	},
	{
		"invalid_scope", ERRCODE_INVALID_PARAMETER_VALUE,
		"the scope is unknown, or the OAuth client may not have it",
		"Correct the scope here, or add it to the OAuth client at dev.cobot.me/oauth2_clients."
	},
};

/* ---- random texts and digests ---- */

/* Base64 for URLs, without padding (RFC 7636); RANDOM_LENGTH characters and a NUL. */
static void
encode_base64url(const uint8 bytes[RANDOM_BYTES], char text[RANDOM_LENGTH + 1])
{
	char		padded[BASE64_LENGTH];

	if (pg_b64_encode((const char *) bytes, RANDOM_BYTES, padded, sizeof(padded)) != BASE64_LENGTH)
		elog(ERROR, "could not encode a random text");
	for (int i = 0; i < RANDOM_LENGTH; i++)
		text[i] = padded[i] == '+' ? '-' : padded[i] == '/' ? '_' : padded[i];
	text[RANDOM_LENGTH] = '\0';
	explicit_bzero(padded, sizeof(padded));
}

static void
make_random(char text[RANDOM_LENGTH + 1])
{
	uint8		bytes[RANDOM_BYTES];

	if (!pg_strong_random(bytes, sizeof(bytes)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate a random number")));
	encode_base64url(bytes, text);
	explicit_bzero(bytes, sizeof(bytes));
}

/* S256 of RFC 7636. */
static void
make_challenge(const char *verifier, char challenge[RANDOM_LENGTH + 1])
{
	uint8		digest[WEBHOOK_DIGEST_LENGTH];

	StaticAssertStmt(WEBHOOK_DIGEST_LENGTH == RANDOM_BYTES, "a challenge is as long as a random text");
	webhook_secret_digest(verifier, digest);
	encode_base64url(digest, challenge);
}

void
oauth_wipe_client(OauthClient *client)
{
	if (client->secret)
		explicit_bzero(client->secret, strlen(client->secret));
}

void
oauth_wipe(OauthFlow *flow)
{
	if (flow->verifier)
		explicit_bzero(flow->verifier, strlen(flow->verifier));
}

static void
check_client_text(const char *text, const char *name, int limit_bytes)
{
	if (text && !oauth_is_plain(text, limit_bytes))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("this is not a %s", name),
				 errdetail("It is 1 to %d printable ASCII characters without blanks.", limit_bytes),
				 errhint("Copy it from the OAuth client at dev.cobot.me/oauth2_clients.")));
}

void
oauth_check_client(const char *client_id, const char *client_secret)
{
	check_client_text(client_id, "client id", OAUTH_CLIENT_ID_LIMIT_BYTES);
	check_client_text(client_secret, "client secret", OAUTH_CLIENT_SECRET_LIMIT_BYTES);
}

/* ---- begin ---- */

/* "&name=value", or "name=value" at the beginning of a form. */
static void
append_parameter(StringInfo text, const char *name, const char *value)
{
	char	   *encoded = palloc(COBOT_PERCENT_ENCODED_SIZE(value));

	cobot_percent_encode(encoded, value);
	appendStringInfo(text, "%s%s=%s", text->len > 0 ? "&" : "", name, encoded);
	explicit_bzero(encoded, strlen(encoded));
	pfree(encoded);
}

/* Locks only what goes, and waits for nobody who is coming back at this moment. */
static void
purge(const OauthFlow *flow)
{
	const PurposeWords *words = &purpose_words[flow->purpose];
	QueryArg	arg = query_int64(flow->owner);

	query_run("DELETE FROM smartspace.cobot_oauth_flow WHERE state_digest IN (SELECT f.state_digest FROM smartspace.cobot_oauth_flow f"
			  " WHERE f.expires_at <= pg_catalog.clock_timestamp() FOR UPDATE SKIP LOCKED)", 0, NULL);
	query_run(psprintf("DELETE FROM smartspace.cobot_oauth_flow WHERE state_digest IN (SELECT f.state_digest FROM smartspace.cobot_oauth_flow f"
					   " WHERE f.state_digest IN (SELECT o.state_digest FROM smartspace.cobot_oauth_flow o"
					   "  WHERE o.%s = $1 ORDER BY o.created_at DESC OFFSET %s - 1) FOR UPDATE SKIP LOCKED)",
					   words->owner_column, words->flow_limit), 1, &arg);
}

char *
oauth_begin(const OauthFlow *flow, const char *client_id, const char *subdomain)
{
	char		state[RANDOM_LENGTH + 1];
	char		verifier[RANDOM_LENGTH + 1];
	char		challenge[RANDOM_LENGTH + 1];
	uint8		digest[WEBHOOK_DIGEST_LENGTH];
	StringInfoData query;

	if (subdomain && cobot_check_subdomain(subdomain) != NULL)
		elog(ERROR, "unchecked Cobot subdomain");
	make_random(state);
	make_random(verifier);
	make_challenge(verifier, challenge);
	webhook_secret_digest(state, digest);
	purge(flow);

	QueryArg	args[] = {
		webhook_secret_query_digest(digest), query_text(purpose_words[flow->purpose].label), query_int64(flow->owner),
		query_text(flow->redirect_uri), query_text(flow->scope), query_int64(OAUTH_LIFETIME_S)
	};

	query_run_given(psprintf("INSERT INTO smartspace.cobot_oauth_flow (state_digest, purpose, %s, redirect_uri, scope, verifier, created_at, expires_at)"
							 " SELECT $1, $2, $3, $4, $5, g.value, t.now, t.now + $6 * interval '1 second'"
							 " FROM given g, pg_catalog.clock_timestamp() t (now)",
							 purpose_words[flow->purpose].owner_column), lengthof(args), args, verifier);
	explicit_bzero(verifier, sizeof(verifier));

	initStringInfo(&query);
	append_parameter(&query, "response_type", "code");
	append_parameter(&query, "client_id", client_id);
	append_parameter(&query, "redirect_uri", flow->redirect_uri);
	append_parameter(&query, "scope", flow->scope);
	append_parameter(&query, "state", state);
	append_parameter(&query, "code_challenge", challenge);
	append_parameter(&query, "code_challenge_method", "S256");
	return psprintf("https://%s.cobot.me/oauth/authorize?%s", subdomain ? subdomain : "www", query.data);
}

/* ---- take ---- */

static void raise_bad_state(OauthPurpose purpose, const char *detail) pg_attribute_noreturn();

static void
raise_bad_state(OauthPurpose purpose, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("this state belongs to no authorisation that is under way"),
			 errdetail("%s", detail),
			 errhint("%s", purpose_words[purpose].begin_again)));
}

/*
 * The row stays locked until the transaction ends. The index looks for a digest, of which
 * nobody can make one that nearly fits; the comparison that counts takes always the same time.
 */
static bool
lock_flow(const uint8 *digest)
{
	uint8		stored[WEBHOOK_DIGEST_LENGTH];
	QueryArg	arg = webhook_secret_query_digest(digest);

	if (query_run("SELECT f.state_digest, f.purpose, COALESCE(f.integration_id, f.mobile_app_id), f.redirect_uri, f.scope, f.verifier,"
				  " f.used_at IS NOT NULL, f.expires_at <= pg_catalog.clock_timestamp()"
				  " FROM smartspace.cobot_oauth_flow f WHERE f.state_digest = $1 FOR UPDATE", 1, &arg) == 0)
		return false;
	webhook_secret_result_digest(0, 1, stored);
	return webhook_secret_same_digest(digest, stored);
}

void
oauth_take(OauthFlow *flow, OauthPurpose purpose, const char *state, const char *redirect_uri)
{
	uint8		digest[WEBHOOK_DIGEST_LENGTH];

	webhook_secret_digest(state, digest);
	if (!lock_flow(digest))
		raise_bad_state(purpose, "It is unknown: it was not made here, or so long ago that it is forgotten.");
	if (strcmp(query_result_text(0, 2), purpose_words[purpose].label) != 0)
		raise_bad_state(purpose, "It was made for something else.");
	if (query_result_bool(0, 7))
		raise_bad_state(purpose, "It was used before.");
	if (query_result_bool(0, 8))
		raise_bad_state(purpose, "It has expired: it is good for " CppAsString2(OAUTH_LIFETIME_S) " seconds.");
	*flow = (OauthFlow) {
		.purpose = purpose,
		.owner = query_result_int64(0, 3),
		.redirect_uri = query_result_text(0, 4),
		.scope = query_result_text(0, 5),
		.verifier = query_result_text(0, 6)
	};
	if (redirect_uri && strcmp(redirect_uri, flow->redirect_uri) != 0)
		raise_bad_state(purpose, "It was made for another redirect URI.");

	QueryArg	arg = webhook_secret_query_digest(digest);

	query_run("UPDATE smartspace.cobot_oauth_flow SET used_at = pg_catalog.clock_timestamp(), verifier = NULL WHERE state_digest = $1",
			  1, &arg);
}

/* ---- exchange ---- */

/* Throws, in our words, if Cobot says in its words why it gives no token. */
static void
raise_exchange_error(CobotCall *call)
{
	char		code[COBOT_ERROR_CODE_SIZE];
	int			found = -1;

	if (!cobot_read_error_code(call->request->response, call->request->response_length, code))
		return;
	for (int i = 0; i < (int) lengthof(exchange_errors); i++)
		if (strcmp(code, exchange_errors[i].code) == 0)
			found = i;
	if (found >= 0)
		ereport(ERROR,
				(errcode(exchange_errors[found].sqlstate),
				 errmsg("Cobot gives no token for this code: %s", exchange_errors[found].words),
				 errdetail("%s Cobot says \"%s\".", cobot_failure_detail(call), exchange_errors[found].code),
				 errhint("%s", exchange_errors[found].hint)));
}

char *
oauth_read_token(CobotCall *call, const char *key)
{
	JsonError	error;
	const cJSON *answer = cobot_answer(call, &error);
	const char *token;

	explicit_bzero(call->request->response, call->request->response_length);
	if (answer == NULL || !cobot_read_token(answer, key, &token, &error))
		cobot_raise_answer(call, &error);

	char	   *copy = pstrdup(token);

	explicit_bzero((char *) token, strlen(token));
	return copy;
}

/* A gateway may repeat what it was sent where a message would show it. */
static void
hide_echo(CobotCall *call, const char *const *secrets, int count)
{
	for (int i = 0; i < count; i++)
		if (secrets[i] && secrets[i][0] != '\0' && strstr(call->request->request_id, secrets[i]) != NULL)
			call->request->request_id[0] = '\0';
}

char *
oauth_exchange(CobotClient *cobot, const OauthFlow *flow, const OauthClient *client, const char *code)
{
	const char *const secrets[] = {code, client->secret, flow->verifier};
	StringInfoData form;

	if (code[0] == '\0' || strlen(code) > CODE_LIMIT_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the code must have 1 to %d characters", CODE_LIMIT_BYTES),
				 errhint("It is the parameter code of the URL that Cobot sent the person back to.")));

	/* one that had to grow would leave copies of the secrets behind */
	initStringInfo(&form);
	enlargeStringInfo(&form, FORM_SIZE);
	append_parameter(&form, "grant_type", "authorization_code");
	append_parameter(&form, "client_id", client->id);
	if (client->secret)
		append_parameter(&form, "client_secret", client->secret);
	append_parameter(&form, "code", code);
	append_parameter(&form, "code_verifier", flow->verifier);

	CobotCall  *call = cobot_post_access_token(cobot, form.data);

	explicit_bzero(form.data, form.len);
	pfree(form.data);
	cobot_perform(&call, 1);
	explicit_bzero((char *) call->request->body, call->request->body_length);
	hide_echo(call, secrets, lengthof(secrets));
	if (call->outcome == COBOT_REJECTED || call->outcome == COBOT_UNAUTHORIZED || call->outcome == COBOT_FORBIDDEN)
		raise_exchange_error(call);
	if (call->outcome != COBOT_OK)
		cobot_raise_call(call);
	return oauth_read_token(call, "access_token");
}

/* ---- refused ---- */

/* What somebody wrote into an URL, fit to be shown: one line, and not endless. */
static char *
showable(const char *text)
{
	char	   *copy = pnstrdup(text, pg_mbcharcliplen(text, strlen(text), DESCRIPTION_LIMIT_CHARACTERS));

	for (char *c = copy; *c != '\0'; c++)
		if ((unsigned char) *c < ' ' || *c == 0x7F)
			*c = ' ';
	return copy;
}

char *
oauth_refusal(const char *error, const char *description, bool *denied)
{
	StringInfoData words;

	*denied = strcmp(error, "access_denied") == 0;
	initStringInfo(&words);
	if (*denied)
		appendStringInfoString(&words, "the authorisation was denied in Cobot (access_denied)");
	else
		appendStringInfo(&words, "Cobot could not ask for the authorisation (%s)", showable(error));
	if (description && description[0] != '\0')
		appendStringInfo(&words, ": %s", showable(description));
	return words.data;
}
