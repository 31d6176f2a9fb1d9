/*
 * sync_fetch.c
 *	  Asks Cobot for everything a run needs: a handful of bulk requests, never
 *	  one for each member. Yields a complete snapshot, or says why there is none.
 */
#include "postgres.h"

#include "custom_field.h"
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
find_field(CobotCall *definitions, SyncPlan *plan)
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
	if (matches == 0)
		sync_plan_problem(plan, "custom_field_missing", "custom field", INTEGRATION_FIELD_LABEL,
						  "The space has no custom field of this name.");
	else
		sync_plan_problem(plan, "custom_field_ambiguous", "custom field", INTEGRATION_FIELD_LABEL,
						  psprintf("The space has %d custom fields of this name.", matches));
	return NULL;
}

/*
 * Records of values that do not say whose they are. They may be anybody's, so
 * whoever seems to have no values keeps what they had.
 */
static void
report_fields_of_nobody(SyncSnapshot *snapshot, SyncPlan *plan)
{
	for (size_t i = 0; i < snapshot->field_values->count; i++)
	{
		const char *id = snapshot->field_values->element[i].id;

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

	snapshot->field_id = find_field(calls[0], plan);
	if (snapshot->field_id)
	{
		snapshot->field_values = &calls[1]->elements;
		report_fields_of_nobody(snapshot, plan);
	}
	return true;
}

static bool
take_space(SyncRun *run, SyncSnapshot *snapshot, SyncPlan *plan, CobotCall *call)
{
	JsonError	error;

	if (!space_read(call, &snapshot->space, &error))
		return sync_stop(run, "incomplete", "bad_answer",
						 "If it goes on, report it to Cobot together with the time of the run.",
						 "the details of space \"%s\" cannot be used: %s %s",
						 run->integration.subdomain, error.path, error.message);

	if (run->integration.space_id && strcmp(snapshot->space.id, run->integration.space_id) != 0)
		return sync_stop(run, "incomplete", "bad_answer",
						 "If the space was given another subdomain in Cobot, correct the subdomain of the integration.",
						 "the subdomain \"%s\" belongs to another space now: \"%s\"",
						 run->integration.subdomain, snapshot->space.name ? snapshot->space.name : "");

	if (!snapshot->space.time_zone_known)
		sync_plan_problem(plan, "bad_record", "space", snapshot->space.id,
						  psprintf("time_zone_name is \"%s\", which PostgreSQL does not know; the zone before it stays in force.",
								   snapshot->space.time_zone));
	return true;
}

bool
sync_fetch(SyncRun *run, SyncSnapshot *snapshot, SyncPlan *plan)
{
	CobotCall  *calls[5];
	int			count = 3;

	calls[0] = cobot_ask_space(&run->client);
	calls[1] = cobot_ask_plans(&run->client);
	calls[2] = cobot_ask_memberships(&run->client);
	if (run->integration.sync_individual_access)
	{
		calls[3] = cobot_ask_field_definitions(&run->client);
		calls[4] = cobot_ask_custom_fields(&run->client);
		count = 5;
	}
	cobot_perform(calls, count);

	CobotCall  *failure = cobot_first_failure(calls, 3);

	if (failure)
		return sync_fail(run, failure);
	if (!take_space(run, snapshot, plan, calls[0]))
		return false;

	snapshot->plans = &calls[1]->elements;
	snapshot->members = &calls[2]->elements;
	run->members_seen = (int) snapshot->members->count;
	return count == 3 || take_fields(run, snapshot, plan, &calls[3]);
}
