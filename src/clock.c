/*
 * clock.c
 *	  The space's own calendar. Runs in the backend that synchronises or whose
 *	  statement changed a membership, an assignment or a switch.
 *
 * The rule (facts: a membership has a first day starts_at and a last day
 * canceled_to, both plain dates in the space's time zone; the vendor's sources
 * disagree whether access ends with canceled_to or before it, and we take the
 * side that locks nobody out a day early):
 *
 *	 not confirmed           no access
 *	 from                    midnight that begins starts_at; open without one
 *	 to                      midnight that ends canceled_to; open without one
 *	 canceled_to < starts_at no access
 *
 * Nothing else in this extension turns a membership's dates into moments.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/rangetypes.h"
#include "utils/typcache.h"

#include "clock.h"

PG_FUNCTION_INFO_V1(clock_access_range);

/* What a series of calls keeps, so that each looks up zone and type once. */
typedef struct ClockCache
{
	char		time_zone[TZ_STRLEN_MAX + 1];
	pg_tz	   *zone;
	TypeCacheEntry *range_type;
} ClockCache;

static pg_tz *
find_zone(const char *time_zone)
{
	pg_tz	   *zone = pg_tzset(time_zone);

	if (zone == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("time zone \"%s\" not recognized", time_zone),
				 errhint("The view pg_timezone_names lists the time zones that PostgreSQL knows.")));
	return zone;
}

bool
clock_zone_is_known(const char *time_zone)
{
	return strlen(time_zone) <= TZ_STRLEN_MAX && pg_tzset(time_zone) != NULL;
}

DateADT
clock_today(const char *time_zone)
{
	struct pg_tm tm;
	fsec_t		fsec;
	int			offset;

	if (timestamp2tm(GetCurrentTimestamp(), &offset, &tm, &fsec, NULL,
					 find_zone(time_zone ? time_zone : "UTC")) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return date2j(tm.tm_year, tm.tm_mon, tm.tm_mday) - POSTGRES_EPOCH_JDATE;
}

/*
 * The moment at which a day begins in a zone. Where daylight saving skips
 * midnight, DetermineTimeZoneOffset takes the offset before the gap, which
 * gives the first moment of that day; where midnight comes twice, it takes
 * standard time, the later one.
 */
static TimestampTz
day_begins(DateADT day, pg_tz *zone)
{
	struct pg_tm tm;
	TimestampTz result;

	memset(&tm, 0, sizeof(tm));
	j2date(day + POSTGRES_EPOCH_JDATE, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);

	int			offset = DetermineTimeZoneOffset(&tm, zone);

	if (tm2timestamp(&tm, 0, &offset, &result) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return result;
}

/*
 * cobot_access_range(confirmed_at timestamptz, starts_at date, canceled_to date,
 *					  time_zone text) -> tstzrange, or null for "never"
 *
 * An infinite date leaves its end open. A null zone means UTC.
 */
Datum
clock_access_range(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();

	ClockCache *cache = fcinfo->flinfo->fn_extra;

	if (cache == NULL)
	{
		cache = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(ClockCache));
		cache->range_type = lookup_type_cache(TSTZRANGEOID, TYPECACHE_RANGE_INFO);
		fcinfo->flinfo->fn_extra = cache;
	}

	char		name[TZ_STRLEN_MAX + 1] = "UTC";

	if (!PG_ARGISNULL(3))
		text_to_cstring_buffer(PG_GETARG_TEXT_PP(3), name, sizeof(name));
	if (cache->zone == NULL || strcmp(cache->time_zone, name) != 0)
	{
		cache->zone = find_zone(name);
		strlcpy(cache->time_zone, name, sizeof(cache->time_zone));
	}

	RangeBound	from = {.infinite = true, .inclusive = true, .lower = true};
	RangeBound	to = {.infinite = true, .inclusive = false, .lower = false};

	if (!PG_ARGISNULL(1) && !DATE_NOT_FINITE(PG_GETARG_DATEADT(1)))
	{
		from.infinite = false;
		from.val = TimestampTzGetDatum(day_begins(PG_GETARG_DATEADT(1), cache->zone));
	}
	if (!PG_ARGISNULL(2) && !DATE_NOT_FINITE(PG_GETARG_DATEADT(2)))
	{
		to.infinite = false;
		to.val = TimestampTzGetDatum(day_begins(PG_GETARG_DATEADT(2) + 1, cache->zone));
	}

	if (!from.infinite && !to.infinite &&
		DatumGetTimestampTz(from.val) >= DatumGetTimestampTz(to.val))
		PG_RETURN_NULL();

	if (from.infinite)
		from.inclusive = false;
	PG_RETURN_RANGE_P(make_range(cache->range_type, &from, &to, false));
}
