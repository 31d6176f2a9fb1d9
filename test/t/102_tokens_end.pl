# Tokens do not expire, so none that nobody needs is left at Cobot: the admin's and the
# space's of a connection that came to nothing, the space's of the connection before, and,
# when the plug is pulled, the webhooks as well. What cannot be ended hides no error, and a
# transaction that is rolled back leaves the integration a token that works.
use strict;
use warnings;

use CobotBrowser;
use CobotTest;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $t = CobotTest->new(spaces => 2, members => 12, conf => LOUD);
my $cobot = $t->cobot;
my ($first, $second) = ('space-0001', 'space-0002');
my $back = 'https://app.example.com/cobot/connected';
$cobot->client(client_id => 'plug', client_secret => 'secret');
my $loft = $t->sql("SELECT smartspace.cobot_create_integration('Loft', '$first', 'plug', 'secret')");
my %secret;

sub stored { return $t->sql("SELECT COALESCE($_[0], '') FROM smartspace.cobot_secret WHERE integration_id = $loft"); }

# To Cobot and back, and what the SQL is that finishes it. Cobot's log begins here.
sub connect_sql
{
	my ($url) = $t->sql("SELECT smartspace.cobot_connect_url($loft, '$back')");
	my %came = browse($cobot, $url);

	die "no code: $came{error}" unless defined $came{code};
	$cobot->clear_log;
	return "SELECT state FROM smartspace.cobot_connect('$came{state}', '$came{code}')";
}

sub come_back { return $t->try(($_[0] // '') . connect_sql()); }

# What was revoked at Cobot since then: tokens of admins are those that others were made from.
sub revoked { return map { $_->{path} =~ m{^/api/access_tokens/(\w+)$} } grep { $_->{method} eq 'DELETE' && $_->{status} == 204 } $cobot->log; }

sub works
{
	my ($token) = @_;
	my ($answer) = run_command([ 'curl', '-sS', '-o', '/dev/null', '-w', '%{http_code}', '--connect-to', '::' . $cobot->connect_to, '--cacert', $cobot->ca_file,
		'-H', "Authorization: Bearer $token", "https://www.cobot.me/api/access_tokens/$token" ]);

	$secret{$token} = 1;
	return $answer == 200;
}

# --- connections that come to nothing ---
# Given so many tokens that were made, and what is to go wrong; then it is told as ever, and none of them works.
sub check_taken_back
{
	my ($name, $tokens, $sqlstate, $says, %options) = @_;

	subtest $name => sub {
		my $sql = connect_sql();

		$cobot->fault(%{ $options{fault} }) if $options{fault};
		my $answer = $t->try(($options{settings} // '') . $sql);
		$cobot->clear_faults;
		is($answer->{sqlstate}, $sqlstate, "refused with $sqlstate") or diag $answer->{err};
		like($answer->{err}, $says, 'and the reason');
		my @revoked = revoked();
		is(scalar @revoked, $tokens, "revoked: $tokens");
		ok(!works($_), 'it does not work any more') foreach @revoked;
		is($t->sql("SELECT count(*) FROM smartspace.cobot_secret WHERE token IS NOT NULL OR retired_token IS NOT NULL"), $options{kept} // 0, 'none is kept');
	};
	return;
}

$cobot->add_user(id => 'nobody', admin_of => []);
$cobot->add_user(id => 'neighbour', admin_of => [$second]);
$cobot->settings(login_user => 'nobody');
check_taken_back('who is no admin', 1, '42501', qr/the token's user is not an admin of "$first"/);
$cobot->settings(login_user => 'neighbour');
check_taken_back('an admin of another space', 1, '42501', qr/The user is an admin of "$second"/);
$cobot->settings(login_user => undef);
$t->sql("UPDATE smartspace.cobot_integration SET oauth_scope = 'read_user' WHERE id = $loft");
check_taken_back('without read_memberships', 1, '42501', qr/the token lacks the scope read_memberships/);
$t->sql("UPDATE smartspace.cobot_integration SET oauth_scope = DEFAULT WHERE id = $loft");
check_taken_back('Cobot fails on the way', 1, '08006', qr/could not read the Cobot user/, fault => { match => { path => '/api/user' }, times => 0, status => 500 },
	settings => 'SET smartspace_cobot.max_retries = 0;');
check_taken_back('Cobot gives no space token', 1, '42501', qr/Cobot gives no space token/, fault => { match => { path => '/api/access_tokens/*', method => 'POST' }, times => 0, status => 403 });
$t->sql("CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''not today'' USING ERRCODE = ''PX001''; END';"
	  . 'CREATE TRIGGER refuse BEFORE UPDATE ON smartspace.cobot_integration FOR EACH ROW EXECUTE FUNCTION public.refuse()');
check_taken_back('it cannot be stored', 2, 'PX001', qr/not today/);
like($t->try("SELECT smartspace.cobot_connect_token($loft, 'admin-token')")->{err}, qr/not today/, 'a pasted token that cannot be stored');
ok(works('admin-token'), '... is not ours to revoke');
$t->sql('DROP TRIGGER refuse ON smartspace.cobot_integration');

# --- what cannot be revoked hides nothing, and keeps nobody ---
$cobot->settings(login_user => 'nobody');
my $revoking = { match => { path => '/api/access_tokens/*', method => 'DELETE' }, times => 0 };
foreach my $case ([ 'HTTP 500', { status => 500 } ], [ 'no answer', { drop => JSON::PP::true } ], [ 'a page', { status => 200, body => '<html>' } ])
{
	my ($name, $fault) = @$case;

	check_taken_back("revoking: $name", 0, '42501', qr/is not an admin of "$first"/, fault => { %$revoking, %$fault });
}
check_taken_back('revoking: nothing comes back', 1, '42501', qr/is not an admin of "$first"/, fault => { %$revoking, stall => 10 }, settings => "SET smartspace_cobot.request_timeout = '500ms';");
check_taken_back('revoking: cancelled meanwhile', 1, '42501', qr/is not an admin of "$first"/, fault => { %$revoking, delay_ms => 20_000 }, settings => "SET statement_timeout = '2s';");
check_taken_back('cancelled before', 0, '57014', qr/canceling statement due to statement timeout/, fault => { match => { path => '/api/user' }, times => 0, delay_ms => 20_000 },
	settings => "SET statement_timeout = '1s';");
$cobot->settings(login_user => undef);

# --- the same, in a block that catches it ---
my $sql = connect_sql() =~ s/^SELECT state/PERFORM/r;
$cobot->fault(match => { path => '/api/user' }, times => 0, status => 403);
$cobot->fault(match => { path => '/api/access_tokens/*', method => 'POST' }, times => 0, status => 403);
my $caught = $t->try("DO \$\$BEGIN $sql; EXCEPTION WHEN insufficient_privilege THEN RAISE NOTICE 'caught'; END\$\$; SELECT 'goes on'");
like("$caught->{err}$caught->{out}", qr/caught.*goes on/s, 'whoever catches the error can go on');
is(scalar(revoked()), 1, '... and the token is revoked as well');
$cobot->clear_faults;

# --- connecting again ---
is(come_back()->{out}, 'connected', 'connected');
my $old = stored('token');
ok(works($old), 'the token works');
is(stored('retired_token'), '', '... and there was none before');
like($t->sync($loft)->{result}, qr/^ok/, '... nor needs anything to be revoked');
$t->try('BEGIN; ' . connect_sql() . '; ROLLBACK');
is(stored('token'), $old, 'undone with its transaction: the token is the one before');
like($t->sync($loft)->{result}, qr/^ok/, '... and works');
is(come_back()->{out}, 'connected', 'connected again');
isnt(stored('token'), $old, '... with another token');
is(stored('retired_token'), $old, '... and that before is put aside');
ok(works($old), '... and works, for whoever still uses it');
is($t->sql("SELECT count(*) FROM smartspace.cobot_sync_task WHERE integration_id = $loft AND check_due_at BETWEEN now() AND now() + interval '1 minute'"), 1, 'the check of the connection is due in a minute');
$t->sql("UPDATE smartspace.cobot_sync_task SET check_due_at = now() WHERE integration_id = $loft");
$cobot->clear_log;
$cobot->fault(%$revoking, status => 500);
$t->sql('SELECT smartspace.cobot_run_due()');
$cobot->clear_faults;
is(stored('retired_token'), $old, 'a token that could not be revoked is not forgotten');
is($t->sql("SELECT state FROM smartspace.cobot_integration WHERE id = $loft"), 'connected', '... which is no problem of the connection');
$t->sql("UPDATE smartspace.cobot_sync_task SET check_due_at = now() WHERE integration_id = $loft");
$cobot->clear_log;
$t->sql('SELECT smartspace.cobot_run_due()');
is_deeply([ revoked() ], [$old], 'the check revokes it');
is(stored('retired_token'), '', '... and forgets it');
ok(works(stored('token')), '... and not the one that is used');
is($t->sql("SELECT check_due_at > now() + interval '20 hours' FROM smartspace.cobot_sync_task WHERE integration_id = $loft"), 't', '... and the next check is due in a day');

# --- three in a row, and by hand ---
my @tokens = stored('token');
foreach (1 .. 2)
{
	come_back();
	push @tokens, stored('token');
}
is_deeply([ grep { $_ eq $tokens[0] } revoked() ], [ $tokens[0] ], 'who connects a third time ends the first token at once');
is(stored('retired_token'), $tokens[1], '... and puts the second one aside');
$cobot->clear_log;
is($t->sql("SELECT result FROM smartspace.cobot_check_connection($loft)"), 'ok', 'the check by hand');
is_deeply([ revoked() ], [ $tokens[1] ], '... revokes it');

# --- Cobot may give a token twice ---
my $same = stored('token');
my $twice = connect_sql();
$cobot->fault(match => { path => '/api/access_tokens/*', method => 'POST' }, times => 1, status => 201, body => "{\"token\":\"$same\"}");
is($t->try($twice)->{out}, 'connected', 'the same token again');
is(stored('token') . stored('retired_token'), $same, '... is kept');
ok(works($same), '... and works');
$twice = connect_sql();
$cobot->fault(match => { path => '/api/access_tokens/*', method => 'POST' }, times => 1, status => 201, body => "{\"token\":\"$same\"}");
$t->sql('CREATE TRIGGER refuse BEFORE UPDATE ON smartspace.cobot_integration FOR EACH ROW EXECUTE FUNCTION public.refuse()');
is($t->try($twice)->{sqlstate}, 'PX001', 'the same token again, and it comes to nothing');
ok(works($same), '... so it works');
$t->sql('DROP TRIGGER refuse ON smartspace.cobot_integration');

# --- pulling the plug while one waits ---
come_back();
my @both = sort($same, stored('token'));
is(stored('retired_token'), $same, '(one waits)');
$cobot->clear_log;
is($t->sql("SELECT smartspace.cobot_disconnect($loft)"), 'disconnected; its token is revoked', 'disconnecting');
is_deeply([ sort(revoked()) ], \@both, '... revokes both');
is(stored('token') . stored('retired_token'), '', '... and forgets both');

# --- webhooks ---
my $hook_scope = 'read_user read_memberships read_plans read_subscriptions write_subscriptions';
$t->sql("UPDATE smartspace.cobot_integration SET oauth_scope = '$hook_scope' WHERE id = $loft");
my $foreign = $cobot->add_subscription($first, event => 'confirmed_membership', callback_url => 'https://elsewhere.example/hook');
my $ours = "SELECT count(*) FROM smartspace.cobot_webhook_subscription WHERE integration_id = $loft";

sub plug_in_with_webhooks
{
	come_back();
	$t->sql("SELECT count(*) FROM smartspace.cobot_create_webhooks($loft, 'https://backend.example/cobot')");
	is(scalar($cobot->subscriptions($first)), 13, '(there are twelve webhooks of ours)');
	$cobot->clear_log;
	return;
}

plug_in_with_webhooks();
is($t->sql("SELECT smartspace.cobot_disconnect($loft)"), 'disconnected; its token is revoked; webhooks deleted at Cobot: 12', 'pulling the plug deletes webhooks');
is_deeply([ map { $_->{id} } $cobot->subscriptions($first) ], [ $foreign->{id} ], '... all of ours, and nobody else\'s');
is($t->sql($ours), 0, '... here as well');
is_deeply([ map { $_->{path} =~ m{^/api/(\w+)} } (grep { $_->{method} eq 'DELETE' } $cobot->log)[-1] ], ['access_tokens'], '... before the token is revoked');

plug_in_with_webhooks();
$cobot->fault(match => { path => '/api/subscriptions/*', method => 'DELETE' }, times => 5, status => 500);
is($t->sql("SELECT smartspace.cobot_disconnect($loft)"), 'disconnected; its token is revoked; webhooks deleted at Cobot: 7; webhooks left at Cobot, and ignored here: 5', 'what is left is said');
$cobot->clear_faults;
is($t->sql($ours), 5, '... and known');
plug_in_with_webhooks();
is($t->sql($ours), 12, '... and used again after connecting again');
$t->sql("UPDATE smartspace.cobot_secret SET token = NULL WHERE integration_id = $loft");
is($t->sql("SELECT smartspace.cobot_disconnect($loft)"), 'disconnected; there was no token; webhooks left at Cobot, and ignored here: 12', 'without a token they are left');
is((grep { $_->{method} eq 'DELETE' } $cobot->log), 0, '... and Cobot is asked nothing');

# --- a plug that is pulled while Cobot is down, and put in again ---
come_back();
come_back();
my @down = (stored('token'), stored('retired_token'));
$cobot->fault(%$revoking, status => 502);
like($t->sql("SELECT smartspace.cobot_disconnect($loft)"), qr/^disconnected; its token could not be revoked .*; webhooks deleted at Cobot: 12$/, 'Cobot is down');
is(stored('token') . stored('retired_token'), $down[0], '... so the token waits');
is($t->sql("SELECT state FROM smartspace.cobot_status WHERE integration_id = $loft"), 'disconnected', '... and nobody takes it for a connection');
$cobot->clear_faults;
come_back();
is_deeply([ grep { $_ eq $down[0] } revoked() ], [ $down[0] ], 'whoever connects again ends it');
is(stored('retired_token'), '', '... and nothing waits any more');

# --- a role that has to do with other integrations alone ---
my $yard = $t->sql("SELECT smartspace.cobot_create_integration('Yard', '$second', 'plug', 'secret')");
$t->sql("CREATE ROLE tenant; SELECT smartspace.cobot_grant_role('tenant', 'administer', '{$yard}')");
my $foreign_state = connect_sql() =~ s/'\)$/', 'access_denied')/r;
foreach my $way ([ 'with a code', $foreign_state =~ s/, 'access_denied'//r ], [ 'with an error', $foreign_state ])
{
	my $answer = $t->try("SET ROLE tenant; $way->[1]");

	is($answer->{sqlstate}, '42704', "who has to do with other integrations alone cannot come back in this one, $way->[0]") or diag "$answer->{out}$answer->{err}";
}
is($t->try($foreign_state =~ s/, 'access_denied'//r)->{out}, 'connected', '... and uses up nothing');

# --- no token is anywhere but in its table ---
ok(keys %secret > 10, '(' . keys(%secret) . ' tokens)');
my $log = slurp_file($t->node->logfile);
is_deeply([ grep { index($log, $_) >= 0 } grep { $_ ne 'admin-token' } keys %secret ], [], 'no token is in the server log');

done_testing();
