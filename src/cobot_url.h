/*
 * cobot_url.h
 *	  The parts of the Cobot client that only handle text: subdomains, URLs,
 *	  Retry-After. Server-free like json.h.
 */
#ifndef SMARTSPACE_COBOT_URL_H
#define SMARTSPACE_COBOT_URL_H

#include <time.h>

/*
 * NULL if the text is a subdomain that Cobot could have given to a space
 * (lower-case letters, digits, dash; at most 63; no dash at the ends; not www or
 * api), else what is wrong with it in words ("contains a character other than
 * a-z, 0-9 and -").
 */
extern const char *cobot_check_subdomain(const char *subdomain);

/* Room for the encoded form of a text, its NUL included. */
#define COBOT_PERCENT_ENCODED_SIZE(text) (strlen(text) * 3 + 1)

/* Writes text as one segment of a URL's path into encoded, NUL-terminated. */
extern void cobot_percent_encode(char *encoded, const char *text);

/*
 * An URL of a space, palloc'd. Each asterisk of path stands for one of the texts, as one
 * segment or value; NULL for those that it has no asterisk for. The subdomain has been
 * checked.
 */
extern char *cobot_url(const char *subdomain, const char *path, const char *first, const char *second);

/* Retry-After: seconds, or an HTTP date, which is compared with now. -1 if neither; capped at 86400. */
extern int	cobot_parse_retry_after(const char *header, time_t now);

#endif
