/*
 * sync_task.c
 *	  When which integration is synchronised by itself: the rows of cobot_sync_task, as
 *	  far as others than the worker write them. Runs in any backend.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "integration.h"
#include "query.h"
#include "wake.h"

PG_FUNCTION_INFO_V1(sync_task_follow);
PG_FUNCTION_INFO_V1(sync_task_request);

/*
 * Trigger on cobot_integration. First argument: when it is due at the latest, as a
 * timestamp; a second one: as if somebody had asked for it. A new integration cannot be
 * asked yet, one that was connected or armed shall be synchronised at once, and a shorter
 * interval is looked at by the worker.
 */
Datum
sync_task_follow(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("cobot_follow_integration() can only be called as a trigger")));

	const Trigger *trigger = data->tg_trigger;
	HeapTuple	row = TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple : data->tg_trigtuple;
	TupleDesc	desc = RelationGetDescr(data->tg_relation);
	bool		isnull;

	SPI_connect();

	QueryArg	args[] = {
		query_value(INT8OID, SPI_getbinval(row, desc, SPI_fnumber(desc, "id"), &isnull)),
		query_text(trigger->tgargs[0]), query_bool(trigger->tgnargs > 1)
	};

	/* connecting has checked everything; many that were connected together are not checked together */
	query_run("INSERT INTO smartspace.cobot_sync_task AS t (integration_id, due_at, requested_at, check_due_at)"
			  " VALUES ($1, $2::timestamptz, CASE WHEN $3 THEN pg_catalog.clock_timestamp() END,"
			  "  CASE WHEN $3 THEN pg_catalog.clock_timestamp() + (0.5 + pg_catalog.random()) * interval '1 day' ELSE 'infinity' END)"
			  " ON CONFLICT (integration_id) DO UPDATE SET due_at = LEAST(t.due_at, excluded.due_at),"
			  "  requested_at = COALESCE(excluded.requested_at, t.requested_at),"
			  "  check_due_at = CASE WHEN $3 THEN excluded.check_due_at ELSE t.check_due_at END", lengthof(args), args);
	SPI_finish();
	wake_at_commit();
	return PointerGetDatum(NULL);
}

/*
 * cobot_request_sync(integration bigint) -> bigint, how many were queued
 */
Datum
sync_task_request(PG_FUNCTION_ARGS)
{
	QueryArg	args[] = {
		{.type = INT8OID, .value = PG_ARGISNULL(0) ? 0 : PG_GETARG_DATUM(0), .isnull = PG_ARGISNULL(0)},
		query_text(GetUserNameFromId(GetSessionUserId(), true))
	};
	uint64		count;

	PreventCommandIfReadOnly("cobot_request_sync()");
	SPI_connect();
	if (!PG_ARGISNULL(0))
	{
		Integration integration;

		integration_load(&integration, PG_GETARG_INT64(0), false);
		integration_require_connected(&integration);
		integration_wipe(&integration);
	}
	count = query_run("INSERT INTO smartspace.cobot_sync_task AS t (integration_id, due_at, requested_at, requested_by)"
					  " SELECT i.id, pg_catalog.now(), pg_catalog.clock_timestamp(), $2 FROM smartspace.cobot_integration i"
					  " WHERE i.id = $1 OR $1 IS NULL AND i.state IN ('connected', 'degraded') AND NOT i.fed_from_outside"
					  " ON CONFLICT (integration_id) DO UPDATE SET due_at = LEAST(t.due_at, excluded.due_at),"
					  "  requested_at = excluded.requested_at, requested_by = excluded.requested_by", lengthof(args), args);
	SPI_finish();
	if (count > 0 && !wake_has_worker())
		ereport(NOTICE,
				(errmsg("no worker looks after this database"),
				 errdetail("What was queued is done by the next cobot_run_due()."),
				 errhint("Schedule it with smartspace.cobot_schedule(), or name the database in smartspace_cobot.databases and smartspace_cobot in shared_preload_libraries.")));
	wake_at_commit();
	PG_RETURN_INT64((int64) count);
}
