# The install script runs as a superuser where others left things: it takes over nothing,
# calls nothing of theirs, and gives nobody anything. A check of the script's text, a check
# of that check, and an installation where somebody prepared the database.
use strict;
use warnings;

use CobotTest;
use InstallScript;
use PostgreSQL::Test::Utils;
use Test::More;

my $script = slurp_file('smartspace_cobot--1.0.sql');

is(join("\n", InstallScript::faults($script, 'smartspace')), '', 'the script has no fault');
cmp_ok(scalar(InstallScript::statements($script)), '>', 200, '(the check sees its statements)');

# --- the check finds what is planted ---
my $comment = "COMMENT ON FUNCTION smartspace.f() IS 'x';";
my $table_comment = "COMMENT ON TABLE smartspace.t IS 'x';";
my %planted = (
	'OR REPLACE' => [ "CREATE OR REPLACE FUNCTION smartspace.f() RETURNS int LANGUAGE c AS 'x', 'x'; $comment", qr/OR REPLACE/ ],
	'OR REPLACE, in other words' => [ "CREATE\n\tor  replace VIEW smartspace.v AS SELECT 1; COMMENT ON VIEW smartspace.v IS 'x';", qr/OR REPLACE/ ],
	'IF NOT EXISTS' => [ "CREATE TABLE IF NOT EXISTS smartspace.t (); $table_comment", qr/IF NOT EXISTS/ ],
	'OR REPLACE in a block' => [ "DO \$\$BEGIN CREATE OR REPLACE VIEW smartspace.v AS SELECT 1; END\$\$;", qr/OR REPLACE/ ],
	'a table without schema' => [ 'CREATE TABLE t ();', qr/table t is made without its schema/ ],
	'a table of public' => [ 'CREATE TABLE public.t ();', qr/without its schema/ ],
	'a function without schema' => [ "CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'x', 'x';", qr/function f is made without/ ],
	'a type without schema' => [ "CREATE TYPE t AS ENUM ('a');", qr/without its schema/ ],
	'an index elsewhere' => [ 'CREATE INDEX i ON t (a);', qr/index on a table without/ ],
	'a trigger elsewhere' => [ 'CREATE TRIGGER r AFTER INSERT ON t EXECUTE FUNCTION smartspace.f();', qr/trigger on a table without/ ],
	'a trigger function elsewhere' => [ 'CREATE TRIGGER r AFTER INSERT ON smartspace.t EXECUTE FUNCTION f();', qr/trigger function without/ ],
	'ALTER elsewhere' => [ 'ALTER TABLE t ADD c int;', qr/ALTER of something/ ],
	'a comment elsewhere' => [ "COMMENT ON TABLE t IS 'x';", qr/comment on table t/ ],
	'a definer without path' => [ "CREATE FUNCTION smartspace.f() RETURNS int LANGUAGE c SECURITY DEFINER AS 'x', 'x'; $comment", qr/rights of its owner/ ],
	'a definer with another path' => [ "CREATE FUNCTION smartspace.f() RETURNS int LANGUAGE c SECURITY DEFINER SET search_path = public AS 'x', 'x'; $comment", qr/rights of its owner/ ],
	'SQL without path' => [ "CREATE FUNCTION smartspace.f() RETURNS int LANGUAGE sql AS \$\$SELECT 1\$\$; $comment", qr/search_path of its caller/ ],
	'SQL that reads by path' => [ "CREATE FUNCTION smartspace.f() RETURNS int LANGUAGE sql SET search_path = pg_catalog, pg_temp AS \$\$SELECT 1 FROM t\$\$; $comment", qr/reads t without/ ],
	'a bound body that reads by path' => [ "CREATE FUNCTION smartspace.f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1 FROM t; END; $comment", qr/reads t without/ ],
	'a view that reads by path' => [ "CREATE VIEW smartspace.v AS SELECT 1 FROM smartspace.a JOIN b ON true; COMMENT ON VIEW smartspace.v IS 'x';", qr/reads b without/ ],
	'an operator in a block' => [ "DO \$\$BEGIN IF 1 = 1 THEN NULL; END IF; END\$\$;", qr/operator =/ ],
	'an operator in SELECT' => [ "SELECT 1 OPERATOR(pg_catalog.+) 1 || 'x';", qr/operator \|\|/ ],
	'a function in a block' => [ "DO \$x\$BEGIN PERFORM now(); END\$x\$;", qr/function now/ ],
	'a function in SELECT' => [ "SELECT set_config('a', 'b', false);", qr/function set_config/ ],
	'a type in SELECT' => [ "SELECT '1'::bigint;", qr/type bigint/ ],
	'a relation in SELECT' => [ 'SELECT FROM pg_class;', qr/reads pg_class/ ],
	'GRANT to PUBLIC' => [ 'GRANT SELECT ON smartspace.t TO PUBLIC;', qr/privilege for PUBLIC/ ],
	'GRANT to PUBLIC in a block' => [ 'DO $$BEGIN GRANT USAGE ON SCHEMA smartspace TO x, PUBLIC; END$$;', qr/privilege for PUBLIC/ ],
	'GRANT at all' => [ 'GRANT SELECT ON smartspace.t TO x;', qr/kind of statement/ ],
	'default privileges' => [ 'ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO x;', qr/default privileges/ ],
	'a function without comment' => [ "CREATE FUNCTION smartspace.f() RETURNS int LANGUAGE c AS 'x', 'x';", qr/function smartspace.f has no comment/ ],
	'one of two without comment' => [ "CREATE FUNCTION smartspace.f() RETURNS int LANGUAGE c AS 'x', 'x'; CREATE FUNCTION smartspace.f(int) RETURNS int LANGUAGE c AS 'x', 'x'; $comment", qr/no comment/ ],
	'a view without comment' => [ 'CREATE VIEW smartspace.v AS SELECT 1;', qr/view smartspace.v has no comment/ ],
	'a role' => [ 'CREATE ROLE x;', qr/kind of statement/ ],
	'an extension' => [ 'CREATE EXTENSION x;', qr/kind of statement/ ],
	'psql commands' => [ "\n\\i other.sql\n", qr/psql command/ ],
	'no end' => [ "SELECT 1", qr/it has no end/ ]);

foreach my $name (sort keys %planted)
{
	my ($text, $fault) = @{ $planted{$name} };

	like(join("\n", InstallScript::faults($script . $text, 'smartspace')), $fault, "found: $name");
}
like((InstallScript::faults($script =~ s/^\\echo[^\n]*\n//r, 'smartspace'))[0], qr/first line/, 'found: no \echo');

# --- and is not taken in by what only looks so ---
foreach my $text ("COMMENT ON SCHEMA smartspace IS 'CREATE OR REPLACE x; GRANT x TO PUBLIC';", "-- CREATE TABLE IF NOT EXISTS t ();\n", "/* CREATE TABLE t (); */\n",
	"CREATE TABLE smartspace.t (a text DEFAULT 'it''s; CREATE TABLE x ();'); $table_comment", 'DO $a$BEGIN PERFORM pg_catalog.now(); /* $$ ; */ END$a$;')
{
	is(join("\n", InstallScript::faults($script . $text, 'smartspace')), '', "no fault: $text");
}

# --- installed where somebody prepared the database ---
my $t = CobotTest->new(members => 3, extension => 0);
my $hostile = "LANGUAGE plpgsql AS \$\$BEGIN RAISE EXCEPTION 'hostile'; END\$\$";

$t->sql('CREATE ROLE evil LOGIN; ALTER DATABASE postgres OWNER TO evil; ALTER SCHEMA public OWNER TO evil; CREATE ROLE friend;'
	  . ' ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO friend; ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC, friend');
my $prepared = $t->try(<<"SQL");
SET SESSION AUTHORIZATION evil;
CREATE TYPE public.trick AS (a int);
CREATE TYPE public.cobot_role AS ENUM ('look', 'operate');
CREATE DOMAIN public.regrole AS text CHECK (VALUE IS NULL);
CREATE FUNCTION public.trick_of(text) RETURNS public.trick $hostile;
CREATE FUNCTION public.number_of(public.trick) RETURNS bigint $hostile;
CREATE CAST (public.trick AS bigint) WITH FUNCTION public.number_of(public.trick) AS IMPLICIT;
CREATE FUNCTION public.cobot_sees(bigint) RETURNS boolean $hostile;
CREATE FUNCTION public.cobot_sees(text) RETURNS boolean $hostile;
CREATE FUNCTION public.pg_extension_config_dump(text, text) RETURNS void $hostile;
CREATE FUNCTION public.cobot_wake_worker() RETURNS boolean $hostile;
CREATE FUNCTION public.format(text, anyelement) RETURNS text $hostile;
CREATE FUNCTION public.same(name, text) RETURNS boolean $hostile;
CREATE FUNCTION public.same(name, name) RETURNS boolean $hostile;
CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = text, FUNCTION = public.same);
CREATE OPERATOR public.<> (LEFTARG = name, RIGHTARG = name, FUNCTION = public.same);
CREATE TABLE public.cobot_integration (id bigint);
CREATE TABLE public.pg_namespace (nspname name);
SQL
ok($prepared->{ok}, 'the database is prepared') or diag $prepared->{err};
is($t->try('SET SESSION AUTHORIZATION evil; CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN END$$; CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION e()')->{sqlstate},
	'42501', '(event triggers are for superusers)');

my $path = 'SET search_path = public, pg_temp, pg_catalog;';
foreach my $left (['CREATE FUNCTION smartspace.cobot_sees(text, boolean) RETURNS boolean ' . $hostile, 'a function'], ['CREATE TABLE smartspace.cobot_role (role text)', 'a table'],
	["CREATE TYPE smartspace.mood AS ENUM ('x')", 'a type'])
{
	$t->sql("CREATE SCHEMA smartspace; GRANT ALL ON SCHEMA smartspace TO evil; SET ROLE evil; $left->[0]");
	my $answer = $t->try("$path CREATE EXTENSION smartspace_cobot");
	is($answer->{sqlstate}, '55000', "a schema with $left->[1] of somebody else is refused");
	like($answer->{err}, qr/schema "smartspace" is not empty.*HINT:  Drop or move/s, 'in words');
	$t->sql('DROP SCHEMA smartspace CASCADE');
}
$t->sql('CREATE SCHEMA smartspace; GRANT ALL ON SCHEMA smartspace TO evil');
my $answer = $t->try("$path CREATE EXTENSION smartspace_cobot");
ok($answer->{ok}, 'it installs, with all that on the search_path') or diag $answer->{err};
is($t->sql("SELECT string_agg(a.grantee::regrole::text || ' ' || a.privilege_type, ', ') FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname = 'smartspace' AND a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner"),
	'', 'nobody else makes anything in its schema');
is($t->sql(<<'SQL'), '', 'nothing of theirs belongs to the extension');
SELECT string_agg(pg_describe_object(d.classid, d.objid, 0), ', ')
FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'smartspace_cobot'
	LEFT JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
	LEFT JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
	LEFT JOIN pg_type y ON d.classid = 'pg_type'::regclass AND y.oid = d.objid
WHERE d.deptype = 'e' AND (coalesce(c.relnamespace, p.pronamespace, y.typnamespace) IS DISTINCT FROM 'smartspace'::regnamespace
	OR coalesce(c.relowner, p.proowner, y.typowner) <> e.extowner)
SQL
is($t->sql(<<'SQL'), '', 'and nothing of the extension depends on them');
SELECT string_agg(pg_describe_object(d.classid, d.objid, 0) || ' on ' || pg_describe_object(d.refclassid, d.refobjid, 0), ', ')
FROM pg_depend d JOIN pg_depend e ON e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e'
	LEFT JOIN pg_proc p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
	LEFT JOIN pg_class c ON d.refclassid = 'pg_class'::regclass AND c.oid = d.refobjid
	LEFT JOIN pg_type y ON d.refclassid = 'pg_type'::regclass AND y.oid = d.refobjid
WHERE coalesce(p.pronamespace, c.relnamespace, y.typnamespace) = 'public'::regnamespace
SQL
is($t->sql("SELECT string_agg(p.oid::regprocedure::text, ', ') FROM pg_proc p, aclexplode(p.proacl) a WHERE p.pronamespace = 'smartspace'::regnamespace AND a.grantee = 0"), '',
	'PUBLIC may call nothing, whatever the default privileges are');
is($t->sql("SELECT string_agg(c.oid::regclass::text, ', ') FROM pg_class c, aclexplode(c.relacl) a WHERE c.relnamespace = 'smartspace'::regnamespace AND a.grantee = 0"), '', 'and read nothing');
is($t->sql("SELECT string_agg(c.relname, ', ') FROM pg_class c, aclexplode(c.relacl) a WHERE c.relnamespace = 'smartspace'::regnamespace AND a.grantee = 'friend'::regrole AND c.relname IN ('cobot_secret', 'cobot_webhook_subscription', 'cobot_role')"),
	'', 'nor does a friend get the secrets, or what limits roles');
foreach my $statement ("SELECT smartspace.cobot_grant_role('friend', 'operate')", "SELECT smartspace.cobot_revoke_role('friend')", 'TABLE smartspace.cobot_status', 'SELECT smartspace.cobot_sees(NULL)')
{
	my $answer = $t->try("$path $statement");

	ok($answer->{ok}, "works with all that on the search_path: $statement") or diag $answer->{err};
}

done_testing();
