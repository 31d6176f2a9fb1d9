/*
 * schedule.c
 *	  Has pg_cron call cobot_run_due(): one job for each database. Runs in the backend of
 *	  whoever schedules, with their rights. pg_cron is looked for when it is wanted, so
 *	  this extension is installed and works without it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "query.h"

PG_FUNCTION_INFO_V1(schedule_create);
PG_FUNCTION_INFO_V1(schedule_remove);

#define JOB_COMMAND "SELECT smartspace.cobot_run_due()"
#define BLANKS " \t\n\r"
#define HASH_LENGTH 9			/* "~01234567" */

/* pg_cron cuts the name of a job; a hash keeps the long ones apart. */
static char *
job_name(const char *database)
{
	char	   *name = psprintf("smartspace_cobot: %s", database);
	int			length = (int) strlen(name);

	if (length >= NAMEDATALEN)
	{
		uint32		hash = hash_bytes((const unsigned char *) name, length);
		int			kept = pg_mbcliplen(name, length, NAMEDATALEN - 1 - HASH_LENGTH);

		snprintf(name + kept, HASH_LENGTH + 1, "~%08x", hash);
	}
	return name;
}

/* The database that an argument names, or the present one. */
static char *
database_argument(FunctionCallInfo fcinfo, int number)
{
	if (PG_ARGISNULL(number))
		return get_database_name(MyDatabaseId);

	char	   *database = text_to_cstring(PG_GETARG_TEXT_PP(number));

	/* no name is so long, and the error repeats it */
	database[pg_mbcliplen(database, (int) strlen(database), 2 * NAMEDATALEN)] = '\0';
	get_database_oid(database, false);
	return database;
}

/*
 * Throws unless pg_cron reads its jobs in this database. Where that is another one,
 * the hint is the statement to run there.
 */
static void
require_cron(const char *statement)
{
	/* no secret, though only superusers can show it: everybody sees the names of databases */
	const char *home = GetConfigOption("cron.database_name", true, false);
	const char *here = get_database_name(MyDatabaseId);
	bool		is_home = home != NULL && strcmp(home, here) == 0;

	if (is_home && OidIsValid(get_extension_oid("pg_cron", true)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("pg_cron is not in the database \"%s\"", here),
			 home == NULL ? errdetail("The server has not loaded pg_cron.") :
			 is_home ? errdetail("The extension pg_cron has not been created.") :
			 errdetail("pg_cron reads its jobs in the database \"%s\", by the setting cron.database_name.", home),
			 home == NULL ?
			 errhint("Install the package postgresql-%s-cron, add pg_cron to shared_preload_libraries, restart the server and run CREATE EXTENSION pg_cron. No schedule is needed where smartspace_cobot is in shared_preload_libraries and smartspace_cobot.databases names the database.",
					 PG_MAJORVERSION) :
			 is_home ? errhint("Run CREATE EXTENSION pg_cron as a superuser.") :
			 errhint("Run in the database \"%s\": %s", home, statement)));
}

/*
 * True if the hour and what follows say "every": whatever the minutes are, no hour is left
 * out. Newer versions of pg_cron also know "30 seconds".
 */
static bool
is_hourly(const char *schedule)
{
	const char *field = schedule + strspn(schedule, BLANKS);

	if (*field == '@')
		return pg_strncasecmp(field, "@hourly", strlen("@hourly")) == 0;

	for (int number = 0; *field != '\0'; number++)
	{
		size_t		length = strcspn(field, BLANKS);
		bool		every = (length == 1 && *field == '*') || (length == 3 && memcmp(field, "*/1", 3) == 0);

		if (number > 0 && !every && pg_strncasecmp(field, "second", strlen("second")) != 0)
			return false;
		field += length;
		field += strspn(field, BLANKS);
	}
	return true;
}

/*
 * The jobs of this name that the present role may see, with what they are, and whether
 * scheduling anew would change them in place: own, active, and of that database.
 */
static uint64
look_for_jobs(const char *name, const char *database)
{
	QueryArg	args[] = {query_text(name), query_text(database)};

	return query_run("SELECT j.jobid, j.schedule || ' as ' || j.username,"
					 " j.username = current_user AND j.active AND j.database = $2"
					 " FROM cron.job j WHERE j.jobname = $1 ORDER BY j.jobid", lengthof(args), args);
}

/*
 * Removes the jobs of this name: all, or only those that would stay beside or instead of a
 * new one. Returns what they were, in words; NULL without any.
 */
static char *
remove_jobs(const char *name, const char *database, bool all)
{
	uint64		count = look_for_jobs(name, database);
	SPITupleTable *jobs = SPI_tuptable;
	StringInfoData words;

	initStringInfo(&words);
	for (uint64 i = 0; i < count; i++)
	{
		SPI_tuptable = jobs;

		QueryArg	id = query_int64(query_result_int64(i, 1));

		appendStringInfo(&words, "%s%s", i > 0 ? " and " : "", query_result_text(i, 2));
		if (all || !query_result_bool(i, 3))
			query_run("SELECT cron.unschedule($1)", 1, &id);
	}
	SPI_freetuptable(jobs);
	return count > 0 ? words.data : NULL;
}

/*
 * cobot_schedule(schedule text, database text) -> text, what is scheduled and what was before
 */
Datum
schedule_create(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the schedule must not be null")));

	char	   *schedule = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *database = database_argument(fcinfo, 1);
	char	   *name = job_name(database);
	bool		is_here = strcmp(database, get_database_name(MyDatabaseId)) == 0;
	StringInfoData words;

	PreventCommandIfReadOnly("cobot_schedule()");
	if (schedule[strspn(schedule, BLANKS)] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the schedule must not be empty"),
				 errhint("A schedule such as */30 * * * * says when, as cron does: minute, hour, day, month, day of the week.")));
	require_cron(psprintf("SELECT cron.schedule_in_database(%s, %s, %s, %s);",
						  quote_literal_cstr(name), quote_literal_cstr(schedule),
						  quote_literal_cstr(JOB_COMMAND), quote_literal_cstr(database)));

	initStringInfo(&words);
	SPI_connect();

	if (is_here && query_run("SELECT WHERE pg_catalog.has_function_privilege('smartspace.cobot_run_due()', 'EXECUTE')", 0, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for function cobot_run_due"),
				 errdetail("The job would run as \"%s\".", GetUserNameFromId(GetUserId(), false)),
				 errhint("Run GRANT EXECUTE ON FUNCTION smartspace.cobot_run_due() TO %s, or let another role schedule.",
						 quote_identifier(GetUserNameFromId(GetUserId(), false)))));

	char	   *before = remove_jobs(name, database, false);
	QueryArg	args[] = {query_text(name), query_text(schedule), query_text(JOB_COMMAND), query_text(database)};

	/* the first is open to all who may use pg_cron, the second only to those whom it was granted to */
	if (is_here)
		query_run("SELECT cron.schedule($1, $2, $3)", 3, args);
	else
		query_run("SELECT cron.schedule_in_database($1, $2, $3, $4)", lengthof(args), args);

	appendStringInfo(&words, "scheduled for the database \"%s\": %s as %s, job %lld of pg_cron",
					 database, schedule, GetUserNameFromId(GetUserId(), false), (long long) query_result_int64(0, 1));
	if (before != NULL)
		appendStringInfo(&words, "; before: %s", before);
	if (!is_hourly(schedule))
		ereport(WARNING,
				(errmsg("the schedule leaves hours out"),
				 errdetail("Whoever joins or leaves meanwhile waits for the next one."),
				 errhint("A schedule such as */30 * * * * synchronises at least once an hour.")));

	PG_RETURN_DATUM(query_finish_text(words.data));
}

/*
 * cobot_unschedule(database text) -> boolean, whether there was a job
 */
Datum
schedule_remove(PG_FUNCTION_ARGS)
{
	char	   *database = PG_ARGISNULL(0) ? get_database_name(MyDatabaseId) : text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *name = job_name(database);

	PreventCommandIfReadOnly("cobot_unschedule()");
	require_cron(psprintf("SELECT cron.unschedule(%s);", quote_literal_cstr(name)));

	SPI_connect();

	bool		removed = remove_jobs(name, database, true) != NULL;

	SPI_finish();
	PG_RETURN_BOOL(removed);
}
