/*
 * fuzz_token.c
 *	  Any bytes as a value of the custom field: its tokens lie in it, in order; joined again
 *	  they are the same, and so they are with blanks of every kind around them.
 */
#include "fuzz.h"

#include "lib/stringinfo.h"

#include "field_token.h"

static const char *const blanks[] = {
	" ", "\t", "\r\n", "\xC2\xA0", "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x8B", "\xE2\x80\xA8", "\xE2\x80\xA9",
	"\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80", "\xEF\xBB\xBF"
};

/* Reads a list that must have the tokens of another one. */
static void
check_same(const char *list, size_t list_length, const char *expected, size_t expected_length)
{
	const char *cursor = list;
	const char *expected_cursor = expected;
	const char *token;
	const char *expected_token;
	size_t		length;
	size_t		token_length;

	while (field_token_next(&expected_cursor, expected + expected_length, &expected_token, &token_length))
	{
		require(field_token_next(&cursor, list + list_length, &token, &length));
		require(length == token_length && memcmp(token, expected_token, length) == 0);
	}
	require(!field_token_next(&cursor, list + list_length, &token, &length));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *list = (const char *) data;
	const char *cursor = list;
	const char *behind = list;
	bool		valid = pg_encoding_verifymbstr(PG_UTF8, list, (int) size) == (int) size;
	const char *token;
	size_t		length;
	int			count = 0;
	StringInfoData joined;
	StringInfoData padded;

	initStringInfo(&joined);
	initStringInfo(&padded);
	while (field_token_next(&cursor, list + size, &token, &length))
	{
		const char *blank = blanks[count % lengthof(blanks)];

		require(token >= behind && length > 0 && token + length <= cursor && cursor <= list + size);
		require(memchr(token, ',', length) == NULL);
		require(!valid || pg_encoding_verifymbstr(PG_UTF8, token, (int) length) == (int) length);
		behind = cursor;
		if (count++ > 0)
			appendStringInfoChar(&joined, ',');
		appendBinaryStringInfo(&joined, token, (int) length);
		appendStringInfo(&padded, "%s,%s", blank, blank);
		appendBinaryStringInfo(&padded, token, (int) length);
		appendStringInfoString(&padded, blank);
	}
	require(cursor == list + size);
	check_same(joined.data, joined.len, list, size);
	/* half a character would take a blank for its other half */
	if (valid)
		check_same(padded.data, padded.len, list, size);
	arena_reset();
	return 0;
}
