/*
 * url.h
 *	  Paths and queries as they came over the wire, percent-encoded.
 */
#ifndef COBOT_TEST_URL_H
#define COBOT_TEST_URL_H

#include <stdbool.h>
#include <stddef.h>

#define URL_PARAMS 4

/* What the ":name" segments of a pattern stood for, decoded. */
typedef struct UrlParams
{
	char	   *value[URL_PARAMS];
	int			count;
} UrlParams;

/* The caller frees the result. In a query a plus is a space. */
extern char *url_decode(const char *text, size_t length, bool is_query);

/* Everything but letters, digits and "-._~" as %XX. The caller frees the result. */
extern char *url_encode(const char *text);

/*
 * Compares segment by segment, slashes at the end ignored. On success the params
 * are filled and must be freed; on failure they are empty.
 */
extern bool url_match(const char *pattern, const char *path, UrlParams *params);
extern void url_params_free(UrlParams *params);

/* A parameter of a query or form body, decoded, or NULL. The caller frees it. */
extern char *url_query_value(const char *query, const char *name);

/* Whether a list such as "a,b,c" has the word; the word need not end in NUL. */
extern bool url_list_has(const char *list, const char *word, size_t length);

#endif
