/*
 * request.h
 *	  One request on its way through the server: what was asked, whom it
 *	  concerns, what is answered and how.
 */
#ifndef COBOT_TEST_REQUEST_H
#define COBOT_TEST_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "answer.h"
#include "url.h"
#include "world.h"

struct MHD_Connection;

/* How the answer travels. Everything but the first acts out a failure. */
typedef enum DeliveryKind
{
	DELIVER_WHOLE,
	DELIVER_STALL,				/* bytes of the body, then silence on an open connection */
	DELIVER_STALL_HEADERS,		/* silence from the start */
	DELIVER_CUT,				/* bytes of the body, then the connection closes */
	DELIVER_DROP,				/* the connection closes without an answer */
	DELIVER_HUGE,				/* bytes of JSON made up on the way */
	DELIVER_GZIP_BOMB			/* a small body that expands to bytes */
} DeliveryKind;

typedef struct Delivery
{
	DeliveryKind kind;
	uint64_t	bytes;
	int			delay_ms;		/* before the first byte */
	bool		announce_length;	/* of a huge body, which is chunked otherwise */
} Delivery;

typedef struct Request
{
	/* asked */
	struct MHD_Connection *connection;
	uint64_t	connection_number;
	char	   *method;
	char	   *host;			/* lower case, without port; "" if none */
	char	   *path;			/* as sent, still encoded */
	char	   *query;			/* as sent, without the question mark; NULL if none */
	char	   *token;			/* NULL if none */
	char	   *user_agent;
	bool		accepts_gzip;
	char	   *if_none_match;	/* the header as sent; NULL if none */
	Text		body;

	/* found out on the way; the pointers are good while the world is locked */
	UrlParams	params;
	Space	   *space;			/* of the host name; NULL for www */
	const Token *access;		/* NULL for an open call without a token */
	const User *user;

	/* answered */
	bool		handled;
	Answer		answer;
	Delivery	delivery;
	bool		waited;			/* delay or stall is over */
	bool		gone;			/* meanwhile the client hung up, or the server stops */
} Request;

extern Request *request_create(const char *uri);
extern void request_free(Request *request);

/* Fills in answer and delivery: faults, then the API. Takes the locks it needs. */
extern void request_handle(Request *request);

/* A query parameter, decoded; the caller frees it. */
extern char *request_query(const Request *request, const char *name);

/* The body as JSON, or NULL and an answer 400. The caller frees it. */
extern cJSON *request_json(Request *request);

/* A value of the body, be it a JSON object or a form; NULL if missing. The caller frees it. */
extern char *request_body_value(const Request *request, const char *name);

#endif
