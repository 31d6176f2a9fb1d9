/*
 * navigation.c
 *	  Links that apps have put into a space's navigation (facts, 9).
 */
#include "navigation.h"

#include <stdlib.h>
#include <string.h>

#include "record.h"

/* What Cobot does not show. */
#define ID_KEY "_id"
#define CLIENT_KEY "_client"

bool
navigation_section_known(const char *section)
{
	static const char *const sections[] = {"admin/setup", "admin/manage", "admin/analyze", "members"};

	for (size_t i = 0; section != NULL && i < sizeof(sections) / sizeof(sections[0]); i++)
	{
		if (strcmp(sections[i], section) == 0)
			return true;
	}
	return false;
}

static void
add_url(cJSON *link, const char *key, const Space *space, const char *path, const char *id)
{
	char	   *url = text_printf("https://%s.cobot.me%s%s", space->subdomain, path, id);

	cJSON_AddStringToObject(link, key, url);
	free(url);
}

const cJSON *
navigation_add(Space *space, const char *client_id, cJSON *link)
{
	char	   *id = world_new_id(32);

	add_url(link, "url", space, "/api/navigation_links/", id);
	add_url(link, "user_url", space, "/navigation_links/", id);
	cJSON_AddStringToObject(link, ID_KEY, id);
	cJSON_AddStringToObject(link, CLIENT_KEY, client_id);
	if (space->links == NULL)
		space->links = cJSON_CreateArray();
	cJSON_AddItemToArray(space->links, link);
	free(id);
	return link;
}

cJSON *
navigation_find(const Space *space, const char *id)
{
	cJSON	   *link;

	cJSON_ArrayForEach(link, space->links)
	{
		if (strcmp(record_text(link, ID_KEY), id) == 0)
			return link;
	}
	return NULL;
}

void
navigation_delete(Space *space, cJSON *link)
{
	cJSON_Delete(cJSON_DetachItemViaPointer(space->links, link));
}

cJSON *
navigation_copy(const cJSON *link)
{
	cJSON	   *copy = cJSON_Duplicate(link, true);

	cJSON_DeleteItemFromObjectCaseSensitive(copy, ID_KEY);
	cJSON_DeleteItemFromObjectCaseSensitive(copy, CLIENT_KEY);
	return copy;
}

cJSON *
navigation_list(const Space *space, const char *client_id)
{
	cJSON	   *list = cJSON_CreateArray();
	const cJSON *link;

	cJSON_ArrayForEach(link, space->links)
	{
		if (client_id == NULL || navigation_belongs(link, client_id))
			cJSON_AddItemToArray(list, navigation_copy(link));
	}
	return list;
}

bool
navigation_belongs(const cJSON *link, const char *client_id)
{
	return strcmp(record_text(link, CLIENT_KEY), client_id) == 0;
}
