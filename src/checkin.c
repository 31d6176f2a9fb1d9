/*
 * checkin.c
 *	  Check-ins that somebody asks for: cobot_checkin(), and cobot_deliver_checkins().
 *	  Runs in the backend of whoever calls, and the first in the worker for somebody who
 *	  waits: a row has to be committed before its request leaves.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "checkin.h"
#include "query.h"
#include "smartspace_cobot.h"
#include "wake.h"
#include "worker.h"

PG_FUNCTION_INFO_V1(checkin_call);
PG_FUNCTION_INFO_V1(checkin_deliver);

/* How often to look what became of a check-in that somebody waits for. */
#define LOOK_AGAIN_MS 100L

/*
 * What keeps a check-in that is asked for from being sent: it is current, or under way.
 * In that order, if for some reason there are both.
 */
#define HOLDING(MEMBERSHIP) \
	" c.membership_id = " MEMBERSHIP " AND c.holds_until > pg_catalog.clock_timestamp()" \
	" AND c.state IN ('done', 'already_in', 'queued', 'sending')"

/* The rule for whoever asks on purpose; no row: there is no such building. */
#define VERDICT \
	"SELECT v.integration_id, COALESCE(v.membership_id, smartspace.cobot_require_member($1)) AS membership_id, v.verdict, v.holds_until" \
	" FROM smartspace.cobot_entry_verdict(smartspace.cobot_require_member($1), $2, pg_catalog.statement_timestamp(), true) v"

static QueryArg
optional_id(int64 id)
{
	return (QueryArg) {.type = INT8OID, .value = Int64GetDatum(id), .isnull = id == 0};
}

static void
refuse_building(int64 building)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("building %lld does not exist", (long long) building),
			 errhint("The table smartspace.building lists the buildings and their ids.")));
}

void
checkin_request(int64 member, int64 building, Oid role)
{
	QueryArg	args[] = {
		query_int64(member), optional_id(building), query_text(GetUserNameFromId(role, true))
	};

	query_run("WITH v AS MATERIALIZED (" VERDICT "), held AS (SELECT c.* FROM v JOIN smartspace.cobot_checkin c"
			  " ON v.verdict IN ('current', 'pending', 'dry_run') AND c.membership_id = v.membership_id"
			  " AND c.holds_until > pg_catalog.statement_timestamp() AND c.state NOT IN ('refused', 'failed')"
			  " ORDER BY c.holds_until DESC LIMIT 1"
			  "), made AS (INSERT INTO smartspace.cobot_checkin AS c (integration_id, membership_id, building_id, source,"
			  "  requested_by, entered_at, state, reason, next_attempt_at, settled_at, holds_until)"
			  " SELECT v.integration_id, v.membership_id, $2, 'call', $3, pg_catalog.statement_timestamp(),"
			  "  CASE v.verdict WHEN 'queue' THEN 'queued' ELSE 'skipped' END,"
			  "  CASE WHEN v.verdict <> 'queue' THEN v.verdict END,"
			  "  CASE v.verdict WHEN 'queue' THEN pg_catalog.now() END,"
			  "  CASE WHEN v.verdict <> 'queue' THEN pg_catalog.now() END,"
			  "  CASE v.verdict WHEN 'queue' THEN v.holds_until END"
			  " FROM v WHERE NOT EXISTS (SELECT FROM held) RETURNING c.*)"
			  " SELECT * FROM held UNION ALL SELECT * FROM made", lengthof(args), args);
	if (SPI_processed == 0)
		refuse_building(building);
}

/* The only row of SPI_tuptable, for the caller of a function that returns such a row. */
static Datum
take_row(void)
{
	return PointerGetDatum(SPI_returntuple(SPI_tuptable->vals[0], SPI_tuptable->tupdesc));
}

/*
 * What became of it, with what is committed by now, also in a transaction that keeps one
 * snapshot: the row that holds, else what was made since. False: nothing.
 */
static bool
look_again(int64 member, int64 building, TimestampTz since)
{
	Oid			types[] = {INT8OID, INT8OID, TIMESTAMPTZOID};
	Datum		args[] = {Int64GetDatum(member), Int64GetDatum(building), TimestampTzGetDatum(since)};
	SPIPlanPtr	plan = SPI_prepare("WITH v AS MATERIALIZED (" VERDICT ")"
								   " SELECT c.* FROM v JOIN smartspace.cobot_checkin c ON c.membership_id = v.membership_id"
								   " WHERE (" HOLDING("v.membership_id") ") OR c.queued_at >= $3"
								   " ORDER BY c.state IN ('done', 'already_in') AND c.holds_until > pg_catalog.clock_timestamp() DESC,"
								   " c.id DESC LIMIT 1", lengthof(types), types);

	if (plan == NULL ||
		SPI_execute_snapshot(plan, args, building == 0 ? " n " : NULL, GetLatestSnapshot(), InvalidSnapshot, true, false, 1) < 0)
		elog(ERROR, "could not look for a check-in: %s", SPI_result_code_string(SPI_result));
	return SPI_processed > 0;
}

static char *
row_text(const char *name)
{
	return query_result_text(0, SPI_fnumber(SPI_tuptable->tupdesc, name));
}

/*
 * May more be known soon? Not of one that waits for a reason, which is what there is to
 * know; of one that was sent without an answer, when Cobot's list is looked at.
 */
static bool
is_undecided(void)
{
	char	   *state = row_text("state");

	return strcmp(state, "sending") == 0 || (strcmp(state, "queued") == 0 && row_text("reason") == NULL);
}

static bool
is_due(void)
{
	return query_result_int64(0, SPI_fnumber(SPI_tuptable->tupdesc, "next_attempt_at")) <= GetCurrentTimestamp();
}

/*
 * Lets a worker queue and deliver, and looks what became of it until that is known or the
 * time is over: somebody else may be delivering, and has to come to an end first. False:
 * nothing was queued so far.
 */
static bool
deliver_and_wait(int64 member, int64 building, Oid role)
{
	WorkerOrder order = {
		.task = WORKER_DELIVER, .checkin_member = member, .checkin_building = building, .requested_by = role
	};
	TimestampTz since = GetCurrentTimestamp();
	TimestampTz until = TimestampTzPlusMilliseconds(since, smartspace_checkin_wait_s * 1000L);
	bool		found = false;

	for (bool due = true;;)
	{
		long		left_ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);

		if (due && left_ms > 0)
			(void) worker_run_once(&order, left_ms);
		found = look_again(member, building, since);
		if (left_ms == 0 || !found || !is_undecided())
			return found;
		order.checkin_member = 0;
		due = is_due();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Min(left_ms, LOOK_AGAIN_MS), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * cobot_checkin(member bigint, wait boolean, building bigint) -> cobot_checkin
 */
Datum
checkin_call(PG_FUNCTION_ARGS)
{
	QueryArg	args[] = {{.type = INT8OID, .value = PG_ARGISNULL(0) ? 0 : PG_GETARG_DATUM(0), .isnull = PG_ARGISNULL(0)}};
	bool		wait = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	int64		building = PG_ARGISNULL(2) ? 0 : PG_GETARG_INT64(2);
	Oid			role = GetSessionUserId();
	int64		member;
	bool		found = false;

	PreventCommandIfReadOnly("cobot_checkin()");
	SPI_connect();
	query_run("SELECT smartspace.cobot_require_member($1)", lengthof(args), args);
	member = query_result_int64(0, 1);

	QueryArg	where = query_int64(building);

	if (building != 0 && query_run("SELECT WHERE smartspace.cobot_sees_building($1)", 1, &where) == 0)
		refuse_building(building);

	if (wait)
		found = deliver_and_wait(member, building, role);
	if (!found)
	{
		checkin_request(member, building, role);
		wake_at_commit();
	}

	Datum		result = take_row();

	SPI_finish();
	PG_RETURN_DATUM(result);
}

/*
 * cobot_deliver_checkins() -> (waiting bigint, next_attempt_at timestamptz)
 */
Datum
checkin_deliver(PG_FUNCTION_ARGS)
{
	WorkerOrder order = {.task = WORKER_DELIVER};
	TupleDesc	tupdesc;
	SPIPlanPtr	plan;

	PreventCommandIfReadOnly("cobot_deliver_checkins()");
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	(void) worker_run_once(&order, -1);

	SPI_connect();
	plan = SPI_prepare("SELECT pg_catalog.count(*), pg_catalog.min(c.next_attempt_at) FROM smartspace.cobot_checkin c"
					   " WHERE c.state IN ('queued', 'sending')", 0, NULL);
	if (plan == NULL || SPI_execute_snapshot(plan, NULL, NULL, GetLatestSnapshot(), InvalidSnapshot, true, false, 0) < 0)
		elog(ERROR, "could not look for check-ins: %s", SPI_result_code_string(SPI_result));

	Datum		values[] = {Int64GetDatum(query_result_int64(0, 1)), Int64GetDatum(query_result_int64(0, 2))};
	bool		nulls[] = {false, query_result_is_null(0, 2)};

	SPI_finish();
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
}
