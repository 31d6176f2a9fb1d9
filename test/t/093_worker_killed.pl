# Whatever is killed at whatever moment, the worker, the launcher, a session or the
# postmaster (bar 5, for synchronisations): the server recovers, and what was asked for is
# done within seconds, without anybody asking again; in the end the mirror equals Cobot.
use strict;
use warnings;

use CobotMirror;
use CobotWorker;
use Test::More;
use Time::HiRes qw(sleep time);

use constant {
	SPACES => 3,
	ROUNDS => 12,    # at least, and for so many seconds:
	SECONDS => $ENV{TEST_SECONDS} // 0,
};

my $seed = $ENV{TEST_SEED} // int rand 1e9;
srand $seed;
note "TEST_SEED=$seed";

my $t = CobotWorker->new(spaces => SPACES, members => 200, linger => 1, conf => "restart_after_crash = on\n");
my $cobot = $t->cobot;
$cobot->settings(latency_ms => 15);
my @names = map { "space-000$_" } 1 .. SPACES;
my @spaces = map { $t->connect_space($_) } @names;
my $door = $t->group('Door');
$t->wait_for_run($_) foreach @spaces;
$t->assign($_->{cobot_id}, $door) foreach $t->rows('SELECT cobot_id FROM smartspace.cobot_plan');
my %members = map { my $name = $_; ($name => [ map { $_->{id} } @{ $cobot->space($name)->{memberships} } ]) } @names;

sub answers { return $t->try('SELECT 1')->{ok}; }

# All that was asked for is done, and no run is under way.
sub all_done
{
	my $answer = $t->try('SELECT count(*) FROM smartspace.cobot_sync_task WHERE requested_at IS NOT NULL OR attempts > 0');

	return $answer->{ok} && $answer->{out} eq '0';
}

# One process id of a kind, undef if there is none.
sub victim
{
	my ($kind, $session) = @_;

	return $session if $kind eq 'session';
	my $process = $kind eq 'worker' ? $t->worker : $t->launcher;
	return $process ? $process->{pid} : undef;
}

# At first the processes of the old server may not have noticed yet.
sub start_again
{
	my $node = $t->node;

	$t->wait_until(sub { undef $node->{_pid}; return $node->start(fail_ok => 1); }, 'the server starts again');
	return;
}

my (%count, %longest);
my $start = time;
my $round = 0;
my $pid_file = $t->node->data_dir . '/postmaster.pid';
while ($round < ROUNDS || time < $start + SECONDS)
{
	my $kind = (qw(worker launcher session postmaster worker terminate worker launcher session postmaster worker worker))[ $round++ % 12 ];

	# given: Cobot changed, and everybody is to be synchronised
	foreach my $name (@names)
	{
		my $members = $members{$name};

		$cobot->patch_member($name, $members->[ rand @$members ], name => "Name $round $_") foreach 1 .. 3;
		$cobot->delete_member($name, splice @$members, int rand @$members, 1);
	}
	my $session = $t->node->background_psql('postgres', on_error_stop => 0);
	my $session_pid = $session->query('SELECT pg_backend_pid()');
	my ($launcher, $postmaster) = (victim('launcher') // 0, (split /\n/, PostgreSQL::Test::Utils::slurp_file($pid_file))[0]);
	$t->sql('SELECT smartspace.cobot_request_sync()');

	# when: somebody is killed, sooner or later
	sleep rand 0.12;
	my $killed = time;
	if ($kind eq 'postmaster')
	{
		$t->node->kill9;
		start_again();
	}
	elsif ($kind eq 'terminate')
	{
		$t->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'smartspace_cobot %'");
	}
	else
	{
		my $pid = $kind eq 'launcher' ? $launcher : victim($kind, $session_pid);

		kill 'KILL', $pid if $pid;
		$kind = "no $kind" unless $pid;
	}
	eval { $session->{run}->kill_kill; };

	# then
	$t->wait_until(sub { all_done() }, "all is done after $kind was killed in round $round");
	my $seconds = time - $killed;
	$count{$kind}++;
	$longest{$kind} = $seconds if $seconds > ($longest{$kind} // 0);
	is(join(', ', grep { $_ ne '' } map { mirror_differs($t, $spaces[$_], $names[$_]) } 0 .. SPACES - 1), '', sprintf 'round %d, %s: the mirror equals Cobot %.1f s later', $round, $kind, $seconds);
}
note join ', ', map { sprintf '%s: %d times, %.1f s at most', $_, $count{$_}, $longest{$_} } sort keys %count;
cmp_ok($longest{$_}, '<', 12, "$_: work went on within seconds") foreach sort keys %longest;
is($t->grants_differ, 0, 'the grants equal their definition');
is($t->sql("SELECT count(*) FROM smartspace.cobot_sync_run WHERE result NOT IN ('ok', 'ok_with_problems')"), 0, 'no run failed');

# --- a worker that outlives its launcher ---
subtest 'a worker that outlives its launcher is looked after by the next one' => sub {
	$t->stall($spaces[0], $names[0]);
	my ($worker, $launcher) = ($t->worker, $t->launcher);
	my $last = $t->last_run($spaces[0])->{id};

	$t->sql("SELECT pg_terminate_backend($launcher->{pid})");
	my $next;
	$t->wait_until(sub { $next = $t->launcher; return $next && $next->{pid} != $launcher->{pid} }, 'another launcher');
	is($t->worker->{pid}, $worker->{pid}, 'the worker goes on meanwhile');
	$cobot->clear_faults;
	$t->sql("SELECT pg_terminate_backend($worker->{pid})");
	my $seconds = $t->seconds_until(sub { $t->last_run($spaces[0])->{id} > $last }, 'the work is taken up');
	cmp_ok($seconds, '<', 5, sprintf 'when it fails, another one goes on (%.1f s)', $seconds);
};

subtest 'pg_cancel_backend does no more harm than that' => sub {
	$t->stall($spaces[0], $names[0]);
	my $last = $t->last_run($spaces[0])->{id};
	my $launcher = $t->launcher->{pid};

	$cobot->clear_faults;
	$t->sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'smartspace_cobot %'");
	my $seconds = $t->seconds_until(sub { $t->last_run($spaces[0])->{id} > $last }, 'the work is taken up');
	cmp_ok($seconds, '<', 5, sprintf 'the work goes on (%.1f s)', $seconds);
	is($t->launcher->{pid}, $launcher, 'and the launcher is the same');
};

# --- again and again in the middle: it is put off, and the others are not ---
$t->wait_for_no_worker;
my @attempts;
$t->stall($spaces[0], $names[0]);
foreach my $kill (1 .. 2)
{
	push @attempts, $t->task($spaces[0])->{attempts};
	$t->sql('SELECT pg_terminate_backend(' . $t->worker->{pid} . ')');
	$t->wait_until(sub { my $w = $t->worker; $w && $t->task($spaces[0])->{attempts} > $kill }, 'it is taken up again') if $kill < 2;
}
my $task = $t->task($spaces[0]);
is("@attempts", '1 2', 'the first time it is taken up again at once');
cmp_ok($task->{due_in_s}, '>', 90, '... then it is put off');
cmp_ok($task->{due_in_s}, '<', 121, '... for two minutes');
like($t->request($spaces[1])->{result}, qr/^ok/, 'the others go on');
$cobot->clear_faults;
like($t->request($spaces[0])->{result}, qr/^ok/, 'who asks for it gets it at once');
is($t->task($spaces[0])->{attempts}, 0, '... and all is forgotten');

done_testing;
