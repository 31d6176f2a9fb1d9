-- Why somebody has access or not, and what a change would do. Asks nobody but this
-- database.

CREATE FUNCTION smartspace.cobot_edit_distance(a text, b text)
RETURNS integer
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'access_edit_distance';
COMMENT ON FUNCTION smartspace.cobot_edit_distance(text, text) IS
'how many letters differ; null for texts longer than 255 bytes';

CREATE FUNCTION smartspace.cobot_nearest_identifier(token text)
RETURNS text
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
SELECT near.external_identifier
FROM (SELECT g.external_identifier,
		smartspace.cobot_edit_distance(lower(g.external_identifier), lower(token)) AS distance
	  FROM smartspace.user_group g WHERE g.external_identifier IS NOT NULL) near
WHERE near.distance <= greatest(1, length(token) / 3)
ORDER BY near.distance, near.external_identifier
LIMIT 1
$$;
COMMENT ON FUNCTION smartspace.cobot_nearest_identifier(text) IS
'the external identifier that somebody may have meant; null if none is alike';

CREATE FUNCTION smartspace.cobot_in_words(valid tstzrange, time_zone text)
RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
SELECT CASE WHEN w.first IS NULL AND w.last IS NULL THEN 'always'
	WHEN w.first IS NULL THEN 'until ' || w.last
	WHEN w.last IS NULL THEN 'from ' || w.first || ', no end known'
	ELSE 'from ' || w.first || ' until ' || w.last END
FROM (SELECT to_char(lower(valid) AT TIME ZONE coalesce(time_zone, 'UTC'), 'FMDD Mon YYYY HH24:MI') AS first,
	to_char(upper(valid) AT TIME ZONE coalesce(time_zone, 'UTC'), 'FMDD Mon YYYY HH24:MI') AS last) w
$$;
COMMENT ON FUNCTION smartspace.cobot_in_words(tstzrange, text) IS 'when a grant holds, in words, on the clock of the space';

-- Each grant that is there, with where it comes from.
CREATE VIEW smartspace.access_reason WITH (security_invoker = true) AS
SELECT a.membership_id, a.user_group_id, a.source,
	CASE WHEN a.valid @> now() THEN NULL WHEN lower(a.valid) > now() THEN 'not_started' ELSE 'ended' END AS reason,
	a.valid,
	CASE a.source
		WHEN 'plan' THEN format('the plan "%s" gives it', p.name)
		WHEN 'individual' THEN format('the custom field of the member names it ("%s")', t.token)
		ELSE format('given by hand by %s on %s%s', x.granted_by, to_char(x.granted_at, 'FMDD Mon YYYY'), ': ' || x.reason)
	END || ', ' || smartspace.cobot_in_words(a.valid, i.time_zone)
	|| CASE WHEN a.source = 'manual' THEN ''
		ELSE format('; so since %s%s', to_char(a.granted_at AT TIME ZONE coalesce(i.time_zone, 'UTC'), 'FMDD Mon YYYY HH24:MI'),
			' (run ' || a.run_id || ')') END
	|| coalesce('; Cobot takes it away, and the removal is held by run ' || h.run_id || ' (' || h.reason || ')', '') AS explanation,
	CASE WHEN h.run_id IS NOT NULL THEN format('Look at cobot_sync_changes(%s); cobot_release(%s) lets it through.', h.run_id, h.run_id)
		WHEN a.valid @> now() THEN NULL
		WHEN a.source = 'manual' THEN 'Call cobot_grant() with other dates.'
		WHEN lower(a.valid) > now() THEN 'Wait, or move the first day of the membership in Cobot.'
		ELSE 'Prolong the membership in Cobot and synchronise.' END AS advice
FROM smartspace.user_group_member a
	JOIN smartspace.cobot_membership m ON m.id = a.membership_id
	JOIN smartspace.cobot_integration i ON i.id = m.integration_id
	LEFT JOIN smartspace.cobot_plan p ON p.id = m.plan_id
	LEFT JOIN smartspace.manual_grant x ON x.membership_id = a.membership_id AND x.user_group_id = a.user_group_id
	LEFT JOIN LATERAL (SELECT min(k.token) AS token FROM smartspace.cobot_individual_token k
		WHERE k.membership_id = a.membership_id AND k.user_group_id = a.user_group_id) t ON a.source = 'individual'
	LEFT JOIN LATERAL (SELECT max(c.run_id) AS run_id, max(c.reason) AS reason FROM smartspace.cobot_sync_change c
		WHERE c.integration_id = m.integration_id AND c.membership_id = m.id AND c.verdict IN ('held', 'released')
		  AND a.user_group_id = ANY (c.groups_lost)) h ON a.source <> 'manual';

COMMENT ON VIEW smartspace.access_reason IS 'each grant with where it comes from, in words';

-- Each grant that plan or custom field name and that is not there, with what keeps it.
CREATE VIEW smartspace.access_obstacle WITH (security_invoker = true) AS
SELECT n.membership_id, n.user_group_id, n.source, o.reason, NULL::tstzrange AS valid,
	n.would || ', but ' || o.explanation AS explanation, o.advice
FROM (SELECT m.id AS membership_id, a.user_group_id, 'plan'::text AS source, i.sync_plan_access AS switched_on,
		format('the plan "%s" would give it', p.name) AS would
	  FROM smartspace.cobot_membership m
		JOIN smartspace.cobot_integration i ON i.id = m.integration_id
		JOIN smartspace.cobot_plan p ON p.id = m.plan_id
		JOIN smartspace.user_group_assignment a ON a.plan_id = m.plan_id
	  UNION ALL
	  SELECT m.id, g.user_group_id, 'individual', i.sync_individual_access,
		format('the custom field of the member names it ("%s")', g.token)
	  FROM smartspace.cobot_membership m
		JOIN smartspace.cobot_integration i ON i.id = m.integration_id
		JOIN (SELECT k.membership_id, k.user_group_id, min(k.token) AS token FROM smartspace.cobot_individual_token k
			  WHERE k.user_group_id IS NOT NULL GROUP BY 1, 2) g ON g.membership_id = m.id) n
	JOIN smartspace.cobot_membership m ON m.id = n.membership_id
	CROSS JOIN LATERAL (SELECT * FROM (VALUES
		(m.departed_at IS NOT NULL, 'ended', format('Cobot deleted or ended the membership (noticed on %s)', to_char(m.departed_at, 'FMDD Mon YYYY')),
			'Renew the membership in Cobot and synchronise.'),
		(m.confirmed_at IS NULL, 'not_confirmed', 'the space has not confirmed the membership',
			'Confirm the membership in Cobot and synchronise.'),
		(NOT n.switched_on, 'switched_off', format('%s access of the integration is switched off', n.source),
			format('Switch sync_%s_access of the integration on.', n.source)),
		(m.canceled_to < m.starts_at, 'ended', 'the membership was cancelled before its first day',
			'Renew the membership in Cobot and synchronise.')
		) AS v (holds, reason, explanation, advice)
		WHERE v.holds LIMIT 1) o
WHERE NOT EXISTS (SELECT FROM smartspace.user_group_member g
	WHERE g.membership_id = n.membership_id AND g.user_group_id = n.user_group_id AND g.source = n.source);

COMMENT ON VIEW smartspace.access_obstacle IS 'each grant that a plan or custom field names and that is not there, with what keeps it, in words';

CREATE FUNCTION smartspace.cobot_explain(member bigint, "group" bigint DEFAULT NULL)
RETURNS TABLE (user_group text, has_access boolean, reason text, source text, explanation text, advice text,
	valid tstzrange, user_group_id bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
WITH member_asked AS MATERIALIZED (
	SELECT m.*, i.sync_plan_access, i.sync_individual_access, p.name AS catalogue_name,
		EXISTS (SELECT FROM smartspace.user_group_assignment a WHERE a.plan_id = m.plan_id) AS plan_assigned
	FROM smartspace.cobot_membership m
		JOIN smartspace.cobot_integration i ON i.id = m.integration_id
		LEFT JOIN smartspace.cobot_plan p ON p.id = m.plan_id
	WHERE m.id = smartspace.cobot_require_member(member)
), group_asked AS MATERIALIZED (
	SELECT CASE WHEN "group" IS NOT NULL THEN smartspace.cobot_require_group("group") END AS id
), answer AS (
	SELECT r.user_group_id, r.source, r.reason, r.valid, r.explanation, r.advice, 1 AS place
	FROM member_asked m JOIN smartspace.access_reason r ON r.membership_id = m.id
	UNION ALL
	SELECT o.user_group_id, o.source, o.reason, o.valid, o.explanation, o.advice, 2
	FROM member_asked m JOIN smartspace.access_obstacle o ON o.membership_id = m.id
	UNION ALL
	SELECT NULL, 'individual', 'unknown_identifier', NULL,
		format(CASE WHEN t.matches = 0 THEN 'the custom field names "%s", which is no user group'
			ELSE 'the custom field names "%s", which several user groups are called but for upper and lower case' END, t.token),
		CASE WHEN t.matches > 0 THEN 'Write it in the custom field with its exact upper and lower case, and synchronise.'
			ELSE coalesce('Perhaps "' || smartspace.cobot_nearest_identifier(t.token) || '" is meant: correct the custom field in Cobot and synchronise.',
				'Correct the custom field in Cobot, or create a user group with this external identifier.') END, 3
	FROM member_asked m JOIN smartspace.cobot_individual_token t ON t.membership_id = m.id
	WHERE t.user_group_id IS NULL
	UNION ALL
	SELECT NULL, 'plan', 'plan_unmapped', NULL,
		CASE WHEN m.plan_id IS NULL THEN format('the plan "%s" is a copy of no plan of the space', m.plan_name)
			ELSE format('the plan "%s" gives no user group', m.catalogue_name) END,
		CASE WHEN m.plan_id IS NULL THEN 'Move the member to a plan of the space in Cobot, or name user groups in the custom field.'
			ELSE 'Add rows to user_group_assignment for this plan.' END, 4
	FROM member_asked m WHERE NOT m.plan_assigned
	UNION ALL
	SELECT NULL, NULL, 'bad_record', NULL, 'Cobot''s record of the member cannot be used: ' || b.detail,
		'Correct the record in Cobot and synchronise; until then the member keeps what they had.', 5
	FROM member_asked m
		JOIN smartspace.cobot_record_problem b ON b.integration_id = m.integration_id AND b.record = 'membership' AND b.cobot_id = m.cobot_id
), chosen AS (
	SELECT a.* FROM answer a CROSS JOIN group_asked g WHERE g.id IS NULL OR a.user_group_id = g.id OR a.user_group_id IS NULL
)
SELECT u.name, coalesce(c.reason IS NULL, false), c.reason, c.source, c.explanation, c.advice, c.valid, c.user_group_id
FROM (SELECT * FROM chosen
	  UNION ALL
	  SELECT g.id, NULL, 'plan_unmapped', NULL, format('neither the plan "%s" nor the custom field nor anybody by hand gives it',
			coalesce(m.catalogue_name, m.plan_name)),
		'Assign the user group to the plan, name it in the custom field, or call cobot_grant().', 6
	  FROM member_asked m CROSS JOIN group_asked g
	  WHERE g.id IS NOT NULL AND NOT EXISTS (SELECT FROM chosen c WHERE c.user_group_id = g.id)) c
	LEFT JOIN smartspace.user_group u ON u.id = c.user_group_id
ORDER BY c.place, u.name, c.source, c.explanation
$$;
COMMENT ON FUNCTION smartspace.cobot_explain(bigint, bigint) IS
'why a member has access or not, one row for each reason, with what to do about each no; for one user group or all';

CREATE FUNCTION smartspace.cobot_preview_assignment(plan bigint, "group" bigint, add boolean DEFAULT true)
RETURNS TABLE (membership_id bigint, member text, effect text, valid tstzrange, because text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT m.id, m.name,
	CASE WHEN o.sources IS NOT NULL THEN 'keeps' WHEN add THEN 'gains' ELSE 'loses' END,
	r.valid,
	CASE WHEN o.sources IS NOT NULL THEN 'is in the user group also by: ' || o.sources END
FROM smartspace.cobot_membership m
	JOIN smartspace.cobot_integration i ON i.id = m.integration_id AND i.sync_plan_access
	CROSS JOIN LATERAL (SELECT smartspace.cobot_access_range(m.confirmed_at, m.starts_at, m.canceled_to, i.time_zone) AS valid OFFSET 0) r
	LEFT JOIN LATERAL (SELECT string_agg(g.source, ', ' ORDER BY g.source) AS sources FROM smartspace.user_group_member g
		WHERE g.membership_id = m.id AND g.user_group_id = "group" AND g.source <> 'plan') o ON true
WHERE m.plan_id = smartspace.cobot_require_plan(plan) AND smartspace.cobot_require_group("group") IS NOT NULL
  AND m.departed_at IS NULL AND r.valid IS NOT NULL
  AND add <> EXISTS (SELECT FROM smartspace.user_group_assignment a WHERE a.plan_id = plan AND a.user_group_id = "group")
ORDER BY m.name, m.id
$$;
COMMENT ON FUNCTION smartspace.cobot_preview_assignment(bigint, bigint, boolean) IS
'which members would gain or lose (add => false) a user group if it were assigned to a plan or taken from it, or keep it from another source; changes nothing';

CREATE FUNCTION smartspace.cobot_preview_switch(integration bigint, sync_plan_access boolean DEFAULT NULL,
	sync_individual_access boolean DEFAULT NULL)
RETURNS TABLE (membership_id bigint, member text, user_group_id bigint, user_group text, source text, effect text,
	valid tstzrange, because text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
WITH candidate AS (
	SELECT c.*, CASE c.source
			WHEN 'plan' THEN coalesce(sync_plan_access, c.switched_on)
			WHEN 'individual' THEN coalesce(sync_individual_access, c.switched_on)
			ELSE true END AS switched_on_then
	FROM smartspace.access_candidate c
	WHERE c.integration_id = smartspace.cobot_require_integration(integration)
)
SELECT m.id, m.name, g.id, g.name, c.source,
	CASE WHEN o.sources IS NOT NULL THEN 'keeps' WHEN c.switched_on_then THEN 'gains' ELSE 'loses' END,
	c.valid,
	CASE WHEN o.sources IS NOT NULL THEN 'is in the user group also by: ' || o.sources END
FROM candidate c
	JOIN smartspace.cobot_membership m ON m.id = c.membership_id
	JOIN smartspace.user_group g ON g.id = c.user_group_id
	LEFT JOIN LATERAL (SELECT string_agg(a.source, ', ' ORDER BY a.source) AS sources FROM candidate a
		WHERE a.membership_id = c.membership_id AND a.user_group_id = c.user_group_id AND a.source <> c.source
		  AND a.switched_on_then) o ON true
WHERE c.switched_on <> c.switched_on_then
ORDER BY m.name, m.id, g.name, c.source
$$;
COMMENT ON FUNCTION smartspace.cobot_preview_switch(bigint, boolean, boolean) IS
'who would gain, lose or keep which user group if the switches of an integration were set so (null: left as it is); changes nothing';
