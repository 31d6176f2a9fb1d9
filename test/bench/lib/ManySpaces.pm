package ManySpaces;

=head1 NAME

ManySpaces - a PostgreSQL of its own with a worker, and a Cobot with many spaces

=head1 SYNOPSIS

    my $many = ManySpaces->new(spaces => 200, members => 40);
    $many->session->run('SELECT smartspace.cobot_request_sync()');
    $many->wait_until_quiet;

For the rows that are about the worker, so that the server of the other rows has none.
Every space is connected with a token of a user of its own, because Cobot counts requests
for each user, and is synchronised once. Each has one building, an entrance.

=cut

use strict;
use warnings;

use Carp qw(croak);
use Time::HiRes qw(time sleep);

use Bench;
use BenchSession;
use CobotTest;

my $patience_s = 300;

=head2 new(spaces => N, members => M, conf => TEXT)

Starts the servers, connects all spaces and waits until the worker has synchronised them.
Members are those of each space; the text is for postgresql.conf.

=cut

sub new
{
	my ($class, %options) = @_;
	my $self = bless { spaces => $options{spaces}, members => $options{members} }, $class;

	$self->{test} = CobotTest->new(
		spaces => $options{spaces},
		members => $options{members},
		conf => Bench::conf() . <<"CONF" . ($options{conf} // ''));
shared_preload_libraries = 'smartspace_cobot'
smartspace_cobot.databases = 'postgres'
track_commit_timestamp = on
CONF
	$self->{session} = $self->new_session;
	$self->_connect;
	$self->wait_until_quiet;
	$self->_assert_synchronised;
	$self->{session}->run('VACUUM ANALYZE');
	return $self;
}

sub _connect
{
	my ($self) = @_;

	$self->{session}->run(<<"SQL");
SET client_min_messages = error;
SELECT count(smartspace.cobot_create_integration('Space ' || n, 'space-' || to_char(n, 'FM0000'), sync_individual_access => true))
FROM generate_series(1, $self->{spaces}) n;
SELECT count(c.state) FROM smartspace.cobot_integration i, smartspace.cobot_connect_token(i.id, 'admin-token-' || i.subdomain) c;
INSERT INTO smartspace.building (integration_id, name) SELECT id, 'Front door' FROM smartspace.cobot_integration;
SQL
	return;
}

sub _assert_synchronised
{
	my ($self) = @_;
	my ($runs) = $self->{session}->run(
		"SELECT count(DISTINCT integration_id) FROM smartspace.cobot_sync_run WHERE result IN ('ok', 'ok_with_problems')");
	my ($bad) = $self->{session}->run("SELECT string_agg(DISTINCT concat_ws(' ', result, message), ', ') FROM smartspace.cobot_sync_run"
		  . " WHERE result NOT IN ('ok', 'ok_with_problems')");
	my ($users) = $self->{session}->run('SELECT count(DISTINCT connected_by) FROM smartspace.cobot_integration');

	croak "$runs of $self->{spaces} spaces are synchronised: $bad" unless $runs == $self->{spaces};
	croak "only $users users" unless $users == $self->{spaces};
	return;
}

=head2 test, cobot, session, new_session

The CobotTest and its Cobot; a BenchSession that stays open; another one.

=cut

sub test { return $_[0]{test}; }

sub cobot { return $_[0]{test}->cobot; }

sub session { return $_[0]{session}; }

sub new_session { return BenchSession->new($_[0]{test}->node); }

=head2 wait_until($condition, $what)

Asks the server for a boolean until it is true.

=cut

sub wait_until
{
	my ($self, $condition, $what) = @_;
	my $deadline = time + $patience_s;

	until (($self->{session}->run("SELECT $condition"))[0] eq 't')
	{
		croak "waited in vain: $what" if time > $deadline;
		sleep 0.05;
	}
	return;
}

=head2 wait_until_quiet

Until nothing is due and nothing is under way.

=cut

sub wait_until_quiet
{
	my ($self) = @_;

	return $self->wait_until("NOT EXISTS (SELECT FROM smartspace.cobot_sync_task WHERE requested_at IS NOT NULL OR due_at <= now())"
		  . " AND NOT EXISTS (SELECT FROM smartspace.cobot_sync_progress)"
		  . " AND NOT EXISTS (SELECT FROM smartspace.cobot_checkin WHERE state IN ('queued', 'sending'))", 'the worker has done everything');
}

=head2 worker

The process id of the worker; undef if there is none.

=cut

sub worker
{
	my ($self) = @_;
	my ($pid) = $self->{session}->run("SELECT pid FROM pg_stat_activity WHERE backend_type = 'smartspace_cobot worker'");

	return $pid;
}

=head2 worker_kb($key), worker_cpu_s

What /proc says of the worker: VmHWM, VmRSS and so on in kB; seconds of processor time.

=cut

sub _slurp
{
	my ($self, $name) = @_;
	my $pid = $self->worker // croak 'there is no worker';

	return PostgreSQL::Test::Utils::slurp_file("/proc/$pid/$name");
}

sub worker_kb
{
	my ($self, $key) = @_;

	return $self->_slurp('status') =~ /^\Q$key\E:\s+(\d+) kB/m ? $1 : croak "no $key of the worker";
}

sub worker_cpu_s
{
	my ($self) = @_;
	my @fields = split / /, $self->_slurp('stat') =~ s/^.*\) //r;

	return ($fields[11] + $fields[12]) / 100;
}

=head2 entrants($from, $to)

Of each space the members number $from to $to of those whom a check-in costs no pass, as
hashes with member (our id), cobot_id, building and subdomain; in random order.

=cut

sub entrants
{
	my ($self, $from, $to) = @_;
	my @rows = $self->{session}->run(<<"SQL");
SELECT member, cobot_id, building, subdomain FROM (
	SELECT m.id AS member, m.cobot_id, b.id AS building, i.subdomain, row_number() OVER (PARTITION BY i.id ORDER BY m.id) AS place
	FROM smartspace.cobot_membership m JOIN smartspace.cobot_integration i ON i.id = m.integration_id
		JOIN smartspace.building b ON b.integration_id = i.id
	WHERE smartspace.cobot_not_active(m.departed_at, m.confirmed_at, m.starts_at, m.canceled_to, i.time_zone) IS NULL
		AND coalesce(jsonb_array_length(m.time_passes), 0) = 0) q
WHERE place BETWEEN $from AND $to ORDER BY md5(cobot_id)
SQL
	my @entrants = map { my %entrant; @entrant{qw(member cobot_id building subdomain)} = split /\|/; \%entrant } @rows;

	croak 'there are only ' . @entrants . ' entrants' unless @entrants == ($to - $from + 1) * $self->{spaces};
	return @entrants;
}

=head2 enter(@entrants)

They come in, in one statement. Only the first one's own time matters then.

=cut

sub enter
{
	my ($self, @entrants) = @_;

	$self->{session}->run('INSERT INTO smartspace.building_entry (membership_id, building_id) VALUES '
		  . join ', ', map { "($_->{member}, $_->{building})" } @entrants);
	return;
}

=head2 latencies(@entrants)

Two lists, in milliseconds: from the moment an entry was committed to the list of check-ins
that its delivery asks for first, and to the check-in. By the server's commit timestamps and
Cobot's log, which are on one clock; the log has to begin before the entries.

=cut

sub latencies
{
	my ($self, @entrants) = @_;
	my %commit = map { split /\|/ } $self->{session}->run(
		'SELECT membership_id, extract(epoch FROM pg_xact_commit_timestamp(xmin)) FROM smartspace.building_entry');
	my (%list, %made, @to_list, @to_check_in);

	foreach my $request ($self->cobot->log)
	{
		my ($member) = $request->{path} =~ m{^/api/memberships/([^/]+)/work_sessions$};

		$list{ $request->{host} } = $request->{time} if $request->{path} eq '/api/check_ins';
		$made{$member} = [ $list{ $request->{host} }, $request->{time} ] if defined $member;
	}
	foreach my $entrant (@entrants)
	{
		my $made = $made{ $entrant->{cobot_id} } // croak "there was no request about $entrant->{cobot_id}";

		push @to_list, 1000 * ($made->[0] - $commit{ $entrant->{member} });
		push @to_check_in, 1000 * ($made->[1] - $commit{ $entrant->{member} });
	}
	return (\@to_list, \@to_check_in);
}

=head2 assert_all_done

Dies unless every check-in was made at Cobot, each by one request, and no entry was a problem.

=cut

sub assert_all_done
{
	my ($self) = @_;
	my ($other) = $self->{session}->run(
		"SELECT string_agg(DISTINCT concat_ws(' ', state, reason, posts), ', ') FROM smartspace.cobot_checkin WHERE state <> 'done' OR posts <> 1");
	my ($missing) = $self->{session}->run(
		'SELECT (SELECT count(*) FROM smartspace.building_entry) - (SELECT count(*) FROM smartspace.cobot_checkin)');

	croak "check-ins ended otherwise: $other" if length $other;
	croak "$missing entries without a check-in" if $missing;
	return;
}

1;
