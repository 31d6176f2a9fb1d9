# row_080_many_integrations.pl
#	A thousand spaces that all ask to be synchronised at once, with a Cobot that takes
#	200 ms for each answer: the worker, which keeps dozens of them under way, against one
#	cobot_sync() after another, of which a part is measured. Nothing has changed. The
#	worker's memory meanwhile; and how long somebody who comes in waits for it.
package ManyIntegrations;

use strict;
use warnings;

use Time::HiRes qw(sleep);

use ManySpaces;

my $spaces = $ENV{SPACES} // 1000;
my $members = 90;
my $latency_ms = 200;
my $one_by_one = 50;
my $rounds = 3;		# Cobot allows six lists of members a minute to a user
my $entries = 40;

# Milliseconds for all of them; with somebody coming in meanwhile, if there is anybody.
sub all_by_worker
{
	my ($many, @entrants) = @_;
	my $session = $many->session;
	my ($last) = $session->run('SELECT max(id) FROM smartspace.cobot_sync_run');
	my ($start, $queued) = split /\|/, ($session->run('SELECT clock_timestamp(), smartspace.cobot_request_sync()'))[0];

	foreach my $entrant (@entrants)
	{
		sleep 0.05 + rand 0.1;
		$many->enter($entrant);
	}
	$many->wait_until_quiet;

	my ($ms, $good) = split /\|/, ($session->run("SELECT 1000 * extract(epoch FROM max(finished_at) - '$start'),"
		  . " count(*) FILTER (WHERE result IN ('ok', 'ok_with_problems')) FROM smartspace.cobot_sync_run WHERE id > $last"))[0];

	die "$queued were queued and $good synchronised, not $spaces\n" unless $queued == $spaces && $good == $spaces;
	return $ms;
}

# Milliseconds for all of them, by those that were measured.
sub one_after_another
{
	my ($many, @ids) = @_;
	my $ms = $many->session->time_of(join ";\n", map { "SELECT result FROM smartspace.cobot_sync($_)" } @ids);

	return $ms * $spaces / @ids;
}

sub {
	my ($bench) = @_;

	$bench->heading('many integrations');
	my $many = ManySpaces->new(spaces => $spaces, members => $members, conf => <<'CONF');
smartspace_cobot.worker_linger = 60
# as they are by default, for what is kept of each user's requests is of that length
smartspace_cobot.requests_per_minute = 54
smartspace_cobot.list_requests_per_minute = 5
CONF
	my @ids = $many->session->run("SELECT id FROM smartspace.cobot_integration ORDER BY md5(id::text) LIMIT $one_by_one");
	my (@all, @each, @memory, @cpu);

	$many->cobot->settings(latency_ms => $latency_ms);
	foreach my $round (1 .. $rounds)
	{
		# a worker that has done nothing else
		$many->session->run("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE backend_type = 'smartspace_cobot worker'");
		push @all, all_by_worker($many);
		push @memory, ($many->worker_kb('VmHWM') - $many->worker_kb('RssShmem')) / 1024;
		push @cpu, 1000 * $many->worker_cpu_s / $spaces;
		push @each, one_after_another($many, @ids);
	}
	my @entrants = ($many->entrants(1, 1))[ 0 .. $entries - 1 ];

	$many->cobot->clear_log;
	all_by_worker($many, @entrants);
	$many->assert_all_done;
	my ($to_list) = $many->latencies(@entrants);

	$bench->note("$spaces spaces of $members members, $latency_ms ms for each answer, nothing changed;"
		  . " one after another: $one_by_one of them measured, times @{[ $spaces / $one_by_one ]}");
	$bench->times_faster('all at once, by the worker', \@all, \@each, 20);
	$bench->amount('memory of the worker, VmHWM without shared buffers', \@memory, 'MB', 200);
	$bench->amount('processor time of the worker', \@cpu, 'ms/space');
	$bench->amount('meanwhile: entry to first request, median', $to_list, 'ms');
	$bench->amount('meanwhile: entry to first request, 99th percentile', [ Bench::percentile(99, @$to_list) ], 'ms', 100);
	return;
};
