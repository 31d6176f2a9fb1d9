/*
 * api_check_in.c
 *	  Check-ins, which Cobot also calls work sessions: who is here, who was, and
 *	  checking in and out (facts, 8). Admins see everybody; members themselves.
 */
#include "api.h"

#include <stdlib.h>
#include <string.h>

#include "check_in.h"
#include "clock.h"
#include "member.h"
#include "record.h"
#include "time_pass.h"

/* The only list that members see as a whole, too. */
static void
list_today(Request *request)
{
	CheckInRange today = {0};
	int64_t		last;

	if (!api_is_admin(request) && api_own_slot(request) < 0)
	{
		api_forbid(request);
		return;
	}
	clock_day_around(request->space->zone, (int64_t) clock_now(), &today.from, &last);
	today.to = last + 1;
	answer_json(&request->answer, 200, check_ins_json(request->space, &today));
}

static void
answer_range(Request *request, const char *membership_id)
{
	CheckInRange range = {membership_id, 0, 0};
	char	   *from = request_query(request, "from");
	char	   *to = request_query(request, "to");

	if (!timestamp_read(from, request->space->zone, &range.from) ||
		!timestamp_read(to, request->space->zone, &range.to))
		api_invalid(request, "base", "from and to must be times.");
	else
		answer_json(&request->answer, 200, check_ins_json(request->space, &range));
	free(from);
	free(to);
}

static void
list_range(Request *request)
{
	int			slot;
	char		id[MEMBER_ID_SIZE];

	if (api_is_admin(request))
		answer_range(request, NULL);
	else if ((slot = api_own_slot(request)) >= 0)
	{
		members_id(request->space, slot, id);
		answer_range(request, id);
	}
	else
		api_forbid(request);
}

static void
list_range_of_member(Request *request)
{
	if (api_permitted_member(request) >= 0)
		answer_range(request, request->params.value[0]);
}

static void
show_check_in(Request *request)
{
	const CheckIn *check_in = check_in_find(request->space, request->params.value[0]);
	int			own = api_own_slot(request);

	if (!api_is_admin(request) &&
		(check_in == NULL || own < 0 || members_find(request->space, check_in->membership_id) != own))
		api_forbid(request);
	else if (check_in == NULL)
		api_not_found(request);
	else
		answer_json(&request->answer, 200, check_in_json(request->space, check_in));
}

/* 422 in one of the two forms that clients have seen. */
static void
refuse(Request *request, const char *reason)
{
	cJSON	   *json;

	if (!world.settings.bare_check_in_errors)
	{
		api_invalid(request, "base", reason);
		return;
	}
	json = cJSON_CreateObject();
	cJSON_AddStringToObject(json, "base", reason);
	answer_json(&request->answer, 422, json);
}

/* Why this member cannot check in, whatever the passes; or NULL. */
static const char *
wrong_with_member(const Space *space, int slot, const char *id, const cJSON *record)
{
	int32_t		today = clock_today(space->zone);
	int32_t		start;
	MemberFacts facts;

	members_facts(space, slot, &facts);
	if (!members_is_current(&facts, today))
		return "The membership is not active";
	if (day_read(record_text(record, "starts_at"), &start) && start > today)
		return "The membership has not started yet";
	if (!world.settings.second_check_in && check_in_current(space, id) != NULL)
		return "The member is already checked in";
	return NULL;
}

static void
check_in(Request *request, int slot)
{
	Space	   *space = request->space;
	cJSON	   *record = members_record_copy(space, slot);
	const cJSON *plan = record_item(record, "plan");
	char	   *time_pass_id = NULL;
	const char *wrong;
	char		id[MEMBER_ID_SIZE];

	members_id(space, slot, id);
	if ((wrong = wrong_with_member(space, slot, id, record)) != NULL)
		refuse(request, wrong);
	else if (time_passes_needed(plan) && (time_pass_id = time_pass_use(space, id, plan)) == NULL)
		refuse(request, "No time passes left");
	else
		answer_json(&request->answer, 201, check_in_json(space, check_in_now(space, id, time_pass_id)));
	cJSON_Delete(record);
}

static void
check_in_member(Request *request)
{
	int			slot = api_permitted_member(request);

	if (slot >= 0)
		check_in(request, slot);
}

/* From a door or a Wi-Fi portal. A token that is nobody's is refused with 204. */
static void
check_in_by_token(Request *request)
{
	char	   *token = request_body_value(request, "token");
	const char *owner;
	int			slot;

	if (token == NULL || token[0] == '\0')
		api_invalid(request, "token", "can't be blank");
	else if ((owner = check_in_token_owner(request->space, token)) == NULL ||
			 (slot = members_find(request->space, owner)) < 0)
		answer_empty(&request->answer, 204);
	else
		check_in(request, slot);
	free(token);
}

/* All that are current: after a check-out the member is gone. */
static void
check_out_member(Request *request)
{
	const char *id = request->params.value[0];
	CheckIn    *current;

	if (api_permitted_member(request) < 0)
		return;
	if (check_in_current(request->space, id) == NULL)
	{
		api_not_found(request);
		return;
	}
	while ((current = check_in_current(request->space, id)) != NULL)
		current->valid_until = (int64_t) clock_now();
	answer_empty(&request->answer, 204);
}

const ApiEndpoint api_check_in_endpoints[] = {
	{"GET", API_SPACE, "/api/check_ins", API_TOKEN, "read_check_ins", API_DEFAULT_LIMIT, list_today},
	{"GET", API_SPACE, "/api/check_ins/:id", API_TOKEN, "read_check_ins", API_DEFAULT_LIMIT, show_check_in},
	{"GET", API_SPACE, "/api/work_sessions", API_TOKEN, "read_check_ins", API_DEFAULT_LIMIT, list_range},
	{"GET", API_SPACE, "/api/memberships/:id/check_ins", API_TOKEN, "read_check_ins", API_DEFAULT_LIMIT, list_range_of_member},
	{"POST", API_SPACE, "/api/memberships/:id/work_sessions", API_TOKEN, "checkin", API_DEFAULT_LIMIT, check_in_member},
	{"DELETE", API_SPACE, "/api/memberships/:id/check_ins/current", API_TOKEN, "checkin", API_DEFAULT_LIMIT, check_out_member},
	{"POST", API_SPACE, "/api/check_ins", API_ADMIN, "checkin", API_DEFAULT_LIMIT, check_in_by_token},
	{NULL, API_SPACE, NULL, API_OPEN, NULL, 0, NULL}
};
