/*
 * backoff.c
 *	  How long to wait after failures in a row. Runs in any process.
 */
#include "postgres.h"

#include "common/pg_prng.h"

#include "backoff.h"

#define JITTER 0.25

double
backoff_delay(double first, double limit, int failures)
{
	double		delay = first;

	for (int i = 1; i < failures && delay < limit; i++)
		delay *= 2;
	delay = Min(delay, limit) * (1 - JITTER + 2 * JITTER * pg_prng_double(&pg_global_prng_state));
	return Min(delay, limit);
}
