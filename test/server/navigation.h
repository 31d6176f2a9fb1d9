/*
 * navigation.h
 *	  Links that apps have put into a space's navigation. Wants the world's lock.
 *
 * They are an array in the state of the space, or NULL as long as there was none;
 * each element is as Cobot shows it plus what Cobot does not show.
 */
#ifndef COBOT_TEST_NAVIGATION_H
#define COBOT_TEST_NAVIGATION_H

#include "world.h"

/* admin/setup, admin/manage, admin/analyze or members; NULL is none of them. */
extern bool navigation_section_known(const char *section);

/* Takes over a link with what its app said about it; the rest is added. */
extern const cJSON *navigation_add(Space *space, const char *client_id, cJSON *link);

/* The link of this id; NULL if there is none. */
extern cJSON *navigation_find(const Space *space, const char *id);
extern void navigation_delete(Space *space, cJSON *link);

/* As Cobot shows those of one app, or of all for NULL; the caller owns the trees. */
extern cJSON *navigation_copy(const cJSON *link);
extern cJSON *navigation_list(const Space *space, const char *client_id);

extern bool navigation_belongs(const cJSON *link, const char *client_id);

#endif
