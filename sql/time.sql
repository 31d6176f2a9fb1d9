-- The rule for first and last day, around every odd day of the calendar.
SET TIME ZONE 'UTC';
SET datestyle = 'ISO';
SET search_path = smartspace;
\set SHOW_CONTEXT never

SELECT v.what, cobot_access_range(now(), v.first, v.last, v.zone) AS valid,
	upper(cobot_access_range(now(), v.first, v.last, v.zone)) - lower(cobot_access_range(now(), v.first, v.last, v.zone)) AS length
FROM (VALUES
	('spring forward, Berlin', date '2026-03-29', date '2026-03-29', 'Europe/Berlin'),
	('fall back, Berlin', '2026-10-25', '2026-10-25', 'Europe/Berlin'),
	('fall back, Auckland', '2026-04-05', '2026-04-05', 'Pacific/Auckland'),
	('spring forward, Auckland', '2026-09-27', '2026-09-27', 'Pacific/Auckland'),
	('no change, Honolulu', '2026-03-29', '2026-03-29', 'Pacific/Honolulu'),
	('leap day, Honolulu', '2028-02-29', '2028-02-29', 'Pacific/Honolulu'),
	('leap day, Auckland', '2028-02-29', '2028-02-29', 'Pacific/Auckland'),
	('midnight skipped, Sao Paulo', '2018-11-04', '2018-11-04', 'America/Sao_Paulo'),
	('midnight skipped, Beirut', '2026-03-29', '2026-03-29', 'Asia/Beirut'),
	('midnight twice, Havana', '2026-11-01', '2026-11-01', 'America/Havana'),
	('a day left out, Apia', '2011-12-29', '2011-12-31', 'Pacific/Apia'),
	('half an hour, Lord Howe', '2026-04-05', '2026-04-05', 'Australia/Lord_Howe'),
	('year end', '2026-12-31', '2027-01-01', 'UTC')) AS v (what, first, last, zone);

-- the same as PostgreSQL's own conversion, for every day of two years in many zones
SELECT count(*) FILTER (WHERE lower(cobot_access_range(now(), d::date, NULL, z)) <> (d::date::timestamp AT TIME ZONE z)) AS different, count(*) AS tried
FROM generate_series(date '2026-01-01', date '2027-12-31', '1 day') d,
	unnest(ARRAY['Europe/Berlin', 'Pacific/Auckland', 'Pacific/Honolulu', 'America/New_York', 'Asia/Kathmandu', 'Africa/Cairo', 'America/Havana', 'Australia/Lord_Howe', 'UTC']) z;

-- consecutive days meet without a gap and without an overlap
SELECT count(*) AS gaps
FROM generate_series(date '2026-01-01', date '2027-12-31', '1 day') d,
	unnest(ARRAY['Europe/Berlin', 'Pacific/Auckland', 'Africa/Cairo', 'America/Havana', 'Australia/Lord_Howe']) z
WHERE upper(cobot_access_range(now(), NULL, d::date, z)) <> lower(cobot_access_range(now(), d::date + 1, NULL, z));

-- open ends, no confirmation, wrong order, infinity, no zone
SELECT cobot_access_range(now(), NULL, NULL, 'Europe/Berlin') AS always, cobot_access_range(NULL, '2026-01-01', NULL, 'UTC') AS unconfirmed,
	cobot_access_range(now(), '2026-01-02', '2026-01-01', 'UTC') AS wrong_order, cobot_access_range(now(), '-infinity', 'infinity', 'UTC') AS infinite,
	cobot_access_range(now(), '2026-01-01', NULL, NULL) AS no_zone;

-- starts tomorrow in Auckland while the server's day is another one: access from local midnight, and with nothing running
INSERT INTO cobot_integration (id, name, subdomain, time_zone) VALUES (91, 'Harbour', 'harbour', 'Pacific/Auckland');
INSERT INTO cobot_plan (id, integration_id, cobot_id) VALUES (91, 91, 'p');
INSERT INTO user_group (id, name) VALUES (91, 'Door');
INSERT INTO user_group_assignment (plan_id, user_group_id) VALUES (91, 91);
INSERT INTO cobot_membership (id, integration_id, cobot_id, plan_id, confirmed_at, starts_at)
VALUES (91, 91, 'm', 91, now(), (now() AT TIME ZONE 'Pacific/Auckland')::date + 1);
SELECT cobot_has_access(91, 91) AS now,
	cobot_has_access(91, 91, ((now() AT TIME ZONE 'Pacific/Auckland')::date + 1)::timestamp AT TIME ZONE 'Pacific/Auckland' - interval '1 microsecond') AS just_before,
	cobot_has_access(91, 91, ((now() AT TIME ZONE 'Pacific/Auckland')::date + 1)::timestamp AT TIME ZONE 'Pacific/Auckland') AS local_midnight;

-- the space moves to another zone: the moments move along
UPDATE cobot_membership SET starts_at = '2026-03-29', canceled_to = '2026-10-25' WHERE id = 91;
SELECT valid FROM user_group_member;
UPDATE cobot_integration SET time_zone = 'Pacific/Honolulu' WHERE id = 91;
SELECT valid FROM user_group_member;

DELETE FROM cobot_integration;
DELETE FROM user_group;
