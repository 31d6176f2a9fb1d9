/*
 * webhook_secret.h
 *	  The secret part of a webhook's callback: made, and recognised by its digest.
 */
#ifndef SMARTSPACE_WEBHOOK_SECRET_H
#define SMARTSPACE_WEBHOOK_SECRET_H

#include "common/sha2.h"

#include "query.h"

#define WEBHOOK_SECRET_BYTES 32
#define WEBHOOK_SECRET_LENGTH (WEBHOOK_SECRET_BYTES * 2)	/* in hexadecimal */
#define WEBHOOK_DIGEST_LENGTH PG_SHA256_DIGEST_LENGTH

/* A new one that nobody can guess. Throws if the server has no random numbers. */
extern void webhook_secret_create(char secret[WEBHOOK_SECRET_LENGTH + 1]);

/* What is kept of it. Throws only if the server's hash functions fail. */
extern void webhook_secret_digest(const char *secret, uint8 digest[WEBHOOK_DIGEST_LENGTH]);

/* Takes as long for digests that differ early as for those that are the same. */
extern bool webhook_secret_same_digest(const uint8 *one, const uint8 *other);

/* A digest as an argument of a query, and from its result (not null). */
extern QueryArg webhook_secret_query_digest(const uint8 *digest);
extern void webhook_secret_result_digest(uint64 row, int column, uint8 digest[WEBHOOK_DIGEST_LENGTH]);

#endif
