/*
 * sync_compare.c
 *	  What differs between Cobot's answer and the mirror.
 *
 * Records that came byte for byte as last time are recognised by a keyed hash
 * and cost no parsing and no comparison; the rest become rows for SQL. A bad
 * record becomes a problem, and its member keeps what they had.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "clock.h"
#include "query.h"
#include "sync.h"

/* Part of every hash. Raise it when a field is added, so that all records are read once more. */
#define RECORD_FORMAT 1

/* Stand for a member's custom field record in the hash. */
#define FIELDS_UNKNOWN 1		/* not asked for, or not usable */
#define FIELDS_ABSENT 2

#define UNUSABLE_PLACE (-1)

/* As long as an id may be (cobot_record.c). */
#define PROBLEM_ID_LIMIT_BYTES 200

/* An element of a list, findable by its id. */
typedef struct IdEntry
{
	const char *id;
	int			place;			/* in the list */
} IdEntry;

typedef struct IdIndex
{
	IdEntry    *entry;			/* in order of id */
	int			count;
} IdIndex;

/* A member's record and its custom fields, as slices of Cobot's answers. */
typedef struct MemberSource
{
	const char *id;
	const char *text;
	size_t		length;
	const char *where;			/* for problems: "memberships[17]" */
	const JsonElement *fields;	/* NULL: none */
	const char *fields_where;
	bool		asked_by_id;	/* the member vanished from the list */
	uint64		hash;			/* of a record from the list */
} MemberSource;

void
sync_plan_init(SyncRun *run, SyncPlan *plan)
{
	static const SyncColumn member_columns[] = {
		{"source_hash", INT8OID}, {"keep_individual", BOOLOID},
		{"individual_access", TEXTOID}, {"has_ended", BOOLOID}
	};
	static const SyncColumn problem_columns[] = {
		{"problem", TEXTOID}, {"record", TEXTOID}, {"cobot_id", TEXTOID}, {"detail", TEXTOID}
	};
	MemoryContext old = MemoryContextSwitchTo(run->context);

	plan->plans = sync_rows_create("incoming_plan", NULL, 0, cobot_plan_fields, cobot_plan_field_count);
	plan->members = sync_rows_create("incoming_member", member_columns, lengthof(member_columns),
									 cobot_membership_fields, cobot_membership_field_count);
	plan->problems = sync_rows_create("incoming_problem", problem_columns, lengthof(problem_columns), NULL, 0);
	MemoryContextSwitchTo(old);
}

void
sync_plan_free(SyncPlan *plan)
{
	sync_rows_free(plan->plans);
	sync_rows_free(plan->members);
	sync_rows_free(plan->problems);
}

/*
 * An id longer than a good one can be is cut: it is part of a key, and an index
 * refuses long values.
 */
void
sync_plan_problem(SyncPlan *plan, const char *problem, const char *record,
				  const char *cobot_id, const char *detail)
{
	int			length = (int) strlen(cobot_id);
	int			shown = pg_mbcliplen(cobot_id, length, PROBLEM_ID_LIMIT_BYTES);
	char	   *id = psprintf("%.*s%s", shown, cobot_id, shown < length ? "..." : "");
	Datum		values[] = {
		CStringGetTextDatum(problem), CStringGetTextDatum(record),
		CStringGetTextDatum(id), CStringGetTextDatum(detail)
	};
	bool		nulls[] = {false, false, false, false};

	sync_rows_add(plan->problems, values, nulls, NULL);
}

/* A record that cannot be used: by its id, or by its place where it has none. */
static void
bad_record(SyncPlan *plan, const char *record, const char *cobot_id, const char *where,
		   const JsonError *error)
{
	sync_plan_problem(plan, "bad_record", record, cobot_id ? cobot_id : where,
					  psprintf("%s %s", error->path[0] ? error->path : where, error->message));
}

static int
compare_entries(const void *a, const void *b)
{
	return strcmp(((const IdEntry *) a)->id, ((const IdEntry *) b)->id);
}

static IdIndex
index_by_id(const JsonArray *array)
{
	IdIndex		index = {.entry = palloc_extended(sizeof(IdEntry) * Max(array->count, 1), MCXT_ALLOC_HUGE)};

	for (size_t i = 0; i < array->count; i++)
		if (array->element[i].id)
			index.entry[index.count++] = (IdEntry) {.id = array->element[i].id, .place = (int) i};
	qsort(index.entry, index.count, sizeof(IdEntry), compare_entries);
	return index;
}

/* True if the entry's id stands in the list more than once. */
static bool
is_doubled(const IdIndex *index, const IdEntry *entry)
{
	const IdEntry *end = index->entry + index->count;

	return (entry > index->entry && strcmp(entry[-1].id, entry->id) == 0) ||
		(entry + 1 < end && strcmp(entry[1].id, entry->id) == 0);
}

static const IdEntry *
find_entry(const IdIndex *index, const char *id)
{
	IdEntry		key = {.id = id};

	return bsearch(&key, index->entry, index->count, sizeof(IdEntry), compare_entries);
}

static uint64
hash_text(const SyncRun *run, const char *text, size_t length)
{
	return hash_bytes_extended((const unsigned char *) text, (int) length,
							   (uint64) run->integration.hash_seed + RECORD_FORMAT);
}

/*
 * Appends one member's record, already read, to the plan. Whoever was missing in
 * the list of members may be missing in that of custom fields for the same
 * reason, and a record of nobody may be theirs: that is no evidence that the
 * field was emptied.
 */
static bool
plan_member(const SyncSnapshot *snapshot, SyncPlan *plan, const MemberSource *source,
			const CobotValue *record, const char *individual_access, DateADT today)
{
	const CobotValue *end = &record[cobot_field_index(cobot_membership_fields,
													  cobot_membership_field_count, "canceled_to")];
	bool		has_ended = source->asked_by_id && !end->is_null && end->integer < today;
	Datum		values[] = {
		Int64GetDatum((int64) source->hash),
		BoolGetDatum(snapshot->field_values == NULL ||
					 (source->fields == NULL && (source->asked_by_id || snapshot->fields_of_nobody))),
		individual_access ? CStringGetTextDatum(individual_access) : (Datum) 0,
		BoolGetDatum(has_ended)
	};
	bool		nulls[] = {source->asked_by_id, false, individual_access == NULL, false};

	sync_rows_add(plan->members, values, nulls, record);
	return has_ended;
}

/*
 * Reads one member's record into the plan, or reports why it cannot be used.
 * True if the record says that the membership has ended.
 */
static bool
read_member(const SyncSnapshot *snapshot, SyncPlan *plan, const MemberSource *source, DateADT today)
{
	CobotValue *record = palloc(sizeof(CobotValue) * cobot_membership_field_count);
	cJSON	   *volatile tree = NULL;
	cJSON	   *volatile fields = NULL;
	volatile bool has_ended = false;

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
		if (usable && strcmp(record[0].text, source->id) != 0)
			usable = json_fail(&error, source->where, "id", "is not the id that was asked for");
		if (usable && source->fields)
		{
			fields = json_parse(source->fields->text, source->fields->length, source->fields_where, &error);
			usable = fields != NULL &&
				cobot_read_custom_field(fields, source->fields_where, snapshot->field_id,
										INTEGRATION_FIELD_LABEL, &individual_access, &error);
		}

		if (usable)
			has_ended = plan_member(snapshot, plan, source, record, individual_access, today);
		else
			bad_record(plan, "membership", source->id, source->where, &error);
	}
	PG_FINALLY();
	{
		cJSON_Delete(tree);
		cJSON_Delete(fields);
	}
	PG_END_TRY();
	return has_ended;
}

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
static void
read_plans(const JsonArray *array, SyncPlan *plan)
{
	IdIndex		index = index_by_id(array);

	for (size_t i = 0; i < array->count; i++)
	{
		const JsonElement *element = &array->element[i];

		if (element->id && is_doubled(&index, find_entry(&index, element->id)))
			sync_plan_problem(plan, "bad_record", "plan", element->id,
							  "plans has two records with this id");
		else
			read_plan(plan, element, psprintf("plans[%d]", (int) i));
	}
	pfree(index.entry);
}

/* The custom fields of a member; *doubled if the answer has them twice. */
static const JsonElement *
find_fields(const SyncSnapshot *snapshot, const IdIndex *fields, const char *id, bool *doubled)
{
	const IdEntry *entry = find_entry(fields, id);

	*doubled = entry && is_doubled(fields, entry);
	return entry ? &snapshot->field_values->element[entry->place] : NULL;
}

/*
 * One row for each member in Cobot's list, with the hash of all that Cobot said
 * about it. A member who cannot be told from another one is in the relation,
 * so as not to look vanished, but at no place that would be read.
 */
static SyncRows *
list_members(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan, const IdIndex *fields)
{
	static const SyncColumn columns[] = {
		{"place", INT4OID}, {"cobot_id", TEXTOID}, {"source_hash", INT8OID}
	};
	SyncRows   *rows = sync_rows_create("incoming", columns, lengthof(columns), NULL, 0);
	IdIndex		members = index_by_id(snapshot->members);

	for (int i = 0; i < members.count; i++)
	{
		const IdEntry *entry = &members.entry[i];
		const JsonElement *element = &snapshot->members->element[entry->place];
		bool		doubled = is_doubled(&members, entry);
		bool		fields_doubled = false;
		uint64		hash = FIELDS_UNKNOWN;

		if (doubled && i > 0 && strcmp(entry[-1].id, entry->id) == 0)
			continue;			/* reported already */
		if (snapshot->field_values)
		{
			const JsonElement *values = find_fields(snapshot, fields, entry->id, &fields_doubled);

			if (values)
				hash = hash_text(run, values->text, values->length);
			else if (!snapshot->fields_of_nobody)
				hash = FIELDS_ABSENT;
		}
		if (doubled || fields_doubled)
			sync_plan_problem(plan, "bad_record", "membership", entry->id,
							  doubled ? "memberships has two records with this id"
							  : "custom_fields has two records with this membership_id");

		hash = hash_combine64(hash_text(run, element->text, element->length), hash);

		Datum		values[] = {
			Int32GetDatum(doubled || fields_doubled ? UNUSABLE_PLACE : entry->place),
			CStringGetTextDatum(entry->id), Int64GetDatum((int64) hash)
		};
		bool		nulls[] = {false, false, false};

		sync_rows_add(rows, values, nulls, NULL);
		pfree(DatumGetPointer(values[1]));
	}
	pfree(members.entry);
	return rows;
}

/* Reads the members that the comparison found new or different into the plan. */
static void
read_changed_members(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan, const IdIndex *fields)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "smartspace_cobot record",
												  ALLOCSET_DEFAULT_SIZES);
	SPITupleTable *found = SPI_tuptable;
	uint64		count = SPI_processed;
	DateADT		today = clock_today(run->integration.time_zone);

	plan->vanished = palloc(sizeof(SyncVanished) * Max(count, 1));
	for (uint64 i = 0; i < count; i++)
	{
		bool		no_place;
		Datum		place = SPI_getbinval(found->vals[i], found->tupdesc, 1, &no_place);

		CHECK_FOR_INTERRUPTS();
		if (no_place)
		{
			bool		isnull;

			plan->vanished[plan->vanished_count++] = (SyncVanished) {
				.id = DatumGetInt64(SPI_getbinval(found->vals[i], found->tupdesc, 2, &isnull)),
				.cobot_id = SPI_getvalue(found->vals[i], found->tupdesc, 3)
			};
			continue;
		}

		MemoryContext old = MemoryContextSwitchTo(scratch);
		const JsonElement *element = &snapshot->members->element[DatumGetInt32(place)];
		bool		doubled;
		bool		isnull;
		MemberSource source = {
			.id = element->id, .text = element->text, .length = element->length,
			.where = psprintf("memberships[%d]", DatumGetInt32(place)),
			.hash = (uint64) DatumGetInt64(SPI_getbinval(found->vals[i], found->tupdesc, 4, &isnull))
		};

		if (snapshot->field_values)
		{
			source.fields = find_fields(snapshot, fields, element->id, &doubled);
			if (source.fields)
				source.fields_where = psprintf("custom_fields[%d]",
											   (int) (source.fields - snapshot->field_values->element));
		}
		read_member(snapshot, plan, &source, today);
		MemoryContextSwitchTo(old);
		MemoryContextReset(scratch);
	}
	MemoryContextDelete(scratch);
	SPI_freetuptable(found);
}

/* Records without an id fit nobody; say where they are and what is wrong. */
static void
report_members_without_id(const SyncSnapshot *snapshot, SyncPlan *plan)
{
	for (size_t i = 0; i < snapshot->members->count; i++)
	{
		const JsonElement *element = &snapshot->members->element[i];

		if (element->id == NULL)
		{
			MemberSource source = {
				.text = element->text, .length = element->length,
				.where = psprintf("memberships[%d]", (int) i)
			};

			read_member(snapshot, plan, &source, 0);
		}
	}
}

/*
 * Cobot answering "nobody" where there were people is an accident until proved
 * otherwise (an answer cut to its brackets looks the same).
 */
static bool
not_suddenly_empty(SyncRun *run, const SyncSnapshot *snapshot)
{
	if (snapshot->members->count > 0 && snapshot->plans->count > 0 &&
		(snapshot->field_values == NULL || snapshot->field_values->count > 0))
		return true;

	QueryArg	arg = query_int64(run->integration.id);

	query_run("SELECT (SELECT pg_catalog.count(*) FROM smartspace.cobot_membership m"
			  "  WHERE m.integration_id = $1 AND m.departed_at IS NULL),"
			  " (SELECT pg_catalog.count(*) FROM smartspace.cobot_plan p WHERE p.integration_id = $1 AND p.listed),"
			  " (SELECT pg_catalog.count(*) FROM smartspace.cobot_membership m"
			  "  WHERE m.integration_id = $1 AND m.departed_at IS NULL AND m.individual_access IS NOT NULL)",
			  1, &arg);

	const struct
	{
		const char *what;
		const JsonArray *list;
	}			parts[] = {
		{"members", snapshot->members},
		{"plans", snapshot->plans},
		{"custom field values", snapshot->field_values}
	};

	for (int i = 0; i < (int) lengthof(parts); i++)
	{
		int64		before = query_result_int64(0, i + 1);

		if (parts[i].list && parts[i].list->count == 0 && before > 0)
			return sync_stop(run, "held", "source_empty",
							 "Look at the space in Cobot. Nothing was changed here.",
							 "Cobot lists no %s, where there were %lld", parts[i].what, (long long) before);
	}
	return true;
}

bool
sync_compare(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan)
{
	IdIndex		fields = {0};

	if (!not_suddenly_empty(run, snapshot))
		return false;

	read_plans(snapshot->plans, plan);
	if (snapshot->field_values)
		fields = index_by_id(snapshot->field_values);
	report_members_without_id(snapshot, plan);

	SyncRows   *listed = list_members(run, snapshot, plan, &fields);

	sync_rows_register(listed);

	QueryArg	args[] = {query_int64(run->integration.id), query_bool(run->reread)};

	/* Who vanished comes in random order, so that those who are still there do not crowd out the others for ever. */
	query_run("SELECT i.place, m.id, m.cobot_id, i.source_hash"
			  " FROM incoming i FULL JOIN (SELECT id, cobot_id, source_hash, departed_at"
			  "  FROM smartspace.cobot_membership WHERE integration_id = $1) m ON m.cobot_id = i.cobot_id"
			  " WHERE i.place >= 0 AND (m.id IS NULL OR $2 OR m.source_hash IS DISTINCT FROM i.source_hash)"
			  " OR i.cobot_id IS NULL AND m.departed_at IS NULL"
			  " ORDER BY i.place, pg_catalog.random()", lengthof(args), args);
	sync_rows_free(listed);
	read_changed_members(run, snapshot, plan, &fields);
	return true;
}

void
sync_verify_vanished(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan)
{
	int			asked = Min(plan->vanished_count, SYNC_VERIFY_LIMIT);
	int			still_there = 0;
	CobotCall  *failure = NULL;
	CobotCall **calls = palloc(sizeof(CobotCall *) * asked);
	DateADT		today = clock_today(run->integration.time_zone);
	IdIndex		fields = {0};

	if (snapshot->field_values)
		fields = index_by_id(snapshot->field_values);
	for (int i = 0; i < asked; i++)
		calls[i] = cobot_ask_membership(&run->client, plan->vanished[i].cobot_id);
	cobot_perform(calls, asked);

	plan->departed = palloc(sizeof(int64) * asked);
	for (int i = 0; i < asked; i++)
	{
		if (calls[i]->outcome == COBOT_NOT_FOUND)
			plan->departed[plan->departed_count++] = plan->vanished[i].id;
		else if (calls[i]->outcome != COBOT_OK)
			failure = failure ? failure : calls[i];
		else
		{
			bool		doubled = false;
			MemberSource source = {
				.id = plan->vanished[i].cobot_id, .where = "membership", .asked_by_id = true,
				.text = calls[i]->request->response, .length = calls[i]->request->response_length,
				.fields_where = "custom_fields"
			};

			if (snapshot->field_values)
				source.fields = find_fields(snapshot, &fields, source.id, &doubled);
			if (doubled)
				source.fields = NULL;	/* which one holds cannot be told: they keep what they had */
			if (!read_member(snapshot, plan, &source, today))
				still_there++;
		}
	}

	if (failure)
		sync_fail(run, failure);
	else if (still_there > 0)
		sync_stop(run, "incomplete", "source_incomplete",
				  "They keep their access. If it goes on, report it to Cobot together with the time of the run.",
				  "Cobot's list of members lacks %d that it still knows", still_there);
	else if (plan->vanished_count > asked)
		sync_stop(run, "incomplete", "source_incomplete",
				  "The next synchronisation goes on with the rest.",
				  "%d members vanished from Cobot's list, of whom %d were asked for by id so far",
				  plan->vanished_count, asked);
	if (failure)
		run->result = "incomplete"; /* everything else arrived and is applied */
}
