/*
 * time_pass.h
 *	  The time passes of members: each check-in on a plan that has passes uses one
 *	  up. Wants the world's lock.
 *
 * As long as nothing happened, a member has as many as the first pass of the
 * plan says are included, and nothing is stored.
 */
#ifndef COBOT_TEST_TIME_PASS_H
#define COBOT_TEST_TIME_PASS_H

#include "world.h"

/* Whether a member's copy of a plan asks for a pass at each check-in. */
extern bool time_passes_needed(const cJSON *plan);

extern int	time_passes_unused(const Space *space, const char *membership_id, const cJSON *plan);
extern void time_passes_set(Space *space, const char *membership_id, const cJSON *plan, int unused);

/* Whether the number was set or changed by check-ins. */
extern bool time_passes_are_stored(const Space *space, const char *membership_id);

/* Uses one up: its id, which the caller frees, or NULL if none is left. */
extern char *time_pass_use(Space *space, const char *membership_id, const cJSON *plan);

/* Adds the unused ones to an array, as Cobot shows them. */
extern void time_passes_list(const Space *space, const char *membership_id, const cJSON *plan, cJSON *array);

extern void time_passes_free(Space *space);

#endif
