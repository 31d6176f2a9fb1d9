-- A space with very many members and look-alikes of the tables of grants, for LargeSpace.
-- Wants the psql variable members.

CREATE EXTENSION smartspace_cobot;

INSERT INTO smartspace.cobot_integration (id, name, subdomain, time_zone, sync_individual_access)
VALUES (1, 'Large', 'large', 'Europe/Berlin', true);
INSERT INTO smartspace.cobot_plan (id, integration_id, cobot_id, name) VALUES (1, 1, 'full', 'Full Time');
INSERT INTO smartspace.user_group (id, name) VALUES (1, 'Front door'), (2, 'Workshop');

-- About 1 kB each.
INSERT INTO smartspace.cobot_membership
	(id, integration_id, cobot_id, source_hash, plan_id, confirmed_at, starts_at, canceled_to, name, email, phone,
	 company, address_name, full_address, address, post_code, city, country, billing_emails, charge_taxes, customer_number,
	 picture, user_id, user_email, plan_name, plan_description, parent_plan_id, plan_price_per_cycle, plan_currency,
	 plan_cycle_duration, extras, time_passes, payment_method, payment_automated, next_invoice_at)
SELECT n, 1, md5(n::text), hashtextextended(n::text, 0), 1, date '2020-01-01' + n % 2000, date '2020-01-01' + n % 2000,
	CASE WHEN n % 10 = 0 THEN date '2031-01-01' + n % 500 END,
	format('Member Number %s', n), format('member.%s@mail.example', n), '+49 30 ' || n,
	format('Company Number %s Limited', n), format('Member Number %s', n),
	format(E'Member Number %s\nCompany Number %s Limited\nStreet of the Benchmark %s\n10115 Berlin\nGermany', n, n, n),
	format('Street of the Benchmark %s', n), '10115', 'Berlin', 'Germany',
	ARRAY[format('invoices.%s@mail.example', n)], true, 'C-' || n,
	format('https://pictures.example/%s/%s/medium.jpg', md5(n::text), md5((n + 1)::text)),
	md5((n + 2)::text), format('member.%s@mail.example', n), 'Full Time',
	'A desk of your own, around the clock, with a locker, a letter box and ten hours in the meeting rooms', 'full', 249, 'EUR', 1,
	jsonb_build_array(jsonb_build_object('id', md5((n + 3)::text), 'name', 'Locker', 'price', '15.0')),
	jsonb_build_array(jsonb_build_object('id', md5((n + 4)::text), 'name', 'Day passes', 'no_of_passes', 3)),
	'Bank transfer', false, date '2030-01-01'
FROM generate_series(1, :members) n;
INSERT INTO smartspace.user_group_assignment (plan_id, user_group_id) VALUES (1, 1);

CREATE SCHEMA usual;
CREATE TABLE usual.user_group_member (LIKE smartspace.user_group_member INCLUDING ALL);
CREATE TABLE usual.access_journal (LIKE smartspace.access_journal INCLUDING ALL);
INSERT INTO usual.user_group_member SELECT * FROM smartspace.user_group_member;
VACUUM ANALYZE;
