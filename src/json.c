/*
 * json.c
 *	  cJSON held safely: parsing, paths, typed getters and their errors (the
 *	  scanner is in json_scan.c). Runs in any process, also in one without a
 *	  server: malloc only, nothing is thrown.
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include "mb/pg_wchar.h"

#include "json.h"

/*
 * Cuts text that may have lost the end of its last UTF-8 character to
 * vsnprintf: half a character must not reach a log or a client.
 */
static void
drop_partial_character(char *text)
{
	int			length = (int) strlen(text);

	text[pg_encoding_verifymbstr(PG_UTF8, text, length)] = '\0';
}

bool
json_fail(JsonError *error, const char *where, const char *path, const char *format,...)
{
	bool		dot = where[0] != '\0' && path[0] != '\0' && path[0] != '[';
	va_list		arguments;

	snprintf(error->path, sizeof(error->path), "%s%s%s", where, dot ? "." : "", path);
	drop_partial_character(error->path);

	va_start(arguments, format);
	vsnprintf(error->message, sizeof(error->message), format, arguments);
	va_end(arguments);
	drop_partial_character(error->message);
	return false;
}

const char *
json_type_name(const cJSON *value)
{
	if (cJSON_IsNull(value))
		return "null";
	if (cJSON_IsBool(value))
		return "a boolean";
	if (cJSON_IsNumber(value))
		return "a number";
	if (cJSON_IsString(value))
		return "a string";
	if (cJSON_IsArray(value))
		return "an array";
	if (cJSON_IsObject(value))
		return "an object";
	return "of an unknown type";
}

/*
 * cJSON's own check for trailing bytes wants a NUL behind the text, which a
 * slice of a body does not have; so we look at where it stopped.
 */
cJSON *
json_parse(const char *text, size_t length, const char *where, JsonError *error)
{
	const char *end = text;
	cJSON	   *value = cJSON_ParseWithLengthOpts(text, length, &end, false);

	if (value == NULL)
	{
		json_fail(error, where, "", "could not be parsed: malformed or out of memory");
		return NULL;
	}
	while (end < text + length && strchr(" \t\r\n", *end) != NULL && *end != '\0')
		end++;
	if (end != text + length)
	{
		json_fail(error, where, "", "goes on after the end of its value at byte %zu",
				  (size_t) (end - text) + 1);
		cJSON_Delete(value);
		return NULL;
	}
	return value;
}

/*
 * First child of that name. Not cJSON_GetObjectItemCaseSensitive(), because the
 * name is one step of a path and has no NUL behind it.
 */
static const cJSON *
find_child(const cJSON *object, const char *name, size_t length)
{
	for (const cJSON *child = object->child; child != NULL; child = child->next)
	{
		if (strncmp(child->string, name, length) == 0 && child->string[length] == '\0')
			return child;
	}
	return NULL;
}

bool
json_find(const cJSON *object, const char *where, const char *path,
		  const cJSON **found, JsonError *error)
{
	const char *step = path;

	*found = NULL;
	for (;;)
	{
		size_t		length = strcspn(step, ".");

		if (cJSON_IsNull(object))
			return true;
		if (!cJSON_IsObject(object))
		{
			char		parent[sizeof(error->path)];
			size_t		parent_length = step == path ? 0 : (size_t) (step - path) - 1;

			snprintf(parent, sizeof(parent), "%.*s", (int) parent_length, path);
			return json_fail(error, where, parent, "is %s, expected an object", json_type_name(object));
		}
		object = find_child(object, step, length);
		if (object == NULL)
			return true;
		step += length;
		if (*step == '\0')
			break;
		step++;
	}
	*found = object;
	return true;
}

bool
json_get_string(const cJSON *object, const char *where, const char *path,
				const char **value, bool *present, JsonError *error)
{
	const cJSON *found;

	*value = NULL;
	*present = false;
	if (!json_find(object, where, path, &found, error))
		return false;
	if (found == NULL || cJSON_IsNull(found))
		return true;
	if (!cJSON_IsString(found))
		return json_fail(error, where, path, "is %s, expected a string", json_type_name(found));
	*value = found->valuestring;
	*present = true;
	return true;
}
