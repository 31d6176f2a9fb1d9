/*
 * control_check_in.c
 *	  Control commands about check-ins, time passes and check-in tokens.
 */
#include "control.h"

#include "check_in.h"
#include "clock.h"
#include "member.h"
#include "record.h"
#include "time_pass.h"

static void
list_check_ins(ControlCall *call)
{
	Space	   *space = control_space(call);

	if (space != NULL)
		answer_json(call->answer, 200, check_ins_json(space, &every_check_in));
}

/* Nothing is asked and no pass is used: it is what Cobot knows, whyever. */
static void
add_check_in(ControlCall *call)
{
	Space	   *space = control_space(call);
	CheckIn    *check_in;
	const char *wrong;

	if (space == NULL || !control_needs_object(call))
		return;
	record_resolve_dates(call->body, clock_today(space->zone));
	wrong = check_in_put(space, call->body, &check_in);
	if (wrong != NULL)
		control_invalid(call, wrong);
	else
		answer_json(call->answer, 201, check_in_json(space, check_in));
}

static void
delete_check_in(ControlCall *call)
{
	Space	   *space = control_space(call);
	CheckIn    *check_in;

	if (space == NULL)
		return;
	check_in = check_in_find(space, call->params.value[1]);
	if (check_in == NULL)
	{
		control_missing(call, "there is no such check-in");
		return;
	}
	check_in_delete(space, check_in);
	answer_empty(call->answer, 204);
}

static void
answer_passes(ControlCall *call, Space *space, const cJSON *plan)
{
	cJSON	   *json = cJSON_CreateObject();

	cJSON_AddNumberToObject(json, "unused", time_passes_unused(space, call->params.value[1], plan));
	answer_json(call->answer, 200, json);
}

static void
show_passes(ControlCall *call)
{
	Space	   *space;
	int			slot = control_member(call, &space);
	cJSON	   *record;

	if (slot < 0)
		return;
	record = members_record_copy(space, slot);
	answer_passes(call, space, record_item(record, "plan"));
	cJSON_Delete(record);
}

static void
set_passes(ControlCall *call)
{
	Space	   *space;
	int			slot = control_member(call, &space);
	const cJSON *unused = record_item(call->body, "unused");
	cJSON	   *record;

	if (slot < 0)
		return;
	if (!cJSON_IsNumber(unused) || unused->valueint < 0)
	{
		control_invalid(call, "unused must be a number of passes");
		return;
	}
	record = members_record_copy(space, slot);
	time_passes_set(space, call->params.value[1], record_item(record, "plan"), unused->valueint);
	answer_passes(call, space, record_item(record, "plan"));
	cJSON_Delete(record);
}

/* {"token": "membership id" or null}; other tokens stay as they are. */
static void
set_tokens(ControlCall *call)
{
	Space	   *space = control_space(call);
	const cJSON *item;

	if (space == NULL || !control_needs_object(call))
		return;
	cJSON_ArrayForEach(item, call->body)
	{
		if (!cJSON_IsNull(item) && (!cJSON_IsString(item) || members_find(space, item->valuestring) < 0))
		{
			control_invalid(call, "a token must be a member's or null");
			return;
		}
	}
	cJSON_ArrayForEach(item, call->body)
		check_in_token_set(space, item->string, cJSON_GetStringValue(item));
	answer_empty(call->answer, 204);
}

const ControlCommand control_check_in_commands[] = {
	{"GET", "/spaces/:subdomain/check_ins", list_check_ins},
	{"POST", "/spaces/:subdomain/check_ins", add_check_in},
	{"DELETE", "/spaces/:subdomain/check_ins/:id", delete_check_in},
	{"GET", "/spaces/:subdomain/memberships/:id/time_passes", show_passes},
	{"PUT", "/spaces/:subdomain/memberships/:id/time_passes", set_passes},
	{"PUT", "/spaces/:subdomain/check_in_tokens", set_tokens},
	{NULL, NULL, NULL}
};
