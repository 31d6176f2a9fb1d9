/*
 * connect.h
 *	  Connecting an integration, wherever the token comes from. The caller has connected
 *	  to SPI; asks Cobot, interruptible.
 */
#ifndef SMARTSPACE_CONNECT_H
#define SMARTSPACE_CONNECT_H

#include "integration.h"

/* What a person wants to know afterwards. Lives in the context given and the current one. */
typedef struct Connected
{
	const char *space_name;		/* NULL: Cobot does not say */
	const char *time_zone;
	Datum		granted_scope;	/* text[] */
	Datum		missing_scope;	/* text[] */
	const char *custom_field;	/* in words */
} Connected;

/*
 * Checks the token and its user, swaps it for a space token, stores that, and sees to
 * the custom field; members, mappings and history stay as they are. token_ends: it was
 * made for this alone, and is revoked, whether that succeeds or not. Throws whatever is
 * wrong; then nothing is stored, and a space token that was made is revoked if Cobot can
 * be had.
 */
extern void connect_integration(const Integration *integration, MemoryContext context, const char *token, bool token_ends,
								Connected *result);

#endif
