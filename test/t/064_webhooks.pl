# Webhooks: Cobot's subscriptions are made, renewed and deleted on purpose, each with a
# secret that nobody else learns; and what Cobot posts is a hint, which brings exactly
# one question to Cobot about whom it names, however often it comes.
use strict;
use warnings;

use CobotMirror;
use CobotTest;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $t = CobotTest->new(spaces => 2, members => 15, conf => <<'CONF');
log_statement = none
log_min_messages = debug2
log_min_error_statement = info
log_error_verbosity = verbose
log_parameter_max_length_on_error = 0
CONF
my $cobot = $t->cobot;
my ($first, $second) = ('space-0001', 'space-0002');
my $loft = $t->connect_space($first);
my $yard = $t->connect_space($second);
my $base = 'https://backend.example/cobot';
my @events = qw(created_membership confirmed_membership connected_user updated_membership_details changed_membership_plan
  membership_plan_change_date_reached canceled_membership uncanceled_membership membership_cancellation_date_reached
  reactivated_membership deleted_membership updated_custom_field);

# Every secret that was ever given to Cobot, and everything that clients were told.
my (%secret, @told);

sub attempt
{
	my ($sql, %options) = @_;
	my $answer = $t->try("SET client_min_messages = debug2;\n$sql", %options);

	push @told, $answer->{out} . $answer->{err};
	$secret{$_} = 1 foreach map { $_->{callback_url} =~ m{/([0-9a-f]{64})$} } map { $cobot->subscriptions($_) } $first, $second;
	return $answer;
}

sub create
{
	my ($integration, $url) = @_;

	return attempt("SELECT event, result, message FROM smartspace.cobot_create_webhooks($integration, '$url')");
}

# How often each result came, such as "12 created".
sub results_of
{
	my ($answer) = @_;
	my %count;

	$count{ (split /\|/)[1] }++ foreach split /\n/, $answer->{out};
	return $answer->{ok} ? join ', ', map { "$count{$_} $_" } sort keys %count : "failed: $answer->{err}";
}

sub callbacks
{
	my ($space) = @_;

	return map { ("$_->{event}" => $_->{callback_url}) } $cobot->subscriptions($space);
}

sub asked { return join ' ', map { $_->{method} } $cobot->log; }

# --- given: somebody else's subscriptions, and one of our own app that we did not make ---
my $foreign = $cobot->add_subscription($first, event => 'confirmed_membership', callback_url => 'https://elsewhere.example/hook');
my $by_hand = $cobot->add_subscription($first, event => 'created_invoice', callback_url => 'https://books.example/private/path?key=1', token => 'admin-token');

# --- creating ---
is(results_of(create($loft, $base)), '12 created', 'every event of interest is subscribed to');
my %before = callbacks($first);
is_deeply([ sort grep { $before{$_} =~ m{^\Q$base\E/} } keys %before ], [ sort @events ], '... at Cobot, one callback for each');
my @parts = map { m{^\Q$base\E/([0-9a-f]{64})$} } values %before;
is(scalar(keys %{ { map { $_ => 1 } @parts } }), 12, '... each with a secret of its own');
is($t->sql("SELECT count(*) FROM smartspace.cobot_webhook_subscription w WHERE w::text ~ '" . join('|', @parts) . "'"), '0', '... of which none is stored');
is($t->sql("SELECT count(*) FROM smartspace.cobot_webhook_subscription WHERE secret_digest IN (" . join(', ', map { "sha256('$_')" } @parts) . ')'), '12', '... but its digest');

$cobot->clear_log;
is(results_of(create($loft, $base)), '12 present', 'once more: all is there');
is(asked(), 'GET', '... and Cobot was only asked for the list');
is_deeply({ callbacks($first) }, \%before, '... and nothing changed there');
is(results_of(create($loft, "$base/")), '12 present', 'a slash at the end makes no difference');

my ($off, $gone) = map { my $event = $_; grep { $_->{event} eq $event && $_->{callback_url} =~ /^\Q$base/ } $cobot->subscriptions($first) } qw(canceled_membership deleted_membership);
$cobot->patch_subscription($first, $off->{id}, active => JSON::PP::false);
$cobot->delete_subscription($first, $gone->{id});
my $mended = create($loft, $base);
is(results_of($mended), '1 created, 10 present, 1 renewed', 'what Cobot switched off is renewed, what is missing is made');
like($mended->{out}, qr/^canceled_membership\|renewed\|$/m, '... the right one renewed');
like($mended->{out}, qr/^deleted_membership\|created\|$/m, '... the right one made');
my %after = callbacks($first);
is(scalar(grep { $before{$_} ne $after{$_} } @events), 2, '... with new secrets');
is((grep { $_->{id} eq $off->{id} } $cobot->subscriptions($first)), 0, '... and the old one is gone');
is($t->sql("SELECT count(*) FROM smartspace.cobot_webhook_subscription WHERE integration_id = $loft"), '12', '... here as well');

is(results_of(create($loft, 'https://other.example:8443/x')), '12 renewed', 'another callback renews all');
is((grep { $_->{callback_url} =~ /^\Q$base/ } $cobot->subscriptions($first)), 0, '... and none of the old ones is left');
is(results_of(create($loft, $base)), '12 renewed', '... and back');
is(results_of(create($yard, $base)), '12 created', 'a second space has its own');
is((grep { $_->{id} eq $foreign->{id} || $_->{id} eq $by_hand->{id} } $cobot->subscriptions($first)), 2, 'what others made is still there');

# --- listing ---
sub list
{
	my ($integration) = @_;

	return attempt("SELECT event, active, ours, as_expected, host, note FROM smartspace.cobot_list_webhooks($integration)")->{out};
}

my @lines = split /\n/, list($loft);
is((grep { /^\w+\|t\|t\|t\|https:\/\/backend\.example\|as it should be$/ } @lines), 12, 'the list has ours');
is((grep { $_ eq 'created_invoice|t|f|f|https://books.example|made by somebody else, or before this database was restored' } @lines), 1,
	'... and the one of the same app that somebody else made, without its path');
is(scalar(@lines), 13, '... and no more');
my ($switched, $moved, $lost) = map { my $event = $_; grep { $_->{event} eq $event } $cobot->subscriptions($first) } qw(connected_user created_membership updated_custom_field);
$cobot->patch_subscription($first, $switched->{id}, active => JSON::PP::false);
$cobot->patch_subscription($first, $moved->{id}, callback_url => $moved->{callback_url} =~ s/backend/mirror/r);
$cobot->delete_subscription($first, $lost->{id});
my $list = list($loft);
like($list, qr/^connected_user\|f\|t\|t\|https:\/\/backend\.example\|Cobot switched it off because callbacks failed; run cobot_create_webhooks again$/m, 'the list shows what is switched off');
like($list, qr/^created_membership\|t\|t\|f\|https:\/\/mirror\.example\|it leads to another address/m, '... what leads elsewhere');
like($list, qr/^updated_custom_field\|\|\|f\|\|missing at Cobot; run cobot_create_webhooks$/m, '... and what is missing');
is(results_of(create($loft, $base)), '1 created, 9 present, 2 renewed', 'creating mends all of it');
is((grep { /as it should be/ } split /\n/, list($loft)), 12, '... so that the list is well again');

# --- callbacks that are none ---
$cobot->clear_log;
foreach my $wrong ('', 'backend.example', 'http://backend.example/x', 'HTTPS://backend.example', 'https://', 'https:///x', 'https://:443/x', 'ftp://backend.example',
	'https://a b/', "https://backend.example/\r\nX-Evil: 1", "https://backend.example\n", 'https://backend.example/?a=1', 'https://backend.example/#a',
	'https://user@backend.example/', 'https://bäckend.example/', 'https://backend.example/' . 'x' x 1000)
{
	my $answer = create($loft, $wrong);

	is($answer->{sqlstate}, '22023', 'refused: ' . substr($wrong, 0, 40) =~ s/[\r\n]/ /gr);
	like($answer->{err}, qr/invalid callback URL\nDETAIL:  It .*\nHINT:  Give the public address/, '... with what to give') if $wrong eq '';
}
is(attempt("SELECT smartspace.cobot_create_webhooks($loft, NULL)")->{sqlstate}, '22004', 'so is null');
foreach my $function ('cobot_create_webhooks(%s, \'https://x.example\')', 'cobot_list_webhooks(%s)', 'cobot_delete_webhooks(%s)')
{
	is(attempt('SELECT smartspace.' . sprintf $function, 'NULL')->{sqlstate}, '22004', sprintf "$function is refused", 'NULL');
	is(attempt('SELECT smartspace.' . sprintf $function, 4711)->{sqlstate}, '42704', sprintf "$function is refused", 4711);
	is(attempt("BEGIN READ ONLY; SELECT smartspace." . sprintf $function, $loft)->{sqlstate}, $function =~ /list/ ? '' : '25006', sprintf "$function in a read-only transaction", $loft);
}
$t->sql("UPDATE smartspace.cobot_integration SET state = 'paused' WHERE id = $loft");
is(create($loft, $base)->{sqlstate}, '55000', 'a paused integration makes none');
$t->sql("UPDATE smartspace.cobot_integration SET state = 'connected' WHERE id = $loft");
is((grep { $_->{method} ne 'GET' } $cobot->log), 0, 'nothing of all that changed anything at Cobot');

# --- scopes that are missing ---
my $token = "SELECT token FROM smartspace.cobot_secret WHERE integration_id = $loft";
my $good_token = $t->sql($token);

sub use_token
{
	my (@scopes) = @_;
	my $with = @scopes ? $cobot->token(scopes => \@scopes) : $good_token;

	$t->sql("UPDATE smartspace.cobot_secret SET token = '$with' WHERE integration_id = $loft");
	return;
}

use_token('read_memberships', 'write_subscriptions');
foreach my $function ("cobot_create_webhooks($loft, '$base')", "cobot_list_webhooks($loft)", "cobot_delete_webhooks($loft)")
{
	my $answer = attempt("SELECT smartspace.$function");

	is($answer->{sqlstate}, '42501', "without read_subscriptions: $function");
	like($answer->{err}, qr/ERROR:  42501: could not read the webhooks of "$first": .*; it needs the scope read_subscriptions\nDETAIL:  HTTP status 403.*\nHINT:  Add the scope read_subscriptions to the OAuth client/,
		'... says which scope is missing and what to do');
}
$cobot->delete_subscription($first, (grep { $_->{event} eq 'connected_user' } $cobot->subscriptions($first))[0]{id});
use_token('read_subscriptions');
foreach my $function ("cobot_create_webhooks($loft, '$base')", "cobot_delete_webhooks($loft)")
{
	# the token is another one of the same user, who therefore sees what was made before
	my $answer = attempt("SELECT smartspace.$function");

	is($answer->{sqlstate}, '42501', "without write_subscriptions: $function");
	like($answer->{err}, qr/; it needs the scope write_subscriptions\n.*\nHINT:  Add the scope write_subscriptions/, '... says which scope is missing');
}
use_token();
is(results_of(create($loft, $base)), '1 created, 11 present', 'with the good token all is well');

# --- Cobot fails ---
foreach my $case ([ 'HTTP 401', { status => 401 }, '28000' ], [ 'HTTP 500', { status => 500 }, '08006' ], [ 'an object', { body => '{}' }, '08P01' ],
	[ 'a page', { body => '<html>' }, '08P01' ], [ 'no ids', { body => '[{"event":"x"}]' }, '08P01' ], [ 'no answer', { drop => JSON::PP::true }, '08001' ])
{
	my ($name, $fault, $sqlstate) = @$case;
	my $contents = $t->sql('SELECT w.xmin, w.* FROM smartspace.cobot_webhook_subscription w ORDER BY secret_digest');

	$cobot->fault(match => { method => 'GET', path => '/api/subscriptions' }, times => 0, %$fault);
	is(attempt("SELECT smartspace.$_")->{sqlstate}, $sqlstate, "$name: $_ is an error") foreach "cobot_create_webhooks($loft, '$base')", "cobot_list_webhooks($loft)", "cobot_delete_webhooks($loft)";
	$cobot->clear_faults;
	is($t->sql('SELECT w.xmin, w.* FROM smartspace.cobot_webhook_subscription w ORDER BY secret_digest'), $contents, '... and nothing changed');
}
my $plan = (grep { $_->{event} eq 'changed_membership_plan' } $cobot->subscriptions($first))[0];
$cobot->delete_subscription($first, $plan->{id});
$cobot->fault(match => { method => 'POST', path => '/api/subscriptions' }, status => 422);
like(create($loft, $base)->{out}, qr/^changed_membership_plan\|failed\|could not create the webhook for changed_membership_plan of "$first": Cobot rejected the request \(HTTP status 422 after 1 attempt.*\)$/m,
	'a refusal is told');
$cobot->fault(match => { method => 'POST', path => '/api/subscriptions' }, drop => JSON::PP::true, perform => JSON::PP::true);
$cobot->clear_log;
like(create($loft, $base)->{out}, qr/^changed_membership_plan\|failed\|/m, 'an answer that got lost is told');
is(asked(), 'GET POST', '... and not tried again blindly');
is(results_of(create($loft, $base)), '12 present', '... and next time, what it made is found and recognised');
is($t->sql("SELECT count(*), count(cobot_id) FROM smartspace.cobot_webhook_subscription WHERE integration_id = $loft"), '12|12', '... with its id');

$cobot->patch_subscription($first, $_->{id}, active => JSON::PP::false) foreach grep { $_->{event} eq 'connected_user' } $cobot->subscriptions($first);
$cobot->fault(match => { method => 'DELETE', path => '/api/subscriptions/*' }, status => 500);
like(create($loft, $base)->{out}, qr/^connected_user\|renewed\|the one before is still there: could not delete the webhook/m, 'an old one that stays is told');
is(results_of(create($loft, $base)), '12 present', '... and next time');
is((grep { $_->{event} eq 'connected_user' } $cobot->subscriptions($first)), 1, '... it goes');
$cobot->patch_subscription($first, $_->{id}, active => JSON::PP::false) foreach grep { $_->{event} eq 'connected_user' } $cobot->subscriptions($first);
$cobot->fault(match => { method => 'POST', path => '/api/subscriptions' }, status => 500);
my $kept = (grep { $_->{event} eq 'connected_user' } $cobot->subscriptions($first))[0]{id};
like(create($loft, $base)->{out}, qr/^connected_user\|failed\|/m, 'where the new one fails');
is((grep { $_->{id} eq $kept } $cobot->subscriptions($first)), 1, '... the old one stays');
is(results_of(create($loft, $base)), '11 present, 1 renewed', '... until the next time');

# --- two at once: one waits for the other, and nothing is made twice ---
attempt("SELECT smartspace.cobot_delete_webhooks($loft)");
$cobot->fault(match => { method => 'POST', path => '/api/subscriptions' }, times => 12, delay_ms => 100);
my @both = map { $t->node->background_psql('postgres') } 1 .. 2;
$_->{stdin} .= "SELECT 'done', count(*) FROM smartspace.cobot_create_webhooks($loft, '$base');\n" foreach @both;
$_->{run}->pump_nb foreach @both;
foreach my $session (@both)
{
	$t->wait_until(sub { $session->{run}->pump_nb; $session->{stdout} =~ /done\|12/ }, 'both have made them');
	$session->quit;
}
is((grep { $_->{callback_url} =~ /^\Q$base/ } $cobot->subscriptions($first)), 12, 'two at once make one set');

# --- nobody else may look ---
$t->sql('CREATE ROLE nobody LOGIN; GRANT USAGE ON SCHEMA smartspace TO nobody');
is($t->try("SET ROLE nobody; $_")->{sqlstate}, '42501', "refused: $_") foreach 'TABLE smartspace.cobot_webhook_subscription',
  "SELECT smartspace.cobot_create_webhooks($loft, '$base')", "SELECT smartspace.cobot_list_webhooks($loft)", "SELECT smartspace.cobot_delete_webhooks($loft)";
my $dump = PostgreSQL::Test::Utils::tempdir . '/dump.sql';
$t->node->command_ok([ 'pg_dump', '-f', $dump, $t->node->connstr('postgres') ], 'pg_dump');
unlike(slurp_file($dump), qr/cobot_webhook/, '... has no subscription in it');

# --- deleting ---
my $deleted = attempt("SELECT event, result, message FROM smartspace.cobot_delete_webhooks($loft)");
is(results_of($deleted), '12 deleted', 'deleting deletes ours');
is_deeply([ map { $_->{id} } $cobot->subscriptions($first) ], [ $foreign->{id}, $by_hand->{id} ], '... and no others');
is($t->sql('SELECT integration_id, count(*) FROM smartspace.cobot_webhook_subscription GROUP BY 1'), "$yard|12", '... nor those of the other space');
is(results_of(attempt("SELECT event, result FROM smartspace.cobot_delete_webhooks($loft)")), '', 'once more: nothing to do');
create($loft, $base);
$cobot->fault(match => { method => 'DELETE', path => '/api/subscriptions/*' }, status => 500);
is(results_of(attempt("SELECT event, result, message FROM smartspace.cobot_delete_webhooks($loft)")), '11 deleted, 1 failed', 'what Cobot does not delete is told');
is(results_of(attempt("SELECT event, result, message FROM smartspace.cobot_delete_webhooks($loft)")), '1 deleted', '... and deleted next time');

# --- no secret is anywhere but at Cobot ---
create($loft, $base);
cmp_ok(scalar(keys %secret), '>', 50, '(many secrets were made)');
my %where = (clients => join("\n", @told), log => slurp_file($t->node->logfile));
is(scalar(grep { my $one = $_; index($where{clients}, $one) >= 0 } keys %secret), 0, 'no client was told one');
is(scalar(grep { my $one = $_; index($where{log}, $one) >= 0 } keys %secret), 0, 'none is in the server log');

done_testing();
