/*
 * unit_record.c
 *	  What cobot_record.h promises: how records become rows, which are refused,
 *	  and what day and instant Cobot's dates mean.
 */
#include "postgres_fe.h"

#include "cobot_record.h"
#include "tap.h"

/* The sample of the API reference, with the keys that we mirror and some that we do not. */
static const char full_member[] =
	"{\"id\":\"0c4f75fa14924423810d6f12aeb50002\",\"name\":\"Ada Lovelace\",\"email\":\"ada@example.com\","
	"\"phone\":\"+49 30 0000\",\"user\":{\"id\":\"1d4d33ea\",\"email\":\"login@example.com\"},"
	"\"picture\":\"https://example.com/p.jpg\",\"address\":{\"company\":\"Engine Ltd\",\"name\":\"A. L.\","
	"\"full_address\":\"1 Street\\n10115 Berlin\",\"address\":\"1 Street\",\"post_code\":\"10115\","
	"\"city\":\"Berlin\",\"state\":null,\"country\":\"Germany\"},"
	"\"billing_emails\":[\"billing@example.com\",\"b2@example.com\"],\"charge_taxes\":true,"
	"\"customer_number\":\"10001\",\"plan\":{\"name\":\"Full Time\",\"description\":\"24/7\","
	"\"parent_plan\":{\"id\":\"ab12\"},\"price_per_cycle\":\"200.0\",\"price_per_cycle_in_cents\":20000,"
	"\"currency\":\"EUR\",\"cycle_duration\":1,\"canceled_to\":\"2026/12/31\",\"extras\":[{\"name\":\"Locker\"}],"
	"\"time_passes\":[{\"id\":\"0\"}]},\"upcoming_plan\":{\"name\":\"Flex\",\"parent_plan\":{\"id\":\"cd34\"}},"
	"\"payment_method\":{\"name\":\"cash\",\"automated\":false},\"confirmed_at\":\"2026/01/01 12:00:00 +0000\","
	"\"starts_at\":\"2026/01/02\",\"canceled_to\":null,\"next_invoice_at\":\"2026/04/01\",\"team_id\":null,"
	"\"internal_memo\":{\"unknown\":[1]}}";

/* The least that a membership must bring along. */
#define LEAST "\"id\":\"m1\",\"plan\":{\"name\":null},\"confirmed_at\":null,\"canceled_to\":null"

typedef struct Row
{
	CobotValue	value[64];
	const CobotField *field;
	int			count;
	cJSON	   *record;
	JsonError	error;
	bool		good;
} Row;

static void
read_row(Row *row, const char *text, const CobotField *fields, int count)
{
	memset(row, 0, sizeof(*row));
	row->field = fields;
	row->count = count;
	if (!json_check(text, strlen(text), &row->error))
	{
		printf("Bail out! not JSON: %s: %s\n", row->error.message, text);
		exit(1);
	}
	row->record = json_parse(text, strlen(text), "", &row->error);
	row->good = cobot_read_record(row->record, "m[3]", fields, count, row->value, &row->error);
}

static void
read_member(Row *row, const char *text)
{
	read_row(row, text, cobot_membership_fields, cobot_membership_field_count);
}

static CobotValue *
column(Row *row, const char *name)
{
	for (int i = 0; i < row->count; i++)
	{
		if (strcmp(row->field[i].column, name) == 0)
			return &row->value[i];
	}
	printf("Bail out! no column %s\n", name);
	exit(1);
}

static void
accepts(const char *text, const char *name)
{
	Row			row;

	read_member(&row, text);
	if (!ok(row.good, "accepted: %s", name))
		printf("# %s %s\n", row.error.path, row.error.message);
	cJSON_Delete(row.record);
}

static void
refuses(const char *text, const char *path, const char *message, const char *name)
{
	Row			row;
	char		label[256];

	read_member(&row, text);
	snprintf(label, sizeof(label), "refused at its path: %s", name);
	is_text(row.good ? "accepted" : row.error.path, path, label);
	snprintf(label, sizeof(label), "refused in words: %s", name);
	is_text(row.error.message, message, label);
	cJSON_Delete(row.record);
}

static void
test_full_member(void)
{
	static const struct
	{
		const char *column;
		const char *text;
	}			texts[] = {
		{"cobot_id", "0c4f75fa14924423810d6f12aeb50002"},
		{"name", "Ada Lovelace"}, {"email", "ada@example.com"}, {"phone", "+49 30 0000"},
		{"company", "Engine Ltd"}, {"address_name", "A. L."},
		{"full_address", "1 Street\n10115 Berlin"}, {"address", "1 Street"},
		{"post_code", "10115"}, {"city", "Berlin"}, {"state", NULL}, {"country", "Germany"},
		{"customer_number", "10001"}, {"picture", "https://example.com/p.jpg"},
		{"user_id", "1d4d33ea"}, {"user_email", "login@example.com"}, {"team_id", NULL},
		{"plan_name", "Full Time"}, {"plan_description", "24/7"}, {"parent_plan_id", "ab12"},
		{"plan_price_per_cycle", "200.0"}, {"plan_currency", "EUR"},
		{"upcoming_plan_name", "Flex"}, {"upcoming_parent_plan_id", "cd34"},
		{"payment_method", "cash"}
	};
	Row			row;

	read_member(&row, full_member);
	if (!ok(row.good, "a full member is read"))
		printf("# %s %s\n", row.error.path, row.error.message);
	for (size_t i = 0; i < lengthof(texts); i++)
	{
		is_text(column(&row, texts[i].column)->text, texts[i].text, texts[i].column);
		ok(column(&row, texts[i].column)->is_null == (texts[i].text == NULL),
		   "%s is null or not", texts[i].column);
	}
	ok(column(&row, "charge_taxes")->boolean && !column(&row, "charge_taxes")->is_null, "charge_taxes");
	ok(!column(&row, "payment_automated")->boolean && !column(&row, "payment_automated")->is_null,
	   "payment_automated");
	ok(column(&row, "plan_cycle_duration")->integer == 1, "plan_cycle_duration");
	ok(column(&row, "plan_canceled_to")->integer == 9861, "plan_canceled_to is 2026-12-31");
	ok(column(&row, "starts_at")->integer == 9498, "starts_at is 2026-01-02");
	ok(column(&row, "next_invoice_at")->integer == 9587, "next_invoice_at is 2026-04-01");
	ok(column(&row, "confirmed_at")->timestamp == INT64CONST(820584000000000),
	   "confirmed_at is 2026-01-01 12:00 UTC");
	ok(column(&row, "canceled_to")->is_null, "canceled_to is null");
	ok(cJSON_GetArraySize(column(&row, "billing_emails")->json) == 2, "billing_emails is the list");
	ok(cJSON_GetArraySize(column(&row, "extras")->json) == 1, "extras is the list");
	ok(cJSON_GetArraySize(column(&row, "time_passes")->json) == 1, "time_passes is the list");
	ok(row.count == 36, "every mirrored column is looked at above or has its test below");
	cJSON_Delete(row.record);
}

static void
test_presence(void)
{
	accepts("{" LEAST "}", "the least there can be");
	accepts("{" LEAST ",\"user\":null,\"address\":null,\"upcoming_plan\":null,\"payment_method\":null,"
			"\"name\":null,\"billing_emails\":null,\"starts_at\":null,\"charge_taxes\":null}",
			"null wherever Cobot says null");
	accepts("{\"id\":\"m1\",\"plan\":{\"name\":\"x\",\"parent_plan\":null},\"confirmed_at\":null,"
			"\"canceled_to\":null}", "a plan copy whose parent is null");
	accepts("{" LEAST ",\"surprise\":{\"deep\":[1,2]}}", "unknown keys");

	refuses("{\"plan\":{\"name\":\"x\"},\"confirmed_at\":null,\"canceled_to\":null}",
			"m[3].id", "is missing", "no id");
	refuses("{\"id\":null,\"plan\":{\"name\":\"x\"},\"confirmed_at\":null,\"canceled_to\":null}",
			"m[3].id", "is null, which it must not be", "null id");
	refuses("{\"ID\":\"m1\",\"plan\":{\"name\":\"x\"},\"confirmed_at\":null,\"canceled_to\":null}",
			"m[3].id", "is missing", "id in another case");
	refuses("{\"id\":\"m1\",\"confirmed_at\":null,\"canceled_to\":null}",
			"m[3].plan", "is missing", "no plan");
	refuses("{\"id\":\"m1\",\"plan\":null,\"confirmed_at\":null,\"canceled_to\":null}",
			"m[3].plan", "is null, which it must not be", "null plan");
	refuses("{\"id\":\"m1\",\"plan\":\"Full\",\"confirmed_at\":null,\"canceled_to\":null}",
			"m[3].plan", "is a string, expected an object", "plan that is a string");
	refuses("{\"id\":\"m1\",\"plan\":[],\"confirmed_at\":null,\"canceled_to\":null}",
			"m[3].plan", "is an array, expected an object", "plan that is an array");
	refuses("{\"id\":\"m1\",\"plan\":{},\"confirmed_at\":null,\"canceled_to\":null}",
			"m[3].plan.name", "is missing", "plan without a name");
	refuses("{\"id\":\"m1\",\"plan\":{\"name\":\"x\"},\"canceled_to\":null}",
			"m[3].confirmed_at", "is missing", "no confirmed_at");
	refuses("{\"id\":\"m1\",\"plan\":{\"name\":\"x\"},\"confirmed_at\":null}",
			"m[3].canceled_to", "is missing", "no canceled_to");
	refuses("[1]", "m[3]", "is an array, expected an object", "a record that is no object");
	refuses("null", "m[3]", "is null, expected an object", "a record that is null");
}

static void
test_types(void)
{
	refuses("{" LEAST ",\"name\":7}", "m[3].name", "is a number, expected a string", "name");
	refuses("{" LEAST ",\"customer_number\":10001}", "m[3].customer_number",
			"is a number, expected a string", "customer number as a number");
	refuses("{" LEAST ",\"address\":{\"post_code\":10115}}", "m[3].address.post_code",
			"is a number, expected a string", "post code as a number");
	refuses("{" LEAST ",\"address\":\"1 Street\"}", "m[3].address",
			"is a string, expected an object", "address as a string");
	refuses("{" LEAST ",\"charge_taxes\":\"true\"}", "m[3].charge_taxes",
			"is a string, expected a boolean", "boolean as a string");
	refuses("{" LEAST ",\"charge_taxes\":1}", "m[3].charge_taxes",
			"is a number, expected a boolean", "boolean as a number");
	refuses("{" LEAST ",\"billing_emails\":\"a@b\"}", "m[3].billing_emails",
			"is a string, expected an array of strings", "list as a string");
	refuses("{" LEAST ",\"billing_emails\":[\"a@b\",null]}", "m[3].billing_emails[1]",
			"is null, expected a string", "null in a list");
	refuses("{" LEAST ",\"starts_at\":20260101}", "m[3].starts_at",
			"is a number, expected a date", "date as a number");
	refuses("{\"id\":\"m1\",\"plan\":{\"name\":\"x\"},\"confirmed_at\":true,\"canceled_to\":null}",
			"m[3].confirmed_at", "is a boolean, expected a timestamp", "timestamp as a boolean");
	refuses("{\"id\":\"m1\",\"plan\":{\"name\":\"x\",\"extras\":\"none\"},\"confirmed_at\":null,"
			"\"canceled_to\":null}", "m[3].plan.extras", "is a string, expected an array or object",
			"extras as a string");

	refuses("{" LEAST ",\"starts_at\":\"2026/02/29\"}", "m[3].starts_at",
			"is \"2026/02/29\", expected a date", "29 February of a common year");
	refuses("{" LEAST ",\"starts_at\":\"\"}", "m[3].starts_at", "is \"\", expected a date", "empty date");
	refuses("{\"id\":\"m1\",\"plan\":{\"name\":\"x\"},\"confirmed_at\":\"2026/01/01\",\"canceled_to\":null}",
			"m[3].confirmed_at", "is \"2026/01/01\", expected a timestamp", "date for a timestamp");
	refuses("{" LEAST ",\"starts_at\":\"1234567890123456789012345678901234567890\"}", "m[3].starts_at",
			"is \"1234567890123456789012345678901234567890\", expected a date", "40 characters are quoted whole");
	refuses("{" LEAST ",\"starts_at\":\"\xC3\xA4""234567890123456789012345678901234567890\xC3\xA4 secret\"}",
			"m[3].starts_at",
			"is \"\xC3\xA4""234567890123456789012345678901234567890...\", expected a date",
			"no more than 40 characters are quoted");
	refuses("{" LEAST ",\"starts_at\":\"a\\nb\\u001b[31m\\u007f\"}", "m[3].starts_at",
			"is \"a b [31m \", expected a date", "control characters are not quoted");
}

/* Price texts of a plan: NULL where the record must be refused. */
static void
price_is(const char *json, const char *expected)
{
	char		text[256];
	char		label[128];
	Row			row;

	snprintf(text, sizeof(text), "{\"id\":\"p\",\"price_per_cycle\":%s}", json);
	snprintf(label, sizeof(label), "price %s", json);
	read_row(&row, text, cobot_plan_fields, cobot_plan_field_count);
	is_text(row.good ? column(&row, "price_per_cycle")->text : NULL, expected, label);
	cJSON_Delete(row.record);
}

static void
duration_is(const char *json, bool good, int32 expected)
{
	char		text[256];
	Row			row;

	snprintf(text, sizeof(text), "{\"id\":\"p\",\"cycle_duration\":%s}", json);
	read_row(&row, text, cobot_plan_fields, cobot_plan_field_count);
	ok(row.good == good && (!good || column(&row, "cycle_duration")->integer == expected),
	   "duration %s", json);
	cJSON_Delete(row.record);
}

static void
test_numbers(void)
{
	price_is("\"200.0\"", "200.0");
	price_is("\"-0.50\"", "-0.50");
	price_is("\"1234567890123456789012345678.9\"", "1234567890123456789012345678.9");
	price_is("19.0", "19");
	price_is("0.1", "0.1");
	price_is("-12.35", "-12.35");
	price_is("123456789012.34", "123456789012.34");
	price_is("\"12345678901234567890123456789012\"", NULL);
	price_is("\"\"", NULL);
	price_is("\"-\"", NULL);
	price_is("\".5\"", NULL);
	price_is("\"5.\"", NULL);
	price_is("\"1,50\"", NULL);
	price_is("\"1e3\"", NULL);
	price_is("\"+1\"", NULL);
	price_is("\" 1\"", NULL);
	price_is("\"1 \"", NULL);
	price_is("\"NaN\"", NULL);
	price_is("\"1.2.3\"", NULL);
	price_is("1e15", NULL);
	price_is("true", NULL);

	duration_is("12", true, 12);
	duration_is("12.0", true, 12);
	duration_is("-2147483648", true, PG_INT32_MIN);
	duration_is("2147483647", true, PG_INT32_MAX);
	duration_is("2147483648", false, 0);
	duration_is("-2147483649", false, 0);
	duration_is("1e100", false, 0);
	duration_is("1.5", false, 0);
	duration_is("\"12\"", false, 0);
}

static void
test_ids(void)
{
	char		text[512];
	char		id[202];
	Row			row;

	memset(id, 'a', sizeof(id));
	id[200] = '\0';
	snprintf(text, sizeof(text), "{\"id\":\"%s\"}", id);
	read_row(&row, text, cobot_plan_fields, cobot_plan_field_count);
	ok(row.good, "an id of 200 bytes is accepted");
	cJSON_Delete(row.record);

	id[200] = 'a';
	id[201] = '\0';
	snprintf(text, sizeof(text), "{\"id\":\"%s\"}", id);
	read_row(&row, text, cobot_plan_fields, cobot_plan_field_count);
	ok(!row.good, "an id of 201 bytes is refused");
	is_text(row.error.message,
			"is \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...\", expected an id of at most 200 bytes",
			"and quoted in part");
	cJSON_Delete(row.record);

	/* 100 characters of three bytes: bytes count, not characters */
	char	   *at = text + sprintf(text, "{\"id\":\"");

	for (int i = 0; i < 100; i++)
		at += sprintf(at, "\xE6\x9D\x8E");
	sprintf(at, "\"}");
	read_row(&row, text, cobot_plan_fields, cobot_plan_field_count);
	ok(!row.good, "an id of 100 characters and 300 bytes is refused");
	cJSON_Delete(row.record);

	refuses("{\"id\":7,\"plan\":{\"name\":\"x\"},\"confirmed_at\":null,\"canceled_to\":null}",
			"m[3].id", "is a number, expected a string", "an id that is a number");
	refuses("{\"id\":\"\",\"plan\":{\"name\":\"x\"},\"confirmed_at\":null,\"canceled_to\":null}",
			"m[3].id", "is an empty id", "an empty id");
	refuses("{\"id\":\"..\",\"plan\":{\"name\":\"x\"},\"confirmed_at\":null,\"canceled_to\":null}",
			"m[3].id", "is \"..\", expected an id", "an id that is a step of a path");
	refuses("{" LEAST ",\"team_id\":\"\"}", "m[3].team_id", "is an empty id", "an empty team id");
	refuses("{" LEAST ",\"user\":{\"id\":\".\"}}", "m[3].user.id", "is \".\", expected an id", "user id \".\"");
	accepts("{" LEAST ",\"name\":\"\",\"email\":\".\"}", "empty texts that are no ids");
	accepts("{\"id\":\"0\",\"plan\":{\"name\":\"x\"},\"confirmed_at\":null,\"canceled_to\":null}", "the id 0");
	accepts("{\"id\":\"1d4d33ea-2501-5790-146a-6f12aeb50001\",\"plan\":{\"name\":\"x\"},"
			"\"confirmed_at\":null,\"canceled_to\":null}", "an id that is a UUID");
	accepts("{\"id\":\"user-jane\",\"plan\":{\"name\":\"x\"},\"confirmed_at\":null,\"canceled_to\":null}",
			"an id of the old kind");
}

static void
name_is(const char *json, const char *expected, const char *label)
{
	char		text[512];
	Row			row;

	snprintf(text, sizeof(text), "{" LEAST ",\"name\":%s,\"name\":\"twice\"}", json);
	read_member(&row, text);
	is_text(row.good ? column(&row, "name")->text : "refused", expected, label);
	cJSON_Delete(row.record);
}

static void
test_texts_come_through(void)
{
	name_is("\"Anne \\\"Nan\\\" O'Neil\"", "Anne \"Nan\" O'Neil", "quotes");
	name_is("\"a\\r\\nb\\tc\\u0001\"", "a\r\nb\tc\001", "control characters");
	name_is("\"\xF0\x9F\x9A\x80 \\ud83d\\ude80\"", "\xF0\x9F\x9A\x80 \xF0\x9F\x9A\x80", "emoji, raw and escaped");
	name_is("\"\xD7\xA9\xD7\x9C\xD7\x95\xD7\x9D \xE2\x80\xAE""abc\"",
			"\xD7\xA9\xD7\x9C\xD7\x95\xD7\x9D \xE2\x80\xAE""abc", "right-to-left text and override");
	name_is("\"  \"", "  ", "blanks are kept");
	name_is("\"\\\\x41 %s \\/\"", "\\x41 %s /", "backslashes and percent signs");
	name_is("\"e\xCC\x81\"", "e\xCC\x81", "combining characters are not composed");
	name_is("\"\"", "", "the empty text is not null");
	name_is("null", NULL, "null, and of duplicate keys the first");
}

static void
test_space_and_plan(void)
{
	Row			row;

	read_row(&row, "{\"id\":\"space-demo\",\"name\":\"Demo\",\"subdomain\":\"demo\",\"tax_rate\":19.0,"
			 "\"time_zone_name\":\"Europe/Berlin\",\"country\":\"DE\",\"locale\":\"de\"}",
			 cobot_space_fields, cobot_space_field_count);
	ok(row.good, "a space is read");
	is_text(column(&row, "space_id")->text, "space-demo", "space_id");
	is_text(column(&row, "space_name")->text, "Demo", "space_name");
	is_text(column(&row, "subdomain")->text, "demo", "subdomain");
	is_text(column(&row, "time_zone")->text, "Europe/Berlin", "time_zone");
	is_text(column(&row, "country")->text, "DE", "country");
	is_text(column(&row, "locale")->text, "de", "locale");
	cJSON_Delete(row.record);

	read_row(&row, "{\"id\":\"s\",\"time_zone_name\":null}", cobot_space_fields, cobot_space_field_count);
	ok(!row.good, "a space without a time zone is refused");
	is_text(row.error.path, "m[3].time_zone_name", "and the path named");
	cJSON_Delete(row.record);

	read_row(&row, "{\"id\":\"ab12\",\"name\":\"Full\",\"description\":\"d\",\"hidden\":true,"
			 "\"price_per_cycle\":\"200.0\",\"currency\":\"EUR\",\"cycle_duration\":1,"
			 "\"cancellation_period\":14,\"color\":\"#fff\",\"extras\":[],\"time_passes\":[]}",
			 cobot_plan_fields, cobot_plan_field_count);
	ok(row.good && row.count == 11, "a plan is read");
	is_text(column(&row, "cobot_id")->text, "ab12", "plan: cobot_id");
	is_text(column(&row, "name")->text, "Full", "plan: name");
	is_text(column(&row, "description")->text, "d", "plan: description");
	is_text(column(&row, "currency")->text, "EUR", "plan: currency");
	is_text(column(&row, "color")->text, "#fff", "plan: color");
	ok(column(&row, "hidden")->boolean, "plan: hidden");
	ok(column(&row, "cancellation_period")->integer == 14, "plan: cancellation_period");
	ok(cJSON_IsArray(column(&row, "extras")->json) && !column(&row, "extras")->is_null,
	   "plan: an empty list is not null");
	cJSON_Delete(row.record);
}

static void
field_is(const char *json, const char *id, const char *label, const char *expected, const char *name)
{
	JsonError	error = {"", ""};
	const char *value = "untouched";
	cJSON	   *element = json_parse(json, strlen(json), "", &error);
	char		failure[512];

	if (!cobot_read_custom_field(element, "f[2]", id, label, &value, &error))
	{
		snprintf(failure, sizeof(failure), "%s %s", error.path, error.message);
		value = failure;
	}
	is_text(value, expected, name);
	cJSON_Delete(element);
}

static void
test_custom_fields(void)
{
	field_is("{\"fields\":[{\"id\":\"a\",\"label\":\"L\",\"value\":\"x\"},{\"id\":\"b\",\"label\":\"L\",\"value\":\"y\"}]}",
			 "b", "L", "y", "the id decides, not the label");
	field_is("{\"fields\":[{\"label\":\"L\",\"value\":\"x\"}]}", "b", "L", "x", "without an id the label decides");
	field_is("{\"fields\":[{\"id\":\"a\",\"label\":\"L\",\"value\":\"x\"}]}", NULL, "L", "x",
			 "with no id to look for the label decides");
	field_is("{\"fields\":[{\"id\":\"a\",\"label\":\"L\",\"value\":\"x\"}]}", "b", "L", NULL,
			 "another id under the same label is another field");
	field_is("{\"fields\":[{\"label\":\"l\",\"value\":\"x\"}]}", "b", "L", NULL, "labels are case-sensitive");
	field_is("{\"fields\":[{\"id\":\"b\",\"value\":null}]}", "b", "L", NULL, "null value");
	field_is("{\"fields\":[{\"id\":\"b\"}]}", "b", "L", NULL, "missing value");
	field_is("{\"fields\":[{\"id\":\"b\",\"value\":\"\"}]}", "b", "L", NULL, "empty value");
	field_is("{\"fields\":[{\"id\":\"b\",\"value\":\" \"}]}", "b", "L", " ", "a blank is a value");
	field_is("{\"fields\":[]}", "b", "L", NULL, "no fields");
	field_is("{\"fields\":[{\"id\":\"a\",\"value\":7},{\"id\":\"b\",\"value\":\"x\"}]}", "b", "L", "x",
			 "the type of another field's value does not matter");

	field_is("{\"fields\":[{\"id\":\"b\",\"value\":7}]}", "b", "L",
			 "f[2].fields[0].value is a number, expected a string", "a number is refused");
	field_is("{\"membership_id\":\"m\"}", "b", "L", "f[2].fields is missing", "no key \"fields\"");
	field_is("{\"fields\":null}", "b", "L", "f[2].fields is null, expected an array", "fields is null");
	field_is("{\"fields\":{}}", "b", "L", "f[2].fields is an object, expected an array", "fields is an object");
	field_is("{\"fields\":[7]}", "b", "L", "f[2].fields[0] is a number, expected an object", "a field that is a number");
	field_is("{\"fields\":[null]}", "b", "L", "f[2].fields[0] is null, expected an object", "a field that is null");
	field_is("[]", "b", "L", "f[2] is an array, expected an object", "an element that is an array");
	field_is("{\"fields\":[{\"label\":\"L\",\"value\":\"x\"},{\"label\":\"L\",\"value\":\"y\"}]}", "b", "L",
			 "f[2].fields[1] is the same field once more", "two that match are not guessed between");
}

static void
test_every_day(void)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int32		expected = -36524;	/* 1900-01-01: 100 years of 365 days and 24 leap days */
	int32		wrong = 0;
	int32		beyond = 0;

	for (int year = 1900; year <= 9999; year++)
	{
		for (int month = 1; month <= 12; month++)
		{
			bool		leap = year % 400 == 0 || (year % 4 == 0 && year % 100 != 0);
			int			last = days[month - 1] + (leap && month == 2 ? 1 : 0);

			for (int day = 1; day <= 31; day++)
			{
				char		text[16];
				int32		got;

				snprintf(text, sizeof(text), "%04d/%02d/%02d", year, month, day);
				if (day > last)
					beyond += cobot_parse_date(text, &got);
				else
					wrong += !cobot_parse_date(text, &got) || got != expected++;
			}
		}
	}
	ok(wrong == 0, "every day from 1900 to 9999 has the number after the day before");
	ok(beyond == 0, "no month has a day too many");
	ok(expected == 2921940, "and the last is 9999-12-31");
}

static void
test_dates(void)
{
	static const char *const bad[] = {
		"", "2026", "2026/", "2026/03", "2026/03/", "2026/03/1", "2026/3/01", "26/03/01",
		"2026/03/31 ", " 2026/03/31", "2026/03/311", "2026-03/31", "2026/03-31", "2026.03.31", "20260331",
		"2026/00/10", "2026/13/10", "2026/01/00", "2026/01/32", "2026/04/31", "2026/02/29", "2100/02/29",
		"1900/02/29", "1899/12/31", "0000/01/01", "10000/01/01", "-026/01/01", "+026/01/01", "2026/-1/01",
		"2026/01/0x", "2026/01/01T00:00:00Z", "2026/01/01 00:00:00 +0000", "today", "infinity",
		"\xD9\xA2\xD9\xA0\xD9\xA2\xD9\xA6/01/01"
	};
	int32		days;

	ok(cobot_parse_date("2000/01/01", &days) && days == 0, "2000-01-01 is day 0");
	ok(cobot_parse_date("1999-12-31", &days) && days == -1, "the day before is -1; dashes");
	ok(cobot_parse_date("2024/02/29", &days) && days == 8825, "leap day of 2024");
	ok(cobot_parse_date("2000/02/29", &days) && days == 59, "leap day of 2000");
	for (size_t i = 0; i < lengthof(bad); i++)
		ok(!cobot_parse_date(bad[i], &days), "no date: \"%s\"", bad[i]);
}

static void
instant_is(const char *text, int64 expected)
{
	int64		got = 0;
	bool		good = cobot_parse_timestamp(text, &got);

	if (!ok(good && got == expected * 1000000, "instant: %s", text))
		printf("# %s " INT64_FORMAT "\n", good ? "got" : "refused", got);
}

static void
test_timestamps(void)
{
	static const char *const bad[] = {
		"", "2026/03/31", "2026/03/31 08:15:00", "2026/03/31 08:15 +0000", "2026/03/31 8:15:00 +0000",
		"2026/03/31 24:00:00 +0000", "2026/03/31 23:60:00 +0000", "2026/03/31 23:59:60 +0000",
		"2026/03/31 -1:00:00 +0000", "2026/02/29 08:15:00 +0000", "2026/03/31x08:15:00 +0000",
		"2026/03/31 08:15:00 0000", "2026/03/31 08:15:00 +000", "2026/03/31 08:15:00 +00000",
		"2026/03/31 08:15:00 +00:0", "2026/03/31 08:15:00 +1600", "2026/03/31 08:15:00 +0060",
		"2026/03/31 08:15:00 +0000 ", "2026/03/31 08:15:00  +0000", "2026/03/31 08:15:00 UTC",
		"2026-03-31T08:15:00Zulu", "2026-03-31T08:15:00.Z", "2026-03-31T08:15:00.", "2026-03-31T08:15:00,5Z",
		"2026-03-31T08:15:00.5", "2026-03-31T08:15:00+", "1899/12/31 23:59:59 +0000"
	};
	int64		got;

	/* seconds since 2000-01-01 UTC */
	instant_is("2000/01/01 00:00:00 +0000", 0);
	instant_is("1999/12/31 23:59:59 +0000", -1);
	instant_is("2026/03/31 08:15:00 +0000", 828260100);
	instant_is("2026/03/31 10:15:00 +0200", 828260100);
	instant_is("2026/03/31 04:45:00 -0330", 828260100);
	instant_is("2026-03-31T08:15:00Z", 828260100);
	instant_is("2026-03-31T10:15:00+02:00", 828260100);
	instant_is("2026-03-31T04:45:00-03:30", 828260100);
	instant_is("2026-03-31T08:15:00.999999Z", 828260100);
	instant_is("2026-03-31T08:15:00.5+00:00", 828260100);
	instant_is("2026-03-31 08:15:00 Z", 828260100);
	instant_is("2026/04/01 00:14:00 +1559", 828260100);
	instant_is("2024/02/29 23:59:59 +0000", 762566399);
	instant_is("1900/01/01 00:00:00 +0000", INT64CONST(-3155673600));
	instant_is("9999/12/31 23:59:59 +0000", INT64CONST(252455615999));
	for (size_t i = 0; i < lengthof(bad); i++)
		ok(!cobot_parse_timestamp(bad[i], &got), "no timestamp: \"%s\"", bad[i]);
}

int
main(void)
{
	test_full_member();
	test_presence();
	test_types();
	test_numbers();
	test_ids();
	test_texts_come_through();
	test_space_and_plan();
	test_custom_fields();
	test_every_day();
	test_dates();
	test_timestamps();
	return done_testing();
}
