/*
 * wake.c
 *	  Wakes the worker of this database at commit. Runs in any backend.
 *
 * The callback for the end of transactions is registered once per process: it stays
 * registered for ever, and one for each transaction would make a long session slower and
 * slower.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "miscadmin.h"

#include "shared.h"
#include "wake.h"

PG_FUNCTION_INFO_V1(wake_worker);

static bool registered = false;
static bool wanted = false;

/* Of this database, found while the transaction could still look; an oid would not outlive DROP and CREATE DATABASE. */
static char database_name[NAMEDATALEN];

static void
wake_now(void)
{
	shared_lock();
	for (int i = 0; i < shared->database_count; i++)
	{
		SharedDatabase *database = &shared->database[i];

		if (strcmp(database->name, database_name) != 0)
			continue;
		database->woken = true;
		if (database->worker_pid != 0)
			shared_wake(database->worker_procno);
		else if (shared->launcher_pid != 0)
			shared_wake(shared->launcher_procno);
	}
	shared_unlock();
}

static void
at_end_of_transaction(XactEvent event, void *arg pg_attribute_unused())
{
	if (!wanted)
		return;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			wanted = false;
			wake_now();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			/* whoever commits what was prepared does not know; it is found when something is due next */
			wanted = false;
			break;
		default:
			break;
	}
}

static void
learn_name(void)
{
	char	   *name = get_database_name(MyDatabaseId);

	strlcpy(database_name, name ? name : "", sizeof(database_name));
	if (name)
		pfree(name);
}

void
wake_at_commit(void)
{
	if (shared == NULL || wanted)
		return;
	if (!registered)
		RegisterXactCallback(at_end_of_transaction, NULL);
	registered = true;
	learn_name();
	wanted = true;
}

bool
wake_has_worker(void)
{
	bool		found = false;

	if (shared == NULL)
		return false;
	learn_name();
	shared_lock();
	for (int i = 0; i < shared->database_count && shared->launcher_pid != 0; i++)
		found |= strcmp(shared->database[i].name, database_name) == 0;
	shared_unlock();
	return found;
}

/*
 * cobot_wake_worker() -> boolean, whether there is one
 */
Datum
wake_worker(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	wake_at_commit();
	PG_RETURN_BOOL(wake_has_worker());
}
