-- The yardsticks: the same work done in the ways that a good SQL developer would
-- usually do it. Tables like ours, with the same constraints and indexes, and what they
-- are filled from. Wants the psql variable integration.

CREATE SCHEMA usual;
SET search_path = usual;

-- Cobot's answers, by path. Not compressed, so that reading them costs next to nothing.
CREATE UNLOGGED TABLE answer (path text, body text);
ALTER TABLE answer ALTER body SET STORAGE EXTERNAL;

CREATE TABLE cobot_membership (
	LIKE smartspace.cobot_membership INCLUDING ALL,
	FOREIGN KEY (integration_id) REFERENCES smartspace.cobot_integration ON DELETE CASCADE,
	FOREIGN KEY (plan_id) REFERENCES smartspace.cobot_plan
);

CREATE TABLE user_group_member (
	LIKE smartspace.user_group_member INCLUDING ALL,
	FOREIGN KEY (membership_id) REFERENCES cobot_membership ON DELETE CASCADE,
	FOREIGN KEY (user_group_id) REFERENCES smartspace.user_group ON DELETE CASCADE
);

-- The members as rows, with the plan and the custom field. There is no source_hash: the
-- usual way has none and need not pay for it.
CREATE VIEW incoming AS
SELECT :integration::bigint AS integration_id, r.id AS cobot_id, p.id AS plan_id,
	r.confirmed_at, r.starts_at, r.canceled_to, f.value AS individual_access, r.name, r.email, r.phone,
	r.address ->> 'company' AS company, r.address ->> 'name' AS address_name,
	r.address ->> 'full_address' AS full_address, r.address ->> 'address' AS address,
	r.address ->> 'post_code' AS post_code, r.address ->> 'city' AS city,
	r.address ->> 'state' AS state, r.address ->> 'country' AS country,
	r.billing_emails, r.charge_taxes, r.customer_number, r.picture,
	r."user" ->> 'id' AS user_id, r."user" ->> 'email' AS user_email, r.team_id,
	r.plan ->> 'name' AS plan_name, r.plan ->> 'description' AS plan_description,
	r.plan -> 'parent_plan' ->> 'id' AS parent_plan_id,
	(r.plan ->> 'price_per_cycle')::numeric AS plan_price_per_cycle, r.plan ->> 'currency' AS plan_currency,
	(r.plan ->> 'cycle_duration')::integer AS plan_cycle_duration, (r.plan ->> 'canceled_to')::date AS plan_canceled_to,
	nullif(r.plan -> 'extras', 'null') AS extras, nullif(r.plan -> 'time_passes', 'null') AS time_passes,
	r.upcoming_plan ->> 'name' AS upcoming_plan_name,
	r.upcoming_plan -> 'parent_plan' ->> 'id' AS upcoming_parent_plan_id,
	r.payment_method ->> 'name' AS payment_method, (r.payment_method ->> 'automated')::boolean AS payment_automated,
	r.next_invoice_at
FROM jsonb_to_recordset((SELECT body::jsonb FROM answer WHERE path = '/api/memberships'))
	AS r (id text, name text, email text, phone text, "user" jsonb, picture text, address jsonb, billing_emails text[],
		charge_taxes boolean, customer_number text, plan jsonb, upcoming_plan jsonb, payment_method jsonb,
		confirmed_at timestamptz, starts_at date, canceled_to date, next_invoice_at date, team_id text)
	LEFT JOIN smartspace.cobot_plan p
		ON p.integration_id = :integration AND p.cobot_id = r.plan -> 'parent_plan' ->> 'id'
	LEFT JOIN (SELECT m.membership_id, nullif(v.value, '') AS value
		FROM jsonb_to_recordset((SELECT body::jsonb FROM answer WHERE path = '/api/custom_fields'))
				AS m (membership_id text, fields jsonb)
			CROSS JOIN LATERAL jsonb_to_recordset(m.fields) AS v (label text, value text)
		WHERE v.label = 'smart_spaces_access_additional_units') f ON f.membership_id = r.id;

-- The grants of the members in the table above, by plan and by custom field.
CREATE VIEW entitled AS
SELECT m.id, m.plan_id, m.individual_access,
	tstzrange(m.starts_at::timestamp AT TIME ZONE i.time_zone,
		(m.canceled_to + 1)::timestamp AT TIME ZONE i.time_zone) AS valid
FROM cobot_membership m JOIN smartspace.cobot_integration i ON i.id = m.integration_id
WHERE m.confirmed_at IS NOT NULL AND (m.canceled_to >= m.starts_at OR m.canceled_to IS NULL OR m.starts_at IS NULL);

CREATE VIEW due AS
SELECT m.id AS membership_id, a.user_group_id, 'plan' AS source, m.valid
FROM entitled m JOIN smartspace.user_group_assignment a ON a.plan_id = m.plan_id
UNION ALL
SELECT DISTINCT m.id, g.id, 'individual', m.valid
FROM entitled m CROSS JOIN LATERAL string_to_table(m.individual_access, ',') AS t (token)
	JOIN smartspace.user_group g ON lower(g.external_identifier) = lower(btrim(t.token));
