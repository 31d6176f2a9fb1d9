/*
 * smartspace_cobot.h
 *	  What every module shares: the library's version, the settings and the
 *	  schema's name. Settings are defined in smartspace_cobot.c and documented
 *	  in the README; all are bounded there, so readers need no checks.
 */
#ifndef SMARTSPACE_COBOT_H
#define SMARTSPACE_COBOT_H

/* Given by the Makefile, which reads it from smartspace_cobot.control. */
#ifndef SMARTSPACE_COBOT_VERSION
#error "SMARTSPACE_COBOT_VERSION is not defined; build with make"
#endif

#define SMARTSPACE_SCHEMA "smartspace"

/* superuser settings; empty string or NULL means "not set" */
extern char *smartspace_connect_to; /* "ADDRESS:PORT" instead of the real host */
extern char *smartspace_ca_file;	/* PEM bundle instead of the system's */
extern char *smartspace_environment;	/* name of the installation, see home.c */

/* of the server: the worker */
extern char *smartspace_databases;	/* names, separated by commas */
extern int	smartspace_max_workers;
extern int	smartspace_worker_linger_s;
extern int	smartspace_worker_concurrency;
extern int	smartspace_worker_connections;

extern int	smartspace_connect_timeout_ms;
extern int	smartspace_request_timeout_ms;
extern int	smartspace_low_speed_limit; /* bytes per second */
extern int	smartspace_low_speed_time_s;
extern int	smartspace_response_limit_kb;
extern int	smartspace_max_connections;
extern int	smartspace_max_retries;
extern int	smartspace_retry_wait_limit_s;
extern int	smartspace_journal_retention_days;
extern int	smartspace_run_retention_days;
extern int	smartspace_checkin_wait_s;
extern int	smartspace_checkin_settle_time_ms;
extern int	smartspace_checkin_retention_days;
extern int	smartspace_login_retention_days;

#endif
