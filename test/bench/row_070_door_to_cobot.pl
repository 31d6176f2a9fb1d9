# row_070_door_to_cobot.pl
#	From the moment an entry is committed to the first request of its check-in at Cobot,
#	and to the check-in itself, which follows the answer to the first. By the server's
#	commit timestamps and Cobot's log, on one clock. Members of several spaces come in at
#	random, some tenths of a second apart, so that the worker is at rest but still there;
#	and a few when there is no worker.
package DoorToCobot;

use strict;
use warnings;

use Time::HiRes qw(sleep);

use ManySpaces;

my $spaces = 20;
my $each = 20;		# entries of each space with a worker at rest
my $each_cold = 2;

sub report
{
	my ($bench, $to_list, $to_check_in) = @_;

	$bench->amount('first request, median', $to_list, 'ms', 20);
	$bench->amount('first request, 99th percentile', [ Bench::percentile(99, @$to_list) ], 'ms', 100);
	$bench->amount('the check-in, median', $to_check_in, 'ms');
	$bench->amount('the check-in, 99th percentile', [ Bench::percentile(99, @$to_check_in) ], 'ms');
	return;
}

sub come_in
{
	my ($many, $before_each, @entrants) = @_;

	$many->cobot->clear_log;
	foreach my $entrant (@entrants)
	{
		$before_each->();
		$many->enter($entrant);
	}
	$many->wait_until_quiet;
	$many->assert_all_done;
	return $many->latencies(@entrants);
}

sub no_worker
{
	my ($many) = @_;

	return $many->wait_until(
		"NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'smartspace_cobot worker')", 'the worker to leave');
}

sub {
	my ($bench) = @_;

	$bench->heading('from an entry to Cobot');
	my $many = ManySpaces->new(spaces => $spaces, members => 40);
	my @warm = $many->entrants(1, $each);
	my @cold = $many->entrants($each + 1, $each + $each_cold);

	$bench->note(@warm . " entries at $spaces spaces, 50 to 150 ms apart; the worker lingers");
	report($bench, come_in($many, sub { sleep 0.05 + rand 0.1 }, @warm));

	$many->session->run("ALTER SYSTEM SET smartspace_cobot.worker_linger = 0");
	$many->session->run('SELECT pg_reload_conf()');
	$bench->note(@cold . ' entries that start a worker, which connects to the database and to Cobot');
	report($bench, come_in($many, sub { no_worker($many); sleep 0.05 }, @cold));
	return;
};
