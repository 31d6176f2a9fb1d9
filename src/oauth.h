/*
 * oauth.h
 *	  Authorisation at Cobot by OAuth 2 (authorisation code with PKCE): a person is sent
 *	  to an URL of Cobot's, and comes back with a state and a code, which is exchanged
 *	  for an access token. For the plug, which connects an integration, and for the login
 *	  of a mobile app; what is done with the token is theirs.
 *
 * All functions need a connection to SPI, and write unless said otherwise. Only
 * oauth_exchange() waits (for Cobot, interruptible). Results are palloc'd in the current
 * memory context. No message has a state, code, verifier, secret or token in it; who
 * takes them as arguments of an SQL function calls statement_hide() first.
 *
 * A flow is good once, for OAUTH_LIFETIME_S, for the purpose and the owner it was begun
 * for. Only a digest of its state is kept. A transaction that is rolled back leaves it as
 * it was: Cobot takes each code once, anyway.
 */
#ifndef SMARTSPACE_OAUTH_H
#define SMARTSPACE_OAUTH_H

#include "cobot_client.h"
#include "oauth_text.h"

#define OAUTH_LIFETIME_S 600

typedef enum OauthPurpose
{
	OAUTH_CONNECT,				/* owner: an integration */
	OAUTH_LOGIN					/* owner: a mobile app */
} OauthPurpose;

typedef struct OauthFlow
{
	OauthPurpose purpose;
	int64		owner;
	char	   *redirect_uri;
	char	   *scope;			/* separated by blanks */
	char	   *verifier;		/* of oauth_take() */
} OauthFlow;

/* The OAuth client (app) at Cobot that the owner of the flow uses. */
typedef struct OauthClient
{
	char	   *id;
	char	   *secret;			/* NULL: there is none, as of an app that cannot keep one */
} OauthClient;

/* Overwrites the secret in memory. */
extern void oauth_wipe_client(OauthClient *client);

/*
 * Throws 22023 for what cannot be the id, or the secret, of an OAuth client, without showing
 * it. NULL: there is none to look at.
 */
extern void oauth_check_client(const char *client_id, const char *client_secret);

/*
 * Begins a flow and returns the URL for the person's browser. purpose, owner,
 * redirect_uri and scope are the caller's and have been checked. subdomain: of the space
 * on whose own host Cobot shall ask, checked; NULL: www.cobot.me. Ends flows that have
 * expired, and the oldest ones of an owner that has very many.
 */
extern char *oauth_begin(const OauthFlow *flow, const char *client_id, const char *subdomain);

/*
 * The flow of this state, which is used up with it: of two that come at once, the other one
 * waits for the end of this transaction. redirect_uri: where the person came back to, if
 * that is known, else NULL. Throws 22023 for a state that is unknown, expired, used, or of
 * another purpose or redirect URI, without telling which of these unless the state is
 * right. Wipe it with oauth_wipe() when the code is exchanged.
 */
extern void oauth_take(OauthFlow *flow, OauthPurpose purpose, const char *state, const char *redirect_uri);
extern void oauth_wipe(OauthFlow *flow);

/*
 * Exchanges the code for an access token. The Cobot client has no token, and may have no
 * subdomain (cobot_client_init()). Throws what went wrong, with words about the OAuth
 * client for what Cobot says (invalid_grant, invalid_client). The caller wipes the token.
 */
extern char *oauth_exchange(CobotClient *cobot, const OauthFlow *flow, const OauthClient *client, const char *code);

/*
 * The token that stands under key in the answer of a call that ended in COBOT_OK. Wipes
 * the rest of the answer. Throws 08P01 if there is none, or what cannot be one. The
 * caller wipes the token.
 */
extern char *oauth_read_token(CobotCall *call, const char *key);

/*
 * In words what Cobot's redirect tells instead of a code: error, and error_description
 * or NULL, both as they came in the URL, so they may be anything. *denied: the person
 * said no.
 */
extern char *oauth_refusal(const char *error, const char *description, bool *denied);

#endif
