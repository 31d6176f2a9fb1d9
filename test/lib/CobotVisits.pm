package CobotVisits;

=head1 NAME

CobotVisits - members who come in at a door, and the proof that none was checked in twice

=head1 SYNOPSIS

    use CobotVisits;

    my $visits = CobotVisits->new($t, 'demo-space');    # $t is a CobotTest; connected, synchronised
    my @members = $visits->take(3);
    $visits->enter(@members);
    $visits->settle;                                    # all rows end, time moves as needed
    $visits->check('after the crash', @members);        # subtest: one check-in each, every row explained

A second request would make a second check-in at this server, and use up a second pass.

=cut

use strict;
use warnings;

use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

# How long rows may take to end once Cobot is well.
use constant SETTLED_WITHIN_S => 20;

# These say that nothing was carried out.
my %without_effect = map { $_ => 1 } (401, 402, 403, 422, 429);

=head2 new($t, $subdomain, %options)

Option C<settle_time_s>: what smartspace_cobot.checkin_settle_time is set to.

=cut

sub new
{
	my ($class, $t, $subdomain, %options) = @_;
	my $self = bless { t => $t, subdomain => $subdomain, settle_time_s => $options{settle_time_s} // 15 }, $class;

	$t->cobot->settings(rate_limit => 0, repeat_check_in => 'second');
	$self->{space} = $t->connect_space($subdomain);
	$t->sync($self->{space});
	# or the worker was faster
	$t->wait_until(sub { return $t->sql("SELECT count(*) FROM smartspace.cobot_sync_run WHERE integration_id = $self->{space} AND result LIKE 'ok%'") }, 'a first synchronisation');
	$self->{door} = $t->sql("INSERT INTO smartspace.building (integration_id, name) VALUES ($self->{space}, 'Front door of $subdomain') RETURNING id");
	$self->{members} = [ $t->rows("SELECT m.id, m.cobot_id, coalesce(jsonb_array_length(m.time_passes), 0) > 0 AS pays"
		  . " FROM smartspace.cobot_membership m JOIN smartspace.cobot_integration i ON i.id = m.integration_id WHERE i.id = $self->{space}"
		  . " AND smartspace.cobot_not_active(m.departed_at, m.confirmed_at, m.starts_at, m.canceled_to, i.time_zone) IS NULL ORDER BY m.id") ];
	return $self;
}

=head2 space, door, node($node)

The integration; its building; the server to ask from now on.

=cut

sub space { return $_[0]{space}; }

sub door { return $_[0]{door}; }

sub node
{
	my ($self, $node) = @_;

	$self->{node} = $node if $node;
	return $self->{node} // $self->{t}->node;
}

sub sql { return $_[0]->node->safe_psql('postgres', $_[1]); }

=head2 take($count)

Members who are active and have not been taken yet. Who pays has plenty of passes.

=cut

sub take
{
	my ($self, $count) = @_;
	my @taken = splice @{ $self->{members} }, 0, $count;

	die "no members are left\n" if @taken < $count;
	foreach my $member (grep { $_->{pays} } @taken)
	{
		$self->{t}->cobot->set_passes($self->{subdomain}, $member->{cobot_id}, 9);
	}
	return @taken;
}

sub left { return scalar @{ $_[0]{members} }; }

=head2 entry_of($member, $reference), enter(@members)

A row for INSERT INTO building_entry; enters them.

=cut

sub entry_of
{
	my ($self, $member, $reference) = @_;

	return "($member->{id}, $self->{door}, '" . ($reference // 'door') . "')";
}

use constant INSERT => 'INSERT INTO smartspace.building_entry (membership_id, building_id, source_reference) VALUES ';

sub enter
{
	my ($self, @members) = @_;

	return $self->sql(INSERT . join ', ', map { $self->entry_of($_) } @members);
}

=head2 states(@members), posts($member), at_cobot($member)

State and reason of their rows; the requests in the log; the check-ins that Cobot has.

=cut

sub states
{
	my ($self, @members) = @_;

	return $self->sql("SELECT string_agg(c.state || coalesce(' ' || c.reason, ''), ', ' ORDER BY c.id) FROM smartspace.cobot_checkin c WHERE c.membership_id IN ("
		  . join(', ', map { $_->{id} } @members) . ')');
}

sub posts
{
	my ($self, $member) = @_;

	return grep { $_->{method} eq 'POST' && $_->{path} eq "/api/memberships/$member->{cobot_id}/work_sessions" } $self->{t}->cobot->log;
}

sub at_cobot
{
	my ($self, $member) = @_;

	return grep { $_->{membership_id} eq $member->{cobot_id} } $self->{t}->cobot->check_ins($self->{subdomain});
}

=head2 fault($member, %fault)

What goes wrong with the request for a member.

=cut

sub fault
{
	my ($self, $member, %fault) = @_;

	return $self->{t}->cobot->fault(
		match => { method => 'POST', host => "$self->{subdomain}.cobot.me", path => "/api/memberships/$member->{cobot_id}/work_sessions" }, %fault);
}

=head2 settle

Lets the worker go on until no row is open, as if all back-offs were over; false if that
takes too long.

=cut

sub settle
{
	my ($self) = @_;
	my $deadline = time + SETTLED_WITHIN_S;

	while (time < $deadline)
	{
		my ($out, $err) = ('', '');

		$self->node->psql('postgres', "UPDATE smartspace.cobot_checkin SET next_attempt_at = now() WHERE state IN ('queued', 'sending') AND next_attempt_at > now() + interval '2 seconds';"
			  . " SELECT smartspace.cobot_wake_worker(); SELECT count(*) FROM smartspace.cobot_checkin WHERE state IN ('queued', 'sending')",
			stdout => \$out, stderr => \$err);
		return 1 if $out =~ /^0$/m;
		sleep 0.1;
	}
	return 0;
}

=head2 check($name, @members)

No member was checked in twice, no request was sent blindly, and every row and entry of
these members has an end that can be explained.

=cut

sub check
{
	my ($self, $name, @members) = @_;

	subtest $name => sub {
		my (%log, %checked_in);
		my @looked;

		foreach my $request ($self->{t}->cobot->log)
		{
			push @{ $log{$1} }, $request if $request->{method} eq 'POST' && $request->{path} =~ m{^/api/memberships/([^/]+)/work_sessions$};
			push @looked, $request if $request->{method} eq 'GET' && $request->{path} =~ m{^/api/(check_ins|work_sessions)$} && ($request->{status} // 0) == 200;
		}
		push @{ $checked_in{ $_->{membership_id} } }, $_->{id} foreach $self->{t}->cobot->check_ins($self->{subdomain});
		is(join(' ', grep { @{ $checked_in{$_} } > 1 } sort keys %checked_in), '', 'Cobot has no two check-ins of anybody');
		is(join(' ', grep { $self->{t}->cobot->passes($self->{subdomain}, $_->{cobot_id}) < 8 } grep { $_->{pays} } @members), '', 'nobody paid twice');
		is(join('; ', map { $self->_blind($_, \@looked, @{ $log{$_} }) } map { $_->{cobot_id} } @members), '', 'no request was repeated blindly');
		$self->_check_rows(\%checked_in, @members);
	};
	return;
}

# Requests of a member that followed one that may have been carried out, without a look after its time.
sub _blind
{
	my ($self, $member, $looked, @posts) = @_;
	my @blind;

	foreach my $i (1 .. $#posts)
	{
		my ($first, $second) = @posts[ $i - 1, $i ];

		next if $without_effect{ $first->{status} // 0 };
		push @blind, "$member: $first->{n} (" . ($first->{status} // 'no answer') . "), $second->{n}"
		  unless grep { $_->{n} > $first->{n} && $_->{n} < $second->{n} && $_->{time} >= $first->{time} + $self->{settle_time_s} - 0.05 } @$looked;
	}
	return @blind;
}

sub _check_rows
{
	my ($self, $checked_in, @members) = @_;
	my $ids = join ', ', map { $_->{id} } @members;
	my %cobot_id = map { $_->{id} => $_->{cobot_id} } @members;
	my (%found, @wrong);
	my $json = JSON::PP->new->utf8;

	foreach my $row (@{ $json->decode($self->sql("SELECT coalesce(json_agg(c), '[]') FROM smartspace.cobot_checkin c WHERE c.membership_id IN ($ids)")) })
	{
		my $who = $cobot_id{ $row->{membership_id} };
		my ($there) = @{ $checked_in->{$who} // [] };

		$found{$who}++ if $row->{state} =~ /^(?:done|already_in|unknown)$/;
		push @wrong, "$who: $row->{state}, and Cobot has another one" if $row->{state} =~ /^(?:done|already_in)$/ && ($row->{cobot_id} // '') ne ($there // '-');
		push @wrong, "$who: still $row->{state}" if $row->{state} =~ /^(?:queued|sending)$/;
	}
	push @wrong, map { "$_: Cobot has a check-in that no row knows of" } grep { $checked_in->{$_} && !$found{$_} } values %cobot_id;
	is(join('; ', @wrong), '', 'every row has ended, and what is done is at Cobot');
	is($self->sql("SELECT string_agg(concat_ws(' ', e.id, x.verdict, x.explanation), '; ') FROM smartspace.building_entry e LEFT JOIN LATERAL smartspace.cobot_explain_entry(e.id) x ON true"
			  . " WHERE e.membership_id IN ($ids) AND (x.verdict = ANY ('{done,already_in,refused,failed,unknown,stale,skipped,covered}')) IS NOT TRUE"), '', 'every entry is explained');
	return;
}

=head1 PROCESSES

=head2 CobotVisits::processes($node)

The processes of a server by what they are: worker, launcher, backend; lists of pids.

=cut

sub processes
{
	my ($node) = @_;
	my %pids = (worker => [], launcher => [], backend => []);
	my ($postmaster) = eval { split /\n/, slurp_file($node->data_dir . '/postmaster.pid') };

	foreach my $pid (split ' ', eval { slurp_file("/proc/$postmaster/task/$postmaster/children") } // '')
	{
		my $title = eval { slurp_file("/proc/$pid/cmdline") } // '';

		push @{ $pids{ $title =~ /smartspace_cobot (worker|launcher)/ ? $1 : $title =~ /\[local\]/ ? 'backend' : 'other' } }, $pid;
	}
	return %pids;
}

1;
