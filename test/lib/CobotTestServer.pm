package CobotTestServer;

=head1 NAME

CobotTestServer - starts, controls and stops the Cobot test server

=head1 SYNOPSIS

    use lib 'test/lib';
    use CobotTestServer;

    my $cobot = CobotTestServer->new(binary => 'test/server/cobot_test_server', dir => $directory);
    $cobot->start(members => 90);

    # for the extension: smartspace_cobot.connect_to and smartspace_cobot.ca_file
    my ($connect_to, $ca_file) = ($cobot->connect_to, $cobot->ca_file);

    my $anna = $cobot->add_member('demo-space', name => 'Anna', starts_at => 'today+1d');
    $cobot->set_field('demo-space', $anna->{id}, smart_spaces_access_additional_units => 'Workshop');
    $cobot->fault(match => { path => '/api/memberships' }, status => 502, times => 3);
    my @asked = grep { $_->{path} eq '/api/plans' } $cobot->log;
    $cobot->stop;

The server ends with the test, however the test ends: it watches a pipe that this
process holds. Every change is visible to the next request. In all bodies, strings
such as C<today>, C<today+10d> and C<today-3d 08:15> stand for dates. Texts are Perl
strings of characters, so a test with umlauts in its source needs C<use utf8>.

What there is at Cobot (spaces, members, plans, tokens and so on) is read and changed by
the methods of L<CobotWorld>. Only modules that come with Perl are used.

=cut

use strict;
use warnings;

use Carp qw(croak);
use CobotWorld;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Path qw(make_path);
use HTTP::Tiny;
use IO::Select;
use JSON::PP;

our @ISA = ('CobotWorld');    # what there is at Cobot, and changing it

use constant {
	START_TIMEOUT_S => 120,    # a space of 100,000 members takes a while under valgrind
	STOP_TIMEOUT_S => 10,
	TEXT_SETTINGS => { map { $_ => 1 } qw(login_user consent repeat_check_in check_in_error_shape) },
};

=head1 LIFE

=head2 new(binary => PATH, dir => DIRECTORY)

Makes throw-away certificates in the directory, unless they are there already. Both
arguments are optional: the binary is looked for beside this module, and without a
directory a temporary one is used, which goes away with the object.

=cut

sub new
{
	my ($class, %given) = @_;
	my $server_dir = abs_path(dirname(__FILE__) . '/../server');
	my $self = bless {
		binary => $given{binary} // "$server_dir/cobot_test_server",
		dir => $given{dir},
		http => HTTP::Tiny->new(timeout => 60, keep_alive => 0),
		json => JSON::PP->new->utf8->canonical->allow_nonref,
	}, $class;

	if (!defined $self->{dir})
	{
		require File::Temp;
		$self->{temporary} = File::Temp->newdir('cobot_XXXXXX', TMPDIR => 1);
		$self->{dir} = $self->{temporary}->dirname;
		chmod 0755, $self->{dir};
	}
	make_path($self->{dir});
	if (!-e "$self->{dir}/otherca.pem")
	{
		system("$server_dir/make_certificates.sh", $self->{dir}) == 0
		  or croak 'could not make the certificates';
	}
	return $self;
}

=head2 start(%options)

Starts the server and waits until it listens. Options, all optional:

    state => FILE                 the spaces of a state file, or
    spaces, members, plans, seed  generated ones (1 space "demo-space" with 90 members)
    token => TEXT                 the token of an admin of everything ("admin-token")
    cert => NAME                  "server", or "expired", "wronghost", "otherca"
    rate_limit => 0|1             as Cobot: 60 calls a minute, 6 for the members (0)
    port, control_port            free ones are picked otherwise

Returns the object.

=cut

sub start
{
	my ($self, %options) = @_;
	my $cert = delete $options{cert} // 'server';
	my $rate_limit = delete $options{rate_limit} // 0;
	my @command = (
		$self->{binary}, '--exit-with-stdin',
		'--cert' => "$self->{dir}/$cert.pem",
		'--key' => "$self->{dir}/$cert.key");

	croak 'the server is already running' if $self->{pid};
	push @command, '--no-rate-limit' unless $rate_limit;
	foreach my $name (qw(state spaces members plans seed token port control_port))
	{
		my $value = delete $options{$name};

		push @command, '--' . ($name =~ s/_/-/r), $value if defined $value;
	}
	croak 'unknown option: ' . join ', ', keys %options if %options;
	$self->_spawn(@command);
	$self->_wait_until_ready;
	return $self;
}

# The child gets one pipe as its standard input, which it watches, and one as its
# standard output. Perl closes our ends in every other program that the test runs.
sub _spawn
{
	my ($self, @command) = @_;

	pipe(my $life_read, my $life_write) or croak "pipe: $!";
	pipe(my $ready_read, my $ready_write) or croak "pipe: $!";
	my $pid = fork // croak "fork: $!";
	if ($pid == 0)
	{
		open STDIN, '<&', $life_read or die "stdin: $!";
		open STDOUT, '>&', $ready_write or die "stdout: $!";
		close $_ foreach $life_read, $life_write, $ready_read, $ready_write;
		exec { $command[0] } @command or do
		{
			print STDERR "could not run $command[0]: $!\n";
			require POSIX;
			POSIX::_exit(127);
		};
	}
	close $life_read;
	close $ready_write;
	@{$self}{qw(pid life ready)} = ($pid, $life_write, $ready_read);
	return;
}

sub _wait_until_ready
{
	my ($self) = @_;
	my $line = '';
	my $deadline = time + START_TIMEOUT_S;
	my $select = IO::Select->new($self->{ready});

	while ($line !~ /\n/)
	{
		my $left = $deadline - time;

		if ($left <= 0 || !$select->can_read($left) || !sysread $self->{ready}, $line, 4096, length $line)
		{
			$self->stop;
			croak 'the Cobot test server did not start';
		}
	}
	$line =~ /^ready https=(\d+) control=(\d+)$/m or croak "unexpected answer of the test server: $line";
	@{$self}{qw(port control_port)} = ($1, $2);
	return;
}

=head2 stop

Ends the server and waits for it. Returns its exit status (0 is well), undef if it was
not running.

=cut

sub stop
{
	my ($self) = @_;
	my $pid = delete $self->{pid} // return;
	my $deadline = time + STOP_TIMEOUT_S;

	local ($?, $!);
	close delete $self->{life};
	kill 'TERM', $pid;
	while (waitpid($pid, 1) == 0)
	{
		kill 'KILL', $pid if time > $deadline;
		select undef, undef, undef, 0.005;
	}
	my $status = $?;
	close delete $self->{ready};
	return $status;
}

sub DESTROY
{
	my ($self) = @_;

	$self->stop if $self->{pid};
	return;
}

=head2 port, control_port, ca_file, connect_to

Where it listens, the certificate authority to trust, and C<127.0.0.1:PORT>.

=cut

sub port { return $_[0]{port}; }

sub control_port { return $_[0]{control_port}; }

sub ca_file { return "$_[0]{dir}/ca.pem"; }

sub connect_to { return "127.0.0.1:$_[0]{port}"; }

=head1 CONTROL

=head2 control($method, $path, $body)

One call of the control interface (see test/server/README.md). The body is a hash or
array reference, or missing. Returns the decoded answer, undef if it was empty; dies
unless the answer is 2xx.

=cut

sub control
{
	my ($self, $method, $path, $body) = @_;
	my $url = "http://127.0.0.1:$self->{control_port}$path";
	my %request;

	croak 'the server is not running' unless $self->{pid};
	if (defined $body)
	{
		$request{content} = $self->{json}->encode($body);
		$request{headers} = { 'content-type' => 'application/json' };
	}
	my $answer = $self->{http}->request($method, $url, \%request);
	croak "$method $path: $answer->{status} $answer->{content}" unless $answer->{success};
	return unless length $answer->{content};
	return $self->{json}->decode($answer->{content});
}

=head2 log($since)

The requests that arrived at the HTTPS side, oldest first, as hashes with n, time,
connection, method, host, path, query, status (0: no answer was sent), token,
user_agent and body. With a number, only those after it.

=cut

sub log
{
	my ($self, $since) = @_;

	return @{ $self->control(GET => '/log' . (defined $since ? "?since=$since" : '')) };
}

=head2 clear_log

Forgets the requests so far.

=cut

sub clear_log { return $_[0]->control(DELETE => '/log'); }

=head2 fault(match => {...}, ...)

Orders a failure; the keys are those of POST /faults. Returns its number.

=cut

sub fault
{
	my ($self, %fault) = @_;

	return $self->control(POST => '/faults', \%fault)->{fault};
}

=head2 clear_faults, faults

Takes back all failures that are still ordered; lists them.

=cut

sub clear_faults { return $_[0]->control(DELETE => '/faults'); }

sub faults { return @{ $_[0]->control(GET => '/faults') }; }

=head2 settings(%changes)

Changes settings (rate_limit, gzip, etag, omit_empty_fields,
clear_omitted_values, latency_ms, not_admin_status, clock_shift_s; for OAuth login_user, which undef makes
the default user again, consent, "given" or "denied", and code_lifetime_s; for check-ins
repeat_check_in, "refuse" or "second", and check_in_error_shape, "errors" or "base") and
returns all of them.

=cut

sub settings
{
	my ($self, %changes) = @_;

	foreach my $name (grep { defined $changes{$_} } keys %changes)
	{
		$changes{$name} = TEXT_SETTINGS->{$name} ? "$changes{$name}" : $changes{$name} + 0;
	}
	return $self->control(PUT => '/settings', \%changes);
}

=head2 reset

Back to the initial state: world, settings, faults, log.

=cut

sub reset { return $_[0]->control(POST => '/reset'); }

1;
