/*
 * cobot_record.h
 *	  Cobot's JSON records as flat rows: one table per kind of record says which
 *	  JSON path goes to which column. To mirror another field, add one line to
 *	  the table in cobot_record.c and one column in sql/mirror.sql.
 *
 * Server-free like json.h. Knows nothing of SQL beyond the column names.
 */
#ifndef SMARTSPACE_COBOT_RECORD_H
#define SMARTSPACE_COBOT_RECORD_H

#include "json.h"

typedef enum CobotFieldKind
{
	COBOT_TEXT,
	COBOT_BOOL,
	COBOT_INTEGER,				/* a JSON number without fraction, within int32 */
	COBOT_DECIMAL,				/* a decimal string or a number; kept as its text */
	COBOT_DATE,					/* "2026/03/31" (also with dashes) */
	COBOT_TIMESTAMP,			/* "2026/03/31 08:15:00 +0000", any offset (also ISO 8601) */
	COBOT_TEXT_LIST,			/* array of strings, kept as cJSON */
	COBOT_JSON					/* array or object, kept as cJSON */
} CobotFieldKind;

/* What a record must bring along; see the rules for fields in cobot_record.c. */
typedef enum CobotPresence
{
	COBOT_OPTIONAL,				/* missing and null both mean NULL */
	COBOT_PRESENT,				/* the key and every object on the way must be there, null allowed */
	COBOT_REQUIRED				/* must be there and not null */
} CobotPresence;

typedef struct CobotField
{
	const char *path;			/* "address.post_code" */
	const char *column;			/* "post_code" */
	CobotFieldKind kind;
	CobotPresence presence;
} CobotField;

typedef struct CobotValue
{
	bool		is_null;
	bool		boolean;
	int32		integer;		/* COBOT_INTEGER; COBOT_DATE: days since 2000-01-01, as DateADT */
	int64		timestamp;		/* microseconds since 2000-01-01 UTC, as TimestampTz */
	const char *text;			/* points into the cJSON tree; COBOT_DECIMAL: decimal_text or the tree */
	const cJSON *json;			/* COBOT_TEXT_LIST, COBOT_JSON: points into the tree */
	char		decimal_text[32];
} CobotValue;

extern const CobotField cobot_membership_fields[];
extern const int cobot_membership_field_count;
extern const CobotField cobot_plan_fields[];
extern const int cobot_plan_field_count;
extern const CobotField cobot_space_fields[];
extern const int cobot_space_field_count;

/* Place of a column in a field table; the column must be there. */
extern int	cobot_field_index(const CobotField *fields, int count, const char *column);

/*
 * Reads one record into values[count]. On the first value of a wrong type,
 * malformed date, missing required key, or bad id (the columns that end in _id:
 * 1 to 200 bytes, not "." or ".."): false, with the path
 * ("memberships[17].starts_at") and what is wrong; the message quotes at most 40
 * characters of the offending value.
 */
extern bool cobot_read_record(const cJSON *record, const char *where,
							  const CobotField *fields, int count,
							  CobotValue *values, JsonError *error);

/*
 * The value of one custom field of one member, from an element of
 * GET /api/custom_fields ({"membership_id", "fields": [{"id","label","value"}]}).
 * A field matches by id, or by label where it has no id or field_id is NULL. A
 * value that is null, missing or empty gives *value = NULL. An element without
 * "fields", or with two fields that match, is an error.
 */
extern bool cobot_read_custom_field(const cJSON *element, const char *where,
									const char *field_id, const char *label,
									const char **value, JsonError *error);

/* Dates of Cobot (v1 "YYYY/MM/DD", also "YYYY-MM-DD"); only real calendar days of years 1900 to 9999. */
extern bool cobot_parse_date(const char *text, int32 *days);

/* "YYYY/MM/DD HH:MM:SS +hhmm" and ISO 8601 ("2026-03-31T08:15:00Z", "+02:00", fraction ignored). */
extern bool cobot_parse_timestamp(const char *text, int64 *microseconds);

#endif
