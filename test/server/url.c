/*
 * url.c
 *	  Paths and queries as they came over the wire, percent-encoded.
 */
#include "url.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

char *
url_decode(const char *text, size_t length, bool is_query)
{
	char	   *decoded = memory_get(length + 1);
	size_t		out = 0;

	for (size_t i = 0; i < length; i++)
	{
		int			high = i + 2 < length ? hex_digit(text[i + 1]) : -1;
		int			low = i + 2 < length ? hex_digit(text[i + 2]) : -1;

		if (text[i] == '%' && high >= 0 && low >= 0)
		{
			decoded[out++] = (char) (high * 16 + low);
			i += 2;
		}
		else
			decoded[out++] = is_query && text[i] == '+' ? ' ' : text[i];
	}
	decoded[out] = '\0';
	return decoded;
}

char *
url_encode(const char *text)
{
	Text		encoded = {0};

	for (const char *p = text; *p != '\0'; p++)
	{
		if (isalnum((unsigned char) *p) || strchr("-._~", *p) != NULL)
			text_add_char(&encoded, *p);
		else
			text_add_format(&encoded, "%%%02X", (unsigned char) *p);
	}
	return text_take(&encoded);
}

void
url_params_free(UrlParams *params)
{
	for (int i = 0; i < params->count; i++)
		free(params->value[i]);
	params->count = 0;
}

bool
url_match(const char *pattern, const char *path, UrlParams *params)
{
	params->count = 0;
	for (;;)
	{
		size_t		wanted;
		size_t		found;

		pattern += strspn(pattern, "/");
		path += strspn(path, "/");
		wanted = strcspn(pattern, "/");
		found = strcspn(path, "/");
		if (wanted == 0 && found == 0)
			return true;
		if (wanted == 0 || found == 0)
			break;
		if (*pattern == ':')
			params->value[params->count++] = url_decode(path, found, false);
		else if (wanted != found || memcmp(pattern, path, found) != 0)
			break;
		pattern += wanted;
		path += found;
	}
	url_params_free(params);
	return false;
}

char *
url_query_value(const char *query, const char *name)
{
	while (query != NULL && *query != '\0')
	{
		size_t		length = strcspn(query, "&");
		const char *equals = memchr(query, '=', length);
		size_t		name_length = equals != NULL ? (size_t) (equals - query) : length;
		char	   *decoded = url_decode(query, name_length, true);
		bool		is_it = strcmp(decoded, name) == 0;

		free(decoded);
		if (is_it)
		{
			const char *value = equals != NULL ? equals + 1 : query + length;

			return url_decode(value, (size_t) (query + length - value), true);
		}
		query += length;
		query += strspn(query, "&");
	}
	return NULL;
}

bool
url_list_has(const char *list, const char *word, size_t length)
{
	while (*list != '\0')
	{
		size_t		item = strcspn(list, ",");
		size_t		blanks = 0;

		while (blanks < item && isspace((unsigned char) list[blanks]))
			blanks++;
		if (item - blanks == length && memcmp(list + blanks, word, length) == 0)
			return true;
		list += item;
		list += *list == ',' ? 1 : 0;
	}
	return false;
}
