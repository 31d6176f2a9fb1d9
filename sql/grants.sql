-- Grants follow every kind of change, and always equal their definition.
SET TIME ZONE 'UTC';
SET datestyle = 'ISO';
\set SHOW_CONTEXT never
SET search_path = smartspace;

-- what is stored and what is due, both ways: no row means equal
CREATE VIEW public.grants_differ AS
(SELECT 'too many' AS which, membership_id, user_group_id, source, valid FROM smartspace.user_group_member
 EXCEPT ALL SELECT 'too many', membership_id, user_group_id, source, valid FROM smartspace.access_due)
UNION ALL
(SELECT 'missing', membership_id, user_group_id, source, valid FROM smartspace.access_due
 EXCEPT ALL SELECT 'missing', membership_id, user_group_id, source, valid FROM smartspace.user_group_member);

CREATE VIEW public.grants AS
SELECT m.name AS member, g.name AS user_group, a.source, a.valid
FROM smartspace.user_group_member a
	JOIN smartspace.cobot_membership m ON m.id = a.membership_id
	JOIN smartspace.user_group g ON g.id = a.user_group_id
ORDER BY m.name, g.name, a.source;

INSERT INTO cobot_integration (id, name, subdomain, time_zone, sync_individual_access) VALUES
	(1, 'Loft Nine', 'loft-nine', 'Europe/Berlin', true),
	(2, 'Harbour', 'harbour', 'Pacific/Auckland', false);
INSERT INTO cobot_plan (id, integration_id, cobot_id, name) VALUES
	(1, 1, 'full', 'Full Time'), (2, 1, 'part', 'Part Time'), (3, 2, 'desk', 'Desk');
INSERT INTO user_group (id, name, external_identifier) VALUES
	(1, 'Front door', NULL), (2, 'Workshop', 'workshop'), (3, 'Staff room', 'Staff');
INSERT INTO cobot_membership (id, integration_id, cobot_id, name, plan_id, confirmed_at, starts_at, canceled_to, individual_access) VALUES
	(1, 1, 'ada', 'Ada', 1, '2026-01-01', '2026-01-01', NULL, NULL),
	(2, 1, 'bob', 'Bob', 2, '2026-01-01', '2026-03-29', '2026-10-25', ' staff ,Workshop,,Ghost'),
	(3, 1, 'cem', 'Cem', 1, NULL, '2026-01-01', NULL, 'workshop'),
	(4, 2, 'dov', 'Dov', 3, '2026-01-01', '2026-04-05', NULL, 'workshop');

\echo first assignment: members of the plan, unconfirmed ones never; Bob has what his field names
INSERT INTO user_group_assignment (id, plan_id, user_group_id) VALUES (1, 1, 1), (2, 2, 1), (3, 3, 1);
SELECT * FROM public.grants;
SELECT * FROM public.grants_differ;

\echo another plan, another group
UPDATE cobot_membership SET plan_id = 2 WHERE id = 1;
UPDATE user_group_assignment SET user_group_id = 2 WHERE id = 2;
SELECT * FROM public.grants;
SELECT * FROM public.grants_differ;

\echo assignment removed, all of them removed
DELETE FROM user_group_assignment WHERE id = 3;
SELECT * FROM public.grants;
TRUNCATE user_group_assignment;
SELECT * FROM public.grants;
SELECT * FROM public.grants_differ;

\echo confirmed, ended, departed, back
INSERT INTO user_group_assignment (plan_id, user_group_id) SELECT id, 1 FROM cobot_plan;
UPDATE cobot_membership SET confirmed_at = '2026-02-01' WHERE id = 3;
UPDATE cobot_membership SET canceled_to = '2026-06-30' WHERE id = 1;
UPDATE cobot_membership SET departed_at = now() WHERE id = 2;
SELECT * FROM public.grants;
SELECT * FROM public.grants_differ;
UPDATE cobot_membership SET departed_at = NULL WHERE id = 2;
SELECT * FROM public.grants WHERE member = 'Bob';

\echo last day before first day: never
UPDATE cobot_membership SET canceled_to = '2025-12-31' WHERE id = 1;
SELECT * FROM public.grants WHERE member = 'Ada';
SELECT * FROM public.grants_differ;

\echo switches take their own source and nothing else, and give it back
UPDATE cobot_integration SET sync_plan_access = false WHERE id = 1;
SELECT * FROM public.grants;
UPDATE cobot_integration SET sync_plan_access = true, sync_individual_access = false WHERE id = 1;
SELECT * FROM public.grants;
UPDATE cobot_integration SET sync_individual_access = true;
SELECT * FROM public.grants;
SELECT * FROM public.grants_differ;

\echo the time zone of the space moves first and last moments
UPDATE cobot_integration SET time_zone = 'Pacific/Honolulu' WHERE id = 1;
SELECT * FROM public.grants WHERE member = 'Bob';
SELECT * FROM public.grants_differ;
UPDATE cobot_integration SET time_zone = 'Mars/Olympus' WHERE id = 1;

\echo identifiers: exact before folded, folded only when unique
INSERT INTO user_group (id, name, external_identifier) VALUES (4, 'Ghosts', 'ghost');
SELECT * FROM public.grants WHERE member = 'Bob' AND source = 'individual';
INSERT INTO user_group (id, name, external_identifier) VALUES (5, 'Second staff', 'STAFF');
SELECT * FROM public.grants WHERE member = 'Bob' AND source = 'individual';
UPDATE user_group SET external_identifier = 'staff' WHERE id = 5;
SELECT * FROM public.grants WHERE member = 'Bob' AND source = 'individual';
DELETE FROM user_group WHERE id = 5;
SELECT * FROM public.grants WHERE member = 'Bob' AND source = 'individual';
UPDATE user_group SET external_identifier = NULL WHERE id = 3;
SELECT * FROM public.grants WHERE member = 'Bob' AND source = 'individual';
SELECT * FROM public.grants_differ;

\echo a name changes: no grant is written
CREATE TEMP TABLE before AS SELECT a.ctid AS place, a.xmin::text AS writer, a.membership_id FROM user_group_member a;
UPDATE cobot_membership SET name = upper(name), email = 'new@example.com';
UPDATE cobot_plan SET name = 'Renamed ' || name;
UPDATE user_group SET name = 'Renamed ' || name;
SELECT count(*) FROM user_group_member a FULL JOIN before b ON a.ctid = b.place AND a.xmin::text = b.writer WHERE a.membership_id IS NULL OR b.membership_id IS NULL;

\echo grants lost by a restore without triggers are found again
DELETE FROM user_group_member WHERE membership_id = 2;
UPDATE user_group_member SET valid = '[2020-01-01,2020-02-01)' WHERE membership_id = 3 AND source = 'plan';
SELECT * FROM cobot_recompute_access();
SELECT * FROM cobot_recompute_access(1);
SELECT * FROM public.grants_differ;

\echo ids that change take the grants along
UPDATE user_group SET id = 40 WHERE id = 4;
INSERT INTO user_group (id, name) VALUES (4, 'Under the old id');
SELECT member, user_group, source FROM public.grants WHERE member = 'BOB' AND source = 'individual';
UPDATE cobot_membership SET id = 20 WHERE id = 2;
SELECT * FROM public.grants_differ;
UPDATE cobot_membership SET id = 2 WHERE id = 20;
UPDATE user_group SET id = 41 WHERE id = 4;
UPDATE user_group SET id = 4 WHERE id = 40;
SELECT * FROM public.grants_differ;

\echo a deleted group, plan, membership or integration takes its grants along
DELETE FROM user_group WHERE id = 2;
DELETE FROM cobot_membership WHERE id = 3;
DELETE FROM cobot_integration WHERE id = 2;
SELECT * FROM public.grants;
SELECT * FROM public.grants_differ;
DELETE FROM cobot_integration;
SELECT count(*) FROM user_group_member;
DELETE FROM user_group;

\echo the tokens of a field
SELECT array_agg(quote_literal(t)) FROM cobot_field_tokens(E' staff ,\tWorkshop\u00a0,, ,two words,\u3000\u65e5\u672c\u3000,staff') t;
SELECT count(*) FROM cobot_field_tokens(',,, ,');
SELECT count(*) FROM cobot_field_tokens('');
SELECT count(*) FROM cobot_field_tokens(NULL);

\echo the rule for dates
SELECT cobot_access_range(NULL, '2026-01-01', NULL, 'UTC') IS NULL AS unconfirmed_never;
SELECT cobot_access_range(now(), NULL, NULL, NULL);
SELECT cobot_access_range(now(), '2026-03-29', '2026-03-29', 'Europe/Berlin') AS spring_forward_day,
	cobot_access_range(now(), '2026-10-25', '2026-10-25', 'Europe/Berlin') AS fall_back_day;
SELECT cobot_access_range(now(), '2028-02-29', '2028-02-29', 'Pacific/Auckland') AS leap_day;
SELECT cobot_access_range(now(), '2026-01-01', NULL, 'Nowhere');

DROP VIEW public.grants, public.grants_differ;
