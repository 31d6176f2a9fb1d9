# A record that cannot be used becomes a problem with its place and an advice. Its member
# keeps what they had, all the others are synchronised, and once it is corrected the
# problem is gone. The same bad records a second time write nothing.
use strict;
use warnings;

use CobotTest;
use JSON::PP;
use Storable qw(dclone);
use Test::More;

my $t = CobotTest->new(members => 14);
my $json = JSON::PP->new->canonical;
my $field = 'smart_spaces_access_additional_units';
my $space = $t->connect_space('demo-space');
my $state = $t->cobot->space('demo-space');
my ($field_id) = map { $_->{id} } grep { $_->{label} eq $field } @{ $state->{custom_fields} };

# --- what Cobot says, as data that the cases spoil ---
my @plans = @{ $state->{plans} };
my @members;
foreach my $n (0 .. 11)
{
	push @members, {
		id => sprintf('member-%02d', $n), name => "Member $n", email => "member$n\@example.com",
		plan => { name => $plans[0]{name}, parent_plan => { id => $plans[0]{id} }, extras => [], time_passes => [] },
		confirmed_at => '2026/01/01 12:00:00 +0000', starts_at => '2026/01/01', canceled_to => undef };
}
my @values = map { { membership_id => $_->{id}, fields => [ { id => $field_id, label => $field, value => 'Workshop' } ] } } @members;
my $turn = 0;
my %ordered;

# What Cobot answers under a path from now on.
sub order
{
	my ($path, $content) = @_;
	my $body = $json->encode($content);
	my $before = $ordered{$path} // { body => '' };

	return if $body eq $before->{body};
	$t->cobot->control(DELETE => "/faults/$before->{fault}") if $before->{fault};
	$ordered{$path} = { body => $body, fault => $t->cobot->fault(match => { path => $path }, times => 0, body => $body) };
	return;
}

# Orders Cobot's answers: the good ones after a function has spoiled them. Member 0 has a
# new name each time, to see that good records are taken.
sub serve
{
	my ($spoil) = @_;
	my ($its_members, $its_plans, $its_values) = map { dclone($_) } \@members, \@plans, \@values;

	$spoil->($its_members, $its_plans, $its_values) if $spoil;
	$its_members->[0]{name} = 'Good ' . ++$turn;
	order('/api/memberships', $its_members);
	order('/api/plans', $its_plans);
	order('/api/custom_fields', $its_values);
	order('/api/memberships/member-03', $members[3]);
	return;
}

sub problems
{
	return $t->rows("SELECT problem, subject, detail, advice, membership_id FROM smartspace.cobot_problem"
		  . " WHERE integration_id = $space AND problem = 'bad_record' ORDER BY detail");
}

# Mirror and grants; without member 0, who changes each time.
sub contents
{
	return rows_of([ cobot_plan => 'true' ], [ cobot_membership => "cobot_id <> 'member-00'" ], [ user_group_member => 'true' ]);
}

# Mirror, grants and problems, whole.
sub everything
{
	return rows_of(map { [ $_ => 'true' ] } qw(cobot_plan cobot_membership user_group_member cobot_record_problem));
}

sub rows_of
{
	return $t->sql(join ';', map { "SELECT '$_->[0]', t.xmin, t.ctid, t.* FROM smartspace.$_->[0] t WHERE $_->[1] ORDER BY t::text" } @_);
}

# --- given: twelve members, each in one group by plan and in one by custom field ---
serve();
$t->sync($space);
my $door = $t->group('Front door');
$t->group('Workshop', identifier => 'Workshop');
$t->assign($plans[0]{id}, $door);
serve();
is($t->sync($space)->{result}, 'ok', 'twelve good members at the beginning');
is($t->sql('SELECT count(*) FROM smartspace.user_group_member'), 24, 'each with two grants');

my $id_member_3 = $t->sql("SELECT id FROM smartspace.cobot_membership WHERE cobot_id = 'member-03'");

# One kind of bad record from beginning to end.
#   spoil    what happens to the answer
#   subject, detail   what cobot_problem shows; a list of pairs if there are several
#   result   of the run, if not ok_with_problems
sub check_bad
{
	my ($name, %case) = @_;

	subtest $name => sub {
		my $before = contents();

		serve($case{spoil});
		my $run = $t->sync($space);

		is($run->{result}, $case{result} // 'ok_with_problems', 'result');
		is($run->{reason}, $case{reason}, 'reason');
		same_rows(contents(), $before, 'nobody lost or got anything, no row was written');
		check_problems(%case);
		is($run->{problems}, scalar(@{ $case{problems} }), 'the run counts them');
		is($t->sql("SELECT i.state, m.name FROM smartspace.cobot_integration i, smartspace.cobot_membership m WHERE i.id = $space AND m.cobot_id = 'member-00'"),
			($case{reason} ? 'degraded' : 'connected') . "|Good $turn", 'state of the integration, and good records are taken');

		$before = everything();
		$turn--;
		serve($case{spoil});
		is($t->sync($space)->{result}, $case{result} // 'ok_with_problems', 'the same again');
		same_rows(everything(), $before, '... writes no row, not even of the problems');

		serve();
		is($t->sync($space)->{result}, 'ok', 'corrected');
		is(scalar(problems()), 0, '... the problem is gone');
		is($t->grants_differ, 0, '... and grants equal their definition');
	};
	return;
}

sub check_problems
{
	my (%case) = @_;
	my @shown = problems();

	is(scalar @shown, scalar @{ $case{problems} }, 'so many problems are shown');
	foreach my $wanted (@{ $case{problems} })
	{
		my ($subject, $detail) = @$wanted;
		my ($found) = grep { $_->{subject} =~ $subject && $_->{detail} =~ $detail } @shown;

		ok($found, "... among them: $detail") or diag explain \@shown;
		is($found->{advice}, 'Correct the record in Cobot; until then SmartSpace keeps what it had for it.', '... with an advice') if $found;
		is($found->{membership_id}, $id_member_3, '... and the member') if $found && $subject =~ /member-03/;
	}
	return;
}

sub same_rows
{
	my ($after, $before, $name) = @_;
	my %known = map { $_ => 1 } split /\n/, $before;

	ok($after eq $before, $name) or diag map { substr($_, 0, 300) . "\n" } grep { !$known{$_} } split /\n/, $after;
	return;
}

my $member_3 = qr/^membership Member 3 \(member-03\)$/;

# --- a value that makes member 3's record unusable ---
my @member_cases = (
	[ 'name is a number', sub { $_[0]{name} = 17 }, 'name is a number, expected a string' ],
	[ 'name is a list', sub { $_[0]{name} = ['Ada'] }, 'name is an array, expected a string' ],
	[ 'email is an object', sub { $_[0]{email} = {} }, 'email is an object, expected a string' ],
	[ 'plan is missing', sub { delete $_[0]{plan} }, 'plan is missing' ],
	[ 'plan is null', sub { $_[0]{plan} = undef }, 'plan is null, which it must not be' ],
	[ 'plan is a string', sub { $_[0]{plan} = 'Full Time' }, 'plan is a string, expected an object' ],
	[ 'plan has no name', sub { delete $_[0]{plan}{name} }, 'plan\.name is missing' ],
	[ 'parent_plan is a string', sub { $_[0]{plan}{parent_plan} = 'p1' }, 'plan\.parent_plan is a string, expected an object' ],
	[ 'parent_plan.id is a number', sub { $_[0]{plan}{parent_plan}{id} = 12 }, 'plan\.parent_plan\.id is a number, expected a string' ],
	[ 'parent_plan.id is empty', sub { $_[0]{plan}{parent_plan}{id} = '' }, 'plan\.parent_plan\.id is an empty id' ],
	[ 'starts_at is 30 February', sub { $_[0]{starts_at} = '2026/02/30' }, 'starts_at is "2026/02/30", expected a date' ],
	[ 'starts_at is a German date', sub { $_[0]{starts_at} = '01.02.2026' }, 'starts_at is "01\.02\.2026", expected a date' ],
	[ 'confirmed_at is missing', sub { delete $_[0]{confirmed_at} }, 'confirmed_at is missing' ],
	[ 'confirmed_at is in words', sub { $_[0]{confirmed_at} = 'yesterday' }, 'confirmed_at is "yesterday", expected a timestamp' ],
	[ 'confirmed_at is a flag', sub { $_[0]{confirmed_at} = JSON::PP::true }, 'confirmed_at is a boolean, expected a timestamp' ],
	[ 'canceled_to is missing', sub { delete $_[0]{canceled_to} }, 'canceled_to is missing' ],
	[ 'canceled_to is empty', sub { $_[0]{canceled_to} = '' }, 'canceled_to is "", expected a date' ],
	[ 'canceled_to is a number', sub { $_[0]{canceled_to} = 20260101 }, 'canceled_to is a number, expected a date' ],
	[ 'charge_taxes is in words', sub { $_[0]{charge_taxes} = 'yes' }, 'charge_taxes is a string, expected a boolean' ],
	[ 'billing_emails is a string', sub { $_[0]{billing_emails} = 'a@example.com' }, 'billing_emails is a string, expected an array of strings' ],
	[ 'billing_emails has a null', sub { $_[0]{billing_emails} = [ 'a@example.com', undef ] }, 'billing_emails\[1\] is null, expected a string' ],
	[ 'address is a string', sub { $_[0]{address} = '1 Street' }, 'address is a string, expected an object' ],
	[ 'user.id is a number', sub { $_[0]{user} = { id => 5 } }, 'user\.id is a number, expected a string' ],
	[ 'price is in words', sub { $_[0]{plan}{price_per_cycle} = 'free' }, 'plan\.price_per_cycle is "free", expected a decimal number' ],
	[ 'cycle_duration is a fraction', sub { $_[0]{plan}{cycle_duration} = 1.5 }, 'plan\.cycle_duration is 1\.5, expected an integer' ],
	[ 'extras is a string', sub { $_[0]{plan}{extras} = 'none' }, 'plan\.extras is a string, expected an array or object' ],
	[ 'team_id of 300 characters', sub { $_[0]{team_id} = 'x' x 300 }, 'team_id is "x{40}\.\.\.", expected an id of at most 200 bytes' ]);
foreach my $case (@member_cases)
{
	my ($name, $spoil, $detail) = @$case;

	check_bad($name, spoil => sub { $spoil->($_[0][3]) }, problems => [ [ $member_3, qr/^memberships\[3\]\.$detail/ ] ]);
}

check_bad('two records with the same id', spoil => sub { push @{ $_[0] }, dclone($_[0][3]) },
	problems => [ [ $member_3, qr/^memberships has two records with this id$/ ] ]);
check_bad('three different records with the same id',
	spoil => sub { push @{ $_[0] }, { %{ $_[0][3] }, name => 'Somebody else', canceled_to => '2026/01/02' }, { id => 'member-03' } },
	problems => [ [ $member_3, qr/^memberships has two records with this id$/ ] ]);

# --- records that fit nobody: known by their place ---
foreach my $case (
	[ 'id is missing', sub { my %r = %{ $_[0] }; delete $r{id}; \%r }, qr/^memberships\[12\]\.id is missing$/ ],
	[ 'id is null', sub { +{ %{ $_[0] }, id => undef } }, qr/^memberships\[12\]\.id is null, which it must not be$/ ],
	[ 'id is a number', sub { +{ %{ $_[0] }, id => 17 } }, qr/^memberships\[12\]\.id is a number, expected a string$/ ],
	[ 'an element is a string', sub { 'member-04' }, qr/^memberships\[12\] is a string, expected an object$/ ],
	[ 'an element is a number', sub { 17 }, qr/^memberships\[12\] is a number, expected an object$/ ],
	[ 'an element is null', sub { undef }, qr/^memberships\[12\] is null, expected an object$/ ],
	[ 'an element is a list', sub { ['member-04'] }, qr/^memberships\[12\] is an array, expected an object$/ ],
	[ 'an element is an empty object', sub { +{} }, qr/^memberships\[12\]\.id is missing$/ ])
{
	my ($name, $make, $detail) = @$case;

	check_bad("one more element: $name", spoil => sub { push @{ $_[0] }, $make->(dclone($_[0][5])) },
		problems => [ [ qr/^membership memberships\[12\]$/, $detail ] ]);
}
foreach my $case (
	[ 'id is empty', '', qr/^membership $/, qr/^memberships\[12\]\.id is an empty id$/ ],
	[ 'id is a step of a path', '..', qr/^membership \.\.$/, qr/^memberships\[12\]\.id is "\.\.", expected an id$/ ],
	[ 'id of 300 characters', 'x' x 300, qr/^membership x+/, qr/^memberships\[12\]\.id is "x{40}\.\.\.", expected an id of at most 200 bytes$/ ],
	[ 'id of 50,000 random characters', join('', map { chr 97 + int rand 26 } 1 .. 50_000), qr/^membership [a-z]+/, qr/^memberships\[12\]\.id is "[a-z]{40}\.\.\.", expected an id of at most 200 bytes$/ ])
{
	my ($name, $id, $subject, $detail) = @$case;

	check_bad("one more element: $name", spoil => sub { push @{ $_[0] }, { %{ dclone($_[0][5]) }, id => $id } },
		problems => [ [ $subject, $detail ] ]);
}

# --- member 3 is not to be found in the list, and was asked for by id: they are still there ---
foreach my $case (
	[ 'id is missing', sub { delete $_[0]{id} }, qr/^memberships\[3\]\.id is missing$/ ],
	[ 'id is a number', sub { $_[0]{id} = 3 }, qr/^memberships\[3\]\.id is a number, expected a string$/ ],
	[ 'id is empty', sub { $_[0]{id} = '' }, qr/^memberships\[3\]\.id is an empty id$/ ],
	[ 'id of 300 characters', sub { $_[0]{id} = 'x' x 300 }, qr/^memberships\[3\]\.id is "x{40}\.\.\.", expected an id of at most 200 bytes$/ ])
{
	my ($name, $spoil, $detail) = @$case;

	check_bad("a member whose $name", spoil => sub { $spoil->($_[0][3]) }, result => 'incomplete', reason => 'source_incomplete',
		problems => [ [ qr/^membership /, $detail ] ]);
}

# --- custom fields ---
foreach my $case (
	[ 'value is a number', sub { $_[0][3]{fields}[0]{value} = 17 }, qr/^custom_fields\[3\]\.fields\[0\]\.value is a number, expected a string$/ ],
	[ 'value is a list', sub { $_[0][3]{fields}[0]{value} = ['Workshop'] }, qr/^custom_fields\[3\]\.fields\[0\]\.value is an array, expected a string$/ ],
	[ 'fields is missing', sub { delete $_[0][3]{fields} }, qr/^custom_fields\[3\]\.fields is missing$/ ],
	[ 'fields is null', sub { $_[0][3]{fields} = undef }, qr/^custom_fields\[3\]\.fields is null, expected an array$/ ],
	[ 'fields is an object', sub { $_[0][3]{fields} = { $field => 'Workshop' } }, qr/^custom_fields\[3\]\.fields is an object, expected an array$/ ],
	[ 'a field is a string', sub { unshift @{ $_[0][3]{fields} }, $field }, qr/^custom_fields\[3\]\.fields\[0\] is a string, expected an object$/ ],
	[ 'our field twice', sub { push @{ $_[0][3]{fields} }, { id => $field_id, label => $field, value => 'Staff' } }, qr/^custom_fields\[3\]\.fields\[1\] is the same field once more$/ ],
	[ 'two records of one member', sub { push @{ $_[0] }, { membership_id => 'member-03', fields => [] } }, qr/^custom_fields has two records with this membership_id$/ ])
{
	my ($name, $spoil, $detail) = @$case;

	check_bad("custom fields: $name", spoil => sub { $spoil->($_[2]) }, problems => [ [ $member_3, $detail ] ]);
}

# --- custom fields that do not say whose they are: whoever seems to have none keeps what they had ---
foreach my $case (
	[ 'membership_id is missing', sub { delete $_[0]{membership_id}; $_[0] } ],
	[ 'membership_id is null', sub { +{ %{ $_[0] }, membership_id => undef } } ],
	[ 'membership_id is a number', sub { +{ %{ $_[0] }, membership_id => 3 } } ],
	[ 'membership_id is empty', sub { +{ %{ $_[0] }, membership_id => '' } } ],
	[ 'an element is a string', sub { 'Workshop' } ],
	[ 'an element is null', sub { undef } ])
{
	my ($name, $make) = @$case;

	subtest "custom fields: $name" => sub {
		my $values = "SELECT to_jsonb(m) - 'source_hash' FROM smartspace.cobot_membership m WHERE cobot_id <> 'member-00' ORDER BY id;"
		  . ' SELECT xmin, g.* FROM smartspace.user_group_member g ORDER BY 2, 3, 4';
		my $before = $t->sql($values);

		serve(sub { $_[2][3] = $make->($_[2][3]); pop @{ $_[2] } });
		is($t->sync($space)->{result}, 'ok_with_problems', 'result');
		same_rows($t->sql($values), $before, 'nobody lost or got anything');
		check_problems(problems => [ [ qr/^custom field custom_fields\[3\]$/, qr/^custom_fields\[3\]\.membership_id is missing or no string$/ ] ]);

		$before = everything();
		$turn--;
		serve(sub { $_[2][3] = $make->($_[2][3]); pop @{ $_[2] } });
		$t->sync($space);
		same_rows(everything(), $before, 'the same again writes no row');
		serve(sub { $_[0][3]{name} = 'Renamed'; $_[2][3] = $make->($_[2][3]); pop @{ $_[2] } });
		$t->sync($space);
		is($t->sql("SELECT name, individual_access FROM smartspace.cobot_membership WHERE cobot_id = 'member-03'"), 'Renamed|Workshop', 'a change of name is no reason to lose it');

		serve(sub { pop @{ $_[2] } });
		order('/api/memberships/member-11/custom_fields', { membership_id => 'member-11', fields => [] });
		is($t->sync($space)->{result}, 'ok', 'corrected');
		is($t->groups_of('member-03'), 'Front door (plan), Workshop (individual)', '... who is in the list has their values');
		is($t->groups_of('member-11'), 'Front door (plan)', '... and who is not has none');
		serve();
		$t->sync($space);
		is($t->grants_differ, 0, 'grants equal their definition');
	};
}

# --- plans: they stay as they were, listed and assigned ---
foreach my $case (
	[ 'name is a number', sub { $_[0][0]{name} = 17 }, qr/^plan \Q$plans[0]{id}\E$/, qr/^plans\[0\]\.name is a number, expected a string$/ ],
	[ 'hidden is in words', sub { $_[0][0]{hidden} = 'no' }, qr/^plan \Q$plans[0]{id}\E$/, qr/^plans\[0\]\.hidden is a string, expected a boolean$/ ],
	[ 'price is a list', sub { $_[0][0]{price_per_cycle} = [] }, qr/^plan \Q$plans[0]{id}\E$/, qr/^plans\[0\]\.price_per_cycle is an array, expected a decimal number$/ ],
	[ 'two with the same id', sub { push @{ $_[0] }, { %{ $_[0][0] }, name => 'Another' } }, qr/^plan \Q$plans[0]{id}\E$/, qr/^plans has two records with this id$/ ],
	[ 'one without id', sub { push @{ $_[0] }, { name => 'New' } }, qr/^plan plans\[4\]$/, qr/^plans\[4\]\.id is missing$/ ],
	[ 'one is a string', sub { push @{ $_[0] }, 'New' }, qr/^plan plans\[4\]$/, qr/^plans\[4\] is a string, expected an object$/ ],
	[ 'id of 50,000 random characters', sub { push @{ $_[0] }, { id => join('', map { chr 97 + ($_ * 7919 % 104729) % 26 } 1 .. 50_000), name => 'New' } },
		qr/^plan [a-z]+/, qr/^plans\[4\]\.id is "[a-z]{40}\.\.\.", expected an id of at most 200 bytes$/ ])
{
	my ($name, $spoil, $subject, $detail) = @$case;

	check_bad("plans: $name", spoil => sub { $spoil->($_[1]) }, problems => [ [ $subject, $detail ] ]);
}

# --- all at once ---
check_bad('all at once', spoil => sub {
		my ($members, $plans, $values) = @_;

		$members->[1]{name} = 17;
		delete $members->[2]{plan};
		$members->[3]{starts_at} = '2026/02/30';
		delete $members->[4]{confirmed_at};
		delete $members->[5]{canceled_to};
		$members->[6]{plan} = 'Full Time';
		push @$members, dclone($members->[7]), 'a string', { name => 'nobody' }, { id => 'y' x 300 };
		$values->[8]{fields}[0]{value} = 17;
		push @$values, dclone($values->[9]);
		delete $values->[10]{fields};
		$plans->[0]{name} = 17;
		push @$plans, dclone($plans->[1]);
	},
	problems => [
		[ qr/member-01/, qr/\.name is a number/ ], [ qr/member-02/, qr/\.plan is missing/ ], [ $member_3, qr/\.starts_at is / ],
		[ qr/member-04/, qr/\.confirmed_at is missing/ ], [ qr/member-05/, qr/\.canceled_to is missing/ ], [ qr/member-06/, qr/\.plan is a string/ ],
		[ qr/member-07/, qr/two records/ ], [ qr/memberships\[13\]/, qr/is a string/ ], [ qr/memberships\[14\]/, qr/id is missing/ ], [ qr/yyy/, qr/200 bytes/ ],
		[ qr/member-08/, qr/value is a number/ ], [ qr/member-09/, qr/two records/ ], [ qr/member-10/, qr/fields is missing/ ],
		[ qr/^plan \Q$plans[0]{id}\E/, qr/name is a number/ ], [ qr/^plan \Q$plans[1]{id}\E/, qr/two records/ ] ]);

# --- a new member with a bad record comes with the corrected one ---
serve(sub { push @{ $_[0] }, { %{ dclone($_[0][5]) }, id => 'newcomer', name => 'Newcomer', starts_at => 'soon' } });
is($t->sync($space)->{result}, 'ok_with_problems', 'a newcomer with a bad record');
is($t->sql("SELECT count(*) FROM smartspace.cobot_membership WHERE cobot_id = 'newcomer'"), 0, '... is not there yet');
like((problems())[0]{subject}, qr/^membership newcomer$/, '... and is a problem');
push @members, { %{ dclone($members[5]) }, id => 'newcomer', name => 'Newcomer', starts_at => '2026/03/01' };
serve();
is($t->sync($space)->{result}, 'ok', 'the corrected record');
is($t->groups_of('newcomer'), 'Front door (plan)', '... brings the newcomer with their group');

# --- a plan that is new and bad does not take the access of those who have it ---
push @plans, { id => 'brand-new', name => 'Brand new' };
$members[11]{plan} = { name => 'Brand new', parent_plan => { id => 'brand-new' } };
serve(sub { $_[1][-1]{name} = 17 });
is($t->sync($space)->{result}, 'ok_with_problems', 'a new plan with a bad record');
is($t->sql("SELECT listed FROM smartspace.cobot_plan p JOIN smartspace.cobot_membership m ON m.plan_id = p.id WHERE m.cobot_id = 'member-11'"), 'f', '... is known from its member');
$t->assign('brand-new', $door);
like($t->groups_of('member-11'), qr/Front door \(plan\)/, '... and can be assigned');
serve();
is($t->sync($space)->{result}, 'ok', 'the corrected record');
is($t->sql("SELECT listed FROM smartspace.cobot_plan WHERE cobot_id = 'brand-new'"), 't', '... is in the list');
like($t->groups_of('member-11'), qr/Front door \(plan\)/, '... and the access stays');

# --- odd, but nothing wrong with it: stored as it is ---
my $in_extras = 32 - 3;    # the limit, less the list, its record and the plan
my $nested = sub { my ($levels) = @_; my $d = []; $d = [$d] foreach 2 .. $levels; $d };
my %odd = (
	email => 'a' x 100_000 . '@example.com',
	name => join(' ', map { "N\x{e4}me $_" } 1 .. 120_000));
cmp_ok(length $odd{name}, '>', 1_000_000, 'a name of more than a million characters');
sub make_odd
{
	my ($its_members, $its_plans, $its_values) = @_;

	$its_members->[3]{email} = $odd{email};
	$its_members->[4]{name} = $odd{name};
	$its_members->[5]{plan}{extras} = $nested->($in_extras);
	$its_members->[6]{name} = '';
	$its_members->[7]{unknown} = { key => [ 1, undef, { a => 'b' } ] };
	$its_members->[8]{user} = undef;
	$its_members->[9]{address} = undef;
	$its_values->[1]{fields}[0]{value} = join ',', ('Workshop') x 20_000;
	$its_values->[2]{fields}[0]{value} = 'x' x 1_000_000 . ', Workshop';
	return;
}

serve(\&make_odd);
my $odd = $t->sync($space);
is($odd->{result}, 'ok_with_problems', 'odd values are taken');
is(scalar(problems()), 0, '... and no bad records');
is($t->sql("SELECT email = repeat('a', 100000) || '\@example.com' FROM smartspace.cobot_membership WHERE cobot_id = 'member-03'"), 't', 'an e-mail address of 100 kB is stored');
is($t->row("SELECT name FROM smartspace.cobot_membership WHERE cobot_id = 'member-04'")->{name}, $odd{name}, 'a name of 1 MB is stored');
is($t->sql("SELECT extras FROM smartspace.cobot_membership WHERE cobot_id = 'member-05'"), '[' x $in_extras . ']' x $in_extras, 'extras as deep as is allowed are stored');
is($t->sql("SELECT name FROM smartspace.cobot_membership WHERE cobot_id = 'member-06'"), '', 'an empty name is stored');
is($t->groups_of('member-01'), 'Front door (plan), Workshop (individual)', 'a custom field that names a group 20,000 times gives one grant');
is($t->groups_of('member-02'), 'Front door (plan), Workshop (individual)', 'a custom field with an identifier of 1 MB gives the others');
is($t->grants_differ, 0, 'grants equal their definition');
my $before = everything();
$turn--;
serve(\&make_odd);
$t->sync($space);
same_rows(everything(), $before, 'the same again writes nothing');

# --- one level deeper is too deep, and then the whole list is not to be trusted ---
serve(sub { $_[0][5]{plan}{extras} = $nested->($in_extras + 1) });
is($t->sync($space)->{reason}, 'bad_answer', 'nesting beyond the limit fails the run');
serve();
is($t->sync($space)->{result}, 'ok', 'and afterwards all is well');

# --- ids are opaque: any text will do ---
my @ids = ('with blank', 'a/b?c#d', '%2F', "quote'\"\\", "tab\tnewline\n", "\x{1F98A}", 'x' x 200, '0', 'null', '-1', 'Member-03', ' member-03');
push @members, map { { %{ dclone($members[5]) }, id => $_, name => 'Odd' } } @ids;
serve();
my $ids = $t->sync($space);
is("$ids->{result} $ids->{members_added}", 'ok ' . @ids, 'members with odd ids are taken');
is_deeply([ sort map { $_->{cobot_id} } $t->rows("SELECT cobot_id FROM smartspace.cobot_membership WHERE name = 'Odd'") ], [ sort @ids ], '... each under its own');

done_testing();
