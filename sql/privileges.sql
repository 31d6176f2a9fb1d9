-- A role without grants can read no table and call no function.
CREATE ROLE regress_smartspace_nobody;

SELECT has_schema_privilege('regress_smartspace_nobody', 'smartspace', 'USAGE') AS usage,
	has_schema_privilege('regress_smartspace_nobody', 'smartspace', 'CREATE') AS create;
-- any privilege on any table, view, sequence or column: none
SELECT c.oid::regclass, p.privilege
FROM pg_class c CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p (privilege)
WHERE c.relnamespace = 'smartspace'::regnamespace AND c.relkind IN ('r', 'v')
  AND has_table_privilege('regress_smartspace_nobody', c.oid, p.privilege);
SELECT c.oid::regclass FROM pg_class c
WHERE c.relnamespace = 'smartspace'::regnamespace AND c.relkind = 'S'
  AND has_sequence_privilege('regress_smartspace_nobody', c.oid, 'SELECT, UPDATE, USAGE');
SELECT p.oid::regprocedure FROM pg_proc p
WHERE p.pronamespace = 'smartspace'::regnamespace AND has_function_privilege('regress_smartspace_nobody', p.oid, 'EXECUTE');
-- the same, seen in the catalog: no grant to PUBLIC anywhere
SELECT relname FROM pg_class WHERE relnamespace = 'smartspace'::regnamespace AND array_to_string(relacl, E'\n') ~ '(^|\n)=';
SELECT proname FROM pg_proc WHERE pronamespace = 'smartspace'::regnamespace
	AND (proacl IS NULL OR array_to_string(proacl, E'\n') ~ '(^|\n)=');

-- and tried
SET ROLE regress_smartspace_nobody;
SELECT * FROM smartspace.cobot_secret;
SELECT * FROM smartspace.cobot_status;
SELECT smartspace.cobot_sync(1);
SELECT smartspace.cobot_create_integration('x', 'x');
SET smartspace_cobot.connect_to = '127.0.0.1:1';
SET smartspace_cobot.ca_file = '/tmp/ca.pem';
RESET ROLE;

-- even with the schema open, every function and table stays shut
GRANT USAGE ON SCHEMA smartspace TO regress_smartspace_nobody;
SET ROLE regress_smartspace_nobody;
SELECT * FROM smartspace.cobot_secret;
SELECT * FROM smartspace.cobot_membership;
SELECT * FROM smartspace.access_now;
SELECT smartspace.cobot_sync(1);
SELECT smartspace.cobot_connect_token(1, 'x');
SELECT smartspace.cobot_recompute_access();
RESET ROLE;

-- a backend that may write assignments and read who is in, but no grants: the triggers do that
SELECT smartspace.cobot_grant_role('regress_smartspace_nobody', 'operate');
INSERT INTO smartspace.cobot_integration (id, name, subdomain, time_zone) VALUES (901, 'x', 'x', 'UTC');
INSERT INTO smartspace.cobot_plan (id, integration_id, cobot_id) VALUES (901, 901, 'p');
INSERT INTO smartspace.cobot_membership (id, integration_id, cobot_id, name, plan_id, confirmed_at) VALUES (901, 901, 'm', 'Ada', 901, now());
INSERT INTO smartspace.user_group (id, name) VALUES (901, 'Door');
SET ROLE regress_smartspace_nobody;
-- a hostile search_path changes nothing
CREATE TEMP TABLE access_due (hello text);
SET search_path = pg_temp, public;
INSERT INTO smartspace.user_group_assignment (plan_id, user_group_id) VALUES (901, 901);
RESET search_path;
SELECT member, user_group, source FROM smartspace.access_now;
INSERT INTO smartspace.user_group_member (membership_id, user_group_id, source, valid) VALUES (901, 901, 'manual', '(,)');
SELECT token FROM smartspace.cobot_secret;
RESET ROLE;

DELETE FROM smartspace.cobot_integration;
DELETE FROM smartspace.user_group;
DROP OWNED BY regress_smartspace_nobody;
DROP ROLE regress_smartspace_nobody;
