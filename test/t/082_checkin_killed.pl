# kill -9 at any point: no check-in is ever sent twice, and every one ends settled. Members come
# in by several sessions while Cobot answers well, slowly, wrongly or not at all, and the worker,
# the launcher, a session at the door or the whole server is shot. A second request would make a
# second check-in, for a second pass.
#
# TEST_SEED, TEST_SECONDS and TEST_ROUNDS for longer runs.
use strict;
use warnings;

use CobotTest;
use CobotVisits;
use IPC::Run;
use JSON::PP;
use List::Util qw(shuffle);
use Test::More;
use Time::HiRes qw(time sleep);

use constant {
	MEMBERS => 12,              # of a round
	SETTLE_TIME_S => 0.4,
	AIM_WITHIN_S => 1.5,
};

my $seed = $ENV{TEST_SEED} // int rand 1e9;
my $seconds = $ENV{TEST_SECONDS} // 60;
my $rounds = $ENV{TEST_ROUNDS} // 10_000;
srand $seed;
note "TEST_SEED=$seed";

my $t = CobotTest->new(members => 1200, conf => <<"CONF");
shared_preload_libraries = 'smartspace_cobot'
smartspace_cobot.databases = 'postgres'
smartspace_cobot.worker_linger = 0
smartspace_cobot.request_timeout = '700ms'
smartspace_cobot.checkin_settle_time = '@{[ SETTLE_TIME_S * 1000 ]}ms'
restart_after_crash = on
synchronous_commit = off
wal_writer_delay = 10s
CONF
my $cobot = $t->cobot;
my $node = $t->node;
my $visits = CobotVisits->new($t, 'demo-space', settle_time_s => SETTLE_TIME_S);
my %seen;

sub answers { return $t->try('SELECT 1')->{ok}; }

# What Cobot does with the requests for one member, this round.
my @answers = (
	[ 'well' ], [ 'well' ], [ 'well' ],
	[ 'slowly', delay_ms => 300 ],
	[ 'done, then dropped', drop => JSON::PP::true, perform => JSON::PP::true ],
	[ 'done, then silent', stall => 'headers', perform => JSON::PP::true ],
	[ 'done, then 500', status => 500, perform => JSON::PP::true ],
	[ 'done, half an answer', cut => 10 ],
	[ 'dropped', drop => JSON::PP::true ],
	[ 'silent', stall => 'headers' ],
	[ '502', status => 502 ],
	[ '429', status => 429, headers => { 'Retry-After' => '1' } ],
	[ '422', status => 422, body => '{"errors":{"base":["no"]}}' ]);

sub choose_answers
{
	my (@members) = @_;

	foreach my $member (@members)
	{
		my ($name, %fault) = @{ $answers[ rand @answers ] };

		$visits->fault($member, times => 1 + int rand 2, %fault) if %fault;
		$seen{"Cobot: $name"}++;
	}
	$cobot->fault(match => { method => 'GET', path => '/api/check_ins' }, skip => int rand 3, %{ (shuffle { status => 500 }, { drop => JSON::PP::true }, { body => '[{"id":1}]' })[0] }) if rand() < 0.3;
	$cobot->settings(latency_ms => (0, 20, 60)[ rand 3 ]);
	return;
}

# --- the door: sessions that insert, some of which roll back ---
sub session
{
	my (@sql) = @_;
	my $session = { out => '', err => '' };

	$session->{run} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres') . ' application_name=door', map { ('-c', $_) } 'SET synchronous_commit = on', @sql ],
		'<', \undef, '>', \$session->{out}, '2>', \$session->{err}, IPC::Run::timeout(60));
	return $session;
}

sub insert
{
	my ($times, $reference, @members) = @_;

	return CobotVisits::INSERT . join ', ', map { my $member = $_; map { $visits->entry_of($member, $reference) } 1 .. $times } @members;
}

# Each session says after each commit what is committed.
sub open_door
{
	my ($round, $members, $never) = @_;
	my @half = @$members[ 0 .. $#$members / 2 ];

	return (
		session(map { (insert(1, "a$round-$_->{id}", $_), "SELECT 'a$round-$_->{id}'", 'SELECT pg_sleep(0.01)') } @$members),
		session('SELECT pg_sleep(' . rand(0.1) . ')', insert(20, "b$round", @half), "SELECT 'b$round'"),
		session('SELECT pg_sleep(' . rand(0.2) . ')', insert(1, "c$round", reverse @$members), "SELECT 'c$round'"),
		session('BEGIN; ' . insert(3, "never$round", @$never) . '; SELECT pg_sleep(0.3); ROLLBACK'));
}

# --- who is shot, and when ---
sub shoot
{
	my ($what) = @_;
	my %pids = CobotVisits::processes($node);
	my ($kind, $signal) = split / /, $what;

	if ($kind eq 'nobody') { return 1; }
	if ($kind eq 'server')
	{
		$signal eq 'KILL' ? $node->kill9 : $node->stop('fast', fail_ok => 1);
		return 1;
	}
	my @victims = @{ $pids{$kind} };
	return @victims ? kill $signal, $victims[ rand @victims ] : 0;
}

my @shots = ('worker KILL', 'worker KILL', 'worker KILL', 'worker TERM', 'backend KILL', 'launcher KILL', 'launcher TERM', 'server KILL', 'server fast', 'nobody');

# Statements that wait for a moment of the delivery, and hold the worker there.
my %aims = (
	claimed => [ "state = 'queued' AND attempts > 0" ],
	'before sending is marked' => [ "state = 'queued' AND attempts > 0", 'PERFORM FROM smartspace.cobot_checkin FOR UPDATE SKIP LOCKED; PERFORM pg_sleep(0.5);' ],
	sending => [ "state = 'sending'" ],
	'before the end is written' => [ "state = 'sending'", "PERFORM FROM smartspace.cobot_checkin WHERE state = 'sending' FOR UPDATE SKIP LOCKED; PERFORM pg_sleep(0.5);" ],
	'after an end' => [ "state IN ('done', 'refused', 'already_in')" ],
	'looking again' => [ "state = 'sending' AND attempts > 1" ]);
my @moments = (sort(keys %aims), 'a list is asked for', 'a request is there', 'a request is answered', 'any');

sub requests { my ($since) = @_; return eval { $cobot->log($since) }; }

sub wait_for
{
	my ($moment, $since, $round_members) = @_;
	my $deadline = time + AIM_WITHIN_S;

	if (my $aim = $aims{$moment})
	{
		my ($condition, $hold) = @$aim;
		my $ids = join ', ', map { $_->{id} } @$round_members;

		my $watch = session("DO \$\$ BEGIN LOOP EXIT WHEN EXISTS (SELECT FROM smartspace.cobot_checkin WHERE $condition AND membership_id IN ($ids)) OR clock_timestamp() > now() + interval '1.5 seconds'; PERFORM pg_sleep(0.001); END LOOP;"
			  . " RAISE WARNING 'now'; @{[ $hold // '' ]} END \$\$");
		# the server may be gone, and psql with it
		until ($watch->{err} =~ /now|FATAL|error/ || time > $deadline + 1) { eval { $watch->{run}->pump; 1 } or last; }
		sleep rand 0.3 if $hold;    # whatever Cobot answers is there
		return $watch;
	}
	my $condition = {
		'a list is asked for' => sub { grep { $_->{method} eq 'GET' } @_ },
		'a request is there' => sub { grep { $_->{method} eq 'POST' && !defined $_->{status} } @_ },
		'a request is answered' => sub { grep { $_->{method} eq 'POST' && $_->{status} } @_ },
		any => sub { rand() < 0.05 } }->{$moment};
	sleep 0.002 until $condition->(requests($since)) || time > $deadline;
	return;
}

sub recover
{
	my (@sessions) = @_;

	if (!defined $node->{_pid})
	{
		# what was left behind by a postmaster that was shot has to see that first
		my $deadline = time + 20;
		until ($node->start(fail_ok => 1) || time > $deadline)
		{
			$node->{_pid} = undef;
			sleep 0.1;
		}
	}
	$t->wait_until(\&answers, 'the server is there again');
	foreach my $session (grep { $_ } @sessions)
	{
		eval { $session->{run}->finish; 1 } or $session->{run}->kill_kill;
	}
	return;
}

# --- what was sent is known after a crash, also where commits are not waited for ---
subtest 'a request that left is known after a crash, before Cobot lists it' => sub {
	my ($member) = $visits->take(1);

	$t->sql("ALTER SYSTEM SET smartspace_cobot.checkin_settle_time = '4s'; SELECT pg_reload_conf()");
	$visits->fault($member, stall => 'headers', perform => JSON::PP::true);
	$visits->enter($member);
	$t->wait_until(sub { return scalar $visits->posts($member) }, 'the request');
	my ($last) = map { $_->{n} } reverse $cobot->log;
	shoot('worker KILL');
	$cobot->fault(match => { method => 'GET', path => $_ }, body => '[]', times => 0) foreach '/api/check_ins', '/api/work_sessions';
	$t->wait_until(\&answers, 'the server is there again');
	is($visits->states($member), 'sending', 'the row says that it may have been sent');
	$t->sql("UPDATE smartspace.cobot_checkin SET next_attempt_at = now() WHERE state IN ('queued', 'sending'); SELECT smartspace.cobot_wake_worker()");
	$t->wait_until(sub { return scalar grep { $_->{path} eq '/api/check_ins' } $cobot->log($last) }, 'a look at the list');
	sleep 0.3;
	$cobot->clear_faults;
	ok($visits->settle, 'it ends');
	is($visits->states($member), 'done', 'as done');
	$visits->check('by one request', $member);
	is(scalar($visits->posts($member)), 1, '(one)');
	$t->sql("ALTER SYSTEM RESET smartspace_cobot.checkin_settle_time; SELECT pg_reload_conf()");
};

# --- rounds ---
my $deadline = time + $seconds;
my $round = 0;

while ($round < $rounds && time < $deadline && $visits->left > MEMBERS + 2)
{
	my @members = $visits->take(MEMBERS);
	my @never = $visits->take(2);
	my @shooting = map { [ $moments[ rand @moments ], $shots[ rand @shots ] ] } 1 .. (rand() < 0.3 ? 2 : 1);
	my ($last) = map { $_->{n} } reverse $cobot->log;
	my $began = time;

	$round++;
	choose_answers(@members);
	my @door = open_door($round, \@members, \@never);
	my @watches;
	foreach my $shot (@shooting)
	{
		push @watches, wait_for($shot->[0], $last, \@members);
		$seen{"$shot->[1]: $shot->[0]"}++ if shoot($shot->[1]);
		last if !defined $node->{_pid};
	}
	my $words = join ', ', map { "$_->[1] when $_->[0]" } @shooting;
	recover(@door, @watches);
	$cobot->clear_faults;
	$cobot->settings(latency_ms => 0);

	my $settled = $visits->settle;
	ok($settled, "round $round ($words): everything ends soon") or diag $t->sql("SELECT c.* FROM smartspace.cobot_checkin c WHERE state IN ('queued', 'sending')");
	$visits->check("round $round, once each", @members);
	my @told = map { $_->{out} =~ /^([abc]\d+\S*)$/gm } @door[ 0 .. 2 ];
	is($t->sql("SELECT string_agg(r, ' ') FROM unnest('{@{[ join ',', @told ]}}'::text[]) r WHERE NOT EXISTS (SELECT FROM smartspace.building_entry e WHERE e.source_reference = r)"),
		'', '... every entry that a door was told to be stored is there (' . @told . ')');
	is($t->sql("SELECT count(*) FROM smartspace.cobot_checkin WHERE membership_id IN (" . join(', ', map { $_->{id} } @never) . ')'), 0, '... nothing for what was rolled back');
	note sprintf 'round %d: %.1f s', $round, time - $began;
	last unless $settled;
}

my %states = map { $_->{state} => $_->{count} } $t->rows('SELECT state, count(*) FROM smartspace.cobot_checkin GROUP BY 1');
note "$round rounds";
note "$_: $seen{$_}" foreach sort keys %seen;
note "$_: $states{$_}" foreach sort keys %states;
cmp_ok($states{done} // 0, '>', $round, 'and members were checked in');
is($t->sql("SELECT string_agg(message, '; ') FROM smartspace.cobot_entry_problem"), '', 'no entry was a problem');

done_testing();
