/*
 * home.c
 *	  The clone guard: is this the place an integration is armed for? Runs in any
 *	  backend, asks nobody, also on a standby.
 *
 * The system identifier is made by initdb, so a dump restored into another cluster
 * gives itself away; the database's oid, so does a dump restored next to the
 * original and CREATE DATABASE TEMPLATE, while a renamed database and a promoted
 * standby stay the same. A copy of the files (a storage snapshot, a base backup
 * brought up as a test system) has both, and nothing in it can tell; for that there
 * is the environment, which whoever configures the server says.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "home.h"
#include "smartspace_cobot.h"

PG_FUNCTION_INFO_V1(home_cobot_is_home);

Home
home_here(void)
{
	return (Home) {
		.known = true,
		.system = (int64) GetSystemIdentifier(),
		.database = MyDatabaseId,
		.environment = pstrdup(smartspace_environment ? smartspace_environment : "")
	};
}

bool
home_is_here(const Home *home)
{
	Home		here = home_here();

	return home->known && home->system == here.system && home->database == here.database &&
		strcmp(home->environment, here.environment) == 0;
}

char *
home_in_words(const Home *home)
{
	return psprintf("cluster %lld, database oid %u, environment \"%s\"",
					(long long) home->system, home->database, home->environment);
}

/* In sentences. An oid of another cluster says nothing, so it is left out. */
static char *
difference(const Home *home)
{
	Home		here = home_here();
	StringInfoData text;

	if (!home->known)
		return pstrdup("It was never armed. smartspace.cobot_create_integration() arms what it makes; an INSERT does not.");

	initStringInfo(&text);
	if (home->system != here.system)
		appendStringInfo(&text, "It is armed for the cluster with system identifier %lld; this one has %lld.",
						 (long long) home->system, (long long) here.system);
	else if (home->database != here.database)
		appendStringInfo(&text, "It is armed for the database with oid %u; this one, \"%s\", has %u.",
						 home->database, get_database_name(here.database), here.database);
	if (strcmp(home->environment, here.environment) != 0)
		appendStringInfo(&text, "%sIt is armed for the environment \"%s\"; smartspace_cobot.environment is \"%s\".",
						 text.len > 0 ? " " : "", home->environment, here.environment);
	return text.data;
}

void
home_require(const Home *home, int64 integration, const char *name)
{
	if (home_is_here(home))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("integration \"%s\" is not armed for this database", name),
			 errdetail("%s", difference(home)),
			 errhint("A copy asks Cobot nothing. If this one shall, arm it on purpose: SELECT smartspace.cobot_arm(%lld).",
					 (long long) integration)));
}

/*
 * cobot_is_home(armed_system bigint, armed_database oid, armed_environment text) -> boolean
 */
Datum
home_cobot_is_home(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_BOOL(false);

	Home		home = {
		.known = true,
		.system = PG_GETARG_INT64(0),
		.database = PG_GETARG_OID(1),
		.environment = text_to_cstring(PG_GETARG_TEXT_PP(2))
	};

	PG_RETURN_BOOL(home_is_here(&home));
}
