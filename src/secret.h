/*
 * secret.h
 *	  The only way in which secrets get into their tables and out of them. A secret belongs
 *	  to a row by its kind and the row's id; it is sealed (seal.h) when it is stored if
 *	  smartspace_cobot.key_file is set, else it stands there as it is. The key file is read
 *	  for each secret, so it counts as it is at that moment, and no key stays in memory.
 *	  The caller has connected to SPI.
 */
#ifndef SMARTSPACE_SECRET_H
#define SMARTSPACE_SECRET_H

#include "utils/guc.h"

/* Another kind is a line in secret.c and, for cobot_problem, one in look.sql. */
typedef enum SecretKind
{
	SECRET_TOKEN,				/* by the id of the integration, as the next one */
	SECRET_CLIENT_SECRET,
	SECRET_RETIRED_TOKEN,		/* likewise: used no more, until Cobot has revoked it */
	SECRET_MOBILE_APP			/* client secret, by the id of the mobile app */
} SecretKind;

typedef enum SecretState
{
	SECRET_NONE,				/* there is none */
	SECRET_READ,
	SECRET_KEY_MISSING,			/* it is sealed, and its key is not there: nothing is lost */
	SECRET_UNREADABLE			/* its key does not open it */
} SecretState;

typedef struct Secret
{
	SecretState state;
	char	   *value;			/* NULL unless SECRET_READ */
	char	   *detail;			/* if it cannot be read: why, in a sentence that may be shown to anybody */
	bool		is_sealed;
	bool		is_current;		/* sealed with the first key of the file */
} Secret;

/* The setting; superusers alone see it. */
extern char *secret_key_file;
extern bool secret_check_key_file(char **newval, void **extra, GucSource source);

/*
 * Throws 55000 if a key file is set and cannot be used: before something is done for the
 * sake of a secret that could not be stored then.
 */
extern void secret_require_key(void);

/*
 * Stores a secret of 1 to 4096 bytes in place of the one before, and makes the row where
 * there is none; NULL forgets it. Throws 22023 for one that is too long, empty or looks
 * sealed, and what secret_require_key() throws. Does not wipe the caller's copy.
 */
extern void secret_store(SecretKind kind, int64 id, const char *secret);

/*
 * Reads one into palloc'd memory; throws nothing for one that cannot be read, because what
 * follows from that is the caller's matter. Wipe it after use. secret_open() is for whoever
 * has read the column, or an SQL null (NULL), together with others; it wipes what was stored.
 */
extern Secret secret_load(SecretKind kind, int64 id);
extern Secret secret_open(SecretKind kind, int64 id, char *stored);
extern void secret_wipe(Secret *secret);

/* The state as people see it: key_missing or secret_unreadable; NULL if all is well. */
extern const char *secret_reason(SecretState state);

/*
 * Throws 55000 if it is there and cannot be read, with what to do. owner: whose secret it
 * is, such as: the token of integration "Loft".
 */
extern void secret_require_readable(const Secret *secret, const char *owner);

#endif
