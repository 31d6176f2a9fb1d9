/*
 * sync_compare.c
 *	  What differs between an answer and the mirror.
 *
 * Records that came byte for byte as last time are recognised by a keyed hash
 * and cost no parsing and no comparison; the rest become rows for SQL.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "query.h"
#include "sync.h"

/* Part of every hash. Raise it when a field is added, so that all records are read once more. */
#define RECORD_FORMAT 1

/* Stand for a member's custom field record in the hash. */
#define FIELDS_UNKNOWN 1		/* not asked for, or not usable */
#define FIELDS_ABSENT 2
#define FIELDS_GONE 3			/* the space has no such field */

#define UNUSABLE_PLACE (-1)

/* A list that lost half of its records since the last run, and more than these few, must come twice. */
#define SUDDEN_LOSS 5

static uint64
hash_text(const SyncRun *run, const char *text, size_t length)
{
	return hash_bytes_extended((const unsigned char *) text, (int) length,
							   (uint64) run->integration.hash_seed + RECORD_FORMAT);
}

/* The custom fields of a member; *doubled if the answer has them twice. */
static const JsonElement *
find_fields(const SyncSnapshot *snapshot, const SyncIdIndex *fields, const char *id, bool *doubled)
{
	const SyncIdEntry *entry = sync_find_entry(fields, id);

	*doubled = entry && sync_is_doubled(fields, entry);
	return entry ? &snapshot->field_values->element[entry->place] : NULL;
}

/*
 * One row for each member in the list, with the hash of all that was said about
 * it. A member who cannot be told from another one is in the relation, so as not
 * to look vanished, but at no place that would be read.
 */
static SyncRows *
list_members(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan, const SyncIdIndex *fields)
{
	static const SyncColumn columns[] = {
		{"place", INT4OID}, {"cobot_id", TEXTOID}, {"source_hash", INT8OID}
	};
	SyncRows   *rows = sync_rows_create("incoming", columns, lengthof(columns), NULL, 0);
	SyncIdIndex members = sync_index_by_id(snapshot->members);

	for (int i = 0; i < members.count; i++)
	{
		const SyncIdEntry *entry = &members.entry[i];
		const JsonElement *element = &snapshot->members->element[entry->place];
		bool		doubled = sync_is_doubled(&members, entry);
		bool		fields_doubled = false;
		uint64		hash = snapshot->field_gone ? FIELDS_GONE : FIELDS_UNKNOWN;

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
			sync_plan_reject(plan, "membership", entry->id, doubled ? "memberships has two records with this id"
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

/* What the comparison found about one member; see sync_compare(). */
typedef struct Difference
{
	int			place;			/* in the list; UNUSABLE_PLACE: vanished */
	char	   *cobot_id;		/* of who vanished */
	uint64		hash;
	bool		has_individual; /* the mirror has a value of the custom field */
	bool		live;
	bool		is_over;
} Difference;

static Difference
read_difference(SPITupleTable *found, uint64 row)
{
	HeapTuple	tuple = found->vals[row];
	bool		isnull;
	Datum		place = SPI_getbinval(tuple, found->tupdesc, 1, &isnull);
	Difference	difference = {.place = isnull ? UNUSABLE_PLACE : DatumGetInt32(place)};

	difference.cobot_id = SPI_getvalue(tuple, found->tupdesc, 2);
	difference.hash = (uint64) DatumGetInt64(SPI_getbinval(tuple, found->tupdesc, 3, &isnull));
	difference.has_individual = DatumGetBool(SPI_getbinval(tuple, found->tupdesc, 4, &isnull)) && !isnull;
	difference.live = DatumGetBool(SPI_getbinval(tuple, found->tupdesc, 5, &isnull)) && !isnull;
	difference.is_over = DatumGetBool(SPI_getbinval(tuple, found->tupdesc, 6, &isnull)) && !isnull;
	return difference;
}

/*
 * Reads a member that is new or differs. Whoever had values and has no record of
 * them now is asked for by id first: a short list must not take their groups.
 */
static void
read_listed_member(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan, const SyncIdIndex *fields,
				   const Difference *difference)
{
	const JsonElement *element = &snapshot->members->element[difference->place];
	SyncMemberSource source = {
		.id = element->id, .text = element->text, .length = element->length,
		.where = psprintf("memberships[%d]", difference->place),
		.has_hash = true, .hash = difference->hash,
		.keep_individual = snapshot->field_values == NULL && !snapshot->field_gone
	};
	bool		doubled;

	if (snapshot->field_values)
	{
		source.fields = find_fields(snapshot, fields, element->id, &doubled);
		if (source.fields)
			source.fields_where = psprintf("custom_fields[%d]",
										   (int) (source.fields - snapshot->field_values->element));
		else if (snapshot->fields_of_nobody)
			source.keep_individual = true;	/* one of those may be theirs */
		else if (difference->has_individual)
		{
			plan->fieldless[plan->fieldless_count++] = (SyncMissing) {
				.cobot_id = MemoryContextStrdup(run->context, element->id), .live = difference->live,
				.record = element, .hash = difference->hash
			};
			return;
		}
	}
	sync_read_member(run, snapshot, plan, &source);
}

/* Reads the members that the comparison found new or different into the plan. */
static void
read_changed_members(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan, const SyncIdIndex *fields)
{
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "smartspace_cobot record",
												  ALLOCSET_DEFAULT_SIZES);
	SPITupleTable *found = SPI_tuptable;
	uint64		count = SPI_processed;

	plan->vanished = MemoryContextAllocHuge(run->context, sizeof(SyncMissing) * Max(count, 1));
	plan->fieldless = MemoryContextAllocHuge(run->context, sizeof(SyncMissing) * Max(count, 1));
	for (uint64 i = 0; i < count; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(scratch);
		Difference	difference = read_difference(found, i);

		CHECK_FOR_INTERRUPTS();
		if (difference.place == UNUSABLE_PLACE)
			plan->vanished[plan->vanished_count++] = (SyncMissing) {
				.cobot_id = MemoryContextStrdup(run->context, difference.cobot_id),
				.live = difference.live, .is_over = difference.is_over
			};
		else
			read_listed_member(run, snapshot, plan, fields, &difference);
		MemoryContextSwitchTo(old);
		MemoryContextReset(scratch);
	}
	MemoryContextDelete(scratch);
	SPI_freetuptable(found);
}

/* Records without an id fit nobody; say where they are and what is wrong. */
static void
report_members_without_id(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan)
{
	for (size_t i = 0; i < snapshot->members->count; i++)
	{
		const JsonElement *element = &snapshot->members->element[i];

		if (element->id == NULL)
		{
			SyncMemberSource source = {
				.text = element->text, .length = element->length,
				.where = psprintf("memberships[%d]", (int) i)
			};

			sync_read_member(run, snapshot, plan, &source);
		}
	}
}

/* ---- can it be true? ---- */

/* One list of the answer, with what there was before. */
typedef struct ListCheck
{
	const char *what;
	const JsonArray *list;		/* NULL: not asked for */
	const char *record;			/* of the changes that stand for its records */
	const char *told;			/* what becomes of them */
	const char *before;			/* query: cobot_id of what there was; $1 the integration */
	int			last;			/* how many records the run before saw */
} ListCheck;

/*
 * Cobot answering "nobody" where there was somebody is an accident until somebody
 * says otherwise (an answer cut to its brackets looks the same): every record
 * that there was becomes a held change, which cobot_release() lets through.
 */
static bool
may_be_empty(SyncRun *run, SyncPlan *plan, const ListCheck *check)
{
	QueryArg	arg = query_int64(run->integration.id);
	uint64		before = query_run(check->before, 1, &arg);
	SPITupleTable *records = SPI_tuptable;
	int			first = plan->change_count;
	bool		released = true;

	for (uint64 i = 0; i < before; i++)
	{
		SyncChange *change = sync_plan_change(plan, check->record, SPI_getvalue(records->vals[i], records->tupdesc, 1),
											  check->told);

		change->is_removal = true;
		change->verdict = SYNC_HELD;
		change->reason = "source_empty";
		released = released && sync_is_released(run, change);
	}
	SPI_freetuptable(records);
	if (released)
	{
		plan->change_count = first;
		return true;
	}
	return sync_stop(run, "held", "source_empty",
					 "Look at the space in Cobot. Nothing was changed here. If it really is empty, cobot_release(run) lets it through.",
					 "Cobot lists no %s, where there were %lld", check->what, (long long) before);
}

/* A list with less than half of the records of last time is believed when it comes a second time. */
static void
doubt_sudden_loss(SyncRun *run, const ListCheck *check)
{
	int			now = (int) check->list->count;

	if (now * 2 >= check->last || check->last - now <= SUDDEN_LOSS || run->takes_nothing)
		return;
	run->takes_nothing = true;
	sync_stop(run, "incomplete", "source_incomplete",
			  "Nothing is taken from anybody in this run. If the next one sees the same, it goes on.",
			  "Cobot lists %d %s, where there were %d last time", now, check->what, check->last);
}

/* Of a part of the members only the plans can be judged, and only against what the mirror has. */
static bool
can_be_true(SyncRun *run, const SyncSnapshot *snapshot, SyncPlan *plan)
{
	QueryArg	arg = query_int64(run->integration.id);
	bool		known = query_run("SELECT r.members_seen, r.plans_seen, r.fields_seen FROM smartspace.cobot_sync_run r"
								  " WHERE r.integration_id = $1 AND r.members_seen > 0"
								  " AND r.kind IN ('sync', 'release', 'ingest') ORDER BY r.id DESC LIMIT 1", 1, &arg) > 0;
	ListCheck	check[] = {
		{"members", snapshot->members, "membership", "left",
			"SELECT m.cobot_id FROM smartspace.cobot_membership m WHERE m.integration_id = $1 AND m.departed_at IS NULL", 0},
		{"plans", snapshot->plans, "plan", "unlisted",
		"SELECT p.cobot_id FROM smartspace.cobot_plan p WHERE p.integration_id = $1 AND p.listed", 0},
		{"custom field values", snapshot->field_values, "membership", "changed",
			"SELECT m.cobot_id FROM smartspace.cobot_membership m WHERE m.integration_id = $1"
		" AND m.departed_at IS NULL AND m.individual_access IS NOT NULL", 0}
	};

	for (int i = 0; known && i < (int) lengthof(check); i++)
		check[i].last = (int) query_result_int64(0, i + 1);

	for (int i = 0; i < (int) lengthof(check); i++)
	{
		if (check[i].list == NULL || (snapshot->partial && check[i].list != snapshot->plans))
			continue;
		if (check[i].list->count == 0 && !may_be_empty(run, plan, &check[i]))
			return false;
		if (check[i].list->count > 0 && !snapshot->partial)
			doubt_sudden_loss(run, &check[i]);
	}
	return true;
}

bool
sync_compare(SyncRun *run, SyncSnapshot *snapshot, SyncPlan *plan)
{
	SyncIdIndex fields = {0};

	if (!can_be_true(run, snapshot, plan))
		return false;

	if (snapshot->plans)
		sync_read_plans(plan, snapshot->plans);
	if (snapshot->field_values)
		fields = sync_index_by_id(snapshot->field_values);
	report_members_without_id(run, snapshot, plan);

	SyncRows   *listed = list_members(run, snapshot, plan, &fields);

	sync_rows_register(listed);

	QueryArg	args[] = {
		query_int64(run->integration.id), query_bool(run->reread), query_bool(!snapshot->partial), query_int64(sync_seed(run))
	};

	/*
	 * Who vanished comes in an order by chance, so that those who are still there do
	 * not crowd out the others for ever; those whom somebody released come first.
	 */
	query_run("SELECT i.place, m.cobot_id, i.source_hash, m.individual_access IS NOT NULL,"
			  " " SYNC_IS_LIVE("m", "m.time_zone") ","
			  " pg_catalog.upper(smartspace.cobot_access_range(m.confirmed_at, m.starts_at, m.canceled_to, m.time_zone)) <= pg_catalog.now()"
			  " FROM incoming i FULL JOIN (SELECT a.id, a.cobot_id, a.source_hash, a.departed_at, a.individual_access,"
			  "   a.confirmed_at, a.starts_at, a.canceled_to, s.time_zone"
			  "  FROM smartspace.cobot_membership a JOIN smartspace.cobot_integration s ON s.id = a.integration_id"
			  "  WHERE a.integration_id = $1) m ON m.cobot_id = i.cobot_id"
			  " WHERE i.place >= 0 AND (m.id IS NULL OR $2 OR m.source_hash IS DISTINCT FROM i.source_hash)"
			  " OR $3 AND i.cobot_id IS NULL AND m.departed_at IS NULL"
			  " ORDER BY i.place, EXISTS (SELECT FROM smartspace.cobot_sync_change c WHERE c.integration_id = $1"
			  "  AND c.verdict = 'released' AND c.cobot_id = m.cobot_id) DESC, pg_catalog.hashtextextended(m.cobot_id, $4)", lengthof(args), args);
	sync_rows_free(listed);
	read_changed_members(run, snapshot, plan, &fields);
	if (fields.entry)
		pfree(fields.entry);
	return true;
}
