package InstallScript;

=head1 NAME

InstallScript - what an install or update script must not do, because it runs as a superuser where others left things

=head1 SYNOPSIS

    use InstallScript;

    my @faults = InstallScript::faults($text, 'smartspace');    # "line 12: ..." for each
    push @faults, InstallScript::faults($update, 'smartspace', updates => $text);
    push @faults, InstallScript::control_faults($control, 'smartspace');

=cut

use strict;
use warnings;

# Words that stand before a parenthesis and are no functions, and functions that are part of the grammar.
my %grammar = map { $_ => 1 } qw(and any array as all case check coalesce conflict else exists extract filter from greatest if in into least
  lateral materialized not nullif operator or over over row select set then using values when where with);

# A literal reads the same whatever standard_conforming_strings is, unless it has a backslash.
my $literal = qr/[eE]'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'/s;

# Cuts a script into statements: line, code (comments and contents of literals taken out), bodies (what stood in dollar quotes).
sub statements
{
	my ($text) = @_;
	my @statements;
	my ($line, $begin, $code, @bodies) = (1, undef, '');
	my $atomic = 0;

	while ($text =~ /\G(--[^\n]*|\/\*.*?\*\/|$literal|"(?:[^"]|"")*"|(\$\w*\$)(.*?)\2|[\w.]+|\s+|.)/gcs)
	{
		my ($token, $body) = ($1, $3);
		my $lines = $token =~ tr/\n//;

		if ($token =~ /^(?:--|\/\*)/) { $code .= $token =~ /.\/\*/s ? ' nested_comment ' : ' ' }
		elsif (defined $body) { push @bodies, $body; $code .= "\$\$" }
		elsif ($token =~ /^[eE]?'/) { $code .= $token =~ /^'.*\\/s ? ' backslash_in_literal ' : "''" }
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

	return $body =~ s/(--[^\n]*|\/\*.*?\*\/|$literal)/$1 =~ m{^'.*\\}s ? ' backslash_in_literal ' : "''"/gser;
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
	$code =~ s/(\bSET|,)(\s*\w+\s*)=/$1$2,/gi if $code =~ /\bUPDATE\b/i;
	push @found, map { "function $_" } grep { !$grammar{ lc $_ } } $code =~ /(?<![\w.])([a-z_]\w*)\s*\(/gi;
	push @found, map { "type $_" } $code =~ /::\s*(?!pg_catalog\.)([a-z_][\w.]*)/gi;
	$code =~ s/::/,/g;
	push @found, map { "operator $_" } $code =~ /([-+*\/<>=~!@#%^&|`?]+)/g;
	return @found;
}

# What a script makes, as "function smartspace.f" => the statements that make it.
sub made
{
	my ($text) = @_;
	my %made;

	foreach my $statement (statements($text =~ s/^\\.*//r))
	{
		push @{ $made{ lc($1) . " $2" } }, $statement
		  if $statement->{code} =~ /^CREATE\s+(?:OR\s+REPLACE\s+)?(?:UNLOGGED\s+)?(TABLE|VIEW|FUNCTION|PROCEDURE|SEQUENCE|TYPE|DOMAIN|AGGREGATE|MATERIALIZED\s+VIEW)\s+([\w."]+)/i;
	}
	return \%made;
}

# The faults of a whole script that no single statement shows. An update changes what was made before, and nothing after it takes privileges away.
sub faults_of_update
{
	my ($text, $before) = @_;
	my ($made, $old) = (made($text), made($before));
	my %revoked;
	my @faults;

	foreach my $statement (statements($text =~ s/^\\.*//r))
	{
		next unless $statement->{code} =~ /^REVOKE\s+ALL\s+ON\s+(?:(\w+)\s+)?([\w."]+).*\bFROM\s+PUBLIC$/is;
		$revoked{ $2 =~ s/\(.*//r }++;
	}
	foreach my $object (sort keys %{$made})
	{
		my ($kind, $name) = split / /, $object;
		my $is_replaced = $made->{$object}[0]{code} =~ /^CREATE\s+OR\s+REPLACE\b/i;

		push @faults, "line $made->{$object}[0]{line}: OR REPLACE of $object, which no earlier version made" if $is_replaced && !$old->{$object};
		push @faults, "line $made->{$object}[0]{line}: PUBLIC keeps its privileges on $object" if !$is_replaced && !$revoked{$name} && $kind !~ /type|domain/;
	}
	push @faults, 'the worker is not told' unless $text =~ /\bSELECT smartspace\.cobot_wake_worker\(\);\s*\z/;
	return @faults;
}

sub control_faults
{
	my ($text, $schema) = @_;
	my %setting = $text =~ /^(\w+)\s*=\s*'?([^'\n]*?)'?\s*$/mg;
	my %wanted = (schema => $schema, relocatable => 'false', superuser => 'true', trusted => 'false');

	return map { "$_ is " . ($setting{$_} // 'missing') . ", not $wanted{$_}" } grep { ($setting{$_} // '') ne $wanted{$_} } sort keys %wanted;
}

sub faults
{
	my ($text, $schema, %options) = @_;
	my $own = qr/\Q$schema\E\./;
	my $is_update = defined $options{updates};
	my $first = $is_update ? qr/ALTER EXTENSION \w+ UPDATE(?: TO '[\w.]+')?/ : qr/CREATE EXTENSION \w+/;
	my (@faults, %made, %commented);
	my $fault = sub { push @faults, "line $_[0]{line}: $_[1]"; return };

	push @faults, 'line 1: the first line must be \echo Use "' . ($is_update ? 'ALTER EXTENSION name UPDATE' : 'CREATE EXTENSION name') . '" to load this file. \quit'
	  unless $text =~ s/^\\echo Use "$first" to load this file\. \\quit\n/\n/;
	push @faults, 'a psql command beyond the first line' if $text =~ /^\\/m;
	push @faults, faults_of_update($text, $options{updates}) if $is_update;

	foreach my $statement (statements($text))
	{
		my $code = $statement->{code};
		my $replaces = $is_update && $code =~ s/^CREATE\s+OR\s+REPLACE\b/CREATE/i;
		my $all = join "\n", $code, map { bare($_) } @{ $statement->{bodies} };

		$fault->($statement, 'it has no end') if $statement->{open};
		$fault->($statement, 'a backslash in a literal means what the settings of whoever runs it say') if $all =~ /\bbackslash_in_literal\b/;
		$fault->($statement, 'a comment in a comment') if $code =~ /\bnested_comment\b/;
		$fault->($statement, 'OR REPLACE takes over what others made') if $all =~ /\bOR\s+REPLACE\b/i;
		$fault->($statement, 'IF NOT EXISTS takes over what others made') if $all =~ /\bIF\s+NOT\s+EXISTS\b(?!\s*\()/i;
		$fault->($statement, 'a privilege for PUBLIC') if $all =~ /\bGRANT\b.*\bTO\b.*\bPUBLIC\b/is;
		$fault->($statement, 'default privileges belong to whoever installs') if $all =~ /\bALTER\s+DEFAULT\s+PRIVILEGES\b/i;

		if ($code =~ /^CREATE\s+(?:UNLOGGED\s+)?(TABLE|VIEW|FUNCTION|PROCEDURE|SEQUENCE|TYPE|DOMAIN|AGGREGATE|MATERIALIZED\s+VIEW)\s+([\w."]+)/i
			|| $code =~ /^CREATE\s+OR\s+REPLACE\s+(VIEW|FUNCTION|PROCEDURE)\s+([\w."]+)/i)
		{
			my ($kind, $name) = (lc $1, $2);

			$fault->($statement, "$kind $name is made without its schema") unless $name =~ /^$own/;
			push @{ $made{"$kind $name"} }, $statement unless $replaces;
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
		elsif ($is_update && $code =~ /^DROP\s+(?:TABLE|VIEW|FUNCTION|PROCEDURE|SEQUENCE|INDEX|TYPE|DOMAIN)\b/i)
		{
			$fault->($statement, 'DROP of something without its schema') unless $code =~ /^DROP\s+\w+\s+$own/i;
		}
		elsif ($is_update && $code =~ /^DROP\s+TRIGGER\b/i)
		{
			$fault->($statement, 'DROP of a trigger of a table without its schema') unless $code =~ /\bON\s+$own/i;
		}
		elsif ($code =~ /^(?:SELECT|DO)\b/i || $is_update && $code =~ /^(?:WITH|INSERT|UPDATE|DELETE)\b/i)
		{
			my $running = $code =~ /^DO\b/i ? bare(join "\n", @{ $statement->{bodies} }) : $code;

			$fault->($statement, "$_ is looked up by search_path") foreach unqualified_calls($running);
			$fault->($statement, "writes $_ without its schema") foreach $running =~ /\b(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+(?:ONLY\s+)?(?!$own|SET\b)([a-z_][\w.]*)/gi;
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
