# Many integrations in one worker: one that breaks each time (bar 6), or that never answers,
# delays nothing else; together they stay below Cobot's rate limits; and their next times are
# spread.
use strict;
use warnings;

use CobotWorker;
use Test::More;
use Time::HiRes qw(sleep time);

# Cobot's id of somebody who is there.
sub member_of
{
	my ($t, $integration, $number) = @_;

	return $t->sql("SELECT cobot_id FROM smartspace.cobot_membership WHERE integration_id = $integration AND departed_at IS NULL ORDER BY cobot_id OFFSET $number LIMIT 1");
}

# --- bar 6 ---
subtest 'bar 6: one that throws each time is backed off, and the others go on' => sub {
	my $t = CobotWorker->new(spaces => 5, members => 20, linger => 2);
	my @spaces = map { $t->connect_space("space-000$_") } 1 .. 5;
	$t->wait_for_run($_) foreach @spaces;
	my ($bad, $slow, @others) = @spaces;

	$t->sql(<<"SQL");
CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS \$\$BEGIN
	IF NEW.integration_id = $bad AND NEW.result LIKE 'ok%' THEN RAISE EXCEPTION 'poisoned run'; END IF;
	RETURN NEW;
END\$\$;
CREATE TRIGGER poison BEFORE INSERT ON smartspace.cobot_sync_run FOR EACH ROW EXECUTE FUNCTION poison();
SQL
	foreach my $number (1 .. 5)
	{
		$t->cobot->patch_member("space-000$number", member_of($t, $spaces[ $number - 1 ], 0), name => 'Anna Poison');
	}
	$t->stall($slow, 'space-0002');
	my $pid = $t->worker->{pid};
	my %before = map { $_ => $t->last_run($_)->{id} } @spaces;
	my $start = time;
	$t->sql("SELECT smartspace.cobot_request_sync($_)") foreach $bad, @others;
	$t->wait_for_run($_, $before{$_}) foreach $bad, @others;
	my $seconds = time - $start;

	cmp_ok($seconds, '<', 3, "all others are done soon ($seconds s)");
	is($t->sql("SELECT string_agg(DISTINCT result, ',') FROM smartspace.cobot_sync_run WHERE integration_id IN (" . join(',', @others) . ") AND result NOT LIKE 'ok%'"), '', '... and well');
	is($t->sql(q{SELECT count(*) FROM smartspace.cobot_membership WHERE name = 'Anna Poison'}), 3, '... with what changed');
	is($t->worker->{pid}, $pid, 'the worker goes on');
	my $run = $t->last_run($bad);
	is("$run->{result} $run->{run_by}", 'failed worker', 'there is a row of the failed run');
	like($run->{message}, qr/poisoned run/, '... that says why');
	my $task = $t->task($bad);
	is($task->{attempts}, 1, 'the attempt is counted');
	like($task->{last_error}, qr/poisoned run/, '... with its error');
	cmp_ok($task->{due_in_s}, '>', 50, '... and tried again in a minute');
	cmp_ok($task->{due_in_s}, '<', 61, '... not later');
	is($t->sync($slow)->{result}, 'skipped_locked', 'one that is under way keeps its lock when another one fails');
	is($t->sync($bad, settings => 'ALTER TABLE smartspace.cobot_sync_run DISABLE TRIGGER poison;')->{result}, $t->last_run($others[0])->{result},
		'the lock of the one that failed is free');
	$t->sql('ALTER TABLE smartspace.cobot_sync_run ENABLE TRIGGER poison');

	# longer and longer
	foreach my $attempt (2 .. 4)
	{
		my $last = $t->last_run($bad)->{id};
		$t->sql("UPDATE smartspace.cobot_sync_run SET next_at = now() WHERE integration_id = $bad; UPDATE smartspace.cobot_sync_task SET due_at = now() WHERE integration_id = $bad; SELECT smartspace.cobot_wake_worker()");
		$t->wait_for_run($bad, $last);
		my $task = $t->task($bad);
		is($task->{attempts}, $attempt, "attempt $attempt");
		my $expected = 60 * 2**($attempt - 1);
		ok($task->{due_in_s} > $expected - 10 && $task->{due_in_s} <= $expected + 1, "... is followed by $expected s of rest") or diag $task->{due_in_s};
	}
	$t->sql('DROP TRIGGER poison ON smartspace.cobot_sync_run');
	like($t->request($bad)->{result}, qr/^ok/, 'once repaired, it is synchronised');
	$task = $t->task($bad);
	is("$task->{attempts} " . ($task->{last_error} // 'none'), '0 none', '... and all is forgotten');
	is($t->worker->{pid}, $pid, 'it was the same worker all the time');
	is($t->sql("SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND pid = $pid AND mode = 'ExclusiveLock'"), 1, 'and it has no lock but that of the one that is under way');
};

# --- many, one of which does not answer ---
subtest 'one of 200 does not answer: the others are synchronised in the time that they need' => sub {
	my $t = CobotWorker->new(spaces => 200, members => 2, linger => 2, conf => "smartspace_cobot.request_timeout = '8s'\n");
	my $cobot = $t->cobot;

	$t->sql(<<'SQL');
BEGIN;
SELECT count(c.state) FROM generate_series(1, 200) i,
	LATERAL (SELECT smartspace.cobot_create_integration(format('space-%s', to_char(i, 'FM0000')), format('space-%s', to_char(i, 'FM0000'))) AS id) n,
	LATERAL smartspace.cobot_connect_token(n.id, 'admin-token') c;
UPDATE smartspace.cobot_integration SET connected_by = 'user ' || id;
COMMIT;
SQL
	my $all = sub { my ($where) = @_; return $t->sql("SELECT count(DISTINCT integration_id) FROM smartspace.cobot_sync_run WHERE $where"); };
	$t->wait_until(sub { $all->('true') == 200 }, 'the first round');

	$cobot->fault(match => { host => 'space-0077.cobot.me' }, times => 0, stall => 'headers');
	my $last = $t->sql('SELECT max(id) FROM smartspace.cobot_sync_run');
	$t->sql(q{UPDATE smartspace.cobot_integration SET connected_by = 'other user ' || id});
	my $start = time;
	$t->sql('SELECT smartspace.cobot_request_sync()');
	$t->wait_until(sub { $all->("id > $last") >= 199 }, 'the second round');
	my $seconds = time - $start;
	cmp_ok($seconds, '<', 7, sprintf '199 take %.1f s', $seconds);
	is($all->("id > $last AND result NOT LIKE 'ok%'"), 0, '... and are well');
	is($t->sql("SELECT count(*) FROM smartspace.cobot_sync_run r JOIN smartspace.cobot_integration i ON i.id = r.integration_id WHERE r.id > $last AND i.subdomain = 'space-0077'"), 0, '... while one is still waited for');
	$t->wait_until(sub { $all->("id > $last") == 200 }, 'the last one');
	is($t->sql("SELECT result, reason FROM smartspace.cobot_sync_run WHERE id > $last AND result NOT LIKE 'ok%'"), 'failed|unreachable', '... which fails by itself');
	my ($distinct, $spread) = split /\|/, $t->sql("SELECT count(DISTINCT date_trunc('second', next_at)), extract(epoch FROM max(next_at) - min(next_at)) FROM smartspace.cobot_sync_run WHERE id > $last AND result LIKE 'ok%'");
	cmp_ok($distinct, '>', 40, "their next times are spread over $distinct different seconds");
	cmp_ok($spread, '>', 60, sprintf '... within %.0f s', $spread);
	is($t->sql("SELECT count(*) FROM smartspace.cobot_sync_task k WHERE due_at <> (SELECT next_at FROM smartspace.cobot_sync_run r WHERE r.integration_id = k.integration_id AND next_at IS NOT NULL ORDER BY id DESC LIMIT 1)"), 0,
		'... and that is when they are due');
};

# --- rate limits ---
subtest 'integrations of one user stay below the rate limits of Cobot together' => sub {
	my $t = CobotWorker->new(spaces => 9, members => 3, linger => 30, rate_limit => 1,
		conf => "smartspace_cobot.requests_per_minute = 54\nsmartspace_cobot.list_requests_per_minute = 5\n");
	my $cobot = $t->cobot;

	$t->sql(<<'SQL');
SELECT count(c.state) FROM generate_series(1, 9) i,
	LATERAL (SELECT smartspace.cobot_create_integration('space-000' || i, 'space-000' || i) AS id) n,
	LATERAL smartspace.cobot_connect_token(n.id, 'admin-token') c;
SQL
	is($t->sql('SELECT count(DISTINCT connected_by) FROM smartspace.cobot_integration'), 1, 'given: nine integrations of one user');
	my $lists = sub { return scalar grep { $_->{path} eq '/api/memberships' } $cobot->log; };
	my $start = time;
	$t->wait_until(sub { $t->sql('SELECT count(*) FROM smartspace.cobot_sync_run') == 5 }, 'the first five');
	my $seconds = time - $start;
	cmp_ok($seconds, '<', 3, sprintf 'five are synchronised at once (%.1f s)', $seconds);
	is(scalar($t->rows(q{SELECT * FROM smartspace.cobot_sync_progress WHERE phase = 'asking'})), 4, 'four wait');
	$t->wait_until(sub { $lists->() > 5 || time > $start + 12 }, 'for some seconds');
	is($lists->(), 5, 'their lists are not asked for within the same minute');
	is(scalar(grep { $_->{status} == 429 } $cobot->log), 0, 'Cobot never has to refuse anything');
	my $worker = $t->worker;
	is($worker->{xact_start}, undef, 'no transaction is open meanwhile');

	# another user is not held back
	$t->sql("UPDATE smartspace.cobot_integration SET connected_by = 'somebody else' WHERE id = 1; SELECT smartspace.cobot_request_sync(1)");
	$t->wait_until(sub { $lists->() > 5 }, 'the list of another user');
	is($lists->(), 6, 'nobody else is held back by that');
	is(scalar(grep { $_->{status} == 429 } $cobot->log), 0, '... nor refused');
};

done_testing;
