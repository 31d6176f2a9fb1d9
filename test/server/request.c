/*
 * request.c
 *	  One request on its way through the server. Runs in the threads of the HTTPS
 *	  side.
 */
#include "request.h"

#include <stdlib.h>
#include <string.h>

#include "api.h"
#include "faults.h"
#include "log.h"

Request *
request_create(const char *uri)
{
	Request    *request = memory_zero(sizeof(Request));
	const char *question = strchr(uri, '?');

	request->path = question != NULL ? text_copy_length(uri, (size_t) (question - uri)) : text_copy(uri);
	request->query = question != NULL ? text_copy(question + 1) : NULL;
	return request;
}

void
request_free(Request *request)
{
	if (request == NULL)
		return;
	free(request->method);
	free(request->host);
	free(request->path);
	free(request->query);
	free(request->token);
	free(request->user_agent);
	free(request->if_none_match);
	free(request->body.data);
	url_params_free(&request->params);
	answer_free(&request->answer);
	free(request);
}

void
request_handle(Request *request)
{
	uint64_t	entry = log_begin(request);
	cJSON	   *fault = faults_take(request);

	world_lock();
	request->delivery.delay_ms = world.settings.latency_ms;
	if (fault == NULL || !faults_replace_answer(fault))
		api_handle(request);
	request->space = NULL;
	request->access = NULL;
	request->user = NULL;
	world_unlock();

	if (fault != NULL)
		faults_apply(fault, request);
	log_finish(entry, request->delivery.kind == DELIVER_DROP ||
			   request->delivery.kind == DELIVER_STALL_HEADERS ? 0 : request->answer.status);

	/* Before the client can ask again, so that its next request sees the change. */
	if (fault != NULL)
		faults_run_then(fault);
	cJSON_Delete(fault);
	request->handled = true;
}

char *
request_query(const Request *request, const char *name)
{
	return url_query_value(request->query, name);
}

cJSON *
request_json(Request *request)
{
	cJSON	   *json = request->body.length > 0 ? cJSON_Parse(request->body.data) : NULL;

	if (json == NULL)
		answer_error(&request->answer, 400, "The request body is not valid JSON.");
	return json;
}

char *
request_body_value(const Request *request, const char *name)
{
	cJSON	   *json;
	char	   *value;

	if (request->body.length == 0)
		return NULL;
	json = cJSON_Parse(request->body.data);
	if (json == NULL)
		return url_query_value(request->body.data, name);
	value = text_copy(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, name)));
	cJSON_Delete(json);
	return value;
}
