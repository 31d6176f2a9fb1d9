-- User groups of Loft Nine and which plan gives which of them.
INSERT INTO user_group (name, external_identifier) VALUES
	('Front door', 'front-door'), ('Meeting rooms', 'meeting-rooms'), ('Workshop', 'Workshop'),
	('Roof terrace', 'Roof terrace'), ('Staff room', 'Staff');
INSERT INTO user_group_assignment (plan_id, user_group_id)
SELECT p.id, g.id
FROM (VALUES ('Resident', 'Front door'), ('Resident', 'Meeting rooms'), ('Flex Desk', 'Front door'), ('Ten Days', 'Front door'),
	('Studio', 'Front door'), ('Studio', 'Workshop'), ('Friends of the House', 'Roof terrace')) AS v (plan, user_group)
	JOIN cobot_plan p ON p.name = v.plan
	JOIN user_group g ON g.name = v.user_group;
