/*
 * webhook_event.h
 *	  What a webhook of Cobot says, and whom it is about. Server-free like json.h.
 *
 * Facts: Cobot's webhooks are not signed, the event's name is not in the body,
 * and the body is {"url": "https://SUBDOMAIN.cobot.me/api/memberships/ID"}, with
 * the record beside it where it was deleted. Anybody can send that, so a webhook is a
 * hint and nothing more: an id to ask Cobot for with our own token, at an address
 * that we make ourselves.
 */
#ifndef SMARTSPACE_WEBHOOK_EVENT_H
#define SMARTSPACE_WEBHOOK_EVENT_H

#include "json.h"

/* As that of the ids in cobot_record.c. */
#define WEBHOOK_ID_LIMIT_BYTES 200

typedef enum WebhookKind
{
	WEBHOOK_IGNORED,			/* says nothing about members, or nobody knows it */
	WEBHOOK_MEMBER,				/* something about one membership changed */
	WEBHOOK_FIELDS				/* custom fields changed: of one membership, or of anybody */
} WebhookKind;

typedef struct WebhookEvent
{
	const char *name;
	WebhookKind kind;
} WebhookEvent;

/* The events that somebody thought about, each with what it means. */
extern const WebhookEvent webhook_events[];
extern const int webhook_event_count;

/* By its name; NULL for one that nobody thought about. */
extern const WebhookEvent *webhook_event_find(const char *name);

/* What one webhook comes to. */
typedef struct WebhookHint
{
	WebhookKind kind;
	bool		is_known;		/* the event is in webhook_events */
	char		cobot_id[WEBHOOK_ID_LIMIT_BYTES + 1];	/* whom it is about; "" for WEBHOOK_FIELDS of
														 * anybody, and for WEBHOOK_IGNORED */
} WebhookHint;

/*
 * Reads a webhook. The URL in the payload must be exactly
 * https://SUBDOMAIN.cobot.me/api/memberships/ID, with nothing before, between or
 * after; WEBHOOK_FIELDS may have any other path below /api/. False with the path of
 * what is wrong; the message quotes nothing of the payload. The payload of an
 * ignored event is not looked at.
 */
extern bool webhook_read(const char *event, const cJSON *payload, const char *subdomain,
						 WebhookHint *hint, JsonError *error);

#endif
