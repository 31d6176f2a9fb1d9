/*
 * custom_field.c
 *	  Adds a custom field definition to a space. Runs in the backend that
 *	  connects an integration.
 *
 * Facts: PUT /api/space/custom_fields replaces the whole list, and a field left
 * out is deleted together with every member's value; there is no version to
 * detect a concurrent change, no undo, and labels need not be unique. Hence:
 *
 *	 1. read the list; every element must be understood
 *	 2. stop if the label is there (once: fine; more often: ambiguous)
 *	 3. read again; start over if anything differs, three times at most
 *	 4. read the members' values; stop if one belongs to a field that is not in
 *		the list, for then the list is not all there is (say, empty by accident)
 *	 5. write what was read, element by element as it came, plus the new label
 *	 6. read again, whatever the write answered, and compare
 *
 * The list that is written is never shorter than what was just read, and
 * nothing is written after a failed read. What remains is a change by somebody
 * else between steps 3 and 5, some milliseconds; Cobot offers no way to exclude
 * it.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "cobot_answer.h"
#include "custom_field.h"

#define ATTEMPTS 3

static const char *
text_of(const cJSON *element, const char *key)
{
	return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(element, key));
}

bool
custom_field_read(CobotCall *call, CustomFieldList *list, JsonError *error)
{
	list->tree = cobot_answer(call, error);
	return list->tree != NULL && cobot_read_field_definitions(list->tree, &list->count, error);
}

int
custom_field_count(const CustomFieldList *list, const char *label)
{
	const cJSON *element;
	int			count = 0;

	cJSON_ArrayForEach(element, list->tree)
		count += strcmp(text_of(element, "label"), label) == 0;
	return count;
}

const char *
custom_field_id(const CustomFieldList *list, const char *label)
{
	const cJSON *element;

	cJSON_ArrayForEach(element, list->tree)
		if (strcmp(text_of(element, "label"), label) == 0)
			return text_of(element, "id");
	return NULL;
}

static CustomFieldResult
failed(char *message, char *detail, const char *hint, int sqlstate)
{
	return (CustomFieldResult) {
		.outcome = CUSTOM_FIELD_FAILED, .message = message, .detail = detail, .hint = hint, .sqlstate = sqlstate
	};
}

static CustomFieldResult
failed_call(const CobotCall *call)
{
	return failed(cobot_failure_message(call), cobot_failure_detail(call), cobot_failure_hint(call),
				  cobot_failure_sqlstate(call->outcome));
}

/* Reads the list; false with *result when that fails. */
static bool
read_list(CobotClient *client, CustomFieldList *list, CustomFieldResult *result)
{
	CobotCall  *call = cobot_ask_field_definitions(client);
	JsonError	error;

	cobot_perform(&call, 1);
	if (call->outcome != COBOT_OK)
		*result = failed_call(call);
	else if (!custom_field_read(call, list, &error))
		*result = failed(pstrdup("Cobot's list of custom fields is not understood, so it is left alone"),
						 psprintf("%s %s", error.path, error.message),
						 "Create the custom field by hand in Cobot.", ERRCODE_PROTOCOL_VIOLATION);
	else
		return true;
	return false;
}

/* True if every field in a member's record of values is in the list. */
static bool
knows_fields_of(const CustomFieldList *list, const cJSON *record)
{
	const cJSON *fields = cJSON_GetObjectItemCaseSensitive(record, "fields");
	const cJSON *field;

	if (!cJSON_IsArray(fields))
		return false;
	cJSON_ArrayForEach(field, fields)
	{
		const char *id = text_of(field, "id");
		const cJSON *element = list->tree->child;

		while (id && element && strcmp(text_of(element, "id"), id) != 0)
			element = element->next;
		if (id == NULL || element == NULL)
			return false;
	}
	return true;
}

/* Step 4. False with *result unless no member has a value of a field that the list lacks. */
static bool
is_complete(CobotClient *client, const CustomFieldList *list, CustomFieldResult *result)
{
	CobotCall  *call = cobot_ask_custom_fields(client);

	cobot_perform(&call, 1);
	if (call->outcome != COBOT_OK)
	{
		*result = failed_call(call);
		return false;
	}
	for (size_t i = 0; i < call->elements.count; i++)
	{
		const JsonElement *element = &call->elements.element[i];
		JsonError	error;
		cJSON	   *record = json_parse(element->text, element->length, "", &error);
		bool		known = knows_fields_of(list, record);

		cJSON_Delete(record);
		if (!known)
		{
			*result = failed(pstrdup("Cobot's list of custom fields lacks some that members have values of, so it is left alone"),
							 psprintf("See the custom fields of the member \"%s\".", element->id ? element->id : ""),
							 "Try again later. If it stays, create the custom field by hand in Cobot.",
							 ERRCODE_PROTOCOL_VIOLATION);
			return false;
		}
	}
	return true;
}

/* Labels of fields in before that after lacks (by id, with the same label); NULL if none. */
static char *
lost_fields(const CustomFieldList *before, const CustomFieldList *after)
{
	StringInfoData lost;
	const cJSON *old;

	initStringInfo(&lost);
	cJSON_ArrayForEach(old, before->tree)
	{
		const cJSON *new;
		bool		found = false;

		cJSON_ArrayForEach(new, after->tree)
			if (strcmp(text_of(old, "id"), text_of(new, "id")) == 0 &&
				strcmp(text_of(old, "label"), text_of(new, "label")) == 0)
				found = true;
		if (!found)
			appendStringInfo(&lost, "%s\"%s\"", lost.len > 0 ? ", " : "", text_of(old, "label"));
	}
	return lost.len > 0 ? lost.data : NULL;
}

/* Steps 5 and 6. */
static CustomFieldResult
append_field(CobotClient *client, const CustomFieldList *before, const char *label)
{
	CobotCall  *put = cobot_put_field_definitions(client, before->tree, label);
	CustomFieldList after;
	CustomFieldResult result;

	cobot_perform(&put, 1);
	if (!read_list(client, &after, &result))
		return put->outcome == COBOT_OK ? result : failed_call(put);

	char	   *lost = lost_fields(before, &after);

	if (lost)
		return failed(psprintf("after adding the custom field \"%s\" Cobot lists others no more", label),
					  psprintf("Missing: %s.", lost),
					  "Somebody may have changed the custom fields at the same moment. Look at them in Cobot now.",
					  ERRCODE_PROTOCOL_VIOLATION);
	if (custom_field_count(&after, label) > 0)
		return (CustomFieldResult) {.outcome = CUSTOM_FIELD_CREATED};
	if (put->outcome != COBOT_OK)
		return failed_call(put);
	return failed(psprintf("Cobot accepted the custom field \"%s\" but does not list it", label), NULL,
				  "Create the custom field by hand in Cobot.", ERRCODE_PROTOCOL_VIOLATION);
}

CustomFieldResult
custom_field_ensure(CobotClient *client, const char *label)
{
	for (int attempt = 0; attempt < ATTEMPTS; attempt++)
	{
		CustomFieldList first,
					second;
		CustomFieldResult result;

		if (!read_list(client, &first, &result))
			return result;

		int			matches = custom_field_count(&first, label);

		if (matches == 1)
			return (CustomFieldResult) {.outcome = CUSTOM_FIELD_PRESENT};
		if (matches > 1)
		{
			result = failed(psprintf("the space has %d custom fields named \"%s\"", matches, label), NULL,
							"Rename all but one of them in Cobot.", ERRCODE_DUPLICATE_OBJECT);
			result.outcome = CUSTOM_FIELD_AMBIGUOUS;
			return result;
		}

		if (!read_list(client, &second, &result))
			return result;
		if (cJSON_Compare(first.tree, second.tree, true))
		{
			if (!is_complete(client, &second, &result))
				return result;
			return append_field(client, &second, label);
		}
	}
	return failed(pstrdup("the custom fields are being changed by somebody else, so they are left alone"), NULL,
				  "Try again in a minute.", ERRCODE_OBJECT_IN_USE);
}
