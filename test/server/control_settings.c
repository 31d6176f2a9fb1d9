/*
 * control_settings.c
 *	  Control commands about the settings: how Cobot behaves where that is not
 *	  known, or differs, or is up to people.
 */
#include "control.h"

#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "clock.h"
#include "record.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct
{
	const char *key;
	bool	   *flag;
}			flags[] = {
	{"rate_limit", &world.settings.rate_limit},
	{"gzip", &world.settings.gzip},
	{"etag", &world.settings.etag},
	{"omit_empty_fields", &world.settings.omit_empty_fields},
	{"clear_omitted_values", &world.settings.clear_omitted_values}
};

static const struct
{
	const char *key;
	int		   *number;
}			numbers[] = {
	{"latency_ms", &world.settings.latency_ms},
	{"not_admin_status", &world.settings.not_admin_status},
	{"code_lifetime_s", &world.settings.code_lifetime_s}
};

/* One of two words. */
static const struct
{
	const char *key;
	const char *word[2];		/* for false and true */
	bool	   *flag;
}			choices[] = {
	{"consent", {"given", "denied"}, &world.settings.consent_denied},
	{"repeat_check_in", {"refuse", "second"}, &world.settings.second_check_in},
	{"check_in_error_shape", {"errors", "base"}, &world.settings.bare_check_in_errors}
};

static cJSON *
settings_json(void)
{
	cJSON	   *json = cJSON_CreateObject();
	const char *login_user = world.settings.login_user;

	for (size_t i = 0; i < COUNT(flags); i++)
		cJSON_AddBoolToObject(json, flags[i].key, *flags[i].flag);
	for (size_t i = 0; i < COUNT(numbers); i++)
		cJSON_AddNumberToObject(json, numbers[i].key, *numbers[i].number);
	for (size_t i = 0; i < COUNT(choices); i++)
		cJSON_AddStringToObject(json, choices[i].key, choices[i].word[*choices[i].flag ? 1 : 0]);
	cJSON_AddItemToObject(json, "login_user", login_user != NULL ? cJSON_CreateString(login_user) : cJSON_CreateNull());
	cJSON_AddNumberToObject(json, "clock_shift_s", clock_shift());
	return json;
}

static void
show_settings(ControlCall *call)
{
	answer_json(call->answer, 200, settings_json());
}

static bool
is_key(const cJSON *item, const char *key)
{
	return strcmp(item->string, key) == 0;
}

/* What is neither of the words of a choice is no good; numbers and flags are not looked at. */
static bool
is_good(const cJSON *item)
{
	const char *word = cJSON_GetStringValue(item);

	for (size_t i = 0; i < COUNT(choices); i++)
	{
		if (is_key(item, choices[i].key))
			return word != NULL && (strcmp(word, choices[i].word[0]) == 0 || strcmp(word, choices[i].word[1]) == 0);
	}
	return true;
}

static void
set_one(const cJSON *item)
{
	for (size_t i = 0; i < COUNT(flags); i++)
	{
		if (is_key(item, flags[i].key))
			*flags[i].flag = cJSON_IsTrue(item) || (cJSON_IsNumber(item) && item->valuedouble != 0);
	}
	for (size_t i = 0; i < COUNT(numbers); i++)
	{
		if (is_key(item, numbers[i].key) && cJSON_IsNumber(item))
			*numbers[i].number = item->valueint;
	}
	for (size_t i = 0; i < COUNT(choices); i++)
	{
		if (is_key(item, choices[i].key))
			*choices[i].flag = strcmp(item->valuestring, choices[i].word[1]) == 0;
	}
	if (is_key(item, "login_user"))
	{
		free(world.settings.login_user);
		world.settings.login_user = text_copy(cJSON_GetStringValue(item));
	}
	if (is_key(item, "clock_shift_s") && cJSON_IsNumber(item))
		clock_set_shift(item->valuedouble);
}

static void
change_settings(ControlCall *call)
{
	cJSON	   *known;
	const cJSON *item;
	bool		all_good = true;

	if (!control_needs_object(call))
		return;
	known = settings_json();
	cJSON_ArrayForEach(item, call->body)
		all_good = all_good && record_item(known, item->string) != NULL && is_good(item);
	cJSON_Delete(known);
	if (!all_good)
	{
		control_invalid(call, "there is no such setting, or it cannot be set to this");
		return;
	}
	cJSON_ArrayForEach(item, call->body)
		set_one(item);
	cache_clear();
	answer_json(call->answer, 200, settings_json());
}

const ControlCommand control_settings_commands[] = {
	{"GET", "/settings", show_settings},
	{"PUT", "/settings", change_settings},
	{NULL, NULL, NULL}
};
