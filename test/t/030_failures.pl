# No failure on Cobot's side changes a member or a grant, whatever the failure and
# whichever answer it hits. It is recorded, told to the caller in words, and over with
# the next good synchronisation.
#
# Before each failure something was changed in Cobot: plans, members and custom fields
# that did arrive must not be applied while another answer is missing.
use strict;
use warnings;

use CobotTest;
use JSON::PP;
use MIME::Base64 qw(encode_base64);
use POSIX qw(strftime);
use Test::More;
use Time::HiRes qw(time);

my $t = CobotTest->new(members => 30);
my $json = JSON::PP->new->canonical;

# --- given: members with groups from plans, from custom fields and by hand ---
my $space = $t->connect_space('demo-space');
my $door = $t->group('Front door');
$t->group('Workshop', identifier => 'Workshop');
my $staff = $t->group('Staff', identifier => 'staff');
$t->sync($space);
$t->assign($_->{cobot_id}, $door) foreach $t->rows('SELECT cobot_id FROM smartspace.cobot_plan');

my @members = map { $_->{cobot_id} } $t->rows('SELECT cobot_id FROM smartspace.cobot_membership WHERE plan_id IS NOT NULL ORDER BY id');
my ($renamed, $moved, $leaver, $guest) = @members;
$t->sql("SELECT FROM smartspace.cobot_membership m, smartspace.cobot_grant(m.id, $staff) WHERE m.cobot_id = '$guest'");
my $field = 'smart_spaces_access_additional_units';
$t->cobot->set_field('demo-space', $renamed, $field => undef);
my @plans = map { $_->{id} } @{ $t->cobot->space('demo-space')->{plans} };
my $token = $t->sql("SELECT token FROM smartspace.cobot_secret WHERE integration_id = $space");
my $changes = 0;

# Something new in every answer of Cobot, so that it shows if a part of it is applied.
sub change_something_in_cobot
{
	$changes++;
	$t->cobot->patch_space('demo-space', name => "Space $changes");
	$t->cobot->patch_plan('demo-space', $plans[0], name => "Plan $changes");
	$t->cobot->patch_member('demo-space', $renamed, name => "Name $changes");
	$t->cobot->set_field('demo-space', $moved, $field => $changes % 2 ? 'Workshop' : 'staff');
	return;
}

change_something_in_cobot();
$t->sync($space);
cmp_ok($t->sql('SELECT count(*) FROM smartspace.user_group_member'), '>=', 28, 'there are grants that could be lost');
cmp_ok($t->sql("SELECT count(*) FROM smartspace.user_group_member WHERE source = 'individual'"), '>=', 3, 'also individual ones');
like($t->groups_of($guest), qr/Staff \(manual\)/, 'and one given by hand');

# Mirror and grants with xmin and place, and what else Cobot says about the space.
sub contents
{
	my @tables = qw(cobot_plan cobot_membership user_group_member user_group user_group_assignment manual_grant cobot_record_problem
		access_journal);

	return $t->sql(join ';', (map { "SELECT '$_', t.xmin, t.ctid, t.* FROM smartspace.$_ t ORDER BY t.ctid" } @tables),
		'SELECT space_id, space_name, time_zone, country, locale, granted_scope, connected_at FROM smartspace.cobot_integration');
}

# As is(), but shows only the rows that differ.
sub same_rows
{
	my ($after, $before, $name) = @_;
	my %known = map { $_ => 1 } split /\n/, $before;

	ok($after eq $before, $name) or diag map { substr($_, 0, 200) . "\n" } grep { !$known{$_} } split /\n/, $after;
	return;
}

# What went wrong: the run's message without the summary of what was done all the same.
sub cause
{
	my ($run) = @_;

	return $run->{message} =~ s/; (?:nothing changed|\d+ \w+(?: \w+)?)(?:[,;] [^;]*)*$//r;
}

# One failure from beginning to end.
#   fault     what Cobot does wrong, and where (see CobotTestServer)
#   settings  SET statements for the session
#   result, reason, message, detail   what the run and the WARNING say
#   within_s  how long the run may take
sub check_failure
{
	my ($name, %case) = @_;

	subtest $name => sub {
		change_something_in_cobot();
		my $before = contents();
		$t->cobot->fault(times => 0, %{ $case{fault} });

		my $start = time;
		my $run = $t->sync($space, settings => $case{settings});
		my $seconds = time - $start;

		$t->cobot->clear_faults;
		same_rows(contents(), $before, 'no row of mirror or grants was written');
		is("$run->{result} ($run->{reason})", "$case{result} ($case{reason})", 'result and reason');
		like(cause($run), $case{message}, 'the message says what could not be done');
		is($run->{members_added} + $run->{members_changed} + $run->{members_removed}
			  + $run->{grants_given} + $run->{grants_changed} + $run->{grants_taken}, 0, 'the run counts no change');
		check_warning($run, $case{detail});
		check_state($run);
		cmp_ok($seconds, '<', patient($case{within_s} // 5), 'it did not take long');
		check_recovery();
	};
	return;
}

sub check_warning
{
	my ($run, $detail) = @_;

	my $cause = cause($run);

	$run->{warning} =~ s/^psql:<stdin>:\d+: //gm;
	like($run->{warning}, qr/^WARNING:  01000: synchronisation of "demo-space" (?:is )?$run->{result}: \Q$cause\E$/m,
		'a WARNING says the same');
	like($run->{warning}, qr/^DETAIL:  $detail/m, 'DETAIL tells how Cobot answered') if defined $detail;
	like($run->{warning}, qr/^HINT:  [A-Z].*\.$/m, 'HINT tells what to do');
	unlike($run->{warning}, qr{\Q$token\E|https://|Bearer}, 'neither token nor URL is shown');
	return;
}

sub check_state
{
	my ($run) = @_;
	my $is = $t->row('SELECT i.state, i.state_reason, s.state AS status, s.reason, s.last_result, s.summary'
		  . " FROM smartspace.cobot_integration i JOIN smartspace.cobot_status s ON s.integration_id = i.id WHERE i.id = $space");

	is("$is->{state} $is->{state_reason}", "degraded $run->{reason}", 'the integration is degraded, with the reason');
	is("$is->{status} $is->{reason} $is->{last_result}", "degraded $run->{reason} $run->{result}", 'cobot_status says so');
	like($is->{summary}, qr/; last run $run->{result}: \Q$run->{message}\E/, 'and why, in words');
	return;
}

sub check_recovery
{
	my $run = $t->sync($space);

	like($run->{result}, qr/^ok/, 'the next synchronisation is fine');
	is($run->{warning}, '', 'and silent');
	is($t->sql("SELECT i.state, i.state_reason IS NULL, m.name FROM smartspace.cobot_integration i"
			  . " JOIN smartspace.cobot_membership m ON m.integration_id = i.id WHERE i.id = $space AND cobot_id = '$renamed'"),
		"connected|t|Name $changes", 'the integration is connected again, and what changed in Cobot has arrived');
	is($t->grants_differ, 0, 'grants equal their definition');
	return;
}

# --- bodies that are almost right: the true list of members, spoiled ---
my $today = strftime('%Y/%m/%d', gmtime);
my @records = grep { $_->{confirmed_at} && ($_->{canceled_to} // $today) ge $today } @{ $t->cobot->control(GET => '/spaces/demo-space/memberships') };
is(scalar @records, 30, 'the true list can be told');

sub spoiled
{
	my ($in_the_name, $after_the_list) = @_;
	my $marked = JSON::PP->new->utf8->encode([ { %{ $records[0] }, name => 'MARK' }, @records[ 1 .. $#records ] ]);

	return { body_base64 => encode_base64(($marked =~ s/MARK/$in_the_name/r) . $after_the_list, '') };
}

# --- what can go wrong with any answer; "common" ones are tried on each of the five ---
my $quick = "SET smartspace_cobot.request_timeout = '" . patient(700) . "ms';";
my %failed = (result => 'failed');
my %incomplete = (result => 'incomplete');
my @failures = (
	{ name => 'HTTP 401', common => 1, does => { status => 401 }, %failed, reason => 'auth_revoked',
		words => 'Cobot does not accept the token', detail => qr/HTTP status 401 after 1 attempt; request id [0-9a-f-]{36}\./ },
	{ name => 'HTTP 402', common => 1, does => { status => 402 }, %failed, reason => 'account_suspended',
		words => q(the space's account at Cobot is suspended), detail => qr/HTTP status 402/ },
	{ name => 'HTTP 403', common => 1, does => { status => 403 }, %failed, reason => 'admin_rights_lost',
		words => 'the token is not allowed to do this', detail => qr/HTTP status 403/ },
	{ name => 'HTTP 404', common => 1, does => { status => 404, body => '{}' }, %incomplete, reason => 'bad_answer',
		words => 'Cobot does not know it', detail => qr/HTTP status 404/ },
	{ name => 'HTTP 422', does => { status => 422, body => '{"errors":{"base":"no"}}' }, %incomplete, reason => 'bad_answer',
		words => 'Cobot rejected the request', detail => qr/HTTP status 422/ },
	{ name => 'HTTP 429 with seconds', common => 1, does => { status => 429, headers => { 'Retry-After' => '600' } },
		%incomplete, reason => 'rate_limited', words => q(Cobot's rate limit is reached),
		detail => qr/HTTP status 429 .* Cobot asks to wait for 600 seconds\./ },
	{ name => 'HTTP 429 with a date', does => { status => 429, headers => { 'Retry-After' => 'Fri, 01 Jan 2100 00:00:00 GMT' } },
		%incomplete, reason => 'rate_limited', words => q(Cobot's rate limit is reached),
		detail => qr/HTTP status 429 .* Cobot asks to wait for 86400 seconds\./ },
	{ name => 'HTTP 429 with nonsense', does => { status => 429, headers => { 'Retry-After' => 'soon' } },
		%incomplete, reason => 'rate_limited', words => q(Cobot's rate limit is reached),
		detail => qr/HTTP status 429 after 1 attempt; request id [0-9a-f-]{36}\.\n/ },
	{ name => 'HTTP 429 without Retry-After', does => { status => 429, headers => { 'Retry-After' => '' } },
		%incomplete, reason => 'rate_limited', words => q(Cobot's rate limit is reached),
		detail => qr/HTTP status 429 after 1 attempt; request id [0-9a-f-]{36}\.\n/ },
	{ name => 'HTTP 500', common => 1, does => { status => 500 }, %failed, reason => 'unreachable',
		words => 'Cobot has a server error', detail => qr/HTTP status 500/ },
	{ name => 'HTTP 502 with a page', common => 1,
		does => { status => 502, body => '<html><h1>502 Bad Gateway</h1></html>', headers => { 'Content-Type' => 'text/html' } },
		%failed, reason => 'unreachable', words => 'Cobot has a server error', detail => qr/HTTP status 502/ },
	{ name => 'HTTP 500 with a perfect list', does => { status => 500, %{ spoiled('Ada', '') } }, %failed, reason => 'unreachable',
		words => 'Cobot has a server error', detail => qr/HTTP status 500/ },
	{ name => 'HTTP 503', does => { status => 503, headers => { 'Retry-After' => '120' } }, %failed, reason => 'unreachable',
		words => 'Cobot has a server error', detail => qr/HTTP status 503 .* Cobot asks to wait for 120 seconds\./ },
	{ name => 'HTTP 204', does => { status => 204 }, %incomplete, reason => 'bad_answer',
		words => 'the answer is not valid JSON', detail => qr/HTTP status 204/ },
	{ name => 'an empty body', does => { body => '' }, %incomplete, reason => 'bad_answer',
		words => 'the answer is not valid JSON', detail => qr/HTTP status 200/ },
	{ name => 'a page with status 200', common => 1, does => { body => '<!DOCTYPE html><html>Maintenance</html>' },
		%incomplete, reason => 'bad_answer', words => 'the answer is not valid JSON',
		detail => qr/HTTP status 200 .* The answer has '<' at byte 1, where a value was expected\./ },
	{ name => 'truncated JSON', common => 1, does => { truncate => 0.5 }, %incomplete, reason => 'bad_answer',
		words => 'the answer is not valid JSON', detail => qr/HTTP status 200 .* The answer ends / },
	{ name => 'JSON without its last bracket', does => { body => substr($json->encode(\@records), 0, -1) },
		%incomplete, reason => 'bad_answer', words => 'the answer is not valid JSON', detail => qr/HTTP status 200 .* The answer ends / },
	{ name => 'null', does => { body => 'null' }, %incomplete, reason => 'bad_answer',
		words => 'the answer is JSON of an unexpected kind', detail => qr/HTTP status 200/ },
	{ name => 'an object that says error', does => { body => '{"error":"Please try again."}' }, %incomplete, reason => 'bad_answer',
		words => 'the answer is JSON of an unexpected kind', detail => qr/HTTP status 200 .* The answer is not an array\./ },
	{ name => 'nesting of 10,000', common => 1, does => { nesting => 10_000 }, %incomplete, reason => 'bad_answer',
		words => 'the answer is not valid JSON', detail => qr/HTTP status 200 .* nested more than 32 levels/ },
	{ name => 'invalid UTF-8', does => spoiled("\xC3\x28", ''), %incomplete, reason => 'bad_answer',
		words => 'the answer is not valid JSON', detail => qr/HTTP status 200 .* is not valid UTF-8 at byte \d+/ },
	{ name => 'Latin-1', does => spoiled("J\xFCrgen", ''), %incomplete, reason => 'bad_answer',
		words => 'the answer is not valid JSON', detail => qr/HTTP status 200 .* is not valid UTF-8 at byte \d+/ },
	{ name => 'a NUL byte in a text', does => spoiled("A\0da", ''), %incomplete, reason => 'bad_answer',
		words => 'the answer is not valid JSON', detail => qr/HTTP status 200 .* NUL byte/ },
	{ name => 'a NUL byte after the list', does => spoiled('Ada', "\0"), %incomplete, reason => 'bad_answer',
		words => 'the answer is not valid JSON', detail => qr/HTTP status 200/ },
	{ name => 'the character \u0000', does => spoiled('A\u0000da', ''), %incomplete, reason => 'bad_answer',
		words => 'the answer is not valid JSON', detail => qr/HTTP status 200 .* \\u0000/ },
	{ name => 'half a surrogate pair', does => spoiled('A\ud83dda', ''), %incomplete, reason => 'bad_answer',
		words => 'the answer is not valid JSON', detail => qr/HTTP status 200 .* surrogate/ },
	{ name => 'trailing garbage', does => spoiled('Ada', "\n<!-- 0.2 s -->"), %incomplete, reason => 'bad_answer',
		words => 'the answer is not valid JSON', detail => qr/HTTP status 200/ },
	{ name => 'two lists in one body', does => spoiled('Ada', '[]'), %incomplete, reason => 'bad_answer',
		words => 'the answer is not valid JSON', detail => qr/HTTP status 200/ },
	{ name => 'a gzip that is none', does => { body => '[]', headers => { 'Content-Encoding' => 'gzip' } },
		%incomplete, reason => 'bad_answer', words => 'the answer broke off or is garbled', detail => qr/HTTP status 200/ },
	{ name => 'stalled headers', common => 1, settings => $quick, does => { stall => 'headers' }, %failed, reason => 'unreachable',
		words => 'Cobot did not answer in time', detail => qr/No answer after 1 attempt\. libcurl says: .*timed out/ },
	{ name => 'stalled body', common => 1, settings => $quick, does => { stall => 300 }, %failed, reason => 'unreachable',
		words => 'Cobot did not answer in time', detail => qr/HTTP status 200 .* libcurl says: .*timed out/ },
	{ name => 'a body that gets too slow', settings => 'SET smartspace_cobot.low_speed_time = 1;', does => { stall => 300 },
		%failed, reason => 'unreachable', words => 'Cobot did not answer in time', detail => qr/HTTP status 200 .* libcurl says: .*too slow/ },
	{ name => 'a body cut in the middle', common => 1, does => { cut => 300 }, %incomplete, reason => 'bad_answer',
		words => 'the answer broke off or is garbled', detail => qr/HTTP status 200 .* libcurl says: / },
	{ name => 'a connection dropped without an answer', common => 1, does => { drop => JSON::PP::true }, %failed, reason => 'unreachable',
		words => 'Cobot cannot be reached', detail => qr/No answer after 1 attempt\. libcurl says: / });

my @answers = (
	{ what => 'the members of "demo-space"', match => { path => '/api/memberships', host => 'demo-space.cobot.me' }, all => 1 },
	{ what => 'the plans of "demo-space"', match => { path => '/api/plans' } },
	{ what => 'the space "demo-space"', match => { path => '/api/spaces/demo-space', host => 'www.cobot.me' } },
	{ what => 'the custom fields of "demo-space"', match => { path => '/api/custom_fields' }, without => qr/^HTTP 403/ },
	{ what => 'the custom field definitions of "demo-space"', match => { path => '/api/space/custom_fields' }, without => qr/^HTTP 403/ });

foreach my $answer (@answers)
{
	foreach my $failure (grep { $answer->{all} || $_->{common} } @failures)
	{
		next if $answer->{without} && $failure->{name} =~ $answer->{without};
		check_failure("$answer->{what}: $failure->{name}",
			fault => { match => $answer->{match}, %{ $failure->{does} } },
			message => qr/^could not read \Q$answer->{what}: $failure->{words}\E$/,
			map { ($_ => $failure->{$_}) } qw(settings result reason detail));
	}
}

# --- well-formed answers that cannot be true ---
check_failure('no members any more', fault => { match => { path => '/api/memberships' }, body => '[]' },
	result => 'held', reason => 'source_empty', message => qr/^Cobot lists no members, where there were 30$/);
check_failure('no plans any more', fault => { match => { path => '/api/plans' }, body => '[]' },
	result => 'held', reason => 'source_empty', message => qr/^Cobot lists no plans, where there were 4$/);
check_failure('no custom field values any more', fault => { match => { path => '/api/custom_fields' }, body => '[]' },
	result => 'held', reason => 'source_empty', message => qr/^Cobot lists no custom field values, where there were \d+$/);
foreach my $path (qw(/api/memberships /api/plans /api/custom_fields /api/space/custom_fields))
{
	check_failure("an object instead of a list: $path", fault => { match => { path => $path }, body => '{}' },
		result => 'incomplete', reason => 'bad_answer', message => qr/: the answer is JSON of an unexpected kind$/,
		detail => qr/HTTP status 200 .* The answer is not an array\./);
}
check_failure('a list instead of the space', fault => { match => { path => '/api/spaces/demo-space' }, body => '[]' },
	result => 'incomplete', reason => 'bad_answer', message => qr/: the answer is JSON of an unexpected kind$/,
	detail => qr/HTTP status 200 .* The answer is not an object\./);
check_failure('a space without its keys', fault => { match => { path => '/api/spaces/demo-space' }, body => '{}' },
	result => 'incomplete', reason => 'bad_answer', message => qr/^the details of space "demo-space" cannot be used: space\.id is missing$/);
check_failure('another space', fault => { match => { path => '/api/spaces/demo-space' },
		body => '{"id":"other","name":"Other","time_zone_name":"Asia/Tokyo"}' },
	result => 'incomplete', reason => 'bad_answer', message => qr/^the subdomain "demo-space" belongs to another space now: "Other"$/);

# --- custom fields that cannot be used cost no member their groups, and keep nobody else from being synchronised ---
foreach my $case (
	[ 'custom fields: HTTP 403', '/api/custom_fields', { status => 403 }, 'custom_field_unreadable', qr/^could not read the custom fields of "demo-space": the token is not allowed/ ],
	[ 'definitions: HTTP 403', '/api/space/custom_fields', { status => 403 }, 'custom_field_unreadable', qr/^could not read the custom field definitions of "demo-space": / ],
	[ 'definitions: none', '/api/space/custom_fields', { body => '[]' }, 'custom_field_missing', qr/^The space has no custom field of this name\.$/, 'source_incomplete' ],
	[ 'definitions: ours is not there', '/api/space/custom_fields', { body => '[{"id":"f1","label":"Phone"}]' }, 'custom_field_missing', qr/^The space has no custom field/, 'source_incomplete' ],
	[ 'definitions: ours is there twice', '/api/space/custom_fields', { body => qq([{"id":"f1","label":"$field"},{"id":"f2","label":"$field"}]) },
		'custom_field_ambiguous', qr/^The space has 2 custom fields of this name\.$/ ],
	[ 'definitions: one without id', '/api/space/custom_fields', { body => '[{"label":"Phone"}]' }, 'custom_field_unreadable', qr/^custom_fields\[0\]\.id is missing/ ])
{
	my ($name, $path, $fault, $problem, $detail, $held) = @$case;

	subtest $name => sub {
		# a field that is gone is gone for those, too, who had a value that gave them nothing
		my $individual = 'SELECT m.cobot_id, m.individual_access FROM smartspace.cobot_membership m'
		  . ($held ? " WHERE EXISTS (SELECT FROM smartspace.user_group_member g WHERE g.membership_id = m.id AND g.source = 'individual')" : '')
		  . ' ORDER BY 1; SELECT g.xmin, g.* FROM smartspace.user_group_member g ORDER BY 3, 4, 5';

		check_recovery();
		my $before = $t->sql($individual);
		$t->cobot->set_field('demo-space', $_, $field => 'Nowhere') foreach @members[ 1, 3 .. 5 ];
		$t->cobot->patch_member('demo-space', $renamed, name => 'Name ' . ++$changes);
		$t->cobot->fault(match => { path => $path }, times => 0, %$fault);
		my $run = $t->sync($space);

		is($run->{result} . ' ' . ($run->{reason} // ''), $held ? "held $held" : 'ok_with_problems ', 'the run has problems');
		is($t->sql($individual), $before, 'everybody keeps their individual access, no grant was written');
		is($t->sql("SELECT state FROM smartspace.cobot_integration WHERE id = $space"), $held ? 'degraded' : 'connected', 'the integration stays connected, or waits for a person to decide');
		my $shown = $t->row("SELECT * FROM smartspace.cobot_problem WHERE integration_id = $space AND problem LIKE 'custom%'");
		is("$shown->{problem}: $shown->{subject}", "$problem: custom field $field", 'cobot_problem shows the problem');
		like($shown->{detail}, $detail, '... what it is');
		like($shown->{advice}, qr/Until then members keep the groups they had\.$/, '... and what to do');
		is($t->sql("SELECT name FROM smartspace.cobot_membership WHERE cobot_id = '$renamed'"), "Name $changes", 'everything else is synchronised');

		$before = contents();
		$t->sync($space);
		same_rows(contents(), $before, 'the same again writes nothing');

		$t->cobot->clear_faults;
		$t->cobot->set_field('demo-space', $moved, $field => 'Workshop');
		$t->cobot->set_field('demo-space', $members[$_], $field => 'staff, Workshop') foreach 3 .. 5;
		check_recovery();
		is($t->sql("SELECT count(*) FROM smartspace.cobot_problem WHERE problem LIKE 'custom%'"), 0, 'the problem is gone');
		is($t->groups_of($moved), 'Front door (plan), Workshop (individual)', 'individual access follows again');
	};
}

# --- redirects are not followed: nobody else gets the token ---
foreach my $status (301, 302, 304, 307, 308)
{
	foreach my $answer (@answers[ 0, 2, 3 ])
	{
		$t->cobot->clear_log;
		check_failure("HTTP $status for $answer->{what}",
			fault => { match => $answer->{match}, status => $status, headers => { Location => 'https://elsewhere.cobot.me/api/memberships' } },
			result => 'incomplete', reason => 'bad_answer', message => qr/^could not read .*: Cobot redirects to another address$/,
			detail => qr/HTTP status $status/);
		is((grep { $_->{host} !~ /^(www|demo-space)\.cobot\.me$/ } $t->cobot->log), 0, "HTTP $status: no other host was asked");
	}
}

# --- huge answers: given up early, and the memory of the server process does not grow ---
foreach my $case (
	[ 'a body of 1 GB', { huge => 1_000_000_000 } ],
	[ 'a body of 1 GB, announced', { huge => 1_000_000_000, announce => JSON::PP::true } ],
	[ 'a gzip bomb of 1 GB', { gzip_bomb => 1_000_000_000 } ])
{
	my ($name, $fault) = @$case;
	my $limit = "SET smartspace_cobot.response_limit = '1MB';";

	check_failure($name, fault => { match => { path => '/api/memberships' }, %$fault }, settings => $limit,
		result => 'incomplete', reason => 'bad_answer', message => qr/^could not read the members of "demo-space": the answer is too large$/,
		detail => qr/HTTP status 200/, within_s => 5);

	# the same session before and after, by its own high-water mark
	my $peak_kb = q{SELECT 'peak ' || substring(pg_read_file('/proc/self/status') FROM 'VmHWM:\s*(\d+)');};
	$t->cobot->fault(match => { path => '/api/memberships' }, times => 1, skip => 1, %$fault);
	my $answer = $t->try("$limit SELECT result FROM smartspace.cobot_sync($space); $peak_kb SELECT result FROM smartspace.cobot_sync($space); $peak_kb");
	my ($before, $after) = $answer->{out} =~ /^peak (\d+)$/mg;

	like($answer->{out}, qr/^ok.*^incomplete$/ms, "$name: first a good run, then the failed one");
	cmp_ok($after - $before, '<', 8 * 1024, "$name: the memory of the server process did not grow");
	check_recovery();
}

# --- a member who vanished from the list is asked for; no answer means no evidence ---
my $leavers_rows = "SELECT m.*, m.xmin, (SELECT array_agg((a.*, a.xmin)::text) FROM smartspace.user_group_member a WHERE a.membership_id = m.id)"
  . " FROM smartspace.cobot_membership m WHERE cobot_id = '$leaver'";
like($t->groups_of($leaver), qr/^Front door \(plan\)/, 'the member who is going to vanish has access');
foreach my $case (
	[ 'HTTP 500', { status => 500 }, 'incomplete', 'unreachable' ],
	[ 'HTTP 401', { status => 401 }, 'incomplete', 'auth_revoked' ],
	[ 'HTTP 403', { status => 403 }, 'incomplete', 'admin_rights_lost' ],
	[ 'HTTP 429', { status => 429 }, 'incomplete', 'rate_limited' ],
	[ 'a page with status 200', { body => '<html></html>' }, 'incomplete', 'bad_answer' ],
	[ 'truncated JSON', { body => '{"id":"' }, 'incomplete', 'bad_answer' ],
	[ 'a list', { body => '[]' }, 'incomplete', 'bad_answer' ],
	[ 'an empty record', { body => '{}' }, 'incomplete', 'source_incomplete' ],
	[ 'another member', { body => $json->encode($records[3]) }, 'incomplete', 'source_incomplete' ],
	[ 'a dropped connection', { drop => JSON::PP::true }, 'incomplete', 'unreachable' ])
{
	my ($name, $fault, $result, $reason) = @$case;
	subtest "vanished, and asked for by id: $name" => sub {
		my $before = $t->sql($leavers_rows);
		my $list = $json->encode([ grep { $_->{id} ne $leaver } @records ]);

		$t->cobot->fault(match => { path => '/api/memberships' }, times => 0, body => $list);
		$t->cobot->fault(match => { path => "/api/memberships/$leaver" }, times => 0, %$fault);
		my $run = $t->sync($space);
		$t->cobot->clear_faults;

		is("$run->{result} ($run->{reason})", "$result ($reason)", 'result and reason');
		is($t->sql($leavers_rows), $before, 'no row of the member or their grants was written');
		is($run->{members_removed}, 0, 'nobody left');
		check_warning($run);
		check_state($run);
		$t->cobot->patch_member('demo-space', $renamed, name => 'Name ' . ++$changes);
		check_recovery();
	};
}

# --- Cobot's own rate limit: six lists of members in a minute ---
$t->cobot->settings(rate_limit => 1);
my ($limited) = grep { $_->{reason} } map { $t->sync($space) } 1 .. 13;
is("$limited->{result} ($limited->{reason})", 'incomplete (rate_limited)', 'too many synchronisations in a minute are told to wait');
like($limited->{warning}, qr/^DETAIL:  HTTP status 429 .* Cobot asks to wait for \d+ seconds\.$/m, 'and for how long');
$t->cobot->settings(rate_limit => 0);
check_recovery();

# --- Cobot is down, or not reachable under its name ---
my $port = $t->cobot->port;
my $before = contents();
$t->cobot->stop;
my $down = $t->sync($space);
is("$down->{result} ($down->{reason})", 'failed (unreachable)', 'with Cobot down the run fails');
like($down->{message}, qr/^could not read the members of "demo-space": Cobot cannot be reached$/, 'and says so');
check_warning($down, qr/No answer after 1 attempt\. libcurl says: /);
check_state($down);
same_rows(contents(), $before, 'no row of mirror or grants was written');

my $nameless = $t->sync($space, settings => "SET smartspace_cobot.connect_to = 'no-such-host.invalid:443'; SET smartspace_cobot.request_timeout = '10s';");
is("$nameless->{result} ($nameless->{reason})", 'failed (unreachable)', 'without a name server the run fails');
same_rows(contents(), $before, 'no row of mirror or grants was written');

$t->cobot->start(port => $port, members => 30);
$t->cobot->token(token => $token, kind => 'space', space => 'demo-space');
change_something_in_cobot();
check_recovery();

# --- reads are tried again, as often as is allowed and not once more ---
sub requests_for
{
	my ($path) = @_;

	return scalar grep { $_->{path} eq $path } $t->cobot->log;
}

foreach my $case (
	[ 'HTTP 502', { status => 502 } ],
	[ 'a body cut in the middle', { cut => 300 } ],
	[ 'HTTP 503 with a short Retry-After', { status => 503, headers => { 'Retry-After' => '0' } } ])
{
	my ($name, $fault) = @$case;

	foreach my $path ('/api/memberships', '/api/plans')
	{
		$t->cobot->clear_log;
		$t->cobot->fault(match => { path => $path }, times => 2, %$fault);
		my $run = $t->sync($space, settings => 'SET smartspace_cobot.max_retries = 2;');
		like($run->{result}, qr/^ok/, "$name twice for $path, with two retries: fine");
		is(requests_for($path), 3, '... after three requests');
		is($run->{requests}, 7, '... which the run counts');
		is(scalar($t->cobot->log), 7, '... and no other question was asked again');
	}

	$t->cobot->clear_log;
	$t->cobot->fault(match => { path => '/api/memberships' }, times => 3, %$fault);
	my $run = $t->sync($space, settings => 'SET smartspace_cobot.max_retries = 2;');
	isnt($run->{reason}, undef, "$name three times, with two retries: not fine");
	is(requests_for('/api/memberships'), 3, '... after three requests');
	like($run->{warning}, qr/^DETAIL:  .* after 3 attempts/m, '... and the WARNING tells how often it was tried');
	check_recovery();
}

# A connection that was kept alive may have gone stale; then one more request is sent at once.
$t->cobot->clear_log;
$t->cobot->fault(match => { path => '/api/memberships' }, times => 2, drop => JSON::PP::true);
like($t->sync($space, settings => 'SET smartspace_cobot.max_retries = 2;')->{result}, qr/^ok/, 'a connection dropped twice, with two retries: fine');
is(requests_for('/api/memberships'), 3, '... after three requests');
$t->cobot->clear_log;
$t->cobot->fault(match => { path => '/api/memberships' }, times => 0, drop => JSON::PP::true);
is($t->sync($space, settings => 'SET smartspace_cobot.max_retries = 2;')->{reason}, 'unreachable', 'connections dropped for ever: not fine');
$t->cobot->clear_faults;
cmp_ok(requests_for('/api/memberships'), '<=', 6, '... after a bounded number of requests');
check_recovery();

foreach my $status (401, 402, 403, 404, 422, 301)
{
	$t->cobot->clear_log;
	$t->cobot->fault(match => { path => '/api/memberships' }, times => 1, status => $status);
	isnt($t->sync($space, settings => 'SET smartspace_cobot.max_retries = 2;')->{reason}, undef, "HTTP $status fails the run");
	is(requests_for('/api/memberships'), 1, '... and is not asked again');
}
check_recovery();

# --- 429: a short wait is waited for, a long one is not ---
$t->cobot->fault(match => { path => '/api/memberships' }, times => 1, status => 429, headers => { 'Retry-After' => '1' });
$t->cobot->clear_log;
my $start = time;
like($t->sync($space, settings => 'SET smartspace_cobot.max_retries = 1;')->{result}, qr/^ok/, 'Retry-After: 1 is waited for within the run');
cmp_ok(time - $start, '>=', 1, '... for a second at least');
is(requests_for('/api/memberships'), 2, '... and then asked again');

$t->cobot->fault(match => { path => '/api/memberships' }, times => 1, status => 429,
	headers => { 'Retry-After' => strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime(time + 2)) });
$t->cobot->clear_log;
like($t->sync($space, settings => 'SET smartspace_cobot.max_retries = 1;')->{result}, qr/^ok/, 'so is a moment soon, as an HTTP date');
is(requests_for('/api/memberships'), 2, '... and then asked again');

foreach my $long ('600', 'Fri, 01 Jan 2100 00:00:00 GMT', '99999999999999999999')
{
	$t->cobot->fault(match => { path => '/api/memberships' }, times => 1, status => 429, headers => { 'Retry-After' => $long });
	$t->cobot->clear_log;
	$start = time;
	is($t->sync($space, settings => 'SET smartspace_cobot.max_retries = 2;')->{reason}, 'rate_limited', "Retry-After: $long ends the run");
	cmp_ok(time - $start, '<', patient(5), '... without waiting');
	is(requests_for('/api/memberships'), 1, '... and without asking again');
}
check_recovery();

# --- nothing of all this left a token in the server's log ---
unlike(PostgreSQL::Test::Utils::slurp_file($t->node->logfile), qr/\Q$token\E/, 'the token is not in the server log');

done_testing();
