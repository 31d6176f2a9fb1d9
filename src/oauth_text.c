/*
 * oauth_text.c
 *	  What may stand in an authorisation: redirect URIs and scopes. Texts only, so that it
 *	  can be tested without a server; see oauth.h. Runs in any process.
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "oauth_text.h"

const char *
oauth_check_uri_text(const char *uri)
{
	if (uri[0] == '\0')
		return "is empty";
	if (strlen(uri) > OAUTH_URI_LIMIT_BYTES)
		return "is longer than " CppAsString2(OAUTH_URI_LIMIT_BYTES) " characters";
	for (const char *c = uri; *c != '\0'; c++)
	{
		if (*c <= ' ' || *c > '~')
			return "contains a blank, a control character or one that is not ASCII";
		if (strchr("\\\"<>^`{|}", *c) != NULL)
			return "contains a character that has no place in it, such as \\ or \"";
	}
	if (strchr(uri, '#') != NULL)
		return "contains a fragment";
	return NULL;
}

/* A host name, as far as its first and last letter go, is up to Cobot, where it is registered. */
static bool
is_host(const char *host, size_t length)
{
	return length > 0 && strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-[:]") >= length;
}

static bool
is_this_machine(const char *host, size_t length)
{
	static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};

	for (int i = 0; i < (int) lengthof(names); i++)
	{
		size_t		name_length = strlen(names[i]);

		if (length >= name_length && strncmp(host, names[i], name_length) == 0 &&
			(length == name_length || host[name_length] == ':'))
			return true;
	}
	return false;
}

const char *
oauth_check_redirect_uri(const char *uri)
{
	const char *wrong = oauth_check_uri_text(uri);
	bool		is_https = strncmp(uri, "https://", 8) == 0;

	if (wrong)
		return wrong;
	if (!is_https && strncmp(uri, "http://", 7) != 0)
		return "does not begin with https://";

	const char *host = uri + (is_https ? 8 : 7);
	size_t		length = strcspn(host, "/?");

	if (memchr(host, '@', length) != NULL)
		return "contains a user name";
	if (!is_host(host, length))
		return "has no host";
	if (!is_https && !is_this_machine(host, length))
		return "does not begin with https://";
	return NULL;
}

/* As RFC 6749 has it: %x21 / %x23-5B / %x5D-7E, with single blanks between. */
const char *
oauth_check_scope(const char *scope)
{
	if (scope[0] == '\0')
		return "is empty";
	if (strlen(scope) > OAUTH_SCOPE_LIMIT_BYTES)
		return "is longer than " CppAsString2(OAUTH_SCOPE_LIMIT_BYTES) " characters";
	if (scope[0] == ' ' || scope[strlen(scope) - 1] == ' ' || strstr(scope, "  ") != NULL)
		return "has other blanks than single ones between two scopes";
	for (const char *c = scope; *c != '\0'; c++)
		if (*c < ' ' || *c > '~' || *c == '"' || *c == '\\')
			return "contains a character that no scope has";
	return NULL;
}

bool
oauth_is_plain(const char *text, size_t limit_bytes)
{
	size_t		length = 0;

	for (; text[length] != '\0' && length <= limit_bytes; length++)
		if (text[length] <= ' ' || text[length] > '~')
			return false;
	return length > 0 && length <= limit_bytes;
}
