/*
 * job.c
 *	  What every job of the worker needs: a context of its own, and transactions in which
 *	  it may work. Runs in the worker alone.
 *
 * The worker connects as the bootstrap superuser. Nothing that it writes may fire a
 * trigger with those rights, so its transactions switch to the owner of the tables, as
 * logical replication does, in a security-restricted operation; and where that is a
 * superuser, too, other people's functions do not run (trust.h).
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "job.h"
#include "query.h"
#include "smartspace_cobot.h"
#include "trust.h"

#define EXTENSION "smartspace_cobot"

Job *
job_create(const char *doing, int64 integration)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "smartspace_cobot job", ALLOCSET_DEFAULT_SIZES);
	Job		   *job = MemoryContextAllocZero(context, sizeof(Job));

	job->context = context;
	job->doing = doing;
	job->integration = integration;
	return job;
}

/*
 * DROP and ALTER EXTENSION take the same lock exclusively, so with it the extension is
 * there to stay until the transaction ends. Locks on tables would do that, too, but for
 * an oid that may be gone by then.
 */
static bool
lock_extension(void)
{
	Oid			oid = get_extension_oid(EXTENSION, true);

	if (!OidIsValid(oid))
		return false;
	LockDatabaseObject(ExtensionRelationId, oid, 0, AccessShareLock);
	return get_extension_oid(EXTENSION, true) == oid;
}

static Oid
owner_of_tables(void)
{
	Oid			table = get_relname_relid("cobot_integration", get_namespace_oid(SMARTSPACE_SCHEMA, false));
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "table \"%s.cobot_integration\" does not exist", SMARTSPACE_SCHEMA);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * Somebody's foreign key or trigger may be deferred. A restricted operation cannot have
 * such ones, and at the commit it would be too late to tell what they refuse.
 */
static void
defer_nothing(void)
{
	ConstraintsSetStmt *statement = makeNode(ConstraintsSetStmt);

	AfterTriggerSetState(statement);
}

bool
job_begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	if (!lock_extension())
	{
		CommitTransactionCommand();
		return false;
	}

	Oid			owner = owner_of_tables();

	trust_guard(owner);
	SetUserIdAndSecContext(owner, SECURITY_RESTRICTED_OPERATION);
	PushActiveSnapshot(GetTransactionSnapshot());
	defer_nothing();
	SPI_connect();
	query_forget_old_plans();
	return true;
}

/* Statistics are told at once: the worker may wait for long before it does something again. */
void
job_commit(void)
{
	SPI_finish();
	PopActiveSnapshot();
	SetUserIdAndSecContext(GetSessionUserId(), 0);
	CommitTransactionCommand();
	pgstat_report_stat(true);
}
