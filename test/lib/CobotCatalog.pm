package CobotCatalog;

=head1 NAME

CobotCatalog - everything that an extension is made of, as text

=head1 SYNOPSIS

    use CobotCatalog;

    is(catalog_differs($t, 'updated', 'fresh'), '', 'updated equals fresh');

=cut

use strict;
use warnings;

use Carp qw(croak);
use Exporter qw(import);
use JSON::PP;

our @EXPORT = qw(catalog_of catalog_differs lines_differ);

# The parts that a catalog keeps of an object. What an extension may have besides (types,
# operators, event triggers, ...) is "unknown". Of columns the order counts, not the number:
# one that was dropped leaves a gap. Of privileges the order does not count. Of a column's
# options those that people set; a server may keep notes of its own there.
my $query = <<'SQL';
WITH member AS (
	SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
	WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND e.extname = 'smartspace_cobot'
), relation AS (
	SELECT c.*, c.oid::regclass::text AS name FROM member m JOIN pg_class c ON c.oid = m.objid WHERE m.classid = 'pg_class'::regclass
), line AS (
	SELECT format('object %s: %s', pg_describe_object(classid, objid, 0), obj_description(objid, classid::regclass::name)) AS text FROM member
	UNION ALL
	SELECT format('unknown %s', pg_describe_object(m.classid, m.objid, 0))
	FROM member m LEFT JOIN relation r ON m.classid = 'pg_class'::regclass AND r.oid = m.objid
		LEFT JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND p.oid = m.objid
	WHERE coalesce(r.relkind NOT IN ('r', 'v', 'm', 'S'), p.prokind = 'a', true)
	UNION ALL
	SELECT format('schema: owner %s, %s', nspowner::regrole, obj_description(oid, 'pg_namespace')) FROM pg_namespace WHERE nspname = 'smartspace'
	UNION ALL
	SELECT format('default privileges of %s for %s: %s', defaclrole::regrole, defaclobjtype, defaclacl) FROM pg_default_acl WHERE defaclnamespace = 'smartspace'::regnamespace
	UNION ALL
	SELECT format('extension: relocatable %s, schema %s, configuration %s', e.extrelocatable, e.extnamespace::regnamespace,
		(SELECT string_agg(format('%s [%s]', c.oid::regclass, c.condition), ', ' ORDER BY c.oid::regclass::text)
		 FROM unnest(e.extconfig, e.extcondition) AS c (oid, condition)))
	FROM pg_extension e WHERE e.extname = 'smartspace_cobot'
	UNION ALL
	SELECT format('function %s: owner %s, %s', p.oid::regprocedure, p.proowner::regrole, CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END)
	FROM member m JOIN pg_proc p ON p.oid = m.objid WHERE m.classid = 'pg_proc'::regclass
	UNION ALL
	SELECT format('relation %s: kind %s, owner %s, options %s %s, persistence %s, replica identity %s, row security %s %s, view %s', name, relkind, relowner::regrole,
		reloptions, (SELECT t.reloptions FROM pg_class t WHERE t.oid = relation.reltoastrelid), relpersistence, relreplident, relrowsecurity, relforcerowsecurity, CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(oid) END) FROM relation
	UNION ALL
	SELECT format('column %s %s.%s: %s, not null %s, default %s, identity "%s", generated "%s", collation %s, storage %s "%s", statistics %s, options %s, %s',
		r.name, row_number() OVER (PARTITION BY r.oid ORDER BY a.attnum), a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
		pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated, a.attcollation::regcollation, a.attstorage, a.attcompression, a.attstattarget,
		(SELECT array_agg(o) FROM unnest(a.attoptions) o WHERE o LIKE 'n\_distinct%'), col_description(r.oid, a.attnum))
	FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
		LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
	UNION ALL
	SELECT format('constraint %s of %s: %s, valid %s, %s', c.conname, r.name, pg_get_constraintdef(c.oid), c.convalidated, obj_description(c.oid, 'pg_constraint'))
	FROM relation r JOIN pg_constraint c ON c.conrelid = r.oid
	UNION ALL
	SELECT format('index of %s: %s, valid %s, clustered %s, replica identity %s, %s', r.name, pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisclustered, i.indisreplident, obj_description(i.indexrelid, 'pg_class'))
	FROM relation r JOIN pg_index i ON i.indrelid = r.oid
	UNION ALL
	SELECT format('trigger of %s: %s, enabled %s, %s', r.name, pg_get_triggerdef(t.oid), t.tgenabled, obj_description(t.oid, 'pg_trigger'))
	FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid AND NOT t.tgisinternal
	UNION ALL
	SELECT format('rule of %s: %s', r.name, pg_get_ruledef(w.oid)) FROM relation r JOIN pg_rewrite w ON w.ev_class = r.oid AND w.rulename <> '_RETURN'
	UNION ALL
	SELECT format('policy %s of %s: %s %s %s, using %s, check %s, %s', p.polname, r.name, p.polcmd, p.polpermissive, p.polroles::regrole[],
		pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid), obj_description(p.oid, 'pg_policy'))
	FROM relation r JOIN pg_policy p ON p.polrelid = r.oid
	UNION ALL
	SELECT format('sequence %s: %s %s %s %s %s %s, cache %s, of %s', r.name, s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcycle, s.seqcache,
		(SELECT string_agg(pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid), ', ') FROM pg_depend d
		 WHERE d.classid = 'pg_class'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass))
	FROM relation r JOIN pg_sequence s ON s.seqrelid = r.oid
	UNION ALL
	SELECT format('privileges of %s: %s', o.name, (SELECT string_agg(format('%s: %s%s by %s', CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
		a.privilege_type, CASE WHEN a.is_grantable THEN '*' END, a.grantor::regrole), ', ' ORDER BY a.grantee, a.privilege_type) FROM aclexplode(o.acl) a))
	FROM (SELECT name, relacl AS acl FROM relation
		UNION ALL SELECT format('%s.%s', r.name, a.attname), a.attacl FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attacl IS NOT NULL
		UNION ALL SELECT p.oid::regprocedure::text, p.proacl FROM member m JOIN pg_proc p ON p.oid = m.objid AND m.classid = 'pg_proc'::regclass
		UNION ALL SELECT 'schema smartspace', nspacl FROM pg_namespace WHERE nspname = 'smartspace'
		UNION ALL SELECT 'at first, ' || pg_describe_object(i.classoid, i.objoid, i.objsubid), i.initprivs
			FROM pg_init_privs i JOIN member m ON m.classid = i.classoid AND m.objid = i.objoid) o
)
SELECT json_agg(text ORDER BY text COLLATE "C") FROM line
SQL

=head2 catalog_of($t, $database, $change)

One line for each part: objects, comments, definitions, columns, constraints, indexes,
triggers, policies, privileges, and what is dumped. C<$change>: what it would be after
these statements. Dies if the extension has objects of a kind that is not compared.

=cut

sub catalog_of
{
	my ($t, $database, $change) = @_;
	my @lines = @{ JSON::PP->new->decode($t->node->safe_psql($database, join ";\n", 'BEGIN', $change // (), 'SET LOCAL search_path = pg_catalog', $query, 'ROLLBACK')) };

	croak "not compared: $_" foreach grep { /^unknown / } @lines;
	return @lines;
}

=head2 catalog_differs($t, $database, $other)

The lines that only one of two databases has, with < and >; '' if there are none.

=head2 lines_differ(\@lines, \@others)

The same, of two lists.

=cut

sub catalog_differs
{
	my ($t, $database, $other) = @_;

	return lines_differ([ catalog_of($t, $database) ], [ catalog_of($t, $other) ]);
}

sub lines_differ
{
	my ($lines, $others) = @_;
	my %left = map { $_ => 1 } @$lines;
	my %right = map { $_ => 1 } @$others;

	return join "\n", sort((map { "< $_" } grep { !$right{$_} } keys %left), (map { "> $_" } grep { !$left{$_} } keys %right));
}

1;
