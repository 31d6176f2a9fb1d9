/*
 * record.c
 *	  Whole records from partial ones, relative dates, merge patches. Works on
 *	  cJSON trees only; where it needs the space it wants the world's lock.
 */
#include "record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "url.h"

#define DEFAULT_START_DAYS_AGO 30

cJSON *
record_item(const cJSON *object, const char *key)
{
	return cJSON_GetObjectItemCaseSensitive(object, key);
}

const char *
record_text(const cJSON *object, const char *key)
{
	return cJSON_GetStringValue(record_item(object, key));
}

bool
record_flag(const cJSON *object, const char *key)
{
	const cJSON *item = record_item(object, key);

	return cJSON_IsTrue(item) || (cJSON_IsNumber(item) && item->valuedouble != 0);
}

void
record_default(cJSON *object, const char *key, cJSON *value)
{
	if (record_item(object, key) != NULL)
		cJSON_Delete(value);
	else
		cJSON_AddItemToObject(object, key, value);
}

static void
default_text(cJSON *object, const char *key, const char *value)
{
	record_default(object, key, value != NULL ? cJSON_CreateString(value) : cJSON_CreateNull());
}

/* JSON text as the default of several keys at once. */
static void
default_keys(cJSON *object, const char *json)
{
	cJSON	   *defaults = cJSON_Parse(json);

	while (defaults->child != NULL)
	{
		cJSON	   *item = cJSON_DetachItemViaPointer(defaults, defaults->child);
		char	   *key = text_copy(item->string);

		record_default(object, key, item);
		free(key);
	}
	cJSON_Delete(defaults);
}

cJSON *
record_merge(cJSON *target, cJSON *patch)
{
	if (!cJSON_IsObject(patch))
	{
		cJSON_Delete(target);
		return patch;
	}
	if (!cJSON_IsObject(target))
	{
		cJSON_Delete(target);
		target = cJSON_CreateObject();
	}
	while (patch->child != NULL)
	{
		cJSON	   *change = cJSON_DetachItemViaPointer(patch, patch->child);
		char	   *key = text_copy(change->string);
		cJSON	   *before = record_item(target, key);

		if (before != NULL)
			cJSON_DetachItemViaPointer(target, before);
		cJSON_AddItemToObject(target, key, record_merge(before, change));
		free(key);
	}
	cJSON_Delete(patch);
	return target;
}

void
record_remove(cJSON *record, const char *path)
{
	const char *dot;

	while (record != NULL && (dot = strchr(path, '.')) != NULL)
	{
		char	   *key = text_copy_length(path, (size_t) (dot - path));

		record = record_item(record, key);
		free(key);
		path = dot + 1;
	}
	cJSON_DeleteItemFromObjectCaseSensitive(record, path);
}

/* The end of the JSON value that starts here; the text is known to be valid. */
static const char *
skip_value(const char *p)
{
	int			depth = 0;

	do
	{
		if (*p == '"')
		{
			for (p++; *p != '"'; p++)
				p += *p == '\\' ? 1 : 0;
		}
		else if (*p == '{' || *p == '[')
			depth++;
		else if (*p == '}' || *p == ']')
			depth--;
		p++;
	} while (depth > 0 || (*p != ',' && *p != '}' && *p != ']' && *p != ':' && *p != '\0'));
	return p;
}

void
record_copy_keys(const char *record, const char *keys, Text *out)
{
	const char *p = record + 1;
	bool		first = true;

	text_add_char(out, '{');
	while (*p == '"')
	{
		const char *key = p;
		const char *key_end = skip_value(key);
		const char *value_end = skip_value(key_end + 1);

		if (url_list_has(keys, key + 1, (size_t) (key_end - key) - 2))
		{
			if (!first)
				text_add_char(out, ',');
			text_add_bytes(out, key, (size_t) (value_end - key));
			first = false;
		}
		p = value_end + (*value_end == ',' ? 1 : 0);
	}
	text_add_char(out, '}');
}

/* Timestamps in Cobot's records; everything else that says "today" is a date. */
static bool
is_timestamp_key(const char *key)
{
	return key != NULL && (strcmp(key, "confirmed_at") == 0 || strcmp(key, "created_at") == 0 ||
						   strcmp(key, "valid_from") == 0 || strcmp(key, "valid_until") == 0);
}

static char *
resolve(const char *text, bool is_timestamp, int32_t today)
{
	int			days = 0;
	int			hour = 8;
	int			minute = 0;
	int			used = 0;
	char		date[DAY_TEXT_SIZE];
	const char *rest = text + strlen("today");

	if (strncmp(text, "today", strlen("today")) != 0)
		return NULL;
	if (sscanf(rest, "%dd%n", &days, &used) == 1 && used > 0)
		rest += used;
	used = 0;
	if (sscanf(rest, " %2d:%2d%n", &hour, &minute, &used) == 2 && used > 0)
	{
		rest += used;
		is_timestamp = true;
	}
	if (*rest != '\0')
		return NULL;
	day_write(today + days, date);
	if (!is_timestamp)
		return text_copy(date);
	return text_printf("%s %02d:%02d:00 +0000", date, hour, minute);
}

void
record_resolve_dates(cJSON *tree, int32_t today)
{
	char	   *date;

	for (cJSON *item = tree->child; item != NULL; item = item->next)
		record_resolve_dates(item, today);
	if (cJSON_IsString(tree) &&
		(date = resolve(tree->valuestring, is_timestamp_key(tree->string), today)) != NULL)
	{
		cJSON_SetValuestring(tree, date);
		free(date);
	}
}

void
record_complete_space(cJSON *space, const char *subdomain, const char *id)
{
	char	   *url = text_printf("https://%s.cobot.me", subdomain);
	char	   *email = text_printf("hello@%s.example.com", subdomain);
	const char *zone;

	default_text(space, "id", id);
	default_text(space, "name", subdomain);
	default_text(space, "subdomain", subdomain);
	default_text(space, "url", url);
	default_text(space, "email", email);
	default_keys(space, "{\"created_at\": \"2015/03/02 09:30:00 +0000\", \"description\": null, \"owner_id\": null,"
				 "\"tax_rate\": 19.0, \"price_display\": \"net\", \"price_decimals\": 2, \"country\": \"Germany\","
				 "\"locale\": \"en\", \"in_eu\": true, \"time_zone_name\": \"Europe/Berlin\", \"hour_format\": 24}");
	zone = record_text(space, "time_zone_name");
	record_default(space, "time_zone_offset", cJSON_CreateNumber(clock_offset_hours(zone)));
	free(url);
	free(email);
}

void
record_complete_plan(cJSON *plan)
{
	char	   *id = NULL;

	if (record_item(plan, "id") == NULL)
	{
		id = world_new_id(32);
		cJSON_AddStringToObject(plan, "id", id);
		free(id);
	}
	default_keys(plan, "{\"name\": \"Plan\", \"color\": \"#3b7ea1\", \"photo\": null, \"price_per_cycle\": \"200.0\","
				 "\"price_per_cycle_in_cents\": 20000, \"cycle_duration\": 1, \"currency\": \"EUR\","
				 "\"terms\": \"\", \"description\": \"\", \"cancellation_period\": 14, \"minimum_commitment\": null,"
				 "\"hidden\": false, \"tax_rate\": \"19.0\","
				 "\"signup_charge\": {\"amount\": \"0.0\", \"tax_rate\": \"19.0\", \"description\": null, \"accounting_code\": null},"
				 "\"booking_credits\": [], \"time_passes\": [], \"extras\": [], \"welcome_message\": \"\"}");
}

cJSON *
record_plan_copy(const cJSON *plan)
{
	static const char *const same[] = {
		"name", "description", "price_per_cycle", "price_per_cycle_in_cents", "tax_rate", "currency",
		"cycle_duration", "cancellation_period", "booking_credits", "time_passes"
	};
	cJSON	   *copy = cJSON_CreateObject();
	cJSON	   *parent = cJSON_AddObjectToObject(copy, "parent_plan");
	const char *price = record_text(plan, "price_per_cycle");
	double		total = price != NULL ? strtod(price, NULL) : 0;
	cJSON	   *extras;
	const cJSON *extra;
	char		number[40];

	cJSON_AddItemToObject(parent, "id", cJSON_Duplicate(record_item(plan, "id"), true));
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
		cJSON_AddItemToObject(copy, same[i], cJSON_Duplicate(record_item(plan, same[i]), true));

	/* Extras lose their ids in the copy (facts, 5.1 against 6). */
	extras = cJSON_Duplicate(record_item(plan, "extras"), true);
	cJSON_ArrayForEach(extra, extras)
	{
		const char *extra_price = record_text(extra, "price");

		cJSON_DeleteItemFromObjectCaseSensitive((cJSON *) extra, "id");
		total += extra_price != NULL ? strtod(extra_price, NULL) : 0;
	}
	cJSON_AddItemToObject(copy, "extras", extras != NULL ? extras : cJSON_CreateArray());
	snprintf(number, sizeof(number), "%.1f", total);
	cJSON_AddStringToObject(copy, "total_price_per_cycle", number);
	cJSON_AddNullToObject(copy, "accounting_code");
	cJSON_AddNullToObject(copy, "canceled_to");
	return copy;
}

/* The catalogue plan a membership's plan names as its parent, or the first one. */
static const cJSON *
catalogue_plan(const cJSON *plans, const cJSON *plan)
{
	const char *parent = record_text(record_item(plan, "parent_plan"), "id");
	const cJSON *candidate;

	cJSON_ArrayForEach(candidate, plans)
	{
		const char *id = record_text(candidate, "id");

		if (parent == NULL || (id != NULL && strcmp(id, parent) == 0))
			return candidate;
	}
	return NULL;
}

static void
complete_membership_plan(cJSON *membership, const Space *space)
{
	cJSON	   *plan = record_item(membership, "plan");
	cJSON	   *plans;
	const cJSON *parent;
	cJSON	   *copy;

	if (plan != NULL && !cJSON_IsObject(plan))
		return;					/* null, or a shape the test wants to be wrong */
	plans = space_plans_copy(space);
	parent = catalogue_plan(plans, plan);
	if (parent != NULL)
		copy = record_plan_copy(parent);
	else
	{
		cJSON	   *generic = cJSON_CreateObject();

		record_complete_plan(generic);
		copy = record_plan_copy(generic);
		cJSON_Delete(generic);
	}
	cJSON_Delete(plans);
	if (plan == NULL)
		plan = cJSON_AddObjectToObject(membership, "plan");
	while (copy->child != NULL)
	{
		cJSON	   *item = cJSON_DetachItemViaPointer(copy, copy->child);
		char	   *key = text_copy(item->string);

		record_default(plan, key, item);
		free(key);
	}
	cJSON_Delete(copy);
}

static const char *
text_or_nothing(const cJSON *object, const char *key)
{
	const char *text = record_text(object, key);

	return text != NULL ? text : "";
}

static void
complete_address(cJSON *membership)
{
	const char *name = record_text(membership, "name");
	cJSON	   *address = record_item(membership, "address");
	char	   *full;

	if (address == NULL)
		address = cJSON_AddObjectToObject(membership, "address");
	if (!cJSON_IsObject(address))
		return;
	default_text(address, "company", NULL);
	default_text(address, "name", name);
	default_keys(address, "{\"address\": \"1 Street\", \"post_code\": \"10115\", \"city\": \"Berlin\","
				 "\"state\": null, \"country\": \"Germany\"}");
	full = text_printf("%s\n%s %s", text_or_nothing(address, "address"), text_or_nothing(address, "post_code"),
					   text_or_nothing(address, "city"));
	default_text(address, "full_address", full);
	free(full);
}

void
record_complete_membership(cJSON *membership, const Space *space)
{
	int32_t		today = clock_today(space->zone);
	char		date[TIMESTAMP_TEXT_SIZE];
	char	   *id = world_new_id(32);
	char	   *user_id = world_new_id(32);
	char	   *email = text_printf("member-%.8s@example.com", id);
	char	   *name = text_printf("Member %.8s", id);
	cJSON	   *user = cJSON_CreateObject();

	default_text(membership, "id", id);
	default_text(membership, "name", name);
	default_text(membership, "email", email);
	cJSON_AddStringToObject(user, "id", user_id);
	cJSON_AddItemToObject(user, "email", cJSON_Duplicate(record_item(membership, "email"), true));
	record_default(membership, "user", user);
	default_keys(membership, "{\"phone\": null, \"picture\": null, \"billing_emails\": [], \"charge_taxes\": true,"
				 "\"customer_number\": null, \"upcoming_plan\": null, \"canceled_to\": null,"
				 "\"payment_method\": {\"name\": \"cash\", \"automated\": false}, \"team_id\": null}");
	complete_address(membership);
	complete_membership_plan(membership, space);
	day_write(today - DEFAULT_START_DAYS_AGO, date);
	default_text(membership, "starts_at", date);
	timestamp_write((int64_t) (today - DEFAULT_START_DAYS_AGO) * 86400 + 12 * 3600, date);
	default_text(membership, "confirmed_at", date);
	day_write(today + DEFAULT_START_DAYS_AGO, date);
	default_text(membership, "next_invoice_at", date);
	free(id);
	free(user_id);
	free(email);
	free(name);
}
