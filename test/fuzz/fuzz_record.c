/*
 * fuzz_record.c
 *	  Any JSON document as a record of Cobot. The first byte says of which kind. What is
 *	  accepted keeps the rules for fields; what is not, is told in a line that may be logged.
 */
#include "fuzz.h"

#include "checkin_record.h"

#define FIELDS_LIMIT 64
#define DAYS_LEAST (-36524)		/* 1900-01-01 */
#define DAYS_MOST 2921939		/* 9999-12-31 */
#define USECS_OF_OFFSET (16 * USECS_PER_HOUR)

static void
check_text(const CobotField *field, const char *text)
{
	size_t		length = strlen(field->column);

	require(is_utf8(text));
	if (length > 3 && strcmp(field->column + length - 3, "_id") == 0)
		require(is_id(text));
}

static void
check_decimal(const CobotValue *value)
{
	char	   *end;

	require(strlen(value->text) < sizeof(value->decimal_text));
	strtod(value->text, &end);
	require(end > value->text && *end == '\0');
}

static void
check_value(const CobotField *field, const CobotValue *value)
{
	const cJSON *item;

	require(!value->is_null || field->presence != COBOT_REQUIRED);
	if (value->is_null)
		return;
	switch (field->kind)
	{
		case COBOT_TEXT:
			check_text(field, value->text);
			break;
		case COBOT_DECIMAL:
			check_decimal(value);
			break;
		case COBOT_DATE:
			require(value->integer >= DAYS_LEAST && value->integer <= DAYS_MOST);
			break;
		case COBOT_TIMESTAMP:
			require(value->timestamp >= DAYS_LEAST * USECS_PER_DAY - USECS_OF_OFFSET);
			require(value->timestamp < (DAYS_MOST + 1) * USECS_PER_DAY + USECS_OF_OFFSET);
			break;
		case COBOT_TEXT_LIST:
			require(cJSON_IsArray(value->json));
			cJSON_ArrayForEach(item, value->json)
				require(cJSON_IsString(item));
			break;
		case COBOT_JSON:
			require(cJSON_IsArray(value->json) || cJSON_IsObject(value->json));
			break;
		case COBOT_BOOL:
		case COBOT_INTEGER:
			break;
	}
}

static void
check_record(const cJSON *json, const CobotField *fields, int count)
{
	CobotValue	values[FIELDS_LIMIT];
	JsonError	error;

	require(count <= FIELDS_LIMIT);
	if (!cobot_read_record(json, "memberships[3]", fields, count, values, &error))
	{
		require_failure(&error);
		return;
	}
	for (int i = 0; i < count; i++)
		check_value(&fields[i], &values[i]);
}

static void
check_custom_field(const cJSON *json)
{
	static const char *const ids[] = {NULL, "f1"};
	JsonError	error;
	const char *value;

	for (int i = 0; i < (int) lengthof(ids); i++)
	{
		if (!cobot_read_custom_field(json, "custom_fields[0]", ids[i], "Doors", &value, &error))
			require_failure(&error);
		else
			require(value == NULL || (value[0] != '\0' && is_utf8(value)));
	}
}

static void
check_answer(const char *body, size_t length, const cJSON *json)
{
	const cJSON *membership = cJSON_GetObjectItemCaseSensitive(json, "membership");
	const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(membership, "id"));
	CheckinRecord record;

	require(!checkin_read_answer(body, length, "somebody else of whom nothing is said", &record));
	if (id && checkin_read_answer(body, length, id, &record))
		require(strcmp(record.member, id) == 0 && is_id(id));
}

/* Every element is a record, or makes its member unclear. */
static void
check_list(const char *body, size_t length)
{
	JsonArray	elements;
	JsonError	error;
	CheckinList list = {0};

	if (!json_split_array(body, length, "id", &elements, &error))
		require_failure(&error);
	else if (!checkin_read_list(&elements, &list, &error))
		require_failure(&error);
	else
	{
		require((size_t) list.count + list.unclear_count == elements.count);
		for (int i = 0; i < list.count; i++)
		{
			const CheckinRecord *since = checkin_find_since(&list, list.record[i].member, list.record[i].valid_from);

			require(is_id(list.record[i].member));
			require(since && strcmp(since->member, list.record[i].member) == 0);
		}
		for (int i = 0; i < list.unclear_count; i++)
			require(checkin_is_unclear(&list, list.unclear[i]));
		/* the same once more goes behind it */
		require(checkin_read_list(&elements, &list, &error));
		require((size_t) list.count + list.unclear_count == 2 * elements.count);
	}
	json_free_array(&elements);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	JsonError	error;
	const char *body = (const char *) data + 1;
	size_t		length = size - 1;

	if (size == 0 || !json_check(body, length, &error))
		return -1;

	cJSON	   *json = json_parse(body, length, "", &error);

	require(json != NULL);
	switch (data[0] % 6)
	{
		case 0:
			check_record(json, cobot_membership_fields, cobot_membership_field_count);
			break;
		case 1:
			check_record(json, cobot_plan_fields, cobot_plan_field_count);
			break;
		case 2:
			check_record(json, cobot_space_fields, cobot_space_field_count);
			break;
		case 3:
			check_custom_field(json);
			break;
		case 4:
			check_answer(body, length, json);
			break;
		case 5:
			check_list(body, length);
	}
	cJSON_Delete(json);
	arena_reset();
	return 0;
}
