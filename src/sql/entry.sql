-- When an entry checks its member in, and what else can be asked about it.

-- The functions down to cobot_entry_verdict() are put into the statements that call
-- them, which a setting of their own would prevent; their names are bound already.

CREATE FUNCTION smartspace.cobot_too_late(entered_at timestamptz, max_age interval, time_zone text)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN entered_at > statement_timestamp() + interval '10 minutes' THEN 'in_the_future'
	WHEN entered_at < statement_timestamp() - max_age THEN 'too_old'
	WHEN (entered_at AT TIME ZONE coalesce(time_zone, 'UTC'))::date
		<> (statement_timestamp() AT TIME ZONE coalesce(time_zone, 'UTC'))::date THEN 'other_day' END;
COMMENT ON FUNCTION smartspace.cobot_too_late(timestamptz, interval, text) IS
'why it is too late to check somebody in who came in then, with the clocks'' difference in mind: too_old, other_day (of the space) or in_the_future; null: it is not';

CREATE FUNCTION smartspace.cobot_not_active(departed_at timestamptz, confirmed_at timestamptz, starts_at date, canceled_to date,
	time_zone text)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN departed_at IS NOT NULL THEN 'ended'
	WHEN confirmed_at IS NULL THEN 'not_confirmed'
	WHEN smartspace.cobot_access_range(confirmed_at, starts_at, canceled_to, time_zone) @> statement_timestamp() THEN NULL
	WHEN lower(smartspace.cobot_access_range(confirmed_at, starts_at, canceled_to, time_zone)) > statement_timestamp() THEN 'not_started'
	ELSE 'ended' END;
COMMENT ON FUNCTION smartspace.cobot_not_active(timestamptz, timestamptz, date, date, text) IS
'why a membership is not active at this moment: ended, not_confirmed or not_started; null: it is';

CREATE FUNCTION smartspace.cobot_cannot_ask(state text, is_home boolean, has_token boolean)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN NOT is_home THEN 'foreign_database'
	WHEN state = 'paused' THEN 'paused'
	WHEN state NOT IN ('connected', 'degraded') OR NOT has_token THEN 'disconnected' END;
COMMENT ON FUNCTION smartspace.cobot_cannot_ask(text, boolean, boolean) IS
'why an integration tells Cobot nothing: foreign_database, paused or disconnected; null: it does';

CREATE FUNCTION smartspace.cobot_day_ends(moment timestamptz, time_zone text)
RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN ((moment AT TIME ZONE coalesce(time_zone, 'UTC'))::date + 1)::timestamp AT TIME ZONE coalesce(time_zone, 'UTC');
COMMENT ON FUNCTION smartspace.cobot_day_ends(timestamptz, text) IS 'the midnight that ends a moment''s day in a space';

-- The rule, the cheapest questions first: nearly all entries are those of members who
-- are checked in already.
CREATE FUNCTION smartspace.cobot_entry_verdict(member bigint, building bigint, entered_at timestamptz, asked boolean DEFAULT false)
RETURNS TABLE (integration_id bigint, membership_id bigint, verdict text, holds_until timestamptz)
LANGUAGE sql STABLE ROWS 1
BEGIN ATOMIC
SELECT i.id, m.id,
	CASE WHEN NOT asked AND NOT b.is_entrance THEN 'no_entrance'
		WHEN m.id IS NULL THEN 'member_of_another_space'
		WHEN NOT asked AND NOT i.auto_checkin THEN 'switched_off'
		ELSE coalesce(
			(SELECT CASE WHEN c.state IN ('queued', 'sending') THEN 'pending'
				WHEN c.state IN ('refused', 'failed') THEN 'refused_lately'
				WHEN c.state = 'skipped' THEN 'dry_run'
				ELSE 'current' END
			 FROM smartspace.cobot_checkin c
			 WHERE c.membership_id = m.id AND c.holds_until > statement_timestamp()
				AND NOT (asked AND c.state IN ('refused', 'failed'))
				AND (i.checkin_dry_run OR c.reason IS DISTINCT FROM 'dry_run')
			 ORDER BY c.holds_until DESC LIMIT 1),
			smartspace.cobot_cannot_ask(i.state, smartspace.cobot_is_home(i.armed_system, i.armed_database, i.armed_environment),
				EXISTS (SELECT FROM smartspace.cobot_secret s WHERE s.integration_id = i.id AND s.token IS NOT NULL)),
			(SELECT smartspace.cobot_not_active(a.departed_at, a.confirmed_at, a.starts_at, a.canceled_to, i.time_zone)
			 FROM smartspace.cobot_membership a WHERE a.id = m.id),
			smartspace.cobot_too_late(cobot_entry_verdict.entered_at, i.checkin_max_age, i.time_zone),
			'queue') END,
	cobot_entry_verdict.entered_at + i.checkin_max_age
FROM smartspace.cobot_membership e
	LEFT JOIN smartspace.building b ON b.id = cobot_entry_verdict.building
	JOIN smartspace.cobot_integration i
		ON i.id = CASE WHEN cobot_entry_verdict.building IS NULL THEN e.integration_id ELSE b.integration_id END
	CROSS JOIN LATERAL (SELECT CASE WHEN e.integration_id = i.id THEN e.id
		ELSE (SELECT n.id FROM smartspace.cobot_membership n WHERE n.user_id = e.user_id AND n.integration_id = i.id
			ORDER BY n.departed_at IS NOT NULL, n.canceled_to DESC NULLS FIRST, n.id DESC LIMIT 1) END AS id OFFSET 0) m
WHERE e.id = cobot_entry_verdict.member AND (asked OR b.id IS NOT NULL)
OFFSET 0;
END;
COMMENT ON FUNCTION smartspace.cobot_entry_verdict(bigint, bigint, timestamptz, boolean) IS
'the rule: whether an entry of a member at a building is to check the member in, and in which space with which membership (of a network: the one there). verdict: queue, or why not. asked: somebody asks for it on purpose, so neither switches nor an earlier refusal count, nor what kind of door it was. No row: there is no such member or building';

CREATE FUNCTION smartspace.cobot_entry_trigger()
RETURNS trigger
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'entry_trigger';
COMMENT ON FUNCTION smartspace.cobot_entry_trigger() IS
'trigger function for AFTER INSERT ... REFERENCING NEW TABLE AS name FOR EACH STATEMENT on any table of entries. Arguments: the column with our id of the membership; the column with the building (integer: building.id; text or uuid: building.external_identifier); perhaps the one with the moment (default: now) and one with a reference. Queues check-ins; never fails and never waits';

CREATE TRIGGER cobot_entry AFTER INSERT ON smartspace.building_entry
	REFERENCING NEW TABLE AS new_row FOR EACH STATEMENT
	EXECUTE FUNCTION smartspace.cobot_entry_trigger('membership_id', 'building_id', 'entered_at', 'id');

CREATE FUNCTION smartspace.cobot_checkin(member bigint, wait boolean DEFAULT false, building bigint DEFAULT NULL)
RETURNS smartspace.cobot_checkin
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'checkin_call';
COMMENT ON FUNCTION smartspace.cobot_checkin(bigint, boolean, bigint) IS
'checks a member in on purpose (at the space of the building, if one is given) and returns the row: queued; or the one that is current or under way already, never a second one; or skipped, with the reason. wait => true: returns when the outcome is known, or after smartspace_cobot.checkin_wait, and is not undone if the transaction is';

CREATE FUNCTION smartspace.cobot_deliver_checkins(OUT waiting bigint, OUT next_attempt_at timestamptz)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'checkin_deliver';
COMMENT ON FUNCTION smartspace.cobot_deliver_checkins() IS
'delivers the check-ins that are due, in a process of its own, and says how many still wait and when the next one is due; for a schedule, where no worker looks after this database';

-- Each check-in with what became of it.
CREATE VIEW smartspace.cobot_checkin_reason WITH (security_invoker = true) AS
SELECT c.id AS checkin_id, c.integration_id, c.membership_id, m.name AS member, c.source, c.source_reference, c.entered_at, c.state, c.reason,
	CASE c.state
		WHEN 'queued' THEN 'it is to be sent at ' || w.next_attempt || coalesce('; so far: ' || coalesce(c.message, w.because), '')
		WHEN 'sending' THEN 'it was sent at ' || w.sent || ', and Cobot''s list of check-ins is looked at next'
			|| coalesce('; so far: ' || coalesce(c.message, w.because), '')
		WHEN 'done' THEN 'checked in at Cobot' || coalesce(', valid until ' || w.valid_until, '')
			|| CASE WHEN c.time_pass_id IS NULL THEN '' ELSE '; it used up a time pass' END
		WHEN 'already_in' THEN 'Cobot had a current check-in' || coalesce(', valid until ' || w.valid_until, '')
		WHEN 'refused' THEN 'Cobot refused: ' || coalesce(c.message, 'no reason is known')
		ELSE CASE c.state WHEN 'stale' THEN 'not sent: ' WHEN 'skipped' THEN 'not sent: ' WHEN 'unknown' THEN 'nobody knows: '
			ELSE 'given up: ' END || coalesce(w.because || coalesce(' (' || c.message || ')', ''), c.message, 'no reason is known')
	END AS explanation,
	CASE WHEN c.state IN ('refused', 'failed') THEN 'Settle with the member what Cobot says, then call cobot_checkin(' || c.membership_id || ').'
		WHEN c.state = 'unknown' THEN 'Look in Cobot whether the member is checked in.'
		WHEN c.reason IN ('too_old', 'other_day') THEN 'If the member is here now, call cobot_checkin(' || c.membership_id || ').'
		WHEN c.reason = 'in_the_future' THEN 'Correct the clock of the door system.'
		WHEN c.reason IN ('paused', 'disconnected', 'foreign_database') THEN 'See cobot_status.'
		WHEN c.reason = 'dry_run' THEN 'Set checkin_dry_run of the integration to false when it shall be sent.'
		WHEN c.reason IN ('auth_revoked', 'admin_rights_lost', 'account_suspended', 'key_missing', 'secret_unreadable') THEN 'See cobot_problem.'
	END AS advice
FROM smartspace.cobot_checkin c
	JOIN smartspace.cobot_membership m ON m.id = c.membership_id
	LEFT JOIN smartspace.cobot_integration i ON i.id = c.integration_id
	CROSS JOIN LATERAL (SELECT
		to_char(c.next_attempt_at AT TIME ZONE coalesce(i.time_zone, 'UTC'), 'FMDD Mon YYYY HH24:MI:SS') AS next_attempt,
		to_char(c.sent_at AT TIME ZONE coalesce(i.time_zone, 'UTC'), 'FMDD Mon YYYY HH24:MI:SS') AS sent,
		to_char(c.valid_until AT TIME ZONE coalesce(i.time_zone, 'UTC'), 'FMDD Mon YYYY HH24:MI') AS valid_until,
		CASE c.reason
			WHEN 'too_old' THEN 'the entry was older than checkin_max_age'
			WHEN 'other_day' THEN 'the entry was of another day of the space'
			WHEN 'in_the_future' THEN 'the entry was in the future'
			WHEN 'duplicate' THEN 'another one of the same member was under way'
			WHEN 'dry_run' THEN 'dry run'
			WHEN 'switched_off' THEN 'auto_checkin was switched off'
			WHEN 'not_confirmed' THEN 'the membership was not confirmed'
			WHEN 'not_started' THEN 'the membership had not started'
			WHEN 'ended' THEN 'the membership had ended'
			WHEN 'member_of_another_space' THEN 'the person has no membership in the space of the building'
			WHEN 'paused' THEN 'the integration was paused'
			WHEN 'disconnected' THEN 'the integration was not connected'
			WHEN 'foreign_database' THEN 'the integration was not armed for this database'
			WHEN 'key_missing' THEN 'the key to the integration''s token was missing'
			WHEN 'secret_unreadable' THEN 'the integration''s token could not be opened'
			WHEN 'refused' THEN 'Cobot refused'
			WHEN 'no_answer' THEN 'Cobot did not answer'
			WHEN 'bad_answer' THEN 'Cobot''s answer said nothing'
			WHEN 'rate_limited' THEN 'Cobot''s rate limit was reached'
			WHEN 'unreachable' THEN 'Cobot could not be reached'
			WHEN 'auth_revoked' THEN 'Cobot did not accept the token'
			WHEN 'admin_rights_lost' THEN 'the token was not allowed to do this'
			WHEN 'account_suspended' THEN 'the space''s account at Cobot was suspended'
			WHEN 'gave_up' THEN 'it was tried too often'
		END AS because) w;

COMMENT ON VIEW smartspace.cobot_checkin_reason IS 'each check-in with what became of it, in words, on the clock of the space';

CREATE FUNCTION smartspace.cobot_explain_entry(entry bigint)
RETURNS TABLE (verdict text, explanation text, advice text, checkin_id bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
WITH e AS (
	SELECT e.id, e.entered_at, v.verdict, v.membership_id, v.integration_id, coalesce(i.time_zone, 'UTC') AS zone
	FROM smartspace.building_entry e
		CROSS JOIN LATERAL smartspace.cobot_entry_verdict(e.membership_id, e.building_id, e.entered_at) v
		JOIN smartspace.cobot_integration i ON i.id = v.integration_id
	WHERE e.id = entry AND smartspace.cobot_sees(v.integration_id) AND smartspace.cobot_sees_member(e.membership_id)
), near AS (
	-- the row made for it, else the one that kept it from making one, else the one of another entry of that day
	SELECT c.id, c.entered_at, CASE WHEN c.source = 'entry' AND c.source_reference = e.id::text THEN 1
		WHEN c.entered_at <= e.entered_at AND c.holds_until > e.entered_at THEN 2 ELSE 3 END AS place
	FROM e JOIN smartspace.cobot_checkin c ON c.membership_id = e.membership_id AND c.integration_id = e.integration_id
	WHERE (c.source = 'entry' AND c.source_reference = e.id::text)
		OR (c.entered_at <= e.entered_at AND c.holds_until > e.entered_at)
		OR (c.entered_at AT TIME ZONE e.zone)::date = (e.entered_at AT TIME ZONE e.zone)::date
	ORDER BY 3, abs(extract(epoch FROM c.entered_at - e.entered_at)) LIMIT 1
)
SELECT
	CASE WHEN s.is_structural THEN e.verdict WHEN n.place = 1 THEN r.state WHEN n.id IS NOT NULL THEN 'covered'
		WHEN p.relation IS NOT NULL THEN 'entry_not_queued' WHEN s.is_unknown THEN 'not_queued' ELSE e.verdict END,
	CASE WHEN s.is_structural THEN s.because
		WHEN n.place = 1 THEN r.explanation
		WHEN n.place = 2 THEN format('the check-in of the entry at %s counted for this one: %s', to_char(n.entered_at AT TIME ZONE e.zone, 'HH24:MI'), r.explanation)
		WHEN n.place = 3 THEN format('another entry of the day, at %s, stands for it: %s', to_char(n.entered_at AT TIME ZONE e.zone, 'HH24:MI'), r.explanation)
		WHEN p.relation IS NOT NULL THEN 'it was stored, but could not be looked at: ' || p.message
		WHEN s.is_unknown THEN 'nothing was queued when it came in, and why is not recorded: a switch, the connection or the membership was another then, or the trigger was not there'
		ELSE 'by what is known now: ' || s.because END,
	CASE WHEN s.is_structural THEN s.advice WHEN n.id IS NOT NULL THEN r.advice WHEN p.relation IS NOT NULL THEN 'See cobot_problem.'
		WHEN s.is_unknown THEN 'If the member is here now, call cobot_checkin(' || e.membership_id || ').' ELSE s.advice END,
	CASE WHEN NOT s.is_structural THEN n.id END
FROM e
	CROSS JOIN LATERAL (SELECT e.verdict IN ('no_entrance', 'member_of_another_space') AS is_structural,
		e.verdict IN ('queue', 'too_old', 'other_day', 'in_the_future', 'current', 'pending', 'refused_lately', 'dry_run') AS is_unknown,
		CASE e.verdict
			WHEN 'no_entrance' THEN 'the door is no entrance, so coming in here is no visit'
			WHEN 'member_of_another_space' THEN 'the building belongs to a space in which the person has no membership'
			WHEN 'switched_off' THEN 'auto_checkin of the integration is switched off'
			WHEN 'paused' THEN 'the integration is paused'
			WHEN 'disconnected' THEN 'the integration is not connected'
			WHEN 'foreign_database' THEN 'the integration is not armed for this database'
			WHEN 'not_confirmed' THEN 'the membership is not confirmed'
			WHEN 'not_started' THEN 'the membership has not started'
			WHEN 'ended' THEN 'the membership has ended' END AS because,
		CASE e.verdict
			WHEN 'no_entrance' THEN 'Set is_entrance of the building to true if it shall count.'
			WHEN 'switched_off' THEN 'Set auto_checkin of the integration to true if entries shall check members in.'
			WHEN 'paused' THEN 'See cobot_status.' WHEN 'disconnected' THEN 'See cobot_status.' WHEN 'foreign_database' THEN 'See cobot_status.'
			WHEN 'not_confirmed' THEN 'Confirm the membership in Cobot and synchronise.'
			WHEN 'ended' THEN 'Prolong the membership in Cobot and synchronise.' END AS advice) s
	LEFT JOIN near n ON true
	LEFT JOIN smartspace.cobot_checkin_reason r ON r.checkin_id = n.id
	LEFT JOIN LATERAL (SELECT q.relation, q.message FROM smartspace.cobot_entry_problem q
		WHERE q.relation = 'smartspace.building_entry' AND e.entered_at BETWEEN q.first_at - interval '10 minutes' AND q.last_at
		ORDER BY q.id LIMIT 1) p ON true
$$;
COMMENT ON FUNCTION smartspace.cobot_explain_entry(bigint) IS
'why an entry of building_entry checked its member in or not: the check-in made for it, or the one that counted for it, or the rule that kept it from making one, with what to do about it';
