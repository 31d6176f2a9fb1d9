/*
 * mobile_app.h
 *	  One row of mobile_app together with its secret. The caller has connected to SPI.
 */
#ifndef SMARTSPACE_MOBILE_APP_H
#define SMARTSPACE_MOBILE_APP_H

#include "home.h"
#include "oauth.h"
#include "secret.h"

typedef struct MobileApp
{
	int64		id;
	char	   *name;
	char	   *scope;
	char	   *subdomain;		/* NULL: people log in at www.cobot.me */
	bool		store_strangers;
	bool		revoke_token;
	OauthClient client;			/* id NULL: not known yet */
	Secret		secret;			/* the client's, and whether it can be read */
	Home		home;			/* the place it is armed for */
} MobileApp;

/*
 * Reads a mobile app into palloc'd memory. Throws 22004 for a null id (is_null) and
 * 42704 for an unknown one. Wipe the client with oauth_wipe_client().
 */
extern void mobile_app_load(MobileApp *app, int64 id, bool is_null);

/* Throws 55000, with what to do, unless it has an OAuth client and is armed for this place. */
extern void mobile_app_require_ready(const MobileApp *app);

/* Whether the allow-list has exactly this address, at this moment. */
extern bool mobile_app_allows(const MobileApp *app, const char *redirect_uri);

#endif
