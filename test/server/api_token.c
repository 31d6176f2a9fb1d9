/*
 * api_token.c
 *	  Access tokens: look, revoke, exchange for a space token (facts, 3.1).
 */
#include "api.h"

#include <stdlib.h>
#include <string.h>

static void
show_token(Request *request)
{
	const Token *token = token_find(request->params.value[0]);
	cJSON	   *json;

	if (token == NULL)
	{
		api_not_found(request);
		return;
	}
	json = cJSON_CreateObject();
	cJSON_AddItemToObject(json, "scope", cJSON_Duplicate(token->scopes, true));
	answer_json(&request->answer, 200, json);
}

static void
revoke_token(Request *request)
{
	if (token_delete(request->params.value[0]))
		answer_empty(&request->answer, 204);
	else
		api_not_found(request);
}

/* From a user token of an admin to a token that belongs to the space. */
static void
exchange_token(Request *request)
{
	const Token *token = token_find(request->params.value[0]);
	char	   *space_id = request_body_value(request, "space_id");
	const Space *space = space_find_id(space_id);
	cJSON	   *json;
	char	   *name;

	free(space_id);
	if (token == NULL || space == NULL)
	{
		api_not_found(request);
		return;
	}
	if (token->subdomain != NULL || !user_is_admin(user_find(token->user_id), space))
	{
		answer_error(&request->answer, 403, "You must be an admin of this space.");
		return;
	}
	name = world_new_id(64);
	json = cJSON_CreateObject();
	cJSON_AddItemToObject(json, "scope", cJSON_Duplicate(token->scopes, true));
	cJSON_AddStringToObject(json, "token", name);
	cJSON_AddStringToObject(json, "client_id", token->client_id);
	token_put(name, token->user_id, space->subdomain, token->client_id,
			  cJSON_Duplicate(token->scopes, true));
	free(name);
	answer_json(&request->answer, 201, json);
}

const ApiEndpoint api_token_endpoints[] = {
	{"GET", API_WWW, "/api/access_tokens/:token", API_TOKEN, NULL, API_DEFAULT_LIMIT, show_token},
	{"DELETE", API_WWW, "/api/access_tokens/:token", API_TOKEN, NULL, API_DEFAULT_LIMIT, revoke_token},
	{"POST", API_WWW, "/api/access_tokens/:token/space", API_TOKEN, NULL, API_DEFAULT_LIMIT, exchange_token},
	{NULL, API_WWW, NULL, API_OPEN, NULL, 0, NULL}
};
