# A preview shows what the next run would do, record by record, and does nothing of it. A
# run tells what it did, in a sentence and row by row, for as long as the retention says.
use strict;
use warnings;

use CobotLoft;
use CobotMirror;
use CobotTest;
use JSON::PP;
use Test::More;
use Time::HiRes qw(time);

my %members = (mixed => 40, many => 90, crowd => 90, locks => 10, down => 5, words => 20, old => 3, odd => 10, empty => 10);
my $t = lofts(%members);
my $cobot = $t->cobot;
$t->group('Workshop', identifier => 'Workshop');
$t->group('Attic', identifier => 'Attic');

sub promise
{
	my ($name, $subdomain, $test) = @_;

	subtest $name => sub {
		my $loft = CobotLoft->open($t, $subdomain);

		is($loft->inside, $members{$subdomain}, 'given: everybody has access');
		$test->($loft);
		$cobot->clear_faults;
		is($t->grants_differ, 0, 'the grants equal their definition');
	};
	return;
}

# Everything that is stored, with when and where it was written.
sub everything
{
	return $t->sql(join ';', map { "SELECT '$_', t.xmin, t.ctid, t.* FROM smartspace.$_ t ORDER BY t.ctid" }
		  qw(cobot_integration cobot_plan cobot_membership user_group_member user_group user_group_assignment manual_grant access_journal
		  cobot_sync_run cobot_sync_change cobot_record_problem));
}

# The rows of a preview or of a run, as text to compare. Ids and times that only a row
# that is written gets are left out.
sub shown
{
	my ($call) = @_;

	return join "\n", map { $_->{line} } $t->rows("SELECT concat_ws(' | ', c.record, c.cobot_id, c.what, 'before ' || (c.before - 'plan_id' - 'departed_at')::text,"
		  . " 'after ' || (c.after - 'plan_id' - 'departed_at')::text, 'gains ' || c.gains::text, 'loses ' || c.loses::text, c.verdict, c.reason, c.detail) AS line FROM smartspace.$call c ORDER BY 1");
}

# A preview, nothing written by it, and then the run that does the same.
sub check_preview
{
	my ($loft, $name) = @_;
	my $before = everything();
	my $listener = $t->node->background_psql('postgres');

	$listener->query_safe('LISTEN smartspace_access; LISTEN done');
	my $preview = shown("cobot_preview(@{[ $loft->id ]})");
	is(everything(), $before, "$name: the preview writes nothing");
	$t->sql('NOTIFY done');
	my $heard = '';
	$t->wait_until(sub { $heard .= $listener->query_safe('SELECT 1'); $heard =~ /"done"/ }, 'the end of the preview');
	unlike($heard, qr/smartspace_access/, '... and tells nobody');
	$listener->quit;
	is($t->grants_differ, 0, '... nor does it leave grants behind');
	my $run = $loft->sync;
	is(shown("cobot_sync_changes($run->{id})"), $preview, '... and is what the run does');
	is($run->{removals_held}, scalar(() = $preview =~ / \| held \| /g), '... what it holds included');
	return ($run, $preview);
}

promise 'a preview of all kinds of changes', mixed => sub {
	my ($loft) = @_;

	$loft->field([ 1 .. 4 ], 'Workshop');
	$loft->sync;
	$t->assign('mixed-flex', $t->group('Lounge'));
	$loft->leave(10);
	$loft->join_in(41, 42);
	$loft->field([42], 'attic');
	$loft->move(flex => 11, 1);
	$loft->field([2], '');
	$loft->field([3], 'Workshop, Attic, Nowhere');
	$loft->change([12], name => "O'Brien \x{1F98A}", canceled_to => 'today+30d');
	$loft->change([13], canceled_to => 'today');
	$loft->change([14], canceled_to => 'today-1d');
	$loft->change([15], name => {});
	$cobot->add_plan('mixed', id => 'mixed-secret', name => 'Own');
	$loft->change([16], plan => { name => 'Own', parent_plan => { id => 'mixed-secret' } });
	$cobot->delete_plan('mixed', 'mixed-flex');
	$cobot->add_plan('mixed', id => 'mixed-new', name => 'New');
	$cobot->patch_plan('mixed', 'mixed-desk', name => 'Bench');
	$cobot->patch_space('mixed', time_zone_name => 'Asia/Tokyo');
	my ($run, $preview) = check_preview($loft, 'everything at once');
	like($preview, qr/^membership \| mixed-41 \| joined \| after .*gains \{"mixed door"\}/m, 'a preview tells what somebody gets');
	like($preview, qr/^membership \| mixed-11 \| changed_plan \| before .*mixed-desk.*after .*mixed-flex.*gains \{Lounge\} \| loses \{"mixed door"\}/m, '... and loses');
	like($preview, qr/^membership \| mixed-15 \| unusable \| rejected \| bad_record \| /m, '... which record cannot be used');
	like($preview, qr/^plan \| mixed-new \| listed .*applied$/m, '... which plans there are');
	my ($again, $nothing) = check_preview($loft, 'the same again');
	unlike($nothing, qr/applied|held/, 'what is done is not shown again');
};

promise 'a preview of what would be held', many => sub {
	my ($loft) = @_;

	$loft->leave(1 .. 30);
	$loft->join_in(91);
	my $answer = $t->try("SELECT count(*) FROM smartspace.cobot_preview(@{[ $loft->id ]})");
	like($answer->{err}, qr/WARNING:  01000: preview of "many" is held: 30 of 90 members would lose access/, 'it says what the run would say');
	unlike($answer->{err}, qr/cobot_release/, 'but not to release a run that there is not');
	is($loft->state, 'connected', 'the integration does not wait for anybody');
	my ($run, $preview) = check_preview($loft, 'held');
	is(scalar(() = $preview =~ /\| left \| .*loses \{"many door"\} \| held \| too_many_removals$/mg), 30, 'thirty');
	$loft->leave(31);
	check_preview($loft, 'with an earlier run that holds');
	$t->sql("SELECT smartspace.cobot_release($run->{id})");
	is($loft->inside, 60, 'and can be released as ever');
};

promise 'a preview asks for no more than forty', crowd => sub {
	my ($loft) = @_;

	$loft->leave(1 .. 44);
	$cobot->clear_log;
	my $preview = shown("cobot_preview(@{[ $loft->id ]})");
	is(scalar(grep { $_->{path} =~ m{^/api/memberships/} } $cobot->log), 40, 'questions');
	is(scalar(() = $preview =~ / \| left \| .*held \| too_many_removals/g) . ' ' . scalar(() = $preview =~ / \| left \| loses .*held \| source_incomplete \| not asked for by id yet/g), '40 4', 'the others are shown as not asked for');
	is($loft->inside, 90, 'nobody is out');
};

promise 'a preview of an empty list', empty => sub {
	my ($loft) = @_;

	$loft->leave(1 .. 10);
	check_preview($loft, 'an empty list');
};

promise 'a preview of records that the database refuses', odd => sub {
	my ($loft) = @_;

	$t->sql("ALTER TABLE smartspace.cobot_membership ADD CONSTRAINT backend CHECK (name <> 'Mallory')");
	$loft->change([2], name => 'Mallory');
	$loft->change([3], name => 'Alice');
	my ($run, $preview) = check_preview($loft, 'a refused record');
	like($preview, qr/odd-02 \| unusable \| rejected \| bad_record \| the database refuses the record/, 'shown');
	$t->sql('ALTER TABLE smartspace.cobot_membership DROP CONSTRAINT backend');
};

promise 'a preview is in nobody\'s way', locks => sub {
	my ($loft) = @_;

	# while it waits for Cobot
	$loft->leave(1);
	$cobot->fault(match => { path => '/api/memberships', host => 'locks.cobot.me' }, delay_ms => 3000);
	$cobot->clear_log;
	my $session = $t->node->background_psql('postgres');
	$session->{stdin} .= "SELECT 'rows', count(*) FROM smartspace.cobot_preview(@{[ $loft->id ]});\n";
	$session->{run}->pump_nb;
	$t->wait_until(sub { $session->{run}->pump_nb; scalar(grep { $_->{path} eq '/api/memberships' } $cobot->log) }, 'the preview asks');
	my $start = time;
	$t->assign('locks-flex', $t->group('During'));
	is($loft->sync->{result}, 'skipped_locked', 'a run meanwhile is skipped, as with two runs');
	cmp_ok(time - $start, '<', 2, 'while it waits for Cobot, plans are assigned and groups made');
	is($session->query('SELECT 1') =~ /rows\|1/ ? 1 : 0, 1, 'it ends well');
	is($t->sql("SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"), 0, 'and leaves no lock');
	$t->assign('locks-desk', $t->group('After'));
	is($loft->inside('After'), 10, 'afterwards plans are assigned, too');

	# in a transaction of its own
	$session->query_safe("BEGIN; SELECT FROM smartspace.cobot_preview(@{[ $loft->id ]})");
	is($session->query_safe("SELECT (smartspace.cobot_sync(@{[ $loft->id ]})).members_removed"), 1, 'a preview and a run in one transaction');
	$session->query_safe('COMMIT');
	is($loft->outside(1 .. 10), '1', 'of which the run counts');
	$session->query_safe("BEGIN; SELECT (smartspace.cobot_sync(@{[ $loft->id ]})).result");
	my $answer = $t->try("SELECT * FROM smartspace.cobot_preview(@{[ $loft->id ]})");
	is($answer->{out}, '', 'a preview while a run is under way shows nothing');
	like($answer->{err}, qr/WARNING:  01000: preview of "locks" is skipped_locked: another synchronisation/, '... and says why');
	$session->quit;
	is($t->try("BEGIN READ ONLY; SELECT * FROM smartspace.cobot_preview(@{[ $loft->id ]})")->{sqlstate}, '25006', 'it cannot try out where nothing may be written');
};

promise 'a preview that reaches nobody', down => sub {
	my ($loft) = @_;
	my $before = everything();
	my $answer = $t->try("SET smartspace_cobot.connect_to = '127.0.0.1:1'; SELECT * FROM smartspace.cobot_preview(@{[ $loft->id ]})");

	is($answer->{ok} . $answer->{out}, '1', 'shows nothing');
	like($answer->{err}, qr/WARNING:  01000: preview of "down" failed: could not read/, '... says why');
	is(everything(), $before, '... and does not count as a failure');
};

promise 'a run tells in a sentence what it did', words => sub {
	my ($loft) = @_;
	my $said = sub { return $loft->sync->{message} =~ s/ \d+\.\d s$/ T s/r };

	is($said->(), 'nothing changed; 5 requests in T s', 'nothing');
	$loft->join_in(21, 22);
	$loft->leave(1);
	$loft->move(flex => 2 .. 4);
	is($said->(), '2 joined, 1 left, 3 changed plan; 2 grants given, 4 taken; 6 requests in T s', 'several things');
	$loft->change([5], name => 'Renamed');
	is($said->(), '1 changed; 5 requests in T s', 'a name');
	$loft->change([5], name => 'Renamed again');
	$loft->move(desk => 2);
	is($said->(), '1 changed plan, 1 changed otherwise; 1 grant given; 5 requests in T s', 'a name and a plan');
	$loft->change([ 5, 6 ], canceled_to => 'today+30d');
	is($said->(), '2 changed; 2 grants moved; 5 requests in T s', 'the last day');
	$loft->leave(5);
	is($said->(), '1 left; 1 grant taken; 6 requests in T s', 'one');
	$loft->leave(7 .. 15);
	is($loft->sync->{message} =~ s/ \d+\.\d s$/ T s/r, '9 of 20 members would lose access, and more than 5 are for a person to decide; nothing changed, 9 removals held; 14 requests in T s', 'what it holds');
	is($t->sql("SELECT message LIKE '% s' FROM smartspace.cobot_sync_run WHERE integration_id = @{[ $loft->id ]} ORDER BY id DESC LIMIT 1"), 't', 'and the table has it');
};

promise 'old runs go, but for what is open and the last good one', old => sub {
	my ($loft) = @_;
	my $age = sub { $t->sql("UPDATE smartspace.cobot_sync_run SET finished_at = finished_at - interval '$_[0]' WHERE integration_id = @{[ $loft->id ]}") };
	my $there = sub { return $t->sql("SELECT string_agg(id::text, ' ' ORDER BY id) FROM smartspace.cobot_sync_run WHERE integration_id = @{[ $loft->id ]}") };
	my ($first) = split ' ', $there->();

	$loft->join_in(4);
	my $joined = $loft->sync;
	my $good = $loft->sync;
	$loft->set(hold_removals_above => 0, hold_removals_above_percent => 0);
	$loft->leave(1);
	my $held = $loft->sync;
	is($held->{result}, 'held', 'given: two good runs, one that changed something, and one that holds something');
	$age->('89 days');
	my $failed = $loft->sync(settings => "SET smartspace_cobot.connect_to = '127.0.0.1:1';");
	is($there->(), "$first $joined->{id} $good->{id} $held->{id} $failed->{id}", 'eighty-nine days are not old');
	$age->('2 days');
	my $again = $loft->sync(settings => "SET smartspace_cobot.connect_to = '127.0.0.1:1';");
	is($there->(), "$good->{id} $held->{id} $failed->{id} $again->{id}", 'after ninety the old ones go; the last good one and the one that holds something stay');
	is($t->sql("SELECT count(*) FROM smartspace.cobot_sync_change WHERE run_id IN ($first, $joined->{id})"), 0, 'their rows go with them');
	is($loft->release($held)->{result} . ' ' . $loft->outside(1 .. 4), 'ok 1', 'what was held for so long can be released');

	$age->('10 days');
	my $keep = 'SET smartspace_cobot.run_retention_days = 7;';
	$loft->sync(settings => $keep);
	$loft->sync(settings => $keep);
	is(scalar(split ' ', $there->()), 2, 'the retention is a setting');

	$t->sql("INSERT INTO smartspace.cobot_sync_run (integration_id, result, started_at, finished_at, run_by) SELECT @{[ $loft->id ]}, 'ok', d, d, 'x' FROM generate_series(1, 50) i, LATERAL (SELECT now() - interval '200 days') d (d)");
	$loft->sync;
	my $left = scalar split ' ', $there->();
	cmp_ok($left, '>', 3, 'one run does not clean up everything at once');
	$loft->sync foreach 1 .. 4;
	is($t->sql("SELECT count(*) FROM smartspace.cobot_sync_run WHERE integration_id = @{[ $loft->id ]} AND finished_at < now() - interval '90 days'"), 0, 'a few do');
};

done_testing();
