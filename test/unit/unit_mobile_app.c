/*
 * unit_mobile_app.c
 *	  Unit tests of src/mobile_app_text.c: where a mobile app may be called back.
 */
#include "postgres_fe.h"

#include "mobile_app_text.h"
#include "tap.h"

static void
test_redirect_uris(void)
{
	static const char *const good[] = {
		"smartspace://login", "smartspace:/login", "com.example.app:/oauth?x=1", "smart-space+dev.2://x", "https://app.example.com/back",
		"http://127.0.0.1:7777/", "httpx://login", "files://login", "java://login"
	};
	static const char *const bad[][2] = {
		{"", "is empty"},
		{"login", "has no scheme"},
		{"//login", "has no scheme"},
		{":/login", "has a scheme that is not made of lower-case letters, digits, +, . and -"},
		{"1app://login", "has a scheme that is not made of lower-case letters, digits, +, . and -"},
		{"Smartspace://login", "has a scheme that is not made of lower-case letters, digits, +, . and -"},
		{"smart_space://login", "has a scheme that is not made of lower-case letters, digits, +, . and -"},
		{"smart/space://login", "has a scheme that is not made of lower-case letters, digits, +, . and -"},
		{"JavaScript:/x", "has a scheme that is not made of lower-case letters, digits, +, . and -"},
		{"javascript://x", "has a scheme that belongs to no app"},
		{"data:/x", "has a scheme that belongs to no app"},
		{"file:///etc/passwd", "has a scheme that belongs to no app"},
		{"smartspace:login", "has no / behind its scheme"},
		{"smartspace:", "has no / behind its scheme"},
		{"http:", "does not begin with https://"},
		{"https:/app.example.com", "does not begin with https://"},
		{"http://app.example.com/", "does not begin with https://"},
		{"smartspace://login#top", "contains a fragment"},
		{"smartspace://login\n", "contains a blank, a control character or one that is not ASCII"}
	};

	for (int i = 0; i < (int) lengthof(good); i++)
		is_text(mobile_app_check_redirect_uri(good[i]), NULL, good[i]);
	for (int i = 0; i < (int) lengthof(bad); i++)
		is_text(mobile_app_check_redirect_uri(bad[i][0]), bad[i][1], "an address that is no good");
}

int
main(void)
{
	test_redirect_uris();
	return done_testing();
}
