/*
 * api_user.c
 *	  The current user, and what everybody may know about a space (facts, 4).
 */
#include "api.h"

#include <stdlib.h>

#include "member.h"
#include "record.h"

static void
add_link(cJSON *object, const char *key, const char *host, const char *path, const char *id)
{
	char	   *link = text_printf("https://%s.cobot.me%s%s", host, path, id);

	cJSON_AddStringToObject(object, key, link);
	free(link);
}

static cJSON *
space_reference(const Space *space)
{
	cJSON	   *json = cJSON_CreateObject();
	cJSON	   *record = space_record_copy(space);
	const char *name = record_text(record, "name");

	cJSON_AddStringToObject(json, "space_subdomain", space->subdomain);
	cJSON_AddStringToObject(json, "space_name", name != NULL ? name : "");
	add_link(json, "space_link", "www", "/api/spaces/", space->subdomain);
	cJSON_Delete(record);
	return json;
}

static void
add_membership(const Space *space, int slot, void *memberships)
{
	cJSON	   *json = space_reference(space);
	char		id[MEMBER_ID_SIZE];

	members_id(space, slot, id);
	cJSON_AddStringToObject(json, "id", id);
	add_link(json, "link", space->subdomain, "/api/memberships/", id);
	cJSON_AddItemToArray(memberships, json);
}

static cJSON *
admin_of(const User *user)
{
	cJSON	   *array = cJSON_CreateArray();
	const char *name = record_text(user->record, "name");

	for (int i = 0; i < world.space_count; i++)
	{
		cJSON	   *json;

		if (!user_is_admin(user, world.space_list[i]))
			continue;
		json = space_reference(world.space_list[i]);
		cJSON_AddStringToObject(json, "name", name != NULL ? name : "");
		cJSON_AddItemToArray(array, json);
	}
	return array;
}

static void
show_user(Request *request)
{
	cJSON	   *json;
	cJSON	   *memberships;

	if (request->user == NULL)
	{
		api_not_found(request);
		return;
	}
	json = cJSON_CreateObject();
	cJSON_AddStringToObject(json, "id", request->user->id);
	cJSON_AddItemToObject(json, "email", cJSON_Duplicate(record_item(request->user->record, "email"), true));
	memberships = cJSON_AddArrayToObject(json, "memberships");
	members_of_user(request->user->id, add_membership, memberships);
	cJSON_AddItemToObject(json, "admin_of", admin_of(request->user));
	answer_json(&request->answer, 200, json);
}

static void
show_space(Request *request)
{
	const Space *space = space_find(request->params.value[0]);

	if (space == NULL)
		api_not_found(request);
	else
		answer_json(&request->answer, 200, space_record_copy(space));
}

const ApiEndpoint api_user_endpoints[] = {
	{"GET", API_ANY_HOST, "/api/user", API_TOKEN, "read_user", API_DEFAULT_LIMIT, show_user},
	{"GET", API_WWW, "/api/spaces/:subdomain", API_OPEN, NULL, API_DEFAULT_LIMIT, show_space},
	{NULL, API_WWW, NULL, API_OPEN, NULL, 0, NULL}
};
