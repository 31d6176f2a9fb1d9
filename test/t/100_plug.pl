# The plug: an admin of a space authorises an integration in the browser, once and within
# ten minutes; what comes back connects it as a pasted token does. Whatever goes wrong on the
# way leaves it as it was. A daily check notices what was lost at Cobot, and disconnecting
# ends everything that goes out. Nobody but the browser and Cobot learns a secret.
use strict;
use warnings;

use CobotBrowser;
use CobotTest;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $t = CobotTest->new(spaces => 2, members => 12, conf => LOUD . <<'CONF');
trace_notify = on
CONF
my $cobot = $t->cobot;
my ($first, $second) = ('space-0001', 'space-0002');
my $back = 'https://app.example.com/cobot/connected?tenant=7&next=a%20b';
my $default_scope = 'navigation read read_custom_fields read_memberships read_plans read_user write write_custom_fields';
my $app = $cobot->client(client_id => 'plug+app/1', client_secret => 'plugSecret%&=1029384756');
my $loft = $t->sql("SELECT smartspace.cobot_create_integration('Loft', '$first', sync_individual_access => true)");

# Every secret on its way, and everything that clients were told but for the URLs.
my (%secret, @told);
$secret{ $app->{client_secret} } = 1;

sub quoted { return "'" . ($_[0] =~ s/'/''/gr) . "'"; }

sub attempt
{
	my ($sql, %options) = @_;
	my $answer = $t->try("SET client_min_messages = debug5;\n$sql", %options);

	push @told, $answer->{err};
	push @told, $answer->{out} unless $options{shows};
	return $answer;
}

sub stored
{
	return $t->sql('SELECT i.xmin, i.* FROM smartspace.cobot_integration i ORDER BY i.id; SELECT s.xmin, s.* FROM smartspace.cobot_secret s ORDER BY 2');
}

sub token_of { return $t->sql("SELECT token FROM smartspace.cobot_secret WHERE integration_id = $_[0]"); }

# An URL of cobot_connect_url(), and its state.
sub begin
{
	my ($integration, $redirect_uri) = @_;
	my $answer = attempt("SELECT smartspace.cobot_connect_url($integration, " . quoted($redirect_uri // $back) . ')', shows => 1);
	my %asked = query_of($answer->{out});

	die $answer->{err} unless $answer->{ok};
	$secret{ $asked{state} } = 1;
	$secret{$_} = 1 foreach split /\n/, $t->sql('SELECT verifier FROM smartspace.cobot_oauth_flow WHERE verifier IS NOT NULL');
	return wantarray ? ($answer->{out}, $asked{state}) : $answer->{out};
}

# To Cobot and back: state and code.
sub authorized
{
	my ($integration) = @_;
	my %came = browse($cobot, scalar begin($integration));

	die "no code: $came{error}" unless defined $came{code};
	$secret{ $came{code} } = 1;
	return @came{qw(state code)};
}

sub come_back
{
	my ($state, $code, %options) = @_;

	return attempt(($options{settings} // '') . ' SELECT row_to_json(c) FROM smartspace.cobot_connect(' . quoted($state) . ', ' . quoted($code)
		  . ($options{redirect_uri} ? ', redirect_uri => ' . quoted($options{redirect_uri}) : '') . ') c');
}

# Coming back must fail: with this SQLSTATE, saying this, and leaving everything as it was.
sub check_refused
{
	my ($name, $state, $code, $sqlstate, $says, %options) = @_;

	subtest $name => sub {
		my $before = stored();
		my $answer = come_back($state, $code, %options);

		is($answer->{sqlstate}, $sqlstate, "refused with $sqlstate");
		like($answer->{err}, $says, 'and a reason');
		is(stored(), $before, 'nothing was stored');
	};
	return;
}

# --- the OAuth client ---
my $without = attempt("SELECT smartspace.cobot_connect_url($loft, '$back')");
is($without->{sqlstate}, '55000', 'without an OAuth client there is no URL');
like($without->{err}, qr/has no OAuth client\nDETAIL:  There is no client id\.\nHINT:  .*cobot_set_client\($loft, client_id, client_secret\)/, '... and it is said how to tell it');
foreach my $wrong ([ 'NULL', "'x'", '22004' ], [ "'x'", 'NULL', '22004' ], [ "''", "'x'", '22023' ], [ "'x'", "''", '22023' ], [ "'a b'", "'x'", '22023' ],
	[ "'x'", "E'a\\r\\nb'", '22023' ], [ "'x'", "repeat('x', 10000)", '22023' ], [ "'\xc3\xb6'", "'x'", '22023' ])
{
	is(attempt("SELECT smartspace.cobot_set_client($loft, $wrong->[0], $wrong->[1])")->{sqlstate}, $wrong->[2], "no client: $wrong->[0], $wrong->[1]");
}
is(attempt("SELECT smartspace.cobot_create_integration('Wrong', 'wrong', $_)")->{sqlstate}, '22023', "nor a new one: $_") foreach "E'a\\n', 'x'", "'x', E'a\\n'", "'x', ''", "'', 'x'";
is(attempt("SELECT smartspace.cobot_set_client_secret($loft, E'a\\n')")->{sqlstate}, '22023', 'nor a secret with the end of a line');
is(attempt("SELECT smartspace.cobot_set_client(4711, 'x', 'y')")->{sqlstate}, '42704', 'nor for an integration that does not exist');
ok(attempt("SELECT smartspace.cobot_set_client($loft, 'plug+app/1', " . quoted($app->{client_secret}) . ')')->{ok}, 'a client with odd characters is taken');

# --- where people may be sent back to ---
foreach my $wrong ('', 'ftp://app.example.com/', 'http://app.example.com/', 'smartspace://login', 'https://', 'https:///x', 'https://user@app.example.com/', 'https://app.example.com/#x',
	'https://app.example.com/a b', "https://app.example.com/\r\nX-Evil: 1", "https://app.example.com/\xc3\xb6", 'https://app.example.com/"', 'https://app.example.com/' . 'x' x 10000,
	'http://localhost.evil.example/', 'http://127.0.0.1@evil.example/', 'javascript:alert(1)', 'https://app.example.com\\@evil.example')
{
	is(attempt("SELECT smartspace.cobot_connect_url($loft, " . quoted($wrong) . ')')->{sqlstate}, '22023', 'not to ' . (substr($wrong, 0, 50) =~ s/[^ -~]/?/gr));
}
is(attempt("SELECT smartspace.cobot_connect_url($loft, NULL)")->{sqlstate}, '22004', 'not to nowhere');
is(attempt("SELECT smartspace.cobot_connect_url(4711, '$back')")->{sqlstate}, '42704', 'not for an integration that does not exist');
is(attempt("BEGIN READ ONLY; SELECT smartspace.cobot_connect_url($loft, '$back')")->{sqlstate}, '25006', 'not where nothing can be stored');
like(begin($loft, $_), qr{^https://$first\.cobot\.me/oauth/authorize\?}, "but to $_") foreach 'http://localhost:8080/x', 'http://127.0.0.1/', 'http://[::1]:3000/cb', 'https://app.example.com';

# --- the URL ---
my ($url, $state) = begin($loft);
like($url, qr{^https://$first\.cobot\.me/oauth/authorize\?[A-Za-z0-9._~%&=-]+$}, 'the URL leads to the space\'s own host, everything encoded');
my %asked = query_of($url);
is_deeply({ map { $_ => $asked{$_} } grep { !/^(state|code_challenge)$/ } keys %asked },
	{ response_type => 'code', client_id => 'plug+app/1', redirect_uri => $back, scope => $default_scope, code_challenge_method => 'S256' }, '... with what Cobot wants to know');
like($asked{$_}, qr/^[A-Za-z0-9_-]{43}$/, "... and $_ of 32 bytes") foreach qw(state code_challenge);
isnt((query_of(scalar begin($loft)))[1], $state, 'each has a state of its own');
is($t->sql("SELECT count(*) FROM smartspace.cobot_oauth_flow f WHERE f::text LIKE '%$state%'"), 0, 'the state is stored nowhere');
is($t->sql("SELECT count(*) FROM smartspace.cobot_oauth_flow WHERE state_digest = sha256('$state')"), 1, '... but its digest');
is($t->sql("SELECT expires_at - created_at FROM smartspace.cobot_oauth_flow WHERE state_digest = sha256('$state')") =~ s/\..*//r, '00:10:00', '... for ten minutes');

# --- there and back ---
my %came = browse($cobot, $url);
is("$came{status} $came{state}", "302 $state", 'Cobot sends the browser back with the state');
$secret{ $came{code} } = 1;
$cobot->clear_log;
my $answer = come_back($state, $came{code});
ok($answer->{ok}, 'and the integration is connected') or diag $answer->{err};
my $space = $cobot->space($first)->{space};
is_deeply(decode_json($answer->{out}), { integration => $loft + 0, state => 'connected', space_name => $space->{name}, time_zone => $space->{time_zone_name},
	granted_scope => [ split / /, $default_scope ], missing_scope => [], custom_field => 'present', message => undef }, '... with the row of cobot_connect_token()');
my ($exchange) = grep { $_->{path} eq '/oauth/access_token' } $cobot->log;
is("$exchange->{method} $exchange->{host}", 'POST www.cobot.me', 'the code was exchanged at www');
is_deeply({ query_of("?$exchange->{body}"), code_verifier => 0 },
	{ grant_type => 'authorization_code', client_id => 'plug+app/1', client_secret => $app->{client_secret}, code => $came{code}, code_verifier => 0 }, '... by a form with these, and no redirect_uri');
my ($first_token) = map { $_->{path} =~ m{^/api/access_tokens/(\w+)/space$} } $cobot->log;
$secret{$_} = 1 foreach $first_token, token_of($loft);
isnt(token_of($loft), $first_token, 'a space token is what is kept');
is((grep { $_->{method} eq 'DELETE' && $_->{path} eq "/api/access_tokens/$first_token" && $_->{status} == 204 } $cobot->log), 1, '... and the admin\'s is revoked');
is((grep { $_->{host} !~ /^(www|$first)\.cobot\.me$/ } $cobot->log), 0, 'nobody else was asked');
is($t->sql('SELECT smartspace.cobot_run_due()'), '1 synchronised, 0 of them not well', 'a first synchronisation was queued');
is($t->sql("SELECT count(*) FROM smartspace.cobot_sync_task WHERE integration_id = $loft AND check_due_at BETWEEN now() + interval '11 hours' AND now() + interval '37 hours'"), 1, '... and the first check of the connection is due in about a day');
is($t->sql("SELECT count(*) FROM smartspace.cobot_oauth_flow WHERE state_digest = sha256('$state') AND verifier IS NULL AND used_at IS NOT NULL"), 1, 'the verifier is forgotten');

# --- states that are no good ---
my ($good_state, $good_code) = authorized($loft);
check_refused('replayed', $state, $came{code}, '22023', qr/belongs to no authorisation that is under way\nDETAIL:  It was used before\.\nHINT:  Begin again with a new URL of smartspace\.cobot_connect_url/);
check_refused('brought to another address', $good_state, $good_code, '22023', qr/DETAIL:  It was made for another redirect URI\./, redirect_uri => 'https://evil.example/');
check_refused('replayed with another code', $state, $good_code, '22023', qr/It was used before/);
check_refused('unknown', 'A' x 43, $good_code, '22023', qr/DETAIL:  It is unknown/);
check_refused('one character of it is wrong', $good_state =~ s/(.)$/$1 eq 'A' ? 'B' : 'A'/er, $good_code, '22023', qr/DETAIL:  It is unknown/);
check_refused('empty', '', $good_code, '22004', qr/there is no state/);
check_refused('endless', 'x' x 10000, $good_code, '22023', qr/DETAIL:  It is unknown/);
check_refused('with control characters', "$good_state\r\nX-Evil: 1", $good_code, '22023', qr/DETAIL:  It is unknown/);
check_refused('quotes and percent signs', q{'; DROP TABLE x; -- %s%n%%}, $good_code, '22023', qr/DETAIL:  It is unknown/);
is(attempt("SELECT smartspace.cobot_connect(NULL, 'x')")->{sqlstate}, '22004', 'no state');
is(attempt("SELECT smartspace.cobot_connect('x')")->{sqlstate}, '22004', 'neither code nor error');
is(attempt("SELECT smartspace.cobot_connect('x', NULL, '')")->{sqlstate}, '22004', 'an empty error is none');
check_refused('where nothing can be stored', $good_state, $good_code, '25006', qr/cannot execute cobot_connect\(\) in a read-only transaction/, settings => 'BEGIN READ ONLY;');
my $home = $t->sql("UPDATE smartspace.cobot_integration SET armed_database = armed_database::int8 + 1 WHERE id = $loft RETURNING armed_database::int8 - 1");
$cobot->clear_log;
check_refused('in a copy', $good_state, $good_code, '55000', qr/not armed for this database/);
is(scalar($cobot->log), 0, '... which asks Cobot nothing');
$t->sql("UPDATE smartspace.cobot_integration SET armed_database = $home WHERE id = $loft");
my $flow = "smartspace.cobot_oauth_flow SET %s WHERE state_digest = sha256('$good_state')";
$t->sql('UPDATE ' . sprintf $flow, 'expires_at = now()');
check_refused('expired', $good_state, $good_code, '22023', qr/DETAIL:  It has expired: it is good for 600 seconds\./);
my $mobile = $t->sql("INSERT INTO smartspace.mobile_app (name) VALUES ('App') RETURNING id");
$t->sql('UPDATE ' . sprintf $flow, "expires_at = now() + interval '1 minute', purpose = 'login', integration_id = NULL, mobile_app_id = $mobile");
check_refused('made for a login', $good_state, $good_code, '22023', qr/DETAIL:  It was made for something else\./);
$t->sql('UPDATE ' . sprintf $flow, "purpose = 'connect', integration_id = $loft, mobile_app_id = NULL, verifier = repeat('vV', 22)");
check_refused('a wrong verifier', $good_state, $good_code, '28000', qr/Cobot gives no token for this code: the code is used up.*\nDETAIL:  HTTP status 400 after 1 attempt.*Cobot says "invalid_grant"\.\nHINT:  Begin again/);

# --- codes that are no good ---
foreach my $wrong ('nonsense', "a\r\nb", q{'"%%&client_secret=x}, 'x' x 2000, "\xc3\xb6")
{
	my ($state) = authorized($loft);
	check_refused('code ' . substr($wrong, 0, 20) =~ s/[^ -~]/?/gr, $state, $wrong, '28000', qr/Cobot says "invalid_grant"/);
}
check_refused('code of 10 kB', (authorized($loft))[0], 'x' x 10000, '22023', qr/the code must have 1 to 2000 characters/);
check_refused('empty code', (authorized($loft))[0], '', '22004', qr/there is neither a code nor an error/);
my ($other_state) = authorized($loft);
check_refused('the code of another flow', $other_state, (authorized($loft))[1], '28000', qr/Cobot says "invalid_grant"/);

# --- another integration's state connects that one and no other ---
my $yard = $t->sql("SELECT smartspace.cobot_create_integration('Yard', '$second', 'plug+app/1', " . quoted($app->{client_secret}) . ')');
my $loft_token = token_of($loft);
my @yard = authorized($yard);
is(decode_json(come_back(@yard)->{out})->{integration}, $yard, 'the state says which integration it is');
$secret{ token_of($yard) } = 1;
is(token_of($loft), $loft_token, '... and the other one keeps its token');

# --- consent denied ---
$cobot->settings(consent => 'denied');
($url, $state) = begin($loft);
%came = browse($cobot, $url);
is("$came{error} $came{state}", "access_denied $state", 'the admin says no');
my $before = stored();
$answer = attempt('SELECT row_to_json(c) FROM smartspace.cobot_connect(' . quoted($state) . ", error => 'access_denied', error_description => E'No,\\r\\nthanks') c");
is_deeply(decode_json($answer->{out}), { integration => $loft + 0, state => 'denied', message => 'the authorisation was denied in Cobot (access_denied): No,  thanks',
	map { $_ => undef } qw(space_name time_zone granted_scope missing_scope custom_field) }, '... which is a result, and no error');
is(stored(), $before, '... and changes nothing');
check_refused('a state with which somebody said no', $state, 'x', '22023', qr/It was used before/);
$cobot->settings(consent => 'given');
$answer = attempt('SELECT row_to_json(c) FROM smartspace.cobot_connect(' . quoted((begin($loft))[1]) . ", NULL, repeat(E'<\\n>%s''\"', 2000), repeat('\xc3\xb6', 5000)) c");
my $failed = decode_json($answer->{out});
is($failed->{state}, 'failed', 'another error is a result as well');
like($failed->{message}, qr/^Cobot could not ask for the authorisation \([^\n]{1,200}\): \x{f6}{200}$/, '... in one line of a bearable length');
is(attempt("SELECT smartspace.cobot_connect('x', error => 'access_denied')")->{sqlstate}, '22023', '... if the state is right');

# --- the token endpoint ---
my $echo = 'echoedCode1234567890';
foreach my $case (
	[ 'HTTP 500', { status => 500 }, '08006', qr/could not create an access token: Cobot has a server error/ ],
	[ 'HTTP 429', { status => 429, headers => { 'Retry-After' => '7' } }, '53400', qr/asks to wait for 7 seconds/ ],
	[ 'a page', { body => '<html>hello</html>' }, '08P01', qr/the answer is not valid JSON/ ],
	[ 'a page with status 400', { status => 400, body => '<html>hello</html>' }, '22023', qr/Cobot rejected the request/ ],
	[ 'a list', { body => '["access_token"]' }, '08P01', qr/unexpected kind/ ],
	[ 'nothing', { body => '{}' }, '08P01', qr/access_token is missing/ ],
	[ 'no token', { body => '{"access_token":null,"token_type":"bearer"}' }, '08P01', qr/access_token/ ],
	[ 'an empty token', { body => '{"access_token":""}' }, '08P01', qr/access_token is missing/ ],
	[ 'a number', { body => '{"access_token":17}' }, '08P01', qr/access_token/ ],
	[ 'a token that is none', { body => '{"access_token":"a\\r\\nX-Evil: 1"}' }, '08P01', qr/access_token is not 1 to 1000 printable ASCII characters/ ],
	[ 'a token that is too long', { body => '{"access_token":"' . 'a' x 1001 . '"}' }, '08P01', qr/access_token is not 1 to 1000 printable ASCII characters/ ],
	[ 'an endless answer', { body => '{"access_token":"' . 'a' x 100_000 . '"}' }, '54000', qr/the answer is too large/, 'SET smartspace_cobot.response_limit = 64;' ],
	[ 'an unknown error', { status => 400, body => '{"error":"' . $echo . '","error_description":"' . $echo . '"}' }, '22023', qr/Cobot rejected the request/ ],
	[ 'a wrong client', { status => 401, body => '{"error":"invalid_client"}' }, '28000', qr/the client id or the client secret is wrong.*\nDETAIL: .*HTTP status 401/ ],
	[ 'an odd error', { status => 400, body => '{"error":{"invalid_grant":1}}' }, '22023', qr/Cobot rejected the request/ ],
	[ 'no answer', { drop => JSON::PP::true }, '08001', qr/could not create an access token/ ],
	[ 'a stalled body', { stall => 10 }, '08006', qr/did not answer in time/ ],
	[ 'a redirect', { status => 302, headers => { Location => 'https://evil.example/' } }, '08P01', qr/Cobot redirects/ ])
{
	my ($name, $fault, $sqlstate, $says, $settings) = @$case;
	my ($state, $code) = authorized($loft);

	$fault->{headers}{'X-Request-Id'} = $code;
	$cobot->fault(match => { path => '/oauth/access_token' }, times => 0, %$fault);
	$cobot->clear_log;
	check_refused("the token endpoint: $name", $state, $code, $sqlstate, $says, settings => "SET smartspace_cobot.request_timeout = '" . patient(700) . "ms'; SET smartspace_cobot.max_retries = 2;" . ($settings // ''));
	is((grep { $_->{method} eq 'POST' } $cobot->log), 1, '... after one POST');
	$cobot->clear_faults;
}
ok(index(join('', @told), $echo) < 0, 'what Cobot writes beside the known errors is not repeated');
$t->sql("SELECT smartspace.cobot_set_client($loft, 'plug+app/1', 'wrongSecret5647382910')");
$secret{wrongSecret5647382910} = 1;
check_refused('a wrong client secret', authorized($loft), '28000', qr/the client id or the client secret is wrong.*\n.*\nHINT:  Copy both/);
$t->sql("SELECT smartspace.cobot_set_client($loft, 'plug+app/1', " . quoted($app->{client_secret}) . ')');

# --- good codes of the wrong people, and scopes ---
$cobot->add_user(id => 'nobody', admin_of => []);
$cobot->add_user(id => 'neighbour', admin_of => [$second]);
$cobot->settings(login_user => 'nobody');
check_refused('who is no admin', authorized($loft), '42501', qr/the token's user is not an admin of "$first"/);
$cobot->settings(login_user => 'neighbour');
check_refused('an admin of another space', authorized($loft), '42501', qr/The user is an admin of "$second"/);
$cobot->settings(login_user => undef);
$t->sql("UPDATE smartspace.cobot_integration SET oauth_scope = 'read_user read_plans' WHERE id = $loft");
check_refused('without read_memberships', authorized($loft), '42501', qr/the token lacks the scope read_memberships/);
$t->sql("UPDATE smartspace.cobot_integration SET oauth_scope = 'read_user read_memberships read_custom_fields write_custom_fields' WHERE id = $loft");
$answer = come_back(authorized($loft));
is_deeply(decode_json($answer->{out})->{missing_scope}, ['read_plans'], 'a scope that is missing is named');
like($answer->{err}, qr/WARNING:  42501: the token lacks the scope read_plans/, '... with what does not work');
is($t->try("UPDATE smartspace.cobot_integration SET oauth_scope = '$_' WHERE id = $loft")->{sqlstate}, '23514', "no scope: $_") foreach '', ' read', 'read  write', 'read ', "read\nwrite", 'read"', 'x' x 1001;
$t->sql("UPDATE smartspace.cobot_integration SET oauth_scope = 'read everything' WHERE id = $loft");
%came = browse($cobot, scalar begin($loft));
is($came{error}, 'invalid_scope', 'Cobot says which scope it does not know');
$t->sql("UPDATE smartspace.cobot_integration SET oauth_scope = DEFAULT WHERE id = $loft");

# --- connecting again keeps what there is ---
my $door = $t->group('Front door');
$t->assign($_->{cobot_id}, $door) foreach $t->rows("SELECT cobot_id FROM smartspace.cobot_plan WHERE integration_id = $loft");
my $ids = "SELECT cobot_id, id FROM smartspace.cobot_membership WHERE integration_id = $loft ORDER BY 1; SELECT a.id, a.plan_id, a.user_group_id FROM smartspace.user_group_assignment a ORDER BY 1;"
  . ' SELECT xmin, g.* FROM smartspace.user_group_member g ORDER BY 2, 3, 4; SELECT count(*) FROM smartspace.access_journal';
$t->sync($loft);
my $ids_before = $t->sql($ids);
like($ids_before, qr/\|plan\|/, 'there are grants to lose');
ok(come_back(authorized($loft))->{ok}, 'connecting again works');
$secret{ token_of($loft) } = 1;
like($t->sync($loft)->{result}, qr/^ok/, '... and it can be synchronised');
is($t->sql($ids), $ids_before, '... and members, mappings, grants and history are what they were');

# --- two sessions with the same state at once ---
($state, my $code) = authorized($loft);
$cobot->fault(match => { path => '/oauth/access_token' }, times => 1, delay_ms => 1000);
$cobot->clear_log;
my @sessions = map { $t->node->background_psql('postgres', on_error_stop => 0) } 1, 2;
my $connect = 'SELECT state FROM smartspace.cobot_connect(' . quoted($state) . ', ' . quoted($code) . ");\n";
$_->query_until(qr/go/, "\\echo go\n$connect") foreach @sessions;
my @said = map { $_->query('SELECT 1') } @sessions;
is((grep { /connected/ } @said), 1, 'of two who come back at once, one connects');
is((grep { $_->{stderr} =~ /It was used before/ } @sessions), 1, '... and the other one hears that the state was used');
is((grep { $_->{path} eq '/oauth/access_token' } $cobot->log), 1, '... before Cobot is asked');
$_->quit foreach @sessions;
$secret{ token_of($loft) } = 1;

# --- flows that nobody comes back for do not pile up ---
$t->sql("SELECT count(smartspace.cobot_connect_url($loft, '$back')) FROM generate_series(1, 130)");
is($t->sql("SELECT count(*) FROM smartspace.cobot_oauth_flow WHERE integration_id = $loft"), 100, 'an integration has a hundred at most');
my ($newest_state, $newest_code) = authorized($loft);
ok(come_back($newest_state, $newest_code)->{ok}, '... of which the newest are good');
$secret{ token_of($loft) } = 1;
$t->sql("UPDATE smartspace.cobot_oauth_flow SET expires_at = now()");
begin($loft);
is($t->sql('SELECT count(*) FROM smartspace.cobot_oauth_flow'), 1, 'those that expired go with the next one');

# --- the check of the connection ---
sub check
{
	my ($integration) = @_;

	return decode_json(attempt("SELECT row_to_json(c) FROM smartspace.cobot_check_connection($integration) c")->{out});
}

# The worker's, due now.
sub daily_check
{
	$t->sql("UPDATE smartspace.cobot_sync_task SET due_at = 'infinity', requested_at = NULL, check_due_at = CASE WHEN integration_id = $loft THEN now() ELSE 'infinity' END");
	$cobot->clear_log;
	$t->sql('SELECT smartspace.cobot_run_due()');
	return $t->sql("SELECT concat_ws(' ', state, state_reason) FROM smartspace.cobot_integration WHERE id = $loft");
}

$t->sync($loft);
$cobot->clear_log;
is_deeply(check($loft), { result => 'ok', missing_scope => [], message => undef }, 'all is well');
is_deeply([ sort map { $_->{path} =~ s{(access_tokens|memberships)/.*}{$1/}r } grep { $_->{method} eq 'GET' } $cobot->log ], [qw(/api/access_tokens/ /api/memberships/ /api/space/custom_fields)], '... by three cheap questions');
is($t->sql("SELECT checked_at > now() - interval '1 minute' FROM smartspace.cobot_integration WHERE id = $loft"), 't', '... and it is kept when');
is(check($yard)->{result}, 'ok', 'the other one, too');
is(attempt("SELECT smartspace.cobot_check_connection($_)")->{sqlstate}, $_ eq 'NULL' ? '22004' : '42704', "no check of $_") foreach 'NULL', 4711;

$t->sql('UPDATE smartspace.cobot_integration SET checked_at = NULL');
is(daily_check(), 'connected', 'the daily check finds nothing');
is(scalar($cobot->log), 3, '... by as many questions');
is($t->sql("SELECT count(*) FROM smartspace.cobot_integration i JOIN smartspace.cobot_sync_task k ON k.integration_id = i.id WHERE i.id = $loft AND i.checked_at IS NOT NULL"
	  . " AND k.check_due_at BETWEEN now() + interval '22 hours' AND now() + interval '26 hours'"), 1, '... and the next one is due in a day');

my $kept = token_of($loft);
my $admins = $cobot->token(user => 'nobody', scopes => [ split / /, $default_scope ]);
$secret{$admins} = 1;
$t->sql("UPDATE smartspace.cobot_secret SET token = '$admins' WHERE integration_id = $loft");
is(daily_check(), 'degraded admin_rights_lost', 'an admin whose rights are gone is noticed before a synchronisation');
is($t->sql("SELECT count(*) FROM smartspace.cobot_problem WHERE integration_id = $loft AND problem = 'admin_rights_lost'"), 1, '... and cobot_problem says so');
is(check($loft)->{result}, 'admin_rights_lost', '... as does the check by hand');
like(check($loft)->{message}, qr/^could not read .*: the token is not allowed to do this$/, '... in words');
my $shrunk = $cobot->token(user => 'admin', scopes => [qw(read_user read_memberships write_custom_fields)]);
$secret{$shrunk} = 1;
$t->sql("UPDATE smartspace.cobot_secret SET token = '$shrunk' WHERE integration_id = $loft; UPDATE smartspace.cobot_integration SET state = 'connected', state_reason = NULL WHERE id = $loft");
is(daily_check(), 'connected', 'missing scopes are no loss of rights');
is($t->sql("SELECT granted_scope FROM smartspace.cobot_integration WHERE id = $loft"), '{read_user,read_memberships,write_custom_fields}', '... but known');
is($t->sql("SELECT string_agg(subject, ', ' ORDER BY subject) FROM smartspace.cobot_problem WHERE integration_id = $loft AND problem = 'missing_scope'"), 'scope read_custom_fields, scope read_plans', '... and told');
is(check($loft)->{result}, 'missing_scope', '... as by hand');
$cobot->fault(match => { path => '/api/access_tokens/*' }, times => 0, body => '{"scope":["read_user"]}');
is(daily_check(), 'degraded admin_rights_lost', 'without read_memberships nothing can be synchronised');
$cobot->clear_faults;
$cobot->delete_token($shrunk);
is(daily_check(), 'degraded auth_revoked', 'a token that was revoked is noticed');

foreach my $case ([ 'HTTP 500', { status => 500 }, 'unreachable' ], [ 'a page', { body => '<html>' }, 'bad_answer' ], [ 'no scopes', { body => '{}' }, 'bad_answer' ], [ 'HTTP 402', { status => 402 }, 'account_suspended' ])
{
	my ($name, $fault, $result) = @$case;

	$t->sql("UPDATE smartspace.cobot_secret SET token = '$kept' WHERE integration_id = $loft; UPDATE smartspace.cobot_integration SET state = 'connected', state_reason = NULL, checked_at = NULL WHERE id = $loft");
	$cobot->fault(match => { path => '/api/access_tokens/*' }, times => 0, %$fault);
	is(check($loft)->{result}, $result, "$name: $result");
	is(daily_check(), $result eq 'account_suspended' ? "degraded $result" : 'connected', '... and what says nothing changes nothing');
	is($t->sql("SELECT checked_at IS NULL FROM smartspace.cobot_integration WHERE id = $loft"), $result eq 'account_suspended' ? 'f' : 't', '... nor counts');
	$cobot->clear_faults;
}
is($t->sql("SELECT check_due_at > now() + interval '20 hours' FROM smartspace.cobot_sync_task WHERE integration_id = $loft"), 't', 'what could not be found out is tried within the hour, the rest in a day');
$t->sql("UPDATE smartspace.cobot_integration SET state = 'connected', state_reason = NULL WHERE id = $loft");
like($t->sync($loft)->{result}, qr/^ok/, 'all is well again');

# --- disconnecting ---
my $building = $t->sql("INSERT INTO smartspace.building (name, integration_id, is_entrance) VALUES ('House', $loft, true) RETURNING id");
my ($member) = map { $_->{id} } $t->rows("SELECT id FROM smartspace.cobot_membership WHERE integration_id = $loft AND departed_at IS NULL ORDER BY id LIMIT 1");
$t->sql("INSERT INTO smartspace.building_entry (building_id, membership_id) VALUES ($building, $member)");
my $checkin = "SELECT string_agg(state, ',') FROM smartspace.cobot_checkin WHERE integration_id = $loft";
is($t->sql($checkin), 'queued', '(a check-in is queued)');
my $contents = $t->contents;
my $history = $t->sql("SELECT count(*) FROM smartspace.cobot_sync_run WHERE integration_id = $loft");
my (undef, $open_state) = begin($loft);
$cobot->clear_log;
is(attempt("SELECT smartspace.cobot_disconnect($loft)")->{out}, 'disconnected; its token is revoked', 'disconnecting revokes the token');
is_deeply([ map { "$_->{method} $_->{path} $_->{status}" } $cobot->log ], ["DELETE /api/access_tokens/$kept 204"], '... at Cobot');
is(token_of($loft), '', '... and deletes it here');
is($t->sql("SELECT client_secret IS NOT NULL FROM smartspace.cobot_secret WHERE integration_id = $loft"), 't', '... but keeps the OAuth client');
is($t->sql("SELECT state FROM smartspace.cobot_status WHERE integration_id = $loft"), 'disconnected', 'the state says so');
is($t->contents, $contents, 'members, mappings and grants stay');
is($t->sql("SELECT count(*) FROM smartspace.cobot_sync_run WHERE integration_id = $loft"), $history, '... and history');
is(attempt('SELECT smartspace.cobot_connect(' . quoted($open_state) . ", 'x')")->{sqlstate}, '22023', 'who was on the way back comes in vain');
$cobot->clear_log;
like($t->sql("SELECT smartspace.cobot_webhook($loft, 'confirmed_membership', '{\"url\": \"https://$first.cobot.me/api/memberships/x\"}')"), qr/^ignored: .*not connected/, 'webhooks are ignored');
is($t->sql('SELECT smartspace.cobot_request_sync()'), 1, 'what is requested for all leaves it out');
is($t->try("SELECT smartspace.cobot_request_sync($loft)")->{sqlstate}, '55000', '... and for it alone is refused');
$t->sql("UPDATE smartspace.cobot_sync_task SET due_at = 'infinity' WHERE integration_id = $yard");
$t->sql('SELECT smartspace.cobot_run_due()');
is((grep { $_->{host} eq "$first.cobot.me" || $_->{path} =~ /access_tokens/ } $cobot->log), 0, 'nothing is asked or sent any more');
is($t->sql($checkin), 'queued', '... and check-ins wait, until they are too old');
is(attempt("SELECT smartspace.cobot_disconnect($loft)")->{out}, 'disconnected; there was no token', 'a second time there is nothing to do');
is(attempt("SELECT smartspace.cobot_disconnect($_)")->{sqlstate}, $_ eq 'NULL' ? '22004' : '42704', "not of $_") foreach 'NULL', 4711;
ok(come_back(authorized($loft))->{ok}, 'it can be connected again');
$secret{ token_of($loft) } = 1;
like($t->sync($loft)->{result}, qr/^ok/, '... and synchronised');
is($t->sql("SELECT count(*) FROM smartspace.cobot_membership WHERE integration_id = $loft"), 12, '... with the members it had');

my $yard_token = token_of($yard);
$cobot->delete_token($yard_token);
is(attempt("SELECT smartspace.cobot_disconnect($yard)")->{out}, 'disconnected; Cobot did not know its token any more', 'a token that is gone already is no problem');
foreach my $case ([ 'HTTP 500', { status => 500 } ], [ 'no answer', { drop => JSON::PP::true } ])
{
	my ($name, $fault) = @$case;

	come_back(authorized($yard));
	$secret{ token_of($yard) } = 1;
	$cobot->fault(match => { path => '/api/access_tokens/*', method => 'DELETE' }, times => 0, %$fault);
	like(attempt("SELECT smartspace.cobot_disconnect($yard)")->{out}, qr/^disconnected; its token could not be revoked \(could not delete the access token: .*\), and is kept for nothing but that: call cobot_disconnect again$/, "$name: it is said what is left to do");
	is(token_of($yard), '', '... and it is disconnected all the same');
	$cobot->clear_faults;
	$cobot->clear_log;
	$t->sql("UPDATE smartspace.cobot_sync_task SET due_at = 'infinity', requested_at = NULL; SELECT smartspace.cobot_run_due()");
	is(scalar($cobot->log), 0, '... so nobody uses it');
	is(attempt("SELECT smartspace.cobot_disconnect($yard)")->{out}, 'disconnected; its token is revoked', '... and a second time ends it');
	is(attempt("SELECT smartspace.cobot_disconnect($yard)")->{out}, 'disconnected; there was no token', '... for good');
}
come_back(authorized($yard));
$secret{ token_of($yard) } = 1;
$t->sql("UPDATE smartspace.cobot_integration SET armed_environment = 'elsewhere' WHERE id = $yard");
$cobot->clear_log;
is(attempt("SELECT smartspace.cobot_connect_url($yard, '$back')")->{sqlstate}, '55000', 'a copy gives no URL');
is(attempt("SELECT smartspace.cobot_check_connection($yard)")->{sqlstate}, '55000', '... checks nothing');
is(attempt("SELECT smartspace.cobot_disconnect($yard)")->{out}, 'disconnected; its token was not revoked, because this is not the place it is armed for', '... and does not pull the plug of the original');
is(scalar($cobot->log), 0, '... nor asks Cobot anything');

# --- nobody may look ---
$t->sql('CREATE ROLE nobody LOGIN; GRANT USAGE ON SCHEMA smartspace TO nobody');
is($t->try("SET ROLE nobody; $_")->{sqlstate}, '42501', "refused: $_") foreach 'TABLE smartspace.cobot_oauth_flow', "SELECT smartspace.cobot_connect_url($loft, '$back')",
  "SELECT smartspace.cobot_connect('x', 'y')", "SELECT smartspace.cobot_disconnect($loft)", "SELECT smartspace.cobot_set_client($loft, 'x', 'y')", "SELECT smartspace.cobot_check_connection($loft)";

# --- no secret is anywhere ---
$t->node->command_ok([ 'pg_dump', '-f', "${PostgreSQL::Test::Utils::tmp_check}/plug.sql", 'postgres' ], 'a dump');
my %place = (
	'the server log' => slurp_file($t->node->logfile),
	'a dump' => slurp_file("${PostgreSQL::Test::Utils::tmp_check}/plug.sql"),
	'what clients were told' => join("\n", @told));
ok(keys %secret > 50, '(' . keys(%secret) . ' secrets were on their way)');
foreach my $place (sort keys %place)
{
	is_deeply([ grep { $_ ne '' && index($place{$place}, $_) >= 0 } keys %secret ], [], "no secret is in $place");
}

done_testing();
