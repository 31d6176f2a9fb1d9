/*
 * seal.c
 *	  Sealed secrets: the text format, the key file's format, and AES-256-GCM by OpenSSL.
 *	  Server-free: unit tests link it without a server.
 *
 * A nonce is drawn at random for each sealing. With 96 bits that is safe for four
 * thousand million sealings with one key; an installation makes some thousand.
 */
#ifdef FRONTEND
#include "postgres_fe.h"
#else
#include "postgres.h"
#endif

#include <openssl/err.h>
#include <openssl/evp.h>

#include "seal.h"

#define ID_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

/* ---- AES-256-GCM ---- */

/*
 * The server looks at OpenSSL's queue of errors to tell what became of a client's
 * connection, so ours do not stay there.
 */
static bool
worked(EVP_CIPHER_CTX *context, bool good)
{
	EVP_CIPHER_CTX_free(context);
	if (!good)
		ERR_clear_error();
	return good;
}

bool
seal_encrypt(const uint8 key[SEAL_KEY_BYTES], const uint8 nonce[SEAL_NONCE_BYTES],
			 const void *associated, size_t associated_length,
			 const uint8 *input, size_t length, uint8 *output, uint8 tag[SEAL_TAG_BYTES])
{
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	int			done = 0;
	uint8		none;

	/* 96 bits are what GCM takes for a nonce unless told otherwise */
	return worked(context, context != NULL &&
				  EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
				  EVP_EncryptUpdate(context, NULL, &done, associated, (int) associated_length) == 1 &&
				  EVP_EncryptUpdate(context, output, &done, input, (int) length) == 1 &&
				  (size_t) done == length &&
				  EVP_EncryptFinal_ex(context, &none, &done) == 1 &&
				  EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, SEAL_TAG_BYTES, tag) == 1);
}

SealOutcome
seal_decrypt(const uint8 key[SEAL_KEY_BYTES], const uint8 nonce[SEAL_NONCE_BYTES],
			 const void *associated, size_t associated_length,
			 const uint8 *input, size_t length, uint8 *output, const uint8 tag[SEAL_TAG_BYTES])
{
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	int			done = 0;
	uint8		none;
	uint8		expected[SEAL_TAG_BYTES];
	bool		ready;
	bool		authentic;

	memcpy(expected, tag, SEAL_TAG_BYTES);
	ready = context != NULL &&
		EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
		EVP_DecryptUpdate(context, NULL, &done, associated, (int) associated_length) == 1 &&
		EVP_DecryptUpdate(context, output, &done, input, (int) length) == 1 &&
		EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, SEAL_TAG_BYTES, expected) == 1;
	authentic = worked(context, ready && EVP_DecryptFinal_ex(context, &none, &done) == 1);
	if (!authentic)
		explicit_bzero(output, length);
	return authentic ? SEAL_OPENED : ready ? SEAL_NOT_AUTHENTIC : SEAL_FAILED;
}

/* ---- hexadecimal ---- */

static void
to_hex(const uint8 *bytes, size_t count, char *hex)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < count; i++)
	{
		*hex++ = digits[bytes[i] >> 4];
		*hex++ = digits[bytes[i] & 15];
	}
}

static int
hex_value(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -1;
}

/* Stops at the first character that is no digit, so it never reads beyond a NUL. */
static bool
from_hex(const char *hex, size_t count, uint8 *bytes)
{
	for (size_t i = 0; i < count; i++)
	{
		int			high = hex_value(hex[2 * i]);
		int			low = high < 0 ? -1 : hex_value(hex[2 * i + 1]);

		if (low < 0)
			return false;
		bytes[i] = (uint8) (high << 4 | low);
	}
	return true;
}

/* ---- the key file ---- */

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static size_t
count_until(const char *text, size_t length, bool blanks)
{
	size_t		count = 0;

	while (count < length && is_blank(text[count]) != blanks)
		count++;
	return count;
}

/* One line without its end. NULL if it is a key, or has none to read. */
static const char *
read_line(const char *line, size_t length, SealKeys *keys)
{
	SealKey    *key = &keys->key[keys->count];
	size_t		skipped = count_until(line, length, false);
	size_t		id_length;

	line += skipped;
	length -= skipped;
	if (length == 0 || line[0] == '#')
		return NULL;
	if (keys->count == SEAL_KEY_LIMIT)
		return "is one key too many";

	id_length = count_until(line, length, true);
	if (id_length > SEAL_KEY_ID_LIMIT_BYTES)
		return "begins with a key id that is too long";
	for (size_t i = 0; i < id_length; i++)
		if (line[i] == '\0' || strchr(ID_CHARACTERS, line[i]) == NULL)
			return "begins with a key id that has other characters than letters, digits, dots, hyphens and underscores";
	memcpy(key->id, line, id_length);
	key->id[id_length] = '\0';
	for (int i = 0; i < keys->count; i++)
		if (strcmp(keys->key[i].id, key->id) == 0)
			return "has the key id of a line above";

	line += id_length;
	length -= id_length;
	skipped = count_until(line, length, false);
	line += skipped;
	length -= skipped;
	if (count_until(line, length, true) != 2 * SEAL_KEY_BYTES ||
		count_until(line + 2 * SEAL_KEY_BYTES, length - 2 * SEAL_KEY_BYTES, false) != length - 2 * SEAL_KEY_BYTES ||
		!from_hex(line, SEAL_KEY_BYTES, key->bytes))
		return "does not have 64 hexadecimal digits after the key id, and nothing else";
	keys->count++;
	return NULL;
}

const char *
seal_read_keys(const char *text, size_t length, SealKeys *keys, int *line)
{
	const char *end = text + length;

	keys->count = 0;
	for (*line = 1; text < end; (*line)++)
	{
		const char *line_end = memchr(text, '\n', end - text);
		const char *wrong;

		if (line_end == NULL)
			line_end = end;
		wrong = read_line(text, line_end - text, keys);
		if (wrong)
			return wrong;
		text = line_end < end ? line_end + 1 : end;
	}
	*line = 0;
	return keys->count == 0 ? "has no key" : NULL;
}

/* ---- sealed texts ---- */

bool
seal_is_sealed(const char *text)
{
	return strncmp(text, SEAL_PREFIX, strlen(SEAL_PREFIX)) == 0;
}

bool
seal_key_id(const char *text, char id[SEAL_KEY_ID_LIMIT_BYTES + 1])
{
	size_t		length;

	if (strncmp(text, SEAL_VERSION_PREFIX, strlen(SEAL_VERSION_PREFIX)) != 0)
		return false;
	text += strlen(SEAL_VERSION_PREFIX);
	length = strspn(text, ID_CHARACTERS);
	if (length == 0 || length > SEAL_KEY_ID_LIMIT_BYTES || text[length] != ':')
		return false;
	memcpy(id, text, length);
	id[length] = '\0';
	return true;
}

#define ASSOCIATED_SIZE (sizeof(SEAL_VERSION_PREFIX) + SEAL_KEY_ID_LIMIT_BYTES + 1 + SEAL_OWNER_LIMIT_BYTES)

/* What is authenticated beside the secret; 0 if the owner is too long. */
static size_t
write_associated(char associated[ASSOCIATED_SIZE], const char *key_id, const char *owner)
{
	if (strlen(owner) > SEAL_OWNER_LIMIT_BYTES)
		return 0;
	return (size_t) sprintf(associated, SEAL_VERSION_PREFIX "%s:%s", key_id, owner);
}

bool
seal_close(const SealKey *key, const char *owner, const char *secret, char text[SEAL_TEXT_SIZE])
{
	char		associated[ASSOCIATED_SIZE];
	size_t		associated_length = write_associated(associated, key->id, owner);
	size_t		length = strlen(secret);
	uint8		nonce[SEAL_NONCE_BYTES];
	uint8		cipher[SEAL_SECRET_LIMIT_BYTES];
	uint8		tag[SEAL_TAG_BYTES];
	char	   *hex;

	if (associated_length == 0 || length > SEAL_SECRET_LIMIT_BYTES ||
		!pg_strong_random(nonce, sizeof(nonce)) ||
		!seal_encrypt(key->bytes, nonce, associated, associated_length, (const uint8 *) secret, length, cipher, tag))
		return false;

	hex = text + sprintf(text, SEAL_VERSION_PREFIX "%s:", key->id);
	to_hex(nonce, SEAL_NONCE_BYTES, hex);
	hex += 2 * SEAL_NONCE_BYTES;
	to_hex(cipher, length, hex);
	hex += 2 * length;
	to_hex(tag, SEAL_TAG_BYTES, hex);
	hex[2 * SEAL_TAG_BYTES] = '\0';
	return true;
}

SealOutcome
seal_open(const SealKeys *keys, const char *owner, const char *text, char *secret, int *key)
{
	char		id[SEAL_KEY_ID_LIMIT_BYTES + 1];
	char		associated[ASSOCIATED_SIZE];
	size_t		associated_length;
	uint8		bytes[SEAL_NONCE_BYTES + SEAL_SECRET_LIMIT_BYTES + SEAL_TAG_BYTES];
	const char *hex;
	size_t		digits;
	size_t		length;
	SealOutcome outcome;

	if (!seal_key_id(text, id))
		return SEAL_NOT_AUTHENTIC;
	for (*key = 0; *key < keys->count; (*key)++)
		if (strcmp(keys->key[*key].id, id) == 0)
			break;
	if (*key == keys->count)
		return SEAL_NO_SUCH_KEY;

	hex = text + strlen(SEAL_VERSION_PREFIX) + strlen(id) + 1;
	digits = strlen(hex);
	associated_length = write_associated(associated, id, owner);
	if (associated_length == 0 || digits % 2 != 0 || digits > 2 * sizeof(bytes) ||
		digits < 2 * (SEAL_NONCE_BYTES + SEAL_TAG_BYTES) || !from_hex(hex, digits / 2, bytes))
		return SEAL_NOT_AUTHENTIC;

	length = digits / 2 - SEAL_NONCE_BYTES - SEAL_TAG_BYTES;
	outcome = seal_decrypt(keys->key[*key].bytes, bytes, associated, associated_length,
						   bytes + SEAL_NONCE_BYTES, length, (uint8 *) secret, bytes + SEAL_NONCE_BYTES + length);
	secret[length] = '\0';
	return outcome;
}
