/*
 * version.h
 *	  Which versions of the extension's SQL objects this library works with. The package
 *	  brings a new library at once; the objects follow with ALTER EXTENSION UPDATE, in
 *	  each database when somebody gets to it. See doc/upgrade.md.
 */
#ifndef SMARTSPACE_VERSION_H
#define SMARTSPACE_VERSION_H

/*
 * The oldest one. Raise it in a release whose worker cannot do without what the update
 * script to that release makes.
 */
#define VERSION_OLDEST_SQL "1.0"

/* The version of the extension's objects, palloc'd; NULL if there is no such extension (any more). */
extern char *version_installed(Oid extension);

extern bool version_is_served(const char *version);

/* What to do about a version that is not served: a sentence. */
extern const char *version_hint(const char *version);

#endif
