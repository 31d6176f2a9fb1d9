/*
 * sync_job.h
 *	  Synchronisations that the worker makes by itself.
 */
#ifndef SMARTSPACE_SYNC_JOB_H
#define SMARTSPACE_SYNC_JOB_H

#include "datatype/timestamp.h"

#include "job.h"

/*
 * Claims an integration that is due, in transactions of its own, and gives the job, whose
 * first step has not been made. NULL: none is due that can be had.
 */
extern Job *sync_job_next(void);

/* When the next one is due; DT_NOEND: never. In a transaction. */
extern TimestampTz sync_job_due(void);

/*
 * What is due so many seconds from now is due already, but by no more than a fifth of the
 * integration's interval: for a schedule whose next turn would be much too late.
 */
extern void sync_job_set_slack(int seconds);

/*
 * A worker comes up: what another one was at when it ended before its time is due at once.
 * (What another one is still at has its lock.) What was asked for lately counts for the
 * rate limits. In a transaction.
 */
extern void sync_job_recover(void);

/* The same two for members about whom webhooks came that nobody has seen to. */
extern Job *hint_job_next(void);
extern TimestampTz hint_job_due(void);

#endif
