# On a standby nothing runs and Cobot is not asked; once it is promoted, work goes on within
# seconds without a restart (bar 11), also what the old primary was in the middle of.
use strict;
use warnings;

use CobotMirror;
use CobotWorker;
use PostgreSQL::Test::Cluster;
use Test::More;
use Time::HiRes qw(time);

my $t = CobotWorker->new(spaces => 3, members => 20, linger => 1, conf => "wal_level = replica\nmax_wal_senders = 5\nhot_standby = on\n");
my $cobot = $t->cobot;
my @names = map { "space-000$_" } 1 .. 3;
my @spaces = map { $t->connect_space($_) } @names;
$t->wait_for_run($_) foreach @spaces;
$t->wait_for_no_worker;

my $primary = $t->node;
open my $hba, '>>', $primary->data_dir . '/pg_hba.conf' or die "pg_hba.conf: $!";
print $hba "local replication all trust\n";
close $hba;
$primary->reload;
$primary->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'copy', has_streaming => 1);
$cobot->clear_log;
$standby->start;
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));

# --- on the standby ---
sub on_standby { return $standby->safe_psql('postgres', $_[0]); }
my $processes = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'smartspace_cobot%'};

is(on_standby($processes), 0, 'no launcher and no worker runs on a standby');
is(on_standby('SELECT count(*) FROM smartspace.cobot_status'), 3, 'the views can be read there');
is(on_standby('SELECT count(*) FROM smartspace.cobot_sync_progress'), 0, '... the one on progress, too');
foreach my $call ("cobot_request_sync($spaces[0])", 'cobot_run_due()', "cobot_sync($spaces[0])")
{
	my $answer = $t->try("SELECT smartspace.$call", node => $standby);
	like($answer->{sqlstate}, qr/^(25006|55000)$/, "$call is refused there") or diag $answer->{err};
}
is(on_standby('SELECT smartspace.cobot_wake_worker()'), 'f', 'nobody can be woken there');
is(scalar($cobot->log), 0, 'Cobot is asked for nothing');

# --- the primary claims one, has others queued, and is gone ---
$t->stall($spaces[0], $names[0], stall => 'headers');
is($t->task($spaces[0])->{attempts}, 1, 'given: the primary is in the middle of a run');
$cobot->patch_member($names[1], $t->sql("SELECT cobot_id FROM smartspace.cobot_membership WHERE integration_id = $spaces[1] AND departed_at IS NULL ORDER BY id LIMIT 1"), name => 'Anna of the failover');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
is(on_standby("SELECT attempts FROM smartspace.cobot_sync_task WHERE integration_id = $spaces[0]"), 1, '... which the standby knows');
$primary->stop('immediate');
$cobot->clear_faults;
$cobot->clear_log;
is(on_standby($processes), 0, 'nothing runs on the standby as long as it is one');

my $last = on_standby('SELECT max(id) FROM smartspace.cobot_sync_run');
my $start = time;
$standby->promote;
$t->{node} = $standby;
$t->wait_until(sub { $t->sql("SELECT count(*) FROM smartspace.cobot_sync_run WHERE id > $last AND integration_id = $spaces[0]") > 0 }, 'the claimed one is done');
my $seconds = time - $start;
cmp_ok($seconds, '<', 5, sprintf 'what the old primary had claimed is done %.1f s after the promotion began', $seconds);
like($t->last_run($spaces[0])->{result}, qr/^ok/, '... and well');
is($t->launcher->{datname}, undef, 'the launcher runs there now');
like($t->request($spaces[1])->{result}, qr/^ok/, 'what is asked for there is done there');
is($t->sql(q{SELECT count(*) FROM smartspace.cobot_membership WHERE name = 'Anna of the failover'}), 1, '... with what changed meanwhile');
is(mirror_differs($t, $spaces[$_], $names[$_]), '', "the mirror of $names[$_] equals Cobot") foreach 0 .. 2;

done_testing;
