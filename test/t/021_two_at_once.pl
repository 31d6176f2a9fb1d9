# One synchronisation of an integration at a time: a second one returns at once, asks
# nothing and changes nothing; other integrations are not held up.
use strict;
use warnings;

use CobotMirror;
use CobotTest;
use Test::More;

my $t = CobotTest->new(spaces => 2, members => 12);
my $cobot = $t->cobot;
my $node = $t->node;
my ($name, $other_name) = qw(space-0001 space-0002);
my $space = $t->connect_space($name);
my $other = $t->connect_space($other_name);

$t->sync($space);
$t->sync($other);
my $door = $t->group('Door');
$t->sql("INSERT INTO smartspace.user_group_assignment (plan_id, user_group_id) SELECT id, $door FROM smartspace.cobot_plan");
my ($member) = map { $_->{cobot_id} } $t->rows("SELECT cobot_id FROM smartspace.cobot_membership WHERE integration_id = $space ORDER BY id LIMIT 1");

# A session that synchronises, and is under way when this returns.
sub start_sync
{
	my ($what, $condition) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $session->query_safe('SELECT pg_backend_pid()');

	$session->query_until(qr/started/, "\\echo started\nSELECT 'run', result, members_changed FROM smartspace.cobot_sync($space);\n");
	$t->wait_until(sub { $condition->($pid) }, $what);
	return ($session, $pid);
}

# A second one beside it.
sub check_second
{
	my ($pid) = @_;
	my $asked = () = $cobot->log;
	my $before = $t->contents;
	my $status = $t->sql('SELECT integration_id, state, reason, last_run FROM smartspace.cobot_status');
	my $answer = $t->try("SET statement_timeout = '10s'; SELECT result, reason IS NULL, requests, members_seen, message FROM smartspace.cobot_sync($space)");

	is($answer->{out}, 'skipped_locked|t|0|0|another synchronisation of it is under way', 'the second one is skipped');
	is($answer->{err}, '', 'which is no reason for a warning');
	cmp_ok($answer->{seconds}, '<', 2, 'it returned at once');
	is($t->sql("SELECT state FROM pg_stat_activity WHERE pid = $pid"), 'active', 'while the first one was still under way');
	is(scalar(() = $cobot->log), $asked, 'it asked Cobot nothing');
	is($t->contents, $before, 'and wrote no row of mirror or grants');
	is($t->sql('SELECT integration_id, state, reason, last_run FROM smartspace.cobot_status'), $status, 'the state is the same');
	return;
}

# --- the first one waits for Cobot, and is canceled ---
$cobot->clear_log;
$cobot->fault(match => { path => '/api/memberships', host => "$name.cobot.me" }, times => 0, stall => 'headers');
my ($session, $pid) = start_sync('Cobot was asked all five questions', sub { 5 == (() = $cobot->log) });
check_second($pid);
like($t->sync($other)->{result}, qr/^ok/, 'another integration can be synchronised meanwhile');

$cobot->clear_faults;
$t->sql("SELECT pg_cancel_backend($pid)");
$t->wait_until(sub { $t->sql("SELECT state FROM pg_stat_activity WHERE pid = $pid") eq 'idle' }, 'the first one is canceled');
like($t->sync($space)->{result}, qr/^ok/, 'after it was canceled the next one runs');
$session->quit;

# --- the first one waits for somebody in the database, and goes on ---
my $locker = $node->background_psql('postgres');
$locker->query_safe("BEGIN; SELECT FROM smartspace.cobot_integration WHERE id = $space FOR NO KEY UPDATE");
$cobot->patch_member($name, $member, name => 'Changed');
($session, $pid) = start_sync('it waits for the lock', sub {
	my ($pid) = @_;
	return $t->sql("SELECT count(*) FROM pg_locks WHERE pid = $pid AND NOT granted") > 0;
});
check_second($pid);
$locker->query_safe('COMMIT');
like($session->query('SELECT 1'), qr/^run\|ok(_with_problems)?\|1$/m, 'the first one ends well');
is(mirror_differs($t, $space, $name), '', 'the mirror equals Cobot');
$session->quit;

# --- somebody pauses the integration while a run is under way ---
$locker->query_safe("BEGIN; UPDATE smartspace.cobot_integration SET state = 'paused' WHERE id = $space");
$cobot->patch_member($name, $member, name => 'Changed again');
($session, $pid) = start_sync('it waits for the row', sub {
	my ($pid) = @_;
	return $t->sql("SELECT count(*) FROM pg_locks WHERE pid = $pid AND NOT granted") > 0;
});
$locker->query_safe('COMMIT');
like($session->query('SELECT 1'), qr/^run\|ok(_with_problems)?\|1$/m, 'the run ends well');
is($t->sql("SELECT state FROM smartspace.cobot_integration WHERE id = $space"), 'paused', 'and the pause holds');
is($t->try("SELECT smartspace.cobot_sync($space)")->{sqlstate}, '55000', 'the next one is refused');
$t->sql("UPDATE smartspace.cobot_integration SET state = 'connected' WHERE id = $space");
is(counts_of($t->sync($space)), '0/0/0 0/0/0', 'and nothing is left to do');
$locker->quit;

# --- a transaction that has synchronised and is still open ---
$session->query_safe("BEGIN; SELECT result FROM smartspace.cobot_sync($space)");
is($t->sync($space)->{result}, 'skipped_locked', 'until a transaction has ended, nobody else synchronises');
like($session->query_safe("SELECT result FROM smartspace.cobot_sync($space)"), qr/^ok/, 'but the transaction itself');
$session->query_safe('ROLLBACK');
like($t->sync($space)->{result}, qr/^ok/, 'then it goes on');
$session->quit;

is($t->grants_differ, 0, 'the grants equal their definition');
is($t->sql("SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND classid = 'smartspace.cobot_sync_run'::regclass"), '0', 'no lock is left');
done_testing();
