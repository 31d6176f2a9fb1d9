/*
 * mobile_app.c
 *	  Login configurations of mobile apps: making them, their OAuth clients, and where
 *	  they are at home. Runs in the backend that calls, inside its transaction, and asks
 *	  nobody.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "argument.h"
#include "mobile_app.h"
#include "mobile_app_text.h"
#include "query.h"
#include "statement.h"

PG_FUNCTION_INFO_V1(mobile_app_check_redirect_uris);
PG_FUNCTION_INFO_V1(mobile_app_create);
PG_FUNCTION_INFO_V1(mobile_app_set_client);
PG_FUNCTION_INFO_V1(mobile_app_arm);

/* As the constraint of mobile_app has it. */
#define NAME_LENGTH_LIMIT 200

#define SHOWN_URI_BYTES 80

/* ---- one row ---- */

void
mobile_app_load(MobileApp *app, int64 id, bool is_null)
{
	if (is_null)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the mobile app must not be null"),
				 errhint("The table smartspace.mobile_app lists the mobile apps and their ids.")));

	QueryArg	arg = query_int64(id);

	if (query_run("SELECT a.name, a.client_id, s.client_secret, a.scope, a.subdomain, a.store_strangers, a.revoke_token,"
				  " s.mobile_app_id IS NOT NULL, s.armed_system, s.armed_database::pg_catalog.int8, s.armed_environment"
				  " FROM smartspace.mobile_app a LEFT JOIN smartspace.mobile_app_secret s ON s.mobile_app_id = a.id"
				  " WHERE a.id = $1", 1, &arg) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("mobile app %lld does not exist", (long long) id),
				 errhint("The table smartspace.mobile_app lists the mobile apps and their ids.")));

	Secret		secret = secret_open(SECRET_MOBILE_APP, id, query_result_text(0, 3));

	*app = (MobileApp) {
		.id = id,
		.name = query_result_text(0, 1),
		.client = {.id = query_result_text(0, 2), .secret = secret.value},
		.secret = secret,
		.scope = query_result_text(0, 4),
		.subdomain = query_result_text(0, 5),
		.store_strangers = query_result_bool(0, 6),
		.revoke_token = query_result_bool(0, 7),
		.home = {
			.known = query_result_bool(0, 8),
			.system = query_result_int64(0, 9),
			.database = (Oid) query_result_int64(0, 10),
			.environment = query_result_text(0, 11)
		}
	};
	SPI_freetuptable(SPI_tuptable);
}

void
mobile_app_require_ready(const MobileApp *app)
{
	if (app->client.id == NULL || !app->home.known)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("mobile app \"%s\" has no OAuth client", app->name),
				 errdetail("Client secrets are not part of a dump, so a restored database has none."),
				 errhint("Give it one with smartspace.cobot_set_mobile_app_client(%lld, client_id, client_secret).", (long long) app->id)));
	secret_require_readable(&app->secret, psprintf("the client secret of mobile app \"%s\"", app->name));
	if (!home_is_here(&app->home))
	{
		Home		here = home_here();

		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("mobile app \"%s\" is not armed for this database", app->name),
				 errdetail("It is armed for %s; this is %s.", home_in_words(&app->home), home_in_words(&here)),
				 errhint("A copy asks Cobot nothing. If people shall log in here, arm it on purpose: SELECT smartspace.cobot_arm_mobile_app(%lld).",
						 (long long) app->id)));
	}
}

bool
mobile_app_allows(const MobileApp *app, const char *redirect_uri)
{
	QueryArg	args[] = {query_int64(app->id), query_text(redirect_uri)};

	return query_run("SELECT FROM smartspace.mobile_app a WHERE a.id = $1 AND $2 = ANY (a.redirect_uris)", lengthof(args), args) > 0;
}

/* ---- what the functions have in common ---- */

static void
check_client(const char *client_id, const char *client_secret)
{
	oauth_check_client(client_id, client_secret);
	if (client_secret && client_id == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("a client secret needs its client id")));
}

/* Arms the app for this place. */
static void
arm(int64 id)
{
	Home		here = home_here();
	QueryArg	args[] = {
		query_int64(id), query_int64(here.system),
		query_value(OIDOID, ObjectIdGetDatum(here.database)), query_text(here.environment),
		query_text(GetUserNameFromId(GetSessionUserId(), true))
	};

	query_run("INSERT INTO smartspace.mobile_app_secret AS s"
			  " (mobile_app_id, armed_system, armed_database, armed_environment, armed_by)"
			  " VALUES ($1, $2, $3, $4, $5)"
			  " ON CONFLICT (mobile_app_id) DO UPDATE SET"
			  " armed_system = excluded.armed_system, armed_database = excluded.armed_database,"
			  " armed_environment = excluded.armed_environment, armed_at = excluded.armed_at, armed_by = excluded.armed_by",
			  lengthof(args), args);
}

/* Keeps the secret, in place of the one before, and arms the app for this place. Wipes it here. */
static void
store_secret(int64 id, char *client_secret)
{
	arm(id);
	secret_store(SECRET_MOBILE_APP, id, client_secret);
	if (client_secret)
		explicit_bzero(client_secret, strlen(client_secret));
}

/* What an app is armed for now, and was before where that differs. */
static char *
armed_in_words(const char *verb, const Home *before)
{
	Home		here = home_here();
	StringInfoData words;

	initStringInfo(&words);
	appendStringInfo(&words, "%s for the database \"%s\": %s", verb, get_database_name(here.database), home_in_words(&here));
	if (before->known && !home_is_here(before))
		appendStringInfo(&words, "; before: %s", home_in_words(before));
	return words.data;
}

/* ---- functions ---- */

/*
 * cobot_check_redirect_uris(text[]) -> true. For a constraint: its own error would not
 * say which address is wrong, and why.
 */
Datum
mobile_app_check_redirect_uris(PG_FUNCTION_ARGS)
{
	Datum	   *elements;
	bool	   *nulls;
	int			count;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		char	   *uri = nulls[i] ? NULL : TextDatumGetCString(elements[i]);
		const char *wrong = uri ? mobile_app_check_redirect_uri(uri) : "is null";

		if (wrong)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid redirect URI \"%s\"",
							uri ? pnstrdup(uri, pg_mbcliplen(uri, strlen(uri), SHOWN_URI_BYTES)) : ""),
					 errdetail("It %s.", wrong),
					 errhint("Give an address with https://, with http:// on the device itself, or with a scheme of the app's own such as smartspace://login.")));
	}
	PG_RETURN_BOOL(true);
}

/*
 * cobot_create_mobile_app(name, client_id, client_secret, redirect_uris, scope) -> bigint
 */
Datum
mobile_app_create(PG_FUNCTION_ARGS)
{
	ErrorContextCallback *callers = statement_hide();
	char	   *name = argument_required_text(fcinfo, 0, "name");
	char	   *client_id = argument_text(fcinfo, 1);
	char	   *client_secret = argument_text(fcinfo, 2);
	char	   *scope = argument_required_text(fcinfo, 4, "scope");
	const char *wrong = oauth_check_scope(scope);

	if (name[strspn(name, " \t\r\n")] == '\0' || pg_mbstrlen(name) > NAME_LENGTH_LIMIT)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name must have 1 to %d characters and not be blank", NAME_LENGTH_LIMIT)));
	check_client(client_id, client_secret);
	if (PG_ARGISNULL(3))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the redirect URIs must not be null")));
	if (wrong)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid scope"),
				 errdetail("It %s.", wrong),
				 errhint("Give names of scopes, separated by single blanks, such as read_user.")));

	SPI_connect();

	QueryArg	args[] = {
		query_text(name), query_text(client_id), query_value(TEXTARRAYOID, PG_GETARG_DATUM(3)), query_text(scope)
	};

	query_run("INSERT INTO smartspace.mobile_app (name, client_id, redirect_uris, scope) VALUES ($1, $2, $3, $4) RETURNING id",
			  lengthof(args), args);

	int64		id = query_result_int64(0, 1);

	if (client_id)
		store_secret(id, client_secret);
	SPI_finish();
	error_context_stack = callers;
	PG_RETURN_INT64(id);
}

/*
 * cobot_set_mobile_app_client(mobile_app, client_id, client_secret) -> text
 */
Datum
mobile_app_set_client(PG_FUNCTION_ARGS)
{
	ErrorContextCallback *callers = statement_hide();
	MobileApp	app;

	PreventCommandIfReadOnly("cobot_set_mobile_app_client()");

	char	   *client_id = argument_required_text(fcinfo, 1, "client id");
	char	   *client_secret = argument_text(fcinfo, 2);

	check_client(client_id, client_secret);
	SPI_connect();
	mobile_app_load(&app, PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0), PG_ARGISNULL(0));
	oauth_wipe_client(&app.client);

	QueryArg	args[] = {query_int64(app.id), query_text(client_id)};

	query_run("UPDATE smartspace.mobile_app SET client_id = $2 WHERE id = $1", lengthof(args), args);
	store_secret(app.id, client_secret);

	Datum		result = query_finish_text(armed_in_words("armed", &app.home));

	error_context_stack = callers;
	PG_RETURN_DATUM(result);
}

/*
 * cobot_arm_mobile_app(mobile_app) -> text
 */
Datum
mobile_app_arm(PG_FUNCTION_ARGS)
{
	MobileApp	app;

	PreventCommandIfReadOnly("cobot_arm_mobile_app()");
	SPI_connect();
	mobile_app_load(&app, PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0), PG_ARGISNULL(0));

	bool		already = home_is_here(&app.home);

	if (!app.home.known)
		mobile_app_require_ready(&app);
	oauth_wipe_client(&app.client);
	if (!already)
		arm(app.id);

	PG_RETURN_DATUM(query_finish_text(armed_in_words(already ? "was armed already" : "armed", &app.home)));
}
