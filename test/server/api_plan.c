/*
 * api_plan.c
 *	  The plan catalogue of a space, open to everybody (facts, 6).
 */
#include "api.h"

#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "record.h"

/* Hidden plans and the welcome message are for those who may read plans. */
static bool
sees_everything(const Request *request)
{
	return request->access != NULL && token_has_scope(request->access, "read_plans") &&
		(request->access->subdomain != NULL ?
		 strcmp(request->access->subdomain, request->space->subdomain) == 0 :
		 user_is_admin(request->user, request->space));
}

static cJSON *
visible_plans(const Request *request)
{
	cJSON	   *plans = space_plans_copy(request->space);
	cJSON	   *plan = plans->child;

	if (sees_everything(request))
		return plans;
	while (plan != NULL)
	{
		cJSON	   *next = plan->next;

		cJSON_DeleteItemFromObjectCaseSensitive(plan, "welcome_message");
		if (cJSON_IsTrue(record_item(plan, "hidden")))
			cJSON_Delete(cJSON_DetachItemViaPointer(plans, plan));
		plan = next;
	}
	return plans;
}

static void
list_plans(Request *request)
{
	const char *what = sees_everything(request) ? "all plans" : "public plans";
	Body	   *body = cache_get(request->space, what);

	if (body != NULL)
	{
		answer_body(&request->answer, 200, body);
		return;
	}
	answer_json(&request->answer, 200, visible_plans(request));
	cache_put(request->space, what, request->answer.body);
}

static void
show_plan(Request *request)
{
	cJSON	   *plans = visible_plans(request);
	cJSON	   *plan;

	cJSON_ArrayForEach(plan, plans)
	{
		const char *id = record_text(plan, "id");

		if (id != NULL && strcmp(id, request->params.value[0]) == 0)
			break;
	}
	if (plan != NULL)
		answer_json(&request->answer, 200, cJSON_DetachItemViaPointer(plans, plan));
	else
		api_not_found(request);
	cJSON_Delete(plans);
}

const ApiEndpoint api_plan_endpoints[] = {
	{"GET", API_SPACE, "/api/plans", API_OPEN, NULL, API_DEFAULT_LIMIT, list_plans},
	{"GET", API_SPACE, "/api/plans/:id", API_OPEN, NULL, API_DEFAULT_LIMIT, show_plan},
	{NULL, API_SPACE, NULL, API_OPEN, NULL, 0, NULL}
};
