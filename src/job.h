/*
 * job.h
 *	  What the background worker works on: many jobs at a time, each of which goes
 *	  from step to step as answers of Cobot arrive. Between two steps no transaction
 *	  is open.
 *
 * A job belongs to one integration. Whoever finds that there is something to do
 * (sync_job_next(), checkin_job_next()) claims it and makes the job. Each step may run
 * transactions (job_begin(), job_commit()), and leaves either calls to Cobot that have
 * not been started, or none, which ends the job. The worker starts the calls, waits for
 * all of them beside those of all other jobs, and makes the next step. A new job that has
 * no calls yet begins with a step.
 *
 * A step that throws ends its job alone: the worker aborts the transaction, logs the
 * error, and calls failed() in a new one.
 */
#ifndef SMARTSPACE_JOB_H
#define SMARTSPACE_JOB_H

#include "cobot_client.h"
#include "datatype/timestamp.h"
#include "integration.h"
#include "lib/ilist.h"

typedef struct Job Job;

struct Job
{
	MemoryContext context;		/* of the job: calls, answers and everything else of it live here */
	const char *doing;			/* for messages: "synchronisation", "delivery of check-ins" */
	int64		integration;
	CobotClient client;
	CobotCall **calls;			/* under way, or to be started */
	int			call_count;
	bool		urgent;			/* before all others */

	/* All calls have settled. Leaves new calls, or none: then the job is over. No transaction is open. */
	void		(*step) (Job *job);

	/*
	 * A step threw: write down what there is to say. In a transaction of its own, which the
	 * worker begins and commits. error is in words.
	 */
	void		(*failed) (Job *job, const char *error);

	/* Releases locks of the session. Always called, at last, and must not throw. */
	void		(*ended) (Job *job);

	void	   *data;			/* the job's own */
	TimestampTz began_at;		/* the worker's */
	dlist_node	node;			/* likewise */
};

/* A job in a memory context of its own below TopMemoryContext. */
extern Job *job_create(const char *doing, int64 integration);

/*
 * A transaction with a snapshot and a connection to SPI, in which the current user is the
 * owner of the extension's tables, and whatever runs is restricted as in an index build.
 * False, with nothing begun, if the extension is not (or no longer) in this database, or
 * is of a version that the library does not serve (version.h): then there is nothing to do
 * here. It cannot be dropped or updated before job_commit().
 * The current memory context is the transaction's, as usual: what shall live longer goes
 * into job->context.
 */
extern bool job_begin(void);
extern void job_commit(void);

#endif
