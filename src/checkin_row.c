/*
 * checkin_row.c
 *	  The rows of cobot_checkin as a delivery works on them. Runs in the worker.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/timestamp.h"

#include "checkin_guard.h"
#include "checkin_row.h"
#include "query.h"
#include "smartspace_cobot.h"

/* How many rows one delivery takes, which reads Cobot's list once for all of them. */
#define BATCH "48"

/* A row that was taken up so often without an end that is known breaks something. */
#define ATTEMPTS_LIMIT "8"

/* After that nobody looks for the outcome any more. */
#define OUTCOME_LIMIT "interval '24 hours'"

/* The longer a row has waited, the less often it is tried. */
#define BACK_OFF(COLUMN) \
	"LEAST(interval '5 minutes', GREATEST(interval '5 seconds', (pg_catalog.now() - " COLUMN ") / 4))"

#define TIDY_ROWS "100"

static QueryArg
moment(TimestampTz value)
{
	return (QueryArg) {.type = TIMESTAMPTZOID, .value = TimestampTzGetDatum(value), .isnull = TIMESTAMP_NOT_FINITE(value)};
}

static QueryArg
settle_time(void)
{
	return query_int64(smartspace_checkin_settle_time_ms);
}

/* The only value of SPI_tuptable, an array, copied into a context; 0 if it is null. */
static Datum
result_ids(MemoryContext context)
{
	bool		isnull;
	Datum		ids = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);

	if (isnull)
		return (Datum) 0;

	MemoryContext old = MemoryContextSwitchTo(context);

	ids = datumCopy(ids, false, -1);
	MemoryContextSwitchTo(old);
	return ids;
}

static void
take_up(Datum ids, void *arg pg_attribute_unused())
{
	QueryArg	args[] = {query_value(INT8ARRAYOID, ids)};

	/* whoever sent it is gone, and may have been at it until just now */
	query_run_kept("UPDATE smartspace.cobot_checkin c SET attempts = c.attempts + 1,"
				   " lost_at = CASE WHEN c.state = 'sending' AND c.lost_at IS NULL THEN pg_catalog.clock_timestamp() ELSE c.lost_at END,"
				   " reason = CASE WHEN c.state = 'sending' AND c.reason IS NULL THEN 'no_answer' ELSE c.reason END,"
				   " next_attempt_at = pg_catalog.now() + LEAST(interval '5 minutes',"
				   "  interval '5 seconds' * pg_catalog.power(2, LEAST(c.attempts + 1, 10)))"
				   " WHERE c.id = ANY ($1)", lengthof(args), args);
}

Datum
checkin_rows_claim(int64 integration, MemoryContext context)
{
	QueryArg	args[] = {query_int64(integration), checkin_resting_rows()};
	Datum		ids;

	query_run_kept("WITH due AS MATERIALIZED (SELECT c.id FROM smartspace.cobot_checkin c"
				   "  WHERE c.integration_id = $1 AND c.state IN ('queued', 'sending') AND c.next_attempt_at <= pg_catalog.now()"
				   "   AND c.id <> ALL ($2) ORDER BY c.next_attempt_at, c.id LIMIT " BATCH " FOR UPDATE SKIP LOCKED)"
				   " SELECT pg_catalog.array_agg(d.id ORDER BY d.id) FROM due d", lengthof(args), args);
	ids = result_ids(CurrentMemoryContext);
	if (ids == (Datum) 0)
		return ids;
	checkin_guard_rows(ids, take_up, NULL);

	QueryArg	taken[] = {query_value(INT8ARRAYOID, ids), checkin_resting_rows()};

	query_run_kept("SELECT pg_catalog.array_agg(d.id ORDER BY d.id) FROM pg_catalog.unnest($1) d (id) WHERE d.id <> ALL ($2)",
				   lengthof(taken), taken);
	return result_ids(context);
}

static void
end_late(Datum ids, void *unused pg_attribute_unused())
{
	QueryArg	arg = query_value(INT8ARRAYOID, ids);

	query_run_kept("UPDATE smartspace.cobot_checkin c SET state = v.state, reason = v.reason, settled_at = pg_catalog.now(),"
				   "  next_attempt_at = NULL,"
				   "  holds_until = CASE v.state WHEN 'failed' THEN pg_catalog.now() + v.checkin_pause_after_refusal END"
				   " FROM (SELECT d.id, i.checkin_pause_after_refusal, CASE"
				   "   WHEN d.state = 'queued' AND l.reason IS NOT NULL THEN 'stale'"
				   "   WHEN d.attempts > " ATTEMPTS_LIMIT " THEN CASE d.state WHEN 'queued' THEN 'failed' ELSE 'unknown' END"
				   "   WHEN d.state = 'sending' AND d.sent_at < pg_catalog.now() - " OUTCOME_LIMIT " THEN 'unknown' END AS state,"
				   "  CASE WHEN d.state = 'queued' AND l.reason IS NOT NULL THEN l.reason"
				   "   WHEN d.attempts > " ATTEMPTS_LIMIT " THEN 'gave_up' ELSE 'no_answer' END AS reason"
				   "  FROM smartspace.cobot_checkin d JOIN smartspace.cobot_integration i ON i.id = d.integration_id"
				   "   CROSS JOIN LATERAL (SELECT smartspace.cobot_too_late(d.entered_at, i.checkin_max_age, i.time_zone) AS reason) l"
				   "  WHERE d.id = ANY ($1)) v"
				   " WHERE c.id = v.id AND v.state IS NOT NULL", 1, &arg);
}

void
checkin_rows_end_late(Datum ids)
{
	checkin_guard_rows(ids, end_late, NULL);
}

static void
end_unwanted(Datum ids, void *unused pg_attribute_unused())
{
	QueryArg	arg = query_value(INT8ARRAYOID, ids);

	/* of the rows of one member the oldest stays, unless one was sent already */
	query_run_kept("UPDATE smartspace.cobot_checkin c SET state = 'skipped', reason = v.reason, settled_at = pg_catalog.now(),"
				   "  next_attempt_at = NULL,"
				   "  holds_until = CASE v.reason WHEN 'dry_run' THEN smartspace.cobot_day_ends(pg_catalog.now(), v.time_zone) END,"
				   "  message = CASE v.reason WHEN 'dry_run'"
				   "   THEN 'would have been sent: POST /api/memberships/' || v.cobot_id || '/work_sessions' END"
				   " FROM (SELECT d.id, i.time_zone, m.cobot_id, CASE WHEN EXISTS (SELECT FROM smartspace.cobot_checkin o"
				   "    WHERE o.membership_id = d.membership_id AND o.id <> d.id AND o.holds_until > pg_catalog.now()"
				   "     AND (o.state IN ('sending', 'done', 'already_in') OR (o.state = 'queued' AND o.id < d.id)"
				   "      OR (o.state IN ('refused', 'failed') AND d.source <> 'call'))) THEN 'duplicate'"
				   "   ELSE COALESCE(smartspace.cobot_not_active(m.departed_at, m.confirmed_at, m.starts_at, m.canceled_to, i.time_zone),"
				   "    CASE WHEN d.source <> 'call' AND NOT i.auto_checkin THEN 'switched_off' END,"
				   "    CASE WHEN i.checkin_dry_run THEN 'dry_run' END) END AS reason"
				   "  FROM smartspace.cobot_checkin d JOIN smartspace.cobot_membership m ON m.id = d.membership_id"
				   "   JOIN smartspace.cobot_integration i ON i.id = d.integration_id"
				   "  WHERE d.id = ANY ($1) AND d.state = 'queued') v"
				   " WHERE c.id = v.id AND v.reason IS NOT NULL", 1, &arg);
}

void
checkin_rows_end_unwanted(Datum ids)
{
	checkin_guard_rows(ids, end_unwanted, NULL);
}

CheckinRow *
checkin_rows_load(Datum ids, MemoryContext context, int *count)
{
	QueryArg	args[] = {query_value(INT8ARRAYOID, ids), checkin_resting_rows()};

	query_run_kept("SELECT c.id, m.cobot_id, c.state = 'sending', c.reason, c.message, c.sent_at, c.posts, c.lost_at"
				   " FROM smartspace.cobot_checkin c JOIN smartspace.cobot_membership m ON m.id = c.membership_id"
				   " WHERE c.id = ANY ($1) AND c.state IN ('queued', 'sending') AND c.id <> ALL ($2) ORDER BY c.id", lengthof(args), args);
	*count = (int) SPI_processed;

	MemoryContext old = MemoryContextSwitchTo(context);
	CheckinRow *rows = palloc0_array(CheckinRow, Max(*count, 1));

	for (int i = 0; i < *count; i++)
		rows[i] = (CheckinRow) {
			.id = query_result_int64(i, 1), .member = query_result_text(i, 2), .sending = query_result_bool(i, 3),
			.reason = query_result_text(i, 4), .message = query_result_text(i, 5),
			.sent_at = query_result_int64(i, 6), .posts = (int) query_result_int64(i, 7),
			.lost_at = query_result_int64(i, 8), .open = true
		};
	MemoryContextSwitchTo(old);
	return rows;
}

static void
cannot_ask(Datum ids, void *reason)
{
	QueryArg	args[] = {query_value(INT8ARRAYOID, ids), query_text(reason)};

	/* nothing tells when a copy becomes the original, so there it is not looked for */
	query_run_kept("UPDATE smartspace.cobot_checkin c SET attempts = c.attempts - 1,"
				   " reason = CASE c.state WHEN 'queued' THEN $2 ELSE c.reason END,"
				   " next_attempt_at = CASE $2 WHEN 'foreign_database'"
				   "  THEN GREATEST(c.holds_until, pg_catalog.now() + interval '1 minute') ELSE pg_catalog.now() + interval '30 seconds' END"
				   " WHERE c.id = ANY ($1) AND c.state IN ('queued', 'sending')", lengthof(args), args);
}

void
checkin_rows_cannot_ask(Datum ids, const char *reason)
{
	checkin_guard_rows(ids, cannot_ask, (void *) reason);
}

static void
say_error(Datum ids, void *error)
{
	QueryArg	args[] = {query_value(INT8ARRAYOID, ids), query_text(error)};

	query_run("UPDATE smartspace.cobot_checkin c SET message = $2 WHERE c.id = ANY ($1) AND c.state = 'queued'",
			  lengthof(args), args);
}

void
checkin_rows_say_error(Datum ids, const char *error)
{
	checkin_guard_rows(ids, say_error, (void *) error);
}

static CheckinRow *
find_row(CheckinRow **rows, int count, int64 id)
{
	for (int i = 0; i < count; i++)
		if (rows[i]->id == id)
			return rows[i];
	elog(ERROR, "check-in %lld was not asked for", (long long) id);
}

typedef struct Marking
{
	CheckinRow **rows;
	int			count;
	int			marked;
} Marking;

static void
mark(Datum ids, void *arg)
{
	Marking    *marking = arg;
	QueryArg	args[] = {query_value(INT8ARRAYOID, ids), settle_time()};

	query_run_kept("WITH marked AS (UPDATE smartspace.cobot_checkin c SET state = 'sending', reason = NULL, message = NULL, posts = c.posts + 1,"
				   "  lost_at = NULL, sent_at = pg_catalog.clock_timestamp(), holds_until = pg_catalog.clock_timestamp() + " OUTCOME_LIMIT ","
				   "  next_attempt_at = pg_catalog.clock_timestamp() + $2 * interval '1 millisecond'"
				   " FROM smartspace.cobot_membership m JOIN smartspace.cobot_integration i ON i.id = m.integration_id"
				   " WHERE c.id = ANY ($1) AND c.state = 'queued' AND m.id = c.membership_id"
				   "  AND smartspace.cobot_too_late(c.entered_at, i.checkin_max_age, i.time_zone) IS NULL"
				   "  AND smartspace.cobot_not_active(m.departed_at, m.confirmed_at, m.starts_at, m.canceled_to, i.time_zone) IS NULL"
				   "  AND (c.source = 'call' OR i.auto_checkin) AND NOT i.checkin_dry_run"
				   " RETURNING c.id, c.sent_at"
				   "), left_over AS (UPDATE smartspace.cobot_checkin c SET next_attempt_at = pg_catalog.now()"
				   "  WHERE c.id = ANY ($1) AND c.state = 'queued' AND NOT EXISTS (SELECT FROM marked k WHERE k.id = c.id))"
				   " SELECT k.id, k.sent_at FROM marked k", lengthof(args), args);

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		CheckinRow *row = find_row(marking->rows, marking->count, query_result_int64(i, 1));

		row->open = row->sending = true;
		row->sent_at = query_result_int64(i, 2);
		row->posts++;
		marking->marked++;
	}
}

int
checkin_rows_mark(CheckinRow **rows, int count)
{
	Marking		marking = {.rows = rows, .count = count};
	Datum	   *ids = palloc_array(Datum, count);

	/* a crash must not forget what left, whatever synchronous_commit says */
	ForceSyncCommit();
	for (int i = 0; i < count; i++)
	{
		ids[i] = Int64GetDatum(rows[i]->id);
		rows[i]->open = false;
	}
	checkin_guard_rows(PointerGetDatum(construct_array(ids, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)),
					   mark, &marking);
	return marking.marked;
}

/* Writes about one row. If that is refused, this delivery is done with it. */
static bool
write_row(CheckinRow *row, const char *sql, int nargs, const QueryArg *args)
{
	const char *error;

	if (checkin_guard_query(sql, nargs, args, &error))
		return true;
	row->open = row->look_again = false;
	checkin_rest_row(row->id, error);
	return false;
}

static bool
settle(const CheckinRow *row, const char *state, const char *reason, const char *message, const CheckinRecord *record,
	   const char **error)
{
	QueryArg	args[] = {
		query_int64(row->id), query_text(state), query_text(reason), query_text(message),
		query_text(record ? record->id : NULL), moment(record ? record->valid_from : DT_NOBEGIN),
		moment(record ? record->valid_until : DT_NOEND), query_text(record ? record->time_pass_id : NULL)
	};

	/* an end that is over already, by this server's clock, must not make the next entry pay again */
	return checkin_guard_query("UPDATE smartspace.cobot_checkin c SET state = $2, reason = $3, message = $4, cobot_id = $5, valid_from = $6,"
							   "  valid_until = $7, time_pass_id = $8, settled_at = pg_catalog.clock_timestamp(), next_attempt_at = NULL,"
							   "  holds_until = CASE WHEN $2 NOT IN ('done', 'already_in') OR $7 <= pg_catalog.now()"
							   "   THEN pg_catalog.now() + i.checkin_pause_after_refusal"
							   "   ELSE COALESCE($7, smartspace.cobot_day_ends(pg_catalog.now(), i.time_zone)) END"
							   " FROM smartspace.cobot_integration i WHERE i.id = c.integration_id AND c.id = $1 AND c.state IN ('queued', 'sending')",
							   lengthof(args), args, error);
}

/*
 * The database may refuse what Cobot said, for reasons of its own, and the other rows must
 * not suffer. Then the row ends without Cobot's words; and if not even that is possible, it
 * stays as it is, says why, and is given up after some attempts.
 */
void
checkin_row_settle(CheckinRow *row, const char *state, const char *reason, const char *message, const CheckinRecord *record)
{
	CheckinRecord plain = {
		.valid_from = record ? record->valid_from : DT_NOBEGIN, .valid_until = record ? record->valid_until : DT_NOEND
	};
	const char *error;

	row->open = row->look_again = false;
	if (settle(row, state, reason, message, record, &error) ||
		settle(row, state, reason, "what Cobot said about it could not be stored", record ? &plain : NULL, &error))
		return;

	QueryArg	args[] = {query_int64(row->id), query_text(psprintf("it is %s, which could not be stored: %s", state, error))};

	(void) write_row(row, "UPDATE smartspace.cobot_checkin c SET message = $2 WHERE c.id = $1", lengthof(args), args);
}

void
checkin_row_note(CheckinRow *row, const char *reason, const char *message)
{
	QueryArg	args[] = {query_int64(row->id), query_text(reason), query_text(message), settle_time()};

	row->reason = reason;
	row->message = message;
	row->look_again = true;
	row->lost_at = GetCurrentTimestamp();
	(void) write_row(row, "UPDATE smartspace.cobot_checkin c SET reason = $2, message = $3, lost_at = pg_catalog.clock_timestamp(),"
			  " next_attempt_at = pg_catalog.clock_timestamp() + $4 * interval '1 millisecond'"
			  " WHERE c.id = $1 AND c.state = 'sending'", lengthof(args), args);
}

void
checkin_row_wait_for_list(CheckinRow *row)
{
	QueryArg	args[] = {query_int64(row->id), settle_time()};

	row->open = row->look_again = false;
	(void) write_row(row, "UPDATE smartspace.cobot_checkin c SET attempts = c.attempts - 1,"
			  " next_attempt_at = GREATEST(pg_catalog.now(), c.lost_at + $2 * interval '1 millisecond')"
			  " WHERE c.id = $1 AND c.state = 'sending'", lengthof(args), args);
}

void
checkin_row_not_made(CheckinRow *row)
{
	QueryArg	arg = query_int64(row->id);

	if (write_row(row, "UPDATE smartspace.cobot_checkin c SET state = 'queued', reason = 'no_answer',"
				  " holds_until = c.entered_at + i.checkin_max_age FROM smartspace.cobot_integration i"
				  " WHERE i.id = c.integration_id AND c.id = $1 AND c.state = 'sending'", 1, &arg))
		row->sending = false;
}

void
checkin_row_put_back(CheckinRow *row, bool unsent, const char *reason, const char *message, TimestampTz not_before)
{
	QueryArg	args[] = {
		query_int64(row->id), query_bool(unsent), query_text(reason), query_text(message),
		query_value(TIMESTAMPTZOID, TimestampTzGetDatum(not_before))
	};

	row->open = row->look_again = false;
	(void) write_row(row, "UPDATE smartspace.cobot_checkin c SET attempts = c.attempts - 1,"
			  " state = CASE WHEN $2 THEN 'queued' ELSE c.state END, posts = c.posts - $2::integer,"
			  " sent_at = CASE WHEN NOT $2 OR c.posts > 1 THEN c.sent_at END,"
			  " reason = CASE WHEN $2 OR c.state = 'queued' THEN $3 ELSE c.reason END,"
			  " message = CASE WHEN $2 OR c.state = 'queued' THEN $4 ELSE c.message END,"
			  " holds_until = CASE WHEN $2 THEN c.entered_at + i.checkin_max_age ELSE c.holds_until END,"
			  " next_attempt_at = GREATEST($5, pg_catalog.now() + " BACK_OFF("c.queued_at") ")"
			  " FROM smartspace.cobot_integration i"
			  " WHERE i.id = c.integration_id AND c.id = $1 AND c.state IN ('queued', 'sending')", lengthof(args), args);
}

static void
put_off(Datum ids, void *until)
{
	QueryArg	args[] = {query_value(INT8ARRAYOID, ids), query_value(TIMESTAMPTZOID, TimestampTzGetDatum(*(TimestampTz *) until))};

	query_run("UPDATE smartspace.cobot_checkin c SET next_attempt_at = $2 WHERE c.id = ANY ($1)", lengthof(args), args);
}

void
checkin_rows_put_off(int64 integration, TimestampTz until)
{
	QueryArg	args[] = {query_int64(integration), query_value(TIMESTAMPTZOID, TimestampTzGetDatum(until)), checkin_resting_rows()};

	query_run("SELECT pg_catalog.array_agg(c.id) FROM smartspace.cobot_checkin c"
			  " WHERE c.integration_id = $1 AND c.state IN ('queued', 'sending') AND c.next_attempt_at < $2 AND c.id <> ALL ($3)",
			  lengthof(args), args);

	Datum		ids = result_ids(CurrentMemoryContext);

	if (ids != (Datum) 0)
		checkin_guard_rows(ids, put_off, &until);
}

/* Somebody's foreign key or trigger may want to keep some of it. */
void
checkin_rows_tidy(void)
{
	QueryArg	arg = query_int64(smartspace_checkin_retention_days);
	const char *error;

	/* the oldest ids, whatever they are: a search for old rows would walk past all others */
	if (!checkin_guard_query("DELETE FROM smartspace.cobot_checkin c USING (SELECT o.id FROM smartspace.cobot_checkin o"
							 "  ORDER BY o.id LIMIT " TIDY_ROWS ") o"
							 " WHERE c.id = o.id AND c.settled_at < pg_catalog.now() - $1 * interval '1 day'", 1, &arg, &error) ||
		!checkin_guard_query("DELETE FROM smartspace.cobot_entry_problem p"
							 " WHERE p.last_at < pg_catalog.now() - $1 * interval '1 day'", 1, &arg, &error))
		ereport(LOG,
				(errmsg("the database refuses to delete old check-ins"),
				 errdetail("%s", error)));
}
