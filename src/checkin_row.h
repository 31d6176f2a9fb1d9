/*
 * checkin_row.h
 *	  The rows of cobot_checkin as a delivery works on them: what is claimed, what needs no
 *	  network, and how each ends. The caller is in a transaction of job_begin() and has the
 *	  lock of the integration's deliveries, so a row in state sending is an orphan. A row that
 *	  the database refuses to have written rests, and the others go on (checkin_guard.h).
 */
#ifndef SMARTSPACE_CHECKIN_ROW_H
#define SMARTSPACE_CHECKIN_ROW_H

#include "checkin_record.h"
#include "cobot_client.h"

typedef struct CheckinRow
{
	int64		id;
	const char *member;			/* Cobot's id */
	bool		sending;		/* it may have been sent, by a delivery that did not see the end */
	const char *reason;			/* of a sending row: what Cobot answered; NULL: nothing */
	const char *message;
	TimestampTz lost_at;		/* of a sending row: when it was known that the answer is lost */
	TimestampTz sent_at;		/* of a sending row */
	int			posts;
	bool		open;			/* this delivery has still to decide about it */
	bool		look_again;		/* it was sent, and the list has to say more */
	CobotCall  *call;			/* under way, or just settled */
} CheckinRow;

/*
 * Claims what is due, counted, and due again soon in case this process dies. Gives the
 * ids as an array in this context; 0 if nothing is due.
 */
extern Datum checkin_rows_claim(int64 integration, MemoryContext context);

/* Ends those for which it is too late, or that were taken up in vain too often. */
extern void checkin_rows_end_late(Datum ids);

/* Ends those that are not to be sent: the second of a member, members who are not active, switches. */
extern void checkin_rows_end_unwanted(Datum ids);

/* What is left of them, copied into this context. */
extern CheckinRow *checkin_rows_load(Datum ids, MemoryContext context, int *count);

/* Says why a delivery was broken off. */
extern void checkin_rows_say_error(Datum ids, const char *error);

/* The integration cannot be asked: everything waits, most of it until it is too late. */
extern void checkin_rows_cannot_ask(Datum ids, const char *reason);

/*
 * Marks rows as sending, if they may still be sent, and gives how many; those that may not
 * have row->open false then, and are looked at afresh by the next delivery. To be committed
 * before anything leaves.
 */
extern int	checkin_rows_mark(CheckinRow **rows, int count);

/* The end of one, with what Cobot has (NULL: nothing). Never throws for what Cobot said. */
extern void checkin_row_settle(CheckinRow *row, const char *state, const char *reason, const char *message,
							   const CheckinRecord *record);

/*
 * It was sent, and what became of it is to be read: now, and if that does not tell, once
 * Cobot has had its time to list it. The texts must live as long as the row.
 */
extern void checkin_row_note(CheckinRow *row, const char *reason, const char *message);

/* It waits until a list can be believed that does not have it. */
extern void checkin_row_wait_for_list(CheckinRow *row);

/* The list says that it was not made: as if it had never been sent, except that this is counted. */
extern void checkin_row_not_made(CheckinRow *row);

/*
 * Not now, for a reason that is not its own; not before a moment (0: after a back-off).
 * unsent: it was marked, and certainly had no effect.
 */
extern void checkin_row_put_back(CheckinRow *row, bool unsent, const char *reason, const char *message, TimestampTz not_before);

/* Nothing of the integration is due before this moment: Cobot's rate limit. */
extern void checkin_rows_put_off(int64 integration, TimestampTz until);

/* Deletes some of the history that is older than the retention. */
extern void checkin_rows_tidy(void);

#endif
