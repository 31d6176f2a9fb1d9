/*
 * cobot_rate.h
 *	  Keeps this process below Cobot's rate limits (facts: 60 requests a minute for
 *	  each endpoint and user, 6 for the list of members). A user may stand behind
 *	  many integrations, which then share these. What other processes and programs send
 *	  is known only if somebody tells; a little room is left for them.
 */
#ifndef SMARTSPACE_COBOT_RATE_H
#define SMARTSPACE_COBOT_RATE_H

/* What Cobot counts requests by. */
typedef enum CobotEndpoint
{
	ENDPOINT_SPACE,
	ENDPOINT_USER,
	ENDPOINT_TOKEN,
	ENDPOINT_PLANS,
	ENDPOINT_MEMBERSHIPS,
	ENDPOINT_MEMBERSHIP,
	ENDPOINT_MEMBER_FIELDS,
	ENDPOINT_CUSTOM_FIELDS,
	ENDPOINT_FIELD_DEFINITIONS,
	ENDPOINT_SUBSCRIPTIONS,
	ENDPOINT_NAVIGATION_LINKS,
	ENDPOINT_CHECK_INS,
	ENDPOINT_WORK_SESSIONS
} CobotEndpoint;

#define COBOT_ENDPOINT_COUNT (ENDPOINT_WORK_SESSIONS + 1)

/*
 * What any minute may see, for each user and endpoint: settings, by default below what
 * Cobot allows, because somebody may synchronise by hand meanwhile.
 */
extern int	cobot_requests_per_minute;
extern int	cobot_list_requests_per_minute;

/*
 * May a request of this user leave now? 0: yes, and it is booked. Otherwise how many
 * milliseconds later to ask again; nothing is booked then. now_ms is the process's own
 * monotonic clock. Throws for out of memory only.
 */
extern double cobot_rate_reserve(const char *user, CobotEndpoint endpoint, double now_ms);

/* A request that somebody else sent then, by the same clock. Older ones first. */
extern void cobot_rate_note(const char *user, CobotEndpoint endpoint, double sent_ms);

#endif
