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

# ===== what Cobot posts =====

my @members;

# Lets time pass for everything that the rules for hints look at.
sub later
{
	my ($seconds) = @_;

	$t->sql("UPDATE smartspace.cobot_webhook_hint SET received_at = received_at - interval '$seconds seconds';"
		  . " UPDATE smartspace.cobot_webhook_fetch SET started_at = started_at - interval '$seconds seconds';"
		  . " UPDATE smartspace.cobot_sync_run SET started_at = started_at - interval '$seconds seconds'");
	return;
}

# A quiet state: all in step, nothing pending, nothing recent.
sub quiet
{
	later(1000);
	$t->sync($loft);
	later(1000);
	$t->sql('DELETE FROM smartspace.cobot_webhook_hint; DELETE FROM smartspace.cobot_webhook_fetch');
	$cobot->clear_log;
	return;
}

sub payload { return qq({"url": "https://$first.cobot.me/api/memberships/$_[0]"}); }

# A webhook passed on; the answer in words, with numbers of seconds as N.
sub hook
{
	my ($event, $payload, $integration) = @_;
	my $answer = attempt('SELECT smartspace.cobot_webhook(' . ($integration // $loft) . ", '$event', '$payload')");

	return $answer->{ok} ? words($answer->{out}) : $answer->{sqlstate};
}

sub words
{
	my ($text) = @_;

	return $text =~ s/(?<=due in )\d+(?= s)/N/gr =~ s/(just now|\d+ seconds ago)/N ago/gr;
}

sub process { return words(attempt("SELECT smartspace.cobot_process_hints($loft)")->{out}); }

# What was asked of Cobot: "one ID" for a member, "all" for the list.
sub fetched
{
	my @fetched = map { $_->{path} eq '/api/memberships' ? 'all' : $_->{path} =~ m{^/api/memberships/([^/]+)$} ? "one $1" : () } $cobot->log;

	$cobot->clear_log;
	return join ', ', @fetched;
}

my $door = $t->group('Front door');
$t->sync($loft);
$t->assign($_->{cobot_id}, $door) foreach $t->rows("SELECT cobot_id FROM smartspace.cobot_plan WHERE integration_id = $loft");
@members = map { $_->{cobot_id} } $t->rows("SELECT cobot_id FROM smartspace.cobot_membership WHERE integration_id = $loft AND departed_at IS NULL"
	  . ' AND plan_id IS NOT NULL AND canceled_to IS NULL ORDER BY id');
cmp_ok(scalar(@members), '>', 12, '(enough members)') or BAIL_OUT('the seed has changed');
my $ada = $members[0];

# --- one change, one question ---
quiet();
$cobot->patch_member($first, $ada, name => 'Ada Changed', canceled_to => 'today-1d');
like($t->groups_of($ada), qr/Front door/, '(she has access)');
is(hook('canceled_membership', payload($ada)), 'synchronised', 'a webhook brings the member');
is(fetched(), "one $ada", '... by one question about her');
is($t->sql("SELECT name FROM smartspace.cobot_membership WHERE cobot_id = '$ada'"), 'Ada Changed', '... whose details are those of Cobot');
is($t->sql('SELECT count(*) FROM smartspace.access_now a JOIN smartspace.cobot_membership m ON m.id = a.membership_id WHERE m.cobot_id = ' . "'$ada'"), '0', '... and whose access ended');
is($t->sql('SELECT count(*) FROM smartspace.cobot_webhook_hint'), '0', '... and nothing is pending');

$cobot->patch_member($first, $ada, canceled_to => undef);
is(hook('uncanceled_membership', payload($ada)), 'pending: fetched N ago, due in N s', 'a hint within three seconds waits');
is(hook('updated_membership_details', payload($ada)), 'pending: fetched N ago, due in N s', '... and another one');
is(process(), '1 pending: fetched N ago, due in N s', '... also for who comes to take it up');
is($t->sql("SELECT cobot_id, hints, all_at_once, first_at < last_at, not_before > now() FROM smartspace.cobot_pending_hints($loft)"), "$ada|2|f|t|t", '... and can be looked at');
is(fetched(), '', '... and Cobot is not asked');
later(4);
is(process(), 'synchronised 1 member', 'after that it is taken up');
is(fetched(), "one $ada", '... with one question for both');
is(process(), 'nothing to do', '... and then there is nothing to do');
like($t->groups_of($ada), qr/Front door/, '... and she has access again');
hook('updated_membership_details', payload($ada));
later(4);
is(hook('updated_membership_details', payload($members[1])), 'synchronised', 'the next call about somebody else');
is(fetched(), "one $ada, one $members[1]", '... takes up what is pending');

# --- people who come and go ---
quiet();
$cobot->add_member($first, id => 'newcomer', name => 'New Comer', plan => { parent_plan => { id => $t->sql("SELECT parent_plan_id FROM smartspace.cobot_membership WHERE cobot_id = '$ada'") } });
is(hook('confirmed_membership', payload('newcomer')), 'synchronised', 'a newcomer is brought');
like($t->groups_of('newcomer'), qr/Front door/, '... with access');
later(4);
$cobot->delete_member($first, 'newcomer');
is(hook('deleted_membership', qq({"url": "https://$first.cobot.me/api/memberships/newcomer", "membership": {"id": "$ada"}})), 'synchronised', 'who was deleted is noticed');
is($t->groups_of('newcomer'), '', '... and has no access');
is(fetched() =~ /one $ada/ ? 1 : 0, 0, '... and the object in the payload is not looked at');
is(hook('created_membership', payload('no-such-member')), 'synchronised', 'a hint about somebody who does not exist');
is($t->sql("SELECT count(*) FROM smartspace.cobot_membership WHERE cobot_id = 'no-such-member'"), '0', '... makes nobody');
is(mirror_differs($t, $loft, $first), '', 'the mirror equals Cobot');

# --- what is no hint ---
quiet();
is(hook('created_checkin', '{}'), 'ignored: event "created_checkin" says nothing about members', 'an event without meaning for access');
is(hook('updated_membership', payload($ada)), 'ignored: unknown event "updated_membership"', 'an event that nobody knows');
like($told[-1], qr/NOTICE:  00000: webhook for integration "$first" is ignored: unknown event "updated_membership"$/m, '... is noted');
is(length hook('x' x 5000, '{}'), length('ignored: unknown event ""') + 100, 'a very long name is shortened');
foreach my $case ([ '{}', 'the payload\'s url is missing' ], [ '[]', 'the payload is an array, expected an object' ], [ '{"url": 7}', 'the payload\'s url is a number, expected a string' ],
	[ payload('a/../b'), 'the payload\'s url does not end with the id of a membership' ],
	[ '{"url": "https://evil.example/api/memberships/7"}', "the payload's url does not begin with https://$first.cobot.me/api/" ],
	[ qq({"url": "https://$second.cobot.me/api/memberships/7"}), "the payload's url does not begin with https://$first.cobot.me/api/" ],
	[ '[' x 40 . ']' x 40, 'the payload is nested more than 32 levels deep at byte 33' ])
{
	my ($payload, $why) = @$case;
	my $answer = hook('updated_membership_details', $payload);

	is($answer, "ignored: $why", substr "ignored: $payload", 0, 70);
	like($told[-1], qr/WARNING:  01000: webhook "updated_membership_details" for integration "$first" is ignored: .*\nHINT:  If Cobot sent it/, '... with a warning');
}
is(attempt("SELECT smartspace.cobot_webhook($loft, 'updated_membership_details', NULL)")->{out}, 'ignored: the payload is null, expected an object', 'ignored: no payload');
is(attempt("SELECT smartspace.cobot_webhook($loft, NULL, '{}')")->{sqlstate}, '22004', 'an event is required');
is(attempt("SELECT smartspace.$_")->{sqlstate}, '22004', "$_ is refused") foreach "cobot_webhook(NULL, 'x', '{}')", 'cobot_process_hints(NULL)';
is(attempt("SELECT smartspace.$_")->{sqlstate}, '42704', "$_ is refused") foreach "cobot_webhook(4711, 'x', '{}')", 'cobot_process_hints(4711)';
is(attempt("BEGIN READ ONLY; SELECT smartspace.$_")->{sqlstate}, '25006', "$_ in a read-only transaction")
  foreach "cobot_webhook($loft, 'x', '{}')", "cobot_webhook_received('x', '{}')", "cobot_process_hints($loft)";
is($t->try("SET ROLE nobody; $_")->{sqlstate}, '42501', "refused: $_") foreach 'TABLE smartspace.cobot_webhook_hint', 'TABLE smartspace.cobot_webhook_fetch',
  "SELECT smartspace.cobot_webhook($loft, 'x', '{}')", "SELECT smartspace.cobot_webhook_received('x', '{}')",
  "SELECT smartspace.cobot_process_hints($loft)", "SELECT smartspace.cobot_pending_hints($loft)";
$t->sql("UPDATE smartspace.cobot_integration SET state = 'paused' WHERE id = $loft");
is(hook('updated_membership_details', payload($ada)), qq(ignored: integration "$first" is paused), 'a paused integration');
is(process(), qq(ignored: integration "$first" is paused), '... takes nothing up');
$t->sql("UPDATE smartspace.cobot_integration SET state = 'connected' WHERE id = $loft");
my $fresh = $t->sql("SELECT smartspace.cobot_create_integration('Fresh', 'fresh')");
is(hook('updated_membership_details', payload($ada), $fresh), 'ignored: integration "Fresh" is not connected to Cobot', 'one that is not connected');
is(fetched(), '', 'Cobot was asked nothing for all of that');
is($t->sql('SELECT count(*) FROM smartspace.cobot_webhook_hint'), '0', '... and nothing is pending');

# --- by the secret part of the path ---
quiet();
create($loft, $base);
my %part = map { ($_->{event} => $_->{callback_url} =~ m{([0-9a-f]{64})$}) } grep { $_->{callback_url} =~ /^\Q$base/ } $cobot->subscriptions($first);

sub received
{
	my ($part, $payload) = @_;

	return attempt("SELECT smartspace.cobot_webhook_received('$part', '$payload')");
}

$cobot->clear_log;
is(received($part{updated_membership_details}, payload($ada))->{out}, 'synchronised', 'a webhook is recognised by its path');
is(fetched(), "one $ada", '... and brings the member');
my $unread = received($part{updated_membership_details}, '{}');
is($unread->{out}, 'ignored: the payload\'s url is missing', 'what cannot be read is ignored');
like($unread->{err}, qr/WARNING/, '... with a warning');
foreach my $wrong ('', 'x', '0' x 64, uc $part{updated_membership_details}, substr($part{updated_membership_details}, 1), "$part{updated_membership_details} ", $base)
{
	is(received($wrong, payload($members[1]))->{out}, 'ignored: unknown path', 'ignored: ' . substr $wrong =~ s/[0-9a-f]{20,}/.../ir, 0, 40);
}
is(attempt("SELECT smartspace.cobot_webhook_received(NULL, '{}')")->{out}, 'ignored: unknown path', 'ignored: no path');
$t->sql("UPDATE smartspace.cobot_secret SET token = NULL WHERE integration_id = $loft");
is(received($part{created_membership}, payload($ada))->{out}, qq(ignored: integration "$first" is not connected to Cobot), 'ignored: not connected');
use_token();
attempt("SET statement_timeout = '10ms'; SELECT smartspace.cobot_webhook_received('$part{created_membership}', '{}'), pg_sleep(1)");
attempt("DO \$\$ BEGIN PERFORM smartspace.cobot_webhook_received('$part{created_membership}', '{}'); RAISE 'after'; END \$\$");
attempt("BEGIN READ ONLY; SELECT smartspace.cobot_webhook_received('$part{created_membership}', '{}')");
attempt("SELECT smartspace.cobot_delete_webhooks($loft)");
is(received($part{updated_membership_details}, payload($ada))->{out}, 'ignored: unknown path', 'a deleted one is unknown');

# --- a burst becomes one synchronisation of all ---
quiet();
is(join(', ', map { hook('updated_membership_details', payload($_)) } @members[ 0 .. 9 ]), join(', ', ('synchronised') x 10), 'ten members are brought one by one');
is(fetched(), join(', ', map { "one $_" } @members[ 0 .. 9 ]), '... with a question for each');
is(hook('updated_membership_details', payload($members[10])), 'synchronised together with all members', 'the eleventh brings all');
is(fetched(), 'all', '... with one list');
is(hook('updated_membership_details', payload($members[11])), 'pending: fetched N ago, due in N s', 'who was in that list waits three seconds');
later(4);
is(hook('updated_membership_details', payload($members[12])), 'synchronised', '... and is brought with the next');
is(fetched(), "one $members[11], one $members[12]", '... one by one again');

quiet();
is(hook('updated_custom_field', qq({"url": "https://$first.cobot.me/api/custom_fields/7"})), 'synchronised together with all members', 'custom fields of anybody bring all');
is(hook('updated_custom_field', payload($ada)), 'pending: fetched N ago, due in N s', '... those of one member her alone');
is(hook('updated_custom_field', qq({"url": "https://$first.cobot.me/api/custom_fields/7"})), 'pending: all members are to be synchronised at once, due in N s', '... but not all twice within 15 seconds');
is(fetched(), 'all', '(Cobot was asked once)');
later(4);
is(process(), '2 pending: all members are to be synchronised at once, due in N s', '... nor the one meanwhile');
later(12);
is(process(), 'synchronised all members', '... until they are over');
is(fetched(), 'all', '... then all together');

# --- any good synchronisation settles what came before it ---
quiet();
hook('updated_membership_details', payload($ada)) foreach 1 .. 2;
$cobot->clear_log;
$t->sync($loft);
later(100);
is(process(), 'nothing to do', 'a synchronisation settles the hints before it');
is(fetched(), 'all', '... and nothing more is asked');

# --- Cobot fails ---
quiet();
$cobot->fault(match => { path => "/api/memberships/$ada" }, status => 502);
is(hook('updated_membership_details', payload($ada)), qq(pending: could not read the member "$ada" of "$first": Cobot has a server error), 'a failure keeps the hint');
is(process(), '1 pending: Cobot could not be asked N ago, due in N s', '... for a minute');
later(30);
is(process(), '1 pending: Cobot could not be asked N ago, due in N s', '... not less');
later(31);
is(process(), 'synchronised 1 member', '... then it is taken up');
quiet();
$cobot->fault(match => { path => '/api/memberships' }, status => 502);
like(hook('updated_custom_field', qq({"url": "https://$first.cobot.me/api/space/custom_fields"})), qr/^pending: could not read the members/, 'so does a failure of the list');
is(process(), '1 pending: the last synchronisation failed, due in N s', '... for a minute');
later(61);
is(process(), 'synchronised all members', '... then it is taken up');
is(hook('updated_membership_details', payload($ada)), 'pending: fetched N ago, due in N s', '... and all is as before');
quiet();
$cobot->fault(match => { path => '/api/memberships' }, body => '[]');
like(hook('updated_custom_field', qq({"url": "https://$first.cobot.me/api/space/custom_fields"})), qr/^pending: Cobot lists no members/, 'an empty list settles nothing');
later(61);
is(process(), 'synchronised all members', '... but the next good one does');

# --- many at once: nobody waits, nobody is fetched twice, nothing is lost ---
sub start
{
	my ($sql) = @_;
	my $session = $t->node->background_psql('postgres');

	$session->{stdin} .= "$sql;\n\\echo done\n";
	$session->{run}->pump_nb;
	return $session;
}

sub finish
{
	my ($session) = @_;

	$t->wait_until(sub { $session->{run}->pump_nb; $session->{stdout} =~ /^done$/m }, 'a session ends');
	my $out = $session->{stdout} =~ s/\n?done\n.*//sr;
	$session->{stdout} = '';
	return $out;
}

quiet();
$cobot->fault(match => { path => "/api/memberships/$ada" }, delay_ms => patient(2000));
my $slow = start("SELECT smartspace.cobot_webhook($loft, 'updated_membership_details', '" . payload($ada) . "')");
$t->wait_until(sub { grep { $_->{path} eq "/api/memberships/$ada" } $cobot->log }, 'Cobot is asked');
$cobot->patch_member($first, $ada, name => 'Ada Later');
my $meanwhile = attempt("SELECT smartspace.cobot_webhook($loft, 'updated_membership_details', '" . payload($ada) . "')");
is($meanwhile->{out}, 'pending: another synchronisation is under way', 'while a member is fetched, another hint about her waits in the table');
cmp_ok($meanwhile->{seconds}, '<', patient(1), '... and its caller does not');
is(hook('updated_membership_details', payload($members[1])), 'pending: another synchronisation is under way', '... nor does one about somebody else');
is(finish($slow), 'synchronised', 'the first call');
$slow->quit;
is(fetched(), "one $ada, one $members[1]", '... took up who came meanwhile, and nobody twice');
is($t->sql("SELECT cobot_id, hints FROM smartspace.cobot_pending_hints($loft)"), "$ada|1", 'the later hint about the same member is not lost');
later(4);
is(process(), 'synchronised 1 member', '... and brings');
is($t->sql("SELECT name FROM smartspace.cobot_membership WHERE cobot_id = '$ada'"), 'Ada Later', '... the later change');

quiet();
my $open = start("BEGIN; SELECT smartspace.cobot_webhook($loft, 'updated_membership_details', '" . payload($ada) . "')");
is(finish($open), 'synchronised', 'a call in a transaction that stays open');
my @others = map { attempt("SELECT smartspace.cobot_webhook($loft, 'updated_membership_details', '" . payload($_) . "')") } $ada, @members[ 0 .. 11 ];
is((grep { $_->{out} eq 'pending: another synchronisation is under way' && $_->{seconds} < 1 } @others), 13, '... holds up nobody');
$open->query_safe('COMMIT');
$open->quit;
is(fetched(), "one $ada", '... and nobody else asked Cobot');
is(process(), 'synchronised all members', '... and all that waited become one synchronisation');
is(fetched(), 'all', '... with one list');

quiet();
my @crowd = map { my $n = $_; start(join ';', map { "SELECT smartspace.cobot_webhook($loft, 'updated_membership_details', '" . payload($members[ ($_ + $n) % 6 ]) . "')" } 0 .. 5) } 1 .. 6;
$cobot->patch_member($first, $members[$_], name => "Changed $_") foreach 0 .. 5;
finish($_), $_->quit foreach @crowd;
my %times;
$times{$_}++ foreach split /, /, fetched();
is_deeply([ grep { /^one/ && $times{$_} > 1 } sort keys %times ], [], 'six sessions with hints about six members fetch nobody twice within three seconds');
cmp_ok(scalar(keys %times), '>', 0, '(and somebody was fetched)');
later(20);
process();
is(process(), 'nothing to do', '... and one call later nothing is left');

# --- hostile surroundings ---
quiet();
my $hostile = attempt(join('', map { "CREATE TEMP TABLE $_ (hostile text);" } qw(cobot_webhook_hint cobot_webhook_fetch cobot_webhook_subscription cobot_sync_run cobot_integration))
	  . "SET search_path = pg_temp, public, smartspace; SELECT smartspace.cobot_webhook($loft, 'updated_membership_details', '" . payload($ada) . "')");
is($hostile->{out}, 'synchronised', 'temporary tables of the same names take nobody in');

# --- a copy of the database ---
quiet();
foreach my $call ("cobot_create_webhooks($loft, '$base')", "cobot_list_webhooks($loft)", "cobot_delete_webhooks($loft)",
	"cobot_webhook($loft, 'updated_membership_details', '" . payload($ada) . "')")
{
	my $answer = attempt("SET smartspace_cobot.environment = 'staging'; SELECT smartspace.$call");

	is($answer->{sqlstate}, '55000', 'refused where the integration is not armed: ' . substr $call, 0, 21);
	like($answer->{err}, qr/is not armed for this/, '... with the reason');
}
is(scalar(() = $cobot->log), 0, '... and Cobot is asked nothing');

# --- undone with its transaction ---
quiet();
$t->sql("BEGIN; SELECT smartspace.cobot_webhook($loft, 'updated_membership_details', '" . payload($ada) . "'); ROLLBACK");
is($t->sql('SELECT (SELECT count(*) FROM smartspace.cobot_webhook_hint), (SELECT count(*) FROM smartspace.cobot_webhook_fetch)'), '0|0', 'a call that is rolled back leaves nothing behind');
is(hook('updated_membership_details', payload($ada)), 'synchronised', '... and holds nothing up');
is($t->grants_differ, 0, 'the grants equal their definition');

# --- no secret is anywhere but at Cobot ---
create($loft, $base);
cmp_ok(scalar(keys %secret), '>', 50, '(many secrets were made)');
my %where = (clients => join("\n", @told), log => slurp_file($t->node->logfile));
is(scalar(grep { my $one = $_; index($where{clients}, $one) >= 0 } keys %secret), 0, 'no client was told one');
is(scalar(grep { my $one = $_; index($where{log}, $one) >= 0 } keys %secret), 0, 'none is in the server log');

done_testing();
