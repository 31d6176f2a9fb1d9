# row_071_checkins_a_second.pl
#	How many check-ins a second the worker makes. First members of many spaces come in one
#	by one, a hundred a second, and it must keep up; then as many come in at the same moment,
#	and it makes them as fast as it can. Cobot allows a user 60 requests of a kind a minute,
#	and the worker stays at 54, so every space has a user of its own and few members.
package CheckinsASecond;

use strict;
use warnings;

use Time::HiRes qw(time sleep);

use ManySpaces;

my $spaces = 200;
my $each = 20;		# entries of each space, in each of the two parts
my $a_second = 100;

# Check-ins that Cobot got in each second, by its log: the first and the last do not count.
sub per_second
{
	my ($many, $from) = @_;
	my %count;

	$count{ int($_->{time} - $from) }++ foreach grep { $_->{method} eq 'POST' } $many->cobot->log;
	my ($first, @seconds) = sort { $a <=> $b } keys %count;

	pop @seconds;
	return map { $count{$_} } @seconds;
}

sub waiting
{
	my ($many) = @_;

	return ($many->session->run("SELECT count(*) FROM smartspace.cobot_checkin WHERE state IN ('queued', 'sending')"))[0];
}

# One by one, each at its time.
sub come_in_steadily
{
	my ($bench, $many, @entrants) = @_;
	my $start = time;
	my $cpu = $many->worker_cpu_s;
	my @waiting;

	$many->cobot->clear_log;
	foreach my $number (0 .. $#entrants)
	{
		my $early = $start + $number / $a_second - time;

		sleep $early if $early > 0;
		$many->enter($entrants[$number]);
		push @waiting, waiting($many) if $number % $a_second == $a_second - 1;
	}
	my $seconds = time - $start;
	my $used = $many->worker_cpu_s - $cpu;

	$many->wait_until_quiet;
	$many->assert_all_done;
	$bench->note(sprintf '%d entries at %d spaces, %.0f a second for %.0f s', scalar @entrants, $spaces, @entrants / $seconds, $seconds);
	$bench->at_least('check-ins at Cobot, each second', [ per_second($many, $start) ], '/s', 0.97 * $a_second);
	$bench->amount('waiting, once a second', \@waiting, 'check-ins', $a_second);
	$bench->amount('processor time of the worker', [ 1000 * $used / @entrants ], 'ms/check-in');
	return;
}

# All in one statement.
sub come_in_at_once
{
	my ($bench, $many, @entrants) = @_;

	$many->wait_until_quiet;
	$many->cobot->clear_log;
	$many->new_session->run('SELECT smartspace.cobot_wake_worker()');
	my $cpu = $many->worker_cpu_s;
	my $start = time;

	$many->enter(@entrants);
	$many->wait_until_quiet;
	my $seconds = time - $start;

	$many->assert_all_done;
	$bench->note(sprintf '%d entries at %d spaces in one statement', scalar @entrants, $spaces);
	$bench->at_least('check-ins a second, until all are made', [ @entrants / $seconds ], '/s', $a_second);
	$bench->amount('processor time of the worker', [ 1000 * ($many->worker_cpu_s - $cpu) / @entrants ], 'ms/check-in');
	return;
}

sub {
	my ($bench) = @_;

	$bench->heading('check-ins a second');
	my $many = ManySpaces->new(spaces => $spaces, members => 90, conf => "smartspace_cobot.worker_linger = 60\n");

	come_in_steadily($bench, $many, $many->entrants(1, $each));
	come_in_at_once($bench, $many, $many->entrants($each + 1, 2 * $each));
	$bench->note("Cobot's limits allow " . Bench::number($spaces * 54 / 60) . " a second to $spaces users");
	return;
};
