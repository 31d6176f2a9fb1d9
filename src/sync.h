/*
 * sync.h
 *	  One run: fetch, compare, verify, plan, guard, apply. Shared by the sync_*.c
 *	  files; nobody else needs more than the SQL functions and sync_member.h.
 *
 *	sync.c			the run as a whole: lock, order of steps; cobot_sync, cobot_preview
 *	sync_question.c	what it asks Cobot, and how it goes without waiting
 *	sync_fetch.c	yields a snapshot from the answers, or says why there is none
 *	sync_ingest.c	the same from what an outside fetcher brought; cobot_ingest
 *	sync_member.c	the same for one member; cobot_sync_member
 *	sync_read.c		from records in JSON to rows
 *	sync_compare.c	what differs from the mirror, as rows; what vanished
 *	sync_verify.c	evidence: asks by id for who or what is missing in a list
 *	sync_carry.c	tries the changes out, lets the guard decide, keeps the rest
 *	sync_guard.c	which removals are held; release and discard
 *	sync_apply.c	writes the rows that differ
 *	sync_record.c	the row of the run and those of its changes; words and warnings
 *	sync_rows.c		Cobot's records as relations that SQL can use
 */
#ifndef SMARTSPACE_SYNC_H
#define SMARTSPACE_SYNC_H

#include "fmgr.h"
#include "nodes/execnodes.h"
#include "portability/instr_time.h"
#include "utils/timestamp.h"

#include "access.h"
#include "cobot_client.h"
#include "integration.h"
#include "progress.h"
#include "space.h"
#include "sync_rows.h"

/* Records asked for by id in one run; the next run goes on. Keeps well below 60 requests a minute. */
#define SYNC_VERIFY_LIMIT 40

/* SQL: the membership has access, or will have, by its own dates in a time zone. */
#define SYNC_IS_LIVE(MEMBERSHIP, ZONE) \
	"COALESCE(pg_catalog.upper(smartspace.cobot_access_range(" MEMBERSHIP ".confirmed_at, " MEMBERSHIP ".starts_at, " \
	MEMBERSHIP ".canceled_to, " ZONE ")) > pg_catalog.now(), " \
	MEMBERSHIP ".confirmed_at IS NOT NULL AND " MEMBERSHIP ".canceled_to IS NULL)"

typedef enum SyncKind
{
	SYNC_WHOLE,
	SYNC_RELEASE,
	SYNC_MEMBER,
	SYNC_INGEST
} SyncKind;

typedef struct SyncRun SyncRun;
typedef struct SyncSnapshot SyncSnapshot;
typedef struct SyncPlan SyncPlan;
typedef struct SyncMissing SyncMissing;
typedef struct SyncAnswer SyncAnswer;

/* What a run can ask Cobot. */
typedef enum SyncQuestionKind
{
	SYNC_ASK_MEMBERSHIPS,		/* this and the next four make up a snapshot */
	SYNC_ASK_PLANS,
	SYNC_ASK_SPACE,
	SYNC_ASK_FIELD_DEFINITIONS,
	SYNC_ASK_CUSTOM_FIELDS,
	SYNC_ASK_MEMBER_EMAILS,
	SYNC_ASK_MEMBERSHIP,		/* with Cobot's id of one */
	SYNC_ASK_MEMBER_FIELDS,		/* likewise */
	SYNC_ASK_NOTHING			/* was asked anew */
} SyncQuestionKind;

#define SYNC_SNAPSHOT_QUESTIONS (SYNC_ASK_CUSTOM_FIELDS + 1)

/* The questions of a run and their answers, which outlive the transactions that it is begun in. */
typedef struct SyncQuestions
{
	MemoryContext context;		/* questions and answers live here */
	CobotClient client;
	int64		seed;			/* for what a run chooses by chance: the same each time it is begun */
	char	   *etag[SYNC_SNAPSHOT_QUESTIONS];	/* of the answers that the mirror is made of; NULL: not known */
	SyncQuestionKind *kind;
	char	  **cobot_id;
	CobotCall **call;
	int			count;
	int			limit;
	int			answered;		/* those before this place have been */
} SyncQuestions;

/*
 * Where a run's records come from: Cobot, or somebody who asked Cobot. These functions
 * answer from what is known; what is not is asked with sync_ask(), and then their
 * result does not matter, because the run is begun anew.
 */
typedef struct SyncSource
{
	/* Fills the snapshot. False: nothing to work with, and the run says why. */
	bool		(*fetch) (SyncRun *run, SyncSnapshot *snapshot, SyncPlan *plan);

	/* Answers for members that a list lacks, in the run's context; those left SYNC_NOT_ASKED are for the next run. */
	void		(*ask_members) (SyncRun *run, const SyncMissing *missing, int count, SyncAnswer *answers);

	/* The same for custom fields of members whom the list of values lacks. */
	void		(*ask_fields) (SyncRun *run, const SyncMissing *missing, int count, SyncAnswer *answers);
} SyncSource;

struct SyncRun
{
	int64		id;				/* of its row in cobot_sync_run; 0 for a preview */
	SyncKind	kind;
	const SyncSource *source;
	void	   *source_data;	/* the source's own */
	int64		releases;		/* SYNC_RELEASE: the run whose held removals shall go through */
	bool		preview;		/* change nothing */
	bool		reread;			/* compare also what came unchanged */
	const char *run_by;			/* NULL: the session's user */
	Integration integration;
	SyncQuestions *questions;	/* NULL: a run that asks nobody */
	MemoryContext context;		/* of the run */
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
	int			retry_after_s;	/* Cobot asks to wait so long; -1: it does not */
	bool		covers_all;		/* the snapshot was of all members */
	bool		takes_nothing;	/* the answer contradicts itself: no removal in this run */
	bool		unchanged;		/* Cobot says that nothing has changed since the run that the etags are of */

	int			members_seen;
	int			plans_seen;
	int			fields_seen;
	int			members_added;
	int			members_changed;
	int			members_changed_plan;
	int			members_removed;
	int			removals_held;
	int64		problems;
	AccessCounts grants;

	struct SyncRelease *released;	/* what somebody let through; see sync_is_released() */
	int			released_count; /* -1: not looked up yet */
};

/* Everything that was said in one run: complete and well-formed, or not there at all. */
struct SyncSnapshot
{
	bool		partial;		/* says nothing about members that are not in it */
	bool		has_space;
	Space		space;
	const JsonArray *plans;		/* NULL: not asked for */
	const JsonArray *members;
	const JsonArray *field_values;	/* NULL: not asked for, or not usable */
	const char *field_id;		/* Cobot's id of our custom field; NULL: it is found by its label */
	bool		field_gone;		/* the space has no such field any more */
	bool		fields_of_nobody;	/* field_values has records that do not say whose they are */
};

/* A member of the mirror whom a list lacks, or one to ask for. */
struct SyncMissing
{
	char	   *cobot_id;
	bool		live;			/* has, or will have, access but for this */
	bool		is_over;		/* the last day, which Cobot told, is over */
	const JsonElement *record;	/* of the fieldless: in the list of members, with the hash of all that is known */
	uint64		hash;
};

typedef enum SyncAnswerKind
{
	SYNC_NOT_ASKED,
	SYNC_DELETED,				/* Cobot does not know it: 404 */
	SYNC_TOLD,
	SYNC_FAILED
} SyncAnswerKind;

struct SyncAnswer
{
	SyncAnswerKind kind;
	JsonElement told;			/* SYNC_TOLD: the record asked for */
	JsonElement fields;			/* SYNC_TOLD: the member's custom fields; text NULL: not known */
	const CobotCall *failure;	/* SYNC_FAILED */
};

typedef enum SyncVerdict
{
	SYNC_APPLIED,
	SYNC_HELD,
	SYNC_REJECTED,
	SYNC_RELEASED				/* somebody lets it go through, and evidence is still missing */
} SyncVerdict;

/* One row of cobot_sync_change to be. */
typedef struct SyncChange
{
	const char *record;			/* "membership", "plan", "space", "custom field" */
	const char *cobot_id;
	const char *member;			/* name, for a preview; may be NULL */
	const char *what;
	Datum		before;			/* jsonb, or 0 */
	Datum		after;
	Datum		gained;			/* bigint[], or 0 */
	Datum		lost;
	int			ordinal;		/* of its row in incoming_member or incoming_departed; -1: none */
	bool		is_removal;
	bool		released;		/* somebody let it through */
	bool		field_gone;		/* because the space has no such custom field any more */
	SyncVerdict verdict;
	const char *reason;
	char	   *detail;
} SyncChange;

/* What a run wants to do. */
struct SyncPlan
{
	SyncRows   *plans;			/* incoming_plan: all of the list */
	SyncRows   *members;		/* incoming_member: new, changed, or asked for by id */
	SyncRows   *departed;		/* incoming_departed: Cobot deleted them */
	SyncRows   *problems;		/* incoming_problem */
	int			ordinals;		/* given to rows of members and departed so far */

	SyncMissing *vanished;		/* in the mirror and not in the list */
	int			vanished_count;
	SyncMissing *fieldless;		/* in the list, with values before and no record of them now */
	int			fieldless_count;
	int			waiting;		/* of both, not asked for in this run */

	SyncChange *change;
	int			change_count;
	int			change_limit;
};

/* ---- sync.c ---- */

/* Sets the outcome of a run that a failed call decides. Always returns false. */
extern bool sync_fail(SyncRun *run, const CobotCall *call);

/* Sets the outcome of a run that something else decides. Always returns false. */
extern bool sync_stop(SyncRun *run, const char *result, const char *reason, const char *hint,
					  const char *message,...) __attribute__((format(printf, 5, 6)));

/*
 * Makes a run of an integration, whose kind and source are set: loads the
 * integration, takes its lock, and leaves a row in cobot_sync_run, which is
 * returned as a composite datum in the upper context of the caller's SPI
 * connection. With preview set it fills that set instead, changes nothing, and
 * returns 0. Waits for Cobot. Throws for misuse; whatever else goes wrong is a WARNING.
 */
extern Datum sync_run_integration(SyncRun *run, int64 integration, bool is_null, ReturnSetInfo *preview);

/*
 * The same without waiting: begins a run, for which also the integration has been
 * loaded, the client opened, and started_at set. False: there are open questions now,
 * and nothing was written; have them answered and call it again, with a fresh run that
 * has the same questions.
 */
extern bool sync_try_run(SyncRun *run, ReturnSetInfo *preview, Datum *result);

/* ---- sync_question.c ---- */

/* Whoever calls it opens the client. */
extern void sync_questions_init(SyncQuestions *questions, MemoryContext context);

/*
 * The answer to a question of the run, settled; NULL if it is not known yet: the
 * question is noted down. cobot_id is for the questions about one member.
 */
extern CobotCall *sync_ask(SyncRun *run, SyncQuestionKind kind, const char *cobot_id);

/* Asks again for the whole answer, where Cobot said that it has not changed. */
extern void sync_ask_whole(SyncRun *run, SyncQuestionKind kind);

/* For what a run chooses by chance: another one for each run. */
extern int64 sync_seed(const SyncRun *run);

extern bool sync_questions_open(const SyncQuestions *questions);

/* The open ones, of which the caller promises that they will have settled when the run is begun again. */
extern CobotCall **sync_questions_take(SyncQuestions *questions, int *count);

/* ---- sync_fetch.c ---- */

extern const SyncSource sync_from_cobot;

/* Shared with the other sources. */
extern bool sync_take_space(SyncRun *run, SyncSnapshot *snapshot, SyncPlan *plan, const cJSON *tree);
extern void sync_take_values(SyncSnapshot *snapshot, SyncPlan *plan, const JsonArray *values);

/* The body of a call that ended well, as the record of somebody. */
extern JsonElement sync_told_by(const CobotCall *call);

/* ---- sync_read.c ---- */

/* An element of a list, findable by its id. */
typedef struct SyncIdEntry
{
	const char *id;
	int			place;			/* in the list */
} SyncIdEntry;

typedef struct SyncIdIndex
{
	SyncIdEntry *entry;			/* in order of id */
	int			count;
} SyncIdIndex;

extern SyncIdIndex sync_index_by_id(const JsonArray *array);
extern const SyncIdEntry *sync_find_entry(const SyncIdIndex *index, const char *id);

/* The ids as text[], in the current context. */
extern Datum sync_ids_of(const JsonArray *array);

/* True if the entry's id stands in the list more than once. */
extern bool sync_is_doubled(const SyncIdIndex *index, const SyncIdEntry *entry);

/* A member's record and its custom fields, as slices of answers. */
typedef struct SyncMemberSource
{
	const char *id;				/* NULL: the record has none */
	const char *text;
	size_t		length;
	const char *where;			/* for problems: "memberships[17]" */
	const JsonElement *fields;	/* NULL: none */
	const char *fields_where;
	bool		keep_individual;	/* nothing is known about the custom field */
	bool		asked_by_id;	/* so an end in the past is the end */
	bool		has_hash;		/* else the record is compared again next time */
	uint64		hash;
} SyncMemberSource;

typedef enum SyncRecordState
{
	SYNC_UNUSABLE,
	SYNC_CURRENT,				/* belongs into Cobot's list of members */
	SYNC_UNCONFIRMED,			/* does not */
	SYNC_ENDED					/* does not */
} SyncRecordState;

extern void sync_plan_init(SyncRun *run, SyncPlan *plan);
extern void sync_plan_free(SyncPlan *plan);
extern void sync_plan_problem(SyncPlan *plan, const char *problem, const char *record,
							  const char *cobot_id, const char *detail);

/* Appends a change that needs no row of its own to be written; returns it to be completed. */
extern SyncChange *sync_plan_change(SyncPlan *plan, const char *record, const char *cobot_id, const char *what);

/* A record that cannot be used, as a rejected change and a problem; returns the former. */
extern SyncChange *sync_plan_reject(SyncPlan *plan, const char *record, const char *cobot_id, const char *detail);

/* Appends a member's record to the plan, or reports why it cannot be used. */
extern SyncRecordState sync_read_member(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan,
										const SyncMemberSource *source);

extern void sync_read_plans(SyncPlan *plan, const JsonArray *array);

/* A membership that Cobot deleted. */
extern void sync_plan_departed(SyncPlan *plan, const char *cobot_id);

/* ---- sync_compare.c ---- */

/*
 * Compares the snapshot with the mirror and fills the plan. False if the
 * snapshot cannot be true (empty where there were rows).
 */
extern bool sync_compare(SyncRun *run, SyncSnapshot *snapshot, SyncPlan *plan);

/* ---- sync_verify.c ---- */

/*
 * Asks for whom and what the lists lack. Members that Cobot deleted or ended are
 * planned as departed; the others stay, and the run is marked incomplete.
 */
extern void sync_verify(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan);

/* ---- sync_carry.c, sync_guard.c, sync_apply.c ---- */

/* Tries the changes out, lets the guard decide, and keeps what may stay (nothing for a preview). */
extern void sync_carry_out(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan);

/* Decides which removals are held, with the changes written, before they are kept. */
extern void sync_guard(SyncRun *run, SyncPlan *plan);

/* True if somebody released this removal of this member. NULL lost: whatever it takes. */
extern bool sync_is_released(SyncRun *run, const SyncChange *change);

/*
 * Writes what differs but for the excluded ordinals (integer[]), and gives what
 * was done as the relation "change". Records that the database refuses become
 * rejected changes of the plan.
 */
extern SyncRows *sync_apply(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan, Datum excluded);

/* The problems of this run replace those of the one before. */
extern void sync_apply_problems(SyncRun *run, SyncPlan *plan, bool partial);

/* ---- sync_record.c ---- */

/*
 * Writes the row of the run and those of its changes; gives the former as a
 * composite datum in the upper context. made_plan: the changes are all there is
 * to say, so that what earlier runs held is settled.
 */
extern Datum sync_record(SyncRun *run, SyncPlan *plan, bool made_plan);

/* Gives the run its id. */
extern void sync_take_id(SyncRun *run);

/* A row for a run that an error broke off. The integration is loaded; the run's own transaction is gone. */
extern void sync_record_error(SyncRun *run, const char *error);

/* True if Cobot asked to be left alone and the time is not over: the run ends here, with nothing sent. */
extern bool sync_must_wait(SyncRun *run);

/* Puts the changes of a preview into the set that the function returns. */
extern void sync_show(SyncRun *run, SyncPlan *plan, ReturnSetInfo *result);

/* Says what went wrong to whoever called. */
extern void sync_warn(const SyncRun *run);

#endif
