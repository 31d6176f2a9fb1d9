/*
 * rate.c
 *	  Cobot's rate limits, counted in fixed minutes.
 */
#include "rate.h"

#include <stdint.h>
#include <stdlib.h>

#include "clock.h"
#include "map.h"
#include "text.h"

#define WINDOW_S 60

static Map	counts;				/* "user endpoint" -> number of calls, as a pointer */
static int64_t window = -1;

void
rate_clear(void)
{
	map_clear(&counts);
}

int
rate_check(const char *user, const char *endpoint, int per_minute)
{
	int64_t		now = (int64_t) clock_now();
	char	   *key;
	intptr_t	calls;

	if (now / WINDOW_S != window)
	{
		rate_clear();
		window = now / WINDOW_S;
	}
	key = text_printf("%s %s", user != NULL ? user : "", endpoint);
	calls = (intptr_t) map_get(&counts, key) + 1;
	map_set(&counts, key, (void *) calls);
	free(key);
	return calls > per_minute ? (int) (WINDOW_S - now % WINDOW_S) : 0;
}
