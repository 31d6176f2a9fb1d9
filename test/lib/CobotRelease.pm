package CobotRelease;

=head1 NAME

CobotRelease - what a source tree says about its versions, and whether that fits together

=head1 SYNOPSIS

    use CobotRelease;

    my $version = version_of('.');                    # the one that CREATE EXTENSION makes
    my @released = released_in('.');                  # earlier ones, and this one once it is out
    is(join("\n", release_faults('.')), '', 'whoever has a released version gets to this one');

=cut

use strict;
use warnings;

use Exporter qw(import);
use PostgreSQL::Test::Utils;

our @EXPORT = qw(version_of released_in release_faults);

sub version_of
{
	my ($source) = @_;

	return (slurp_file("$source/smartspace_cobot.control") =~ /^default_version = '(.*)'$/m)[0];
}

sub released_in
{
	my ($source) = @_;

	return map { /--([\d.]+)\.sql$/ } sort glob "$source/src/sql/released/smartspace_cobot--*.sql";
}

# The versions that update scripts lead to from here, this one included.
sub reachable
{
	my ($source, $from) = @_;
	my %reached = ($from => 1);
	my @next = ($from);

	while (defined(my $version = shift @next))
	{
		push @next, grep { !$reached{$_}++ } map { /--([\d.]+)\.sql$/ } glob "$source/src/sql/updates/smartspace_cobot--$version--*.sql";
	}
	return \%reached;
}

=head2 release_faults($source)

What is wrong, in words. The install script must have been built. That the updates lead
to the same as a new installation is for 121_upgrade.pl.

=cut

sub release_faults
{
	my ($source) = @_;
	my $version = version_of($source);
	my @faults;

	foreach my $released (released_in($source))
	{
		if ($released ne $version)
		{
			push @faults, "no update script leads from $released to $version" unless reachable($source, $released)->{$version};
		}
		elsif (slurp_file("$source/src/sql/released/smartspace_cobot--$version.sql") ne slurp_file("$source/smartspace_cobot--$version.sql"))
		{
			push @faults, "the install script of $version changed after its release: it needs the next default_version and an update script";
		}
	}
	foreach my $update (glob "$source/src/sql/updates/*.sql")
	{
		push @faults, "$update does not begin with \\echo and \\quit" unless slurp_file($update) =~ /^\\echo Use "ALTER EXTENSION smartspace_cobot UPDATE[^\n]*" to load this file\. \\quit\n/;
	}
	push @faults, "META.json is of another version than $version" if grep { $_ ne "$version.0" } slurp_file("$source/META.json") =~ /^\t{1,3}"version": "([\d.]+)",?$/mg;
	return @faults;
}

1;
