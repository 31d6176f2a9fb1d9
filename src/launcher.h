/*
 * launcher.h
 *	  The process that starts workers when there is something to do.
 */
#ifndef SMARTSPACE_LAUNCHER_H
#define SMARTSPACE_LAUNCHER_H

/* Registers it with the postmaster; from _PG_init() while shared_preload_libraries are loaded. */
extern void launcher_register(void);

/* Does the text name databases, separated by commas? For the setting. */
extern bool launcher_check_databases(char **newval, void **extra, GucSource source);

/* Does the setting, as it is now, name this database? */
extern bool launcher_names(const char *database);

#endif
