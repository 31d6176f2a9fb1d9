# pg_regress and the isolation tester, as "make installcheck" runs them.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('regress');
$node->init(extra => [ '--encoding=UTF8', '--locale=C.UTF-8' ]);
$node->start;

$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;
my $output = `make -s installcheck 2>&1`;
my $code = $?;
is($code, 0, 'make installcheck succeeds');
like($output, qr/All \d+ tests passed.*All \d+ tests passed/s, 'both suites ran');
if ($code != 0)
{
	diag $output;
	diag slurp_file($_) foreach grep { -e } qw(regression.diffs output_iso/regression.diffs);
}
$node->stop;
done_testing();
