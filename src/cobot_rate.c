/*
 * cobot_rate.c
 *	  Keeps this process below Cobot's rate limits. Runs in any backend or background
 *	  worker; waits for nothing.
 *
 * How Cobot counts a minute is not known (facts: assume a fixed one), so no minute
 * that begins at any moment may see more than the limit: the times of the last
 * requests are kept. A user who has not asked for a minute is forgotten.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "cobot_rate.h"

#define MINUTE_MS 60000.0

/* Below 6 and 60, so that somebody can synchronise by hand meanwhile. */
#define MEMBERSHIPS_A_MINUTE 5
#define OTHERS_A_MINUTE 54

/* So many users are remembered before those who have not asked for a minute are looked for. */
#define SWEEP_ABOVE 256

typedef struct RateKey
{
	uint64		user;			/* hash of the name: a collision only slows two down */
	uint32		endpoint;
} RateKey;

typedef struct Rate
{
	RateKey		key;
	int			count;			/* of the times, oldest first */
	int			capacity;
	double	   *sent_ms;
} Rate;

static HTAB *rates = NULL;
static long sweep_above = SWEEP_ABOVE;

static int
limit_of(CobotEndpoint endpoint)
{
	return endpoint == ENDPOINT_MEMBERSHIPS ? MEMBERSHIPS_A_MINUTE : OTHERS_A_MINUTE;
}

static void
open_rates(void)
{
	HASHCTL		control = {
		.keysize = sizeof(RateKey), .entrysize = sizeof(Rate), .hcxt = TopMemoryContext
	};

	if (rates == NULL)
		rates = hash_create("smartspace_cobot rates", SWEEP_ABOVE, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Forgets requests that no minute counts any more. */
static void
drop_old(Rate *rate, double now_ms)
{
	int			old = 0;

	while (old < rate->count && rate->sent_ms[old] <= now_ms - MINUTE_MS)
		old++;
	rate->count -= old;
	memmove(rate->sent_ms, rate->sent_ms + old, sizeof(double) * rate->count);
}

static void
sweep(double now_ms)
{
	HASH_SEQ_STATUS scan;
	Rate	   *rate;

	hash_seq_init(&scan, rates);
	while ((rate = hash_seq_search(&scan)) != NULL)
	{
		drop_old(rate, now_ms);
		if (rate->count > 0)
			continue;
		pfree(rate->sent_ms);
		hash_search(rates, &rate->key, HASH_REMOVE, NULL);
	}
	sweep_above = Max(SWEEP_ABOVE, 2 * hash_get_num_entries(rates));
}

static Rate *
find_rate(const char *user, CobotEndpoint endpoint)
{
	RateKey		key;
	bool		found;
	Rate	   *rate;

	/* the key is hashed as bytes, so its padding counts */
	memset(&key, 0, sizeof(key));
	key.user = DatumGetUInt64(hash_any_extended((const unsigned char *) user, (int) strlen(user), 0));
	key.endpoint = (uint32) endpoint;
	rate = hash_search(rates, &key, HASH_FIND, NULL);
	if (rate)
		return rate;

	double	   *sent_ms = MemoryContextAlloc(TopMemoryContext, sizeof(double));

	rate = hash_search(rates, &key, HASH_ENTER, &found);
	rate->count = 0;
	rate->capacity = 1;
	rate->sent_ms = sent_ms;
	return rate;
}

double
cobot_rate_reserve(const char *user, CobotEndpoint endpoint, double now_ms)
{
	int			limit = limit_of(endpoint);

	open_rates();
	if (hash_get_num_entries(rates) > sweep_above)
		sweep(now_ms);

	Rate	   *rate = find_rate(user, endpoint);

	drop_old(rate, now_ms);
	if (rate->count >= limit)
		return rate->sent_ms[rate->count - limit] + MINUTE_MS - now_ms;
	if (rate->count == rate->capacity)
	{
		rate->sent_ms = repalloc(rate->sent_ms, sizeof(double) * rate->capacity * 2);
		rate->capacity *= 2;
	}
	rate->sent_ms[rate->count++] = now_ms;
	return 0;
}
