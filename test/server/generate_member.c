/*
 * generate_member.c
 *	  The members of a generated space. Each one is a function of the seed, the
 *	  space and its slot; nothing is remembered.
 *
 * Of the current members about 6 % are leaving, 4 % start in the future, 10 %
 * have no user, 8 % a customised plan, 2 % a team plan without a parent, 20 % an
 * individual-access value. The slots above them hold former and unconfirmed ones.
 */
#include "generate_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "generate_names.h"
#include "record.h"

struct Generated
{
	const Space *space;
	int			plans;
	char	  **standard;		/* plan copies as JSON text, without the closing brace */
	char	  **customised;
	char	   *team;			/* a plan without a parent */
};

/* Independent random numbers about one member. */
typedef enum Aspect
{
	ASPECT_NAME,
	ASPECT_STATE,
	ASPECT_DATES,
	ASPECT_PLAN,
	ASPECT_CONTACT,
	ASPECT_VALUES
} Aspect;

static unsigned
draw(const Space *space, int slot, Aspect aspect, unsigned choices)
{
	uint64_t	member = generator_random(GENERATED_MEMBER, space->generated_index, slot);

	return (unsigned) (generate_mix(member, (uint64_t) aspect, choices) % choices);
}

void
generate_member_id(const Space *space, int slot, char id[MEMBER_ID_SIZE])
{
	generator_write_id(GENERATED_MEMBER, space->generated_index, slot, id);
}

int
generate_find_member(const Space *space, const char *id)
{
	int			index;
	int			slot;

	if (space->generated_index >= 0 &&
		generator_read_id(GENERATED_MEMBER, id, &index, &slot) &&
		index == space->generated_index && slot < space->generated_members)
		return slot;
	return -1;
}

bool
generate_find_user(const char *user_id, Space **space, int *slot)
{
	int			index;

	if (!generator_read_id(GENERATED_USER, user_id, &index, slot) || index >= world.space_count)
		return false;
	*space = world.space_list[index];
	return (*space)->generated_index == index && *slot < (*space)->generated_members;
}

static bool
is_former(int slot)
{
	return slot >= generator.options.members;
}

void
generate_member_facts(const Space *space, int slot, MemberFacts *facts)
{
	unsigned	state = draw(space, slot, ASPECT_STATE, 100);

	facts->confirmed = !(is_former(slot) && state < 25);
	facts->last_day = DAY_NEVER;

	/* Two days away from today at least, so that no zone sees it otherwise. */
	if (is_former(slot) && facts->confirmed)
		facts->last_day = generator.today - 2 - (int32_t) draw(space, slot, ASPECT_DATES, 400);
	else if (!is_former(slot) && state < 6)
		facts->last_day = generator.today + 2 + (int32_t) draw(space, slot, ASPECT_DATES, 90);
}

static int32_t
start_day(const Space *space, int slot)
{
	unsigned	state = draw(space, slot, ASPECT_STATE, 100);

	if (!is_former(slot) && state >= 96)
		return generator.today + 2 + (int32_t) draw(space, slot, ASPECT_DATES, 45);
	return generator.today - 420 - (int32_t) draw(space, slot, ASPECT_DATES, 2000);
}

bool
generate_value(const Space *space, int slot, int field, Text *out)
{
	static const char *const access[] = {
		"Workshop", " staff ,Workshop,,Ghost", "staff", "Photo studio, Workshop", "Tonstudio,Dachterrasse",
		"server-room", "STAFF", "Werkstatt"
	};
	unsigned	number = draw(space, slot, ASPECT_VALUES, 100000);

	switch (field)
	{
		case 0:
			if (number % 100 >= 20)
				return false;
			text_add(out, access[number / 100 % (sizeof(access) / sizeof(access[0]))]);
			return true;
		case 1:
			if (number % 100 >= 70)
				return false;
			text_add_format(out, "wifi-%05u", number);
			return true;
		default:
			if (number % 10 >= 3)
				return false;
			text_add_format(out, "%c%u", 'A' + (int) (number / 10 % 6), number % 60 + 1);
			return true;
	}
}

cJSON *
generate_member_values(Space *space, int slot)
{
	cJSON	   *values = cJSON_CreateObject();
	char		id[GENERATED_ID_SIZE];
	Text		value = {0};

	for (int i = 0; i < GENERATED_FIELDS; i++)
	{
		value.length = 0;
		if (!generate_value(space, slot, i, &value))
			continue;
		generator_write_id(GENERATED_FIELD, space->generated_index, i, id);
		cJSON_AddStringToObject(values, id, value.data);
	}
	free(value.data);
	return values;
}

/* A plan copy as text that still wants its end: ,"canceled_to":...} */
static char *
open_text(cJSON *copy)
{
	char	   *text;

	cJSON_DeleteItemFromObjectCaseSensitive(copy, "canceled_to");
	text = cJSON_PrintUnformatted(copy);
	text[strlen(text) - 1] = '\0';
	cJSON_Delete(copy);
	return text;
}

static void
rename_plan(cJSON *copy, const char *format)
{
	const char *name = record_text(copy, "name");
	char	   *renamed = text_printf("%s%s", name != NULL ? name : "", format);

	cJSON_ReplaceItemInObjectCaseSensitive(copy, "name", cJSON_CreateString(renamed));
	free(renamed);
}

Generated *
generated_open(const Space *space)
{
	Generated  *generated = memory_zero(sizeof(Generated));
	cJSON	   *plans = generate_plans(space);
	cJSON	   *plan;
	cJSON	   *copy;

	generated->space = space;
	generated->standard = memory_zero((size_t) cJSON_GetArraySize(plans) * sizeof(char *));
	generated->customised = memory_zero((size_t) cJSON_GetArraySize(plans) * sizeof(char *));
	cJSON_ArrayForEach(plan, plans)
	{
		generated->standard[generated->plans] = open_text(record_plan_copy(plan));
		copy = record_plan_copy(plan);
		rename_plan(copy, " (individual terms)");
		cJSON_ReplaceItemInObjectCaseSensitive(copy, "price_per_cycle", cJSON_CreateString("111.5"));
		cJSON_ReplaceItemInObjectCaseSensitive(copy, "price_per_cycle_in_cents", cJSON_CreateNumber(11150));
		generated->customised[generated->plans++] = open_text(copy);
	}
	copy = record_plan_copy(plans->child);
	cJSON_DeleteItemFromObjectCaseSensitive(copy, "parent_plan");
	rename_plan(copy, " for a team");
	generated->team = open_text(copy);
	cJSON_Delete(plans);
	return generated;
}

void
generated_close(Generated *generated)
{
	if (generated == NULL)
		return;
	for (int i = 0; i < generated->plans; i++)
	{
		free(generated->standard[i]);
		free(generated->customised[i]);
	}
	free(generated->standard);
	free(generated->customised);
	free(generated->team);
	free(generated);
}

/* "key": "value" with a comma before it; NULL becomes null. */
static void
add_pair(Text *out, const char *key, const char *value)
{
	text_add(out, ",\"");
	text_add(out, key);
	text_add(out, "\":");
	text_add_json(out, value);
}

static void
add_day(Text *out, const char *key, int32_t day)
{
	char		date[DAY_TEXT_SIZE];

	if (day != DAY_NEVER)
		day_write(day, date);
	add_pair(out, key, day == DAY_NEVER ? NULL : date);
}

static void
add_address(Text *out, const Culture *culture, const char *name, const char *family, unsigned contact)
{
	const Place *place = &culture->places[contact % PLACES_PER_CULTURE];
	unsigned	house = contact / 7 % 190 + 1;
	Text		company = {0};
	Text		street = {0};
	Text		full = {0};

	text_add_format(&street, "%s %u", place->street, house);
	text_add_format(&full, "%s\n%s %s", street.data, place->post_code, place->city);
	if (contact % 3 != 0)
		text_add_format(&company, culture->company, family);
	text_add(out, ",\"address\":{\"company\":");
	text_add_json(out, company.data);
	add_pair(out, "name", name);
	add_pair(out, "full_address", full.data);
	add_pair(out, "address", street.data);
	add_pair(out, "post_code", place->post_code);
	add_pair(out, "city", place->city);
	add_pair(out, "state", NULL);
	add_pair(out, "country", culture->country);
	text_add_char(out, '}');
	free(company.data);
	free(street.data);
	free(full.data);
}

/* Who it is: name, e-mail, phone, user, address. */
static void
add_person(Text *out, const Space *space, int slot)
{
	unsigned	contact = draw(space, slot, ASPECT_CONTACT, 1000000);
	const Culture *culture = &cultures[draw(space, slot, ASPECT_NAME, (unsigned) culture_count)];
	unsigned	number = draw(space, slot, ASPECT_NAME, NAMES_PER_CULTURE * NAMES_PER_CULTURE);
	const NamePart *given = &culture->given[number % NAMES_PER_CULTURE];
	const NamePart *family = &culture->family[number / NAMES_PER_CULTURE];
	char		name[200];
	char		email[200];
	char		phone[60];
	char		user_id[GENERATED_ID_SIZE];

	snprintf(name, sizeof(name), "%s %s",
			 culture->family_name_first ? family->native : given->native,
			 culture->family_name_first ? given->native : family->native);
	snprintf(email, sizeof(email), "%s.%s.%d@example.com", given->ascii, family->ascii, slot + 1);
	snprintf(phone, sizeof(phone), "%s %06u", culture->dial_code, contact);
	add_pair(out, "name", contact % 500 == 0 ? NULL : name);
	add_pair(out, "email", email);
	add_pair(out, "phone", contact % 5 == 0 ? NULL : phone);
	if (draw(space, slot, ASPECT_CONTACT, 10) == 0)
		text_add(out, ",\"user\":null");
	else
	{
		generator_write_id(GENERATED_USER, space->generated_index, slot, user_id);
		text_add(out, ",\"user\":{\"id\":");
		text_add_json(out, user_id);
		add_pair(out, "email", email);
		text_add_char(out, '}');
	}
	add_pair(out, "picture", NULL);
	add_address(out, culture, name, family->native, contact);
	text_add(out, ",\"billing_emails\":[");
	if (contact % 4 == 0)
		text_add_format(out, "\"accounts.%d@example.com\"", slot + 1);
	text_add_char(out, ']');
}

static void
add_plan(Text *out, const Generated *generated, int slot, int32_t last_day)
{
	unsigned	kind = draw(generated->space, slot, ASPECT_PLAN, 100);
	unsigned	plan = draw(generated->space, slot, ASPECT_PLAN, (unsigned) generated->plans);

	text_add(out, ",\"plan\":");
	if (kind < 2)
		text_add(out, generated->team);
	else
		text_add(out, kind < 10 ? generated->customised[plan] : generated->standard[plan]);
	add_day(out, "canceled_to", last_day);
	text_add(out, "},\"upcoming_plan\":null");
}

void
generate_member(Generated *generated, int slot, Text *out)
{
	const Space *space = generated->space;
	int32_t		start = start_day(space, slot);
	MemberFacts facts;
	char		id[MEMBER_ID_SIZE];
	char		confirmed[TIMESTAMP_TEXT_SIZE];

	generate_member_facts(space, slot, &facts);
	generate_member_id(space, slot, id);
	timestamp_write((int64_t) (start < generator.today ? start : generator.today - 1) * 86400 + 43200, confirmed);

	text_reserve(out, 4096);
	text_add(out, "{\"id\":");
	text_add_json(out, id);
	add_person(out, space, slot);
	text_add_format(out, ",\"charge_taxes\":true,\"customer_number\":\"%d\"", 10001 + slot);
	add_plan(out, generated, slot, facts.last_day);
	text_add(out, slot % 3 == 0 ? ",\"payment_method\":{\"name\":\"credit card\",\"automated\":true}"
			 : ",\"payment_method\":{\"name\":\"cash\",\"automated\":false}");
	add_pair(out, "confirmed_at", facts.confirmed ? confirmed : NULL);
	add_day(out, "starts_at", start);
	add_day(out, "canceled_to", facts.last_day);
	add_day(out, "next_invoice_at", facts.last_day < generator.today ? DAY_NEVER : generator.today + 1 + slot % 28);
	text_add(out, ",\"team_id\":null}");
}
