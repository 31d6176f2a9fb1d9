/*
 * sync.h
 *	  One run: fetch, compare, verify, apply. Shared by the sync_*.c files;
 *	  nobody else needs more than the SQL function.
 *
 *	sync.c			the run as a whole: lock, order of steps, result, warning
 *	sync_fetch.c	asks Cobot and yields a snapshot, or says why there is none
 *	sync_compare.c	what differs from the mirror, as rows; what vanished
 *	sync_apply.c	writes the rows that differ
 *	sync_rows.c		Cobot's records as relations that SQL can use
 */
#ifndef SMARTSPACE_SYNC_H
#define SMARTSPACE_SYNC_H

#include "portability/instr_time.h"
#include "utils/timestamp.h"

#include "cobot_client.h"
#include "integration.h"
#include "space.h"
#include "sync_rows.h"

/* Vanished memberships asked for by id in one run; the next run goes on. Keeps well below 60 requests a minute. */
#define SYNC_VERIFY_LIMIT 40

typedef struct SyncRun
{
	int64		id;				/* of its row in cobot_sync_run */
	Integration integration;
	CobotClient client;
	MemoryContext context;		/* of the run; answers live here */
	bool		reread;			/* compare also what came unchanged */
	TimestampTz started_at;
	instr_time	apply_started;
	double		fetch_ms;
	double		apply_ms;

	/* the outcome, in the vocabularies of cobot_sync_run */
	const char *result;
	const char *reason;
	char	   *message;
	char	   *detail;			/* for the WARNING; may be NULL */
	const char *hint;

	int			members_seen;
	int			members_added;
	int			members_changed;
	int			members_removed;
} SyncRun;

/* Everything Cobot said in one run: complete and well-formed, or not there at all. */
typedef struct SyncSnapshot
{
	Space		space;
	const JsonArray *plans;
	const JsonArray *members;
	const JsonArray *field_values;	/* NULL: not asked for, or not usable */
	const char *field_id;		/* Cobot's id of our custom field; NULL without field_values */
	bool		fields_of_nobody;	/* field_values has records that do not say whose they are */
} SyncSnapshot;

/* A membership of the mirror that Cobot's list does not have any more. */
typedef struct SyncVanished
{
	int64		id;				/* our own */
	char	   *cobot_id;
} SyncVanished;

/* What a run wants to do. */
typedef struct SyncPlan
{
	SyncRows   *plans;			/* all of Cobot's list */
	SyncRows   *members;		/* new, changed, or asked for by id */
	SyncRows   *problems;
	SyncVanished *vanished;
	int			vanished_count;
	int64	   *departed;		/* our ids of memberships that Cobot deleted */
	int			departed_count;
} SyncPlan;

/* Sets the outcome of a run that a failed call decides. Always returns false. */
extern bool sync_fail(SyncRun *run, const CobotCall *call);

/* Sets the outcome of a run that something else decides. Always returns false. */
extern bool sync_stop(SyncRun *run, const char *result, const char *reason, const char *hint,
					  const char *message,...) __attribute__((format(printf, 5, 6)));

/* False: nothing to work with, and the run says why. */
extern bool sync_fetch(SyncRun *run, SyncSnapshot *snapshot, SyncPlan *plan);

extern void sync_plan_init(SyncRun *run, SyncPlan *plan);
extern void sync_plan_free(SyncPlan *plan);
extern void sync_plan_problem(SyncPlan *plan, const char *problem, const char *record,
							  const char *cobot_id, const char *detail);

/*
 * Compares the snapshot with the mirror and fills the plan. False if the
 * snapshot cannot be true (empty where there were rows, broken records).
 */
extern bool sync_compare(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan);

/*
 * Asks for each vanished membership by id. Those that Cobot deleted or ended
 * are planned as departed; the others stay, and the run is marked incomplete.
 */
extern void sync_verify_vanished(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan);

/* Writes what differs. */
extern void sync_apply(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan);

#endif
