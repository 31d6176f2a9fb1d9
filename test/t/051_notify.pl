# A listener hears of each change of grants once it is committed, and of nothing else,
# by ids alone; and who reads the journal from a position never misses a change, however
# transactions overlap. The journal says which run or whose hand it was.
use strict;
use warnings;

use CobotTest;
use JSON::PP;
use Test::More;

my $json = JSON::PP->new;

# --- given: three spaces, whose members and groups have names that nobody shall hear ---
my $t = CobotTest->new(members => 6, conf => 'autovacuum = off');    # which would hold positions back
my $node = $t->node;
my $seed = $ENV{PROPERTY_SEED} // 20250515;
my $big = 9223372036854770000;

srand $seed;
note "PROPERTY_SEED=$seed";
$t->sql(<<"SQL");
INSERT INTO smartspace.cobot_integration (id, name, subdomain, time_zone, sync_individual_access)
	SELECT i, 'Zaphod''s space', 'space-' || i, 'Europe/Berlin', true FROM generate_series(101, 103) i;
INSERT INTO smartspace.cobot_plan (id, integration_id, cobot_id, name) SELECT i, i, 'full', 'Zaphod''s plan' FROM generate_series(101, 103) i;
INSERT INTO smartspace.cobot_membership (id, integration_id, cobot_id, name, email, user_id, confirmed_at, plan_id)
	SELECT $big + i, 101 + i % 3, 'zaphod-' || i, 'Zaphod ' || i, 'zaphod' || i || '\@example.com', 'zaphod', now(), 101 + i % 3 FROM generate_series(0, 29) i;
INSERT INTO smartspace.user_group (id, name, external_identifier) SELECT $big + i, 'Zaphod''s lounge ' || i, 'zaphod-' || i FROM generate_series(0, 9) i;
SQL
my $listener = $node->background_psql('postgres');
$listener->query_safe('LISTEN smartspace_access; LISTEN barrier');
my ($barriers, $heard, @all_payloads) = (0, '');

# The payloads that were sent since the last time: notifications come in the order of
# commits, so all are there when a later one is.
sub heard
{
	my $barrier = 'barrier ' . ++$barriers;

	$t->sql("NOTIFY barrier, '$barrier'");
	$t->wait_until(sub { $heard .= $listener->query_safe('SELECT 1') . "\n"; return $heard =~ /"$barrier"/; }, 'the notification');
	my @payloads = $heard =~ /"smartspace_access" with payload "(.*)" received/g;
	$heard = '';
	push @all_payloads, @payloads;
	return map { $json->decode($_) } @payloads;
}

sub position { return $t->sql('SELECT smartspace.access_position()'); }

sub member { return $big + $_[0]; }

# --- one change, one notification ---
my $before = position();
$t->sql("SELECT smartspace.cobot_grant(@{[ member(0) ]}, @{[ member(1) ]}, reason => 'Zaphod asked')");
my @heard = heard();
my $row = $t->row('SELECT id, position, membership_id, user_group_id FROM smartspace.access_journal ORDER BY id DESC LIMIT 1');
is(scalar @heard, 1, 'one change is one notification');
is_deeply($heard[0], { position => $row->{position}, count => 1,
	changes => [ { action => 'given', membership_id => member(0), user_group_id => member(1), source => 'manual' } ] }, 'with its ids and its position');
cmp_ok($heard[0]{position}, '>=', $before, 'which is not before the position that one read before');
is($t->sql("SELECT string_agg(id::text, ' ') FROM smartspace.access_changes($heard[0]{position})"), $row->{id}, 'from there the journal tells it');

$t->sql("SELECT smartspace.cobot_grant(@{[ member(0) ]}, @{[ member(1) ]}, valid_until => '2099-01-01')");
$t->sql("SELECT smartspace.cobot_revoke(@{[ member(0) ]}, @{[ member(1) ]})");
is(join(' ', map { "$_->{count} $_->{changes}[0]{action}" } heard()), '1 changed 1 taken', 'new dates and revocations are told, too, in their order');

# --- few changes are named, many are counted ---
my $assign = "INSERT INTO smartspace.user_group_assignment (plan_id, user_group_id)";
$t->sql("INSERT INTO smartspace.manual_grant (membership_id, user_group_id) SELECT $big + 3 * i, $big FROM generate_series(0, 4) i");
@heard = heard();
is(join(' ', map { "$_->{count}/" . @{ $_->{changes} } } @heard), '5/5', 'five changes of a statement are one notification, with all of them');
is(join(' ', sort map { $_->{membership_id} - $big } @{ $heard[0]{changes} }), '0 12 3 6 9', 'each of another member');
$t->sql("$assign VALUES (101, $big)");
@heard = heard();
is(join(' ', map { $_->{count} . (exists $_->{changes} ? ' named' : '') } @heard), '10', 'more are only counted');
$t->sql("UPDATE smartspace.cobot_membership SET individual_access = 'Zaphod-5' WHERE id IN ($big, $big + 1)");
is(join(' ', map { $_->{count} } heard()), '1 1', 'a statement about two spaces is one notification for each');
$t->sql("BEGIN; $assign VALUES (101, $big + 1); $assign VALUES (101, $big + 2); COMMIT");
is(join(' ', map { $_->{count} } heard()), '10', 'two that are equal to the letter are told once, as PostgreSQL does it within a transaction');
$t->sql("DELETE FROM smartspace.user_group_assignment");
is(join(' ', map { $_->{count} } heard()), '30', 'taking is counted, too');

# --- nothing where no grant changed ---
my $last = $t->sql('SELECT max(id) FROM smartspace.access_journal');
foreach my $statement (
	"UPDATE smartspace.cobot_membership SET name = name || '!', email = 'zaphod\@example.org'",
	"UPDATE smartspace.user_group SET name = name || '!'",
	"UPDATE smartspace.cobot_integration SET name = 'Zaphod', sync_plan_access = NOT sync_plan_access WHERE id = 103",
	"UPDATE smartspace.cobot_plan SET name = 'Zaphod'",
	"INSERT INTO smartspace.user_group (id, name, external_identifier) VALUES ($big + 10, 'Zaphod', 'nobody')",
	"UPDATE smartspace.cobot_membership SET individual_access = 'zaphod-5, ghost' WHERE id = $big",
	"UPDATE smartspace.manual_grant SET reason = 'Zaphod said so'",
	"DELETE FROM smartspace.manual_grant WHERE membership_id = 0",
	'SELECT count(*) FROM smartspace.cobot_recompute_access()',
	"BEGIN; $assign VALUES (101, $big + 3); ROLLBACK",
	"BEGIN; SAVEPOINT s; $assign VALUES (101, $big + 3); ROLLBACK TO s; COMMIT",
	"DO \$\$BEGIN $assign VALUES (101, $big + 3); RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END\$\$")
{
	$t->sql($statement);
	is(scalar(() = heard()), 0, 'nothing is told of: ' . substr $statement, 0, 70);
}
is($t->sql('SELECT max(id) FROM smartspace.access_journal'), $last, 'and nothing is in the journal');

# --- a reader: reads the position, then the grants, then the changes, again and again ---
my (%seen, %grant, $position, $twice);

sub key_of { my ($row) = @_; return join ' ', @{$row}{qw(membership_id user_group_id source)}; }

sub start_reading
{
	($position, $twice) = (position(), 0);
	%seen = ();
	%grant = map { (key_of($_) => 1) } $t->rows('SELECT * FROM smartspace.access_now');
	return;
}

# Takes in each change once, by its id. Gives the ids that were new.
sub read_on
{
	my @new;

	foreach my $change ($t->rows("SELECT * FROM smartspace.access_changes($position)"))
	{
		my $text = $json->canonical->encode({ %$change, next_position => undef });

		$position = $change->{next_position};
		if (exists $seen{ $change->{id} })
		{
			$twice++;
			is($text, $seen{ $change->{id} }, 'what comes twice is the same') unless $text eq $seen{ $change->{id} };
			next;
		}
		$seen{ $change->{id} } = $text;
		push @new, $change->{id};
		if ($change->{action} eq 'taken') { delete $grant{ key_of($change) }; }
		else { $grant{ key_of($change) } = 1; }
	}
	return @new;
}

sub ids_since { my ($id) = @_; return $t->sql("SELECT string_agg(id::text, ' ' ORDER BY id) FROM smartspace.access_journal WHERE id > $id"); }

sub collected { return join ' ', sort { $a <=> $b } keys %seen; }

my @writers = map { $node->background_psql('postgres') } 1 .. 3;

sub give { my ($member, $group) = @_; return "INSERT INTO smartspace.manual_grant (membership_id, user_group_id) VALUES ($big + $member, $big + $group)"; }

# A transaction that begins first and commits last, having written early or late.
foreach my $late (0, 1)
{
	my $group = 6 + $late;

	$last = $t->sql('SELECT max(id) FROM smartspace.access_journal');
	start_reading();
	my $xid = $writers[0]->query_safe('BEGIN; SELECT pg_current_xact_id()');
	$writers[0]->query_safe(give(0, $group)) unless $late;
	$writers[1]->query_safe(give(1, $group));
	my $other = $t->sql('SELECT max(position) FROM smartspace.access_journal');
	cmp_ok($xid, '<', $other, 'the first has the lower number');
	is(scalar(() = read_on()), 1, 'the second is read while the first is open');
	cmp_ok($position, '<=', $xid, 'and the next position is not beyond the first');
	is(scalar(() = heard()), 1, 'one was told');
	$writers[0]->query_safe(give(0, $group)) if $late;
	$writers[0]->query_safe('COMMIT');
	is(scalar(() = heard()), 1, 'and then the other');
	is(scalar(() = read_on()), 1, 'the first is read after it' . ($late ? ', having written late' : ''));
	is(collected(), ids_since($last), 'nothing is missed');
	is($twice, 1, 'the second came twice, with the same id');
	$t->sql(give(2, $group));
	read_on();
	my @new = read_on();
	is(scalar @new, 0, 'then there is nothing more');
	is(collected(), ids_since($last), 'nothing is missed');
	heard();
}

# Three writers, who open, write, commit and roll back in any order; a reader at any time.
$last = $t->sql('SELECT max(id) FROM smartspace.access_journal');
my @open = (0, 0, 0);
start_reading();
foreach my $step (1 .. 300)
{
	my $i = int rand 3;
	my $writer = $writers[$i];
	my ($member, $group) = ($i + 3 * int rand 10, int rand 10);
	my $write = ("DELETE FROM smartspace.manual_grant WHERE membership_id = $big + $member", give($member, $group) . ' ON CONFLICT (membership_id, user_group_id) DO UPDATE SET valid = tstzrange(NULL, now() + interval \'1 day\')',
		"UPDATE smartspace.cobot_membership SET individual_access = 'zaphod-$group' WHERE id = $big + $member")[ rand 3 ];
	my $does = rand;

	if (!$open[$i]) { $writer->query_safe($does < 0.3 ? $write : 'BEGIN; SELECT pg_current_xact_id()'); $open[$i] = $does >= 0.3; }
	elsif ($does < 0.5) { $writer->query_safe($write); }
	elsif ($does < 0.6) { $writer->query_safe("SAVEPOINT s; $write; ROLLBACK TO s"); }
	elsif ($does < 0.7) { $writer->query_safe("SAVEPOINT s; $write; RELEASE s"); }
	else { $writer->query_safe($does < 0.92 ? 'COMMIT' : 'ROLLBACK'); $open[$i] = 0; }

	read_on() if rand() < 0.3;
}
$writers[$_]->query_safe("COMMIT") foreach grep { $open[$_] } 0 .. 2;
read_on();
is(collected(), ids_since($last), 'what was collected is the journal: ' . keys(%seen) . " changes, $twice of them came again");
cmp_ok($twice, '>', 0, '(some came again)');
is(join("\n", sort keys %grant), join("\n", sort map { key_of($_) } $t->rows('SELECT * FROM smartspace.access_now')), 'and leads to the grants of now');
heard();
$_->quit foreach @writers;

# A reader of one snapshot goes on from where that snapshot ended.
is($t->sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM smartspace.access_changes(smartspace.access_position()); COMMIT"), '0', 'from now there is nothing');

# --- whose doing it was: a run, or a person ---
my $space = $t->connect_space('demo-space');
my $door = $t->group('Door', identifier => 'door');
$t->sync($space);
$t->sql("$assign SELECT id, $door FROM smartspace.cobot_plan WHERE integration_id = $space");
my ($cobot_id, $member) = @{ $t->row("SELECT cobot_id, membership_id FROM smartspace.access_now n JOIN smartspace.cobot_membership m ON m.id = n.membership_id WHERE n.integration_id = $space ORDER BY m.id LIMIT 1") }{qw(cobot_id membership_id)};
heard();
$last = $t->sql('SELECT max(id) FROM smartspace.access_journal');
$t->cobot->set_field('demo-space', $cobot_id, smart_spaces_access_additional_units => 'door');
$t->cobot->patch_member('demo-space', $cobot_id, canceled_to => '2099/12/31');
my $run = $t->sync($space);
is($t->sql("SELECT string_agg(action || ' ' || source || ' ' || run_id, ', ' ORDER BY source) FROM smartspace.access_journal WHERE id > $last"),
	"given individual $run->{id}, changed plan $run->{id}", 'the journal has the run that did it');
is(join(' ', map { $_->{count} } heard()), '2', 'a run tells what it changed');
is($t->sql("SELECT count(*) FROM smartspace.cobot_explain($member, $door) WHERE explanation LIKE '%(run $run->{id})%'"), '2', 'and the explanation names the run');

$t->sql('CREATE ROLE zoe LOGIN; GRANT USAGE ON SCHEMA smartspace TO zoe; GRANT EXECUTE ON FUNCTION smartspace.cobot_grant, smartspace.cobot_revoke TO zoe');
$last = $t->sql('SELECT max(id) FROM smartspace.access_journal');
$node->safe_psql('postgres', "SELECT smartspace.cobot_grant($member, $door, reason => 'the lift is out of order')", extra_params => [ '-U', 'zoe' ]);
is($t->sql("SELECT run_id IS NULL, done_by FROM smartspace.access_journal WHERE id > $last"), 't|zoe', 'what a person did is of no run, and says who');
like($t->sql("SELECT explanation FROM smartspace.cobot_explain($member, $door) WHERE source = 'manual'"), qr/given by hand by zoe .*: the lift is out of order/, 'the explanation, too');
is($t->sync($space)->{grants_taken}, 0, 'a run leaves it alone');
$node->safe_psql('postgres', "SELECT smartspace.cobot_revoke($member, $door)", extra_params => [ '-U', 'zoe' ]);
is($t->sql("SELECT string_agg(action || ' by ' || done_by, ', ' ORDER BY id) FROM smartspace.access_journal WHERE id > $last"), 'given by zoe, taken by zoe', 'and the taking back');
heard();
$listener->quit;

# --- of all that was told ---
cmp_ok(scalar @all_payloads, '>', 50, 'much was told');
is(join("\n", grep { length >= 8000 || !defined eval { $json->decode($_) } } @all_payloads), '', 'all of it is JSON and short enough');
is(join("\n", grep { /zaphod|lounge|door|\@/i } @all_payloads), '', 'nothing of it has a name or an address');

done_testing();
