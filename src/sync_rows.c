/*
 * sync_rows.c
 *	  Cobot's records as relations that SQL can use. Runs inside a
 *	  synchronisation.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/jsonb.h"
#include "utils/queryenvironment.h"
#include "utils/timestamp.h"

#include "query.h"
#include "sync_rows.h"

static Oid
field_type(CobotFieldKind kind)
{
	switch (kind)
	{
		case COBOT_TEXT:
			return TEXTOID;
		case COBOT_BOOL:
			return BOOLOID;
		case COBOT_INTEGER:
			return INT4OID;
		case COBOT_DECIMAL:
			return NUMERICOID;
		case COBOT_DATE:
			return DATEOID;
		case COBOT_TIMESTAMP:
			return TIMESTAMPTZOID;
		case COBOT_TEXT_LIST:
			return TEXTARRAYOID;
		case COBOT_JSON:
			return JSONBOID;
	}
	pg_unreachable();
}

/* cJSON prints into malloc'd memory; copy it before anything can throw over it. */
static Datum
json_datum(const cJSON *json)
{
	char	   *printed = cJSON_PrintUnformatted(json);
	char	   *copy = printed ? MemoryContextStrdup(CurrentMemoryContext, printed) : NULL;

	cJSON_free(printed);
	if (copy == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(copy));
}

static Datum
text_list_datum(const cJSON *json)
{
	int			count = cJSON_GetArraySize(json);
	Datum	   *elements = palloc(sizeof(Datum) * Max(count, 1));
	const cJSON *element;
	int			i = 0;

	cJSON_ArrayForEach(element, json)
		elements[i++] = CStringGetTextDatum(element->valuestring);
	return query_text_array(elements, count);
}

static Datum
field_datum(const CobotField *field, const CobotValue *value)
{
	switch (field->kind)
	{
		case COBOT_TEXT:
			return CStringGetTextDatum(value->text);
		case COBOT_BOOL:
			return BoolGetDatum(value->boolean);
		case COBOT_INTEGER:
			return Int32GetDatum(value->integer);
		case COBOT_DECIMAL:
			return DirectFunctionCall3(numeric_in, CStringGetDatum(value->text),
									   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
		case COBOT_DATE:
			return DateADTGetDatum(value->integer);
		case COBOT_TIMESTAMP:
			return TimestampTzGetDatum(value->timestamp);
		case COBOT_TEXT_LIST:
			return text_list_datum(value->json);
		case COBOT_JSON:
			return json_datum(value->json);
	}
	pg_unreachable();
}

SyncRows *
sync_rows_create(const char *name, const SyncColumn *columns, int column_count,
				 const CobotField *fields, int field_count)
{
	SyncRows   *rows = palloc0(sizeof(SyncRows));

	rows->name = name;
	rows->column_count = column_count;
	rows->fields = fields;
	rows->field_count = field_count;
	rows->tupdesc = CreateTemplateTupleDesc(column_count + field_count);
	for (int i = 0; i < column_count; i++)
		TupleDescInitEntry(rows->tupdesc, i + 1, columns[i].name, columns[i].type, -1, 0);
	for (int i = 0; i < field_count; i++)
		TupleDescInitEntry(rows->tupdesc, column_count + i + 1, fields[i].column,
						   field_type(fields[i].kind), -1, 0);

	/* Random access: several references in one statement read it independently. */
	rows->store = tuplestore_begin_heap(true, false, work_mem);
	return rows;
}

void
sync_rows_add(SyncRows *rows, const Datum *values, const bool *nulls, const CobotValue *record)
{
	int			natts = rows->tupdesc->natts;
	Datum	   *row_values = palloc(natts * sizeof(Datum));
	bool	   *row_nulls = palloc(natts * sizeof(bool));

	for (int i = 0; i < rows->column_count; i++)
	{
		row_values[i] = values[i];
		row_nulls[i] = nulls[i];
	}
	for (int i = 0; i < rows->field_count; i++)
	{
		int			at = rows->column_count + i;

		row_nulls[at] = record == NULL || record[i].is_null;
		row_values[at] = row_nulls[at] ? (Datum) 0 : field_datum(&rows->fields[i], &record[i]);
	}
	tuplestore_putvalues(rows->store, rows->tupdesc, row_values, row_nulls);
	rows->count++;
}

void
sync_rows_append(SyncRows *rows, SyncRows *more)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(more->tupdesc, &TTSOpsMinimalTuple);

	while (tuplestore_gettupleslot(more->store, true, false, slot))
		tuplestore_puttupleslot(rows->store, slot);
	ExecDropSingleTupleTableSlot(slot);
	rows->count += more->count;
}

void
sync_rows_register(SyncRows *rows)
{
	EphemeralNamedRelation relation = palloc0(sizeof(EphemeralNamedRelationData));

	relation->md.name = pstrdup(rows->name);
	relation->md.reliddesc = InvalidOid;
	relation->md.tupdesc = rows->tupdesc;
	relation->md.enrtype = ENR_NAMED_TUPLESTORE;
	relation->md.enrtuples = (double) rows->count;
	relation->reldata = rows->store;

	int			result = SPI_register_relation(relation);

	if (result != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not register relation \"%s\": %s", rows->name, SPI_result_code_string(result));
	rows->registered = true;
}

void
sync_rows_free(SyncRows *rows)
{
	if (rows->registered)
		SPI_unregister_relation(rows->name);
	tuplestore_end(rows->store);
	pfree(rows);
}

void
sync_rows_columns(StringInfo sql, const char *prefix, const CobotField *fields, int field_count)
{
	for (int i = 0; i < field_count; i++)
		appendStringInfo(sql, "%s%s%s", i > 0 ? ", " : "", prefix, fields[i].column);
}
