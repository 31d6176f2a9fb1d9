/*
 * api_navigation.c
 *	  Links in the navigation of a space (facts, 9). An app sees and deletes its
 *	  own only, and may make the same one twice.
 */
#include "api.h"

#include <stdlib.h>
#include <string.h>

#include "navigation.h"
#include "record.h"

static void
list_links(Request *request)
{
	answer_json(&request->answer, 200, navigation_list(request->space, request->access->client_id));
}

static bool
is_blank(const char *text)
{
	return text == NULL || text[strspn(text, " \t\r\n")] == '\0';
}

/* https, since browsers show nothing else inside of Cobot's pages; a host; no blanks. */
static bool
is_iframe_url(const char *text)
{
	const char *host;

	if (text == NULL || strncmp(text, "https://", strlen("https://")) != 0)
		return false;
	host = text + strlen("https://");
	for (const char *p = host; *p != '\0'; p++)
	{
		if (*p <= ' ' || *p > '~')
			return false;
	}
	return strcspn(host, "/?#:") > 0;
}

/* What the caller may say but need not, as it was said. */
static void
add_optional_keys(const Request *request, cJSON *link)
{
	static const char *const keys[] = {"user_editable", "type", "app_data"};
	cJSON	   *body = cJSON_Parse(request->body.data);

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
	{
		const cJSON *item = record_item(body, keys[i]);

		if (item != NULL)
			cJSON_AddItemToObject(link, keys[i], cJSON_Duplicate(item, true));
	}
	cJSON_Delete(body);
}

static void
create_link(Request *request)
{
	char	   *section = request_body_value(request, "section");
	char	   *label = request_body_value(request, "label");
	char	   *iframe_url = request_body_value(request, "iframe_url");
	cJSON	   *link;

	if (!navigation_section_known(section))
		api_invalid(request, "section", "is not included in the list");
	else if (is_blank(label))
		api_invalid(request, "label", "can't be blank");
	else if (!is_iframe_url(iframe_url))
		api_invalid(request, "iframe_url", "is invalid");
	else
	{
		link = cJSON_CreateObject();
		cJSON_AddStringToObject(link, "section", section);
		cJSON_AddStringToObject(link, "label", label);
		cJSON_AddStringToObject(link, "iframe_url", iframe_url);
		add_optional_keys(request, link);
		answer_json(&request->answer, 201,
					navigation_copy(navigation_add(request->space, request->access->client_id, link)));
	}
	free(section);
	free(label);
	free(iframe_url);
}

static void
delete_link(Request *request)
{
	cJSON	   *link = navigation_find(request->space, request->params.value[0]);

	if (link == NULL || !navigation_belongs(link, request->access->client_id))
	{
		api_not_found(request);
		return;
	}
	navigation_delete(request->space, link);
	answer_empty(&request->answer, 204);
}

const ApiEndpoint api_navigation_endpoints[] = {
	{"GET", API_SPACE, "/api/navigation_links", API_ADMIN, "navigation", API_DEFAULT_LIMIT, list_links},
	{"POST", API_SPACE, "/api/navigation_links", API_ADMIN, "navigation", API_DEFAULT_LIMIT, create_link},
	{"DELETE", API_SPACE, "/api/navigation_links/:id", API_ADMIN, "navigation", API_DEFAULT_LIMIT, delete_link},
	{NULL, API_SPACE, NULL, API_OPEN, NULL, 0, NULL}
};
