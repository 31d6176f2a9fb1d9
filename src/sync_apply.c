/*
 * sync_apply.c
 *	  Writes what differs, set-based, in the transaction of the caller. Grants
 *	  follow by the statement triggers of access.c.
 *
 * The rows to write stand in the relations incoming_plan, incoming_member and
 * incoming_departed; the text of the statements consists of constants and of
 * column names from the tables in cobot_record.c. Each statement gives one row
 * for each record it changed, and these become the relation "change".
 *
 * One record that the database refuses (a constraint or trigger of the backend's
 * own) must not stop the others. All members are written at once; only when that
 * fails are they halved until the culprits stand alone.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "query.h"
#include "sync.h"

/* The columns of "change", which every statement here returns. */
static const SyncColumn change_columns[] = {
	{"record", TEXTOID}, {"ordinal", INT4OID}, {"membership_id", INT8OID}, {"cobot_id", TEXTOID},
	{"member", TEXTOID}, {"what", TEXTOID}, {"before", JSONBOID}, {"after", JSONBOID},
	{"live_left", BOOLOID}, {"field_gone", BOOLOID}
};

/* What the steps below share. */
typedef struct Application
{
	SyncRun    *run;
	const SyncSnapshot *snapshot;
	SyncPlan   *plan;
	Datum		excluded;		/* integer[] of ordinals */
	SyncRows   *changes;
} Application;

/* "PREFIXa, PREFIXb, ..." for all fields. */
static char *
columns(const char *prefix, const CobotField *fields, int count)
{
	StringInfoData text;

	initStringInfo(&text);
	sync_rows_columns(&text, prefix, fields, count);
	return text.data;
}

/* Appends what the statement just run returned to the changes. */
static void
note_changes(Application *application)
{
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Datum		values[lengthof(change_columns)];
		bool		nulls[lengthof(change_columns)];

		heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values, nulls);
		sync_rows_add(application->changes, values, nulls, NULL);
	}
	SPI_freetuptable(SPI_tuptable);
}

/*
 * The columns of two rows as JSON that differ: lateral subquery giving before and
 * after. Whoever makes the JSON in a subquery ends it with OFFSET 0, lest it is made
 * again for each column.
 */
#define DIFFERENT_COLUMNS(OLD, NEW) \
	" CROSS JOIN LATERAL (SELECT pg_catalog.jsonb_object_agg(b.key, b.value) AS before," \
	"  pg_catalog.jsonb_object_agg(b.key, " NEW " -> b.key) AS after" \
	"  FROM pg_catalog.jsonb_each(" OLD ") b WHERE b.value IS DISTINCT FROM " NEW " -> b.key) x"

/* ---- the space and its plans ---- */

/* When the clock moves, everybody's access does. */
static void
apply_space(Application *application)
{
	SyncRun    *run = application->run;
	const Space *space = &application->snapshot->space;
	QueryArg	args[] = {query_int64(run->integration.id), query_text(space->time_zone)};

	if (space->time_zone_known)
	{
		query_run("SELECT 'space', NULL::integer, NULL::bigint, COALESCE(i.space_id, i.subdomain), NULL, 'changed',"
				  " pg_catalog.jsonb_build_object('time_zone', i.time_zone), pg_catalog.jsonb_build_object('time_zone', $2),"
				  " false, false FROM smartspace.cobot_integration i WHERE i.id = $1 AND i.time_zone <> $2",
				  lengthof(args), args);
		note_changes(application);
	}
	space_store(run->integration.id, space);
}

static void
update_plans(Application *application)
{
	QueryArg	arg = query_int64(application->run->integration.id);
	char	   *names = columns("", cobot_plan_fields, cobot_plan_field_count);
	char	   *stored = columns("o.", cobot_plan_fields, cobot_plan_field_count);
	char	   *incoming = columns("r.", cobot_plan_fields, cobot_plan_field_count);

	query_run(psprintf("WITH different AS (SELECT o AS old_row, o.id, r.* FROM incoming_plan r"
					   "  JOIN smartspace.cobot_plan o ON o.integration_id = $1 AND o.cobot_id = r.cobot_id"
					   "  WHERE (%s) IS DISTINCT FROM (%s)"
					   "), written AS ("
					   " UPDATE smartspace.cobot_plan p SET (%s) = ROW (%s) FROM different r WHERE p.id = r.id"
					   " RETURNING p.cobot_id, pg_catalog.to_jsonb(r.old_row) AS o, pg_catalog.to_jsonb(p) AS n)"
					   " SELECT 'plan', NULL::integer, NULL::bigint, w.cobot_id, NULL, 'changed', x.before, x.after, false, false"
					   " FROM written w" DIFFERENT_COLUMNS("w.o", "w.n"),
					   stored, incoming, names, incoming), 1, &arg);
	note_changes(application);
}

/* A record that does not say which plan it is may be any of them. */
static bool
has_nameless(const JsonArray *plans)
{
	for (size_t i = 0; i < plans->count; i++)
		if (plans->element[i].id == NULL || plans->element[i].id[0] == '\0')
			return true;
	return false;
}

/* Plans of Cobot's list; one that is listed no more stays, since members and assignments refer to it. */
static void
apply_plans(Application *application)
{
	const JsonArray *plans = application->snapshot->plans;
	QueryArg	args[] = {
		query_int64(application->run->integration.id), query_value(TEXTARRAYOID, sync_ids_of(plans)),
		query_bool(has_nameless(plans))
	};

	update_plans(application);
	query_run("UPDATE smartspace.cobot_plan p SET listed = (p.cobot_id = ANY ($2))"
			  " WHERE p.integration_id = $1 AND p.listed <> (p.cobot_id = ANY ($2)) AND NOT (p.listed AND $3)"
			  " RETURNING 'plan', NULL::integer, NULL::bigint, p.cobot_id, NULL,"
			  " CASE WHEN p.listed THEN 'listed' ELSE 'unlisted' END, NULL::jsonb, NULL::jsonb, false, false", lengthof(args), args);
	note_changes(application);
	query_run(psprintf("INSERT INTO smartspace.cobot_plan AS p (integration_id, %s)"
					   " SELECT $1, %s FROM incoming_plan r WHERE NOT EXISTS (SELECT FROM smartspace.cobot_plan o"
					   "  WHERE o.integration_id = $1 AND o.cobot_id = r.cobot_id)"
					   " RETURNING 'plan', NULL::integer, NULL::bigint, p.cobot_id, NULL, 'listed', NULL::jsonb,"
					   " pg_catalog.jsonb_build_object('name', p.name), false, false",
					   columns("", cobot_plan_fields, cobot_plan_field_count),
					   columns("r.", cobot_plan_fields, cobot_plan_field_count)), 1, args);
	note_changes(application);
}

/*
 * Facts: a plan that was taken out of the list is still named as the parent of
 * members' copies. It becomes a plan here as well, so that it can be assigned; also
 * where the member is held or rejected, so that the next run knows it.
 */
static void
apply_unlisted_plans(Application *application)
{
	QueryArg	arg = query_int64(application->run->integration.id);

	query_run("INSERT INTO smartspace.cobot_plan AS p (integration_id, cobot_id, name, listed)"
			  " SELECT DISTINCT ON (r.parent_plan_id) $1, r.parent_plan_id, r.plan_name, false"
			  " FROM incoming_member r WHERE r.parent_plan_id IS NOT NULL"
			  " AND NOT EXISTS (SELECT FROM smartspace.cobot_plan o"
			  "  WHERE o.integration_id = $1 AND o.cobot_id = r.parent_plan_id)"
			  " ORDER BY r.parent_plan_id, r.plan_name"
			  " RETURNING 'plan', NULL::integer, NULL::bigint, p.cobot_id, NULL, 'unlisted', NULL::jsonb,"
			  " pg_catalog.jsonb_build_object('name', p.name), false, false", 1, &arg);
	note_changes(application);
}

/* ---- members ---- */

/*
 * Members that are known: the row is written if a column or the hash differs. Who
 * was erased and has not come back stays as they are.
 */
static void
update_members(Application *application, QueryArg *args, int nargs)
{
	char	   *names = columns("", cobot_membership_fields, cobot_membership_field_count);
	char	   *stored = columns("o.", cobot_membership_fields, cobot_membership_field_count);

	query_run(psprintf("WITH different AS ("
					   " SELECT r.*, o AS old_row, o.id AS id, o.plan_id AS old_plan_id, p.id AS plan_id,"
					   "  o.individual_access AS old_individual,"
					   "  CASE WHEN r.keep_individual THEN o.individual_access ELSE r.individual_access END AS individual,"
					   "  CASE WHEN r.has_ended THEN COALESCE(o.departed_at, pg_catalog.now()) END AS departed,"
					   "  o.departed_at IS NOT NULL AND NOT r.has_ended AS returned,"
					   "  o.departed_at IS NULL AND r.has_ended AS departs,"
					   "  " SYNC_IS_LIVE("o", "i.time_zone") " AS live,"
					   "  (%s, o.plan_id, o.individual_access) IS DISTINCT FROM"
					   "  (%s, p.id, CASE WHEN r.keep_individual THEN o.individual_access ELSE r.individual_access END) AS differs"
					   " FROM incoming_member r"
					   " JOIN smartspace.cobot_membership o ON o.integration_id = $1 AND o.cobot_id = r.cobot_id"
					   " JOIN smartspace.cobot_integration i ON i.id = o.integration_id"
					   " LEFT JOIN smartspace.cobot_plan p ON p.integration_id = $1 AND p.cobot_id = r.parent_plan_id"
					   " WHERE r.ordinal BETWEEN $2 AND $3 AND r.ordinal <> ALL ($4)"
					   " AND NOT (o.erased_at IS NOT NULL AND (r.has_ended"
					   "  OR COALESCE(r.canceled_to < (pg_catalog.now() AT TIME ZONE COALESCE(i.time_zone, 'UTC'))::date, false)))"
					   "), written AS ("
					   " UPDATE smartspace.cobot_membership m"
					   " SET (%s, plan_id, individual_access, departed_at, source_hash, erased_at)"
					   " = ROW (%s, d.plan_id, d.individual, d.departed, d.source_hash, NULL)"
					   " FROM different d WHERE m.id = d.id"
					   " AND (d.differs OR d.returned OR d.departs OR d.source_hash IS NOT NULL AND m.source_hash IS DISTINCT FROM d.source_hash)"
					   " RETURNING m.id, d.ordinal, m.cobot_id, m.name, d.differs, d.returned, d.departs, d.live, d.field_gone,"
					   "  d.plan_id IS DISTINCT FROM d.old_plan_id AS other_plan,"
					   "  d.old_individual IS NOT NULL AND d.individual IS NULL AS individual_lost,"
					   "  d.old_row, m AS new_row)"
					   " SELECT 'membership', w.ordinal, w.id, w.cobot_id, w.name,"
					   " CASE WHEN w.returned THEN 'returned' WHEN w.departs THEN 'left'"
					   "  WHEN w.other_plan THEN 'changed_plan' ELSE 'changed' END,"
					   " x.before, x.after, w.departs AND w.live, w.field_gone AND w.individual_lost"
					   " FROM (SELECT *, pg_catalog.to_jsonb(old_row) - 'source_hash' AS o, pg_catalog.to_jsonb(new_row) - 'source_hash' AS n"
					   "  FROM written WHERE differs OR returned OR departs OFFSET 0) w"
					   DIFFERENT_COLUMNS("w.o", "w.n")
					   " ORDER BY w.ordinal",
					   stored, columns("r.", cobot_membership_fields, cobot_membership_field_count),
					   names, columns("d.", cobot_membership_fields, cobot_membership_field_count)), nargs, args);
	note_changes(application);
}

/* Who is new: nobody holds that, so the ordinal is not needed. A former or unconfirmed member whom nobody here knows is none of our business. */
static void
insert_members(Application *application, QueryArg *args, int nargs)
{
	query_run(psprintf("INSERT INTO smartspace.cobot_membership AS m"
					   " (integration_id, %s, plan_id, individual_access, source_hash)"
					   " SELECT $1, %s, p.id, r.individual_access, r.source_hash"
					   " FROM incoming_member r"
					   " LEFT JOIN smartspace.cobot_plan p ON p.integration_id = $1 AND p.cobot_id = r.parent_plan_id"
					   " WHERE r.ordinal BETWEEN $2 AND $3 AND r.ordinal <> ALL ($4) AND NOT r.has_ended"
					   " AND (r.confirmed_at IS NOT NULL OR r.source_hash IS NOT NULL)"
					   " AND NOT EXISTS (SELECT FROM smartspace.cobot_membership o"
					   "  WHERE o.integration_id = $1 AND o.cobot_id = r.cobot_id)"
					   " RETURNING 'membership', NULL::integer, m.id, m.cobot_id, m.name, 'joined', NULL::jsonb,"
					   " pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object('plan_name', m.plan_name, 'starts_at', m.starts_at,"
					   "  'canceled_to', m.canceled_to, 'individual_access', m.individual_access)), false, false",
					   columns("", cobot_membership_fields, cobot_membership_field_count),
					   columns("r.", cobot_membership_fields, cobot_membership_field_count)), nargs, args);
	note_changes(application);
}

/* Memberships that Cobot deleted: the row and its id stay, the access goes. */
static void
suspend_departed(Application *application, QueryArg *args, int nargs)
{
	query_run("WITH gone AS (SELECT r.ordinal, o.id,"
			  "  " SYNC_IS_LIVE("o", "i.time_zone") " AS live"
			  " FROM incoming_departed r"
			  " JOIN smartspace.cobot_membership o ON o.integration_id = $1 AND o.cobot_id = r.cobot_id AND o.departed_at IS NULL"
			  " JOIN smartspace.cobot_integration i ON i.id = o.integration_id"
			  " WHERE r.ordinal BETWEEN $2 AND $3 AND r.ordinal <> ALL ($4))"
			  " UPDATE smartspace.cobot_membership m SET departed_at = pg_catalog.now(), source_hash = NULL"
			  " FROM gone g WHERE m.id = g.id"
			  " RETURNING 'membership', g.ordinal, m.id, m.cobot_id, m.name, 'left', NULL::jsonb,"
			  " pg_catalog.jsonb_build_object('departed_at', m.departed_at), g.live, false", nargs, args);
	note_changes(application);
}

static void
write_range(Application *application, int from, int to)
{
	QueryArg	args[] = {
		query_int64(application->run->integration.id),
		query_value(INT4OID, Int32GetDatum(from)), query_value(INT4OID, Int32GetDatum(to)),
		query_value(INT4ARRAYOID, application->excluded)
	};

	if (application->plan->members->count > 0)
	{
		update_members(application, args, lengthof(args));
		insert_members(application, args, lengthof(args));
	}
	if (application->plan->departed->count > 0)
		suspend_departed(application, args, lengthof(args));
}

/* ---- one bad record ---- */

/*
 * Errors that a record can be blamed for: its data, constraints, limits, and what
 * triggers of the backend raise. Everything else (cancel, deadlock, lack of
 * memory or of disk) ends the run.
 */
static bool
blames_record(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_DATA_EXCEPTION:
		case ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION:
		case ERRCODE_PROGRAM_LIMIT_EXCEEDED:
		case ERRCODE_PLPGSQL_ERROR:
		case ERRCODE_EXTERNAL_ROUTINE_EXCEPTION:
		case ERRCODE_WITH_CHECK_OPTION_VIOLATION:
			return true;
	}
	return false;
}

/* The Cobot id of the row with this ordinal, in either relation. */
static char *
id_of(int ordinal)
{
	QueryArg	arg = query_value(INT4OID, Int32GetDatum(ordinal));

	query_run("SELECT r.cobot_id FROM incoming_member r WHERE r.ordinal = $1"
			  " UNION ALL SELECT d.cobot_id FROM incoming_departed d WHERE d.ordinal = $1", 1, &arg);
	return query_result_text(0, 1);
}

static void
reject(Application *application, int ordinal, const ErrorData *error)
{
	char	   *cobot_id = id_of(ordinal);
	char	   *detail = psprintf("the database refuses the record: %s (SQLSTATE %s)",
								  error->message, unpack_sql_state(error->sqlerrcode));

	sync_plan_reject(application->plan, "membership", cobot_id, detail)->ordinal = ordinal;
}

/* Writes the rows from..to, or as many of them as the database takes. */
static void
apply_range(Application *application, int from, int to)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	SyncRows   *before = application->changes;
	ErrorData  *volatile error = NULL;

	if (from > to)
		return;

	/* What a failed attempt notes must vanish with it. */
	application->changes = sync_rows_create("change", change_columns, lengthof(change_columns), NULL, 0);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		write_range(application, from, to);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(application->run->context);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	if (error == NULL)
		ReleaseCurrentSubTransaction();
	else
		RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (error != NULL && !blames_record(error->sqlerrcode))
		ReThrowError(error);

	SyncRows   *noted = application->changes;

	application->changes = before;
	if (error == NULL)
		sync_rows_append(before, noted);
	sync_rows_free(noted);
	if (error != NULL && from == to)
		reject(application, from, error);
	else if (error != NULL)
	{
		apply_range(application, from, from + (to - from) / 2);
		apply_range(application, from + (to - from) / 2 + 1, to);
	}
}

SyncRows *
sync_apply(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan, Datum excluded)
{
	Application application = {
		.run = run, .snapshot = snapshot, .plan = plan, .excluded = excluded,
		.changes = sync_rows_create("change", change_columns, lengthof(change_columns), NULL, 0)
	};

	if (snapshot->has_space)
		apply_space(&application);
	if (snapshot->plans)
		apply_plans(&application);
	if (plan->members->count > 0)
		apply_unlisted_plans(&application);
	apply_range(&application, 0, plan->ordinals - 1);
	return application.changes;
}

void
sync_apply_problems(SyncRun *run, SyncPlan *plan, bool partial)
{
	QueryArg	args[] = {query_int64(run->integration.id), query_bool(!partial)};

	sync_rows_register(plan->problems);

	query_run_over(plan->problems->count, "DELETE FROM smartspace.cobot_record_problem p WHERE p.integration_id = $1"
			  " AND NOT EXISTS (SELECT FROM incoming_problem r WHERE (r.problem, r.record, r.cobot_id)"
			  "  = (p.problem, p.record, p.cobot_id))"
			  " AND ($2 OR p.record = 'membership' AND p.cobot_id IN (SELECT m.cobot_id FROM incoming_member m"
			  "  UNION ALL SELECT d.cobot_id FROM incoming_departed d))", lengthof(args), args);
	query_run_over(plan->problems->count, "INSERT INTO smartspace.cobot_record_problem AS p (integration_id, problem, record, cobot_id, detail)"
			  " SELECT DISTINCT ON (r.problem, r.record, r.cobot_id) $1, r.problem, r.record, r.cobot_id, r.detail"
			  " FROM incoming_problem r WHERE NOT EXISTS (SELECT FROM smartspace.cobot_record_problem o"
			  "  WHERE (o.integration_id, o.problem, o.record, o.cobot_id, o.detail)"
			  "  = ($1, r.problem, r.record, r.cobot_id, r.detail))"
			  " ORDER BY r.problem, r.record, r.cobot_id, r.detail"
			  " ON CONFLICT ON CONSTRAINT cobot_record_problem_pkey DO UPDATE SET detail = excluded.detail"
			  " WHERE p.detail <> excluded.detail", 1, args);
}
