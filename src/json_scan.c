/*
 * json_scan.c
 *	  The strict scanner that every body passes before cJSON sees it, and the
 *	  splitter for lists of records (json_check and json_split_array of json.h).
 *	  Runs in any process, also in one without a server: malloc only, nothing is
 *	  thrown.
 *
 * The scanner is stricter than cJSON, so that whatever it accepts means the
 * same to both: cJSON takes control characters for white space, accepts numbers
 * such as 012, and stops reading a number after 63 characters. It keeps its own
 * small stack instead of recursing, so a hostile body costs no stack.
 *
 * Positions in messages count bytes from 1; a body that was cut off is reported
 * with the number of bytes that arrived.
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "mb/pg_wchar.h"

#include "json.h"

/* cJSON copies a number into a buffer of 64 bytes. */
#define NUMBER_LIMIT_BYTES 63

/* With at most 63 digits before it, a number with this exponent is still finite and not zero. */
#define EXPONENT_LIMIT 200

typedef enum ScanState
{
	WANT_VALUE,
	WANT_VALUE_OR_END,			/* just after [ */
	WANT_KEY,
	WANT_KEY_OR_END,			/* just after { */
	WANT_COLON,
	AFTER_VALUE
} ScanState;

/* The inside of a string, as it stands in the text. */
typedef struct JsonSlice
{
	const char *text;
	size_t		length;
	bool		escaped;		/* contains a backslash */
} JsonSlice;

typedef struct Scanner
{
	const char *start;
	const char *at;
	const char *end;
	JsonError  *error;
	ScanState	state;
	int			depth;
	char		closing[JSON_DEPTH_LIMIT];	/* the bracket that ends each open level */

	/* json_split_array() only */
	JsonArray  *array;			/* NULL for json_check() */
	size_t		capacity;
	const char *id_key;
	bool		id_seen;		/* this element had its id_key: first wins, as in cJSON */
	bool		id_next;		/* the value that follows is the element's id */
} Scanner;

static bool
fail_at(Scanner *scan, const char *at, const char *what)
{
	return json_fail(scan->error, "", "", "%s at byte %zu", what, (size_t) (at - scan->start) + 1);
}

static bool
fail_ends_in(Scanner *scan, const char *what)
{
	return json_fail(scan->error, "", "", "ends in the middle of %s at byte %zu",
					 what, (size_t) (scan->end - scan->start));
}

/* What may stand at this point, for messages. */
static const char *
expected_now(const Scanner *scan)
{
	switch (scan->state)
	{
		case WANT_VALUE:
			return "a value";
		case WANT_VALUE_OR_END:
			return "a value or ']'";
		case WANT_KEY:
			return "a key";
		case WANT_KEY_OR_END:
			return "a key or '}'";
		case WANT_COLON:
			return "':'";
		case AFTER_VALUE:
			break;
	}
	return scan->closing[scan->depth - 1] == '}' ? "',' or '}'" : "',' or ']'";
}

static bool
fail_unexpected(Scanner *scan)
{
	size_t		position = scan->at - scan->start;

	if (scan->at >= scan->end)
		return json_fail(scan->error, "", "", "ends at byte %zu, where %s was expected",
						 position, expected_now(scan));

	unsigned char found = (unsigned char) *scan->at;

	if (found > ' ' && found < 0x7F)
		return json_fail(scan->error, "", "", "has '%c' at byte %zu, where %s was expected",
						 found, position + 1, expected_now(scan));
	return json_fail(scan->error, "", "", "has the byte 0x%02x at byte %zu, where %s was expected",
					 found, position + 1, expected_now(scan));
}

static const char *
skip_space(const char *at, const char *end)
{
	while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t'))
		at++;
	return at;
}

/*
 * First byte from at on that ends a run of plain string content: a quote, a
 * backslash or a control character. Eight bytes at a time, because nearly all
 * bytes of a body are inside strings. *ascii tells whether all of the run is.
 */
static const char *
skip_plain(const char *at, const char *end, bool *ascii)
{
	const uint64 ones = UINT64CONST(0x0101010101010101);
	const uint64 tops = UINT64CONST(0x8080808080808080);
	uint64		seen = 0;

	while (end - at >= 8)
	{
		uint64		word;

		memcpy(&word, at, 8);

		uint64		quote = word ^ (ones * '"');
		uint64		backslash = word ^ (ones * '\\');

		/* x - 1 borrows into the top bit only where x was 0; likewise x - 0x20 below 0x20 */
		if ((((quote - ones) & ~quote) | ((backslash - ones) & ~backslash) |
			 ((word - ones * 0x20) & ~word)) & tops)
			break;
		seen |= word;
		at += 8;
	}
	seen &= tops;
	for (; at < end; at++)
	{
		unsigned char c = (unsigned char) *at;

		if (c < 0x20 || c == '"' || c == '\\')
			break;
		seen |= c & 0x80;
	}
	*ascii = (seen == 0);
	return at;
}

/* Four hex digits; -1 if they are none, -2 if the text ends before. */
static int
scan_hex4(const char *at, const char *end)
{
	int			code = 0;

	for (int i = 0; i < 4; i++)
	{
		if (at + i >= end)
			return -2;

		char		c = at[i];

		if (c >= '0' && c <= '9')
			code = code * 16 + (c - '0');
		else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
			code = code * 16 + ((c | 0x20) - 'a' + 10);
		else
			return -1;
	}
	return code;
}

/*
 * An escape, with scan->at on its backslash; leaves scan->at behind it. A
 * surrogate pair is taken as the one character it is.
 */
static bool
scan_escape(Scanner *scan)
{
	const char *at = scan->at;

	if (at + 1 >= scan->end)
		return fail_ends_in(scan, "a string");
	if (at[1] != 'u')
	{
		if (at[1] == '\0' || strchr("\"\\/bfnrt", at[1]) == NULL)
			return fail_at(scan, at, "has an invalid escape");
		scan->at += 2;
		return true;
	}

	int			code = scan_hex4(at + 2, scan->end);

	if (code == -2)
		return fail_ends_in(scan, "a string");
	if (code == -1)
		return fail_at(scan, at, "has an invalid escape");
	if (code == 0)
		return fail_at(scan, at, "has the character \\u0000, which text cannot hold,");
	scan->at += 6;
	if (code >= 0xD800 && code <= 0xDFFF)
	{
		const char *low = at + 6;

		if (low >= scan->end || (low[0] == '\\' && low + 1 >= scan->end))
			return fail_ends_in(scan, "a string");

		int			low_code = (code < 0xDC00 && low[0] == '\\' && low[1] == 'u') ?
			scan_hex4(low + 2, scan->end) : -1;

		if (low_code == -2)
			return fail_ends_in(scan, "a string");
		if (low_code < 0xDC00 || low_code > 0xDFFF)
			return fail_at(scan, at, "has half a surrogate pair");
		scan->at += 6;
	}
	return true;
}

/* A string, with scan->at on its opening quote; leaves scan->at behind the closing one. */
static bool
scan_string(Scanner *scan, JsonSlice *slice)
{
	slice->text = ++scan->at;
	slice->escaped = false;
	for (;;)
	{
		const char *run = scan->at;
		bool		ascii;

		scan->at = skip_plain(run, scan->end, &ascii);
		if (scan->at >= scan->end)
			return fail_ends_in(scan, "a string");
		if (!ascii)
		{
			int			length = (int) (scan->at - run);
			int			valid = pg_encoding_verifymbstr(PG_UTF8, run, length);

			if (valid < length)
				return fail_at(scan, run + valid, "is not valid UTF-8");
		}
		if (*scan->at == '"')
			break;
		if (*scan->at != '\\')
			return fail_at(scan, scan->at, *scan->at == '\0' ? "has a NUL byte in a string" :
						   "has an unescaped control character in a string");
		slice->escaped = true;
		if (!scan_escape(scan))
			return false;
	}
	slice->length = scan->at - slice->text;
	scan->at++;
	return true;
}

/* One digit or more; leaves scan->at behind them. */
static bool
scan_digits(Scanner *scan, const char *number)
{
	const char *digits = scan->at;

	while (scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9')
		scan->at++;
	if (scan->at > digits)
		return true;
	return scan->at == scan->end ? fail_ends_in(scan, "a number") :
		fail_at(scan, number, "has an invalid number");
}

static bool
exponent_too_large(const char *digits, const char *end)
{
	int			exponent = 0;

	for (; digits < end && exponent <= EXPONENT_LIMIT; digits++)
		exponent = exponent * 10 + (*digits - '0');
	return exponent > EXPONENT_LIMIT;
}

static bool
scan_number(Scanner *scan)
{
	const char *number = scan->at;

	if (*scan->at == '-')
		scan->at++;

	const char *digits = scan->at;

	if (!scan_digits(scan, number))
		return false;
	if (*digits == '0' && scan->at > digits + 1)
		return fail_at(scan, number, "has a number with leading zeros");
	if (scan->at < scan->end && *scan->at == '.')
	{
		scan->at++;
		if (!scan_digits(scan, number))
			return false;
	}
	if (scan->at < scan->end && (*scan->at == 'e' || *scan->at == 'E'))
	{
		scan->at++;
		if (scan->at < scan->end && (*scan->at == '+' || *scan->at == '-'))
			scan->at++;
		digits = scan->at;
		if (!scan_digits(scan, number))
			return false;
		if (exponent_too_large(digits, scan->at))
			return fail_at(scan, number, "has a number out of range");
	}
	if (scan->at - number > NUMBER_LIMIT_BYTES)
		return fail_at(scan, number, "has a number of too many digits");
	return true;
}

static bool
scan_word(Scanner *scan, const char *word)
{
	size_t		length = strlen(word);
	size_t		left = scan->end - scan->at;

	if (left < length && memcmp(scan->at, word, left) == 0)
		return fail_ends_in(scan, word);
	if (left < length || memcmp(scan->at, word, length) != 0)
		return fail_unexpected(scan);
	scan->at += length;
	return true;
}

/* The string that a slice stands for, malloc'd; NULL if out of memory. */
static char *
slice_to_string(const JsonSlice *slice)
{
	char	   *string = NULL;

	if (!slice->escaped)
	{
		string = malloc(slice->length + 1);
		if (string != NULL)
		{
			memcpy(string, slice->text, slice->length);
			string[slice->length] = '\0';
		}
		return string;
	}

	/* with its quotes it is a document of its own, which cJSON knows how to unescape */
	cJSON	   *value = cJSON_ParseWithLengthOpts(slice->text - 1, slice->length + 2, NULL, false);

	if (value != NULL && value->valuestring != NULL)
		string = strdup(value->valuestring);
	cJSON_Delete(value);
	return string;
}

/* Does the key just read lead to the id of the element being split off? */
static bool
note_id_key(Scanner *scan, const JsonSlice *key)
{
	bool		matches;

	if (key->escaped)
	{
		char	   *name = slice_to_string(key);

		if (name == NULL)
			return json_fail(scan->error, "", "", "could not be split: out of memory");
		matches = strcmp(name, scan->id_key) == 0;
		free(name);
	}
	else
		matches = strncmp(key->text, scan->id_key, key->length) == 0 &&
			scan->id_key[key->length] == '\0';

	scan->id_next = matches;
	scan->id_seen |= matches;
	return true;
}

static bool
scan_key(Scanner *scan)
{
	JsonSlice	key;

	if (*scan->at != '"')
		return fail_unexpected(scan);
	if (!scan_string(scan, &key))
		return false;
	scan->at = skip_space(scan->at, scan->end);
	scan->state = WANT_COLON;
	if (scan->at >= scan->end || *scan->at != ':')
		return fail_unexpected(scan);
	scan->at++;
	scan->state = WANT_VALUE;

	if (scan->array != NULL && !scan->id_seen && scan->depth == 2 && scan->closing[0] == ']')
		return note_id_key(scan, &key);
	return true;
}

/* Is the value at hand an element of the array being split? */
static bool
at_element(const Scanner *scan)
{
	return scan->array != NULL && scan->depth == 1 && scan->closing[0] == ']';
}

static bool
begin_element(Scanner *scan)
{
	JsonArray  *array = scan->array;

	if (array->count == scan->capacity)
	{
		size_t		capacity = scan->capacity == 0 ? 64 : scan->capacity * 2;
		JsonElement *grown = realloc(array->element, capacity * sizeof(JsonElement));

		if (grown == NULL)
			return json_fail(scan->error, "", "", "could not be split: out of memory");
		array->element = grown;
		scan->capacity = capacity;
	}
	array->element[array->count++] = (JsonElement) {.text = scan->at};
	scan->id_seen = false;
	return true;
}

static void
end_value(Scanner *scan)
{
	scan->state = AFTER_VALUE;
	if (at_element(scan))
	{
		JsonElement *element = &scan->array->element[scan->array->count - 1];

		element->length = scan->at - element->text;
	}
}

static bool
open_level(Scanner *scan, char closing, ScanState state)
{
	if (scan->depth == JSON_DEPTH_LIMIT)
		return fail_at(scan, scan->at, "is nested more than " CppAsString2(JSON_DEPTH_LIMIT) " levels deep");
	scan->closing[scan->depth++] = closing;
	scan->state = state;
	scan->at++;
	return true;
}

static bool
scan_string_value(Scanner *scan, bool is_id)
{
	JsonSlice	slice;

	if (!scan_string(scan, &slice))
		return false;
	if (is_id)
	{
		const char *id = slice_to_string(&slice);

		if (id == NULL)
			return json_fail(scan->error, "", "", "could not be split: out of memory");
		scan->array->element[scan->array->count - 1].id = id;
	}
	return true;
}

static bool
scan_value(Scanner *scan)
{
	bool		is_id = scan->id_next;
	bool		good;

	scan->id_next = false;
	if (at_element(scan) && !begin_element(scan))
		return false;
	switch (*scan->at)
	{
		case '{':
			return open_level(scan, '}', WANT_KEY_OR_END);
		case '[':
			return open_level(scan, ']', WANT_VALUE_OR_END);
		case '"':
			good = scan_string_value(scan, is_id);
			break;
		case 't':
			good = scan_word(scan, "true");
			break;
		case 'f':
			good = scan_word(scan, "false");
			break;
		case 'n':
			good = scan_word(scan, "null");
			break;
		default:
			if (*scan->at != '-' && (*scan->at < '0' || *scan->at > '9'))
				return fail_unexpected(scan);
			good = scan_number(scan);
	}
	if (good)
		end_value(scan);
	return good;
}

/* One token: a bracket, a comma, a key with its colon, or a value that is not nested. */
static bool
scan_token(Scanner *scan)
{
	char		closing = scan->depth > 0 ? scan->closing[scan->depth - 1] : '\0';

	if (scan->at >= scan->end)
		return fail_unexpected(scan);
	if (*scan->at == closing && scan->state != WANT_VALUE && scan->state != WANT_KEY)
	{
		scan->at++;
		scan->depth--;
		end_value(scan);
		return true;
	}
	switch (scan->state)
	{
		case WANT_KEY:
		case WANT_KEY_OR_END:
			return scan_key(scan);
		case AFTER_VALUE:
			if (*scan->at != ',')
				return fail_unexpected(scan);
			scan->at++;
			scan->state = closing == '}' ? WANT_KEY : WANT_VALUE;
			return true;
		default:
			return scan_value(scan);
	}
}

static bool
scan_document(Scanner *scan)
{
	if (scan->end - scan->start > PG_INT32_MAX)
		return json_fail(scan->error, "", "", "is larger than 2 GB");
	scan->at = skip_space(scan->start, scan->end);
	if (scan->at == scan->end)
		return json_fail(scan->error, "", "", "is empty");
	do
	{
		if (!scan_token(scan))
			return false;
		scan->at = skip_space(scan->at, scan->end);
	} while (scan->depth > 0);
	if (scan->at < scan->end)
		return fail_at(scan, scan->at, "goes on after the end of its value");
	return true;
}

bool
json_check(const char *body, size_t length, JsonError *error)
{
	Scanner		scan = {.start = body, .end = body + length, .error = error, .state = WANT_VALUE};

	return scan_document(&scan);
}

bool
json_split_array(const char *body, size_t length, const char *id_key,
				 JsonArray *array, JsonError *error)
{
	Scanner		scan = {.start = body, .end = body + length, .error = error, .state = WANT_VALUE,
	.array = array, .id_key = id_key};

	*array = (JsonArray) {0};
	if (!scan_document(&scan))
		return false;
	if (*skip_space(body, scan.end) != '[')
		return json_fail(error, "", "", "is not an array");
	return true;
}

void
json_free_array(JsonArray *array)
{
	for (size_t i = 0; i < array->count; i++)
		free(unconstify(char *, array->element[i].id));
	free(array->element);
	*array = (JsonArray) {0};
}
