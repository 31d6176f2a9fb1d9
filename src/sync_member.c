/*
 * sync_member.c
 *	  One member now: "she is standing at the door". The same run as any other,
 *	  with an answer that is about one member: asked for by id, together with
 *	  their custom fields, so two requests; a third where something would be taken.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "custom_field.h"
#include "query.h"
#include "sync.h"
#include "sync_member.h"

PG_FUNCTION_INFO_V1(sync_member);
PG_FUNCTION_INFO_V1(sync_member_called);

/* Who it is about; source_data of such a run. */
typedef struct MemberWanted
{
	char	   *cobot_id;		/* NULL: nobody here has this e-mail, so Cobot is asked who does */
	char	   *email;
	bool		must_exist;		/* somebody asked for them by name, so not to exist is an error */
	bool		without_fields; /* the membership alone matters */
} MemberWanted;

/* How much of what somebody asked for is repeated to them. */
#define SHOWN_BYTES 200

static char *
shown(const char *name)
{
	return pnstrdup(name, pg_mbcliplen(name, (int) strlen(name), SHOWN_BYTES));
}

static void raise_unknown(const char *name, const char *subdomain) pg_attribute_noreturn();

static void
raise_unknown(const char *name, const char *subdomain)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("Cobot has no member \"%s\" in \"%s\"", shown(name), subdomain),
			 errhint("Give Cobot's id of the membership or the e-mail address that Cobot has for the member.")));
}

/* Facts: the list gives only the keys that are asked for, which makes it small. */
static char *
find_by_email(SyncRun *run, const char *email)
{
	const CobotCall *call = sync_ask(run, SYNC_ASK_MEMBER_EMAILS, NULL);
	char	   *found = NULL;

	if (call == NULL)
		return NULL;
	if (call->outcome != COBOT_OK)
	{
		sync_fail(run, call);
		return NULL;
	}

	for (size_t i = 0; i < call->elements.count; i++)
	{
		const JsonElement *element = &call->elements.element[i];
		const char *told;
		bool		present;
		JsonError	error;
		cJSON	   *tree = json_parse(element->text, element->length, "", &error);
		bool		same = tree && element->id && json_get_string(tree, "", "email", &told, &present, &error) &&
			present && pg_strcasecmp(told, email) == 0;

		cJSON_Delete(tree);
		if (same && found)
			ereport(ERROR,
					(errcode(ERRCODE_CARDINALITY_VIOLATION),
					 errmsg("several members of \"%s\" have the e-mail address \"%s\"", run->integration.subdomain, email),
					 errhint("Give Cobot's id of the membership.")));
		if (same)
			found = MemoryContextStrdup(run->context, element->id);
	}
	if (found == NULL)
		raise_unknown(email, run->integration.subdomain);
	return found;
}

static bool
fetch(SyncRun *run, SyncSnapshot *snapshot, SyncPlan *plan)
{
	const MemberWanted *wanted = run->source_data;
	char	   *cobot_id = wanted->cobot_id ? wanted->cobot_id : find_by_email(run, wanted->email);

	if (cobot_id == NULL)
		return false;
	snapshot->partial = true;
	plan->vanished = MemoryContextAllocZero(run->context, sizeof(SyncMissing));
	plan->vanished[0].cobot_id = cobot_id;
	plan->vanished_count = 1;
	return true;
}

/*
 * 404 is evidence that the member was deleted only if the space is there: a wrong
 * subdomain gives the same.
 */
static void
judge_not_found(SyncRun *run, const SyncMissing *missing, SyncAnswer *answer)
{
	const MemberWanted *wanted = run->source_data;
	const CobotCall *space = sync_ask(run, SYNC_ASK_SPACE, NULL);
	QueryArg	args[] = {query_int64(run->integration.id), query_text(missing->cobot_id)};

	if (space == NULL)
		return;
	if (space->outcome != COBOT_OK)
	{
		*answer = (SyncAnswer) {.kind = SYNC_FAILED, .failure = space};
		return;
	}
	answer->kind = SYNC_DELETED;
	if (wanted->must_exist &&
		query_run("SELECT FROM smartspace.cobot_membership m WHERE m.integration_id = $1 AND m.cobot_id = $2",
				  lengthof(args), args) == 0)
		raise_unknown(missing->cobot_id, run->integration.subdomain);
}

/* True if the member had a value of the custom field, and this answer has none. */
static bool
loses_value(SyncRun *run, const char *cobot_id, const CobotCall *fields)
{
	const JsonElement told = sync_told_by(fields);
	QueryArg	args[] = {query_int64(run->integration.id), query_text(cobot_id)};
	JsonError	error;
	const char *value = NULL;
	cJSON	   *tree = json_parse(told.text, told.length, "", &error);
	bool		is_empty = tree && cobot_read_custom_field(tree, "", NULL, INTEGRATION_FIELD_LABEL, &value, &error) && value == NULL;

	cJSON_Delete(tree);
	return is_empty &&
		query_run("SELECT FROM smartspace.cobot_membership m WHERE m.integration_id = $1 AND m.cobot_id = $2"
				  " AND m.individual_access IS NOT NULL", lengthof(args), args) > 0;
}

/*
 * That a value is gone counts only while the space has the field: one that was
 * deleted takes nothing before a person said that this was meant.
 */
static bool
space_has_field(SyncRun *run)
{
	CobotCall  *definitions = sync_ask(run, SYNC_ASK_FIELD_DEFINITIONS, NULL);
	CustomFieldList list;
	JsonError	error;

	if (definitions == NULL)
		return false;
	if (definitions->outcome != COBOT_OK)
	{
		sync_fail(run, definitions);
		run->result = "incomplete";
		return false;
	}
	if (custom_field_read(definitions, &list, &error) && custom_field_count(&list, INTEGRATION_FIELD_LABEL) == 1)
		return true;
	return sync_stop(run, "incomplete", "source_incomplete",
					 "What it gave stays. The next synchronisation of all members says more.",
					 "the space has not exactly one custom field \"%s\"", INTEGRATION_FIELD_LABEL);
}

/* Asks for the one member and, where individual access is on, for their custom fields. */
static void
ask_member(SyncRun *run, const SyncMissing *missing, int count, SyncAnswer *answers)
{
	const MemberWanted *wanted = run->source_data;
	const CobotCall *record = sync_ask(run, SYNC_ASK_MEMBERSHIP, missing->cobot_id);
	const CobotCall *fields = run->integration.sync_individual_access && !wanted->without_fields ?
		sync_ask(run, SYNC_ASK_MEMBER_FIELDS, missing->cobot_id) : NULL;

	Assert(count == 1);
	(void) count;
	if (sync_questions_open(run->questions))
		return;

	if (record->outcome == COBOT_NOT_FOUND)
		judge_not_found(run, missing, &answers[0]);
	else if (record->outcome != COBOT_OK)
		answers[0] = (SyncAnswer) {.kind = SYNC_FAILED, .failure = record};
	else
	{
		answers[0].kind = SYNC_TOLD;
		answers[0].told = sync_told_by(record);
		if (fields && fields->outcome == COBOT_OK)
		{
			if (!loses_value(run, missing->cobot_id, fields) || space_has_field(run))
				answers[0].fields = sync_told_by(fields);
		}
		else if (fields)
		{
			/* the membership itself is good; what the custom field gave stays */
			sync_fail(run, fields);
			run->result = "incomplete";
		}
	}
}

static const SyncSource sync_one_member = {
	.fetch = fetch,
	.ask_members = ask_member
};

bool
sync_member_by_cobot_id(int64 integration, const char *cobot_id, bool with_fields)
{
	MemberWanted wanted = {.cobot_id = pstrdup(cobot_id), .without_fields = !with_fields};
	SyncRun		run = {.kind = SYNC_MEMBER, .source = &sync_one_member, .source_data = &wanted};

	sync_run_integration(&run, integration, false, NULL);
	return strcmp(run.result, "skipped_locked") != 0;
}

void
sync_member_describe(SyncRun *run, const char *cobot_id)
{
	MemberWanted *wanted = palloc0(sizeof(MemberWanted));

	wanted->cobot_id = pstrdup(cobot_id);
	run->kind = SYNC_MEMBER;
	run->source = &sync_one_member;
	run->source_data = wanted;
}

bool
sync_whole(int64 integration)
{
	SyncRun		run = {.kind = SYNC_WHOLE, .source = &sync_from_cobot};

	sync_run_integration(&run, integration, false, NULL);
	return strcmp(run.result, "skipped_locked") != 0;
}

/*
 * cobot_sync_member(member bigint) -> cobot_sync_run
 */
Datum
sync_member(PG_FUNCTION_ARGS)
{
	MemberWanted wanted = {.must_exist = true};
	SyncRun		run = {.kind = SYNC_MEMBER, .source = &sync_one_member, .source_data = &wanted};
	Datum		result;

	PreventCommandIfReadOnly("cobot_sync_member()");
	SPI_connect();

	QueryArg	arg = {.type = INT8OID, .value = PG_ARGISNULL(0) ? 0 : PG_GETARG_DATUM(0), .isnull = PG_ARGISNULL(0)};

	query_run("SELECT m.integration_id, m.cobot_id FROM smartspace.cobot_membership m"
			  " WHERE m.id = smartspace.cobot_require_member($1)", 1, &arg);

	int64		integration = query_result_int64(0, 1);

	wanted.cobot_id = query_result_text(0, 2);
	result = sync_run_integration(&run, integration, false, NULL);
	SPI_finish();
	PG_RETURN_DATUM(result);
}

/* The integration to ask when nobody here is called so: the one given, or the only one there is. */
static int64
integration_to_ask(QueryArg integration, const char *name)
{
	if (!integration.isnull)
		return DatumGetInt64(integration.value);
	if (query_run("SELECT i.id FROM smartspace.cobot_integration i WHERE i.state IN ('connected', 'degraded')"
				  " AND smartspace.cobot_sees(i.id)", 0, NULL) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("nobody here has the Cobot id or e-mail address \"%s\"", shown(name)),
				 errhint("To ask Cobot, name the integration: SELECT * FROM smartspace.cobot_sync_member(%s, integration).",
						 quote_literal_cstr(shown(name)))));
	return query_result_int64(0, 1);
}

/*
 * cobot_sync_member(who text, integration bigint) -> cobot_sync_run
 */
Datum
sync_member_called(PG_FUNCTION_ARGS)
{
	MemberWanted wanted = {.must_exist = true};
	SyncRun		run = {.kind = SYNC_MEMBER, .source = &sync_one_member, .source_data = &wanted};
	int64		integration;
	Datum		result;

	PreventCommandIfReadOnly("cobot_sync_member()");
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the member must not be null")));

	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));

	/* Without an id the question would be one for the list. */
	if (name[strspn(name, " \t\r\n")] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("nobody has an empty Cobot id or e-mail address")));

	SPI_connect();

	QueryArg	args[] = {
		query_text(name),
		{.type = INT8OID, .value = PG_ARGISNULL(1) ? 0 : PG_GETARG_DATUM(1), .isnull = PG_ARGISNULL(1)}
	};
	/*
	 * An e-mail address can be shared, and people who left may have used it. Who
	 * left and joined again has another membership, which Cobot is asked for.
	 */
	uint64		found = query_run("SELECT m.integration_id, m.cobot_id FROM (SELECT a.*,"
								  "  pg_catalog.rank() OVER (ORDER BY a.cobot_id = $1 DESC, a.departed_at IS NULL DESC) AS place"
								  "  FROM smartspace.cobot_membership a"
								  "  WHERE (a.cobot_id = $1 OR pg_catalog.lower(a.email) = pg_catalog.lower($1) AND a.departed_at IS NULL)"
								  "  AND ($2 IS NULL OR a.integration_id = $2)"
								  "  AND smartspace.cobot_sees(a.integration_id)) m WHERE m.place = 1", lengthof(args), args);

	if (found > 1)
		ereport(ERROR,
				(errcode(ERRCODE_CARDINALITY_VIOLATION),
				 errmsg("%llu members here have the Cobot id or e-mail address \"%s\"", (unsigned long long) found, shown(name)),
				 errhint("Give the id of the membership, or name the integration as well.")));
	if (found == 1)
	{
		integration = query_result_int64(0, 1);
		wanted.cobot_id = query_result_text(0, 2);
	}
	else
	{
		integration = integration_to_ask(args[1], name);
		if (strchr(name, '@'))
			wanted.email = name;
		else
			wanted.cobot_id = name;
	}
	result = sync_run_integration(&run, integration, false, NULL);
	SPI_finish();
	PG_RETURN_DATUM(result);
}
