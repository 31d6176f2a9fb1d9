/*
 * oauth.c
 *	  The apps that are registered with Cobot, and the codes they were given
 *	  (facts, 3).
 */
#include "oauth.h"

#include <gnutls/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "record.h"

#define SHA256_BYTES 32
#define CHALLENGE_LENGTH 43		/* of so many bytes in base64 without padding */
#define VERIFIER_MIN_LENGTH 43
#define VERIFIER_MAX_LENGTH 128

static const char base64url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
static const char unreserved[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

static bool
is_list_of_texts(const cJSON *list)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, list)
	{
		if (!cJSON_IsString(item))
			return false;
	}
	return cJSON_IsArray(list);
}

static void
default_id(cJSON *client, const char *key, int length)
{
	char	   *id = world_new_id(length);

	record_default(client, key, cJSON_CreateString(id));
	free(id);
}

const cJSON *
oauth_client_put(cJSON *wanted)
{
	static const char *const redirect_uris[] = {"https://app.example.com/*", "smartspace://login"};

	default_id(wanted, "client_id", 32);
	default_id(wanted, "client_secret", 64);
	record_default(wanted, "redirect_uris", cJSON_CreateStringArray(redirect_uris, 2));
	record_default(wanted, "scopes", all_scopes());
	if (record_text(wanted, "client_id") == NULL || record_text(wanted, "client_secret") == NULL ||
		!is_list_of_texts(record_item(wanted, "redirect_uris")) ||
		!is_list_of_texts(record_item(wanted, "scopes")))
	{
		cJSON_Delete(wanted);
		return NULL;
	}
	oauth_client_delete(record_text(wanted, "client_id"));
	map_set(&world.clients, record_text(wanted, "client_id"), wanted);
	return wanted;
}

const cJSON *
oauth_client_find(const char *id)
{
	return id != NULL ? map_get(&world.clients, id) : NULL;
}

bool
oauth_client_delete(const char *id)
{
	cJSON	   *client = map_remove(&world.clients, id);

	cJSON_Delete(client);
	return client != NULL;
}

bool
oauth_client_may_redirect(const cJSON *client, const char *uri)
{
	const cJSON *item;

	if (uri == NULL)
		return false;

	/* A fragment would swallow the answer; the others do not belong in a header. */
	for (const char *p = uri; *p != '\0'; p++)
	{
		if (*p <= ' ' || *p > '~' || *p == '#')
			return false;
	}
	cJSON_ArrayForEach(item, record_item(client, "redirect_uris"))
	{
		size_t		length = strlen(item->valuestring);
		bool		is_prefix = length > 0 && item->valuestring[length - 1] == '*';

		if (is_prefix ? strncmp(item->valuestring, uri, length - 1) == 0 : strcmp(item->valuestring, uri) == 0)
			return true;
	}
	return false;
}

static bool
list_has(const cJSON *list, const char *text)
{
	const cJSON *item;

	cJSON_ArrayForEach(item, list)
	{
		if (strcmp(item->valuestring, text) == 0)
			return true;
	}
	return false;
}

cJSON *
oauth_client_scopes(const cJSON *client, const char *scope)
{
	cJSON	   *scopes = cJSON_CreateArray();
	char	   *words = text_copy(scope != NULL ? scope : "");
	char	   *position = NULL;
	bool		allowed = true;

	for (char *word = strtok_r(words, " ", &position); word != NULL; word = strtok_r(NULL, " ", &position))
	{
		allowed = allowed && list_has(record_item(client, "scopes"), word);
		if (!list_has(scopes, word))
			cJSON_AddItemToArray(scopes, cJSON_CreateString(word));
	}
	free(words);
	if (allowed && scopes->child != NULL)
		return scopes;
	cJSON_Delete(scopes);
	return NULL;
}

char *
oauth_code_give(const cJSON *client, const char *user_id, const char *redirect_uri,
				const char *challenge, cJSON *scopes)
{
	OAuthCode  *code = memory_zero(sizeof(OAuthCode));
	char	   *name = world_new_id(64);

	code->client_id = text_copy(record_text(client, "client_id"));
	code->user_id = text_copy(user_id);
	code->redirect_uri = text_copy(redirect_uri);
	code->challenge = text_copy(challenge);
	code->scopes = scopes;
	code->expires = clock_now() + world.settings.code_lifetime_s;
	map_set(&world.codes, name, code);
	return name;
}

OAuthCode *
oauth_code_take(const char *name)
{
	OAuthCode  *code = name != NULL ? map_remove(&world.codes, name) : NULL;

	if (code != NULL && code->expires <= clock_now())
	{
		oauth_code_free(code);
		return NULL;
	}
	return code;
}

void
oauth_code_free(OAuthCode *code)
{
	if (code == NULL)
		return;
	free(code->client_id);
	free(code->user_id);
	free(code->redirect_uri);
	free(code->challenge);
	cJSON_Delete(code->scopes);
	free(code);
}

bool
oauth_challenge_is_valid(const char *challenge)
{
	return strlen(challenge) == CHALLENGE_LENGTH && strspn(challenge, base64url) == CHALLENGE_LENGTH;
}

/* The challenge that belongs to a verifier. */
static void
challenge_of(const char *verifier, char challenge[CHALLENGE_LENGTH + 1])
{
	unsigned char digest[SHA256_BYTES + 1] = {0};

	if (gnutls_hash_fast(GNUTLS_DIG_SHA256, verifier, strlen(verifier), digest) != 0)
		abort();
	for (int i = 0; i < CHALLENGE_LENGTH; i++)
	{
		const unsigned char *two = &digest[i * 6 / 8];
		int			shift = 10 - i * 6 % 8;

		challenge[i] = base64url[((two[0] << 8 | two[1]) >> shift) & 0x3f];
	}
	challenge[CHALLENGE_LENGTH] = '\0';
}

bool
oauth_code_is_proven(const OAuthCode *code, const char *verifier)
{
	char		challenge[CHALLENGE_LENGTH + 1];
	size_t		length;

	if (code->challenge == NULL || verifier == NULL)
		return code->challenge == NULL && verifier == NULL;
	length = strlen(verifier);
	if (length < VERIFIER_MIN_LENGTH || length > VERIFIER_MAX_LENGTH || strspn(verifier, unreserved) != length)
		return false;
	challenge_of(verifier, challenge);
	return strcmp(challenge, code->challenge) == 0;
}

void
oauth_clear(void)
{
	size_t		position = 0;
	MapEntry   *entry;

	while ((entry = map_next(&world.clients, &position)) != NULL)
		cJSON_Delete(entry->value);
	map_clear(&world.clients);

	position = 0;
	while ((entry = map_next(&world.codes, &position)) != NULL)
		oauth_code_free(entry->value);
	map_clear(&world.codes);
}
