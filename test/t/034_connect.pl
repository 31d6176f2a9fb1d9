# Connecting: a token that can do the job is swapped for a space token and kept; every
# other one is refused with a reason, and then nothing is stored.
use strict;
use warnings;

use CobotTest;
use JSON::PP;
use Test::More;

my $t = CobotTest->new(spaces => 2, members => 12);
my ($first, $second) = ('space-0001', 'space-0002');
my @all_scopes = qw(read_user read_memberships read_plans read_custom_fields write_custom_fields read_check_ins checkin);
my $loft = $t->sql("SELECT smartspace.cobot_create_integration('Loft', '$first', sync_individual_access => true)");

sub connect_with
{
	my ($token, %options) = @_;
	my $integration = $options{integration} // $loft;
	my $settings = $options{settings} // '';

	$t->cobot->clear_log;
	return $t->try("$settings SELECT row_to_json(c) FROM smartspace.cobot_connect_token($integration, '$token') c");
}

sub stored_token
{
	my ($integration) = @_;

	return $t->sql('SELECT token FROM smartspace.cobot_secret WHERE integration_id = ' . ($integration // $loft));
}

sub stored
{
	return $t->sql('SELECT i.xmin, i.* FROM smartspace.cobot_integration i ORDER BY i.id; SELECT s.xmin, s.* FROM smartspace.cobot_secret s ORDER BY 2');
}

# Connecting that must fail: with this SQLSTATE, saying this, and storing nothing.
sub check_refused
{
	my ($name, $token, $sqlstate, $says, %options) = @_;

	subtest $name => sub {
		my $before = stored();
		my $answer = connect_with($token, %options);

		is($answer->{sqlstate}, $sqlstate, "refused with $sqlstate");
		like($answer->{err}, $says, 'and a reason');
		like($answer->{err}, qr/^HINT:  /m, 'and what to do') unless $options{without_hint};
		is(stored(), $before, 'nothing was stored');
		unlike($answer->{err}, qr/\Q$token\E|https:/, 'the token is not shown') if length $token > 4;
		is((grep { $_->{method} ne 'GET' } $t->cobot->log), $options{writes} // 0, 'Cobot was asked to do no more than that');
		is((grep { $_->{host} !~ /^(www|\Q$first\E|\Q$second\E)\.cobot\.me$/ } $t->cobot->log), 0, 'and nobody else was asked');
	};
	return;
}

# --- tokens that are none ---
check_refused('unknown token', 'no-such-token', '28000', qr/ERROR:  28000: Cobot does not know this token\nDETAIL:  HTTP status 401/);
my $revoked = $t->cobot->token(scopes => \@all_scopes);
$t->cobot->delete_token($revoked);
check_refused('revoked token', $revoked, '28000', qr/Cobot does not know this token\n.*\n.*it may have been revoked/);
check_refused('empty token', '', '22023', qr/this is not an access token/);
check_refused('blanks only', "  \n", '22023', qr/this is not an access token/);
check_refused('blank inside', 'admin token', '22023', qr/this is not an access token\nDETAIL:  .* without blanks/);
check_refused('newline inside', "admin-\ntoken", '22023', qr/this is not an access token/);
check_refused('header smuggled in', "admin-token\r\nX-Evil: 1", '22023', qr/this is not an access token/);
check_refused('no ASCII', "admin-t\xc3\xb6ken", '22023', qr/this is not an access token/);
check_refused('very long token', 'a' x 1001, '22023', qr/this is not an access token/);
is(scalar($t->cobot->log), 0, 'what cannot be a token is not sent to Cobot');
my $null = $t->try("SELECT * FROM smartspace.cobot_connect_token($loft, NULL)");
is($null->{sqlstate}, '22004', 'a null token is refused');
is($t->try("SELECT * FROM smartspace.cobot_connect_token(4711, 'admin-token')")->{sqlstate}, '42704', 'so is an integration that does not exist');
is($t->try("SELECT * FROM smartspace.cobot_connect_token(NULL, 'admin-token')")->{sqlstate}, '22004', '... or is null');
is($t->try("SELECT * FROM smartspace.cobot_sync($loft)")->{sqlstate}, '55000', 'what is not connected cannot be synchronised');

# --- good tokens of the wrong people ---
check_refused('admin of another space', "admin-token-$second", '42501',
	qr/ERROR:  42501: the token's user is not an admin of "$first"\nDETAIL:  The user is an admin of "$second"\.\nHINT:  Connect it as an admin of this space, or correct the subdomain/);
$t->cobot->add_user(id => 'nobody', admin_of => []);
check_refused('admin of nothing', $t->cobot->token(user => 'nobody'), '42501', qr/DETAIL:  The user is an admin of no space\./);
check_refused('admin of nothing who hides it', $t->cobot->token(user => 'nobody', scopes => [ grep { $_ ne 'read_user' } @all_scopes ]), '42501',
	qr/ERROR:  42501: Cobot gives no space token for "$first" to this user/, writes => 1);
check_refused('space token of another space', $t->cobot->token(kind => 'space', space => $second), '42501',
	qr/ERROR:  42501: Cobot gives no space token for "$first" to this user/, writes => 1);

# --- wrong subdomains ---
my $nowhere = $t->sql("SELECT smartspace.cobot_create_integration('Nowhere', 'no-such-space')");
check_refused('no such space', 'admin-token', '42704', qr/ERROR:  42704: Cobot has no space "no-such-space"\nHINT:  Correct the subdomain/, integration => $nowhere);
foreach my $wrong ('', 'Demo', 'demo_space', 'demo.space', 'evil.example.com/', 'demo-space.cobot.me', '-demo', 'demo-', 'www', 'api', 'a b', "demo\n", 'dêmo', 'x' x 64)
{
	my $answer = $t->try("SELECT smartspace.cobot_create_integration('Wrong', E'" . ($wrong =~ s/\n/\\n/r) . "')");
	is($answer->{sqlstate}, '22023', 'no subdomain: "' . ($wrong =~ s/\n/\\n/r =~ s/\xea/e/r) . '"');
}
is($t->try("SELECT smartspace.cobot_create_integration('Again', '$first')")->{sqlstate}, '23505', 'a subdomain has one integration');
is($t->sql('SELECT count(*) FROM smartspace.cobot_integration'), 2, 'nothing of the refused ones is left');

# --- scopes ---
check_refused('without read_memberships', $t->cobot->token(scopes => [ grep { $_ ne 'read_memberships' } @all_scopes ]), '42501',
	qr/ERROR:  42501: the token lacks the scope read_memberships: members cannot be synchronised\nHINT:  Add the scope to the OAuth client in Cobot/);
check_refused('without any scope', $t->cobot->token(scopes => []), '42501', qr/ERROR:  42501: the token lacks the scope read_memberships/);

my %effect = (
	read_plans => 'hidden plans stay unknown',
	read_user => 'it cannot be checked that the token belongs to an admin',
	read_custom_fields => 'individual access does not work',
	write_custom_fields => 'the custom field cannot be created from here');
foreach my $scope (sort keys %effect)
{
	my $answer = connect_with($t->cobot->token(scopes => [ grep { $_ ne $scope } @all_scopes ]));
	my $row = decode_json($answer->{out});

	is($row->{state}, 'connected', "without $scope: connected all the same");
	is_deeply($row->{missing_scope}, [$scope], '... with the scope in missing_scope');
	is_deeply($row->{granted_scope}, [ grep { $_ ne $scope } @all_scopes ], '... and the others in granted_scope');
	like($answer->{err}, qr/^(psql:.*)?WARNING:  42501: the token lacks the scope $scope: $effect{$scope}\nHINT:  /m, '... and a WARNING that tells what does not work');
	is($t->sql("SELECT subject || ': ' || detail FROM smartspace.cobot_problem WHERE integration_id = $loft AND problem = 'missing_scope'"),
		"scope $scope: The token was granted without it: $effect{$scope}.", '... and in cobot_problem');
	like($t->sync($loft)->{result}, qr/^ok/, '... and it can be synchronised');
}
$t->sql("UPDATE smartspace.cobot_integration SET sync_individual_access = false WHERE id = $loft");
my $plain = connect_with($t->cobot->token(scopes => [qw(read_user read_memberships read_plans)]));
is_deeply(decode_json($plain->{out})->{missing_scope}, [], 'without individual access, custom fields need no scope');
is($plain->{err}, '', '... and no WARNING');
$t->sql("UPDATE smartspace.cobot_integration SET sync_individual_access = true WHERE id = $loft");
my $umbrella = connect_with($t->cobot->token(scopes => [qw(read write)]));
is_deeply(decode_json($umbrella->{out})->{missing_scope}, [], 'the old scopes read and write include all of them');
is($umbrella->{err}, '', '... without a WARNING');

# --- a good token, with what comes along when it is pasted ---
foreach my $around ([ '  ', '' ], [ '', "\n" ], [ "\t", " \r\n" ])
{
	my $answer = connect_with("$around->[0]admin-token$around->[1]");

	ok($answer->{ok}, 'blanks around a token are taken away') or diag $answer->{err};
	is((grep { $_->{method} ne 'DELETE' && $_->{path} =~ m{^/api/access_tokens/} && $_->{path} !~ m{^/api/access_tokens/admin-token(/space)?$} } $t->cobot->log), 0, '... before it is sent');
}

# --- what is kept is the space token ---
my $good = connect_with('admin-token');
is_deeply({ %{ decode_json($good->{out}) }, granted_scope => 0 }, {
	state => 'connected', space_name => $t->cobot->space($first)->{space}{name}, time_zone => $t->cobot->space($first)->{space}{time_zone_name},
	granted_scope => 0, missing_scope => [], custom_field => 'present' }, 'a good token connects');
my $token = stored_token();
isnt($token, 'admin-token', 'the admin\'s token is not what is stored');
is((grep { $_->{method} eq 'POST' && $_->{path} eq '/api/access_tokens/admin-token/space' } $t->cobot->log), 1, 'it was swapped, once');
$t->cobot->clear_log;
$t->sync($loft);
is_deeply([ sort keys %{ { map { $_->{token} // 'none' => 1 } $t->cobot->log } } ], [ $token ], 'a synchronisation uses the space token alone');
is($t->sql("SELECT connected_by FROM smartspace.cobot_integration WHERE id = $loft"), 'admin@example.com', 'it is kept who connected');

$t->cobot->delete_token('admin-token');
like($t->sync($loft)->{result}, qr/^ok/, 'the space token works after the admin\'s token is revoked');
my $other = $t->cobot->token(user => $t->cobot->add_user(id => 'leaver', admin_of => [$first])->{id});
ok(connect_with($other)->{ok}, 'another admin connects');
$t->cobot->patch_user('leaver', admin_of => []);
like($t->sync($loft)->{result}, qr/^ok/, '... and the space token works after that one is no admin any more');

$t->cobot->delete_token(stored_token());
my $lost = $t->sync($loft);
is("$lost->{result} ($lost->{reason})", 'failed (auth_revoked)', 'a revoked space token fails the run');
like($lost->{warning}, qr/^HINT:  Connect the integration again with a new token/m, '... and tells what to do');

# --- connecting again: everything keeps its identity ---
my $door = $t->group('Front door');
$t->assign($_->{cobot_id}, $door) foreach $t->rows("SELECT cobot_id FROM smartspace.cobot_plan WHERE integration_id = $loft");
my $ids = "SELECT cobot_id, id FROM smartspace.cobot_membership ORDER BY 1; SELECT xmin, g.* FROM smartspace.user_group_member g ORDER BY 2, 3, 4";
my $ids_before = $t->sql($ids);
like($ids_before, qr/\|plan\|/, 'there are grants to lose');
$token = $t->cobot->token(scopes => \@all_scopes);
ok(connect_with($token)->{ok}, 'connecting again works');
is($t->sql("SELECT state, state_reason IS NULL FROM smartspace.cobot_integration WHERE id = $loft"), 'connected|t', '... and mends the state');
like($t->sync($loft)->{result}, qr/^ok/, '... and it can be synchronised');
is($t->sql($ids), $ids_before, '... and members have their ids, and grants were not touched');

# --- another space under the same name ---
my $space_id = $t->cobot->space($first)->{space}{id};
$t->cobot->patch_space($first, id => 'another-space', name => 'Another');
check_refused('another space than before', $token, '55000',
	qr/ERROR:  55000: the subdomain "$first" belongs to another space than before\nDETAIL:  .* id $space_id, not to "Another" with id another-space\.\nHINT:  Make a new integration/);
my $contents = $t->contents;
my $run = $t->sync($loft);
is("$run->{result} ($run->{reason})", 'incomplete (bad_answer)', 'a synchronisation notices it as well');
is($t->contents, $contents, '... and changes nothing');
$t->cobot->patch_space($first, id => $space_id, name => 'Loft again');
like($t->sync($loft)->{result}, qr/^ok/, 'the right space is fine again');

# --- time zones ---
my $zone = $t->sql("SELECT time_zone FROM smartspace.cobot_integration WHERE id = $loft");
my $grants = "SELECT xmin, g.* FROM smartspace.user_group_member g ORDER BY 2, 3, 4";
my $grants_before = $t->sql($grants);
$t->cobot->patch_space($first, time_zone_name => 'Mars/Olympus_Mons', time_zone_offset => 0);
check_refused('time zone unknown', $token, '22023', qr/PostgreSQL does not know the time zone of the space, "Mars\/Olympus_Mons"\nHINT:  Bring the server's time zone data up to date/);
$run = $t->sync($loft);
is($run->{result}, 'ok_with_problems', 'an unknown time zone does not stop the synchronisation');
is($t->sql("SELECT time_zone FROM smartspace.cobot_integration WHERE id = $loft"), $zone, '... the zone before it stays in force');
is($t->sql($grants), $grants_before, '... no grant moved');
my $problem = $t->row("SELECT * FROM smartspace.cobot_problem WHERE integration_id = $loft AND problem = 'bad_record'");
like($problem->{subject}, qr/^space /, '... there is a problem of the space');
like($problem->{detail}, qr/time_zone_name is "Mars\/Olympus_Mons", which PostgreSQL does not know; the zone before it stays in force\./, '... that tells why');
$t->cobot->patch_space($first, time_zone_name => 'Asia/Tokyo');
$t->sync($loft);
is($t->sql("SELECT time_zone FROM smartspace.cobot_integration WHERE id = $loft"), 'Asia/Tokyo', 'a known one is taken over');
is($t->sql("SELECT count(*) FROM smartspace.cobot_problem WHERE integration_id = $loft AND problem = 'bad_record'"), 0, '... and the problem is gone');
isnt($t->sql($grants), $grants_before, '... and the grants follow');
is($t->grants_differ, 0, '... exactly');

# --- Cobot fails while connecting: an error, and nothing is stored ---
my %step = (
	'the scopes' => { path => '/api/access_tokens/*', method => 'GET' },
	'the user' => { path => '/api/user' },
	'the space' => { path => "/api/spaces/$first" },
	'the space token' => { path => '/api/access_tokens/*', method => 'POST' });
foreach my $step (sort keys %step)
{
	my $writes = $step eq 'the space token' ? 1 : 0;

	foreach my $case (
		[ 'HTTP 402', { status => 402 }, '55000' ],
		[ 'HTTP 429', { status => 429 }, '53400' ],
		[ 'HTTP 500', { status => 500 }, '08006' ],
		[ 'a page with status 200', { body => '<html></html>' }, '08P01' ],
		[ 'a list', { body => '[]' }, '08P01' ],
		[ 'null for everything', { body => '{"scope":null,"token":null,"id":null}' }, $step eq 'the user' ? '42501' : '08P01' ],
		[ 'no answer', { drop => JSON::PP::true }, '08001' ],
		[ 'a stalled body', { stall => 10 }, '08006' ])
	{
		my ($name, $fault, $sqlstate) = @$case;

		$t->cobot->fault(match => $step{$step}, times => 0, %$fault);
		check_refused("$step: $name", $token, $sqlstate, qr/ERROR:  $sqlstate: (?!.*[Uu]nknown)/,
			writes => $writes, without_hint => $sqlstate eq '08P01', settings => "SET smartspace_cobot.request_timeout = '" . patient(700) . "ms'; SET smartspace_cobot.max_retries = 0;");
		$t->cobot->clear_faults;
	}
}

# --- reads are repeated, the swap is not: each would make one more token ---
foreach my $case ([ 'HTTP 502', { status => 502 } ], [ 'no answer', { drop => JSON::PP::true } ], [ 'HTTP 429', { status => 429, headers => { 'Retry-After' => '0' } } ])
{
	my ($name, $fault) = @$case;

	$t->cobot->fault(match => { path => "/api/spaces/$first" }, times => 1, %$fault);
	ok(connect_with($token, settings => 'SET smartspace_cobot.max_retries = 2;')->{ok}, "the space: $name once, with retries: connected");
	foreach my $perform (JSON::PP::false, JSON::PP::true)
	{
		$t->cobot->fault(match => { path => '/api/access_tokens/*', method => 'POST' }, times => 0, perform => $perform, %$fault);
		ok(!connect_with($token, settings => 'SET smartspace_cobot.max_retries = 2;')->{ok}, "the swap: $name: refused");
		$t->cobot->clear_faults;
		is((grep { $_->{method} eq 'POST' } $t->cobot->log), 1, '... after one POST');
	}
}
foreach my $bad ('{"token":""}', '{"token":"two words"}', '{"token":"a\r\nX-Evil: 1"}', '{"token":17}', '{"scope":[]}')
{
	my $before = stored();

	$t->cobot->fault(match => { path => '/api/access_tokens/*', method => 'POST' }, status => 201, body => $bad);
	my $answer = connect_with($token);
	ok(!$answer->{ok}, "a space token that is none is not stored: $bad");
	is(stored(), $before, '... nor anything else');
}

# --- undone with its transaction ---
my $before = stored();
$t->try("BEGIN; SELECT * FROM smartspace.cobot_connect_token($loft, '$token'); ROLLBACK;");
is(stored(), $before, 'a transaction that is rolled back stores nothing');

# --- two integrations side by side ---
my $yard = $t->connect_space($second, token => "admin-token-$second");
my $yard_run = $t->sync($yard);
is($yard_run->{members_added}, 12, 'a second space brings its own members');
is($t->sql('SELECT integration_id, count(*) FROM smartspace.cobot_membership WHERE departed_at IS NULL GROUP BY 1 ORDER BY 1'), "$loft|12\n$yard|12", '... beside those of the first');
isnt(stored_token($yard), stored_token($loft), '... with a token of its own');
is($t->sql("SELECT count(*) FROM smartspace.user_group_member g JOIN smartspace.cobot_membership m ON m.id = g.membership_id"
		  . " WHERE m.integration_id = $yard AND g.source = 'plan'"), 0, '... and plan access by its own assignments only');

my $loft_rows = "SELECT xmin, m.* FROM smartspace.cobot_membership m WHERE integration_id = $loft ORDER BY id; SELECT xmin, p.* FROM smartspace.cobot_plan p WHERE integration_id = $loft ORDER BY id;"
  . " SELECT xmin, i.* FROM smartspace.cobot_integration i WHERE id = $loft";
my $loft_before = $t->sql($loft_rows);
my ($gone) = map { $_->{cobot_id} } $t->rows("SELECT cobot_id FROM smartspace.cobot_membership WHERE integration_id = $yard ORDER BY id LIMIT 1");
$t->cobot->delete_member($second, $gone);
$t->cobot->clear_log;
is($t->sync($yard)->{members_removed}, 1, 'who leaves one space leaves that one');
is((grep { $_->{host} !~ /^(www|\Q$second\E)\.cobot\.me$/ || $_->{path} =~ /\Q$first\E/ } $t->cobot->log), 0, '... and only that one was asked');
is((grep { ($_->{token} // '') eq stored_token($loft) } $t->cobot->log), 0, '... without the other one\'s token');
is($t->sql($loft_rows), $loft_before, '... and the other one was not touched');
$t->cobot->fault(match => { host => "$second.cobot.me" }, times => 0, status => 401);
is($t->sync($yard)->{reason}, 'auth_revoked', 'when one is locked out');
like($t->sync($loft)->{result}, qr/^ok/, '... the other one goes on');
is($t->sql('SELECT id, state FROM smartspace.cobot_integration WHERE space_id IS NOT NULL ORDER BY id'), "$loft|connected\n$yard|degraded", '... and each has its own state');
$t->cobot->clear_faults;

# --- no space token is anywhere but in its table ---
my $log = PostgreSQL::Test::Utils::slurp_file($t->node->logfile);
unlike($log, qr/\Q$_\E/, 'a space token is not in the server log') foreach map { stored_token($_) } $loft, $yard;

done_testing();
