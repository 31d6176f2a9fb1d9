# While the worker waits for Cobot nobody else notices: no transaction is open (bar 3), DROP
# DATABASE of another database goes through at once (bar 1), so does a fast shutdown, also
# where no synchronous standby can be reached (bar 4), and DROP and ALTER EXTENSION do not
# wait for it (bar 8).
use strict;
use warnings;

use CobotMirror;
use CobotWorker;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $t = CobotWorker->new(spaces => 2, members => 30, linger => 3, conf => "wal_level = replica\nmax_wal_senders = 2\n");
my $cobot = $t->cobot;
my $space = $t->connect_space('space-0001');
my $other = $t->connect_space('space-0002');
$t->wait_for_run($_) foreach $space, $other;

# Statements with the seconds that they took by the server's own clock.
sub timed
{
	my ($sql) = @_;
	my $answer = $t->try("SELECT clock_timestamp() AS start \\gset\n$sql;\nSELECT 'took ' || extract(epoch FROM clock_timestamp() - :'start');");
	my ($seconds) = $answer->{out} =~ /^took ([0-9.]+)$/m;

	return ($answer, $seconds // 999);
}

# --- bar 1 ---
subtest 'bar 1: an unrelated DROP DATABASE does not wait for the worker' => sub {
	foreach my $fault ({ delay_ms => 5000 }, { stall => 'headers' }, { stall => 5000 })
	{
		$t->sql('CREATE DATABASE unrelated');
		$t->sql('CHECKPOINT');
		$t->stall($space, 'space-0001', %$fault);
		my ($answer, $seconds) = timed('DROP DATABASE unrelated');
		ok($answer->{ok}, 'it is dropped') or diag $answer->{err};
		cmp_ok($seconds, '<', 0.2, "... at once ($seconds s)");
		my $worker = $t->worker;
		is($worker->{wait_event}, 'Extension', '... and the worker still waits');
		$cobot->clear_faults;
		$t->sql("SELECT pg_terminate_backend($worker->{pid})") unless $fault->{delay_ms};
		$t->wait_until(sub { !$t->rows("SELECT * FROM smartspace.cobot_sync_task WHERE requested_at IS NOT NULL") }, 'the work is done');
	}
};

# --- bar 3 ---
subtest 'bar 3: no transaction is open while the worker waits' => sub {
	# three are missing in the list, and are asked for by id
	my @gone = map { $_->{id} } @{ $cobot->space('space-0001')->{memberships} }[ 0 .. 2 ];
	$cobot->delete_member('space-0001', $_) foreach @gone;
	$cobot->fault(match => { path => $_ }, delay_ms => 400, times => 0)
	  foreach '/api/memberships', '/api/plans', '/api/custom_fields', '/api/spaces/space-0001', map { "/api/memberships/$_" } @gone;
	$cobot->clear_log;
	my $last = $t->last_run($space)->{id};
	my $sampler = $t->node->background_psql('postgres');
	$sampler->query_until(qr/go/, <<"SQL");
\\echo go
CREATE TEMP TABLE seen (wait_event text, state text, horizon text, xact_s float8);
DO \$\$
BEGIN
	FOR i IN 1 .. 1500 LOOP
		PERFORM pg_stat_clear_snapshot();
		INSERT INTO seen SELECT wait_event, state, backend_xmin, extract(epoch FROM clock_timestamp() - xact_start)
		FROM pg_stat_activity WHERE backend_type = 'smartspace_cobot worker';
		PERFORM pg_sleep(0.001);
	END LOOP;
END \$\$;
SQL
	$t->sql("SELECT smartspace.cobot_request_sync($space)");
	my $run = $t->wait_for_run($space, $last);
	my $seen = $sampler->query("SELECT count(*) FILTER (WHERE wait_event = 'Extension'), count(*) FILTER (WHERE wait_event = 'Extension' AND (horizon IS NOT NULL OR xact_s IS NOT NULL)), max(xact_s) FROM seen");
	$sampler->quit;
	my ($waited, $with_transaction, $longest) = split /\|/, $seen;
	cmp_ok($waited, '>', 100, "the worker was seen waiting ($waited times)");
	is($with_transaction, 0, '... never with a transaction or a snapshot');
	note "longest transaction seen: $longest s";
	is(join(',', sort grep { m{/api/memberships/} } map { $_->{path} } $cobot->log), join(',', sort map { "/api/memberships/$_" } @gone), 'it waited for lists and for members by id');
	is("$run->{result} $run->{members_removed}", 'ok_with_problems 3', 'and the run is right');
	$cobot->clear_faults;
};

# --- bar 8 ---
subtest 'bar 8: ALTER EXTENSION does not wait for the worker, which goes on' => sub {
	my $extensions = $t->node->config_data('--sharedir') . '/extension';
	my $version = $t->sql("SELECT extversion FROM pg_extension WHERE extname = 'smartspace_cobot'");
	my %script = (
		"$version--$version.1" => "COMMENT ON SCHEMA smartspace IS 'updated';\nALTER TABLE smartspace.cobot_sync_task ADD COLUMN test_of_update integer;\n",
		"$version.1--$version" => "COMMENT ON SCHEMA smartspace IS 'and back';\n");
	my $update = "ALTER EXTENSION smartspace_cobot UPDATE TO";
	append_to_file("$extensions/smartspace_cobot--$_.sql", $script{$_}) foreach keys %script;

	# there and back at once, since the library serves its own version alone (121_upgrade has the others)
	$t->stall($space, 'space-0001', delay_ms => 3000);
	my $pid = $t->worker->{pid};
	my $last = $t->last_run($space)->{id};
	my ($answer, $seconds) = timed("BEGIN; $update '$version.1'; $update '$version'; COMMIT");
	unlink "$extensions/smartspace_cobot--$_.sql" foreach keys %script;
	ok($answer->{ok}, 'it is updated') or diag $answer->{err};
	cmp_ok($seconds, '<', 1, "... at once ($seconds s)");
	$cobot->clear_faults;
	like($t->wait_for_run($space, $last)->{result}, qr/^ok/, '... and the run comes to its end');
	is($t->worker->{pid}, $pid, '... in the same worker');
	like($t->request($other)->{result}, qr/^ok/, '... and so does the next');
};

subtest 'bar 8: DROP EXTENSION does not wait for the worker, which comes back for another' => sub {
	$t->mark_log;
	$t->stall($space, 'space-0001', delay_ms => 2500);
	my $pid = $t->worker->{pid};
	my ($answer, $seconds) = timed('DROP EXTENSION smartspace_cobot CASCADE');
	ok($answer->{ok}, 'it is dropped') or diag $answer->{err};
	cmp_ok($seconds, '<', 1, "... at once ($seconds s)");
	$cobot->clear_faults;
	$t->wait_for_no_worker;
	pass('... and the worker leaves');
	is($t->logged(qr/ERROR|FATAL|PANIC/), 0, '... without an error') or diag slurp_file($t->node->logfile, $t->{log_mark});
	$t->sql('CREATE EXTENSION smartspace_cobot');
	$space = $t->connect_space('space-0001');
	like($t->wait_for_run($space)->{result}, qr/^ok/, 'a new one is worked for');

	# dropped and created while the worker waits for Cobot: what it asked for is not wanted any more
	$t->stall($space, 'space-0001', delay_ms => 1500);
	$pid = $t->worker->{pid};
	$t->sql('BEGIN; DROP EXTENSION smartspace_cobot CASCADE; CREATE EXTENSION smartspace_cobot; COMMIT');
	$cobot->clear_faults;
	my $again = $t->connect_space('space-0001');
	like($t->wait_for_run($again)->{result}, qr/^ok/, 'dropped and created at once: the new one is worked for');
	is(mirror_differs($t, $again, 'space-0001'), '', '... and its mirror is right');
	is($t->logged(qr/ERROR|FATAL|PANIC/), 0, '... without an error');
	$space = $again;

	$t->sql('BEGIN; DROP EXTENSION smartspace_cobot CASCADE; ROLLBACK');
	like($t->request($space)->{result}, qr/^ok/, 'and one that was rolled back does no harm');
};

# --- people in the way ---
subtest 'somebody locks our tables for long: the worker waits with an end, and comes back' => sub {
	my $session = $t->node->background_psql('postgres');
	my $last = $t->last_run($space)->{id};

	$session->query('BEGIN; LOCK TABLE smartspace.cobot_membership, smartspace.cobot_sync_task IN ACCESS EXCLUSIVE MODE; SELECT 1');
	$t->mark_log;
	my $worker;
	$t->sql('SELECT smartspace.cobot_wake_worker()');
	$t->wait_until(sub { $worker = $t->worker; return $worker && ($worker->{wait_event_type} // '') eq 'Lock' }, 'the worker waits for the lock');
	$t->wait_until(sub { $t->logged(qr/canceling statement due to lock timeout/) > 0 }, 'it gives up');
	pass('it does not wait for ever');
	$session->query('COMMIT; SELECT 1');
	$session->quit;
	like($t->request($space)->{result}, qr/^ok/, 'and goes on when the lock is gone');
};

subtest 'an integration is deleted while Cobot is asked about it' => sub {
	$t->mark_log;
	my $doomed = $t->connect_space('space-0002');
	$t->wait_for_run($doomed);
	$t->stall($doomed, 'space-0002', delay_ms => 600);
	my $pid = $t->worker->{pid};
	my ($answer, $seconds) = timed("DELETE FROM smartspace.cobot_integration WHERE id = $doomed");
	ok($answer->{ok}, 'it can be deleted') or diag $answer->{err};
	cmp_ok($seconds, '<', 0.5, "... at once ($seconds s)");
	$cobot->clear_faults;
	$t->wait_until(sub { !$t->rows('SELECT * FROM smartspace.cobot_sync_progress') }, 'its run ends');
	like($t->request($space)->{result}, qr/^ok/, 'the others go on');
	is($t->logged(qr/ERROR|FATAL|PANIC|WARNING/), 0, '... without any complaint') or diag slurp_file($t->node->logfile, $t->{log_mark});
};

# --- bar 4 ---
subtest 'bar 4: fast shutdown is fast, and the work goes on after the start' => sub {
	foreach my $fault ({ stall => 'headers' }, { stall => 3000 }, { delay_ms => 20000 })
	{
		$t->stall($space, 'space-0001', %$fault);
		my $last = $t->last_run($space)->{id};
		my $start = time;
		$t->node->stop('fast');
		my $seconds = time - $start;
		cmp_ok($seconds, '<', 1, "it takes less than a second ($seconds s)");
		$cobot->clear_faults;
		$t->node->start;
		$seconds = $t->seconds_until(sub { $t->last_run($space)->{id} > $last }, 'the work is taken up');
		cmp_ok($seconds, '<', 5, "... and the work is taken up soon after the start ($seconds s)");
	}
};

subtest 'bar 4: also with a synchronous standby that nobody can reach' => sub {
	# the worker waits for Cobot, then for the standby
	$t->stall($space, 'space-0001', delay_ms => 1000);
	$t->node->append_conf('postgresql.conf', "synchronous_standby_names = 'nowhere'");
	$t->node->reload;
	$cobot->clear_faults;
	$t->wait_until(sub { my $w = $t->worker; $w && ($w->{wait_event} // '') eq 'SyncRep' }, 'the worker waits for the standby');
	pass('the worker waits for the standby');
	my $start = time;
	$t->node->stop('fast');
	my $seconds = time - $start;
	cmp_ok($seconds, '<', 1, "fast shutdown takes less than a second ($seconds s)");

	# and again while it waits for Cobot
	$t->node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
	$t->node->start;
	$t->wait_until(sub { !$t->rows("SELECT * FROM smartspace.cobot_sync_task WHERE requested_at IS NOT NULL") }, 'the work is done');
	$t->stall($space, 'space-0001');
	$t->node->append_conf('postgresql.conf', "synchronous_standby_names = 'nowhere'");
	$t->node->reload;
	$start = time;
	$t->node->stop('fast');
	$seconds = time - $start;
	cmp_ok($seconds, '<', 1, "... also while the worker waits for Cobot ($seconds s)");
	$t->node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
	$cobot->clear_faults;
	$t->node->start;
	my $last = $t->last_run($space)->{id};
	like($t->request($space)->{result}, qr/^ok/, 'then all is well');
	is(mirror_differs($t, $space, 'space-0001'), '', '... and the mirror equals Cobot');
};

done_testing;
