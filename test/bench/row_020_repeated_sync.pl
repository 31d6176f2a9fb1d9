# row_020_repeated_sync.pl
#	The space is synchronised again, and nothing has changed. Against the statement that
#	usually does it: INSERT ... ON CONFLICT DO UPDATE of all rows from the same JSON.
package RepeatedSync;

use strict;
use warnings;

# Who wrote, moved or locked which row, for all of mirror and grants.
my $fingerprint = join ' UNION ALL ', map
{
	"SELECT '$_', count(*), sum(hashtextextended(concat(xmin, xmax, cmin, ctid), 0)) FROM smartspace.$_"
} qw(cobot_plan cobot_membership cobot_record_problem user_group_member user_group user_group_assignment);

# Rows written in the open transaction; the history of runs is no part of the mirror.
my $writes = <<'SQL';
SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_xact_user_tables
WHERE schemaname = 'smartspace' AND relname <> 'cobot_sync_run'
SQL

sub assert_no_writes
{
	my ($bench, $session) = @_;
	my @before = $session->run($fingerprint);

	$session->run('BEGIN');
	$bench->sync($session);
	my ($written) = $session->run($writes);
	$session->run('COMMIT');
	die "the run wrote $written rows" unless $written == 0;
	die 'the run touched rows' unless "@before" eq join ' ', $session->run($fingerprint);
	return;
}

sub {
	my ($bench) = @_;
	my $usual = $bench->usual;
	my $session = $bench->session;
	my (@database_ms, @apply_ms, @whole_ms, @new_ms, @wal, @checkpoint_wal, @upsert_ms, @upsert_wal);

	$bench->heading('repeated sync, nothing changed');
	$usual->empty($session);

	# settled tables, warm caches and a connection to Cobot: not counted
	$bench->sync($session);
	$session->run($usual->upsert);
	$session->run('VACUUM ANALYZE');
	$bench->sync($session);
	$session->run($usual->upsert);
	assert_no_writes($bench, $session);

	foreach my $round (1 .. $bench->rounds)
	{
		my $run = $bench->sync($session);

		push @database_ms, $run->{database_ms};
		push @apply_ms, $run->{apply_ms};
		push @whole_ms, $run->{whole_ms};
		push @wal, $run->{wal_bytes};

		my ($wal) = $session->run('SELECT pg_current_wal_insert_lsn()');

		push @upsert_ms, $session->time_of($usual->upsert);
		push @upsert_wal, $session->run("SELECT pg_current_wal_insert_lsn() - '$wal'::pg_lsn");
		$session->run('VACUUM usual.cobot_membership');

		push @new_ms, $bench->sync($bench->session)->{whole_ms};
	}
	foreach my $round (1 .. $bench->rounds)
	{
		$session->run('CHECKPOINT');
		push @checkpoint_wal, $bench->sync($session)->{wal_bytes};
	}
	assert_no_writes($bench, $session);
	$usual->assert_same_members;

	$bench->note('no row of mirror or grants is written, moved or locked; the yardstick is INSERT ... ON CONFLICT DO UPDATE of all rows');
	$bench->note('asking Cobot includes unpacking the answer and checking that it is JSON');
	$bench->times_faster('without asking Cobot', \@database_ms, \@upsert_ms, 10);
	$bench->times_faster('comparing alone (apply_ms)', \@apply_ms, \@upsert_ms);
	$bench->times_faster('whole call', \@whole_ms, \@upsert_ms);
	$bench->times_faster('whole call, new connection', \@new_ms, \@upsert_ms);
	$bench->amount('WAL', \@wal, 'bytes', 16384, \@upsert_wal);
	$bench->amount('WAL just after a checkpoint', \@checkpoint_wal, 'bytes', 16384);
	return;
};
