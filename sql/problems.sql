-- What people see: status, problems, who is where now; and input that is refused.
SET TIME ZONE 'UTC';
SET search_path = smartspace;
SET datestyle = 'ISO';
\set SHOW_CONTEXT never

\echo making an integration: bad input is refused with a reason
SELECT cobot_create_integration('Loft', 'evil.com/');
SELECT cobot_create_integration('Loft', 'a.b');
SELECT cobot_create_integration('Loft', '-x');
SELECT cobot_create_integration('Loft', '');
SELECT cobot_create_integration('Loft', 'UPPER');
SELECT cobot_create_integration('Loft', 'www');
SELECT cobot_create_integration('Loft', repeat('a', 300));
SELECT cobot_create_integration('Loft', E'loft\nnine');
SELECT cobot_create_integration(NULL, 'loft');
SELECT cobot_create_integration('Loft', NULL);
SELECT cobot_create_integration('Loft', 'loft', sync_plan_access => NULL);
SELECT cobot_create_integration('   ', 'loft');
\set VERBOSITY terse
INSERT INTO cobot_integration (name, subdomain) VALUES ('Loft', 'evil.com/');
INSERT INTO cobot_integration (name, subdomain) VALUES ('Loft', E'loft\nnine');
\set VERBOSITY default
SELECT count(*) FROM cobot_integration;

\echo SQLSTATEs, for programs
CREATE FUNCTION public.sqlstate_of(statement text) RETURNS text LANGUAGE plpgsql AS
$$BEGIN EXECUTE statement; RETURN 'none'; EXCEPTION WHEN OTHERS THEN RETURN sqlstate; END$$;
SELECT public.sqlstate_of(s), s FROM (VALUES
	($$SELECT smartspace.cobot_create_integration('x', 'evil.com/')$$),
	($$SELECT smartspace.cobot_create_integration(NULL, 'x')$$),
	($$SELECT smartspace.cobot_sync(99)$$),
	($$SELECT smartspace.cobot_sync(NULL)$$),
	($$SELECT smartspace.cobot_connect_token(99, 'token')$$),
	($$SELECT smartspace.cobot_connect_token(NULL, 'token')$$),
	($$SELECT smartspace.cobot_connect_token(99, NULL)$$),
	($$SELECT smartspace.cobot_connect_token(99, 'two words')$$),
	($$SELECT smartspace.cobot_ensure_custom_field(99)$$),
	($$SELECT smartspace.cobot_arm(99)$$),
	($$SELECT smartspace.cobot_arm(NULL)$$),
	($$SELECT smartspace.access_follow()$$)) AS v (s);
DROP FUNCTION public.sqlstate_of(text);

SELECT cobot_create_integration('Loft Nine', 'loft-nine', client_secret => 'hush', sync_individual_access => true) > 0 AS made;
SELECT cobot_create_integration('Loft again', 'loft-nine');
SELECT name, state, summary FROM cobot_status;

\echo not connected: says what to do
\set VERBOSITY terse
SELECT cobot_sync(id) FROM cobot_integration;
SELECT cobot_ensure_custom_field(id) FROM cobot_integration;
\set VERBOSITY default

\echo problems of records that stand in the mirror
UPDATE cobot_integration SET time_zone = 'UTC';
INSERT INTO user_group (id, name, external_identifier) VALUES (501, 'Staff', 'Staff'), (502, 'More staff', 'STAFF');

INSERT INTO cobot_membership (id, integration_id, cobot_id, name, plan_name, confirmed_at, individual_access)
SELECT 501, id, 'ada', 'Ada', 'Team Rocket custom', now(), 'staff, Ghost, Ghost, Staff' FROM cobot_integration;
SELECT problem, membership_id, subject, detail, advice FROM cobot_problem ORDER BY problem, detail;
SELECT member, user_group, source, valid_from, valid_until FROM access_now;
SELECT name, state, members, with_access, problems FROM cobot_status;

\echo scopes that are missing
SELECT * FROM cobot_missing_scope(ARRAY['read_plans'], false, false);
SELECT * FROM cobot_missing_scope(ARRAY['read', 'write'], true, true);
SELECT scope FROM cobot_missing_scope(ARRAY['read_memberships', 'read_user'], true, true);

\echo identifiers that no field could ever name are refused
\set VERBOSITY terse
INSERT INTO user_group (name, external_identifier) VALUES ('x', 'a,b');
INSERT INTO user_group (name, external_identifier) VALUES ('x', ' a');
INSERT INTO user_group (name, external_identifier) VALUES ('x', '');
INSERT INTO user_group (name, external_identifier) VALUES ('x', 'Staff');

\echo how long ago
SELECT cobot_ago(now()), cobot_ago(now() - interval '90 seconds'), cobot_ago(now() - interval '90 minutes'),
	cobot_ago(now() - interval '36 hours'), cobot_ago(now() - interval '9 days'), cobot_ago(now() + interval '1 hour');

DELETE FROM user_group;
DELETE FROM cobot_integration;
