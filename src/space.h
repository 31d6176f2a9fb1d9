/*
 * space.h
 *	  What Cobot says about a space, and storing it with the integration.
 */
#ifndef SMARTSPACE_SPACE_H
#define SMARTSPACE_SPACE_H

#include "cobot_client.h"

/* Strings live as long as the tree they came from. */
typedef struct Space
{
	const char *id;
	const char *name;			/* may be NULL, like country and locale */
	const char *time_zone;
	bool		time_zone_known;	/* PostgreSQL knows it */
	const char *country;
	const char *locale;
} Space;

/* From what Cobot answers to cobot_ask_space(). NULL gives false and leaves the error as it is. */
extern bool space_read(const cJSON *tree, Space *space, JsonError *error);

/*
 * Stores what differs from the integration's row; a time zone that PostgreSQL
 * does not know leaves the one before it in force. The caller has connected to
 * SPI.
 */
extern void space_store(int64 integration, const Space *space);

#endif
