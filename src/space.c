/*
 * space.c
 *	  What Cobot says about a space. Used when an integration is connected and
 *	  in each synchronisation, because a space can move to another time zone.
 */
#include "postgres.h"

#include "clock.h"
#include "query.h"
#include "space.h"

/* The text of a field by its column name; NULL for null. */
static const char *
text_of(const CobotValue *values, const char *column)
{
	const CobotValue *value = &values[cobot_field_index(cobot_space_fields, cobot_space_field_count, column)];

	return value->is_null ? NULL : value->text;
}

bool
space_read(const cJSON *tree, Space *space, JsonError *error)
{
	CobotValue *values = palloc(sizeof(CobotValue) * cobot_space_field_count);

	if (tree == NULL ||
		!cobot_read_record(tree, "space", cobot_space_fields, cobot_space_field_count, values, error))
		return false;

	space->id = text_of(values, "space_id");
	space->name = text_of(values, "space_name");
	space->time_zone = text_of(values, "time_zone");
	space->country = text_of(values, "country");
	space->locale = text_of(values, "locale");
	space->time_zone_known = clock_zone_is_known(space->time_zone);
	return true;
}

void
space_store(int64 integration, const Space *space)
{
	QueryArg	args[] = {
		query_int64(integration), query_text(space->id), query_text(space->name),
		query_text(space->time_zone_known ? space->time_zone : NULL),
		query_text(space->country), query_text(space->locale)
	};

	query_run("UPDATE smartspace.cobot_integration i SET space_id = $2, space_name = $3,"
			  " time_zone = COALESCE($4, i.time_zone), country = $5, locale = $6 WHERE i.id = $1"
			  " AND (i.space_id, i.space_name, i.time_zone, i.country, i.locale)"
			  " IS DISTINCT FROM ($2, $3, COALESCE($4, i.time_zone), $5, $6)", lengthof(args), args);
}
