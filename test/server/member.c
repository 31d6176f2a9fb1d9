/*
 * member.c
 *	  The members of a space, by slot or by id: generated ones are made on the
 *	  fly, changed and added ones are stored as JSON text.
 */
#include "member.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "field.h"
#include "generate.h"
#include "record.h"

static Member *
stored_at(const Space *space, int slot)
{
	if (slot >= space->generated_members)
		return space->added[slot - space->generated_members];
	return space->overlay != NULL ? space->overlay[slot] : NULL;
}

int
members_slots(const Space *space)
{
	return space->generated_members + space->added_count;
}

bool
members_facts(const Space *space, int slot, MemberFacts *facts)
{
	const Member *member = stored_at(space, slot);

	if (member == NULL)
	{
		generate_member_facts(space, slot, facts);
		return true;
	}
	facts->confirmed = member->confirmed;
	facts->last_day = member->last_day;
	return !member->deleted;
}

bool
members_is_current(const MemberFacts *facts, int32_t today)
{
	return facts->confirmed && facts->last_day >= today;
}

int
members_find(const Space *space, const char *id)
{
	const Member *member = map_get(&space->stored, id);
	int			slot;

	if (member != NULL)
		return member->deleted ? -1 : member->slot;
	slot = generate_find_member(space, id);

	/* A stored one would have been found above, under the id it has now. */
	return slot >= 0 && stored_at(space, slot) == NULL ? slot : -1;
}

void
members_id(const Space *space, int slot, char id[MEMBER_ID_SIZE])
{
	const Member *member = stored_at(space, slot);

	if (member == NULL)
		generate_member_id(space, slot, id);
	else
		snprintf(id, MEMBER_ID_SIZE, "%s", member->id);
}

MemberWriter
member_writer_open(const Space *space)
{
	return (MemberWriter) {space, NULL};
}

void
member_writer_close(MemberWriter *writer)
{
	generated_close(writer->generated);
	writer->generated = NULL;
}

void
member_write(MemberWriter *writer, int slot, Text *out)
{
	const Member *member = stored_at(writer->space, slot);

	if (member != NULL)
	{
		text_add(out, member->record);
		return;
	}
	if (writer->generated == NULL)
		writer->generated = generated_open(writer->space);
	generate_member(writer->generated, slot, out);
}

cJSON *
members_record_copy(const Space *space, int slot)
{
	MemberWriter writer = member_writer_open(space);
	Text		text = {0};
	cJSON	   *record;

	member_write(&writer, slot, &text);
	member_writer_close(&writer);
	record = cJSON_Parse(text.data);
	free(text.data);
	return record;
}

/* What the lists need to know, read from the record once. */
static void
set_record(Member *member, cJSON *record)
{
	const cJSON *user = cJSON_GetObjectItemCaseSensitive(record, "user");
	const char *user_id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(user, "id"));
	const char *last_day = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(record, "canceled_to"));

	free(member->record);
	member->record = cJSON_PrintUnformatted(record);
	free(member->user_id);
	member->user_id = text_copy(user_id);
	member->confirmed = cJSON_IsString(cJSON_GetObjectItemCaseSensitive(record, "confirmed_at"));
	if (!day_read(last_day, &member->last_day))
		member->last_day = DAY_NEVER;
	cJSON_Delete(record);
}

Member *
members_store(Space *space, int slot)
{
	Member	   *member = stored_at(space, slot);
	cJSON	   *record;
	char		id[MEMBER_ID_SIZE];

	if (member != NULL)
		return member;
	if (space->overlay == NULL)
		space->overlay = memory_zero((size_t) space->generated_members * sizeof(Member *));
	record = members_record_copy(space, slot);
	members_id(space, slot, id);
	member = memory_zero(sizeof(Member));
	member->slot = slot;
	member->id = text_copy(id);
	member->values = generate_member_values(space, slot);
	set_record(member, record);
	space->overlay[slot] = member;
	map_set(&space->stored, id, member);
	return member;
}

static Member *
new_member(Space *space, const char *id)
{
	Member	   *member = memory_zero(sizeof(Member));

	if (space->added_count == space->added_size)
	{
		space->added_size = space->added_size > 0 ? space->added_size * 2 : 16;
		space->added = memory_resize(space->added, (size_t) space->added_size * sizeof(Member *));
	}
	member->slot = members_slots(space);
	member->id = text_copy(id);
	member->values = cJSON_CreateObject();
	space->added[space->added_count++] = member;
	map_set(&space->stored, id, member);
	return member;
}

int
members_put(Space *space, cJSON *record)
{
	const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(record, "id"));
	int			slot = members_find(space, id);
	Member	   *member = slot >= 0 ? members_store(space, slot) : new_member(space, id);

	set_record(member, record);
	space_changed(space);
	return member->slot;
}

void
members_delete(Space *space, int slot)
{
	Member	   *member = members_store(space, slot);

	member->deleted = true;
	space_changed(space);
}

/* A generated member knows its user by the id; stored ones are looked through. */
void
members_of_user(const char *user_id, MemberVisitor visit, void *closure)
{
	Space	   *space;
	int			slot;

	if (generate_find_user(user_id, &space, &slot) && stored_at(space, slot) == NULL)
		visit(space, slot, closure);
	for (int i = 0; i < world.space_count; i++)
	{
		size_t		position = 0;
		MapEntry   *entry;

		while ((entry = map_next(&world.space_list[i]->stored, &position)) != NULL)
		{
			const Member *member = entry->value;

			if (!member->deleted && member->user_id != NULL && strcmp(member->user_id, user_id) == 0)
				visit(world.space_list[i], member->slot, closure);
		}
	}
}

static void
member_free(Member *member)
{
	if (member == NULL)
		return;
	free(member->id);
	free(member->record);
	free(member->user_id);
	cJSON_Delete(member->values);
	free(member);
}

void
members_free(Space *space)
{
	for (int i = 0; space->overlay != NULL && i < space->generated_members; i++)
		member_free(space->overlay[i]);
	for (int i = 0; i < space->added_count; i++)
		member_free(space->added[i]);
	free(space->overlay);
	free(space->added);
	map_clear(&space->stored);
}
