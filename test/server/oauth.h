/*
 * oauth.h
 *	  The apps that are registered with Cobot, and the codes they were given.
 *	  Wants the world's lock.
 */
#ifndef COBOT_TEST_OAUTH_H
#define COBOT_TEST_OAUTH_H

#include "world.h"

/* What a user consented to, until the app fetches its token. */
typedef struct OAuthCode
{
	char	   *client_id;
	char	   *user_id;
	char	   *redirect_uri;
	char	   *challenge;		/* S256, or NULL */
	cJSON	   *scopes;			/* array of strings */
	double		expires;		/* by clock_now() */
} OAuthCode;

/*
 * Registers an app, or replaces the one of this id, from {"client_id",
 * "client_secret", "redirect_uris", "scopes"}, all optional, which is completed
 * and taken over. NULL if it is not of this form; then it is freed.
 */
extern const cJSON *oauth_client_put(cJSON *wanted);
extern const cJSON *oauth_client_find(const char *id);
extern bool oauth_client_delete(const char *id);

/* A registered address that ends in "*" stands for all that begin so. */
extern bool oauth_client_may_redirect(const cJSON *client, const char *uri);

/* "read_user checkin" as an array, which the caller owns; NULL unless the app may ask for all of it. */
extern cJSON *oauth_client_scopes(const cJSON *client, const char *scope);

/* Takes the scopes over; the caller frees the text of the code. */
extern char *oauth_code_give(const cJSON *client, const char *user_id, const char *redirect_uri,
							 const char *challenge, cJSON *scopes);

/* A code is good once: it is gone from the world, and freed by the caller. NULL if unknown or too old. */
extern OAuthCode *oauth_code_take(const char *code);
extern void oauth_code_free(OAuthCode *code);

/* Whether this looks like an S256 challenge: 43 characters of base64url. */
extern bool oauth_challenge_is_valid(const char *challenge);

/* The verifier (or NULL) fits the challenge, or both are missing. */
extern bool oauth_code_is_proven(const OAuthCode *code, const char *verifier);

/* Forgets all apps and codes. */
extern void oauth_clear(void);

#endif
