package CobotLoft;

=head1 NAME

CobotLoft - spaces of members with access, to take it from many at once

=head1 SYNOPSIS

    use CobotLoft;

    my $t = lofts(many => 90, few => 8);               # CobotTest, with two spaces
    my $loft = CobotLoft->open($t, 'many');            # connected, synchronised, everybody in the group "many door"
    $loft->leave(1 .. 30);
    my $run = $loft->sync;
    is($loft->verdicts($run), '30 left held too_many_removals');
    is($loft->inside, 90);

Members are called many-01, many-02 and so on, and are on the plan many-desk. There is a
second plan, many-flex, which gives nothing, and the custom field for individual access.

=cut

use strict;
use warnings;

use CobotTest;
use Exporter qw(import);
use File::Temp;
use JSON::PP;

our @EXPORT = qw(lofts FIELD);

use constant FIELD => 'smart_spaces_access_additional_units';

my $json = JSON::PP->new->utf8;

=head2 lofts(SUBDOMAIN => MEMBERS, ..., conf => TEXT)

Starts both servers with these spaces.

=cut

sub lofts
{
	my (%members) = @_;
	my $conf = delete $members{conf};
	my $world = File::Temp->new;

	print $world encode_json({
		users => [ { id => 'admin', email => 'admin@example.com', admin_of => [ keys %members ] } ],
		tokens => [ { token => 'admin-token', user => 'admin' } ],
		spaces => [ map { _space($_, $members{$_}) } sort keys %members ] });
	$world->flush;
	chmod 0644, $world->filename;
	return CobotTest->new(state => $world->filename, defined $conf ? (conf => $conf) : ());
}

sub _space
{
	my ($subdomain, $members) = @_;

	return {
		subdomain => $subdomain, time_zone_name => 'UTC', custom_fields => [ { id => 'field-1', label => FIELD } ],
		plans => [ map { { id => "$subdomain-$_", name => "Plan $_" } } qw(desk flex) ],
		memberships => [ map { _member($subdomain, $_) } 1 .. $members ] };
}

sub _member
{
	my ($subdomain, $number) = @_;
	my $id = sprintf '%s-%02d', $subdomain, $number;

	return { id => $id, name => "Member $id", plan => { parent_plan => { id => "$subdomain-desk" } } };
}

=head2 CobotLoft->open($t, $subdomain, %settings)

Connects the space and lets everybody in by their plan. Settings are columns of
cobot_integration, such as hold_removals_above => 2.

=cut

sub open
{
	my ($class, $t, $subdomain, %settings) = @_;
	my $self = bless { t => $t, subdomain => $subdomain, id => $t->connect_space($subdomain) }, $class;

	$self->set(%settings) if %settings;
	$self->sync;
	$self->{door} = $t->group("$subdomain door");
	$t->assign("$subdomain-desk", $self->{door});
	return $self;
}

sub set
{
	my ($self, %settings) = @_;

	$self->{t}->sql("UPDATE smartspace.cobot_integration SET " . join(', ', map { "$_ = $settings{$_}" } sort keys %settings) . " WHERE id = $self->{id}");
	return;
}

sub id { return $_[0]{id}; }

=head2 who(@numbers)

The Cobot ids of these members.

=cut

sub who
{
	my ($self, @numbers) = @_;

	return map { sprintf '%s-%02d', $self->{subdomain}, $_ } @numbers;
}

=head2 join_in, leave, change(\@numbers, %changes), field(\@numbers, $value)

In Cobot: these members join (or come back), are deleted, get other values, get a value
of the custom field.

=cut

sub join_in
{
	my ($self, @numbers) = @_;

	$self->{t}->cobot->add_member($self->{subdomain}, %{ _member($self->{subdomain}, $_) }) foreach @numbers;
	return;
}

sub leave
{
	my ($self, @numbers) = @_;

	$self->{t}->cobot->delete_member($self->{subdomain}, $_) foreach $self->who(@numbers);
	return;
}

sub change
{
	my ($self, $numbers, %changes) = @_;

	$self->{t}->cobot->patch_member($self->{subdomain}, $_, %changes) foreach $self->who(@$numbers);
	return;
}

sub move
{
	my ($self, $plan, @numbers) = @_;

	return $self->change(\@numbers, plan => { parent_plan => { id => "$self->{subdomain}-$plan" } });
}

sub field
{
	my ($self, $numbers, $value) = @_;

	$self->{t}->cobot->set_field($self->{subdomain}, $_, FIELD, $value) foreach $self->who(@$numbers);
	return;
}

=head2 sync(%options), release($run, $settings)

A run, as a hash with C<warning>.

=cut

sub sync
{
	my ($self, %options) = @_;

	return $self->{t}->sync($self->{id}, %options);
}

sub release
{
	my ($self, $run, $settings) = @_;
	my $answer = $self->{t}->try(($settings // '') . "\nSELECT row_to_json(r) FROM smartspace.cobot_release($run->{id}) r;");

	die "cobot_release failed: $answer->{err}" unless $answer->{ok};
	my ($line) = $answer->{out} =~ /^(\{.*\})$/m;
	return { %{ $json->decode($line) }, warning => $answer->{err} };
}

=head2 verdicts($run), verdict_of($run, $number)

What became of a run's changes, such as "30 left held too_many_removals, 1 joined
applied"; of one member.

=cut

sub verdicts
{
	my ($self, $run) = @_;

	return join ', ', map { $_->{line} } $self->{t}->rows("SELECT concat_ws(' ', count(*), CASE WHEN record <> 'membership' THEN record END, what, verdict, reason) AS line"
		  . " FROM smartspace.cobot_sync_change WHERE run_id = $run->{id} GROUP BY record, what, verdict, reason ORDER BY record, what, verdict, reason");
}

sub verdict_of
{
	my ($self, $run, $number) = @_;
	my ($who) = $self->who($number);

	return $self->{t}->sql("SELECT string_agg(concat_ws(' ', what, verdict, reason), ', ' ORDER BY id) FROM smartspace.cobot_sync_change WHERE run_id = $run->{id} AND cobot_id = '$who'");
}

=head2 inside($group), outside(@numbers), name_of($number)

How many have access to the group now ("door"); which of these members do not have
access to the door.

=cut

sub inside
{
	my ($self, $group) = @_;
	my $name = defined $group ? $group : "$self->{subdomain} door";

	return $self->{t}->sql("SELECT count(DISTINCT membership_id) FROM smartspace.access_now WHERE integration_id = $self->{id} AND user_group = '$name'");
}

sub outside
{
	my ($self, @numbers) = @_;
	my %inside = map { $_ => 1 } split /\n/, $self->{t}->sql("SELECT m.cobot_id FROM smartspace.access_now a JOIN smartspace.cobot_membership m ON m.id = a.membership_id"
		  . " WHERE a.integration_id = $self->{id} AND a.user_group = '$self->{subdomain} door'");

	return join ' ', grep { my ($who) = $self->who($_); !$inside{$who} } @numbers;
}

sub name_of
{
	my ($self, $number) = @_;
	my ($who) = $self->who($number);

	return $self->{t}->sql("SELECT name FROM smartspace.cobot_membership WHERE integration_id = $self->{id} AND cobot_id = '$who'");
}

=head2 state

State and reason of the integration, as cobot_status shows them.

=cut

sub state
{
	my ($self) = @_;

	return $self->{t}->sql("SELECT concat_ws(' ', state, reason) FROM smartspace.cobot_status WHERE integration_id = $self->{id}");
}

1;
