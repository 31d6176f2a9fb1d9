# A standby sends nothing. After a promotion it goes on within five seconds, without a restart,
# and what the old primary had sent is not sent again.
use strict;
use warnings;

use CobotTest;
use CobotVisits;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(time sleep);

my $t = CobotTest->new(members => 120, conf => <<'CONF');
wal_level = replica
max_wal_senders = 4
shared_preload_libraries = 'smartspace_cobot'
smartspace_cobot.databases = ''
smartspace_cobot.checkin_settle_time = '1s'
CONF
my $cobot = $t->cobot;
my $primary = $t->node;
my $visits = CobotVisits->new($t, 'demo-space', settle_time_s => 1);

sub standby
{
	my ($name) = @_;
	my $standby = PostgreSQL::Test::Cluster->new($name);

	$primary->backup($name);
	$standby->init_from_backup($primary, $name, has_streaming => 1);
	$standby->append_conf('postgresql.conf', "smartspace_cobot.databases = 'postgres'\n");
	$standby->start;
	return $standby;
}

# The worker of the primary may work, or not.
sub primary_delivers
{
	my ($databases) = @_;

	$t->sql("ALTER SYSTEM SET smartspace_cobot.databases = '$databases'; SELECT pg_reload_conf()");
	return;
}

sub caught_up { my ($standby) = @_; $primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert')); return; }

sub sent { return scalar grep { $_->{method} eq 'POST' } $cobot->log; }

# Nothing is open, without any help.
sub all_have_ended { my ($node) = @_; return $node->safe_psql('postgres', "SELECT count(*) FROM smartspace.cobot_checkin WHERE state IN ('queued', 'sending')") eq '0'; }

my ($first, $second) = (standby('standby_1'), standby('standby_2'));
my @waiting = $visits->take(3);

subtest 'a standby sends nothing' => sub {
	$cobot->clear_log;
	$visits->enter(@waiting);
	caught_up($_) foreach $first, $second;
	is($first->safe_psql('postgres', "SELECT string_agg(DISTINCT state, ' ') FROM smartspace.cobot_checkin"), 'queued', 'it has the rows,');
	sleep 2;
	is(scalar(() = $cobot->log), 0, 'and Cobot is asked nothing');
	my %pids = CobotVisits::processes($first);
	is("@{ $pids{launcher} }@{ $pids{worker} }", '', 'nobody is there who would');
	is($t->try("SELECT smartspace.$_", node => $first)->{sqlstate}, '25006', "$_ is refused") foreach "cobot_checkin($waiting[0]{id})", "cobot_checkin($waiting[0]{id}, wait => true)", 'cobot_deliver_checkins()';
	is($t->try(CobotVisits::INSERT . $visits->entry_of($waiting[0]), node => $first)->{sqlstate}, '25006', 'so is an entry');
	is(scalar(() = $cobot->log), 0, 'and Cobot is asked nothing by that');
};

subtest 'a promoted standby goes on, and repeats nothing' => sub {
	my ($carried_out, $not_carried_out, $done, @late) = $visits->take(6);

	# the second standby hears nothing of what comes now
	$second->append_conf('postgresql.conf', "primary_conninfo = ''\n");
	$second->reload;
	$primary->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_replication") or die 'the second standby still listens';

	$visits->fault($carried_out, stall => 'headers', perform => JSON::PP::true);
	$visits->fault($not_carried_out, stall => 'headers');
	$visits->enter($carried_out, $not_carried_out, $done);
	primary_delivers('postgres');
	$t->wait_until(sub { return sent() == 6 }, 'all requests of the primary');
	$visits->enter(@late);
	is($visits->states($carried_out, $not_carried_out), 'sending, sending', 'of two the primary does not know what became of them');
	is($visits->states(@late), 'queued, queued, queued', 'others wait behind them');
	caught_up($first);

	$primary->kill9;
	my $began = time;
	$first->promote;
	$visits->node($first);
	$t->wait_until(sub { return $visits->states(@late) eq 'done, done, done' }, 'what was queued is done');
	cmp_ok(time - $began, '<', 5, 'the standby goes on within five seconds');
	$t->wait_until(sub { return all_have_ended($first) }, 'the end of all');
	$visits->check('once each', @waiting, $carried_out, $not_carried_out, $done, @late);
	is(scalar($visits->posts($carried_out)), 1, 'what was carried out was sent once');
	is(scalar($visits->posts($not_carried_out)), 2, 'what was not carried out was sent again');
	is($visits->states($carried_out, $not_carried_out), 'done, done', 'and both are done');
	$first->stop;
};

subtest 'a standby that was behind looks before it sends' => sub {
	is($second->safe_psql('postgres', "SELECT string_agg(DISTINCT state, ' ') FROM smartspace.cobot_checkin"), 'queued', 'it knows of no request');
	my $before = sent();
	$second->promote;
	$visits->node($second);
	$t->wait_until(sub { return all_have_ended($second) }, 'the end of all');
	is($visits->states(@waiting), 'already_in, already_in, already_in', 'the list tells that they are in');
	is(sent(), $before, 'nothing is sent');
	$second->stop;
};

done_testing();
