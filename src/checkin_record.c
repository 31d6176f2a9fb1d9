/*
 * checkin_record.c
 *	  What Cobot says about check-ins. Runs in the worker, and in any process without a
 *	  server.
 *
 * Absence costs money: whoever is not seen here is checked in. So a record that cannot
 * be read makes its member unclear, and one of which not even the member can be read makes
 * the whole list worthless.
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"

#include "checkin_record.h"

#define REFUSAL_LENGTH_LIMIT 200	/* bytes */

static const CobotField fields[] = {
	{"id", "cobot_id", COBOT_TEXT, COBOT_OPTIONAL},
	{"membership.id", "member_id", COBOT_TEXT, COBOT_OPTIONAL},
	{"membership_id", "membership_id", COBOT_TEXT, COBOT_OPTIONAL},
	{"time_pass.id", "time_pass_id", COBOT_TEXT, COBOT_OPTIONAL},
	{"valid_from", "valid_from", COBOT_TIMESTAMP, COBOT_OPTIONAL},
	{"valid_until", "valid_until", COBOT_TIMESTAMP, COBOT_OPTIONAL},
};

/* Places in the table above. */
enum
{
	ID, MEMBER_ID, MEMBERSHIP_ID, TIME_PASS_ID, VALID_FROM, VALID_UNTIL, FIELD_COUNT
};

StaticAssertDecl(lengthof(fields) == FIELD_COUNT, "every field needs its place");

static const char *
copy_text(const CobotValue *value)
{
	return value->is_null ? NULL : pstrdup(value->text);
}

static bool
read_record(const cJSON *json, const char *where, CheckinRecord *record, JsonError *error)
{
	CobotValue	values[FIELD_COUNT];

	if (!cobot_read_record(json, where, fields, FIELD_COUNT, values, error))
		return false;
	*record = (CheckinRecord) {
		.id = copy_text(&values[ID]),
		.member = copy_text(&values[values[MEMBER_ID].is_null ? MEMBERSHIP_ID : MEMBER_ID]),
		.time_pass_id = copy_text(&values[TIME_PASS_ID]),
		.valid_from = values[VALID_FROM].is_null ? DT_NOBEGIN : values[VALID_FROM].timestamp,
		.valid_until = values[VALID_UNTIL].is_null ? DT_NOEND : values[VALID_UNTIL].timestamp
	};
	return record->member != NULL || json_fail(error, where, "membership.id", "is missing");
}

bool
checkin_read_answer(const char *body, size_t length, const char *member, CheckinRecord *record)
{
	JsonError	error;
	cJSON	   *json = length > 0 ? json_parse(body, length, "", &error) : NULL;
	bool		own = json != NULL && read_record(json, "check_in", record, &error) &&
		strcmp(record->member, member) == 0;

	cJSON_Delete(json);
	return own;
}

/* Whose record it is, as far as that can be read; NULL: it cannot. */
static char *
find_member(const cJSON *json)
{
	static const char *const paths[] = {"membership.id", "membership_id"};
	const char *value;
	bool		present;
	JsonError	error;

	for (int i = 0; i < (int) lengthof(paths); i++)
		if (json_get_string(json, "", paths[i], &value, &present, &error) && present)
			return pstrdup(value);
	return NULL;
}

/* One element of the list. False: it cannot be known whose it is. */
static bool
read_element(const JsonElement *element, int place, CheckinList *list, JsonError *error)
{
	char	   *where = psprintf("check_ins[%d]", place);
	cJSON	   *json = json_parse(element->text, element->length, where, error);
	char	   *member;
	bool		usable = json != NULL;

	if (usable && read_record(json, where, &list->record[list->count], error))
		list->count++;
	else if (usable && (member = find_member(json)) != NULL)
		list->unclear[list->unclear_count++] = member;
	else
		usable = false;
	cJSON_Delete(json);
	return usable;
}

bool
checkin_read_list(const JsonArray *elements, CheckinList *list, JsonError *error)
{
	int			more = (int) elements->count;
	CheckinList grown = {
		.record = palloc_array(CheckinRecord, list->count + more + 1), .count = list->count,
		.unclear = palloc_array(const char *, list->unclear_count + more + 1), .unclear_count = list->unclear_count
	};

	if (list->count > 0)
		memcpy(grown.record, list->record, sizeof(CheckinRecord) * list->count);
	if (list->unclear_count > 0)
		memcpy(grown.unclear, list->unclear, sizeof(const char *) * list->unclear_count);
	for (int i = 0; i < more; i++)
		if (!read_element(&elements->element[i], i, &grown, error))
			return false;
	*list = grown;
	return true;
}

/* One without an end counts for a day. */
static bool
is_current(const CheckinRecord *record, TimestampTz now)
{
	return record->valid_until > now &&
		(record->valid_until != DT_NOEND || record->valid_from == DT_NOBEGIN || record->valid_from > now - USECS_PER_DAY);
}

const CheckinRecord *
checkin_find_current(const CheckinList *list, const char *member, TimestampTz now)
{
	for (int i = 0; i < list->count; i++)
		if (strcmp(list->record[i].member, member) == 0 && is_current(&list->record[i], now))
			return &list->record[i];
	return NULL;
}

const CheckinRecord *
checkin_find_since(const CheckinList *list, const char *member, TimestampTz since)
{
	for (int i = 0; i < list->count; i++)
		if (strcmp(list->record[i].member, member) == 0 && list->record[i].valid_from >= since)
			return &list->record[i];
	return NULL;
}

bool
checkin_is_unclear(const CheckinList *list, const char *member)
{
	for (int i = 0; i < list->unclear_count; i++)
		if (strcmp(list->unclear[i], member) == 0)
			return true;
	return false;
}

/* ---- refusals ---- */

static void
append_reason(StringInfo words, const char *field, const cJSON *reason)
{
	const cJSON *item;

	if (cJSON_IsArray(reason))
		cJSON_ArrayForEach(item, reason)
			append_reason(words, field, item);
	if (!cJSON_IsString(reason) || reason->valuestring[0] == '\0')
		return;
	if (words->len > 0)
		appendStringInfoString(words, "; ");
	if (strcmp(field, "base") != 0 && strcmp(field, "error") != 0)
		appendStringInfo(words, "%s ", field);
	appendStringInfoString(words, reason->valuestring);
}

/* {"errors": {"base": ...}} or {"base": ...}; texts or lists of texts; other fields may be blamed, too. */
static void
append_reasons(StringInfo words, const char *body, size_t length)
{
	JsonError	error;
	cJSON	   *json = json_check(body, length, &error) ? json_parse(body, length, "", &error) : NULL;
	const cJSON *errors = cJSON_GetObjectItemCaseSensitive(json, "errors");
	const cJSON *field;

	if (errors == NULL)
		errors = json;
	if (cJSON_IsObject(errors))
		cJSON_ArrayForEach(field, errors)
			append_reason(words, field->string, field);
	else
		append_reason(words, "base", errors);
	cJSON_Delete(json);
}

/* To the limit, and in one line: this goes into log lines. */
static void
shorten(StringInfo words)
{
	int			length = Min(words->len, REFUSAL_LENGTH_LIMIT);

	words->data[pg_encoding_verifymbstr(PG_UTF8, words->data, length)] = '\0';
	for (char *c = words->data; *c != '\0'; c++)
	{
		if ((unsigned char) *c < ' ' || *c == 0x7F)
			*c = ' ';
	}
}

char *
checkin_refusal(const char *body, size_t length, long status)
{
	StringInfoData words;

	initStringInfo(&words);
	append_reasons(&words, body, length);
	if (words.len == 0)
		return psprintf("Cobot refused it with HTTP status %ld and no reason", status);
	shorten(&words);
	return words.data;
}
