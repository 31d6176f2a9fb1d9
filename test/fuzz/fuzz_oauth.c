/*
 * fuzz_oauth.c
 *	  Any text as an address that Cobot may send people back to, with the code that opens
 *	  everything, and as a list of scopes. Where libcurl, as another reader than ours, finds a
 *	  host in what is accepted, that is nobody's but the one that a person saw.
 */
#include "fuzz.h"

#include <curl/curl.h>

#include "mobile_app_text.h"
#include "oauth_text.h"

static bool
is_one_of(const char *text, const char *const *words, int count)
{
	for (int i = 0; i < count; i++)
		if (text && strcmp(text, words[i]) == 0)
			return true;
	return false;
}

static void
require_none(CURLU *url, CURLUPart part)
{
	char	   *text = NULL;

	require(curl_url_get(url, part, &text, 0) != CURLUE_OK);
}

static void
check_web_address(const char *uri)
{
	static const char *const this_machine[] = {"localhost", "127.0.0.1", "[::1]"};
	CURLU	   *url = curl_url();
	char	   *scheme = NULL;
	char	   *host = NULL;

	/* what cannot be read leads nowhere */
	if (curl_url_set(url, CURLUPART_URL, uri, 0) == CURLUE_OK)
	{
		curl_url_get(url, CURLUPART_SCHEME, &scheme, 0);
		curl_url_get(url, CURLUPART_HOST, &host, 0);
		require(strcmp(scheme, "https") == 0 ||
				(strcmp(scheme, "http") == 0 && is_one_of(host, this_machine, lengthof(this_machine))));
		/* a name as it stands there, up to a port, a path or a query; numbers have many ways to be written */
		if (host[0] != '[' && strspn(host, "0123456789.") < strlen(host))
		{
			require(strncmp(uri + strlen(scheme) + 3, host, strlen(host)) == 0);
			require(strchr(":/?", uri[strlen(scheme) + 3 + strlen(host)]) != NULL);
		}
		require_none(url, CURLUPART_USER);
		require_none(url, CURLUPART_PASSWORD);
		require_none(url, CURLUPART_FRAGMENT);
	}
	curl_free(scheme);
	curl_free(host);
	curl_url_cleanup(url);
}

static void
check_text(const char *uri)
{
	require(strlen(uri) >= 1 && strlen(uri) <= 1000);
	for (const char *c = uri; *c != '\0'; c++)
		require(*c > ' ' && *c < 0x7F && strchr("\"<>\\^`{|}#", *c) == NULL);
}

static void
check_app_address(const char *uri)
{
	static const char *const others[] = {"javascript", "data", "file", "intent", "vbscript", "blob", "about"};
	size_t		length = strcspn(uri, ":");
	char	   *scheme = pnstrdup(uri, length);

	if (strcmp(scheme, "https") == 0 || strcmp(scheme, "http") == 0)
	{
		require(oauth_check_redirect_uri(uri) == NULL);
		return;
	}
	require(uri[length] == ':' && uri[length + 1] == '/');
	require(scheme[0] >= 'a' && scheme[0] <= 'z');
	require(strspn(scheme, "abcdefghijklmnopqrstuvwxyz0123456789+.-") == length);
	require(!is_one_of(scheme, others, lengthof(others)));
}

static void
check_scope(const char *scope)
{
	require(strlen(scope) <= 1000);
	for (;;)
	{
		size_t		length = strcspn(scope, " ");

		require(length > 0);
		for (size_t i = 0; i < length; i++)
			require(scope[i] > ' ' && scope[i] < 0x7F && scope[i] != '"' && scope[i] != '\\');
		if (scope[length] == '\0')
			return;
		scope += length + 1;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput	input = {.at = data, .left = size};
	const char *text = fuzz_text(&input);
	const char *web = oauth_check_redirect_uri(text);
	const char *app = mobile_app_check_redirect_uri(text);
	const char *scope = oauth_check_scope(text);

	if (web)
		require_line(web);
	else
	{
		check_text(text);
		check_web_address(text);
		/* what is good for the backend is good for an app */
		require(app == NULL);
	}
	if (app)
		require_line(app);
	else
	{
		check_text(text);
		check_app_address(text);
	}
	if (scope)
		require_line(scope);
	else
		check_scope(text);
	arena_reset();
	return 0;
}
