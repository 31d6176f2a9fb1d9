/*
 * checkin_record.h
 *	  What Cobot says about check-ins. Knows nothing of SQL; everything is palloc'd.
 */
#ifndef SMARTSPACE_CHECKIN_RECORD_H
#define SMARTSPACE_CHECKIN_RECORD_H

#include "cobot_client.h"
#include "datatype/timestamp.h"

/* Missing moments are DT_NOBEGIN (valid_from) and DT_NOEND (valid_until). */
typedef struct CheckinRecord
{
	const char *id;				/* NULL: Cobot gave none */
	const char *member;
	const char *time_pass_id;	/* NULL: no pass was used up */
	TimestampTz valid_from;
	TimestampTz valid_until;
} CheckinRecord;

typedef struct CheckinList
{
	CheckinRecord *record;
	int			count;
	const char **unclear;		/* members with a record that could not be read */
	int			unclear_count;
} CheckinList;

/* The record that a check-in was answered with. False: it says nothing, or is another member's. */
extern bool checkin_read_answer(CobotCall *call, const char *member, CheckinRecord *record);

/*
 * Adds what a call for a list brought; begin with a list of zeros. False, with an error, if
 * there is a record of which not even the member is known: then no absence can be believed.
 */
extern bool checkin_read_list(CobotCall *call, CheckinList *list, JsonError *error);

/* A record of the member that is current, or that began since a moment. NULL: none. */
extern const CheckinRecord *checkin_find_current(const CheckinList *list, const char *member, TimestampTz now);
extern const CheckinRecord *checkin_find_since(const CheckinList *list, const char *member, TimestampTz since);

/* True if a record of the member could not be read. */
extern bool checkin_is_unclear(const CheckinList *list, const char *member);

/* Why Cobot refused: its own words, from either form of the answer that it is known to use. */
extern char *checkin_refusal(const CobotCall *call);

#endif
