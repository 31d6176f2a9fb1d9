/*
 * statement.h
 *	  For functions that take a secret: the statement with it is not shown.
 */
#ifndef SMARTSPACE_STATEMENT_H
#define SMARTSPACE_STATEMENT_H

#include "utils/elog.h"

/*
 * Takes the statement that is running out of pg_stat_activity and out of the
 * STATEMENT line of errors, because it may hold a secret as a literal. (What
 * log_statement and log_min_duration_statement write is out of reach; the README
 * tells to use a bind parameter.) Also silences the CONTEXT of the callers, since
 * PL/pgSQL quotes the statement there. Returns their error_context_stack, to be
 * put back before the function returns; after an error whoever catches it does.
 */
extern ErrorContextCallback *statement_hide(void);

#endif
