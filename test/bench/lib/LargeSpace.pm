package LargeSpace;

=head1 NAME

LargeSpace - a space with very many members, made by SQL in a database of its own

=head1 SYNOPSIS

    my $large = $bench->large;
    my $session = $large->session;
    $session->run('INSERT INTO smartspace.user_group_assignment ...');

One plan has all the members, and gives them one user group. Members are as wide as real
ones, all have access, one in ten has a last day. The schema "usual" has look-alikes of
the tables of grants and of their journal, with the same constraints and indexes; its
grants start equal to ours (see large_space.sql).

=cut

use strict;
use warnings;

use Carp qw(croak);
use Cwd qw(abs_path);
use File::Basename qw(dirname);

use BenchSession;

my $script = dirname(abs_path(__FILE__)) . '/../large_space.sql';
my $database = 'large';

=head2 new($node, $members)

Makes the database.

=cut

sub new
{
	my ($class, $node, $members) = @_;
	my $self = bless { node => $node, members => $members }, $class;

	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$self->session->run("\\set members $members\n\\i $script\n");
	return $self;
}

=head2 members

How many there are. Their ids are 1 to this number.

=cut

sub members { return $_[0]{members}; }

=head2 session

A new connection, a BenchSession.

=cut

sub session { return BenchSession->new($_[0]{node}, $database); }

=head2 connstr

For programs that connect by themselves.

=cut

sub connstr { return $_[0]{node}->connstr($database); }

=head2 plan, door, workshop

Ids, also for use in SQL: the plan; the user group that it gives; another one.

=cut

sub plan { return 1; }

sub door { return 1; }

sub workshop { return 2; }

=head2 assert_none($session, $query, $what)

Dies unless the query has no rows.

=cut

sub assert_none
{
	my ($self, $session, $query, $what) = @_;
	my ($count) = $session->run("SELECT count(*) FROM ($query) q");

	croak "$what: $count" unless $count == 0;
	return;
}

=head2 assert_same_grants($session)

Dies unless ours and the yardstick's grants are equal, and ours are what is due.

=cut

sub assert_same_grants
{
	my ($self, $session) = @_;
	my ($ours, $theirs, $due) = map { "(SELECT membership_id, user_group_id, source, valid FROM $_)" }
	  qw(smartspace.user_group_member usual.user_group_member smartspace.access_due);

	foreach my $other ($theirs, $due)
	{
		$self->assert_none($session, "($ours EXCEPT ALL $other) UNION ALL ($other EXCEPT ALL $ours)", 'grants that differ');
	}
	return;
}

1;
