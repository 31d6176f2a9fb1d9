/*
 * backoff.h
 *	  How long to wait after failures in a row.
 */
#ifndef SMARTSPACE_BACKOFF_H
#define SMARTSPACE_BACKOFF_H

/*
 * The delay after so many failures (1 or more): the first one, doubled with each further
 * failure, a quarter more or less by chance, so that what failed together does not come
 * back together, and never above the limit. In whatever unit first and limit have.
 */
extern double backoff_delay(double first, double limit, int failures);

#endif
