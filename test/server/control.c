/*
 * control.c
 *	  From a call on the control port to the command that carries it out.
 */
#include "control.h"

#include <stdlib.h>
#include <string.h>

#include "member.h"

static const ControlCommand *const groups[] = {
	control_space_commands,
	control_check_in_commands,
	control_navigation_commands,
	control_oauth_commands,
	control_settings_commands,
	control_subscription_commands,
	control_system_commands
};

void
control_missing(ControlCall *call, const char *what)
{
	answer_error(call->answer, 404, what);
}

void
control_invalid(ControlCall *call, const char *what)
{
	answer_error(call->answer, 422, what);
}

bool
control_needs_object(ControlCall *call)
{
	if (cJSON_IsObject(call->body))
		return true;
	control_invalid(call, "the body must be a JSON object");
	return false;
}

Space *
control_space(ControlCall *call)
{
	Space	   *space = space_find(call->params.value[0]);

	if (space == NULL)
		control_missing(call, "there is no such space");
	return space;
}

int
control_member(ControlCall *call, Space **space)
{
	int			slot;

	if ((*space = control_space(call)) == NULL)
		return -1;
	slot = members_find(*space, call->params.value[1]);
	if (slot < 0)
		control_missing(call, "there is no such membership");
	return slot;
}

/* Takes over the body. */
static void
dispatch(const char *method, const char *path, const char *query, cJSON *body, Answer *answer)
{
	ControlCall call = {0};

	call.query = query;
	call.body = body;
	call.answer = answer;
	answer_error(answer, 404, "there is no such control command");
	world_lock();
	for (size_t group = 0; group < sizeof(groups) / sizeof(groups[0]); group++)
	{
		for (const ControlCommand *command = groups[group]; command->method != NULL; command++)
		{
			if (strcmp(command->method, method) == 0 && url_match(command->pattern, path, &call.params))
			{
				command->handler(&call);
				url_params_free(&call.params);
				group = sizeof(groups) / sizeof(groups[0]) - 1;
				break;
			}
		}
	}
	world_unlock();
	cJSON_Delete(call.body);
}

void
control_run(const char *method, const char *path, const cJSON *body, Answer *answer)
{
	char	   *only_path = text_copy_length(path, strcspn(path, "?"));
	const char *query = strchr(path, '?');

	dispatch(method, only_path, query != NULL ? query + 1 : NULL,
			 body != NULL ? cJSON_Duplicate(body, true) : NULL, answer);
	free(only_path);
}

void
control_handle(Request *request)
{
	cJSON	   *body = NULL;

	if (request->body.length > 0 && (body = request_json(request)) == NULL)
		return;
	dispatch(request->method, request->path, request->query, body, &request->answer);
}
