# row_050_has_access.pl
#	cobot_has_access() as a door asks it: one member at random among very many, one
#	prepared statement each. Against the bare look-up of a row by its whole primary key,
#	which says nothing about the moment, and the plain query that answers the question.
package HasAccess;

use strict;
use warnings;

use File::Temp;
use IPC::Run ();

my $seconds = 2;

# Calls per second of a pgbench script on one connection.
sub rate
{
	my ($large, $query) = @_;
	my $script = File::Temp->new(TEMPLATE => 'pgbench_XXXXXX', TMPDIR => 1);
	my ($out, $err);

	print $script "\\set id random(1, @{[ $large->members ]})\n$query;\n";
	$script->flush;
	IPC::Run::run([ 'pgbench', '-n', '-M', 'prepared', '-T', $seconds, '-f', $script->filename, $large->connstr ],
		'>', \$out, '2>', \$err) or die "pgbench failed: $err";
	my ($rate) = $out =~ /^tps = ([0-9.]+)/m or die "pgbench said no rate: $out";
	return $rate;
}

sub assert_same_answers
{
	my ($large, $session) = @_;

	$large->assert_none($session, <<"SQL", 'answers that differ');
SELECT FROM smartspace.cobot_membership m CROSS JOIN smartspace.user_group u
WHERE smartspace.cobot_has_access(m.id, u.id) <> EXISTS (SELECT FROM smartspace.user_group_member g
	WHERE g.membership_id = m.id AND g.user_group_id = u.id AND g.valid @> now())
SQL
	return;
}

sub {
	my ($bench) = @_;

	$bench->heading('has this member access to that user group');
	my $large = $bench->large;
	my $session = $large->session;
	my $door = $large->door;
	my @contenders = (
		[ ours => "SELECT smartspace.cobot_has_access(:id, $door)" ],
		[ bare => "SELECT * FROM usual.user_group_member WHERE membership_id = :id AND user_group_id = $door AND source = 'plan'" ],
		[ query => "SELECT EXISTS (SELECT FROM smartspace.user_group_member g WHERE g.membership_id = :id"
			  . " AND g.user_group_id = $door AND g.valid @> now())" ]);
	my %rate;

	$session->run('VACUUM ANALYZE');
	$session->run('CHECKPOINT');
	assert_same_answers($large, $session);
	foreach my $round (0 .. $bench->rounds)
	{
		foreach my $contender (@contenders)
		{
			my $rate = rate($large, $contender->[1]);

			push @{ $rate{ $contender->[0] } }, $rate if $round > 0;
		}
	}

	$bench->note(Bench::number($large->members) . ' members, random; one connection, prepared statements');
	$bench->percent_of_rate('bare look-up by primary key', $rate{ours}, $rate{bare}, 80);
	$bench->percent_of_rate('EXISTS over the grants', $rate{ours}, $rate{query});
	return;
};
