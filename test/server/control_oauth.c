/*
 * control_oauth.c
 *	  Control commands about the apps that are registered with Cobot.
 */
#include "control.h"

#include "oauth.h"

static void
add_client(ControlCall *call)
{
	const cJSON *client;

	if (call->body == NULL)
		call->body = cJSON_CreateObject();
	if (!control_needs_object(call))
		return;
	client = oauth_client_put(call->body);
	call->body = NULL;
	if (client != NULL)
		answer_json(call->answer, 201, cJSON_Duplicate(client, true));
	else
		control_invalid(call, "an id and a secret are texts, redirect_uris and scopes arrays of texts");
}

static void
delete_client(ControlCall *call)
{
	if (oauth_client_delete(call->params.value[0]))
		answer_empty(call->answer, 204);
	else
		control_missing(call, "there is no such client");
}

const ControlCommand control_oauth_commands[] = {
	{"POST", "/clients", add_client},
	{"DELETE", "/clients/:id", delete_client},
	{NULL, NULL, NULL}
};
