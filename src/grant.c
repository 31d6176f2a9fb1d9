/*
 * grant.c
 *	  Grants that a person makes by hand. Runs in the backend that calls; the
 *	  triggers of access.c make the grant itself, and no synchronisation touches
 *	  it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rangetypes.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

#include "query.h"

PG_FUNCTION_INFO_V1(grant_require_member);
PG_FUNCTION_INFO_V1(grant_require_group);
PG_FUNCTION_INFO_V1(grant_require_plan);
PG_FUNCTION_INFO_V1(grant_require_integration);
PG_FUNCTION_INFO_V1(grant_give);
PG_FUNCTION_INFO_V1(grant_take);

/* Something that functions are asked about by its id. */
typedef struct Subject
{
	const char *name;
	const char *query;
	const char *hint;
} Subject;

static const Subject member_subject = {
	"membership", "SELECT FROM smartspace.cobot_membership WHERE id = $1 AND smartspace.cobot_sees(integration_id)",
	"Find it by name or e-mail in smartspace.cobot_membership."
};
static const Subject group_subject = {
	"user group", "SELECT FROM smartspace.user_group WHERE id = $1",
	"Find it by name in smartspace.user_group."
};
static const Subject plan_subject = {
	"plan", "SELECT FROM smartspace.cobot_plan WHERE id = $1 AND smartspace.cobot_sees(integration_id)",
	"Find it by name in smartspace.cobot_plan."
};
static const Subject integration_subject = {
	"integration", "SELECT FROM smartspace.cobot_integration WHERE id = $1 AND smartspace.cobot_sees(id)",
	"The view smartspace.cobot_status lists the integrations and their ids."
};

/* Throws 22004 for a null and 42704 for an id that is unknown, or not for the caller. The caller has connected to SPI. */
static int64
require(FunctionCallInfo fcinfo, int arg, const Subject *subject)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the %s must not be null", subject->name),
				 errhint("%s", subject->hint)));

	int64		id = PG_GETARG_INT64(arg);
	QueryArg	query_arg = query_int64(id);

	if (query_look(subject->query, 1, &query_arg) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("%s %lld does not exist", subject->name, (long long) id),
				 errhint("%s", subject->hint)));
	return id;
}

static Datum
require_and_return(FunctionCallInfo fcinfo, const Subject *subject)
{
	SPI_connect();

	int64		id = require(fcinfo, 0, subject);

	SPI_finish();
	PG_RETURN_INT64(id);
}

/* cobot_require_member(bigint) -> bigint: the id, or an error that says how to find one */
Datum
grant_require_member(PG_FUNCTION_ARGS)
{
	return require_and_return(fcinfo, &member_subject);
}

Datum
grant_require_group(PG_FUNCTION_ARGS)
{
	return require_and_return(fcinfo, &group_subject);
}

Datum
grant_require_plan(PG_FUNCTION_ARGS)
{
	return require_and_return(fcinfo, &plan_subject);
}

Datum
grant_require_integration(PG_FUNCTION_ARGS)
{
	return require_and_return(fcinfo, &integration_subject);
}

/* [from, until), a null leaving that end open. */
static Datum
validity(FunctionCallInfo fcinfo, int from_arg, int until_arg)
{
	TypeCacheEntry *type = lookup_type_cache(TSTZRANGEOID, TYPECACHE_RANGE_INFO);
	RangeBound	from = {.infinite = PG_ARGISNULL(from_arg), .inclusive = !PG_ARGISNULL(from_arg), .lower = true};
	RangeBound	until = {.infinite = PG_ARGISNULL(until_arg), .inclusive = false, .lower = false};

	if (!from.infinite)
		from.val = PG_GETARG_DATUM(from_arg);
	if (!until.infinite)
		until.val = PG_GETARG_DATUM(until_arg);
	if (!from.infinite && !until.infinite &&
		DatumGetTimestampTz(from.val) >= DatumGetTimestampTz(until.val))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the grant would end before it begins")));
	return RangeTypePGetDatum(make_range(type, &from, &until, false));
}

/*
 * cobot_grant(member bigint, "group" bigint, valid_from timestamptz,
 *			   valid_until timestamptz, reason text) -> manual_grant
 *
 * One for each member and group: a second call replaces dates and reason.
 */
Datum
grant_give(PG_FUNCTION_ARGS)
{
	SPI_connect();

	QueryArg	args[] = {
		query_int64(require(fcinfo, 0, &member_subject)),
		query_int64(require(fcinfo, 1, &group_subject)),
		query_value(TSTZRANGEOID, validity(fcinfo, 2, 3)),
		query_text(PG_ARGISNULL(4) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(4)))
	};

	query_run("INSERT INTO smartspace.manual_grant AS x (membership_id, user_group_id, valid, reason)"
			  " VALUES ($1, $2, $3, $4) ON CONFLICT (membership_id, user_group_id) DO UPDATE SET"
			  " valid = excluded.valid, reason = excluded.reason, granted_by = excluded.granted_by,"
			  " granted_at = excluded.granted_at RETURNING x.*", lengthof(args), args);

	Datum		result = PointerGetDatum(SPI_returntuple(SPI_tuptable->vals[0], SPI_tuptable->tupdesc));

	SPI_finish();
	PG_RETURN_DATUM(result);
}

/*
 * cobot_revoke(member bigint, "group" bigint) -> boolean: whether there was a grant by hand
 */
Datum
grant_take(PG_FUNCTION_ARGS)
{
	SPI_connect();

	QueryArg	args[] = {
		query_int64(require(fcinfo, 0, &member_subject)),
		query_int64(require(fcinfo, 1, &group_subject))
	};
	bool		found = query_run("DELETE FROM smartspace.manual_grant WHERE membership_id = $1 AND user_group_id = $2",
								  lengthof(args), args) > 0;

	SPI_finish();
	PG_RETURN_BOOL(found);
}
