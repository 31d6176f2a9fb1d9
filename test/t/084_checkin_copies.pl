# Dump and restore into a new cluster sends nothing and loses nothing (bar 9); nor does any other copy,
# with check-ins that are queued and such of which nobody knows what became of them. Once armed
# on purpose, a copy does not send what the original may have sent. Every copy here has a worker
# that would like to.
use strict;
use warnings;

use CobotTest;
use CobotVisits;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

# How long a worker gets to do what it must not do. Everything is due, and it takes milliseconds.
use constant LONG_ENOUGH_S => 2;

my $t = CobotTest->new(members => 120, conf => <<'CONF');
wal_level = replica
max_wal_senders = 4
shared_preload_libraries = 'smartspace_cobot'
smartspace_cobot.databases = 'copy'
smartspace_cobot.checkin_settle_time = '1s'
smartspace_cobot.request_timeout = '500ms'
smartspace_cobot.environment = 'production'
CONF
my $cobot = $t->cobot;
my $original = $t->node;
my $visits = CobotVisits->new($t, 'demo-space', settle_time_s => 1);
my $space = $visits->space;
my $dir = PostgreSQL::Test::Utils::tempdir;

# --- given: rows that are queued, and rows that are sending ---
my @sending = $visits->take(3);
my @queued = $visits->take(3);
my @all = (@sending, @queued);

$visits->fault($_, stall => 'headers', perform => JSON::PP::true) foreach @sending[ 0, 1 ];
$visits->fault($sending[2], status => 500);
$visits->enter(@sending);
$cobot->fault(match => { path => '/api/check_ins' }, skip => 1, status => 500);    # the look after the requests
$t->sql('SELECT smartspace.cobot_deliver_checkins()');
$visits->enter(@queued);
$visits->enter($sending[0], $queued[0]);

sub at
{
	my ($where, $sql) = @_;

	return $where->{node}->safe_psql($where->{dbname}, $sql);
}

sub sent { return scalar grep { $_->{method} eq 'POST' && $_->{path} =~ /work_sessions/ } $cobot->log; }

my $home = { node => $original, dbname => 'postgres' };
my $rows = 'SELECT id, integration_id, membership_id, building_id, source, source_reference, entered_at, state, posts, sent_at FROM smartspace.cobot_checkin ORDER BY id';
my $entries = 'TABLE smartspace.building_entry ORDER BY id';

is(at($home, "SELECT string_agg(concat_ws(' ', n, state), ', ' ORDER BY state) FROM (SELECT state, count(*) AS n FROM smartspace.cobot_checkin GROUP BY 1) s"), '3 queued, 3 sending', 'given: rows that are queued and rows that are sending');
$cobot->clear_log;
my ($rows_before, $entries_before) = (at($home, $rows), at($home, $entries));

# Everything is due, and the worker of the copy has its time.
sub tempt
{
	my ($where) = @_;

	at($where, "UPDATE smartspace.cobot_checkin SET next_attempt_at = now() WHERE state IN ('queued', 'sending')");
	at($where, 'SELECT smartspace.cobot_wake_worker()');
	sleep LONG_ENOUGH_S;
	at($where, 'SELECT smartspace.cobot_deliver_checkins()');
	return;
}

sub check_copy
{
	my ($name, $where) = @_;

	subtest $name => sub {
		is(at($where, $entries), $entries_before, 'the entries are there');
		is(at($where, $rows), $rows_before, 'the check-ins are there, and the entries queued no more');
		is(at($where, 'SELECT smartspace.cobot_wake_worker()'), 't', 'a worker looks after it,');
		tempt($where);
		is(scalar(() = $cobot->log), 0, 'and Cobot is told and asked nothing');
		is(at($where, $rows), $rows_before, 'nothing is lost by that');
		at($where, CobotVisits::INSERT . $visits->entry_of($_)) foreach $visits->take(1);
		is(at($where, $rows), $rows_before, 'whoever comes in there is not queued');
		at($where, "DELETE FROM smartspace.building_entry WHERE id > (SELECT max(source_reference::bigint) FROM smartspace.cobot_checkin)");
	};
	return;
}

sub check_armed
{
	my ($name, $where) = @_;

	subtest "$name, armed on purpose" => sub {
		my ($newcomer) = $visits->take(1);
		my $ids = join ', ', map { $_->{id} } @all;

		at($where, "SELECT smartspace.cobot_arm($space)");
		at($where, "SELECT smartspace.cobot_connect_token($space, 'admin-token')");
		tempt($where);
		is(sent(), 0, 'it does not send what the original may have sent');
		is(at($where, "SELECT string_agg(DISTINCT state || ' ' || reason, ', ') FROM smartspace.cobot_checkin WHERE membership_id IN ($ids)"), 'skipped foreign_database', 'and says so');
		at($where, CobotVisits::INSERT . join ', ', map { $visits->entry_of($_) } $newcomer, $sending[0]);
		$t->wait_until(sub { return at($where, "SELECT count(*) FROM smartspace.cobot_checkin WHERE state IN ('queued', 'sending')") eq '0' }, 'what comes in now is delivered');
		is(scalar($visits->posts($newcomer)), 1, 'who comes in now is checked in');
		is(at($where, "SELECT state FROM smartspace.cobot_checkin WHERE membership_id = $sending[0]{id} ORDER BY id DESC LIMIT 1"), 'already_in', 'but for whom the original did it');
		is(scalar($visits->at_cobot($sending[0])), 1, '(once)');
	};
	$cobot->clear_log;
	return;
}

# --- a dump ---
my $connstr = $original->connstr('postgres');
$original->command_ok([ 'pg_dump', '-f', "$dir/all.sql", $connstr ], 'pg_dump');
$original->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/all.dump", $connstr ], 'pg_dump, custom format');
$original->command_ok([ 'pg_dump', '--data-only', '-f', "$dir/data.sql", $connstr ], 'pg_dump, data only');

sub restore
{
	my ($where, $file) = @_;
	my $to = $where->{node}->connstr($where->{dbname});

	return $where->{node}->command_ok($file =~ /dump$/ ? [ 'pg_restore', '--exit-on-error', '-d', $to, $file ] : [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $file, $to ], "$file is restored");
}

my $other = PostgreSQL::Test::Cluster->new('other');
$other->init(extra => [ '--encoding=UTF8', '--locale=C.UTF-8' ]);
$other->append_conf('postgresql.conf', "timezone = 'UTC'\nshared_preload_libraries = 'smartspace_cobot'\nsmartspace_cobot.databases = 'copy, data'\n"
	  . join '', map { "smartspace_cobot.$_ = '" . $t->sql("SELECT smartspace.cobot_library_version(); SHOW smartspace_cobot.$_") =~ s/.*\n//sr . "'\n" } qw(connect_to ca_file environment checkin_settle_time));
$other->start;
$other->safe_psql('postgres', "CREATE DATABASE $_") foreach qw(copy data);

my $abroad = { node => $other, dbname => 'copy' };
restore($abroad, "$dir/all.sql");
check_copy('a dump in another cluster', $abroad);
check_armed('a dump in another cluster', $abroad);

# --- data alone: the triggers fire for every entry ---
my $data = { node => $other, dbname => 'data' };
at($data, 'CREATE EXTENSION smartspace_cobot');
restore($data, "$dir/data.sql");
check_copy('data alone in another cluster', $data);

# --- another database of the cluster; the second way brings the token along ---
my $beside = { node => $original, dbname => 'copy' };
$t->sql('CREATE DATABASE copy');
restore($beside, "$dir/all.dump");
check_copy('a dump beside the original', $beside);
check_armed('a dump beside the original', $beside);
$t->sql('DROP DATABASE copy');
$original->safe_psql('template1', 'CREATE DATABASE copy TEMPLATE postgres');
check_copy('CREATE DATABASE TEMPLATE', $beside);
check_armed('CREATE DATABASE TEMPLATE', $beside);
$t->sql('DROP DATABASE copy');

# --- a copy of the files ---
$original->backup('files');
my $staging = PostgreSQL::Test::Cluster->new('staging');
$staging->init_from_backup($original, 'files');
$staging->append_conf('postgresql.conf', "smartspace_cobot.databases = 'postgres'\nsmartspace_cobot.environment = 'staging'\n");
$staging->start;
check_copy('pg_basebackup, in another environment', { node => $staging, dbname => 'postgres' });
check_armed('pg_basebackup, in another environment', { node => $staging, dbname => 'postgres' });
$staging->stop;

# --- the original goes on ---
is(at($home, $rows), $rows_before, 'the original has noticed nothing');
$t->sql("ALTER SYSTEM SET smartspace_cobot.databases = 'postgres, copy'; SELECT pg_reload_conf()");
$t->wait_until(sub { return at($home, "SELECT count(*) FROM smartspace.cobot_checkin WHERE state IN ('queued', 'sending')") eq '0' }, 'the original delivers');
$visits->check('the original delivers, once each', @all);
is(join(' ', map { scalar $visits->posts($_) } @all), '0 0 1 1 1 1', 'by the requests that were missing');

# --- and is replaced by its own dump, which is older than what was sent since ---
subtest 'an older dump in the same database' => sub {
	my $sent = sent();

	$t->sql('DROP EXTENSION smartspace_cobot CASCADE; DROP SCHEMA smartspace');
	restore($home, "$dir/all.sql");
	is(at($home, $rows), $rows_before, 'the check-ins are as they were, queued and sending');
	tempt($home);
	is(sent(), $sent, 'without a token nothing is sent');
	at($home, "SELECT smartspace.cobot_connect_token($space, 'admin-token')");
	ok($visits->settle, 'connected, everything ends');
	is(sent(), $sent, 'and nothing is sent');
	$visits->check('once each', @all);
};

subtest 'data alone in the same database' => sub {
	my $sent = sent();

	$t->sql('DROP EXTENSION smartspace_cobot CASCADE; CREATE EXTENSION smartspace_cobot');
	restore($home, "$dir/data.sql");
	is(at($home, $rows), $rows_before, 'the check-ins are as they were, and the entries queued no more');
	at($home, "SELECT smartspace.cobot_connect_token($space, 'admin-token')");
	ok($visits->settle, 'connected, everything ends');
	is(sent(), $sent, 'and nothing is sent');
	$visits->check('once each', @all);
};

done_testing();
