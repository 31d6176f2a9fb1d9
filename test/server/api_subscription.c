/*
 * api_subscription.c
 *	  Webhook subscriptions (facts, 10). Everybody sees and deletes those of the
 *	  own user and app only.
 */
#include "api.h"

#include <stdlib.h>
#include <string.h>

#include "subscription.h"

static const char *
user_id(const Request *request)
{
	return request->user != NULL ? request->user->id : NULL;
}

static bool
is_own(const Request *request, const cJSON *subscription)
{
	return subscription_belongs(subscription, user_id(request), request->access->client_id);
}

static void
list_subscriptions(Request *request)
{
	cJSON	   *list = cJSON_CreateArray();
	const cJSON *subscription;

	cJSON_ArrayForEach(subscription, request->space->subscriptions)
	{
		if (is_own(request, subscription))
			cJSON_AddItemToArray(list, subscription_copy(subscription));
	}
	answer_json(&request->answer, 200, list);
}

/* http or https, a host, and nothing that cannot be in a URL. */
static bool
is_url(const char *text)
{
	const char *host;

	if (text == NULL || (strncmp(text, "https://", 8) != 0 && strncmp(text, "http://", 7) != 0))
		return false;
	host = strstr(text, "://") + 3;
	for (const char *c = text; *c != '\0'; c++)
	{
		if (*c <= ' ' || *c > '~')
			return false;
	}
	return host[0] != '\0' && host[0] != '/';
}

static void
create_subscription(Request *request)
{
	char	   *event = request_body_value(request, "event");
	char	   *callback_url = request_body_value(request, "callback_url");
	const cJSON *subscription;

	if (!subscription_event_known(event))
		api_invalid(request, "event", "is not included in the list");
	else if (!is_url(callback_url))
		api_invalid(request, "callback_url", "is invalid");
	else
	{
		subscription = subscription_add(request->space, user_id(request), request->access->client_id,
										event, callback_url);
		if (subscription != NULL)
			answer_json(&request->answer, 201, subscription_copy(subscription));
		else
			answer_error(&request->answer, 409, "There is a subscription for this event and URL.");
	}
	free(event);
	free(callback_url);
}

static void
delete_subscription(Request *request)
{
	cJSON	   *subscription = subscription_find(request->space, request->params.value[0]);

	if (subscription == NULL || !is_own(request, subscription))
	{
		api_not_found(request);
		return;
	}
	subscription_delete(request->space, subscription);
	answer_empty(&request->answer, 204);
}

const ApiEndpoint api_subscription_endpoints[] = {
	{"GET", API_SPACE, "/api/subscriptions", API_ADMIN, "read_subscriptions", API_DEFAULT_LIMIT, list_subscriptions},
	{"POST", API_SPACE, "/api/subscriptions", API_ADMIN, "write_subscriptions", API_DEFAULT_LIMIT, create_subscription},
	{"DELETE", API_SPACE, "/api/subscriptions/:id", API_ADMIN, "write_subscriptions", API_DEFAULT_LIMIT, delete_subscription},
	{NULL, API_SPACE, NULL, API_OPEN, NULL, 0, NULL}
};
