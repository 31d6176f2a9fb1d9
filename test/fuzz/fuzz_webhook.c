/*
 * fuzz_webhook.c
 *	  Any JSON document as the payload of a webhook, and any text as an id in one: what
 *	  comes out is an id that leads to a member of our own space, and to no other place.
 *
 * The first byte chooses between the two, the second one the event.
 */
#include "fuzz.h"

#include "cobot_url.h"
#include "webhook_event.h"

#define SPACE "loft-nine"

static const char *
choose_event(int number)
{
	number %= webhook_event_count + 1;
	return number < webhook_event_count ? webhook_events[number].name : "an_event_that_nobody_knows";
}

static bool
is_safe_id(const char *id)
{
	return is_id(id) && is_utf8(id) && !has_control_character(id);
}

/* The id of a member, in the address that we would ask ourselves. */
static bool
read_own_url(const char *id, WebhookHint *hint)
{
	JsonError	error;
	cJSON	   *payload = cJSON_CreateObject();

	cJSON_AddStringToObject(payload, "url", cobot_url(SPACE, "/api/memberships/*", id, NULL));

	bool		good = webhook_read("updated_membership_details", payload, SPACE, hint, &error);

	cJSON_Delete(payload);
	return good;
}

static void
check_hint(const char *event, const WebhookHint *hint)
{
	const WebhookEvent *known = webhook_event_find(event);
	WebhookHint again;

	require(hint->is_known == (known != NULL));
	require(hint->kind == (known ? known->kind : WEBHOOK_IGNORED));
	if (hint->cobot_id[0] == '\0')
	{
		require(hint->kind != WEBHOOK_MEMBER);
		return;
	}
	require(hint->kind != WEBHOOK_IGNORED);
	require(is_safe_id(hint->cobot_id));
	require(read_own_url(hint->cobot_id, &again));
	require(strcmp(again.cobot_id, hint->cobot_id) == 0);
}

static void
check_payload(FuzzInput *input)
{
	const char *event = choose_event(fuzz_byte(input));
	const char *body = (const char *) input->at;
	JsonError	error;
	WebhookHint hint;

	if (!json_check(body, input->left, &error))
		return;

	cJSON	   *payload = json_parse(body, input->left, "", &error);

	if (webhook_read(event, payload, SPACE, &hint, &error))
		check_hint(event, &hint);
	else
		require_failure(&error);
	cJSON_Delete(payload);
}

static void
check_id(FuzzInput *input)
{
	const char *id = fuzz_text(input);
	WebhookHint hint;

	require(read_own_url(id, &hint) == is_safe_id(id));
	if (is_safe_id(id))
		require(strcmp(hint.cobot_id, id) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput	input = {.at = data, .left = size};

	if (fuzz_byte(&input) % 2 == 0)
		check_payload(&input);
	else
		check_id(&input);
	arena_reset();
	return 0;
}
