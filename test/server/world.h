/*
 * world.h
 *	  What the test server pretends exists: spaces, plans, members, users, tokens.
 *
 * One lock guards all of it (world_lock). Every function here and in the other
 * headers that takes a Space, User or Token wants the lock held.
 *
 * A space that came out of the generator costs a few hundred bytes: its record,
 * plans and members are made from the seed when asked for, and stored only once
 * somebody changes them. Members have slots: first the generated ones, then the
 * added ones, so the order of a list never changes.
 */
#ifndef COBOT_TEST_WORLD_H
#define COBOT_TEST_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "map.h"
#include "text.h"

typedef struct Member
{
	int			slot;
	char	   *id;
	char	   *record;			/* JSON text of one object, as Cobot shows it */
	char	   *user_id;		/* or NULL */
	bool		confirmed;
	int32_t		last_day;		/* canceled_to, or DAY_NEVER */
	bool		deleted;
	cJSON	   *values;			/* custom fields: object, field id -> string */
} Member;

typedef struct Field
{
	char	   *id;
	char	   *label;
	int			generated;		/* which of the generator's fields, or -1 */
} Field;

typedef struct Space
{
	char	   *subdomain;
	char	   *id;
	char	   *zone;
	unsigned	version;		/* grows with every change of the space */
	int			generated_index;	/* which of the generator's spaces, or -1 */

	cJSON	   *record;			/* these three are NULL while as generated */
	cJSON	   *plans;
	Field	   *fields;
	int			field_count;
	bool		fields_loaded;

	int			generated_members;	/* slots 0 to this - 1 */
	Member	  **overlay;		/* of the generated ones, NULL while as generated */
	Member	  **added;			/* slots from generated_members on */
	int			added_count;
	int			added_size;
	Map			stored;			/* id -> Member: all in overlay and added */

	struct CheckIn **check_ins; /* in the order they were made */
	int			check_in_count;
	int			check_in_size;
	Map			check_in_tokens;	/* token -> membership id */
	cJSON	   *links;			/* in the navigation; NULL as long as there was none */
	Map			time_passes;	/* membership id -> PassBook: where something happened */
	cJSON	   *subscriptions;	/* array, see subscription.c; NULL: none yet */
} Space;

typedef struct User
{
	char	   *id;
	cJSON	   *record;			/* id, email, name, admin_of: array of subdomains, or "all" */
} User;

typedef struct Token
{
	char	   *token;
	char	   *user_id;
	char	   *subdomain;		/* of a space token; NULL for a user token */
	char	   *client_id;
	cJSON	   *scopes;			/* array of strings */
} Token;

typedef struct Settings
{
	bool		rate_limit;
	bool		gzip;
	bool		etag;			/* of what is read; 304 for who has it */
	bool		omit_empty_fields;	/* else value null */
	bool		clear_omitted_values;	/* of a member's fields, by PUT */
	int			latency_ms;
	int			not_admin_status;	/* 403, or 401 as some clients expect */
	char	   *login_user;		/* whom an authorisation is by; NULL: the default user */
	bool		consent_denied;
	int			code_lifetime_s;
	bool		second_check_in;	/* who is checked in can check in again, else 422 */
	bool		bare_check_in_errors;	/* {"base": ...}, else {"errors": {"base": ...}} */
} Settings;

typedef struct World
{
	Map			spaces;			/* subdomain -> Space */
	Space	  **space_list;
	int			space_count;
	int			space_size;
	Map			users;
	Map			tokens;
	Map			clients;		/* client id -> cJSON of an app */
	Map			codes;			/* code -> OAuthCode */
	Settings	settings;
	uint64_t	ids_given;		/* for world_new_id() */
} World;

extern World world;

extern void world_lock(void);
extern void world_unlock(void);

/* Takes everything away; settings are kept. */
extern void world_clear(void);

/* "id" may be NULL: a new one is made. */
extern Space *space_add(const char *subdomain, const char *id, const char *zone);
extern Space *space_find(const char *subdomain);
extern Space *space_find_id(const char *id);
extern void space_changed(Space *space);

/* The caller frees the copy with cJSON_Delete. */
extern cJSON *space_record_copy(const Space *space);
extern cJSON *space_plans_copy(const Space *space);

/* Take over the cJSON value. */
extern void space_set_record(Space *space, cJSON *record);
extern void space_set_plans(Space *space, cJSON *plans);

/* Replaces a user or token of the same name. record is taken over. */
extern User *user_put(cJSON *record);
extern User *user_find(const char *id);
extern bool user_is_admin(const User *user, const Space *space);

extern Token *token_put(const char *token, const char *user_id, const char *subdomain,
						const char *client_id, cJSON *scopes);
extern Token *token_find(const char *token);
extern bool token_delete(const char *token);
extern bool token_has_scope(const Token *token, const char *scope);

/* Whom a token acts for: its user; for a space token, the owner if that user is no admin any more. */
extern User *token_user(const Token *token);

/* Every scope of table 3.2, as an array the caller owns. */
extern cJSON *all_scopes(void);

/* 32 or 64 hexadecimal characters, never the same twice, the same in every run. */
extern char *world_new_id(int length);

#endif
