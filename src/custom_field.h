/*
 * custom_field.h
 *	  The space's list of custom field definitions, and how to add one without
 *	  ever losing another.
 */
#ifndef SMARTSPACE_CUSTOM_FIELD_H
#define SMARTSPACE_CUSTOM_FIELD_H

#include "cobot_client.h"

/* A list as read; lives as long as the call it came from. */
typedef struct CustomFieldList
{
	const cJSON *tree;			/* array of {"id", "label", ...} */
	int			count;
} CustomFieldList;

/* From an answer with outcome COBOT_OK. False if an element is not understood: then nothing may be written. */
extern bool custom_field_read(CobotCall *call, CustomFieldList *list, JsonError *error);

/* How many fields have exactly this label, and the id of the first of them (NULL: none). */
extern int	custom_field_count(const CustomFieldList *list, const char *label);
extern const char *custom_field_id(const CustomFieldList *list, const char *label);

typedef enum CustomFieldOutcome
{
	CUSTOM_FIELD_PRESENT,
	CUSTOM_FIELD_CREATED,
	CUSTOM_FIELD_AMBIGUOUS,		/* several fields have the label; nothing was written */
	CUSTOM_FIELD_FAILED			/* see message and hint */
} CustomFieldOutcome;

typedef struct CustomFieldResult
{
	CustomFieldOutcome outcome;
	char	   *message;		/* palloc'd; NULL when present or created */
	char	   *detail;			/* may be NULL */
	const char *hint;
	int			sqlstate;
} CustomFieldResult;

/*
 * Makes sure that the space has a field of this label. Asks Cobot one to nine
 * times. See custom_field.c for the procedure.
 */
extern CustomFieldResult custom_field_ensure(CobotClient *client, const char *label);

#endif
