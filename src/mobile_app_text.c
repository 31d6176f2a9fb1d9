/*
 * mobile_app_text.c
 *	  Where a mobile app may be called back. Texts only; see mobile_app_text.h. Runs in any
 *	  process.
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "mobile_app_text.h"
#include "oauth_text.h"

#define SCHEME_CHARACTERS "abcdefghijklmnopqrstuvwxyz0123456789+.-"

/*
 * Schemes that something other than an app of ours answers to: by running or showing
 * what stands behind them, or by handing it on to somebody else.
 */
static const char *const foreign_schemes[] = {
	"about", "blob", "chrome", "content", "data", "file", "filesystem", "ftp", "intent", "jar", "javascript", "mailto",
	"resource", "sms", "tel", "urn", "vbscript", "view-source", "ws", "wss"
};

const char *
mobile_app_check_redirect_uri(const char *uri)
{
	const char *wrong = oauth_check_uri_text(uri);
	size_t		length = strcspn(uri, ":");

	if (wrong)
		return wrong;
	if (uri[length] == '\0')
		return "has no scheme";
	if (uri[0] < 'a' || uri[0] > 'z' || strspn(uri, SCHEME_CHARACTERS) != length)
		return "has a scheme that is not made of lower-case letters, digits, +, . and -";
	if (strncmp(uri, "https:", length + 1) == 0 || strncmp(uri, "http:", length + 1) == 0)
		return oauth_check_redirect_uri(uri);
	for (int i = 0; i < (int) lengthof(foreign_schemes); i++)
		if (strlen(foreign_schemes[i]) == length && strncmp(uri, foreign_schemes[i], length) == 0)
			return "has a scheme that belongs to no app";
	if (uri[length + 1] != '/')
		return "has no / behind its scheme";
	return NULL;
}
