/*
 * webhook_pending.c
 *	  The hints of webhooks that no synchronisation has seen to yet: which are due, and
 *	  what settles them. The rules are cobot_pending_hints(), in SQL; see webhook.c.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "integration.h"
#include "lock.h"
#include "query.h"
#include "webhook_pending.h"

/* Somebody else synchronises the integration: look again then. */
#define LOCKED_AGAIN_MS 2000

void
webhook_look(int64 integration, Pending *pending)
{
	QueryArg	arg = query_int64(integration);

	pending->count = (int) query_run("SELECT p.cobot_id, p.ids, p.all_at_once, p.why IS NULL"
									 " FROM smartspace.cobot_pending_hints($1) p", 1, &arg);
	pending->member = palloc0(sizeof(PendingMember) * Max(pending->count, 1));
	pending->all_at_once = pending->due = false;
	for (int i = 0; i < pending->count; i++)
	{
		PendingMember *member = &pending->member[i];
		bool		isnull;

		member->cobot_id = query_result_text(i, 1);
		member->ids = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, &isnull);
		pending->all_at_once = query_result_bool(i, 3);
		member->due = query_result_bool(i, 4);
		pending->due |= member->due;
	}
}

char *
webhook_last_failure(int64 integration)
{
	QueryArg	arg = query_int64(integration);

	/* the lock of a run is the caller's, so the last run that was not skipped is their own */
	query_run("SELECT r.message FROM (SELECT r.result, r.reason, r.message FROM smartspace.cobot_sync_run r"
			  "  WHERE r.integration_id = $1 AND r.result <> 'skipped_locked' ORDER BY r.id DESC LIMIT 1) r"
			  " WHERE r.result IN ('failed', 'incomplete') OR r.reason = 'source_empty'", 1, &arg);
	return SPI_processed > 0 ? query_result_text(0, 1) : NULL;
}

static void
note_fetch(int64 integration, const PendingMember *member, TimestampTz started_at, bool failed)
{
	QueryArg	args[] = {
		query_int64(integration), query_text(member->cobot_id),
		query_value(TIMESTAMPTZOID, TimestampTzGetDatum(started_at)), query_bool(failed)
	};

	query_run("INSERT INTO smartspace.cobot_webhook_fetch AS f (integration_id, cobot_id, started_at, failed) VALUES ($1, $2, $3, $4)"
			  " ON CONFLICT (integration_id, cobot_id) DO UPDATE SET started_at = excluded.started_at, failed = excluded.failed",
			  lengthof(args), args);
}

char *
webhook_settle_member(int64 integration, const PendingMember *member, TimestampTz started_at)
{
	char	   *failure = webhook_last_failure(integration);
	QueryArg	ids = query_value(INT8ARRAYOID, member->ids);

	note_fetch(integration, member, started_at, failure != NULL);
	if (failure == NULL)
		query_run("DELETE FROM smartspace.cobot_webhook_hint h WHERE h.id = ANY ($1)", 1, &ids);
	return failure;
}

void
webhook_note_failed(int64 integration, const PendingMember *member, TimestampTz started_at)
{
	note_fetch(integration, member, started_at, true);
}

void
webhook_tidy(int64 integration)
{
	QueryArg	arg = query_int64(integration);

	query_run_kept("DELETE FROM smartspace.cobot_webhook_hint h WHERE h.integration_id = $1 AND h.received_at <"
				   " (SELECT r.started_at FROM smartspace.cobot_whole_run r WHERE r.integration_id = $1 AND r.good"
				   "  ORDER BY r.id DESC LIMIT 1)", 1, &arg);
	query_run_kept("DELETE FROM smartspace.cobot_webhook_fetch f WHERE f.integration_id = $1"
				   " AND f.started_at < pg_catalog.clock_timestamp() - interval '2 minutes'", 1, &arg);
}

/* The first that is due; false: none is. */
static bool
choose(const Pending *pending, PendingMember *member)
{
	for (int i = 0; i < pending->count; i++)
		if (pending->member[i].due)
		{
			*member = pending->member[i];
			if (pending->all_at_once)
				member->cobot_id = NULL;
			return true;
		}
	return false;
}

/* Integrations that have hints, by id; gives how many. */
static int
integrations_with_hints(int64 **ids)
{
	int			count = (int) query_run_kept("SELECT DISTINCT h.integration_id FROM smartspace.cobot_webhook_hint h", 0, NULL);

	*ids = palloc(sizeof(int64) * Max(count, 1));
	for (int i = 0; i < count; i++)
		(*ids)[i] = query_result_int64(i, 1);
	return count;
}

static bool
can_ask(int64 id)
{
	Integration integration;
	bool		can;

	integration_load(&integration, id, false);
	can = integration_can_ask(&integration);
	integration_wipe(&integration);
	return can;
}

bool
webhook_next_due(int64 *integration, PendingMember *member, LOCKTAG *lock)
{
	int64	   *ids;
	int			count = integrations_with_hints(&ids);

	for (int i = 0; i < count; i++)
	{
		Pending		pending;

		webhook_look(ids[i], &pending);
		if (!choose(&pending, member) || !can_ask(ids[i]) || !lock_try_run_job(ids[i], lock))
			continue;
		*integration = ids[i];
		return true;
	}
	return false;
}

TimestampTz
webhook_due(void)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz due = DT_NOEND;
	int64	   *ids;
	int			count = integrations_with_hints(&ids);

	for (int i = 0; i < count; i++)
	{
		QueryArg	arg = query_int64(ids[i]);

		if (!can_ask(ids[i]))
			continue;
		/* what is due and was not taken up is locked */
		query_run("SELECT p.not_before FROM smartspace.cobot_pending_hints($1) p", 1, &arg);
		for (uint64 j = 0; j < SPI_processed; j++)
			due = Min(due, Max(query_result_int64(j, 1), TimestampTzPlusMilliseconds(now, LOCKED_AGAIN_MS)));
	}
	return due;
}
