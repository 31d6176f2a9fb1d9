/*
 * fuzz_date.c
 *	  Dates, timestamps and Retry-After: any text, which must read as what the C library's
 *	  calendar says and come back as it was; and days made of the input, in every form.
 */
#include "fuzz.h"

#include <time.h>

#include "cobot_record.h"
#include "cobot_url.h"

#define SECONDS_1970_TO_2000 INT64CONST(946684800)
#define RETRY_AFTER_LIMIT_S 86400

static struct tm
calendar(int64 seconds_of_2000)
{
	time_t		seconds = (time_t) (seconds_of_2000 + SECONDS_1970_TO_2000);
	struct tm	tm;

	gmtime_r(&seconds, &tm);
	return tm;
}

static int64
instant(struct tm *tm)
{
	return (int64) timegm(tm) - SECONDS_1970_TO_2000;
}

static void
check_any_date(const char *text)
{
	int32		days;
	char		again[32];

	if (!cobot_parse_date(text, &days))
		return;

	struct tm	tm = calendar(days * INT64CONST(86400));

	require(text[4] == '/' || text[4] == '-');
	snprintf(again, sizeof(again), "%04d%c%02d%c%02d", tm.tm_year + 1900, text[4], tm.tm_mon + 1, text[4], tm.tm_mday);
	require(strcmp(text, again) == 0);
}

static void
check_any_timestamp(const char *text)
{
	int64		microseconds;
	int64		again;
	char		written[64];

	if (!cobot_parse_timestamp(text, &microseconds))
		return;
	require(microseconds % 1000000 == 0);

	struct tm	tm = calendar(microseconds / 1000000);

	/* an offset may lead out of the years that are read */
	if (tm.tm_year < 0 || tm.tm_year > 8099)
		return;
	strftime(written, sizeof(written), "%Y-%m-%dT%H:%M:%SZ", &tm);
	require(cobot_parse_timestamp(written, &again) && again == microseconds);
}

static void
check_any_retry_after(const char *text, time_t now)
{
	int			wait_s = cobot_parse_retry_after(text, now);
	size_t		digits = strspn(text, "0123456789");

	require(wait_s >= -1 && wait_s <= RETRY_AFTER_LIMIT_S);
	if (digits > 0 && text[digits] == '\0')
		require(wait_s == (int) Min(strtoull(text, NULL, 10), RETRY_AFTER_LIMIT_S));
}

/* One moment, in all forms that Cobot and HTTP have. */
static void
check_moment(FuzzInput *input)
{
	struct tm	tm = {
		.tm_year = fuzz_below(input, 8100), .tm_mon = fuzz_below(input, 12), .tm_mday = 1 + fuzz_below(input, 31),
		.tm_hour = fuzz_below(input, 24), .tm_min = fuzz_below(input, 60), .tm_sec = fuzz_below(input, 60)
	};
	int			offset_min = fuzz_below(input, 16 * 60);
	bool		west = fuzz_byte(input) % 2;
	int			until_s = fuzz_below(input, 65536) - 1000;
	struct tm	asked = tm;
	int64		expected = instant(&tm);
	bool		exists = tm.tm_mday == asked.tm_mday;	/* the library turns February 30 into March */
	int32		days;
	int64		microseconds;
	char		text[64];

	snprintf(text, sizeof(text), "%04d/%02d/%02d", asked.tm_year + 1900, asked.tm_mon + 1, asked.tm_mday);
	require(cobot_parse_date(text, &days) == exists);
	if (!exists)
		return;
	require(days == (expected - (tm.tm_hour * 60 + tm.tm_min) * 60 - tm.tm_sec) / 86400);

	strftime(text, sizeof(text), "%Y/%m/%d %H:%M:%S", &tm);
	snprintf(text + 19, sizeof(text) - 19, " %c%02d%02d", west ? '-' : '+', offset_min / 60, offset_min % 60);
	require(cobot_parse_timestamp(text, &microseconds));
	require(microseconds == (expected + (west ? 60 : -60) * offset_min) * INT64CONST(1000000));

	strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
	require(cobot_parse_retry_after(text, (time_t) (expected + SECONDS_1970_TO_2000 - until_s)) == Max(until_s, 0));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput	input = {.at = data, .left = size};

	if (fuzz_byte(&input) % 2 == 0)
		check_moment(&input);
	else
	{
		const char *text = fuzz_text(&input);
		time_t		now = (time_t) (fuzz_below(&input, 65536) * INT64CONST(65536));

		check_any_date(text);
		check_any_timestamp(text);
		check_any_retry_after(text, now);
	}
	arena_reset();
	return 0;
}
