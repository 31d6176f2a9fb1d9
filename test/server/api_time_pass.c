/*
 * api_time_pass.c
 *	  Unused time passes, of one member and of all (facts, 8.3).
 */
#include "api.h"

#include <stdlib.h>
#include <string.h>

#include "member.h"
#include "record.h"
#include "time_pass.h"

static void
list_of_member(Request *request)
{
	int			slot = api_permitted_member(request);
	cJSON	   *record;
	cJSON	   *passes;

	if (slot < 0)
		return;
	record = members_record_copy(request->space, slot);
	passes = cJSON_CreateArray();
	time_passes_list(request->space, request->params.value[0], record_item(record, "plan"), passes);
	cJSON_Delete(record);
	answer_json(&request->answer, 200, passes);
}

/* Few records are worth the reading: only those whose plans have passes, or who got some. */
static bool
may_have_passes(const Space *space, const char *id, const char *record)
{
	return strstr(record, "\"time_passes\":[{") != NULL || time_passes_are_stored(space, id);
}

static void
list_of_all(Request *request)
{
	const Space *space = request->space;
	MemberWriter writer = member_writer_open(space);
	cJSON	   *passes = cJSON_CreateArray();
	MemberFacts facts;
	Text		record = {0};
	char		id[MEMBER_ID_SIZE];

	for (int slot = 0; slot < members_slots(space); slot++)
	{
		cJSON	   *json;

		if (!members_facts(space, slot, &facts))
			continue;
		record.length = 0;
		member_write(&writer, slot, &record);
		members_id(space, slot, id);
		if (!may_have_passes(space, id, record.data))
			continue;
		json = cJSON_Parse(record.data);
		time_passes_list(space, id, record_item(json, "plan"), passes);
		cJSON_Delete(json);
	}
	member_writer_close(&writer);
	free(record.data);
	answer_json(&request->answer, 200, passes);
}

const ApiEndpoint api_time_pass_endpoints[] = {
	{"GET", API_SPACE, "/api/memberships/:id/time_passes/unused", API_TOKEN, "read_time_passes", API_DEFAULT_LIMIT, list_of_member},
	{"GET", API_SPACE, "/api/time_passes/unused", API_ADMIN, "read_time_passes", API_DEFAULT_LIMIT, list_of_all},
	{NULL, API_SPACE, NULL, API_OPEN, NULL, 0, NULL}
};
