/*
 * unit_oauth.c
 *	  Unit tests of src/oauth_text.c: where Cobot may send people back to, what may be
 *	  asked for, and what ids, secrets and tokens are made of.
 */
#include "postgres_fe.h"

#include "oauth_text.h"
#include "tap.h"

/* A text of so many times the same character, in front of it another one. */
static const char *
long_text(const char *front, char c, int count)
{
	static char text[20000];

	snprintf(text, sizeof(text), "%s", front);
	for (int i = 0; i < count; i++)
	{
		size_t		length = strlen(text);

		text[length] = c;
		text[length + 1] = '\0';
	}
	return text;
}

static void
test_redirect_uris(void)
{
	static const char *const good[] = {
		"https://backend.example", "https://backend.example/", "https://backend.example:8443/a/b?c=d&e=%20", "https://127.0.0.1/",
		"http://localhost", "http://localhost:3000/cb", "http://127.0.0.1:3000/cb", "http://[::1]/", "https://[2001:db8::1]:8443/?x"
	};
	static const char *const bad[][2] = {
		{"", "is empty"},
		{"https:", "does not begin with https://"},
		{"https://", "has no host"},
		{"https:///x", "has no host"},
		{"https://?x", "has no host"},
		{"HTTPS://backend.example/", "does not begin with https://"},
		{"http://backend.example/", "does not begin with https://"},
		{"http://localhost.evil.example/", "does not begin with https://"},
		{"http://127.0.0.1.evil.example/", "does not begin with https://"},
		{"http://localhost@evil.example/", "contains a user name"},
		{"https://user:word@backend.example/", "contains a user name"},
		{"smartspace://login", "does not begin with https://"},
		{"javascript:alert(1)", "does not begin with https://"},
		{"https://backend.example/#x", "contains a fragment"},
		{"https://back%65nd.example/", "has no host"},
		{"https://backend.example/a b", "contains a blank, a control character or one that is not ASCII"},
		{"https://backend.example/\r\nX: 1", "contains a blank, a control character or one that is not ASCII"},
		{"https://backend.example/\x7F", "contains a blank, a control character or one that is not ASCII"},
		{"https://backend.example/\xC3\xB6", "contains a blank, a control character or one that is not ASCII"},
		{"https://backend.example\\@evil.example", "contains a character that has no place in it, such as \\ or \""},
		{"https://backend.example/\"", "contains a character that has no place in it, such as \\ or \""}
	};

	for (int i = 0; i < (int) lengthof(good); i++)
		is_text(oauth_check_redirect_uri(good[i]), NULL, good[i]);
	for (int i = 0; i < (int) lengthof(bad); i++)
		is_text(oauth_check_redirect_uri(bad[i][0]), bad[i][1], "a redirect URI that is no good");
	is_text(oauth_check_redirect_uri(long_text("https://a/", 'x', 990)), NULL, "1000 characters");
	is_text(oauth_check_redirect_uri(long_text("https://a/", 'x', 991)), "is longer than 1000 characters", "1001 characters");
	is_text(oauth_check_uri_text("smartspace://login"), NULL, "scheme and host are the caller's to look at");
}

static void
test_scopes(void)
{
	is_text(oauth_check_scope("me"), NULL, "one");
	is_text(oauth_check_scope("read_user write:all https://x/y"), NULL, "several");
	is_text(oauth_check_scope(""), "is empty", "none");
	is_text(oauth_check_scope(" me"), "has other blanks than single ones between two scopes", "blank in front");
	is_text(oauth_check_scope("me "), "has other blanks than single ones between two scopes", "blank behind");
	is_text(oauth_check_scope("a  b"), "has other blanks than single ones between two scopes", "two blanks");
	is_text(oauth_check_scope("a\tb"), "contains a character that no scope has", "tab");
	is_text(oauth_check_scope("a\nb"), "contains a character that no scope has", "line end");
	is_text(oauth_check_scope("a\"b"), "contains a character that no scope has", "quote");
	is_text(oauth_check_scope("\xC3\xB6"), "contains a character that no scope has", "no ASCII");
	is_text(oauth_check_scope(long_text("", 'x', 1000)), NULL, "1000 characters");
	is_text(oauth_check_scope(long_text("", 'x', 1001)), "is longer than 1000 characters", "1001 characters");
}

static void
test_plain_texts(void)
{
	ok(oauth_is_plain("a", 1), "one character");
	ok(oauth_is_plain("!~%&+/=", 7), "whatever can be printed");
	ok(!oauth_is_plain("", 10), "not nothing");
	ok(!oauth_is_plain("ab", 1), "not more than the limit");
	ok(!oauth_is_plain("a b", 10), "no blank");
	ok(!oauth_is_plain("ab\n", 10), "no line end");
	ok(!oauth_is_plain("a\x7F", 10), "no control character");
	ok(!oauth_is_plain("\xC3\xB6", 10), "no other than ASCII");
	ok(oauth_is_plain(long_text("", 'x', 1000), 1000), "1000 characters");
	ok(!oauth_is_plain(long_text("", 'x', 1001), 1000), "1001 characters");
}

int
main(void)
{
	test_plain_texts();
	test_redirect_uris();
	test_scopes();
	return done_testing();
}
