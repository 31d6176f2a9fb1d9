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
