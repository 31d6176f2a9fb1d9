-- The journal: each grant given, changed and taken; time travel; retention; the fast question.
SET TIME ZONE 'UTC';
SET datestyle = 'ISO';
SET search_path = smartspace;
\set SHOW_CONTEXT never

INSERT INTO cobot_integration (id, name, subdomain, time_zone, sync_individual_access) VALUES (81, 'Loft Nine', 'loft-nine', 'Europe/Berlin', true);
INSERT INTO cobot_plan (id, integration_id, cobot_id, name) VALUES (81, 81, 'full', 'Full Time');
INSERT INTO user_group (id, name, external_identifier) VALUES (81, 'Front door', NULL), (82, 'Workshop', 'workshop');
INSERT INTO cobot_membership (id, integration_id, cobot_id, name, plan_id, confirmed_at, starts_at, individual_access) VALUES
	(81, 81, 'ada', 'Ada', 81, '2026-01-01', '2026-01-01', 'workshop'), (82, 81, 'bob', 'Bob', 81, '2026-01-01', '2026-01-01', NULL);
SELECT max(id) AS start FROM access_journal \gset
SELECT access_position() AS position \gset

\echo given, changed, taken
INSERT INTO user_group_assignment (plan_id, user_group_id) VALUES (81, 81);
SELECT clock_timestamp() AS with_all \gset
UPDATE cobot_membership SET canceled_to = '2999-12-31' WHERE id = 81;
SELECT cobot_revoke(81, 81);
SELECT valid FROM cobot_grant(82, 82, reason => 'until the course ends');
SELECT clock_timestamp() AS with_course \gset
SELECT cobot_revoke(82, 82);
UPDATE cobot_membership SET individual_access = NULL WHERE id = 81;
DELETE FROM user_group_assignment;
SELECT clock_timestamp() AS with_nothing \gset
SELECT action, membership_id AS member, user_group_id AS grp, source, valid_before, valid, run_id, done_by = session_user AS me
FROM access_journal WHERE id > :start ORDER BY at, membership_id, user_group_id, source;
SELECT count(*) FROM user_group_member;

\echo time travel: who was where then
SELECT membership_id, user_group_id, source FROM access_at(:'with_all') ORDER BY 1, 2, 3;
SELECT membership_id, user_group_id, source FROM access_at(:'with_course') ORDER BY 1, 2, 3;
SELECT membership_id, user_group_id, source FROM access_at(:'with_course', 82) ORDER BY 1, 2, 3;
SELECT count(*) FROM access_at(:'with_nothing');

\echo changes since a position: all of them, and from the next position none
SELECT count(*) AS changes, max(next_position) > :position AS moved_on FROM access_changes(:position);
SELECT count(*) FROM access_changes(access_position());

\echo a statement that changes nothing leaves no row
SELECT count(*) AS rows_before FROM access_journal \gset
UPDATE cobot_membership SET name = upper(name);
UPDATE cobot_integration SET name = 'Loft Ten';
SELECT count(*) - :rows_before AS more FROM access_journal;

\echo purge: keeps what still held at the cutoff, so that time travel stays right
INSERT INTO user_group_assignment (plan_id, user_group_id) VALUES (81, 81);
UPDATE cobot_membership SET canceled_to = '2998-12-31' WHERE id = 81;
SELECT cobot_purge_journal('0 seconds') > 0 AS purged;
SELECT action, membership_id AS member, user_group_id AS grp, source, valid FROM access_journal ORDER BY 2, 3, 4;
SELECT membership_id, user_group_id, source FROM access_at(clock_timestamp()) ORDER BY 1, 2, 3;
SELECT cobot_purge_journal();
SELECT cobot_journal_retention();

\echo the fast question
SELECT cobot_has_access(81, 81), cobot_has_access(81, 82), cobot_has_access(4711, 81), cobot_has_access(81, 81, '2025-01-01'),
	cobot_has_access(NULL, 81) IS NULL AS null_in_null_out;
SELECT cobot_has_access(81, 81, '2025-12-31 22:59:59.999999+00') AS before_midnight, cobot_has_access(81, 81, '2025-12-31 23:00:00+00') AS from_midnight,
	cobot_has_access(81, 81, '2998-12-31 22:59:59.999999+00') AS last_moment, cobot_has_access(81, 81, '2998-12-31 23:00:00+00') AS over;
BEGIN;
DELETE FROM user_group_assignment;
SELECT cobot_has_access(81, 81);
ROLLBACK;
SELECT cobot_has_access(81, 81);
\echo it agrees with access_now for everybody, before and after vacuum sets the visibility map
SELECT count(*) FROM cobot_membership m, user_group g
WHERE cobot_has_access(m.id, g.id) <> EXISTS (SELECT FROM access_now n WHERE n.membership_id = m.id AND n.user_group_id = g.id);
VACUUM user_group_member;
SELECT count(*) FROM cobot_membership m, user_group g
WHERE cobot_has_access(m.id, g.id) <> EXISTS (SELECT FROM access_now n WHERE n.membership_id = m.id AND n.user_group_id = g.id);

DELETE FROM cobot_integration;
DELETE FROM user_group;
SELECT count(*) FROM user_group_member;
