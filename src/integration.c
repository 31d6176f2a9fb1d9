/*
 * integration.c
 *	  One row of cobot_integration together with its secrets.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "caller.h"
#include "integration.h"
#include "query.h"

PG_FUNCTION_INFO_V1(integration_arm);

static void raise_unknown(int64 id) pg_attribute_noreturn();

static void
raise_unknown(int64 id)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("integration %lld does not exist", (long long) id),
			 errhint("The view smartspace.cobot_status lists the integrations and their ids.")));
}

void
integration_load(Integration *integration, int64 id, bool is_null)
{
	if (is_null)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the integration must not be null"),
				 errhint("The view smartspace.cobot_status lists the integrations and their ids.")));

	QueryArg	arg = query_int64(id);

	/* an integration of others is none: not even that it exists is told */
	if (!caller_sees(id) ||
		query_run_kept("SELECT i.id, i.name, i.subdomain, i.state, i.space_id, i.time_zone,"
				  " i.sync_individual_access, s.token, s.hash_seed,"
				  " (i.armed_system, i.armed_database, i.armed_environment) IS NOT NULL,"
				  " i.armed_system, i.armed_database::pg_catalog.int8, i.armed_environment,"
				  " i.hold_removals_above, i.hold_removals_above_percent, i.hold_emptied_group_of,"
				  " i.connected_by"
				  " FROM smartspace.cobot_integration i"
				  " LEFT JOIN smartspace.cobot_secret s ON s.integration_id = i.id WHERE i.id = $1",
				  1, &arg) == 0)
		raise_unknown(id);

	integration->id = id;
	integration->name = query_result_text(0, 2);
	integration->subdomain = query_result_text(0, 3);
	integration->state = query_result_text(0, 4);
	integration->space_id = query_result_text(0, 5);
	integration->time_zone = query_result_text(0, 6);
	integration->sync_individual_access = query_result_bool(0, 7);
	integration->hash_seed = query_result_int64(0, 9);
	integration->home = (Home) {
		.known = query_result_bool(0, 10),
		.system = query_result_int64(0, 11),
		.database = (Oid) query_result_int64(0, 12),
		.environment = query_result_text(0, 13)
	};
	integration->hold_removals_above = (int) query_result_int64(0, 14);
	integration->hold_removals_above_percent = (int) query_result_int64(0, 15);
	integration->hold_emptied_group_of = (int) query_result_int64(0, 16);
	integration->connected_by = query_result_text(0, 17);

	integration->token = secret_open(SECRET_TOKEN, id, query_result_text(0, 8));
	SPI_freetuptable(SPI_tuptable);
}

void
integration_lock(int64 id)
{
	QueryArg	arg = query_int64(id);

	if (query_run("SELECT FROM smartspace.cobot_integration i WHERE i.id = $1 FOR NO KEY UPDATE", 1, &arg) == 0)
		raise_unknown(id);
}

void
integration_load_client(const Integration *integration, OauthClient *client)
{
	QueryArg	arg = query_int64(integration->id);

	query_run("SELECT i.client_id FROM smartspace.cobot_integration i WHERE i.id = $1", 1, &arg);
	client->id = query_result_text(0, 1);

	Secret		secret = secret_load(SECRET_CLIENT_SECRET, integration->id);

	secret_require_readable(&secret, psprintf("the client secret of integration \"%s\"", integration->name));
	client->secret = secret.value;
	if (client->id == NULL || client->secret == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("integration \"%s\" has no OAuth client", integration->name),
				 errdetail("There is no %s.", client->id == NULL ? "client id" : "client secret"),
				 errhint("Register an OAuth client at dev.cobot.me/oauth2_clients, and tell its id and secret with smartspace.cobot_set_client(%lld, client_id, client_secret).",
						 (long long) integration->id)));
}

void
integration_require_not_paused(const Integration *integration)
{
	if (strcmp(integration->state, "paused") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("integration \"%s\" is paused", integration->name),
				 errhint("Set its state back to connected to go on.")));
}

void
integration_require_connected(const Integration *integration)
{
	home_require(&integration->home, integration->id, integration->name);
	integration_require_not_paused(integration);
	if (!integration_has_token(integration))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("integration \"%s\" is not connected to Cobot", integration->name),
				 errdetail("There is no access token for https://%s.cobot.me. Tokens are not part of a dump, so a restored database has none.",
						   integration->subdomain),
				 errhint("Connect it with smartspace.cobot_connect_token(%lld, token), or let an admin of the space do so with a click, by smartspace.cobot_connect_url().",
						 (long long) integration->id)));
	secret_require_readable(&integration->token, psprintf("the token of integration \"%s\"", integration->name));
}

bool
integration_has_token(const Integration *integration)
{
	return integration->token.state != SECRET_NONE && strcmp(integration->state, "disconnected") != 0;
}

bool
integration_can_ask(const Integration *integration)
{
	return home_is_here(&integration->home) && integration_has_token(integration) &&
		integration->token.state == SECRET_READ && strcmp(integration->state, "paused") != 0;
}

void
integration_open_client(const Integration *integration, CobotClient *client, MemoryContext context)
{
	integration_require_connected(integration);
	cobot_client_init(client, context, integration->subdomain, integration->token.value);
}

void
integration_open_client_with(const Integration *integration, CobotClient *client, MemoryContext context,
							 const char *token)
{
	home_require(&integration->home, integration->id, integration->name);
	cobot_client_init(client, context, integration->subdomain, token);
}

void
integration_wipe(Integration *integration)
{
	secret_wipe(&integration->token);
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

/*
 * cobot_arm(integration bigint) -> text, what it is armed for now and was before
 */
Datum
integration_arm(PG_FUNCTION_ARGS)
{
	Integration integration;
	Home		here = home_here();
	StringInfoData words;

	PreventCommandIfReadOnly("cobot_arm()");

	initStringInfo(&words);
	SPI_connect();
	integration_load(&integration, PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0), PG_ARGISNULL(0));
	integration_wipe(&integration);

	bool		already = home_is_here(&integration.home);
	QueryArg	args[] = {
		query_int64(integration.id), query_int64(here.system),
		query_value(OIDOID, ObjectIdGetDatum(here.database)), query_text(here.environment),
		query_text(GetUserNameFromId(GetSessionUserId(), true))
	};

	/* what is open in a copy, the original may have sent */
	if (!already)
		query_run("UPDATE smartspace.cobot_checkin c SET state = 'skipped', reason = 'foreign_database', settled_at = pg_catalog.now(),"
				  " next_attempt_at = NULL, holds_until = NULL WHERE c.integration_id = $1 AND c.state IN ('queued', 'sending')", 1, args);
	if (!already)
		query_run("UPDATE smartspace.cobot_integration SET armed_system = $2, armed_database = $3, armed_environment = $4,"
				  " armed_at = pg_catalog.now(), armed_by = $5 WHERE id = $1", lengthof(args), args);
	query_run("UPDATE smartspace.cobot_integration SET state = CASE state WHEN 'degraded' THEN 'connected' ELSE state END,"
			  " state_reason = NULL, state_since = pg_catalog.now()"
			  " WHERE id = $1 AND state_reason = 'foreign_database'", 1, args);

	appendStringInfo(&words, "%s for the database \"%s\": %s", already ? "was armed already" : "armed",
					 get_database_name(here.database), home_in_words(&here));
	if (!already && integration.home.known)
		appendStringInfo(&words, "; before: %s", home_in_words(&integration.home));

	PG_RETURN_DATUM(query_finish_text(words.data));
}
