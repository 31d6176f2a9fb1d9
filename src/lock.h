/*
 * lock.h
 *	  The heavyweight locks of this extension, all held to the end of the
 *	  transaction and all interruptible while waited for. They show in pg_locks
 *	  as locktype "object" with the class of one of our tables.
 *
 * Order, for whoever takes more than one:
 *	 1. row of cobot_integration
 *	 2. the tables that grants are computed from, to read them: TRUNCATE locks its
 *		table before any trigger of ours can take a lock, so the others must, too
 *		(the functions for 3 and 4 see to it)
 *	 3. identifiers
 *	 4. access of an integration, in ascending order of its id
 */
#ifndef SMARTSPACE_LOCK_H
#define SMARTSPACE_LOCK_H

#include "storage/lock.h"

/* One synchronisation of an integration at a time. False if another one is under way. */
extern bool lock_try_run(int64 integration);

/*
 * The same for as long as a job of the worker lasts, across its transactions: false if
 * somebody else has it. What lock_try_run() asks for within is granted then. A process
 * that dies gives it back, which is why no lease with a time is needed. *tag is for
 * lock_release(), which works without a transaction, and also when the table is gone.
 */
extern bool lock_try_run_job(int64 integration, LOCKTAG *tag);

/* The check-ins of one integration: whoever sends them, alone; in the same way. */
extern bool lock_try_delivery_job(int64 integration, LOCKTAG *tag);

extern void lock_release(const LOCKTAG *tag);

/*
 * External identifiers of user groups: exclusively by whoever changes them,
 * shared by whoever computes grants from them. Without it, of two transactions
 * that cannot see each other's rows yet, neither would make the grant.
 */
extern void lock_identifiers(bool exclusive);

/* The grants of one integration: whoever recomputes them, alone. */
extern void lock_access(int64 integration);

/*
 * The webhook subscriptions of one integration: whoever changes them at Cobot,
 * alone. Taken with none of the others, but for the row of cobot_integration before it.
 */
extern void lock_subscriptions(int64 integration);

/* The links in Cobot's navigation, in the same way. */
extern void lock_links(int64 integration);

#endif
