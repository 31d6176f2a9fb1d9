/*
 * fuzz_seal.c
 *	  Any bytes as a key file, and any text as a sealed secret: what is accepted as a key
 *	  file has keys with different ids, and seals what it opens; nothing opens but what was
 *	  sealed for that owner with that key.
 *
 * The input is a key file, a NUL, an owner, a NUL, a secret, a NUL, a text that may be sealed.
 */
#include "fuzz.h"

#include "lib/stringinfo.h"

#include "seal.h"

/* An owner and a secret within their limits. */
static char *
clipped(FuzzInput *input, size_t limit)
{
	char	   *text = fuzz_text(input);

	if (strlen(text) > limit)
		text[limit] = '\0';
	return text;
}

static void
check_keys(const SealKeys *keys)
{
	require(keys->count > 0 && keys->count <= SEAL_KEY_LIMIT);
	for (int i = 0; i < keys->count; i++)
	{
		require(keys->key[i].id[0] != '\0' && strlen(keys->key[i].id) <= SEAL_KEY_ID_LIMIT_BYTES);
		require(strpbrk(keys->key[i].id, ": \t\r\n#") == NULL);
		for (int j = 0; j < i; j++)
			require(strcmp(keys->key[i].id, keys->key[j].id) != 0);
	}
}

/* A key file with these keys in it is read as these keys. */
static void
check_written_again(const SealKeys *keys)
{
	StringInfoData file;
	SealKeys	again;
	int			line;

	initStringInfo(&file);
	for (int i = 0; i < keys->count; i++)
	{
		appendStringInfo(&file, "%s\t", keys->key[i].id);
		for (int j = 0; j < SEAL_KEY_BYTES; j++)
			appendStringInfo(&file, "%02X", keys->key[i].bytes[j]);
		appendStringInfoString(&file, " \n");
	}
	require(seal_read_keys(file.data, file.len, &again, &line) == NULL && again.count == keys->count);
	for (int i = 0; i < keys->count; i++)
		require(strcmp(again.key[i].id, keys->key[i].id) == 0 &&
				memcmp(again.key[i].bytes, keys->key[i].bytes, SEAL_KEY_BYTES) == 0);
}

/* The secret, if it opens; in a buffer of exactly the size that is promised to do. */
static char *
open_text(const SealKeys *keys, const char *owner, const char *text, int *key)
{
	char	   *secret = palloc(strlen(text) + 1);

	return seal_open(keys, owner, text, secret, key) == SEAL_OPENED ? secret : NULL;
}

static void
check_round_trip(const SealKeys *keys, const char *owner, const char *secret, size_t place)
{
	char	   *text = palloc(SEAL_TEXT_SIZE);
	char	   *other = pstrdup(owner[0] != '\0' ? owner : "nobody");
	char		id[SEAL_KEY_ID_LIMIT_BYTES + 1];
	int			sealed_with = (int) (place % keys->count);
	int			key;
	char	   *opened;

	require(seal_close(&keys->key[sealed_with], owner, secret, text));
	require(seal_is_sealed(text) && seal_key_id(text, id) && strcmp(id, keys->key[sealed_with].id) == 0);
	opened = open_text(keys, owner, text, &key);
	require(opened != NULL && strcmp(opened, secret) == 0 && key == sealed_with);
	other[0] ^= 1;
	require(open_text(keys, other, text, &key) == NULL);

	/* one bit of what is behind the key's id */
	text += strlen(SEAL_VERSION_PREFIX) + strlen(id) + 1;
	place %= strlen(text);
	text[place] = text[place] == '0' ? '1' : '0';
	text -= strlen(SEAL_VERSION_PREFIX) + strlen(id) + 1;
	require(open_text(keys, owner, text, &key) == NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	FuzzInput	input = {data, size};
	char	   *file = fuzz_text(&input);
	char	   *owner = clipped(&input, SEAL_OWNER_LIMIT_BYTES);
	char	   *secret = clipped(&input, SEAL_SECRET_LIMIT_BYTES);
	char	   *text = fuzz_text(&input);
	SealKeys	keys;
	int			line = -1;
	int			key = -1;
	const char *wrong = seal_read_keys(file, strlen(file), &keys, &line);

	require(line >= 0);
	if (wrong)
		require_line(wrong);
	else
	{
		check_keys(&keys);
		check_written_again(&keys);
		/* nobody can have made up what opens */
		require(open_text(&keys, owner, text, &key) == NULL);
		check_round_trip(&keys, owner, secret, size);
	}
	/* bytes of every kind, with NULs and no NUL behind them */
	if (seal_read_keys((const char *) data, size, &keys, &line) == NULL)
		check_keys(&keys);
	arena_reset();
	return 0;
}
