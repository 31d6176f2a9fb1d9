/*
 * argument.c
 *	  Text arguments of SQL functions. Runs in the backend that calls.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "argument.h"

char *
argument_text(FunctionCallInfo fcinfo, int arg)
{
	return PG_ARGISNULL(arg) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(arg));
}

char *
argument_given_text(FunctionCallInfo fcinfo, int arg)
{
	char	   *value = argument_text(fcinfo, arg);

	return value && value[0] != '\0' ? value : NULL;
}

char *
argument_required_text(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the %s must not be null", name)));
	return argument_text(fcinfo, arg);
}
