/*
 * api_custom_field.c
 *	  Custom fields: definitions of the space, values of its members (facts, 7).
 */
#include "api.h"

#include <string.h>

#include "cache.h"
#include "field.h"
#include "member.h"
#include "record.h"

static void
list_definitions(Request *request)
{
	answer_json(&request->answer, 200, fields_json(request->space));
}

/* What Cobot would not take, in words; NULL if all is well. */
static const char *
wrong_with_definitions(Space *space, const cJSON *definitions)
{
	const cJSON *definition;

	if (!cJSON_IsArray(definitions))
		return "The custom fields must be an array.";
	cJSON_ArrayForEach(definition, definitions)
	{
		const char *label = record_text(definition, "label");
		const cJSON *id = record_item(definition, "id");

		if (label == NULL || label[strspn(label, " \t\r\n")] == '\0')
			return "A label can't be blank.";
		if (id != NULL && fields_find_id(space, cJSON_GetStringValue(id)) == NULL)
			return "There is no custom field with this id.";
	}
	return NULL;
}

static void
replace_definitions(Request *request)
{
	cJSON	   *definitions = request_json(request);
	const char *wrong;

	if (definitions == NULL)
		return;
	wrong = wrong_with_definitions(request->space, definitions);
	if (wrong != NULL)
		api_invalid(request, "base", wrong);
	else
	{
		fields_replace(request->space, definitions);
		answer_json(&request->answer, 200, fields_json(request->space));
	}
	cJSON_Delete(definitions);
}

/* All members that exist, former ones too. */
static void
list_values(Request *request)
{
	static const char what[] = "custom fields";
	Body	   *body = cache_get(request->space, what);
	Text		text = {0};
	MemberFacts facts;

	if (body != NULL)
	{
		answer_body(&request->answer, 200, body);
		return;
	}
	text_add_char(&text, '[');
	for (int slot = 0; slot < members_slots(request->space); slot++)
	{
		if (!members_facts(request->space, slot, &facts))
			continue;
		if (text.length > 1)
			text_add_char(&text, ',');
		fields_write_member(request->space, slot, &text);
	}
	text_add_char(&text, ']');
	answer_text(&request->answer, 200, &text);
	cache_put(request->space, what, request->answer.body);
}

static void
answer_values(Request *request, int slot)
{
	Text		text = {0};

	fields_write_member(request->space, slot, &text);
	answer_text(&request->answer, 200, &text);
}

static void
show_values(Request *request)
{
	int			slot = members_find(request->space, request->params.value[0]);

	if (slot < 0)
		api_not_found(request);
	else
		answer_values(request, slot);
}

static const char *
wrong_with_values(Space *space, const cJSON *values)
{
	const cJSON *item;

	if (!cJSON_IsArray(values))
		return "The fields must be an array.";
	cJSON_ArrayForEach(item, values)
	{
		const cJSON *value = record_item(item, "value");

		if (fields_find_id(space, record_text(item, "id")) == NULL)
			return "There is no custom field with this id.";
		if (value != NULL && !cJSON_IsString(value) && !cJSON_IsNull(value))
			return "A value must be a text.";
	}
	return NULL;
}

static void
set_values(Space *space, int slot, const cJSON *values)
{
	const cJSON *item;

	if (world.settings.clear_omitted_values)
		fields_clear_values(space, slot);
	cJSON_ArrayForEach(item, values)
	{
		const char *value = record_text(item, "value");

		fields_set_value(space, slot, record_text(item, "id"),
						 value != NULL && value[0] != '\0' ? value : NULL);
	}
}

/* Takes both {"fields": [...]} and the bare array. */
static void
update_values(Request *request)
{
	int			slot = members_find(request->space, request->params.value[0]);
	cJSON	   *json;
	const cJSON *values;
	const char *wrong;

	if (slot < 0)
	{
		api_not_found(request);
		return;
	}
	if ((json = request_json(request)) == NULL)
		return;
	values = cJSON_IsObject(json) ? record_item(json, "fields") : json;
	wrong = wrong_with_values(request->space, values);
	if (wrong != NULL)
		api_invalid(request, "base", wrong);
	else
	{
		set_values(request->space, slot, values);
		answer_values(request, slot);
	}
	cJSON_Delete(json);
}

const ApiEndpoint api_custom_field_endpoints[] = {
	{"GET", API_SPACE, "/api/space/custom_fields", API_ADMIN, "read_custom_fields", API_DEFAULT_LIMIT, list_definitions},
	{"PUT", API_SPACE, "/api/space/custom_fields", API_ADMIN, "write_custom_fields", API_DEFAULT_LIMIT, replace_definitions},
	{"GET", API_SPACE, "/api/custom_fields", API_ADMIN, "read_custom_fields", API_DEFAULT_LIMIT, list_values},
	{"GET", API_SPACE, "/api/memberships/:id/custom_fields", API_ADMIN, "read_custom_fields", API_DEFAULT_LIMIT, show_values},
	{"PUT", API_SPACE, "/api/memberships/:id/custom_fields", API_ADMIN, "write_custom_fields", API_DEFAULT_LIMIT, update_values},
	{NULL, API_SPACE, NULL, API_OPEN, NULL, 0, NULL}
};
