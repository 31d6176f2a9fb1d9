/*
 * tap.h
 *	  The least that a C test needs to speak TAP. One test program per process.
 */
#ifndef SMARTSPACE_TAP_H
#define SMARTSPACE_TAP_H

static int	tap_count = 0;
static int	tap_failures = 0;

/* One test result. Gives back whether it was good, for diagnostics. */
static inline bool
__attribute__((format(printf, 2, 3)))
ok(bool good, const char *format,...)
{
	va_list		arguments;

	printf("%s %d - ", good ? "ok" : "not ok", ++tap_count);
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	if (!good)
		tap_failures++;
	return good;
}

/* Two texts that must be the same; NULL is a value of its own. */
static inline void
is_text(const char *got, const char *expected, const char *name)
{
	bool		same = got == NULL || expected == NULL ? got == expected : strcmp(got, expected) == 0;

	if (!ok(same, "%s", name))
		printf("#      got: %s\n# expected: %s\n",
			   got != NULL ? got : "(null)", expected != NULL ? expected : "(null)");
}

static inline int
done_testing(void)
{
	printf("1..%d\n", tap_count);
	return tap_failures == 0 ? 0 : 1;
}

#endif
