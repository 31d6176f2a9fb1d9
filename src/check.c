/*
 * check.c
 *	  Checks once a day whether the token of an integration still may do what it has to,
 *	  so that people know before a synchronisation or a door needs it. Runs in the worker as
 *	  a job, and in the backend that calls cobot_check_connection().
 *
 * Facts: anybody with a token may ask for its scopes; a token is worth less than these say
 * once its admin lost permissions, and then it is told so with 403. So beside the scopes a
 * member that is known is read, which is what synchronising needs, and where individual
 * access is on, the definitions of the custom fields. None of these is a long list.
 *
 * On this occasion the token of an earlier connection is revoked (connect.c).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "check.h"
#include "integration.h"
#include "query.h"

PG_FUNCTION_INFO_V1(check_connection);

/* What is asked for, at most. */
typedef enum CheckQuestion
{
	CHECK_SCOPES,
	CHECK_MEMBER,
	CHECK_FIELDS,
	CHECK_RETIRED				/* no question: revokes the token before */
} CheckQuestion;

#define CHECK_QUESTION_COUNT (CHECK_RETIRED + 1)

typedef struct Check
{
	CobotCall  *calls[CHECK_QUESTION_COUNT];
	CheckQuestion question[CHECK_QUESTION_COUNT];
	int			count;
	CobotClient retired;		/* has the token before; none: there is none to revoke */
} Check;

typedef struct CheckResult
{
	const char *result;			/* ok, missing_scope, or a reason of the closed vocabulary */
	char	   *message;
	Datum		missing_scope;	/* text[]; 0: not known */
} CheckResult;

/* ---- what is asked ---- */

static void
ask(Check *check, CheckQuestion question, CobotCall *call)
{
	check->question[check->count] = question;
	check->calls[check->count++] = call;
}

static void
plan_questions(Check *check, CobotClient *client, const Integration *integration)
{
	QueryArg	arg = query_int64(integration->id);
	Secret		retired = secret_load(SECRET_RETIRED_TOKEN, integration->id);

	*check = (Check) {.count = 0};
	ask(check, CHECK_SCOPES, cobot_ask_token_scopes(client));
	if (query_run("SELECT m.cobot_id FROM smartspace.cobot_membership m WHERE m.integration_id = $1 AND m.departed_at IS NULL LIMIT 1", 1, &arg) > 0)
		ask(check, CHECK_MEMBER, cobot_ask_membership(client, query_result_text(0, 1)));
	if (integration->sync_individual_access)
		ask(check, CHECK_FIELDS, cobot_ask_field_definitions(client));
	if (retired.state == SECRET_READ)
	{
		integration_open_client_with(integration, &check->retired, client->context, retired.value);
		ask(check, CHECK_RETIRED, cobot_delete_token(&check->retired));
	}
	secret_wipe(&retired);
}

/* ---- what it means ---- */

bool
check_read_scopes(CobotCall *call, Datum *scopes, JsonError *error)
{
	const cJSON *answer = cobot_answer(call, error);
	const cJSON *list = answer ? cJSON_GetObjectItemCaseSensitive(answer, "scope") : NULL;
	const cJSON *scope;

	if (answer == NULL)
		return false;
	if (!cJSON_IsArray(list))
		return json_fail(error, "", "scope", "is %s, expected an array", json_type_name(list));

	Datum	   *texts = palloc(sizeof(Datum) * Max(cJSON_GetArraySize(list), 1));
	int			count = 0;

	cJSON_ArrayForEach(scope, list)
		if (cJSON_IsString(scope))
			texts[count++] = CStringGetTextDatum(scope->valuestring);
	*scopes = query_text_array(texts, count);
	return true;
}

/* Why this answer means that something is lost or not known; NULL: it does not. */
static const char *
reason_of(CheckQuestion question, const CobotCall *call)
{
	if (call->outcome == COBOT_OK || question == CHECK_RETIRED)
		return NULL;
	if (call->outcome == COBOT_NOT_FOUND)
		return question == CHECK_SCOPES ? cobot_failure_reason(COBOT_UNAUTHORIZED) :
			question == CHECK_MEMBER ? NULL : cobot_failure_reason(COBOT_NOT_FOUND);
	return cobot_failure_reason(call->outcome);
}

/* Keeps the scopes, and tells which are missing; true if the synchronisation cannot do without one of them. */
static bool
keep_scopes(int64 id, Datum scopes, CheckResult *result)
{
	QueryArg	args[] = {query_int64(id), query_value(TEXTARRAYOID, scopes)};

	query_run("UPDATE smartspace.cobot_integration SET granted_scope = $2 WHERE id = $1 AND granted_scope IS DISTINCT FROM $2",
			  lengthof(args), args);
	query_run("SELECT COALESCE(pg_catalog.array_agg(s.scope), '{}'), COALESCE(pg_catalog.bool_or(s.scope = 'read_memberships'), false),"
			  " pg_catalog.string_agg(pg_catalog.format('the token lacks the scope %s: %s', s.scope, s.effect), '; ')"
			  " FROM smartspace.cobot_integration i CROSS JOIN LATERAL smartspace.cobot_missing_scope($2, i.sync_individual_access,"
			  "  i.auto_checkin AND EXISTS (SELECT FROM smartspace.building b WHERE b.integration_id = i.id AND b.is_entrance)) s"
			  " WHERE i.id = $1", lengthof(args), args);

	bool		isnull;

	result->missing_scope = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	result->message = query_result_text(0, 3);
	if (result->message)
		result->result = "missing_scope";
	return query_result_bool(0, 2);
}

static bool
is_missing(Datum scopes, const char *scope)
{
	QueryArg	args[] = {query_value(TEXTARRAYOID, scopes), query_text(scope)};

	query_run("SELECT $2 = ANY ($1)", lengthof(args), args);
	return query_result_bool(0, 1);
}

/*
 * Judges the answers, in order: the first that is bad counts. A missing scope explains
 * why what it opens is refused, and is the better thing to say.
 */
static void
judge(int64 id, Check *check, CheckResult *result)
{
	const char *reason = reason_of(CHECK_SCOPES, check->calls[0]);
	JsonError	error;
	Datum		scopes;

	*result = (CheckResult) {.result = "ok"};
	if (reason)
	{
		result->result = reason;
		result->message = cobot_failure_message(check->calls[0]);
		return;
	}
	if (!check_read_scopes(check->calls[0], &scopes, &error))
	{
		result->result = cobot_failure_reason(COBOT_WRONG_SHAPE);
		result->message = psprintf("could not use %s: %s %s", check->calls[0]->subject, error.path, error.message);
		return;
	}
	if (keep_scopes(id, scopes, result))
	{
		result->result = cobot_failure_reason(COBOT_FORBIDDEN);
		return;
	}
	for (int i = 1; i < check->count; i++)
	{
		reason = reason_of(check->question[i], check->calls[i]);
		if (reason == NULL || (check->question[i] == CHECK_FIELDS && check->calls[i]->outcome == COBOT_FORBIDDEN &&
							   is_missing(result->missing_scope, "read_custom_fields")))
			continue;
		result->result = reason;
		result->message = cobot_failure_message(check->calls[i]);
		return;
	}
}

/* True if it is known now how the integration stands. */
static bool
is_verdict(const CheckResult *result)
{
	return strcmp(result->result, "ok") == 0 || strcmp(result->result, "missing_scope") == 0 ||
		strcmp(result->result, "auth_revoked") == 0 || strcmp(result->result, "admin_rights_lost") == 0 ||
		strcmp(result->result, "account_suspended") == 0;
}

/* Another one may have been put there meanwhile. */
static void
forget_retired(int64 id, const Check *check)
{
	for (int i = 0; i < check->count; i++)
	{
		if (check->question[i] != CHECK_RETIRED || !cobot_token_is_gone(check->calls[i]))
			continue;
		integration_lock(id);

		Secret		retired = secret_load(SECRET_RETIRED_TOKEN, id);

		if (retired.state == SECRET_READ && strcmp(retired.value, check->retired.token) == 0)
			secret_store(SECRET_RETIRED_TOKEN, id, NULL);
		secret_wipe(&retired);
	}
}

static void
wipe_retired(Check *check)
{
	if (check->retired.token)
		explicit_bzero((char *) check->retired.token, strlen(check->retired.token));
}

/*
 * What is lost becomes the state of the integration. That nothing is lost mends no state:
 * the next synchronisation knows better why it is what it is.
 */
static void
settle(int64 id, Check *check, CheckResult *result)
{
	QueryArg	arg = query_int64(id);

	forget_retired(id, check);
	judge(id, check, result);
	if (!is_verdict(result))
		return;
	query_run("UPDATE smartspace.cobot_integration SET checked_at = pg_catalog.clock_timestamp() WHERE id = $1", 1, &arg);
	query_run("UPDATE smartspace.cobot_sync_task SET check_due_at = pg_catalog.clock_timestamp() + interval '23 hours'"
			  " + pg_catalog.random() * interval '2 hours' WHERE integration_id = $1", 1, &arg);
	if (strcmp(result->result, "ok") != 0 && strcmp(result->result, "missing_scope") != 0)
		integration_report(id, result->result);
}

/* The integration as it is now; false if it is not there, or not to be asked with the client's token any more. */
static bool
load_same(int64 id, const CobotClient *client, Integration *integration)
{
	QueryArg	arg = query_int64(id);
	bool		same;

	if (query_run("SELECT FROM smartspace.cobot_integration i WHERE i.id = $1", 1, &arg) == 0)
		return false;
	integration_load(integration, id, false);
	same = integration_can_ask(integration) &&
		(client->token == NULL ||
		 (strcmp(client->subdomain, integration->subdomain) == 0 && strcmp(client->token, integration->token.value) == 0));
	if (!same)
		integration_wipe(integration);
	return same;
}

/* A minute later, when what runs with the token before has come to its end. */
void
check_soon(int64 id)
{
	QueryArg	arg = query_int64(id);

	query_run("UPDATE smartspace.cobot_sync_task SET check_due_at = pg_catalog.clock_timestamp() + interval '1 minute'"
			  " WHERE integration_id = $1", 1, &arg);
}

/* ---- by hand ---- */

/*
 * cobot_check_connection(integration bigint) -> (result, missing_scope, message)
 */
Datum
check_connection(PG_FUNCTION_ARGS)
{
	Integration integration;
	CobotClient client;
	CheckResult result;
	Check		check;
	TupleDesc	tupdesc;

	PreventCommandIfReadOnly("cobot_check_connection()");
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);

	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "smartspace_cobot check",
												  ALLOCSET_DEFAULT_SIZES);

	SPI_connect();
	integration_load(&integration, PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0), PG_ARGISNULL(0));
	integration_open_client(&integration, &client, context);
	integration_wipe(&integration);
	plan_questions(&check, &client, &integration);
	cobot_perform(check.calls, check.count);
	if (!load_same(integration.id, &client, &integration))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("integration \"%s\" was connected or disconnected by somebody else meanwhile", integration.name),
				 errhint("Look at it again.")));
	integration_wipe(&integration);
	settle(integration.id, &check, &result);

	Datum		values[] = {
		CStringGetTextDatum(result.result), result.missing_scope,
		result.message ? CStringGetTextDatum(result.message) : (Datum) 0
	};
	bool		nulls[] = {false, result.missing_scope == (Datum) 0, result.message == NULL};
	Datum		row = PointerGetDatum(SPI_returntuple(heap_form_tuple(tupdesc, values, nulls), tupdesc));

	explicit_bzero((char *) client.token, strlen(client.token));
	wipe_retired(&check);
	SPI_finish();
	MemoryContextDelete(context);
	PG_RETURN_DATUM(row);
}

/* ---- by the worker ---- */

/* The first step asks, the second one settles. */
static void
step(Job *job)
{
	Check	   *check = job->data;
	Integration integration;
	CheckResult result;

	if (!job_begin())
		return;
	if (load_same(job->integration, &job->client, &integration))
	{
		if (check->count > 0)
			settle(job->integration, check, &result);
		else
		{
			integration_open_client(&integration, &job->client, job->context);
			job->client.user = MemoryContextStrdup(job->context, integration.connected_by ? integration.connected_by
												   : integration.subdomain);
			plan_questions(check, &job->client, &integration);
			job->calls = check->calls;
			job->call_count = check->count;
		}
		integration_wipe(&integration);
	}
	job_commit();
}

/* The log has it, and when to try again stands in the claim. */
static void
failed(Job *job, const char *error)
{
	elog(DEBUG1, "the check of integration %lld failed: %s", (long long) job->integration, error);
}

static void
ended(Job *job)
{
	if (job->client.token)
		explicit_bzero((char *) job->client.token, strlen(job->client.token));
	wipe_retired(job->data);
}

/* An integration that cannot be asked is looked at a day later; what breaks a check off does so once an hour at most. */
Job *
check_job_next(void)
{
	Job		   *job = NULL;

	if (!job_begin())
		return NULL;
	if (query_run("UPDATE smartspace.cobot_sync_task SET check_due_at = pg_catalog.clock_timestamp()"
				  " + CASE WHEN i.state IN ('connected', 'degraded') THEN interval '1 hour' ELSE interval '1 day' END"
				  " FROM smartspace.cobot_integration i WHERE i.id = integration_id AND integration_id ="
				  " (SELECT t.integration_id FROM smartspace.cobot_sync_task t WHERE t.check_due_at <= pg_catalog.clock_timestamp()"
				  "  ORDER BY t.check_due_at LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING integration_id", 0, NULL) > 0)
	{
		job = job_create("check of the connection", query_result_int64(0, 1));
		job->data = MemoryContextAllocZero(job->context, sizeof(Check));
		job->step = step;
		job->failed = failed;
		job->ended = ended;
	}
	job_commit();
	return job;
}

TimestampTz
check_job_due(void)
{
	query_run("SELECT pg_catalog.min(t.check_due_at) FROM smartspace.cobot_sync_task t", 0, NULL);
	return query_result_is_null(0, 1) ? DT_NOEND : query_result_int64(0, 1);
}
