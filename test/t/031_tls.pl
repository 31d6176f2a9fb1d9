# A token goes to Cobot and to nobody else: whoever cannot prove to be Cobot is told
# nothing, and nothing changes in SmartSpace.
use strict;
use warnings;

use CobotTest;
use IO::Select;
use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(time);

my $t = CobotTest->new(members => 10);
my $space = $t->connect_space('demo-space');
my $door = $t->group('Front door');
$t->sync($space);
$t->assign($_->{cobot_id}, $door) foreach $t->rows('SELECT cobot_id FROM smartspace.cobot_plan');

my $token = $t->sql("SELECT token FROM smartspace.cobot_secret WHERE integration_id = $space");
my $contents = $t->contents;

# A server with another certificate is a new one: it has to be told the space token.
sub restart_cobot
{
	my (%options) = @_;

	$t->restart_cobot(members => 10, %options);
	$t->cobot->token(token => $token, kind => 'space', space => 'demo-space');
	$t->cobot->clear_log;
	return;
}

sub check_distrust
{
	my ($name, $detail, %options) = @_;

	subtest $name => sub {
		my $run = $t->sync($space, settings => $options{settings});

		is("$run->{result} ($run->{reason})", 'failed (unreachable)', 'the run fails');
		like($run->{message}, $options{message} // qr/^could not read the members of "demo-space": no trusted TLS connection could be made$/, 'and says so');
		like($run->{warning}, qr/^DETAIL:  No answer after \d attempts?\. libcurl says: .*$detail/m, 'DETAIL tells what is wrong');
		like($run->{warning}, qr/^HINT:  Check .*certificate|^HINT:  Check this server's memory, open files and smartspace_cobot\.ca_file/m, 'HINT tells where to look');
		is($t->sql("SELECT state, state_reason FROM smartspace.cobot_integration WHERE id = $space"), 'degraded|unreachable', 'the integration is degraded');
		is($t->contents, $contents, 'nothing changed in SmartSpace');
		is(scalar($t->cobot->log), 0, 'not one request was sent');
	};
	return;
}

sub check_recovery
{
	like($t->sync($space)->{result}, qr/^ok/, 'the next synchronisation is fine');
	is($t->sql("SELECT state FROM smartspace.cobot_integration WHERE id = $space"), 'connected', 'the integration is connected again');
	is($t->contents, $contents, 'and nothing changed in SmartSpace');
	return;
}

# --- certificates that prove nothing ---
my %wrong = (
	otherca => qr/certificate problem: unable to get local issuer certificate/,
	expired => qr/certificate problem: certificate has expired/,
	wronghost => qr/no alternative certificate subject name matches target host name '[a-z-]+\.cobot\.me'/);

# with ca_file set, who is trusted by the system counts for nothing: that one is not even looked up
$wrong{namesake} = $wrong{otherca} if -e $t->cobot->ca_file =~ s/\bca\.pem$/namesake.pem/r;

foreach my $cert (sort keys %wrong)
{
	restart_cobot(cert => $cert);
	check_distrust("certificate: $cert", $wrong{$cert});
	check_distrust("certificate: $cert, with retries", $wrong{$cert}, settings => 'SET smartspace_cobot.max_retries = 2;');

	my $connect = $t->try("SELECT * FROM smartspace.cobot_connect_token($space, 'admin-token')");
	is($connect->{sqlstate}, '08001', "certificate: $cert: connecting is refused");
	like($connect->{err}, $wrong{$cert}, '... for the same reason');
	is(scalar($t->cobot->log), 0, '... and the admin\'s token was not sent');
	is($t->sql("SELECT token FROM smartspace.cobot_secret WHERE integration_id = $space"), $token, '... and the token from before stays');
}

# --- a good certificate that this server has no reason to trust ---
restart_cobot();
check_distrust('the authorities of the system do not know the test authority', qr/certificate/, settings => "SET smartspace_cobot.ca_file = '';");
check_distrust('the file with the authorities is not there', qr/certificate/, settings => "SET smartspace_cobot.ca_file = '/nowhere/ca.pem';",
	message => qr/^could not read the members of "demo-space": the request failed on this server$/);
check_recovery();

# --- trust is the superuser's business ---
$t->sql('CREATE ROLE backend LOGIN; GRANT USAGE ON SCHEMA smartspace TO backend;'
	  . ' GRANT EXECUTE ON FUNCTION smartspace.cobot_sync(bigint, boolean) TO backend');
foreach my $setting (qw(ca_file connect_to))
{
	# before the library is loaded the setting is a placeholder, which any role may set
	foreach my $when ('before', 'after')
	{
		my $first = $when eq 'after' ? "SELECT result FROM smartspace.cobot_sync($space);" : '';
		my $answer = $t->try("SET ROLE backend; $first SET smartspace_cobot.$setting = '127.0.0.1:1'; SELECT result FROM smartspace.cobot_sync($space);"
			  . " SELECT current_setting('smartspace_cobot.$setting')");

		unlike($answer->{out}, qr/^127\.0\.0\.1:1$/m, "an ordinary role cannot change $setting ($when the library is loaded)");
		like($answer->{err}, qr/42501: permission denied to set parameter "smartspace_cobot\.$setting"/, '... and is told so');
	}
}

# --- somebody who accepts connections and says nothing ---
my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 20) or die "could not listen: $!";
my $to_silent = sprintf "SET smartspace_cobot.connect_to = '127.0.0.1:%d';", $silent->sockport;

# What arrived on all connections since the last call. The other side has hung up by now.
sub received
{
	my $bytes = '';

	while (IO::Select->new($silent)->can_read(0))
	{
		my $connection = $silent->accept;

		while (sysread $connection, $bytes, 65536, length $bytes) { }
	}
	return $bytes;
}

my $start = time;
my $run = $t->sync($space, settings => "$to_silent SET smartspace_cobot.connect_timeout = '400ms';");
my $seconds = time - $start;
is("$run->{result} ($run->{reason})", 'failed (unreachable)', 'a handshake that goes nowhere fails the run');
like($run->{message}, qr/^could not read the members of "demo-space": Cobot did not answer in time$/, '... and says so');
cmp_ok($seconds, '>=', 0.4, '... after connect_timeout');
cmp_ok($seconds, '<', 2, '... and soon after it');
is($t->contents, $contents, '... and nothing changed');

my $bytes = received();
ok($bytes =~ /^\x16\x03/, 'all that was sent is the beginning of a TLS handshake');
ok($bytes !~ m{\Q$token\E|GET |HTTP/1\.1\r|[Aa]uthorization}, '... nothing in clear');
check_recovery();

# --- somebody who speaks, but not TLS ---
my $child = fork // die "fork: $!";
if ($child == 0)
{
	alarm 60;
	while (my $connection = $silent->accept)
	{
		syswrite $connection, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]";
	}
	require POSIX;
	POSIX::_exit(0);
}
$t->cobot->clear_log;
check_distrust('plain HTTP instead of TLS', qr/wrong version number|SSL|TLS/, settings => $to_silent);
kill 'KILL', $child;
waitpid $child, 0;
check_recovery();

# --- the connection to a server that has the right certificate again ---
restart_cobot();
check_recovery();
cmp_ok(scalar($t->cobot->log), '>', 0, 'the right server gets the requests');
is_deeply([ sort keys %{ { map { ($_->{token} // 'none') => 1 } $t->cobot->log } } ], [ $token ], '... with the space token');

done_testing();
