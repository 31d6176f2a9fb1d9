package CobotDoor;

=head1 NAME

CobotDoor - the two ways by which Cobot's answers get into the mirror, behind one interface

=head1 SYNOPSIS

    use CobotDoor;

    my $way = CobotDoor->new($t, 'offline');           # or 'network'; $t is a CobotTest
    my $loft = $way->open('demo-space');               # integration id
    my $run = $way->sync($loft) or print $way->failure;
    $way->release($loft, $run);

C<network>: the extension asks, by cobot_sync(). C<offline>: the integration has no
token; a fetcher outside the database asks Cobot with curl and gives the answers, as
they came, to cobot_ingest(). It first brings the lists, and then, where the run holds
members because nobody asked for them by id, the same lists with the answers by id.

=cut

use strict;
use warnings;

use Carp qw(croak);
use JSON::PP;

my $json = JSON::PP->new->utf8->allow_nonref->max_depth(512);

# What adds up over the two calls of an offline synchronisation.
my @counts = qw(members_added members_changed members_changed_plan members_removed grants_given grants_changed grants_taken);

=head2 new($t, $name), name, is_offline

=cut

sub new
{
	my ($class, $t, $name) = @_;

	croak "no such door: $name" unless $name eq 'network' || $name eq 'offline';
	return bless { t => $t, name => $name, subdomain => {}, failure => undef }, $class;
}

sub name { return $_[0]{name}; }

sub is_offline { return $_[0]{name} eq 'offline'; }

=head2 open($subdomain)

A new integration of the space, with access by plan and by custom field. Offline it gets
no token; only the fetcher has one.

=cut

sub open
{
	my ($self, $subdomain) = @_;
	my $id = $self->is_offline
	  ? $self->{t}->sql("SELECT smartspace.cobot_create_integration('$subdomain', '$subdomain', sync_plan_access => true, sync_individual_access => true)")
	  : $self->{t}->connect_space($subdomain);

	$self->{subdomain}{$id} = $subdomain;
	return $id;
}

=head2 sync($integration, %options)

Synchronises; the run as a hash with C<warning>. Of the two calls of an offline
synchronisation the second one is returned, with the counts of changes of both.
Undef: the fetcher did not get what it asked for, ingested nothing, and C<failure> says
why. Options: C<unreachable> (nobody listens), C<settings> and C<waits> (network only).

=cut

sub sync
{
	my ($self, $integration, %options) = @_;
	my $unreachable = delete $options{unreachable};

	$self->{failure} = undef;
	if (!$self->is_offline)
	{
		$options{settings} = "SET smartspace_cobot.connect_to = '127.0.0.1:1';" if $unreachable;
		return $self->{t}->sync($integration, %options);
	}

	my $lists = $self->lists($integration, unreachable => $unreachable) // return;
	my $first = $self->ingest($integration, %$lists, complete => 1);
	my @unknown = $self->{t}->rows("SELECT cobot_id FROM smartspace.cobot_sync_changes($first->{id})"
		  . " WHERE verdict IN ('held', 'released') AND what = 'left' AND reason = 'source_incomplete' AND detail = 'not asked for by id yet'");
	return $first unless @unknown;

	my $second = $self->ingest($integration, %$lists, complete => 1, evidence => $self->evidence($integration, map { $_->{cobot_id} } @unknown));
	$second->{$_} += $first->{$_} foreach @counts;
	return $second;
}

=head2 failure

Why the fetcher of the last offline synchronisation gave up; undef: it did not.

=cut

sub failure { return $_[0]{failure}; }

=head2 release($integration, $run)

One call of cobot_release(). Offline it cannot ask Cobot; the next synchronisation of the
fetcher, which follows here, carries it out. Returns the run that did.

=cut

sub release
{
	my ($self, $integration, $run) = @_;
	my $answer = $self->_call("SELECT row_to_json(r) FROM smartspace.cobot_release($run->{id}) r");

	return $self->is_offline ? $self->sync($integration) : $answer;
}

=head1 THE FETCHER

=head2 get($host, $path, %options)

Status and body of one request; status 0 if nothing came.

=cut

sub get
{
	my ($self, $host, $path, %options) = @_;
	my $cobot = $self->{t}->cobot;
	my $to = $options{unreachable} ? '127.0.0.1:1' : $cobot->connect_to;

	CORE::open(my $curl, '-|', 'curl', '-s', '-m', '20', '--connect-to', "::$to", '--cacert', $cobot->ca_file,
		'-H', 'Authorization: Bearer admin-token', '-w', '\n%{http_code}', "https://$host$path") or croak "curl: $!";
	my $answer = do { local $/; <$curl> };
	close $curl;
	my ($body, $status) = $answer =~ /\A(.*)\n(\d+)\z/s or croak 'curl does not work';
	return ($status, $body);
}

=head2 lists($integration, %options)

The arguments memberships, plans, custom_fields and space of cobot_ingest(), as Cobot
sent them. Undef: one of them could not be had, or is no JSON.

=cut

sub lists
{
	my ($self, $integration, %options) = @_;
	my $subdomain = $self->{subdomain}{$integration};
	my $host = "$subdomain.cobot.me";
	my %answer;

	foreach my $question ([ space => 'www.cobot.me', "/api/spaces/$subdomain" ], [ plans => $host, '/api/plans' ],
		[ memberships => $host, '/api/memberships' ], [ custom_fields => $host, '/api/custom_fields' ])
	{
		my ($what, @where) = @$question;
		my ($status, $body) = $self->get(@where, %options);

		$self->{failure} = $status != 200 ? "$what: status $status" : eval { $json->decode($body); 1 } ? undef : "$what: no JSON";
		return if $self->{failure};
		$answer{$what} = $body;
	}
	return \%answer;
}

=head2 evidence($integration, @ids)

Cobot's answers by id as the argument evidence: the record, or null for 404. Who could
not be asked for is not in it.

=cut

sub evidence
{
	my ($self, $integration, @ids) = @_;
	my @told;

	foreach my $id (@ids)
	{
		my ($status, $body) = $self->get("$self->{subdomain}{$integration}.cobot.me", "/api/memberships/$id");

		push @told, $json->encode($id) . ': ' . ($status == 404 ? 'null' : $body)
		  if $status == 404 || $status == 200 && eval { $json->decode($body); 1 };
	}
	return '{' . join(', ', @told) . '}';
}

=head2 ingest($integration, %arguments)

One call of cobot_ingest() with these JSON texts, and C<complete>; the run as a hash.

=cut

sub ingest
{
	my ($self, $integration, %arguments) = @_;

	return $self->_call('SELECT row_to_json(r) FROM ' . ingest_call($integration, %arguments) . ' r');
}

# Also for tests that expect it to fail.
sub ingest_call
{
	my ($integration, %arguments) = @_;
	my @given = $arguments{complete} ? 'complete => true' : ();

	delete $arguments{complete};
	push @given, map { defined $arguments{$_} ? "$_ => \$given\$$arguments{$_}\$given\$" : "$_ => NULL" } sort keys %arguments;
	return 'smartspace.cobot_ingest(' . join(', ', $integration, @given) . ')';
}

sub _call
{
	my ($self, $sql) = @_;
	my $answer = $self->{t}->try("$sql;");

	croak "failed: $answer->{err}" unless $answer->{ok};
	my ($line) = $answer->{out} =~ /^(\{.*\})$/m;
	return { %{ $json->decode($line) }, warning => $answer->{err} };
}

1;
