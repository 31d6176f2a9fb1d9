/*
 * seal.h
 *	  Sealed secrets as texts: AES-256-GCM with a key from a key file. Knows nothing of
 *	  the server, of files and of tables; never throws, and allocates nothing but what
 *	  OpenSSL needs for itself.
 *
 * A sealed secret reads sealed:1:KEYID:HEX. The 1 is the version of the format; HEX has
 * the nonce, the ciphertext and the tag. Everything before HEX and the owner, which says
 * whose secret it is, are authenticated as well: so it opens nowhere but where it was
 * sealed for.
 */
#ifndef SMARTSPACE_SEAL_H
#define SMARTSPACE_SEAL_H

#define SEAL_PREFIX "sealed:"
#define SEAL_VERSION_PREFIX SEAL_PREFIX "1:"

#define SEAL_KEY_BYTES 32
#define SEAL_NONCE_BYTES 12
#define SEAL_TAG_BYTES 16
#define SEAL_KEY_ID_LIMIT_BYTES 32
#define SEAL_KEY_LIMIT 16
#define SEAL_SECRET_LIMIT_BYTES 4096
#define SEAL_OWNER_LIMIT_BYTES 200

/* The longest sealed secret, with its NUL. */
#define SEAL_TEXT_SIZE (sizeof(SEAL_VERSION_PREFIX) + SEAL_KEY_ID_LIMIT_BYTES + 1 + \
						2 * (SEAL_NONCE_BYTES + SEAL_SECRET_LIMIT_BYTES + SEAL_TAG_BYTES))

typedef struct SealKey
{
	char		id[SEAL_KEY_ID_LIMIT_BYTES + 1];
	uint8		bytes[SEAL_KEY_BYTES];
} SealKey;

/* Whoever has them wipes them with explicit_bzero() as soon as they are used. */
typedef struct SealKeys
{
	int			count;
	SealKey		key[SEAL_KEY_LIMIT];	/* the first one seals, all of them open */
} SealKeys;

typedef enum SealOutcome
{
	SEAL_OPENED,
	SEAL_NO_SUCH_KEY,
	SEAL_NOT_AUTHENTIC,			/* the key does not open it, or it is no sealed secret at all */
	SEAL_FAILED					/* OpenSSL does not work */
} SealOutcome;

/*
 * Reads a key file: in each line a key's id, blanks, and 64 hexadecimal digits; comments
 * begin with #. NULL if that went well, else what is wrong with the line, such as "has no
 * key id"; line is 0 where it is the whole file. Shows no part of the file.
 */
extern const char *seal_read_keys(const char *text, size_t length, SealKeys *keys, int *line);

/* Does the text say of itself that it is sealed? Then nothing else may be stored like this. */
extern bool seal_is_sealed(const char *text);

/* The id of its key; false if it is no sealed secret. */
extern bool seal_key_id(const char *text, char id[SEAL_KEY_ID_LIMIT_BYTES + 1]);

/* Seals a secret of at most SEAL_SECRET_LIMIT_BYTES. False: there are no random numbers, or OpenSSL does not work. */
extern bool seal_close(const SealKey *key, const char *owner, const char *secret, char text[SEAL_TEXT_SIZE]);

/*
 * Opens it into a buffer as large as the text, and tells the key's place in keys. The
 * secret is set only if it was opened.
 */
extern SealOutcome seal_open(const SealKeys *keys, const char *owner, const char *text, char *secret, int *key);

/*
 * AES-256-GCM itself. The output is as long as the input; on decryption it is overwritten
 * with zeros unless the tag is right.
 */
extern bool seal_encrypt(const uint8 key[SEAL_KEY_BYTES], const uint8 nonce[SEAL_NONCE_BYTES],
						 const void *associated, size_t associated_length,
						 const uint8 *input, size_t length, uint8 *output, uint8 tag[SEAL_TAG_BYTES]);
extern SealOutcome seal_decrypt(const uint8 key[SEAL_KEY_BYTES], const uint8 nonce[SEAL_NONCE_BYTES],
								const void *associated, size_t associated_length,
								const uint8 *input, size_t length, uint8 *output, const uint8 tag[SEAL_TAG_BYTES]);

#endif
