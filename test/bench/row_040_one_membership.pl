# row_040_one_membership.pl
#	The last day of one membership among very many changes: its own statement and
#	transaction, as when a person or a webhook changes it. Against the three bare
#	statements that write the same rows: the membership, its grant, its journal row.
package OneMembership;

use strict;
use warnings;

# Statements in a row, of which the mean is taken: one alone is too short to measure.
my $calls = 200;

# What the open transaction wrote, and whether it read a table from end to end.
my $touched = <<'SQL';
SELECT relname, n_tup_ins, n_tup_upd, n_tup_del, seq_tup_read > 1000 FROM pg_stat_xact_user_tables
WHERE schemaname = 'smartspace' AND (n_tup_ins + n_tup_upd + n_tup_del > 0 OR seq_tup_read > 1000) ORDER BY 1
SQL

sub ours
{
	my ($id, $day) = @_;

	return "UPDATE smartspace.cobot_membership SET canceled_to = date '2032-01-01' + $day WHERE id = $id";
}

sub bare
{
	my ($id, $day) = @_;

	return <<"SQL";
WITH m AS (
	UPDATE usual.cobot_membership SET canceled_to = date '2032-01-01' + $day WHERE id = $id
	RETURNING id, confirmed_at, starts_at, canceled_to
), g AS (
	UPDATE usual.user_group_member g
	SET valid = smartspace.cobot_access_range(m.confirmed_at, m.starts_at, m.canceled_to, 'Europe/Berlin'), granted_at = now()
	FROM m, smartspace.user_group_member o
	WHERE g.membership_id = $id AND m.id = $id AND o.membership_id = $id AND o.user_group_id = g.user_group_id AND o.source = g.source
	RETURNING g.membership_id, g.user_group_id, g.source, o.valid AS valid_before, g.valid
)
INSERT INTO usual.access_journal (position, at, action, membership_id, user_group_id, source, valid_before, valid, done_by)
SELECT pg_current_xact_id()::text::bigint, now(), 'changed', g.*, session_user FROM g
SQL
}

sub assert_touches_its_own
{
	my ($large, $session, $id) = @_;
	my ($grants) = $session->run("SELECT count(*) FROM smartspace.user_group_member WHERE membership_id = $id");

	# a new connection has no earlier statements to count
	$session = $large->session;
	$session->run('BEGIN');
	$session->run(ours($id, 9999));
	my @touched = $session->run($touched);
	$session->run('ROLLBACK');

	my $expected = "access_journal|$grants|0|0|f cobot_membership|0|1|0|f user_group_member|0|$grants|0|f";
	die "a change of one membership touched @touched\n" unless "@touched" eq $expected && $grants > 0;
	return;
}

sub {
	my ($bench) = @_;

	$bench->heading('the last day of one membership');
	my $large = $bench->large;
	my $session = $large->session;
	my (@ours, @bare);

	$session->run('DROP TABLE IF EXISTS usual.cobot_membership');
	$session->run('CREATE TABLE usual.cobot_membership (LIKE smartspace.cobot_membership INCLUDING ALL)');
	$session->run('INSERT INTO usual.cobot_membership SELECT * FROM smartspace.cobot_membership');
	assert_touches_its_own($large, $session, $_) foreach 1, $large->members;

	# the first round is not counted
	foreach my $round (0 .. $bench->rounds)
	{
		my @ids = map { 1 + ($_ * 7919 + $round * 104_729) % $large->members } 1 .. $calls;

		$session->run('VACUUM ANALYZE');
		$session->run('CHECKPOINT');
		my $ours = $session->time_of(join ";\n", map { ours($_, $round) } @ids);
		my $bare = $session->time_of(join ";\n", map { bare($_, $round) } @ids);

		push @ours, $ours / $calls if $round > 0;
		push @bare, $bare / $calls if $round > 0;
		$large->assert_same_grants($session);
	}

	$bench->note('among ' . Bench::number($large->members) . ' members; one transaction each, with its commit; no other row is touched');
	$bench->amount('with its grants and journal', \@ours, 'ms', 1, \@bare);
	return;
};
