/*
 * trust.c
 *	  Refuses to run other people's functions with the rights of the extension's owner.
 *	  In every process that has loaded the library; it does nothing outside of the
 *	  extension's own functions and the worker.
 *
 * The hooks are those for security modules. needs_hook() is asked before a function is
 * called for the first time or put into a statement in the place of its call, and not asked
 * about functions that are SECURITY DEFINER or have settings: those come by around_call().
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "smartspace_cobot.h"
#include "trust.h"

/*
 * A function that runs and that is SECURITY DEFINER or has settings, and as whom. Functions of
 * the extension that are not SECURITY DEFINER run for whoever called them, and are left out.
 */
typedef struct Call
{
	Oid			function;
	Oid			role;
	bool		is_own;			/* of the extension */
	Oid			caller;			/* of own ones: whose call it is */
	Oid			called;			/* of own ones: the function that this caller called */
} Call;

static Call *calls = NULL;
static int	call_count = 0;
static int	call_capacity = 0;

static Oid	worker_role = InvalidOid;

/*
 * The statement in which the library was loaded, if that was inside of a SECURITY DEFINER
 * function: one written in SQL, which nobody announced, by whoever called it. 0: none.
 */
static TimestampTz unseen_in = 0;

static needs_fmgr_hook_type next_needs_hook = NULL;
static fmgr_hook_type next_around_call = NULL;

/* Whose rights are to be guarded now, if they are those of the current user. */
static bool
is_guarded(void)
{
	Oid			role = worker_role;

	for (int i = call_count - 1; i >= 0; i--)
	{
		if (!calls[i].is_own)
			continue;
		role = calls[i].role;
		break;
	}
	return OidIsValid(role) && GetUserId() == role;
}

/* "trigger "x" of table "y" would run ", if some trigger calls it directly; otherwise nothing. */
static char *
find_trigger(Oid function)
{
	Relation	triggers = table_open(TriggerRelationId, AccessShareLock);
	TableScanDesc scan = table_beginscan_catalog(triggers, 0, NULL);
	HeapTuple	tuple;
	char	   *words = pstrdup("");

	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_trigger trigger = (Form_pg_trigger) GETSTRUCT(tuple);

		if (trigger->tgfoid != function || get_rel_namespace(trigger->tgrelid) != get_namespace_oid(SMARTSPACE_SCHEMA, true))
			continue;
		words = psprintf("trigger \"%s\" of table \"%s.%s\" would run ", NameStr(trigger->tgname),
						 SMARTSPACE_SCHEMA, get_rel_name(trigger->tgrelid));
		break;
	}
	table_endscan(scan);
	table_close(triggers, AccessShareLock);
	return words;
}

static void
refuse(Oid function, Oid owner)
{
	char	   *trigger = find_trigger(function);

	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("%sfunction %s of role \"%s\" %swith the rights of \"%s\"", trigger, format_procedure_qualified(function),
					GetUserNameFromId(owner, true), trigger[0] ? "" : "would run ", GetUserNameFromId(GetUserId(), true)),
			 errhint("Drop the trigger, or make the function SECURITY DEFINER, or change its owner.")));
}

static void
check(Oid function)
{
	HeapTuple	tuple;
	Oid			owner;

	/* the server's own are older than any role */
	if (function < FirstNormalObjectId || !is_guarded())
		return;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		return;
	owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
	ReleaseSysCache(tuple);
	if (!has_privs_of_role(owner, GetUserId()))
		refuse(function, owner);
}

static bool
needs_hook(Oid function)
{
	check(function);
	return next_needs_hook != NULL && next_needs_hook(function);
}

/*
 * Who calls a function of the extension with no other one below it on the stack. Not known is
 * who is behind an expression of somebody's index or view, or behind somebody's function that
 * began before the library was loaded.
 */
static Oid
outermost_caller(Oid function)
{
	if (InSecurityRestrictedOperation() || !compat_may_execute(function, GetOuterUserId()))
		return InvalidOid;
	return GetOuterUserId();
}

static void
enter(Oid function, bool is_own)
{
	Call	   *below = call_count > 0 ? &calls[call_count - 1] : NULL;
	Call		call = {.function = function, .role = GetUserId(), .is_own = is_own};

	if (is_own)
	{
		bool		inherits = below && below->is_own;

		call.caller = inherits ? below->caller : below ? below->role : outermost_caller(function);
		call.called = inherits ? below->called : function;
	}
	if (call_count == call_capacity)
	{
		int			capacity = Max(8, 2 * call_capacity);

		calls = calls ? repalloc(calls, sizeof(Call) * capacity) : MemoryContextAlloc(TopMemoryContext, sizeof(Call) * capacity);
		call_capacity = capacity;
	}
	calls[call_count++] = call;
}

static void
enter_unless_transparent(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	bool		is_own;
	bool		is_definer;

	if (!HeapTupleIsValid(tuple))
		return;
	is_own = ((Form_pg_proc) GETSTRUCT(tuple))->pronamespace == get_namespace_oid(SMARTSPACE_SCHEMA, true);
	is_definer = ((Form_pg_proc) GETSTRUCT(tuple))->prosecdef;
	ReleaseSysCache(tuple);
	if (is_definer || !is_own)
		enter(function, is_own);
}

/* Before and after each call of a function that is SECURITY DEFINER, as its owner by then, or has settings. */
static void
around_call(FmgrHookEventType event, FmgrInfo *function, Datum *arg)
{
	if (event == FHET_START)
	{
		check(function->fn_oid);
		enter_unless_transparent(function->fn_oid);
	}
	else if (call_count > 0 && calls[call_count - 1].function == function->fn_oid)
		call_count--;
	if (next_around_call != NULL)
		next_around_call(event, function, arg);
}

/* cobot_sees(), which all may call who may look. */
static Oid
looking_function(void)
{
	Oid			types[] = {INT8OID, BOOLOID};
	List	   *name = list_make2(makeString(SMARTSPACE_SCHEMA), makeString("cobot_sees"));

	return LookupFuncName(name, lengthof(types), types, false);
}

Oid
trust_caller(Oid *function)
{
	const Call *top = call_count > 0 ? &calls[call_count - 1] : NULL;

	/* only functions for those who look are written in SQL, so whoever looks may as well have called it */
	if (top == NULL && unseen_in == GetCurrentStatementStartTimestamp() && GetUserId() != GetOuterUserId())
	{
		*function = InvalidOid;
		return outermost_caller(looking_function());
	}
	if (top == NULL || !top->is_own || GetUserId() != top->role)
	{
		*function = InvalidOid;
		return GetUserId();
	}
	*function = top->called;
	return top->caller;
}

void
trust_install(void)
{
	if (IsTransactionState() && GetUserId() != GetOuterUserId())
		unseen_in = GetCurrentStatementStartTimestamp();
	next_needs_hook = needs_fmgr_hook;
	needs_fmgr_hook = needs_hook;
	next_around_call = fmgr_hook;
	fmgr_hook = around_call;
}

void
trust_guard(Oid role)
{
	worker_role = role;
}
