/*
 * clock.h
 *	  What time it is, which day it is in a zone, and Cobot's way to write both.
 *
 * A day is the number of days since 1970-01-01. Safe for any thread.
 */
#ifndef COBOT_TEST_CLOCK_H
#define COBOT_TEST_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define DAY_TEXT_SIZE 16
#define TIMESTAMP_TEXT_SIZE 40
#define DAY_NEVER INT32_MAX		/* later than every day */

/* Seconds since 1970, with fraction, moved by clock_set_shift(). */
extern double clock_now(void);
extern void clock_set_shift(double seconds);
extern double clock_shift(void);

/* Milliseconds that only ever grow, unmoved by anything. */
extern int64_t clock_steady_ms(void);

extern bool clock_zone_known(const char *zone);
extern int32_t clock_today(const char *zone);
extern double clock_offset_hours(const char *zone);

extern void day_write(int32_t day, char text[DAY_TEXT_SIZE]);	/* YYYY/MM/DD */

/* Reads YYYY/MM/DD or YYYY-MM-DD; what follows the date (a time) is not looked at. */
extern bool day_read(const char *text, int32_t *day);

/*
 * The first and the last second of the day, as check-ins count it, in which the
 * moment lies: from 04:00:00 to 03:59:59 of the next day, in the zone.
 */
extern void clock_day_around(const char *zone, int64_t moment, int64_t *first, int64_t *last);

/*
 * Reads a time: a date in one of the two forms above, then perhaps a blank or "T"
 * and HH:MM, perhaps with seconds (a fraction is dropped), then "Z" or an offset such as " +0200"; without
 * an offset it is UTC. A date alone is its midnight in the zone. NULL is no time.
 */
extern bool timestamp_read(const char *text, const char *zone, int64_t *seconds);

/* YYYY/MM/DD HH:MM:SS +0000 */
extern void timestamp_write(int64_t seconds, char text[TIMESTAMP_TEXT_SIZE]);

#endif
