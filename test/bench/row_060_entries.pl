# row_060_entries.pl
#	What the trigger that checks members in costs the door: entries one by one, each its
#	own transaction, of members who are in already (nearly all are) and of members who are
#	not, so that each queues a check-in; and many at once. Against a table with the same
#	constraints, indexes and foreign keys, and no trigger of ours.
package Entries;

use strict;
use warnings;

use File::Temp;

# Single entries of a round; rows of one COPY.
my $singles = 1000;
my $many = 10_000;

my $tables = <<'SQL';
DROP TABLE IF EXISTS usual.building_entry;
CREATE TABLE usual.building_entry (LIKE smartspace.building_entry INCLUDING ALL,
	FOREIGN KEY (membership_id) REFERENCES smartspace.cobot_membership ON DELETE CASCADE,
	FOREIGN KEY (building_id) REFERENCES smartspace.building ON DELETE CASCADE);
PREPARE ours (bigint, bigint) AS INSERT INTO smartspace.building_entry (membership_id, building_id) VALUES ($1, $2);
PREPARE bare (bigint, bigint) AS INSERT INTO usual.building_entry (membership_id, building_id) VALUES ($1, $2)
SQL

my %table = (ours => 'smartspace.building_entry', bare => 'usual.building_entry');

# Everybody is in, as after a delivery; nobody is.
my $all_in = <<'SQL';
TRUNCATE smartspace.building_entry, usual.building_entry, smartspace.cobot_checkin;
INSERT INTO smartspace.cobot_checkin (integration_id, membership_id, source, entered_at, state, settled_at, holds_until)
SELECT m.integration_id, m.id, 'entry', now(), 'done', now(), now() + interval '12 hours' FROM smartspace.cobot_membership m;
SQL
my $nobody_in = 'TRUNCATE smartspace.building_entry, usual.building_entry, smartspace.cobot_checkin;';

sub settle
{
	my ($session, $sql) = @_;

	$session->run($sql);
	$session->run("VACUUM ANALYZE $_")
	  foreach qw(smartspace.cobot_checkin smartspace.building_entry usual.building_entry smartspace.cobot_membership smartspace.building);
	$session->run('CHECKPOINT');
	return;
}

# Both have the same entries, and ours made as many check-ins as expected.
sub assert_same
{
	my ($session, $checkins) = @_;
	my ($differ) = $session->run(<<'SQL');
SELECT count(*) FROM (
	(SELECT membership_id, building_id FROM smartspace.building_entry EXCEPT ALL SELECT membership_id, building_id FROM usual.building_entry)
	UNION ALL
	(SELECT membership_id, building_id FROM usual.building_entry EXCEPT ALL SELECT membership_id, building_id FROM smartspace.building_entry)) d
SQL
	my ($queued) = $session->run("SELECT count(*) FROM smartspace.cobot_checkin WHERE state = 'queued'");
	my ($problems) = $session->run('SELECT count(*) FROM smartspace.cobot_entry_problem');

	die "$differ entries differ, $problems were a problem\n" if $differ || $problems;
	die "$queued check-ins were queued, not $checkins\n" unless $queued == $checkins;
	return;
}

# Entries per second, one by one; the contenders take turns every hundred.
sub singles
{
	my ($session, $members, $front) = @_;
	my %ms = (ours => 0, bare => 0);
	my @left = @$members[ 0 .. $singles - 1 ];

	while (my @some = splice @left, 0, 100)
	{
		foreach my $contender (qw(ours bare))
		{
			$ms{$contender} += $session->time_of(join ";\n", map { "EXECUTE $contender ($_, $front)" } @some);
		}
	}
	return map { $_ => $singles * 1000 / $ms{$_} } keys %ms;
}

sub copies
{
	my ($session, $file) = @_;

	return map { $_ => $many * 1000 / $session->time_of("COPY $table{$_} (membership_id, building_id) FROM '$file'") } qw(ours bare);
}

# A line of the table: a way to insert, in a state of the world.
sub measure
{
	my ($bench, $session, $what, $before, $checkins, $insert, $target) = @_;
	my %rates;

	# the first round is not counted
	foreach my $round (0 .. $bench->rounds)
	{
		settle($session, $before);
		my %rate = $insert->();

		assert_same($session, $checkins);
		next if $round == 0;
		push @{ $rates{$_} }, $rate{$_} foreach keys %rate;
	}
	$bench->percent_of_rate($what, $rates{ours}, $rates{bare}, $target);
	return;
}

sub {
	my ($bench) = @_;

	$bench->heading('an entry at a door');
	my $session = $bench->session;
	my ($front) = $session->run("INSERT INTO smartspace.building (integration_id, name) VALUES (@{[ $bench->integration ]}, 'Front') RETURNING id");
	my @members = $session->run(<<'SQL');
SELECT m.id FROM smartspace.cobot_membership m JOIN smartspace.cobot_integration i ON i.id = m.integration_id
WHERE smartspace.cobot_not_active(m.departed_at, m.confirmed_at, m.starts_at, m.canceled_to, i.time_zone) IS NULL
ORDER BY md5(m.id::text)
SQL
	my $file = File::Temp->new(TEMPLATE => 'entries_XXXXXX', TMPDIR => 1);

	die 'there are only ' . @members . " active members\n" if @members < $singles;
	print $file "$members[$_ % @members]\t$front\n" foreach 0 .. $many - 1;
	$file->flush;
	$session->run($tables);
	my $one_by_one = sub { return singles($session, \@members, $front) };
	my $copy = sub { return copies($session, $file) };
	my $distinct = @members < $many ? scalar @members : $many;

	$bench->note('entries per second, against the same table without the trigger; prepared statements, one transaction each');
	measure($bench, $session, 'one by one, members who are in', $all_in, 0, $one_by_one, 70);
	measure($bench, $session, 'one by one, each queues a check-in', $nobody_in, $singles, $one_by_one, 70);
	measure($bench, $session, "COPY of 10,000, members who are in", $all_in, 0, $copy, 70);
	measure($bench, $session, "COPY of 10,000, each member queues", $nobody_in, $distinct, $copy);
	$bench->note('without waiting for the disk (synchronous_commit = off):');
	$session->run('SET synchronous_commit = off');
	measure($bench, $session, 'one by one, members who are in', $all_in, 0, $one_by_one);
	measure($bench, $session, 'one by one, each queues a check-in', $nobody_in, $singles, $one_by_one);
	$session->run('TRUNCATE smartspace.building_entry, smartspace.cobot_checkin; DROP TABLE usual.building_entry');
	$session->run("DELETE FROM smartspace.building WHERE id = $front");
	return;
};
