-- Views for people who look.

CREATE FUNCTION smartspace.cobot_ago(moment timestamptz)
RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
SELECT CASE WHEN s < 2 THEN 'just now'
	WHEN s < 120 THEN s || ' seconds ago'
	WHEN s < 7200 THEN s / 60 || ' minutes ago'
	WHEN s < 172800 THEN s / 3600 || ' hours ago'
	ELSE s / 86400 || ' days ago' END
FROM (SELECT greatest(0, extract(epoch FROM statement_timestamp() - moment)::bigint) AS s) AS age
$$;
COMMENT ON FUNCTION smartspace.cobot_ago(timestamptz) IS 'how long ago, in words';

CREATE FUNCTION smartspace.cobot_is_home(armed_system bigint, armed_database oid, armed_environment text)
RETURNS boolean
LANGUAGE c STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'home_cobot_is_home';
COMMENT ON FUNCTION smartspace.cobot_is_home(bigint, oid, text) IS
'are these columns of cobot_integration those of this cluster, this database and this smartspace_cobot.environment; if not, Cobot is asked nothing';

CREATE VIEW smartspace.access_now WITH (security_invoker = true) AS
SELECT m.id AS membership_id, m.name AS member, m.email, m.user_id, m.integration_id,
	g.id AS user_group_id, g.name AS user_group, g.external_identifier, a.source,
	lower(a.valid) AS valid_from, upper(a.valid) AS valid_until
FROM smartspace.user_group_member a
	JOIN smartspace.cobot_membership m ON m.id = a.membership_id
	JOIN smartspace.user_group g ON g.id = a.user_group_id
WHERE a.valid @> now();

COMMENT ON VIEW smartspace.access_now IS 'who is in which user group at this moment, and from which source';
COMMENT ON COLUMN smartspace.access_now.user_id IS 'Cobot''s id of the person; the same in all spaces';
COMMENT ON COLUMN smartspace.access_now.source IS 'plan, individual or manual';
COMMENT ON COLUMN smartspace.access_now.valid_until IS 'first moment without the grant; null for no known end';

-- How old the last good synchronisation may be before somebody should know.
CREATE VIEW smartspace.cobot_freshness WITH (security_invoker = true) AS
SELECT i.id AS integration_id, g.last_good_at,
	CASE WHEN i.state NOT IN ('connected', 'degraded') THEN NULL
		WHEN now() > coalesce(g.last_good_at, i.connected_at, i.created_at) + i.stale_after THEN 'stale'
		WHEN now() > coalesce(g.last_good_at, i.connected_at, i.created_at) + 3 * i.sync_interval THEN 'overdue'
		ELSE 'fresh' END AS freshness
FROM smartspace.cobot_integration i
	LEFT JOIN LATERAL (SELECT r.finished_at AS last_good_at FROM smartspace.cobot_sync_run r
		WHERE r.integration_id = i.id AND r.kind <> 'member' AND r.result IN ('ok', 'ok_with_problems')
		ORDER BY r.id DESC LIMIT 1) g ON true;

COMMENT ON VIEW smartspace.cobot_freshness IS 'when each integration was synchronised well last, and whether that is too long ago';
COMMENT ON COLUMN smartspace.cobot_freshness.freshness IS
'fresh; overdue after three missed intervals; stale after stale_after; null where nothing is to be synchronised';

CREATE VIEW smartspace.cobot_problem WITH (security_invoker = true) AS
-- what the last good synchronisation could not use
SELECT p.integration_id, 'problem'::text AS severity, p.problem, m.id AS membership_id,
	p.record || ' ' || coalesce(m.name || ' (' || p.cobot_id || ')', p.cobot_id) AS subject,
	p.detail,
	CASE p.problem
		WHEN 'bad_record' THEN 'Correct the record in Cobot; until then SmartSpace keeps what it had for it.'
		WHEN 'custom_field_missing' THEN 'Run SELECT smartspace.cobot_ensure_custom_field(' || p.integration_id
			|| '), or switch individual access off. Until then members keep the groups they had.'
		WHEN 'custom_field_ambiguous' THEN 'Rename all but one of these fields in Cobot. Until then members keep the groups they had.'
		WHEN 'custom_field_unreadable' THEN 'Connect with a token that has the scope read_custom_fields, or switch individual access off. Until then members keep the groups they had.'
	END AS advice,
	p.since
FROM smartspace.cobot_record_problem p
	LEFT JOIN smartspace.cobot_membership m
		ON p.record = 'membership' AND m.integration_id = p.integration_id AND m.cobot_id = p.cobot_id
WHERE p.problem <> 'duplicate_label'
UNION ALL
SELECT m.integration_id, 'problem', 'plan_unmapped', m.id, 'membership ' || coalesce(m.name, m.cobot_id),
	format('The plan "%s" is a copy of no plan of the space (members on it: %s).', m.plan_name,
		count(*) OVER (PARTITION BY m.integration_id, m.plan_name)),
	'Move the member to a plan of the space in Cobot, or name user groups in the custom field.',
	NULL
FROM smartspace.cobot_membership m
	JOIN smartspace.cobot_integration i ON i.id = m.integration_id AND i.sync_plan_access
WHERE m.plan_id IS NULL AND m.departed_at IS NULL
UNION ALL
SELECT t.integration_id, 'problem',
	CASE WHEN t.matches = 0 THEN 'unknown_identifier' ELSE 'ambiguous_identifier' END,
	t.membership_id, 'membership ' || coalesce(m.name, m.cobot_id),
	CASE WHEN t.matches = 0 THEN 'No user group has the external identifier "' || t.token || '".'
		ELSE t.matches || ' user groups have an external identifier like "' || t.token || '".' END,
	CASE WHEN t.matches = 0 THEN 'Create a user group with this external identifier, or correct the member''s custom field in Cobot.'
		ELSE 'Write the external identifier in the custom field with its exact upper and lower case.' END,
	NULL
FROM smartspace.cobot_individual_token t
	JOIN smartspace.cobot_integration i ON i.id = t.integration_id AND i.sync_individual_access
	JOIN smartspace.cobot_membership m ON m.id = t.membership_id
WHERE t.user_group_id IS NULL
UNION ALL
SELECT i.id, 'problem', 'missing_scope', NULL, 'scope ' || s.scope,
	'The token was granted without it: ' || s.effect || '.',
	'Add the scope to the OAuth client in Cobot, let an admin authorise it again, and connect with the new token.',
	NULL
FROM smartspace.cobot_integration i
	CROSS JOIN LATERAL smartspace.cobot_missing_scope(i.granted_scope, i.sync_individual_access, i.auto_checkin
		AND EXISTS (SELECT FROM smartspace.building b WHERE b.integration_id = i.id AND b.is_entrance)) s
WHERE i.state IN ('connected', 'degraded')
UNION ALL
SELECT i.id, 'problem', i.state_reason, NULL, 'integration ' || i.name, w.detail, w.advice, i.state_since
FROM smartspace.cobot_integration i
	JOIN (VALUES
		('auth_revoked', 'Cobot does not accept the token any more.',
			'Connect the integration again with a new token of an admin of the space.'),
		('admin_rights_lost', 'The token is not allowed to read what is needed.',
			'Let an admin of the space with all permissions connect the integration again, with all the scopes.'),
		('account_suspended', 'The space''s account at Cobot is suspended.',
			'The operator of the space has to settle this with Cobot.')
		) AS w (reason, detail, advice) ON w.reason = i.state_reason
WHERE i.state = 'degraded'
UNION ALL
SELECT s.integration_id, 'problem', s.reason, NULL, s.subject,
	format('The %s cannot be read. %s', s.name, s.detail),
	format(CASE s.reason
		WHEN 'key_missing' THEN 'Bring the key back into the file that smartspace_cobot.key_file names; nothing else is needed. If it is lost, %s.'
		ELSE 'Bring the right key back into the file that smartspace_cobot.key_file names, or %s.' END, s.otherwise),
	NULL
FROM (
	SELECT i.id AS integration_id, 'integration ' || i.name AS subject, p.reason, p.detail, k.name, k.otherwise
	FROM smartspace.cobot_integration i
		CROSS JOIN LATERAL smartspace.cobot_secret_problems(i.id) p
		JOIN (VALUES
			('token', 'token', 'connect the integration again'),
			('client_secret', 'client secret', 'store it again with cobot_set_client_secret()')
			) AS k (kind, name, otherwise) ON k.kind = p.kind
	WHERE i.state <> 'disconnected'
	UNION ALL
	SELECT NULL, 'mobile app ' || p.name, p.reason, p.detail, 'client secret',
		format('store it again with cobot_set_mobile_app_client(%s, client_id, client_secret)', p.mobile_app_id)
	FROM smartspace.cobot_mobile_app_secret_problems() p) s
UNION ALL
SELECT f.integration_id, CASE f.freshness WHEN 'stale' THEN 'problem' ELSE 'advice' END, f.freshness, NULL,
	'integration ' || i.name,
	coalesce('The last good synchronisation was ' || smartspace.cobot_ago(f.last_good_at) || '.', 'It was never synchronised well.'),
	'Look at the last runs in cobot_sync_run, and whether a worker or a schedule makes them: SELECT cobot_wake_worker(), cobot_schedule(). Members keep the access they have until their own last day.',
	f.last_good_at
FROM smartspace.cobot_freshness f
	JOIN smartspace.cobot_integration i ON i.id = f.integration_id
WHERE f.freshness IN ('overdue', 'stale')
-- check-ins of the last day; the runs of the synchronisation do not count these
UNION ALL
SELECT c.integration_id, CASE c.state WHEN 'refused' THEN 'advice' ELSE 'problem' END, 'checkin_' || c.state, c.membership_id,
	'membership ' || coalesce(m.name, m.cobot_id),
	format('Check-in %s of %s: %s.', c.id, to_char(c.entered_at AT TIME ZONE coalesce(i.time_zone, 'UTC'), 'FMDD Mon YYYY HH24:MI'),
		rtrim(coalesce(c.message, c.reason, c.state), '.')),
	CASE c.state
		WHEN 'refused' THEN 'Settle with the member what Cobot says (perhaps a time pass is needed), then call cobot_checkin(' || c.membership_id || ').'
		WHEN 'unknown' THEN 'Look in Cobot whether the member is checked in; it could not be found out.'
		ELSE 'Look in Cobot whether the member is checked in; if not, call cobot_checkin(' || c.membership_id || ').' END,
	c.settled_at
FROM smartspace.cobot_checkin c
	JOIN smartspace.cobot_membership m ON m.id = c.membership_id
	LEFT JOIN smartspace.cobot_integration i ON i.id = c.integration_id
WHERE c.state IN ('refused', 'unknown', 'failed') AND c.settled_at > now() - interval '24 hours'
UNION ALL
SELECT NULL, 'problem', 'entry_not_queued', NULL, 'table ' || p.relation,
	format('%s: %s (SQLSTATE %s; entries: %s; last %s).', 'Its entries were stored, and nobody was checked in for them',
		p.message, p.error_code, sum(p.entries), smartspace.cobot_ago(max(p.last_at))),
	CASE WHEN p.error_code = '55P03' THEN 'Look for what locks the tables of the schema smartspace for long.'
		ELSE 'Correct the arguments of its trigger with cobot_entry_trigger(), or what the message says.' END,
	min(p.first_at)
FROM smartspace.cobot_entry_problem p
WHERE p.last_at > now() - interval '24 hours'
GROUP BY p.relation, p.error_code, p.message
-- what looks like a slip, though nobody lacks anything that is known of
UNION ALL
SELECT t.integration_id, 'advice', 'broken_off', NULL, 'integration ' || i.name,
	format('The last %s synchronisations of the worker did not come to an end%s.', t.attempts, coalesce(': ' || t.last_error, '')),
	'If there is no error, look for crashes in the server''s log. The next attempt is at '
		|| to_char(t.due_at, 'FMDD Mon YYYY HH24:MI') || '; other integrations are not affected.',
	t.claimed_at
FROM smartspace.cobot_sync_task t
	JOIN smartspace.cobot_integration i ON i.id = t.integration_id
WHERE t.attempts > 2
UNION ALL
SELECT p.integration_id, 'advice', 'plan_without_assignment', NULL, 'plan ' || coalesce(p.name, p.cobot_id),
	format('It gives no user group (members on it: %s).', h.members),
	'Add rows to user_group_assignment for this plan, unless its members shall get nothing from it.',
	NULL
FROM smartspace.cobot_plan p
	JOIN smartspace.cobot_integration i ON i.id = p.integration_id AND i.sync_plan_access
	CROSS JOIN LATERAL (SELECT count(*) AS members FROM smartspace.cobot_membership m
		WHERE m.plan_id = p.id AND m.departed_at IS NULL) h
WHERE h.members > 0 AND NOT EXISTS (SELECT FROM smartspace.user_group_assignment a WHERE a.plan_id = p.id)
UNION ALL
SELECT p.integration_id, 'advice', 'assignment_to_vanished_plan', NULL, 'plan ' || coalesce(p.name, p.cobot_id),
	format('Cobot lists it no more, and it still gives %s (members on it: %s).',
		(SELECT string_agg('"' || g.name || '"', ', ' ORDER BY g.name) FROM smartspace.user_group_assignment a
			JOIN smartspace.user_group g ON g.id = a.user_group_id WHERE a.plan_id = p.id), h.members),
	'Delete its rows in user_group_assignment when nobody is on it any more.',
	NULL
FROM smartspace.cobot_plan p
	CROSS JOIN LATERAL (SELECT count(*) AS members FROM smartspace.cobot_membership m
		WHERE m.plan_id = p.id AND m.departed_at IS NULL) h
WHERE NOT p.listed AND EXISTS (SELECT FROM smartspace.user_group_assignment a WHERE a.plan_id = p.id)
UNION ALL
SELECT p.integration_id, 'advice', 'duplicate_label', NULL, 'custom field ' || p.cobot_id, p.detail,
	'Rename all but one of these fields in Cobot, so that people and programs can tell them apart.', p.since
FROM smartspace.cobot_record_problem p
WHERE p.problem = 'duplicate_label'
UNION ALL
SELECT NULL, 'advice', 'similar_identifiers', NULL, 'user groups ' || string_agg('"' || g.name || '"', ', ' ORDER BY g.id),
	'Their external identifiers differ only in upper and lower case or in blanks: '
		|| string_agg('"' || g.external_identifier || '"', ', ' ORDER BY g.id) || '.',
	'Give them external identifiers that people can tell apart.',
	NULL
FROM smartspace.user_group g
WHERE g.external_identifier IS NOT NULL
GROUP BY lower(regexp_replace(g.external_identifier, '[[:space:]]+', '', 'g'))
HAVING count(*) > 1
UNION ALL
SELECT NULL, 'advice', 'group_without_members', NULL, 'user group ' || g.name,
	'Nobody is in it: no member has a plan that gives it or a custom field that names it.',
	'Assign it to a plan, or delete it.',
	NULL
FROM smartspace.user_group g
WHERE NOT EXISTS (SELECT FROM smartspace.user_group_member a WHERE a.user_group_id = g.id);

COMMENT ON VIEW smartspace.cobot_problem IS 'everything that keeps somebody from what they should have, and what looks like a slip, each with what to do about it';
COMMENT ON COLUMN smartspace.cobot_problem.integration_id IS 'null for what belongs to no integration: user groups, mobile apps, and tables of entries';
COMMENT ON COLUMN smartspace.cobot_problem.severity IS 'problem: somebody may lack something; advice: looks like a slip';
COMMENT ON COLUMN smartspace.cobot_problem.problem IS
'bad_record, plan_unmapped, unknown_identifier, ambiguous_identifier, custom_field_missing, custom_field_ambiguous, custom_field_unreadable, missing_scope, auth_revoked, admin_rights_lost, account_suspended, key_missing, secret_unreadable, stale, checkin_failed, checkin_unknown or entry_not_queued; as advice checkin_refused, overdue, plan_without_assignment, assignment_to_vanished_plan, duplicate_label, similar_identifiers or group_without_members';
COMMENT ON COLUMN smartspace.cobot_problem.since IS 'when it was first seen, where that is recorded';

CREATE VIEW smartspace.cobot_status WITH (security_invoker = true) AS
SELECT i.id AS integration_id, i.name, i.subdomain, s.state,
	CASE WHEN h.is_home THEN coalesce(k.reason, i.state_reason, nullif(nullif(f.freshness, 'fresh'), 'overdue')) ELSE 'foreign_database' END AS reason,
	CASE WHEN NOT h.is_home THEN 'not armed for this database, so Cobot is asked nothing and members keep the access they have until their own last day;'
			|| format(' to ask Cobot from here, run SELECT smartspace.cobot_arm(%s)', i.id)
		WHEN s.state = 'new' THEN 'not connected yet'
		WHEN s.state = 'paused' THEN 'paused'
		WHEN s.state = 'disconnected' THEN 'disconnected; members keep the access they have until their own last day'
		ELSE format('%s: %s members, %s with access now', coalesce(i.space_name, i.subdomain), m.members, m.with_access)
			|| CASE WHEN f.last_good_at IS NULL THEN '; not synchronised yet'
				ELSE '; synchronised ' || smartspace.cobot_ago(f.last_good_at) END
			|| CASE f.freshness WHEN 'overdue' THEN ', which is overdue' WHEN 'stale' THEN ', which is stale' ELSE '' END
			|| CASE WHEN last.result NOT IN ('ok', 'ok_with_problems') THEN format('; last run %s: %s', last.result, last.message) ELSE '' END
			|| CASE WHEN k.reason IS NULL THEN '' ELSE '; Cobot is asked nothing, because the token cannot be read' END
			|| CASE WHEN held.held > 0 THEN format('; held: %s, see cobot_sync_changes(%s), then cobot_release(%s) or cobot_discard(%s)',
				held.held_members, held.held_run, held.held_run, held.held_run) ELSE '' END
			|| CASE WHEN waiting.oldest < now() - interval '1 minute' THEN format('; check-ins waiting: %s, the oldest since %s',
				waiting.backlog, regexp_replace(smartspace.cobot_ago(waiting.oldest), ' ago$', '')) ELSE '' END
			|| CASE p.problems WHEN 0 THEN '' WHEN 1 THEN '; 1 problem, see cobot_problem'
				ELSE format('; %s problems, see cobot_problem', p.problems) END
	END AS summary,
	m.members, m.with_access, p.problems,
	f.last_good_at, f.freshness, last.id AS last_run, last.result AS last_result, last.failures, last.next_at,
	held.held, held.held_members, held.held_run, waiting.backlog AS checkin_backlog, waiting.oldest AS checkin_oldest
FROM smartspace.cobot_integration i
	CROSS JOIN LATERAL smartspace.cobot_is_home(i.armed_system, i.armed_database, i.armed_environment) AS h (is_home)
	LEFT JOIN LATERAL (SELECT p.reason FROM smartspace.cobot_secret_problems(i.id) p
		WHERE p.kind = 'token' AND i.state <> 'disconnected') k ON true
	CROSS JOIN LATERAL (SELECT CASE WHEN i.state IN ('connected', 'degraded')
			AND NOT i.fed_from_outside AND NOT smartspace.cobot_has_token(i.id)
			THEN 'disconnected' WHEN i.state = 'connected' AND k.reason IS NOT NULL THEN 'degraded' ELSE i.state END AS state) s
	LEFT JOIN LATERAL (SELECT r.* FROM smartspace.cobot_sync_run r
		WHERE r.integration_id = i.id AND r.kind <> 'member' AND r.result <> 'skipped_locked'
		ORDER BY r.id DESC LIMIT 1) last ON true
	JOIN smartspace.cobot_freshness f ON f.integration_id = i.id
	CROSS JOIN LATERAL (SELECT count(*) AS held, max(c.run_id) AS held_run,
			(SELECT string_agg(n.name, ', ' ORDER BY n.place) FROM (
				SELECT coalesce(m.name, d.cobot_id) AS name, row_number() OVER (ORDER BY coalesce(m.name, d.cobot_id), d.id) AS place
				FROM smartspace.cobot_sync_change d LEFT JOIN smartspace.cobot_membership m ON m.id = d.membership_id
				WHERE d.integration_id = i.id AND d.verdict = 'held' ORDER BY place LIMIT 3) n)
			|| CASE WHEN count(*) > 3 THEN format(' and %s more', count(*) - 3) ELSE '' END AS held_members
		FROM smartspace.cobot_sync_change c WHERE c.integration_id = i.id AND c.verdict = 'held') held
	CROSS JOIN LATERAL (SELECT count(*) AS backlog, min(c.queued_at) AS oldest FROM smartspace.cobot_checkin c
		WHERE c.integration_id = i.id AND c.state IN ('queued', 'sending')) waiting
	CROSS JOIN LATERAL (SELECT count(*) AS members,
			count(*) FILTER (WHERE EXISTS (SELECT FROM smartspace.user_group_member a
				WHERE a.membership_id = m.id AND a.valid @> now())) AS with_access
		FROM smartspace.cobot_membership m WHERE m.integration_id = i.id AND m.departed_at IS NULL) m
	CROSS JOIN LATERAL (SELECT count(*) AS problems FROM smartspace.cobot_problem p
		WHERE p.integration_id = i.id AND p.severity = 'problem') p;

COMMENT ON VIEW smartspace.cobot_status IS 'one line for each integration: how it is, in words';
COMMENT ON COLUMN smartspace.cobot_status.state IS 'as in cobot_integration; disconnected also where the token is missing, as after a restore; degraded also where it cannot be read';
COMMENT ON COLUMN smartspace.cobot_status.reason IS 'why the integration is degraded; key_missing or secret_unreadable as long as its token cannot be read; foreign_database where it is not armed for this database, whatever its state';
COMMENT ON COLUMN smartspace.cobot_status.members IS 'memberships that have not left';
COMMENT ON COLUMN smartspace.cobot_status.with_access IS 'those that are in a user group at this moment';
COMMENT ON COLUMN smartspace.cobot_status.last_good_at IS 'end of the last run with result ok or ok_with_problems';
COMMENT ON COLUMN smartspace.cobot_status.freshness IS 'fresh, overdue (three intervals missed) or stale';
COMMENT ON COLUMN smartspace.cobot_status.failures IS 'how many runs in a row failed';
COMMENT ON COLUMN smartspace.cobot_status.next_at IS 'when a scheduled synchronisation is due';
COMMENT ON COLUMN smartspace.cobot_status.held IS 'removals that wait for somebody to decide';
COMMENT ON COLUMN smartspace.cobot_status.held_members IS 'the first members whose access is held';
COMMENT ON COLUMN smartspace.cobot_status.held_run IS 'the run to give to cobot_release() or cobot_discard()';
COMMENT ON COLUMN smartspace.cobot_status.checkin_backlog IS 'check-ins that are queued, or whose outcome is not known yet';
COMMENT ON COLUMN smartspace.cobot_status.checkin_oldest IS 'since when the oldest of these waits';
