/*
 * api.h
 *	  Cobot's API as a table: who may call what, how often, and which function
 *	  answers. One file per group of endpoints (api_*.c) brings its part of the
 *	  table; api.c puts them together.
 *
 * Handlers run with the world locked and must give an answer.
 */
#ifndef COBOT_TEST_API_H
#define COBOT_TEST_API_H

#include "request.h"

typedef enum ApiHost
{
	API_WWW,					/* www.cobot.me */
	API_SPACE,					/* SUBDOMAIN.cobot.me */
	API_ANY_HOST
} ApiHost;

typedef enum ApiAccess
{
	API_OPEN,					/* a token is welcome but not needed */
	API_TOKEN,					/* any valid token, and the scope if one is named */
	API_ADMIN					/* also an admin of the space */
} ApiAccess;

#define API_DEFAULT_LIMIT 60	/* calls per minute, endpoint and user */
#define API_MEMBERSHIPS_LIMIT 6

typedef struct ApiEndpoint
{
	const char *method;			/* NULL ends the table */
	ApiHost		host;
	const char *pattern;
	ApiAccess	access;
	const char *scope;			/* NULL: none */
	int			per_minute;
	void		(*handler) (Request *request);
} ApiEndpoint;

extern const ApiEndpoint api_token_endpoints[];
extern const ApiEndpoint api_user_endpoints[];
extern const ApiEndpoint api_membership_endpoints[];
extern const ApiEndpoint api_plan_endpoints[];
extern const ApiEndpoint api_custom_field_endpoints[];
extern const ApiEndpoint api_oauth_endpoints[];
extern const ApiEndpoint api_check_in_endpoints[];
extern const ApiEndpoint api_time_pass_endpoints[];
extern const ApiEndpoint api_navigation_endpoints[];
extern const ApiEndpoint api_subscription_endpoints[];

/* Answers as Cobot would. Wants the world's lock. */
extern void api_handle(Request *request);

/* 404 with the body {} */
extern void api_not_found(Request *request);

/* {"errors": {field: message}} with status 422 */
extern void api_invalid(Request *request, const char *field, const char *message);

/* A space token is good for its own space only; a user must be an admin. For calls with a token. */
extern bool api_is_admin(const Request *request);

/* What somebody gets who is neither an admin nor, where that is enough, the member. */
extern void api_forbid(Request *request);

/* The slot of the user's own current membership in this space, or -1. */
extern int	api_own_slot(const Request *request);

/*
 * The slot of the member that is the first parameter, for an admin or that very
 * member; else -1 and an answer.
 */
extern int	api_permitted_member(Request *request);

#endif
