package CobotMirror;

=head1 NAME

CobotMirror - does PostgreSQL's mirror of a space equal what the Cobot test server has?

=head1 SYNOPSIS

    use CobotMirror;

    is(mirror_differs($t, $space, 'demo-space'), '', 'the mirror equals Cobot');
    is(counts_of($t->sync($space)), '0/1/0 0/0/0', 'one member changed, no grant');

    my $marks = marks($t);
    ...
    is(written_since($t, $marks), 'member ada', 'only this row was written');

=cut

use strict;
use warnings;

use Exporter qw(import);
use JSON::PP;

our @EXPORT = qw(mirror_differs counts_of marks written_since);

my $json = JSON::PP->new->canonical->allow_nonref;

=head2 mirror_differs($t, $integration, $subdomain)

What differs between the memberships and plans of an integration and those of the test
server's space, one line for each; '' if nothing does. Who is current at the server
must be in the mirror and not departed, and nobody else.

=cut

sub mirror_differs
{
	my ($t, $integration, $subdomain) = @_;
	my $state = $t->cobot->space($subdomain);
	my ($today, $individual) = split /\|/, $t->sql("SELECT to_char(now() AT TIME ZONE time_zone, 'YYYY/MM/DD'), sync_individual_access"
		  . " FROM smartspace.cobot_integration WHERE id = $integration");
	my $field = $individual eq 't' ? 'individual_access' : 'NULL';

	my %told = map { ("member $_->{id}" => _member_of($_, $individual eq 't')) }
	  grep { $_->{confirmed_at} && ($_->{canceled_to} // $today) ge $today } @{ $state->{memberships} };
	$told{"plan $_->{id}"} = $_->{name} foreach @{ $state->{plans} };

	my %stored = map { ("member $_->{cobot_id}" => $_->{row}) } $t->rows(<<"SQL");
SELECT m.cobot_id, json_build_array(m.name, m.email, m.phone, m.company, m.full_address, m.customer_number, m.user_id,
	m.plan_name, m.parent_plan_id, p.cobot_id, to_char(m.starts_at, 'YYYY/MM/DD'), to_char(m.canceled_to, 'YYYY/MM/DD'), $field) AS row
FROM smartspace.cobot_membership m LEFT JOIN smartspace.cobot_plan p ON p.id = m.plan_id AND p.integration_id = m.integration_id
WHERE m.integration_id = $integration AND m.departed_at IS NULL
SQL
	$stored{"plan $_->{cobot_id}"} = $_->{name}
	  foreach $t->rows("SELECT cobot_id, name FROM smartspace.cobot_plan WHERE integration_id = $integration AND listed");

	my %all = (%told, %stored);
	return join "\n", map {
		my ($cobot, $mirror) = map { defined $_ ? $json->encode($_) : 'nothing' } $told{$_}, $stored{$_};
		$cobot eq $mirror ? () : "$_: Cobot has $cobot, the mirror has $mirror"
	} sort keys %all;
}

# The record as a list in the order of the query above. An empty custom field is none.
sub _member_of
{
	my ($record, $individual) = @_;
	my $address = $record->{address} // {};
	my $plan = $record->{plan} // {};
	my $parent = ($plan->{parent_plan} // {})->{id};
	my $field = $individual ? $record->{custom_fields}{smart_spaces_access_additional_units} : undef;

	$field = undef if defined $field && $field eq '';

	undef $field if defined $field && $field eq '';    # nothing in it and no value are the same

	return [ @{$record}{qw(name email phone)}, @{$address}{qw(company full_address)}, $record->{customer_number},
		($record->{user} // {})->{id}, $plan->{name}, $parent, $parent, @{$record}{qw(starts_at canceled_to)}, $field ];
}

=head2 counts_of($run)

A run's own counts: members added/changed/removed, then grants given/changed/taken.

=cut

sub counts_of
{
	my ($run) = @_;

	return join ' ', join('/', @{$run}{qw(members_added members_changed members_removed)}),
	  join('/', @{$run}{qw(grants_given grants_changed grants_taken)});
}

=head2 marks($t), written_since($t, $marks)

Remembers when and where each row of mirror and grants was written; tells which rows
are new, gone or written since then, such as "grant ada Door (plan), member ada".

=cut

sub marks
{
	my ($t) = @_;
	my %marks = map { ($_->{what} => $_->{mark}) } $t->rows(<<'SQL');
SELECT 'member ' || m.cobot_id AS what, m.xmin || ' ' || m.ctid AS mark FROM smartspace.cobot_membership m
UNION ALL
SELECT 'plan ' || p.cobot_id, p.xmin || ' ' || p.ctid FROM smartspace.cobot_plan p
UNION ALL
SELECT 'assignment ' || p.cobot_id || ' ' || g.name, a.xmin || ' ' || a.ctid
FROM smartspace.user_group_assignment a JOIN smartspace.cobot_plan p ON p.id = a.plan_id
	JOIN smartspace.user_group g ON g.id = a.user_group_id
UNION ALL
SELECT format('grant %s %s (%s)', m.cobot_id, g.name, a.source), a.xmin || ' ' || a.ctid
FROM smartspace.user_group_member a JOIN smartspace.cobot_membership m ON m.id = a.membership_id
	JOIN smartspace.user_group g ON g.id = a.user_group_id
SQL
	return \%marks;
}

sub written_since
{
	my ($t, $before) = @_;
	my $after = marks($t);
	my %all = (%$before, %$after);

	return join ', ', grep { ($before->{$_} // '') ne ($after->{$_} // '') } sort keys %all;
}

1;
