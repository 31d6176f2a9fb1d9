/*
 * field.c
 *	  Custom fields: definitions of a space and values of its members.
 */
#include "field.h"

#include <stdlib.h>
#include <string.h>

#include "generate.h"
#include "member.h"

static void
free_list(Field *fields, int count)
{
	for (int i = 0; i < count; i++)
	{
		free(fields[i].id);
		free(fields[i].label);
	}
	free(fields);
}

Field *
fields_list(Space *space, int *count)
{
	if (!space->fields_loaded)
	{
		if (space->generated_index >= 0)
			space->fields = generate_fields(space, &space->field_count);
		space->fields_loaded = true;
	}
	*count = space->field_count;
	return space->fields;
}

Field *
fields_find_id(Space *space, const char *id)
{
	int			count;
	Field	   *fields = fields_list(space, &count);

	for (int i = 0; id != NULL && i < count; i++)
	{
		if (strcmp(fields[i].id, id) == 0)
			return &fields[i];
	}
	return NULL;
}

Field *
fields_find_label(Space *space, const char *label)
{
	int			count;
	Field	   *fields = fields_list(space, &count);

	for (int i = 0; label != NULL && i < count; i++)
	{
		if (strcmp(fields[i].label, label) == 0)
			return &fields[i];
	}
	return NULL;
}

cJSON *
fields_json(Space *space)
{
	int			count;
	Field	   *fields = fields_list(space, &count);
	cJSON	   *array = cJSON_CreateArray();

	for (int i = 0; i < count; i++)
	{
		cJSON	   *field = cJSON_CreateObject();

		cJSON_AddStringToObject(field, "id", fields[i].id);
		cJSON_AddStringToObject(field, "label", fields[i].label);
		cJSON_AddItemToArray(array, field);
	}
	return array;
}

/* Values of generated members vanish with the field's "generated" number, stored ones here. */
static void
forget_values(Space *space, const char *field_id)
{
	size_t		position = 0;
	MapEntry   *entry;

	while ((entry = map_next(&space->stored, &position)) != NULL)
		cJSON_DeleteItemFromObjectCaseSensitive(((Member *) entry->value)->values, field_id);
}

void
fields_replace(Space *space, const cJSON *definitions)
{
	int			old_count;
	Field	   *old = fields_list(space, &old_count);
	int			count = 0;
	Field	   *fields = memory_zero((size_t) cJSON_GetArraySize(definitions) * sizeof(Field));
	const cJSON *definition;

	cJSON_ArrayForEach(definition, definitions)
	{
		const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(definition, "id"));
		const char *label = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(definition, "label"));
		const Field *before = fields_find_id(space, id);
		Field	   *field = &fields[count++];

		field->id = id != NULL ? text_copy(id) : world_new_id(32);
		field->label = text_copy(label != NULL ? label : "");
		field->generated = before != NULL ? before->generated : -1;
	}
	space->fields = fields;
	space->field_count = count;
	for (int i = 0; i < old_count; i++)
	{
		if (fields_find_id(space, old[i].id) == NULL)
			forget_values(space, old[i].id);
	}
	free_list(old, old_count);
	space_changed(space);
}

void
fields_free(Space *space)
{
	free_list(space->fields, space->field_count);
}

/* A member's value of one field: NULL if empty. The buffer holds generated ones. */
static const char *
value_of(const Space *space, int slot, const Field *field, Text *buffer)
{
	const Member *member = NULL;

	if (slot >= space->generated_members)
		member = space->added[slot - space->generated_members];
	else if (space->overlay != NULL)
		member = space->overlay[slot];
	if (member != NULL)
		return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(member->values, field->id));
	if (field->generated < 0)
		return NULL;
	buffer->length = 0;
	return generate_value(space, slot, field->generated, buffer) ? buffer->data : NULL;
}

void
fields_write_member(Space *space, int slot, Text *out)
{
	int			count;
	Field	   *fields = fields_list(space, &count);
	char		id[MEMBER_ID_SIZE];
	Text		buffer = {0};
	bool		first = true;

	members_id(space, slot, id);
	text_add(out, "{\"membership_id\":");
	text_add_json(out, id);
	text_add(out, ",\"fields\":[");
	for (int i = 0; i < count; i++)
	{
		const char *value = value_of(space, slot, &fields[i], &buffer);

		if (value == NULL && world.settings.omit_empty_fields)
			continue;
		text_add(out, first ? "{\"id\":" : ",{\"id\":");
		first = false;
		text_add_json(out, fields[i].id);
		text_add(out, ",\"label\":");
		text_add_json(out, fields[i].label);
		text_add(out, ",\"value\":");
		text_add_json(out, value);
		text_add_char(out, '}');
	}
	text_add(out, "]}");
	free(buffer.data);
}

void
fields_set_value(Space *space, int slot, const char *field_id, const char *value)
{
	Member	   *member = members_store(space, slot);

	cJSON_DeleteItemFromObjectCaseSensitive(member->values, field_id);
	if (value != NULL)
		cJSON_AddStringToObject(member->values, field_id, value);
	space_changed(space);
}

void
fields_clear_values(Space *space, int slot)
{
	Member	   *member = members_store(space, slot);

	cJSON_Delete(member->values);
	member->values = cJSON_CreateObject();
	space_changed(space);
}

cJSON *
fields_values_by_label(Space *space, int slot)
{
	int			count;
	Field	   *fields = fields_list(space, &count);
	cJSON	   *values = cJSON_CreateObject();
	Text		buffer = {0};

	for (int i = 0; i < count; i++)
	{
		const char *value = value_of(space, slot, &fields[i], &buffer);

		if (value != NULL)
			cJSON_AddStringToObject(values, fields[i].label, value);
	}
	free(buffer.data);
	return values;
}
