# Without shared_preload_libraries there is no worker, and everything else works (bar 12):
# what is queued is done by cobot_run_due(), in a process of its own, and callers are told.
# pg_upgrade goes through, from and to a server with the library preloaded, and nothing of
# ours runs meanwhile.
use strict;
use warnings;

use CobotMirror;
use CobotWorker;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $t = CobotTest->new(spaces => 2, members => 20);
my $cobot = $t->cobot;
my ($space, $other) = map { $t->connect_space($_) } qw(space-0001 space-0002);

sub due { return $t->sql('SELECT smartspace.cobot_run_due()'); }

is($t->sql('SELECT count(*) FROM smartspace.cobot_sync_run'), 0, 'connecting alone synchronises nothing without a worker');
is($t->sql('SELECT smartspace.cobot_wake_worker()'), 'f', 'there is nobody to be woken');
is(due(), '2 synchronised, 0 of them not well', 'cobot_run_due() does what is due, and says what');
is(mirror_differs($t, $space, 'space-0001'), '', '... in place: the mirror equals Cobot when it returns');
is(due(), '0 synchronised, 0 of them not well', '... and nothing more the next time');
is($t->sql("SELECT string_agg(DISTINCT run_by, ',') FROM smartspace.cobot_sync_run"), 'worker', 'the runs are those of a worker');
is($t->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'smartspace_cobot%'}), 0, 'it is gone when the call returns');

my $answer = $t->try("SELECT smartspace.cobot_request_sync($space)");
like($answer->{err}, qr/NOTICE: .*no worker looks after this database/, 'somebody who queues work is told that nobody is there to do it');
like($answer->{err}, qr/HINT: .*smartspace_cobot.databases/, '... and what to do');
is($answer->{out}, 1, '... and it is queued');
$cobot->fault(match => { host => 'space-0001.cobot.me', path => '/api/memberships' }, status => 502);
is(due(), '1 synchronised, 1 of them not well', 'cobot_run_due() says what did not go well');

# in the middle
$t->sql("UPDATE smartspace.cobot_sync_run SET not_before = NULL; UPDATE smartspace.cobot_integration SET connected_by = 'somebody else'");
$cobot->fault(match => { host => 'space-0001.cobot.me', path => '/api/memberships' }, delay_ms => 1500);
$t->sql("SELECT smartspace.cobot_request_sync($space)");
my $session = $t->node->background_psql('postgres', on_error_stop => 0);
$session->query_until(qr/go/, "\\echo go\nSELECT smartspace.cobot_run_due();\n");
my @progress;
$t->wait_until(sub { @progress = $t->rows('SELECT * FROM smartspace.cobot_sync_progress') }, 'a run is under way');
is("$progress[0]{integration_id} $progress[0]{phase}", "$space running", 'the view shows a run of the worker, though not how far it is');
my ($worker) = $t->rows(q{SELECT * FROM pg_stat_activity WHERE backend_type = 'smartspace_cobot worker'});
is("$worker->{pid} $worker->{wait_event}", "$progress[0]{pid} Extension", '... in its own process');
is($worker->{xact_start} // $worker->{backend_xmin}, undef, '... without a transaction');
like($session->query('SELECT 1'), qr/1 synchronised, 0 of them not well/, 'it is done');

# a manual one
$cobot->fault(match => { host => 'space-0002.cobot.me', path => '/api/memberships' }, delay_ms => 5800);
$session->{stderr} = '';
$session->query_until(qr/go/, "\\echo go\nSELECT result FROM smartspace.cobot_sync($other);\n");
$t->wait_until(sub { @progress = $t->rows('SELECT * FROM smartspace.cobot_sync_progress') }, 'a run is under way');
is("$progress[0]{integration_id} $progress[0]{phase}", "$other running", 'a manual one as well');
$session->query('SELECT 1');
like($session->{stderr}, qr/NOTICE:  synchronising "space-0002"/, '... which says after some seconds what it waits for');

# cancelled
$t->sql("UPDATE smartspace.cobot_integration SET connected_by = 'a third'");
$cobot->fault(match => { host => 'space-0001.cobot.me', path => '/api/memberships' }, stall => 'headers');
$t->sql("SELECT smartspace.cobot_request_sync($space)");
$answer = $t->try("SET statement_timeout = '700ms'; SELECT smartspace.cobot_run_due()");
is($answer->{sqlstate}, '57014', 'cobot_run_due() can be cancelled');
cmp_ok($answer->{seconds}, '<', 1.2, '... at once');
$t->wait_until(sub { $t->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'smartspace_cobot%'}) == 0 }, 'the worker ends');
pass('... and its worker ends, too');
is(due(), '1 synchronised, 0 of them not well', '... and the next call does what it left');
$session->quit;

# no process for it
$t->node->append_conf('postgresql.conf', "max_worker_processes = 0\nmax_logical_replication_workers = 0");
$t->node->restart;
$answer = $t->try('SELECT smartspace.cobot_run_due()');
is($answer->{sqlstate}, '53000', 'without a free worker process it fails');
like($answer->{err}, qr/HINT: .*max_worker_processes/, '... and says what to do');
$t->node->stop;

# --- pg_upgrade ---
my $w = CobotWorker->new(members => 10);
$space = $w->connect_space('demo-space');
$w->wait_for_run($space);
$w->cobot->clear_log;
my $old = $w->node;
my $new = PostgreSQL::Test::Cluster->new('new');
$new->init(extra => [ '--encoding=UTF8', '--locale=C.UTF-8' ]);
$new->append_conf('postgresql.conf', <<"CONF");
shared_preload_libraries = 'smartspace_cobot'
smartspace_cobot.databases = 'postgres'
smartspace_cobot.connect_to = '@{[ $w->cobot->connect_to ]}'
smartspace_cobot.ca_file = '@{[ $w->cobot->ca_file ]}'
CONF
$old->stop;
my $bindir = $old->config_data('--bindir');
my $directory = PostgreSQL::Test::Utils::tempdir;
my @upgrade = ('pg_upgrade', '--no-sync', '--retain', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $bindir, '-B', $bindir,
	'-s', $new->host, '-p', $old->port, '-P', $new->port);
chdir $directory or die "$directory: $!";
command_ok([ @upgrade, '--check' ], 'pg_upgrade --check passes');
command_ok(\@upgrade, 'pg_upgrade goes through');
is(scalar($w->cobot->log), 0, 'Cobot was asked for nothing');
my $log = join '', map { slurp_file($_) } glob $new->data_dir . '/pg_upgrade_output.d/*/log/pg_upgrade_server.log';
like($log, qr/database system is shut down/, '... while its servers ran');
unlike($log, qr/smartspace_cobot (?:launcher|worker)/, '... neither launcher nor worker did');
$new->start;
$w->{node} = $new;
is($w->sql('SELECT count(*) FROM smartspace.cobot_membership'), 10, 'all members are there');
$w->wait_until(sub { $w->launcher }, 'the launcher');
$w->wait_for_worker;
$w->wait_for_no_worker;
is(scalar($w->cobot->log), 0, 'the new cluster is another one: it asks nothing before somebody arms it');
my $last = $w->last_run($space)->{id};
$w->sql("SELECT smartspace.cobot_arm($space)");
like($w->wait_for_run($space, $last)->{result}, qr/^ok/, 'once it is armed it goes on');

done_testing;
