package BenchSession;

=head1 NAME

BenchSession - one connection that stays open, with the time of each statement

=head1 SYNOPSIS

    my $session = BenchSession->new($node);
    my ($wal) = $session->run('SELECT pg_current_wal_insert_lsn()');
    my $ms = $session->time_of('BEGIN; INSERT ...; COMMIT;');
    $session->close;

A psql behind pipes. The time is psql's own: from sending a statement until its last
row is there, so neither psql's start nor connecting counts.

=cut

use strict;
use warnings;

use Carp qw(croak);
use File::Temp;
use IPC::Open3 qw(open3);

my $end = '-- done --';

=head2 new($node, $database)

Connects to a PostgreSQL::Test::Cluster, to the database "postgres" unless it is told another.

=cut

sub new
{
	my ($class, $node, $database) = @_;
	my $self = bless { log => File::Temp->new(TEMPLATE => 'bench_XXXXXX', TMPDIR => 1) }, $class;
	my $log_number = fileno $self->{log};

	$self->{pid} = open3($self->{in}, $self->{out}, ">&$log_number",
		'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($database // 'postgres'));
	$self->_talk("\\timing on\nSELECT 1;\n");
	return $self;
}

# Sends text, returns the lines that come back until psql has done it all.
sub _talk
{
	my ($self, $text) = @_;
	my @lines;

	local $SIG{PIPE} = 'IGNORE';
	print { $self->{in} } "$text\n\\echo $end\n";
	$self->{in}->flush;
	while (defined(my $line = readline $self->{out}))
	{
		chomp $line;
		return @lines if $line eq $end;
		push @lines, $line;
	}
	open my $log, '<', $self->{log}->filename or croak "log of psql: $!";
	local $/;
	croak "psql ended: " . readline($log) . "while it ran $text";
}

=head2 run($statements)

Returns their rows, one string each, columns separated by "|". Remembers the time.

=cut

sub run
{
	my ($self, $sql) = @_;
	my @lines = $self->_talk("$sql;");
	my $time = qr/^Time: ([0-9.]+) ms/;

	$self->{ms} = 0;
	$self->{ms} += $_ foreach map { /$time/ ? $1 : () } @lines;
	return grep { !/$time/ } @lines;
}

=head2 ms

How many milliseconds the statements of the last run took together.

=cut

sub ms { return $_[0]{ms}; }

=head2 time_of($statements)

Runs them and returns the milliseconds.

=cut

sub time_of
{
	my ($self, $sql) = @_;

	$self->run($sql);
	return $self->ms;
}

=head2 close

Disconnects. Happens by itself when the object goes out of use.

=cut

sub close
{
	my ($self) = @_;
	my $pid = delete $self->{pid} // return;

	local ($?, $!);
	close $self->{in};
	close $self->{out};
	waitpid $pid, 0;
	return;
}

sub DESTROY { return $_[0]->close; }

1;
