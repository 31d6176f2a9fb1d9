# What the worker costs and how fast it is, with plenty of room for slow machines: memory
# over many synchronisations (bar 14), requests a second with what they bring stored, and transactions that
# nobody else has to wait for (bar 3). Figures are printed.
use strict;
use warnings;

use CobotWorker;
use List::Util qw(min);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use constant {
	SPACES => $ENV{TEST_SPACES} // 250,
	ROUNDS => 10,
	MEMBERS => 10_000,
};

# Seconds of processor time that a process has used.
sub processor_s
{
	my ($pid) = @_;
	my @field = split ' ', slurp_file("/proc/$pid/stat") =~ s/^.*\) //sr;

	return ($field[11] + $field[12]) / 100;
}

# kB of memory of its own that a process has.
sub memory_of
{
	my ($pid) = @_;
	my ($kb) = slurp_file("/proc/$pid/status") =~ /^RssAnon:\s+(\d+) kB$/m;

	return $kb;
}

subtest 'bars 13 and 14: many small synchronisations in one worker' => sub {
	my $t = CobotWorker->new(spaces => SPACES, members => 2, linger => 60, conf => "log_statement = none\nsmartspace_cobot.list_requests_per_minute = 6000\n");
	my $spaces = SPACES;

	# as if each had been connected by somebody else
	$t->sql(<<"SQL");
BEGIN;
SELECT count(c.state) FROM generate_series(1, $spaces) i,
	LATERAL (SELECT smartspace.cobot_create_integration('space-' || to_char(i, 'FM0000'), 'space-' || to_char(i, 'FM0000')) AS id) n,
	LATERAL smartspace.cobot_connect_token(n.id, 'admin-token') c;
UPDATE smartspace.cobot_integration SET connected_by = 'user ' || id;
COMMIT;
SQL
	my (@memory, @seconds);
	my $count = sub { return $t->sql('SELECT count(*) FROM smartspace.cobot_sync_run'); };
	foreach my $round (1 .. ROUNDS)
	{
		my $start = time;
		$t->sql('SELECT smartspace.cobot_request_sync()') if $round > 1;
		my $deadline = time + 120;
		until ($count->() >= $round * SPACES)
		{
			die 'waited in vain: a round' if time > $deadline;
			Time::HiRes::sleep(0.1);
		}
		push @seconds, time - $start;
		push @memory, memory_of($t->worker->{pid});
	}
	my $requests = $t->sql('SELECT sum(requests) FROM smartspace.cobot_sync_run') / ROUNDS;
	my $rate = $requests / min(@seconds[ 2 .. $#seconds ]);
	is($t->sql("SELECT count(*) FROM smartspace.cobot_sync_run WHERE result NOT LIKE 'ok%'"), 0, ROUNDS * SPACES . ' synchronisations, all well');
	# what a moment needs comes and goes; what is lost stays
	my $grown = min(@memory[ -3 .. -1 ]) - min(@memory[ 1 .. 3 ]);
	cmp_ok($grown, '<', 2048, "bar 14: the worker's memory stays the same (@memory kB)");
	note sprintf 'seconds for each round of %d: %s; processor time of the worker for each synchronisation: %.1f ms', SPACES,
	  join(' ', map { sprintf '%.1f', $_ } @seconds), 1000 * processor_s($t->worker->{pid}) / (ROUNDS * SPACES);
	cmp_ok($rate, '>', 80, sprintf '%.0f requests a second in the best round, with what they bring stored', $rate);
};

subtest 'bar 3: no transaction is long, with 10,000 members' => sub {
	my $t = CobotWorker->new(members => MEMBERS, linger => 30, conf => "log_statement = none\n");
	my $space = $t->connect_space('demo-space');
	my $door = $t->group('Door');
	my $sample = sub {
		my ($what, $do) = @_;
		my $sampler = $t->node->background_psql('postgres');

		$sampler->query_until(qr/go/, <<'SQL');
\echo go
CREATE TEMP TABLE IF NOT EXISTS seen (pid int, started timestamptz, now timestamptz);
DO $$
DECLARE
	until timestamptz := clock_timestamp() + interval '30 s';
BEGIN
	LOOP
		PERFORM pg_stat_clear_snapshot();
		INSERT INTO seen SELECT pid, xact_start, clock_timestamp() FROM pg_stat_activity
		WHERE backend_type = 'smartspace_cobot worker' AND xact_start IS NOT NULL;
		PERFORM pg_sleep(0.005);
		EXIT WHEN clock_timestamp() > until OR EXISTS (SELECT FROM pg_class WHERE relname = 'enough');
	END LOOP;
END $$;
SQL
		$do->();
		$t->sql('CREATE TABLE enough ()');
		my $longest = $sampler->query('SELECT round(max(extract(epoch FROM now - started)), 3) FROM seen');
		$sampler->quit;
		$t->sql('DROP TABLE enough');
		note "$what: longest transaction $longest s";
		return $longest;
	};

	$sample->('first synchronisation', sub { $t->wait_for_run($space) });
	$t->assign($_->{cobot_id}, $door) foreach $t->rows('SELECT cobot_id FROM smartspace.cobot_plan');
	my $longest = $sample->('the same once more', sub { $t->request($space) });
	cmp_ok($longest, '<', 1, "a run that finds nothing changed has no transaction longer than a second ($longest s)");
	$t->cobot->patch_member('demo-space', $_, name => "Name $_")
	  foreach split /\n/, $t->sql('SELECT cobot_id FROM smartspace.cobot_membership WHERE departed_at IS NULL ORDER BY cobot_id LIMIT 200');
	$longest = $sample->('200 changed', sub { $t->request($space) });
	cmp_ok($longest, '<', 1, "nor has one with 200 changes ($longest s)");
	note $t->sql("SELECT string_agg(format('%s: fetch %s ms, apply %s ms', message, round(fetch_ms), round(apply_ms)), E'\\n' ORDER BY id) FROM smartspace.cobot_sync_run");
};

done_testing;
