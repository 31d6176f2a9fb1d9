/*
 * cobot_answer.c
 *	  What Cobot answers to the smaller questions, as structs. Server-free like json.c; runs
 *	  in any process, and throws nothing.
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "cobot_answer.h"
#include "oauth_text.h"

bool
cobot_read_token(const cJSON *answer, const char *key, const char **token, JsonError *error)
{
	bool		present;

	if (!json_get_string(answer, "", key, token, &present, error))
		return false;
	if (!present || (*token)[0] == '\0')
		return json_fail(error, "", key, "is missing");
	if (!oauth_is_plain(*token, OAUTH_TOKEN_LIMIT_BYTES))
		return json_fail(error, "", key, "is not 1 to %d printable ASCII characters without blanks", OAUTH_TOKEN_LIMIT_BYTES);
	return true;
}

bool
cobot_read_error_code(const char *body, size_t length, char code[COBOT_ERROR_CODE_SIZE])
{
	JsonError	error;
	cJSON	   *answer = json_check(body, length, &error) ? json_parse(body, length, "", &error) : NULL;
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(answer, "error"));
	bool		fits = text && strlcpy(code, text, COBOT_ERROR_CODE_SIZE) < COBOT_ERROR_CODE_SIZE;

	cJSON_Delete(answer);
	return fits;
}

/* ---- the user ---- */

static const char *
name_of_admin(const cJSON *answer)
{
	const cJSON *space;

	cJSON_ArrayForEach(space, cJSON_GetObjectItemCaseSensitive(answer, "admin_of"))
	{
		const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(space, "name"));

		if (name && name[0] != '\0')
			return name;
	}
	return NULL;
}

bool
cobot_read_user(const cJSON *answer, CobotUser *user, JsonError *error)
{
	bool		present;

	if (!json_get_string(answer, "", "id", &user->id, &present, error) ||
		!json_get_string(answer, "", "email", &user->email, &present, error) ||
		!json_get_string(answer, "", "name", &user->name, &present, error) ||
		!json_find(answer, "", "memberships", &user->memberships, error))
		return false;
	if (user->id == NULL)
		return json_fail(error, "", "id", "is missing");
	if (user->id[0] == '\0' || strlen(user->id) > COBOT_USER_ID_LIMIT_BYTES)
		return json_fail(error, "", "id", "is not 1 to %d bytes long", COBOT_USER_ID_LIMIT_BYTES);
	if (cJSON_IsNull(user->memberships))
		user->memberships = NULL;
	if (user->memberships && !cJSON_IsArray(user->memberships))
		return json_fail(error, "", "memberships", "is %s, expected an array", json_type_name(user->memberships));
	if (user->name == NULL)
		user->name = name_of_admin(answer);
	return true;
}

/* A string that may be missing, as one that may be empty. */
static bool
read_or_empty(const cJSON *object, const char *where, const char *key, const char **text, JsonError *error)
{
	bool		present;

	if (!json_get_string(object, where, key, text, &present, error))
		return false;
	if (!present)
		*text = "";
	return true;
}

bool
cobot_read_user_membership(const cJSON *element, const char *where, CobotUserMembership *membership, JsonError *error)
{
	return read_or_empty(element, where, "id", &membership->id, error) &&
		read_or_empty(element, where, "space_subdomain", &membership->subdomain, error) &&
		read_or_empty(element, where, "space_name", &membership->space_name, error);
}

/* ---- what a space is set up with ---- */

bool
cobot_read_field_definitions(const cJSON *list, int *count, JsonError *error)
{
	const cJSON *element;

	*count = 0;
	cJSON_ArrayForEach(element, list)
	{
		const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(element, "id"));
		const char *label = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(element, "label"));
		char		where[32];

		snprintf(where, sizeof(where), "custom_fields[%d]", *count);
		if (id == NULL || id[0] == '\0')
			return json_fail(error, where, "id", "is missing or no string");
		if (label == NULL)
			return json_fail(error, where, "label", "is missing or no string");
		(*count)++;
	}
	return true;
}

/* Facts: "active" is a boolean, false once Cobot gave a callback up. */
bool
cobot_read_subscription(const cJSON *element, const char *where, CobotSubscription *subscription, JsonError *error)
{
	bool		has_id,
				has_event;

	if (!json_get_string(element, where, "id", &subscription->id, &has_id, error) ||
		!json_get_string(element, where, "event", &subscription->event, &has_event, error) ||
		!read_or_empty(element, where, "callback_url", &subscription->callback_url, error))
		return false;
	if (!has_id || subscription->id[0] == '\0')
		return json_fail(error, where, "id", "is missing");
	if (!has_event)
		return json_fail(error, where, "event", "is missing");
	subscription->active = !cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(element, "active"));
	return true;
}
