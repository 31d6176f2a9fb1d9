# row_010_first_sync.pl
#	A space is synchronised for the first time: all members are new, and all their grants
#	are made. Against the set-based statements that do the same from the same JSON
#	(INSERT ... SELECT of the members, then of their grants), a PL/pgSQL loop over its
#	records, and COPY of the finished rows.
#
#	Each contender has a connection of its own, as a first synchronisation has, and
#	empty tables without statistics.
package FirstSync;

use strict;
use warnings;

sub {
	my ($bench) = @_;
	my $usual = $bench->usual;
	my $admin = $bench->session;
	my (%ms, @whole_ms, $grants);

	$bench->heading('first sync of all members, with their grants');
	foreach my $round (1 .. $bench->rounds)
	{
		$admin->run('TRUNCATE smartspace.cobot_membership CASCADE');
		$admin->run('CHECKPOINT');

		my $run = $bench->sync($bench->session);

		die 'not all members were new' unless $run->{members_added} == $bench->members;
		push @{ $ms{ours} }, $run->{database_ms};
		push @whole_ms, $run->{whole_ms};
		$grants = $run->{grants_given};
		$usual->save($admin);

		my @contenders = (
			[ set_based => $usual->upsert . '; ' . $usual->give_grants ],
			[ loop => $usual->write_one_by_one ],
			[ copy => $usual->load ]);
		foreach my $contender (@contenders)
		{
			my ($name, $statements) = @$contender;

			$usual->empty($admin);
			$admin->run('CHECKPOINT');
			push @{ $ms{$name} }, $bench->session->time_of("BEGIN; $statements; COMMIT");
			$usual->assert_same_members;
			$usual->assert_same_grants;
		}
	}

	$bench->note("$grants grants; without asking Cobot; a new connection each");
	$bench->times_as_long('set-based, from jsonb', $ms{ours}, $ms{set_based}, 1.5);
	$bench->times_faster('PL/pgSQL loop', $ms{ours}, $ms{loop}, 5);
	$bench->times_as_long('COPY of the finished rows', $ms{ours}, $ms{copy}, 3);
	$bench->times_as_long('whole call, against set-based', \@whole_ms, $ms{set_based});
	return;
};
