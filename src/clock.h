/*
 * clock.h
 *	  The space's own calendar: time zones, today, and the one rule that says
 *	  when a membership gives access.
 */
#ifndef SMARTSPACE_CLOCK_H
#define SMARTSPACE_CLOCK_H

#include "utils/date.h"
#include "utils/timestamp.h"

/* True if PostgreSQL knows this time zone name. Does not throw. */
extern bool clock_zone_is_known(const char *time_zone);

/* The day it is now in a time zone (NULL: UTC). Throws for an unknown zone. */
extern DateADT clock_today(const char *time_zone);

#endif
