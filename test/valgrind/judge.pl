# judge.pl DIRECTORY SOURCE [verbose]
#	Reads what valgrind wrote about each process, and fails if anything of it is ours: has
#	a function of this library in its stack.
use strict;
use warnings;

my ($directory, $source, $verbose) = @ARGV;
my (%ours, %others);
my @logs = glob "$directory/*.log";

foreach my $log (@logs)
{
	open my $file, '<', $log or die "$log: $!";
	my $text = join '', map { s/^==\d+== ?//r } grep { /^==\d+==/ } <$file>;

	# reports are apart by an empty line; without its numbers the same one shows once
	foreach my $report (grep { /^ +(?:at|by) 0x/m } split /\n\s*\n/, $text)
	{
		my $is_ours = $report =~ /\Q$source\E|smartspace_cobot\.so/;
		my $kind = $report =~ s/0x[0-9A-F]+/0x/gr =~ s/[\d,]+ (?:\([\d,]+ direct, [\d,]+ indirect\) )?bytes in [\d,]+ blocks (are .*) in loss record.*/blocks $1/r;

		($is_ours ? \%ours : \%others)->{$kind}++;
	}
}
die "no process ran under valgrind\n" unless @logs;
if ($verbose)
{
	print "$others{$_} times, not ours:\n$_\n\n" foreach sort keys %others;
}
print "$ours{$_} times:\n$_\n\n" foreach sort keys %ours;
printf "valgrind: %d processes, %d kinds of reports that are not ours, %d that are\n", scalar @logs, scalar keys %others, scalar keys %ours;
exit(%ours ? 1 : 0);
