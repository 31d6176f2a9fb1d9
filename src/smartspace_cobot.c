/*
 * smartspace_cobot.c
 *	  Module entry: settings. Runs in every process that loads the library, with or
 *	  without shared_preload_libraries; only with it there are shared memory and a
 *	  launcher. libcurl is initialised at first use (http.c), never here,
 *	  because the postmaster's children would inherit its state.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "cobot_rate.h"
#include "http.h"
#include "launcher.h"
#include "secret.h"
#include "shared.h"
#include "smartspace_cobot.h"
#include "trust.h"

PG_MODULE_MAGIC;

#define ENVIRONMENT_LENGTH_LIMIT 63

PG_FUNCTION_INFO_V1(smartspace_journal_retention);
PG_FUNCTION_INFO_V1(smartspace_library_version);

void		_PG_init(void);

char	   *smartspace_connect_to = NULL;
char	   *smartspace_ca_file = NULL;
char	   *smartspace_environment = NULL;
char	   *smartspace_databases = NULL;
int			smartspace_max_workers;
int			smartspace_worker_linger_s;
int			smartspace_worker_concurrency;
int			smartspace_worker_connections;
int			smartspace_connect_timeout_ms;
int			smartspace_request_timeout_ms;
int			smartspace_low_speed_limit;
int			smartspace_low_speed_time_s;
int			smartspace_response_limit_kb;
int			smartspace_max_connections;
int			smartspace_max_retries;
int			smartspace_retry_wait_limit_s;
int			smartspace_journal_retention_days;
int			smartspace_run_retention_days;
int			smartspace_checkin_wait_s;
int			smartspace_checkin_settle_time_ms;
int			smartspace_checkin_retention_days;
int			smartspace_login_retention_days;

/*
 * ADDRESS:PORT, where ADDRESS is an IP address or a host name. libcurl splits
 * its CONNECT_TO entries at colons, so nothing else may pass.
 */
static bool
check_connect_to(char **newval, void **extra, GucSource source)
{
	(void) extra;
	(void) source;

	if (*newval == NULL || **newval == '\0')
		return true;

	const char *colon = strrchr(*newval, ':');

	if (colon == NULL || colon == *newval ||
		strspn(*newval, "abcdefghijklmnopqrstuvwxyz0123456789.-") != (size_t) (colon - *newval))
	{
		GUC_check_errdetail("It must look like 127.0.0.1:8443.");
		return false;
	}

	size_t		digits = strspn(colon + 1, "0123456789");

	if (digits == 0 || digits > 5 || colon[1 + digits] != '\0' ||
		atoi(colon + 1) < 1 || atoi(colon + 1) > 65535)
	{
		GUC_check_errdetail("The port must be a number from 1 to 65535.");
		return false;
	}
	return true;
}

/*
 * A name of ASCII characters: it is stored as text in databases of any encoding,
 * and people compare it by eye.
 */
static bool
check_environment(char **newval, void **extra, GucSource source)
{
	(void) extra;
	(void) source;

	if (*newval != NULL &&
		(strlen(*newval) > ENVIRONMENT_LENGTH_LIMIT ||
		 (*newval)[strspn(*newval, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")] != '\0'))
	{
		GUC_check_errdetail("It must consist of at most %d letters, digits, dots, hyphens and underscores.",
							ENVIRONMENT_LENGTH_LIMIT);
		return false;
	}
	return true;
}

void
_PG_init(void)
{
	/* Where Cobot is: only a superuser may lead tokens elsewhere. */
	DefineCustomStringVariable("smartspace_cobot.ca_file",
							   "PEM file with the certificate authorities to trust instead of the system's.",
							   NULL, &smartspace_ca_file, "",
							   PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("smartspace_cobot.connect_to",
							   "ADDRESS:PORT to connect to instead of Cobot's; URLs and certificate checks stay the same.",
							   NULL, &smartspace_connect_to, "",
							   PGC_SUSET, 0, check_connect_to, NULL, NULL);

	/* Where the keys to the secrets are; one for all sessions and the worker. */
	DefineCustomStringVariable("smartspace_cobot.key_file",
							   "File with the keys that tokens and client secrets are sealed with when they are stored.",
							   NULL, &secret_key_file, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, secret_check_key_file, NULL, NULL);

	/* What this installation is, for the clone guard. */
	DefineCustomStringVariable("smartspace_cobot.environment",
							   "Name of this installation, such as production or staging; an integration works only in the one it is armed for.",
							   NULL, &smartspace_environment, "",
							   PGC_SUSET, 0, check_environment, NULL, NULL);

	/* How long to wait. Zero is not "for ever": every wait has an end. */
	DefineCustomIntVariable("smartspace_cobot.connect_timeout",
							"Longest time to set up a connection, TLS included.",
							NULL, &smartspace_connect_timeout_ms, 10000, 100, 60000,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("smartspace_cobot.request_timeout",
							"Longest time for one request, from connecting to the last byte.",
							NULL, &smartspace_request_timeout_ms, 120000, 500, 600000,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("smartspace_cobot.low_speed_limit",
							"An answer slower than this many bytes per second for low_speed_time is given up.",
							NULL, &smartspace_low_speed_limit, 200, 1, 1000000,
							PGC_USERSET, GUC_UNIT_BYTE, NULL, NULL, NULL);
	DefineCustomIntVariable("smartspace_cobot.low_speed_time",
							"How long an answer may be slower than low_speed_limit.",
							NULL, &smartspace_low_speed_time_s, 30, 1, 300,
							PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("smartspace_cobot.max_retries",
							"How often a failed read is tried again. Writes are never repeated.",
							NULL, &smartspace_max_retries, 2, 0, 5,
							PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("smartspace_cobot.retry_wait_limit",
							"Longest wait that Cobot may ask for (Retry-After) and still get a new try in the same run.",
							NULL, &smartspace_retry_wait_limit_s, 15, 0, 120,
							PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);

	/* The worker. */
	DefineCustomStringVariable("smartspace_cobot.databases",
							   "Databases in which a worker synchronises and delivers check-ins by itself, separated by commas.",
							   NULL, &smartspace_databases, "",
							   PGC_SIGHUP, GUC_LIST_INPUT, launcher_check_databases, NULL, NULL);
	DefineCustomIntVariable("smartspace_cobot.max_workers",
							"Workers at a time, each in a database of its own.",
							NULL, &smartspace_max_workers, 4, 1, SHARED_DATABASE_LIMIT,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("smartspace_cobot.worker_linger",
							"How long a worker stays after it has done everything, in case more comes.",
							NULL, &smartspace_worker_linger_s, 5, 0, 60,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("smartspace_cobot.worker_concurrency",
							"Integrations that a worker synchronises at a time.",
							NULL, &smartspace_worker_concurrency, 64, 1, 500,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("smartspace_cobot.worker_connections",
							"Connections to Cobot that a worker keeps open at a time.",
							NULL, &smartspace_worker_connections, 200, 1, 250,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	/* Check-ins. */
	DefineCustomIntVariable("smartspace_cobot.checkin_wait",
							"How long cobot_checkin() waits for the outcome, where it is to wait.",
							NULL, &smartspace_checkin_wait_s, 15, 1, 120,
							PGC_USERSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("smartspace_cobot.checkin_settle_time",
							"After a check-in without an answer, how long Cobot may take to list it before it counts as not made.",
							NULL, &smartspace_checkin_settle_time_ms, 15000, 100, 600000,
							PGC_SUSET, GUC_UNIT_MS, NULL, NULL, NULL);

	/* Below Cobot's limits of 60 and 6; see cobot_rate.h. */
	DefineCustomIntVariable("smartspace_cobot.requests_per_minute",
							"Requests of a worker to one of Cobot's endpoints in any minute, for each Cobot user.",
							NULL, &cobot_requests_per_minute, 54, 1, 6000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("smartspace_cobot.list_requests_per_minute",
							"The same for Cobot's list of members.",
							NULL, &cobot_list_requests_per_minute, 5, 1, 6000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	/* How much to take. */
	DefineCustomIntVariable("smartspace_cobot.max_connections",
							"Connections to Cobot that one session keeps open at a time.",
							NULL, &smartspace_max_connections, 4, 1, 250,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("smartspace_cobot.response_limit",
							"Largest answer accepted, after decompression.",
							NULL, &smartspace_response_limit_kb, 256 * 1024, 64, 1024 * 1024 - 64,
							PGC_SUSET, GUC_UNIT_KB, NULL, NULL, NULL);

	/* How much to keep. */
	DefineCustomIntVariable("smartspace_cobot.journal_retention_days",
							"How many days the journal of grants is kept; cobot_purge_journal() deletes what is older.",
							NULL, &smartspace_journal_retention_days, 730, 1, 36500,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("smartspace_cobot.run_retention_days",
							"How many days the history of synchronisations is kept; each run deletes what is older.",
							NULL, &smartspace_run_retention_days, 90, 1, 36500,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("smartspace_cobot.checkin_retention_days",
							"How many days the history of check-ins is kept; deliveries delete what is older.",
							NULL, &smartspace_checkin_retention_days, 730, 1, 36500,
							PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("smartspace_cobot.login_retention_days",
							"How many days the history of logins is kept; each login deletes what is older.",
							NULL, &smartspace_login_retention_days, 90, 1, 36500,
							PGC_SUSET, 0, NULL, NULL, NULL);

	MarkGUCPrefixReserved("smartspace_cobot");
	trust_install();

	/* pg_upgrade starts the old and the new server, and nothing shall happen there */
	if (process_shared_preload_libraries_in_progress && !IsBinaryUpgrade)
	{
		shared_request();
		launcher_register();
	}
}

/*
 * cobot_journal_retention() -> interval. A function, because a session that has
 * not loaded the library yet does not know the setting.
 */
Datum
smartspace_journal_retention(PG_FUNCTION_ARGS)
{
	Interval   *retention = palloc0(sizeof(Interval));

	(void) fcinfo;
	retention->day = smartspace_journal_retention_days;
	PG_RETURN_INTERVAL_P(retention);
}

/*
 * cobot_library_version() -> (library text, http text)
 */
Datum
smartspace_library_version(PG_FUNCTION_ARGS)
{
	TupleDesc	tupdesc;
	Datum		values[2];
	bool		nulls[2] = {false, false};

	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	values[0] = CStringGetTextDatum(SMARTSPACE_COBOT_VERSION);
	values[1] = CStringGetTextDatum(http_library_version());
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values, nulls)));
}
