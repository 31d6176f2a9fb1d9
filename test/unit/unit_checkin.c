/*
 * unit_checkin.c
 *	  What checkin_record.h promises: whom a check-in is of, which of them count when, and
 *	  the reason of a refusal.
 */
#include "postgres_fe.h"

#include "checkin_record.h"
#include "tap.h"

#define DAY(n) ((n) * USECS_PER_DAY)	/* midnight UTC, n days after 2000-01-01 */

extern const char *__asan_default_options(void);

/* In the server a memory context frees what is palloc'd. */
const char *
__asan_default_options(void)
{
	return "detect_leaks=0";
}

static void
test_refusals(void)
{
	static const struct
	{
		const char *body;
		const char *words;
	}			cases[] = {
		{"{\"errors\":{\"base\":[\"no time pass left\"]}}", "no time pass left"},
		{"{\"errors\":{\"base\":\"no time pass left\"}}", "no time pass left"},
		{"{\"base\":[\"is in\",\"is late\"]}", "is in; is late"},
		{"{\"error\":\"not allowed\"}", "not allowed"},
		{"{\"errors\":{\"membership\":[\"has ended\"],\"base\":[\"no\"]}}", "membership has ended; no"},
		{"{\"errors\":[\"a\",[\"b\"]]}", "a; b"},
		{"\"no\"", "no"},
		{"{\"base\":[\"two\\r\\nlines\"]}", "two  lines"},
		{"{\"base\":[\"\",null,7]}", "Cobot refused it with HTTP status 422 and no reason"},
		{"{\"errors\":null}", "Cobot refused it with HTTP status 422 and no reason"},
		{"<html>", "Cobot refused it with HTTP status 422 and no reason"},
		{"", "Cobot refused it with HTTP status 422 and no reason"}
	};
	char		body[1024] = "{\"base\":\"x";
	const char *words;

	for (int i = 0; i < (int) lengthof(cases); i++)
		is_text(checkin_refusal(cases[i].body, strlen(cases[i].body), 422), cases[i].words, cases[i].body);
	for (int i = 0; i < 200; i++)
		strcat(body, "\xC3\xA4");
	strcat(body, "\"}");
	words = checkin_refusal(body, strlen(body), 422);
	ok(strlen(words) == 199, "a long reason is cut before a character that does not fit");
}

static bool
read_list(const char *body, CheckinList *list)
{
	JsonArray	elements;
	JsonError	error;
	bool		good = json_split_array(body, strlen(body), "id", &elements, &error) &&
		checkin_read_list(&elements, list, &error);

	json_free_array(&elements);
	return good;
}

static void
test_lists(void)
{
	CheckinList list = {0};

	ok(read_list("[{\"id\":\"c1\",\"membership\":{\"id\":\"ada\"},\"valid_from\":\"2000/01/02 00:00:00 +0000\","
				 "\"valid_until\":\"2000/01/03 00:00:00 +0000\"},{\"membership_id\":\"bob\",\"valid_from\":\"2000-01-02T00:00:00Z\"}]",
				 &list) && list.count == 2, "a list is read");
	ok(checkin_find_current(&list, "ada", DAY(1)) != NULL, "current from its beginning");
	ok(checkin_find_current(&list, "ada", DAY(2)) == NULL, "to its end");
	ok(checkin_find_current(&list, "bob", DAY(2) - 1) != NULL && checkin_find_current(&list, "bob", DAY(2)) == NULL,
	   "without an end, for a day");
	ok(checkin_find_since(&list, "ada", DAY(1)) != NULL && checkin_find_since(&list, "ada", DAY(1) + 1) == NULL, "since a moment");
	ok(checkin_find_current(&list, "eve", DAY(1)) == NULL, "another member has none");
	ok(read_list("[{\"id\":\"c3\",\"membership_id\":\"eve\",\"valid_from\":\"soon\"}]", &list) && list.count == 2,
	   "another list is added, but for what cannot be read");
	ok(checkin_is_unclear(&list, "eve") && !checkin_is_unclear(&list, "ada"), "whose it is, is unclear");
	ok(!read_list("[{\"id\":\"c4\",\"membership\":null}]", &list), "without a member the list is worth nothing");
}

static void
test_answers(void)
{
	static const char body[] = "{\"id\":\"c1\",\"membership\":{\"id\":\"ada\"},\"time_pass\":{\"id\":\"t1\"}}";
	CheckinRecord record;

	ok(checkin_read_answer(body, strlen(body), "ada", &record), "an answer is read");
	is_text(record.time_pass_id, "t1", "with the pass that it took");
	ok(record.valid_from == DT_NOBEGIN && record.valid_until == DT_NOEND, "and no dates where there are none");
	ok(!checkin_read_answer(body, strlen(body), "bob", &record), "not that of another member");
	ok(!checkin_read_answer("", 0, "ada", &record), "nor an empty one");
}

int
main(void)
{
	test_refusals();
	test_lists();
	test_answers();
	return done_testing();
}
