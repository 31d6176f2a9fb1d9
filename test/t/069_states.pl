# connected, degraded and back: what each kind of failure does to an integration, what a
# person is told, and that nobody's access depends on it. How failures are counted, when
# the next run is due, when knowledge is old, and how long history is kept.
use strict;
use warnings;

use CobotLoft;
use CobotTest;
use JSON::PP;
use Test::More;

my $t = lofts(map { $_ => 8 } qw(kinds since ends both backoff asks never paused kept checks other));
my $cobot = $t->cobot;
my $down = "SET smartspace_cobot.connect_to = '127.0.0.1:1';";

sub promise
{
	my ($name, $subdomain, $test, %settings) = @_;

	subtest $name => sub {
		my $loft = CobotLoft->open($t, $subdomain, %settings);

		$test->($loft);
		$cobot->clear_faults;
		is($t->grants_differ, 0, 'the grants equal their definition');
	};
	return;
}

sub status { return $t->row("SELECT * FROM smartspace.cobot_status WHERE integration_id = @{[ $_[0]->id ]}"); }

sub problems { return $t->sql("SELECT string_agg(problem, ' ' ORDER BY problem) FROM smartspace.cobot_problem WHERE integration_id = @{[ $_[0]->id ]} AND severity = 'problem'"); }

# Seconds from the end of a run until it is due again.
sub delay { return $t->sql("SELECT extract(epoch FROM next_at - finished_at) FROM smartspace.cobot_sync_run WHERE id = $_[0]{id}"); }

sub age_runs
{
	my ($loft, $interval, $where) = @_;

	return $t->sql("UPDATE smartspace.cobot_sync_run SET started_at = started_at - interval '$interval', finished_at = finished_at - interval '$interval',"
		  . " next_at = next_at - interval '$interval' WHERE integration_id = @{[ $loft->id ]} AND @{[ $where // 'true' ]}");
}

# What Cobot does, on one endpoint: the result and reason of the run; what a person is told.
my @kinds = (
	[ 'the token is revoked', { status => 401 }, 'failed auth_revoked', qr/new token/, qr/Connect the integration again with a new token/ ],
	[ 'the token lost its rights', { status => 403 }, 'failed admin_rights_lost', qr/still an admin of the space/, qr/Let an admin of the space with all permissions connect/ ],
	[ 'the account is suspended', { status => 402 }, 'failed account_suspended', qr/operator of the space/, qr/operator of the space/ ],
	[ 'too many requests', { status => 429 }, 'incomplete rate_limited', qr/Wait for as long as Cobot asks/ ],
	[ 'an error of the server', { status => 500 }, 'failed unreachable', qr/Try again later/ ],
	[ 'a bad gateway', { status => 502 }, 'failed unreachable', qr/Try again later/ ],
	[ 'maintenance', { status => 503, headers => { 'Retry-After' => '120' } }, 'failed unreachable', qr/Try again later/ ],
	[ 'no such space', { status => 404 }, 'incomplete bad_answer', qr/Check the subdomain/ ],
	[ 'another address', { status => 301, headers => { Location => 'https://elsewhere.example.com/' } }, 'incomplete bad_answer', qr/renamed/ ],
	[ 'HTML', { body => '<html>Hello</html>' }, 'incomplete bad_answer', qr/not valid JSON|Try again later/ ],
	[ 'half an answer', { truncate => 0.5 }, 'incomplete bad_answer', qr/Try again later/ ],
	[ 'an object', { body => '{"error": "no"}' }, 'incomplete bad_answer', qr/Check the subdomain/ ],
	[ 'a connection that breaks off', { cut => 10 }, 'incomplete bad_answer', qr/Try again later/ ],
	[ 'a connection that is dropped', { drop => JSON::PP::true }, 'failed unreachable|incomplete bad_answer', qr/./ ],
	[ 'silence', { stall => 'headers' }, 'failed unreachable', qr/request_timeout/ ],
	[ 'a body too large', { huge => 3_000_000 }, 'incomplete bad_answer', qr/response_limit|Try again/ ]);

promise 'each kind of failure degrades the integration, and the next good run mends it', kinds => sub {
	my ($loft) = @_;
	my $settings = "SET smartspace_cobot.request_timeout = '1s'; SET smartspace_cobot.response_limit = '1MB';";
	my $path = 0;

	foreach my $kind (@kinds)
	{
		my ($what, $fault, $expected, $hint, $advice) = @$kind;
		my $endpoint = (qw(/api/memberships /api/plans))[ $path++ % 2 ];
		my $before = $t->contents;
		my ($reason) = $expected =~ /(\w+)$/;

		subtest $what => sub {
			$cobot->fault(match => { host => 'kinds.cobot.me', path => $endpoint }, times => 0, %$fault);
			my $run = $loft->sync(settings => $settings);
			like("$run->{result} $run->{reason}", qr/^(?:$expected)$/, 'result and reason');
			$reason = $run->{reason};
			is($run->{failures}, 1, '... a failure, the first');
			like($run->{warning}, qr/WARNING:  01000: synchronisation of "kinds" .*^DETAIL:  .*^HINT:  [^\n]*$hint/ms, '... told to the client, with what to do') or diag $run->{warning};
			is($loft->state, "degraded $reason", '... and the integration shows it');
			my $status = status($loft);
			is("$status->{state} $status->{reason} $status->{failures} $status->{last_result}", "degraded $reason 1 $run->{result}", '... so does cobot_status');
			like($status->{summary}, qr/; last run $run->{result}: \Q$run->{message}\E/, '... in words');
			my $problem = $t->sql("SELECT subject || ': ' || advice FROM smartspace.cobot_problem WHERE integration_id = @{[ $loft->id ]} AND problem = '$reason'");
			like($problem, $advice ? qr/^integration kinds: .*$advice/ : qr/^$/, $advice ? '... and cobot_problem says what a person must do' : '... and nothing is for a person to do');
			ok($t->contents eq $before, 'no member and no grant was touched');
			is($loft->inside, 8, 'everybody has access');
			unlike($run->{warning} . $run->{message}, qr/admin-token/, 'no token is shown');

			$cobot->clear_faults;
			$run = $loft->sync;
			is("$run->{result} $run->{failures} " . $loft->state, 'ok 0 connected', 'the next good run mends it by itself');
			is(problems($loft), '', '... and no problem is left');
			ok($t->contents eq $before, '... nothing was to be done');
		};
	}
};

promise 'state_since is when it began, and moves with the reason', since => sub {
	my ($loft) = @_;
	my $since = "SELECT state_since FROM smartspace.cobot_integration WHERE id = @{[ $loft->id ]}";
	my $row = "SELECT xmin FROM smartspace.cobot_integration WHERE id = @{[ $loft->id ]}";

	my ($connected, $xmin) = ($t->sql($since), $t->sql($row));
	$loft->sync;
	is($t->sql($row), $xmin, 'well and well again: not written');
	$loft->sync(settings => $down);
	my $degraded = $t->sql($since);
	isnt($degraded, $connected, 'degraded since then');
	$xmin = $t->sql($row);
	my $run = $loft->sync(settings => $down);
	is("$run->{failures} " . $t->sql($since), "2 $degraded", 'a second failure is the same trouble');
	is($t->sql($row), $xmin, '... and not written again');
	$cobot->fault(match => { host => 'since.cobot.me', path => '/api/memberships' }, status => 401);
	$run = $loft->sync;
	is("$run->{failures} " . $loft->state, '3 degraded auth_revoked', 'another reason counts on');
	isnt($t->sql($since), $degraded, '... and is since now');
	is($t->sql("SELECT since IS NOT NULL FROM smartspace.cobot_problem WHERE integration_id = @{[ $loft->id ]} AND problem = 'auth_revoked'"), 't', '... as cobot_problem tells');
	$cobot->fault(match => { host => 'since.cobot.me', path => '/api/memberships' }, body => '[]');
	$run = $loft->sync;
	is("$run->{result} $run->{failures} " . $loft->state, 'held 0 degraded source_empty', 'an answer that needs a person is no failure');
	is($t->sql("SELECT smartspace.cobot_discard($run->{id})") . ' ' . $loft->state, '8 connected', 'dropped, all is well');
};

promise 'a known end comes on its day through every trouble', ends => sub {
	my ($loft) = @_;
	my $end = "SELECT upper(a.valid) = (current_date + 4)::timestamptz FROM smartspace.user_group_member a JOIN smartspace.cobot_membership m ON m.id = a.membership_id WHERE m.cobot_id = 'ends-01'";

	$loft->change([1], canceled_to => 'today+3d');
	$loft->sync;
	is($t->sql($end), 't', 'given: the fourth day is the first without access');
	foreach my $status (401, 402, 403, 500)
	{
		$cobot->fault(match => { host => 'ends.cobot.me' }, times => 0, status => $status);
		$loft->sync;
		is($t->sql($end) . ' ' . $loft->inside, 't 8', "$status: the end is as it was");
		$cobot->clear_faults;
	}
	$t->sql("UPDATE smartspace.cobot_membership SET canceled_to = current_date - 1 WHERE cobot_id = 'ends-01'");    # four days later
	is($loft->outside(1 .. 8), '1', 'on that day access ends, with no run');
	like(status($loft)->{summary}, qr/8 members, 7 with access now/, '... as cobot_status counts');
};

promise 'which endpoint fails does not matter, but custom fields that are forbidden cost nothing', both => sub {
	my ($loft) = @_;

	foreach my $path ('/api/spaces/both', '/api/plans', '/api/memberships', '/api/space/custom_fields', '/api/custom_fields')
	{
		foreach my $status (401, 500)
		{
			$cobot->fault(match => { path => $path }, times => 0, status => $status);
			$loft->sync;
			is($loft->state, 'degraded ' . ($status == 401 ? 'auth_revoked' : 'unreachable'), "$path: $status");
			$cobot->clear_faults;
			$loft->sync;
			is($loft->state, 'connected', '... mended');
		}
	}
	$cobot->fault(match => { path => '/api/custom_fields' }, times => 0, status => 403);
	my $run = $loft->sync;
	is("$run->{result} $run->{failures} " . $loft->state . ' ' . problems($loft), 'ok_with_problems 0 connected custom_field_unreadable', 'forbidden: a problem and no failure');
};

promise 'failures are counted across restarts, and by whole runs alone', backoff => sub {
	my ($loft) = @_;
	my $id = $loft->id;
	my $shown = "SELECT failures, next_at, last_run FROM smartspace.cobot_status WHERE integration_id = $id";

	$loft->sync(settings => $down) foreach 1 .. 3;
	my $before = $t->sql($shown);
	like($before, qr/^3\|/, 'given: three failures');
	$t->node->restart;
	is($t->sql($shown), $before, 'a restart does not forget them');
	my $preview = $t->try("$down SELECT * FROM smartspace.cobot_preview($id)");
	like($preview->{err}, qr/WARNING.*preview of "backoff" failed/s, 'a preview fails as well');
	is($t->sql($shown), $before, '... and counts for nothing');
	my $other = $t->node->background_psql('postgres');
	$other->query_safe("BEGIN; SELECT count(*) FROM smartspace.cobot_preview($id)");
	is($loft->sync->{result}, 'skipped_locked', 'a run that found another one under way');
	$other->quit;
	is($t->sql($shown), $before, '... counts for nothing');
	is($t->try("$down SELECT result FROM smartspace.cobot_sync_member('backoff-01')")->{out}, 'incomplete', 'a run of one member that fails');
	is($t->sql($shown), $before, '... counts for nothing');
	$t->try("BEGIN; $down SELECT smartspace.cobot_sync($id); ROLLBACK");
	is($t->sql($shown), $before, 'nor does one that was rolled back');
	is($loft->sync(settings => $down)->{failures}, 4, 'the next failure is the fourth');

	my $run = $loft->sync;
	is("$run->{failures} " . status($loft)->{failures}, '0 0', 'a good run ends the row');
	$loft->set(sync_interval => "'1 minute'");
	$run = $loft->sync(settings => $down);
	ok(delay($run) >= 44 && delay($run) <= 60.1, 'with a short interval the first wait is no longer than that') or diag delay($run);
	$loft->sync(settings => $down) foreach 1 .. 20;
	$run = $loft->sync(settings => $down);
	ok($run->{failures} == 22 && delay($run) >= 44 && delay($run) <= 60.1, 'nor is the twenty-second') or diag delay($run);
};

promise 'what Cobot asks for is stored, and counts where it is longer', asks => sub {
	my ($loft) = @_;
	my $id = $loft->id;
	my $fails = sub {
		my ($retry_after, $status) = @_;
		$cobot->fault(match => { host => 'asks.cobot.me', path => '/api/memberships' }, status => $status // 429, headers => { 'Retry-After' => "$retry_after" });
		my $run = $loft->sync;
		my $stored = $t->sql("SELECT extract(epoch FROM not_before - finished_at)::int FROM smartspace.cobot_sync_run WHERE id = $run->{id}");
		$cobot->clear_faults;
		return ($run, $stored);
	};

	my ($run, $stored) = $fails->(1);
	ok($stored <= 1 && delay($run) >= 44, 'less than the back-off: the back-off counts') or diag "$stored " . delay($run);
	($run, $stored) = $fails->(2700);
	ok($stored >= 2699 && delay($run) >= 2699, 'more than the interval: Cobot counts') or diag "$stored " . delay($run);
	($run, $stored) = $fails->(600, 503);
	ok($stored >= 599 && delay($run) >= 599, 'so it does where the server is down') or diag "$stored " . delay($run);
	foreach my $odd ('', 'soon', '-5', '0', '99999999999999999999', 'Wed, 21 Oct 2015 07:28:00 GMT', '12 x')
	{
		($run, $stored) = $fails->($odd);
		is("$run->{result} $run->{reason}", 'incomplete rate_limited', "Retry-After \"$odd\"");
		ok(($stored eq '' || $stored <= 86400) && delay($run) <= 86401, '... makes nobody wait for ever') or diag "$stored " . delay($run);
	}

	($run) = $fails->(300);
	$t->node->restart;
	$cobot->clear_log;
	$run = $loft->sync(waits => 1);
	is("$run->{result} $run->{reason} " . scalar(() = $cobot->log), 'incomplete rate_limited 0', 'nothing is sent before, also after a restart');
	my $held = $t->try("SELECT result FROM smartspace.cobot_sync($id, reread => true)");
	is("$held->{out} " . scalar(() = $cobot->log), 'incomplete 0', '... whoever asks');
	my $other = CobotLoft->open($t, 'other');
	is($other->state, 'connected', 'another space is not concerned');
	$t->sql("UPDATE smartspace.cobot_sync_run SET not_before = now() - interval '1 s' WHERE integration_id = $id AND not_before IS NOT NULL");
	$run = $loft->sync(waits => 1);
	is("$run->{result} " . $loft->state, 'ok connected', 'when the time is over it goes on');

	$cobot->fault(match => { path => '/api/memberships/asks-01' }, status => 429, headers => { 'Retry-After' => '300' });
	is($t->try("SELECT reason FROM smartspace.cobot_sync_member('asks-01', $id)")->{out}, 'rate_limited', 'given: the endpoint for one member is exhausted');
	is($loft->sync(waits => 1)->{result}, 'ok', 'the limit of one endpoint does not stop what asks others');
};

promise 'what was never synchronised well grows old from when it was connected', never => sub {
	my ($loft) = @_;
	my $id = $loft->id;
	my $freshness = sub { return join ' ', map { $_ // '-' } @{ status($loft) }{qw(freshness reason)} };

	$t->sql("DELETE FROM smartspace.cobot_sync_run WHERE integration_id = $id");
	like(status($loft)->{summary}, qr/; not synchronised yet/, 'given: no run');
	is($freshness->(), 'fresh -', 'just connected');
	$t->sql("UPDATE smartspace.cobot_integration SET connected_at = now() - interval '91 minutes' WHERE id = $id");
	is($freshness->(), 'overdue -', 'three intervals later');
	$t->sql("UPDATE smartspace.cobot_integration SET connected_at = now() - interval '25 hours' WHERE id = $id");
	is($freshness->() . ' ' . problems($loft), 'stale stale stale', 'a day later');
	is($t->sql("SELECT detail FROM smartspace.cobot_problem WHERE integration_id = $id AND problem = 'stale'"), 'It was never synchronised well.', '... which is said');
	$loft->sync(settings => $down);
	is($freshness->(), 'stale unreachable', 'a run that fails says why, and it is no fresher');
	$loft->leave(1 .. 6);
	$loft->sync;
	is($freshness->() . ' ' . status($loft)->{held}, 'stale too_many_removals 6', 'nor is it by a run that is held');
	$t->sql("SELECT smartspace.cobot_sync_member('never-07', $id)");
	like($freshness->(), qr/^stale /, 'nor by one member');
	$loft->join_in(1 .. 6);
	is($loft->sync->{result} . ' ' . $freshness->(), 'ok fresh -', 'a good one makes it fresh');
	is($loft->inside, 8, 'and all the while everybody had access');
	$loft->set(sync_interval => "'10 minutes'", stale_after => "'2 hours'");
	age_runs($loft, '31 minutes');
	is($freshness->(), 'overdue -', 'the interval is a setting of the integration');
	age_runs($loft, '90 minutes');
	is($freshness->(), 'stale stale', 'and so is what counts as stale');
};

promise 'paused and disconnected are not old, and no run changes them', paused => sub {
	my ($loft) = @_;
	my $id = $loft->id;

	foreach my $state (qw(paused disconnected))
	{
		$t->sql("UPDATE smartspace.cobot_integration SET state = '$state' WHERE id = $id");
		age_runs($loft, '2 days');
		$cobot->clear_log;
		is($t->try("SELECT smartspace.cobot_sync($id)")->{sqlstate}, '55000', "$state: refused");
		is(scalar(() = $cobot->log), 0, '... nothing is sent');
		my $status = status($loft);
		is(join(' ', $status->{state}, map { $_ // '-' } @{$status}{qw(reason freshness)}), "$state - -", '... and it is not stale');
		is($loft->inside, 8, '... access is as it was');
	}
	$t->sql("UPDATE smartspace.cobot_integration SET state = 'connected' WHERE id = $id");
	is($loft->sync->{result} . ' ' . $loft->state, 'ok connected', 'and on it goes');
};

promise 'history is kept for as long as the setting says, and what is needed longer', kept => sub {
	my ($loft) = @_;
	my $id = $loft->id;
	my $runs = sub { return $t->sql("SELECT count(*) FROM smartspace.cobot_sync_run WHERE integration_id = $id AND " . ($_[0] // 'true')) };

	$loft->set(hold_removals_above => 0, hold_removals_above_percent => 0);
	$loft->leave(1);
	my $held = $loft->sync;
	is($held->{result}, 'held', 'given: a run that holds somebody');
	$loft->sync(settings => $down) foreach 1 .. 25;
	age_runs($loft, '89 days');
	my $before = $runs->();
	$loft->sync(settings => $down);
	is($runs->(), $before + 1, 'younger than ninety days: kept');
	age_runs($loft, '2 days');
	$loft->sync(settings => $down);
	my $left = $runs->("finished_at < now() - interval '90 days'");
	cmp_ok($left, '>=', $before - 20, 'older: a few go with each run');
	$loft->sync(settings => $down) foreach 1, 2;
	is($runs->("finished_at < now() - interval '90 days' AND result NOT IN ('ok', 'held')"), 0, '... until none is left');
	is($runs->("id = $held->{id}") . $runs->("result = 'ok'"), '11', 'but for the one that holds somebody, and the last good one');
	is($t->sql("SELECT count(*) FROM smartspace.cobot_sync_change c WHERE NOT EXISTS (SELECT FROM smartspace.cobot_sync_run r WHERE r.id = c.run_id)"), 0, 'changes go with their runs');
	is($loft->release($held)->{result} . ' ' . $loft->outside(1 .. 8), 'ok 1', 'it can still be released');
	$loft->sync;
	is($runs->("finished_at < now() - interval '90 days'"), 0, 'and is old then');
	$t->node->append_conf('postgresql.conf', "smartspace_cobot.run_retention_days = 1\n");
	$t->node->restart;
	age_runs($loft, '25 hours');
	my $last = $t->sql("SELECT max(id) FROM smartspace.cobot_sync_run WHERE integration_id = $id");
	$loft->sync(settings => $down);
	is($t->sql("SELECT string_agg(result, ' ' ORDER BY id) FROM smartspace.cobot_sync_run WHERE integration_id = $id"), 'ok failed', 'a shorter setting keeps less');
	is($runs->("id = $last"), 1, '... the last good one always');
};

promise 'settings that make no sense are refused', checks => sub {
	my ($loft) = @_;
	my $try = sub { return $t->try("UPDATE smartspace.cobot_integration SET $_[0] WHERE id = @{[ $loft->id ]}") };

	foreach my $bad ("sync_interval = '0'", "sync_interval = '59 s'", "sync_interval = '61 minutes'", "sync_interval = '-1 hour'", "stale_after = '0'", "stale_after = '-1 day'",
		'hold_removals_above = -1', 'hold_removals_above_percent = -1', 'hold_removals_above_percent = 101', 'hold_emptied_group_of = 0', "state = 'fine'", "state_reason = 'because'")
	{
		is($try->($bad)->{sqlstate}, '23514', $bad);
	}
	is($try->($_)->{sqlstate}, '23502', $_) foreach 'sync_interval = NULL', 'stale_after = NULL', 'hold_removals_above = NULL', 'state = NULL';
	ok($try->($_)->{ok}, $_) foreach "sync_interval = '1 minute'", "sync_interval = '1 hour'", "stale_after = '1 minute'", "stale_after = '1 year'", 'hold_removals_above = 0', 'hold_emptied_group_of = NULL';
	is($t->try("SELECT smartspace.cobot_library_version(); SET smartspace_cobot.run_retention_days = 0")->{ok} ? 'taken' : 'refused', 'refused', 'no retention at all');
};

done_testing();
