/*
 * cobot_answer.h
 *	  What Cobot answers to the smaller questions, which are asked when somebody connects,
 *	  logs in or sets something up. (Members and plans: cobot_record.h; check-ins:
 *	  checkin_record.h.) Server-free like json.h.
 *
 * Strings belong to the tree that they came from. Every function that returns bool gives
 * false with an error when the answer is not understood.
 */
#ifndef SMARTSPACE_COBOT_ANSWER_H
#define SMARTSPACE_COBOT_ANSWER_H

#include "json.h"

#define COBOT_ERROR_CODE_SIZE 64	/* with its NUL; the longest of OAuth has 25 characters */
#define COBOT_USER_ID_LIMIT_BYTES 200

/* The token at a key: 1 to OAUTH_TOKEN_LIMIT_BYTES printable ASCII characters without blanks. */
extern bool cobot_read_token(const cJSON *answer, const char *key, const char **token, JsonError *error);

/* The code in {"error": CODE} of an answer that may be anything. False: there is none, or none so short. */
extern bool cobot_read_error_code(const char *body, size_t length, char code[COBOT_ERROR_CODE_SIZE]);

/* Whom GET /api/user names. NULL is what it does not say. */
typedef struct CobotUser
{
	const char *id;				/* 1 to COBOT_USER_ID_LIMIT_BYTES, never NULL */
	const char *email;
	const char *name;			/* also by a space that the user is an admin of: Cobot's documented answer has no other */
	const cJSON *memberships;	/* an array */
} CobotUser;

/* One of them. An empty text is what Cobot left out. */
typedef struct CobotUserMembership
{
	const char *id;
	const char *subdomain;
	const char *space_name;
} CobotUserMembership;

extern bool cobot_read_user(const cJSON *answer, CobotUser *user, JsonError *error);
extern bool cobot_read_user_membership(const cJSON *element, const char *where,
									   CobotUserMembership *membership, JsonError *error);

/* The definitions of custom fields: each must have an id and a label. */
extern bool cobot_read_field_definitions(const cJSON *list, int *count, JsonError *error);

/* A webhook subscription. */
typedef struct CobotSubscription
{
	const char *id;
	const char *event;
	const char *callback_url;	/* "" if Cobot does not say */
	bool		active;			/* false once Cobot gave the callback up */
} CobotSubscription;

extern bool cobot_read_subscription(const cJSON *element, const char *where,
									CobotSubscription *subscription, JsonError *error);

#endif
