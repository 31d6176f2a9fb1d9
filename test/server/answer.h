/*
 * answer.h
 *	  What a handler says: a status, a body, headers. How it travels is up to
 *	  deliver.c.
 */
#ifndef COBOT_TEST_ANSWER_H
#define COBOT_TEST_ANSWER_H

#include <cjson/cJSON.h>

#include "body.h"
#include "text.h"

typedef struct Answer
{
	int			status;			/* 0: none yet */
	Body	   *body;			/* NULL: empty */
	const char *content_type;	/* NULL: JSON; else a constant */
	cJSON	   *headers;		/* object of strings, or NULL */
} Answer;

/* Each replaces what was said before, headers excepted. */
extern void answer_json(Answer *answer, int status, cJSON *json);	/* takes json over */
extern void answer_text(Answer *answer, int status, Text *text);	/* takes the text over */
extern void answer_body(Answer *answer, int status, Body *body);	/* takes the reference over */
extern void answer_empty(Answer *answer, int status);
extern void answer_error(Answer *answer, int status, const char *message);	/* {"error": ...} */
extern void answer_html(Answer *answer, int status, const char *message);	/* an error page for people */

extern void answer_header(Answer *answer, const char *name, const char *value);
extern void answer_free(Answer *answer);

#endif
