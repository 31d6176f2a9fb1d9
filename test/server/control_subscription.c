/*
 * control_subscription.c
 *	  Control commands about webhook subscriptions: what Cobot has, whoever made
 *	  it; and what happens to them there.
 */
#include "control.h"

#include "record.h"
#include "subscription.h"

static cJSON *
named_subscription(ControlCall *call, Space **space)
{
	cJSON	   *subscription;

	if ((*space = control_space(call)) == NULL)
		return NULL;
	subscription = subscription_find(*space, call->params.value[1]);
	if (subscription == NULL)
		control_missing(call, "there is no such subscription");
	return subscription;
}

static void
list_subscriptions(ControlCall *call)
{
	Space	   *space = control_space(call);
	cJSON	   *list;
	const cJSON *subscription;

	if (space == NULL)
		return;
	list = cJSON_CreateArray();
	cJSON_ArrayForEach(subscription, space->subscriptions)
		cJSON_AddItemToArray(list, subscription_copy(subscription));
	answer_json(call->answer, 200, list);
}

/* As if the bearer of "token" had made it; without one it is somebody's who never asks. */
static void
add_subscription(ControlCall *call)
{
	Space	   *space = control_space(call);
	const char *event = record_text(call->body, "event");
	const char *callback_url = record_text(call->body, "callback_url");
	const Token *token = token_find(record_text(call->body, "token"));
	const User *user = token != NULL ? token_user(token) : NULL;
	const cJSON *subscription;

	if (space == NULL)
		return;
	if (event == NULL || callback_url == NULL)
	{
		control_invalid(call, "a subscription needs an event and a callback_url");
		return;
	}
	subscription = subscription_add(space, user != NULL ? user->id : NULL,
									token != NULL ? token->client_id : NULL, event, callback_url);
	if (subscription == NULL)
		control_invalid(call, "there is a subscription for this event and URL");
	else
		answer_json(call->answer, 201, subscription_copy(subscription));
}

static void
change_subscription(ControlCall *call)
{
	Space	   *space;
	cJSON	   *subscription = named_subscription(call, &space);

	if (subscription == NULL || !control_needs_object(call))
		return;
	record_merge(subscription, call->body);
	call->body = NULL;
	answer_json(call->answer, 200, subscription_copy(subscription));
}

static void
delete_subscription(ControlCall *call)
{
	Space	   *space;
	cJSON	   *subscription = named_subscription(call, &space);

	if (subscription == NULL)
		return;
	subscription_delete(space, subscription);
	answer_empty(call->answer, 204);
}

const ControlCommand control_subscription_commands[] = {
	{"GET", "/spaces/:subdomain/subscriptions", list_subscriptions},
	{"POST", "/spaces/:subdomain/subscriptions", add_subscription},
	{"PATCH", "/spaces/:subdomain/subscriptions/:id", change_subscription},
	{"DELETE", "/spaces/:subdomain/subscriptions/:id", delete_subscription},
	{NULL, NULL, NULL}
};
