/*
 * query.h
 *	  Small helpers around SPI for statements that run once in a while. The
 *	  caller has connected to SPI; results stay in SPI_tuptable.
 */
#ifndef SMARTSPACE_QUERY_H
#define SMARTSPACE_QUERY_H

#include "executor/spi.h"

typedef struct QueryArg
{
	Oid			type;
	Datum		value;
	bool		isnull;
} QueryArg;

extern QueryArg query_int64(int64 value);
extern QueryArg query_bool(bool value);
extern QueryArg query_text(const char *value);	/* NULL gives an SQL null; copies the string */
extern Datum query_text_array(Datum *elements, int count);	/* text[] of text datums */
extern QueryArg query_value(Oid type, Datum value);

/* Runs one statement; returns SPI_processed. Throws what the statement throws. */
extern uint64 query_run(const char *sql, int nargs, const QueryArg *args);

/*
 * The same for a statement about few rows that the worker runs again and again: there its
 * plan is kept. The text has to be a constant, because its address is the key.
 */
extern uint64 query_run_kept(const char *sql, int nargs, const QueryArg *args);

/* From now on this process keeps plans. */
extern void query_keep_plans(void);

/* So that no plan outlives what it was made for, such as a table that was empty. Not while a statement runs. */
extern void query_forget_old_plans(void);

/*
 * The same for a statement about so many rows that this transaction has made:
 * statistics know nothing of them, and a nested loop over many would take forever.
 */
extern uint64 query_run_over(int64 rows, const char *sql, int nargs, const QueryArg *args);

/* The same for a query that only looks, with the caller's snapshot, as a STABLE function must. */
extern uint64 query_look(const char *sql, int nargs, const QueryArg *args);

/*
 * Runs a statement that gets a secret, or an SQL null (NULL): from the column value of the
 * relation given, which has this one row. As an argument it could be logged: auto_explain
 * shows arguments in the plan, or beside it, and pgaudit.log_parameter as well. Leaves
 * SPI_tuptable alone.
 */
extern uint64 query_run_given(const char *sql, int nargs, const QueryArg *args, const char *given);

/* Values of a row of SPI_tuptable, by column number from 1. Text is palloc'd; NULL for an SQL null. */
extern char *query_result_text(uint64 row, int column);
extern int64 query_result_int64(uint64 row, int column);	/* 0 for an SQL null */
extern bool query_result_bool(uint64 row, int column);	/* false for an SQL null */
extern bool query_result_is_null(uint64 row, int column);

/* Ends SPI, with a text as the result of the function: it is made where SPI began. */
extern Datum query_finish_text(const char *text);

#endif
