/*
 * sync_fetch.c
 *	  What a run needs to know from Cobot: a handful of bulk requests, never one for
 *	  each member. Yields a complete snapshot, or says why there is none.
 */
#include "postgres.h"

#include "custom_field.h"
#include "query.h"
#include "sync.h"

/* Labels that stand more than once are worth a word of advice; ours is find_field()'s matter. */
static void
report_duplicate_labels(const CustomFieldList *list, SyncPlan *plan)
{
	const cJSON *element;

	cJSON_ArrayForEach(element, list->tree)
	{
		const char *label = cJSON_GetObjectItemCaseSensitive(element, "label")->valuestring;

		if (strcmp(label, INTEGRATION_FIELD_LABEL) != 0 && custom_field_count(list, label) > 1)
			sync_plan_problem(plan, "duplicate_label", "custom field", label,
							  psprintf("The space has %d custom fields of this name.", custom_field_count(list, label)));
	}
}

/* Facts: definitions belong to the space; labels need not be unique. */
static const char *
find_field(CobotCall *definitions, SyncSnapshot *snapshot, SyncPlan *plan)
{
	CustomFieldList list;
	JsonError	error;

	if (!custom_field_read(definitions, &list, &error))
	{
		sync_plan_problem(plan, "custom_field_unreadable", "custom field", INTEGRATION_FIELD_LABEL,
						  psprintf("%s %s", error.path, error.message));
		return NULL;
	}

	report_duplicate_labels(&list, plan);

	int			matches = custom_field_count(&list, INTEGRATION_FIELD_LABEL);

	if (matches == 1)
		return custom_field_id(&list, INTEGRATION_FIELD_LABEL);
	snapshot->field_gone = matches == 0;
	if (matches == 0)
		sync_plan_problem(plan, "custom_field_missing", "custom field", INTEGRATION_FIELD_LABEL,
						  "The space has no custom field of this name.");
	else
		sync_plan_problem(plan, "custom_field_ambiguous", "custom field", INTEGRATION_FIELD_LABEL,
						  psprintf("The space has %d custom fields of this name.", matches));
	return NULL;
}

/*
 * Takes the list of values. Some of its records may not say whose they are: they
 * may be anybody's, so whoever seems to have no values keeps what they had.
 */
void
sync_take_values(SyncSnapshot *snapshot, SyncPlan *plan, const JsonArray *values)
{
	snapshot->field_values = values;
	for (size_t i = 0; i < values->count; i++)
	{
		const char *id = values->element[i].id;

		if (id == NULL || id[0] == '\0')
		{
			char	   *where = psprintf("custom_fields[%d]", (int) i);

			snapshot->fields_of_nobody = true;
			sync_plan_problem(plan, "bad_record", "custom field", where,
							  psprintf("%s.membership_id is missing or no string", where));
		}
	}
}

/*
 * The custom fields, where individual access is on. A token that may not read
 * them costs individual access alone: members keep what they had.
 */
static bool
take_fields(SyncRun *run, SyncSnapshot *snapshot, SyncPlan *plan, CobotCall **calls)
{
	for (int i = 0; i < 2; i++)
	{
		if (calls[i]->outcome == COBOT_FORBIDDEN)
		{
			sync_plan_problem(plan, "custom_field_unreadable", "custom field", INTEGRATION_FIELD_LABEL,
							  psprintf("%s.", cobot_failure_message(calls[i])));
			return true;
		}
		if (calls[i]->outcome != COBOT_OK)
			return sync_fail(run, calls[i]);
	}

	snapshot->field_id = find_field(calls[0], snapshot, plan);
	if (snapshot->field_id)
		sync_take_values(snapshot, plan, &calls[1]->elements);
	return true;
}

bool
sync_take_space(SyncRun *run, SyncSnapshot *snapshot, SyncPlan *plan, const cJSON *tree)
{
	JsonError	error;

	if (!space_read(tree, &snapshot->space, &error))
		return sync_stop(run, "incomplete", "bad_answer",
						 "If it goes on, report it to Cobot together with the time of the run.",
						 "the details of space \"%s\" cannot be used: %s %s",
						 run->integration.subdomain, error.path, error.message);

	if (run->integration.space_id && strcmp(snapshot->space.id, run->integration.space_id) != 0)
		return sync_stop(run, "incomplete", "bad_answer",
						 "If the space was given another subdomain in Cobot, correct the subdomain of the integration.",
						 "the subdomain \"%s\" belongs to another space now: \"%s\"",
						 run->integration.subdomain, snapshot->space.name ? snapshot->space.name : "");

	snapshot->has_space = true;
	if (!snapshot->space.time_zone_known)
		sync_plan_problem(plan, "bad_record", "space", snapshot->space.id,
						  psprintf("time_zone_name is \"%s\", which PostgreSQL does not know; the zone before it stays in force.",
								   snapshot->space.time_zone));
	return true;
}

/*
 * Cobot may say of an answer that it is still the one of last time. If all are, there is
 * nothing to compare. Else those are asked for once more, because a snapshot is made of all.
 */
static bool
is_unchanged(SyncRun *run, CobotCall **calls, int count)
{
	int			unchanged = 0;

	for (int i = 0; i < count; i++)
		if (calls[i]->outcome == COBOT_NOT_MODIFIED)
			unchanged++;
	for (int i = 0; i < count && unchanged < count; i++)
		if (calls[i]->outcome == COBOT_NOT_MODIFIED)
			sync_ask_whole(run, i);
	return unchanged == count;
}

/* What was seen is what the run before saw. */
static void
take_counts(SyncRun *run)
{
	QueryArg	arg = query_int64(run->integration.id);

	query_run("SELECT r.members_seen::bigint, r.plans_seen::bigint, r.fields_seen::bigint FROM smartspace.cobot_sync_run r"
			  " WHERE r.integration_id = $1 ORDER BY r.id DESC LIMIT 1", 1, &arg);
	run->members_seen = (int) query_result_int64(0, 1);
	run->plans_seen = (int) query_result_int64(0, 2);
	run->fields_seen = (int) query_result_int64(0, 3);
}

static bool
fetch(SyncRun *run, SyncSnapshot *snapshot, SyncPlan *plan)
{
	CobotCall  *calls[SYNC_SNAPSHOT_QUESTIONS];
	int			count = run->integration.sync_individual_access ? 5 : 3;
	JsonError	error;

	for (int i = 0; i < count; i++)
		calls[i] = sync_ask(run, i, NULL);
	if (sync_questions_open(run->questions))
		return false;
	run->unchanged = is_unchanged(run, calls, count);
	if (run->unchanged)
	{
		take_counts(run);
		return true;
	}
	if (sync_questions_open(run->questions))
		return false;

	CobotCall  *failure = cobot_first_failure(calls, 3);

	if (failure)
		return sync_fail(run, failure);

	const cJSON *tree = cobot_answer(calls[2], &error);

	if (!sync_take_space(run, snapshot, plan, tree))
		return false;

	snapshot->plans = &calls[1]->elements;
	snapshot->members = &calls[0]->elements;
	return count == 3 || take_fields(run, snapshot, plan, &calls[3]);
}

/* ---- by id ---- */

/* What a call says, but for the record itself; true if there is one. */
static bool
judge(const CobotCall *call, SyncAnswer *answer)
{
	if (call->outcome == COBOT_OK)
		answer->kind = SYNC_TOLD;
	else if (call->outcome == COBOT_NOT_FOUND)
		answer->kind = SYNC_DELETED;
	else
		*answer = (SyncAnswer) {.kind = SYNC_FAILED, .failure = call};
	return answer->kind == SYNC_TOLD;
}

JsonElement
sync_told_by(const CobotCall *call)
{
	return (JsonElement) {.text = call->request->response, .length = call->request->response_length};
}

static void
ask_members(SyncRun *run, const SyncMissing *missing, int count, SyncAnswer *answers)
{
	for (int i = 0; i < Min(count, SYNC_VERIFY_LIMIT); i++)
	{
		const CobotCall *call = sync_ask(run, SYNC_ASK_MEMBERSHIP, missing[i].cobot_id);

		if (call && judge(call, &answers[i]))
			answers[i].told = sync_told_by(call);
	}
}

static void
ask_fields(SyncRun *run, const SyncMissing *missing, int count, SyncAnswer *answers)
{
	for (int i = 0; i < Min(count, SYNC_VERIFY_LIMIT); i++)
	{
		const CobotCall *call = sync_ask(run, SYNC_ASK_MEMBER_FIELDS, missing[i].cobot_id);

		if (call && judge(call, &answers[i]))
			answers[i].fields = sync_told_by(call);
	}
}

const SyncSource sync_from_cobot = {
	.fetch = fetch,
	.ask_members = ask_members,
	.ask_fields = ask_fields
};
