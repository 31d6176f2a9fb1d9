/*
 * integration.h
 *	  One row of cobot_integration together with its secrets. The caller has
 *	  connected to SPI.
 */
#ifndef SMARTSPACE_INTEGRATION_H
#define SMARTSPACE_INTEGRATION_H

#include "cobot_client.h"
#include "home.h"
#include "oauth.h"

/* The label of the custom field that names further user groups (facts: fields are found by label). */
#define INTEGRATION_FIELD_LABEL "smart_spaces_access_additional_units"

typedef struct Integration
{
	int64		id;
	char	   *name;
	char	   *subdomain;
	char	   *state;
	char	   *space_id;		/* NULL before the first connection */
	char	   *time_zone;
	bool		sync_individual_access;
	char	   *token;			/* NULL: not connected */
	char	   *connected_by;	/* e-mail of the Cobot user behind it; NULL: not known */
	int64		hash_seed;
	Home		home;			/* the place it is armed for */
	int			hold_removals_above;
	int			hold_removals_above_percent;
	int			hold_emptied_group_of;	/* 0: not looked at */
} Integration;

/*
 * Reads an integration into palloc'd memory. Throws 22004 for a null id
 * (is_null) and 42704 for an unknown one.
 */
extern void integration_load(Integration *integration, int64 id, bool is_null);

/* Keeps others from changing the integration until the transaction ends. Throws 42704 for an unknown one. */
extern void integration_lock(int64 id);

/* Its OAuth client, for oauth_wipe_client() at last. Throws 55000 if there is none. */
extern void integration_load_client(const Integration *integration, OauthClient *client);

/*
 * Throws 55000, with what to do, unless the integration can talk to Cobot: it is
 * armed for this place, not paused, and has a token.
 */
extern void integration_require_connected(const Integration *integration);

/* Throws 55000 if somebody paused it. */
extern void integration_require_not_paused(const Integration *integration);

/* As integration_require_connected(), without throwing. */
extern bool integration_can_ask(const Integration *integration);

/*
 * The only ways to a client, so that nothing leaves a copy of the database: with
 * the token that is kept, where integration_require_connected() passes; with another
 * one, where the integration is armed for this place. Nothing is sent yet.
 */
extern void integration_open_client(const Integration *integration, CobotClient *client, MemoryContext context);
extern void integration_open_client_with(const Integration *integration, CobotClient *client, MemoryContext context,
										 const char *token);

/* Overwrites the token in memory. */
extern void integration_wipe(Integration *integration);

/* The integration has a token that works: state connected, whatever it was. */
extern void integration_set_connected(int64 id);

/*
 * How the last run went: connected, or degraded for a reason (NULL: none). Writes
 * only what differs, and leaves an integration alone that a person paused or
 * disconnected while the run was under way.
 */
extern void integration_report(int64 id, const char *reason);

#endif
