# row_030_assignment.pl
#	A plan with very many members is assigned one more user group. Against a bare
#	INSERT ... SELECT of the same grants, with their dates, into a table with the same
#	indexes; and against that and a second one of the same rows into a table like our
#	journal, which ours writes as well.
package Assignment;

use strict;
use warnings;

# Takes the grants away again, so that all contenders start alike.
sub undo
{
	my ($large, $session) = @_;

	$session->run("DELETE FROM smartspace.user_group_assignment WHERE user_group_id = @{[ $large->workshop ]}");
	$session->run("DELETE FROM usual.user_group_member WHERE user_group_id = @{[ $large->workshop ]}");
	$session->run('TRUNCATE smartspace.access_journal, usual.access_journal');
	$session->run('VACUUM smartspace.user_group_member, usual.user_group_member, smartspace.user_group_assignment');
	$session->run('CHECKPOINT');
	return;
}

sub bare_grants
{
	my ($large) = @_;

	return <<"SQL";
INSERT INTO usual.user_group_member (membership_id, user_group_id, source, valid, granted_at)
SELECT m.id, @{[ $large->workshop ]}, 'plan', r.valid, now()
FROM smartspace.cobot_membership m
	JOIN smartspace.cobot_integration i ON i.id = m.integration_id
	CROSS JOIN LATERAL (SELECT smartspace.cobot_access_range(m.confirmed_at, m.starts_at, m.canceled_to, i.time_zone) AS valid
						OFFSET 0) r
WHERE m.plan_id = @{[ $large->plan ]} AND m.departed_at IS NULL AND r.valid IS NOT NULL
SQL
}

sub bare_journal
{
	my ($large) = @_;

	return <<"SQL";
INSERT INTO usual.access_journal (position, at, action, membership_id, user_group_id, source, valid, done_by)
SELECT pg_current_xact_id()::text::bigint, g.granted_at, 'given', g.membership_id, g.user_group_id, g.source, g.valid, session_user
FROM usual.user_group_member g WHERE g.user_group_id = @{[ $large->workshop ]}
SQL
}

sub assert_same_journal
{
	my ($large, $session) = @_;
	my ($ours, $theirs) = map
	{
		"(SELECT action, membership_id, user_group_id, source, valid_before, valid, run_id, done_by FROM $_.access_journal)"
	} qw(smartspace usual);

	$large->assert_none($session, "($ours EXCEPT ALL $theirs) UNION ALL ($theirs EXCEPT ALL $ours)", 'journal rows that differ');
	return;
}

sub {
	my ($bench) = @_;

	$bench->heading('one user group more for a plan');
	my $large = $bench->large;
	my $session = $large->session;
	my @contenders = (
		[ ours => "INSERT INTO smartspace.user_group_assignment (plan_id, user_group_id) VALUES (@{[ $large->plan ]}, @{[ $large->workshop ]})" ],
		[ grants => bare_grants($large) ],
		[ both => 'BEGIN; ' . bare_grants($large) . '; ' . bare_journal($large) . '; COMMIT' ]);
	my %ms;

	# the first round is not counted: plans, caches, and the pages of the indexes
	foreach my $round (0 .. $bench->rounds)
	{
		foreach my $contender (@contenders)
		{
			my ($name, $statements) = @$contender;

			undo($large, $session);
			my $ms = $session->time_of($statements);
			push @{ $ms{$name} }, $ms if $round > 0;
		}
		# ours once more beside the last, to compare
		$session->run($contenders[0][1]);
		$large->assert_same_grants($session);
		assert_same_journal($large, $session);
	}
	undo($large, $session);

	$bench->note(Bench::number($large->members) . ' members in the plan; ours writes the journal, too');
	$bench->times_as_long('bare grants', $ms{ours}, $ms{grants}, 1.5);
	$bench->times_as_long('bare grants and journal', $ms{ours}, $ms{both});
	return;
};
