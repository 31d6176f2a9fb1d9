/*
 * webhook_event.c
 *	  Which of Cobot's events mean what, and the id in a webhook's payload. Runs
 *	  in any process, also in one without a server.
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "mb/pg_wchar.h"

#include "webhook_event.h"

/*
 * In the order in which a membership lives through them. For those that are not
 * ignored, cobot_create_webhooks() asks Cobot.
 */
const WebhookEvent webhook_events[] = {
	{"created_membership", WEBHOOK_MEMBER},
	{"confirmed_membership", WEBHOOK_MEMBER},
	{"connected_user", WEBHOOK_MEMBER},
	{"updated_membership_details", WEBHOOK_MEMBER},
	{"changed_membership_plan", WEBHOOK_MEMBER},
	{"membership_plan_change_date_reached", WEBHOOK_MEMBER},
	{"canceled_membership", WEBHOOK_MEMBER},
	{"uncanceled_membership", WEBHOOK_MEMBER},
	{"membership_cancellation_date_reached", WEBHOOK_MEMBER},
	{"reactivated_membership", WEBHOOK_MEMBER},
	{"deleted_membership", WEBHOOK_MEMBER},
	{"updated_custom_field", WEBHOOK_FIELDS},
	/* about members, but about nothing that access hangs on */
	{"updated_membership_picture", WEBHOOK_IGNORED},
	{"updated_payment_method", WEBHOOK_IGNORED},
	{"created_checkin", WEBHOOK_IGNORED},
	{"created_checkout", WEBHOOK_IGNORED},
	{"created_checkin_token", WEBHOOK_IGNORED},
	{"deleted_checkin_token", WEBHOOK_IGNORED},
	{"membership_added_time_passes", WEBHOOK_IGNORED},
	{"membership_removed_time_passes", WEBHOOK_IGNORED},
};
const int	webhook_event_count = lengthof(webhook_events);

const WebhookEvent *
webhook_event_find(const char *name)
{
	for (int i = 0; i < webhook_event_count; i++)
	{
		if (strcmp(webhook_events[i].name, name) == 0)
			return &webhook_events[i];
	}
	return NULL;
}

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/*
 * The last segment of the path, percent-decoded into an id. Whatever would end
 * the segment (a slash, a query, a fragment) is wrong, as is everything that RFC
 * 3986 does not allow in one.
 */
static bool
read_id(const char *segment, char id[WEBHOOK_ID_LIMIT_BYTES + 1], JsonError *error)
{
	static const char allowed[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;=:@";
	int			length = 0;

	for (const char *c = segment; *c != '\0'; c++)
	{
		int			byte = (unsigned char) *c;

		if (*c == '%')
		{
			int			high = hex_value(c[1]);
			int			low = high >= 0 ? hex_value(c[2]) : -1;

			if (low < 0)
				return json_fail(error, "", "url", "has an invalid percent-encoding");
			byte = high << 4 | low;
			if (byte < 0x20 || byte == 0x7F)
				return json_fail(error, "", "url", "has an encoded control character");
			c += 2;
		}
		else if (strchr(allowed, *c) == NULL)
			return json_fail(error, "", "url", "does not end with the id of a membership");
		if (length == WEBHOOK_ID_LIMIT_BYTES)
			return json_fail(error, "", "url", "has an id longer than "
							 CppAsString2(WEBHOOK_ID_LIMIT_BYTES) " bytes");
		id[length++] = (char) byte;
	}
	id[length] = '\0';
	if (length == 0)
		return json_fail(error, "", "url", "has an empty id");
	if (strcmp(id, ".") == 0 || strcmp(id, "..") == 0)
		return json_fail(error, "", "url", "has a step of a path for an id");
	if (pg_encoding_verifymbstr(PG_UTF8, id, length) != length)
		return json_fail(error, "", "url", "has an id that is no valid UTF-8");
	return true;
}

/* What is left of text after a beginning that must be there; NULL if it is not. */
static const char *
after(const char *text, const char *beginning)
{
	size_t		length = strlen(beginning);

	return text != NULL && strncmp(text, beginning, length) == 0 ? text + length : NULL;
}

/* Case counts: Cobot writes its own addresses in lower case, and nobody else's are of interest. */
static bool
read_url(const char *url, const char *subdomain, WebhookHint *hint, JsonError *error)
{
	const char *path = after(after(after(url, "https://"), subdomain), ".cobot.me/api/");
	const char *segment = after(path, "memberships/");

	if (path == NULL)
		return json_fail(error, "", "url", "does not begin with https://%s.cobot.me/api/", subdomain);
	if (segment != NULL)
		return read_id(segment, hint->cobot_id, error);
	if (hint->kind == WEBHOOK_FIELDS)
		return true;
	return json_fail(error, "", "url", "is not that of a membership");
}

bool
webhook_read(const char *event, const cJSON *payload, const char *subdomain,
			 WebhookHint *hint, JsonError *error)
{
	const WebhookEvent *known = webhook_event_find(event);
	const char *url;
	bool		present;

	memset(hint, 0, sizeof(*hint));
	hint->is_known = known != NULL;
	hint->kind = known != NULL ? known->kind : WEBHOOK_IGNORED;
	if (hint->kind == WEBHOOK_IGNORED)
		return true;

	if (!cJSON_IsObject(payload))
		return json_fail(error, "", "", "is %s, expected an object", json_type_name(payload));
	if (!json_get_string(payload, "", "url", &url, &present, error))
		return false;
	if (!present)
		return json_fail(error, "", "url", "is missing");
	return read_url(url, subdomain, hint, error);
}
