/*
 * sync_read.c
 *	  From records in JSON to the rows of a plan. A record that cannot be used
 *	  becomes a problem, and its member keeps what they had.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "clock.h"
#include "query.h"
#include "sync.h"

/* As long as an id may be (cobot_record.c). */
#define PROBLEM_ID_LIMIT_BYTES 200

#define FIRST_CHANGES 64

/* ---- lists by id ---- */

static int
compare_entries(const void *a, const void *b)
{
	return strcmp(((const SyncIdEntry *) a)->id, ((const SyncIdEntry *) b)->id);
}

SyncIdIndex
sync_index_by_id(const JsonArray *array)
{
	SyncIdIndex index = {.entry = palloc_extended(sizeof(SyncIdEntry) * Max(array->count, 1), MCXT_ALLOC_HUGE)};

	for (size_t i = 0; i < array->count; i++)
		if (array->element[i].id)
			index.entry[index.count++] = (SyncIdEntry) {.id = array->element[i].id, .place = (int) i};
	qsort(index.entry, index.count, sizeof(SyncIdEntry), compare_entries);
	return index;
}

bool
sync_is_doubled(const SyncIdIndex *index, const SyncIdEntry *entry)
{
	const SyncIdEntry *end = index->entry + index->count;

	return (entry > index->entry && strcmp(entry[-1].id, entry->id) == 0) ||
		(entry + 1 < end && strcmp(entry[1].id, entry->id) == 0);
}

const SyncIdEntry *
sync_find_entry(const SyncIdIndex *index, const char *id)
{
	SyncIdEntry key = {.id = id};

	return bsearch(&key, index->entry, index->count, sizeof(SyncIdEntry), compare_entries);
}

Datum
sync_ids_of(const JsonArray *array)
{
	Datum	   *ids = palloc(sizeof(Datum) * Max(array->count, 1));
	int			count = 0;

	for (size_t i = 0; i < array->count; i++)
		if (array->element[i].id)
			ids[count++] = CStringGetTextDatum(array->element[i].id);
	return query_text_array(ids, count);
}

/* ---- the plan ---- */

void
sync_plan_init(SyncRun *run, SyncPlan *plan)
{
	static const SyncColumn member_columns[] = {
		{"ordinal", INT4OID}, {"source_hash", INT8OID}, {"keep_individual", BOOLOID},
		{"individual_access", TEXTOID}, {"field_gone", BOOLOID}, {"has_ended", BOOLOID}
	};
	static const SyncColumn departed_columns[] = {
		{"ordinal", INT4OID}, {"cobot_id", TEXTOID}
	};
	static const SyncColumn problem_columns[] = {
		{"problem", TEXTOID}, {"record", TEXTOID}, {"cobot_id", TEXTOID}, {"detail", TEXTOID}
	};
	MemoryContext old = MemoryContextSwitchTo(run->context);

	plan->plans = sync_rows_create("incoming_plan", NULL, 0, cobot_plan_fields, cobot_plan_field_count);
	plan->members = sync_rows_create("incoming_member", member_columns, lengthof(member_columns),
									 cobot_membership_fields, cobot_membership_field_count);
	plan->departed = sync_rows_create("incoming_departed", departed_columns, lengthof(departed_columns), NULL, 0);
	plan->problems = sync_rows_create("incoming_problem", problem_columns, lengthof(problem_columns), NULL, 0);
	plan->change_limit = FIRST_CHANGES;
	plan->change = palloc(sizeof(SyncChange) * plan->change_limit);
	MemoryContextSwitchTo(old);
}

void
sync_plan_free(SyncPlan *plan)
{
	sync_rows_free(plan->plans);
	sync_rows_free(plan->members);
	sync_rows_free(plan->departed);
	sync_rows_free(plan->problems);
}

/* An id as it may stand in a row, whatever came; in the current context. */
static char *
shown_id(const char *id)
{
	return pnstrdup(id, pg_mbcliplen(id, strlen(id), PROBLEM_ID_LIMIT_BYTES));
}

void
sync_plan_problem(SyncPlan *plan, const char *problem, const char *record,
				  const char *cobot_id, const char *detail)
{
	Datum		values[] = {
		CStringGetTextDatum(problem), CStringGetTextDatum(record),
		CStringGetTextDatum(shown_id(cobot_id)), CStringGetTextDatum(detail)
	};
	bool		nulls[] = {false, false, false, false};

	sync_rows_add(plan->problems, values, nulls, NULL);
}

SyncChange *
sync_plan_change(SyncPlan *plan, const char *record, const char *cobot_id, const char *what)
{
	MemoryContext context = GetMemoryChunkContext(plan->change);

	if (plan->change_count == plan->change_limit)
	{
		plan->change_limit *= 2;
		plan->change = repalloc_huge(plan->change, sizeof(SyncChange) * plan->change_limit);
	}

	SyncChange *change = &plan->change[plan->change_count++];
	MemoryContext old = MemoryContextSwitchTo(context);

	*change = (SyncChange) {
		.record = record, .cobot_id = shown_id(cobot_id), .what = what, .ordinal = -1, .verdict = SYNC_APPLIED
	};
	MemoryContextSwitchTo(old);
	return change;
}

SyncChange *
sync_plan_reject(SyncPlan *plan, const char *record, const char *cobot_id, const char *detail)
{
	SyncChange *change = sync_plan_change(plan, record, cobot_id, "unusable");

	change->verdict = SYNC_REJECTED;
	change->reason = "bad_record";
	change->detail = MemoryContextStrdup(GetMemoryChunkContext(plan->change), detail);
	sync_plan_problem(plan, "bad_record", record, cobot_id, detail);
	return change;
}

/* A record that cannot be used: by its id, or by its place where it has none. */
static void
bad_record(SyncPlan *plan, const char *record, const char *cobot_id, const char *where,
		   const JsonError *error)
{
	sync_plan_reject(plan, record, cobot_id ? cobot_id : where,
					 psprintf("%s %s", error->path[0] ? error->path : where, error->message));
}

void
sync_plan_departed(SyncPlan *plan, const char *cobot_id)
{
	Datum		values[] = {Int32GetDatum(plan->ordinals++), CStringGetTextDatum(cobot_id)};
	bool		nulls[] = {false, false};

	sync_rows_add(plan->departed, values, nulls, NULL);
}

/* ---- members ---- */

static const CobotValue *
member_value(const CobotValue *record, const char *column)
{
	return &record[cobot_field_index(cobot_membership_fields, cobot_membership_field_count, column)];
}

/*
 * Whether a record belongs into Cobot's list of members (facts: confirmed and not
 * ended, on the space's own clock, also where that has just been changed).
 */
static SyncRecordState
state_of(const SyncRun *run, const SyncSnapshot *snapshot, const CobotValue *record)
{
	const CobotValue *end = member_value(record, "canceled_to");
	bool		zone_told = snapshot->has_space && snapshot->space.time_zone_known;

	if (!end->is_null &&
		end->integer < clock_today(zone_told ? snapshot->space.time_zone : run->integration.time_zone))
		return SYNC_ENDED;
	return member_value(record, "confirmed_at")->is_null ? SYNC_UNCONFIRMED : SYNC_CURRENT;
}

static SyncRecordState
plan_member(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan, const SyncMemberSource *source,
			const CobotValue *record, const char *individual_access)
{
	SyncRecordState state = state_of(run, snapshot, record);
	Datum		values[] = {
		Int32GetDatum(plan->ordinals++),
		Int64GetDatum((int64) source->hash),
		BoolGetDatum(source->keep_individual),
		individual_access ? CStringGetTextDatum(individual_access) : (Datum) 0,
		BoolGetDatum(snapshot->field_gone),
		/* Cobot's own list has no former members; what an outside fetcher brings may have */
		BoolGetDatum((source->asked_by_id || run->kind == SYNC_INGEST) && state == SYNC_ENDED)
	};
	bool		nulls[] = {false, !source->has_hash, false, individual_access == NULL, false, false};

	sync_rows_add(plan->members, values, nulls, record);
	return state;
}

SyncRecordState
sync_read_member(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan, const SyncMemberSource *source)
{
	CobotValue *record = palloc(sizeof(CobotValue) * cobot_membership_field_count);
	cJSON	   *volatile tree = NULL;
	cJSON	   *volatile fields = NULL;
	volatile SyncRecordState state = SYNC_UNUSABLE;

	/* The trees are malloc'd, and making a row can throw. */
	PG_TRY();
	{
		JsonError	error;
		const char *individual_access = NULL;
		bool		usable;

		tree = json_parse(source->text, source->length, source->where, &error);
		usable = tree != NULL &&
			cobot_read_record(tree, source->where, cobot_membership_fields,
							  cobot_membership_field_count, record, &error);
		if (usable && (source->id == NULL || strcmp(record[0].text, source->id) != 0))
			usable = json_fail(&error, source->where, "id", "is not the id that was asked for");
		if (usable && source->fields)
		{
			fields = json_parse(source->fields->text, source->fields->length, source->fields_where, &error);
			usable = fields != NULL &&
				cobot_read_custom_field(fields, source->fields_where, snapshot->field_id,
										INTEGRATION_FIELD_LABEL, &individual_access, &error);
		}

		if (usable)
			state = plan_member(run, snapshot, plan, source, record, individual_access);
		else
			bad_record(plan, "membership", source->id, source->where, &error);
	}
	PG_FINALLY();
	{
		cJSON_Delete(tree);
		cJSON_Delete(fields);
	}
	PG_END_TRY();
	return state;
}

/* ---- plans ---- */

/* Reads one plan into the plan of the run, or reports why it cannot be used. */
static void
read_plan(SyncPlan *plan, const JsonElement *element, const char *where)
{
	CobotValue *record = palloc(sizeof(CobotValue) * cobot_plan_field_count);
	cJSON	   *volatile tree = NULL;

	PG_TRY();
	{
		JsonError	error;

		tree = json_parse(element->text, element->length, where, &error);
		if (tree != NULL &&
			cobot_read_record(tree, where, cobot_plan_fields, cobot_plan_field_count, record, &error))
			sync_rows_add(plan->plans, NULL, NULL, record);
		else
			bad_record(plan, "plan", element->id, where, &error);
	}
	PG_FINALLY();
	{
		cJSON_Delete(tree);
	}
	PG_END_TRY();
}

/* Plans are few: all of them become rows, and SQL compares. */
void
sync_read_plans(SyncPlan *plan, const JsonArray *array)
{
	SyncIdIndex index = sync_index_by_id(array);

	for (size_t i = 0; i < array->count; i++)
	{
		const JsonElement *element = &array->element[i];
		const SyncIdEntry *entry = element->id ? sync_find_entry(&index, element->id) : NULL;
		char	   *where = psprintf("plans[%d]", (int) i);

		if (entry == NULL || !sync_is_doubled(&index, entry))
			read_plan(plan, element, where);
		else if (entry->place == (int) i)	/* is found for all of them: reported once */
			sync_plan_reject(plan, "plan", element->id, "plans has two records with this id");
	}
	pfree(index.entry);
}
