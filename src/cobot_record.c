/*
 * cobot_record.c
 *	  Cobot's JSON records as flat rows: the field tables, and the one reader
 *	  that is driven by them. Server-free like json.c; runs in any process.
 *
 * Rules for fields:
 *
 * - A missing key must not look like null where access depends on it: Cobot has
 *   dropped keys before, and a membership without "canceled_to" would then look
 *   like one that never ends. Such fields are COBOT_PRESENT: the key must be
 *   there and every object on the way to it must be one, only the value itself
 *   may be null. So "plan.name" being COBOT_PRESENT says that a membership
 *   without a plan object is a bad record.
 * - A value of another type than expected is a bad record, however unimportant
 *   the field: we cannot know what else Cobot meant by it.
 * - Columns that end in "_id" hold ids. They stand in URLs and in unique keys, so
 *   they must be 1 to 200 bytes long and no step of a path ("." or "..").
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include <math.h>

#include "cobot_record.h"

#define ID_LIMIT_BYTES 200
#define QUOTED_CHARACTERS 40
#define MAX_UTF8_BYTES 4

/* From 10^15 on, a double cannot tell all cents apart, and %.15g would print an exponent. */
#define DECIMAL_LIMIT 1e15

#define DAYS_1970_TO_2000 10957
#define SECONDS_PER_DAY 86400

/* A path that is also the column's name. */
#define SAME_NAME(name) name, name

const CobotField cobot_membership_fields[] = {
	{"id", "cobot_id", COBOT_TEXT, COBOT_REQUIRED},
	{SAME_NAME("name"), COBOT_TEXT, COBOT_OPTIONAL},
	{SAME_NAME("email"), COBOT_TEXT, COBOT_OPTIONAL},
	{SAME_NAME("phone"), COBOT_TEXT, COBOT_OPTIONAL},
	{"address.company", "company", COBOT_TEXT, COBOT_OPTIONAL},
	{"address.name", "address_name", COBOT_TEXT, COBOT_OPTIONAL},
	{"address.full_address", "full_address", COBOT_TEXT, COBOT_OPTIONAL},
	{"address.address", "address", COBOT_TEXT, COBOT_OPTIONAL},
	{"address.post_code", "post_code", COBOT_TEXT, COBOT_OPTIONAL},
	{"address.city", "city", COBOT_TEXT, COBOT_OPTIONAL},
	{"address.state", "state", COBOT_TEXT, COBOT_OPTIONAL},
	{"address.country", "country", COBOT_TEXT, COBOT_OPTIONAL},
	{SAME_NAME("billing_emails"), COBOT_TEXT_LIST, COBOT_OPTIONAL},
	{SAME_NAME("charge_taxes"), COBOT_BOOL, COBOT_OPTIONAL},
	{SAME_NAME("customer_number"), COBOT_TEXT, COBOT_OPTIONAL},
	{SAME_NAME("picture"), COBOT_TEXT, COBOT_OPTIONAL},
	{"user.id", "user_id", COBOT_TEXT, COBOT_OPTIONAL},
	{"user.email", "user_email", COBOT_TEXT, COBOT_OPTIONAL},
	{SAME_NAME("team_id"), COBOT_TEXT, COBOT_OPTIONAL},
	{"plan.name", "plan_name", COBOT_TEXT, COBOT_PRESENT},
	{"plan.description", "plan_description", COBOT_TEXT, COBOT_OPTIONAL},
	{"plan.parent_plan.id", "parent_plan_id", COBOT_TEXT, COBOT_OPTIONAL},
	{"plan.price_per_cycle", "plan_price_per_cycle", COBOT_DECIMAL, COBOT_OPTIONAL},
	{"plan.currency", "plan_currency", COBOT_TEXT, COBOT_OPTIONAL},
	{"plan.cycle_duration", "plan_cycle_duration", COBOT_INTEGER, COBOT_OPTIONAL},
	{"plan.canceled_to", "plan_canceled_to", COBOT_DATE, COBOT_OPTIONAL},
	{"plan.extras", "extras", COBOT_JSON, COBOT_OPTIONAL},
	{"plan.time_passes", "time_passes", COBOT_JSON, COBOT_OPTIONAL},
	{"upcoming_plan.name", "upcoming_plan_name", COBOT_TEXT, COBOT_OPTIONAL},
	{"upcoming_plan.parent_plan.id", "upcoming_parent_plan_id", COBOT_TEXT, COBOT_OPTIONAL},
	{"payment_method.name", "payment_method", COBOT_TEXT, COBOT_OPTIONAL},
	{"payment_method.automated", "payment_automated", COBOT_BOOL, COBOT_OPTIONAL},
	{SAME_NAME("confirmed_at"), COBOT_TIMESTAMP, COBOT_PRESENT},
	{SAME_NAME("starts_at"), COBOT_DATE, COBOT_OPTIONAL},
	{SAME_NAME("canceled_to"), COBOT_DATE, COBOT_PRESENT},
	{SAME_NAME("next_invoice_at"), COBOT_DATE, COBOT_OPTIONAL},
};
const int	cobot_membership_field_count = lengthof(cobot_membership_fields);

const CobotField cobot_plan_fields[] = {
	{"id", "cobot_id", COBOT_TEXT, COBOT_REQUIRED},
	{SAME_NAME("name"), COBOT_TEXT, COBOT_OPTIONAL},
	{SAME_NAME("description"), COBOT_TEXT, COBOT_OPTIONAL},
	{SAME_NAME("hidden"), COBOT_BOOL, COBOT_OPTIONAL},
	{SAME_NAME("price_per_cycle"), COBOT_DECIMAL, COBOT_OPTIONAL},
	{SAME_NAME("currency"), COBOT_TEXT, COBOT_OPTIONAL},
	{SAME_NAME("cycle_duration"), COBOT_INTEGER, COBOT_OPTIONAL},
	{SAME_NAME("cancellation_period"), COBOT_INTEGER, COBOT_OPTIONAL},
	{SAME_NAME("color"), COBOT_TEXT, COBOT_OPTIONAL},
	{SAME_NAME("extras"), COBOT_JSON, COBOT_OPTIONAL},
	{SAME_NAME("time_passes"), COBOT_JSON, COBOT_OPTIONAL},
};
const int	cobot_plan_field_count = lengthof(cobot_plan_fields);

const CobotField cobot_space_fields[] = {
	{"id", "space_id", COBOT_TEXT, COBOT_REQUIRED},
	{"name", "space_name", COBOT_TEXT, COBOT_OPTIONAL},
	{SAME_NAME("subdomain"), COBOT_TEXT, COBOT_OPTIONAL},
	{"time_zone_name", "time_zone", COBOT_TEXT, COBOT_REQUIRED},
	{SAME_NAME("country"), COBOT_TEXT, COBOT_OPTIONAL},
	{SAME_NAME("locale"), COBOT_TEXT, COBOT_OPTIONAL},
};
const int	cobot_space_field_count = lengthof(cobot_space_fields);

/* ---- dates ---- */

/* A number of exactly that many digits, or -1. */
static int
read_digits(const char *text, int digits)
{
	int			number = 0;

	for (int i = 0; i < digits; i++)
	{
		if (text[i] < '0' || text[i] > '9')
			return -1;			/* also the NUL of a text that is too short */
		number = number * 10 + (text[i] - '0');
	}
	return number;
}

static int
days_of_month(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool		leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[month - 1] + (month == 2 && leap ? 1 : 0);
}

/*
 * Days since 2000-01-01 in the proleptic Gregorian calendar. Counts years from
 * March, so that the leap day is the last of its year.
 */
static int32
days_from_civil(int year, int month, int day)
{
	int			march_year = month > 2 ? year : year - 1;
	int			era = march_year / 400;
	int			year_of_era = march_year - era * 400;
	int			day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
	int			day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

	return era * 146097 + day_of_era - 719468 - DAYS_1970_TO_2000;
}

/* The ten characters of a date at the start of a text. */
static bool
read_date(const char *text, int32 *days)
{
	int			year = read_digits(text, 4);

	if (year < 1900 || (text[4] != '/' && text[4] != '-'))
		return false;

	int			month = read_digits(text + 5, 2);

	if (month < 1 || month > 12 || text[7] != text[4])
		return false;

	int			day = read_digits(text + 8, 2);

	if (day < 1 || day > days_of_month(year, month))
		return false;
	*days = days_from_civil(year, month, day);
	return true;
}

bool
cobot_parse_date(const char *text, int32 *days)
{
	return read_date(text, days) && text[10] == '\0';
}

/* "Z", "+0200" or "+02:00", and nothing after it. */
static bool
read_offset(const char *text, int *offset_s)
{
	if (strcmp(text, "Z") == 0)
	{
		*offset_s = 0;
		return true;
	}
	if (*text != '+' && *text != '-')
		return false;

	int			hours = read_digits(text + 1, 2);

	if (hours < 0 || hours > 15)
		return false;

	const char *rest = text + 3 + (text[3] == ':' ? 1 : 0);
	int			minutes = read_digits(rest, 2);

	if (minutes < 0 || minutes > 59 || rest[2] != '\0')
		return false;
	*offset_s = (hours * 60 + minutes) * (*text == '-' ? -60 : 60);
	return true;
}

/* The eight characters of a time of day at the start of a text. */
static bool
read_time(const char *text, int *seconds)
{
	int			hour = read_digits(text, 2);

	if (hour < 0 || hour > 23 || text[2] != ':')
		return false;

	int			minute = read_digits(text + 3, 2);

	if (minute < 0 || minute > 59 || text[5] != ':')
		return false;

	int			second = read_digits(text + 6, 2);

	if (second < 0 || second > 59)
		return false;
	*seconds = (hour * 60 + minute) * 60 + second;
	return true;
}

bool
cobot_parse_timestamp(const char *text, int64 *microseconds)
{
	int32		days;
	int			seconds;
	int			offset_s;

	if (!read_date(text, &days) || (text[10] != ' ' && text[10] != 'T') ||
		!read_time(text + 11, &seconds))
		return false;

	const char *rest = text + 19;

	if (*rest == '.')
	{
		size_t		digits = strspn(rest + 1, "0123456789");

		if (digits == 0)
			return false;
		rest += 1 + digits;
	}
	if (*rest == ' ')
		rest++;
	if (!read_offset(rest, &offset_s))
		return false;
	*microseconds = ((int64) days * SECONDS_PER_DAY + seconds - offset_s) * INT64CONST(1000000);
	return true;
}

/* ---- values ---- */

/*
 * "is "VALUE", expected ...", with at most 40 characters of the value. Control
 * characters become spaces: this goes into log lines.
 */
static bool
fail_value(JsonError *error, const char *where, const char *path,
		   const char *value, const char *expected)
{
	char		quoted[QUOTED_CHARACTERS * MAX_UTF8_BYTES + 1];
	size_t		length = 0;
	int			characters = 0;

	while (value[length] != '\0' && length < sizeof(quoted) - 1)
	{
		bool		begins = ((unsigned char) value[length] & 0xC0) != 0x80;

		if (begins && characters++ == QUOTED_CHARACTERS)
			break;
		length++;
	}
	memcpy(quoted, value, length);
	quoted[length] = '\0';
	for (char *c = quoted; *c != '\0'; c++)
	{
		if ((unsigned char) *c < ' ' || *c == 0x7F)
			*c = ' ';
	}
	return json_fail(error, where, path, "is \"%s%s\", expected %s",
					 quoted, value[length] != '\0' ? "..." : "", expected);
}

static bool
fail_type(JsonError *error, const char *where, const char *path,
		  const cJSON *found, const char *expected)
{
	return json_fail(error, where, path, "is %s, expected %s", json_type_name(found), expected);
}

static bool
read_text(const cJSON *found, const char *where, const CobotField *field,
		  CobotValue *value, JsonError *error)
{
	const char *text = found->valuestring;

	if (!cJSON_IsString(found))
		return fail_type(error, where, field->path, found, "a string");

	size_t		column_length = strlen(field->column);

	if (column_length > 3 && strcmp(field->column + column_length - 3, "_id") == 0)
	{
		if (text[0] == '\0')
			return json_fail(error, where, field->path, "is an empty id");
		if (strlen(text) > ID_LIMIT_BYTES)
			return fail_value(error, where, field->path, text, "an id of at most "
							  CppAsString2(ID_LIMIT_BYTES) " bytes");
		if (strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
			return fail_value(error, where, field->path, text, "an id");
	}
	value->text = text;
	return true;
}

static bool
read_integer(const cJSON *found, const char *where, const CobotField *field,
			 CobotValue *value, JsonError *error)
{
	if (!cJSON_IsNumber(found))
		return fail_type(error, where, field->path, found, "an integer");

	double		number = found->valuedouble;

	if (number != floor(number) || number < PG_INT32_MIN || number > PG_INT32_MAX)
		return json_fail(error, where, field->path, "is %g, expected an integer of 32 bits", number);
	value->integer = (int32) number;
	return true;
}

/* -?digits[.digits] */
static bool
is_decimal(const char *text)
{
	const char *at = text + (*text == '-' ? 1 : 0);
	size_t		digits = strspn(at, "0123456789");

	at += digits;
	if (digits > 0 && *at == '.')
	{
		digits = strspn(at + 1, "0123456789");
		at += 1 + digits;
	}
	return digits > 0 && *at == '\0';
}

static bool
read_decimal(const cJSON *found, const char *where, const CobotField *field,
			 CobotValue *value, JsonError *error)
{
	if (cJSON_IsString(found))
	{
		if (!is_decimal(found->valuestring) ||
			strlen(found->valuestring) >= sizeof(value->decimal_text))
			return fail_value(error, where, field->path, found->valuestring, "a decimal number");
		value->text = found->valuestring;
		return true;
	}
	if (!cJSON_IsNumber(found))
		return fail_type(error, where, field->path, found, "a decimal number");

	double		number = found->valuedouble;

	if (fabs(number) >= DECIMAL_LIMIT)
		return json_fail(error, where, field->path, "is %g, which is out of range", number);
	/* 15 digits give back what was written, unless there were more */
	snprintf(value->decimal_text, sizeof(value->decimal_text), "%.15g", number);
	value->text = value->decimal_text;
	return true;
}

static bool
read_list(const cJSON *found, const char *where, const CobotField *field,
		  CobotValue *value, JsonError *error)
{
	int			index = 0;

	if (!cJSON_IsArray(found))
		return fail_type(error, where, field->path, found, "an array of strings");
	for (const cJSON *item = found->child; item != NULL; item = item->next, index++)
	{
		if (!cJSON_IsString(item))
		{
			char		path[64];

			snprintf(path, sizeof(path), "%s[%d]", field->path, index);
			return fail_type(error, where, path, item, "a string");
		}
	}
	value->json = found;
	return true;
}

static bool
read_value(const cJSON *found, const char *where, const CobotField *field,
		   CobotValue *value, JsonError *error)
{
	switch (field->kind)
	{
		case COBOT_TEXT:
			return read_text(found, where, field, value, error);
		case COBOT_BOOL:
			value->boolean = cJSON_IsTrue(found);
			return cJSON_IsBool(found) || fail_type(error, where, field->path, found, "a boolean");
		case COBOT_INTEGER:
			return read_integer(found, where, field, value, error);
		case COBOT_DECIMAL:
			return read_decimal(found, where, field, value, error);
		case COBOT_DATE:
			if (!cJSON_IsString(found))
				return fail_type(error, where, field->path, found, "a date");
			return cobot_parse_date(found->valuestring, &value->integer) ||
				fail_value(error, where, field->path, found->valuestring, "a date");
		case COBOT_TIMESTAMP:
			if (!cJSON_IsString(found))
				return fail_type(error, where, field->path, found, "a timestamp");
			return cobot_parse_timestamp(found->valuestring, &value->timestamp) ||
				fail_value(error, where, field->path, found->valuestring, "a timestamp");
		case COBOT_TEXT_LIST:
			return read_list(found, where, field, value, error);
		case COBOT_JSON:
			value->json = found;
			return cJSON_IsArray(found) || cJSON_IsObject(found) ||
				fail_type(error, where, field->path, found, "an array or object");
	}
	return false;
}

/* ---- records ---- */

/* For a key that must be there and is not: names the first step of the path that is missing or null. */
static bool
fail_missing(const cJSON *record, const char *where, const char *path, JsonError *error)
{
	char		step[64];
	const cJSON *found;

	for (size_t length = strcspn(path, ".");; length += 1 + strcspn(path + length + 1, "."))
	{
		snprintf(step, sizeof(step), "%.*s", (int) length, path);
		if (!json_find(record, where, step, &found, error))
			return false;
		if (found == NULL)
			return json_fail(error, where, step, "is missing");
		if (path[length] == '\0' || cJSON_IsNull(found))
			return json_fail(error, where, step, "is null, which it must not be");
	}
}

int
cobot_field_index(const CobotField *fields, int count, const char *column)
{
	int			i = 0;

	while (i < count && strcmp(fields[i].column, column) != 0)
		i++;
	Assert(i < count);
	return i;
}

bool
cobot_read_record(const cJSON *record, const char *where,
				  const CobotField *fields, int count,
				  CobotValue *values, JsonError *error)
{
	if (!cJSON_IsObject(record))
		return fail_type(error, where, "", record, "an object");
	for (int i = 0; i < count; i++)
	{
		const CobotField *field = &fields[i];
		const cJSON *found;

		memset(&values[i], 0, sizeof(CobotValue));
		if (!json_find(record, where, field->path, &found, error))
			return false;
		values[i].is_null = (found == NULL || cJSON_IsNull(found));
		if ((field->presence == COBOT_PRESENT && found == NULL) ||
			(field->presence == COBOT_REQUIRED && values[i].is_null))
			return fail_missing(record, where, field->path, error);
		if (!values[i].is_null && !read_value(found, where, field, &values[i], error))
			return false;
	}
	return true;
}

/*
 * Looks at one item of "fields": is it the field we want, and what is its value?
 * Values of other fields are none of our business, whatever their type.
 */
static bool
read_custom_field_item(const cJSON *item, const char *where,
					   const char *field_id, const char *label,
					   bool *matches, const char **value, JsonError *error)
{
	const char *item_id;
	const char *item_label;
	bool		has_id;
	bool		has_label;
	bool		has_value;

	if (!json_get_string(item, where, "id", &item_id, &has_id, error) ||
		!json_get_string(item, where, "label", &item_label, &has_label, error))
		return false;
	if (has_id && field_id != NULL)
		*matches = strcmp(item_id, field_id) == 0;
	else
		*matches = has_label && label != NULL && strcmp(item_label, label) == 0;
	if (!*matches)
		return true;
	return json_get_string(item, where, "value", value, &has_value, error);
}

/*
 * "fields" itself must be there: to take it for "no values" would take away
 * every access that comes from the field. For the same reason we do not guess
 * which one is meant where two match.
 */
bool
cobot_read_custom_field(const cJSON *element, const char *where,
						const char *field_id, const char *label,
						const char **value, JsonError *error)
{
	const cJSON *fields;
	bool		found = false;
	int			index = 0;

	*value = NULL;
	if (!json_find(element, where, "fields", &fields, error))
		return false;
	if (fields == NULL)
		return json_fail(error, where, "fields", "is missing");
	if (!cJSON_IsArray(fields))
		return fail_type(error, where, "fields", fields, "an array");
	for (const cJSON *item = fields->child; item != NULL; item = item->next, index++)
	{
		char		item_where[sizeof(error->path)];
		bool		matches;

		snprintf(item_where, sizeof(item_where), "%s%sfields[%d]",
				 where, where[0] != '\0' ? "." : "", index);
		if (!cJSON_IsObject(item))
			return fail_type(error, item_where, "", item, "an object");

		const char *item_value = NULL;

		if (!read_custom_field_item(item, item_where, field_id, label, &matches, &item_value, error))
			return false;
		if (matches && found)
			return json_fail(error, item_where, "", "is the same field once more");
		if (matches && item_value != NULL && item_value[0] != '\0')
			*value = item_value;
		found |= matches;
	}
	return true;
}
