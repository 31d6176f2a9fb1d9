/*
 * control_space.c
 *	  Control commands about spaces and what is in them.
 */
#include "control.h"

#include <stdlib.h>
#include <string.h>

#include "check_in.h"
#include "clock.h"
#include "field.h"
#include "member.h"
#include "navigation.h"
#include "record.h"

static void
add_space(ControlCall *call)
{
	const char *subdomain = record_text(call->body, "subdomain");
	Space	   *space;

	if (subdomain == NULL || space_find(subdomain) != NULL)
	{
		control_invalid(call, "a new space needs a subdomain that is not taken");
		return;
	}
	space = space_add(subdomain, record_text(call->body, "id"), "UTC");
	record_complete_space(call->body, space->subdomain, space->id);
	space_set_record(space, call->body);
	call->body = NULL;
	answer_json(call->answer, 201, space_record_copy(space));
}

static void
show_space(ControlCall *call)
{
	Space	   *space = control_space(call);
	cJSON	   *json;
	cJSON	   *members;
	MemberFacts facts;

	if (space == NULL)
		return;
	json = cJSON_CreateObject();
	cJSON_AddItemToObject(json, "space", space_record_copy(space));
	cJSON_AddItemToObject(json, "plans", space_plans_copy(space));
	cJSON_AddItemToObject(json, "custom_fields", fields_json(space));
	members = cJSON_AddArrayToObject(json, "memberships");
	for (int slot = 0; slot < members_slots(space); slot++)
	{
		cJSON	   *record;

		if (!members_facts(space, slot, &facts))
			continue;
		record = members_record_copy(space, slot);
		cJSON_AddItemToObject(record, "custom_fields", fields_values_by_label(space, slot));
		cJSON_AddItemToArray(members, record);
	}
	cJSON_AddItemToObject(json, "navigation_links", navigation_list(space, NULL));
	cJSON_AddItemToObject(json, "check_ins", check_ins_json(space, &every_check_in));
	answer_json(call->answer, 200, json);
}

static void
change_space(ControlCall *call)
{
	Space	   *space = control_space(call);
	cJSON	   *record;
	const char *zone = record_text(call->body, "time_zone_name");

	if (space == NULL || !control_needs_object(call))
		return;
	if (zone != NULL && record_item(call->body, "time_zone_offset") == NULL)
		cJSON_AddNumberToObject(call->body, "time_zone_offset", clock_offset_hours(zone));
	record = record_merge(space_record_copy(space), call->body);
	call->body = NULL;
	space_set_record(space, record);
	answer_json(call->answer, 200, space_record_copy(space));
}

/* "?without=user,plan.parent_plan" */
static void
remove_keys(ControlCall *call, cJSON *record)
{
	char	   *without = url_query_value(call->query, "without");
	char	   *position = NULL;

	for (char *path = without != NULL ? strtok_r(without, ",", &position) : NULL; path != NULL;
		 path = strtok_r(NULL, ",", &position))
		record_remove(record, path);
	free(without);
}

/* Takes "custom_fields": {label: value} out of a membership; the caller owns it. */
static cJSON *
detach_values(cJSON *membership)
{
	return cJSON_DetachItemFromObjectCaseSensitive(membership, "custom_fields");
}

/* The first label that the space does not have, or NULL. */
static const char *
unknown_label(Space *space, const cJSON *values)
{
	const cJSON *value;

	cJSON_ArrayForEach(value, values)
	{
		if (fields_find_label(space, value->string) == NULL)
			return value->string;
	}
	return NULL;
}

static void
set_values(Space *space, int slot, const cJSON *values)
{
	const cJSON *value;

	cJSON_ArrayForEach(value, values)
		fields_set_value(space, slot, fields_find_label(space, value->string)->id, cJSON_GetStringValue(value));
}

/* Stores the call's body as a member and answers with it. */
static void
put_member(ControlCall *call, Space *space, int status)
{
	cJSON	   *values = detach_values(call->body);
	int			slot;

	if (unknown_label(space, values) != NULL)
		control_invalid(call, "the space has no custom field with this label");
	else
	{
		slot = members_put(space, call->body);
		call->body = NULL;
		set_values(space, slot, values);
		answer_json(call->answer, status, members_record_copy(space, slot));
	}
	cJSON_Delete(values);
}

static void
add_member(ControlCall *call)
{
	Space	   *space = control_space(call);
	const char *id = record_text(call->body, "id");

	if (space == NULL)
		return;
	if (id != NULL && members_find(space, id) >= 0)
	{
		control_invalid(call, "there is a membership with this id");
		return;
	}
	if (call->body == NULL)
		call->body = cJSON_CreateObject();
	record_resolve_dates(call->body, clock_today(space->zone));
	record_complete_membership(call->body, space);
	remove_keys(call, call->body);
	put_member(call, space, 201);
}

/* All that exist, former ones too; "?attributes=id,name" as in Cobot's list. */
static void
list_members(ControlCall *call)
{
	Space	   *space = control_space(call);
	char	   *attributes = url_query_value(call->query, "attributes");
	MemberWriter writer = member_writer_open(space);
	MemberFacts facts;
	Text		record = {0};
	Text		list = {0};

	text_add_char(&list, '[');
	for (int slot = 0; space != NULL && slot < members_slots(space); slot++)
	{
		if (!members_facts(space, slot, &facts))
			continue;
		if (list.length > 1)
			text_add_char(&list, ',');
		record.length = 0;
		member_write(&writer, slot, &record);
		if (attributes != NULL)
			record_copy_keys(record.data, attributes, &list);
		else
			text_add(&list, record.data);
	}
	text_add_char(&list, ']');
	if (space != NULL)
		answer_text(call->answer, 200, &list);
	member_writer_close(&writer);
	free(attributes);
	free(record.data);
	free(list.data);
}

static void
show_member(ControlCall *call)
{
	Space	   *space;
	int			slot = control_member(call, &space);

	if (slot >= 0)
		answer_json(call->answer, 200, members_record_copy(space, slot));
}

/* Exactly as given, so that a test can leave out or spoil any key. */
static void
replace_member(ControlCall *call)
{
	Space	   *space = control_space(call);

	if (space == NULL || !control_needs_object(call))
		return;
	record_resolve_dates(call->body, clock_today(space->zone));
	cJSON_DeleteItemFromObjectCaseSensitive(call->body, "id");
	cJSON_AddStringToObject(call->body, "id", call->params.value[1]);
	put_member(call, space, 200);
}

static void
change_member(ControlCall *call)
{
	Space	   *space;
	int			slot = control_member(call, &space);

	if (slot < 0)
		return;
	if (call->body == NULL)
		call->body = cJSON_CreateObject();
	record_resolve_dates(call->body, clock_today(space->zone));
	cJSON_DeleteItemFromObjectCaseSensitive(call->body, "id");
	call->body = record_merge(members_record_copy(space, slot), call->body);
	remove_keys(call, call->body);
	put_member(call, space, 200);
}

static void
delete_member(ControlCall *call)
{
	Space	   *space;
	int			slot = control_member(call, &space);

	if (slot < 0)
		return;
	members_delete(space, slot);
	answer_empty(call->answer, 204);
}

static void
change_values(ControlCall *call)
{
	Space	   *space;
	int			slot = control_member(call, &space);

	if (slot < 0 || !control_needs_object(call))
		return;
	if (unknown_label(space, call->body) != NULL)
	{
		control_invalid(call, "the space has no custom field with this label");
		return;
	}
	set_values(space, slot, call->body);
	answer_json(call->answer, 200, fields_values_by_label(space, slot));
}

static void
replace_fields(ControlCall *call)
{
	Space	   *space = control_space(call);

	if (space == NULL)
		return;
	if (!cJSON_IsArray(call->body))
	{
		control_invalid(call, "the body must be an array of objects with id and label");
		return;
	}
	fields_replace(space, call->body);
	answer_json(call->answer, 200, fields_json(space));
}

static cJSON *
find_plan(cJSON *plans, const char *id)
{
	cJSON	   *plan;

	cJSON_ArrayForEach(plan, plans)
	{
		const char *candidate = record_text(plan, "id");

		if (candidate != NULL && strcmp(candidate, id) == 0)
			return plan;
	}
	return NULL;
}

static void
add_plan(ControlCall *call)
{
	Space	   *space = control_space(call);
	cJSON	   *plans;
	cJSON	   *plan = call->body;

	if (space == NULL || !control_needs_object(call))
		return;
	call->body = NULL;
	record_complete_plan(plan);
	remove_keys(call, plan);
	answer_json(call->answer, 201, cJSON_Duplicate(plan, true));
	plans = space_plans_copy(space);
	cJSON_AddItemToArray(plans, plan);
	space_set_plans(space, plans);
}

static void
store_plan(ControlCall *call, bool merge)
{
	Space	   *space = control_space(call);
	cJSON	   *plans;
	cJSON	   *before;
	cJSON	   *after;

	if (space == NULL || !control_needs_object(call))
		return;
	plans = space_plans_copy(space);
	before = find_plan(plans, call->params.value[1]);
	if (before == NULL)
	{
		control_missing(call, "there is no such plan");
		cJSON_Delete(plans);
		return;
	}
	after = record_merge(merge ? cJSON_Duplicate(before, true) : NULL, call->body);
	call->body = NULL;
	remove_keys(call, after);
	answer_json(call->answer, 200, cJSON_Duplicate(after, true));
	cJSON_ReplaceItemViaPointer(plans, before, after);
	space_set_plans(space, plans);
}

static void
replace_plan(ControlCall *call)
{
	store_plan(call, false);
}

static void
change_plan(ControlCall *call)
{
	store_plan(call, true);
}

static void
delete_plan(ControlCall *call)
{
	Space	   *space = control_space(call);
	cJSON	   *plans;
	cJSON	   *plan;

	if (space == NULL)
		return;
	plans = space_plans_copy(space);
	plan = find_plan(plans, call->params.value[1]);
	if (plan == NULL)
	{
		control_missing(call, "there is no such plan");
		cJSON_Delete(plans);
		return;
	}
	cJSON_Delete(cJSON_DetachItemViaPointer(plans, plan));
	space_set_plans(space, plans);
	answer_empty(call->answer, 204);
}

const ControlCommand control_space_commands[] = {
	{"POST", "/spaces", add_space},
	{"GET", "/spaces/:subdomain", show_space},
	{"PATCH", "/spaces/:subdomain", change_space},
	{"POST", "/spaces/:subdomain/memberships", add_member},
	{"GET", "/spaces/:subdomain/memberships", list_members},
	{"GET", "/spaces/:subdomain/memberships/:id", show_member},
	{"PUT", "/spaces/:subdomain/memberships/:id", replace_member},
	{"PATCH", "/spaces/:subdomain/memberships/:id", change_member},
	{"DELETE", "/spaces/:subdomain/memberships/:id", delete_member},
	{"PUT", "/spaces/:subdomain/memberships/:id/custom_fields", change_values},
	{"PUT", "/spaces/:subdomain/custom_fields", replace_fields},
	{"POST", "/spaces/:subdomain/plans", add_plan},
	{"PUT", "/spaces/:subdomain/plans/:id", replace_plan},
	{"PATCH", "/spaces/:subdomain/plans/:id", change_plan},
	{"DELETE", "/spaces/:subdomain/plans/:id", delete_plan},
	{NULL, NULL, NULL}
};
