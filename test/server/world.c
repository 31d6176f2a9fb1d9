/*
 * world.c
 *	  Spaces, users and tokens, and the lock that guards everything. Members are
 *	  in member.c, custom fields in field.c.
 */
#include "world.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "check_in.h"
#include "clock.h"
#include "field.h"
#include "generate.h"
#include "member.h"
#include "oauth.h"
#include "time_pass.h"

World		world;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void
world_lock(void)
{
	pthread_mutex_lock(&lock);
}

void
world_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

static void
space_free(Space *space)
{
	members_free(space);
	fields_free(space);
	check_ins_free(space);
	time_passes_free(space);
	cJSON_Delete(space->record);
	cJSON_Delete(space->plans);
	cJSON_Delete(space->links);
	cJSON_Delete(space->subscriptions);
	free(space->subdomain);
	free(space->id);
	free(space->zone);
	free(space);
}

static void
user_free(User *user)
{
	free(user->id);
	cJSON_Delete(user->record);
	free(user);
}

static void
token_free(Token *token)
{
	free(token->token);
	free(token->user_id);
	free(token->subdomain);
	free(token->client_id);
	cJSON_Delete(token->scopes);
	free(token);
}

void
world_clear(void)
{
	size_t		position = 0;
	MapEntry   *entry;

	cache_clear();
	for (int i = 0; i < world.space_count; i++)
		space_free(world.space_list[i]);
	free(world.space_list);
	world.space_list = NULL;
	world.space_count = world.space_size = 0;
	map_clear(&world.spaces);

	while ((entry = map_next(&world.users, &position)) != NULL)
		user_free(entry->value);
	map_clear(&world.users);

	position = 0;
	while ((entry = map_next(&world.tokens, &position)) != NULL)
		token_free(entry->value);
	map_clear(&world.tokens);
	oauth_clear();
	world.ids_given = 0;
}

Space *
space_add(const char *subdomain, const char *id, const char *zone)
{
	Space	   *space = memory_zero(sizeof(Space));

	space->subdomain = text_copy(subdomain);
	space->id = id != NULL ? text_copy(id) : world_new_id(32);
	space->zone = text_copy(zone);
	space->generated_index = -1;

	if (world.space_count == world.space_size)
	{
		world.space_size = world.space_size > 0 ? world.space_size * 2 : 16;
		world.space_list = memory_resize(world.space_list,
										 (size_t) world.space_size * sizeof(Space *));
	}
	world.space_list[world.space_count++] = space;
	map_set(&world.spaces, subdomain, space);
	return space;
}

Space *
space_find(const char *subdomain)
{
	return subdomain != NULL ? map_get(&world.spaces, subdomain) : NULL;
}

Space *
space_find_id(const char *id)
{
	for (int i = 0; id != NULL && i < world.space_count; i++)
	{
		if (strcmp(world.space_list[i]->id, id) == 0)
			return world.space_list[i];
	}
	return NULL;
}

void
space_changed(Space *space)
{
	space->version++;
}

cJSON *
space_record_copy(const Space *space)
{
	if (space->record != NULL)
		return cJSON_Duplicate(space->record, true);
	return generate_space_record(space);
}

cJSON *
space_plans_copy(const Space *space)
{
	if (space->plans != NULL)
		return cJSON_Duplicate(space->plans, true);
	return generate_plans(space);
}

void
space_set_record(Space *space, cJSON *record)
{
	const char *zone = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(record, "time_zone_name"));
	const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(record, "id"));

	cJSON_Delete(space->record);
	space->record = record;
	if (zone != NULL)
	{
		free(space->zone);
		space->zone = text_copy(zone);
	}
	if (id != NULL)
	{
		free(space->id);
		space->id = text_copy(id);
	}
	space_changed(space);
}

void
space_set_plans(Space *space, cJSON *plans)
{
	cJSON_Delete(space->plans);
	space->plans = plans;
	space_changed(space);
}

User *
user_put(cJSON *record)
{
	const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(record, "id"));
	User	   *user = map_get(&world.users, id);

	if (user == NULL)
	{
		user = memory_zero(sizeof(User));
		user->id = text_copy(id);
		map_set(&world.users, id, user);
	}
	cJSON_Delete(user->record);
	user->record = record;
	return user;
}

User *
user_find(const char *id)
{
	return id != NULL ? map_get(&world.users, id) : NULL;
}

bool
user_is_admin(const User *user, const Space *space)
{
	const cJSON *admin_of;
	const cJSON *item;

	if (user == NULL)
		return false;
	admin_of = cJSON_GetObjectItemCaseSensitive(user->record, "admin_of");
	if (cJSON_IsString(admin_of))
		return strcmp(admin_of->valuestring, "all") == 0;
	cJSON_ArrayForEach(item, admin_of)
	{
		if (cJSON_IsString(item) && strcmp(item->valuestring, space->subdomain) == 0)
			return true;
	}
	return false;
}

Token *
token_put(const char *name, const char *user_id, const char *subdomain,
		  const char *client_id, cJSON *scopes)
{
	Token	   *token;

	token_delete(name);
	token = memory_zero(sizeof(Token));
	token->token = text_copy(name);
	token->user_id = text_copy(user_id);
	token->subdomain = text_copy(subdomain);
	token->client_id = text_copy(client_id != NULL ? client_id : "00c0b07c11e47000000000000000c0de");
	token->scopes = scopes;
	map_set(&world.tokens, name, token);
	return token;
}

Token *
token_find(const char *token)
{
	return token != NULL ? map_get(&world.tokens, token) : NULL;
}

bool
token_delete(const char *name)
{
	Token	   *token = map_remove(&world.tokens, name);

	if (token == NULL)
		return false;
	token_free(token);
	return true;
}

/* The old umbrella scopes open everything that reads or writes (facts, 3.2). */
bool
token_has_scope(const Token *token, const char *scope)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, token->scopes)
	{
		const char *held = cJSON_GetStringValue(item);

		if (held == NULL)
			continue;
		if (strcmp(held, scope) == 0 ||
			(strcmp(held, "read") == 0 && strncmp(scope, "read_", 5) == 0) ||
			(strcmp(held, "write") == 0 && strncmp(scope, "write_", 6) == 0))
			return true;
	}
	return false;
}

User *
token_user(const Token *token)
{
	User	   *user = user_find(token->user_id);
	Space	   *space = space_find(token->subdomain);

	if (space != NULL && !user_is_admin(user, space))
	{
		cJSON	   *record = space_record_copy(space);
		User	   *owner = user_find(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(record, "owner_id")));

		if (owner != NULL)
			user = owner;
		cJSON_Delete(record);
	}
	return user;
}

cJSON *
all_scopes(void)
{
	static const char *const names[] = {
		"read", "write", "read_user", "read_memberships", "write_memberships", "read_plans",
		"read_custom_fields", "write_custom_fields", "read_check_ins", "write_check_ins", "checkin",
		"checkin_tokens", "navigation", "read_navigation_links", "write_navigation_links",
		"read_subscriptions", "write_subscriptions", "read_time_passes", "write_time_passes",
		"read_teams", "read_spaces"
	};

	return cJSON_CreateStringArray(names, (int) (sizeof(names) / sizeof(names[0])));
}

char *
world_new_id(int length)
{
	Text		id = {0};

	world.ids_given++;
	for (int i = 0; i < length / 16; i++)
		text_add_format(&id, "%016llx",
						(unsigned long long) generate_mix(UINT64_C(0x1d) + (uint64_t) i,
														  world.ids_given, UINT64_C(0xc0b07)));
	return text_take(&id);
}
