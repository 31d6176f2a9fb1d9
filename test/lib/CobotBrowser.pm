package CobotBrowser;

=head1 NAME

CobotBrowser - a person's browser on its way to Cobot and back

=head1 SYNOPSIS

    use CobotBrowser;

    my %asked = query_of($url);                 # decoded parameters of an URL
    my %back = browse($t->cobot, $url);         # follows it to Cobot, which sends it back
    is($back{code}, ...);

Cobot's own host and certificate are checked as a browser does, by the test server's CA.

=cut

use strict;
use warnings;

use Exporter qw(import);
use PostgreSQL::Test::Utils;

our @EXPORT = qw(browse query_of);

=head2 query_of($url)

The parameters of an URL, decoded.

=cut

sub query_of
{
	my ($url) = @_;
	my ($query) = $url =~ /\?(.*)/s;

	return map { s/%(..)/chr hex $1/gier } map { /^([^=]*)=(.*)/s } split /&/, $query // '';
}

=head2 browse($cobot, $url)

What Cobot answers to an URL: C<status>, and where it redirects, C<address> without the
query, and the parameters of that.

=cut

sub browse
{
	my ($cobot, $url) = @_;
	my ($headers, $errors) = run_command([ 'curl', '-sS', '-o', '/dev/null', '-D', '-', '--connect-to', '::' . $cobot->connect_to,
		'--cacert', $cobot->ca_file, $url ]);
	my ($status) = $headers =~ m{^HTTP/\S+ (\d+)};
	my ($location) = $headers =~ /^Location: (\S*)\r?$/mi;

	return (status => $status // "none: $errors", address => ($location // '') =~ s/\?.*//sr, query_of($location // ''));
}

1;
