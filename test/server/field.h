/*
 * field.h
 *	  Custom fields: the definitions belong to the space, the values to its
 *	  members. Wants the world's lock.
 */
#ifndef COBOT_TEST_FIELD_H
#define COBOT_TEST_FIELD_H

#include "world.h"

/* The definitions, in order. Loads those of a generated space. */
extern Field *fields_list(Space *space, int *count);
extern Field *fields_find_id(Space *space, const char *id);
extern Field *fields_find_label(Space *space, const char *label);

/* As Cobot shows them; the caller owns the array. */
extern cJSON *fields_json(Space *space);

/*
 * Replaces the definitions by an array of {"id", "label"}. A field that is left
 * out is gone, with the values of every member. Without "id" a new one is made.
 */
extern void fields_replace(Space *space, const cJSON *definitions);
extern void fields_free(Space *space);

/* {"membership_id", "fields": [...]} of one member, as Cobot shows it. */
extern void fields_write_member(Space *space, int slot, Text *out);

/* value NULL takes it away. */
extern void fields_set_value(Space *space, int slot, const char *field_id, const char *value);
extern void fields_clear_values(Space *space, int slot);

/* {"label": "value", ...} of one member; the caller owns the object. */
extern cJSON *fields_values_by_label(Space *space, int slot);

#endif
