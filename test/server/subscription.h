/*
 * subscription.h
 *	  Webhook subscriptions: who wants to be told of which event, and where. They
 *	  are kept and listed; the server tells nobody.
 */
#ifndef COBOT_TEST_SUBSCRIPTION_H
#define COBOT_TEST_SUBSCRIPTION_H

#include "world.h"

/* Whether Cobot has an event of this name. */
extern bool subscription_event_known(const char *event);

/*
 * A new one, which belongs to this user and this app (NULL: to nobody who can
 * ask). NULL if they have one for the same event and callback URL already.
 */
extern cJSON *subscription_add(Space *space, const char *user_id, const char *client_id,
							   const char *event, const char *callback_url);

/* By its id; NULL if there is none. */
extern cJSON *subscription_find(Space *space, const char *id);
extern bool subscription_belongs(const cJSON *subscription, const char *user_id, const char *client_id);
extern void subscription_delete(Space *space, cJSON *subscription);

/* As Cobot shows it; the caller frees the copy. */
extern cJSON *subscription_copy(const cJSON *subscription);

#endif
