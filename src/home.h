/*
 * home.h
 *	  Where an integration is at home: one cluster, one database, one
 *	  environment. Anywhere else it is a copy, and copies ask Cobot nothing until
 *	  somebody arms them on purpose. Knows nothing of Cobot and of tables.
 */
#ifndef SMARTSPACE_HOME_H
#define SMARTSPACE_HOME_H

typedef struct Home
{
	bool		known;			/* false: armed for nowhere, the rest means nothing */
	int64		system;			/* system identifier of the cluster, as pg_control_system() shows it */
	Oid			database;
	const char *environment;	/* smartspace_cobot.environment, "" where it is not set */
} Home;

/* The place this backend works in; the environment is palloc'd. */
extern Home home_here(void);

extern bool home_is_here(const Home *home);

/* The place as a list for people, palloc'd; it must be known. */
extern char *home_in_words(const Home *home);

/* Throws 55000, with what differs and how to arm, unless the integration is at home here. */
extern void home_require(const Home *home, int64 integration, const char *name);

#endif
