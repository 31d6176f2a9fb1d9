/*
 * unit_client.c
 *	  What cobot_url.h promises: which subdomains may get a token, what a path
 *	  segment looks like on the wire, and how long Cobot asks to wait.
 */
#include "postgres_fe.h"

#include "cobot_url.h"
#include "tap.h"

static void
test_subdomains(void)
{
	static const char *const good[] = {
		"demo-space", "a", "0", "a--b", "xn--caf-dma", "123", "wwww", "api2", "www-api",
		"abcdefghijklmnopqrstuvwxyz0123456789-abcdefghijklmnopqrstuvwxyz"	/* 63 characters */
	};
	static const struct
	{
		const char *subdomain;
		const char *problem;
	}			bad[] = {
		{"", "is empty"},
		{"evil.com/", "contains a character other than a-z, 0-9 and -"},
		{"a.b", "contains a character other than a-z, 0-9 and -"},
		{"evil.com#", "contains a character other than a-z, 0-9 and -"},
		{"evil.com?", "contains a character other than a-z, 0-9 and -"},
		{"user@evil", "contains a character other than a-z, 0-9 and -"},
		{"evil:443", "contains a character other than a-z, 0-9 and -"},
		{"evil\\", "contains a character other than a-z, 0-9 and -"},
		{"demo\n", "contains a character other than a-z, 0-9 and -"},
		{"\ndemo", "contains a character other than a-z, 0-9 and -"},
		{"demo\r\nHost: x", "contains a character other than a-z, 0-9 and -"},
		{"de mo", "contains a character other than a-z, 0-9 and -"},
		{" demo", "contains a character other than a-z, 0-9 and -"},
		{"demo%2e", "contains a character other than a-z, 0-9 and -"},
		{"demo%", "contains a character other than a-z, 0-9 and -"},
		{"demo_space", "contains a character other than a-z, 0-9 and -"},
		{"Demo", "contains a character other than a-z, 0-9 and -"},
		{"WWW", "contains a character other than a-z, 0-9 and -"},
		{"caf\xC3\xA9", "contains a character other than a-z, 0-9 and -"},
		{"{a,b}", "contains a character other than a-z, 0-9 and -"},
		{"[1-9]", "contains a character other than a-z, 0-9 and -"},
		{"-x", "begins or ends with -"},
		{"x-", "begins or ends with -"},
		{"-", "begins or ends with -"},
		{"www", "is a name that Cobot keeps for itself"},
		{"api", "is a name that Cobot keeps for itself"}
	};
	char		name[301];
	char		label[128];

	for (size_t i = 0; i < lengthof(good); i++)
	{
		snprintf(label, sizeof(label), "subdomain: %s", good[i]);
		is_text(cobot_check_subdomain(good[i]), NULL, label);
	}
	for (size_t i = 0; i < lengthof(bad); i++)
	{
		snprintf(label, sizeof(label), "hostile or impossible subdomain %zu", i);
		is_text(cobot_check_subdomain(bad[i].subdomain), bad[i].problem, label);
	}

	memset(name, 'a', sizeof(name));
	name[300] = '\0';
	is_text(cobot_check_subdomain(name), "is longer than 63 characters", "300 characters");
	name[64] = '\0';
	is_text(cobot_check_subdomain(name), "is longer than 63 characters", "64 characters");
	name[63] = '\0';
	is_text(cobot_check_subdomain(name), NULL, "63 characters");

	int			wrong = 0;

	for (int byte = 1; byte < 256; byte++)
	{
		char		text[] = {'a', (char) byte, 'b', '\0'};
		bool		allowed = (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-';

		wrong += (cobot_check_subdomain(text) == NULL) != allowed;
	}
	ok(wrong == 0, "of all bytes only a-z, 0-9 and - may be in a subdomain");
}

/* The block has exactly the promised size, so that the sanitizer sees a byte too many. */
static void
encodes_to(const char *text, const char *expected)
{
	char	   *encoded = malloc(COBOT_PERCENT_ENCODED_SIZE(text));
	char		label[128];

	cobot_percent_encode(encoded, text);
	snprintf(label, sizeof(label), "encoded as %s", expected);
	is_text(encoded, expected, label);
	free(encoded);
}

static void
test_percent_encoding(void)
{
	char		all[256];
	char		encoded[COBOT_PERCENT_ENCODED_SIZE("") + 255 * 3];
	int			wrong = 0;

	encodes_to("", "");
	encodes_to("0c4f75fa14924423810d6f12aeb50002", "0c4f75fa14924423810d6f12aeb50002");
	encodes_to("1d4d33ea-2501_a.b~c", "1d4d33ea-2501_a.b~c");
	encodes_to("a/b", "a%2Fb");
	encodes_to("../user", "..%2Fuser");
	encodes_to(".", "%2E");
	encodes_to("..", "%2E%2E");
	encodes_to("...", "...");
	encodes_to("a?b=c&d#e", "a%3Fb%3Dc%26d%23e");
	encodes_to("100%", "100%25");
	encodes_to("a b+c", "a%20b%2Bc");
	encodes_to("x\r\nHost: y", "x%0D%0AHost%3A%20y");
	encodes_to("\xE6\x9D\x8E", "%E6%9D%8E");
	encodes_to("\xFF\x7F\x01", "%FF%7F%01");

	/* every byte, read back by another reader */
	for (int byte = 1; byte < 256; byte++)
		all[byte - 1] = (char) byte;
	all[255] = '\0';
	cobot_percent_encode(encoded, all);

	const char *at = encoded;

	for (int byte = 1; byte < 256; byte++)
	{
		unsigned int read;

		if (*at == '%' && sscanf(at, "%%%2X", &read) == 1)
			at += 3;
		else
			read = (unsigned char) *at++;
		wrong += read != (unsigned int) byte;
	}
	ok(wrong == 0 && *at == '\0', "every byte can be read back");
	ok(strspn(encoded, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%") ==
	   strlen(encoded), "and only unreserved characters are on the wire");
}

static void
url_is(const char *path, const char *first, const char *second, const char *expected)
{
	char	   *url = cobot_url("demo-space", path, first, second);

	is_text(url, expected, expected);
	pfree(url);
}

static void
test_urls(void)
{
	url_is("/api/plans", NULL, NULL, "https://demo-space.cobot.me/api/plans");
	url_is("/api/memberships/*", "m1", NULL, "https://demo-space.cobot.me/api/memberships/m1");
	url_is("/api/memberships/*/work_sessions", "../user?*", NULL,
		   "https://demo-space.cobot.me/api/memberships/..%2Fuser%3F%2A/work_sessions");
	url_is("/api/memberships/*", "", NULL, "https://demo-space.cobot.me/api/memberships/");
	url_is("/api/work_sessions?from=*&to=*", "2026/03/31 +0200", "*\r\n",
		   "https://demo-space.cobot.me/api/work_sessions?from=2026%2F03%2F31%20%2B0200&to=%2A%0D%0A");
}

static void
wait_is(const char *header, int expected)
{
	/* 1994-11-06 08:49:37 UTC */
	int			got = cobot_parse_retry_after(header, 784111777);

	if (!ok(got == expected, "Retry-After \"%s\" is %d", header, expected))
		printf("# got %d\n", got);
}

static void
test_retry_after(void)
{
	wait_is("0", 0);
	wait_is("1", 1);
	wait_is("60", 60);
	wait_is("007", 7);
	wait_is("86400", 86400);
	wait_is("86401", 86400);
	wait_is("99999999999999999999999999", 86400);
	wait_is("18446744073709551617", 86400);

	wait_is("", -1);
	wait_is("-5", -1);
	wait_is("+5", -1);
	wait_is("1.5", -1);
	wait_is("1e3", -1);
	wait_is("0x10", -1);
	wait_is("60 seconds", -1);
	wait_is("60,60", -1);
	wait_is("soon", -1);
	wait_is("\xFF\xFE", -1);

	wait_is("Sun, 06 Nov 1994 08:49:37 GMT", 0);
	wait_is("Sun, 06 Nov 1994 08:49:47 GMT", 10);
	wait_is("Sun, 06 Nov 1994 08:49:36 GMT", 0);
	wait_is("Thu, 01 Jan 1970 00:00:00 GMT", 0);
	wait_is("Mon, 07 Nov 1994 08:49:37 GMT", 86400);
	wait_is("Fri, 31 Dec 9999 23:59:59 GMT", 86400);
	wait_is("Sun, 06 Nov 1994 08:50:37 GMT", 60);
	wait_is("Sun, 06 Dec 1994 08:49:37 GMT", 86400);
	wait_is("Sun, 06 Foo 1994 08:49:37 GMT", -1);
	wait_is("Sun, 31 Nov 1994 08:49:37 GMT", -1);
	wait_is("Sun, 06 Nov 1994 24:00:00 GMT", -1);
	wait_is("Sun, 06 Nov 1994 08:49:37 CET", -1);
	wait_is("Sun, 06 Nov 1994 08:49:37", -1);
	wait_is("Sun, 06 Nov 1994 08:49:37 GMT ", -1);
	wait_is("Sunday, 06-Nov-94 08:49:37 GMT", -1);
	wait_is("Sun Nov  6 08:49:37 1994", -1);
}

int
main(void)
{
	test_subdomains();
	test_percent_encoding();
	test_urls();
	test_retry_after();
	return done_testing();
}
