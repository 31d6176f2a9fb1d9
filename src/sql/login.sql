-- Login of people in mobile apps: who somebody is, in Cobot's word.

CREATE TABLE smartspace.cobot_login_event (
	id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT cobot_login_event_pkey PRIMARY KEY,
	mobile_app_id bigint NOT NULL CONSTRAINT cobot_login_event_mobile_app_id_fkey
		REFERENCES smartspace.mobile_app ON DELETE CASCADE,
	at timestamptz NOT NULL DEFAULT now(),
	result text NOT NULL CONSTRAINT cobot_login_event_result_known
		CHECK (result IN ('ok', 'not_synchronised', 'not_started', 'not_confirmed', 'membership_ended', 'no_membership_here',
			'denied', 'refused')),
	cobot_user_id text,
	email text,
	name text
);

CREATE INDEX cobot_login_event_mobile_app_id_idx ON smartspace.cobot_login_event (mobile_app_id);
CREATE INDEX cobot_login_event_at_idx ON smartspace.cobot_login_event (at);
CREATE INDEX cobot_login_event_cobot_user_id_idx ON smartspace.cobot_login_event USING hash (cobot_user_id)
	WHERE cobot_user_id IS NOT NULL;

COMMENT ON TABLE smartspace.cobot_login_event IS 'logins that Cobot answered; see smartspace_cobot.login_retention_days';
COMMENT ON COLUMN smartspace.cobot_login_event.result IS 'as cobot_login() returned it';
COMMENT ON COLUMN smartspace.cobot_login_event.cobot_user_id IS
'Cobot''s id of the person; null for a stranger, unless mobile_app.store_strangers was on, and for whoever was erased';
COMMENT ON COLUMN smartspace.cobot_login_event.email IS 'of a stranger, where mobile_app.store_strangers was on; members have theirs in cobot_membership';
COMMENT ON COLUMN smartspace.cobot_login_event.name IS 'as email';

CREATE VIEW smartspace.cobot_followed_space WITH (security_invoker = true) AS
SELECT i.id AS integration_id, i.subdomain
FROM smartspace.cobot_integration i
WHERE smartspace.cobot_cannot_ask(i.state, smartspace.cobot_is_home(i.armed_system, i.armed_database, i.armed_environment),
	i.fed_from_outside OR smartspace.cobot_has_token(i.id)) IS NULL;
COMMENT ON VIEW smartspace.cobot_followed_space IS
'spaces whose new memberships come here: those of integrations that are connected (or fed from outside), not paused, and at home in this database';
COMMENT ON COLUMN smartspace.cobot_followed_space.integration_id IS 'our id of the integration';
COMMENT ON COLUMN smartspace.cobot_followed_space.subdomain IS 'as cobot_integration has it';

-- By Cobot's id of the person, and by Cobot's ids of the memberships that Cobot lists for
-- the person: somebody may have been connected to a membership since the last
-- synchronisation. Never by e-mail address. What Cobot lists of a space that is followed
-- here, and is not here yet, has no membership_id; what was erased stays forgotten.
CREATE FUNCTION smartspace.cobot_user_memberships(cobot_user_id text, listed_id text[] DEFAULT NULL, listed_subdomain text[] DEFAULT NULL)
RETURNS TABLE (membership_id bigint, integration_id bigint, integration text, subdomain text, cobot_id text, name text, state text,
	first_day date, last_day date, user_groups jsonb, listed boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
WITH listed AS (
	SELECT DISTINCT i.id AS integration_id, l.id AS cobot_id
	FROM unnest(listed_id, listed_subdomain) AS l (id, subdomain)
		JOIN smartspace.cobot_integration i ON i.subdomain = l.subdomain
	WHERE l.id <> ''),
theirs AS (
	SELECT m.id FROM smartspace.cobot_membership m
	WHERE m.user_id = cobot_user_id
	UNION
	SELECT m.id FROM listed l
		JOIN smartspace.cobot_membership m ON m.integration_id = l.integration_id AND m.cobot_id = l.cobot_id
	WHERE m.erased_at IS NULL)
SELECT m.id, i.id, i.name, i.subdomain, m.cobot_id, m.name,
	coalesce(smartspace.cobot_not_active(m.departed_at, m.confirmed_at, m.starts_at, m.canceled_to, i.time_zone), 'active'),
	m.starts_at, m.canceled_to,
	(SELECT coalesce(jsonb_agg(jsonb_build_object('id', g.id, 'name', g.name, 'external_identifier', g.external_identifier)
			ORDER BY g.name, g.id), '[]')
	 FROM smartspace.user_group g
	 WHERE EXISTS (SELECT FROM smartspace.user_group_member a
				   WHERE a.membership_id = m.id AND a.user_group_id = g.id AND a.valid @> statement_timestamp())),
	CASE WHEN listed_id IS NOT NULL THEN EXISTS (SELECT FROM listed l WHERE l.integration_id = m.integration_id AND l.cobot_id = m.cobot_id) END
FROM theirs t
	JOIN smartspace.cobot_membership m ON m.id = t.id
	JOIN smartspace.cobot_integration i ON i.id = m.integration_id
UNION ALL
SELECT NULL, i.id, i.name, i.subdomain, l.cobot_id, NULL, 'not_synchronised', NULL, NULL, '[]', true
FROM listed l
	JOIN smartspace.cobot_integration i ON i.id = l.integration_id
	JOIN smartspace.cobot_followed_space f ON f.integration_id = l.integration_id
WHERE NOT EXISTS (SELECT FROM smartspace.cobot_membership m WHERE m.integration_id = l.integration_id AND m.cobot_id = l.cobot_id)
ORDER BY 3, 5
$$;
COMMENT ON FUNCTION smartspace.cobot_user_memberships(text, text[], text[]) IS
'the memberships of a person by Cobot''s id of the person, and by the ids and subdomains that Cobot lists for the person: state active, not_started, not_confirmed, ended or not_synchronised (Cobot has it in a space that is followed here, and it is not here yet), and the user groups at this moment. listed: whether Cobot lists it, null where Cobot was not asked';

-- The best that any membership gives counts. What Cobot has and is not here yet goes before
-- what does not open a door anyway: after a synchronisation of the member it may. What is
-- neither here nor comes here is elsewhere, also where there is an integration that is new,
-- disconnected or paused.
CREATE FUNCTION smartspace.cobot_login_answer(cobot_user_id text, listed_id text[], listed_subdomain text[], listed_space text[],
	OUT result text, OUT message text, OUT is_member boolean, OUT name text, OUT memberships jsonb, OUT elsewhere jsonb)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
WITH known AS (
	SELECT u.* FROM smartspace.cobot_user_memberships(cobot_user_id, listed_id, listed_subdomain) u),
summary AS (
	SELECT CASE WHEN bool_or(k.state = 'active') THEN 'ok'
			WHEN bool_or(k.state = 'not_synchronised') THEN 'not_synchronised'
			WHEN bool_or(k.state = 'not_started') THEN 'not_started'
			WHEN bool_or(k.state = 'not_confirmed') THEN 'not_confirmed'
			WHEN bool_or(k.state = 'ended') THEN 'membership_ended'
			ELSE 'no_membership_here' END AS result,
		min(k.first_day) FILTER (WHERE k.state = 'not_started') AS first_day,
		max(k.last_day) FILTER (WHERE k.state = 'ended') AS last_day,
		count(k.membership_id) > 0 AS is_member,
		(array_agg(k.name ORDER BY k.state = 'active' DESC, k.membership_id DESC) FILTER (WHERE k.name IS NOT NULL))[1] AS name,
		coalesce(jsonb_agg(to_jsonb(k) ORDER BY k.integration, k.cobot_id), '[]') AS memberships
	FROM known k)
SELECT s.result,
	CASE s.result
		WHEN 'ok' THEN 'there is an active membership'
		WHEN 'not_synchronised' THEN 'Cobot has a membership that is not here yet; it comes with the next synchronisation, or at once with cobot_sync_member()'
		WHEN 'not_started' THEN 'the membership starts on ' || to_char(s.first_day, 'YYYY-MM-DD')
		WHEN 'not_confirmed' THEN 'the space has not confirmed the membership yet'
		WHEN 'membership_ended' THEN 'the last membership has ended' || coalesce('; its last day was ' || to_char(s.last_day, 'YYYY-MM-DD'), '')
		ELSE 'there is no membership in a space that is connected here' END,
	s.is_member, s.name, s.memberships,
	(SELECT coalesce(jsonb_agg(jsonb_build_object('cobot_id', nullif(l.id, ''), 'subdomain', nullif(l.subdomain, ''), 'space', nullif(l.space, ''))
			ORDER BY l.space, l.subdomain, l.id), '[]')
	 FROM unnest(listed_id, listed_subdomain, listed_space) AS l (id, subdomain, space)
	 WHERE NOT EXISTS (SELECT FROM smartspace.cobot_followed_space f WHERE f.subdomain = l.subdomain)
		AND NOT EXISTS (SELECT FROM smartspace.cobot_integration i JOIN smartspace.cobot_membership m ON m.integration_id = i.id
			WHERE i.subdomain = l.subdomain AND m.cobot_id = l.id))
FROM summary s
$$;
COMMENT ON FUNCTION smartspace.cobot_login_answer(text, text[], text[], text[]) IS
'what cobot_login() answers about a person, by Cobot''s id of the person and the memberships that Cobot lists (arrays of equal length, with an empty text for what is missing)';

CREATE FUNCTION smartspace.cobot_login_url(mobile_app bigint, redirect_uri text)
RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'login_url';
COMMENT ON FUNCTION smartspace.cobot_login_url(bigint, text) IS
'the address of Cobot to which a mobile app sends somebody who wants to log in; Cobot sends them back to redirect_uri, one of mobile_app.redirect_uris, with what cobot_login() takes. Good once, for ten minutes';

CREATE FUNCTION smartspace.cobot_login(state text, code text DEFAULT NULL, error text DEFAULT NULL, error_description text DEFAULT NULL,
	OUT result text, OUT message text, OUT mobile_app bigint, OUT cobot_user_id text, OUT email text, OUT name text,
	OUT memberships jsonb, OUT elsewhere jsonb)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'login_finish';
COMMENT ON FUNCTION smartspace.cobot_login(text, text, text, text) IS
'who has logged in, from what Cobot added to the redirect URI: result ok, not_synchronised, not_started, not_confirmed, membership_ended, no_membership_here, denied or refused; the memberships known here as cobot_user_memberships() has them, and elsewhere those in spaces that are not connected here, or paused. Asks Cobot';
