# Everything at once for some seconds: members change in Cobot, four sessions
# synchronise two spaces, and others assign plans, found, rename and delete groups, and
# flip switches. Nobody meets an error or a deadlock, and in the end the mirrors equal
# Cobot and the grants equal their definition.
use strict;
use warnings;

use CobotMirror;
use CobotTest;
use File::Temp;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use constant SECONDS => 8;

my $field = 'smart_spaces_access_additional_units';
my @names = qw(space-0001 space-0002);

# --- given: two spaces, some groups and assignments ---
my $t = CobotTest->new(spaces => 2, members => 30, conf => "log_lock_waits = on\ndeadlock_timeout = 100ms");
my $cobot = $t->cobot;
my @spaces = map { $t->connect_space($_) } @names;
$t->sync($_) foreach @spaces;
$t->sql("INSERT INTO smartspace.user_group (name, external_identifier) SELECT 'Group ' || i, 'group-' || i FROM generate_series(1, 12) i");
$t->sql('INSERT INTO smartspace.user_group_assignment (plan_id, user_group_id) SELECT p.id, g.id FROM smartspace.cobot_plan p, smartspace.user_group g WHERE (p.id + g.id) % 3 = 0');

# --- what people do in the database; a group that somebody else just deleted or named is no error ---
my %script = (
	assign => <<'SQL',
DO $$BEGIN
	INSERT INTO smartspace.user_group_assignment (plan_id, user_group_id)
	SELECT p.id, g.id FROM smartspace.cobot_plan p, smartspace.user_group g ORDER BY random() LIMIT 3 ON CONFLICT DO NOTHING;
EXCEPTION WHEN foreign_key_violation THEN NULL;
END$$;
SQL
	reassign => <<'SQL',
DO $$BEGIN
	UPDATE smartspace.user_group_assignment SET user_group_id = (SELECT id FROM smartspace.user_group ORDER BY random() LIMIT 1)
	WHERE id = (SELECT id FROM smartspace.user_group_assignment ORDER BY random() LIMIT 1);
EXCEPTION WHEN foreign_key_violation OR unique_violation THEN NULL;
END$$;
SQL
	unassign => <<'SQL',
DELETE FROM smartspace.user_group_assignment WHERE id = (SELECT id FROM smartspace.user_group_assignment ORDER BY random() LIMIT 1);
SQL
	unassign_all => <<'SQL',
TRUNCATE smartspace.user_group_assignment;
SQL
	found => <<'SQL',
\set n random(1, 30)
INSERT INTO smartspace.user_group (name, external_identifier) VALUES ('Group', 'group-' || :n) ON CONFLICT DO NOTHING;
SQL
	found_and_assign => <<'SQL',
\set n random(1, 30)
BEGIN;
INSERT INTO smartspace.user_group (name, external_identifier) VALUES ('Group', 'GROUP-' || :n) ON CONFLICT DO NOTHING;
INSERT INTO smartspace.user_group_assignment (plan_id, user_group_id)
	SELECT p.id, g.id FROM smartspace.cobot_plan p, smartspace.user_group g WHERE g.external_identifier = 'GROUP-' || :n AND p.id % 2 = 0 ON CONFLICT DO NOTHING;
COMMIT;
SQL
	rename => <<'SQL',
\set n random(1, 30)
DO $$BEGIN
	UPDATE smartspace.user_group SET external_identifier = CASE WHEN random() < 0.2 THEN NULL ELSE 'Group-' || (random() * 30)::integer END
	WHERE id = (SELECT id FROM smartspace.user_group ORDER BY random() LIMIT 1);
EXCEPTION WHEN unique_violation THEN NULL;
END$$;
SQL
	close => <<'SQL',
DELETE FROM smartspace.user_group WHERE id = (SELECT id FROM smartspace.user_group ORDER BY random() LIMIT 1) AND (SELECT count(*) FROM smartspace.user_group) > 6;
SQL
	flip => <<'SQL',
\set space random(1, 2)
UPDATE smartspace.cobot_integration SET sync_plan_access = random() < 0.7, sync_individual_access = random() < 0.7 WHERE id = :space;
SQL
	rollback => <<'SQL',
\set space random(1, 2)
BEGIN;
UPDATE smartspace.cobot_integration SET sync_plan_access = NOT sync_plan_access WHERE id = :space;
ROLLBACK;
SQL
	recompute => <<'SQL',
SELECT smartspace.cobot_recompute_access();
SQL
	look => <<'SQL',
SELECT count(*) FROM smartspace.cobot_status;
SELECT count(*) FROM smartspace.access_now;
SQL
	sync => <<'SQL');
\set space random(1, 2)
SELECT result FROM smartspace.cobot_sync(:space);
SQL
my $dir = File::Temp->newdir;
foreach my $name (keys %script)
{
	open my $file, '>', "$dir/$name" or die "$dir/$name: $!";
	print $file $script{$name};
	close $file;
}

# A pgbench with some clients, each of which runs these scripts in random order. (Not all
# assignments shall be gone most of the time.)
sub start_clients
{
	my ($clients, @scripts) = @_;
	my $file = "$dir/clients_$scripts[0]";

	return {
		run => IPC::Run::start([ 'pgbench', '--no-vacuum', '-c', $clients, '-T', SECONDS, (map { ('-f', "$dir/$_\@" . ($_ eq 'unassign_all' ? 1 : 5)) } @scripts), $t->node->connstr('postgres') ],
			'>', "$file.out", '2>', "$file.err"),
		out => "$file.out",
		err => "$file.err"
	};
}

my $last_run = $t->sql('SELECT max(id) FROM smartspace.cobot_sync_run');
my %bench = (
	'four sessions that synchronise' => start_clients(4, 'sync'),
	'three sessions that write' => start_clients(3, qw(assign reassign unassign unassign_all found found_and_assign rename close flip rollback)),
	'a session that looks and repairs' => start_clients(1, qw(look recompute)));

# --- meanwhile in Cobot: people join, leave, come back, change plan, name and custom field ---
srand 1;
my %world = map { my $name = $_; ($name => [ map { $_->{id} } @{ $cobot->space($name)->{memberships} } ]) } @names;
my %plans = map { my $name = $_; ($name => [ map { { id => $_->{id} } } @{ $cobot->space($name)->{plans} } ]) } @names;
my $end = time + SECONDS;
my $changes = 0;
while (time < $end)
{
	my $name = $names[ rand @names ];
	my $members = $world{$name};
	my $at = int rand @$members;
	my $plan = $plans{$name}[ rand @{ $plans{$name} } ];
	my @does = (
		sub { $cobot->delete_member($name, splice @$members, $at, 1) if @$members > 10 },
		sub { push @$members, $cobot->add_member($name, plan => { parent_plan => $plan }, custom_fields => { $field => 'group-' . int rand 30 })->{id} },
		sub { $cobot->patch_member($name, $members->[$at], name => "Name $changes") },
		sub { $cobot->patch_member($name, $members->[$at], plan => { parent_plan => $plan }) },
		sub { $cobot->patch_member($name, $members->[$at], canceled_to => ('today-1d', 'today', 'today+9d', undef)[ rand 4 ]) },
		sub { $cobot->set_field($name, $members->[$at], $field => join ', ', map { 'Group-' . int rand 30 } 1 .. rand 4) },
		sub { $cobot->patch_space($name, time_zone_name => (qw(Europe/Berlin Asia/Tokyo America/New_York))[ rand 3 ]) },
		sub { $cobot->patch_plan($name, $plan->{id}, name => "Plan $changes") });

	$does[ rand @does ]->();
	$changes++;
	select undef, undef, undef, 0.01;    # not as fast as can be: the others need the processor
}

# --- then ---
foreach my $who (sort keys %bench)
{
	my $bench = $bench{$who};

	ok($bench->{run}->finish, "$who: no error") or diag slurp_file($bench->{err}) =~ s/^.*(?:WARNING|DETAIL|HINT):.*\n//mgr;
	like(slurp_file($bench->{out}), qr/number of transactions actually processed: [1-9]\d/, "$who: worked");
}
unlike(slurp_file($t->node->logfile), qr/deadlock detected/, 'no deadlock');

my %results = map { $_->{result} => $_->{runs} } $t->rows("SELECT concat_ws(' ', result, reason) AS result, count(*) AS runs FROM smartspace.cobot_sync_run WHERE id > $last_run GROUP BY 1");
note "$changes changes in Cobot; runs: " . join ', ', map { "$results{$_} $_" } sort keys %results;
my $expected = qr/^(ok|ok_with_problems|skipped_locked|incomplete source_incomplete|held too_many_removals|held group_would_be_empty)$/;
is(join(', ', grep { $_ !~ $expected } sort keys %results), '', 'no run failed');
cmp_ok($results{skipped_locked}, '>', 0, 'some were skipped, as another was under way');
cmp_ok($results{ok_with_problems} + ($results{ok} // 0), '>', 10, 'many went through');
cmp_ok($t->sql("SELECT count(*) FROM smartspace.cobot_sync_run WHERE id > $last_run AND members_changed + members_added + members_removed > 0"), '>', 5, 'and had something to do');
is($t->grants_differ, 0, 'the grants equal their definition');

$t->sql('UPDATE smartspace.cobot_integration SET sync_plan_access = true, sync_individual_access = true');
is($t->grants_differ, 0, 'also when all access is switched on');
foreach my $i (0, 1)
{
	my $run = $t->sync($spaces[$i]);

	like(($run->{result} eq 'held' ? $t->row("SELECT * FROM smartspace.cobot_release($run->{id})") : $run)->{result}, qr/^ok/, "one more run of $names[$i], released if it is held");
	is(mirror_differs($t, $spaces[$i], $names[$i]), '', 'the mirror equals Cobot');
}
is($t->grants_differ, 0, 'the grants equal their definition');
is($t->sql('SELECT given + changed + taken FROM smartspace.cobot_recompute_access()'), '0', 'there is nothing to repair');
is($t->sql("SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"), '0', 'no lock is left');

done_testing();
