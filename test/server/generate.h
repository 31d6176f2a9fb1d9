/*
 * generate.h
 *	  Spaces full of people, made from a seed: the same seed gives the same
 *	  people on the same day, and nothing is stored until it is changed.
 */
#ifndef COBOT_TEST_GENERATE_H
#define COBOT_TEST_GENERATE_H

#include "member.h"

typedef struct GenerateOptions
{
	int			spaces;
	int			members;		/* in the default list of each space; a few former ones come on top */
	int			plans;
	uint64_t	seed;
	const char *admin_token;	/* of an admin of all spaces; TOKEN-SUBDOMAIN is one space's own */
} GenerateOptions;

extern uint64_t generate_mix(uint64_t a, uint64_t b, uint64_t c);

/* Fills the world, which must be empty. */
extern void generate_world(const GenerateOptions *options);

/* What an unchanged space looks like; the caller owns the trees. */
extern cJSON *generate_space_record(const Space *space);
extern cJSON *generate_plans(const Space *space);
extern Field *generate_fields(const Space *space, int *count);

/* One member: slot must be below space->generated_members. */
extern void generate_member_id(const Space *space, int slot, char id[MEMBER_ID_SIZE]);
extern void generate_member_facts(const Space *space, int slot, MemberFacts *facts);
extern int	generate_find_member(const Space *space, const char *id);	/* -1 if none */

/* Which member a generated user is; false if none. */
extern bool generate_find_user(const char *user_id, Space **space, int *slot);

/* A custom field's value, added to the text; false if the member has none. */
extern bool generate_value(const Space *space, int slot, int field, Text *out);
extern cJSON *generate_member_values(Space *space, int slot);	/* field id -> value */

/* For many records in a row; generated_close(NULL) is fine. */
typedef struct Generated Generated;
extern Generated *generated_open(const Space *space);
extern void generate_member(Generated *generated, int slot, Text *out);
extern void generated_close(Generated *generated);

#endif
