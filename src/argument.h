/*
 * argument.h
 *	  Text arguments of SQL functions, as C strings in the current memory context.
 */
#ifndef SMARTSPACE_ARGUMENT_H
#define SMARTSPACE_ARGUMENT_H

#include "fmgr.h"

/* NULL for an SQL null. */
extern char *argument_text(FunctionCallInfo fcinfo, int arg);

/*
 * What a request of a browser brought: NULL also for "", which web frameworks give for a
 * parameter that is not there.
 */
extern char *argument_given_text(FunctionCallInfo fcinfo, int arg);

/* Throws 22004 for an SQL null: "the NAME must not be null". */
extern char *argument_required_text(FunctionCallInfo fcinfo, int arg, const char *name);

#endif
