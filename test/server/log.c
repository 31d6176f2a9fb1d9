/*
 * log.c
 *	  Which requests arrived: a ring of the last ones, with numbers that never
 *	  repeat.
 */
#include "log.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

#define ENTRIES 100000

typedef struct LogEntry
{
	uint64_t	number;			/* 0: unused */
	double		time;
	uint64_t	connection;
	char	   *method;
	char	   *host;
	char	   *path;
	char	   *query;
	char	   *token;
	char	   *user_agent;
	char	   *body;
	int			status;			/* -1: being answered */
} LogEntry;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static LogEntry *ring;			/* entry n stands at n % ENTRIES */
static uint64_t last_number;
static uint64_t cleared_up_to;

static void
forget(LogEntry *entry)
{
	free(entry->method);
	free(entry->host);
	free(entry->path);
	free(entry->query);
	free(entry->token);
	free(entry->user_agent);
	free(entry->body);
	memset(entry, 0, sizeof(*entry));
}

uint64_t
log_begin(const Request *request)
{
	LogEntry   *entry;
	uint64_t	number;

	pthread_mutex_lock(&lock);
	if (ring == NULL)
		ring = memory_zero(ENTRIES * sizeof(LogEntry));
	number = ++last_number;
	entry = &ring[number % ENTRIES];
	forget(entry);
	entry->number = number;
	entry->time = clock_now();
	entry->connection = request->connection_number;
	entry->method = text_copy(request->method);
	entry->host = text_copy(request->host);
	entry->path = text_copy(request->path);
	entry->query = text_copy(request->query);
	entry->token = text_copy(request->token);
	entry->user_agent = text_copy(request->user_agent);
	entry->body = request->body.length > 0 ? text_copy(request->body.data) : NULL;
	entry->status = -1;
	pthread_mutex_unlock(&lock);
	return number;
}

void
log_finish(uint64_t number, int status)
{
	pthread_mutex_lock(&lock);
	if (ring != NULL && ring[number % ENTRIES].number == number)
		ring[number % ENTRIES].status = status;
	pthread_mutex_unlock(&lock);
}

static void
add_text(cJSON *object, const char *key, const char *value)
{
	cJSON_AddItemToObject(object, key, value != NULL ? cJSON_CreateString(value) : cJSON_CreateNull());
}

static cJSON *
entry_json(const LogEntry *entry)
{
	cJSON	   *json = cJSON_CreateObject();

	cJSON_AddNumberToObject(json, "n", (double) entry->number);
	cJSON_AddNumberToObject(json, "time", entry->time);
	cJSON_AddNumberToObject(json, "connection", (double) entry->connection);
	add_text(json, "method", entry->method);
	add_text(json, "host", entry->host);
	add_text(json, "path", entry->path);
	add_text(json, "query", entry->query);
	if (entry->status < 0)
		cJSON_AddNullToObject(json, "status");
	else
		cJSON_AddNumberToObject(json, "status", entry->status);
	add_text(json, "token", entry->token);
	add_text(json, "user_agent", entry->user_agent);
	add_text(json, "body", entry->body);
	return json;
}

cJSON *
log_since(uint64_t number)
{
	cJSON	   *array = cJSON_CreateArray();

	pthread_mutex_lock(&lock);
	if (number < cleared_up_to)
		number = cleared_up_to;
	if (last_number >= ENTRIES && number < last_number - ENTRIES)
		number = last_number - ENTRIES;
	while (ring != NULL && number < last_number)
		cJSON_AddItemToArray(array, entry_json(&ring[++number % ENTRIES]));
	pthread_mutex_unlock(&lock);
	return array;
}

void
log_clear(void)
{
	pthread_mutex_lock(&lock);
	for (int i = 0; ring != NULL && i < ENTRIES; i++)
		forget(&ring[i]);
	free(ring);
	ring = NULL;
	cleared_up_to = last_number;
	pthread_mutex_unlock(&lock);
}
