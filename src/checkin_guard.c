/*
 * checkin_guard.c
 *	  Rows that the database refuses to have written. Runs in the worker.
 *
 * A row that nobody can write cannot say so itself; so that it rests is known to this
 * process alone, and a new one finds it out again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "checkin_guard.h"

#define ROW_RESTS_MS 60000
#define INTEGRATION_RESTS_MS 5000

typedef struct Rest
{
	int64		id;
	TimestampTz until;
} Rest;

typedef struct RestList
{
	Rest	   *rest;
	int			count;
	int			capacity;
} RestList;

static RestList rows;
static RestList integrations;

/* ---- refusals ---- */

/* Not because of what was to be written: the next attempt may well succeed. */
static bool
is_about_the_server(int sqlstate)
{
	static const int categories[] = {
		ERRCODE_OPERATOR_INTERVENTION, ERRCODE_INSUFFICIENT_RESOURCES, ERRCODE_SYSTEM_ERROR, ERRCODE_TRANSACTION_ROLLBACK
	};

	for (int i = 0; i < (int) lengthof(categories); i++)
		if (ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_TO_CATEGORY(categories[i]))
			return true;
	return sqlstate == ERRCODE_LOCK_NOT_AVAILABLE;
}

bool
checkin_guard(void (*action) (void *arg), void *arg, const char **error)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile data = NULL;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		action(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		data = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;

	if (data == NULL)
		return true;
	if (is_about_the_server(data->sqlerrcode))
		ReThrowError(data);
	*error = data->message ? data->message : "unknown error";
	return false;
}

typedef struct Statement
{
	const char *sql;
	int			nargs;
	const QueryArg *args;
} Statement;

static void
run_statement(void *arg)
{
	Statement  *statement = arg;

	query_run(statement->sql, statement->nargs, statement->args);
}

bool
checkin_guard_query(const char *sql, int nargs, const QueryArg *args, const char **error)
{
	Statement	statement = {.sql = sql, .nargs = nargs, .args = args};

	return checkin_guard(run_statement, &statement, error);
}

typedef struct RowsAction
{
	Datum		ids;
	void		(*action) (Datum ids, void *arg);
	void	   *arg;
} RowsAction;

static void
run_action(void *arg)
{
	RowsAction *rows_action = arg;

	rows_action->action(rows_action->ids, rows_action->arg);
}

static Datum
array_of(Datum *ids, int count)
{
	return PointerGetDatum(construct_array(ids, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

void
checkin_guard_rows(Datum ids, void (*action) (Datum ids, void *arg), void *arg)
{
	RowsAction	rows_action = {.ids = ids, .action = action, .arg = arg};
	const char *error;
	Datum	   *id;
	int			count;

	if (checkin_guard(run_action, &rows_action, &error))
		return;
	deconstruct_array(DatumGetArrayTypeP(ids), INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &id, NULL, &count);
	for (int i = 0; i < count; i++)
	{
		rows_action.ids = array_of(&id[i], 1);
		if (!checkin_guard(run_action, &rows_action, &error))
			checkin_rest_row(DatumGetInt64(id[i]), error);
	}
}

/* ---- rests ---- */

/* Forgets those that are over. */
static void
tidy(RestList *list)
{
	TimestampTz now = GetCurrentTimestamp();
	int			left = 0;

	for (int i = 0; i < list->count; i++)
		if (list->rest[i].until > now)
			list->rest[left++] = list->rest[i];
	list->count = left;
}

static void
add(RestList *list, int64 id, long rest_ms)
{
	tidy(list);
	if (list->count == list->capacity)
	{
		int			capacity = Max(16, 2 * list->capacity);

		list->rest = list->rest ? repalloc(list->rest, sizeof(Rest) * capacity) :
			MemoryContextAlloc(TopMemoryContext, sizeof(Rest) * capacity);
		list->capacity = capacity;
	}
	list->rest[list->count++] = (Rest) {.id = id, .until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), rest_ms)};
}

void
checkin_rest_row(int64 id, const char *error)
{
	ereport(LOG,
			(errmsg("the database refuses a change of check-in %lld, which is left alone for a minute", (long long) id),
			 errdetail("%s", error)));
	add(&rows, id, ROW_RESTS_MS);
}

void
checkin_rest_integration(int64 integration)
{
	add(&integrations, integration, INTEGRATION_RESTS_MS);
}

static QueryArg
ids_of(RestList *list)
{
	tidy(list);

	Datum	   *ids = palloc_array(Datum, list->count + 1);

	for (int i = 0; i < list->count; i++)
		ids[i] = Int64GetDatum(list->rest[i].id);
	return query_value(INT8ARRAYOID, array_of(ids, list->count));
}

QueryArg
checkin_resting_rows(void)
{
	return ids_of(&rows);
}

QueryArg
checkin_resting_integrations(void)
{
	return ids_of(&integrations);
}

TimestampTz
checkin_rest_ends(void)
{
	RestList   *lists[] = {&rows, &integrations};
	TimestampTz first = DT_NOEND;

	for (int i = 0; i < (int) lengthof(lists); i++)
		for (int k = 0; k < lists[i]->count; k++)
			first = Min(first, lists[i]->rest[k].until);
	return first;
}
