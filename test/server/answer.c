/*
 * answer.c
 *	  What a handler says: a status, a body, headers.
 */
#include "answer.h"

#include <stdlib.h>
#include <string.h>

void
answer_body(Answer *answer, int status, Body *body)
{
	body_release(answer->body);
	answer->status = status;
	answer->body = body;
	answer->content_type = NULL;
}

void
answer_text(Answer *answer, int status, Text *text)
{
	size_t		length = text->length;

	answer_body(answer, status, body_create(text_take(text), length));
}

void
answer_json(Answer *answer, int status, cJSON *json)
{
	char	   *text = cJSON_PrintUnformatted(json);

	cJSON_Delete(json);
	answer_body(answer, status, body_create(text, strlen(text)));
}

void
answer_empty(Answer *answer, int status)
{
	answer_body(answer, status, NULL);
}

void
answer_error(Answer *answer, int status, const char *message)
{
	cJSON	   *json = cJSON_CreateObject();

	cJSON_AddStringToObject(json, "error", message);
	answer_json(answer, status, json);
}

void
answer_html(Answer *answer, int status, const char *message)
{
	Text		page = {0};

	text_add_format(&page, "<!DOCTYPE html>\n<html><head><title>%d</title></head>\n"
					"<body><h1>%s</h1></body></html>\n", status, message);
	answer_text(answer, status, &page);
	answer->content_type = "text/html; charset=utf-8";
}

void
answer_header(Answer *answer, const char *name, const char *value)
{
	if (answer->headers == NULL)
		answer->headers = cJSON_CreateObject();
	cJSON_DeleteItemFromObject(answer->headers, name);
	cJSON_AddStringToObject(answer->headers, name, value);
}

void
answer_free(Answer *answer)
{
	body_release(answer->body);
	cJSON_Delete(answer->headers);
	memset(answer, 0, sizeof(*answer));
}
