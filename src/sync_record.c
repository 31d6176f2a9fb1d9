/*
 * sync_record.c
 *	  What remains of a run: its row in cobot_sync_run with the summary in words
 *	  and the time of the next one, the rows of its changes, and the warning for
 *	  whoever called.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "backoff.h"
#include "query.h"
#include "smartspace_cobot.h"
#include "sync.h"

#define BACKOFF_FIRST_S 60.0

/* Of the interval: so far apart come those in the end that began together. */
#define SPREAD 0.15

/* The next run goes on with questions by id: a minute has room for 60 of them. */
#define CONTINUE_AFTER_S 90.0

/* Old runs deleted at the end of a run: a few at a time, so that nobody waits for it. */
#define PURGED_RUNS "20"

static const char *const kind_label[] = {
	[SYNC_WHOLE] = "sync", [SYNC_RELEASE] = "release", [SYNC_MEMBER] = "member", [SYNC_INGEST] = "ingest"
};

static const char *const verdict_label[] = {
	[SYNC_APPLIED] = "applied", [SYNC_HELD] = "held", [SYNC_REJECTED] = "rejected", [SYNC_RELEASED] = "released"
};

/* ---- in words ---- */

/* "2 joined, " and so on; nothing for zero. */
static void
append_count(StringInfo text, int64 count, const char *what)
{
	if (count > 0)
		appendStringInfo(text, "%s%lld %s", text->len > 0 && text->data[text->len - 1] != ' ' ? ", " : "",
						 (long long) count, what);
}

/* "2 joined, 1 left, 3 changed plan; 4 grants given, 2 taken; 3 requests in 0.4 s" */
static char *
in_words(const SyncRun *run)
{
	const AccessCounts *grants = &run->grants;
	int			changed = run->members_changed - run->members_changed_plan;
	int			requests = run->questions ? run->questions->client.requests : 0;
	StringInfoData text;

	initStringInfo(&text);
	append_count(&text, run->members_added, "joined");
	append_count(&text, run->members_removed, "left");
	append_count(&text, run->members_changed_plan, "changed plan");
	append_count(&text, changed, run->members_changed_plan > 0 ? "changed otherwise" : "changed");
	if (text.len == 0)
		appendStringInfoString(&text, run->unchanged ? "nothing changed, says Cobot" : "nothing changed");
	append_count(&text, run->removals_held, run->removals_held == 1 ? "removal held" : "removals held");
	if (grants->given + grants->changed + grants->taken > 0)
	{
		const char *noun = " grants";

		appendStringInfoString(&text, "; ");
		if (grants->given > 0)
		{
			append_count(&text, grants->given, grants->given == 1 ? "grant given" : "grants given");
			noun = "";
		}
		if (grants->changed > 0)
		{
			append_count(&text, grants->changed, psprintf("%s%s", noun[0] ? "grants " : "", "moved"));
			noun = "";
		}
		append_count(&text, grants->taken, noun[0] ? (grants->taken == 1 ? "grant taken" : "grants taken") : "taken");
	}
	if (requests > 0)
		appendStringInfo(&text, "; %d %s in %.1f s", requests, requests == 1 ? "request" : "requests",
						 (run->fetch_ms + run->apply_ms) / 1000);
	return text.data;
}

/* Counts what the changes say was done. */
static void
count_changes(SyncRun *run, const SyncPlan *plan)
{
	for (int i = 0; i < plan->change_count; i++)
	{
		const SyncChange *change = &plan->change[i];

		if (change->is_removal && change->verdict == SYNC_HELD)
			run->removals_held++;
		if (change->verdict != SYNC_APPLIED || strcmp(change->record, "membership") != 0)
			continue;
		if (strcmp(change->what, "joined") == 0 || strcmp(change->what, "returned") == 0)
			run->members_added++;
		else if (strcmp(change->what, "left") == 0)
			run->members_removed++;
		else
			run->members_changed++;
		if (strcmp(change->what, "changed_plan") == 0)
			run->members_changed_plan++;
	}
}

void
sync_take_id(SyncRun *run)
{
	query_run_kept("SELECT pg_catalog.nextval('smartspace.cobot_sync_run_id_seq')", 0, NULL);
	run->id = query_result_int64(0, 1);
}

/* ---- the next run ---- */

bool
sync_must_wait(SyncRun *run)
{
	QueryArg	arg = query_int64(run->integration.id);

	query_run_kept("SELECT pg_catalog.ceil(EXTRACT(epoch FROM pg_catalog.max(r.not_before) - pg_catalog.clock_timestamp()))::bigint"
				   " FROM smartspace.cobot_sync_run r"
				   " WHERE r.integration_id = $1 AND r.kind <> 'member' AND r.not_before > pg_catalog.clock_timestamp()", 1, &arg);

	int64		wait_s = query_result_int64(0, 1);

	if (wait_s <= 0)
		return false;
	sync_stop(run, "incomplete", "rate_limited",
			  "Synchronise again after that time, and look for other programs that use the same token.",
			  "Cobot asked not to be asked again for another %lld s; nothing was sent", (long long) wait_s);
	run->retry_after_s = (int) wait_s;
	return true;
}

/* An error, or a reason that means Cobot could not be asked or gave no usable answer. */
static bool
is_failure(const SyncRun *run)
{
	static const char *const reasons[] = {
		"auth_revoked", "admin_rights_lost", "account_suspended", "rate_limited", "unreachable", "bad_answer"
	};

	for (int i = 0; run->reason && i < (int) lengthof(reasons); i++)
		if (strcmp(run->reason, reasons[i]) == 0)
			return true;
	return strcmp(run->result, "failed") == 0;
}

/*
 * Seconds until a scheduled run is due again: the interval, a little earlier by
 * chance, so that many integrations spread. After failures the delay doubles from
 * a minute up to the interval, with jitter, and is never shorter than Cobot asks.
 */
static double
next_delay_s(const SyncRun *run, const SyncPlan *plan, double interval_s, int failures)
{
	if (failures > 0)
		return Max(backoff_delay(BACKOFF_FIRST_S, interval_s, failures), run->retry_after_s);
	if (plan->waiting > 0 && run->removals_held == 0)
		return Min(CONTINUE_AFTER_S, interval_s);
	return interval_s * (1 - SPREAD * pg_prng_double(&pg_global_prng_state));
}

/* Failures in a row, with this run; *interval_s is how often the integration is due. */
static int
failures_so_far(const SyncRun *run, double *interval_s)
{
	QueryArg	arg = query_int64(run->integration.id);

	query_run_kept("SELECT EXTRACT(epoch FROM i.sync_interval)::bigint, COALESCE((SELECT r.failures FROM smartspace.cobot_sync_run r"
				   "  WHERE r.integration_id = i.id AND r.kind <> 'member' AND r.result <> 'skipped_locked'"
				   "  ORDER BY r.id DESC LIMIT 1), 0) FROM smartspace.cobot_integration i WHERE i.id = $1", 1, &arg);
	*interval_s = (double) query_result_int64(0, 1);
	return is_failure(run) ? (int) query_result_int64(0, 2) + 1 : 0;
}

static QueryArg
moment_in(double seconds)
{
	return query_value(TIMESTAMPTZOID, TimestampTzGetDatum(GetCurrentTimestamp() + (int64) (seconds * USECS_PER_SEC)));
}

/* ---- rows ---- */

static SyncRows *
changes_as_rows(const SyncPlan *plan)
{
	static const SyncColumn columns[] = {
		{"place", INT4OID}, {"record", TEXTOID}, {"cobot_id", TEXTOID}, {"member", TEXTOID}, {"what", TEXTOID},
		{"before", JSONBOID}, {"after", JSONBOID}, {"gained", INT8ARRAYOID}, {"lost", INT8ARRAYOID},
		{"is_removal", BOOLOID}, {"verdict", TEXTOID}, {"reason", TEXTOID}, {"detail", TEXTOID}
	};
	SyncRows   *rows = sync_rows_create("planned", columns, lengthof(columns), NULL, 0);
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "smartspace_cobot change", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);

	for (int i = 0; i < plan->change_count; i++)
	{
		const SyncChange *change = &plan->change[i];
		Datum		values[] = {
			Int32GetDatum(i), CStringGetTextDatum(change->record), CStringGetTextDatum(change->cobot_id),
			change->member ? CStringGetTextDatum(change->member) : (Datum) 0, CStringGetTextDatum(change->what),
			change->before, change->after, change->gained, change->lost,
			BoolGetDatum(change->is_removal), CStringGetTextDatum(verdict_label[change->verdict]),
			change->reason ? CStringGetTextDatum(change->reason) : (Datum) 0,
			change->detail ? CStringGetTextDatum(change->detail) : (Datum) 0
		};
		bool		nulls[lengthof(values)] = {
			[3] = change->member == NULL, [5] = change->before == 0, [6] = change->after == 0,
			[7] = change->gained == 0, [8] = change->lost == 0, [11] = change->reason == NULL, [12] = change->detail == NULL
		};

		sync_rows_add(rows, values, nulls, NULL);
		MemoryContextReset(scratch);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
	return rows;
}

/*
 * The user groups that somebody would lose: those known from trying it out, or,
 * where nothing was tried, all that the source gave (what == 'left') or the
 * custom field did.
 */
#define GROUPS_LOST \
	"COALESCE(p.lost, CASE WHEN p.is_removal AND p.verdict IN ('held', 'released') THEN" \
	" (SELECT pg_catalog.array_agg(DISTINCT g.user_group_id ORDER BY g.user_group_id)" \
	"  FROM smartspace.user_group_member g WHERE g.membership_id = m.id AND g.source <> 'manual'" \
	"  AND (p.what = 'left' OR g.source = 'individual') AND NOT EXISTS (SELECT FROM smartspace.user_group_member o" \
	"   WHERE o.membership_id = g.membership_id AND o.user_group_id = g.user_group_id AND o.source <> g.source" \
	"   AND (o.source = 'manual' OR p.what <> 'left'))) END)"

#define MEMBERSHIP_OF \
	" LEFT JOIN smartspace.cobot_membership m ON p.record = 'membership' AND m.integration_id = $1 AND m.cobot_id = p.cobot_id"

/*
 * What earlier runs held is this run's matter now. What somebody released is done
 * when it was applied, or when nothing of the kind is planned any more: a name
 * that changed is not what they let through.
 */
static void
settle_earlier_changes(SyncRun *run, bool made_plan)
{
	QueryArg	args[] = {
		query_int64(run->integration.id), query_int64(run->id), query_bool(made_plan), query_bool(run->covers_all)
	};

	query_run("UPDATE smartspace.cobot_sync_change c SET settled_by = $2, verdict = CASE WHEN c.verdict = 'released'"
			  " AND EXISTS (SELECT FROM planned p WHERE p.record = c.record AND p.cobot_id = c.cobot_id AND p.verdict = 'applied'"
			  "  AND (p.is_removal OR p.what = c.what AND p.what IN ('left', 'unlisted')))"
			  " THEN 'applied' ELSE 'superseded' END"
			  " WHERE c.integration_id = $1 AND c.run_id <> $2 AND (c.verdict = 'held' OR $3 AND c.verdict = 'released')"
			  " AND ($4 OR EXISTS (SELECT FROM planned p WHERE p.record = c.record AND p.cobot_id = c.cobot_id))",
			  lengthof(args), args);
}

static void
record_changes(SyncRun *run, SyncPlan *plan, bool made_plan)
{
	QueryArg	args[] = {query_int64(run->integration.id), query_int64(run->id)};

	if (!made_plan && plan->change_count == 0)
		return;

	SyncRows   *rows = changes_as_rows(plan);

	sync_rows_register(rows);
	if (plan->change_count > 0)
		query_run("INSERT INTO smartspace.cobot_sync_change (run_id, integration_id, record, cobot_id, membership_id, what,"
				  " before, after, groups_gained, groups_lost, is_removal, verdict, reason, detail)"
				  " SELECT $2, $1, p.record, p.cobot_id, m.id, p.what, p.before, p.after, p.gained, " GROUPS_LOST ","
				  " p.is_removal, p.verdict, p.reason, p.detail FROM planned p" MEMBERSHIP_OF
				  " ORDER BY p.place", lengthof(args), args);
	settle_earlier_changes(run, made_plan);
	sync_rows_free(rows);
}

/* Deletes what is older than the retention and holds nothing, a few runs at a time; the last good one always stays. */
static void
purge_old_runs(const SyncRun *run)
{
	QueryArg	args[] = {query_int64(run->integration.id), query_int64(smartspace_run_retention_days)};

	query_run_kept("DELETE FROM smartspace.cobot_sync_run r WHERE r.id IN (SELECT o.id FROM smartspace.cobot_sync_run o"
				   "  WHERE o.integration_id = $1 ORDER BY o.id LIMIT " PURGED_RUNS ")"
				   " AND r.finished_at < pg_catalog.now() - $2 * '1 day'::interval"
				   " AND NOT EXISTS (SELECT FROM smartspace.cobot_sync_change c WHERE c.run_id = r.id AND c.verdict IN ('held', 'released'))"
				   " AND r.id IS DISTINCT FROM (SELECT pg_catalog.max(g.id) FROM smartspace.cobot_sync_run g WHERE g.integration_id = $1"
				   "  AND g.kind <> 'member' AND g.result IN ('ok', 'ok_with_problems'))",
				   lengthof(args), args);
}

static Datum
record_run(SyncRun *run, const SyncPlan *plan)
{
	double		interval_s;
	int			failures = failures_so_far(run, &interval_s);
	bool		scheduled = run->kind != SYNC_MEMBER && strcmp(run->result, "skipped_locked") != 0;
	QueryArg	nothing = {.type = TIMESTAMPTZOID, .isnull = true};
	char	   *message = run->message == NULL ? in_words(run) :
		plan->change_count > 0 ? psprintf("%s; %s", run->message, in_words(run)) : run->message;
	QueryArg	args[] = {
		query_int64(run->id), query_int64(run->integration.id), query_text(run->result), query_text(run->reason),
		query_text(message),
		query_int64(run->members_seen), query_int64(run->members_added),
		query_int64(run->members_changed), query_int64(run->members_removed),
		query_int64(run->grants.given), query_int64(run->grants.changed), query_int64(run->grants.taken),
		query_int64(run->problems), query_int64(run->questions ? run->questions->client.requests : 0),
		query_int64(run->questions ? (int64) run->questions->client.bytes : 0),
		query_value(FLOAT8OID, Float8GetDatum(run->fetch_ms)),
		query_value(FLOAT8OID, Float8GetDatum(run->apply_ms)),
		query_value(TIMESTAMPTZOID, TimestampTzGetDatum(run->started_at)),
		query_value(TIMESTAMPTZOID, TimestampTzGetDatum(GetCurrentTimestamp())),
		query_text(run->run_by ? run->run_by : GetUserNameFromId(GetSessionUserId(), true)),
		query_text(kind_label[run->kind]), query_int64(run->members_changed_plan), query_int64(run->removals_held),
		query_int64(run->plans_seen), query_int64(run->fields_seen),
		{.type = INT8OID, .value = Int64GetDatum(run->releases), .isnull = run->releases == 0},
		query_int64(failures),
		run->retry_after_s > 0 ? moment_in(run->retry_after_s) : nothing,
		scheduled ? moment_in(next_delay_s(run, plan, interval_s, failures)) : nothing
	};

	query_run_kept("INSERT INTO smartspace.cobot_sync_run (id, integration_id, result, reason, message,"
				   " members_seen, members_added, members_changed, members_removed,"
				   " grants_given, grants_changed, grants_taken, problems, requests, bytes,"
				   " fetch_ms, apply_ms, started_at, finished_at, run_by, kind, members_changed_plan, removals_held,"
				   " plans_seen, fields_seen, releases, failures, not_before, next_at)"
				   " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,"
				   " $21, $22, $23, $24, $25, $26, $27, $28, $29) RETURNING *", lengthof(args), args);
	return PointerGetDatum(SPI_returntuple(SPI_tuptable->vals[0], SPI_tuptable->tupdesc));
}

Datum
sync_record(SyncRun *run, SyncPlan *plan, bool made_plan)
{
	QueryArg	arg = query_int64(run->integration.id);

	/* whether it is stale, and how check-ins go, is for those to say who look at it without a run */
	query_run_kept("SELECT pg_catalog.count(*) FROM smartspace.cobot_problem p"
				   " WHERE p.integration_id = $1 AND p.severity = 'problem' AND p.problem NOT IN ('stale', 'checkin_failed', 'checkin_unknown')", 1, &arg);
	run->problems = query_result_int64(0, 1);
	count_changes(run, plan);
	if (run->result == NULL && plan->waiting > 0)
		sync_stop(run, "incomplete", "source_incomplete", "The next synchronisation goes on with the rest.",
				  "%d members are missing in Cobot's lists, of whom %d were asked for by id so far",
				  plan->vanished_count + plan->fieldless_count,
				  plan->vanished_count + plan->fieldless_count - plan->waiting);
	if (run->result == NULL)
		run->result = run->problems > 0 ? "ok_with_problems" : "ok";

	Datum		row = record_run(run, plan);

	record_changes(run, plan, made_plan);
	purge_old_runs(run);
	return row;
}

void
sync_record_error(SyncRun *run, const char *error)
{
	SyncPlan	none = {0};

	sync_take_id(run);
	sync_stop(run, "failed", NULL, NULL, "%s", error);
	sync_record(run, &none, false);
}

void
sync_show(SyncRun *run, SyncPlan *plan, ReturnSetInfo *result)
{
	QueryArg	arg = query_int64(run->integration.id);
	SyncRows   *rows = changes_as_rows(plan);

	sync_rows_register(rows);
	query_run("SELECT q.shown, q.record, q.what, q.before, q.after,"
			  " (SELECT pg_catalog.array_agg(g.name ORDER BY g.name) FROM smartspace.user_group g WHERE g.id = ANY (q.gained)),"
			  " (SELECT pg_catalog.array_agg(g.name ORDER BY g.name) FROM smartspace.user_group g WHERE g.id = ANY (q.groups_lost)),"
			  " q.verdict, q.reason, q.detail, q.membership_id, q.cobot_id"
			  " FROM (SELECT p.*, COALESCE(m.name, p.member, l.name) AS shown, m.id AS membership_id, " GROUPS_LOST " AS groups_lost"
			  "  FROM planned p" MEMBERSHIP_OF
			  "  LEFT JOIN smartspace.cobot_plan l ON p.record = 'plan' AND l.integration_id = $1 AND l.cobot_id = p.cobot_id) q"
			  " ORDER BY q.place", 1, &arg);
	for (uint64 i = 0; i < SPI_processed; i++)
		tuplestore_puttuple(result->setResult, SPI_tuptable->vals[i]);
	SPI_freetuptable(SPI_tuptable);
	sync_rows_free(rows);
}

void
sync_warn(const SyncRun *run)
{
	const char *verb = strcmp(run->result, "failed") == 0 ? "" : "is ";

	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("%s of \"%s\" %s%s: %s", run->preview ? "preview" : "synchronisation",
					run->integration.name, verb, run->result, run->message),
			 run->detail ? errdetail("%s", run->detail) : 0,
			 run->hint ? errhint("%s", run->hint) : 0));
}
