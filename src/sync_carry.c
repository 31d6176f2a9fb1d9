/*
 * sync_carry.c
 *	  From a plan to what is kept of it. The changes are written in a
 *	  subtransaction, so that what they do to everybody's access is known exactly,
 *	  by the very triggers that will do it. Then the guard decides. If it holds
 *	  something, or if this is a preview, the subtransaction is rolled back; the
 *	  run writes the rest once more.
 *
 * Second definitions of who gets what, for planning alone, would sooner or later
 * differ from the first: that is why a plan is tried out rather than computed.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "lock.h"
#include "query.h"
#include "sync.h"

/*
 * Locks in the order of lock.h before rows are touched, so that somebody who
 * flips a switch or edits an assignment at the same time waits instead of
 * meeting us half-way. Outside of the subtransactions, whose end would release
 * them.
 */
static void
take_locks(SyncRun *run, const SyncSnapshot *snapshot, const SyncPlan *plan)
{
	bool		zone_moved = snapshot->has_space && snapshot->space.time_zone_known &&
		(run->integration.time_zone == NULL ||
		 strcmp(run->integration.time_zone, snapshot->space.time_zone) != 0);
	QueryArg	arg = query_int64(run->integration.id);

	if (plan->ordinals == 0 && !zone_moved)
		return;
	query_run("SELECT FROM smartspace.cobot_integration WHERE id = $1 FOR NO KEY UPDATE", 1, &arg);
	lock_identifiers(false);
	lock_access(run->integration.id);
}

/* A value of the result in the run's context; 0 for an SQL null. */
static Datum
kept_value(SyncRun *run, uint64 row, int column)
{
	TupleDesc	desc = SPI_tuptable->tupdesc;
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], desc, column, &isnull);
	MemoryContext old = MemoryContextSwitchTo(run->context);

	value = isnull ? (Datum) 0 : datumCopy(value, false, -1);
	MemoryContextSwitchTo(old);
	return value;
}

/* A text of the result in the run's context; NULL for an SQL null. */
static char *
kept_text(SyncRun *run, uint64 row, int column)
{
	char	   *text = query_result_text(row, column);

	return text ? MemoryContextStrdup(run->context, text) : NULL;
}

/*
 * Adds to the plan what was written, together with what it did to access. A user
 * group is lost if the member was in it now and is not any more, from no source,
 * or if it ends sooner than was known before and within a day. Whatever ends
 * later than that comes with a notice that people can act upon, and by then it is
 * an end known in advance. A gone custom field counts even where another source
 * gives the same: later that one may end, and the value would be missing.
 */
static void
look_at_effects(SyncRun *run, SyncPlan *plan, SyncRows *changes, bool has_effects)
{
	QueryArg	args[] = {query_int64(run->id), query_bool(has_effects)};

	sync_rows_register(changes);

	/* Who joined had nothing before, which saves a large first run the comparison. */
	uint64		count = query_run_over(changes->count, "WITH journal AS MATERIALIZED ("
								  " SELECT j.*, j.membership_id IN (SELECT c.membership_id FROM change c WHERE c.what = 'joined') AS is_new"
								  " FROM smartspace.access_journal j WHERE $2 AND j.position = pg_catalog.pg_current_xact_id()::text::bigint AND j.run_id = $1"
								  "), touched AS MATERIALIZED ("
								  " SELECT DISTINCT ON (j.membership_id, j.user_group_id, j.source)"
								  "  j.membership_id, j.user_group_id, j.source, j.valid_before"
								  " FROM journal j WHERE NOT j.is_new"
								  " ORDER BY j.membership_id, j.user_group_id, j.source, j.id"
								  "), side AS ("
								  " SELECT t.membership_id, t.user_group_id, false AS is_after, t.valid_before AS valid"
								  " FROM touched t WHERE t.valid_before IS NOT NULL"
								  " UNION ALL"
								  " SELECT g.membership_id, g.user_group_id, s.is_after, g.valid"
								  " FROM (SELECT DISTINCT t.membership_id, t.user_group_id FROM touched t) p"
								  " JOIN smartspace.user_group_member g USING (membership_id, user_group_id)"
								  " CROSS JOIN (VALUES (false), (true)) s (is_after)"
								  " WHERE s.is_after OR NOT EXISTS (SELECT FROM touched o"
								  "  WHERE (o.membership_id, o.user_group_id, o.source) = (g.membership_id, g.user_group_id, g.source))"
								  "), pair AS ("
								  " SELECT s.membership_id, s.user_group_id,"
								  "  COALESCE(pg_catalog.bool_or(s.valid @> pg_catalog.now()) FILTER (WHERE NOT s.is_after), false) AS had,"
								  "  COALESCE(pg_catalog.bool_or(s.valid @> pg_catalog.now()) FILTER (WHERE s.is_after), false) AS has,"
								  "  pg_catalog.max(COALESCE(pg_catalog.upper(s.valid), 'infinity')) FILTER (WHERE NOT s.is_after) AS ended,"
								  "  pg_catalog.max(COALESCE(pg_catalog.upper(s.valid), 'infinity')) FILTER (WHERE s.is_after) AS ends"
								  " FROM side s GROUP BY 1, 2"
								  "), effect AS ("
								  " SELECT p.membership_id,"
								  "  pg_catalog.array_agg(p.user_group_id ORDER BY p.user_group_id)"
								  "   FILTER (WHERE p.ended IS NULL AND p.ends IS NOT NULL) AS gained,"
								  "  pg_catalog.array_agg(p.user_group_id ORDER BY p.user_group_id)"
								  "   FILTER (WHERE p.ended > pg_catalog.now() AND (p.ends IS NULL OR p.had AND NOT p.has"
								  "    OR p.ends < p.ended AND p.ends < pg_catalog.now() + '1 day'::interval)) AS lost"
								  " FROM pair p GROUP BY 1"
								  " UNION ALL SELECT j.membership_id, pg_catalog.array_agg(DISTINCT j.user_group_id), NULL"
								  " FROM journal j WHERE j.is_new GROUP BY 1)"
								  " SELECT c.record, c.ordinal, c.cobot_id, c.member, c.what, c.before, c.after, e.gained, e.lost,"
								  " c.live_left OR e.lost IS NOT NULL"
								  "  OR c.field_gone AND EXISTS (SELECT FROM touched t WHERE t.membership_id = c.membership_id AND t.source = 'individual'),"
								  " c.field_gone"
								  " FROM change c LEFT JOIN effect e ON e.membership_id = c.membership_id"
								  " ORDER BY c.record DESC, c.ordinal, c.membership_id", lengthof(args), args);

	for (uint64 i = 0; i < count; i++)
	{
		SyncChange *change = sync_plan_change(plan, kept_text(run, i, 1), query_result_text(i, 3), kept_text(run, i, 5));

		change->ordinal = query_result_is_null(i, 2) ? -1 : (int) query_result_int64(i, 2);
		change->member = kept_text(run, i, 4);
		change->before = kept_value(run, i, 6);
		change->after = kept_value(run, i, 7);
		change->gained = kept_value(run, i, 8);
		change->lost = kept_value(run, i, 9);
		change->is_removal = query_result_bool(i, 10);
		change->field_gone = query_result_bool(i, 11);
	}
	SPI_freetuptable(SPI_tuptable);
}

/* The ordinals that shall not be written: held or rejected. */
static Datum
excluded_ordinals(const SyncPlan *plan)
{
	Datum	   *ordinals = palloc(sizeof(Datum) * Max(plan->change_count, 1));
	int			count = 0;

	for (int i = 0; i < plan->change_count; i++)
		if (plan->change[i].ordinal >= 0 && plan->change[i].verdict != SYNC_APPLIED)
			ordinals[count++] = Int32GetDatum(plan->change[i].ordinal);
	return PointerGetDatum(construct_array(ordinals, count, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}

/*
 * Nobody moves to a plan that the space does not have: if somebody did, the list
 * of plans is not whole, and perhaps that of members is not either. The plan
 * becomes known with this run, so that the next one does not stumble over it. (The
 * first run knows no plans; facts: members can be on plans that were removed.)
 */
static void
doubt_unknown_plans(SyncRun *run, const SyncSnapshot *snapshot, const SyncPlan *plan)
{
	if (snapshot->plans == NULL || plan->members->count == 0)
		return;

	QueryArg	args[] = {
		query_int64(run->integration.id), query_value(TEXTARRAYOID, sync_ids_of(snapshot->plans))
	};

	query_run("SELECT pg_catalog.count(*) FROM incoming_member r"
			  " WHERE r.parent_plan_id IS NOT NULL AND r.parent_plan_id <> ALL ($2)"
			  " AND NOT EXISTS (SELECT FROM smartspace.cobot_plan o WHERE o.integration_id = $1 AND o.cobot_id = r.parent_plan_id)"
			  " AND EXISTS (SELECT FROM smartspace.cobot_membership m WHERE m.integration_id = $1)", lengthof(args), args);

	int64		members = query_result_int64(0, 1);

	if (members == 0)
		return;
	run->takes_nothing = true;
	if (run->result == NULL)
		sync_stop(run, "incomplete", "source_incomplete",
				  "Nothing is taken from anybody in this run; the next one takes the plan as known. Hidden plans are listed only for a token with the scope read_plans.",
				  "members on a plan that Cobot does not list: %lld", (long long) members);
}

/* What the counts of grants grew by. */
static AccessCounts
counts_since(AccessCounts before)
{
	AccessCounts now = access_counts();

	return (AccessCounts) {
		.given = now.given - before.given,
		.changed = now.changed - before.changed,
		.taken = now.taken - before.taken
	};
}

/*
 * Writes the changes. With is_trial the plan learns what they are and do, and the
 * guard decides. True if they may stay: nothing is held, and this is no preview.
 */
static bool
write_changes(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan, bool is_trial)
{
	AccessCounts before = access_counts();
	SyncRows   *changes = sync_apply(run, snapshot, plan, excluded_ordinals(plan));
	bool		keep = true;

	run->grants = counts_since(before);
	if (is_trial)
	{
		look_at_effects(run, plan, changes, run->grants.given + run->grants.changed + run->grants.taken > 0);
		sync_guard(run, plan);
		keep = !run->preview;
		for (int i = 0; i < plan->change_count; i++)
			if (plan->change[i].ordinal >= 0 &&
				(plan->change[i].verdict == SYNC_HELD || plan->change[i].verdict == SYNC_RELEASED))
				keep = false;
	}
	sync_rows_free(changes);
	return keep;
}

/* The same in a subtransaction, which is rolled back unless the changes may stay. */
static bool
attempt(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan, bool is_trial)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool keep = false;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		keep = write_changes(run, snapshot, plan, is_trial);
	}
	PG_CATCH();
	{
		/* whoever catches this further up must find their own subtransaction on top */
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	if (keep)
		ReleaseCurrentSubTransaction();
	else
		RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (error)
		ReThrowError(error);
	return keep;
}

void
sync_carry_out(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan)
{
	sync_rows_register(plan->plans);
	sync_rows_register(plan->members);
	sync_rows_register(plan->departed);

	take_locks(run, snapshot, plan);
	doubt_unknown_plans(run, snapshot, plan);
	access_set_run(run->id);
	PG_TRY();
	{
		if (!attempt(run, snapshot, plan, true) && !run->preview)
			attempt(run, snapshot, plan, false);
	}
	PG_FINALLY();
	{
		access_set_run(0);
	}
	PG_END_TRY();
}
