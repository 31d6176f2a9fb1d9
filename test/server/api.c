/*
 * api.c
 *	  From a request to the function that answers it: host, path, token, rate,
 *	  rights.
 */
#include "api.h"

#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "member.h"
#include "rate.h"

#define DOMAIN ".cobot.me"

static const ApiEndpoint *const groups[] = {
	api_token_endpoints,
	api_user_endpoints,
	api_membership_endpoints,
	api_plan_endpoints,
	api_custom_field_endpoints,
	api_oauth_endpoints,
	api_check_in_endpoints,
	api_time_pass_endpoints,
	api_navigation_endpoints,
	api_subscription_endpoints
};

void
api_not_found(Request *request)
{
	answer_json(&request->answer, 404, cJSON_CreateObject());
}

void
api_invalid(Request *request, const char *field, const char *message)
{
	cJSON	   *json = cJSON_CreateObject();

	cJSON_AddStringToObject(cJSON_AddObjectToObject(json, "errors"), field, message);
	answer_json(&request->answer, 422, json);
}

/* Which part of the table is for this host; false if the host is unknown. */
static bool
find_host(Request *request, ApiHost *kind)
{
	size_t		length = strlen(request->host);
	size_t		domain = strlen(DOMAIN);
	char		subdomain[64];

	if (length <= domain || length - domain >= sizeof(subdomain) ||
		strcmp(request->host + length - domain, DOMAIN) != 0)
		return false;
	snprintf(subdomain, sizeof(subdomain), "%.*s", (int) (length - domain), request->host);
	if (strcmp(subdomain, "www") == 0)
	{
		*kind = API_WWW;
		return true;
	}
	*kind = API_SPACE;
	request->space = space_find(subdomain);
	return request->space != NULL;
}

static const ApiEndpoint *
find_endpoint(Request *request, ApiHost host)
{
	for (size_t group = 0; group < sizeof(groups) / sizeof(groups[0]); group++)
	{
		for (const ApiEndpoint *endpoint = groups[group]; endpoint->method != NULL; endpoint++)
		{
			if ((endpoint->host == host || endpoint->host == API_ANY_HOST) &&
				strcmp(endpoint->method, request->method) == 0 &&
				url_match(endpoint->pattern, request->path, &request->params))
				return endpoint;
		}
	}
	return NULL;
}

static bool
check_token(Request *request, const ApiEndpoint *endpoint)
{
	if (request->token == NULL && endpoint->access == API_OPEN)
		return true;
	request->access = token_find(request->token);
	if (request->access != NULL)
	{
		request->user = token_user(request->access);
		return true;
	}
	answer_header(&request->answer, "WWW-Authenticate",
				  request->token == NULL ? "Bearer realm=\"cobot\""
				  : "Bearer realm=\"cobot\", error=\"invalid_token\"");
	answer_error(&request->answer, 401, request->token == NULL ? "You need to log in."
				 : "The access token is invalid or was revoked.");
	return false;
}

static bool
check_rate(Request *request, const ApiEndpoint *endpoint)
{
	char		name[200];
	char		seconds[20];
	int			wait;

	if (!world.settings.rate_limit)
		return true;
	snprintf(name, sizeof(name), "%s %s", endpoint->method, endpoint->pattern);
	wait = rate_check(request->user != NULL ? request->user->id : NULL, name, endpoint->per_minute);
	if (wait == 0)
		return true;
	snprintf(seconds, sizeof(seconds), "%d", wait);
	answer_header(&request->answer, "Retry-After", seconds);
	answer_error(&request->answer, 429, "Too many requests. Please wait.");
	return false;
}

bool
api_is_admin(const Request *request)
{
	if (request->access->subdomain != NULL)
		return strcmp(request->access->subdomain, request->space->subdomain) == 0;
	return user_is_admin(request->user, request->space);
}

void
api_forbid(Request *request)
{
	answer_error(&request->answer, world.settings.not_admin_status, "You must be an admin of this space.");
}

/* Where to look for a membership, and what was found. */
typedef struct OwnSlot
{
	const Space *space;
	int			slot;
} OwnSlot;

static void
keep_slot(const Space *space, int slot, void *closure)
{
	OwnSlot    *own = closure;
	MemberFacts facts;

	if (space == own->space && members_facts(space, slot, &facts) &&
		members_is_current(&facts, clock_today(space->zone)))
		own->slot = slot;
}

int
api_own_slot(const Request *request)
{
	OwnSlot		own = {request->space, -1};

	if (request->access->subdomain == NULL && request->user != NULL)
		members_of_user(request->user->id, keep_slot, &own);
	return own.slot;
}

int
api_permitted_member(Request *request)
{
	int			slot = members_find(request->space, request->params.value[0]);

	if (!api_is_admin(request) && (slot < 0 || slot != api_own_slot(request)))
	{
		api_forbid(request);
		return -1;
	}
	if (slot < 0)
		api_not_found(request);
	return slot;
}

static bool
check_rights(Request *request, const ApiEndpoint *endpoint)
{
	if (endpoint->access == API_OPEN)
		return true;
	if (endpoint->scope != NULL && !token_has_scope(request->access, endpoint->scope))
	{
		char		message[200];

		snprintf(message, sizeof(message), "The access token does not have the scope %s.", endpoint->scope);
		answer_error(&request->answer, 403, message);
		return false;
	}
	if (endpoint->access == API_ADMIN && !api_is_admin(request))
	{
		api_forbid(request);
		return false;
	}
	return true;
}

/* What has not changed since the client got it is not sent again. */
static void
tag(Request *request)
{
	Answer	   *answer = &request->answer;
	char		etag[32];

	if (!world.settings.etag || strcmp(request->method, "GET") != 0 || answer->status != 200 || answer->body == NULL)
		return;
	snprintf(etag, sizeof(etag), "W/\"%016llx\"", (unsigned long long) body_hash(answer->body));
	answer_header(answer, "ETag", etag);
	if (request->if_none_match != NULL &&
		(strcmp(request->if_none_match, "*") == 0 || strstr(request->if_none_match, etag + strlen("W/")) != NULL))
		answer_empty(answer, 304);
}

void
api_handle(Request *request)
{
	ApiHost		host;
	const ApiEndpoint *endpoint;

	if (!find_host(request, &host) || (endpoint = find_endpoint(request, host)) == NULL)
	{
		api_not_found(request);
		return;
	}
	if (check_token(request, endpoint) && check_rate(request, endpoint) && check_rights(request, endpoint))
	{
		endpoint->handler(request);
		tag(request);
	}
}
