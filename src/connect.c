/*
 * connect.c
 *	  Making an integration and connecting it with a token, which somebody pasted or
 *	  plug.c got for a code. Runs in the backend that calls, inside its transaction. Unlike a synchronisation, connecting is
 *	  something a person does and waits for: whatever goes wrong is an error, and
 *	  nothing is stored.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "check.h"
#include "cobot_client.h"
#include "connect.h"
#include "custom_field.h"
#include "integration.h"
#include "query.h"
#include "space.h"
#include "statement.h"

PG_FUNCTION_INFO_V1(connect_create_integration);
PG_FUNCTION_INFO_V1(connect_token);
PG_FUNCTION_INFO_V1(connect_ensure_custom_field);

#define TOKEN_LENGTH_LIMIT 1000

/* As the constraints of cobot_integration have them. */
#define NAME_LENGTH_LIMIT 200
#define CLIENT_ID_LENGTH_LIMIT 500

/* Everything Cobot said while connecting. */
typedef struct Connection
{
	Integration integration;
	CobotClient client;
	Space		space;
	Datum		granted_scope;	/* text[] */
	const char *user_email;		/* NULL where the token may not read its user */
} Connection;

/* Never shows the text. */
char *
connect_check_token(const char *text)
{
	while (isspace((unsigned char) *text))
		text++;

	char	   *token = pstrdup(text);
	size_t		length = strlen(token);

	while (length > 0 && isspace((unsigned char) token[length - 1]))
		token[--length] = '\0';

	bool		printable = true;

	for (size_t i = 0; i < length; i++)
		if (token[i] <= ' ' || token[i] > '~')
			printable = false;
	if (length == 0 || length > TOKEN_LENGTH_LIMIT || !printable)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("this is not an access token"),
				 errdetail("A token is 1 to %d printable ASCII characters without blanks.", TOKEN_LENGTH_LIMIT),
				 errhint("Copy the access token that Cobot shows for the OAuth client.")));
	return token;
}

static char *
required_text(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the %s must not be null", name)));
	return text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

static char *
optional_text(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

/*
 * cobot_create_integration(name, subdomain, client_id, client_secret,
 *							sync_plan_access, sync_individual_access) -> bigint
 */
Datum
connect_create_integration(PG_FUNCTION_ARGS)
{
	ErrorContextCallback *callers = statement_hide();
	char	   *name = required_text(fcinfo, 0, "name");
	char	   *subdomain = required_text(fcinfo, 1, "subdomain");
	char	   *client_id = optional_text(fcinfo, 2);
	char	   *client_secret = optional_text(fcinfo, 3);
	const char *wrong = cobot_check_subdomain(subdomain);

	if (wrong)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid subdomain \"%s\"", pnstrdup(subdomain, pg_mbcliplen(subdomain, strlen(subdomain), 80))),
				 errdetail("It %s.", wrong),
				 errhint("Give the part before .cobot.me of the space's address, such as demo-space.")));
	if (name[strspn(name, " \t\r\n")] == '\0' || pg_mbstrlen(name) > NAME_LENGTH_LIMIT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name must have 1 to %d characters and not be blank", NAME_LENGTH_LIMIT)));
	if (client_id && (client_id[0] == '\0' || pg_mbstrlen(client_id) > CLIENT_ID_LENGTH_LIMIT))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the client id must have 1 to %d characters", CLIENT_ID_LENGTH_LIMIT)));
	if (PG_ARGISNULL(4) || PG_ARGISNULL(5))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the switches sync_plan_access and sync_individual_access must not be null")));

	SPI_connect();

	Home		here = home_here();
	QueryArg	args[] = {
		query_text(name), query_text(subdomain), query_text(client_id),
		query_bool(PG_GETARG_BOOL(4)), query_bool(PG_GETARG_BOOL(5)), query_int64(here.system),
		query_value(OIDOID, ObjectIdGetDatum(here.database)), query_text(here.environment),
		query_text(GetUserNameFromId(GetSessionUserId(), true))
	};

	query_run("INSERT INTO smartspace.cobot_integration (name, subdomain, client_id, sync_plan_access, sync_individual_access,"
			  " armed_system, armed_database, armed_environment, armed_at, armed_by)"
			  " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, pg_catalog.now(), $9) RETURNING id", lengthof(args), args);

	int64		id = query_result_int64(0, 1);

	if (client_secret)
	{
		QueryArg	secret_args[] = {query_int64(id), query_text(client_secret)};

		query_run("INSERT INTO smartspace.cobot_secret (integration_id, client_secret) VALUES ($1, $2)",
				  lengthof(secret_args), secret_args);
		explicit_bzero(client_secret, strlen(client_secret));
	}
	SPI_finish();
	error_context_stack = callers;
	PG_RETURN_INT64(id);
}

/*
 * Facts: GET /api/user lists the spaces that the user is an admin of by
 * subdomain; it needs the scope read_user. Without that scope the exchange for
 * a space token, which Cobot allows to admins only, is the check.
 */
static void
check_admin(Connection *connection, CobotCall *call)
{
	JsonError	error;
	const char *subdomain = connection->integration.subdomain;

	if (call->outcome == COBOT_FORBIDDEN)
		return;
	if (call->outcome != COBOT_OK)
		cobot_raise_call(call);

	const cJSON *user = cobot_answer(call, &error);

	if (user == NULL)
		cobot_raise_answer(call, &error);
	connection->user_email = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(user, "email"));

	const cJSON *space;
	StringInfoData others;

	initStringInfo(&others);
	cJSON_ArrayForEach(space, cJSON_GetObjectItemCaseSensitive(user, "admin_of"))
	{
		const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(space, "space_subdomain"));

		if (name && strcmp(name, subdomain) == 0)
			return;
		if (name)
			appendStringInfo(&others, "%s\"%s\"", others.len > 0 ? ", " : "", name);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("the token's user is not an admin of \"%s\"", subdomain),
			 others.len > 0 ? errdetail("The user is an admin of %s.", others.data)
			 : errdetail("The user is an admin of no space."),
			 errhint("Use a token of an admin of this space, or correct the subdomain of the integration.")));
}

/* Missing scopes, each with what does not work, as NOTICEs; read_memberships is indispensable. */
static Datum
report_missing_scopes(Connection *connection)
{
	QueryArg	args[] = {
		query_value(TEXTARRAYOID, connection->granted_scope),
		query_int64(connection->integration.id)
	};
	uint64		count = query_run("SELECT s.scope, s.effect FROM smartspace.cobot_integration i"
								  " CROSS JOIN LATERAL smartspace.cobot_missing_scope($1, i.sync_individual_access, i.auto_checkin AND EXISTS"
								  " (SELECT FROM smartspace.building b WHERE b.integration_id = i.id AND b.is_entrance)) s"
								  " WHERE i.id = $2", lengthof(args), args);
	Datum	   *missing = palloc(sizeof(Datum) * Max(count, 1));

	for (uint64 i = 0; i < count; i++)
	{
		char	   *scope = query_result_text(i, 1);

		missing[i] = CStringGetTextDatum(scope);
		ereport(strcmp(scope, "read_memberships") == 0 ? ERROR : WARNING,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("the token lacks the scope %s: %s", scope, query_result_text(i, 2)),
				 errhint("Add the scope to the OAuth client in Cobot and let an admin authorise it again.")));
	}
	return query_text_array(missing, (int) count);
}

/* Asks what can be asked with the token as it is, and checks the answers. */
static void
inspect_token(Connection *connection)
{
	CobotCall  *calls[] = {
		cobot_ask_token_scopes(&connection->client),
		cobot_ask_user(&connection->client),
		cobot_ask_space(&connection->client)
	};
	JsonError	error;

	cobot_perform(calls, lengthof(calls));

	if (calls[0]->outcome == COBOT_UNAUTHORIZED || calls[0]->outcome == COBOT_NOT_FOUND)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("Cobot does not know this token"),
				 errdetail("%s", cobot_failure_detail(calls[0])),
				 errhint("Copy the access token again; it may have been revoked.")));
	if (calls[0]->outcome != COBOT_OK)
		cobot_raise_call(calls[0]);
	if (!check_read_scopes(calls[0], &connection->granted_scope, &error))
		cobot_raise_answer(calls[0], &error);

	if (calls[2]->outcome == COBOT_NOT_FOUND)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("Cobot has no space \"%s\"", connection->integration.subdomain),
				 errhint("Correct the subdomain of the integration.")));
	if (calls[2]->outcome != COBOT_OK)
		cobot_raise_call(calls[2]);
	if (!space_read(cobot_answer(calls[2], &error), &connection->space, &error))
		cobot_raise_answer(calls[2], &error);
	if (!connection->space.time_zone_known)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("PostgreSQL does not know the time zone of the space, \"%s\"", connection->space.time_zone),
				 errhint("Bring the server's time zone data up to date.")));
	if (connection->integration.space_id && strcmp(connection->integration.space_id, connection->space.id) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the subdomain \"%s\" belongs to another space than before", connection->integration.subdomain),
				 errdetail("The members known here belong to the space with id %s, not to \"%s\" with id %s.",
						   connection->integration.space_id,
						   connection->space.name ? connection->space.name : "", connection->space.id),
				 errhint("Make a new integration for the new space.")));

	check_admin(connection, calls[1]);
}

/* Swaps the token for one that belongs to the space. Palloc'd in the client's context. */
static char *
space_token(Connection *connection)
{
	CobotCall  *call = cobot_ask_space_token(&connection->client, connection->space.id);
	JsonError	error;

	cobot_perform(&call, 1);
	if (call->outcome == COBOT_FORBIDDEN)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("Cobot gives no space token for \"%s\" to this user", connection->integration.subdomain),
				 errdetail("%s", cobot_failure_detail(call)),
				 errhint("Use a token of an admin of this space.")));
	if (call->outcome != COBOT_OK)
		cobot_raise_call(call);

	const cJSON *answer = cobot_answer(call, &error);
	const char *token = NULL;
	bool		present;

	if (answer == NULL || !json_get_string(answer, "", "token", &token, &present, &error))
		cobot_raise_answer(call, &error);
	if (!present)
	{
		json_fail(&error, "", "token", "is missing");
		cobot_raise_answer(call, &error);
	}
	return connect_check_token(token);
}

static void
store_connection(Connection *connection, const char *token)
{
	int64		id = connection->integration.id;
	QueryArg	secret_args[] = {query_int64(id), query_text(token)};
	QueryArg	args[] = {
		query_int64(id), query_value(TEXTARRAYOID, connection->granted_scope), query_text(connection->user_email)
	};
	int64		seed;

	/* A new key for the hashes: after connecting, every record is read once. */
	if (!pg_strong_random(&seed, sizeof(seed)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate a random number")));

	QueryArg	all_secret_args[] = {secret_args[0], secret_args[1], query_int64(seed)};

	/* before the secret, as everybody does who needs both */
	integration_lock(id);
	query_run("INSERT INTO smartspace.cobot_secret AS s (integration_id, token, hash_seed) VALUES ($1, $2, $3)"
			  " ON CONFLICT (integration_id) DO UPDATE SET token = excluded.token, hash_seed = excluded.hash_seed",
			  lengthof(all_secret_args), all_secret_args);
	query_run("UPDATE smartspace.cobot_integration SET granted_scope = $2, connected_at = pg_catalog.now(), connected_by = $3,"
			  " fed_from_outside = false"
			  " WHERE id = $1", lengthof(args), args);
	space_store(id, &connection->space);
	integration_set_connected(id);
}

/* The token that the space token was made from: nobody needs it any more. Its end is no condition. */
static void
revoke_token(CobotClient *client)
{
	CobotCall  *call = cobot_delete_token(client);

	cobot_perform(&call, 1);
	if (call->outcome != COBOT_OK)
		elog(DEBUG1, "%s", cobot_failure_message(call));
}

/* In words for the result column custom_field; a failure is a WARNING, because the rest is connected. */
static const char *
ensure_field(Connection *connection)
{
	if (!connection->integration.sync_individual_access)
		return "individual access is switched off";

	CustomFieldResult result = custom_field_ensure(&connection->client, INTEGRATION_FIELD_LABEL);

	switch (result.outcome)
	{
		case CUSTOM_FIELD_PRESENT:
			return "present";
		case CUSTOM_FIELD_CREATED:
			return "created";
		case CUSTOM_FIELD_AMBIGUOUS:
		case CUSTOM_FIELD_FAILED:
			break;
	}
	ereport(WARNING,
			(errcode(result.sqlstate),
			 errmsg("%s", result.message),
			 result.detail ? errdetail("%s", result.detail) : 0,
			 errhint("%s Then run SELECT smartspace.cobot_ensure_custom_field(%lld).",
					 result.hint, (long long) connection->integration.id)));
	return result.outcome == CUSTOM_FIELD_AMBIGUOUS ? "ambiguous" : "failed";
}

void
connect_integration(Integration *integration, MemoryContext context, const char *token, bool revoke, Connected *result)
{
	Connection	connection = {.integration = *integration};

	integration_open_client_with(integration, &connection.client, context, token);
	inspect_token(&connection);
	result->missing_scope = report_missing_scopes(&connection);

	CobotClient first = connection.client;
	char	   *kept_token = space_token(&connection);

	integration_open_client_with(integration, &connection.client, context, kept_token);
	store_connection(&connection, kept_token);
	result->custom_field = ensure_field(&connection);
	result->space_name = connection.space.name;
	result->time_zone = connection.space.time_zone;
	result->granted_scope = connection.granted_scope;
	if (revoke && strcmp(token, kept_token) != 0)
		revoke_token(&first);

	explicit_bzero(kept_token, strlen(kept_token));
	explicit_bzero((char *) first.token, strlen(first.token));
	explicit_bzero((char *) connection.client.token, strlen(connection.client.token));
}

/*
 * cobot_connect_token(integration bigint, token text)
 *		-> (state, space_name, time_zone, granted_scope, missing_scope, custom_field)
 */
Datum
connect_token(PG_FUNCTION_ARGS)
{
	Integration integration;
	Connected	connected;
	TupleDesc	tupdesc;
	ErrorContextCallback *callers = statement_hide();

	PreventCommandIfReadOnly("cobot_connect_token()");
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);

	char	   *token = connect_check_token(required_text(fcinfo, 1, "token"));
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "smartspace_cobot connect",
												  ALLOCSET_DEFAULT_SIZES);

	SPI_connect();
	integration_load(&integration, PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0), PG_ARGISNULL(0));
	connect_integration(&integration, context, token, false, &connected);

	Datum		values[] = {
		CStringGetTextDatum("connected"),
		connected.space_name ? CStringGetTextDatum(connected.space_name) : (Datum) 0,
		CStringGetTextDatum(connected.time_zone), connected.granted_scope, connected.missing_scope,
		CStringGetTextDatum(connected.custom_field)
	};
	bool		nulls[] = {false, connected.space_name == NULL, false, false, false, false};
	Datum		result = PointerGetDatum(SPI_returntuple(heap_form_tuple(tupdesc, values, nulls), tupdesc));

	explicit_bzero(token, strlen(token));
	integration_wipe(&integration);
	SPI_finish();
	MemoryContextDelete(context);
	error_context_stack = callers;
	PG_RETURN_DATUM(result);
}

/*
 * cobot_ensure_custom_field(integration bigint) -> text, "present" or "created"
 */
Datum
connect_ensure_custom_field(PG_FUNCTION_ARGS)
{
	Integration integration;
	CobotClient client;

	PreventCommandIfReadOnly("cobot_ensure_custom_field()");

	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "smartspace_cobot connect",
												  ALLOCSET_DEFAULT_SIZES);

	SPI_connect();
	integration_load(&integration, PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0), PG_ARGISNULL(0));
	integration_open_client(&integration, &client, context);
	integration_wipe(&integration);
	SPI_finish();

	CustomFieldResult result = custom_field_ensure(&client, INTEGRATION_FIELD_LABEL);

	if (result.outcome == CUSTOM_FIELD_AMBIGUOUS || result.outcome == CUSTOM_FIELD_FAILED)
		ereport(ERROR,
				(errcode(result.sqlstate),
				 errmsg("%s", result.message),
				 result.detail ? errdetail("%s", result.detail) : 0,
				 errhint("%s", result.hint)));
	MemoryContextDelete(context);
	PG_RETURN_TEXT_P(cstring_to_text(result.outcome == CUSTOM_FIELD_CREATED ? "created" : "present"));
}
