/*
 * cobot_question.c
 *	  What can be asked of Cobot: URLs, tokens and bodies, one function for each
 *	  question. Runs in any backend or background worker; waits for nothing.
 */
#include "postgres.h"

#include "cobot_client.h"

#define COBOT_WWW "https://www.cobot.me"

/* An URL of the client's space. */
static char *
space_url(const CobotClient *client, const char *path)
{
	if (client->subdomain == NULL)
		elog(ERROR, "Cobot client has no space");
	return psprintf("https://%s.cobot.me%s", client->subdomain, path);
}

/*
 * Takes over url, which may hold a token, and subject. A call that was never
 * performed must not look like a success.
 */
static CobotCall *
new_call(CobotClient *client, CobotEndpoint endpoint, const char *method, char *url, char *subject)
{
	CobotCall  *call = MemoryContextAllocZero(client->context, sizeof(CobotCall));

	call->client = client;
	call->endpoint = endpoint;
	call->subject = MemoryContextStrdup(client->context, subject);
	call->is_read = strcmp(method, "GET") == 0;
	call->outcome = COBOT_LOCAL_FAILURE;
	call->retry_after_s = -1;
	call->request = cobot_new_request(client, method, url);
	call->request->bearer = client->token;
	explicit_bzero(url, strlen(url));
	pfree(url);
	pfree(subject);
	return call;
}

/* About the token itself, which is one segment of the URL's path. */
static CobotCall *
token_call(CobotClient *client, const char *method, const char *behind, char *subject)
{
	if (client->token == NULL)
		elog(ERROR, "Cobot client has no token");

	char	   *token = palloc(COBOT_PERCENT_ENCODED_SIZE(client->token));

	cobot_percent_encode(token, client->token);

	CobotCall  *call = new_call(client, ENDPOINT_TOKEN, method, psprintf(COBOT_WWW "/api/access_tokens/%s%s", token, behind),
								subject);

	explicit_bzero(token, strlen(token));
	pfree(token);
	return call;
}

static CobotCall *
ask_list_at(CobotClient *client, CobotEndpoint endpoint, char *url, const char *what, const char *id_key)
{
	CobotCall  *call = new_call(client, endpoint, "GET", url, psprintf("%s of \"%s\"", what, client->subdomain));

	call->expect_array = true;
	call->id_key = id_key;
	return call;
}

static CobotCall *
ask_list(CobotClient *client, CobotEndpoint endpoint, const char *path, const char *what, const char *id_key)
{
	return ask_list_at(client, endpoint, space_url(client, path), what, id_key);
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
	return new_call(client, ENDPOINT_SPACE, "GET",
					psprintf(COBOT_WWW "/api/spaces/%s", client->subdomain),
					psprintf("the space \"%s\"", client->subdomain));
}

CobotCall *
cobot_ask_user(CobotClient *client)
{
	return new_call(client, ENDPOINT_USER, "GET", pstrdup(COBOT_WWW "/api/user"),
					pstrdup("the Cobot user of the token"));
}

CobotCall *
cobot_ask_token_scopes(CobotClient *client)
{
	return token_call(client, "GET", "", pstrdup("the scopes of the token"));
}

CobotCall *
cobot_ask_space_token(CobotClient *client, const char *space_id)
{
	CobotCall  *call = token_call(client, "POST", "/space", psprintf("a space token for \"%s\"", client->subdomain));
	cJSON	   *body = cJSON_CreateObject();
	char	   *json = NULL;

	if (cJSON_AddStringToObject(body, "space_id", space_id) != NULL)
		json = cJSON_PrintUnformatted(body);
	cJSON_Delete(body);
	set_body(call, json);
	return call;
}

CobotCall *
cobot_post_access_token(CobotClient *client, const char *form)
{
	CobotCall  *call = new_call(client, ENDPOINT_TOKEN, "POST", pstrdup(COBOT_WWW "/oauth/access_token"),
								pstrdup("an access token"));

	call->request->body = MemoryContextStrdup(client->context, form);
	call->request->body_length = strlen(form);
	call->request->content_type = "application/x-www-form-urlencoded";
	return call;
}

CobotCall *
cobot_delete_token(CobotClient *client)
{
	CobotCall  *call = token_call(client, "DELETE", "", pstrdup("the access token"));

	call->expect_empty = true;
	return call;
}

CobotCall *
cobot_ask_plans(CobotClient *client)
{
	return ask_list(client, ENDPOINT_PLANS, "/api/plans", "the plans", "id");
}

CobotCall *
cobot_ask_memberships(CobotClient *client)
{
	return ask_list(client, ENDPOINT_MEMBERSHIPS, "/api/memberships", "the members", "id");
}

CobotCall *
cobot_ask_member_emails(CobotClient *client)
{
	return ask_list(client, ENDPOINT_MEMBERSHIPS, "/api/memberships?attributes=id,email", "the members", "id");
}

static CobotCall *
ask_about_member(CobotClient *client, CobotEndpoint endpoint, const char *cobot_id, const char *path, const char *what)
{
	return new_call(client, endpoint, "GET", cobot_url(client->subdomain, path, cobot_id, NULL),
					psprintf("%sthe member \"%s\" of \"%s\"", what, cobot_id, client->subdomain));
}

CobotCall *
cobot_ask_membership(CobotClient *client, const char *cobot_id)
{
	return ask_about_member(client, ENDPOINT_MEMBERSHIP, cobot_id, "/api/memberships/*", "");
}

CobotCall *
cobot_ask_member_fields(CobotClient *client, const char *cobot_id)
{
	return ask_about_member(client, ENDPOINT_MEMBER_FIELDS, cobot_id, "/api/memberships/*/custom_fields",
							"the custom fields of ");
}

CobotCall *
cobot_ask_custom_fields(CobotClient *client)
{
	return ask_list(client, ENDPOINT_CUSTOM_FIELDS, "/api/custom_fields", "the custom fields", "membership_id");
}

CobotCall *
cobot_ask_field_definitions(CobotClient *client)
{
	return ask_list(client, ENDPOINT_FIELD_DEFINITIONS, "/api/space/custom_fields", "the custom field definitions", "id");
}

CobotCall *
cobot_put_field_definitions(CobotClient *client, const cJSON *current, const char *label)
{
	CobotCall  *call = new_call(client, ENDPOINT_FIELD_DEFINITIONS, "PUT", space_url(client, "/api/space/custom_fields"),
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

CobotCall *
cobot_ask_subscriptions(CobotClient *client)
{
	return ask_list(client, ENDPOINT_SUBSCRIPTIONS, "/api/subscriptions", "the webhooks", "id");
}

CobotCall *
cobot_post_subscription(CobotClient *client, const char *event, const char *callback_url)
{
	CobotCall  *call = new_call(client, ENDPOINT_SUBSCRIPTIONS, "POST", space_url(client, "/api/subscriptions"),
								psprintf("the webhook for %s of \"%s\"", event, client->subdomain));
	cJSON	   *body = cJSON_CreateObject();
	char	   *json = NULL;

	if (cJSON_AddStringToObject(body, "event", event) != NULL &&
		cJSON_AddStringToObject(body, "callback_url", callback_url) != NULL)
		json = cJSON_PrintUnformatted(body);
	cJSON_Delete(body);
	set_body(call, json);
	return call;
}

CobotCall *
cobot_delete_subscription(CobotClient *client, const char *cobot_id)
{
	CobotCall  *call = new_call(client, ENDPOINT_SUBSCRIPTIONS, "DELETE",
								cobot_url(client->subdomain, "/api/subscriptions/*", cobot_id, NULL),
								psprintf("the webhook \"%s\" of \"%s\"", cobot_id, client->subdomain));

	call->expect_empty = true;
	return call;
}

CobotCall *
cobot_ask_navigation_links(CobotClient *client)
{
	return ask_list(client, ENDPOINT_NAVIGATION_LINKS, "/api/navigation_links", "the navigation links", "url");
}

CobotCall *
cobot_post_navigation_link(CobotClient *client, const char *section, const char *label, const char *iframe_url)
{
	CobotCall  *call = new_call(client, ENDPOINT_NAVIGATION_LINKS, "POST", space_url(client, "/api/navigation_links"),
								psprintf("a navigation link of \"%s\"", client->subdomain));
	cJSON	   *body = cJSON_CreateObject();
	char	   *json = NULL;

	if (cJSON_AddStringToObject(body, "section", section) != NULL &&
		cJSON_AddStringToObject(body, "label", label) != NULL &&
		cJSON_AddStringToObject(body, "iframe_url", iframe_url) != NULL)
		json = cJSON_PrintUnformatted(body);
	cJSON_Delete(body);
	set_body(call, json);
	return call;
}

CobotCall *
cobot_delete_navigation_link(CobotClient *client, const char *cobot_id)
{
	CobotCall  *call = new_call(client, ENDPOINT_NAVIGATION_LINKS, "DELETE",
								cobot_url(client->subdomain, "/api/navigation_links/*", cobot_id, NULL),
								psprintf("a navigation link of \"%s\"", client->subdomain));

	call->expect_empty = true;
	return call;
}

CobotCall *
cobot_ask_check_ins(CobotClient *client)
{
	return ask_list(client, ENDPOINT_CHECK_INS, "/api/check_ins", "the check-ins", "id");
}

CobotCall *
cobot_ask_work_sessions(CobotClient *client, const char *from, const char *to)
{
	return ask_list_at(client, ENDPOINT_WORK_SESSIONS, cobot_url(client->subdomain, "/api/work_sessions?from=*&to=*", from, to),
					   "the earlier check-ins", "id");
}

CobotCall *
cobot_post_work_session(CobotClient *client, const char *cobot_id)
{
	CobotCall  *call = new_call(client, ENDPOINT_WORK_SESSIONS, "POST",
								cobot_url(client->subdomain, "/api/memberships/*/work_sessions", cobot_id, NULL),
								psprintf("a check-in of the member \"%s\" of \"%s\"", cobot_id, client->subdomain));
	cJSON	   *body = cJSON_CreateObject();

	call->expect_empty = true;
	set_body(call, body ? cJSON_PrintUnformatted(body) : NULL);
	cJSON_Delete(body);
	return call;
}
