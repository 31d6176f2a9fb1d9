# The install script runs as a superuser where others left things: it takes over nothing,
# calls nothing of theirs, and gives nobody anything. A check of the script's text, a check
# of that check, and an installation where somebody prepared the database.
use strict;
use warnings;

use CobotCatalog;
use CobotTest;
use InstallScript;
use PostgreSQL::Test::Utils;
use Test::More;

my $script = slurp_file('smartspace_cobot--1.0.sql');

is(join("\n", InstallScript::faults($script, 'smartspace')), '', 'the script has no fault');
cmp_ok(scalar(InstallScript::statements($script)), '>', 200, '(the check sees its statements)');
is(join(', ', InstallScript::control_faults(slurp_file('smartspace_cobot.control'), 'smartspace')), '', 'the control file has none');
foreach my $update (glob 'src/sql/updates/*.sql')
{
	my ($from) = $update =~ /--(.+)--/;

	is(join("\n", InstallScript::faults(slurp_file($update), 'smartspace', updates => slurp_file("src/sql/released/smartspace_cobot--$from.sql"))), '', "nor has $update");
}

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
	'a backslash' => [ "CREATE TABLE smartspace.t (a text CHECK (a ~ '\\S')); $table_comment", qr/backslash in a literal/ ],
	'a backslash in a body' => [ "CREATE FUNCTION smartspace.f() RETURNS text LANGUAGE sql SET search_path = pg_catalog, pg_temp AS \$\$SELECT 'a\\b'\$\$; $comment", qr/backslash in a literal/ ],
	'something behind a literal with a quote' => [ "COMMENT ON SCHEMA smartspace IS E'\\''; CREATE TABLE t (); --'", qr/table t is made without/ ],
	'a comment in a comment' => [ "/* /* */ CREATE TABLE t (); */\n", qr/comment in a comment|table t is made/ ],
	'DROP' => [ 'DROP TABLE smartspace.cobot_plan;', qr/kind of statement/ ],
	'no end' => [ "SELECT 1", qr/it has no end/ ]);

foreach my $name (sort keys %planted)
{
	my ($text, $fault) = @{ $planted{$name} };

	like(join("\n", InstallScript::faults($script . $text, 'smartspace')), $fault, "found: $name");
}
like((InstallScript::faults($script =~ s/^\\echo[^\n]*\n//r, 'smartspace'))[0], qr/first line/, 'found: no \echo');

# --- and in an update ---
my $update = <<'SQL';
\echo Use "ALTER EXTENSION smartspace_cobot UPDATE TO '1.1'" to load this file. \quit
ALTER TABLE smartspace.building ADD COLUMN floors integer;
CREATE FUNCTION smartspace.cobot_floors(building bigint) RETURNS integer LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS 'SELECT b.floors FROM smartspace.building b WHERE b.id = building';
COMMENT ON FUNCTION smartspace.cobot_floors(bigint) IS 'how many floors a building has';
REVOKE ALL ON FUNCTION smartspace.cobot_floors(bigint) FROM PUBLIC;
CREATE OR REPLACE FUNCTION smartspace.cobot_ago(moment timestamptz) RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS 'SELECT NULL';
DROP INDEX smartspace.cobot_sync_task_due_at_idx;
UPDATE smartspace.building SET floors = 1, name = 'x' WHERE id OPERATOR(pg_catalog.=) 1;
SELECT smartspace.cobot_wake_worker();
SQL
my %planted_update = (
	'no first line' => [ sub { s/^\\echo[^\n]*\n// }, qr/first line must be .*ALTER EXTENSION/ ],
	'the first line of an installation' => [ sub { s/"[^"]*"/"CREATE EXTENSION smartspace_cobot"/ }, qr/first line must be .*ALTER EXTENSION/ ],
	'OR REPLACE of something new' => [ sub { s/cobot_ago/cobot_before/ }, qr/OR REPLACE of function smartspace.cobot_before/ ],
	'OR REPLACE without schema' => [ sub { s/smartspace.cobot_ago/cobot_ago/ }, qr/function cobot_ago is made without/ ],
	'no REVOKE' => [ sub { s/REVOKE.*\n// }, qr/PUBLIC keeps its privileges on function smartspace.cobot_floors/ ],
	'REVOKE of one privilege' => [ sub { s/REVOKE ALL/REVOKE SELECT/ }, qr/PUBLIC keeps/ ],
	'no comment' => [ sub { s/COMMENT.*\n// }, qr/cobot_floors has no comment/ ],
	'DROP elsewhere' => [ sub { s/DROP INDEX smartspace\./DROP INDEX / }, qr/DROP of something/ ],
	'UPDATE elsewhere' => [ sub { s/UPDATE smartspace\./UPDATE / }, qr/writes building/ ],
	'an operator' => [ sub { s/OPERATOR\(pg_catalog\.=\)/=/ }, qr/operator =/ ],
	'IF NOT EXISTS' => [ sub { s/ADD COLUMN/ADD COLUMN IF NOT EXISTS/ }, qr/IF NOT EXISTS/ ],
	'a worker that is not told' => [ sub { s/SELECT smartspace.cobot_wake_worker.*// }, qr/worker is not told/ ]);

is(join("\n", InstallScript::faults($update, 'smartspace', updates => $script)), '', 'an update as it should be has no fault');
foreach my $name (sort keys %planted_update)
{
	my ($plant, $fault) = @{ $planted_update{$name} };
	local $_ = $update;

	$plant->();
	isnt($_, $update, "(planted: $name)");
	like(join("\n", InstallScript::faults($_, 'smartspace', updates => $script)), $fault, "found in an update: $name");
}
foreach my $setting ([ 'relocatable = true', qr/relocatable is true/ ], [ "schema = 'public'", qr/schema is public/ ], [ 'trusted = true', qr/trusted is true/ ], [ 'superuser = false', qr/superuser is false/ ])
{
	my ($name) = split / /, $setting->[0];

	like(join("\n", InstallScript::control_faults(slurp_file('smartspace_cobot.control') =~ s/^$name = .*/$setting->[0]/mr, 'smartspace')), $setting->[1], "found in the control file: $setting->[0]");
}

# --- and is not taken in by what only looks so ---
foreach my $text ("COMMENT ON SCHEMA smartspace IS 'CREATE OR REPLACE x; GRANT x TO PUBLIC';", "-- CREATE TABLE IF NOT EXISTS t ();\n", "/* CREATE TABLE t (); */\n",
	"CREATE TABLE smartspace.t (a text DEFAULT 'it''s; CREATE TABLE x ();'); $table_comment", "CREATE TABLE smartspace.t (a text DEFAULT E'\\\\ \\'; CREATE TABLE x ();'); $table_comment", 'DO $a$BEGIN PERFORM pg_catalog.now(); /* $$ ; */ END$a$;')
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
CREATE FUNCTION public.less(smallint, interval) RETURNS boolean $hostile;
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
	["CREATE TYPE smartspace.mood AS ENUM ('x')", 'a type'], ['CREATE OPERATOR smartspace.<= (LEFTARG = smallint, RIGHTARG = interval, FUNCTION = public.less)', 'an operator'],
	['CREATE COLLATION smartspace."C" FROM "POSIX"', 'a collation'])
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

# --- the settings that the owner of a database gives to all who come change nothing ---
$t->sql('CREATE DATABASE plain OWNER evil; CREATE DATABASE odd OWNER evil');
my $settings = $t->try('SET SESSION AUTHORIZATION evil; ' . join '; ', map { "ALTER DATABASE odd SET $_" } 'standard_conforming_strings = off', 'escape_string_warning = off', 'quote_all_identifiers = on',
	'transform_null_equals = on', "\"DateStyle\" = 'German, DMY'", 'IntervalStyle = sql_standard', 'extra_float_digits = -15', 'bytea_output = escape', "timezone = 'Australia/Lord_Howe'",
	'search_path = public, pg_catalog', 'check_function_bodies = off', 'array_nulls = off', 'xmloption = document', 'default_transaction_isolation = serializable', 'plan_cache_mode = force_generic_plan', 'row_security = off');
ok($settings->{ok}, 'the owner may set them') or diag $settings->{err};
$t->node->safe_psql($_, 'CREATE EXTENSION smartspace_cobot') foreach qw(plain odd);
{
	local $ENV{PGOPTIONS} = '-c quote_all_identifiers=off -c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=1 -c bytea_output=hex';

	is(catalog_differs($t, 'plain', 'odd'), '', 'what is made is the same');
}
my $limited = $t->try(<<"SQL", dbname => 'odd');
SELECT smartspace.cobot_create_integration('loft', 'demo-space', sync_individual_access => true), smartspace.cobot_create_integration('other', 'other-space');
SELECT state FROM smartspace.cobot_connect_token(1, 'admin-token');
INSERT INTO smartspace.user_group (name, external_identifier) VALUES ('door', 'a b');
INSERT INTO smartspace.user_group_assignment (plan_id, user_group_id) SELECT id, 1 FROM smartspace.cobot_plan;
SELECT result FROM smartspace.cobot_sync(1);
SELECT result, members_changed FROM smartspace.cobot_sync(1);
CREATE ROLE "odd ""one" LOGIN;
SELECT smartspace.cobot_grant_role('"odd ""one"', 'operate', ARRAY[2]);
SET SESSION AUTHORIZATION "odd ""one";
SET row_security = on;
SELECT name FROM smartspace.cobot_integration;
SQL
ok($limited->{ok}, 'and it works there') or diag $limited->{err};
is($limited->{out}, qq(1|2\nconnected\nok_with_problems\nok_with_problems|0\n"odd ""one": operate in "other"\nother), 'as anywhere');

done_testing();
