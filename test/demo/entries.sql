-- What the door system writes. The building is the space's; its front door counts as an entrance.
INSERT INTO building (integration_id, name, external_identifier) VALUES (1, 'Loft Nine', 'front-door');
INSERT INTO building_entry (membership_id, building_id) SELECT id, 1 FROM cobot_membership WHERE name LIKE 'Conceição%';
INSERT INTO building_entry (membership_id, building_id) SELECT m.id, 1 FROM cobot_membership m, generate_series(1, 11) WHERE m.name LIKE 'Conceição%';
INSERT INTO building_entry (membership_id, building_id) SELECT id, 1 FROM cobot_membership WHERE name = '佐藤 健一';
