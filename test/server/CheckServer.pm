package CheckServer;

# What the check*.pl share: a server (not started yet), and questions to it with curl.
use strict;
use warnings;

use Exporter qw(import);
use File::Basename qw(dirname);
use File::Temp;
use JSON::PP;
use Test::More;

use lib dirname(__FILE__) . '/../lib';
use CobotTestServer;

our @EXPORT = qw($cobot $space $www $json ask named);

my $directory = File::Temp->newdir;
our $cobot = CobotTestServer->new(dir => "$directory", $ENV{COBOT_TEST_SERVER} ? (binary => $ENV{COBOT_TEST_SERVER}) : ());
our $space = 'demo-space.cobot.me';
our $www = 'www.cobot.me';
our $json = JSON::PP->new->utf8->allow_nonref;

binmode Test::More->builder->$_, ':encoding(UTF-8)' foreach qw(output failure_output);

# One request: a hash with exit (of curl), status, headers, body, data (decoded).
sub ask
{
	my ($method, $url, %with) = @_;
	my $token = exists $with{token} ? $with{token} : 'admin-token';
	my @command = (
		'curl', '-sS', '-X', $method, '-D', "$directory/headers", '-o', "$directory/body",
		'-w', '%{http_code}', '-m', $with{timeout} // 10,
		'--connect-to', '::' . $cobot->connect_to, '--cacert', $cobot->ca_file);

	unlink "$directory/headers", "$directory/body";
	push @command, '-H', "Authorization: Bearer $token" if defined $token;
	push @command, '-H', 'Content-Type: application/json', '-d', $json->encode($with{json}) if $with{json};
	push @command, '-d', $with{form} if $with{form};
	push @command, @{ $with{curl} // [] };
	open my $curl, '-|', 'sh', '-c', 'exec "$@" 2>&1', 'sh', @command, "https://$url" or die $!;
	my $output = do { local $/; <$curl> };
	close $curl;
	my %answer = (exit => $? >> 8, status => substr($output, -3), headers => slurp('headers'), body => slurp('body'));
	$answer{data} = eval { $json->decode($answer{body}) };
	return \%answer;
}

sub slurp
{
	open my $file, '<:raw', "$directory/$_[0]" or return '';
	local $/;
	return <$file> // '';
}

# Those of an answer's members that have this name.
sub named
{
	my ($answer, $name) = @_;
	return grep { ($_->{name} // '') eq $name } @{ $answer->{data} };
}

1;
