package CobotWorld;

=head1 NAME

CobotWorld - what there is at Cobot: reading and changing it through the test server

=head1 SYNOPSIS

    $cobot->delete_member('demo-space', $id);          # $cobot is a CobotTestServer
    my $state = $cobot->space('demo-space');

Everything goes through the method C<control> of the test server's object; the calls are
described in test/server/README.md.

=cut

use strict;
use warnings;

sub _segment
{
	my ($text) = @_;

	utf8::encode($text) if utf8::is_utf8($text);
	return $text =~ s/([^A-Za-z0-9_.~-])/sprintf '%%%02X', ord $1/ger;
}

sub _path
{
	return join '/', '', map { _segment($_) } @_;
}

=head2 space($subdomain)

The whole state of a space: a hash with space, plans, custom_fields, memberships (each
with its custom_fields as label => value), check_ins and navigation_links.

=cut

sub space
{
	my ($self, $subdomain) = @_;

	return $self->control(GET => _path('spaces', $subdomain));
}

=head2 patch_space($subdomain, %changes)

Changes keys of the space, such as time_zone_name.

=cut

sub patch_space
{
	my ($self, $subdomain, %changes) = @_;

	return $self->control(PATCH => _path('spaces', $subdomain), \%changes);
}

=head2 add_member($subdomain, %record)

A new member; missing keys get sensible values. C<custom_fields> may hold values by
label. Returns the record.

=cut

sub add_member
{
	my ($self, $subdomain, %record) = @_;

	return $self->control(POST => _path('spaces', $subdomain, 'memberships'), \%record);
}

=head2 members($subdomain, @keys), member($subdomain, $id)

The records of all members that exist, former ones too, with only these keys if any are
named (quicker to decode); one member's record.

=cut

sub members
{
	my ($self, $subdomain, @keys) = @_;
	my $query = @keys ? '?attributes=' . join ',', @keys : '';

	return @{ $self->control(GET => _path('spaces', $subdomain, 'memberships') . $query) };
}

sub member
{
	my ($self, $subdomain, $id) = @_;

	return $self->control(GET => _path('spaces', $subdomain, 'memberships', $id));
}

=head2 patch_member($subdomain, $id, %changes)

Merges the changes into the record; undef stands for null. The pseudo key C<without>
is a list of keys to take away, such as C<['user', 'plan.parent_plan']>.

=cut

sub patch_member
{
	my ($self, $subdomain, $id, %changes) = @_;
	my $without = delete $changes{without};
	my $query = $without ? '?without=' . join ',', map { _segment($_) } @$without : '';

	return $self->control(PATCH => _path('spaces', $subdomain, 'memberships', $id) . $query, \%changes);
}

=head2 put_member($subdomain, $id, \%record)

Replaces the record by exactly this one, complete or not, right or wrong.

=cut

sub put_member
{
	my ($self, $subdomain, $id, $record) = @_;

	return $self->control(PUT => _path('spaces', $subdomain, 'memberships', $id), $record);
}

=head2 delete_member($subdomain, $id)

As if an admin had deleted the membership: it is gone from every list, and 404.

=cut

sub delete_member
{
	my ($self, $subdomain, $id) = @_;

	return $self->control(DELETE => _path('spaces', $subdomain, 'memberships', $id));
}

=head2 add_plan($subdomain, %plan), patch_plan($subdomain, $id, %changes), delete_plan($subdomain, $id)

The plan catalogue. The plans of members are copies and do not change with it.

=cut

sub add_plan
{
	my ($self, $subdomain, %plan) = @_;

	return $self->control(POST => _path('spaces', $subdomain, 'plans'), \%plan);
}

sub patch_plan
{
	my ($self, $subdomain, $id, %changes) = @_;

	return $self->control(PATCH => _path('spaces', $subdomain, 'plans', $id), \%changes);
}

sub delete_plan
{
	my ($self, $subdomain, $id) = @_;

	return $self->control(DELETE => _path('spaces', $subdomain, 'plans', $id));
}

=head2 set_fields($subdomain, @definitions)

Replaces the custom field definitions: hashes with label and perhaps id. What is left
out is gone, values included. Returns the definitions with their ids.

=cut

sub set_fields
{
	my ($self, $subdomain, @definitions) = @_;

	return @{ $self->control(PUT => _path('spaces', $subdomain, 'custom_fields'), \@definitions) };
}

=head2 set_field($subdomain, $member, $label => $value)

A member's value of one custom field; undef takes it away.

=cut

sub set_field
{
	my ($self, $subdomain, $id, $label, $value) = @_;

	return $self->control(PUT => _path('spaces', $subdomain, 'memberships', $id, 'custom_fields'), { $label => $value });
}

=head2 check_ins($subdomain), add_check_in($subdomain, membership_id => ID, ...), delete_check_in($subdomain, $id)

All check-ins of a space, also those of other days; a new one, as if somebody had made
it elsewhere: no pass is used, nothing is refused. C<id>, C<valid_from> (now),
C<valid_until> (the end of that day) and C<time_pass> are optional. Returns the record.
The last one takes a check-in away as if it had never been.

=cut

sub check_ins
{
	my ($self, $subdomain) = @_;

	return @{ $self->control(GET => _path('spaces', $subdomain, 'check_ins')) };
}

sub add_check_in
{
	my ($self, $subdomain, %record) = @_;

	return $self->control(POST => _path('spaces', $subdomain, 'check_ins'), \%record);
}

sub delete_check_in
{
	my ($self, $subdomain, $id) = @_;

	return $self->control(DELETE => _path('spaces', $subdomain, 'check_ins', $id));
}

=head2 set_passes($subdomain, $member, $unused), passes($subdomain, $member)

How many unused time passes a member has. Both return the number. Before it is set it
is what the member's plan includes, less those used up.

=cut

sub set_passes
{
	my ($self, $subdomain, $id, $unused) = @_;

	return $self->control(PUT => _path('spaces', $subdomain, 'memberships', $id, 'time_passes'), { unused => $unused + 0 })->{unused};
}

sub passes
{
	my ($self, $subdomain, $id) = @_;

	return $self->control(GET => _path('spaces', $subdomain, 'memberships', $id, 'time_passes'))->{unused};
}

=head2 set_check_in_tokens($subdomain, %tokens)

Whose the tokens (cards, devices) are: token => id of a member, or undef for nobody. All
others stay as they are.

=cut

sub set_check_in_tokens
{
	my ($self, $subdomain, %tokens) = @_;

	return $self->control(PUT => _path('spaces', $subdomain, 'check_in_tokens'), \%tokens);
}

=head2 links($subdomain), delete_link($subdomain, $id)

All links in the navigation, whichever app made them; an admin deletes one by hand. Its
id is the last part of its C<url>.

=cut

sub links
{
	my ($self, $subdomain) = @_;

	return @{ $self->control(GET => _path('spaces', $subdomain, 'navigation_links')) };
}

sub delete_link
{
	my ($self, $subdomain, $id) = @_;

	return $self->control(DELETE => _path('spaces', $subdomain, 'navigation_links', $id));
}

=head2 subscriptions($subdomain), add_subscription($subdomain, event => ..., callback_url => ..., token => ...)

All webhook subscriptions of a space, whoever made them; a new one, as if the bearer of
the token had made it (without a token: somebody who never asks).

=cut

sub subscriptions
{
	my ($self, $subdomain) = @_;

	return @{ $self->control(GET => _path('spaces', $subdomain, 'subscriptions')) };
}

sub add_subscription
{
	my ($self, $subdomain, %subscription) = @_;

	return $self->control(POST => _path('spaces', $subdomain, 'subscriptions'), \%subscription);
}

=head2 patch_subscription($subdomain, $id, %changes), delete_subscription($subdomain, $id)

For instance C<< active => JSON::PP::false >>, as after many callbacks that failed.

=cut

sub patch_subscription
{
	my ($self, $subdomain, $id, %changes) = @_;

	return $self->control(PATCH => _path('spaces', $subdomain, 'subscriptions', $id), \%changes);
}

sub delete_subscription
{
	my ($self, $subdomain, $id) = @_;

	return $self->control(DELETE => _path('spaces', $subdomain, 'subscriptions', $id));
}

=head2 token(scopes => [...], user => ID, kind => 'user'|'space', space => SUBDOMAIN, client_id => ID)

Makes a token and returns its text. Everything is optional: a user token of an admin
with all scopes.

=cut

sub token
{
	my ($self, %wanted) = @_;

	return $self->control(POST => '/tokens', \%wanted)->{token};
}

=head2 delete_token($token)

The token is unknown from now on, as if revoked.

=cut

sub delete_token
{
	my ($self, $token) = @_;

	return $self->control(DELETE => _path('tokens', $token));
}

=head2 client(client_id => ID, client_secret => TEXT, redirect_uris => [...], scopes => [...]), delete_client($id)

Registers an app for OAuth and returns it with all four keys. Everything is optional: an
app with a new id and secret and all scopes, whose users may return to any address
below https://app.example.com/ and to smartspace://login. Such an app, C<demo-client>
with the secret C<demo-secret>, is there from the start unless a state file says what is.

=cut

sub client
{
	my ($self, %client) = @_;

	return $self->control(POST => '/clients', \%client);
}

sub delete_client
{
	my ($self, $id) = @_;

	return $self->control(DELETE => _path('clients', $id));
}

=head2 add_user(%user), patch_user($id, %changes)

Users that are not members: id, email, name, admin_of (list of subdomains, or "all").

=cut

sub add_user
{
	my ($self, %user) = @_;

	return $self->control(POST => '/users', \%user);
}

sub patch_user
{
	my ($self, $id, %changes) = @_;

	return $self->control(PATCH => _path('users', $id), \%changes);
}

1;
