package CobotCalls;

=head1 NAME

CobotCalls - the extension's functions as the catalog has them, and calls of them

=head1 SYNOPSIS

    use CobotCalls;

    foreach my $function (functions($t, "l.level <> 'owner'"))
    {
        is(join(' ', unknown_arguments($function, \%argument)), '', 'it can be called');
        $t->try('SELECT * FROM ' . call($function, \%argument));
    }

A function that is new needs no word here, only a value for each argument of a new name.

=cut

use strict;
use warnings;

use Exporter qw(import);

our @EXPORT = qw(functions unknown_arguments call);

=head2 functions($t, $condition)

All that are no triggers, as hashes: C<signature>, C<name>, C<names> and C<types> of the
arguments, C<required> (how many of them have no default), C<level>. The condition is about
pg_proc p and cobot_privilege l.

=cut

sub functions
{
	my ($t, $condition) = @_;

	return map { $_->{names} = [ @{ $_->{names} // [] }[ 0 .. $#{ $_->{types} } ] ]; $_ } $t->rows(<<"SQL");
SELECT p.oid::regprocedure::text AS signature, p.proname AS name, p.proargnames AS names, p.pronargs - p.pronargdefaults AS required, l.level,
	ARRAY(SELECT t::regtype::text FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, n) ORDER BY a.n) AS types
FROM pg_proc p JOIN smartspace.cobot_privilege l ON l.kind = 'function' AND l.name = p.proname
WHERE p.pronamespace = 'smartspace'::regnamespace AND p.prorettype <> 'trigger'::regtype AND ($condition)
ORDER BY 1
SQL
}

=head2 unknown_arguments($function, \%argument)

The names of required arguments for which there is no value. A value stands under the name
of the argument, or under function.argument where it means something else there.

=cut

sub value_of
{
	my ($function, $argument, $name) = @_;

	return $argument->{"$function->{name}.$name"} // $argument->{$name};
}

sub unknown_arguments
{
	my ($function, $argument) = @_;

	return grep { !defined value_of($function, $argument, $_) } @{ $function->{names} }[ 0 .. $function->{required} - 1 ];
}

=head2 call($function, \%argument, %options)

"smartspace.name(...)", with all arguments for which there is a value (an SQL expression);
with C<only_required>, a list of names: the required ones and those.

=cut

sub call
{
	my ($function, $argument, %options) = @_;
	my %wanted = map { $_ => 1 } @{ $options{only_required} // $function->{names} };
	my @given;

	foreach my $position (0 .. $#{ $function->{names} })
	{
		my $name = $function->{names}[$position];
		my $value = value_of($function, $argument, $name);

		push @given, "\"$name\" => $value\::$function->{types}[$position]" if defined $value && ($position < $function->{required} || $wanted{$name});
	}
	return "smartspace.$function->{name}(" . join(', ', @given) . ')';
}

1;
