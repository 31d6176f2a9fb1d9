# cobot_status says in one line what waits for a person, and how old what we know is;
# neither takes anything from anybody.
use strict;
use warnings;

use CobotLoft;
use CobotTest;
use Test::More;

my $t = lofts(held => 90, few => 10, age => 5);
my $cobot = $t->cobot;

sub status { return $t->row("SELECT * FROM smartspace.cobot_status WHERE integration_id = @{[ $_[0]->id ]}"); }

subtest 'what is held is counted, and the first members are named' => sub {
	my $loft = CobotLoft->open($t, 'held');
	is(join('|', map { $_ // '' } @{ status($loft) }{qw(held held_members held_run reason)}), '0|||', 'given: nothing');

	$loft->leave(1 .. 30);
	my $run = $loft->sync;
	my $status = status($loft);
	is("$status->{state} $status->{reason} $status->{held} $status->{held_run} $status->{last_result}", "degraded too_many_removals 30 $run->{id} held", 'thirty are held, by this run');
	like($status->{held_members}, qr/^(?:Member held-(?:[012]\d|30), ){2}Member held-(?:[012]\d|30) and 27 more$/, 'three of them are named');
	like($status->{summary}, qr/^held: 90 members, 90 with access now; synchronised .*; last run held: 30 of 90 members would lose access.*; held: \Q$status->{held_members}\E, see cobot_sync_changes\($run->{id}\), then cobot_release\($run->{id}\) or cobot_discard\($run->{id}\)$/,
		'the line says what happened, and what to call');

	my $next = $loft->sync;
	is(join(' ', @{ status($loft) }{qw(held held_run)}), "30 $next->{id}", 'held again, it is the later run, and no more members');
	$loft->sync(settings => "SET smartspace_cobot.connect_to = '127.0.0.1:1';");
	is(join(' ', @{ status($loft) }{qw(reason held held_run)}), "unreachable 30 $next->{id}", 'a run that fails meanwhile does not hide them');
	$loft->release($next);
	is(join('|', map { $_ // '' } @{ status($loft) }{qw(state held held_members held_run reason)}), 'connected|0|||', 'released, nothing waits');
};

subtest 'few are named without a number, and what is dropped waits no more' => sub {
	my $loft = CobotLoft->open($t, 'few', hold_removals_above => 1, hold_removals_above_percent => 0);

	$loft->leave(1 .. 3);
	my $run = $loft->sync;
	is(join(', ', sort split /, /, status($loft)->{held_members}), 'Member few-01, Member few-02, Member few-03', 'all three');
	$t->sql("SELECT smartspace.cobot_discard($run->{id})");
	is(join('|', map { $_ // '' } @{ status($loft) }{qw(state held held_members held_run)}), 'connected|0||', 'dropped');
};

subtest 'old knowledge is overdue, then stale, and costs nobody access' => sub {
	my $loft = CobotLoft->open($t, 'age', stale_after => "'24 hours'", sync_interval => "'30 minutes'");
	my $grants = 'SELECT xmin, * FROM smartspace.user_group_member ORDER BY 2, 3';
	my $before = $t->sql($grants);
	my $age = sub { $t->sql("UPDATE smartspace.cobot_sync_run SET finished_at = finished_at - interval '$_[0]' WHERE integration_id = @{[ $loft->id ]}") };
	my $problem = sub { return $t->sql("SELECT string_agg(severity || ' ' || problem, ', ' ORDER BY problem) FROM smartspace.cobot_problem WHERE integration_id = @{[ $loft->id ]} AND problem IN ('overdue', 'stale')") };

	is(status($loft)->{freshness} . $problem->(), 'fresh', 'given: just synchronised');
	$age->('89 minutes');
	is(status($loft)->{freshness} . $problem->(), 'fresh', 'less than three intervals are nothing to speak of');
	$age->('2 minutes');
	is(status($loft)->{freshness} . ' ' . $problem->(), 'overdue advice overdue', 'after three of them it is overdue');
	like(status($loft)->{summary}, qr/; synchronised .*, which is overdue/, '... in words, too');
	is(status($loft)->{reason}, undef, '... and no reason to call it broken');
	$age->('22 hours 28 minutes');
	is(status($loft)->{freshness}, 'overdue', 'a minute before the day is over');
	$age->('2 minutes');
	my $status = status($loft);
	is("$status->{freshness} $status->{reason} " . $problem->(), 'stale stale problem stale', 'after a day it is stale');
	like($status->{summary}, qr/; synchronised .*, which is stale/, '... in words, too');
	is($t->sql($grants) . $loft->inside, $before . 5, 'everybody has the access they had');
	$loft->sync(settings => "SET smartspace_cobot.connect_to = '127.0.0.1:1';");
	is(status($loft)->{freshness}, 'stale', 'a run that fails makes it no fresher');
	$loft->sync;
	is(status($loft)->{freshness} . $problem->(), 'fresh', 'a good one does');
	$loft->set(stale_after => "'10 minutes'");
	$age->('11 minutes');
	is(status($loft)->{freshness}, 'stale', 'how long it takes is a setting of the integration');
};

done_testing();
