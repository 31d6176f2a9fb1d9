/*
 * erase.c
 *	  Removing a person's data on request: cobot_erase_member(). The row stays with
 *	  its ids, dates and plan, so that the journal still tells who was able to
 *	  open which door when; nothing in it says who that was.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "integration.h"
#include "query.h"
#include "sync_member.h"

PG_FUNCTION_INFO_V1(erase_member);

/* Says nothing about a person, and the audit needs it. Whatever field is added later is erased. */
static bool
is_kept(const char *column)
{
	static const char *const kept[] = {"cobot_id", "parent_plan_id", "confirmed_at", "starts_at", "canceled_to"};

	for (int i = 0; i < (int) lengthof(kept); i++)
		if (strcmp(column, kept[i]) == 0)
			return true;
	return false;
}

/* The membership in question, as this database knows it. */
typedef struct Membership
{
	int64		id;
	int64		integration_id;
	char	   *cobot_id;
	bool		is_over;		/* deleted or ended */
} Membership;

static Membership
load(QueryArg member)
{
	query_run("SELECT m.id, m.integration_id, m.cobot_id, m.departed_at IS NOT NULL"
			  " OR m.canceled_to < (pg_catalog.now() AT TIME ZONE COALESCE(i.time_zone, 'UTC'))::date"
			  " FROM smartspace.cobot_membership m JOIN smartspace.cobot_integration i ON i.id = m.integration_id"
			  " WHERE m.id = smartspace.cobot_require_member($1)", 1, &member);
	return (Membership) {
		.id = query_result_int64(0, 1), .integration_id = query_result_int64(0, 2),
		.cobot_id = query_result_text(0, 3), .is_over = query_result_bool(0, 4)
	};
}

/*
 * Asks Cobot for the member, so that nobody is erased who comes back with the next
 * synchronisation. Throws if Cobot gives no answer. Where Cobot cannot be asked at
 * all, what is known here has to do.
 */
static void
ask_cobot(const Membership *membership)
{
	Integration integration;
	QueryArg	arg = query_int64(membership->integration_id);

	integration_load(&integration, membership->integration_id, false);

	bool		can_ask = integration_can_ask(&integration);

	integration_wipe(&integration);
	if (!can_ask)
		return;
	if (!sync_member_by_cobot_id(membership->integration_id, membership->cobot_id, false))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("a synchronisation of \"%s\" is under way", integration.name),
				 errhint("Try again when it has ended.")));

	query_run("SELECT r.message, r.result = 'held' FROM smartspace.cobot_sync_run r"
			  " WHERE r.integration_id = $1 AND r.result IN ('failed', 'incomplete', 'held')"
			  " AND r.id = (SELECT pg_catalog.max(l.id) FROM smartspace.cobot_sync_run l WHERE l.integration_id = $1)", 1, &arg);
	if (SPI_processed > 0 && query_result_bool(0, 2))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the removal of membership %lld is for a person to decide", (long long) membership->id),
				 errdetail("%s.", query_result_text(0, 1)),
				 errhint("Let it go through first: SELECT * FROM smartspace.cobot_sync(%lld), then smartspace.cobot_release() with the run that holds it.",
						 (long long) membership->integration_id)));
	if (SPI_processed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("could not find out whether Cobot still has the membership"),
				 errdetail("%s.", query_result_text(0, 1)),
				 errhint("Try again later: an active membership would come back with the next synchronisation.")));
}

static void
erase(const Membership *membership)
{
	QueryArg	args[] = {
		query_int64(membership->id), query_int64(membership->integration_id), query_text(membership->cobot_id)
	};
	StringInfoData sql;

	/* Deleting grants by hand first: their triggers look at the membership. */
	query_run("DELETE FROM smartspace.manual_grant g WHERE g.membership_id = $1", 1, args);

	/*
	 * Logins of somebody of whom nothing else is left here. The membership may have lost
	 * its user before: so also of whoever was a member (a stranger has an e-mail address)
	 * by an id that no membership has any more.
	 */
	query_run("UPDATE smartspace.cobot_login_event e SET cobot_user_id = NULL, email = NULL, name = NULL"
			  " FROM smartspace.cobot_membership m WHERE m.id = $1 AND e.cobot_user_id IS NOT NULL"
			  " AND (e.cobot_user_id = m.user_id OR e.email IS NULL)"
			  " AND NOT EXISTS (SELECT FROM smartspace.cobot_membership o WHERE o.user_id = e.cobot_user_id AND o.id <> m.id)", 1, args);

	initStringInfo(&sql);
	appendStringInfoString(&sql, "UPDATE smartspace.cobot_membership SET erased_at = pg_catalog.now(),"
						   " departed_at = COALESCE(departed_at, pg_catalog.now()), individual_access = NULL, source_hash = NULL");
	for (int i = 0; i < cobot_membership_field_count; i++)
		if (!is_kept(cobot_membership_fields[i].column))
			appendStringInfo(&sql, ", %s = NULL", cobot_membership_fields[i].column);
	appendStringInfoString(&sql, " WHERE id = $1");
	query_run(sql.data, 1, args);

	query_run("UPDATE smartspace.cobot_sync_change c SET before = NULL, after = NULL, detail = NULL"
			  " WHERE c.integration_id = $2 AND c.record = 'membership' AND (c.membership_id = $1 OR c.cobot_id = $3)"
			  " AND (c.before IS NOT NULL OR c.after IS NOT NULL OR c.detail IS NOT NULL)", lengthof(args), args);
	query_run("DELETE FROM smartspace.cobot_record_problem p"
			  " WHERE p.integration_id = $2 AND p.record = 'membership' AND p.cobot_id = $3 AND $1 IS NOT NULL",
			  lengthof(args), args);
	/* Cobot's own words, which may name somebody */
	query_run("UPDATE smartspace.cobot_checkin c SET message = NULL WHERE c.membership_id = $1 AND c.message IS NOT NULL", 1, args);
}

/*
 * cobot_erase_member(member bigint) -> text
 */
Datum
erase_member(PG_FUNCTION_ARGS)
{
	QueryArg	member = {.type = INT8OID, .value = PG_ARGISNULL(0) ? 0 : PG_GETARG_DATUM(0), .isnull = PG_ARGISNULL(0)};

	PreventCommandIfReadOnly("cobot_erase_member()");
	SPI_connect();

	Membership	membership = load(member);

	ask_cobot(&membership);
	membership = load(member);
	if (!membership.is_over)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("Cobot still has an active membership %lld", (long long) membership.id),
				 errdetail("Its data would come back with the next synchronisation."),
				 errhint("End or delete the membership in Cobot first, then erase it here.")));
	erase(&membership);
	SPI_finish();
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("personal data of membership %lld are erased; ids, dates and the journal stay",
											  (long long) membership.id)));
}
