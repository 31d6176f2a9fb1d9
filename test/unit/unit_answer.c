/*
 * unit_answer.c
 *	  What cobot_answer.h promises: tokens that can be sent, errors that may be anything,
 *	  users of whom Cobot tells more or less, and lists in which everything has an id.
 */
#include "postgres_fe.h"

#include "cobot_answer.h"
#include "tap.h"

static JsonError error;

static cJSON *
parse(const char *text)
{
	cJSON	   *json = json_check(text, strlen(text), &error) ? json_parse(text, strlen(text), "", &error) : NULL;

	if (json == NULL)
		ok(false, "is JSON: %s", text);
	return json;
}

/* What was read, or the path and the message of the error. */
static void
token_is(const char *text, const char *expected)
{
	cJSON	   *json = parse(text);
	const char *token;
	char		got[sizeof(error.path) + sizeof(error.message)];

	if (cobot_read_token(json, "token", &token, &error))
		snprintf(got, sizeof(got), "%s", token);
	else
		snprintf(got, sizeof(got), "%s %s", error.path, error.message);
	is_text(got, expected, text);
	cJSON_Delete(json);
}

static void
token_of_length(size_t length, bool good)
{
	char		text[1100];
	cJSON	   *json = cJSON_CreateObject();
	const char *token;

	memset(text, 'x', length);
	text[length] = '\0';
	cJSON_AddStringToObject(json, "token", text);
	ok(cobot_read_token(json, "token", &token, &error) == good, "a token of %zu bytes", length);
	cJSON_Delete(json);
}

static void
error_code_is(const char *body, const char *expected)
{
	char		code[COBOT_ERROR_CODE_SIZE];

	is_text(cobot_read_error_code(body, strlen(body), code) ? code : NULL, expected, body);
}

static void
user_is(const char *text, const char *expected)
{
	cJSON	   *json = parse(text);
	CobotUser	user;
	char		got[512];

	if (cobot_read_user(json, &user, &error))
		snprintf(got, sizeof(got), "%s, %s, %s, %d", user.id, user.email ? user.email : "-", user.name ? user.name : "-",
				 user.memberships ? cJSON_GetArraySize(user.memberships) : -1);
	else
		snprintf(got, sizeof(got), "%s %s", error.path, error.message);
	is_text(got, expected, text);
	cJSON_Delete(json);
}

static void
membership_is(const char *text, const char *expected)
{
	cJSON	   *json = parse(text);
	CobotUserMembership membership;
	char		got[512];

	if (cobot_read_user_membership(json, "memberships[7]", &membership, &error))
		snprintf(got, sizeof(got), "%s, %s, %s", membership.id, membership.subdomain, membership.space_name);
	else
		snprintf(got, sizeof(got), "%s %s", error.path, error.message);
	is_text(got, expected, text);
	cJSON_Delete(json);
}

static void
definitions_are(const char *text, int expected, const char *path)
{
	cJSON	   *json = parse(text);
	int			count;
	bool		good = cobot_read_field_definitions(json, &count, &error);

	ok(good == (path == NULL) && (!good || count == expected), "%s", text);
	if (path)
		is_text(error.path, path, "... and says where");
	cJSON_Delete(json);
}

static void
subscription_is(const char *text, const char *expected)
{
	cJSON	   *json = parse(text);
	CobotSubscription subscription;
	char		got[512];

	if (cobot_read_subscription(json, "subscriptions[2]", &subscription, &error))
		snprintf(got, sizeof(got), "%s, %s, %s, %d", subscription.id, subscription.event, subscription.callback_url, subscription.active);
	else
		snprintf(got, sizeof(got), "%s %s", error.path, error.message);
	is_text(got, expected, text);
	cJSON_Delete(json);
}

int
main(void)
{
	const char *plain = "token is not 1 to 1000 printable ASCII characters without blanks";

	token_is("{\"token\":\"aB-._~3\"}", "aB-._~3");
	token_is("{\"token\":\"\"}", "token is missing");
	token_is("{\"token\":null}", "token is missing");
	token_is("{\"access_token\":\"a\"}", "token is missing");
	token_is("{\"token\":17}", "token is a number, expected a string");
	token_is("{\"token\":\"a b\"}", plain);
	token_is("{\"token\":\"a\\r\\nX-Header: b\"}", plain);
	token_is("{\"token\":\"\xC3\xA9\"}", plain);
	token_is("{\"token\":\"a\\u007f\"}", plain);
	token_of_length(1000, true);
	token_of_length(1001, false);

	error_code_is("{\"error\":\"invalid_grant\",\"error_description\":\"used\"}", "invalid_grant");
	error_code_is("{\"error\":{\"code\":\"invalid_grant\"}}", NULL);
	error_code_is("{\"error\":\"invalid_grant\\u0000_not\"}", NULL);
	error_code_is("{\"error\":\"a234567890123456789012345678901234567890123456789012345678901234\"}", NULL);
	error_code_is("{\"error\":\"invalid_grant\"", NULL);
	error_code_is("<html>invalid_grant</html>", NULL);
	error_code_is("", NULL);

	user_is("{\"id\":\"u1\",\"email\":\"ada@example.com\",\"name\":\"Ada\",\"memberships\":[{}]}", "u1, ada@example.com, Ada, 1");
	user_is("{\"id\":\"u1\",\"email\":null,\"memberships\":null}", "u1, -, -, -1");
	user_is("{\"id\":\"u1\",\"admin_of\":[{\"name\":\"\"},{\"name\":\"Ada\"}]}", "u1, -, Ada, -1");
	user_is("{\"email\":\"ada@example.com\"}", "id is missing");
	user_is("{\"id\":\"\"}", "id is not 1 to 200 bytes long");
	user_is("{\"id\":\"u1\",\"memberships\":{}}", "memberships is an object, expected an array");
	user_is("{\"id\":\"u1\",\"email\":5}", "email is a number, expected a string");

	membership_is("{\"id\":\"m1\",\"space_subdomain\":\"loft\",\"space_name\":\"Loft\"}", "m1, loft, Loft");
	membership_is("{\"id\":null}", ", , ");
	membership_is("null", ", , ");
	membership_is("{\"id\":1}", "memberships[7].id is a number, expected a string");
	membership_is("\"m1\"", "memberships[7] is a string, expected an object");

	definitions_are("[]", 0, NULL);
	definitions_are("[{\"id\":\"f1\",\"label\":\"Doors\"},{\"id\":\"f2\",\"label\":\"\"}]", 2, NULL);
	definitions_are("[{\"id\":\"f1\",\"label\":\"Doors\"},{\"id\":\"\",\"label\":\"\"}]", 0, "custom_fields[1].id");
	definitions_are("[{\"id\":\"f1\"}]", 0, "custom_fields[0].label");
	definitions_are("[\"f1\"]", 0, "custom_fields[0].id");

	subscription_is("{\"id\":\"s1\",\"event\":\"e\",\"callback_url\":\"https://a/b\",\"active\":false}", "s1, e, https://a/b, 0");
	subscription_is("{\"id\":\"s1\",\"event\":\"e\"}", "s1, e, , 1");
	subscription_is("{\"event\":\"e\"}", "subscriptions[2].id is missing");
	subscription_is("{\"id\":\"s1\"}", "subscriptions[2].event is missing");
	subscription_is("[]", "subscriptions[2] is an array, expected an object");
	return done_testing();
}
