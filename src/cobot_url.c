/*
 * cobot_url.c
 *	  Subdomains, URLs, percent-encoding and Retry-After: the text handling of the
 *	  Cobot client that can be tested without a server. Runs in any process.
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "cobot_record.h"
#include "cobot_url.h"

#define SPACE_HOST "https://%s.cobot.me"
#define SUBDOMAIN_LIMIT_BYTES 63
#define RETRY_AFTER_LIMIT_S 86400
#define SECONDS_1970_TO_2000 INT64CONST(946684800)

/*
 * The host that gets our bearer token is made of this text, so nothing may pass
 * that could end the host name early or lead to another one.
 */
const char *
cobot_check_subdomain(const char *subdomain)
{
	size_t		length = strlen(subdomain);

	if (length == 0)
		return "is empty";
	if (strspn(subdomain, "abcdefghijklmnopqrstuvwxyz0123456789-") != length)
		return "contains a character other than a-z, 0-9 and -";
	if (length > SUBDOMAIN_LIMIT_BYTES)
		return "is longer than " CppAsString2(SUBDOMAIN_LIMIT_BYTES) " characters";
	if (subdomain[0] == '-' || subdomain[length - 1] == '-')
		return "begins or ends with -";
	if (strcmp(subdomain, "www") == 0 || strcmp(subdomain, "api") == 0)
		return "is a name that Cobot keeps for itself";
	return NULL;
}

/*
 * Everything but the unreserved characters of RFC 3986. The segments "." and
 * ".." would be taken for steps of the path, so their dots are encoded too.
 */
void
cobot_percent_encode(char *encoded, const char *text)
{
	static const char unreserved[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
	static const char digits[] = "0123456789ABCDEF";
	bool		is_step = strcmp(text, ".") == 0 || strcmp(text, "..") == 0;

	for (; *text != '\0'; text++)
	{
		unsigned char c = (unsigned char) *text;

		if (strchr(unreserved, c) != NULL && !is_step)
			*encoded++ = *text;
		else
		{
			*encoded++ = '%';
			*encoded++ = digits[c >> 4];
			*encoded++ = digits[c & 0x0F];
		}
	}
	*encoded = '\0';
}

char *
cobot_url(const char *subdomain, const char *path, const char *first, const char *second)
{
	const char *parts[] = {first, second};
	size_t		size = sizeof(SPACE_HOST) + strlen(subdomain) + strlen(path);
	int			used = 0;

	for (int i = 0; i < (int) lengthof(parts); i++)
		size += parts[i] ? COBOT_PERCENT_ENCODED_SIZE(parts[i]) : 0;

	char	   *url = palloc(size);
	char	   *end = url + sprintf(url, SPACE_HOST, subdomain);

	for (; *path != '\0'; path++)
	{
		if (*path == '*' && used < (int) lengthof(parts) && parts[used])
		{
			cobot_percent_encode(end, parts[used++]);
			end += strlen(end);
		}
		else
			*end++ = *path;
	}
	*end = '\0';
	return url;
}

/*
 * "Sun, 06 Nov 1994 08:49:37 GMT", the one form that RFC 9110 lets a server
 * write. Rewritten as ISO 8601, so that there is one reader of dates.
 */
static bool
parse_http_date(const char *text, int64 *microseconds)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	char		iso[32];

	if (strlen(text) != 29 || strncmp(text + 3, ", ", 2) != 0 || text[7] != ' ' ||
		text[11] != ' ' || text[16] != ' ' || strcmp(text + 25, " GMT") != 0)
		return false;
	for (int month = 1; month <= 12; month++)
	{
		if (strncmp(text + 8, months + (month - 1) * 3, 3) == 0)
		{
			snprintf(iso, sizeof(iso), "%.4s-%02d-%.2sT%.8sZ",
					 text + 12, month, text + 5, text + 17);
			return cobot_parse_timestamp(iso, microseconds);
		}
	}
	return false;
}

int
cobot_parse_retry_after(const char *header, time_t now)
{
	size_t		digits = strspn(header, "0123456789");
	int64		microseconds;
	int64		wait_s = 0;

	if (digits > 0 && header[digits] == '\0')
	{
		for (size_t i = 0; i < digits && wait_s <= RETRY_AFTER_LIMIT_S; i++)
			wait_s = wait_s * 10 + (header[i] - '0');
	}
	else if (parse_http_date(header, &microseconds))
		wait_s = microseconds / INT64CONST(1000000) + SECONDS_1970_TO_2000 - (int64) now;
	else
		return -1;
	return (int) Max(0, Min(wait_s, RETRY_AFTER_LIMIT_S));
}
