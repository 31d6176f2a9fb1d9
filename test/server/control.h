/*
 * control.h
 *	  How tests change the world, see the log and order failures: JSON over plain
 *	  HTTP on the control port. README.md lists the calls.
 */
#ifndef COBOT_TEST_CONTROL_H
#define COBOT_TEST_CONTROL_H

#include "request.h"

/* One call on its way; handlers run with the world locked and give an answer. */
typedef struct ControlCall
{
	UrlParams	params;
	const char *query;			/* or NULL */
	cJSON	   *body;			/* NULL if none was sent; a handler may take it and set NULL */
	Answer	   *answer;
} ControlCall;

typedef struct ControlCommand
{
	const char *method;			/* NULL ends the table */
	const char *pattern;
	void		(*handler) (ControlCall *call);
} ControlCommand;

extern const ControlCommand control_space_commands[];
extern const ControlCommand control_check_in_commands[];
extern const ControlCommand control_navigation_commands[];
extern const ControlCommand control_oauth_commands[];
extern const ControlCommand control_settings_commands[];
extern const ControlCommand control_subscription_commands[];
extern const ControlCommand control_system_commands[];

/* A call that came over HTTP. */
extern void control_handle(Request *request);

/* A call from within, with an optional query in the path. The body is not changed. */
extern void control_run(const char *method, const char *path, const cJSON *body, Answer *answer);

/* For handlers: 404 and 422 with words. */
extern void control_missing(ControlCall *call, const char *what);
extern void control_invalid(ControlCall *call, const char *what);

/* The space the call is about, its first parameter; NULL, with an answer, if there is none. */
extern Space *control_space(ControlCall *call);

/* The slot of the member that is the second parameter; -1, with an answer, if one is missing. */
extern int	control_member(ControlCall *call, Space **space);

/* False, with an answer, unless the call brought an object. */
extern bool control_needs_object(ControlCall *call);

#endif
