/*
 * query.c
 *	  Small helpers around SPI.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "query.h"

#define QUERY_ARG_LIMIT 32

/* Rows up to which a nested loop is a good plan. */
#define NESTED_LOOP_LIMIT 100

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

static uint64
execute(const char *sql, int nargs, const QueryArg *args, bool read_only)
{
	Oid			types[QUERY_ARG_LIMIT];
	Datum		values[QUERY_ARG_LIMIT];
	char		nulls[QUERY_ARG_LIMIT] = {0};

	Assert(nargs <= QUERY_ARG_LIMIT);
	for (int i = 0; i < nargs; i++)
	{
		types[i] = args[i].type;
		values[i] = args[i].value;
		nulls[i] = args[i].isnull ? 'n' : ' ';
	}

	int			result = SPI_execute_with_args(sql, nargs, types, values, nulls, read_only, 0);

	if (result < 0)
		elog(ERROR, "could not run a statement: %s", SPI_result_code_string(result));
	return SPI_processed;
}

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
