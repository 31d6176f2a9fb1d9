# Unit tests of the C parsers, built with the sanitizers (test/unit). Each program
# prints TAP of its own.
use strict;
use warnings;

use Test::More;

foreach my $program (glob 'test/unit/unit_*')
{
	next unless -x $program && -f $program;

	subtest $program => sub {
		open my $output, '-|', "$program 2>&1" or die "$program: $!";
		while (my $line = <$output>)
		{
			if ($line =~ /^(not )?ok \d+(?: - (.*))?/) { ok(!$1, $2); }
			elsif ($line !~ /^1\.\.\d+$/) { chomp $line; note $line; }
		}
		ok(close $output, 'ends with success: no finding of a sanitizer');
	};
}
done_testing();
