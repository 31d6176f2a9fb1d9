/*
 * sync_rows.h
 *	  Rows in a tuplestore that SQL sees as a relation (an ephemeral named
 *	  relation), so that the database compares and writes them set-based. The
 *	  caller has connected to SPI.
 */
#ifndef SMARTSPACE_SYNC_ROWS_H
#define SMARTSPACE_SYNC_ROWS_H

#include "access/tupdesc.h"
#include "lib/stringinfo.h"
#include "utils/tuplestore.h"

#include "cobot_record.h"

/* One column beside those of a field table. */
typedef struct SyncColumn
{
	const char *name;
	Oid			type;
} SyncColumn;

typedef struct SyncRows
{
	const char *name;			/* what SQL calls it */
	TupleDesc	tupdesc;
	Tuplestorestate *store;
	int64		count;
	bool		registered;
	int			column_count;	/* extra columns, before the fields */
	const CobotField *fields;
	int			field_count;
} SyncRows;

/*
 * An empty relation with the extra columns first and then one column for each
 * field (fields may be NULL). Lives in the current memory context and spills to
 * disk beyond work_mem.
 */
extern SyncRows *sync_rows_create(const char *name, const SyncColumn *columns, int column_count,
								  const CobotField *fields, int field_count);

/*
 * Appends a row: values and nulls of the extra columns, then the record read
 * by cobot_read_record().
 */
extern void sync_rows_add(SyncRows *rows, const Datum *values, const bool *nulls,
						  const CobotValue *record);

/* Appends the rows of another relation with the same columns, which has not been read before. */
extern void sync_rows_append(SyncRows *rows, SyncRows *more);

/*
 * Makes the relation visible to the SPI statements that follow; rows cannot be
 * added any more after the first of them ran.
 */
extern void sync_rows_register(SyncRows *rows);

/*
 * Releases the rows and what they spilled to disk. Statements that read them
 * must have ended; after an error the transaction's clean-up does the same.
 */
extern void sync_rows_free(SyncRows *rows);

/* Appends "PREFIXcolumn, PREFIXcolumn" for all fields to a statement. */
extern void sync_rows_columns(StringInfo sql, const char *prefix, const CobotField *fields, int field_count);

#endif
