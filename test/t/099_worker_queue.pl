# To queue work costs a session the same the 40,000th time as the first, and no memory (bar
# 7); however often somebody asks, Cobot's rate limits are heeded.
use strict;
use warnings;

use CobotWorker;
use List::Util qw(sum);
use Test::More;

use constant COMMITS => 40_000;

my $t = CobotWorker->new(members => 2, linger => 1, conf => "log_statement = none\nsynchronous_commit = off\nsmartspace_cobot.list_requests_per_minute = 5\n");
my $space = $t->connect_space('demo-space');

$t->wait_for_run($space);
foreach my $call ("cobot_request_sync($space)", 'cobot_wake_worker()')
{
	my $memory = q{SELECT 'memory ' || used_bytes FROM pg_backend_memory_contexts WHERE name = 'TopMemoryContext';};
	my $commits = COMMITS;
	my $answer = $t->try(<<"SQL");
DO \$\$ BEGIN FOR i IN 1 .. 100 LOOP PERFORM smartspace.$call; COMMIT; END LOOP; END \$\$;
SELECT count(*) FROM pg_backend_memory_contexts;
$memory
DO \$\$
DECLARE
	start timestamptz := clock_timestamp();
BEGIN
	FOR i IN 1 .. $commits LOOP
		PERFORM smartspace.$call;
		COMMIT;
		IF i % 1000 = 0 THEN
			RAISE NOTICE 'thousand %', extract(epoch FROM clock_timestamp() - start);
			start := clock_timestamp();
		END IF;
	END LOOP;
END \$\$;
$memory
SQL
	my @thousand = $answer->{err} =~ /thousand ([0-9.]+)/g;
	my @memory = $answer->{out} =~ /^memory (\d+)/mg;
	my ($first, $last) = map { sum(@$_) / @$_ } [ @thousand[ 0 .. 4 ] ], [ @thousand[ -5 .. -1 ] ];

	is(scalar(@thousand), COMMITS / 1000, "$call in " . COMMITS . ' transactions');
	cmp_ok($last, '<', 2 * $first, sprintf '... the last thousand take %.3f s, the first %.3f s', $last, $first);
	cmp_ok($memory[1] - $memory[0], '<', 4096, "... and no memory is left ($memory[0], $memory[1] bytes)");
}
cmp_ok($t->sql('SELECT count(*) FROM smartspace.cobot_sync_run'), '<=', 6, 'the rate limits of Cobot are heeded all the same');

done_testing;
