/*
 * checkin.h
 *	  Check-ins at Cobot: the outbox cobot_checkin, filled by the trigger on entries
 *	  (entry.c) and by cobot_checkin(), and emptied by the worker.
 */
#ifndef SMARTSPACE_CHECKIN_H
#define SMARTSPACE_CHECKIN_H

#include "job.h"

/*
 * The delivery of one integration's check-ins that are due, or NULL. Has transactions of
 * its own. An integration that somebody else delivers for is left alone.
 */
extern Job *checkin_job_next(void);

/*
 * When to look again; DT_NOEND if nothing is open. To be asked after checkin_job_next()
 * gave NULL, in a transaction of job_begin(): what is due already waits for somebody
 * else's delivery, and that is looked at again soon.
 */
extern TimestampTz checkin_next_due(void);

/*
 * Queues a check-in on behalf of a role, or finds the one that is current or under way,
 * as cobot_checkin() does; building 0: none. The caller has connected to SPI; the row is in
 * SPI_tuptable then. Throws 42704 for an unknown member or building.
 */
extern void checkin_request(int64 member, int64 building, Oid role);

#endif
