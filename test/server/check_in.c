/*
 * check_in.c
 *	  The check-ins of a space (facts, 8), in the order in which they were made.
 */
#include "check_in.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "member.h"
#include "record.h"

const CheckInRange every_check_in = {NULL, INT64_MIN, INT64_MAX};

/* Takes the id of the pass over. */
static CheckIn *
add(Space *space, const char *id, const char *membership_id, int64_t from, int64_t until, char *time_pass_id)
{
	CheckIn    *check_in = memory_zero(sizeof(CheckIn));

	check_in->id = id != NULL ? text_copy(id) : world_new_id(32);
	check_in->membership_id = text_copy(membership_id);
	check_in->valid_from = from;
	check_in->valid_until = until;
	check_in->time_pass_id = time_pass_id;
	if (space->check_in_count == space->check_in_size)
	{
		space->check_in_size = space->check_in_size > 0 ? space->check_in_size * 2 : 16;
		space->check_ins = memory_resize(space->check_ins, (size_t) space->check_in_size * sizeof(CheckIn *));
	}
	space->check_ins[space->check_in_count++] = check_in;
	return check_in;
}

CheckIn *
check_in_now(Space *space, const char *membership_id, char *time_pass_id)
{
	int64_t		now = (int64_t) clock_now();
	int64_t		first;
	int64_t		last;

	clock_day_around(space->zone, now, &first, &last);
	return add(space, NULL, membership_id, now, last, time_pass_id);
}

/* A timestamp, if there is one. False if it cannot be read. */
static bool
read_time(const Space *space, const cJSON *wanted, const char *key, int64_t *seconds)
{
	const cJSON *item = record_item(wanted, key);

	return item == NULL || timestamp_read(cJSON_GetStringValue(item), space->zone, seconds);
}

const char *
check_in_put(Space *space, const cJSON *wanted, CheckIn **added)
{
	const char *id = record_text(wanted, "id");
	const char *membership_id = record_text(wanted, "membership_id");
	int64_t		first;
	int64_t		from = (int64_t) clock_now();
	int64_t		until;

	if (membership_id == NULL || members_find(space, membership_id) < 0)
		return "a check-in needs the membership_id of a member";
	if (check_in_find(space, id) != NULL)
		return "there is a check-in with this id";
	if (!read_time(space, wanted, "valid_from", &from))
		return "valid_from is no timestamp";
	clock_day_around(space->zone, from, &first, &until);
	if (!read_time(space, wanted, "valid_until", &until))
		return "valid_until is no timestamp";
	*added = add(space, id, membership_id, from, until,
				 text_copy(record_text(record_item(wanted, "time_pass"), "id")));
	return NULL;
}

CheckIn *
check_in_find(const Space *space, const char *id)
{
	for (int i = 0; id != NULL && i < space->check_in_count; i++)
	{
		if (strcmp(space->check_ins[i]->id, id) == 0)
			return space->check_ins[i];
	}
	return NULL;
}

static void
check_in_free(CheckIn *check_in)
{
	free(check_in->id);
	free(check_in->membership_id);
	free(check_in->time_pass_id);
	free(check_in);
}

void
check_in_delete(Space *space, CheckIn *check_in)
{
	int			kept = 0;

	for (int i = 0; i < space->check_in_count; i++)
	{
		if (space->check_ins[i] != check_in)
			space->check_ins[kept++] = space->check_ins[i];
	}
	space->check_in_count = kept;
	check_in_free(check_in);
}

CheckIn *
check_in_current(const Space *space, const char *membership_id)
{
	double		now = clock_now();

	for (int i = space->check_in_count - 1; i >= 0; i--)
	{
		CheckIn    *check_in = space->check_ins[i];

		if ((double) check_in->valid_until > now && strcmp(check_in->membership_id, membership_id) == 0)
			return check_in;
	}
	return NULL;
}

/* {"id", "name"} of a member, or NULL if it was deleted. */
static cJSON *
member_reference(MemberWriter *writer, const char *membership_id)
{
	int			slot = members_find(writer->space, membership_id);
	Text		record = {0};
	Text		reference = {0};
	cJSON	   *json;

	if (slot < 0)
		return NULL;
	member_write(writer, slot, &record);
	record_copy_keys(record.data, "id,name", &reference);
	json = cJSON_Parse(reference.data);
	free(record.data);
	free(reference.data);
	return json;
}

static void
add_timestamp(cJSON *json, const char *key, int64_t seconds)
{
	char		text[TIMESTAMP_TEXT_SIZE];

	timestamp_write(seconds, text);
	cJSON_AddStringToObject(json, key, text);
}

static cJSON *
write_json(MemberWriter *writer, const CheckIn *check_in)
{
	cJSON	   *json = cJSON_CreateObject();
	cJSON	   *membership = member_reference(writer, check_in->membership_id);

	cJSON_AddStringToObject(json, "id", check_in->id);
	add_timestamp(json, "valid_from", check_in->valid_from);
	add_timestamp(json, "valid_until", check_in->valid_until);
	cJSON_AddStringToObject(json, "membership_id", check_in->membership_id);
	if (membership != NULL)
		cJSON_AddItemToObject(json, "membership", membership);
	if (check_in->time_pass_id != NULL)
		cJSON_AddStringToObject(cJSON_AddObjectToObject(json, "time_pass"), "id", check_in->time_pass_id);
	return json;
}

cJSON *
check_in_json(const Space *space, const CheckIn *check_in)
{
	MemberWriter writer = member_writer_open(space);
	cJSON	   *json = write_json(&writer, check_in);

	member_writer_close(&writer);
	return json;
}

cJSON *
check_ins_json(const Space *space, const CheckInRange *range)
{
	MemberWriter writer = member_writer_open(space);
	cJSON	   *array = cJSON_CreateArray();

	for (int i = 0; i < space->check_in_count; i++)
	{
		const CheckIn *check_in = space->check_ins[i];

		if (check_in->valid_from >= range->from && check_in->valid_from < range->to &&
			(range->membership_id == NULL || strcmp(range->membership_id, check_in->membership_id) == 0))
			cJSON_AddItemToArray(array, write_json(&writer, check_in));
	}
	member_writer_close(&writer);
	return array;
}

void
check_in_token_set(Space *space, const char *token, const char *membership_id)
{
	free(map_remove(&space->check_in_tokens, token));
	if (membership_id != NULL)
		map_set(&space->check_in_tokens, token, text_copy(membership_id));
}

const char *
check_in_token_owner(const Space *space, const char *token)
{
	return map_get(&space->check_in_tokens, token);
}

void
check_ins_free(Space *space)
{
	size_t		position = 0;
	MapEntry   *entry;

	for (int i = 0; i < space->check_in_count; i++)
		check_in_free(space->check_ins[i]);
	free(space->check_ins);
	while ((entry = map_next(&space->check_in_tokens, &position)) != NULL)
		free(entry->value);
	map_clear(&space->check_in_tokens);
}
