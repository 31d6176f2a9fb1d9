# A session that waits for Cobot obeys at once (bars 1 and 2): statement_timeout, cancel, terminate and
# fast shutdown, and it holds up no DROP DATABASE of others. Afterwards nothing is left
# behind, and the same session can synchronise.
#
# "At once" is 0.2 s by the server's own clock, 0.35 s where the start of a client counts.
use strict;
use warnings;

use CobotTest;
use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(sleep time);

use constant {
	AT_ONCE_S => 0.2,
	WITH_CLIENT_S => 0.35,
};

my $t = CobotTest->new(members => 20);
my $space = $t->connect_space('demo-space');
my $door = $t->group('Front door');
$t->sync($space);
$t->assign($_->{cobot_id}, $door) foreach $t->rows('SELECT cobot_id FROM smartspace.cobot_plan');
my $contents = $t->contents;

# Accepts connections and says nothing, so that the TLS handshake stalls.
my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 50) or die "could not listen: $!";
my $to_silent = sprintf "SET smartspace_cobot.connect_to = '127.0.0.1:%d';", $silent->sockport;
my $to_cobot = "SET smartspace_cobot.connect_to = '" . $t->cobot->connect_to . "';";

# Every way to keep a synchronisation waiting, once. "fault" is for Cobot, the settings
# for the session before and after.
my @waits = (
	{ name => 'stalled headers', fault => { match => { path => '/api/memberships' }, stall => 'headers' } },
	{ name => 'stalled body', fault => { match => { path => '/api/memberships' }, stall => 5000 } },
	{ name => 'stalled headers of all answers', fault => { stall => 'headers', times => 4 } },
	{ name => 'stalled TLS handshake', before => $to_silent, after => $to_cobot },
	{ name => 'a wait before the next try', before => 'SET smartspace_cobot.max_retries = 2;',
		fault => { match => { path => '/api/memberships' }, status => 429, headers => { 'Retry-After' => '10' } } });

sub begin_wait
{
	my ($wait) = @_;

	$t->cobot->clear_faults;
	$t->cobot->clear_log;
	$t->cobot->fault(%{ $wait->{fault} }) if $wait->{fault};
	return $wait->{before} // '';
}

sub runs { return $t->sql('SELECT count(*) FROM smartspace.cobot_sync_run'); }

# Nothing of a cancelled synchronisation may stay.
sub check_nothing_left
{
	my ($runs) = @_;

	is(runs(), $runs, '... there is no row of the run');
	is($t->sql("SELECT state FROM smartspace.cobot_integration WHERE id = $space"), 'connected', '... the integration is as before');
	is($t->contents, $contents, '... members and grants as well');
	is($t->sql("SELECT count(*) FROM pg_locks WHERE locktype IN ('object', 'advisory') AND pid <> pg_backend_pid()"
			  . " AND classid IN ('smartspace.cobot_sync_run'::regclass, 'smartspace.user_group_member'::regclass, 'smartspace.user_group'::regclass)"),
		0, '... no lock is left');
	return;
}

# --- statement_timeout, and the same session goes on ---
foreach my $wait (@waits)
{
	subtest "statement_timeout in $wait->{name}" => sub {
		my $runs = runs();
		my $before = begin_wait($wait);
		my $after = $wait->{after} // '';
		my ($out, $err) = ('', '');

		$t->node->psql('postgres', <<"SQL", stdout => \$out, stderr => \$err, on_error_stop => 0, on_error_die => 0);
\\set VERBOSITY verbose
$before
SELECT clock_timestamp() AS start \\gset
SET statement_timeout = '300ms';
SELECT result FROM smartspace.cobot_sync($space);
SET statement_timeout = 0;
SELECT 'took ' || extract(epoch FROM clock_timestamp() - :'start');
SELECT 'runs ' || count(*) FROM smartspace.cobot_sync_run;
$after
SELECT 'then ' || result FROM smartspace.cobot_sync($space);
SQL
		my ($seconds) = $out =~ /^took ([0-9.]+)$/m;

		like($err, qr/ERROR:  57014: canceling statement due to statement timeout/, 'the statement ends with 57014');
		cmp_ok($seconds, '>=', 0.3, '... not before its time');
		cmp_ok($seconds, '<', 0.3 + AT_ONCE_S, "... and at once then ($seconds s)");
		like($out, qr/^runs $runs$/m, '... without a row of the run');
		like($out, qr/^then ok/m, 'the next synchronisation in the same session is fine');
		check_nothing_left($runs + 1);
		$t->cobot->clear_faults;
	};
}

# --- a session that waits for Cobot ---
# Starts a synchronisation that will wait, in a session of its own. Returns the session
# and the process id of its server process once Cobot (or nobody) was asked.
sub waiting_session
{
	my ($wait) = @_;
	my $before = begin_wait($wait);
	my $session = $t->node->background_psql('postgres', on_error_stop => 0);
	my $pid = $session->query("\\set VERBOSITY verbose\n$before SELECT pg_backend_pid()");

	$session->query_until(qr/go/, "\\echo go\nSELECT result FROM smartspace.cobot_sync($space);\n");
	$t->wait_until(sub {
		return $t->sql("SELECT state || wait_event_type FROM pg_stat_activity WHERE pid = $pid") eq 'activeExtension'
		  && (!$wait->{fault} || grep { $_->{path} eq '/api/memberships' } $t->cobot->log);
	}, 'the synchronisation waits for Cobot');
	return ($session, $pid);
}

# Does something to a process and measures, in the server, until it obeyed: until it is
# idle or gone.
sub seconds_until_obeyed
{
	my ($action, $pid) = @_;
	my $answer = $t->try(<<"SQL");
DO \$\$
DECLARE
	start timestamptz := clock_timestamp();
BEGIN
	PERFORM $action($pid);
	LOOP
		PERFORM pg_stat_clear_snapshot();
		EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid AND state = 'active');
		EXIT WHEN clock_timestamp() > start + interval '20 s';
		PERFORM pg_sleep(0.002);
	END LOOP;
	RAISE NOTICE 'obeyed after % s', extract(epoch FROM clock_timestamp() - start);
END \$\$;
SQL
	my ($seconds) = $answer->{err} =~ /obeyed after ([0-9.]+) s/;
	return $seconds;
}

foreach my $wait (@waits)
{
	subtest "pg_cancel_backend in $wait->{name}" => sub {
		my $runs = runs();
		my ($session, $pid) = waiting_session($wait);
		my $seconds = seconds_until_obeyed('pg_cancel_backend', $pid);
		my $after = $wait->{after} // '';

		cmp_ok($seconds, '<', AT_ONCE_S, "the session is free at once ($seconds s)");
		$session->query('SELECT 1');
		like($session->{stderr}, qr/ERROR:  57014: canceling statement due to user request/, '... with 57014');
		check_nothing_left($runs);
		$t->cobot->clear_faults;
		like($t->sync($space)->{result}, qr/^ok/, 'another session can synchronise');
		$session->{stderr} = '';
		like($session->query("$after SELECT result FROM smartspace.cobot_sync($space);"), qr/^ok/, 'so can this one');
		$session->quit;
	};
}

foreach my $wait (@waits)
{
	subtest "pg_terminate_backend in $wait->{name}" => sub {
		my $runs = runs();
		my ($session, $pid) = waiting_session($wait);
		my $seconds = seconds_until_obeyed('pg_terminate_backend', $pid);

		cmp_ok($seconds, '<', AT_ONCE_S, "the process is gone at once ($seconds s)");
		check_nothing_left($runs);
		$session->{run}->finish;
		like($session->{stderr}, qr/FATAL:  57P01: terminating connection due to administrator command/, 'the client is told 57P01');
		$t->cobot->clear_faults;
		like($t->sync($space)->{result}, qr/^ok/, 'another session can synchronise');
	};
}

# --- a cancel within a transaction, undone to a savepoint ---
foreach my $wait (@waits[ 0, 3 ])
{
	my $runs = runs();
	my $before = begin_wait($wait);
	my $after = $wait->{after} // '';
	my ($out, $err) = ('', '');

	$t->node->psql('postgres', <<"SQL", stdout => \$out, stderr => \$err, on_error_stop => 0, on_error_die => 0);
$before
BEGIN;
SAVEPOINT before;
SET LOCAL statement_timeout = '200ms';
SELECT result FROM smartspace.cobot_sync($space);
ROLLBACK TO before;
SELECT 'locks ' || count(*) FROM pg_locks WHERE classid = 'smartspace.cobot_sync_run'::regclass;
$after
SELECT 'then ' || result FROM smartspace.cobot_sync($space);
COMMIT;
SQL
	like($err, qr/canceling statement due to statement timeout/, "$wait->{name}: cancelled behind a savepoint");
	like($out, qr/^locks 0\nthen ok/m, '... and synchronised in the same transaction');
	is(runs(), $runs + 1, '... which leaves one run');
	is($t->contents, $contents, '... and no change');
}

# --- many cancels in one session use up nothing ---
{
	my $open = "SELECT 'open ' || count(*) FROM pg_ls_dir('/proc/self/fd');";
	my $cancelled = "SET statement_timeout = '100ms';\nSELECT result FROM smartspace.cobot_sync($space);\nSET statement_timeout = 0;\n";
	my ($out, $err) = ('', '');

	$t->cobot->fault(match => { path => '/api/memberships' }, times => 0, stall => 'headers');
	$t->node->psql('postgres', "$cancelled $open\n" . ($cancelled x 12) . "$open\n" . "$to_silent\n" . ($cancelled x 6) . "$to_cobot\n$open",
		stdout => \$out, stderr => \$err, on_error_stop => 0, on_error_die => 0);
	$t->cobot->clear_faults;
	my @open = $out =~ /^open (\d+)$/mg;
	my $cancels = () = $err =~ /canceling statement due to statement timeout/g;

	is($cancels, 19, 'nineteen synchronisations were cancelled in one session');
	cmp_ok($open[-1], '<=', $open[0] + 2, "... and no descriptors were lost (@open)");
}

# --- others do not notice a session that waits ---
foreach my $wait (@waits)
{
	$t->sql('CREATE DATABASE unrelated');
	$t->sql('CHECKPOINT');
	my ($session, $pid) = waiting_session($wait);
	my $drop = $t->try("SELECT clock_timestamp() AS start \\gset\nDROP DATABASE unrelated;\n"
		  . "SELECT extract(epoch FROM clock_timestamp() - :'start'), state FROM pg_stat_activity WHERE pid = $pid");
	my ($seconds, $state) = split /\|/, $drop->{out};

	ok($drop->{ok}, "DROP DATABASE works while a session sits in $wait->{name}");
	cmp_ok($seconds, '<', 0.5, "... quickly ($seconds s)");
	is($state, 'active', '... and does not disturb it');
	seconds_until_obeyed('pg_terminate_backend', $pid);
	eval { $session->{run}->finish };
}
$t->cobot->clear_faults;

# --- a client that went away is noticed, where the server is told to look ---
{
	my ($session, $pid) = waiting_session({ %{ $waits[0] }, before => "SET client_connection_check_interval = '100ms';" });

	$session->{run}->kill_kill;
	$t->wait_until(sub { return $t->sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid") == 0 }, 'the process ends when its client is gone');
	pass('a session whose client went away ends');
	$t->cobot->clear_faults;
}

# --- fast shutdown ---
foreach my $wait (@waits)
{
	my $runs = runs();
	my ($session, $pid) = waiting_session($wait);
	my $start = time;
	$t->node->stop('fast');
	my $seconds = time - $start;

	cmp_ok($seconds, '<', 1.5, "$wait->{name}: fast shutdown is fast ($seconds s)");
	$session->{run}->finish;
	like($session->{stderr}, qr/FATAL:  57P01: terminating connection due to administrator command/, '... and the client is told 57P01');
	$t->node->start;
	$t->cobot->clear_faults;
	is(runs(), $runs, '... no row of the run was left');
	like($t->sync($space)->{result}, qr/^ok/, '... and afterwards all is well');
}

# --- crash: the server recovers and the next run works ---
{
	my $runs = runs();
	my ($session, $pid) = waiting_session($waits[1]);

	$t->node->stop('immediate');
	eval { $session->{run}->finish };
	$t->node->start;
	$t->cobot->clear_faults;
	is(runs(), $runs, 'after an immediate shutdown there is no row of the run');
	is($t->contents, $contents, '... and members and grants are as before');
	like($t->sync($space)->{result}, qr/^ok/, '... and the next synchronisation is fine');
}

# --- connecting can be cancelled as well, and stores nothing ---
foreach my $path ('/api/spaces/demo-space', '/api/access_tokens/admin-token/space', '/api/space/custom_fields')
{
	my $state = "SELECT i.xmin, i.*, s.xmin, s.* FROM smartspace.cobot_integration i JOIN smartspace.cobot_secret s ON s.integration_id = i.id";
	my $before = $t->sql($state);
	$t->cobot->fault(match => { path => $path }, stall => 'headers');
	my $answer = $t->try("SET statement_timeout = '300ms'; SELECT * FROM smartspace.cobot_connect_token($space, 'admin-token')");

	$t->cobot->clear_faults;
	is($answer->{sqlstate}, '57014', "connecting is cancelled in $path");
	cmp_ok($answer->{seconds}, '<', 0.3 + WITH_CLIENT_S, '... at once');
	is($t->sql($state), $before, '... and nothing is stored');
	unlike($answer->{err}, qr/admin-token/, '... nor is the token shown');
}

done_testing();
