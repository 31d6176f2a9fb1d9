/*
 * fuzz_answer.c
 *	  Any JSON document as one of the smaller answers of Cobot: a token, a user, the
 *	  definitions of custom fields, the subscriptions; and any bytes as an error. The first
 *	  byte says which. What is accepted is what its struct promises.
 */
#include "fuzz.h"

#include "cobot_answer.h"

static void
check_token(const cJSON *answer)
{
	JsonError	error;
	const char *token;

	if (!cobot_read_token(answer, "access_token", &token, &error))
	{
		require_failure(&error);
		return;
	}
	require(strlen(token) >= 1 && strlen(token) <= 1000);
	for (const char *c = token; *c != '\0'; c++)
		require(*c > ' ' && *c < 0x7F);
}

static void
check_error_code(const char *body, size_t length)
{
	char		code[COBOT_ERROR_CODE_SIZE];
	char		again[COBOT_ERROR_CODE_SIZE];

	if (!cobot_read_error_code(body, length, code))
		return;
	require(strlen(code) < sizeof(code) && is_utf8(code));

	cJSON	   *answer = cJSON_CreateObject();

	cJSON_AddStringToObject(answer, "error", code);

	char	   *text = cJSON_PrintUnformatted(answer);

	require(cobot_read_error_code(text, strlen(text), again) && strcmp(again, code) == 0);
	cJSON_free(text);
	cJSON_Delete(answer);
}

static void
check_user(const cJSON *answer)
{
	JsonError	error;
	CobotUser	user;
	CobotUserMembership membership;
	const cJSON *element;

	if (!cobot_read_user(answer, &user, &error))
	{
		require_failure(&error);
		return;
	}
	require(strlen(user.id) >= 1 && strlen(user.id) <= 200 && is_utf8(user.id));
	require((user.email == NULL || is_utf8(user.email)) && (user.name == NULL || is_utf8(user.name)));
	require(user.memberships == NULL || cJSON_IsArray(user.memberships));
	cJSON_ArrayForEach(element, user.memberships)
	{
		if (cobot_read_user_membership(element, "memberships[0]", &membership, &error))
			require(is_utf8(membership.id) && is_utf8(membership.subdomain) && is_utf8(membership.space_name));
		else
			require_failure(&error);
	}
}

static void
check_field_definitions(const cJSON *list)
{
	JsonError	error;
	const cJSON *element;
	int			count;

	if (!cobot_read_field_definitions(list, &count, &error))
	{
		require_failure(&error);
		return;
	}
	require(count == cJSON_GetArraySize(list));
	/* what a member's value is looked for by, and what is written back */
	cJSON_ArrayForEach(element, list)
	{
		require(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(element, "id"))[0] != '\0');
		require(cJSON_IsString(cJSON_GetObjectItemCaseSensitive(element, "label")));
	}
}

static void
check_subscriptions(const cJSON *list)
{
	JsonError	error;
	CobotSubscription subscription;
	const cJSON *element;

	cJSON_ArrayForEach(element, list)
	{
		if (!cobot_read_subscription(element, "subscriptions[0]", &subscription, &error))
		{
			require_failure(&error);
			continue;
		}
		require(subscription.id[0] != '\0' && is_utf8(subscription.id));
		require(is_utf8(subscription.event) && is_utf8(subscription.callback_url));
		require(subscription.active || cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(element, "active")));
	}
}

static void
check_json(int kind, const cJSON *json)
{
	switch (kind)
	{
		case 0:
			check_token(json);
			break;
		case 1:
			check_user(json);
			break;
		/* the client lets nothing but a list come so far */
		case 2:
			if (cJSON_IsArray(json))
				check_field_definitions(json);
			break;
		case 3:
			if (cJSON_IsArray(json))
				check_subscriptions(json);
			break;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput	input = {.at = data, .left = size};
	int			kind = fuzz_byte(&input) % 5;
	const char *body = (const char *) input.at;
	JsonError	error;

	if (kind == 4)
		check_error_code(body, input.left);
	else if (json_check(body, input.left, &error))
	{
		cJSON	   *json = json_parse(body, input.left, "", &error);

		require(json != NULL);
		check_json(kind, json);
		cJSON_Delete(json);
	}
	else
		return -1;
	arena_reset();
	return 0;
}
