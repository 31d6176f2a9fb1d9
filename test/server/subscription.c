/*
 * subscription.c
 *	  Webhook subscriptions of a space: an array in its state, each element as Cobot
 *	  shows it plus whom it belongs to.
 */
#include "subscription.h"

#include <stdlib.h>
#include <string.h>

#include "record.h"

/* What Cobot does not show. */
#define USER_KEY "_user"
#define CLIENT_KEY "_client"

static const char *const events[] = {
	"connected_user", "updated_connected_user", "created_admin", "deleted_admin",
	"created_booking", "updated_booking", "booking_will_begin", "booking_has_ended", "deleted_booking",
	"created_resource", "updated_resource", "deleted_resource",
	"created_allocation", "updated_allocation", "deleted_allocation",
	"created_calendar_blocker", "updated_calendar_blocker", "deleted_calendar_blocker",
	"confirmed_membership", "created_membership", "deleted_membership", "canceled_membership",
	"uncanceled_membership", "reactivated_membership", "membership_cancellation_date_reached",
	"changed_membership_plan", "membership_plan_change_date_reached",
	"updated_membership_details", "updated_membership_picture", "updated_payment_method",
	"created_checkin", "created_checkout", "created_checkin_token", "deleted_checkin_token",
	"created_invoice", "updated_invoice", "wrote_off_invoice", "requested_e_invoice", "sent_invoice", "deleted_invoice",
	"created_drop_in_pass", "created_guest_account", "approved_external_booking", "updated_custom_field",
	"changed_space_subscription", "membership_added_time_passes", "membership_removed_time_passes",
	"published_event", "created_event_attendance"
};

bool
subscription_event_known(const char *event)
{
	for (size_t i = 0; event != NULL && i < sizeof(events) / sizeof(events[0]); i++)
	{
		if (strcmp(events[i], event) == 0)
			return true;
	}
	return false;
}

static bool
same_text(const char *one, const char *other)
{
	return one != NULL && other != NULL && strcmp(one, other) == 0;
}

bool
subscription_belongs(const cJSON *subscription, const char *user_id, const char *client_id)
{
	return same_text(record_text(subscription, USER_KEY), user_id) &&
		same_text(record_text(subscription, CLIENT_KEY), client_id);
}

cJSON *
subscription_add(Space *space, const char *user_id, const char *client_id,
				 const char *event, const char *callback_url)
{
	cJSON	   *subscription;
	char	   *id;
	char	   *url;

	cJSON_ArrayForEach(subscription, space->subscriptions)
	{
		if (subscription_belongs(subscription, user_id, client_id) &&
			same_text(record_text(subscription, "event"), event) &&
			same_text(record_text(subscription, "callback_url"), callback_url))
			return NULL;
	}

	if (space->subscriptions == NULL)
		space->subscriptions = cJSON_CreateArray();
	subscription = cJSON_CreateObject();
	id = world_new_id(32);
	url = text_printf("https://%s.cobot.me/api/subscriptions/%s", space->subdomain, id);
	cJSON_AddStringToObject(subscription, "id", id);
	cJSON_AddStringToObject(subscription, "event", event);
	cJSON_AddStringToObject(subscription, "url", url);
	cJSON_AddBoolToObject(subscription, "active", true);
	cJSON_AddStringToObject(subscription, "callback_url", callback_url);
	if (user_id != NULL)
		cJSON_AddStringToObject(subscription, USER_KEY, user_id);
	if (client_id != NULL)
		cJSON_AddStringToObject(subscription, CLIENT_KEY, client_id);
	cJSON_AddItemToArray(space->subscriptions, subscription);
	free(id);
	free(url);
	return subscription;
}

cJSON *
subscription_find(Space *space, const char *id)
{
	cJSON	   *subscription;

	cJSON_ArrayForEach(subscription, space->subscriptions)
	{
		if (same_text(record_text(subscription, "id"), id))
			return subscription;
	}
	return NULL;
}

void
subscription_delete(Space *space, cJSON *subscription)
{
	cJSON_Delete(cJSON_DetachItemViaPointer(space->subscriptions, subscription));
}

cJSON *
subscription_copy(const cJSON *subscription)
{
	cJSON	   *copy = cJSON_Duplicate(subscription, true);

	cJSON_DeleteItemFromObjectCaseSensitive(copy, USER_KEY);
	cJSON_DeleteItemFromObjectCaseSensitive(copy, CLIENT_KEY);
	return copy;
}
