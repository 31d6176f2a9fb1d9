/*
 * faults.c
 *	  Failures on order. A fault is kept as the JSON object that the test sent,
 *	  with "fault" as its number and "skip" and "times" counted down.
 */
#include "faults.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "fault_body.h"
#include "record.h"

#define DEFAULT_RETRY_AFTER "30"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static cJSON *faults;			/* array, or NULL */
static int	last_number;

static double
number_of(const cJSON *fault, const char *key, double missing)
{
	const cJSON *item = record_item(fault, key);

	return cJSON_IsNumber(item) ? item->valuedouble : missing;
}

static bool
text_matches(const char *wanted, const char *found)
{
	size_t		length;

	if (wanted == NULL)
		return true;
	length = strlen(wanted);
	if (length > 0 && wanted[length - 1] == '*')
		return strncmp(wanted, found, length - 1) == 0;
	return strcmp(wanted, found) == 0;
}

static bool
matches(const cJSON *fault, const Request *request)
{
	const cJSON *match = record_item(fault, "match");

	return text_matches(record_text(match, "method"), request->method) &&
		text_matches(record_text(match, "host"), request->host) &&
		text_matches(record_text(match, "path"), request->path) &&
		text_matches(record_text(match, "token"), request->token != NULL ? request->token : "");
}

/* "times" 0 means for ever. */
static void
count_down(cJSON *fault)
{
	cJSON	   *times = record_item(fault, "times");

	if (times->valuedouble == 1)
		cJSON_Delete(cJSON_DetachItemViaPointer(faults, fault));
	else if (times->valuedouble > 1)
		cJSON_SetNumberValue(times, times->valuedouble - 1);
}

cJSON *
faults_take(const Request *request)
{
	cJSON	   *taken = NULL;
	cJSON	   *fault;

	pthread_mutex_lock(&lock);
	cJSON_ArrayForEach(fault, faults)
	{
		cJSON	   *skip = record_item(fault, "skip");

		if (!matches(fault, request))
			continue;
		if (skip->valuedouble > 0)
		{
			cJSON_SetNumberValue(skip, skip->valuedouble - 1);
			continue;
		}
		taken = cJSON_Duplicate(fault, true);
		count_down(fault);
		break;
	}
	pthread_mutex_unlock(&lock);
	return taken;
}

static bool
is_stall_of_headers(const cJSON *fault)
{
	const char *stall = record_text(fault, "stall");

	return stall != NULL && strcmp(stall, "headers") == 0;
}

/* The status that replaces the normal one; 0 if none does. */
static int
status_of(const cJSON *fault)
{
	bool		has_body = record_item(fault, "body") != NULL || record_item(fault, "body_base64") != NULL;

	return (int) number_of(fault, "status", has_body ? 200 : 0);
}

bool
faults_replace_answer(const cJSON *fault)
{
	if (record_flag(fault, "perform"))
		return false;
	return status_of(fault) != 0 || record_flag(fault, "drop") ||
		is_stall_of_headers(fault) || record_item(fault, "huge") != NULL ||
		record_item(fault, "gzip_bomb") != NULL || record_item(fault, "nesting") != NULL;
}

static void
answer_status(const cJSON *fault, int status, Request *request)
{
	const char *text = record_text(fault, "body");
	const char *base64 = record_text(fault, "body_base64");
	Text		body = {0};

	if (text != NULL || base64 != NULL)
	{
		if (text != NULL)
			text_add(&body, text);
		else
			fault_body_base64(base64, &body);
		answer_text(&request->answer, status, &body);
	}
	else if (status == 402 || status >= 500)
		answer_html(&request->answer, status, "We're sorry, but something went wrong.");
	else if (status == 200)
		answer_json(&request->answer, status, cJSON_CreateArray());
	else if (status == 204 || status / 100 == 3)
		answer_empty(&request->answer, status);
	else
		answer_error(&request->answer, status, "Something that the test asked for.");
	if (status == 429)
		answer_header(&request->answer, "Retry-After", DEFAULT_RETRY_AFTER);
	if (status == 401)
		answer_header(&request->answer, "WWW-Authenticate", "Bearer realm=\"cobot\"");
}

static void
set_delivery(Request *request, DeliveryKind kind, double bytes)
{
	request->delivery.kind = kind;
	request->delivery.bytes = bytes > 0 ? (uint64_t) bytes : 0;
}

static void
apply_delivery(const cJSON *fault, Request *request)
{
	if (is_stall_of_headers(fault))
		set_delivery(request, DELIVER_STALL_HEADERS, 0);
	else if (record_item(fault, "stall") != NULL)
		set_delivery(request, DELIVER_STALL, number_of(fault, "stall", 0));
	else if (record_item(fault, "cut") != NULL)
		set_delivery(request, DELIVER_CUT, number_of(fault, "cut", 0));
	else if (record_flag(fault, "drop"))
		set_delivery(request, DELIVER_DROP, 0);
	else if (record_item(fault, "huge") != NULL)
		set_delivery(request, DELIVER_HUGE, number_of(fault, "huge", 0));
	else if (record_item(fault, "gzip_bomb") != NULL)
		set_delivery(request, DELIVER_GZIP_BOMB, number_of(fault, "gzip_bomb", 0));
	request->delivery.announce_length = record_flag(fault, "announce");
	request->delivery.delay_ms += (int) number_of(fault, "delay_ms", 0);
}

void
faults_apply(const cJSON *fault, Request *request)
{
	const cJSON *header;
	Text		body = {0};

	if (status_of(fault) != 0)
		answer_status(fault, status_of(fault), request);
	else if (record_item(fault, "nesting") != NULL)
	{
		fault_body_nested((size_t) number_of(fault, "nesting", 0), &body);
		answer_text(&request->answer, 200, &body);
	}
	else if (request->answer.status == 0)
		answer_empty(&request->answer, 200);
	if (record_item(fault, "truncate") != NULL && request->answer.body != NULL)
	{
		fault_body_truncated(request->answer.body, number_of(fault, "truncate", 0.5), &body);
		answer_text(&request->answer, request->answer.status, &body);
	}
	cJSON_ArrayForEach(header, record_item(fault, "headers"))
	{
		if (cJSON_IsString(header))
			answer_header(&request->answer, header->string, header->valuestring);
	}
	apply_delivery(fault, request);
}

void
faults_run_then(const cJSON *fault)
{
	const cJSON *operation;

	cJSON_ArrayForEach(operation, record_item(fault, "then"))
	{
		const char *method = record_text(operation, "method");
		const char *path = record_text(operation, "path");
		Answer		answer = {0};

		if (method != NULL && path != NULL)
			control_run(method, path, record_item(operation, "body"), &answer);
		answer_free(&answer);
	}
}

const char *
faults_wrong_with(const cJSON *fault)
{
	static const char *const known[] = {
		"match", "times", "skip", "status", "body", "body_base64", "headers", "delay_ms", "stall", "cut",
		"drop", "huge", "announce", "gzip_bomb", "nesting", "truncate", "then", "perform"
	};
	const cJSON *item;

	if (!cJSON_IsObject(fault))
		return "a fault must be an object";
	cJSON_ArrayForEach(item, fault)
	{
		bool		is_known = false;

		for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
			is_known = is_known || strcmp(known[i], item->string) == 0;
		if (!is_known)
			return "a fault has a key that does not exist";
	}
	return NULL;
}

int
faults_add(cJSON *fault)
{
	int			number;

	record_default(fault, "match", cJSON_CreateObject());
	record_default(fault, "times", cJSON_CreateNumber(1));
	record_default(fault, "skip", cJSON_CreateNumber(0));
	pthread_mutex_lock(&lock);
	number = ++last_number;
	cJSON_AddNumberToObject(fault, "fault", number);
	if (faults == NULL)
		faults = cJSON_CreateArray();
	cJSON_AddItemToArray(faults, fault);
	pthread_mutex_unlock(&lock);
	return number;
}

cJSON *
faults_list(void)
{
	cJSON	   *copy;

	pthread_mutex_lock(&lock);
	copy = faults != NULL ? cJSON_Duplicate(faults, true) : cJSON_CreateArray();
	pthread_mutex_unlock(&lock);
	return copy;
}

bool
faults_remove(int number)
{
	cJSON	   *fault;

	pthread_mutex_lock(&lock);
	cJSON_ArrayForEach(fault, faults)
	{
		if ((int) number_of(fault, "fault", 0) == number)
			break;
	}
	if (fault != NULL)
		cJSON_Delete(cJSON_DetachItemViaPointer(faults, fault));
	pthread_mutex_unlock(&lock);
	return fault != NULL;
}

void
faults_clear(void)
{
	pthread_mutex_lock(&lock);
	cJSON_Delete(faults);
	faults = NULL;
	pthread_mutex_unlock(&lock);
}
