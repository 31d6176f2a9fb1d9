# Tokens and client secrets are nowhere but in the table that nobody else can read:
# not in the server's log at its most talkative, not in what clients are told, not in
# pg_stat_activity, not in pg_stat_statements, not in a dump, whatever goes wrong.
#
# What the server logs of a statement before the function in it is called (log_statement
# and the like, and STATEMENT beside its own DEBUG messages) is another matter and not
# tested here.
use strict;
use warnings;

use CobotTest;
use File::Temp;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

# --- given: tokens that can be recognised wherever they turn up ---
my %token = map { $_ => "${_}Token" . join '', map { sprintf '%02x', ord } split //, "of-$_-0123456789" } qw(admin member second);
my $short_token = 'shortToken0123456789';
my $odd_token = 'odd/token%41?a=1&b="x"\'y\\z#~0123456789';
my $unknown_token = 'unknownToken9f8e7d6c5b4a39281706f5e4d3c2b1a0';
my $client_secret = 'clientSecret1029384756abcdef';
my $refused_secret = 'refusedSecret5647382910fedcba';

my $world = File::Temp->new;
print $world encode_json({
	users => [ { id => 'admin', email => 'admin@example.com', admin_of => [ 'loft', 'quay' ] },
		{ id => 'member', email => 'member@example.com', admin_of => [] } ],
	tokens => [ { token => $token{admin}, user => 'admin' }, { token => $token{second}, user => 'admin' }, { token => $short_token, user => 'admin' },
		{ token => $odd_token, user => 'admin' }, { token => $token{member}, user => 'member' } ],
	spaces => [ map { {
		subdomain => $_, plans => [ { id => 'full', name => 'Full Time' } ],
		memberships => [ { id => 'ada', name => 'Ada', plan => { parent_plan => { id => 'full' } } } ]
	} } qw(loft quay) ] });
$world->flush;
chmod 0644, $world->filename;

my $t = CobotTest->new(state => $world->filename, conf => LOUD . <<'CONF');
trace_notify = on
shared_preload_libraries = 'pg_stat_statements'
pg_stat_statements.track = all
CONF
my $cobot = $t->cobot;
my $node = $t->node;

# All that clients were told, by name.
my %told;

# Runs a statement as a client that wants to hear everything. The tests' own question
# "did it fail as expected" is answered by the SQLSTATE.
sub attempt
{
	my ($name, $sql, $sqlstate) = @_;
	my $answer = $t->try("SET client_min_messages = debug5;\n$sql");

	$told{$name} = $answer->{out} . $answer->{err};
	is($answer->{sqlstate}, $sqlstate, "$name: " . ($sqlstate || 'succeeds'));
	return $answer;
}

$t->sql('CREATE EXTENSION pg_stat_statements');
attempt('create', "SELECT smartspace.cobot_create_integration('Loft', 'loft', 'client', '$client_secret', sync_individual_access => true)", '');
my $space = $t->sql('SELECT id FROM smartspace.cobot_integration');

# --- when secrets are given in statements that fail ---
attempt('create: bad subdomain', "SELECT smartspace.cobot_create_integration('Loft', 'evil.com/', 'client', '$refused_secret')", '22023');
attempt('create: no name', "SELECT smartspace.cobot_create_integration(NULL, 'quay', 'client', '$refused_secret')", '22004');
attempt('create: a second time', "SELECT smartspace.cobot_create_integration('Loft', 'loft', 'client', '$refused_secret')", '23505');
attempt('connect: no such integration', "SELECT smartspace.cobot_connect_token(99, '$token{admin}')", '42704');
attempt('connect: no integration', "SELECT smartspace.cobot_connect_token(NULL, '$token{admin}')", '22004');
attempt('connect: two words', "SELECT smartspace.cobot_connect_token($space, '$token{admin} $token{second}')", '22023');
attempt('connect: read only', "BEGIN READ ONLY; SELECT smartspace.cobot_connect_token($space, '$token{admin}')", '25006');
attempt('connect: unknown token', "SELECT smartspace.cobot_connect_token($space, '$unknown_token')", '28000');
attempt('connect: admin rights are missing', "SELECT smartspace.cobot_connect_token($space, '$token{member}')", '42501');
attempt('connect: fails afterwards', "SELECT state, 1 / (state = 'x')::int FROM smartspace.cobot_connect_token($space, '$token{admin}')", '22012');
attempt('connect: prepared', "PREPARE c (bigint, text) AS SELECT smartspace.cobot_connect_token(\$1, \$2);\nEXECUTE c ($space, '$unknown_token')", '28000');
attempt('connect: in a block', "DO \$\$BEGIN PERFORM smartspace.cobot_connect_token($space, '$unknown_token'); END\$\$", '28000');
attempt('create: in a block', "DO \$\$BEGIN PERFORM smartspace.cobot_create_integration('Loft', 'www', 'client', '$refused_secret'); END\$\$", '22023');
like(attempt('connect: caught in a block', "DO \$\$BEGIN PERFORM smartspace.cobot_connect_token($space, '$unknown_token');\n"
	  . "EXCEPTION WHEN OTHERS THEN RAISE EXCEPTION 'caught'; END\$\$", 'P0001')->{err}, qr/CONTEXT:  PL\/pgSQL function inline_code_block line 2 at RAISE/,
	'after a caught error CONTEXT is complete');
like($t->try("DO \$\$BEGIN PERFORM smartspace.cobot_create_integration('Temporary', 'temporary'); RAISE EXCEPTION 'later'; END\$\$")->{err},
	qr/CONTEXT:  PL\/pgSQL function inline_code_block line 1 at RAISE/, 'and after success');
attempt('connect: from a variable', "\\set token $unknown_token\nSELECT set_config('my.token', :'token', false) IS NULL;\n"
	  . "DO \$\$BEGIN PERFORM smartspace.cobot_connect_token($space, current_setting('my.token')); END\$\$", '28000');

# --- when Cobot repeats the token in what it answers ---
sub attempt_with_answer
{
	my ($name, $sqlstate, $method, %fault) = @_;

	$cobot->fault(match => { method => $method, path => '/api/access_tokens/*' }, times => 0, %fault);
	attempt("connect: $name", "SELECT smartspace.cobot_connect_token($space, '$token{admin}')", $sqlstate);
	$cobot->clear_faults;
	return;
}

my %echo = map { $_ => "$token{admin}" }
  ('X-Request-Id', 'X-Echo', 'WWW-Authenticate', 'Content-Type', 'Retry-After', 'Location', 'Set-Cookie', 'Server');
foreach my $status (500, 503, 429, 401, 403, 404, 422, 301)
{
	my $sqlstate = { 500 => '08006', 503 => '08006', 429 => '53400', 401 => '28000', 403 => '42501', 404 => '28000', 422 => '22023', 301 => '08P01' }->{$status};

	attempt_with_answer("HTTP $status, token in body and headers", $sqlstate, 'GET', status => $status,
		body => qq({"error": "bad token $token{admin}", "$token{admin}": ["$token{admin}"]}), headers => \%echo);
}
$cobot->fault(match => { path => '/api/access_tokens/*' }, times => 0, status => 500, headers => { 'X-Request-Id' => "<$short_token>" });
attempt('connect: short token, repeated', "SELECT smartspace.cobot_connect_token($space, '$short_token')", '08006');
$cobot->clear_faults;
attempt_with_answer('HTTP 200, no JSON', '08P01', 'GET', body => $token{admin}, headers => \%echo);
attempt_with_answer('HTTP 200, a list', '08P01', 'GET', body => qq(["$token{admin}"]), headers => \%echo);
attempt_with_answer('HTTP 200, other keys', '08P01', 'GET', body => qq({"$token{admin}": "$token{admin}", "scope": "$token{admin}"}), headers => \%echo);
attempt_with_answer('a space token that is none', '08P01', 'POST', body => qq({"token": "$token{admin} $token{admin}"}));
attempt_with_answer('a space token that is no text', '08P01', 'POST', body => qq({"token": {"$token{admin}": 1}}));

# --- when the connection fails, and libcurl explains why ---
my %broken = (
	drop => { drop => JSON::PP::true }, cut => { cut => 20 },
	'too large' => { huge => 100_000, headers => \%echo }, 'too many headers' => { headers => { 'X-Echo' => $token{admin} x 2000 } });
foreach my $name (sort keys %broken)
{
	$cobot->fault(match => { path => '/api/access_tokens/*' }, times => 0, %{ $broken{$name} });
	my $answer = $t->try("SET client_min_messages = debug5; SET smartspace_cobot.response_limit = 64;\nSELECT smartspace.cobot_connect_token($space, '$token{admin}')");
	$told{"connect: $name"} = $answer->{err};
	ok(!$answer->{ok}, "connect: $name fails");
	$cobot->clear_faults;
}
attempt('connect: refused', "SET smartspace_cobot.connect_to = '127.0.0.1:1'; SELECT smartspace.cobot_connect_token($space, '$token{admin}')", '08001');
my $stranger = $cobot->ca_file =~ s/ca\.pem$/otherca.pem/r;
attempt('connect: not trusted', "SET smartspace_cobot.ca_file = '$stranger'; SELECT smartspace.cobot_connect_token($space, '$token{admin}')", '08001');

# --- when it takes long: what others see meanwhile, how it ends ---
sub others_see
{
	my $seen = $t->sql("SELECT string_agg(query, E'\\n') FROM pg_stat_activity WHERE pid <> pg_backend_pid()");

	$told{'pg_stat_activity ' . keys %told} = $seen;
	return $seen;
}

foreach my $end ('canceled', 'terminated', 'timeout')
{
	$cobot->clear_log;
	$cobot->fault(match => { path => '/api/access_tokens/*' }, times => 0, stall => 'headers');
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	$session->query('SET client_min_messages = debug5; SET statement_timeout = ' . ($end eq 'timeout' ? 1000 : 0));
	$session->query_until(qr/started/, "\\echo started\nSELECT smartspace.cobot_connect_token($space, '$token{admin}');\n");
	$t->wait_until(sub { grep { $_->{path} =~ /access_tokens/ } $cobot->log }, 'Cobot was asked');
	unlike(others_see(), qr/cobot_connect_token/, "while connecting, others do not see the statement ($end)");
	$t->sql("SELECT pg_cancel_backend($pid)") if $end eq 'canceled';
	$t->sql("SELECT pg_terminate_backend($pid)") if $end eq 'terminated';
	$t->wait_until(sub { $t->sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid AND state = 'active'") eq '0' }, 'it has ended');
	others_see();
	eval { $session->query('SELECT 1') } if $end ne 'terminated';
	$told{"session $end"} = $session->{stdout} . $session->{stderr};
	eval { $session->quit };
	$cobot->clear_faults;
}

# --- when it works ---
attempt('connect with an odd token', "SELECT * FROM smartspace.cobot_connect_token($space, \$\$$odd_token\$\$)", '');
attempt('connect', "SELECT * FROM smartspace.cobot_connect_token($space, '$token{admin}')", '');
my $space_token = $t->sql("SELECT token FROM smartspace.cobot_secret WHERE integration_id = $space");
isnt($space_token, $token{admin}, 'a token of the space is kept, not that of the admin');
is($t->sql("SELECT count(*) FROM smartspace.cobot_secret s WHERE s::text ~ '" . join('|', @token{qw(admin member second)}) . "'"), '0', 'that one is stored nowhere');
attempt('sync', "SELECT * FROM smartspace.cobot_sync($space)", '');
attempt('custom field', "SELECT smartspace.cobot_ensure_custom_field($space)", '');

# --- when a synchronisation fails with the space token in what Cobot answers ---
%echo = map { $_ => $space_token } keys %echo;
foreach my $path ('/api/memberships', '/api/plans', '/api/custom_fields', '/api/space/custom_fields')
{
	$cobot->fault(match => { path => $path }, times => 0, status => $_, body => qq({"error": "$space_token"}), headers => \%echo),
	  attempt("sync: HTTP $_ from $path", "SELECT * FROM smartspace.cobot_sync($space)", ''), $cobot->clear_faults
	  foreach (500, 401, 429);
	$cobot->fault(match => { path => $path }, times => 0, body => qq([{"$space_token": }]), headers => \%echo);
	attempt("sync: bad JSON from $path", "SELECT * FROM smartspace.cobot_sync($space)", '');
	$cobot->clear_faults;
}
$cobot->fault(match => { path => '/api/space/custom_fields', method => 'PUT' }, times => 0, status => 500, body => $space_token, headers => \%echo);
$cobot->set_fields('loft', { label => 'Other' });
attempt('custom field: HTTP 500', "SELECT smartspace.cobot_ensure_custom_field($space)", '08006');
$cobot->clear_faults;

# --- and while one waits ---
$cobot->clear_log;
$cobot->fault(match => { path => '/api/memberships' }, times => 0, stall => 'headers');
my $session = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $session->query_safe('SELECT pg_backend_pid()');
$session->query_until(qr/started/, "\\echo started\nSELECT smartspace.cobot_sync($space);\n");
$t->wait_until(sub { grep { $_->{path} eq '/api/memberships' } $cobot->log }, 'Cobot was asked');
like(others_see(), qr/cobot_sync/, 'others see that somebody synchronises');
$t->sql("SELECT pg_terminate_backend($pid)");
$t->wait_until(sub { $t->sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid") eq '0' }, 'it has ended');
$told{'session sync'} = $session->{stdout} . $session->{stderr};
eval { $session->quit };
$cobot->clear_faults;

# --- then: no secret in all of that ---
my %secret = (
	'token of the admin' => $token{admin}, 'token of a member' => $token{member}, 'second token' => $token{second}, 'short token' => $short_token,
	'odd token' => $odd_token, 'odd token, encoded' => 'odd%2Ftoken%2541', 'unknown token' => $unknown_token,
	'space token' => $space_token, 'client secret' => $client_secret, 'refused client secret' => $refused_secret);

sub secrets_in
{
	my ($text) = @_;

	return join ', ', grep { index($text, $secret{$_}) >= 0 } sort keys %secret;
}

sub found_in
{
	my ($texts) = @_;

	return join "\n", map { my $found = secrets_in($texts->{$_} // ''); $found ? "$_: $found" : () } sort keys %$texts;
}

is(secrets_in($token{admin}), 'token of the admin', '(this test can find a secret)');
cmp_ok(scalar keys %told, '>', 60, '(it looks at many answers)');
is(found_in(\%told), '', 'clients are told no secret, and nor is pg_stat_activity');

my $log = slurp_file($node->logfile);
like($log, qr/DEBUG: .*STATEMENT: .*hidden: the statement may hold a secret/s, '(the log is talkative, and shows statements)');
is(join("\n", grep { secrets_in($_) } split /\n/, $log), '', 'the log has no secret');
unlike($log, qr/Bearer|access_tokens/, 'neither the header nor the URL that would show one');

is($t->sql('SELECT pg_notification_queue_usage()'), '0', 'nothing was notified (a channel that there is one day belongs into this test)');
unlike($log, qr/Async_Notify/, 'neither was anything queued');

my $statements = $t->sql('SELECT query FROM pg_stat_statements');
like($statements, qr/cobot_connect_token\(\$\d, \$\d\)/, 'pg_stat_statements has the statement with placeholders');
like($statements, qr/INSERT INTO smartspace.cobot_secret/, '(and nested ones)');
is(secrets_in($statements), '', 'but no secret');

# --- dumps ---
foreach my $options ([], ['--data-only'], [ '--data-only', '--inserts' ], ['--schema-only'], [ '-t', 'smartspace.cobot_secret' ],
	[ '-n', 'smartspace' ], [ '-e', 'smartspace_cobot' ], ['--format=custom'])
{
	my $file = File::Temp->new;
	my $name = "pg_dump @$options";

	$node->run_log([ 'pg_dump', '-Z0', '-f', $file->filename, '-d', $node->connstr('postgres'), grep { $_ ne '' } @$options ]);
	my $dump = slurp_file($file->filename);
	cmp_ok(length $dump, '>', 0, "$name writes something");
	is(secrets_in($dump), '', "$name: no secret");
}
my $all = File::Temp->new;
$node->command_ok([ 'pg_dumpall', '-f', $all->filename, '-d', $node->connstr('postgres') ], 'pg_dumpall');
my $dump = slurp_file($all->filename);
like($dump, qr/Ada/, 'has the members');
is(secrets_in($dump), '', 'and no secret');

# --- a role that may read everything else ---
$t->sql("CREATE ROLE reader LOGIN; SELECT smartspace.cobot_grant_role('reader', 'look'); ANALYZE smartspace.cobot_secret");
my @relations = map { $_->{name} } $t->rows("SELECT oid::regclass::text AS name FROM pg_class"
	  . " WHERE relnamespace = 'smartspace'::regnamespace AND relkind IN ('r', 'v') AND relname <> 'cobot_secret' ORDER BY 1");
$t->sql("GRANT SELECT ON $_ TO reader") foreach @relations;
$t->sql("GRANT EXECUTE ON FUNCTION smartspace.cobot_in_words(tstzrange, text), smartspace.cobot_cannot_ask(text, boolean, boolean), smartspace.cobot_access_range(timestamptz, date, date, text) TO reader");
my %read;
foreach my $relation (@relations)
{
	my $answer = $t->try("SET ROLE reader; SELECT * FROM $relation");

	ok($answer->{ok}, "the role reads $relation");
	$read{$relation} = $answer->{out};
}
like($read{'smartspace.cobot_status'}, qr/degraded|connected/, '(and sees that the integration has a token)');
is(found_in(\%read), '', 'but no secret in any of them');
foreach my $statement ('TABLE smartspace.cobot_secret', 'SELECT integration_id FROM smartspace.cobot_secret', 'COPY smartspace.cobot_secret TO STDOUT',
	'UPDATE smartspace.cobot_secret SET token = NULL', 'CREATE TEMP VIEW v AS TABLE smartspace.cobot_secret; TABLE v',
	"SELECT smartspace.cobot_connect_token($space, 'x')", "SELECT smartspace.cobot_sync($space)")
{
	is($t->try("SET ROLE reader; $statement")->{sqlstate}, '42501', "refused: $statement");
}
is($t->sql("SET ROLE reader; SELECT count(*) FROM pg_stats WHERE tablename = 'cobot_secret'"), '0', 'statistics do not tell it either');

done_testing();
