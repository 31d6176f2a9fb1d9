/*
 * cobot_rate.c
 *	  Keeps this process below Cobot's rate limits. Runs in any process, also in one
 *	  without a server; waits for nothing.
 *
 * How Cobot counts a minute is not known (facts: assume a fixed one), so no minute
 * that begins at any moment may see more than the limit: the times of the last
 * requests are kept. A user who has not asked for a minute is forgotten.
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#include "common/logging.h"
#define keep_zeroed(size) palloc0(size)
#else
#include "postgres.h"
#include "utils/memutils.h"
#define keep_zeroed(size) MemoryContextAllocZero(TopMemoryContext, size)
#endif

#include <math.h>

#include "common/hashfn.h"

#include "cobot_rate.h"

#define MINUTE_MS 60000.0

/* So many users are remembered before those who have not asked for a minute are looked for. */
#define SWEEP_ABOVE 256

typedef struct RateKey
{
	uint64		user;			/* hash of the name: a collision only slows two down */
	CobotEndpoint endpoint;
} RateKey;

typedef struct Rate
{
	RateKey		key;
	char		status;			/* simplehash's */
	int			limit;			/* what a minute may see */
	int			last;			/* of the times, the latest; the one after it is the oldest */
	double	   *sent_ms;		/* a ring of limit requests */
} Rate;

#define SH_PREFIX rates
#define SH_ELEMENT_TYPE Rate
#define SH_KEY_TYPE RateKey
#define SH_KEY key
#define SH_HASH_KEY(table, key) ((uint32) (key).user + murmurhash32((uint32) (key).endpoint))
#define SH_EQUAL(table, a, b) ((a).user == (b).user && (a).endpoint == (b).endpoint)
#define SH_SCOPE static inline
#define SH_RAW_ALLOCATOR keep_zeroed
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

int			cobot_requests_per_minute = 54;
int			cobot_list_requests_per_minute = 5;

static rates_hash *rates = NULL;
static uint32 sweep_above = SWEEP_ABOVE;

static int
limit_of(CobotEndpoint endpoint)
{
	return endpoint == ENDPOINT_MEMBERSHIPS ? cobot_list_requests_per_minute : cobot_requests_per_minute;
}

static void
sweep(double now_ms)
{
	rates_iterator scan;
	Rate	   *rate;

	rates_start_iterate(rates, &scan);
	while ((rate = rates_iterate(rates, &scan)) != NULL)
	{
		if (rate->sent_ms[rate->last] > now_ms - MINUTE_MS)
			continue;
		pfree(rate->sent_ms);
		rates_delete_item(rates, rate);
	}
	sweep_above = Max(SWEEP_ABOVE, 2 * rates->members);
}

static Rate *
find_rate(const char *user, CobotEndpoint endpoint)
{
	RateKey		key = {
		.user = hash_bytes_extended((const unsigned char *) user, (int) strlen(user), 0),
		.endpoint = endpoint
	};
	int			limit = limit_of(endpoint);
	bool		found;
	Rate	   *rate = rates_lookup(rates, key);

	if (rate != NULL && rate->limit == limit)
		return rate;

	double	   *sent_ms = keep_zeroed(sizeof(double) * limit);

	for (int i = 0; i < limit; i++)
		sent_ms[i] = -INFINITY;
	rate = rates_insert(rates, key, &found);
	if (found)					/* the setting is another one now */
		pfree(rate->sent_ms);
	rate->limit = limit;
	rate->last = 0;
	rate->sent_ms = sent_ms;
	return rate;
}

static Rate *
open_rate(const char *user, CobotEndpoint endpoint, double now_ms)
{
	if (rates == NULL)
		rates = rates_create(SWEEP_ABOVE, NULL);
	if (rates->members > sweep_above)
		sweep(now_ms);
	return find_rate(user, endpoint);
}

static void
book(Rate *rate, double sent_ms)
{
	rate->last = (rate->last + 1) % rate->limit;
	rate->sent_ms[rate->last] = sent_ms;
}

double
cobot_rate_reserve(const char *user, CobotEndpoint endpoint, double now_ms)
{
	Rate	   *rate = open_rate(user, endpoint, now_ms);
	double		oldest_ms = rate->sent_ms[(rate->last + 1) % rate->limit];
	double		wait_ms = oldest_ms + MINUTE_MS - now_ms;

	if (wait_ms > 0)
		return wait_ms;
	book(rate, now_ms);
	return 0;
}

void
cobot_rate_note(const char *user, CobotEndpoint endpoint, double sent_ms)
{
	book(open_rate(user, endpoint, sent_ms), sent_ms);
}
