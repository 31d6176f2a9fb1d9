/*
 * control_system.c
 *	  Control commands about everything else: log, tokens, users, failures,
 *	  reset.
 */
#include "control.h"

#include <stdlib.h>
#include <string.h>

#include "faults.h"
#include "log.h"
#include "rate.h"
#include "record.h"
#include "start.h"

static void
show_log(ControlCall *call)
{
	char	   *since = url_query_value(call->query, "since");

	answer_json(call->answer, 200, log_since(since != NULL ? strtoull(since, NULL, 10) : 0));
	free(since);
}

static void
clear_log(ControlCall *call)
{
	log_clear();
	answer_empty(call->answer, 204);
}

static void
add_token(ControlCall *call)
{
	cJSON	   *token;

	if (call->body == NULL)
		call->body = cJSON_CreateObject();
	if (!control_needs_object(call))
		return;
	token = start_add_token(call->body);
	if (token != NULL)
		answer_json(call->answer, 201, token);
	else
		control_invalid(call, "a space token needs a space that exists");
}

static void
delete_token(ControlCall *call)
{
	if (token_delete(call->params.value[0]))
		answer_empty(call->answer, 204);
	else
		control_missing(call, "there is no such token");
}

static void
add_user(ControlCall *call)
{
	User	   *user;

	if (call->body == NULL)
		call->body = cJSON_CreateObject();
	if (!control_needs_object(call))
		return;
	user = start_add_user(call->body);
	call->body = NULL;
	answer_json(call->answer, 201, cJSON_Duplicate(user->record, true));
}

static void
change_user(ControlCall *call)
{
	User	   *user = user_find(call->params.value[0]);

	if (user == NULL)
	{
		control_missing(call, "there is no such user");
		return;
	}
	if (!control_needs_object(call))
		return;
	cJSON_DeleteItemFromObjectCaseSensitive(call->body, "id");
	user->record = record_merge(user->record, call->body);
	call->body = NULL;
	answer_json(call->answer, 200, cJSON_Duplicate(user->record, true));
}

static void
reset(ControlCall *call)
{
	log_clear();
	faults_clear();
	rate_clear();
	start_world();
	answer_empty(call->answer, 204);
}

static void
add_fault(ControlCall *call)
{
	const char *wrong = faults_wrong_with(call->body);
	cJSON	   *json;

	if (wrong != NULL)
	{
		control_invalid(call, wrong);
		return;
	}
	json = cJSON_CreateObject();
	cJSON_AddNumberToObject(json, "fault", faults_add(call->body));
	call->body = NULL;
	answer_json(call->answer, 201, json);
}

static void
list_faults(ControlCall *call)
{
	answer_json(call->answer, 200, faults_list());
}

static void
clear_faults(ControlCall *call)
{
	faults_clear();
	answer_empty(call->answer, 204);
}

static void
remove_fault(ControlCall *call)
{
	if (faults_remove(atoi(call->params.value[0])))
		answer_empty(call->answer, 204);
	else
		control_missing(call, "there is no such fault");
}

const ControlCommand control_system_commands[] = {
	{"GET", "/log", show_log},
	{"DELETE", "/log", clear_log},
	{"POST", "/tokens", add_token},
	{"DELETE", "/tokens/:token", delete_token},
	{"POST", "/users", add_user},
	{"PATCH", "/users/:id", change_user},
	{"POST", "/reset", reset},
	{"POST", "/faults", add_fault},
	{"GET", "/faults", list_faults},
	{"DELETE", "/faults", clear_faults},
	{"DELETE", "/faults/:number", remove_fault},
	{NULL, NULL, NULL}
};
