package Bench;

=head1 NAME

Bench - what the rows of the benchmark share: the servers, the usual ways, the table

=head1 SYNOPSIS

    # row_NNN_name.pl
    sub {
        my ($bench) = @_;

        $bench->heading('repeated sync, nothing changed');
        my (@ours, @usual);
        foreach my $round (1 .. $bench->rounds)
        {
            push @ours, $bench->sync($session)->{database_ms};
            push @usual, $session->time_of($bench->usual->upsert);
        }
        $bench->times_faster('INSERT ... ON CONFLICT', \@ours, \@usual, 10);
    };

One PostgreSQL with its default durability and one Cobot test server with a single space
of full-size members, connected and synchronised once, so that its plans are there and
assigned to user groups. Contenders take turns (A B C, A B C, ...), and a ratio is that of
one turn, because a noisy machine disturbs neighbours alike.

=cut

use strict;
use warnings;

use Carp qw(croak);
use List::Util qw(max min);

use BenchSession;
use CobotTest;
use LargeSpace;
use PostgreSQL::Test::Utils;
use UsualWays;

# PostgreSQL's test modules turn standard output and error into a log before the program
# runs; these are the real ones.
my ($output, $errors);

BEGIN
{
	open $output, '>&', \*STDOUT or die "standard output: $!";
	open $errors, '>&', \*STDERR or die "standard error: $!";
}

# Every user group that the generated custom fields name, but for "Ghost", which is a
# mistake; and for each plan one group of its own beside the one for all.
my @identifiers = ('staff', 'Workshop', 'Werkstatt', 'server-room', 'Photo studio', 'Tonstudio', 'Dachterrasse');

# Checkpoints and autovacuum come when a row wants them, not in the middle of a
# measurement; enough work_mem that no contender spills; the rest is PostgreSQL's default.
my $conf = <<'CONF';
fsync = on
synchronous_commit = on
full_page_writes = on
wal_level = replica
max_wal_senders = 10
shared_buffers = 256MB
work_mem = 64MB
max_wal_size = 16GB
checkpoint_timeout = 1h
autovacuum = off
jit = off
log_statement = none
log_duration = off
CONF

=head2 conf

What postgresql.conf gets; a function.

=cut

sub conf { return $conf; }

=head2 new(members => N, large => N, rounds => N)

Starts both servers and prepares the space and the yardsticks.

=cut

sub new
{
	my ($class, %options) = @_;
	my $self = bless { %options, lines => [] }, $class;

	$self->{test} = CobotTest->new(members => $self->{members}, conf => $conf);
	$self->{integration} = $self->{test}->connect_space('demo-space');
	$self->_prepare_space;
	$self->{usual} = UsualWays->new($self, $self->{requests});
	return $self;
}

sub _prepare_space
{
	my ($self) = @_;
	my $test = $self->{test};

	$test->cobot->clear_log;
	$test->sync($self->{integration});
	$self->{requests} = { map { $_->{path} => $_ } $test->cobot->log };

	my $door = $test->group('Front door');
	$test->group($_, identifier => $_) foreach @identifiers;
	foreach my $plan ($test->rows('SELECT cobot_id, name FROM smartspace.cobot_plan ORDER BY id'))
	{
		$test->assign($plan->{cobot_id}, $door, $test->group("Room of $plan->{name}"));
	}
	return;
}

=head2 members, rounds, integration, test, usual, large

How many members the space has and how often everything is measured; the id of the
integration; the CobotTest; the UsualWays; the LargeSpace, made when it is first asked for.

=cut

sub members { return $_[0]{members}; }

sub rounds { return $_[0]{rounds}; }

sub test { return $_[0]{test}; }

sub integration { return $_[0]{integration}; }

sub usual { return $_[0]{usual}; }

sub large
{
	my ($self) = @_;

	return $self->{large_space} //= LargeSpace->new($self->{test}->node, $self->{large});
}

=head2 session

A new connection, a BenchSession.

=cut

sub session { return BenchSession->new($_[0]{test}->node); }

=head2 sync($session)

Synchronises. Returns the run's own figures as a hash, and measured from outside
C<whole_ms>, of which C<database_ms> is all but asking Cobot, and C<wal_bytes>.

=cut

sub sync
{
	my ($self, $session) = @_;
	my @columns = qw(result members_seen members_added members_changed members_removed
	  grants_given grants_changed grants_taken fetch_ms apply_ms);
	my %run;

	my ($before) = $session->run('SELECT pg_current_wal_insert_lsn()');
	my ($row) = $session->run('SELECT ' . join(', ', @columns) . " FROM smartspace.cobot_sync($self->{integration})");
	$run{whole_ms} = $session->ms;
	($run{wal_bytes}) = $session->run("SELECT pg_current_wal_insert_lsn() - '$before'::pg_lsn");
	@run{@columns} = split /\|/, $row;
	$run{database_ms} = $run{whole_ms} - $run{fetch_ms};

	croak "the run was $run{result}" unless $run{result} =~ /^ok/;
	croak "it saw $run{members_seen} members" unless $run{members_seen} == $self->{members};
	return \%run;
}

=head1 THE TABLE

=head2 heading($text)

What the following lines are about.

=cut

sub heading
{
	my ($self, $text) = @_;

	push @{ $self->{lines} }, ["\n$text"];
	say_error("Measuring: $text ...\n");
	return;
}

=head2 note($text)

A line of text in the table.

=cut

sub note
{
	my ($self, $text) = @_;

	push @{ $self->{lines} }, [ "  $text" ];
	return;
}

sub _sorted
{
	return sort { $a <=> $b } @_;
}

=head2 percentile($percent, @numbers)

The number below which so many percent of them are; a function.

=cut

sub percentile
{
	my ($percent, @numbers) = @_;
	my @sorted = _sorted(@numbers);

	return $sorted[ $#sorted * $percent / 100 ];
}

sub _median
{
	my @sorted = _sorted(@_);

	return ($sorted[ $#sorted / 2 ] + $sorted[ @sorted / 2 ]) / 2;
}

=head2 number($number)

As the table writes it; a function.

=cut

sub number
{
	my ($number) = @_;
	my $text = sprintf $number == int $number ? '%d' : $number < 9.95 ? '%.2f' : $number < 99.5 ? '%.1f' : '%.0f', $number;

	1 while $text =~ s/^(\d+)(\d{3})/$1,$2/;
	return $text;
}

sub _figure
{
	my ($numbers, $unit) = @_;

	return number(_median(@$numbers)) . ' (' . number(min @$numbers) . '-' . number(max @$numbers) . ")$unit";
}

sub _add
{
	my ($self, @cells) = @_;

	push @{ $self->{lines} }, \@cells;
	return;
}

=head2 times_faster($yardstick, \@ours, \@yardstick, $at_least)

=head2 times_as_long($yardstick, \@ours, \@yardstick, $at_most)

A line with milliseconds of both, in turns, and the ratio of each turn: how many times
faster ours is, or how many times as long it takes. Without a target it is only shown.

=cut

sub times_faster
{
	my ($self, $name, $ours, $yardstick, $at_least) = @_;
	my @ratios = map { $yardstick->[$_] / $ours->[$_] } 0 .. $#$ours;

	$self->_add($name, _figure($ours, ' ms'), _figure($yardstick, ' ms'), _figure(\@ratios, ' x faster'),
		$at_least ? ("at least $at_least", _median(@ratios) >= $at_least) : ());
	return;
}

sub times_as_long
{
	my ($self, $name, $ours, $yardstick, $at_most) = @_;
	my @ratios = map { $ours->[$_] / $yardstick->[$_] } 0 .. $#$ours;

	$self->_add($name, _figure($ours, ' ms'), _figure($yardstick, ' ms'), _figure(\@ratios, ' x as long'),
		$at_most ? ("at most $at_most", _median(@ratios) <= $at_most) : ());
	return;
}

=head2 percent_of_rate($yardstick, \@ours, \@yardstick, $at_least)

A line with calls per second of both, in turns, and ours in percent of the yardstick's.

=cut

sub percent_of_rate
{
	my ($self, $name, $ours, $yardstick, $at_least) = @_;
	my @percent = map { 100 * $ours->[$_] / $yardstick->[$_] } 0 .. $#$ours;

	$self->_add($name, _figure($ours, ' /s'), _figure($yardstick, ' /s'), _figure(\@percent, ' %'),
		$at_least ? ("at least $at_least %", _median(@percent) >= $at_least) : ());
	return;
}

=head2 amount($what, \@ours, $unit, $at_most, \@yardstick)

A line with a quantity that has a limit of its own; limit and yardstick are optional.

=cut

sub amount
{
	my ($self, $name, $ours, $unit, $at_most, $yardstick) = @_;

	$self->_add($name, _figure($ours, " $unit"), $yardstick ? _figure($yardstick, " $unit") : '', '',
		defined $at_most ? ('at most ' . number($at_most), _median(@$ours) <= $at_most) : ());
	return;
}

=head2 at_least($what, \@ours, $unit, $at_least)

A line with a quantity of which there shall be enough.

=cut

sub at_least
{
	my ($self, $name, $ours, $unit, $at_least) = @_;

	$self->_add($name, _figure($ours, " $unit"), '', '', 'at least ' . number($at_least), _median(@$ours) >= $at_least);
	return;
}

=head2 say_error($text)

Prints on the real standard error; a function.

=cut

sub say_error
{
	my ($text) = @_;

	print $errors $text;
	return;
}

=head2 print_table

Prints every line, and what was measured on.

=cut

sub print_table
{
	my ($self) = @_;
	my $version = $self->{test}->sql('SHOW server_version') =~ s/ .*//r;
	my $cores = grep { /^processor\s*:/ } split /^/, PostgreSQL::Test::Utils::slurp_file('/proc/cpuinfo');
	my @lines = map { @$_ > 1 ? [ "  $_->[0]", @{$_}[ 1 .. 3 ], $_->[4] // '', defined $_->[4] ? ($_->[5] ? 'met' : 'NOT MET') : '' ] : $_ }
	  @{ $self->{lines} };
	my @titles = ('', 'ours', 'yardstick', 'ratio', 'target', '');
	my @widths = map { my $column = $_; max map { length $_->[$column] } \@titles, grep { @$_ > 1 } @lines } 0 .. 5;

	print $output "\n@{[ number($self->{members}) ]} members, $self->{rounds} rounds; PostgreSQL $version, $cores cores; median (min-max)\n\n";
	foreach my $line (\@titles, @lines)
	{
		my $text = @$line > 1 ? join '  ', map { sprintf "%-$widths[$_]s", $line->[$_] } 0 .. 5 : $line->[0];

		print $output $text =~ s/ +$//r, "\n";
	}
	return;
}

1;
