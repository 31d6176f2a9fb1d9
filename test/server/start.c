/*
 * start.c
 *	  How the world begins, and again after a reset: from a state file or from
 *	  the generator.
 */
#include "start.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_in.h"
#include "clock.h"
#include "field.h"
#include "oauth.h"
#include "record.h"

#define CODE_LIFETIME_S 600

static StartOptions options;
static cJSON *state;			/* what the state file says, or NULL */
static char *default_user;		/* of tokens that name none */

void
start_set_options(const StartOptions *given)
{
	options = *given;
}

static char *
read_file(const char *path)
{
	FILE	   *file = fopen(path, "rb");
	Text		text = {0};
	char		chunk[65536];
	size_t		length;

	if (file == NULL)
		return NULL;
	while ((length = fread(chunk, 1, sizeof(chunk), file)) > 0)
		text_add_bytes(&text, chunk, length);
	fclose(file);
	return text_take(&text);
}

bool
start_check(void)
{
	char	   *text;
	const cJSON *space;

	if (options.state_file == NULL)
		return true;
	text = read_file(options.state_file);
	if (text == NULL)
	{
		fprintf(stderr, "cobot_test_server: could not read \"%s\"\n", options.state_file);
		return false;
	}
	state = cJSON_Parse(text);
	free(text);
	if (!cJSON_IsObject(state))
	{
		fprintf(stderr, "cobot_test_server: \"%s\" is not a JSON object\n", options.state_file);
		return false;
	}
	cJSON_ArrayForEach(space, record_item(state, "spaces"))
	{
		if (record_text(space, "subdomain") == NULL)
		{
			fprintf(stderr, "cobot_test_server: \"%s\" has a space without subdomain\n", options.state_file);
			return false;
		}
	}
	return true;
}

User *
start_add_user(cJSON *record)
{
	char	   *id = text_copy(record_text(record, "id"));
	char	   *email;
	User	   *user;

	if (id == NULL)
		id = world_new_id(32);
	email = text_printf("%s@example.com", id);
	record_default(record, "id", cJSON_CreateString(id));
	record_default(record, "email", cJSON_CreateString(email));
	record_default(record, "name", cJSON_CreateString(id));
	record_default(record, "admin_of", cJSON_CreateArray());
	user = user_put(record);
	if (default_user == NULL)
		default_user = text_copy(id);
	free(id);
	free(email);
	return user;
}

/* Whom a token is for when nobody was named: an admin of the space, if there is one. */
static const char *
user_for(const Space *space)
{
	size_t		position = 0;
	MapEntry   *entry;

	if (space == NULL || user_is_admin(user_find(default_user), space))
		return default_user;
	while ((entry = map_next(&world.users, &position)) != NULL)
	{
		if (user_is_admin(entry->value, space))
			return entry->key;
	}
	return default_user;
}

static void
take_email(const Space *space, int slot, void *user)
{
	cJSON	   *record = members_record_copy(space, slot);

	if (record_item(user, "email") == NULL)
		cJSON_AddItemToObject(user, "email", cJSON_Duplicate(record_item(record, "email"), true));
	cJSON_Delete(record);
}

/* Members are users too, but stand in the world's list only once they have a token. */
static User *
known_user(const char *id)
{
	cJSON	   *record;

	if (user_find(id) != NULL)
		return user_find(id);
	record = cJSON_CreateObject();
	if (id != NULL)
	{
		cJSON_AddStringToObject(record, "id", id);
		members_of_user(id, take_email, record);
	}
	return start_add_user(record);
}

User *
start_login_user(void)
{
	return known_user(world.settings.login_user != NULL ? world.settings.login_user : default_user);
}

cJSON *
start_add_token(const cJSON *wanted)
{
	const char *kind = record_text(wanted, "kind");
	bool		is_space = kind != NULL && strcmp(kind, "space") == 0;
	Space	   *space = space_find(record_text(wanted, "space"));
	const char *user = record_text(wanted, "user");
	cJSON	   *scopes = record_item(wanted, "scopes");
	char	   *name = text_copy(record_text(wanted, "token"));
	cJSON	   *json;

	if (is_space && space == NULL)
	{
		free(name);
		return NULL;
	}
	if (name == NULL)
		name = world_new_id(64);
	if (user == NULL)
		user = user_for(space);
	user = known_user(user)->id;
	scopes = cJSON_IsArray(scopes) ? cJSON_Duplicate(scopes, true) : all_scopes();
	token_put(name, user, is_space ? space->subdomain : NULL, record_text(wanted, "client_id"), scopes);

	json = cJSON_CreateObject();
	cJSON_AddStringToObject(json, "token", name);
	cJSON_AddStringToObject(json, "user", user);
	cJSON_AddStringToObject(json, "kind", is_space ? "space" : "user");
	cJSON_AddItemToObject(json, "space", is_space ? cJSON_CreateString(space->subdomain) : cJSON_CreateNull());
	cJSON_AddItemToObject(json, "scopes", cJSON_Duplicate(scopes, true));
	free(name);
	return json;
}

static void
load_members(Space *space, const cJSON *members)
{
	const cJSON *member;

	cJSON_ArrayForEach(member, members)
	{
		cJSON	   *record = cJSON_Duplicate(member, true);
		cJSON	   *values = cJSON_DetachItemFromObjectCaseSensitive(record, "custom_fields");
		const cJSON *value;
		int			slot;

		record_complete_membership(record, space);
		slot = members_put(space, record);
		cJSON_ArrayForEach(value, values)
		{
			Field	   *field = fields_find_label(space, value->string);

			if (field != NULL && cJSON_IsString(value))
				fields_set_value(space, slot, field->id, value->valuestring);
			else
				fprintf(stderr, "cobot_test_server: \"%s\" is no custom field of \"%s\"\n",
						value->string, space->subdomain);
		}
		cJSON_Delete(values);
	}
}

static void
load_check_ins(Space *space, const cJSON *check_ins)
{
	const cJSON *wanted;
	CheckIn    *check_in;

	cJSON_ArrayForEach(wanted, check_ins)
	{
		const char *wrong = check_in_put(space, wanted, &check_in);

		if (wrong != NULL)
			fprintf(stderr, "cobot_test_server: check-in of \"%s\": %s\n", space->subdomain, wrong);
	}
}

static void
load_space(const cJSON *given)
{
	cJSON	   *record = cJSON_Duplicate(given, true);
	const char *zone = record_text(record, "time_zone_name");
	const char *subdomain = record_text(record, "subdomain");
	Space	   *space = space_add(subdomain, record_text(record, "id"), zone != NULL ? zone : "Europe/Berlin");
	cJSON	   *plans;
	cJSON	   *plan;
	cJSON	   *fields;
	cJSON	   *members;
	cJSON	   *check_ins;

	record_resolve_dates(record, clock_today(space->zone));
	plans = cJSON_DetachItemFromObjectCaseSensitive(record, "plans");
	fields = cJSON_DetachItemFromObjectCaseSensitive(record, "custom_fields");
	members = cJSON_DetachItemFromObjectCaseSensitive(record, "memberships");
	check_ins = cJSON_DetachItemFromObjectCaseSensitive(record, "check_ins");
	record_complete_space(record, space->subdomain, space->id);
	space_set_record(space, record);

	if (plans == NULL)
		plans = cJSON_CreateArray();
	cJSON_ArrayForEach(plan, plans)
		record_complete_plan(plan);
	space_set_plans(space, plans);
	fields_replace(space, fields);
	load_members(space, members);
	load_check_ins(space, check_ins);
	cJSON_Delete(fields);
	cJSON_Delete(members);
	cJSON_Delete(check_ins);
}

static void
load_state(void)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, record_item(state, "spaces"))
		load_space(item);
	cJSON_ArrayForEach(item, record_item(state, "users"))
		start_add_user(cJSON_Duplicate(item, true));
	cJSON_ArrayForEach(item, record_item(state, "tokens"))
		cJSON_Delete(start_add_token(item));
	cJSON_ArrayForEach(item, record_item(state, "clients"))
	{
		if (!cJSON_IsObject(item) || oauth_client_put(cJSON_Duplicate(item, true)) == NULL)
			fputs("cobot_test_server: a client of the state file is no good\n", stderr);
	}
	if (options.generate.admin_token != NULL)
		token_put(options.generate.admin_token, default_user, NULL, NULL, all_scopes());
}

void
start_world(void)
{
	world_clear();
	free(world.settings.login_user);
	world.settings = (Settings) {
		.rate_limit = options.rate_limit,
		.gzip = true,
		.not_admin_status = 403,
		.code_lifetime_s = CODE_LIFETIME_S
	};
	clock_set_shift(0);
	free(default_user);
	default_user = NULL;
	if (state != NULL)
		load_state();
	else
	{
		generate_world(&options.generate);
		default_user = text_copy("admin");
		oauth_client_put(cJSON_Parse("{\"client_id\": \"demo-client\", \"client_secret\": \"demo-secret\"}"));
	}
}

void
start_forget(void)
{
	cJSON_Delete(state);
	state = NULL;
	free(default_user);
	default_user = NULL;
}
