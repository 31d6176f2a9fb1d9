/*
 * access.h
 *	  Grants: what the statement triggers did so far in this process. See
 *	  access.c for how grants are computed.
 */
#ifndef SMARTSPACE_ACCESS_H
#define SMARTSPACE_ACCESS_H

typedef struct AccessCounts
{
	int64		given;
	int64		changed;
	int64		taken;
} AccessCounts;

/*
 * Grants given, changed and taken by this process since it started, including
 * those of transactions that were rolled back: take the difference around the
 * statements of interest.
 */
extern AccessCounts access_counts(void);

/*
 * The run that the grants to come are made for, 0 for none. Whoever sets it
 * takes it back, also after an error.
 */
extern void access_set_run(int64 run_id);

#endif
