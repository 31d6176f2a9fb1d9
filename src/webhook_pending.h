/*
 * webhook_pending.h
 *	  The hints of webhooks that no synchronisation has seen to yet. All functions need a
 *	  connection to SPI; those that write, the lock of a run.
 */
#ifndef SMARTSPACE_WEBHOOK_PENDING_H
#define SMARTSPACE_WEBHOOK_PENDING_H

#include "datatype/timestamp.h"
#include "storage/lock.h"

/* One member of cobot_pending_hints(). */
typedef struct PendingMember
{
	char	   *cobot_id;		/* NULL: anybody */
	Datum		ids;			/* of the hints, bigint[] */
	bool		due;
} PendingMember;

typedef struct Pending
{
	PendingMember *member;
	int			count;
	bool		all_at_once;
	bool		due;			/* one of them, or all at once */
} Pending;

extern void webhook_look(int64 integration, Pending *pending);

/* Why the last run of the integration failed, palloc'd; NULL: it did not. */
extern char *webhook_last_failure(int64 integration);

/*
 * The member was fetched in a run that began then: its hints are settled, unless it
 * failed. Gives why it did, or NULL.
 */
extern char *webhook_settle_member(int64 integration, const PendingMember *member, TimestampTz started_at);

/* A fetch was broken off: not again within a minute. */
extern void webhook_note_failed(int64 integration, const PendingMember *member, TimestampTz started_at);

/* Forgets what a good run of the whole space has settled, and fetches that nobody asks about any more. */
extern void webhook_tidy(int64 integration);

/*
 * An integration with a hint that is due, which can be asked, and whose lock of a run is
 * free: takes the lock, and gives the member, in the current context. cobot_id NULL: all
 * at once.
 */
extern bool webhook_next_due(int64 *integration, PendingMember *member, LOCKTAG *lock);

/* When the first hint of an integration that can be asked is due; DT_NOEND: there is none. */
extern TimestampTz webhook_due(void);

#endif
