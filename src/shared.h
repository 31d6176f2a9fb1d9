/*
 * shared.h
 *	  What the processes of the cluster share when smartspace_cobot is in
 *	  shared_preload_libraries: which databases have work and when, who works on them, and
 *	  how far synchronisations are. Otherwise shared is NULL. No pointers of one process
 *	  in here, and nothing that cannot be lost in a crash.
 *
 * Every access takes shared_lock(), holds it for some assignments, and never waits meanwhile.
 */
#ifndef SMARTSPACE_SHARED_H
#define SMARTSPACE_SHARED_H

#include "datatype/timestamp.h"
#include "storage/lwlock.h"

#define SHARED_DATABASE_LIMIT 64
#define SHARED_PROGRESS_LIMIT 1024

typedef struct SharedDatabase
{
	char		name[NAMEDATALEN];	/* as in smartspace_cobot.databases */
	int			worker_pid;		/* 0: none */
	int			worker_procno;	/* whose latch wakes it */
	bool		woken;			/* somebody queued work since the worker looked last */
	bool		started;		/* a worker, whose end the launcher has not seen yet */
	bool		failed;			/* the last worker did not come to its end */
	int			failures;		/* in a row */
	char		refused_version[16];	/* of the extension, about which a worker has complained */
	TimestampTz next_due;		/* when there is something to do again; DT_NOEND: nothing is known */
} SharedDatabase;

/* How far a synchronisation is. */
typedef struct SharedProgress
{
	int			pid;			/* 0: free */
	Oid			database;
	int64		integration;
	int			phase;			/* ProgressPhase */
	int			members;
	int			requests;
	TimestampTz started_at;
} SharedProgress;

typedef struct Shared
{
	LWLock	   *lock;
	int			launcher_pid;	/* 0: none */
	int			launcher_procno;
	int			database_count;
	SharedDatabase database[SHARED_DATABASE_LIMIT];
	SharedProgress progress[SHARED_PROGRESS_LIMIT];
} Shared;

extern Shared *shared;

/* Asks for the memory; from _PG_init() while shared_preload_libraries are loaded. */
extern void shared_request(void);

extern void shared_lock(void);
extern void shared_unlock(void);

/* Sets the latch of a process by its number in ProcGlobal. A wrong one only wakes somebody for nothing. */
extern void shared_wake(int procno);

#endif
