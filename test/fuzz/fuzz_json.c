/*
 * fuzz_json.c
 *	  Any bytes as a body: what json_check() accepts, cJSON takes and gives back as it was;
 *	  the splitter accepts the same, and its slices are the elements of the array.
 */
#include "fuzz.h"

static const char *
skip_space(const char *at, const char *end)
{
	while (at < end && strchr(" \t\r\n", *at) != NULL && *at != '\0')
		at++;
	return at;
}

static void
check_round_trip(const cJSON *tree)
{
	JsonError	error;
	char	   *text = cJSON_PrintUnformatted(tree);

	require(text != NULL);
	/* with its digits before the exponent, a number may be printed with a larger one */
	require(json_check(text, strlen(text), &error) || strstr(error.message, "number out of range") != NULL);

	cJSON	   *again = json_parse(text, strlen(text), "", &error);
	char	   *text_again = cJSON_PrintUnformatted(again);

	require(text_again != NULL && strcmp(text, text_again) == 0);
	cJSON_free(text);
	cJSON_free(text_again);
	cJSON_Delete(again);
}

static void
check_element(const JsonElement *element, const cJSON *expected)
{
	JsonError	error;

	require(element->length > 0);
	require(json_check(element->text, element->length, &error));

	cJSON	   *tree = json_parse(element->text, element->length, "", &error);
	char	   *text = cJSON_PrintUnformatted(tree);
	char	   *expected_text = cJSON_PrintUnformatted(expected);
	const char *id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(expected, "id"));

	require(text != NULL && strcmp(text, expected_text) == 0);
	require(id == NULL || cJSON_IsObject(expected));
	require((id == NULL) == (element->id == NULL));
	require(id == NULL || strcmp(id, element->id) == 0);
	cJSON_free(text);
	cJSON_free(expected_text);
	cJSON_Delete(tree);
}

/* In order, inside of the body, with one comma and otherwise only blanks between them. */
static void
check_elements(const char *body, size_t length, const JsonArray *array, const cJSON *tree)
{
	const char *end = body + length;
	const char *at = skip_space(body, end);
	const cJSON *expected = tree->child;

	require(*at++ == '[');
	require(array->count == (size_t) cJSON_GetArraySize(tree));
	for (size_t i = 0; i < array->count; i++, expected = expected->next)
	{
		const JsonElement *element = &array->element[i];

		at = skip_space(at, end);
		if (i > 0)
		{
			require(at < end && *at == ',');
			at = skip_space(at + 1, end);
		}
		require(element->text == at);
		require(element->length <= (size_t) (end - at));
		at += element->length;
		check_element(element, expected);
	}
	at = skip_space(at, end);
	require(at < end && *at == ']');
	require(skip_space(at + 1, end) == end);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *body = (const char *) data;
	JsonError	error;
	JsonError	split_error;
	JsonArray	array;
	bool		good = json_check(body, size, &error);
	bool		split = json_split_array(body, size, "id", &array, &split_error);
	cJSON	   *tree = good ? json_parse(body, size, "", &error) : NULL;

	if (good)
	{
		require(tree != NULL);
		require(split == (cJSON_IsArray(tree) != 0));
		check_round_trip(tree);
	}
	else
	{
		require(!split);
		require(strcmp(error.message, split_error.message) == 0);
		require_line(error.message);
	}
	if (split)
		check_elements(body, size, &array, tree);
	cJSON_Delete(tree);
	json_free_array(&array);
	return 0;
}
