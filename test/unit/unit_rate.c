/*
 * unit_rate.c
 *	  What cobot_rate.h promises, on a simulated clock: no minute sees more requests
 *	  than allowed, whoever waits waits no longer than needed, nobody waits for others,
 *	  and who is gone takes no memory.
 */
#include "postgres_fe.h"

#include "common/pg_prng.h"

#include "cobot_rate.h"
#include "tap.h"

/* The address sanitizer's; gcc brings no header for it. */
extern size_t __sanitizer_get_current_allocated_bytes(void);

#define MINUTE_MS 60000

/* Cobot's own limits, and the least that must be left of them for us. */
#define MEMBERSHIPS_LIMIT 6
#define OTHERS_LIMIT 60
#define MEMBERSHIPS_LEAST 4
#define OTHERS_LEAST 50

#define USERS 4
#define ARRIVALS 400000
#define ENDPOINTS lengthof(endpoints)

static const CobotEndpoint endpoints[] = {ENDPOINT_MEMBERSHIPS, ENDPOINT_MEMBERSHIP, ENDPOINT_PLANS};

/* What one user has sent to one endpoint, all of it. */
typedef struct Sent
{
	double	   *at_ms;
	int			count;
} Sent;

/* Time only goes on, so that one test knows nothing of another's minutes. */
static double clock_ms = 1000;

static int
limit_of(CobotEndpoint endpoint)
{
	return endpoint == ENDPOINT_MEMBERSHIPS ? MEMBERSHIPS_LIMIT : OTHERS_LIMIT;
}

static int
least_of(CobotEndpoint endpoint)
{
	return endpoint == ENDPOINT_MEMBERSHIPS ? MEMBERSHIPS_LEAST : OTHERS_LEAST;
}

/* How many of the last ones a minute that ends at a moment has seen. */
static int
in_minute_before(const Sent *sent, double moment_ms)
{
	int			first = sent->count;

	while (first > 0 && sent->at_ms[first - 1] > moment_ms - MINUTE_MS)
		first--;
	return sent->count - first;
}

/* Now and then a burst, now and then silence, mostly something between. */
static double
next_pause_ms(pg_prng_state *random)
{
	switch (pg_prng_uint64_range(random, 0, 999))
	{
		case 0:
			return (double) pg_prng_uint64_range(random, 0, 3 * MINUTE_MS);
		case 1:
		case 2:
		case 3:
			return (double) pg_prng_uint64_range(random, 0, MINUTE_MS / 4);
		default:
			return (double) pg_prng_uint64_range(random, 0, 150);
	}
}

static void
test_random_arrivals(void)
{
	static Sent all[USERS][ENDPOINTS];
	pg_prng_state random;
	int			too_many = 0;
	int			too_early = 0;
	int			inexact = 0;
	int			refused = 0;
	int			most = 0;

	pg_prng_seed(&random, 20261124);
	for (int user = 0; user < USERS; user++)
		for (size_t i = 0; i < ENDPOINTS; i++)
			all[user][i].at_ms = malloc(sizeof(double) * ARRIVALS);

	for (int arrival = 0; arrival < ARRIVALS; arrival++)
	{
		char		name[16];
		int			user = (int) pg_prng_uint64_range(&random, 0, USERS - 1);
		size_t		which = (size_t) pg_prng_uint64_range(&random, 0, ENDPOINTS - 1);
		Sent	   *sent = &all[user][which];

		clock_ms += next_pause_ms(&random);
		snprintf(name, sizeof(name), "random %d", user);

		double		wait_ms = cobot_rate_reserve(name, endpoints[which], clock_ms);

		if (wait_ms > 0)
		{
			/* to refuse is right only if the minute is full; a while later it must still be, until exactly then */
			refused++;
			too_early += in_minute_before(sent, clock_ms) < least_of(endpoints[which]);
			if (wait_ms > 1)
				inexact += cobot_rate_reserve(name, endpoints[which], clock_ms + wait_ms - 1) != 1;
			clock_ms += wait_ms;
			if (cobot_rate_reserve(name, endpoints[which], clock_ms) != 0)
			{
				inexact++;
				continue;
			}
		}
		sent->at_ms[sent->count++] = clock_ms;

		int			seen = in_minute_before(sent, clock_ms);

		most = Max(most, seen * OTHERS_LIMIT / limit_of(endpoints[which]));
		too_many += seen > limit_of(endpoints[which]);
	}
	if (!ok(too_many == 0, "no minute sees more than Cobot's limit"))
		printf("# in %d cases\n", too_many);
	ok(most >= OTHERS_LEAST, "though the limit is nearly reached");
	if (!ok(too_early == 0, "nobody waits who is below"))
		printf("# in %d of %d cases\n", too_early, refused);
	ok(refused > 1000, "(many had to wait: %d)", refused);
	if (!ok(inexact == 0, "whoever waits may go exactly when it was said, and not before"))
		printf("# in %d of %d cases\n", inexact, refused);

	for (int user = 0; user < USERS; user++)
		for (size_t i = 0; i < ENDPOINTS; i++)
			free(all[user][i].at_ms);
}

/* Sends until it has to wait; gives back how many left. */
static int
fill(const char *user, CobotEndpoint endpoint)
{
	int			count = 0;

	while (count <= OTHERS_LIMIT && cobot_rate_reserve(user, endpoint, clock_ms) == 0)
		count++;
	return count;
}

static void
test_others_are_not_disturbed(void)
{
	int			disturbed = 0;

	clock_ms += 2 * MINUTE_MS;

	int			memberships = fill("busy", ENDPOINT_MEMBERSHIPS);

	ok(memberships >= MEMBERSHIPS_LEAST && memberships < MEMBERSHIPS_LIMIT,
	   "room is left below the limit for the list of members: %d", memberships);

	int			plans = fill("busy", ENDPOINT_PLANS);

	ok(plans >= OTHERS_LEAST && plans < OTHERS_LIMIT, "and below that of another endpoint: %d", plans);
	for (int endpoint = 0; endpoint < COBOT_ENDPOINT_COUNT; endpoint++)
		if (endpoint != ENDPOINT_MEMBERSHIPS && endpoint != ENDPOINT_PLANS)
			disturbed += fill("busy", (CobotEndpoint) endpoint) != plans;
	ok(disturbed == 0, "each endpoint has its own minute");
	ok(fill("idle", ENDPOINT_MEMBERSHIPS) == memberships && fill("idle", ENDPOINT_PLANS) == plans, "and each user");
	ok(fill("", ENDPOINT_PLANS) == plans, "also one without a name");
	clock_ms += MINUTE_MS - 1;
	ok(cobot_rate_reserve("busy", ENDPOINT_PLANS, clock_ms) == 1, "a burst is remembered for a minute");
	clock_ms += 1;
	ok(fill("busy", ENDPOINT_PLANS) == plans, "and no longer");
}

/* A thousand users who never come back, one request to each endpoint. */
static size_t
memory_after_a_crowd(int crowd)
{
	for (int user = 0; user < 1000; user++)
	{
		char		name[32];

		snprintf(name, sizeof(name), "crowd %d, user %d", crowd, user);
		for (int endpoint = 0; endpoint < COBOT_ENDPOINT_COUNT; endpoint++)
			cobot_rate_reserve(name, (CobotEndpoint) endpoint, clock_ms);
	}
	return __sanitizer_get_current_allocated_bytes();
}

static void
test_memory(void)
{
	size_t		most = 0;

	for (int crowd = 0; crowd < 5; crowd++, clock_ms += MINUTE_MS)
		most = Max(most, memory_after_a_crowd(crowd));
	size_t		later = 0;

	for (int crowd = 5; crowd < 50; crowd++, clock_ms += MINUTE_MS)
		later = Max(later, memory_after_a_crowd(crowd));
	if (!ok(later <= most + most / 4, "users who are gone take no memory"))
		printf("# %zu bytes at most, later %zu\n", most, later);

	/* the last minute's crowd makes room for the next one's, three quarters of a minute later */
	int			limit = fill("still there", ENDPOINT_PLANS);

	clock_ms += MINUTE_MS * 3 / 4;
	for (int crowd = 50; crowd < 55; crowd++)
		memory_after_a_crowd(crowd);
	ok(cobot_rate_reserve("still there", ENDPOINT_PLANS, clock_ms) == MINUTE_MS / 4, "while those who are not are remembered");
	clock_ms += MINUTE_MS / 4;
	ok(fill("still there", ENDPOINT_PLANS) == limit, "for as long as they have to be");
}

int
main(void)
{
	test_random_arrivals();
	test_others_are_not_disturbed();
	test_memory();
	return done_testing();
}
