# A person's data go on request and do not come back: not with the next synchronisation,
# not by a question about the member, not by an outside fetcher. What the audit needs
# stays: ids, dates, plan, journal. Whoever Cobot still has as an active member is not
# erased, since they would come back.
use strict;
use warnings;

use CobotLoft;
use CobotTest;
use JSON::PP;
use Test::More;

my %members = map { $_ => 12 } qw(active left ended back alone);
my $t = lofts(%members);
my $cobot = $t->cobot;
my $json = JSON::PP->new->utf8->allow_nonref;

# Values that only this person has, one for every field that tells something about them.
my %person = (
	name => 'Xenia Zzyzx', email => 'xenia@zzyzx.example', phone => '+49 30 998877', customer_number => 'ZZ-10987',
	picture => 'https://pictures.example/zzyzx.jpg', billing_emails => ['billing@zzyzx.example'], user => { id => 'user-zzyzx', email => 'login@zzyzx.example' },
	address => { company => 'Zzyzx Ltd', name => 'X. Zzyzx', full_address => "9 Zzyzx Road\n99999 Zzyzxville", address => '9 Zzyzx Road', post_code => '99Z99', city => 'Zzyzxville', state => 'Zzyzxia', country => 'Zzyzxland' },
	payment_method => { name => 'zzyzx card', automated => JSON::PP::true }, team_id => 'team-zzyzx');
my @told = ('zzyzx', '998877', 'ZZ-10987', '99Z99');

sub promise
{
	my ($name, $subdomain, $test) = @_;

	subtest $name => sub {
		my $loft = CobotLoft->open($t, $subdomain);

		$loft->change([1], %person, plan => { name => 'Plan of Zzyzx', description => 'only for Zzyzx', parent_plan => { id => "$subdomain-desk" } });
		$loft->field([1], 'Zzyzx, Workshop');
		$loft->sync;
		$loft->change([1], phone => '+49 30 998877-1');    # so that there is a change in the history
		$loft->sync;
		$t->sql("SELECT smartspace.cobot_grant(@{[ id_of($loft->who(1)) ]}, @{[ $t->group(\"$subdomain roof\") ]}, reason => 'repairs the roof of Zzyzx')");
		$test->($loft, $loft->who(1), id_of($loft->who(1)));
		$cobot->clear_faults;
		is($t->grants_differ, 0, 'the grants equal their definition');
	};
	return;
}

sub id_of { return $t->sql("SELECT id FROM smartspace.cobot_membership WHERE cobot_id = '$_[0]'"); }

sub erase { return $t->try("SELECT smartspace.cobot_erase_member($_[0])"); }

# The tables of the schema with rows of this integration's person in them.
sub traces
{
	my ($cobot_id) = @_;
	my @tables = split /\n/, $t->sql("SELECT relname FROM pg_class WHERE relnamespace = 'smartspace'::regnamespace AND relkind = 'r' ORDER BY 1");
	my $pattern = join '|', @told;

	return join ' ', grep { $t->sql("SELECT count(*) FROM smartspace.$_ x WHERE row_to_json(x)::text ~* '$pattern'") > 0 } @tables;
}

sub audit
{
	my ($id) = @_;

	return $t->sql("SELECT m.id, m.cobot_id, m.plan_id, m.parent_plan_id, m.confirmed_at, m.starts_at, m.canceled_to FROM smartspace.cobot_membership m WHERE m.id = $id;"
		  . " SELECT j.* FROM smartspace.access_journal j WHERE j.membership_id = $id AND j.at < now() - interval '0 s' ORDER BY j.id LIMIT 3;"
		  . " SELECT c.id, c.what, c.verdict, c.groups_gained FROM smartspace.cobot_sync_change c WHERE c.membership_id = $id ORDER BY c.id LIMIT 3");
}

promise 'an active member is not erased', active => sub {
	my ($loft, $cobot_id, $id) = @_;
	my $before = traces();

	like($before, qr/cobot_membership.*cobot_sync_change.*manual_grant/, 'given: the person is in the mirror, in the history, and in a reason');
	my $answer = erase($id);
	is($answer->{sqlstate}, '55000', 'refused');
	like($answer->{err}, qr/Cobot still has an active membership $id.*come back with the next synchronisation.*HINT:  End or delete the membership in Cobot first/s, '... with what to do');
	is(traces(), $before, 'nothing is gone');

	$loft->leave(1);
	foreach my $fault ({ status => 500 }, { status => 401 }, { body => '<html>' })
	{
		$cobot->fault(match => { path => "/api/memberships/$cobot_id" }, times => 0, %$fault);
		$answer = erase($id);
		is($answer->{sqlstate}, '08006', 'no answer of Cobot: refused');
		like($answer->{err}, qr/could not find out whether Cobot still has the membership/, '... because that is not known');
		is(traces(), $before, '... and nothing is gone');
		$cobot->clear_faults;
	}
	is(erase('NULL')->{sqlstate}, '22004', 'NULL');
	is(erase(987654)->{sqlstate}, '42704', 'an unknown id');
	$t->sql('CREATE ROLE somebody');
	is($t->try("SET ROLE somebody; SELECT smartspace.cobot_erase_member($id)")->{sqlstate}, '42501', 'a role without the privilege');
	ok(erase($id)->{ok}, 'deleted in Cobot: erased');
	is(traces(), '', 'no trace is left');
};

foreach my $case ([ left => 'deleted', sub { $_[0]->leave(1) } ], [ ended => 'ended', sub { $_[0]->change([1], canceled_to => 'today-1d') } ])
{
	my ($subdomain, $how, $go) = @$case;

	promise "a member whose membership was $how is erased, and does not come back", $subdomain => sub {
		my ($loft, $cobot_id, $id) = @_;

		$go->($loft);
		$loft->sync;
		my $audit = audit($id);
		ok(erase($id)->{ok}, 'erased');
		is(traces(), '', 'no value of the person is in any table');
		is(audit($id), $audit, 'ids, dates, journal and what was done stay');
		is($t->groups_of($cobot_id), '', 'what was given by hand is taken back');
		is($t->sql("SELECT count(*) FROM smartspace.access_journal WHERE membership_id = $id AND source = 'manual' AND action = 'taken'"), 1, '... which the journal knows');

		my $record = $json->encode($cobot->member($subdomain, $cobot_id)) if $how eq 'ended';
		$loft->sync;
		is(traces(), '', 'a synchronisation brings nothing back');
		$t->sql("SELECT smartspace.cobot_sync(@{[ $loft->id ]}, reread => true)");
		is(traces(), '', 'nor does one that reads everything again');
		$t->sql("SELECT smartspace.cobot_sync_member($id)");
		is(traces(), '', 'nor a question about the member');
		if ($record)
		{
			$record =~ s/'/''/g;
			$t->sql("SELECT smartspace.cobot_ingest(@{[ $loft->id ]}, '[]', evidence => '{\"$cobot_id\": $record}')");
			$t->sql("SELECT smartspace.cobot_ingest(@{[ $loft->id ]}, '[$record]')");
			is(traces(), '', 'nor an outside fetcher');
		}
		ok(erase($id)->{ok}, 'erasing once more is no mistake');
	};
}

promise 'a member who comes back is the same one', back => sub {
	my ($loft, $cobot_id, $id) = @_;

	$loft->change([1], canceled_to => 'today-1d');
	$loft->sync;
	ok(erase($id)->{ok}, 'given: erased');
	$loft->change([1], canceled_to => undef);
	my $run = $loft->sync;
	is($run->{members_added}, 1, 'joined');
	is(id_of($cobot_id), $id, 'with the id of before');
	is($t->sql("SELECT name, erased_at IS NULL, departed_at IS NULL FROM smartspace.cobot_membership WHERE id = $id"), 'Xenia Zzyzx|t|t', 'and a name again');
	is($t->groups_of($cobot_id), 'back door (plan)', 'with the access that the plan gives');
};

promise 'where Cobot cannot be asked, what is known here decides', alone => sub {
	my ($loft, $cobot_id, $id) = @_;

	$t->sql("UPDATE smartspace.cobot_secret SET token = NULL WHERE integration_id = @{[ $loft->id ]}");
	$cobot->clear_log;
	is(erase($id)->{sqlstate}, '55000', 'a member as far as is known: refused');
	$t->sql("UPDATE smartspace.cobot_membership SET departed_at = now() WHERE id = $id");
	ok(erase($id)->{ok}, 'left as far as is known: erased');
	is(scalar $cobot->log, 0, 'and nobody was asked');
};

done_testing();
