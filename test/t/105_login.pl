# "Sign in with Cobot" in a mobile app: whoever comes back from Cobot is told with the
# memberships known here, once, from the address that was asked for and no other; and
# neither a token nor a stranger stays behind.
use strict;
use warnings;

use CobotBrowser;
use CobotTest;
use File::Temp;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $secret = 'mobileSecret-0123456789';
my $json = JSON::PP->new->utf8->canonical;

# --- given: two spaces that are connected and one that is not, and their people ---
sub member
{
	my ($id, $user, %more) = @_;

	return { id => $id, name => ucfirst($id =~ s/-.*//r), plan => { parent_plan => { id => 'full' } }, starts_at => 'today-500d',
		email => ($user // 'nobody') . '@example.com', user => $user && { id => $user, email => "$user\@example.com" }, %more };
}
my $world = File::Temp->new;
print $world encode_json({
	users => [ { id => 'admin', email => 'admin@example.com', admin_of => [ 'loft', 'quay', 'tower' ] },
		{ id => 'u-sam', email => 'sam@example.com', name => 'Sam Stranger' },
		{ id => 'u-ada', email => 'u-ada@example.com' }, { id => 'u-twin', email => 'u-ada@example.com' } ],
	tokens => [ { token => 'admin-token', user => 'admin' } ],
	clients => [ { client_id => 'mobile', client_secret => $secret, redirect_uris => [ 'smartspace://login', 'https://app.example.com/*', 'http://127.0.0.1:7777/back' ],
			scopes => [ 'me', 'read_user', 'read_plans' ] },
		{ client_id => 'tablet', client_secret => $secret, redirect_uris => ['smartspace://login'], scopes => ['read_user'] } ],
	spaces => [
		{ subdomain => 'loft', name => 'Loft', plans => [ { id => 'full', name => 'Full' } ], memberships => [
			member('ada-loft', 'u-ada'), member('bob-loft', 'u-bob', canceled_to => 'today+5d'), member('fay-loft', undef), member('gus-loft', 'u-gus'),
			member('hal-loft', 'u-hal', canceled_to => 'today+5d'), member('kim-loft', 'u-kim'), map { member("crowd$_-loft", "u-crowd$_") } 1 .. 19 ] },
		{ subdomain => 'quay', name => 'Quay', plans => [ { id => 'full', name => 'Full' } ], memberships => [
			member('cleo-quay', 'u-cleo', starts_at => 'today+10d'), member('hal-quay', 'u-hal') ] },
		{ subdomain => 'tower', name => 'Tower "9"', plans => [ { id => 'full', name => 'Full' } ], memberships => [ member('ada-tower', 'u-ada'), member('tess-tower', 'u-tess') ] }
	] });
$world->flush;
chmod 0644, $world->filename;

my $t = CobotTest->new(state => $world->filename, conf => LOUD);
my $cobot = $t->cobot;
my $loft = $t->connect_space('loft');
my $quay = $t->connect_space('quay');
my $door = $t->group('Door', identifier => 'door');
foreach my $space ($loft, $quay)
{
	like($t->sync($space)->{result}, qr/^ok/, 'a space is synchronised');
}
$t->assign('full', $door);

# Texts of any kind as SQL.
sub quote
{
	my ($text) = @_;

	return 'NULL' unless defined $text;
	return "E'" . ($text =~ s/(['\\])/\\$1/gr =~ s/\r/\\r/gr =~ s/\n/\\n/gr) . "'";
}

my $app = $t->sql("SELECT smartspace.cobot_create_mobile_app('Door app', 'mobile', '$secret',"
	  . " '{smartspace://login, https://app.example.com/back, http://127.0.0.1:7777/back}', 'read_user')");
my @seen;    # states, codes and verifiers, all secrets

# Somebody asks for the URL and goes there: what the browser brings back.
sub go
{
	my ($user, %options) = @_;
	my $redirect_uri = $options{redirect_uri} // 'smartspace://login';

	$cobot->settings(login_user => $user, consent => $options{consent} // 'given');
	my $url = $t->sql('SELECT smartspace.cobot_login_url(' . ($options{app} // $app) . ', ' . quote($redirect_uri) . ')');
	my $back = { browse($cobot, $url) };
	push @seen, grep { defined } @$back{qw(state code)};
	return $back;
}

sub call
{
	my ($back, %options) = @_;

	return ($options{settings} // '') . ' SELECT row_to_json(l) FROM smartspace.cobot_login('
	  . join(', ', map { quote($back->{$_}) } qw(state code error error_description)) . ') l';
}

# A login that works, as a hash.
sub finish
{
	my ($back, %options) = @_;
	my $answer = $t->try(call($back, %options));

	ok($answer->{ok}, 'an answer') or diag $answer->{err};
	my $row = $answer->{out} ? $json->decode($answer->{out}) : {};
	$row->{warning} = $answer->{err};
	return $row;
}

sub events
{
	return $t->sql('SELECT count(*) FROM smartspace.cobot_login_event');
}

# A login that must fail: with this SQLSTATE, saying this, and leaving nothing behind.
sub check_refused
{
	my ($name, $back, $sqlstate, $says, %options) = @_;

	subtest $name => sub {
		my $before = events();
		my $answer = $t->try(call($back, %options));

		is($answer->{sqlstate}, $sqlstate, "refused with $sqlstate");
		like($answer->{err}, $says, 'and a reason');
		is(events(), $before, 'no login is recorded');
		is((grep { defined $back->{$_} && length $back->{$_} > 9 && index($answer->{err}, $back->{$_}) >= 0 } qw(state code)), 0, 'neither state nor code is shown');
		unlike($answer->{err}, qr/\Q$secret\E|https:/, 'nor the client secret, nor an address');
	};
	return;
}

# --- a member logs in ---
$cobot->clear_log;
my $back = go('u-ada');
is($back->{address}, 'smartspace://login', 'Cobot sends the browser back to the app, by a scheme of its own');
my ($asked) = grep { $_->{path} eq '/oauth/authorize' } $cobot->log;
is($asked->{host}, 'www.cobot.me', 'the person was at www.cobot.me');
my %asked = query_of("?$asked->{query}");
is_deeply([ @asked{qw(response_type client_id redirect_uri scope code_challenge_method)} ], [ 'code', 'mobile', 'smartspace://login', 'read_user', 'S256' ], 'with these parameters');
like($asked{code_challenge}, qr/^[A-Za-z0-9_-]{43}$/, '... and a challenge of PKCE');
like($asked{state}, qr/^[A-Za-z0-9_-]{43}$/, '... and a state that nobody can guess');

my $ada = finish($back);
my ($ada_id) = $t->sql("SELECT id FROM smartspace.cobot_membership WHERE cobot_id = 'ada-loft'");
is_deeply([ @$ada{qw(result message mobile_app cobot_user_id email name warning)} ],
	[ 'ok', 'there is an active membership', $app, 'u-ada', 'u-ada@example.com', 'Ada', '' ], 'it is Ada');
is_deeply($ada->{memberships}, [ { membership_id => $ada_id, integration_id => $loft, integration => 'loft', subdomain => 'loft', cobot_id => 'ada-loft',
		name => 'Ada', state => 'active', first_day => $t->sql("SELECT starts_at FROM smartspace.cobot_membership WHERE id = $ada_id"), last_day => undef,
		user_groups => [ { id => $door, name => 'Door', external_identifier => 'door' } ], listed => JSON::PP::true } ], 'with the membership here, and its user groups');
is_deeply($ada->{elsewhere}, [ { cobot_id => 'ada-tower', subdomain => 'tower', space => 'Tower "9"' } ], '... and the one in a space that is not connected');

my @calls = map { "$_->{method} " . ($_->{path} =~ s/[0-9a-f]{64}/TOKEN/r) } grep { $_->{path} ne '/oauth/authorize' } $cobot->log;
is_deeply(\@calls, [ 'POST /oauth/access_token', 'GET /api/user', 'DELETE /api/access_tokens/TOKEN' ], 'the token was used once and revoked');
my ($exchange) = grep { $_->{path} eq '/oauth/access_token' } $cobot->log;
like($exchange->{body}, qr/(^|&)code_verifier=[A-Za-z0-9_-]{43}(&|$)/, 'the code was exchanged with the verifier');
push @seen, $exchange->{body} =~ /code_verifier=([^&]+)/;
my @tokens = map { $_->{token} } grep { $_->{path} eq '/api/user' } $cobot->log;
is($t->sql("SELECT result, cobot_user_id, email IS NULL, name IS NULL, mobile_app_id FROM smartspace.cobot_login_event"), "ok|u-ada|t|t|$app", 'it is recorded, by the id alone');

# --- a state is good once, in time, for what it was made for ---
check_refused('replayed', $back, '22023', qr/^psql:\S+ ERROR:  22023: this state belongs to no authorisation that is under way\nDETAIL:  It was used before\.\nHINT:  Begin again with a new URL of smartspace\.cobot_login_url\(\)/m);
my $fresh = go('u-ada');
check_refused('wrong', { %$fresh, state => 'x' x 43 }, '22023', qr/It is unknown/);
check_refused('a character less', { %$fresh, state => substr($fresh->{state}, 0, 42) }, '22023', qr/It is unknown/);
check_refused('another case', { %$fresh, state => uc $fresh->{state} }, '22023', qr/It is unknown/);
$t->sql("UPDATE smartspace.cobot_oauth_flow SET expires_at = now() WHERE used_at IS NULL");
check_refused('expired', $fresh, '22023', qr/It has expired: it is good for 600 seconds/);
$t->sql("SELECT smartspace.cobot_set_client($loft, 'mobile', 'plugSecret-0123456789')");
my %plug = query_of($t->sql("SELECT smartspace.cobot_connect_url($loft, 'https://app.example.com/plug')"));
check_refused('of the plug', { %{ go('u-ada') }, state => $plug{state} }, '22023', qr/It was made for something else/);
is($t->sql("SELECT used_at IS NULL FROM smartspace.cobot_oauth_flow WHERE purpose = 'connect'"), 't', '... which can still connect');
my $login = go('admin');
like($t->try('SELECT smartspace.cobot_connect(' . quote($login->{state}) . ', ' . quote($login->{code}) . ')')->{err}, qr/ERROR:  22023: .*\nDETAIL:  It was made for something else/, 'nor does the plug take one of a login');
my $other = $t->sql("SELECT smartspace.cobot_create_mobile_app('Other app', 'mobile', '$secret', '{smartspace://other, smartspace://login}', 'read_user')");
is(finish(go('u-ada', app => $other))->{mobile_app}, $other, 'the state tells which app it is');
my ($one, $two) = (go('u-ada'), go('u-hal'));
check_refused('a code with another login\'s state', { %$one, code => $two->{code} }, '28000', qr/Cobot gives no token for this code: the code is used up, expired, or of another OAuth client or another flow/);
my $tablet = $t->sql("SELECT smartspace.cobot_create_mobile_app('Tablet', 'tablet', '$secret', '{smartspace://login}', 'read_user')");
check_refused('a code with the state of another app and client', { %$one, state => go('u-ada', app => $tablet)->{state} }, '28000', qr/the code is used up, expired, or of another OAuth client or another flow/);
my $session = $t->node->background_psql('postgres');
$one = go('u-ada');
$session->query_safe('BEGIN; ' . call($one) . ';');
is($t->try("SET statement_timeout = 300; " . call($one))->{sqlstate}, '57014', 'a second call with a state waits for the first one');
$session->query_safe('COMMIT');
$session->quit;
check_refused('... and is refused then', $one, '22023', qr/It was used before/);
my @crowd = map { go("u-crowd$_") } 1 .. 19;
my $answers = File::Temp->newdir;
my @browsers = map {
	my $file = "$answers/$_";
	fork // die "fork: $!" or exec 'psql', '-XAtqd', $t->node->connstr('postgres'), '-o', $file, '-c', call($_ == 19 ? $crowd[7] : $crowd[$_]);
} 0 .. 19;
waitpid $_, 0 foreach @browsers;
my @in = map { -s $_ ? $json->decode(slurp_file($_)) : {} } map { "$answers/$_" } 0 .. 19;
is_deeply([ map { $_->{cobot_user_id} // '' } @in[ 0 .. 6, 8 .. 18 ] ], [ map { "u-crowd$_" } 1 .. 7, 9 .. 19 ], 'of twenty at once each is who they are');
is(join(' ', sort map { $_->{cobot_user_id} // 'nobody' } @in[ 7, 19 ]), 'nobody u-crowd8', '... and of the two with one state exactly one is in');
check_refused('no state', { code => 'x' }, '22004', qr/a login needs a state, and a code or an error\nHINT:  Give the parameters state, code, error and error_description/);
check_refused('neither code nor error', { state => go('u-ada')->{state} }, '22004', qr/a login needs a state, and a code or an error/);
check_refused('as empty texts', { state => go('u-ada')->{state}, code => '', error => '' }, '22004', qr/a login needs a state, and a code or an error/);

# --- where people may come back to ---
foreach my $uri ('https://app.example.com/back', 'http://127.0.0.1:7777/back')
{
	my $there = go('u-ada', redirect_uri => $uri);

	is($there->{address}, $uri, "back to $uri");
	is(finish($there)->{result}, 'ok', '... and in');
}
foreach my $uri ('https://app.example.com/back/', 'https://app.example.com/Back', 'https://app.example.com/back?x=1', 'https://app.example.com.evil.example/back', 'smartspace://login#x',
	'smartspace://other', 'SMARTSPACE://login', ' smartspace://login', "smartspace://login\r\nX: 1", "smartspace://login'", 'smartspace://login%00', 'javascript:alert(1)', 'x' x 10240)
{
	my $answer = $t->try("SELECT smartspace.cobot_login_url($app, " . quote($uri) . ')');

	is($answer->{sqlstate}, '22023', 'not on the list: ' . substr($uri =~ s/[\r\n]/?/gr, 0, 60));
	like($answer->{err}, qr/this redirect URI is not on the list of mobile app "Door app"\nDETAIL:  An address counts to the letter.*\nHINT:  Add it to redirect_uris/, '... with what to do');
}
is($t->try("SELECT smartspace.cobot_login_url($app, NULL)")->{sqlstate}, '22004', 'no address');
is($t->try("SELECT smartspace.cobot_login_url(4711, 'smartspace://login')")->{sqlstate}, '42704', 'no such app');
is($t->try("SELECT smartspace.cobot_login_url(NULL, 'smartspace://login')")->{sqlstate}, '22004', '... or null');
my $withdrawn = go('u-ada', redirect_uri => 'https://app.example.com/back');
$t->sql("UPDATE smartspace.mobile_app SET redirect_uris = '{smartspace://login}' WHERE id = $app");
check_refused('an address that was taken off the list meanwhile', $withdrawn, '22023', qr/this redirect URI is not on the list/);

foreach my $good ('https://app.example.com', 'https://app.example.com:8443/a/b?c=d&e=%2F', 'http://localhost/x', 'http://[::1]:9/', 'com.example.app:/oauth', 'smartspace+dev://x')
{
	ok($t->try("UPDATE smartspace.mobile_app SET redirect_uris = ARRAY[" . quote($good) . "] WHERE id = $other")->{ok}, "may be listed: $good");
}
foreach my $bad ('', 'login', '//login', 'http://app.example.com/', 'http://127.0.0.1.evil.example/', 'http://127.0.0.1@evil.example/', 'https://user@app.example.com/', 'https://', 'https:/x', 'http:x', 'https://a b/',
	'javascript://x/%0aalert(1)', 'javascript:alert(1)', 'data:text/html,x', 'data:/x', 'file:///etc/passwd', 'intent://x', 'vbscript:/x', 'smartspace:login', 'Smartspace://login', '1app://x',
	"smartspace://login\n", "smartspace://\r\nX: 1", 'smartspace://login#top', 'smartspace://lögin', 'smartspace://"x"', 'https://app.example.com/' . 'x' x 10240)
{
	my $answer = $t->try("UPDATE smartspace.mobile_app SET redirect_uris = ARRAY[" . quote($bad) . "] WHERE id = $other");

	is($answer->{sqlstate}, '22023', 'may not be listed: ' . substr($bad =~ s/[^ -~]/?/gr, 0, 60));
	like($answer->{err}, qr/invalid redirect URI .*\nDETAIL:  It .*\.\nHINT:  Give an address with https/s, '... with what is wrong and what is right') or diag $answer->{err};
}
is($t->try("UPDATE smartspace.mobile_app SET redirect_uris = '{NULL}' WHERE id = $other")->{sqlstate}, '22023', 'nor null');

# --- the person says no, or Cobot does ---
my $denied = finish(go('u-ada', consent => 'denied'));
is_deeply([ @$denied{qw(result message cobot_user_id email name memberships elsewhere warning)} ],
	[ 'denied', 'the authorisation was denied in Cobot (access_denied)', undef, undef, undef, undef, undef, '' ], 'whoever says no is an answer, not an error');
$t->sql("UPDATE smartspace.mobile_app SET scope = 'no_such_scope' WHERE id = $app");
my $refused = go('u-ada');
is($refused->{error}, 'invalid_scope', 'a scope that Cobot does not know');
$refused = finish({ %$refused, error_description => "what\r\nis 100% 'this'" . 'x' x 10240 });
is($refused->{result}, 'refused', '... is an answer, too');
like($refused->{message}, qr/^Cobot could not ask for the authorisation \(invalid_scope\): what  is 100% 'this'x{1,200}$/, '... with what Cobot says, in one line, cut');
like($refused->{warning}, qr/WARNING:  28000: a login to mobile app "Door app" was refused: .*\nHINT:  For invalid_scope set scope in smartspace\.mobile_app/, '... and a WARNING for whoever looks after it');
$t->sql("UPDATE smartspace.mobile_app SET scope = 'me' WHERE id = $app");
$cobot->clear_log;
my $me = go('u-ada');
check_refused('a scope that does not tell the user', $me, '42501',
	qr/Cobot does not tell who logged in to mobile app "Door app"\nDETAIL:  HTTP status 403 .*The scope was "me"\.\nHINT:  Set scope in smartspace\.mobile_app to read_user/);
is((grep { $_->{method} eq 'DELETE' } $cobot->log), 1, '... and its token is revoked all the same');
is($t->sql("SELECT column_default FROM information_schema.columns WHERE table_name = 'mobile_app' AND column_name = 'scope'"), "'me'::text", 'me is the scope until somebody changes it');
$t->sql("UPDATE smartspace.mobile_app SET scope = 'read_user read_plans' WHERE id = $app");
is(finish(go('u-ada'))->{result}, 'ok', 'several scopes');
foreach my $scope ('', ' ', 'a  b', ' a', 'a ', "a\nb", 'a"b', 'a\\b', 'ä', 'x' x 10240)
{
	is($t->try("UPDATE smartspace.mobile_app SET scope = " . quote($scope) . " WHERE id = $app")->{sqlstate}, '23514', 'no scope: "' . substr($scope =~ s/[^ -~]/?/gr, 0, 20) . '"');
	is($t->try("SELECT smartspace.cobot_create_mobile_app('Wrong', scope => " . quote($scope) . ')')->{sqlstate}, '22023', '... nor for the function');
}
$t->sql("UPDATE smartspace.mobile_app SET scope = 'read_user' WHERE id = $app");

# --- whose membership is not active ---
$cobot->patch_member('loft', 'bob-loft', canceled_to => 'today-3d');
my $last_day = $t->sql("SELECT CURRENT_DATE - 3");
$t->sync($loft);
my $bob = finish(go('u-bob'));
is_deeply([ @$bob{qw(result message cobot_user_id name)} ], [ 'membership_ended', "the last membership has ended; its last day was $last_day", 'u-bob', 'Bob' ], 'whose last membership has ended is told so');
is_deeply([ map { [ @$_{qw(state last_day user_groups)} ] } @{ $bob->{memberships} } ], [ [ 'ended', $last_day, [] ] ], '... with that membership and no user group');
$cobot->delete_member('loft', 'bob-loft');
$t->sync($loft);
$bob = finish(go('u-bob'));
is("$bob->{result}: $bob->{message}", "membership_ended: the last membership has ended; its last day was $last_day", '... also when Cobot has deleted it');
is($bob->{memberships}[0]{listed}, JSON::PP::false, '... and lists it no more');
my $cleo = finish(go('u-cleo'));
is_deeply([ @$cleo{qw(result message)} ], [ 'not_started', 'the membership starts on ' . $t->sql('SELECT CURRENT_DATE + 10') ], 'whose membership has not started is told when it does');
$t->sql("UPDATE smartspace.cobot_membership SET confirmed_at = NULL WHERE cobot_id = 'cleo-quay'");
is(finish(go('u-cleo'))->{result}, 'not_confirmed', 'whose membership is not confirmed, too');
$cobot->patch_member('loft', 'hal-loft', canceled_to => 'today-1d');
$t->sync($loft);
my $hal = finish(go('u-hal'));
is($hal->{result}, 'ok', 'one active membership is enough');
is_deeply([ map { "$_->{integration} $_->{state}" } @{ $hal->{memberships} } ], [ 'loft ended', 'quay active' ], '... of two');

# --- what Cobot knows and the last synchronisation did not ---
$cobot->patch_member('loft', 'fay-loft', user => { id => 'u-fay', email => 'fay@example.com' });
my $fay = finish(go('u-fay'));
is($t->sql("SELECT user_id IS NULL FROM smartspace.cobot_membership WHERE cobot_id = 'fay-loft'"), 't', '(a membership that is known here without a login)');
is("$fay->{result} $fay->{memberships}[0]{cobot_id} $fay->{memberships}[0]{listed}", 'ok fay-loft 1', 'a membership that Cobot lists for the user is theirs');
$cobot->add_member('loft', %{ member('ian-loft', 'u-ian') });
my $ian = finish(go('u-ian'));
is($ian->{result}, 'not_synchronised', 'who joined just now is told so');
is_deeply([ map { [ @$_{qw(membership_id integration_id cobot_id state)} ] } @{ $ian->{memberships} } ], [ [ undef, $loft, 'ian-loft', 'not_synchronised' ] ], '... with what cobot_sync_member() needs');
$t->sql("SELECT smartspace.cobot_sync_member('ian-loft', $loft)");
is(finish(go('u-ian'))->{result}, 'ok', '... and is in after it');
is($t->sql("SELECT string_agg(u.cobot_id || ' ' || u.state || ' ' || coalesce(u.listed::text, 'not asked'), ',') FROM smartspace.cobot_user_memberships('u-ian') u"),
	'ian-loft active not asked', 'cobot_user_memberships() tells it later, without a login');

# --- a space is covered only if its memberships come here ---
my $tower = $t->sql("SELECT smartspace.cobot_create_integration('tower', 'tower')");
my @tess = ('u-tess', 'no_membership_here', [], ['tess-tower']);
my @tess_comes = ('u-tess', 'not_synchronised', ['tess-tower'], []);
sub check_whereabouts
{
	my ($name, $user, $result, $here, $elsewhere) = @_;
	my $row = finish(go($user));

	is_deeply([ $row->{result}, map { [ map { $_->{cobot_id} } @$_ ] } @$row{qw(memberships elsewhere)} ], [ $result, $here, $elsewhere ], $name);
	return;
}
check_whereabouts('an integration that was never connected covers nothing', @tess);
$t->sql("SELECT smartspace.cobot_connect_token($tower, 'admin-token')");
check_whereabouts('one that is connected does', @tess_comes);
$t->sql("UPDATE smartspace.cobot_integration SET state = 'paused' WHERE id IN ($loft, $tower)");
check_whereabouts('one that is paused does not', @tess);
check_whereabouts('... but what is here already is here, with its access', 'u-fay', 'ok', ['fay-loft'], []);
$t->sql("UPDATE smartspace.cobot_integration SET state = 'connected' WHERE id IN ($loft, $tower); SELECT smartspace.cobot_disconnect($tower)");
check_whereabouts('nor one that was disconnected', @tess);
$t->sql("UPDATE smartspace.cobot_integration SET state = 'connected', fed_from_outside = true WHERE id = $tower");
check_whereabouts('one without a token does that is fed from outside', @tess_comes);
$t->sql("UPDATE smartspace.cobot_integration SET armed_environment = 'elsewhere' WHERE id = $tower");
check_whereabouts('... but not in a copy', @tess);
$t->sql("DELETE FROM smartspace.cobot_integration WHERE id = $tower");

# --- e-mail addresses prove nothing; strangers ---
my $twin = finish(go('u-twin'));
is_deeply([ @$twin{qw(result message cobot_user_id email memberships)} ],
	[ 'no_membership_here', 'there is no membership in a space that is connected here', 'u-twin', 'u-ada@example.com', [] ], 'another person with the same e-mail address has no membership');
my $tess = finish(go('u-tess'));
is_deeply([ $tess->{result}, map { $_->{cobot_id} } @{ $tess->{elsewhere} } ], [ 'no_membership_here', 'tess-tower' ], 'nor who is a member elsewhere');
my $sam = finish(go('u-sam'));
is("$sam->{result} $sam->{email}", 'no_membership_here sam@example.com', 'the caller is told who a stranger is');
my $everything = "SELECT string_agg(query_to_xml(format('SELECT * FROM %s', c.oid::regclass), true, false, '')::text, '') FROM pg_class c"
  . " WHERE c.relkind = 'r' AND c.relnamespace = 'smartspace'::regnamespace";
unlike($t->sql($everything), qr/u-sam|sam\@example|Sam Stranger|u-tess|u-twin/, '... and the database keeps nothing of that');
like($t->sql($everything), qr/u-bob/, '(where it would be found)');
$t->sql("UPDATE smartspace.mobile_app SET store_strangers = true WHERE id = $app");
$cobot->fault(match => { path => '/api/user' }, body => $json->encode({ id => 'u-sam', email => 'sam@example.com', name => 'Sam Stranger', memberships => [] }));
is(finish(go('u-sam'))->{name}, 'Sam Stranger', 'a name that Cobot tells');
is($t->sql("SELECT result, cobot_user_id, email, name FROM smartspace.cobot_login_event ORDER BY id DESC LIMIT 1"), 'no_membership_here|u-sam|sam@example.com|Sam Stranger', 'with the switch a stranger is kept');
$cobot->fault(match => { path => '/api/user' }, body => $json->encode({ id => 'u-long', email => 'e' x 10240, name => 'n' x 10240 }));
is(length finish(go('u-sam'))->{name}, 10240, 'a long name');
is($t->sql("SELECT length(email), length(name) FROM smartspace.cobot_login_event WHERE cobot_user_id = 'u-long'"), '500|500', '... is not kept at any length');
finish(go('u-ada'));
is($t->sql("SELECT cobot_user_id, email IS NULL, name IS NULL FROM smartspace.cobot_login_event ORDER BY id DESC LIMIT 1"), 'u-ada|t|t', '... but of a member no more than without');
$t->sql("UPDATE smartspace.mobile_app SET store_strangers = false WHERE id = $app");

# --- history: not for ever, and not of who was erased ---
$t->sql("UPDATE smartspace.cobot_login_event SET at = now() - interval '91 days' WHERE cobot_user_id = 'u-sam'");
finish(go('u-ada'));
is($t->sql("SELECT count(*) FROM smartspace.cobot_login_event WHERE cobot_user_id = 'u-sam'"), 0, 'a login deletes what is too old');
$t->sql("SELECT smartspace.cobot_erase_member(id) FROM smartspace.cobot_membership WHERE cobot_id = 'bob-loft'");
is($t->sql("SELECT count(*) FROM smartspace.cobot_login_event WHERE cobot_user_id = 'u-bob'"), 0, 'who is erased is erased from the history');
is($t->sql("SELECT count(*) FROM smartspace.cobot_login_event WHERE result = 'membership_ended'"), 2, '... which stays');
is(finish(go('u-bob'))->{result}, 'no_membership_here', '... and is a stranger from then on');
unlike($t->sql($everything), qr/u-bob/, '... of whom nothing is stored');

is(finish(go('u-kim'))->{result}, 'ok', 'a member');
$cobot->patch_member('loft', 'kim-loft', user => undef, canceled_to => 'today-3d');
$t->sync($loft);
is($t->sql("SELECT user_id IS NULL FROM smartspace.cobot_membership WHERE cobot_id = 'kim-loft'"), 't', '(whose membership lost its user)');
$t->sql("SELECT smartspace.cobot_erase_member(id) FROM smartspace.cobot_membership WHERE cobot_id = 'kim-loft'");
unlike($t->sql($everything), qr/u-kim/, '... is erased from the history all the same');
is($t->sql("SELECT count(*) > 0 FROM smartspace.cobot_login_event WHERE cobot_user_id = 'u-ada'"), 't', '... and nobody else is');

# --- Cobot fails: an error, nothing stored, no token left behind ---
my $user = { path => '/api/user' };
my $give = { path => '/oauth/access_token' };
foreach my $case (
	[ 'code: HTTP 500', $give, { status => 500 }, '08006', qr/could not create an access token: Cobot has a server error/ ],
	[ 'code: HTTP 429', $give, { status => 429 }, '53400', qr/rate limit/ ],
	[ 'code: a page', $give, { body => '<html></html>' }, '08P01', qr/not valid JSON/ ],
	[ 'code: HTTP 400 with a page', $give, { status => 400, body => '<html></html>' }, '22023', qr/Cobot rejected the request/ ],
	[ 'code: a list', $give, { body => '[]' }, '08P01', qr/unexpected kind/ ],
	[ 'code: no token', $give, { body => '{}' }, '08P01', qr/access_token is missing/ ],
	[ 'code: a number', $give, { body => '{"access_token":17}' }, '08P01', qr/access_token is a number/ ],
	[ 'code: a header', $give, { body => '{"access_token":"x\r\nX-Evil: 1"}' }, qr/^(58030|58000|08P01|22023)$/, qr/ERROR/ ],
	[ 'code: no answer', $give, { drop => JSON::PP::true }, '08001', qr/Cobot cannot be reached/ ],
	[ 'user: HTTP 500', $user, { status => 500 }, '08006', qr/could not read the Cobot user of the token: Cobot has a server error/, 1 ],
	[ 'user: HTTP 401', $user, { status => 401 }, '28000', qr/Cobot does not accept the token that it gave for this login\nDETAIL:  HTTP status 401.*\nHINT:  Begin again/, 0 ],
	[ 'user: a page', $user, { body => '<html></html>' }, '08P01', qr/not valid JSON/, 1 ],
	[ 'user: a list', $user, { body => '[]' }, '08P01', qr/unexpected kind/, 1 ],
	[ 'user: nobody', $user, { body => '{"email":"x@example.com"}' }, '08P01', qr/DETAIL:  id is missing/, 1 ],
	[ 'user: an empty id', $user, { body => '{"id":""}' }, '08P01', qr/DETAIL:  id is not 1 to 200 bytes long/, 1 ],
	[ 'user: a long id', $user, { body => '{"id":"' . 'x' x 201 . '"}' }, '08P01', qr/DETAIL:  id is not 1 to 200 bytes long/, 1 ],
	[ 'user: a number', $user, { body => '{"id":17}' }, '08P01', qr/DETAIL:  id is a number, expected a string/, 1 ],
	[ 'user: an odd list of memberships', $user, { body => '{"id":"x","memberships":{}}' }, '08P01', qr/DETAIL:  memberships is an object, expected an array/, 1 ],
	[ 'user: an odd membership', $user, { body => '{"id":"x","memberships":[{"id":"a"},7]}' }, '08P01', qr/DETAIL:  memberships\[1\] is a number, expected an object/, 1 ],
	[ 'user: an odd subdomain', $user, { body => '{"id":"x","memberships":[{"id":"a","space_subdomain":[]}]}' }, '08P01', qr/DETAIL:  memberships\[0\]\.space_subdomain is an array/, 1 ])
{
	my ($name, $match, $fault, $sqlstate, $says, $revoked) = @$case;

	subtest $name => sub {
		my $come = go('u-ada');
		my $before = events();
		$cobot->clear_log;
		$cobot->fault(match => $match, times => 0, %$fault);
		my $answer = $t->try(call($come));
		$cobot->clear_faults;

		like($answer->{sqlstate}, ref $sqlstate ? $sqlstate : qr/^$sqlstate$/, 'an error');
		like($answer->{err}, $says, 'that says what');
		is(events(), $before, 'nothing is recorded');
		is((grep { $_->{method} eq 'DELETE' } $cobot->log), $revoked // 0, 'a token that was given is revoked');
		push @tokens, map { $_->{token} } grep { $_->{token} } $cobot->log;
		is((grep { $answer->{err} =~ /\Q$_\E/ } @tokens, $come->{state}, $come->{code}, $secret), 0, 'no secret is shown');
	};
}
foreach my $bare ('{"id":"u-ada"}', '{"id":"u-ada","memberships":null,"email":null,"admin_of":null}', '{"id":"u-ada","memberships":[],"admin_of":7,"more":{}}')
{
	$cobot->fault(match => $user, body => $bare);
	my $row = finish(go('u-ada'));
	is("$row->{result} $row->{name}", 'ok Ada', "enough: $bare");
	is($row->{memberships}[0]{listed}, $bare =~ /\[\]/ ? JSON::PP::false : undef, '... and whether Cobot lists the membership is told where Cobot says so');
}
$cobot->fault(match => $user, body => '{"id":"u-ada","name":" ","email":""}');
is_deeply([ @{ finish(go('u-ada')) }{qw(name email)} ], [ 'Ada', undef ], 'a text that says nothing is none');
$cobot->fault(match => $user, body => '{"id":"u-ada","admin_of":[{"name":""},{"name":"A. Admin"}]}');
is(finish(go('u-ada'))->{name}, 'A. Admin', 'a name as an admin is one');
$cobot->fault(match => $user, body => '{"id":"u-none","memberships":[{},{"id":"a","space_subdomain":"tower"},{"id":"ada-loft","space_subdomain":"quay"},{"id":"ada-loft","space_name":"N"}]}');
my $odd = finish(go('u-ada'));
is_deeply([ $odd->{result}, [ map { "$_->{integration} $_->{state}" } @{ $odd->{memberships} } ] ], [ 'not_synchronised', ['quay not_synchronised'] ], 'an id of one space is nothing in another one');
is(scalar @{ $odd->{elsewhere} }, 3, '... and what lacks its space is elsewhere');

$cobot->fault(match => { method => 'DELETE' }, status => 500);
my $unrevoked = finish(go('u-ada'));
is($unrevoked->{result}, 'ok', 'a token that cannot be revoked keeps nobody out');
like($unrevoked->{warning}, qr/WARNING:  08006: the access token of a login to mobile app "Door app" could not be revoked\nDETAIL:  HTTP status 500/, '... and is a WARNING');
$cobot->fault(match => { method => 'DELETE' }, stall => 'headers');
my $stalled = $t->try("SET statement_timeout = '20s';" . call(go('u-ada')) . '; SHOW smartspace_cobot.request_timeout;');
like($stalled->{out}, qr/^\{"result":"ok"/, 'nor does one whose revocation is not answered');
like($stalled->{err}, qr/could not be revoked\nDETAIL:  No answer after 1 attempt/, '... which is told, too');
like($stalled->{out}, qr/^2min$/m, '... and other answers have as much time as before');
$t->sql("UPDATE smartspace.mobile_app SET revoke_token = false WHERE id = $app");
$cobot->clear_log;
is(finish(go('u-ada'))->{result}, 'ok', 'without revoking');
is((grep { $_->{method} eq 'DELETE' } $cobot->log), 0, '... the switch works');
push @tokens, map { $_->{token} } grep { $_->{token} } $cobot->log;
$t->sql("UPDATE smartspace.mobile_app SET revoke_token = true, subdomain = 'loft' WHERE id = $app");
is(finish(go('u-ada'))->{result}, 'ok', 'at the address of a space');
is((grep { $_->{path} eq '/oauth/authorize' && $_->{host} eq 'loft.cobot.me' } $cobot->log), 1, '... which is where the person was sent');
$t->sql("UPDATE smartspace.mobile_app SET subdomain = NULL WHERE id = $app");

$cobot->settings(code_lifetime_s => 0);
check_refused('a code that has expired', go('u-ada'), '28000', qr/the code is used up, expired/);
$cobot->settings(code_lifetime_s => 600);
my $wrong = go('u-ada');
$t->sql("UPDATE smartspace.cobot_oauth_flow SET verifier = repeat('v', 43) WHERE used_at IS NULL");
check_refused('a wrong verifier', $wrong, '28000', qr/the code is used up, expired, or of another OAuth client or another flow/);

# --- the OAuth client, and where the app is at home ---
like($t->sql("SELECT smartspace.cobot_set_mobile_app_client($app, 'mobile', 'wrongSecret-987654321')"), qr/^armed for the database "postgres": cluster \d+, database oid \d+, environment ""$/, 'another secret');
check_refused('a wrong client secret', go('u-ada'), '28000', qr/the client id or the client secret is wrong.*HINT:  Copy both from the OAuth client/s);
$t->sql("SELECT smartspace.cobot_set_mobile_app_client($app, 'mobile', '$secret')");
is(finish(go('u-ada'))->{result}, 'ok', 'the right one again');
is($t->sql("SELECT smartspace.cobot_arm_mobile_app($app)") =~ /^was armed already/, 1, 'it is armed');
my $elsewhere = $t->try("SET smartspace_cobot.environment = 'staging'; SELECT smartspace.cobot_login_url($app, 'smartspace://login')");
is($elsewhere->{sqlstate}, '55000', 'a copy lets nobody log in');
like($elsewhere->{err}, qr/mobile app "Door app" is not armed for this database\nDETAIL:  It is armed for .*environment ""; this is .*environment "staging"\.\nHINT:  .*SELECT smartspace\.cobot_arm_mobile_app\($app\)/, '... and says what to do');
check_refused('... nor finish it', go('u-ada'), '55000', qr/is not armed/, settings => "SET smartspace_cobot.environment = 'staging';");
like($t->sql("SET smartspace_cobot.environment = 'staging'; SELECT smartspace.cobot_arm_mobile_app($app)"), qr/^armed for .* environment "staging"; before: .*environment ""$/, 'until somebody arms it');
$t->sql("SELECT smartspace.cobot_arm_mobile_app($app)");
is(finish(go('u-ada'))->{result}, 'ok', 'and back');
my $bare = $t->sql("INSERT INTO smartspace.mobile_app (name, client_id, redirect_uris) VALUES ('Bare', 'mobile', '{smartspace://login}') RETURNING id");
foreach my $call ("cobot_login_url($bare, 'smartspace://login')", "cobot_arm_mobile_app($bare)")
{
	my $answer = $t->try("SELECT smartspace.$call");
	is($answer->{sqlstate}, '55000', "a row without a client, as after a restore: $call");
	like($answer->{err}, qr/mobile app "Bare" has no OAuth client\nDETAIL:  .*\nHINT:  Give it one with smartspace\.cobot_set_mobile_app_client\($bare, /, '... with what to do');
}
is($t->sql("SELECT authentication_type, provider, scope, redirect_uris, other_details, store_strangers FROM smartspace.mobile_app WHERE id = " . $t->sql("SELECT smartspace.cobot_create_mobile_app('Plain')")),
	'external_oauth2|cobot|me|{}|{}|f', 'all but the name has a default');
$cobot->control(POST => '/clients', { client_id => q(odd"client'%41&x=1), client_secret => q(s"e'c%41&r=e+t), redirect_uris => ['smartspace://login'] });
$t->sql("SELECT smartspace.cobot_set_mobile_app_client($app, " . quote(q(odd"client'%41&x=1)) . ', ' . quote(q(s"e'c%41&r=e+t)) . ')');
is(finish(go('u-ada'))->{result}, 'ok', 'quotes, percent and ampersands in client id and secret arrive as they are');
$t->sql("SELECT smartspace.cobot_set_mobile_app_client($app, 'mobile', '$secret')");

# --- anything in any text ---
my %hostile = ('CR and LF' => "x\r\nSet-Cookie: a=b", quotes => q(x'"`\\), percent => '%00%0d%0a%s%n%41', '10 kB' => 'x' x 10240, 'no ASCII' => "\xc3\xbc\xe2\x80\xae");
foreach my $kind (sort keys %hostile)
{
	my $text = quote($hostile{$kind});
	my $state = go('u-ada');

	check_refused("$kind as state", { %$state, state => $hostile{$kind} }, '22023', qr/this state belongs to no authorisation/);
	check_refused("$kind as code", { %$state, code => $hostile{$kind} }, $kind eq '10 kB' ? '22023' : '28000', $kind eq '10 kB' ? qr/the code must have 1 to/ : qr/Cobot gives no token for this code/);
	my $row = finish({ state => $state->{state}, error => $hostile{$kind}, error_description => $hostile{$kind} });
	is($row->{result}, 'refused', "$kind as error");
	unlike($row->{message}, qr/[\x00-\x1f]/, '... in one line');
	cmp_ok(length $row->{message}, '<', 600, '... that is not long');
	my $long = $kind eq '10 kB';
	is($t->try("SELECT smartspace.cobot_create_mobile_app($text)")->{sqlstate}, $long ? '22023' : '', "$kind as name");
	my $copied = $kind eq 'quotes' || $kind eq 'percent';
	is($t->try("SELECT smartspace.cobot_create_mobile_app('n', $text)")->{sqlstate}, $copied ? '' : '22023', "$kind as client id");
	$t->sql("DELETE FROM smartspace.mobile_app WHERE name = 'n'");
	my $answer = $t->try("SELECT smartspace.cobot_set_mobile_app_client($other, 'mobile', $text)");
	is($answer->{sqlstate}, $copied ? '' : '22023', "$kind as client secret");
	is(index($answer->{err}, $hostile{$kind}), -1, '... which is not shown');
	is($t->try("SELECT smartspace.cobot_create_mobile_app('m', redirect_uris => ARRAY[$text])")->{sqlstate}, '22023', "$kind as redirect URI");
}
foreach my $call ("cobot_create_mobile_app(NULL)", "cobot_create_mobile_app('x', NULL, 's')", "cobot_create_mobile_app('x', redirect_uris => NULL)", "cobot_create_mobile_app('x', scope => NULL)",
	"cobot_set_mobile_app_client($app, NULL)", "cobot_set_mobile_app_client(NULL, 'x')", "cobot_arm_mobile_app(NULL)", 'cobot_login(NULL)')
{
	is($t->try("SELECT smartspace.$call")->{sqlstate}, '22004', "null is refused: $call");
}
is($t->try("SELECT smartspace.cobot_create_mobile_app('Door app')")->{sqlstate}, '23505', 'a name is there once');
is($t->try("BEGIN READ ONLY; SELECT smartspace.$_")->{sqlstate}, '25006', "refused in a read-only transaction: $_")
  foreach "cobot_login_url($app, 'smartspace://login')", "cobot_login('s', 'c')", "cobot_create_mobile_app('y')", "cobot_set_mobile_app_client($app, 'x')", "cobot_arm_mobile_app($app)";

# --- a backend needs the two calls and nothing else ---
$t->sql('CREATE ROLE backend; GRANT USAGE ON SCHEMA smartspace TO backend;'
	  . ' GRANT EXECUTE ON FUNCTION smartspace.cobot_login_url(bigint, text), smartspace.cobot_login(text, text, text, text) TO backend');
like($t->sql("SET ROLE backend; SELECT smartspace.cobot_login_url($app, 'smartspace://login')"), qr{^https://www\.cobot\.me/oauth/authorize\?}, 'a role with the two functions gets an URL');
is(finish(go('u-ada'), settings => 'SET ROLE backend;')->{result}, 'ok', '... and an answer');
$cobot->add_member('loft', %{ member('lea-loft', 'u-lea') });
my $lea = finish(go('u-lea'), settings => 'SET ROLE backend;');
$t->sql('GRANT EXECUTE ON FUNCTION smartspace.cobot_sync_member(text, bigint), smartspace.cobot_user_memberships(text, text[], text[]) TO backend');
$t->sql("SET ROLE backend; SELECT smartspace.cobot_sync_member('$_->{cobot_id}', $_->{integration_id})") foreach grep { !$_->{membership_id} } @{ $lea->{memberships} };
is($t->sql("SET ROLE backend; SELECT u.cobot_id, u.state FROM smartspace.cobot_user_memberships('$lea->{cobot_user_id}') u"), 'lea-loft|active', '... and with two more lets in who joined just now');
$cobot->clear_log;
$cobot->fault(match => $user, stall => 'headers');
my $slow = go('u-ada');
$session = $t->node->background_psql('postgres', on_error_stop => 0);
$session->query_until(qr/started/, "\\echo started\n" . call($slow) . ";\n");
$t->wait_until(sub { grep { $_->{path} eq '/api/user' } $cobot->log }, 'Cobot was asked');
unlike($t->sql("SELECT string_agg(query, ' ') FROM pg_stat_activity WHERE pid <> pg_backend_pid()"), qr/cobot_login/, 'meanwhile others do not see the statement');
$t->sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ 'may hold a secret' AND pid <> pg_backend_pid()");
$t->wait_until(sub { $t->sql("SELECT count(*) FROM pg_stat_activity WHERE query ~ 'may hold a secret' AND state = 'active' AND pid <> pg_backend_pid()") eq '0' }, 'it has ended');
eval { $session->quit };
$cobot->clear_faults;
push @tokens, map { $_->{token} } grep { $_->{token} } $cobot->log;
check_refused('a login that was cancelled cannot go on: its code is used up', $slow, '28000', qr/the code is used up/);
is(finish(go('u-ada'))->{result}, 'ok', '... but can begin again');

# --- no secret anywhere ---
is((grep { !defined } @tokens), 0, '(all are known)');
cmp_ok(scalar @tokens, '>', 10, '(tokens to look for)');
my %place = (tables => $t->sql($everything =~ s/'r' AND/'r' AND c.relname <> 'mobile_app_secret' AND/r), log => slurp_file($t->node->logfile));
my $file = File::Temp->new;
$t->node->command_ok([ 'pg_dump', '--inserts', '-f', $file->filename, '-d', $t->node->connstr('postgres') ], 'pg_dump');
$place{dump} = slurp_file($file->filename);
like($place{dump}, qr/Door app/, '(which has the app)');
like($place{log}, qr/DEBUG: /, '(and the log is talkative)');
foreach my $name (sort keys %place)
{
	is((grep { index($place{$name}, $_) >= 0 } @tokens), 0, "no token in the $name");
	is((grep { index($place{$name}, $_) >= 0 } @seen), 0, "no state, code or verifier in the $name");
	is(index($place{$name}, $secret), -1, "no client secret in the $name");
}
$t->sql('CREATE ROLE reader; GRANT USAGE ON SCHEMA smartspace TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA pg_catalog TO reader');
is($t->try("SET ROLE reader; SELECT * FROM smartspace.$_")->{sqlstate}, '42501', "closed to others: $_") foreach qw(mobile_app_secret cobot_oauth_flow cobot_login_event mobile_app);

done_testing();
