/*
 * sync_ingest.c
 *	  The offline door: an outside fetcher asked Cobot and brings the answers, for
 *	  hosts whose database may not call out. The same run as any other, with the
 *	  same plan, guard and evidence; nothing is sent.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

#include "query.h"
#include "sync.h"

PG_FUNCTION_INFO_V1(sync_ingest);

/* What was brought; source_data of such a run. */
typedef struct Delivery
{
	char	   *memberships;
	char	   *plans;			/* NULL: not brought */
	char	   *custom_fields;
	char	   *space;
	char	   *evidence;
	bool		complete;		/* memberships is all of Cobot's list */
} Delivery;

/* A jsonb argument as text in the current context; NULL for an SQL null. */
static char *
json_argument(FunctionCallInfo fcinfo, int arg)
{
	if (PG_ARGISNULL(arg))
		return NULL;

	Jsonb	   *json = PG_GETARG_JSONB_P(arg);

	return JsonbToCString(NULL, &json->root, VARSIZE(json));
}

static void
free_array(void *array)
{
	json_free_array(array);
}

static void
free_tree(void *tree)
{
	cJSON_Delete(tree);
}

static void
free_with_run(SyncRun *run, MemoryContextCallbackFunction function, void *arg)
{
	MemoryContextCallback *callback = MemoryContextAlloc(run->context, sizeof(MemoryContextCallback));

	callback->func = function;
	callback->arg = arg;
	MemoryContextRegisterResetCallback(run->context, callback);
}

/* Splits one of the lists, or sets the outcome of the run. */
static const JsonArray *
split(SyncRun *run, const char *text, const char *what, const char *id_key)
{
	JsonArray  *array = MemoryContextAllocZero(run->context, sizeof(JsonArray));
	JsonError	error;
	bool		is_array = text[strspn(text, " \t\r\n")] == '[';

	free_with_run(run, free_array, array);
	if (is_array && json_split_array(text, strlen(text), id_key, array, &error))
		return array;
	if (!is_array)
		json_fail(&error, "", "", "is no array");
	sync_stop(run, "incomplete", "bad_answer", "Give Cobot's answer as it came.",
			  "the %s cannot be used: the value %s", what, error.message);
	return NULL;
}

/* A tree that lives as long as the run. NULL: the outcome of the run is set. */
static const cJSON *
parse(SyncRun *run, const char *text, const char *what)
{
	JsonError	error;
	cJSON	   *tree = json_check(text, strlen(text), &error) ? json_parse(text, strlen(text), what, &error) : NULL;

	free_with_run(run, free_tree, tree);
	if (tree && cJSON_IsObject(tree))
		return tree;
	if (tree)
		json_fail(&error, "", "", "is %s, expected an object", json_type_name(tree));
	sync_stop(run, "incomplete", "bad_answer", "Give Cobot's answer as it came.",
			  "the %s cannot be used: the value %s", what, error.message);
	return NULL;
}

static bool
fetch(SyncRun *run, SyncSnapshot *snapshot, SyncPlan *plan)
{
	const Delivery *delivery = run->source_data;

	snapshot->partial = !delivery->complete;
	if (delivery->space)
	{
		const cJSON *tree = parse(run, delivery->space, "space");

		if (tree == NULL || !sync_take_space(run, snapshot, plan, tree))
			return false;
	}
	if (delivery->plans && (snapshot->plans = split(run, delivery->plans, "plans", "id")) == NULL)
		return false;
	if ((snapshot->members = split(run, delivery->memberships, "memberships", "id")) == NULL)
		return false;
	if (delivery->custom_fields && run->integration.sync_individual_access)
	{
		const JsonArray *values = split(run, delivery->custom_fields, "custom fields", "membership_id");

		if (values == NULL)
			return false;
		sync_take_values(snapshot, plan, values);
	}
	return true;
}

/*
 * Evidence is an object of Cobot's answers by id: the record, or null where Cobot
 * answered 404. Whoever is not in it was not asked for.
 */
static void
look_up_members(SyncRun *run, const SyncMissing *missing, int count, SyncAnswer *answers)
{
	const Delivery *delivery = run->source_data;
	const cJSON *evidence = delivery->evidence ? parse(run, delivery->evidence, "evidence") : NULL;

	for (int i = 0; i < count && evidence; i++)
	{
		const cJSON *told = cJSON_GetObjectItemCaseSensitive(evidence, missing[i].cobot_id);

		if (cJSON_IsNull(told))
			answers[i].kind = SYNC_DELETED;
		else if (told)
		{
			char	   *printed = cJSON_PrintUnformatted(told);

			if (printed == NULL)
				ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
			free_with_run(run, cJSON_free, printed);
			answers[i] = (SyncAnswer) {
				.kind = SYNC_TOLD, .told = (JsonElement) {.text = printed, .length = strlen(printed)}
			};
		}
	}
}

/* A member's custom fields belong into the list that was brought; there is nobody to ask. */
static void
look_up_fields(SyncRun *run, const SyncMissing *missing, int count, SyncAnswer *answers)
{
	(void) run;
	(void) missing;
	(void) count;
	(void) answers;
}

static const SyncSource sync_from_delivery = {
	.fetch = fetch,
	.ask_members = look_up_members,
	.ask_fields = look_up_fields
};

/* Without a token the integration lives on what is brought. */
static void
settle_in(int64 integration)
{
	QueryArg	arg = query_int64(integration);

	query_run("UPDATE smartspace.cobot_integration i SET fed_from_outside = true,"
			  " state = CASE WHEN i.state IN ('new', 'disconnected') THEN 'connected' ELSE i.state END"
			  " WHERE i.id = $1 AND NOT i.fed_from_outside AND NOT EXISTS (SELECT FROM smartspace.cobot_secret s"
			  "  WHERE s.integration_id = i.id AND s.token IS NOT NULL)", 1, &arg);
}

/*
 * cobot_ingest(integration bigint, memberships jsonb, plans jsonb, custom_fields jsonb,
 *				complete boolean, evidence jsonb, space jsonb) -> cobot_sync_run
 */
Datum
sync_ingest(PG_FUNCTION_ARGS)
{
	Delivery	delivery = {
		.memberships = json_argument(fcinfo, 1), .plans = json_argument(fcinfo, 2),
		.custom_fields = json_argument(fcinfo, 3), .complete = !PG_ARGISNULL(4) && PG_GETARG_BOOL(4),
		.evidence = json_argument(fcinfo, 5), .space = json_argument(fcinfo, 6)
	};
	SyncRun		run = {.kind = SYNC_INGEST, .source = &sync_from_delivery, .source_data = &delivery};
	Datum		result;

	PreventCommandIfReadOnly("cobot_ingest()");
	if (delivery.memberships == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the memberships must not be null"),
				 errhint("Give Cobot's answer to GET /api/memberships as it came.")));

	SPI_connect();
	if (!PG_ARGISNULL(0))
		settle_in(PG_GETARG_INT64(0));
	result = sync_run_integration(&run, PG_ARGISNULL(0) ? 0 : PG_GETARG_INT64(0), PG_ARGISNULL(0), NULL);
	SPI_finish();
	PG_RETURN_DATUM(result);
}
