/*
 * integration.c
 *	  One row of cobot_integration together with its secrets.
 */
#include "postgres.h"

#include "integration.h"
#include "query.h"

void
integration_load(Integration *integration, int64 id, bool is_null)
{
	if (is_null)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the integration must not be null"),
				 errhint("The view smartspace.cobot_status lists the integrations and their ids.")));

	QueryArg	arg = query_int64(id);

	if (query_run("SELECT i.id, i.name, i.subdomain, i.state, i.space_id, i.time_zone,"
				  " i.sync_individual_access, s.token, s.hash_seed,"
				  " i.hold_removals_above, i.hold_removals_above_percent, i.hold_emptied_group_of"
				  " FROM smartspace.cobot_integration i"
				  " LEFT JOIN smartspace.cobot_secret s ON s.integration_id = i.id WHERE i.id = $1",
				  1, &arg) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("integration %lld does not exist", (long long) id),
				 errhint("The view smartspace.cobot_status lists the integrations and their ids.")));

	integration->id = id;
	integration->name = query_result_text(0, 2);
	integration->subdomain = query_result_text(0, 3);
	integration->state = query_result_text(0, 4);
	integration->space_id = query_result_text(0, 5);
	integration->time_zone = query_result_text(0, 6);
	integration->sync_individual_access = query_result_bool(0, 7);
	integration->token = query_result_text(0, 8);
	integration->hash_seed = query_result_int64(0, 9);
	integration->hold_removals_above = (int) query_result_int64(0, 10);
	integration->hold_removals_above_percent = (int) query_result_int64(0, 11);
	integration->hold_emptied_group_of = (int) query_result_int64(0, 12);
	SPI_freetuptable(SPI_tuptable);
}

void
integration_require_connected(const Integration *integration)
{
	if (strcmp(integration->state, "paused") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("integration \"%s\" is paused", integration->name),
				 errhint("Set its state back to connected to go on.")));
	if (integration->token == NULL || strcmp(integration->state, "disconnected") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("integration \"%s\" is not connected to Cobot", integration->name),
				 errdetail("There is no access token for https://%s.cobot.me. Tokens are not part of a dump, so a restored database has none.",
						   integration->subdomain),
				 errhint("Connect it with smartspace.cobot_connect_token(%lld, token).", (long long) integration->id)));
}

void
integration_wipe(Integration *integration)
{
	if (integration->token)
		explicit_bzero(integration->token, strlen(integration->token));
}

void
integration_set_connected(int64 id)
{
	QueryArg	arg = query_int64(id);

	query_run("UPDATE smartspace.cobot_integration SET state = 'connected', state_reason = NULL, state_since = pg_catalog.now()"
			  " WHERE id = $1 AND (state, state_reason) IS DISTINCT FROM ('connected', NULL)", 1, &arg);
}

void
integration_report(int64 id, const char *reason)
{
	QueryArg	args[] = {query_int64(id), query_text(reason ? "degraded" : "connected"), query_text(reason)};

	query_run("UPDATE smartspace.cobot_integration SET state = $2, state_reason = $3, state_since = pg_catalog.now()"
			  " WHERE id = $1 AND state IN ('connected', 'degraded')"
			  " AND (state, state_reason) IS DISTINCT FROM ($2, $3)", lengthof(args), args);
}
