/*
 * fuzz.h
 *	  What the fuzz targets share: stating what must hold, texts made of the input, and
 *	  what holds for every message. See README.md.
 */
#ifndef SMARTSPACE_FUZZ_H
#define SMARTSPACE_FUZZ_H

#include "postgres_fe.h"

#include "mb/pg_wchar.h"

#include "json.h"

/* libFuzzer takes an abort for a finding and keeps the input. */
#define require(condition) \
	do { \
		if (!(condition)) \
		{ \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

/* The input, byte by byte. Zeros once it is used up. */
typedef struct FuzzInput
{
	const uint8_t *at;
	size_t		left;
} FuzzInput;

static inline uint8_t
fuzz_byte(FuzzInput *input)
{
	if (input->left == 0)
		return 0;
	input->left--;
	return *input->at++;
}

/* A number from 0 to limit - 1. */
static inline int
fuzz_below(FuzzInput *input, int limit)
{
	int			high = fuzz_byte(input);

	return (high << 8 | fuzz_byte(input)) % limit;
}

/* The input up to the next NUL byte, palloc'd to its very size, so that a read beyond its end shows. */
static inline char *
fuzz_text(FuzzInput *input)
{
	const uint8_t *end = input->left > 0 ? memchr(input->at, '\0', input->left) : NULL;
	size_t		length = end ? (size_t) (end - input->at) : input->left;
	char	   *text = palloc(length + 1);

	if (length > 0)
		memcpy(text, input->at, length);
	text[length] = '\0';
	input->at += length + (end ? 1 : 0);
	input->left -= length + (end ? 1 : 0);
	return text;
}

static inline bool
is_utf8(const char *text)
{
	return pg_encoding_verifymbstr(PG_UTF8, text, (int) strlen(text)) == (int) strlen(text);
}

static inline bool
has_control_character(const char *text)
{
	for (; *text != '\0'; text++)
	{
		if ((unsigned char) *text < ' ' || *text == 0x7F)
			return true;
	}
	return false;
}

/* What may stand in a log line. */
static inline void
require_line(const char *text)
{
	require(text[0] != '\0');
	require(is_utf8(text));
	require(!has_control_character(text));
}

/* What may be told of an answer that is not understood. */
static inline void
require_failure(const JsonError *error)
{
	require(is_utf8(error->path));
	require(!has_control_character(error->path));
	require_line(error->message);
}

/* The rules for ids in cobot_record.c. */
static inline bool
is_id(const char *text)
{
	return text[0] != '\0' && strlen(text) <= 200 && strcmp(text, ".") != 0 && strcmp(text, "..") != 0;
}

/* Everything that was palloc'd since the last time (arena.c). */
extern void arena_reset(void);

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
