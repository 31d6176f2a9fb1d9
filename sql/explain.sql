-- Why: every reason of the vocabulary, in words and with what to do about it.
SET TIME ZONE 'UTC';
SET datestyle = 'ISO';
SET search_path = smartspace;
\set SHOW_CONTEXT never
\set why 'SELECT user_group, has_access, reason, source, regexp_replace(explanation, ''(so since|on) [0-9]+ [A-Z][a-z]+ 20[0-9]{2}( [0-9:]{5})?'', ''\\1 DAY'') AS explanation, advice FROM cobot_explain'

INSERT INTO cobot_integration (id, name, subdomain, time_zone, sync_individual_access) VALUES (71, 'Loft Nine', 'loft-nine', 'Europe/Berlin', true);
INSERT INTO cobot_plan (id, integration_id, cobot_id, name) VALUES (71, 71, 'full', 'Full Time'), (72, 71, 'none', 'Mail only');
INSERT INTO user_group (id, name, external_identifier) VALUES (71, 'Front door', NULL), (72, 'Workshop', 'workshop'), (73, 'Staff room', 'Staff'), (74, 'Other staff', 'STAFF');
INSERT INTO user_group_assignment (plan_id, user_group_id) VALUES (71, 71);
INSERT INTO cobot_membership (id, integration_id, cobot_id, name, plan_id, plan_name, confirmed_at, starts_at, canceled_to, departed_at, individual_access) VALUES
	(71, 71, 'ada', 'Ada', 71, 'Full Time', '2026-01-01', '2026-01-01', NULL, NULL, 'workshop'),
	(72, 71, 'bob', 'Bob', 71, 'Full Time', NULL, '2026-01-01', NULL, NULL, 'Workshop'),
	(73, 71, 'cem', 'Cem', 71, 'Full Time', '2026-01-01', '2999-01-01', NULL, NULL, NULL),
	(74, 71, 'dov', 'Dov', 71, 'Full Time', '2020-01-01', '2020-01-01', '2020-12-31', NULL, NULL),
	(75, 71, 'eve', 'Eve', NULL, 'Team Kite', '2026-01-01', '2026-01-01', NULL, NULL, 'worksop, staff,zzzzzz'),
	(76, 71, 'fay', 'Fay', 72, 'Mail only', '2026-01-01', '2026-01-01', NULL, NULL, NULL),
	(77, 71, 'gil', 'Gil', 71, 'Full Time', '2026-01-01', '2026-01-01', NULL, '2026-05-05', NULL),
	(78, 71, 'hal', 'Hal', 71, 'Full Time', '2026-01-01', '2026-02-01', '2026-01-31', NULL, NULL);
INSERT INTO cobot_record_problem (integration_id, problem, record, cobot_id, detail) VALUES
	(71, 'bad_record', 'membership', 'ada', 'memberships[0].starts_at is "soon", no date');

\echo Ada: plan and custom field; her last record is broken
:why (71);
\echo Bob: not confirmed
:why (72);
\echo Cem: not started
:why (73);
\echo Dov: ended
:why (74);
\echo Eve: plan without parent, an identifier mistyped, one ambiguous, one unknown
:why (75);
\echo Fay: the plan gives nothing
:why (76);
\echo Gil: deleted at Cobot
:why (77);
\echo Hal: cancelled before the first day
:why (78);
\echo switched off
UPDATE cobot_integration SET sync_plan_access = false WHERE id = 71;
:why (71, 71);
UPDATE cobot_integration SET sync_plan_access = true WHERE id = 71;
\echo one group only; a group that nobody gives her
:why (71, 72);
:why (71, 73);
\echo by hand, with and without reason and dates
SELECT membership_id, user_group_id, valid, reason FROM cobot_grant(71, 73, reason => 'cleans on Mondays');
:why (71, 73);
SELECT valid, reason FROM cobot_grant(71, 73, '2020-01-01 00:00+00', '2020-02-01 00:00+00');
:why (71, 73);
SELECT cobot_revoke(71, 73), cobot_revoke(71, 73);
\echo every reason is in the vocabulary
SELECT DISTINCT reason FROM cobot_membership m, cobot_explain(m.id) WHERE integration_id = 71 ORDER BY 1;

\echo what if: plan to group
SELECT member, effect, valid, because FROM cobot_preview_assignment(71, 72);
SELECT member, effect, valid, because FROM cobot_preview_assignment(71, 71, add => false);
SELECT count(*) AS nothing_to_add FROM cobot_preview_assignment(71, 71);
SELECT count(*) AS nothing_to_take FROM cobot_preview_assignment(71, 72, add => false);
\echo what if: switches
SELECT member, user_group, effect, because FROM cobot_preview_switch(71, sync_individual_access => false);
UPDATE cobot_integration SET sync_individual_access = false WHERE id = 71;
SELECT member, user_group, effect, because FROM cobot_preview_switch(71, sync_individual_access => true);
INSERT INTO user_group_assignment (plan_id, user_group_id) VALUES (71, 72);
SELECT member, user_group, effect, because FROM cobot_preview_switch(71, sync_individual_access => true);
SELECT member, user_group, source, effect, because FROM cobot_preview_switch(71, false, true);
\echo the preview was right, and changed nothing
SELECT count(*) FROM user_group_member WHERE source = 'individual';

\echo misuse
SELECT * FROM cobot_explain(NULL);
SELECT * FROM cobot_explain(4711);
SELECT * FROM cobot_explain(71, 4711);
SELECT cobot_grant(4711, 71);
SELECT cobot_grant(71, NULL);
SELECT cobot_grant(71, 71, '2026-02-01', '2026-01-01');
SELECT cobot_revoke(71, 4711);
SELECT * FROM cobot_preview_assignment(4711, 71);
SELECT * FROM cobot_preview_assignment(71, 4711);
SELECT * FROM cobot_preview_switch(4711, false);

\echo advice of the linter
SELECT severity, problem, subject, detail FROM cobot_problem WHERE integration_id = 71 OR integration_id IS NULL ORDER BY 1, 2, 3, 4;
UPDATE cobot_plan SET listed = false WHERE id = 71;
INSERT INTO cobot_record_problem (integration_id, problem, record, cobot_id, detail) VALUES
	(71, 'duplicate_label', 'custom field', 'Locker', 'The space has 2 custom fields of this name.');
SELECT severity, problem, subject, detail, advice FROM cobot_problem
WHERE problem IN ('assignment_to_vanished_plan', 'duplicate_label') ORDER BY 1, 2, 3, 4;

DELETE FROM cobot_integration;
DELETE FROM user_group;
