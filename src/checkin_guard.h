/*
 * checkin_guard.h
 *	  Rows that the database refuses to have written, because of somebody's trigger or
 *	  constraint: they must not keep any others from being delivered.
 *
 * Everything needs a transaction of job_begin().
 */
#ifndef SMARTSPACE_CHECKIN_GUARD_H
#define SMARTSPACE_CHECKIN_GUARD_H

#include "datatype/timestamp.h"
#include "query.h"

/*
 * Does something in a subtransaction. False: the database refused it; nothing of it is
 * left, and *error says why, in the current memory context. What is about the process or
 * the server, and not about what was to be written, is thrown.
 */
extern bool checkin_guard(void (*action) (void *arg), void *arg, const char **error);

/* The same for one statement. */
extern bool checkin_guard_query(const char *sql, int nargs, const QueryArg *args, const char **error);

/*
 * The same for many rows: for all at once, or, if that is refused, for each alone. Those
 * for which it is refused then rest. ids is an array of bigint.
 */
extern void checkin_guard_rows(Datum ids, void (*action) (Datum ids, void *arg), void *arg);

/* A row, or all of an integration, is left alone for a while by this process; it is logged why. */
extern void checkin_rest_row(int64 id, const char *error);
extern void checkin_rest_integration(int64 integration);

/* Those that rest, as an array of bigint that may be empty. */
extern QueryArg checkin_resting_rows(void);
extern QueryArg checkin_resting_integrations(void);

/* When the first of them may be looked at again; DT_NOEND: none rests. */
extern TimestampTz checkin_rest_ends(void);

#endif
