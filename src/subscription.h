/*
 * subscription.h
 *	  The webhook subscriptions of one integration, here and at Cobot. Shared by
 *	  the subscription*.c files; others need subscription_end() at most.
 *
 *	subscription.c			what there is; list and delete
 *	subscription_create.c	make what is missing
 */
#ifndef SMARTSPACE_SUBSCRIPTION_H
#define SMARTSPACE_SUBSCRIPTION_H

#include "executor/spi.h"
#include "fmgr.h"
#include "nodes/execnodes.h"

#include "cobot_client.h"
#include "integration.h"
#include "webhook_secret.h"

/* A row of cobot_webhook_subscription. */
typedef struct StoredSubscription
{
	uint8		digest[WEBHOOK_DIGEST_LENGTH];
	const char *callback_url;
	bool		has_cobot_id;
	bool		listed;			/* Cobot has it */
} StoredSubscription;

/* A subscription that Cobot has. */
typedef struct ListedSubscription
{
	const char *cobot_id;
	const char *event;
	const char *callback_url;	/* "" if Cobot does not say; with the secret part */
	bool		active;
	const StoredSubscription *own;	/* NULL: not ours */
	bool		keep;			/* by cobot_create_webhooks() */
} ListedSubscription;

typedef struct Webhooks
{
	Integration integration;
	CobotClient client;
	MemoryContext context;		/* answers live here */
	StoredSubscription *stored;
	int			stored_count;
	ListedSubscription *listed;
	int			listed_count;
	ReturnSetInfo *result;
} Webhooks;

/*
 * For a set-returning function whose argument 0 is the integration: connects to
 * SPI, prepares result and client. Throws unless the integration can talk to Cobot.
 */
extern void subscription_open(Webhooks *webhooks, FunctionCallInfo fcinfo);
extern void subscription_close(Webhooks *webhooks);

/*
 * Reads what is stored and asks Cobot for what it has, for somebody who wants to
 * change it: alone until the end of the transaction, and what Cobot does not have
 * is forgotten here as well. Throws if Cobot does not say.
 */
extern void subscription_look_and_lock(Webhooks *webhooks);

/* One that is ours and for this event; one whose callback is this one with a secret of ours behind it. */
extern bool subscription_is_for(const ListedSubscription *listed, const char *event);
extern bool subscription_leads_to(const ListedSubscription *listed, const char *callback_url);

/* Deletes the row. */
extern void subscription_forget(const uint8 *digest);

/*
 * Deletes those of ours that are not to be kept, here and at Cobot. Returns an
 * array with an entry for each of Cobot's list, NULL where there was nothing to do.
 */
extern CobotCall **subscription_delete(Webhooks *webhooks);
extern bool subscription_is_deleted(const CobotCall *call);

/* Throws if there are calls and Cobot refused every one for lack of rights: that is one error, and nothing was done. */
extern void subscription_check_forbidden(const Webhooks *webhooks, CobotCall **calls, int count);

/*
 * For whoever gives up the token that the client has: deletes ours, as far as Cobot lets us
 * and its ids are known, and forgets those. client NULL: nobody can be asked. *deleted, *left:
 * how many. Throws nothing because of what Cobot says. Who pulls the plug has locked the
 * integration.
 */
extern void subscription_end(int64 integration, CobotClient *client, int *deleted, int *left);

/* A row (event, result, message) of the result; message may be NULL. */
extern void subscription_put_result(Webhooks *webhooks, const char *event, const char *result, const char *message);

#endif
