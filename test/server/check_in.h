/*
 * check_in.h
 *	  The check-ins of a space, and the tokens (cards, devices) by which members
 *	  check in. Wants the world's lock.
 */
#ifndef COBOT_TEST_CHECK_IN_H
#define COBOT_TEST_CHECK_IN_H

#include "world.h"

typedef struct CheckIn
{
	char	   *id;
	char	   *membership_id;
	int64_t		valid_from;
	int64_t		valid_until;
	char	   *time_pass_id;	/* or NULL */
} CheckIn;

/* Which ones a list is to hold: those that began from "from" on and before "to". */
typedef struct CheckInRange
{
	const char *membership_id;	/* NULL: everybody's */
	int64_t		from;
	int64_t		to;
} CheckInRange;

/* Everybody's, from all times. */
extern const CheckInRange every_check_in;

/* From now until the end of the space's day. Takes the id of the pass over. */
extern CheckIn *check_in_now(Space *space, const char *membership_id, char *time_pass_id);

/*
 * From {"membership_id", "id", "valid_from", "valid_until", "time_pass": {"id"}},
 * all but the first optional, with dates resolved. What is wrong with it, or NULL
 * and the new one.
 */
extern const char *check_in_put(Space *space, const cJSON *wanted, CheckIn **added);
extern CheckIn *check_in_find(const Space *space, const char *id);
extern void check_in_delete(Space *space, CheckIn *check_in);

/* A member's current one; NULL if there is none. */
extern CheckIn *check_in_current(const Space *space, const char *membership_id);

/* As Cobot shows them; the caller owns the trees. */
extern cJSON *check_in_json(const Space *space, const CheckIn *check_in);
extern cJSON *check_ins_json(const Space *space, const CheckInRange *range);

/* membership_id NULL: nobody's. The owner is NULL for unknown tokens. */
extern void check_in_token_set(Space *space, const char *token, const char *membership_id);
extern const char *check_in_token_owner(const Space *space, const char *token);

extern void check_ins_free(Space *space);

#endif
