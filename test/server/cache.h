/*
 * cache.h
 *	  Serialised answers that stay right until their space changes or its day
 *	  ends. Wants the world's lock. What was used longest ago is dropped when the
 *	  bodies exceed a limit.
 */
#ifndef COBOT_TEST_CACHE_H
#define COBOT_TEST_CACHE_H

#include "body.h"
#include "world.h"

/* NULL if there is none; else the caller holds a reference. */
extern Body *cache_get(const Space *space, const char *what);

/* Keeps a reference of its own. */
extern void cache_put(const Space *space, const char *what, Body *body);
extern void cache_clear(void);

#endif
