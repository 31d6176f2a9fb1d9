# The worker synchronises by itself: at once when a space is connected or somebody asks,
# then on schedule, and as soon as a webhook's hint or a shorter interval makes it due. It
# asks nothing about a space that is paused, disconnected or armed elsewhere. Operators see
# what it is at, and its processes by name.
use strict;
use warnings;

use CobotWorker;
use Test::More;
use Time::HiRes qw(sleep);

my $t = CobotWorker->new(members => 20, linger => 1);
my $cobot = $t->cobot;

# --- processes ---
my $launcher;
$t->wait_until(sub { $launcher = $t->launcher }, 'the launcher');
is($launcher->{datname}, undef, 'the launcher is connected to no database');
is($launcher->{backend_type}, 'smartspace_cobot launcher', '... and known by its type');

my $space = $t->connect_space('demo-space');
my $run = $t->wait_for_run($space);
is("$run->{result} $run->{run_by} $run->{members_added}", 'ok_with_problems worker 20', 'connecting a space synchronises it');
my $worker = $t->worker;
is($worker->{application_name}, 'smartspace_cobot', 'the worker has a name');
is($worker->{datname}, 'postgres', '... is in the database');
$t->wait_until(sub { my $w = $t->worker; !$w || $w->{state} eq 'idle' }, 'the worker is idle when all is done');
$t->wait_for_no_worker;
pass('... and leaves when it has nothing to do');
my $task = $t->task($space);
is("$task->{attempts} " . ($task->{requested_at} // 'nothing') . ' ' . ($task->{last_error} // 'nothing'), '0 nothing nothing', 'nothing is left to do');
cmp_ok($task->{due_in_s}, '>', 60, 'the next time is later');

# --- asked for ---
is($t->sql("SELECT smartspace.cobot_request_sync($space)"), 1, 'a synchronisation is queued');
my $seconds = $t->seconds_until(sub { $t->last_run($space)->{id} > $run->{id} }, 'the second synchronisation');
cmp_ok($seconds, '<', 2, "... and done soon ($seconds s)");
$t->wait_for_no_worker;
$cobot->clear_log;
$t->sql("BEGIN; SELECT smartspace.cobot_request_sync($space); ROLLBACK");
is($t->worker, undef, 'what was rolled back wakes nobody');
like($t->sql('SELECT smartspace.cobot_run_due()'), qr/the worker takes up what is due/, 'cobot_run_due() leaves it to the worker');
$t->wait_for_worker;
$t->wait_for_no_worker;
is(scalar(grep { $_->{path} eq '/api/memberships' } $cobot->log), 0, '... which asks nothing as nothing is due');

# --- progress: the worker's and a manual one ---
$t->stall($space, 'demo-space');
my ($progress) = $t->rows('SELECT * FROM smartspace.cobot_sync_progress');
$worker = $t->worker;
is("$progress->{integration_id} $progress->{pid} $progress->{phase}", "$space $worker->{pid} asking", 'the progress view shows a run of the worker');
cmp_ok($progress->{requests}, '>=', 3, '... how many requests it sent');
cmp_ok($progress->{seconds}, '>=', 0, '... and for how long');
like($worker->{query}, qr/^waiting for Cobot: 1 under way/, 'pg_stat_activity says what the worker does');
is("$worker->{state} $worker->{wait_event}", 'active Extension', '... and that it waits');
my $skipped = $t->sync($space);
is($skipped->{result}, 'skipped_locked', 'a manual synchronisation meanwhile is skipped');
$cobot->clear_faults;

# what stalls is let go by a restart of Cobot's server only, so the worker is ended here
my $before = $t->last_run($space)->{id};
$t->sql("SELECT pg_terminate_backend($worker->{pid})");
$seconds = $t->seconds_until(sub { $t->last_run($space)->{id} > $before }, 'another worker goes on');
cmp_ok($seconds, '<', 5, "a worker that was terminated comes back and goes on ($seconds s)");
is($t->last_run($space)->{run_by}, 'worker', '... with the same work');

$cobot->fault(match => { path => '/api/memberships' }, delay_ms => 5800);
my $session = $t->node->background_psql('postgres', on_error_stop => 0);
$session->query_until(qr/go/, "\\echo go\nSELECT result FROM smartspace.cobot_sync($space);\n");
$t->wait_until(sub { $t->rows("SELECT * FROM smartspace.cobot_sync_progress WHERE phase = 'asking'") }, 'the view shows a manual synchronisation');
pass('the progress view shows a manual synchronisation');
$session->query('SELECT 1');
like($session->{stderr}, qr/NOTICE:  synchronising "demo-space": waiting for Cobot's lists, \d requests so far/, 'one that takes long says after five seconds what it waits for');
$session->quit;
is(scalar($t->rows('SELECT * FROM smartspace.cobot_sync_progress')), 0, 'nothing is under way any more');

# --- statistics ---
$t->sql("SELECT pg_stat_reset_single_table_counters('smartspace.cobot_sync_task'::regclass)");
$t->request($space);
$t->wait_until(sub { $t->sql("SELECT n_tup_upd FROM pg_stat_all_tables WHERE relid = 'smartspace.cobot_sync_task'::regclass") > 0 },
	'the counters of our tables move');
ok($t->sql("SELECT n_tup_ins FROM pg_stat_all_tables WHERE relid = 'smartspace.cobot_sync_run'::regclass") > 0,
	'what the worker writes is in the statistics soon, for autovacuum');

# --- a shorter interval counts from the last run ---
$t->wait_for_no_worker;
$before = $t->last_run($space)->{id};
$t->sql("UPDATE smartspace.cobot_integration SET sync_interval = '10 min' WHERE id = $space");
$t->wait_for_worker;
$t->wait_for_no_worker;
is($t->last_run($space)->{id}, $before, 'an interval that is not over yet makes nothing due');
cmp_ok($t->task($space)->{due_in_s}, '<=', 600, '... but sooner');
$t->sql("UPDATE smartspace.cobot_sync_run SET finished_at = finished_at - interval '7 min', started_at = started_at - interval '7 min' WHERE integration_id = $space;"
	  . "UPDATE smartspace.cobot_integration SET sync_interval = '5 min' WHERE id = $space");
is($t->wait_for_run($space, $before)->{run_by}, 'worker', 'one that is over is seen to at once');

# --- paused ---
$t->sql("UPDATE smartspace.cobot_integration SET state = 'paused' WHERE id = $space");
$t->wait_for_no_worker;
$cobot->clear_log;
$t->sql("UPDATE smartspace.cobot_sync_task SET due_at = now(), requested_at = now() WHERE integration_id = $space; SELECT smartspace.cobot_wake_worker()");
$t->wait_for_worker;
$t->wait_for_no_worker;
is(scalar($cobot->log), 0, 'a paused integration is never asked about');
is($t->sql("SELECT due_at FROM smartspace.cobot_sync_task WHERE integration_id = $space"), 'infinity', '... until it goes on');
$before = $t->last_run($space)->{id};
$t->sql("UPDATE smartspace.cobot_integration SET state = 'connected' WHERE id = $space");
is($t->wait_for_run($space, $before)->{run_by}, 'worker', 'then it is synchronised at once');

# --- a foreign database (clone guard) ---
$t->wait_for_no_worker;
$t->sql("UPDATE smartspace.cobot_integration SET armed_system = armed_system + 1 WHERE id = $space");
$cobot->clear_log;
$before = $t->last_run($space)->{id};
$t->sql("UPDATE smartspace.cobot_sync_task SET due_at = now(), requested_at = now() WHERE integration_id = $space; SELECT smartspace.cobot_wake_worker()");
$t->wait_for_worker;
$t->wait_for_no_worker;
is(scalar($cobot->log), 0, 'an integration that is armed for elsewhere is never asked about');
is($t->last_run($space)->{id}, $before, '... and has no run');
cmp_ok($t->task($space)->{due_in_s}, '>', 3000, '... nor is it looked at again and again');
$t->sql("SELECT smartspace.cobot_arm($space)");
is($t->wait_for_run($space, $before)->{run_by}, 'worker', 'arming it here synchronises it at once');

# --- disconnected, and connected again ---
$before = $t->last_run($space)->{id};
$t->sql("UPDATE smartspace.cobot_integration SET state = 'disconnected' WHERE id = $space");
$t->wait_for_no_worker;
$cobot->clear_log;
$t->sql("UPDATE smartspace.cobot_sync_task SET due_at = now(), requested_at = now() WHERE integration_id = $space; SELECT smartspace.cobot_wake_worker()");
$t->wait_for_worker;
$t->wait_for_no_worker;
is(scalar($cobot->log), 0, 'a disconnected integration is never asked about');
$t->sql("SELECT smartspace.cobot_connect_token($space, 'admin-token')");
is($t->wait_for_run($space, $before)->{run_by}, 'worker', 'connecting it again synchronises it at once');

# --- changed in the middle: what was asked for is not wanted any more ---
foreach my $case (
	[ 'paused', "UPDATE smartspace.cobot_integration SET state = 'paused' WHERE id = $space" ],
	[ 'disconnected', "UPDATE smartspace.cobot_integration SET state = 'disconnected' WHERE id = $space" ],
	[ 'armed elsewhere', "UPDATE smartspace.cobot_integration SET armed_system = armed_system + 1 WHERE id = $space" ])
{
	my ($what, $sql) = @$case;

	$cobot->patch_member('demo-space', $_, name => "Name when $what")
	  foreach split /\n/, $t->sql("SELECT cobot_id FROM smartspace.cobot_membership WHERE departed_at IS NULL ORDER BY id LIMIT 3");
	my $contents = $t->contents;
	$before = $t->last_run($space)->{id};
	$t->stall($space, 'demo-space', delay_ms => 700);
	$t->sql($sql);
	$t->wait_for_no_worker;
	is($t->contents, $contents, "an integration that is $what while Cobot is asked: nothing is taken over");
	is($t->last_run($space)->{id}, $before, '... and there is no run');
	$cobot->clear_faults;
	$t->sql("SELECT smartspace.cobot_arm($space); UPDATE smartspace.cobot_integration SET state = 'connected' WHERE id = $space");
	is($t->wait_for_run($space, $before)->{members_changed}, 3, '... until it is set right');
}

# --- hints that are left pending ---
$t->wait_for_no_worker;
my $anna = $cobot->space('demo-space')->{memberships}[0]{id};
$t->sql("UPDATE smartspace.cobot_sync_run SET started_at = started_at - interval '1 min' WHERE integration_id = $space");
$cobot->fault(match => { path => "/api/memberships/$anna" }, status => 502);
like($t->sql("SELECT smartspace.cobot_webhook($space, 'updated_membership_details', '{\"url\": \"https://demo-space.cobot.me/api/memberships/$anna\"}')"),
	qr/^pending: /, 'a hint of a webhook that cannot be followed is left');
$cobot->patch_member('demo-space', $anna, name => 'Anna of the hint');
$t->wait_for_worker;
pass('... to the worker');
$t->wait_for_no_worker;
$cobot->clear_log;
$t->sql("UPDATE smartspace.cobot_webhook_fetch SET started_at = started_at - interval '56 s'; SELECT smartspace.cobot_wake_worker()");
$t->wait_for_no_worker if $t->worker;
is(scalar($cobot->log), 0, '... which waits until it is due, a minute after a failure');
$cobot->fault(match => { path => "/api/memberships/$anna" }, delay_ms => 500);
my @during;
$t->wait_until(sub {
	my $w = $t->worker;
	push @during, $w if $w && grep { $_->{path} eq "/api/memberships/$anna" } $cobot->log;
	return $t->sql("SELECT count(*) FROM smartspace.cobot_membership WHERE name = 'Anna of the hint'") > 0;
}, 'the worker follows the hint');
pass('the worker follows it when it is due');
is(join(',', map { $_->{backend_xmin} // $_->{xact_start} // () } grep { ($_->{wait_event} // '') eq 'Extension' } @during), '', '... without a transaction while it waits');
is($t->sql('SELECT count(*) FROM smartspace.cobot_webhook_hint'), 0, '... and it is settled');
is(scalar(grep { $_->{path} eq '/api/memberships' } $cobot->log), 0, '... without asking for all members');

done_testing;
