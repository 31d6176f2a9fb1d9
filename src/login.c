/*
 * login.c
 *	  Login of people in mobile apps: the URL that sends somebody to Cobot, and who came
 *	  back. Runs in the backend that calls, inside its transaction. As with connecting,
 *	  somebody waits for it: whatever goes wrong is an error, and nothing is stored. That
 *	  there is no membership, or no consent, is not wrong, but a result.
 *
 * Facts: GET /api/user needs the scope read_user, and tells the person's id, e-mail and
 * memberships with id, subdomain and name of the space. Tokens do not expire, so each
 * login would leave one behind that is good for ever: it is revoked as soon as it was
 * used. It is stored nowhere. A login that is cancelled between the two leaves it with
 * Cobot, where nobody knows it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "argument.h"
#include "cobot_answer.h"
#include "mobile_app.h"
#include "query.h"
#include "smartspace_cobot.h"
#include "statement.h"

PG_FUNCTION_INFO_V1(login_url);
PG_FUNCTION_INFO_V1(login_finish);

/* Old events that one login deletes, so that none of them takes long. */
#define PURGE_LIMIT 100

/* How long somebody who has been let in waits for the end of a token. */
#define REVOKE_TIMEOUT_MS 3000

/* What is kept of texts that a stranger chose. */
#define KEPT_TEXT_LIMIT 500

/* The columns of cobot_login(). */
enum
{
	RESULT, MESSAGE, MOBILE_APP, COBOT_USER_ID, EMAIL, NAME, MEMBERSHIPS, ELSEWHERE, COLUMN_COUNT
};

/* Whom Cobot names. Strings live as long as the tree they came from. */
typedef struct Person
{
	const char *id;
	const char *email;			/* NULL: not told */
	const char *name;			/* NULL: not told */
	bool		listed;			/* Cobot told the memberships: */
	Datum		listed_id;		/* text[]; of these three an empty text is what Cobot left out */
	Datum		listed_subdomain;
	Datum		listed_space;
} Person;

/* What the caller is told. A zero Datum is an SQL null. */
typedef struct Answer
{
	const char *result;
	const char *message;
	bool		is_member;
	const char *name;
	Datum		memberships;	/* jsonb */
	Datum		elsewhere;		/* jsonb */
} Answer;

static void
require_allowed(const MobileApp *app, const char *redirect_uri)
{
	if (!mobile_app_allows(app, redirect_uri))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("this redirect URI is not on the list of mobile app \"%s\"", app->name),
				 errdetail("An address counts to the letter, upper and lower case included."),
				 errhint("Add it to redirect_uris in smartspace.mobile_app, and to the OAuth client in Cobot.")));
}

/*
 * cobot_login_url(mobile_app, redirect_uri) -> text
 */
Datum
login_url(PG_FUNCTION_ARGS)
{
	MobileApp	app;

	PreventCommandIfReadOnly("cobot_login_url()");

	char	   *redirect_uri = argument_required_text(fcinfo, 1, "redirect URI");

	SPI_connect();
	mobile_app_load(&app, PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0), PG_ARGISNULL(0));
	oauth_wipe_client(&app.client);
	mobile_app_require_ready(&app);
	require_allowed(&app, redirect_uri);

	OauthFlow	flow = {.purpose = OAUTH_LOGIN, .owner = app.id, .redirect_uri = redirect_uri, .scope = app.scope};
	PG_RETURN_DATUM(query_finish_text(oauth_begin(&flow, app.client.id, app.subdomain)));
}

/* ---- asking Cobot ---- */

/*
 * A failure is no more than a pity: the login is as good without. So it is not waited for
 * as long as other answers are, lest the caller's own time runs out over it.
 */
static void
revoke_token(CobotClient *client, const MobileApp *app)
{
	CobotCall  *call = cobot_delete_token(client);
	int			guc_level = NewGUCNestLevel();

	set_config_option("smartspace_cobot.request_timeout", psprintf("%d", Min(REVOKE_TIMEOUT_MS, smartspace_request_timeout_ms)),
					  PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	cobot_perform(&call, 1);
	AtEOXact_GUC(true, guc_level);
	if (call->outcome != COBOT_OK && call->outcome != COBOT_NOT_FOUND)
		ereport(WARNING,
				(errcode(cobot_failure_sqlstate(call->outcome)),
				 errmsg("the access token of a login to mobile app \"%s\" could not be revoked", app->name),
				 errdetail("%s", cobot_failure_detail(call)),
				 errhint("It is kept nowhere here, but Cobot goes on accepting it.")));
}

static void raise_user_failure(const CobotCall *call, const MobileApp *app) pg_attribute_noreturn();

static void
raise_user_failure(const CobotCall *call, const MobileApp *app)
{
	if (call->outcome == COBOT_FORBIDDEN)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("Cobot does not tell who logged in to mobile app \"%s\"", app->name),
				 errdetail("%s The scope was \"%s\".", cobot_failure_detail(call), app->scope),
				 errhint("Set scope in smartspace.mobile_app to read_user, and allow it to the OAuth client in Cobot.")));
	if (call->outcome == COBOT_UNAUTHORIZED)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("Cobot does not accept the token that it gave for this login"),
				 errdetail("%s", cobot_failure_detail(call)),
				 errhint("Begin again with a new URL of smartspace.cobot_login_url().")));
	cobot_raise_call(call);
}

/* Exchanges the code and asks whose token that is. The call belongs to the context. */
static CobotCall *
ask_user(const MobileApp *app, const OauthFlow *flow, const char *code, MemoryContext context)
{
	CobotClient *client = MemoryContextAlloc(context, sizeof(CobotClient));

	cobot_client_init(client, context, NULL, NULL);

	char	   *token = oauth_exchange(client, flow, &app->client, code);

	cobot_client_init(client, context, NULL, token);
	explicit_bzero(token, strlen(token));

	CobotCall  *call = cobot_ask_user(client);

	cobot_perform(&call, 1);
	if (app->revoke_token && call->outcome != COBOT_UNAUTHORIZED)
		revoke_token(client, app);
	explicit_bzero((char *) client->token, strlen(client->token));
	if (call->outcome != COBOT_OK)
		raise_user_failure(call, app);
	return call;
}

static void
read_memberships(CobotCall *call, const cJSON *list, Person *person)
{
	int			count = cJSON_GetArraySize(list);
	Datum	   *id = palloc(sizeof(Datum) * Max(count, 1));
	Datum	   *subdomain = palloc(sizeof(Datum) * Max(count, 1));
	Datum	   *space = palloc(sizeof(Datum) * Max(count, 1));
	const cJSON *element;
	int			i = 0;

	cJSON_ArrayForEach(element, list)
	{
		CobotUserMembership membership;
		JsonError	error;
		char		where[32];

		snprintf(where, sizeof(where), "memberships[%d]", i);
		if (!cobot_read_user_membership(element, where, &membership, &error))
			cobot_raise_answer(call, &error);
		id[i] = CStringGetTextDatum(membership.id);
		subdomain[i] = CStringGetTextDatum(membership.subdomain);
		space[i] = CStringGetTextDatum(membership.space_name);
		i++;
	}
	person->listed_id = query_text_array(id, count);
	person->listed_subdomain = query_text_array(subdomain, count);
	person->listed_space = query_text_array(space, count);
}

static Person
read_person(CobotCall *call)
{
	JsonError	error;
	CobotUser	user;
	const cJSON *answer = cobot_answer(call, &error);

	if (answer == NULL || !cobot_read_user(answer, &user, &error))
		cobot_raise_answer(call, &error);

	Person		person = {.id = user.id, .email = user.email, .name = user.name, .listed = user.memberships != NULL};

	if (person.listed)
		read_memberships(call, user.memberships, &person);
	return person;
}

/* ---- the answer ---- */

/* NULL for a text that says nothing. */
static const char *
told(const char *text)
{
	return text && text[strspn(text, " \t\r\n")] != '\0' ? text : NULL;
}

static QueryArg
listed_arg(const Person *person, Datum array)
{
	return (QueryArg) {.type = TEXTARRAYOID, .value = array, .isnull = !person->listed};
}

static void
find_memberships(const Person *person, Answer *answer)
{
	bool		isnull;
	QueryArg	args[] = {
		query_text(person->id), listed_arg(person, person->listed_id),
		listed_arg(person, person->listed_subdomain), listed_arg(person, person->listed_space)
	};

	query_run("SELECT a.result, a.message, a.is_member, a.name, a.memberships, a.elsewhere"
			  " FROM smartspace.cobot_login_answer($1, $2, $3, $4) a", lengthof(args), args);
	answer->result = query_result_text(0, 1);
	answer->message = query_result_text(0, 2);
	answer->is_member = query_result_bool(0, 3);
	answer->name = person->name ? person->name : query_result_text(0, 4);
	answer->memberships = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 5, &isnull);
	answer->elsewhere = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 6, &isnull);
}

/* Whom it names: a member, who is known here anyway, or a stranger where that is wanted. */
static void
record_event(const MobileApp *app, const Answer *answer, const Person *person)
{
	bool		is_kept_stranger = person->id && !answer->is_member && app->store_strangers;
	QueryArg	args[] = {
		query_int64(app->id), query_text(answer->result),
		query_text(answer->is_member || is_kept_stranger ? person->id : NULL),
		query_text(is_kept_stranger ? person->email : NULL),
		query_text(is_kept_stranger ? answer->name : NULL)
	};
	QueryArg	purge_args[] = {query_int64(smartspace_login_retention_days), query_int64(PURGE_LIMIT)};

	query_run("INSERT INTO smartspace.cobot_login_event (mobile_app_id, result, cobot_user_id, email, name)"
			  " VALUES ($1, $2, $3, pg_catalog.\"left\"($4, " CppAsString2(KEPT_TEXT_LIMIT) "), pg_catalog.\"left\"($5, " CppAsString2(KEPT_TEXT_LIMIT) "))",
			  lengthof(args), args);
	query_run("DELETE FROM smartspace.cobot_login_event WHERE id IN (SELECT e.id FROM smartspace.cobot_login_event e"
			  " WHERE e.at < pg_catalog.now() - $1 * interval '1 day' ORDER BY e.at LIMIT $2 FOR UPDATE SKIP LOCKED)",
			  lengthof(purge_args), purge_args);
}

/* What Cobot sent instead of a code. Only what the person decided needs nobody's attention. */
static void
read_refusal(const MobileApp *app, const char *error, const char *description, Answer *answer)
{
	bool		denied;

	answer->message = oauth_refusal(error, description, &denied);
	answer->result = denied ? "denied" : "refused";
	if (!denied)
		ereport(WARNING,
				(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
				 errmsg("a login to mobile app \"%s\" was refused: %s", app->name, answer->message),
				 errhint("For invalid_scope set scope in smartspace.mobile_app to one that the OAuth client in Cobot may have, such as read_user.")));
}

static Datum
text_or_null(const char *text, bool *isnull)
{
	*isnull = text == NULL;
	return text ? CStringGetTextDatum(text) : (Datum) 0;
}

static HeapTuple
form_row(TupleDesc tupdesc, const MobileApp *app, const Answer *answer, const Person *person)
{
	Datum		values[COLUMN_COUNT];
	bool		nulls[COLUMN_COUNT] = {false};

	values[RESULT] = CStringGetTextDatum(answer->result);
	values[MESSAGE] = CStringGetTextDatum(answer->message);
	values[MOBILE_APP] = Int64GetDatum(app->id);
	values[COBOT_USER_ID] = text_or_null(person->id, &nulls[COBOT_USER_ID]);
	values[EMAIL] = text_or_null(person->email, &nulls[EMAIL]);
	values[NAME] = text_or_null(answer->name, &nulls[NAME]);
	values[MEMBERSHIPS] = answer->memberships;
	values[ELSEWHERE] = answer->elsewhere;
	nulls[MEMBERSHIPS] = nulls[ELSEWHERE] = person->id == NULL;
	return heap_form_tuple(tupdesc, values, nulls);
}

/*
 * cobot_login(state, code, error, error_description)
 *		-> (result, message, mobile_app, cobot_user_id, email, name, memberships, elsewhere)
 */
Datum
login_finish(PG_FUNCTION_ARGS)
{
	ErrorContextCallback *callers = statement_hide();
	MobileApp	app;
	OauthFlow	flow;
	Person		person = {0};
	Answer		answer = {0};
	TupleDesc	tupdesc;

	PreventCommandIfReadOnly("cobot_login()");
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);

	char	   *state = argument_given_text(fcinfo, 0);
	char	   *code = argument_given_text(fcinfo, 1);
	char	   *error = argument_given_text(fcinfo, 2);

	if (state == NULL || (code == NULL && error == NULL))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("a login needs a state, and a code or an error"),
				 errhint("Give the parameters state, code, error and error_description of the URL that Cobot sent the person back to.")));

	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "smartspace_cobot login", ALLOCSET_DEFAULT_SIZES);

	SPI_connect();
	oauth_take(&flow, OAUTH_LOGIN, state, NULL);
	mobile_app_load(&app, flow.owner, false);
	mobile_app_require_ready(&app);
	require_allowed(&app, flow.redirect_uri);
	if (error)
		read_refusal(&app, error, argument_given_text(fcinfo, 3), &answer);
	else
	{
		person = read_person(ask_user(&app, &flow, code, context));
		person.email = told(person.email);
		person.name = told(person.name);
		find_memberships(&person, &answer);
	}
	oauth_wipe(&flow);
	oauth_wipe_client(&app.client);
	record_event(&app, &answer, &person);

	Datum		result = PointerGetDatum(SPI_returntuple(form_row(tupdesc, &app, &answer, &person), tupdesc));

	SPI_finish();
	MemoryContextDelete(context);
	error_context_stack = callers;
	PG_RETURN_DATUM(result);
}
