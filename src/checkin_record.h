/*
 * checkin_record.h
 *	  What Cobot says about check-ins. Knows nothing of HTTP or SQL; needs no server.
 *	  Everything is palloc'd.
 */
#ifndef SMARTSPACE_CHECKIN_RECORD_H
#define SMARTSPACE_CHECKIN_RECORD_H

#include "cobot_record.h"
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

/*
 * The record in the body that a check-in was answered with, which is empty or has passed
 * json_check(). False: it says nothing, or is another member's.
 */
extern bool checkin_read_answer(const char *body, size_t length, const char *member, CheckinRecord *record);

/*
 * Adds what a list brought; begin with a list of zeros. False, with an error, if
 * there is a record of which not even the member is known: then no absence can be believed.
 */
extern bool checkin_read_list(const JsonArray *elements, CheckinList *list, JsonError *error);

/* A record of the member that is current, or that began since a moment. NULL: none. */
extern const CheckinRecord *checkin_find_current(const CheckinList *list, const char *member, TimestampTz now);
extern const CheckinRecord *checkin_find_since(const CheckinList *list, const char *member, TimestampTz since);

/* True if a record of the member could not be read. */
extern bool checkin_is_unclear(const CheckinList *list, const char *member);

/*
 * Why Cobot refused: its own words, from either form of the answer that it is known to use;
 * one line of at most 200 bytes. The body may be anything.
 */
extern char *checkin_refusal(const char *body, size_t length, long status);

#endif
