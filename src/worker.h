/*
 * worker.h
 *	  The background worker: one process for each database in which there is something
 *	  to do, started by the launcher (smartspace_cobot in shared_preload_libraries), or
 *	  for one round by a function that somebody calls (without).
 */
#ifndef SMARTSPACE_WORKER_H
#define SMARTSPACE_WORKER_H

#include "postmaster/bgworker.h"

typedef enum WorkerTask
{
	WORKER_LAUNCHED,			/* what is due; stays some seconds; reports to the launcher */
	WORKER_RUN_DUE,				/* what is due, once */
	WORKER_DELIVER				/* check-ins alone, once */
} WorkerTask;

/* What a worker is told in bgw_extra. */
typedef struct WorkerOrder
{
	WorkerTask	task;
	Oid			database;		/* or InvalidOid: by name */
	char		name[NAMEDATALEN];
	int64		checkin_member; /* WORKER_DELIVER: check this membership in first; 0: nobody */
	int64		checkin_building;	/* 0: none */
	Oid			requested_by;	/* role */
} WorkerOrder;

/* Fills in what the postmaster has to know of a worker with this order. */
extern void worker_describe(BackgroundWorker *worker, const WorkerOrder *order);

/*
 * Lets a worker of its own do one round in the present database and waits for its end,
 * for at most wait_ms (-1: as long as it takes). It sees what is committed, as any other
 * session. False: it is still at it, and goes on. Throws 53000 if the server has no free
 * worker process. Interruptible; a cancel ends the worker, too.
 */
extern bool worker_run_once(WorkerOrder *order, long wait_ms);

/* For job.c, in the worker: says that it does nothing with this version; of the launcher's workers in a database only one. */
extern void worker_refuse_version(const char *version);

#endif
