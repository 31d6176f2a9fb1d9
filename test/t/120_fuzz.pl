# The fuzz targets (test/fuzz), each for some seconds from its seeds, and each against the
# same code with one line that is wrong.
use strict;
use warnings;

use File::Path qw(make_path);
use PostgreSQL::Test::Utils;
use Test::More;

use constant { SECONDS => 2, PLANTED_SECONDS => 20 };

my $corpus = PostgreSQL::Test::Utils::tempdir;

# Runs a target; returns its exit status and what it said.
sub fuzz
{
	my ($program, $name, $seconds) = @_;
	my $dir = "$corpus/$program";

	make_path($dir);
	my $output = qx{test/fuzz/$program -max_total_time=$seconds -print_final_stats=1 -artifact_prefix=$dir/ -dict=test/fuzz/$name.dict $dir test/fuzz/seeds/$name 2>&1};
	return ($?, $output);
}

my $log = qx{make -C test/fuzz -s -j2 2>&1};
is($?, 0, 'the targets are built') or die $log;
my @programs = glob 'test/fuzz/fuzz_*.c';
cmp_ok(@programs, '>=', 10, 'there are targets');
foreach my $name (map { m{fuzz_(\w+)\.c$} } @programs)
{
	my ($status, $output) = fuzz("fuzz_$name", $name, SECONDS);
	my ($count) = $output =~ /number_of_executed_units: (\d+)/;
	my ($coverage) = $output =~ /DONE\s+(cov: \d+ ft: \d+)/;

	is($status, 0, "$name: nothing found") or diag $output;
	cmp_ok($count // 0, '>', 1000, "$name: it did run");
	note "$name: $count inputs, " . ($coverage // 'coverage unknown');

	($status, $output) = fuzz("planted_$name", $name, PLANTED_SECONDS);
	isnt($status, 0, "$name: a planted fault is found");
	like($output, qr/does not hold|AddressSanitizer|runtime error/, "$name: by what it shall be found by") or diag $output;
}
done_testing();
