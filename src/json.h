/*
 * json.h
 *	  cJSON held safely. Knows nothing of HTTP or SQL.
 *
 * Server-free: uses malloc, never palloc and never ereport, so that it can be
 * fuzzed and unit-tested without a server (it links against libpgcommon for
 * the UTF-8 check). Every function that can fail returns false and fills a
 * JsonError.
 *
 * Why more than cJSON: cJSON accepts invalid UTF-8, ends strings silently at
 * \u0000, ignores trailing bytes and recurses up to 1,000 levels. And its tree
 * takes about five times the text's size, so a list of records is first split
 * into its elements (json_split_array) and then parsed one element at a time.
 */
#ifndef SMARTSPACE_JSON_H
#define SMARTSPACE_JSON_H

#include <cjson/cJSON.h>

#define JSON_DEPTH_LIMIT 32

typedef struct JsonError
{
	char		path[192];		/* "memberships[17].plan.name"; "" for the document */
	char		message[192];	/* "is a number, expected a string" */
} JsonError;

/* One element of a top-level array: a slice of the body, which must outlive it. */
typedef struct JsonElement
{
	const char *text;
	size_t		length;
	const char *id;				/* value of id_key, unescaped and malloc'd; NULL if absent or no string */
} JsonElement;

typedef struct JsonArray
{
	JsonElement *element;		/* malloc'd */
	size_t		count;
} JsonArray;

/*
 * Checks a whole body before anything else touches it: valid UTF-8, no NUL
 * byte and no \u0000, no unescaped control characters in strings, valid escapes
 * and surrogate pairs, the grammar to the letter, depth <= JSON_DEPTH_LIMIT,
 * numbers that cJSON can hold (at most 63 characters, exponent within 200),
 * exactly one value and nothing but white space around it.
 */
extern bool json_check(const char *body, size_t length, JsonError *error);

/*
 * Parses one whole document (or one element of an array). The text must have
 * passed json_check() or json_split_array(). The result is owned by the caller:
 * cJSON_Delete().
 */
extern cJSON *json_parse(const char *text, size_t length, const char *where, JsonError *error);

/*
 * json_check() plus: the value is an array. Splits it into its elements without
 * building a tree; for each element that is an object, the value of the first
 * id_key at the object's own level is given as its id, if it is a string. One
 * pass over the text. Free with json_free_array(), also after failure.
 */
extern bool json_split_array(const char *body, size_t length, const char *id_key,
							 JsonArray *array, JsonError *error);
extern void json_free_array(JsonArray *array);

/*
 * Looks up a dotted path ("plan.parent_plan.id"), case-sensitive; of keys that
 * stand there twice the first counts. A key that is missing, or null on the
 * way, gives *found = NULL and true; a null at the end of the path is found as
 * such. A step through something that is neither object nor null is an error
 * naming the path.
 */
extern bool json_find(const cJSON *object, const char *where, const char *path,
					  const cJSON **found, JsonError *error);

/* The string at a path; NULL or absent gives *present = false. where is the prefix for error paths. */
extern bool json_get_string(const cJSON *object, const char *where, const char *path,
							const char **value, bool *present, JsonError *error);

/*
 * Fills error; path = where + "." + path. Returns false, for "return json_fail(...)".
 * (Not pg_attribute_printf: clang does not know the gnu_printf of a server built with gcc.)
 */
extern bool json_fail(JsonError *error, const char *where, const char *path,
					  const char *format,...) __attribute__((format(printf, 4, 5)));

/* What a value is, in words: "a number", "an object", "null". */
extern const char *json_type_name(const cJSON *value);

#endif
