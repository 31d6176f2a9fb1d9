/*
 * connect.c
 *	  Making an integration and connecting it with a token, which somebody pasted or
 *	  plug.c got for a code. Runs in the backend that calls, inside its transaction.
 *	  Unlike a synchronisation, connecting is something a person does and waits for:
 *	  whatever goes wrong is an error, and nothing is stored.
 *
 * Tokens do not expire, so one that nobody needs any more is revoked: the admin's that the
 * space token was made from; all that were made for a connection that failed; and the space
 * token of the connection before. The last one not here: this transaction may be rolled
 * back, and then that is the token that is kept. It is put aside, and check.c revokes it
 * when the connection is committed.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "argument.h"
#include "check.h"
#include "cobot_client.h"
#include "connect.h"
#include "custom_field.h"
#include "integration.h"
#include "query.h"
#include "space.h"
#include "statement.h"

PG_FUNCTION_INFO_V1(connect_create_integration);
PG_FUNCTION_INFO_V1(connect_set_client_secret);
PG_FUNCTION_INFO_V1(connect_token);
PG_FUNCTION_INFO_V1(connect_ensure_custom_field);

/* As the constraint of cobot_integration has it. */
#define NAME_LENGTH_LIMIT 200

/* A connection on its way. */
typedef struct Connection
{
	Integration integration;
	CobotClient client;			/* has the token, later the space token */
	const char *token;
	bool		token_ends;		/* nobody needs it afterwards */
	char	   *space_token;	/* NULL: there is none yet */
	Space		space;
	Datum		granted_scope;	/* text[] */
	const char *user_email;		/* NULL where the token may not read its user */
} Connection;

#define REVOKE_LIMIT 2

/* The token in a text that may have blanks around it, palloc'd. Never shows the text. */
static char *
check_token(const char *text)
{
	while (isspace((unsigned char) *text))
		text++;

	char	   *token = pstrdup(text);
	size_t		length = strlen(token);

	while (length > 0 && isspace((unsigned char) token[length - 1]))
		token[--length] = '\0';

	if (!oauth_is_plain(token, OAUTH_TOKEN_LIMIT_BYTES))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("this is not an access token"),
				 errdetail("A token is 1 to %d printable ASCII characters without blanks.", OAUTH_TOKEN_LIMIT_BYTES),
				 errhint("Copy the access token that Cobot shows for the OAuth client.")));
	return token;
}

/*
 * cobot_create_integration(name, subdomain, client_id, client_secret,
 *							sync_plan_access, sync_individual_access) -> bigint
 */
Datum
connect_create_integration(PG_FUNCTION_ARGS)
{
	ErrorContextCallback *callers = statement_hide();
	char	   *name = argument_required_text(fcinfo, 0, "name");
	char	   *subdomain = argument_required_text(fcinfo, 1, "subdomain");
	char	   *client_id = argument_text(fcinfo, 2);
	char	   *client_secret = argument_text(fcinfo, 3);
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
	oauth_check_client(client_id, client_secret);
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
		secret_store(SECRET_CLIENT_SECRET, id, client_secret);
		explicit_bzero(client_secret, strlen(client_secret));
	}
	SPI_finish();
	error_context_stack = callers;
	PG_RETURN_INT64(id);
}

/*
 * cobot_set_client_secret(integration bigint, client_secret text)
 */
Datum
connect_set_client_secret(PG_FUNCTION_ARGS)
{
	ErrorContextCallback *callers = statement_hide();
	char	   *client_secret = argument_text(fcinfo, 1);
	Integration integration;

	PreventCommandIfReadOnly("cobot_set_client_secret()");
	oauth_check_client(NULL, client_secret);
	SPI_connect();
	integration_load(&integration, PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0), PG_ARGISNULL(0));
	integration_wipe(&integration);
	integration_lock(integration.id);
	secret_store(SECRET_CLIENT_SECRET, integration.id, client_secret);
	SPI_finish();
	if (client_secret)
		explicit_bzero(client_secret, strlen(client_secret));
	error_context_stack = callers;
	PG_RETURN_VOID();
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
			 errhint("Connect it as an admin of this space, or correct the subdomain of the integration.")));
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
				 errhint("Add the scope to the OAuth client in Cobot and to cobot_integration.oauth_scope, and let an admin authorise it again.")));
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

/* Swaps the token for one that belongs to the space. */
static char *
space_token(Connection *connection)
{
	CobotCall  *call = cobot_ask_space_token(&connection->client, connection->space.id);

	cobot_perform(&call, 1);
	if (call->outcome == COBOT_FORBIDDEN)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("Cobot gives no space token for \"%s\" to this user", connection->integration.subdomain),
				 errdetail("%s", cobot_failure_detail(call)),
				 errhint("Connect it as an admin of this space.")));
	if (call->outcome != COBOT_OK)
		cobot_raise_call(call);
	return oauth_read_token(call, "token");
}

/* No condition for anything else, so it does not matter what Cobot answers. */
static void
end_tokens(const Connection *connection, const char *const *tokens, int count)
{
	CobotClient clients[REVOKE_LIMIT];
	CobotCall  *calls[REVOKE_LIMIT];

	for (int i = 0; i < count; i++)
	{
		integration_open_client_with(&connection->integration, &clients[i], connection->client.context, tokens[i]);
		calls[i] = cobot_delete_token(&clients[i]);
	}
	cobot_perform(calls, count);
	for (int i = 0; i < count; i++)
	{
		if (calls[i]->outcome != COBOT_OK)
			elog(DEBUG1, "%s", cobot_failure_message(calls[i]));
		explicit_bzero((char *) clients[i].token, strlen(clients[i].token));
	}
}

/*
 * Puts the token of the connection before aside; true if there is one. What waits there is
 * of an earlier connection, which is committed (unless somebody connects twice within one
 * transaction), so it can go now. Cobot may give the same token twice. The integration is
 * locked.
 */
static bool
put_old_token_aside(const Connection *connection)
{
	int64		id = connection->integration.id;
	Secret		waiting = secret_load(SECRET_RETIRED_TOKEN, id);
	Secret		before = secret_load(SECRET_TOKEN, id);
	bool		retire = before.state == SECRET_READ && strcmp(before.value, connection->space_token) != 0;

	if (waiting.state == SECRET_READ && strcmp(waiting.value, connection->space_token) != 0)
		end_tokens(connection, (const char *const *) &waiting.value, 1);
	if (waiting.state != SECRET_NONE || retire)
		secret_store(SECRET_RETIRED_TOKEN, id, retire ? before.value : NULL);
	secret_wipe(&waiting);
	secret_wipe(&before);
	return retire;
}

static void
store_connection(Connection *connection)
{
	int64		id = connection->integration.id;
	QueryArg	args[] = {
		query_int64(id), query_value(TEXTARRAYOID, connection->granted_scope), query_text(connection->user_email)
	};
	int64		seed;

	/* A new key for the hashes: after connecting, every record is read once. */
	if (!pg_strong_random(&seed, sizeof(seed)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate a random number")));

	QueryArg	seed_args[] = {query_int64(id), query_int64(seed)};

	/* before the secret, as everybody does who needs both */
	integration_lock(id);

	bool		retired = put_old_token_aside(connection);

	secret_store(SECRET_TOKEN, id, connection->space_token);
	query_run("UPDATE smartspace.cobot_secret SET hash_seed = $2 WHERE integration_id = $1", lengthof(seed_args), seed_args);
	query_run("UPDATE smartspace.cobot_integration SET granted_scope = $2, connected_at = pg_catalog.now(), connected_by = $3,"
			  " fed_from_outside = false"
			  " WHERE id = $1", lengthof(args), args);
	space_store(id, &connection->space);
	integration_set_connected(id);
	/* a trigger has put the check off to tomorrow */
	if (retired)
		check_soon(id);
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

static void
connect_space(Connection *connection, Connected *result)
{
	inspect_token(connection);
	result->missing_scope = report_missing_scopes(connection);
	connection->space_token = space_token(connection);
	explicit_bzero((char *) connection->client.token, strlen(connection->client.token));
	integration_open_client_with(&connection->integration, &connection->client, connection->client.context,
								 connection->space_token);
	store_connection(connection);
	result->custom_field = ensure_field(connection);
	result->space_name = connection->space.name;
	result->time_zone = connection->space.time_zone;
	result->granted_scope = connection->granted_scope;
}

/*
 * Ends what was made at Cobot for a connection that came to nothing, if Cobot can be had.
 * Whoever cancels is not kept waiting, and nothing hides the error that led here.
 */
static void
take_back(const Connection *connection, const ErrorData *error)
{
	const Secret *kept = &connection->integration.token;
	const char *made = connection->space_token;
	const char *tokens[REVOKE_LIMIT];
	int			count = 0;

	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		return;
	if (connection->token_ends)
		tokens[count++] = connection->token;
	if (made && strcmp(made, connection->token) != 0 && (kept->state != SECRET_READ || strcmp(made, kept->value) != 0))
		tokens[count++] = made;

	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		end_tokens(connection, tokens, count);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
	}
	PG_END_TRY();
}

/*
 * In a subtransaction, because Cobot can be asked something after an error only when it
 * has been cleaned up.
 */
static void
connect_or_take_back(Connection *connection, Connected *result)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		connect_space(connection, result);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);

		ErrorData  *error = CopyErrorData();

		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		take_back(connection, error);
		ReThrowError(error);
	}
	PG_END_TRY();
}

void
connect_integration(const Integration *integration, MemoryContext context, const char *token, bool token_ends, Connected *result)
{
	Connection	connection = {.integration = *integration, .token = token, .token_ends = token_ends};

	secret_require_key();
	integration_open_client_with(integration, &connection.client, context, token);
	connect_or_take_back(&connection, result);
	if (token_ends && strcmp(token, connection.space_token) != 0)
		end_tokens(&connection, &token, 1);
	explicit_bzero(connection.space_token, strlen(connection.space_token));
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

	char	   *token = check_token(argument_required_text(fcinfo, 1, "token"));
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
