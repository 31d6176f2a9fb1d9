/*
 * sync_guard.c
 *	  Which removals of access go through by themselves, which wait for a person,
 *	  and the person's decision: cobot_release() and cobot_discard().
 *
 * In this class of software the worst day is "the source answered badly, so
 * everyone was removed". So removals are counted, whatever their cause, and held
 * when they are too many or would empty a user group. An end that was known in
 * advance takes nothing from anybody at the time of the run, and so never counts.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/memutils.h"

#include "query.h"
#include "sync.h"

PG_FUNCTION_INFO_V1(sync_release_run);
PG_FUNCTION_INFO_V1(sync_discard_run);

/* A removal that somebody let through. */
typedef struct SyncRelease
{
	char	   *record;
	char	   *cobot_id;
	ArrayType  *lost;			/* bigint[]; NULL: none */
} SyncRelease;

/* ---- what was released ---- */

static void
load_releases(SyncRun *run)
{
	QueryArg	arg = query_int64(run->integration.id);
	int			count = (int) query_run("SELECT c.record, c.cobot_id, c.groups_lost FROM smartspace.cobot_sync_change c"
										" WHERE c.integration_id = $1 AND c.verdict = 'released'", 1, &arg);
	MemoryContext old = MemoryContextSwitchTo(run->context);

	run->released = palloc(sizeof(SyncRelease) * Max(count, 1));
	run->released_count = count;
	for (int i = 0; i < count; i++)
	{
		bool		isnull;
		Datum		lost = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 3, &isnull);

		run->released[i] = (SyncRelease) {
			.record = pstrdup(query_result_text(i, 1)), .cobot_id = pstrdup(query_result_text(i, 2)),
			.lost = isnull ? NULL : DatumGetArrayTypePCopy(lost)
		};
	}
	MemoryContextSwitchTo(old);
	SPI_freetuptable(SPI_tuptable);
}

static int
ids_of(ArrayType *array, int64 **ids)
{
	*ids = array ? (int64 *) ARR_DATA_PTR(array) : NULL;
	return array ? ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)) : 0;
}

static bool
contains(ArrayType *array, int64 id)
{
	int64	   *ids;
	int			count = ids_of(array, &ids);

	for (int i = 0; i < count; i++)
		if (ids[i] == id)
			return true;
	return false;
}

/* A release covers what the person saw, and no user group beyond. */
bool
sync_is_released(SyncRun *run, const SyncChange *change)
{
	ArrayType  *lost = change->lost ? DatumGetArrayTypeP(change->lost) : NULL;
	int64	   *ids;
	int			count = ids_of(lost, &ids);

	if (run->released_count < 0)
		load_releases(run);
	for (int i = 0; i < run->released_count; i++)
	{
		SyncRelease *release = &run->released[i];
		bool		covered = true;

		if (strcmp(release->record, change->record) != 0 || strcmp(release->cobot_id, change->cobot_id) != 0)
			continue;
		for (int j = 0; j < count; j++)
			covered = covered && contains(release->lost, ids[j]);
		if (covered)
			return true;
	}
	return false;
}

/* ---- the limit ---- */

/* A removal that would be written, and that nobody released. */
static bool
is_open(const SyncChange *change)
{
	return change->is_removal && !change->released && change->verdict == SYNC_APPLIED && change->ordinal >= 0;
}

static void
hold(SyncChange *change, const char *reason, char *detail)
{
	change->verdict = SYNC_HELD;
	change->reason = reason;
	change->detail = detail;
}

/* Members of the integration before the run. */
static int
members_before(SyncRun *run, const SyncPlan *plan)
{
	QueryArg	arg = query_int64(run->integration.id);

	query_run("SELECT pg_catalog.count(*) FROM smartspace.cobot_membership m"
			  " WHERE m.integration_id = $1 AND m.departed_at IS NULL", 1, &arg);

	int			members = (int) query_result_int64(0, 1);

	for (int i = 0; i < plan->change_count; i++)
	{
		const char *what = plan->change[i].what;

		if (plan->change[i].verdict != SYNC_APPLIED)
			continue;
		if (strcmp(what, "left") == 0)
			members++;
		else if (strcmp(what, "joined") == 0 || strcmp(what, "returned") == 0)
			members--;
	}
	return members;
}

/*
 * Many runs of one member each (a storm of webhooks) must not get past a limit
 * that one run would have kept: what the others took within the hour counts.
 */
static int
removals_by_single_runs(SyncRun *run)
{
	QueryArg	arg = query_int64(run->integration.id);

	if (run->kind != SYNC_MEMBER)
		return 0;
	query_run("SELECT pg_catalog.count(*) FROM smartspace.cobot_sync_run r"
			  " JOIN smartspace.cobot_sync_change c ON c.run_id = r.id"
			  " WHERE r.integration_id = $1 AND r.kind = 'member' AND r.finished_at > pg_catalog.now() - '1 hour'::interval"
			  " AND c.is_removal AND c.verdict = 'applied'", 1, &arg);
	return (int) query_result_int64(0, 1);
}

static int
compare_ids(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y ? 1 : 0;
}

/*
 * The user groups of at least the size of interest that nobody is left in a day
 * from now: bigint[]. Only those that so many members lose in this run can be.
 */
static ArrayType *
emptied_groups(SyncRun *run, const SyncPlan *plan)
{
	int			size = run->integration.hold_emptied_group_of;
	int			total = 0;
	int64	   *ids;

	for (int i = 0; i < plan->change_count; i++)
		if (plan->change[i].is_removal && plan->change[i].lost)
			total += ids_of(DatumGetArrayTypeP(plan->change[i].lost), &ids);

	int64	   *lost = palloc(sizeof(int64) * Max(total, 1));
	Datum	   *large = palloc(sizeof(Datum) * Max(total, 1));
	int			large_count = 0;

	total = 0;
	for (int i = 0; i < plan->change_count; i++)
		if (plan->change[i].is_removal && plan->change[i].lost)
		{
			int			count = ids_of(DatumGetArrayTypeP(plan->change[i].lost), &ids);

			memcpy(lost + total, ids, sizeof(int64) * count);
			total += count;
		}
	qsort(lost, total, sizeof(int64), compare_ids);
	for (int i = 0, same = 1; i < total; i++, same++)
		if (i + 1 == total || lost[i + 1] != lost[i])
		{
			if (same >= size)
				large[large_count++] = Int64GetDatum(lost[i]);
			same = 0;
		}

	QueryArg	arg = query_value(INT8ARRAYOID, PointerGetDatum(construct_array(large, large_count, INT8OID,
																				sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)));

	query_run("SELECT pg_catalog.array_agg(g.id) FROM pg_catalog.unnest($1) g (id)"
			  " WHERE NOT EXISTS (SELECT FROM smartspace.user_group_member a WHERE a.user_group_id = g.id"
			  "  AND COALESCE(pg_catalog.upper(a.valid), 'infinity') > pg_catalog.now() + '1 day'::interval)", 1, &arg);

	bool		isnull;
	Datum		emptied = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);

	return isnull ? NULL : DatumGetArrayTypePCopy(emptied);
}

/* Holds the removals that would empty a group; gives how many. */
static int
hold_emptying(SyncRun *run, SyncPlan *plan)
{
	int			held = 0;
	ArrayType  *emptied = run->integration.hold_emptied_group_of > 0 ? emptied_groups(run, plan) : NULL;
	int64	   *ids;
	int			count = ids_of(emptied, &ids);

	for (int i = 0; i < plan->change_count && count > 0; i++)
	{
		SyncChange *change = &plan->change[i];

		for (int j = 0; j < count; j++)
			if (is_open(change) && change->lost && contains(DatumGetArrayTypeP(change->lost), ids[j]))
			{
				hold(change, "group_would_be_empty", NULL);
				held++;
			}
	}
	return held;
}

/* The space's custom field is gone: a person has to say that this was meant. */
static int
hold_field_gone(SyncPlan *plan)
{
	int			held = 0;

	for (int i = 0; i < plan->change_count; i++)
		if (is_open(&plan->change[i]) && plan->change[i].field_gone)
		{
			hold(&plan->change[i], "source_incomplete", "the space has no such custom field any more");
			held++;
		}
	return held;
}

static int
hold_all(SyncPlan *plan, const char *reason)
{
	int			held = 0;

	for (int i = 0; i < plan->change_count; i++)
		if (is_open(&plan->change[i]))
		{
			hold(&plan->change[i], reason, NULL);
			held++;
		}
	return held;
}

/* Sorts out what somebody released; gives how many removals are left. */
static int
settle_releases(SyncRun *run, SyncPlan *plan)
{
	int			removals = 0;

	for (int i = 0; i < plan->change_count; i++)
	{
		SyncChange *change = &plan->change[i];

		if (!change->is_removal || change->verdict == SYNC_REJECTED)
			continue;
		change->released = sync_is_released(run, change);
		if (!change->released)
			removals++;
		else if (change->verdict == SYNC_HELD || run->takes_nothing)
			change->verdict = SYNC_RELEASED;	/* for as long as there is no evidence */
	}
	return removals;
}

static const char *
release_hint(const SyncRun *run)
{
	if (run->preview)
		return NULL;
	return psprintf("Look at cobot_sync_changes(%lld). If it is meant: SELECT * FROM smartspace.cobot_release(%lld); if not, correct it in Cobot.",
					(long long) run->id, (long long) run->id);
}

void
sync_guard(SyncRun *run, SyncPlan *plan)
{
	int			removals = settle_releases(run, plan);

	if (removals == 0)
		return;
	if (run->takes_nothing)
	{
		hold_all(plan, "source_incomplete");
		return;
	}

	/* These wait however few they are, and so leave the room of the limit to others. */
	int			field_gone = hold_field_gone(plan);

	if (field_gone > 0 && run->result == NULL)
		sync_stop(run, "held", "source_incomplete", release_hint(run),
				  "the space has no custom field \"%s\" any more; members who have access by it: %d",
				  INTEGRATION_FIELD_LABEL, field_gone);
	removals -= field_gone;

	int			members = removals > 0 ? members_before(run, plan) : 0;
	int			limit = Max(run->integration.hold_removals_above,
							members * run->integration.hold_removals_above_percent / 100);

	if (removals > 0 && removals + removals_by_single_runs(run) > limit)
	{
		if (hold_all(plan, "too_many_removals") > 0 && run->result == NULL)
			sync_stop(run, "held", "too_many_removals", release_hint(run),
					  "%d of %d members would lose access, and more than %d are for a person to decide",
					  removals, members, limit);
	}
	else if (removals > 0)
	{
		int			emptying = hold_emptying(run, plan);

		if (emptying > 0 && run->result == NULL)
			sync_stop(run, "held", "group_would_be_empty", release_hint(run),
					  "%d members would leave a user group with nobody in it", emptying);
	}
}

/* ---- the person's decision ---- */

static int64
required_run(FunctionCallInfo fcinfo, int64 *integration)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the run must not be null"),
				 errhint("The view smartspace.cobot_status shows the run that holds something.")));

	QueryArg	arg = query_int64(PG_GETARG_INT64(0));

	if (query_run("SELECT r.integration_id FROM smartspace.cobot_sync_run r WHERE r.id = $1 AND smartspace.cobot_sees(r.integration_id)", 1, &arg) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("run %lld does not exist", (long long) PG_GETARG_INT64(0)),
				 errhint("The view smartspace.cobot_status shows the run that holds something.")));
	*integration = query_result_int64(0, 1);
	return PG_GETARG_INT64(0);
}

/* Marks what a run holds, or held until another one held the same; gives how many. */
static int
decide(int64 run, const char *verdict, bool superseded_too)
{
	QueryArg	args[] = {
		query_int64(run), query_text(verdict), query_bool(superseded_too),
		query_text(GetUserNameFromId(GetSessionUserId(), true))
	};

	return (int) query_run("UPDATE smartspace.cobot_sync_change SET verdict = $2, decided_at = pg_catalog.now(), decided_by = $4"
						   " WHERE run_id = $1 AND (verdict = 'held' OR $3 AND verdict = 'superseded')", lengthof(args), args);
}

static void
require_held(int64 run, int count)
{
	if (count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("run %lld holds nothing", (long long) run),
				 errhint("The view smartspace.cobot_status shows the run that holds something.")));
}

static bool
is_fed_from_outside(int64 integration)
{
	QueryArg	arg = query_int64(integration);

	query_run("SELECT i.fed_from_outside FROM smartspace.cobot_integration i WHERE i.id = $1", 1, &arg);
	return query_result_bool(0, 1);
}

/* Without a token there is nobody to ask; the decision waits for the outside fetcher. Gives the run that held. */
static Datum
leave_to_ingest(int64 run, int64 integration)
{
	QueryArg	arg = query_int64(run);

	query_run("SELECT r.* FROM smartspace.cobot_sync_run r WHERE r.id = $1", 1, &arg);
	ereport(NOTICE,
			(errmsg("what run %lld holds is released, and nothing is taken yet", (long long) run),
			 errdetail("The integration has no token: an outside fetcher brings Cobot's answers."),
			 errhint("The next smartspace.cobot_ingest(%lld, ...) carries it out as far as Cobot still says so.",
					 (long long) integration)));
	return PointerGetDatum(SPI_returntuple(SPI_tuptable->vals[0], SPI_tuptable->tupdesc));
}

/*
 * cobot_release(run bigint) -> cobot_sync_run
 *
 * The decision is stored first. Should Cobot not answer now, the next good run
 * carries it out.
 */
Datum
sync_release_run(PG_FUNCTION_ARGS)
{
	SyncRun		run = {.kind = SYNC_RELEASE, .source = &sync_from_cobot};
	int64		integration;
	Datum		result;

	PreventCommandIfReadOnly("cobot_release()");
	SPI_connect();
	run.releases = required_run(fcinfo, &integration);
	require_held(run.releases, decide(run.releases, "released", true));
	result = is_fed_from_outside(integration) ? leave_to_ingest(run.releases, integration)
		: sync_run_integration(&run, integration, false, NULL);
	SPI_finish();
	PG_RETURN_DATUM(result);
}

/*
 * cobot_discard(run bigint) -> bigint, how many changes were dropped
 */
Datum
sync_discard_run(PG_FUNCTION_ARGS)
{
	int64		integration;
	int			count;

	PreventCommandIfReadOnly("cobot_discard()");
	SPI_connect();

	int64		run = required_run(fcinfo, &integration);

	count = decide(run, "discarded", false);
	require_held(run, count);

	QueryArg	arg = query_int64(integration);

	query_run("UPDATE smartspace.cobot_integration SET state = 'connected', state_reason = NULL, state_since = pg_catalog.now()"
			  " WHERE id = $1 AND state = 'degraded'"
			  " AND state_reason IN ('too_many_removals', 'group_would_be_empty', 'source_empty', 'source_incomplete')", 1, &arg);
	SPI_finish();
	PG_RETURN_INT64(count);
}
