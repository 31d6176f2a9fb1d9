/*
 * control_navigation.c
 *	  Control commands about navigation links: all there are, whoever made them,
 *	  and what admins do by hand.
 */
#include "control.h"

#include "navigation.h"

static void
list_links(ControlCall *call)
{
	Space	   *space = control_space(call);

	if (space != NULL)
		answer_json(call->answer, 200, navigation_list(space, NULL));
}

static void
delete_link(ControlCall *call)
{
	Space	   *space = control_space(call);
	cJSON	   *link;

	if (space == NULL)
		return;
	link = navigation_find(space, call->params.value[1]);
	if (link == NULL)
	{
		control_missing(call, "there is no such link");
		return;
	}
	navigation_delete(space, link);
	answer_empty(call->answer, 204);
}

const ControlCommand control_navigation_commands[] = {
	{"GET", "/spaces/:subdomain/navigation_links", list_links},
	{"DELETE", "/spaces/:subdomain/navigation_links/:id", delete_link},
	{NULL, NULL, NULL}
};
