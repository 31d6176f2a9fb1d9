/*
 * time_pass.c
 *	  The time passes of members (facts, 8.3). A member's passes are numbered; the
 *	  unused ones are a range of numbers, and their ids follow from the numbers.
 */
#include "time_pass.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "generate.h"
#include "record.h"

#define PASS_ID_SIZE 33

/* The value of a space's map, by membership id. */
typedef struct PassBook
{
	int			first;			/* number of the first unused pass */
	int			end;			/* one above the last */
} PassBook;

/* The first kind of pass in the plan, or NULL. */
static const cJSON *
kind_of_pass(const cJSON *plan)
{
	return cJSON_GetArrayItem(record_item(plan, "time_passes"), 0);
}

bool
time_passes_needed(const cJSON *plan)
{
	return kind_of_pass(plan) != NULL;
}

static PassBook
read_book(const Space *space, const char *membership_id, const cJSON *plan)
{
	const PassBook *stored = map_get(&space->time_passes, membership_id);
	const cJSON *included = record_item(kind_of_pass(plan), "included_per_timespan");

	if (stored != NULL)
		return *stored;
	return (PassBook) {0, cJSON_IsNumber(included) ? included->valueint : 0};
}

static void
write_book(Space *space, const char *membership_id, PassBook book)
{
	PassBook   *stored = map_get(&space->time_passes, membership_id);

	if (stored == NULL)
	{
		stored = memory_zero(sizeof(PassBook));
		map_set(&space->time_passes, membership_id, stored);
	}
	*stored = book;
}

int
time_passes_unused(const Space *space, const char *membership_id, const cJSON *plan)
{
	PassBook	book = read_book(space, membership_id, plan);

	return book.end - book.first;
}

void
time_passes_set(Space *space, const char *membership_id, const cJSON *plan, int unused)
{
	PassBook	book = read_book(space, membership_id, plan);

	book.end = book.first + unused;
	write_book(space, membership_id, book);
}

bool
time_passes_are_stored(const Space *space, const char *membership_id)
{
	return map_get(&space->time_passes, membership_id) != NULL;
}

static void
write_pass_id(const char *membership_id, int number, char id[PASS_ID_SIZE])
{
	uint64_t	member = 0;

	for (const char *p = membership_id; *p != '\0'; p++)
		member = generate_mix(member, (unsigned char) *p, 1);
	snprintf(id, PASS_ID_SIZE, "%016llx%016llx",
			 (unsigned long long) generate_mix(member, (uint64_t) number, 2),
			 (unsigned long long) generate_mix(member, (uint64_t) number, 3));
}

char *
time_pass_use(Space *space, const char *membership_id, const cJSON *plan)
{
	PassBook	book = read_book(space, membership_id, plan);
	char		id[PASS_ID_SIZE];

	if (book.first >= book.end)
		return NULL;
	write_pass_id(membership_id, book.first++, id);
	write_book(space, membership_id, book);
	return text_copy(id);
}

/* Of the plan, or as that of a day pass where the plan has none. */
static void
add_times(cJSON *pass, const cJSON *kind)
{
	const cJSON *timespans = record_item(kind, "timespans");
	const cJSON *parsed = record_item(kind, "parsed_timespans");

	cJSON_AddItemToObject(pass, "timespans", timespans != NULL ? cJSON_Duplicate(timespans, true)
						  : cJSON_CreateString("4-3:59"));
	cJSON_AddItemToObject(pass, "parsed_timespans", parsed != NULL ? cJSON_Duplicate(parsed, true)
						  : cJSON_Parse("[{\"from_hour\":4,\"from_minute\":0,\"to_hour\":3,\"to_minute\":59,\"weekdays\":[]}]"));
}

void
time_passes_list(const Space *space, const char *membership_id, const cJSON *plan, cJSON *array)
{
	PassBook	book = read_book(space, membership_id, plan);
	const cJSON *kind = kind_of_pass(plan);
	const char *name = record_text(kind, "name");
	char		day[DAY_TEXT_SIZE];
	char		created[TIMESTAMP_TEXT_SIZE];
	char		id[PASS_ID_SIZE];

	/* Passes come with the month. */
	day_write(clock_today(space->zone), day);
	snprintf(created, sizeof(created), "%.8s01 00:00:00 +0000", day);
	for (int number = book.first; number < book.end; number++)
	{
		cJSON	   *pass = cJSON_CreateObject();
		char	   *url;

		write_pass_id(membership_id, number, id);
		url = text_printf("https://%s.cobot.me/api/memberships/%s/time_passes/%s", space->subdomain, membership_id, id);
		cJSON_AddStringToObject(pass, "id", id);
		cJSON_AddStringToObject(pass, "name", name != NULL ? name : "Day Pass");
		cJSON_AddStringToObject(pass, "created_at", created);
		cJSON_AddStringToObject(pass, "updated_at", created);
		cJSON_AddNullToObject(pass, "expires_at");
		cJSON_AddNullToObject(pass, "used_at");
		cJSON_AddStringToObject(pass, "url", url);
		add_times(pass, kind);
		cJSON_AddItemToArray(array, pass);
		free(url);
	}
}

void
time_passes_free(Space *space)
{
	size_t		position = 0;
	MapEntry   *entry;

	while ((entry = map_next(&space->time_passes, &position)) != NULL)
		free(entry->value);
	map_clear(&space->time_passes);
}
