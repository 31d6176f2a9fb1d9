/*
 * fuzz_refusal.c
 *	  Any bytes as the answer to a check-in that was refused: there is always a reason, in
 *	  one short line, and it is the same in both shapes that Cobot may give it.
 */
#include "fuzz.h"

#include "checkin_record.h"

/* {"errors": BODY} says the same as BODY. */
static void
check_other_shape(const char *body, size_t length, const char *words)
{
	static const char before[] = "{\"errors\":";
	JsonError	error;
	cJSON	   *json = json_check(body, length, &error) ? json_parse(body, length, "", &error) : NULL;
	bool		has_errors = cJSON_GetObjectItemCaseSensitive(json, "errors") != NULL;

	cJSON_Delete(json);
	if (json == NULL || has_errors)
		return;

	size_t		wrapped_length = strlen(before) + length + 1;
	char	   *wrapped = palloc(wrapped_length);

	memcpy(wrapped, before, strlen(before));
	memcpy(wrapped + strlen(before), body, length);
	wrapped[wrapped_length - 1] = '}';
	/* one level more may be too many */
	if (json_check(wrapped, wrapped_length, &error))
		require(strcmp(checkin_refusal(wrapped, wrapped_length, 422), words) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *words = checkin_refusal((const char *) data, size, 422);

	require_line(words);
	require(strlen(words) <= 200);
	check_other_shape((const char *) data, size, words);
	arena_reset();
	return 0;
}
