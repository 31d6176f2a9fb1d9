/*
 * fuzz_url.c
 *	  Any three texts as a subdomain and two ids. The URLs that are made of them are read by
 *	  libcurl as it would before it sends a token: they lead to the space's host, to the path
 *	  that was meant, and bring the ids there unchanged.
 */
#include "fuzz.h"

#include <curl/curl.h>

#include "cobot_url.h"

static const char *const paths[] = {
	"/api/memberships/*", "/api/memberships/*/custom_fields", "/api/memberships/*/work_sessions",
	"/api/subscriptions/*", "/api/work_sessions?from=*&to=*"
};

static char *
url_part(CURLU *url, CURLUPart part)
{
	char	   *text = NULL;

	curl_url_get(url, part, &text, 0);
	return text;
}

static void
require_part(CURLU *url, CURLUPart part, const char *expected)
{
	char	   *text = url_part(url, part);

	require((text == NULL) == (expected == NULL));
	require(text == NULL || strcmp(text, expected) == 0);
	curl_free(text);
}

/* One value, decoded, must be the text that was given. Gives what follows it. */
static const char *
check_value(const char *encoded, const char *expected)
{
	size_t		length = strcspn(encoded, "/&?#");
	int			decoded_length;
	char	   *decoded = curl_easy_unescape(NULL, encoded, (int) length, &decoded_length);

	/* libcurl takes a length of zero for one that it has to find out */
	if (length == 0)
		require(expected[0] == '\0');
	else
	{
		require(decoded && (size_t) decoded_length == strlen(expected));
		require(memcmp(decoded, expected, decoded_length) == 0);
	}
	curl_free(decoded);
	return encoded + length;
}

/* text is what libcurl read; template the part of our path that it comes from. */
static void
check_part(const char *text, const char *template, const char *const *values)
{
	for (; *template != '\0'; template++)
	{
		if (*template == '*')
			text = check_value(text, *values++);
		else
			require(*text++ == *template);
	}
	require(*text == '\0');
}

static void
check_path(CURLU *url, const char *template, const char *const *values)
{
	char	   *path = url_part(url, CURLUPART_PATH);
	char	   *query = url_part(url, CURLUPART_QUERY);
	char	   *template_path = pstrdup(template);
	char	   *template_query = strchr(template_path, '?');

	if (template_query)
		*template_query++ = '\0';
	require((query == NULL) == (template_query == NULL));
	check_part(path, template_path, values);
	/* the ids are in one of the two alone */
	if (query)
		check_part(query, template_query, values);
	curl_free(path);
	curl_free(query);
}

static void
check_url(const char *subdomain, const char *template, const char *first, const char *second)
{
	const char *values[] = {first, second};
	char	   *text = cobot_url(subdomain, template, first, strchr(template, '&') ? second : NULL);
	char		host[128];
	CURLU	   *url = curl_url();

	for (const char *c = text; *c != '\0'; c++)
		require(*c > ' ' && *c < 0x7F && strchr("\"<>\\^`{|}#", *c) == NULL);
	snprintf(host, sizeof(host), "%s.cobot.me", subdomain);
	require(curl_url_set(url, CURLUPART_URL, text, 0) == CURLUE_OK);
	require_part(url, CURLUPART_SCHEME, "https");
	require_part(url, CURLUPART_HOST, host);
	require_part(url, CURLUPART_PORT, NULL);
	require_part(url, CURLUPART_USER, NULL);
	require_part(url, CURLUPART_PASSWORD, NULL);
	require_part(url, CURLUPART_FRAGMENT, NULL);
	check_path(url, template, values);
	curl_url_cleanup(url);
}

static void
check_subdomain(const char *subdomain)
{
	require(strlen(subdomain) >= 1 && strlen(subdomain) <= 63);
	for (const char *c = subdomain; *c != '\0'; c++)
		require((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '-');
	require(subdomain[0] != '-' && subdomain[strlen(subdomain) - 1] != '-');
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput	input = {.at = data, .left = size};
	const char *subdomain = fuzz_text(&input);
	const char *first = fuzz_text(&input);
	const char *second = fuzz_text(&input);
	const char *problem = cobot_check_subdomain(subdomain);

	if (problem)
	{
		require_line(problem);
		subdomain = "loft-nine";
	}
	check_subdomain(subdomain);
	for (int i = 0; i < (int) lengthof(paths); i++)
		check_url(subdomain, paths[i], first, second);
	arena_reset();
	return 0;
}
