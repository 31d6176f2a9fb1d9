/*
 * record.h
 *	  Whole records from partial ones: every key that Cobot shows, with sensible
 *	  values where the test did not care; relative dates; merging.
 */
#ifndef COBOT_TEST_RECORD_H
#define COBOT_TEST_RECORD_H

#include "world.h"

/* Short ways to read a tree; NULL if missing or of another type. */
extern const char *record_text(const cJSON *object, const char *key);
extern cJSON *record_item(const cJSON *object, const char *key);

/* Whether a flag is on: true, or a number other than 0. */
extern bool record_flag(const cJSON *object, const char *key);

/* Adds the key unless it is there (null counts as there). Takes the value over. */
extern void record_default(cJSON *object, const char *key, cJSON *value);

/*
 * As RFC 7396, but null is a value: Cobot shows an empty key as null, and so can
 * a test. Returns the result; both arguments are taken over.
 */
extern cJSON *record_merge(cJSON *target, cJSON *patch);

/* Takes a key away, by a path such as "plan.parent_plan". */
extern void record_remove(cJSON *record, const char *path);

/*
 * Adds a record with only some of its keys ("id,name"). The record is JSON text as
 * cJSON or the generator write it, without white space.
 */
extern void record_copy_keys(const char *record, const char *keys, Text *out);

/*
 * "today", "today+10d", "today-400d", "today-3d 08:15" become Cobot's dates and
 * timestamps, anywhere in the tree.
 */
extern void record_resolve_dates(cJSON *tree, int32_t today);

/* Complete a partial record in place. */
extern void record_complete_space(cJSON *space, const char *subdomain, const char *id);
extern void record_complete_plan(cJSON *plan);
extern void record_complete_membership(cJSON *membership, const Space *space);

/* The private copy of a catalogue plan that a membership carries. */
extern cJSON *record_plan_copy(const cJSON *plan);

#endif
