/*
 * unit_seal.c
 *	  What seal.h promises: AES-256-GCM by published vectors, that a sealed text opens with
 *	  its key and for its owner alone, that no change to it goes unnoticed, and which key
 *	  files are accepted.
 */
#include "postgres_fe.h"

#include <openssl/err.h>
#include <openssl/evp.h>

#include "seal.h"
#include "tap.h"

#define OWNER "smartspace.cobot_secret.token 5"
#define SECRET "0123456789abcdefSecret"

static size_t
bytes_of(const char *hex, uint8 *bytes)
{
	size_t		count = strlen(hex) / 2;

	for (size_t i = 0; i < count; i++)
	{
		unsigned int byte;

		sscanf(hex + 2 * i, "%2x", &byte);
		bytes[i] = (uint8) byte;
	}
	return count;
}

/* ---- AES-256-GCM ---- */

typedef struct Vector
{
	const char *name;
	const char *key;
	const char *nonce;
	const char *plain;
	const char *associated;
	const char *cipher;
	const char *tag;
} Vector;

/* McGrew and Viega, "The Galois/Counter Mode of Operation", test cases 13 to 16. */
static const Vector vectors[] = {
	{
		"nothing", "0000000000000000000000000000000000000000000000000000000000000000", "000000000000000000000000",
		"", "", "", "530f8afbc74536b9a963b4f1c4cb738b"
	}, {
		"one block", "0000000000000000000000000000000000000000000000000000000000000000", "000000000000000000000000",
		"00000000000000000000000000000000", "", "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"
	}, {
		"four blocks", "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
		"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
		"1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255", "",
		"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
		"8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad", "b094dac5d93471bdec1a502270e3cc6c"
	}, {
		"associated data", "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
		"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
		"1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39", "feedfacedeadbeeffeedfacedeadbeefabaddad2",
		"522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
		"8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662", "76fc6ece0f4e1768cddf8853bb2d551b"
	}
};

static void
test_vectors(void)
{
	for (int i = 0; i < (int) lengthof(vectors); i++)
	{
		const Vector *vector = &vectors[i];
		uint8		key[SEAL_KEY_BYTES];
		uint8		nonce[SEAL_NONCE_BYTES];
		uint8		plain[64];
		uint8		associated[64];
		uint8		cipher[64];
		uint8		tag[SEAL_TAG_BYTES];
		uint8		got[64];
		uint8		got_tag[SEAL_TAG_BYTES];
		static const uint8 zeros[64];
		size_t		length = bytes_of(vector->plain, plain);
		size_t		associated_length = bytes_of(vector->associated, associated);

		bytes_of(vector->key, key);
		bytes_of(vector->nonce, nonce);
		bytes_of(vector->cipher, cipher);
		bytes_of(vector->tag, tag);

		ok(seal_encrypt(key, nonce, associated, associated_length, plain, length, got, got_tag) &&
		   memcmp(got, cipher, length) == 0 && memcmp(got_tag, tag, sizeof(tag)) == 0, "%s: encrypted as published", vector->name);
		ok(seal_decrypt(key, nonce, associated, associated_length, cipher, length, got, tag) == SEAL_OPENED &&
		   memcmp(got, plain, length) == 0, "%s: decrypted as published", vector->name);
		tag[SEAL_TAG_BYTES - 1] ^= 1;
		ok(seal_decrypt(key, nonce, associated, associated_length, cipher, length, got, tag) == SEAL_NOT_AUTHENTIC &&
		   memcmp(got, zeros, length) == 0, "%s: with another tag nothing comes out", vector->name);
	}
}

/* ---- sealed texts ---- */

static SealKeys
two_keys(void)
{
	SealKeys	keys = {.count = 2, .key = {{.id = "new"}, {.id = "old"}}};

	for (int i = 0; i < SEAL_KEY_BYTES; i++)
	{
		keys.key[0].bytes[i] = (uint8) (i * 7 + 1);
		keys.key[1].bytes[i] = (uint8) (i * 11 + 5);
	}
	return keys;
}

/* What comes out of a text: the secret, or the outcome in words. */
static const char *
opened(const SealKeys *keys, const char *owner, const char *text)
{
	static char secret[SEAL_TEXT_SIZE];
	char	   *buffer = malloc(strlen(text) + 1);	/* of exactly that size, for the address sanitizer */
	int			key;
	SealOutcome outcome = seal_open(keys, owner, text, buffer, &key);

	if (outcome == SEAL_OPENED)
		snprintf(secret, sizeof(secret), "%s", buffer);
	free(buffer);
	return outcome == SEAL_OPENED ? secret : outcome == SEAL_NO_SUCH_KEY ? "no such key" :
		outcome == SEAL_NOT_AUTHENTIC ? "not authentic" : "failed";
}

static void
test_round_trip(void)
{
	SealKeys	keys = two_keys();
	SealKeys	others = two_keys();
	char		text[SEAL_TEXT_SIZE];
	char		again[SEAL_TEXT_SIZE];
	char		old[SEAL_TEXT_SIZE];
	char		longest[SEAL_SECRET_LIMIT_BYTES + 2];
	char		id[SEAL_KEY_ID_LIMIT_BYTES + 1];
	char		secret[SEAL_TEXT_SIZE];
	int			key = -1;

	ok(seal_close(&keys.key[0], OWNER, SECRET, text), "a secret can be sealed");
	ok(strncmp(text, "sealed:1:new:", 13) == 0 && strlen(text) == 13 + 2 * (12 + strlen(SECRET) + 16), "the text has the documented form");
	ok(strstr(text, SECRET) == NULL, "and not the secret");
	ok(seal_is_sealed(text) && !seal_is_sealed(SECRET) && !seal_is_sealed(""), "it can be told from others");
	ok(seal_key_id(text, id) && strcmp(id, "new") == 0, "it names its key");
	is_text(opened(&keys, OWNER, text), SECRET, "it opens");
	ok(seal_close(&keys.key[0], OWNER, SECRET, again) && strcmp(text, again) != 0, "sealed twice, it looks different: the nonce is new");
	is_text(opened(&keys, OWNER, again), SECRET, "and opens as well");

	ok(seal_close(&keys.key[1], OWNER, SECRET, old) && seal_open(&keys, OWNER, old, secret, &key) == SEAL_OPENED && key == 1,
	   "with a key further down it opens, and which one is told");
	keys.count = 1;
	is_text(opened(&keys, OWNER, old), "no such key", "not without that key");
	keys.count = 0;
	is_text(opened(&keys, OWNER, text), "no such key", "nor without any");
	keys.count = 2;
	others.key[0].bytes[31] ^= 0x80;
	is_text(opened(&others, OWNER, text), "not authentic", "nor with another key of the same name");

	is_text(opened(&keys, "smartspace.cobot_secret.token 6", text), "not authentic", "nor in another row");
	is_text(opened(&keys, "smartspace.cobot_secret.client_secret 5", text), "not authentic", "nor in another column");
	is_text(opened(&keys, "", text), "not authentic", "nor for nobody");

	ok(seal_close(&keys.key[0], OWNER, "", text) && strcmp(opened(&keys, OWNER, text), "") == 0, "an empty secret");
	memset(longest, 'x', sizeof(longest));
	longest[SEAL_SECRET_LIMIT_BYTES] = '\0';
	ok(seal_close(&keys.key[0], OWNER, longest, text), "the longest secret");
	is_text(opened(&keys, OWNER, text), longest, "... opens");
	longest[SEAL_SECRET_LIMIT_BYTES] = 'x';
	longest[SEAL_SECRET_LIMIT_BYTES + 1] = '\0';
	ok(!seal_close(&keys.key[0], OWNER, longest, text), "one byte more is refused");
	memset(longest, 'x', SEAL_OWNER_LIMIT_BYTES + 1);
	longest[SEAL_OWNER_LIMIT_BYTES + 1] = '\0';
	ok(!seal_close(&keys.key[0], longest, SECRET, text), "an owner that is too long is refused, not cut");
}

/* Every change of every character, every cut, every addition: never another secret, and never this one by another text than its hexadecimal digits in upper case. */
static void
test_tampering(void)
{
	SealKeys	keys = two_keys();
	char		text[SEAL_TEXT_SIZE];
	char		changed[SEAL_TEXT_SIZE];
	int			opened_count = 0;
	int			tries = 0;
	size_t		length;

	seal_close(&keys.key[0], OWNER, SECRET, text);
	length = strlen(text);
	for (size_t i = 0; i < length; i++)
		for (int c = 1; c < 256; c++)
		{
			if (c == (unsigned char) text[i] || (i >= 13 && c == pg_toupper((unsigned char) text[i])))
				continue;
			strcpy(changed, text);
			changed[i] = (char) c;
			tries++;
			opened_count += strcmp(opened(&keys, OWNER, changed), SECRET) == 0;
		}
	ok(tries > 10000 && opened_count == 0, "no text with another character opens (%d of %d did)", opened_count, tries);

	opened_count = 0;
	for (size_t i = 0; i < length; i++)
	{
		strcpy(changed, text);
		changed[i] = '\0';
		opened_count += strcmp(opened(&keys, OWNER, changed), "not authentic") != 0;
		strcpy(changed, text);
		memmove(changed + i, changed + i + 1, length - i);
		opened_count += strcmp(opened(&keys, OWNER, changed), SECRET) == 0;
	}
	ok(opened_count == 0, "none that was cut, and none that lacks a character");
	snprintf(changed, sizeof(changed), "%s00", text);
	is_text(opened(&keys, OWNER, changed), "not authentic", "none with something behind it");

	/* another key's id, where both keys are there */
	snprintf(changed, sizeof(changed), "sealed:1:old:%s", text + 13);
	is_text(opened(&keys, OWNER, changed), "not authentic", "none with the id of another key");
	keys.key[1] = keys.key[0];
	strcpy(keys.key[1].id, "old");
	is_text(opened(&keys, OWNER, changed), "not authentic", "not even if that key has the same bytes");

	is_text(opened(&keys, OWNER, "sealed:1:new:"), "not authentic", "nothing behind the key id");
	is_text(opened(&keys, OWNER, "sealed:1::00"), "not authentic", "no key id");
	is_text(opened(&keys, OWNER, "sealed:2:new:00"), "not authentic", "another version");
	is_text(opened(&keys, OWNER, "sealed:"), "not authentic", "the beginning alone");
	is_text(opened(&keys, OWNER, ""), "not authentic", "nothing at all");
	memset(changed, 'a', sizeof(changed) - 1);
	memcpy(changed, "sealed:1:new:", 13);
	changed[sizeof(changed) - 1] = '\0';
	is_text(opened(&keys, OWNER, changed), "not authentic", "the longest text");
	memcpy(changed, "sealed:1:aaaa", 13);
	is_text(opened(&keys, OWNER, changed), "not authentic", "a key id without an end");
}

/* As where OpenSSL's configuration leaves AES out. */
static void
test_without_openssl(void)
{
	SealKeys	keys = two_keys();
	char		text[SEAL_TEXT_SIZE];
	char		again[SEAL_TEXT_SIZE];
	char		nothing[SEAL_TEXT_SIZE];

	seal_close(&keys.key[0], OWNER, SECRET, text);
	ok(EVP_set_default_properties(NULL, "provider=none") == 1, "OpenSSL has no algorithms");
	is_text(opened(&keys, OWNER, text), "failed", "nothing opens, and the key is not blamed");
	ok(!seal_close(&keys.key[0], OWNER, SECRET, again), "nothing is sealed");
	memset(nothing, '\0', sizeof(nothing));
	ok(!seal_encrypt(keys.key[0].bytes, (const uint8 *) "nonce of 12b", NULL, 0, (const uint8 *) SECRET, strlen(SECRET),
					 (uint8 *) nothing, (uint8 *) again) && strstr(nothing, SECRET) == NULL, "and nothing passes as it is");
	ok(ERR_peek_error() == 0, "OpenSSL's queue of errors is left empty, as the server needs it");
	EVP_set_default_properties(NULL, "");
	is_text(opened(&keys, OWNER, text), SECRET, "once it has them again, all is well");
}

/* ---- key files ---- */

#define HEX_A "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define HEX_B "FFFEFDFCFBFAF9F8F7F6F5F4F3F2F1F0EFEEEDECEBEAE9E8E7E6E5E4E3E2E1E0"

/* The ids of the keys, or the line and what is wrong with it. */
static const char *
keys_of(const char *file, size_t length)
{
	static char text[1024];
	SealKeys	keys;
	char	   *exact = malloc(length > 0 ? length : 1);	/* no NUL behind it, for the address sanitizer */
	int			line = -1;
	const char *wrong;

	memcpy(exact, file, length);
	wrong = seal_read_keys(exact, length, &keys, &line);
	free(exact);
	if (wrong)
	{
		snprintf(text, sizeof(text), "%d %s", line, wrong);
		return text;
	}
	text[0] = '\0';
	for (int i = 0; i < keys.count; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s=%02x..%02x", i > 0 ? " " : "",
				 keys.key[i].id, keys.key[i].bytes[0], keys.key[i].bytes[31]);
	return text;
}

#define KEYS_OF(literal) keys_of((literal), sizeof(literal) - 1)

static void
test_key_files(void)
{
	char		many[(SEAL_KEY_LIMIT + 1) * 80];

	is_text(KEYS_OF("k1 " HEX_A "\n"), "k1=00..1f", "one key");
	is_text(KEYS_OF("k1 " HEX_A), "k1=00..1f", "without a line end");
	is_text(KEYS_OF("# keys\r\n\r\n \tk.2_-\t " HEX_B " \r\n\n  # older\nk1 " HEX_A "\n\n"), "k.2_-=ff..e0 k1=00..1f", "comments, blank lines, blanks");
	is_text(KEYS_OF("12345678901234567890123456789012 " HEX_A), "12345678901234567890123456789012=00..1f", "the longest key id");

	is_text(KEYS_OF(""), "0 has no key", "an empty file");
	is_text(KEYS_OF("# nothing\n\n"), "0 has no key", "only comments");
	is_text(KEYS_OF("k1 " HEX_A "\nk1 " HEX_B "\n"), "2 has the key id of a line above", "an id twice");
	is_text(KEYS_OF("123456789012345678901234567890123 " HEX_A), "1 begins with a key id that is too long", "a longer id");
	is_text(KEYS_OF("k:1 " HEX_A),
			"1 begins with a key id that has other characters than letters, digits, dots, hyphens and underscores", "a colon");
	is_text(KEYS_OF("k\0 " HEX_A),
			"1 begins with a key id that has other characters than letters, digits, dots, hyphens and underscores", "a NUL in the id");

#define BAD_HEX "1 does not have 64 hexadecimal digits after the key id, and nothing else"
	is_text(KEYS_OF(HEX_A), "1 begins with a key id that is too long", "a key without an id");
	is_text(KEYS_OF("k1"), BAD_HEX, "an id without a key");
	is_text(KEYS_OF("k1 \n"), BAD_HEX, "... and a blank");
	is_text(KEYS_OF("k1 00" HEX_A), BAD_HEX, "a key that is too long");
	is_text(KEYS_OF("k1 " "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"), BAD_HEX, "one that is too short");
	is_text(KEYS_OF("k1 " "g00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"), BAD_HEX, "other characters");
	is_text(KEYS_OF("k1 " HEX_A " # old"), BAD_HEX, "a comment behind it");
	is_text(KEYS_OF("k1 " HEX_A "\0"), BAD_HEX, "a NUL behind it");

	many[0] = '\0';
	for (int i = 0; i < SEAL_KEY_LIMIT; i++)
		sprintf(many + strlen(many), "k%d " HEX_A "\n", i);
	ok(strchr(keys_of(many, strlen(many)), '=') != NULL, "as many keys as there may be");
	strcat(many, "more " HEX_A "\n");
	is_text(keys_of(many, strlen(many)), "17 is one key too many", "one more");
}

int
main(void)
{
	test_vectors();
	test_round_trip();
	test_tampering();
	test_key_files();
	test_without_openssl();
	return done_testing();
}
