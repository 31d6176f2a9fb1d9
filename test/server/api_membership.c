/*
 * api_membership.c
 *	  Members: the list, one, and those who leave (facts, 5).
 */
#include "api.h"

#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "clock.h"
#include "member.h"
#include "record.h"

/* What a list is asked for. */
typedef struct Selection
{
	bool		all;			/* also ended and unconfirmed ones */
	char	   *ids;			/* "a,b", or NULL: no such condition */
	char	   *attributes;		/* "id,name", or NULL: whole records */
	bool		by_last_day;	/* only those whose last day lies between the two */
	int32_t		from;
	int32_t		to;
} Selection;

static bool
is_selected(const Space *space, int slot, const Selection *selection, int32_t today)
{
	MemberFacts facts;

	if (!members_facts(space, slot, &facts))
		return false;
	if (selection->by_last_day)
		return facts.last_day != DAY_NEVER &&
			facts.last_day >= selection->from && facts.last_day <= selection->to;
	if (!selection->all && !members_is_current(&facts, today))
		return false;
	if (selection->ids != NULL)
	{
		char		id[MEMBER_ID_SIZE];

		members_id(space, slot, id);
		return url_list_has(selection->ids, id, strlen(id));
	}
	return true;
}

static void
write_list(const Space *space, const Selection *selection, Text *out)
{
	MemberWriter writer = member_writer_open(space);
	int32_t		today = clock_today(space->zone);
	Text		record = {0};

	text_add_char(out, '[');
	for (int slot = 0; slot < members_slots(space); slot++)
	{
		if (!is_selected(space, slot, selection, today))
			continue;
		if (out->length > 1)
			text_add_char(out, ',');
		if (selection->attributes == NULL)
		{
			member_write(&writer, slot, out);
			continue;
		}
		record.length = 0;
		member_write(&writer, slot, &record);
		record_copy_keys(record.data, selection->attributes, out);
	}
	text_add_char(out, ']');
	free(record.data);
	member_writer_close(&writer);
}

static void
answer_list(Request *request, const Selection *selection)
{
	char	   *what = text_printf("%s?%s", request->path, request->query != NULL ? request->query : "");
	Body	   *body = cache_get(request->space, what);
	Text		text = {0};

	if (body != NULL)
		answer_body(&request->answer, 200, body);
	else
	{
		write_list(request->space, selection, &text);
		answer_text(&request->answer, 200, &text);
		cache_put(request->space, what, request->answer.body);
	}
	free(what);
}

static void
list_members(Request *request)
{
	Selection	selection = {0};
	char	   *all = request_query(request, "all");

	selection.all = all != NULL && strcmp(all, "true") == 0;
	selection.ids = request_query(request, "ids");
	selection.attributes = request_query(request, "attributes");
	answer_list(request, &selection);
	free(all);
	free(selection.ids);
	free(selection.attributes);
}

static void
list_cancellations(Request *request)
{
	Selection	selection = {0};
	char	   *from = request_query(request, "from");
	char	   *to = request_query(request, "to");

	selection.by_last_day = true;
	if (!day_read(from, &selection.from) || !day_read(to, &selection.to))
		api_invalid(request, "base", "from and to must be dates.");
	else
		answer_list(request, &selection);
	free(from);
	free(to);
}

static void
show_member(Request *request)
{
	int			slot = members_find(request->space, request->params.value[0]);
	MemberWriter writer = member_writer_open(request->space);
	Text		text = {0};

	if (slot < 0)
	{
		api_not_found(request);
		return;
	}
	member_write(&writer, slot, &text);
	member_writer_close(&writer);
	answer_text(&request->answer, 200, &text);
}

const ApiEndpoint api_membership_endpoints[] = {
	{"GET", API_SPACE, "/api/memberships", API_ADMIN, "read_memberships", API_MEMBERSHIPS_LIMIT, list_members},
	{"GET", API_SPACE, "/api/memberships/cancellations", API_ADMIN, "read_memberships", API_DEFAULT_LIMIT, list_cancellations},
	{"GET", API_SPACE, "/api/memberships/:id", API_ADMIN, "read_memberships", API_DEFAULT_LIMIT, show_member},
	{NULL, API_SPACE, NULL, API_OPEN, NULL, 0, NULL}
};
