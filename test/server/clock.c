/*
 * clock.c
 *	  What time it is, which day it is in a zone, and Cobot's way to write both.
 *
 * The C library knows one zone per process, so a zone is looked up by setting TZ
 * under a lock; what was found is kept for a quarter of an hour at most.
 */
#include "clock.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "map.h"
#include "text.h"

#define CHECK_IN_DAY_HOUR 4		/* when one day of check-ins ends and the next begins */

typedef struct Zone
{
	int32_t		today;
	double		offset_hours;
	double		from;			/* both hold in this time */
	double		until;
} Zone;

static pthread_mutex_t zone_lock = PTHREAD_MUTEX_INITIALIZER;
static Map zones;
static pthread_mutex_t shift_lock = PTHREAD_MUTEX_INITIALIZER;
static double shift_s;

void
clock_set_shift(double seconds)
{
	pthread_mutex_lock(&shift_lock);
	shift_s = seconds;
	pthread_mutex_unlock(&shift_lock);
}

double
clock_shift(void)
{
	double		shift;

	pthread_mutex_lock(&shift_lock);
	shift = shift_s;
	pthread_mutex_unlock(&shift_lock);
	return shift;
}

double
clock_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9 + clock_shift();
}

int64_t
clock_steady_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Days since 1970-01-01 of a date in the Gregorian calendar (months 1 to 12). */
static int32_t
day_from_civil(int year, int month, int day)
{
	int			y = month <= 2 ? year - 1 : year;
	int			era = (y >= 0 ? y : y - 399) / 400;
	int			year_of_era = y - era * 400;
	int			day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	int			day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

	return era * 146097 + day_of_era - 719468;
}

static void
civil_from_day(int32_t days, int *year, int *month, int *day)
{
	int			z = days + 719468;
	int			era = (z >= 0 ? z : z - 146096) / 146097;
	int			day_of_era = z - era * 146097;
	int			year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	int			day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	int			shifted_month = (5 * day_of_year + 2) / 153;

	*day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
	*month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;
	*year = year_of_era + era * 400 + (*month <= 2 ? 1 : 0);
}

bool
clock_zone_known(const char *zone)
{
	const char *directory = getenv("TZDIR");
	char	   *path;
	bool		known;

	if (zone == NULL || zone[0] == '\0' || zone[0] == '/' || strstr(zone, "..") != NULL)
		return false;
	path = text_printf("%s/%s", directory != NULL ? directory : "/usr/share/zoneinfo", zone);
	known = access(path, R_OK) == 0;
	free(path);
	return known;
}

/* For the C library's functions about local time. Wants the lock. */
static void
use_zone(const char *zone)
{
	char	   *value = text_printf(":%s", clock_zone_known(zone) ? zone : "UTC");

	setenv("TZ", value, 1);
	tzset();
	free(value);
}

static void
look_up(Zone *entry, const char *zone, time_t now)
{
	struct tm	local;
	struct tm	midnight = {0};

	use_zone(zone);
	localtime_r(&now, &local);
	entry->today = day_from_civil(local.tm_year + 1900, local.tm_mon + 1, local.tm_mday);
	entry->offset_hours = (double) local.tm_gmtoff / 3600;
	entry->from = (double) now;

	/* The offset may change at any hour, so what was found is not believed for long. */
	midnight.tm_year = local.tm_year;
	midnight.tm_mon = local.tm_mon;
	midnight.tm_mday = local.tm_mday + 1;
	midnight.tm_isdst = -1;
	entry->until = (double) mktime(&midnight);
	if (entry->until > entry->from + 900)
		entry->until = entry->from + 900 - (double) (now % 900);
	if (entry->until <= entry->from)
		entry->until = entry->from + 1; /* midnight does not exist on that day */
}

static Zone
zone_now(const char *zone)
{
	double		now = clock_now();
	Zone	   *entry;
	Zone		result;

	if (zone == NULL)
		zone = "UTC";
	pthread_mutex_lock(&zone_lock);
	entry = map_get(&zones, zone);
	if (entry == NULL)
	{
		entry = memory_zero(sizeof(Zone));
		map_set(&zones, zone, entry);
	}
	if (now < entry->from || now >= entry->until)
		look_up(entry, zone, (time_t) now);
	result = *entry;
	pthread_mutex_unlock(&zone_lock);
	return result;
}

int32_t
clock_today(const char *zone)
{
	return zone_now(zone).today;
}

double
clock_offset_hours(const char *zone)
{
	return zone_now(zone).offset_hours;
}

/* A time of the zone in use as seconds; the day may lie outside its month. */
static int64_t
from_local(int year, int month, int day, int hour, int minute, int second)
{
	struct tm	local = {0};

	local.tm_year = year;
	local.tm_mon = month;
	local.tm_mday = day;
	local.tm_hour = hour;
	local.tm_min = minute;
	local.tm_sec = second;
	local.tm_isdst = -1;
	return mktime(&local);
}

void
clock_day_around(const char *zone, int64_t moment, int64_t *first, int64_t *last)
{
	time_t		now = (time_t) moment;
	struct tm	local;
	int			day;

	pthread_mutex_lock(&zone_lock);
	use_zone(zone);
	localtime_r(&now, &local);
	day = local.tm_mday - (local.tm_hour < CHECK_IN_DAY_HOUR ? 1 : 0);
	*first = from_local(local.tm_year, local.tm_mon, day, CHECK_IN_DAY_HOUR, 0, 0);
	*last = from_local(local.tm_year, local.tm_mon, day + 1, CHECK_IN_DAY_HOUR, 0, 0) - 1;
	pthread_mutex_unlock(&zone_lock);
}

static int64_t
local_midnight(const char *zone, int32_t day)
{
	int			year,
				month,
				day_of_month;
	int64_t		midnight;

	civil_from_day(day, &year, &month, &day_of_month);
	pthread_mutex_lock(&zone_lock);
	use_zone(zone);
	midnight = from_local(year - 1900, month - 1, day_of_month, 0, 0, 0);
	pthread_mutex_unlock(&zone_lock);
	return midnight;
}

void
day_write(int32_t day, char text[DAY_TEXT_SIZE])
{
	int			year,
				month,
				day_of_month;

	civil_from_day(day, &year, &month, &day_of_month);
	snprintf(text, DAY_TEXT_SIZE, "%04d/%02d/%02d",
			 year % 10000, month % 100, day_of_month % 100);
}

bool
day_read(const char *text, int32_t *day)
{
	int			year,
				month,
				day_of_month;
	char		first,
				second;

	if (text == NULL ||
		sscanf(text, "%4d%c%2d%c%2d", &year, &first, &month, &second, &day_of_month) != 5 ||
		first != second || (first != '/' && first != '-') ||
		month < 1 || month > 12 || day_of_month < 1 || day_of_month > 31)
		return false;
	*day = day_from_civil(year, month, day_of_month);
	return true;
}

void
timestamp_write(int64_t seconds, char text[TIMESTAMP_TEXT_SIZE])
{
	int64_t		days = seconds >= 0 ? seconds / 86400 : -((86399 - seconds) / 86400);
	int			rest = (int) (seconds - days * 86400);
	char		date[DAY_TEXT_SIZE];

	day_write((int32_t) days, date);
	snprintf(text, TIMESTAMP_TEXT_SIZE, "%s %02d:%02d:%02d +0000",
			 date, rest / 3600, rest / 60 % 60, rest % 60);
}

/* "Z", "+0200", " +02:00", or nothing, which is UTC. */
static bool
offset_read(const char *text, int *seconds)
{
	char		sign[2];
	int			hours,
				minutes,
				used = 0;

	*seconds = 0;
	if (strcmp(text, "") == 0 || strcmp(text, "Z") == 0)
		return true;
	if (*text == ' ')
		text++;
	if ((sscanf(text, "%1[+-]%2d:%2d%n", sign, &hours, &minutes, &used) != 3 || text[used] != '\0') &&
		(sscanf(text, "%1[+-]%2d%2d%n", sign, &hours, &minutes, &used) != 3 || text[used] != '\0'))
		return false;
	*seconds = (hours * 3600 + minutes * 60) * (sign[0] == '-' ? -1 : 1);
	return true;
}

bool
timestamp_read(const char *text, const char *zone, int64_t *seconds)
{
	const char *rest;
	int32_t		day;
	int			hour,
				minute,
				second = 0,
				offset,
				used = 0;

	if (!day_read(text, &day) || strlen(text) < strlen("YYYY-MM-DD"))
		return false;
	rest = text + strlen("YYYY-MM-DD");
	if (*rest == '\0')
	{
		*seconds = local_midnight(zone, day);
		return true;
	}
	if ((*rest != ' ' && *rest != 'T') || sscanf(rest + 1, "%2d:%2d%n", &hour, &minute, &used) != 2)
		return false;
	rest += 1 + used;
	if (sscanf(rest, ":%2d%n", &second, &used) == 1)
		rest += used;
	if (*rest == '.')
		rest += 1 + strspn(rest + 1, "0123456789");
	if (hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60 ||
		!offset_read(rest, &offset))
		return false;
	*seconds = (int64_t) day * 86400 + hour * 3600 + minute * 60 + second - offset;
	return true;
}
