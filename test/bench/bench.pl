# bench.pl
#	Runs the rows of the benchmark, one file each (row_*.pl), on one server, and prints
#	one table. A row asserts that ours and the yardstick did the same; it does not
#	assert how long they took.
use strict;
use warnings;

use Bench;
use Cwd qw(abs_path);
use File::Basename qw(basename dirname);

# The rows to run: subs that measure and report on the bench they are given.
sub rows
{
	my (@names) = @_;
	my %file = map { basename($_) => $_ } glob dirname(abs_path(__FILE__)) . '/row_*.pl';

	@names = sort keys %file unless @names;
	return map
	{
		my $row = do($file{ basename($_) } // die "there is no row $_\n");

		die $@ || "could not read $_: $!\n" unless ref $row eq 'CODE';
		$row
	} @names;
}

eval
{
	my @rows = rows(@ARGV);
	my $bench = Bench->new(
		members => $ENV{MEMBERS} // 10_000,
		large => $ENV{LARGE} // 100_000,
		rounds => $ENV{ROUNDS} // 5);

	$_->($bench) foreach @rows;
	$bench->print_table;
	1;
} or do
{
	Bench::say_error($@);
	exit 1;
};
