package InstallScript;

=head1 NAME

InstallScript - what an install script must not do, because it runs as a superuser where others left things

=head1 SYNOPSIS

    use InstallScript;

    my @faults = InstallScript::faults($text, 'smartspace');    # "line 12: ..." for each

=cut

use strict;
use warnings;

# Words that stand before a parenthesis and are no functions, and functions that are part of the grammar.
my %grammar = map { $_ => 1 } qw(and any array as all case check coalesce else exists extract filter from greatest if in into least
  lateral materialized not nullif operator or over over row select set then using values when where with);

# Cuts a script into statements: line, code (comments and contents of literals taken out), bodies (what stood in dollar quotes).
sub statements
{
	my ($text) = @_;
	my @statements;
	my ($line, $begin, $code, @bodies) = (1, undef, '');
	my $atomic = 0;

	while ($text =~ /\G(--[^\n]*|\/\*.*?\*\/|'(?:[^']|'')*'|"(?:[^"]|"")*"|(\$\w*\$)(.*?)\2|[\w.]+|\s+|.)/gcs)
	{
		my ($token, $body) = ($1, $3);
		my $lines = $token =~ tr/\n//;

		if ($token =~ /^(?:--|\/\*)/) { $code .= ' ' }
		elsif (defined $2) { push @bodies, $body; $code .= "\$\$" }
		elsif ($token =~ /^'/) { $code .= "''" }
		else
		{
			$begin //= $line if $token =~ /\S/;
			$atomic++ if $token =~ /^ATOMIC$/i || $atomic && $token =~ /^CASE$/i;
			$atomic-- if $atomic && $token =~ /^END$/i;
			if ($token eq ';' && !$atomic)
			{
				push @statements, { line => $begin, code => $code =~ s/^\s+|\s+$//gr, bodies => [@bodies] } if defined $begin;
				($begin, $code, @bodies) = (undef, '');
			}
			else { $code .= $token }
		}
		$line += $lines;
	}
	push @statements, { line => $begin, code => $code, bodies => [@bodies], open => 1 } if $code =~ /\S/;
	return @statements;
}

# Comments and literals out of a body that is in dollar quotes.
sub bare
{
	my ($body) = @_;

	return $body =~ s/--[^\n]*|\/\*.*?\*\/|'(?:[^']|'')*'/''/gsr;
}

# Relations that are read without their schema, except those that the statement itself names by WITH.
sub unqualified_relations
{
	my ($code) = @_;
	my %with = map { $_ => 1 } $code =~ /(\w+)\s+AS\s+(?:NOT\s+)?(?:MATERIALIZED\s+)?\(/gi;

	return grep { !$with{$_} && !$grammar{ lc $_ } && lc $_ ne 'unnest' }
	  ($code =~ s/\bDISTINCT\s+FROM\b|\bextract\s*\(\s*\w+\s+FROM\b|\bDELETE\s+FROM\b(?=\s+smartspace\.)//gir) =~ /\b(?:FROM|JOIN)\s+(?:ONLY\s+)?([a-z_]\w*)\b(?!\s*[.(])/gi;
}

# What is looked up by search_path in code that runs while the script runs.
sub unqualified_calls
{
	my ($code) = @_;
	my @found;

	$code =~ s/\bOPERATOR\s*\(\s*pg_catalog\.[^\s)]+\s*\)/,/gi;
	$code =~ s/\b(?:ERRCODE|DETAIL|HINT|MESSAGE)\s*=/,/gi;
	$code =~ s/:=/,/g;
	push @found, map { "function $_" } grep { !$grammar{ lc $_ } } $code =~ /(?<![\w.])([a-z_]\w*)\s*\(/gi;
	push @found, map { "type $_" } $code =~ /::\s*(?!pg_catalog\.)([a-z_][\w.]*)/gi;
	$code =~ s/::/,/g;
	push @found, map { "operator $_" } $code =~ /([-+*\/<>=~!@#%^&|`?]+)/g;
	return @found;
}

sub faults
{
	my ($text, $schema) = @_;
	my $own = qr/\Q$schema\E\./;
	my (@faults, %made, %commented);
	my $fault = sub { push @faults, "line $_[0]{line}: $_[1]"; return };

	push @faults, 'line 1: the first line must be \echo Use "CREATE EXTENSION name" to load this file. \quit'
	  unless $text =~ s/^\\echo Use "CREATE EXTENSION \w+" to load this file\. \\quit\n/\n/;
	push @faults, 'a psql command beyond the first line' if $text =~ /^\\/m;

	foreach my $statement (statements($text))
	{
		my $code = $statement->{code};
		my $all = join "\n", $code, map { bare($_) } @{ $statement->{bodies} };

		$fault->($statement, 'it has no end') if $statement->{open};
		$fault->($statement, 'OR REPLACE takes over what others made') if $all =~ /\bOR\s+REPLACE\b/i;
		$fault->($statement, 'IF NOT EXISTS takes over what others made') if $all =~ /\bIF\s+NOT\s+EXISTS\b(?!\s*\()/i;
		$fault->($statement, 'a privilege for PUBLIC') if $all =~ /\bGRANT\b.*\bTO\b.*\bPUBLIC\b/is;
		$fault->($statement, 'default privileges belong to whoever installs') if $all =~ /\bALTER\s+DEFAULT\s+PRIVILEGES\b/i;

		if ($code =~ /^CREATE\s+(?:UNLOGGED\s+)?(TABLE|VIEW|FUNCTION|PROCEDURE|SEQUENCE|TYPE|DOMAIN|AGGREGATE|MATERIALIZED\s+VIEW)\s+([\w."]+)/i
			|| $code =~ /^CREATE\s+OR\s+REPLACE\s+(VIEW|FUNCTION|PROCEDURE)\s+([\w."]+)/i)
		{
			my ($kind, $name) = (lc $1, $2);

			$fault->($statement, "$kind $name is made without its schema") unless $name =~ /^$own/;
			push @{ $made{"$kind $name"} }, $statement;
			$fault->($statement, "$kind $name reads $_ without its schema")
			  foreach $kind =~ /view/ ? unqualified_relations($code) : ();
			if ($kind eq 'function' || $kind eq 'procedure')
			{
				my $pinned = $code =~ /\bSET\s+search_path\s*=\s*pg_catalog\s*,\s*pg_temp\b/i;
				my $bound = $code =~ /\bBEGIN\s+ATOMIC\b|\bRETURN\s/i;

				$fault->($statement, "$kind $name has the rights of its owner and a search_path of its caller")
				  if $code =~ /\bSECURITY\s+DEFINER\b/i && !$pinned;
				$fault->($statement, "$kind $name looks names up by the search_path of its caller")
				  if $code !~ /\bLANGUAGE\s+c\b/i && !$pinned && !$bound;
				$fault->($statement, "$kind $name reads $_ without its schema")
				  foreach map { unqualified_relations(bare($_)) } $bound ? $code : (), $code =~ /\bLANGUAGE\s+c\b/i ? () : @{ $statement->{bodies} };
			}
		}
		elsif ($code =~ /^CREATE\s+(?:UNIQUE\s+)?INDEX\b/i)
		{
			$fault->($statement, 'an index on a table without its schema') unless $code =~ /\bON\s+(?:ONLY\s+)?$own/i;
		}
		elsif ($code =~ /^CREATE\s+(?:CONSTRAINT\s+)?TRIGGER\b/i)
		{
			$fault->($statement, 'a trigger on a table without its schema') unless $code =~ /\bON\s+$own/i;
			$fault->($statement, 'a trigger function without its schema') unless $code =~ /\bEXECUTE\s+(?:FUNCTION|PROCEDURE)\s+$own/i;
		}
		elsif ($code =~ /^COMMENT\s+ON\s+(\w+)\s+([\w."]+)/i)
		{
			my ($kind, $name) = (lc $1, $2);

			$fault->($statement, "a comment on $kind $name without its schema") unless $kind eq 'schema' ? $name eq $schema : $name =~ /^$own/;
			$commented{"$kind $name"}++;
		}
		elsif ($code =~ /^REVOKE\b/i)
		{
			$fault->($statement, 'REVOKE of something without its schema')
			  unless $code =~ /\bON\s+SCHEMA\s+\Q$schema\E\b|\bIN\s+SCHEMA\s+\Q$schema\E\b|\bON\s+(?:\w+\s+)?$own/i;
		}
		elsif ($code =~ /^ALTER\s+(?:TABLE|VIEW|FUNCTION|SEQUENCE)\b/i)
		{
			$fault->($statement, 'ALTER of something without its schema') unless $code =~ /^ALTER\s+\w+\s+$own/i;
		}
		elsif ($code =~ /^(?:SELECT|DO)\b/i)
		{
			my $running = $code =~ /^DO\b/i ? bare(join "\n", @{ $statement->{bodies} }) : $code;

			$fault->($statement, "$_ is looked up by search_path") foreach unqualified_calls($running);
			$fault->($statement, "reads $_ without its schema") foreach unqualified_relations($running);
		}
		else
		{
			$fault->($statement, 'a kind of statement that this check does not know: ' . substr $code, 0, 40);
		}
	}

	foreach my $object (sort keys %made)
	{
		my $missing = @{ $made{$object} } - ($commented{$object} // 0);

		push @faults, "line $made{$object}[-1]{line}: $object has no comment" if $missing > 0;
	}
	return @faults;
}

1;
