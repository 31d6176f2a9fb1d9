/*
 * sync_apply.c
 *	  Writes what differs, set-based, in the transaction of the caller. Grants
 *	  follow by the statement triggers of access.c.
 *
 * The rows to write stand in the relations incoming_plan, incoming_member and
 * incoming_problem; the text of the statements consists of constants and of
 * column names from the tables in cobot_record.c.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "lock.h"
#include "query.h"
#include "sync.h"

/* "(PREFIXa, PREFIXb, ...)" for all fields. */
static char *
columns(const char *prefix, const CobotField *fields, int count)
{
	StringInfoData text;

	initStringInfo(&text);
	sync_rows_columns(&text, prefix, fields, count);
	return text.data;
}

/*
 * Locks in the order of lock.h before rows are touched, so that somebody who
 * flips a switch or edits an assignment at the same time waits instead of
 * meeting us half-way.
 */
static void
take_locks(SyncRun *run)
{
	QueryArg	arg = query_int64(run->integration.id);

	query_run("SELECT FROM smartspace.cobot_integration WHERE id = $1 FOR NO KEY UPDATE", 1, &arg);
	lock_identifiers(false);
	lock_access(run->integration.id);
}

/* Plans of Cobot's list; one that is listed no more stays, since members and assignments refer to it. */
static void
apply_plans(SyncRun *run, const SyncSnapshot *snapshot)
{
	int			count = (int) snapshot->plans->count;
	Datum	   *ids = palloc(sizeof(Datum) * Max(count, 1));
	int			id_count = 0;

	for (int i = 0; i < count; i++)
		if (snapshot->plans->element[i].id)
			ids[id_count++] = CStringGetTextDatum(snapshot->plans->element[i].id);

	QueryArg	args[] = {
		query_int64(run->integration.id),
		query_value(TEXTARRAYOID, query_text_array(ids, id_count))
	};
	char	   *names = columns("", cobot_plan_fields, cobot_plan_field_count);
	char	   *stored = columns("p.", cobot_plan_fields, cobot_plan_field_count);
	char	   *incoming = columns("r.", cobot_plan_fields, cobot_plan_field_count);

	query_run(psprintf("UPDATE smartspace.cobot_plan p SET (%s) = ROW (%s) FROM incoming_plan r"
					   " WHERE p.integration_id = $1 AND p.cobot_id = r.cobot_id"
					   " AND (%s) IS DISTINCT FROM (%s)", names, incoming, stored, incoming), 1, args);
	query_run("UPDATE smartspace.cobot_plan p SET listed = (p.cobot_id = ANY ($2))"
			  " WHERE p.integration_id = $1 AND p.listed <> (p.cobot_id = ANY ($2))", 2, args);
	query_run(psprintf("INSERT INTO smartspace.cobot_plan (integration_id, %s)"
					   " SELECT $1, %s FROM incoming_plan r WHERE NOT EXISTS (SELECT FROM smartspace.cobot_plan p"
					   "  WHERE p.integration_id = $1 AND p.cobot_id = r.cobot_id)", names, incoming), 1, args);
}

/*
 * Facts: a plan that was taken out of the list is still named as the parent of
 * members' copies. It becomes a plan here as well, so that it can be assigned.
 */
static void
apply_unlisted_plans(SyncRun *run)
{
	QueryArg	arg = query_int64(run->integration.id);

	query_run("INSERT INTO smartspace.cobot_plan (integration_id, cobot_id, name, listed)"
			  " SELECT DISTINCT ON (r.parent_plan_id) $1, r.parent_plan_id, r.plan_name, false"
			  " FROM incoming_member r WHERE r.parent_plan_id IS NOT NULL"
			  " AND NOT EXISTS (SELECT FROM smartspace.cobot_plan p"
			  "  WHERE p.integration_id = $1 AND p.cobot_id = r.parent_plan_id)"
			  " ORDER BY r.parent_plan_id, r.plan_name", 1, &arg);
}

/* Members that are known: the row is written if a column or the hash differs. */
static void
update_members(SyncRun *run)
{
	QueryArg	arg = query_int64(run->integration.id);
	char	   *names = columns("", cobot_membership_fields, cobot_membership_field_count);
	char	   *incoming = columns("d.", cobot_membership_fields, cobot_membership_field_count);

	query_run(psprintf("WITH different AS ("
					   " SELECT r.*, o.id AS id, p.id AS plan_id,"
					   "  CASE WHEN r.keep_individual THEN o.individual_access ELSE r.individual_access END AS individual,"
					   "  CASE WHEN r.has_ended THEN COALESCE(o.departed_at, pg_catalog.now()) END AS departed,"
					   "  o.departed_at IS NOT NULL AND NOT r.has_ended AS returned,"
					   "  o.departed_at IS NULL AND r.has_ended AS departs,"
					   "  (%s, o.plan_id, o.individual_access) IS DISTINCT FROM"
					   "  (%s, p.id, CASE WHEN r.keep_individual THEN o.individual_access ELSE r.individual_access END) AS differs"
					   " FROM incoming_member r"
					   " JOIN smartspace.cobot_membership o ON o.integration_id = $1 AND o.cobot_id = r.cobot_id"
					   " LEFT JOIN smartspace.cobot_plan p ON p.integration_id = $1 AND p.cobot_id = r.parent_plan_id"
					   "), written AS ("
					   " UPDATE smartspace.cobot_membership m"
					   " SET (%s, plan_id, individual_access, departed_at, source_hash)"
					   " = ROW (%s, d.plan_id, d.individual, d.departed, d.source_hash)"
					   " FROM different d WHERE m.id = d.id"
					   " AND (d.differs OR d.returned OR d.departs OR d.source_hash IS NOT NULL AND m.source_hash IS DISTINCT FROM d.source_hash)"
					   " RETURNING d.returned, d.departs, d.differs)"
					   " SELECT pg_catalog.count(*) FILTER (WHERE w.returned),"
					   " pg_catalog.count(*) FILTER (WHERE w.departs),"
					   " pg_catalog.count(*) FILTER (WHERE w.differs AND NOT w.returned AND NOT w.departs) FROM written w",
					   columns("o.", cobot_membership_fields, cobot_membership_field_count),
					   columns("r.", cobot_membership_fields, cobot_membership_field_count),
					   names, incoming), 1, &arg);
	run->members_added += (int) query_result_int64(0, 1);
	run->members_removed += (int) query_result_int64(0, 2);
	run->members_changed += (int) query_result_int64(0, 3);
}

static void
insert_members(SyncRun *run)
{
	QueryArg	arg = query_int64(run->integration.id);

	run->members_added += (int)
		query_run(psprintf("INSERT INTO smartspace.cobot_membership"
						   " (integration_id, %s, plan_id, individual_access, source_hash)"
						   " SELECT $1, %s, p.id, r.individual_access, r.source_hash"
						   " FROM incoming_member r"
						   " LEFT JOIN smartspace.cobot_plan p ON p.integration_id = $1 AND p.cobot_id = r.parent_plan_id"
						   " WHERE NOT EXISTS (SELECT FROM smartspace.cobot_membership m"
						   "  WHERE m.integration_id = $1 AND m.cobot_id = r.cobot_id)",
						   columns("", cobot_membership_fields, cobot_membership_field_count),
						   columns("r.", cobot_membership_fields, cobot_membership_field_count)), 1, &arg);
}

/* Memberships that Cobot deleted: the row and its id stay, the access goes. */
static void
suspend_departed(SyncRun *run, const SyncPlan *plan)
{
	Datum	   *ids = palloc(sizeof(Datum) * plan->departed_count);

	for (int i = 0; i < plan->departed_count; i++)
		ids[i] = Int64GetDatum(plan->departed[i]);

	QueryArg	arg = query_value(INT8ARRAYOID,
								  PointerGetDatum(construct_array(ids, plan->departed_count, INT8OID,
																  sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)));

	run->members_removed += (int)
		query_run("UPDATE smartspace.cobot_membership SET departed_at = pg_catalog.now(), source_hash = NULL"
				  " WHERE id = ANY ($1) AND departed_at IS NULL", 1, &arg);
}

/* The problems of this run replace those of the one before; a problem that lasts keeps its "since". */
static void
apply_problems(SyncRun *run)
{
	QueryArg	arg = query_int64(run->integration.id);

	query_run("DELETE FROM smartspace.cobot_record_problem p WHERE p.integration_id = $1"
			  " AND NOT EXISTS (SELECT FROM incoming_problem r WHERE (r.problem, r.record, r.cobot_id)"
			  "  = (p.problem, p.record, p.cobot_id))", 1, &arg);
	query_run("INSERT INTO smartspace.cobot_record_problem AS p (integration_id, problem, record, cobot_id, detail)"
			  " SELECT DISTINCT ON (r.problem, r.record, r.cobot_id) $1, r.problem, r.record, r.cobot_id, r.detail"
			  " FROM incoming_problem r WHERE NOT EXISTS (SELECT FROM smartspace.cobot_record_problem o"
			  "  WHERE (o.integration_id, o.problem, o.record, o.cobot_id, o.detail)"
			  "  = ($1, r.problem, r.record, r.cobot_id, r.detail))"
			  " ORDER BY r.problem, r.record, r.cobot_id, r.detail"
			  " ON CONFLICT ON CONSTRAINT cobot_record_problem_pkey DO UPDATE SET detail = excluded.detail"
			  " WHERE p.detail <> excluded.detail", 1, &arg);
}

void
sync_apply(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan)
{
	bool		zone_moved = snapshot->space.time_zone_known &&
		(run->integration.time_zone == NULL ||
		 strcmp(run->integration.time_zone, snapshot->space.time_zone) != 0);

	sync_rows_register(plan->plans);
	sync_rows_register(plan->members);
	sync_rows_register(plan->problems);

	if (plan->members->count > 0 || plan->departed_count > 0 || zone_moved)
		take_locks(run);

	space_store(run->integration.id, &snapshot->space);
	apply_plans(run, snapshot);
	if (plan->members->count > 0)
	{
		apply_unlisted_plans(run);
		update_members(run);
		insert_members(run);
	}
	if (plan->departed_count > 0)
		suspend_departed(run, plan);
	apply_problems(run);
}
