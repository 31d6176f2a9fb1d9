/*
 * sync_verify.c
 *	  Evidence. What a list lacks is asked for by id before anything is taken from
 *	  anybody: only a membership that Cobot does not know any more, or says has
 *	  ended, departs. Every other answer, and none, holds the removal.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "sync.h"

/* What the answers of one kind add up to. */
typedef struct Tally
{
	const CobotCall *failure;	/* the first */
	int			still_there;	/* the list lacks them, and Cobot has them */
} Tally;

/* A removal for which there is no evidence, or not yet. Who has no access anyway needs no row. */
static void
hold(SyncPlan *plan, const SyncMissing *missing, const char *what, const char *reason, const char *detail)
{
	if (!missing->live)
		return;

	SyncChange *change = sync_plan_change(plan, "membership", missing->cobot_id, what);

	change->is_removal = true;
	change->verdict = SYNC_HELD;
	change->reason = reason;
	change->detail = MemoryContextStrdup(GetMemoryChunkContext(plan->change), detail);
}

/* No answer that says anything. False if there is one. */
static bool
hold_unanswered(SyncPlan *plan, const SyncMissing *missing, const char *what, const SyncAnswer *answer, Tally *tally)
{
	switch (answer->kind)
	{
		case SYNC_NOT_ASKED:
			plan->waiting++;
			hold(plan, missing, what, "source_incomplete", "not asked for by id yet");
			return true;
		case SYNC_FAILED:
			tally->failure = tally->failure ? tally->failure : answer->failure;
			hold(plan, missing, what, cobot_failure_reason(answer->failure->outcome),
				 cobot_failure_message(answer->failure));
			return true;
		case SYNC_DELETED:
		case SYNC_TOLD:
			break;
	}
	return false;
}

/* ---- members who are missing in the list ---- */

/* What is known about the custom fields of somebody who was asked for by id. */
static const JsonElement *
fields_of(const SyncSnapshot *snapshot, const SyncIdIndex *fields, const char *cobot_id, const SyncAnswer *answer)
{
	if (answer->fields.text)
		return &answer->fields;
	if (snapshot->field_values == NULL)
		return NULL;

	const SyncIdEntry *entry = sync_find_entry(fields, cobot_id);

	/* Of two records it cannot be told which one holds. */
	return entry && !sync_is_doubled(fields, entry) ? &snapshot->field_values->element[entry->place] : NULL;
}

static void
take_answer(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan, const SyncIdIndex *fields,
			const SyncMissing *missing, const SyncAnswer *answer, Tally *tally)
{
	const JsonElement *values = fields_of(snapshot, fields, missing->cobot_id, answer);

	if (hold_unanswered(plan, missing, "left", answer, tally))
		return;
	if (answer->kind == SYNC_DELETED && values == NULL)
		sync_plan_departed(plan, missing->cobot_id);
	else if (answer->kind == SYNC_DELETED)
	{
		tally->still_there++;
		hold(plan, missing, "left", "source_incomplete",
			 "Cobot does not know the member by id, and yet lists custom fields of theirs");
	}
	else
	{
		SyncMemberSource source = {
			.id = missing->cobot_id, .text = answer->told.text, .length = answer->told.length, .where = "membership",
			.fields = values, .fields_where = "custom_fields",
			.keep_individual = values == NULL && !snapshot->field_gone, .asked_by_id = true
		};
		SyncRecordState state = sync_read_member(run, snapshot, plan, &source);

		if (state == SYNC_CURRENT || state == SYNC_UNUSABLE)
			tally->still_there++;
	}
}

static Tally
verify_vanished(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan)
{
	SyncAnswer *answers = palloc0(sizeof(SyncAnswer) * plan->vanished_count);
	SyncIdIndex fields = {0};
	Tally		tally = {0};

	run->source->ask_members(run, plan->vanished, plan->vanished_count, answers);
	if (snapshot->field_values)
		fields = sync_index_by_id(snapshot->field_values);
	for (int i = 0; i < plan->vanished_count; i++)
		take_answer(run, snapshot, plan, &fields, &plan->vanished[i], &answers[i], &tally);
	return tally;
}

/* ---- members whose custom fields are missing in the list ---- */

/* True if the member's own answer has a value of our field, or cannot be read. */
static bool
has_value(const SyncSnapshot *snapshot, const JsonElement *fields)
{
	JsonError	error;
	const char *value = NULL;
	cJSON	   *tree = json_parse(fields->text, fields->length, "", &error);
	bool		readable = tree != NULL &&
		cobot_read_custom_field(tree, "", snapshot->field_id, INTEGRATION_FIELD_LABEL, &value, &error);
	bool		found = value != NULL;

	cJSON_Delete(tree);
	return found || !readable;
}

static Tally
verify_fieldless(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan)
{
	SyncAnswer *answers = palloc0(sizeof(SyncAnswer) * plan->fieldless_count);
	Tally		tally = {0};

	run->source->ask_fields(run, plan->fieldless, plan->fieldless_count, answers);
	for (int i = 0; i < plan->fieldless_count; i++)
	{
		const SyncMissing *missing = &plan->fieldless[i];
		bool		answered = !hold_unanswered(plan, missing, "changed", &answers[i], &tally);
		bool		still_there = answered && has_value(snapshot, &answers[i].fields);
		SyncMemberSource source = {
			.id = missing->cobot_id, .text = missing->record->text, .length = missing->record->length,
			.where = "membership", .fields = answered ? &answers[i].fields : NULL, .fields_where = "custom_fields",
			.keep_individual = !answered, .has_hash = answered && !still_there, .hash = missing->hash
		};

		if (still_there)
			tally.still_there++;
		sync_read_member(run, snapshot, plan, &source);
	}
	return tally;
}

/* ---- together ---- */

/* A list lacks what is there: incomplete, and nobody is worse off for it. */
static void
judge(SyncRun *run, const Tally *tally, const char *list)
{
	if (tally->failure)
	{
		sync_fail(run, tally->failure);
		run->result = "incomplete"; /* everything else arrived and is applied */
	}
	else if (tally->still_there > 0 && run->result == NULL)
		sync_stop(run, "incomplete", "source_incomplete",
				  "They keep their access. If it goes on, report it to Cobot together with the time of the run.",
				  "Cobot's list of %s lacks %d that it still knows", list, tally->still_there);
}

void
sync_verify(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan)
{
	if (plan->vanished_count > 0)
	{
		Tally		tally = verify_vanished(run, snapshot, plan);

		if (!snapshot->partial || tally.failure)
			judge(run, &tally, "members");
	}
	if (plan->fieldless_count > 0)
	{
		Tally		tally = verify_fieldless(run, snapshot, plan);

		judge(run, &tally, "custom field values");
	}
}
