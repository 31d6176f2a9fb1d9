/*
 * unit_webhook.c
 *	  Unit tests of src/webhook_event.c: which events mean what, and that no
 *	  payload leads anywhere but to an id of the integration's own space.
 */
#include "postgres_fe.h"

#include "tap.h"
#include "webhook_event.h"

#define SPACE "https://loft-nine.cobot.me/api/"

static const char *
kind_name(WebhookKind kind)
{
	return kind == WEBHOOK_MEMBER ? "member" : kind == WEBHOOK_FIELDS ? "fields" : "ignored";
}

/* Reads a payload given as JSON; the outcome in one text: "member ID", "url is ...". */
static const char *
outcome(const char *event, const char *json)
{
	static char text[512];
	JsonError	error = {{0}, {0}};
	WebhookHint hint;
	cJSON	   *payload = cJSON_Parse(json);

	if (webhook_read(event, payload, "loft-nine", &hint, &error))
		snprintf(text, sizeof(text), "%s%s%s", kind_name(hint.kind), hint.cobot_id[0] ? " " : "", hint.cobot_id);
	else
		snprintf(text, sizeof(text), "%s%s%s", error.path, error.path[0] ? " " : "", error.message);
	cJSON_Delete(payload);
	return text;
}

static const char *
outcome_of_url(const char *event, const char *url)
{
	char		json[1024];

	snprintf(json, sizeof(json), "{\"url\": \"%s\"}", url);
	return outcome(event, json);
}

static void
test_events(void)
{
	int			members = 0;

	for (int i = 0; i < webhook_event_count; i++)
	{
		members += webhook_events[i].kind == WEBHOOK_MEMBER;
		for (int j = 0; j < i; j++)
			if (strcmp(webhook_events[i].name, webhook_events[j].name) == 0)
				ok(false, "event \"%s\" stands in the table once", webhook_events[i].name);
	}
	ok(members == 11, "eleven events are about one member");
	ok(webhook_event_find("updated_custom_field")->kind == WEBHOOK_FIELDS, "one is about custom fields");

	WebhookHint hint;
	JsonError	error;

	ok(webhook_read("created_checkin", NULL, "loft-nine", &hint, &error) && hint.is_known && hint.kind == WEBHOOK_IGNORED,
	   "a known event that says nothing about access is ignored, whatever the payload");
	ok(webhook_read("updated_membership", NULL, "loft-nine", &hint, &error) && !hint.is_known && hint.kind == WEBHOOK_IGNORED,
	   "so is an event that nobody knows");
	ok(webhook_read("", NULL, "loft-nine", &hint, &error) && !hint.is_known, "so is no event");
	ok(webhook_read("Created_Membership", NULL, "loft-nine", &hint, &error) && !hint.is_known, "names are compared to the letter");
}

static void
test_ids(void)
{
	char		longest[WEBHOOK_ID_LIMIT_BYTES + 2];
	char		url[512];
	char		expected[512];

	is_text(outcome_of_url("confirmed_membership", SPACE "memberships/93207605"), "member 93207605", "a number");
	is_text(outcome_of_url("confirmed_membership", SPACE "memberships/a1b2c3d4-0000-4000-8000-1234567890ab"),
			"member a1b2c3d4-0000-4000-8000-1234567890ab", "a UUID");
	is_text(outcome_of_url("confirmed_membership", SPACE "memberships/user-jane"), "member user-jane", "an old name");
	is_text(outcome_of_url("confirmed_membership", SPACE "memberships/a%2Fb%20c%c3%A4%25"), "member a/b c\xC3\xA4%", "percent-encoded");
	is_text(outcome_of_url("confirmed_membership", SPACE "memberships/a+b"), "member a+b", "a plus is a plus");
	is_text(outcome_of_url("confirmed_membership", SPACE "memberships/..."), "member ...", "three dots are no step");
	is_text(outcome("deleted_membership", "{\"url\": \"" SPACE "memberships/7\", \"membership\": {\"id\": \"8\", \"url\": 1}}"),
			"member 7", "the object that comes with a deletion is not looked at");

	memset(longest, 'x', sizeof(longest));
	longest[WEBHOOK_ID_LIMIT_BYTES] = '\0';
	snprintf(url, sizeof(url), SPACE "memberships/%s", longest);
	snprintf(expected, sizeof(expected), "member %s", longest);
	is_text(outcome_of_url("confirmed_membership", url), expected, "the longest id");
	snprintf(url, sizeof(url), SPACE "memberships/%sx", longest);
	is_text(outcome_of_url("confirmed_membership", url), "url has an id longer than 200 bytes", "one byte more");
	snprintf(url, sizeof(url), SPACE "memberships/%.198s%%41%%42", longest);
	ok(strlen(outcome_of_url("confirmed_membership", url)) == strlen("member ") + WEBHOOK_ID_LIMIT_BYTES, "the limit is that of the decoded id");

	is_text(outcome_of_url("confirmed_membership", SPACE "memberships/"), "url has an empty id", "no id");
	is_text(outcome_of_url("confirmed_membership", SPACE "memberships/."), "url has a step of a path for an id", "one dot");
	is_text(outcome_of_url("confirmed_membership", SPACE "memberships/%2E%2e"), "url has a step of a path for an id", "two dots, encoded");
	is_text(outcome_of_url("confirmed_membership", SPACE "memberships/a%"), "url has an invalid percent-encoding", "a lone percent sign");
	is_text(outcome_of_url("confirmed_membership", SPACE "memberships/a%4"), "url has an invalid percent-encoding", "half an encoding");
	is_text(outcome_of_url("confirmed_membership", SPACE "memberships/a%4g"), "url has an invalid percent-encoding", "no hexadecimal digit");
	is_text(outcome_of_url("confirmed_membership", SPACE "memberships/a%00b"), "url has an encoded control character", "NUL");
	is_text(outcome_of_url("confirmed_membership", SPACE "memberships/a%0d%0aX"), "url has an encoded control character", "a line end");
	is_text(outcome_of_url("confirmed_membership", SPACE "memberships/%ff"), "url has an id that is no valid UTF-8", "no UTF-8");
	is_text(outcome_of_url("confirmed_membership", SPACE "memberships/%c3"), "url has an id that is no valid UTF-8", "half a character");
}

static void
test_urls(void)
{
	static const char *const elsewhere[] = {
		"", "7", "/api/memberships/7",
		"http://loft-nine.cobot.me/api/memberships/7", "HTTPS://loft-nine.cobot.me/api/memberships/7",
		"https://loft-ten.cobot.me/api/memberships/7", "https://loft-nin.cobot.me/api/memberships/7",
		"https://loft-nine2.cobot.me/api/memberships/7", "https://www.cobot.me/api/memberships/7",
		"https://api.cobot.me/memberships/7", "https://loft-nine.cobot.me.evil.example/api/memberships/7",
		"https://evil.example/?https://loft-nine.cobot.me/api/memberships/7",
		"https://loft-nine.cobot.me@evil.example/api/memberships/7", "https://evil@loft-nine.cobot.me/api/memberships/7",
		"https://loft-nine.cobot.me:443/api/memberships/7", "https://loft-nine.cobot.me./api/memberships/7",
		"https://Loft-Nine.cobot.me/api/memberships/7", " https://loft-nine.cobot.me/api/memberships/7",
		"https://loft-nine.cobot.me//api/memberships/7", "https://loft-nine.cobot.me/API/memberships/7",
		"https://loft-nine.cobot.me/x/../api/memberships/7", "https://loft-nine.cobot.me\\\\/api/memberships/7"
	};
	static const char *const no_segment[] = {"7/", "7/custom_fields", "7?a=1", "7#a", "7 ", "7\\n", "7\\\\8", "7\xC3\xA4", "/7"};
	static const char *const no_membership[] = {
		SPACE "memberships", SPACE "check_ins/7", SPACE "plans/7", SPACE "membershipsx/7", SPACE "Memberships/7", SPACE, SPACE "../memberships/7"
	};
	char		url[512];

	for (int i = 0; i < (int) lengthof(elsewhere); i++)
		is_text(outcome_of_url("confirmed_membership", elsewhere[i]), "url does not begin with https://loft-nine.cobot.me/api/", elsewhere[i]);
	for (int i = 0; i < (int) lengthof(no_segment); i++)
	{
		snprintf(url, sizeof(url), SPACE "memberships/%s", no_segment[i]);
		is_text(outcome_of_url("canceled_membership", url), "url does not end with the id of a membership", no_segment[i]);
		is_text(outcome_of_url("updated_custom_field", url), "url does not end with the id of a membership", no_segment[i]);
	}
	for (int i = 0; i < (int) lengthof(no_membership); i++)
	{
		is_text(outcome_of_url("canceled_membership", no_membership[i]), "url is not that of a membership", no_membership[i]);
		is_text(outcome_of_url("updated_custom_field", no_membership[i]), "fields", "... but may be about custom fields");
	}
	is_text(outcome_of_url("updated_custom_field", SPACE "memberships/7"), "fields 7", "custom fields of one member");
	is_text(outcome_of_url("updated_custom_field", "https://evil.example/api/custom_fields/7"),
			"url does not begin with https://loft-nine.cobot.me/api/", "custom fields of another site");
}

static void
test_payloads(void)
{
	is_text(outcome("created_membership", "[]"), "is an array, expected an object", "an array");
	is_text(outcome("created_membership", "\"" SPACE "memberships/7\""), "is a string, expected an object", "a string");
	is_text(outcome("created_membership", "null"), "is null, expected an object", "null");
	is_text(outcome("created_membership", "{}"), "url is missing", "no url");
	is_text(outcome("created_membership", "{\"url\": null}"), "url is missing", "a null url");
	is_text(outcome("created_membership", "{\"URL\": \"" SPACE "memberships/7\"}"), "url is missing", "keys are compared to the letter");
	is_text(outcome("created_membership", "{\"url\": 7}"), "url is a number, expected a string", "a number for a url");
	is_text(outcome("created_membership", "{\"url\": [\"" SPACE "memberships/7\"]}"), "url is an array, expected a string", "an array for a url");
	is_text(outcome("updated_custom_field", "{}"), "url is missing", "no url for custom fields");
}

int
main(void)
{
	test_events();
	test_ids();
	test_urls();
	test_payloads();
	return done_testing();
}
