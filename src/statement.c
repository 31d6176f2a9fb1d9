/*
 * statement.c
 *	  Keeps the running statement out of sight. Runs in the backend that calls.
 */
#include "postgres.h"

#include "pgstat.h"
#include "tcop/tcopprot.h"

#include "statement.h"

ErrorContextCallback *
statement_hide(void)
{
	ErrorContextCallback *callers = error_context_stack;

	debug_query_string = "<hidden: the statement may hold a secret>";
	pgstat_report_activity(STATE_RUNNING, debug_query_string);
	error_context_stack = NULL;
	return callers;
}
