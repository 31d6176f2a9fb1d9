# judge.pl DIRECTORY SOURCE [verbose]
#	Reads what valgrind wrote about each process, and fails if anything of it is ours: has
#	a function of this library in its stack, or one of libcurl or cJSON, which nobody else
#	uses in this server. libcurl looks for addresses on a thread that has none of ours.
#	test/t/122_valgrind.pl judges the judge.
use strict;
use warnings;

my ($directory, $source, $verbose) = @ARGV;
my (%ours, %others);
my $ended = 0;
my @logs = glob "$directory/*.log";

foreach my $log (@logs)
{
	open my $file, '<', $log or die "$log: $!";
	my $text = join '', map { s/^==\d+== ?//r } grep { /^==\d+==/ } <$file>;

	$ended++ if $text =~ /^ERROR SUMMARY: /m;
	# reports are apart by an empty line; without its numbers the same one shows once
	foreach my $report (grep { /^ +(?:at|by) 0x/m } split /\n\s*\n/, $text)
	{
		my $is_ours = $report =~ /\Q$source\E|smartspace_cobot\.so|libcurl\.so|libcjson\.so/;
		my $kind = $report =~ s/0x[0-9A-F]+/0x/gr =~ s/[\d,]+ (?:\([\d,]+ direct, [\d,]+ indirect\) )?bytes in [\d,]+ blocks (are .*) in loss record.*/blocks $1/r;

		($is_ours ? \%ours : \%others)->{$kind}++;
	}
}
# one that is killed says nothing of what it lost; if all are, or valgrind itself could not start, nothing was looked at
die "no process came to its end under valgrind\n" unless $ended;
if ($verbose)
{
	print "$others{$_} times, not ours:\n$_\n\n" foreach sort keys %others;
}
print "$ours{$_} times:\n$_\n\n" foreach sort keys %ours;
printf "valgrind: %d processes, %d of them to their end, %d kinds of reports that are not ours, %d that are\n", scalar @logs, $ended, scalar keys %others, scalar keys %ours;
exit(%ours ? 1 : 0);
