package CobotBrowser;

=head1 NAME

CobotBrowser - somebody's browser, sent to Cobot's authorize page

=head1 SYNOPSIS

    use CobotBrowser qw(visit);

    $cobot->settings(login_user => 'ada');            # who is logged in at Cobot
    my $back = visit($cobot, $url);
    is($back->{address}, 'smartspace://login');       # where Cobot sends the browser
    my ($state, $code) = @$back{qw(state code)};

=cut

use strict;
use warnings;

use Exporter qw(import);

our @EXPORT_OK = qw(visit);

=head2 visit($cobot, $url)

Opens an URL of Cobot's and follows nothing. Returns a hash: C<status>; of a redirect
C<address>, which is its target up to the question mark, and the parameters behind that,
decoded.

=cut

sub visit
{
	my ($cobot, $url) = @_;
	my @command = ('curl', '-sS', '-m', 10, '-o', '/dev/null', '-D', '-',
		'--connect-to', '::' . $cobot->connect_to, '--cacert', $cobot->ca_file, $url);

	open my $curl, '-|', @command or die "curl: $!";
	my $headers = do { local $/; <$curl> };
	close $curl or die "curl failed for $url";
	my ($status) = $headers =~ m{^HTTP/\S+ (\d+)};
	my ($target) = $headers =~ /^Location: (\S+)\r?$/mi;
	my ($address, $parameters) = split /\?/, $target // '', 2;
	my %back = map { s/%(..)/chr hex $1/ger } map { my ($name, $value) = split /=/, $_, 2; ($name, $value // '') } split /&/, $parameters // '';

	return { %back, status => $status, address => $address };
}

1;
