package CobotWorker;

=head1 NAME

CobotWorker - a CobotTest whose server has the launcher, and what its processes do

=head1 SYNOPSIS

    use CobotWorker;

    my $t = CobotWorker->new(members => 20, linger => 1, databases => 'postgres');
    my $space = $t->connect_space('demo-space');
    $t->wait_for_run($space);                          # a whole run that came to its end
    $t->stall($space, 'demo-space');                   # the worker waits for Cobot in the middle of a run
    is($t->worker->{backend_xid}, undef);

Everything of CobotTest works, too.

=cut

use strict;
use warnings;

use Carp qw(croak);
use CobotTest;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time sleep);

our @ISA = ('CobotTest');

=head2 new(%options)

Options of CobotTest, and C<linger> (seconds, 1), C<databases> ('postgres').

=cut

sub new
{
	my ($class, %options) = @_;
	my $linger = delete $options{linger} // 1;
	my $databases = delete $options{databases} // 'postgres';

	$options{conf} = <<"CONF" . ($options{conf} // '');
shared_preload_libraries = 'smartspace_cobot'
smartspace_cobot.databases = '$databases'
smartspace_cobot.worker_linger = $linger
CONF
	return $class->SUPER::new(%options);
}

=head2 processes($type), worker($database), launcher

Rows of pg_stat_activity as hashes; the only one, undef if there is none.

=cut

sub processes
{
	my ($self, $type) = @_;

	return $self->rows("SELECT * FROM pg_stat_activity WHERE backend_type = 'smartspace_cobot $type'");
}

sub worker
{
	my ($self, $database) = @_;
	my ($worker) = grep { ($_->{datname} // '') eq ($database // 'postgres') } $self->processes('worker');

	return $worker;
}

sub launcher { return ($_[0]->processes('launcher'))[0]; }

=head2 wait_for_worker($database), wait_for_no_worker($database)

Until there is one, which is returned; until there is none.

=cut

sub wait_for_worker
{
	my ($self, $database) = @_;
	my $worker;

	$self->wait_until(sub { $worker = $self->worker($database) }, 'a worker');
	return $worker;
}

sub wait_for_no_worker
{
	my ($self, $database) = @_;

	return $self->wait_until(sub { !$self->worker($database) }, 'the worker leaves');
}

=head2 last_run($integration), wait_for_run($integration, $after)

The last run of an integration as a hash, undef if there is none. Waits for one with an
id above the given one (0).

=cut

sub last_run
{
	my ($self, $integration) = @_;
	my ($run) = $self->rows("SELECT * FROM smartspace.cobot_sync_run WHERE integration_id = $integration ORDER BY id DESC LIMIT 1");

	return $run;
}

sub wait_for_run
{
	my ($self, $integration, $after) = @_;
	my $run;

	$self->wait_until(sub { $run = $self->last_run($integration); return $run && $run->{id} > ($after // 0) }, 'a run');
	return $run;
}

=head2 request($integration)

Asks the worker for a synchronisation and waits for its end; returns the run.

=cut

sub request
{
	my ($self, $integration) = @_;
	my $last = $self->last_run($integration);

	$self->sql("SELECT smartspace.cobot_request_sync($integration)");
	return $self->wait_for_run($integration, $last ? $last->{id} : 0);
}

=head2 stall($integration, $subdomain, %fault), task($integration)

Lets the worker begin a run that waits for Cobot's list of members until the fault is
cleared. The row of cobot_sync_task.

=cut

sub stall
{
	my ($self, $integration, $subdomain, %fault) = @_;
	my $cobot = $self->cobot;

	%fault = (stall => 'headers') unless %fault;
	$cobot->fault(match => { host => "$subdomain.cobot.me", path => '/api/memberships' }, times => 0, %fault);
	my ($last) = map { $_->{n} } reverse $cobot->log;
	$self->sql("SELECT smartspace.cobot_request_sync($integration)");
	return $self->wait_until(sub { grep { $_->{path} eq '/api/memberships' && $_->{host} eq "$subdomain.cobot.me" } $cobot->log($last // 0) },
		'the worker asks for the members');
}

sub task
{
	my ($self, $integration) = @_;

	return $self->row("SELECT *, due_at > now() AS later, extract(epoch FROM due_at - clock_timestamp()) AS due_in_s FROM smartspace.cobot_sync_task WHERE integration_id = $integration");
}

=head2 seconds_until($condition, $what)

How long it took until the condition was true.

=cut

sub seconds_until
{
	my ($self, $condition, $what) = @_;
	my $start = time;

	$self->wait_until($condition, $what);
	return time - $start;
}

=head2 logged($pattern)

How often the server's log has a line like that, from this moment of the test on: call
mark_log first.

=cut

sub mark_log { $_[0]{log_mark} = -s $_[0]->node->logfile; return; }

sub logged
{
	my ($self, $pattern) = @_;
	my $text = slurp_file($self->node->logfile, $self->{log_mark} // 0);

	return scalar(() = $text =~ /$pattern/g);
}

1;
