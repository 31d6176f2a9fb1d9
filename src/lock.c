/*
 * lock.c
 *	  The heavyweight locks of this extension. Object locks on our own tables
 *	  rather than advisory locks, whose keys belong to the applications.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"

#include "lock.h"
#include "smartspace_cobot.h"

static Oid
table_oid(const char *table)
{
	Oid			oid = get_relname_relid(table, get_namespace_oid(SMARTSPACE_SCHEMA, false));

	if (!OidIsValid(oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s.%s\" does not exist", SMARTSPACE_SCHEMA, table)));
	return oid;
}

/*
 * Against TRUNCATE, which locks its table first and asks for our locks after
 * that: whoever has one of them must not come to such a table later. In the
 * order in which TRUNCATE ... CASCADE locks them.
 */
static void
lock_tables(void)
{
	static const char *const table[] = {
		"cobot_integration", "cobot_membership", "user_group", "user_group_assignment", "manual_grant"
	};

	for (int i = 0; i < (int) lengthof(table); i++)
		LockRelationOid(table_oid(table[i]), AccessShareLock);
}

/*
 * A lock tag for one number within one of our tables. The number is cut to 48
 * bits; two integrations that fall together would only wait for each other.
 */
static LOCKTAG
object_tag(const char *table, int64 number)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, table_oid(table), (uint32) number, (uint16) (number >> 32));
	return tag;
}

/*
 * A lock that a session may have beyond its transactions. Such ones must be user locks, as
 * advisory locks are: when a transaction aborts, the server drops all others of the
 * session, so that one job of the worker that fails would take away the locks of all.
 */
static LOCKTAG
session_tag(const char *table, int64 integration)
{
	LOCKTAG		tag = object_tag(table, integration);

	tag.locktag_lockmethodid = USER_LOCKMETHOD;
	return tag;
}

bool
lock_try_run(int64 integration)
{
	LOCKTAG		tag = session_tag("cobot_sync_run", integration);

	/*
	 * Already held means that this very transaction synchronised before, which
	 * is fine: statements of one session follow each other.
	 */
	return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

static bool
try_job(const char *table, int64 integration, LOCKTAG *tag)
{
	LockAcquireResult result;

	*tag = session_tag(table, integration);
	result = LockAcquire(tag, ExclusiveLock, true, true);
	/* another job of this process counts as somebody else */
	if (result == LOCKACQUIRE_ALREADY_HELD)
		lock_release(tag);
	return result == LOCKACQUIRE_OK;
}

bool
lock_try_run_job(int64 integration, LOCKTAG *tag)
{
	return try_job("cobot_sync_run", integration, tag);
}

bool
lock_try_delivery_job(int64 integration, LOCKTAG *tag)
{
	return try_job("cobot_checkin", integration, tag);
}

void
lock_release(const LOCKTAG *tag)
{
	(void) LockRelease(tag, ExclusiveLock, true);
}

void
lock_identifiers(bool exclusive)
{
	LOCKTAG		tag = object_tag("user_group", 0);

	lock_tables();
	(void) LockAcquire(&tag, exclusive ? ExclusiveLock : ShareLock, false, false);
}

void
lock_access(int64 integration)
{
	LOCKTAG		tag = object_tag("user_group_member", integration);

	lock_tables();
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

void
lock_subscriptions(int64 integration)
{
	LOCKTAG		tag = object_tag("cobot_webhook_subscription", integration);

	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}

void
lock_links(int64 integration)
{
	LOCKTAG		tag = object_tag("cobot_integration", integration);

	(void) LockAcquire(&tag, ExclusiveLock, false, false);
}
