/*
 * unit_token.c
 *	  What field_token.h promises: what is between commas, without the blanks around it.
 */
#include "postgres_fe.h"

#include "field_token.h"
#include "tap.h"

/* The tokens of a list in brackets. The list has no NUL behind it, so that the sanitizer sees a byte too many. */
static void
splits_into(const char *list, const char *expected)
{
	size_t		size = strlen(list);
	char	   *copy = malloc(size > 0 ? size : 1);
	char		got[256] = "";
	const char *cursor = memcpy(copy, list, size);
	const char *token;
	size_t		length;

	while (field_token_next(&cursor, copy + size, &token, &length))
		snprintf(got + strlen(got), sizeof(got) - strlen(got), "[%.*s]", (int) length, token);
	is_text(got, expected, expected[0] ? expected : "nothing");
	ok(cursor == copy + size, "to the end");
	free(copy);
}

int
main(void)
{
	splits_into("", "");
	splits_into(" , ,", "");
	splits_into("workshop", "[workshop]");
	splits_into(" roof terrace ,door\t,\r\ngate", "[roof terrace][door][gate]");
	splits_into(",a,,b,", "[a][b]");
	splits_into("\xC2\xA0" "a\xE2\x80\x83,\xEF\xBB\xBF" "b\xE3\x80\x80", "[a][b]");
	splits_into("a\xC2\xA0z", "[a\xC2\xA0z]");
	splits_into("\xC3\xA9,\xC2", "[\xC3\xA9][\xC2]");
	splits_into("a\xE2\x80", "[a\xE2\x80]");
	return done_testing();
}
