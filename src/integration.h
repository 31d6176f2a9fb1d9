/*
 * integration.h
 *	  One row of cobot_integration together with its secrets. The caller has
 *	  connected to SPI.
 */
#ifndef SMARTSPACE_INTEGRATION_H
#define SMARTSPACE_INTEGRATION_H

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
	int64		hash_seed;
} Integration;

/*
 * Reads an integration into palloc'd memory. Throws 22004 for a null id
 * (is_null) and 42704 for an unknown one.
 */
extern void integration_load(Integration *integration, int64 id, bool is_null);

/* Throws 55000, with what to do, unless the integration can talk to Cobot. */
extern void integration_require_connected(const Integration *integration);

/* Overwrites the token in memory. */
extern void integration_wipe(Integration *integration);

/*
 * Sets state and reason (NULL: none), writing only when that changes
 * something.
 */
extern void integration_set_state(int64 id, const char *state, const char *reason);

#endif
