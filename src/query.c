/*
 * query.c
 *	  Small helpers around SPI.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "query.h"

#define QUERY_ARG_LIMIT 32

/* A kept plan is made anew after so many uses: tables grow, and statistics come late. */
#define KEPT_PLAN_USES 200

/* Rows up to which a nested loop is a good plan. */
#define NESTED_LOOP_LIMIT 100

typedef struct KeptPlan
{
	const char *sql;			/* key of the hash table */
	SPIPlanPtr	plan;			/* NULL: could not be made so far */
	int			uses;
} KeptPlan;

static HTAB *kept_plans = NULL; /* NULL: this process keeps none */

QueryArg
query_value(Oid type, Datum value)
{
	return (QueryArg) {.type = type, .value = value, .isnull = false};
}

Datum
query_text_array(Datum *elements, int count)
{
	return PointerGetDatum(construct_array(elements, count, TEXTOID, -1, false, TYPALIGN_INT));
}

QueryArg
query_int64(int64 value)
{
	return query_value(INT8OID, Int64GetDatum(value));
}

QueryArg
query_bool(bool value)
{
	return query_value(BOOLOID, BoolGetDatum(value));
}

QueryArg
query_text(const char *value)
{
	return (QueryArg) {
		.type = TEXTOID,
		.value = value ? CStringGetTextDatum(value) : (Datum) 0,
		.isnull = value == NULL
	};
}

/* Arguments as SPI wants them. */
typedef struct SpiArgs
{
	Oid			type[QUERY_ARG_LIMIT];
	Datum		value[QUERY_ARG_LIMIT];
	char		null[QUERY_ARG_LIMIT];
} SpiArgs;

static void
fill_args(SpiArgs *spi, int nargs, const QueryArg *args)
{
	Assert(nargs <= QUERY_ARG_LIMIT);
	for (int i = 0; i < nargs; i++)
	{
		spi->type[i] = args[i].type;
		spi->value[i] = args[i].value;
		spi->null[i] = args[i].isnull ? 'n' : ' ';
	}
}

static uint64
rows_of(int result)
{
	if (result < 0)
		elog(ERROR, "could not run a statement: %s", SPI_result_code_string(result));
	return SPI_processed;
}

static uint64
execute(const char *sql, int nargs, const QueryArg *args, bool read_only)
{
	SpiArgs		spi;

	fill_args(&spi, nargs, args);
	return rows_of(SPI_execute_with_args(sql, nargs, spi.type, spi.value, spi.null, read_only, 0));
}

/* ---- kept plans ---- */

void
query_keep_plans(void)
{
	HASHCTL		control = {.keysize = sizeof(const char *), .entrysize = sizeof(KeptPlan), .hcxt = TopMemoryContext};

	kept_plans = hash_create("smartspace_cobot plans", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

void
query_forget_old_plans(void)
{
	HASH_SEQ_STATUS scan;
	KeptPlan   *kept;

	if (kept_plans == NULL)
		return;
	hash_seq_init(&scan, kept_plans);
	while ((kept = hash_seq_search(&scan)) != NULL)
	{
		if (kept->uses < KEPT_PLAN_USES)
			continue;
		SPI_freeplan(kept->plan);
		(void) hash_search(kept_plans, &kept->sql, HASH_REMOVE, NULL);
	}
}

uint64
query_run_kept(const char *sql, int nargs, const QueryArg *args)
{
	SpiArgs		spi;
	KeptPlan   *kept;
	bool		found;

	if (kept_plans == NULL)
		return execute(sql, nargs, args, false);
	fill_args(&spi, nargs, args);
	kept = hash_search(kept_plans, &sql, HASH_ENTER, &found);
	if (!found)
		*kept = (KeptPlan) {.sql = sql};
	if (kept->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(sql, nargs, spi.type);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare a statement: %s", SPI_result_code_string(SPI_result));
		kept->plan = plan;
	}
	kept->uses++;
	return rows_of(SPI_execute_plan(kept->plan, spi.value, spi.null, false, 0));
}

/* ---- statements that run once in a while ---- */

uint64
query_run(const char *sql, int nargs, const QueryArg *args)
{
	return execute(sql, nargs, args, false);
}

uint64
query_run_over(int64 rows, const char *sql, int nargs, const QueryArg *args)
{
	int			guc_level = NewGUCNestLevel();
	uint64		count;

	if (rows > NESTED_LOOP_LIMIT)
		set_config_option("enable_nestloop", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	count = execute(sql, nargs, args, false);
	AtEOXact_GUC(true, guc_level);
	return count;
}

uint64
query_look(const char *sql, int nargs, const QueryArg *args)
{
	return execute(sql, nargs, args, true);
}

/*
 * A connection of its own, because SPI keeps its list of relations in the memory context of
 * the first one. What is in the store is about to stand in a table, and so in shared memory:
 * it is not wiped here.
 */
uint64
query_run_given(const char *sql, int nargs, const QueryArg *args, const char *given)
{
	SPI_connect();

	TupleDesc	tupdesc = CreateTemplateTupleDesc(1);
	QueryArg	text = query_text(given);
	EphemeralNamedRelationData relation = {
		.md = {.name = "given", .tupdesc = tupdesc, .enrtype = ENR_NAMED_TUPLESTORE, .enrtuples = 1},
		.reldata = tuplestore_begin_heap(true, false, work_mem)
	};
	uint64		count;

	TupleDescInitEntry(tupdesc, 1, "value", TEXTOID, -1, 0);
	tuplestore_putvalues(relation.reldata, tupdesc, &text.value, &text.isnull);
	if (SPI_register_relation(&relation) != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not register relation \"%s\"", relation.md.name);
	count = query_run(sql, nargs, args);
	tuplestore_end(relation.reldata);
	SPI_finish();
	return count;
}

char *
query_result_text(uint64 row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

int64
query_result_int64(uint64 row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

bool
query_result_bool(uint64 row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	return !isnull && DatumGetBool(value);
}

bool
query_result_is_null(uint64 row, int column)
{
	bool		isnull;

	(void) SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);
	return isnull;
}

Datum
query_finish_text(const char *text)
{
	Datum		result = SPI_datumTransfer(CStringGetTextDatum(text), false, -1);

	SPI_finish();
	return result;
}
