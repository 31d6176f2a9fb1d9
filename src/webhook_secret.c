/*
 * webhook_secret.c
 *	  The secret part of a webhook's callback. Runs in the backend that calls.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "utils/builtins.h"

#include "webhook_secret.h"

void
webhook_secret_create(char secret[WEBHOOK_SECRET_LENGTH + 1])
{
	uint8		random[WEBHOOK_SECRET_BYTES];

	if (!pg_strong_random(random, sizeof(random)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate a random number")));
	hex_encode((const char *) random, sizeof(random), secret);
	secret[WEBHOOK_SECRET_LENGTH] = '\0';
	explicit_bzero(random, sizeof(random));
}

void
webhook_secret_digest(const char *secret, uint8 digest[WEBHOOK_DIGEST_LENGTH])
{
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);
	bool		done = hash != NULL && pg_cryptohash_init(hash) >= 0 &&
		pg_cryptohash_update(hash, (const uint8 *) secret, strlen(secret)) >= 0 &&
		pg_cryptohash_final(hash, digest, WEBHOOK_DIGEST_LENGTH) >= 0;

	pg_cryptohash_free(hash);
	if (!done)
		elog(ERROR, "could not compute a SHA-256 digest");
}

bool
webhook_secret_same_digest(const uint8 *one, const uint8 *other)
{
	uint8		difference = 0;

	for (int i = 0; i < WEBHOOK_DIGEST_LENGTH; i++)
		difference |= one[i] ^ other[i];
	return difference == 0;
}

QueryArg
webhook_secret_query_digest(const uint8 *digest)
{
	bytea	   *value = palloc(VARHDRSZ + WEBHOOK_DIGEST_LENGTH);

	SET_VARSIZE(value, VARHDRSZ + WEBHOOK_DIGEST_LENGTH);
	memcpy(VARDATA(value), digest, WEBHOOK_DIGEST_LENGTH);
	return query_value(BYTEAOID, PointerGetDatum(value));
}

void
webhook_secret_result_digest(uint64 row, int column, uint8 digest[WEBHOOK_DIGEST_LENGTH])
{
	bool		isnull;
	bytea	   *value = DatumGetByteaPP(SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull));

	if (isnull || VARSIZE_ANY_EXHDR(value) != WEBHOOK_DIGEST_LENGTH)
		elog(ERROR, "stored digest has a wrong length");
	memcpy(digest, VARDATA_ANY(value), WEBHOOK_DIGEST_LENGTH);
}
