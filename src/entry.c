/*
 * entry.c
 *	  The trigger function that lets entries check members in: cobot_entry_trigger().
 *	  Runs in whichever backend inserts into building_entry, or into a table of the
 *	  backend's own that has such a trigger, at the end of its statement, set-based.
 *
 * The door comes first: whatever goes wrong here is caught and written down, except
 * that somebody cancels the statement, and nothing waits for a lock longer than
 * LOCK_WAIT. The rule itself is the SQL function cobot_entry_verdict().
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "entry_look.h"
#include "query.h"
#include "smartspace_cobot.h"
#include "wake.h"

PG_FUNCTION_INFO_V1(entry_trigger);

#define LOCK_WAIT "50ms"
#define PROBLEM_LENGTH_LIMIT 200	/* bytes of an error's message that are kept */

/* The arguments of the trigger, by place. */
enum
{
	MEMBER,
	BUILDING,
	ENTERED_AT,
	REFERENCE,
	COLUMN_COUNT
};

/*
 * What the statements of one trigger were made for. Everything is compared at each
 * call: a column can get another type, and a trigger other arguments.
 */
typedef struct EntryTable
{
	Oid			relation;
	char	   *new_rows;
	char	   *column[COLUMN_COUNT];	/* NULL: not given */
	int			number[COLUMN_COUNT];
	Oid			type[COLUMN_COUNT];
} EntryTable;

/* The statements of a trigger. */
typedef enum EntryQuery
{
	QUEUE_ONE,
	QUEUE_MANY,
	ENTRY_QUERY_COUNT
} EntryQuery;

typedef struct EntryPlan
{
	Oid			trigger;		/* key of the hash table */
	MemoryContext context;		/* of made_for; NULL: there is no plan yet */
	EntryTable	made_for;
	SPIPlanPtr	plan[ENTRY_QUERY_COUNT];
} EntryPlan;

static HTAB *entry_plans = NULL;

/* ---- what the trigger is told ---- */

static bool
is_integer(Oid type)
{
	return type == INT8OID || type == INT4OID || type == INT2OID;
}

/*
 * Only types whose casts are the server's own: those of a type that somebody made
 * would run here with the rights of the extension's owner.
 */
static bool
is_name(Oid type)
{
	return type == TEXTOID || type == VARCHAROID || type == BPCHAROID || type == UUIDOID;
}

static bool
fits(int place, Oid type)
{
	switch (place)
	{
		case MEMBER:
			return is_integer(type);
		case ENTERED_AT:
			return type == TIMESTAMPTZOID;
		default:
			return is_integer(type) || is_name(type);
	}
}

static const char *const expected[COLUMN_COUNT] = {
	[MEMBER] = "an integer, the id of a membership",
	[BUILDING] = "an integer, text or uuid",
	[ENTERED_AT] = "timestamp with time zone",
	[REFERENCE] = "an integer, text or uuid"
};

/* Looks the columns up that the trigger's arguments name. */
static void
read_table(TriggerData *trigdata, EntryTable *table)
{
	const Trigger *trigger = trigdata->tg_trigger;
	TupleDesc	desc = RelationGetDescr(trigdata->tg_relation);

	if (!TRIGGER_FIRED_AFTER(trigdata->tg_event) || !TRIGGER_FIRED_BY_INSERT(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigdata->tg_event) || trigger->tgnewtable == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" must be AFTER INSERT, REFERENCING NEW TABLE AS a name, FOR EACH STATEMENT", trigger->tgname)));
	if (trigger->tgnargs <= BUILDING || trigger->tgnargs > COLUMN_COUNT)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" must name the columns of the member and the building, and at most one of the moment and one of a reference",
						trigger->tgname)));

	memset(table, 0, sizeof(EntryTable));
	table->relation = RelationGetRelid(trigdata->tg_relation);
	table->new_rows = trigger->tgnewtable;
	for (int i = 0; i < trigger->tgnargs; i++)
	{
		int			number = SPI_fnumber(desc, trigger->tgargs[i]);

		if (number <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("column \"%s\", which the trigger \"%s\" names, does not exist", trigger->tgargs[i], trigger->tgname)));
		table->column[i] = trigger->tgargs[i];
		table->number[i] = number;
		table->type[i] = getBaseType(TupleDescAttr(desc, number - 1)->atttypid);
		if (!fits(i, table->type[i]))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("column \"%s\", which the trigger \"%s\" names, has type %s; expected %s", trigger->tgargs[i],
							trigger->tgname, format_type_be(table->type[i]), expected[i])));
	}
}

static bool
same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool
same_table(const EntryTable *a, const EntryTable *b)
{
	if (a->relation != b->relation || strcmp(a->new_rows, b->new_rows) != 0)
		return false;
	for (int i = 0; i < COLUMN_COUNT; i++)
		if (a->type[i] != b->type[i] || !same_text(a->column[i], b->column[i]))
			return false;
	return true;
}

/* ---- the statement ---- */

/* A column of the new rows, "n", cast to a type of the server's own. */
static char *
column(const EntryTable *table, int place, const char *type)
{
	return psprintf("n.%s::pg_catalog.%s", quote_identifier(table->column[place]), type);
}

/*
 * One statement for all rows of the INSERT. The twenty entries of one member in one
 * COPY make one check-in, for the entry that may make one, else a stale one.
 */
static char *
queue_statement(const EntryTable *table, bool one_row)
{
	Oid			building_entry = get_relname_relid("building_entry", get_namespace_oid(SMARTSPACE_SCHEMA, false));
	char	   *building = is_integer(table->type[BUILDING]) ? column(table, BUILDING, "int8") : pstrdup("b.id");
	char	   *entered_at = table->column[ENTERED_AT] ?
		psprintf("COALESCE(%s, pg_catalog.statement_timestamp())", column(table, ENTERED_AT, "timestamptz")) :
		pstrdup("pg_catalog.statement_timestamp()");
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql,
					 "INSERT INTO smartspace.cobot_checkin (integration_id, membership_id, building_id, source, source_reference,"
					 " entered_at, state, reason, next_attempt_at, settled_at, holds_until)"
					 " SELECT %s v.integration_id, v.membership_id, %s, '%s', %s, %s,"
					 " CASE v.verdict WHEN 'queue' THEN 'queued' ELSE 'stale' END,"
					 " CASE WHEN v.verdict <> 'queue' THEN v.verdict END,"
					 " CASE v.verdict WHEN 'queue' THEN pg_catalog.now() END,"
					 " CASE WHEN v.verdict <> 'queue' THEN pg_catalog.now() END,"
					 " CASE v.verdict WHEN 'queue' THEN v.holds_until END",
					 one_row ? "" : "DISTINCT ON (v.membership_id)", building,
					 table->relation == building_entry ? "entry" : "table",
					 table->column[REFERENCE] ? column(table, REFERENCE, "text") : "NULL", entered_at);
	appendStringInfo(&sql, " FROM %s n", quote_identifier(table->new_rows));
	if (!is_integer(table->type[BUILDING]))
		appendStringInfo(&sql, " JOIN smartspace.building b ON b.external_identifier = %s", column(table, BUILDING, "text"));
	appendStringInfo(&sql,
					 " CROSS JOIN LATERAL smartspace.cobot_entry_verdict(%s, %s, %s) v"
					 " WHERE v.verdict IN ('queue', 'too_old', 'other_day', 'in_the_future')",
					 column(table, MEMBER, "int8"), building, entered_at);
	if (!one_row)
		appendStringInfo(&sql, " ORDER BY v.membership_id, v.verdict <> 'queue', %s DESC", entered_at);
	return sql.data;
}

/* The hash table's entry of a trigger, without plans if there are none that fit. */
static EntryPlan *
find_plan(Oid trigger, const EntryTable *table)
{
	bool		found;
	EntryPlan  *plan;

	if (entry_plans == NULL)
	{
		HASHCTL		control = {.keysize = sizeof(Oid), .entrysize = sizeof(EntryPlan), .hcxt = TopMemoryContext};

		entry_plans = hash_create("smartspace_cobot entry triggers", 8, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	plan = hash_search(entry_plans, &trigger, HASH_ENTER, &found);
	if (!found)
		*plan = (EntryPlan) {.trigger = trigger};
	if (plan->context == NULL || same_table(&plan->made_for, table))
		return plan;

	/* taken out of the entry first: if something throws, nothing is freed twice */
	EntryPlan	old = *plan;

	*plan = (EntryPlan) {.trigger = trigger};
	for (int i = 0; i < ENTRY_QUERY_COUNT; i++)
		if (old.plan[i])
			SPI_freeplan(old.plan[i]);
	MemoryContextDelete(old.context);
	return plan;
}

static void
remember_table(EntryPlan *plan, const EntryTable *table)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "smartspace_cobot entry trigger", ALLOCSET_SMALL_SIZES);
	EntryTable	copy = *table;

	copy.new_rows = MemoryContextStrdup(context, table->new_rows);
	for (int i = 0; i < COLUMN_COUNT; i++)
		if (table->column[i])
			copy.column[i] = MemoryContextStrdup(context, table->column[i]);
	plan->made_for = copy;
	plan->context = context;
}

/* Plans once for each trigger and process; the plan cache sees to changes of the tables. */
static SPIPlanPtr
plan_for(EntryPlan *plan, EntryQuery query)
{
	if (plan->plan[query] != NULL)
		return plan->plan[query];

	const EntryTable *table = &plan->made_for;
	SPIPlanPtr	made = SPI_prepare(queue_statement(table, query == QUEUE_ONE), 0, NULL);

	if (made == NULL || SPI_keepplan(made) != 0)
		elog(ERROR, "could not prepare a statement about entries: %s", SPI_result_code_string(SPI_result));
	return plan->plan[query] = made;
}

/* Gives the number of rows. */
static uint64
run(EntryPlan *plan, EntryQuery query)
{
	int			result = SPI_execute_plan(plan_for(plan, query), NULL, NULL, false, 0);

	if (result < 0)
		elog(ERROR, "could not run a statement about entries: %s", SPI_result_code_string(result));
	return SPI_processed;
}

static int64
integer_value(Oid type, Datum value)
{
	return type == INT8OID ? DatumGetInt64(value) : type == INT4OID ? DatumGetInt32(value) : DatumGetInt16(value);
}

/* Is the only new row about somebody who is checked in already? */
static bool
is_in(TriggerData *trigdata, const EntryTable *table)
{
	bool		by_id = is_integer(table->type[BUILDING]);
	TupleTableSlot *slot;
	bool		no_member;
	bool		no_building;
	bool		found = false;

	if (!by_id && table->type[BUILDING] != TEXTOID && table->type[BUILDING] != VARCHAROID)
		return false;
	slot = MakeSingleTupleTableSlot(RelationGetDescr(trigdata->tg_relation), &TTSOpsMinimalTuple);
	tuplestore_rescan(trigdata->tg_newtable);
	if (tuplestore_gettupleslot(trigdata->tg_newtable, true, false, slot))
	{
		Datum		member = slot_getattr(slot, table->number[MEMBER], &no_member);
		Datum		building = slot_getattr(slot, table->number[BUILDING], &no_building);

		found = !no_member && !no_building &&
			entry_look_is_in(integer_value(table->type[MEMBER], member), by_id ? INT8OID : TEXTOID,
							 by_id ? Int64GetDatum(integer_value(table->type[BUILDING], building)) : building);
	}
	ExecDropSingleTupleTableSlot(slot);
	return found;
}

static void
queue_checkins(TriggerData *trigdata, int64 entries)
{
	EntryTable	table;

	read_table(trigdata, &table);
	if (entries == 1 && is_in(trigdata, &table))
		return;

	EntryPlan  *plan = find_plan(trigdata->tg_trigger->tgoid, &table);

	if (plan->context == NULL)
		remember_table(plan, &table);
	SPI_connect();
	SPI_register_trigger_data(trigdata);
	if (run(plan, entries == 1 ? QUEUE_ONE : QUEUE_MANY) > 0)
		wake_at_commit();
	SPI_finish();
}

/* ---- never in the door's way ---- */

/* What is about ending the statement or the process, and not about check-ins. */
static bool
is_about_the_session(int sqlstate)
{
	return sqlstate == ERRCODE_QUERY_CANCELED || sqlstate == ERRCODE_ADMIN_SHUTDOWN || sqlstate == ERRCODE_CRASH_SHUTDOWN;
}

/*
 * Adds to a row that nobody else is writing, or makes one: there are at most as many for
 * each table and error as there were writers at a time.
 */
static void
write_problem(TriggerData *trigdata, int64 entries, const ErrorData *error)
{
	char	   *message = pnstrdup(error->message, pg_mbcliplen(error->message, (int) strlen(error->message), PROBLEM_LENGTH_LIMIT));
	QueryArg	args[] = {
		query_text(quote_qualified_identifier(get_namespace_name(RelationGetNamespace(trigdata->tg_relation)),
											  RelationGetRelationName(trigdata->tg_relation))),
		query_text(unpack_sql_state(error->sqlerrcode)), query_text(message), query_int64(entries)
	};

	SPI_connect();
	if (query_run("UPDATE smartspace.cobot_entry_problem p SET message = $3, last_at = pg_catalog.now(), entries = p.entries + $4"
				  " WHERE p.id = (SELECT q.id FROM smartspace.cobot_entry_problem q WHERE q.relation = $1 AND q.error_code = $2"
				  " ORDER BY q.id LIMIT 1 FOR UPDATE SKIP LOCKED)", lengthof(args), args) == 0)
		query_run("INSERT INTO smartspace.cobot_entry_problem (relation, error_code, message, entries) VALUES ($1, $2, $3, $4)",
				  lengthof(args), args);
	SPI_finish();
}

/*
 * Does one thing in a subtransaction that waits for nobody. NULL: done. Otherwise what
 * went wrong, and nothing of it is left.
 */
static ErrorData *
guarded(TriggerData *trigdata, int64 entries, const ErrorData *problem)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		int			guc_level = NewGUCNestLevel();

		(void) set_config_option("lock_timeout", LOCK_WAIT, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
		if (problem == NULL)
			queue_checkins(trigdata, entries);
		else
			write_problem(trigdata, entries, problem);
		AtEOXact_GUC(true, guc_level);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;

	if (error != NULL && is_about_the_session(error->sqlerrcode))
		ReThrowError(error);
	return error;
}

static void
look_at_entries(TriggerData *trigdata)
{
	int64		entries = trigdata->tg_newtable ? tuplestore_tuple_count(trigdata->tg_newtable) : 1;
	ErrorData  *error;

	if (entries == 0)
		return;
	error = guarded(trigdata, entries, NULL);
	if (error != NULL && guarded(trigdata, entries, error) != NULL)
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("entries of \"%s\" were stored, but nobody was checked in for them", RelationGetRelationName(trigdata->tg_relation)),
				 errdetail("%s.", error->message)));
}

/*
 * cobot_entry_trigger(member column, building column [, moment column [, reference column]])
 *
 * A trigger that was declared in another way is a problem, too, but not for the door.
 */
Datum
entry_trigger(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by a trigger", "cobot_entry_trigger")));

	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	look_at_entries(trigdata);

	/* of a trigger for each row, the row as it was going to be */
	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigdata->tg_event) ? trigdata->tg_newtuple : trigdata->tg_trigtuple);
}
