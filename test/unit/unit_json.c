/*
 * unit_json.c
 *	  What json.h promises: which texts are accepted, how lists are split, and
 *	  what a DBA reads about the rest.
 *
 * Every text is copied into a block of exactly its size, without a NUL behind
 * it, so that the address sanitizer sees a read beyond the end.
 */
#include "postgres_fe.h"

#include "mb/pg_wchar.h"

#include "json.h"
#include "tap.h"

#define TEXT(literal) (literal), sizeof(literal) - 1

static char *
exact_copy(const char *text, size_t length)
{
	char	   *copy = malloc(length > 0 ? length : 1);

	if (length > 0)
		memcpy(copy, text, length);
	return copy;
}

/* Accepted by us, and then by cJSON, too, up to the same byte. */
static void
accepts(const char *text, size_t length, const char *name)
{
	char	   *body = exact_copy(text, length);
	JsonError	error = {"", ""};
	bool		good = json_check(body, length, &error);
	cJSON	   *value = good ? json_parse(body, length, "", &error) : NULL;

	if (!ok(value != NULL, "accepted: %s", name))
		printf("# %s\n", error.message);
	cJSON_Delete(value);
	free(body);
}

static void
refuses(const char *text, size_t length, const char *message, const char *name)
{
	char	   *body = exact_copy(text, length);
	char		label[256];
	JsonError	error = {"", "accepted"};
	JsonError	split_error = {"", "accepted"};
	JsonArray	array;
	bool		accepted = json_check(body, length, &error);

	snprintf(label, sizeof(label), "refused: %s", name);
	is_text(accepted ? "accepted" : error.message, message, label);

	accepted = json_split_array(body, length, "id", &array, &split_error);
	snprintf(label, sizeof(label), "refused by the splitter, in the same words: %s", name);
	is_text(accepted ? "accepted" : split_error.message, message, label);
	json_free_array(&array);
	free(body);
}

static void
test_grammar(void)
{
	accepts(TEXT("{}"), "empty object");
	accepts(TEXT("[]"), "empty array");
	accepts(TEXT(" \t\r\n[ ] \n"), "white space around");
	accepts(TEXT("\"text\""), "a bare string");
	accepts(TEXT("0"), "a bare number");
	accepts(TEXT("null"), "a bare word");
	accepts(TEXT("[1,-0,0.5,-12.25e+3,1E-7,10e0]"), "numbers");
	accepts(TEXT("[true,false,null]"), "words");
	accepts(TEXT("{\"a\":{\"b\":[{},[]]},\"a\":1,\"\":2}"), "nesting, duplicate and empty keys");
	accepts(TEXT("[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"]"), "every escape");
	accepts(TEXT("{ \"a\" : [ 1 , 2 ] , \"b\" : { } }"), "white space between tokens");
	accepts(TEXT("[1e200]"), "the largest exponent");
	accepts(TEXT("[1e000000200]"), "an exponent with leading zeros");
	accepts(TEXT("[123456789012345678901234567890123456789012345678901234567890123]"),
			"a number of 63 digits");

	refuses(TEXT(""), "is empty", "nothing");
	refuses(TEXT(" \n\t "), "is empty", "white space alone");
	refuses(TEXT("<!DOCTYPE html>"), "has '<' at byte 1, where a value was expected", "HTML");
	refuses(TEXT("[1,]"), "has ']' at byte 4, where a value was expected", "comma before ]");
	refuses(TEXT("[,1]"), "has ',' at byte 2, where a value or ']' was expected", "comma after [");
	refuses(TEXT("[1 2]"), "has '2' at byte 4, where ',' or ']' was expected", "missing comma");
	refuses(TEXT("[1}"), "has '}' at byte 3, where ',' or ']' was expected", "wrong bracket for [");
	refuses(TEXT("{\"a\":1]"), "has ']' at byte 7, where ',' or '}' was expected", "wrong bracket for {");
	refuses(TEXT("{\"a\":1,}"), "has '}' at byte 8, where a key was expected", "comma before }");
	refuses(TEXT("{a:1}"), "has 'a' at byte 2, where a key or '}' was expected", "unquoted key");
	refuses(TEXT("{\"a\" 1}"), "has '1' at byte 6, where ':' was expected", "missing colon");
	refuses(TEXT("{\"a\"}"), "has '}' at byte 5, where ':' was expected", "key alone");
	refuses(TEXT("{\"a\":}"), "has '}' at byte 6, where a value was expected", "colon without a value");
	refuses(TEXT("]"), "has ']' at byte 1, where a value was expected", "closing bracket alone");
	refuses(TEXT("[nul]"), "has 'n' at byte 2, where a value or ']' was expected", "misspelt word");
	refuses(TEXT("[nullnull]"), "has 'n' at byte 6, where ',' or ']' was expected", "two words in one");
	refuses(TEXT("[True]"), "has 'T' at byte 2, where a value or ']' was expected", "word in upper case");
	refuses(TEXT("['a']"), "has ''' at byte 2, where a value or ']' was expected", "single quotes");
	refuses(TEXT("[1] // x"), "goes on after the end of its value at byte 5", "comment");
	refuses(TEXT("[\v1]"), "has the byte 0x0b at byte 2, where a value or ']' was expected",
			"vertical tab for white space, which cJSON would take");
	refuses(TEXT("\xEF\xBB\xBF[]"), "has the byte 0xef at byte 1, where a value was expected",
			"byte order mark, which cJSON would skip");
	refuses(TEXT("[1]\0"), "goes on after the end of its value at byte 4", "NUL byte after the end");
	refuses(TEXT("[1][2]"), "goes on after the end of its value at byte 4", "two values");
	refuses(TEXT("{}x"), "goes on after the end of its value at byte 3", "trailing byte");
	refuses(TEXT("1 2"), "goes on after the end of its value at byte 3", "two bare values");
}

static void
test_numbers(void)
{
	refuses(TEXT("[012]"), "has a number with leading zeros at byte 2", "leading zero");
	refuses(TEXT("[-012]"), "has a number with leading zeros at byte 2", "leading zero after the sign");
	refuses(TEXT("[+1]"), "has '+' at byte 2, where a value or ']' was expected", "plus sign");
	refuses(TEXT("[-]"), "has an invalid number at byte 2", "sign alone");
	refuses(TEXT("[1.]"), "has an invalid number at byte 2", "no digit after the point");
	refuses(TEXT("[.5]"), "has '.' at byte 2, where a value or ']' was expected", "no digit before the point");
	refuses(TEXT("[1e]"), "has an invalid number at byte 2", "no digit in the exponent");
	refuses(TEXT("[1e+]"), "has an invalid number at byte 2", "no digit after the exponent's sign");
	refuses(TEXT("[0x10]"), "has 'x' at byte 3, where ',' or ']' was expected", "hexadecimal");
	refuses(TEXT("[NaN]"), "has 'N' at byte 2, where a value or ']' was expected", "NaN");
	refuses(TEXT("[1e400]"), "has a number out of range at byte 2", "1e400, which cJSON makes infinite");
	refuses(TEXT("[1e-400]"), "has a number out of range at byte 2", "1e-400, which cJSON makes zero");
	refuses(TEXT("[1e99999999999999999999]"), "has a number out of range at byte 2", "huge exponent");
	refuses(TEXT("[1234567890123456789012345678901234567890123456789012345678901234]"),
			"has a number of too many digits at byte 2", "a number of 64 digits");
	refuses(TEXT("-"), "ends in the middle of a number at byte 1", "cut after the sign");
	refuses(TEXT("[1."), "ends in the middle of a number at byte 3", "cut after the point");
	refuses(TEXT("[1e"), "ends in the middle of a number at byte 3", "cut in the exponent");
}

static void
test_strings(void)
{
	accepts(TEXT("[\"caf\xC3\xA9 \xE6\x9D\x8E \xF0\x9F\x9A\x80\"]"), "UTF-8 of two, three and four bytes");
	accepts(TEXT("[\"\\ud83d\\ude80 \\uD83D\\uDE80\"]"), "surrogate pairs");
	accepts(TEXT("[\"\x7F\"]"), "DEL is no control character in JSON");

	refuses(TEXT("[\"a\xFF\"]"), "is not valid UTF-8 at byte 4", "byte 0xFF");
	refuses(TEXT("[\"\xE9t\xE9\"]"), "is not valid UTF-8 at byte 3", "Latin-1");
	refuses(TEXT("[\"\x80\"]"), "is not valid UTF-8 at byte 3", "continuation byte alone");
	refuses(TEXT("[\"\xC3\"]"), "is not valid UTF-8 at byte 3", "character cut by the quote");
	refuses(TEXT("[\"\xC0\xAF\"]"), "is not valid UTF-8 at byte 3", "overlong slash");
	refuses(TEXT("[\"\xE0\x80\xAF\"]"), "is not valid UTF-8 at byte 3", "overlong in three bytes");
	refuses(TEXT("[\"\xED\xA0\x80\"]"), "is not valid UTF-8 at byte 3", "surrogate as UTF-8");
	refuses(TEXT("[\"\xF4\x90\x80\x80\"]"), "is not valid UTF-8 at byte 3", "beyond U+10FFFF");
	refuses(TEXT("[\"12345678901234567890\xFF""12345678901234567890\"]"),
			"is not valid UTF-8 at byte 23", "in the middle of a long string");
	refuses(TEXT("{\"\xFF\":1}"), "is not valid UTF-8 at byte 3", "in a key");
	refuses(TEXT("[\xC3\xA9]"), "has the byte 0xc3 at byte 2, where a value or ']' was expected",
			"UTF-8 outside a string");

	refuses(TEXT("[\"a\0b\"]"), "has a NUL byte in a string at byte 4", "NUL byte in a string");
	refuses(TEXT("[\0]"), "has the byte 0x00 at byte 2, where a value or ']' was expected",
			"NUL byte between tokens");
	refuses(TEXT("[\"a\nb\"]"), "has an unescaped control character in a string at byte 4", "raw newline");
	refuses(TEXT("[\"1234567\x1F\"]"), "has an unescaped control character in a string at byte 10",
			"raw control character as the eighth byte");
	refuses(TEXT("[\"a\\u0000b\"]"),
			"has the character \\u0000, which text cannot hold, at byte 4", "\\u0000");
	refuses(TEXT("[\"\\x41\"]"), "has an invalid escape at byte 3", "\\x");
	refuses(TEXT("[\"\\\0\"]"), "has an invalid escape at byte 3", "backslash before a NUL byte");
	refuses(TEXT("[\"\\u12g4\"]"), "has an invalid escape at byte 3", "bad hex digit");
	refuses(TEXT("[\"\\u12\"]"), "has an invalid escape at byte 3", "two hex digits");
	refuses(TEXT("[\"\\ud83d\"]"), "has half a surrogate pair at byte 3", "high surrogate alone");
	refuses(TEXT("[\"\\ude80\"]"), "has half a surrogate pair at byte 3", "low surrogate alone");
	refuses(TEXT("[\"\\ud83d\\u0041\"]"), "has half a surrogate pair at byte 3", "high and no low");
	refuses(TEXT("[\"\\ud83d\\ud83d\"]"), "has half a surrogate pair at byte 3", "two high ones");
	refuses(TEXT("[\"\\ude80\\ude80\"]"), "has half a surrogate pair at byte 3", "two low ones");
	refuses(TEXT("[\"\\ud83d\\n\"]"), "has half a surrogate pair at byte 3", "high and another escape");
	refuses(TEXT("[\"\\ud83dx\"]"), "has half a surrogate pair at byte 3", "high and a letter");
	refuses(TEXT("[\"\\ude80\\ud83d\"]"), "has half a surrogate pair at byte 3", "pair turned around");
	refuses(TEXT("[\"\\ud83d\\ude8"), "ends in the middle of a string at byte 13", "cut in a pair");
}

/*
 * Every byte at every place of a string of 24 bytes, judged by the rule itself:
 * the fast path must not miss one in any of its eight lanes.
 */
static void
test_every_byte_at_every_place(void)
{
	int			wrong = 0;

	for (int byte = 0; byte < 256; byte++)
	{
		for (int place = 0; place < 24; place++)
		{
			char		body[26];
			JsonError	error;
			bool		expected = byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';

			memset(body, 'n', sizeof(body));
			body[0] = body[25] = '"';
			body[1 + place] = (char) byte;
			/* the last place: an escaped n is fine, elsewhere too; a quote there ends too early */
			if (byte == '\\')
				expected = place < 23;
			if (json_check(body, sizeof(body), &error) != expected)
			{
				printf("# byte %d at %d\n", byte, place);
				wrong++;
			}
		}
	}
	ok(wrong == 0, "every byte at every place of a string is judged by the rule");
}

static void
test_depth(void)
{
	char		body[20000];
	const int	depths[] = {32, 33, 10000};

	for (size_t i = 0; i < lengthof(depths); i++)
	{
		size_t		depth = depths[i];

		memset(body, '[', depth);
		memset(body + depth, ']', depth);
		if (depth <= 32)
			accepts(body, depth * 2, "32 arrays in one another");
		else
			refuses(body, depth * 2, "is nested more than 32 levels deep at byte 33",
					depth == 33 ? "33 arrays in one another" : "10,000 arrays in one another");
	}

	char	   *at = body;

	for (int i = 0; i < 33; i++)
		at += sprintf(at, "{\"a\":");
	refuses(body, at - body, "is nested more than 32 levels deep at byte 161", "33 objects in one another");

	/* siblings are no nesting */
	at = body + sprintf(body, "[[]");
	for (int i = 0; i < 1000; i++)
		at += sprintf(at, ",{}");
	at += sprintf(at, "]");
	accepts(body, at - body, "a thousand brackets beside one another");
}

static const char sample[] =
	"[{\"id\":\"0c4f75fa\",\"name\":\"Ada \\\"L\\\" \xC3\x85 \\ud83d\\ude80 \\u00e9\",\"plan\":"
	"{\"price\":-12.50e+1,\"hidden\":false,\"extras\":[],\"passes\":[{\"id\":\"0\"}, null]},"
	" \"user\": {} , \"on\":true},{\"id\":7},[\"id\"],\"id\",3]";

static void
test_truncation(void)
{
	int			accepted = 0;
	int			unclear = 0;

	for (size_t length = 0; length < sizeof(sample) - 1; length++)
	{
		char	   *body = exact_copy(sample, length);
		JsonError	error = {"", ""};
		JsonArray	array;

		accepted += json_check(body, length, &error);
		if (strncmp(error.message, "ends ", 5) != 0 && strcmp(error.message, "is empty") != 0)
		{
			printf("# at %zu: %s\n", length, error.message);
			unclear++;
		}
		accepted += json_split_array(body, length, "id", &array, &error);
		json_free_array(&array);
		free(body);
	}
	ok(accepted == 0, "a document cut at any byte is refused");
	ok(unclear == 0, "and the message says that it ends too early");
	accepts(sample, sizeof(sample) - 1, "the whole document");

	refuses(sample, 12, "ends in the middle of a string at byte 12", "cut in a string");
	refuses(sample, 17, "ends at byte 17, where ',' or '}' was expected", "cut after a value");
	refuses(TEXT("[tru"), "ends in the middle of true at byte 4", "cut in a word");
	refuses(TEXT("[\"\xC3"), "ends in the middle of a string at byte 3", "cut in a UTF-8 character");
	refuses(TEXT("[\"\\"), "ends in the middle of a string at byte 3", "cut after a backslash");
	refuses(TEXT("[\"\\u00"), "ends in the middle of a string at byte 6", "cut in an escape");
}

static void
is_element(const JsonArray *array, size_t index, const char *text, const char *id, const char *name)
{
	char		label[128];
	char	   *copy;

	if (!ok(index < array->count, "element %zu is there: %s", index, name))
		return;
	copy = strndup(array->element[index].text, array->element[index].length);
	snprintf(label, sizeof(label), "slice of element %zu: %s", index, name);
	is_text(copy, text, label);
	snprintf(label, sizeof(label), "id of element %zu: %s", index, name);
	is_text(array->element[index].id, id, label);
	free(copy);
}

static void
test_split(void)
{
	static const char list[] =
		" [ {\"id\":\"a1\"} ,{ \"x\":{\"id\":\"inner\"}, \"id\" : \"b\\u0032\\n\" }\n,"
		"{\"name\":\"no id\"},{\"id\":7},{\"id\":\"first\",\"id\":\"second\"},"
		"{\"\\u0069d\":\"escaped key\"},{\"ID\":\"upper\"},{\"idx\":\"longer\",\"i\":\"shorter\"},"
		"\"id\",[{\"id\":\"deep\"}],{\"id\":null,\"id\":\"late\"},{\"id\":\"\"},12, {\"v\":[\"id\"]} ] ";
	char	   *body = exact_copy(list, sizeof(list) - 1);
	JsonArray	array;
	JsonError	error = {"", ""};
	bool		good = json_split_array(body, sizeof(list) - 1, "id", &array, &error);

	if (!ok(good && array.count == 14, "a list is split into all of its elements"))
		printf("# %s, %zu elements\n", error.message, array.count);
	is_element(&array, 0, "{\"id\":\"a1\"}", "a1", "plain");
	is_element(&array, 1, "{ \"x\":{\"id\":\"inner\"}, \"id\" : \"b\\u0032\\n\" }", "b2\n",
			   "only the own level, unescaped");
	is_element(&array, 2, "{\"name\":\"no id\"}", NULL, "no id");
	is_element(&array, 3, "{\"id\":7}", NULL, "an id that is a number");
	is_element(&array, 4, "{\"id\":\"first\",\"id\":\"second\"}", "first", "of duplicate keys the first");
	is_element(&array, 5, "{\"\\u0069d\":\"escaped key\"}", "escaped key", "escaped key");
	is_element(&array, 6, "{\"ID\":\"upper\"}", NULL, "key in another case");
	is_element(&array, 7, "{\"idx\":\"longer\",\"i\":\"shorter\"}", NULL, "keys that begin alike");
	is_element(&array, 8, "\"id\"", NULL, "a string");
	is_element(&array, 9, "[{\"id\":\"deep\"}]", NULL, "a nested array");
	is_element(&array, 10, "{\"id\":null,\"id\":\"late\"}", NULL, "a first id that is null");
	is_element(&array, 11, "{\"id\":\"\"}", "", "an empty id");
	is_element(&array, 12, "12", NULL, "a number");
	is_element(&array, 13, "{\"v\":[\"id\"]}", NULL, "id as a value");

	bool		all = true;

	for (size_t i = 0; i < array.count; i++)
	{
		cJSON	   *value = json_parse(array.element[i].text, array.element[i].length, "x", &error);

		all &= value != NULL;
		cJSON_Delete(value);
	}
	ok(all, "every slice is a document of its own");
	json_free_array(&array);
	ok(array.element == NULL && array.count == 0, "a freed array is empty");
	json_free_array(&array);
	free(body);

	ok(json_split_array(TEXT("[]"), "id", &array, &error) && array.count == 0, "an empty list has no elements");
	json_free_array(&array);
	ok(!json_split_array(TEXT("{\"id\":\"x\",\"a\":[{\"id\":\"y\"}]}"), "id", &array, &error),
	   "an object is not split");
	is_text(error.message, "is not an array", "and the message says why");
	json_free_array(&array);
	ok(!json_split_array(TEXT("{\"a\":{\"id\":\"x\"}}"), "id", &array, &error),
	   "nor are the objects in an object");
	json_free_array(&array);
}

static void
test_long_list(void)
{
	const size_t count = 5000;
	char	   *body = malloc(count * 16 + 2);
	char	   *at = body;
	JsonArray	array;
	JsonError	error;
	bool		all = true;

	for (size_t i = 0; i < count; i++)
		at += sprintf(at, "%c{\"id\":\"%05zu\"}", i == 0 ? '[' : ',', i);
	*at++ = ']';
	ok(json_split_array(body, at - body, "id", &array, &error) && array.count == count,
	   "a list of 5,000 is split");
	for (size_t i = 0; i < array.count; i++)
		all &= array.element[i].id != NULL && strtoul(array.element[i].id, NULL, 10) == i &&
			array.element[i].length == 14;
	ok(all, "and its elements keep their order");
	json_free_array(&array);
	free(body);
}

static void
test_getters(void)
{
	static const char text[] =
		"{\"id\":\"a\",\"id\":\"b\",\"none\":null,\"n\":1,\"list\":[1],"
		"\"plan\":{\"name\":\"Full\",\"parent\":{\"id\":\"p\"},\"text\":\"x\"}}";
	JsonError	error = {"", ""};
	cJSON	   *record = json_parse(text, sizeof(text) - 1, "", &error);
	const cJSON *found;
	const char *value;
	bool		present;

	ok(json_get_string(record, "m", "id", &value, &present, &error) && present, "a string is found");
	is_text(value, "a", "of duplicate keys the first counts");
	ok(json_get_string(record, "m", "ID", &value, &present, &error) && !present, "keys are case-sensitive");
	ok(json_get_string(record, "m", "i", &value, &present, &error) && !present, "the beginning of a key is none");
	ok(json_get_string(record, "m", "plan.parent.id", &value, &present, &error) && present,
	   "a path leads through objects");
	is_text(value, "p", "to the value at its end");
	ok(json_get_string(record, "m", "none", &value, &present, &error) && !present && value == NULL,
	   "null is absent");
	ok(json_get_string(record, "m", "none.id", &value, &present, &error) && !present, "null on the way is absent");
	ok(json_get_string(record, "m", "gone.id", &value, &present, &error) && !present,
	   "a missing key on the way is absent");
	ok(json_find(record, "m", "none", &found, &error) && cJSON_IsNull(found), "a null at the end is found as such");
	ok(json_find(record, "m", "gone", &found, &error) && found == NULL, "a missing key is not found");

	ok(!json_get_string(record, "m[3]", "n", &value, &present, &error), "a number is no string");
	is_text(error.path, "m[3].n", "the error names the path");
	is_text(error.message, "is a number, expected a string", "and both types");
	ok(!json_get_string(record, "m[3]", "plan.text.id", &value, &present, &error), "a step through a string fails");
	is_text(error.path, "m[3].plan.text", "the error names the step");
	is_text(error.message, "is a string, expected an object", "and what it is");
	ok(!json_find(record->child, "m[3]", "id", &found, &error), "a record that is no object");
	is_text(error.path, "m[3]", "is named as a whole");

	ok(!json_get_string(record, "", "list", &value, &present, &error), "an array is no string");
	is_text(error.path, "list", "without a prefix the path stands alone");
	is_text(error.message, "is an array, expected a string", "and the message names both types");
	cJSON_Delete(record);

	ok(json_parse("[1] x", 5, "w", &error) == NULL, "json_parse sees trailing bytes");
	is_text(error.message, "goes on after the end of its value at byte 5", "and says where");
	record = json_parse("[1]   ", 6, "w", &error);
	ok(record != NULL, "json_parse allows white space");
	cJSON_Delete(record);
	ok(json_parse("[1]\0 ", 5, "w", &error) == NULL, "json_parse does not take NUL for white space");
}

static void
test_error_text(void)
{
	JsonError	error;
	char		text[512];

	json_fail(&error, "list", "[2]", "x");
	is_text(error.path, "list[2]", "no dot before an index");
	for (size_t shift = 0; shift < 4; shift++)
	{
		memset(text, 'x', shift);
		text[shift] = '\0';
		while (strlen(text) + 4 < sizeof(text))
			strcat(text, "\xF0\x9F\x9A\x80");
		json_fail(&error, text, "path", "%s", text);
		ok(strlen(error.message) > 180 && strlen(error.path) > 180 &&
		   pg_encoding_verifymbstr(PG_UTF8, error.message, (int) strlen(error.message)) ==
		   (int) strlen(error.message) &&
		   pg_encoding_verifymbstr(PG_UTF8, error.path, (int) strlen(error.path)) ==
		   (int) strlen(error.path),
		   "an overlong message ends with a whole character, shifted by %zu", shift);
	}
}

int
main(void)
{
	test_grammar();
	test_numbers();
	test_strings();
	test_every_byte_at_every_place();
	test_depth();
	test_truncation();
	test_split();
	test_long_list();
	test_getters();
	test_error_text();
	return done_testing();
}
