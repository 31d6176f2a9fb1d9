/*
 * sync_verify.c
 *	  Evidence. What a list lacks is asked for by id before anything is taken from
 *	  anybody: only a membership that Cobot does not know any more, or says has
 *	  ended, departs. Every other answer, and none, holds the removal.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "query.h"
#include "sync.h"

/* Custom field values of members nobody knows: so many of these are asked for in a run. */
#define STRANGER_LIMIT 5

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
			if (missing->live)	/* else nothing of theirs waits for the answer */
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

	/* Cobot told the last day, and lists them no more. An outside fetcher would not know to ask: nothing is held. */
	if (answer->kind == SYNC_NOT_ASKED && missing->is_over)
	{
		sync_plan_departed(plan, missing->cobot_id);
		return;
	}
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
		else if (run->kind == SYNC_MEMBER && run->message == NULL)
			run->message = pstrdup(state == SYNC_ENDED ? "the membership has ended" : "Cobot has not confirmed the membership yet");
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

/* True unless the answer says that it is about another member. */
static bool
is_about(const JsonElement *fields, const char *cobot_id)
{
	JsonError	error;
	const char *id = NULL;
	bool		has_id;
	cJSON	   *tree = json_parse(fields->text, fields->length, "", &error);
	bool		about = tree == NULL ||
		(json_get_string(tree, "", "membership_id", &id, &has_id, &error) && (!has_id || strcmp(id, cobot_id) == 0));

	cJSON_Delete(tree);
	return about;
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

		/* Deleted since the list of members was read: the next run's list will lack them. */
		if (answers[i].kind == SYNC_DELETED)
		{
			plan->waiting++;
			hold(plan, missing, "changed", "source_incomplete", "Cobot lists the member and does not know their custom fields");
			continue;
		}

		bool		answered = !hold_unanswered(plan, missing, "changed", &answers[i], &tally);

		if (answered && !is_about(&answers[i].fields, missing->cobot_id))
		{
			hold(plan, missing, "changed", "bad_answer", "Cobot's answer is about another member");
			tally.still_there++;
			answered = false;
		}

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

/* ---- members nobody knows ---- */

/*
 * Cobot ids that have a value of our custom field and are neither in the list of
 * members nor known here: a few of them, from a random place on.
 */
static int
find_strangers(SyncRun *run, const SyncSnapshot *snapshot, SyncMissing *strangers)
{
	const JsonArray *values = snapshot->field_values;
	SyncIdIndex members = sync_index_by_id(snapshot->members);
	Datum	   *ids = palloc(sizeof(Datum) * Max(values->count, 1));
	int			count = 0;

	for (size_t i = 0; i < values->count; i++)
		if (values->element[i].id && sync_find_entry(&members, values->element[i].id) == NULL &&
			has_value(snapshot, &values->element[i]))
			ids[count++] = CStringGetTextDatum(values->element[i].id);

	QueryArg	args[] = {
		query_int64(run->integration.id), query_value(TEXTARRAYOID, query_text_array(ids, count)),
		query_int64(STRANGER_LIMIT), query_int64(sync_seed(run))
	};

	count = (int) query_run("SELECT s.id FROM pg_catalog.unnest($2) s (id) WHERE NOT EXISTS (SELECT FROM smartspace.cobot_membership m"
							"  WHERE m.integration_id = $1 AND m.cobot_id = s.id) ORDER BY pg_catalog.hashtextextended(s.id, $4) LIMIT $3", lengthof(args), args);
	for (int i = 0; i < count; i++)
		strangers[i] = (SyncMissing) {.cobot_id = query_result_text(i, 1)};
	pfree(members.entry);
	return count;
}

/*
 * Where members vanished, the list may be short. If it lacks somebody, too, whom
 * nobody here knows, but who has custom fields and is a member by Cobot's own
 * word, then it is, and nothing is taken in this run. They join all the same.
 */
static void
doubt_short_list(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan)
{
	SyncMissing strangers[STRANGER_LIMIT];
	SyncAnswer	answers[STRANGER_LIMIT] = {0};
	int			count = find_strangers(run, snapshot, strangers);
	int			current = 0;

	if (count > 0)
		run->source->ask_members(run, strangers, count, answers);
	for (int i = 0; i < count; i++)
	{
		SyncMemberSource source = {
			.id = strangers[i].cobot_id, .text = answers[i].told.text, .length = answers[i].told.length,
			.where = "membership", .keep_individual = true, .asked_by_id = true
		};

		if (answers[i].kind == SYNC_TOLD && sync_read_member(run, snapshot, plan, &source) == SYNC_CURRENT)
			current++;
	}
	if (current == 0)
		return;
	run->takes_nothing = true;
	if (run->result == NULL)
		sync_stop(run, "incomplete", "source_incomplete",
				  "Nothing is taken from anybody in this run. If it goes on, report it to Cobot together with the time of the run.",
				  "Cobot's list of members lacks %d that it has custom fields of", current);
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
	if (plan->vanished_count > 0 && !snapshot->partial && snapshot->field_values)
		doubt_short_list(run, snapshot, plan);
	if (plan->fieldless_count > 0)
	{
		Tally		tally = verify_fieldless(run, snapshot, plan);

		judge(run, &tally, "custom field values");
	}
}
