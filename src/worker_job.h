/*
 * worker_job.h
 *	  The jobs that the worker has under way: where they come from, and how they are
 *	  brought forward. For worker.c alone, which does the waiting.
 */
#ifndef SMARTSPACE_WORKER_JOB_H
#define SMARTSPACE_WORKER_JOB_H

#include "datatype/timestamp.h"

/* Before everything else. The context is the worker's own, which it resets now and then. */
extern void worker_job_init(MemoryContext round, bool only_deliveries);

/* Whatever was done by now may have made more: everything is looked at again. */
extern void worker_job_look_everywhere(void);

/* A turn begins: see TURN_MS. Brings jobs forward; those that end may have made more to do. */
extern void worker_job_advance(void);

/* Begins what is due, as far as there is room. False: the extension is not here. */
extern bool worker_job_find_work(void);

/* Nothing is lost: what is under way is claimed again, and check-ins are looked up before they are sent. */
extern void worker_job_give_up_all(void);

extern int	worker_job_count(void);

/* When there is something to begin; DT_NOEND: nothing that is known. */
extern TimestampTz worker_job_next_due(void);

/* How long to wait at most before the jobs want to be brought forward; -1: until an answer comes. */
extern long worker_job_wait_ms(void);

#endif
