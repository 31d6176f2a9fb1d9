# Whatever is written to memberships, plans, groups, assignments, grants by hand, switches
# and time zones, in whatever order, in small and large statements, with savepoints and
# rollbacks: the stored grants equal their definition access_due, the journal alone
# leads to the same grants, and what was true at a moment can be asked for ever after.
#
# The statements are random; PROPERTY_SEED=n in the environment repeats or varies them.
use strict;
use warnings;

use CobotTest;
use Test::More;

use constant {
	BATCHES => 50,
	TRANSACTIONS => 30,    # in each batch
	INTEGRATIONS => 3,     # two that live, and one that is deleted and founded again
	PLANS => 9,
	GROUPS => 10,
	MEMBERS => 36,
};

my $seed = $ENV{PROPERTY_SEED} // 20250515;
srand $seed;
diag "PROPERTY_SEED=$seed" if $ENV{PROPERTY_SEED};
note "PROPERTY_SEED=$seed";

my @identifiers = qw(door Door DOOR roof Roof büro BÜRO lab straße STRASSE);
my @zones = qw(UTC Europe/Berlin Asia/Tokyo America/New_York Pacific/Apia Pacific/Honolulu);

# --- dice ---
sub chance { return rand() < $_[0]; }

sub one_of { return $_[ rand @_ ]; }

sub upto { return 1 + int rand $_[0]; }

# Ids, mostly few, at times about all of them.
sub some
{
	my ($all) = @_;
	my $count = one_of(1, 1, 1, 2, 3, int $all / 2, $all);

	return join ', ', map { upto($all) } 1 .. $count;
}

sub boolean { return chance(0.75) ? 'true' : 'false'; }

sub identifier { return chance(0.15) ? 'NULL' : "'" . one_of(@identifiers) . "'"; }

sub field
{
	return 'NULL' if chance(0.3);
	return "'" . join(one_of(',', ', ', ' ,, '), map { one_of(@identifiers, 'Ghost') } 1 .. upto(4)) . "'";
}

# Far and near days, and days around now, which begin and end meanwhile in some zone.
sub day { return one_of('NULL', 'NULL', "'2020-01-01'", "'2098-12-31'", map { "current_date + $_" } -30, -1, 0, 1, 30); }

sub moment { return one_of('NULL', 'NULL', map { "clock_timestamp() + interval '$_'" } '-1 year', '-1 ms', '30 ms', '300 ms', '3 s', '1 year'); }

# A range that is never empty; some begin or end while the test runs.
sub valid
{
	return one_of("'(,)'", 'tstzrange(NULL, ' . moment() . ')', 'tstzrange(' . moment() . ', NULL)', 'tstzrange(' . moment() . ", NULL, '()')",
		"tstzrange(clock_timestamp() - interval '1 ms', clock_timestamp() + interval '" . one_of('1 ms', '100 ms', '2 s', '1 day') . "', '" . one_of('[)', '(]', '[]') . "')");
}

# One of the plans of the integration that a member belongs to, or none.
sub plan_of
{
	my ($member) = @_;
	my $nth = INTEGRATIONS * int rand PLANS / INTEGRATIONS;

	return chance(0.15) ? 'NULL' : "(SELECT p.id FROM cobot_plan p WHERE p.id = ($member - 1) % @{[ INTEGRATIONS ]} + 1 + $nth)";
}

# --- what can be done; a row that is not there, or is there already, is no error ---
my %does = (
	join => sub {
		my ($members, $plan) = (some(MEMBERS), plan_of('n.id'));
		my $conflict = one_of('NOTHING', 'UPDATE SET plan_id = excluded.plan_id, individual_access = excluded.individual_access, departed_at = NULL');
		return "INSERT INTO cobot_membership (id, integration_id, cobot_id, name, user_id, plan_id, confirmed_at, starts_at, canceled_to, individual_access)"
		  . " SELECT n.id, i.id, 'm' || n.id, 'Member', 'u' || n.id % 20, $plan, " . one_of('NULL', ('now()') x 5) . ', ' . day() . ', ' . day() . ', ' . field()
		  . " FROM (SELECT DISTINCT unnest(ARRAY[$members]) AS id) n JOIN cobot_integration i ON i.id = (n.id - 1) % @{[ INTEGRATIONS ]} + 1"
		  . " ON CONFLICT (id) DO $conflict";
	},
	move => sub { return "UPDATE cobot_membership m SET plan_id = " . plan_of('m.id') . " WHERE id IN (" . some(MEMBERS) . ")"; },
	dates => sub { return "UPDATE cobot_membership SET starts_at = " . day() . ", canceled_to = " . day() . " WHERE id IN (" . some(MEMBERS) . ")"; },
	confirm => sub { return "UPDATE cobot_membership SET confirmed_at = " . one_of('NULL', 'now()', 'now()') . " WHERE id IN (" . some(MEMBERS) . ")"; },
	field => sub { return "UPDATE cobot_membership SET individual_access = " . field() . " WHERE id IN (" . some(MEMBERS) . ")"; },
	depart => sub { return "UPDATE cobot_membership SET departed_at = now() WHERE id IN (" . some(MEMBERS) . ")"; },
	return => sub { return "UPDATE cobot_membership SET departed_at = NULL WHERE id <= " . upto(MEMBERS); },
	rename => sub { return "UPDATE cobot_membership SET name = name || '.' WHERE id IN (" . some(MEMBERS) . ")"; },
	forget => sub { return "DELETE FROM cobot_membership WHERE id IN (" . some(MEMBERS / 4) . ")"; },
	list_plan => sub {
		return "INSERT INTO cobot_plan (id, integration_id, cobot_id, name) SELECT p, i.id, 'p' || p, 'Plan' FROM generate_series(1, @{[ PLANS ]}) p"
		  . " JOIN cobot_integration i ON i.id = (p - 1) % @{[ INTEGRATIONS ]} + 1 ON CONFLICT (id) DO UPDATE SET name = excluded.name || '.'";
	},
	drop_plan => sub { my $plan = upto(PLANS); return ("UPDATE cobot_membership SET plan_id = NULL WHERE plan_id = $plan", "DELETE FROM cobot_plan WHERE id = $plan"); },
	found => sub {
		my $groups = some(GROUPS);
		my $identifier = one_of("CASE WHEN g = " . upto(GROUPS) . " THEN " . identifier() . " END", "(ARRAY['" . join("', '", @identifiers) . "'])[g]");
		return "INSERT INTO user_group (id, name, external_identifier) SELECT DISTINCT g, 'Group', $identifier FROM unnest(ARRAY[$groups]) g ON CONFLICT DO NOTHING";
	},
	identify => sub {
		my $identifier = identifier();
		return "UPDATE user_group SET external_identifier = $identifier WHERE id = " . upto(GROUPS)
		  . " AND NOT EXISTS (SELECT FROM user_group o WHERE o.external_identifier = $identifier)";
	},
	anonymous => sub { return "UPDATE user_group SET external_identifier = NULL, name = name || '.' WHERE id IN (" . some(GROUPS / 3) . ")"; },
	dissolve => sub { return "DELETE FROM user_group WHERE id IN (" . upto(GROUPS) . ", " . upto(GROUPS) . ")"; },
	assign => sub {
		return "INSERT INTO user_group_assignment (plan_id, user_group_id) SELECT p.id, g.id FROM cobot_plan p, user_group g"
		  . " WHERE p.id IN (" . some(PLANS) . ") AND g.id IN (" . some(GROUPS / 2) . ") ON CONFLICT DO NOTHING";
	},
	reassign => sub {
		my ($column, $to) = @{ one_of([ user_group_id => upto(GROUPS) ], [ plan_id => upto(PLANS) ]) };
		my ($other, $table) = $column eq 'plan_id' ? ('user_group_id', 'cobot_plan') : ('plan_id', 'user_group');
		return "UPDATE user_group_assignment a SET $column = $to WHERE id IN (SELECT min(id) FROM user_group_assignment GROUP BY $other)"
		  . " AND EXISTS (SELECT FROM $table WHERE id = $to)"
		  . " AND NOT EXISTS (SELECT FROM user_group_assignment o WHERE o.$column = $to AND o.$other = a.$other)";
	},
	unassign => sub { return "DELETE FROM user_group_assignment WHERE " . one_of('plan_id', 'user_group_id') . " IN (" . some(PLANS / 3) . ") AND id % 3 <> 0"; },
	give => sub { return "INSERT INTO manual_grant (membership_id, user_group_id, valid, reason) SELECT m.id, g.id, " . valid() . ", 'because'"
		  . " FROM cobot_membership m, user_group g WHERE m.id IN (" . some(MEMBERS) . ") AND g.id = " . upto(GROUPS)
		  . " ON CONFLICT (membership_id, user_group_id) DO UPDATE SET valid = excluded.valid, reason = 'again'"; },
	give_one => sub { return "SELECT count(cobot_grant(m.id, g.id, " . one_of('NULL', "now() - interval '1 day'") . ", " . one_of('NULL', "clock_timestamp() + interval '50 ms'", "now() + interval '1 day'") . "))"
		  . " FROM cobot_membership m, user_group g WHERE m.id = " . upto(MEMBERS) . " AND g.id = " . upto(GROUPS); },
	regrant => sub { return "UPDATE manual_grant SET valid = " . valid() . " WHERE user_group_id = " . upto(GROUPS); },
	hand_over => sub {
		my $to = upto(MEMBERS);
		return "UPDATE manual_grant x SET membership_id = $to WHERE membership_id = " . upto(MEMBERS)
		  . " AND EXISTS (SELECT FROM cobot_membership WHERE id = $to)"
		  . " AND NOT EXISTS (SELECT FROM manual_grant o WHERE o.membership_id = $to AND o.user_group_id = x.user_group_id)";
	},
	take => sub { return "DELETE FROM manual_grant WHERE membership_id IN (" . some(MEMBERS) . ")"; },
	take_one => sub { return "SELECT count(cobot_revoke(m.id, g.id)) FROM cobot_membership m, user_group g WHERE m.id = " . upto(MEMBERS) . " AND g.id = " . upto(GROUPS); },
	switch => sub { return "UPDATE cobot_integration SET sync_plan_access = " . boolean() . ", sync_individual_access = " . boolean() . " WHERE id IN (" . some(INTEGRATIONS) . ")"; },
	travel => sub { return "UPDATE cobot_integration SET time_zone = '" . one_of(@zones) . "' WHERE id IN (" . some(INTEGRATIONS) . ")"; },
	disconnect => sub { return "DELETE FROM cobot_integration WHERE id = @{[ INTEGRATIONS ]}"; },
	connect => sub { return "INSERT INTO cobot_integration (id, name, subdomain, time_zone, sync_individual_access) VALUES (@{[ INTEGRATIONS ]}, 'Space', 'space-@{[ INTEGRATIONS ]}', '" . one_of(@zones) . "', true) ON CONFLICT DO NOTHING"; },
	two_in_one => sub {
		return "WITH a AS (DELETE FROM user_group_assignment WHERE plan_id = " . upto(PLANS) . "),"
		  . " g AS (UPDATE manual_grant SET valid = " . valid() . " WHERE membership_id = " . upto(MEMBERS) . ")"
		  . " UPDATE cobot_membership SET individual_access = " . field() . ", departed_at = NULL WHERE id IN (" . some(MEMBERS) . ")";
	},
	merge => sub {
		my $member = upto(MEMBERS);
		return "MERGE INTO manual_grant x USING (SELECT m.id AS member, g.id AS grp FROM cobot_membership m, user_group g WHERE m.id % 5 = $member % 5) s"
		  . " ON x.membership_id = s.member AND x.user_group_id = s.grp WHEN MATCHED AND s.grp % 2 = 0 THEN DELETE"
		  . " WHEN MATCHED THEN UPDATE SET valid = " . valid() . " WHEN NOT MATCHED AND s.grp = " . upto(GROUPS) . " THEN INSERT (membership_id, user_group_id) VALUES (s.member, s.grp)";
	},
	recompute => sub { return 'SELECT count(*) FROM cobot_recompute_access()'; },
	empty => sub { return 'TRUNCATE ' . one_of('user_group_assignment', 'manual_grant', 'user_group_assignment, manual_grant'); },
	empty_all => sub { return 'TRUNCATE ' . one_of('user_group', 'cobot_membership') . ' CASCADE'; });
my %weight = (
	join => 12, return => 6, found => 8, assign => 12, give => 10, give_one => 6, list_plan => 4, connect => 4, merge => 3,
	recompute => 0.5, empty => 0.4, empty_all => 0.1, disconnect => 0.4, drop_plan => 1, forget => 2, dissolve => 2, take => 2, switch => 4, identify => 4, field => 4);
my @bag = map { ($_) x (10 * ($weight{$_} // 3)) } sort keys %does;
my (%done, $operations);

sub operation
{
	my $name = one_of(@bag);

	$done{$name}++;
	$operations++;
	return $does{$name}->();
}

# A transaction: one statement alone, or several with savepoints, kept or rolled back.
sub transaction
{
	return operation() if chance(0.5);

	my @statements = ('BEGIN ISOLATION LEVEL ' . one_of('READ COMMITTED', 'READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE'));
	foreach (1 .. upto(5))
	{
		push @statements, !chance(0.25) ? operation()
		  : ('SAVEPOINT s', operation(), operation(), one_of('ROLLBACK TO s', 'ROLLBACK TO s', 'RELEASE s'));
	}
	return @statements, one_of('ROLLBACK', ('COMMIT') x 4);
}

# --- given ---
my $t = CobotTest->new(members => 1);
$t->sql(<<"SQL");
INSERT INTO smartspace.cobot_integration (id, name, subdomain, time_zone, sync_individual_access)
	SELECT i, 'Space', 'space-' || i, 'Europe/Berlin', true FROM generate_series(1, @{[ INTEGRATIONS ]}) i;
-- What was true at moments that the test remembers, apart from all that it tests.
CREATE TABLE checkpoint (batch integer PRIMARY KEY, at timestamptz NOT NULL, keys text[] NOT NULL);
SQL
my @sessions = map { $t->node->background_psql('postgres') } 1 .. 2;
$_->query_safe('SET search_path = smartspace, public; SET client_min_messages = warning') foreach @sessions;

my @properties = (
	'the stored grants equal their definition' => <<'SQL',
SELECT count(*) FROM (
	(SELECT membership_id, user_group_id, source, valid FROM user_group_member
	 EXCEPT ALL SELECT membership_id, user_group_id, source, valid FROM access_due)
	UNION ALL
	(SELECT membership_id, user_group_id, source, valid FROM access_due
	 EXCEPT ALL SELECT membership_id, user_group_id, source, valid FROM user_group_member)) d
SQL
	'the journal, played from its beginning, leads to the stored grants' => <<'SQL',
SELECT count(*) FROM (SELECT DISTINCT ON (membership_id, user_group_id, source) * FROM access_journal
		ORDER BY membership_id, user_group_id, source, id DESC) j
	FULL JOIN user_group_member g USING (membership_id, user_group_id, source)
WHERE (j.valid, CASE WHEN j.action <> 'taken' THEN j.at END, j.run_id) IS DISTINCT FROM (g.valid, g.granted_at, g.run_id)
SQL
	'each row of the journal goes on from the one before it' => <<'SQL',
SELECT count(*) FROM (SELECT *, lag(valid) OVER w AS had, lag(at) OVER w AS at_before, row_number() OVER w AS n FROM access_journal
		WINDOW w AS (PARTITION BY membership_id, user_group_id, source ORDER BY id)) j
WHERE (n > 1 AND (valid_before IS DISTINCT FROM had OR at < at_before)) OR valid_before = valid
	OR action <> CASE WHEN valid IS NULL THEN 'taken' WHEN valid_before IS NULL THEN 'given' ELSE 'changed' END
	OR (valid IS NULL AND valid_before IS NULL)
SQL
	'access_at(now) equals access_now' => <<'SQL',
SELECT count(*) FROM (SELECT membership_id, user_group_id, source, valid_from, valid_until FROM access_now) n
	FULL JOIN (SELECT membership_id, user_group_id, source, lower(valid) AS valid_from, upper(valid) AS valid_until FROM access_at(now())) a
	USING (membership_id, user_group_id, source)
WHERE (n.*) IS NULL OR (a.*) IS NULL OR (n.valid_from, n.valid_until) IS DISTINCT FROM (a.valid_from, a.valid_until)
SQL
	'access_at(now, member) equals access_now of the member' => <<'SQL',
SELECT count(*) FROM generate_series(1, 36, 7) m
WHERE (SELECT array_agg(user_group_id || source ORDER BY user_group_id, source) FROM access_at(now(), m))
	IS DISTINCT FROM (SELECT array_agg(user_group_id || source ORDER BY user_group_id, source) FROM access_now WHERE membership_id = m)
SQL
	'cobot_has_access agrees with access_now' => <<'SQL',
SELECT count(*) FROM generate_series(0, 37) m, generate_series(0, 11) g
WHERE cobot_has_access(m, g) <> EXISTS (SELECT FROM access_now n WHERE n.membership_id = m AND n.user_group_id = g)
SQL
	'and with the stored grants at other moments' => <<'SQL');
SELECT count(*) FROM generate_series(1, 36, 5) m, generate_series(1, 10) g,
	unnest(ARRAY['2019-06-01', now() - interval '1 day', now() + interval '2 s', '2099-06-01']::timestamptz[]) at
WHERE cobot_has_access(m, g, at) <> EXISTS (SELECT FROM user_group_member n WHERE n.membership_id = m AND n.user_group_id = g AND n.valid @> at)
SQL
my $keys = q{coalesce(array_agg(format('%s %s %s', membership_id, user_group_id, source) ORDER BY membership_id, user_group_id, source), '{}')};

# --- when and then: after each batch, everything holds ---
my ($most, $purged) = (0, 0);
BATCH: foreach my $batch (1 .. BATCHES)
{
	my $session = $sessions[ rand @sessions ];
	my @statements = map { transaction() } 1 .. TRANSACTIONS;
	my $script = join '', map { "$_;\n" } @statements;

	eval { $session->query_safe($script); 1 } or do { fail("batch $batch runs without an error"); diag $session->{stderr}; last; };

	my $wrong = 0;
	for (my $i = 0; $i < @properties; $i += 2)
	{
		my $differ = $session->query_safe($properties[ $i + 1 ]);

		next if $differ eq '0';
		is($differ, '0', "batch $batch: $properties[$i]");
		$wrong++;
	}
	if ($wrong) { note $script; last BATCH; }

	$session->query_safe("INSERT INTO checkpoint SELECT $batch, now(), $keys FROM access_now");
	my $grants = $session->query_safe('SELECT count(*) FROM user_group_member');
	$most = $grants if $grants > $most;

	# Now and then the journal is purged up to an earlier moment, and later ones stay right.
	if ($batch % 15 == 0)
	{
		my $from = $batch - 10;
		$session->query_safe("DELETE FROM checkpoint WHERE batch < $from");
		$purged += $session->query_safe("SELECT cobot_purge_journal(now() - (SELECT at FROM checkpoint WHERE batch = $from))");
	}
	my $forgotten = $session->query_safe("SELECT count(*) FROM checkpoint c WHERE batch % 5 = $batch % 5 AND keys <> (SELECT $keys FROM access_at(c.at))");
	if ($forgotten ne '0') { is($forgotten, '0', "batch $batch: earlier moments are answered as they were"); last BATCH; }
	pass("batch $batch");
}
is($t->sql("SELECT string_agg(batch::text, ' ' ORDER BY batch) FROM checkpoint c WHERE keys <> (SELECT $keys FROM smartspace.access_at(c.at))"),
	'', 'every remembered moment is answered as it was');
is($t->sql('SELECT given + changed + taken FROM smartspace.cobot_recompute_access()'), '0', 'there is nothing to repair');

# --- and it was no walk in an empty house ---
my %rows = map { ($_->{what} => $_->{n}) } $t->rows("SELECT source || ' ' || action AS what, count(*) AS n FROM smartspace.access_journal GROUP BY 1");
note "$operations operations, at most $most grants, $purged journal rows purged; journal: " . join ', ', map { "$rows{$_} $_" } sort keys %rows;
note join ', ', map { "$done{$_} $_" } sort keys %done;
cmp_ok($operations, '>', 2000, 'some thousand operations');
cmp_ok($purged, '>', 100, 'journal rows were purged');
foreach my $source (qw(plan individual manual))
{
	cmp_ok($rows{"$source $_"} // 0, '>', 5, "grants by $source were $_") foreach qw(given changed taken);
}
$_->quit foreach @sessions;

done_testing();
