/*
 * field_token.c
 *	  Splits a value of the custom field into identifiers. Server-free, runs
 *	  wherever grants are computed.
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "field_token.h"

/* Length of the blank that starts at p (at least one byte before end), or 0. */
static size_t
blank_length(const char *p, const char *end)
{
	unsigned char a = (unsigned char) p[0];
	size_t		left = (size_t) (end - p);

	if (a == ' ' || (a >= '\t' && a <= '\r'))
		return 1;
	if (left >= 2 && memcmp(p, "\xC2\xA0", 2) == 0) /* no-break space */
		return 2;
	if (left < 3)
		return 0;
	if (memcmp(p, "\xE1\x9A\x80", 3) == 0 ||	/* ogham space */
		memcmp(p, "\xE2\x81\x9F", 3) == 0 ||	/* mathematical space */
		memcmp(p, "\xE3\x80\x80", 3) == 0 ||	/* ideographic space */
		memcmp(p, "\xEF\xBB\xBF", 3) == 0)	/* byte order mark */
		return 3;
	if (memcmp(p, "\xE2\x80", 2) == 0)
	{
		unsigned char c = (unsigned char) p[2];

		/* U+2000 to U+200B, line and paragraph separator, narrow no-break space */
		if (c >= 0x80 && (c <= 0x8B || c == 0xA8 || c == 0xA9 || c == 0xAF))
			return 3;
	}
	return 0;
}

bool
field_token_next(const char **cursor, const char *end, const char **token, size_t *length)
{
	const char *p = *cursor;

	while (p < end)
	{
		const char *first = NULL;	/* first byte that is no blank */
		const char *last = NULL;	/* byte after the last one */

		while (p < end && *p != ',')
		{
			size_t		blank = blank_length(p, end);

			if (blank > 0)
				p += blank;
			else
			{
				if (first == NULL)
					first = p;
				last = ++p;
			}
		}
		if (p < end)
			p++;				/* the comma */

		if (first != NULL)
		{
			*cursor = p;
			*token = first;
			*length = (size_t) (last - first);
			return true;
		}
	}
	*cursor = p;
	return false;
}
