# "Updated equals fresh" (121_upgrade.pl) says nothing unless every way in which an update
# script can forget something shows. Here each of them is made, and must show.
use strict;
use warnings;

use CobotCatalog;
use CobotTest;
use Test::More;

my $t = CobotTest->new(members => 1);
my @base = catalog_of($t, 'postgres');

is(catalog_differs($t, 'postgres', 'postgres'), '', 'a database equals itself');
cmp_ok(@base, '>', 500, '(that is many parts)');

my $function = 'smartspace.cobot_in_words(tstzrange, text)';
my $extension = 'ALTER EXTENSION smartspace_cobot';
my %forgotten = (
	'a table' => [ "CREATE TABLE smartspace.room (id bigint); $extension ADD TABLE smartspace.room", qr/^> object table smartspace\.room/m ],
	'a column' => [ 'ALTER TABLE smartspace.building ADD floors integer', qr/^> column smartspace\.building \d+\.floors: integer/m ],
	'a column that is gone' => [ 'ALTER TABLE smartspace.cobot_login_event DROP email', qr/^< column smartspace\.cobot_login_event \d+\.email/m ],
	'the order of columns' => [ 'ALTER TABLE smartspace.cobot_login_event DROP email; ALTER TABLE smartspace.cobot_login_event ADD email text', qr/^> column smartspace\.cobot_login_event/m ],
	'the type of a column' => [ 'ALTER TABLE smartspace.cobot_login_event ALTER email TYPE varchar(9)', qr/^> column .*character varying\(9\)/m ],
	'the collation of a column' => [ 'ALTER TABLE smartspace.cobot_login_event ALTER email TYPE text COLLATE "C"', qr/^> column .*collation "C"/m ],
	'NOT NULL' => [ 'ALTER TABLE smartspace.building ALTER name DROP NOT NULL', qr/^> column .*not null f/m ],
	'a default' => [ "ALTER TABLE smartspace.building ALTER name SET DEFAULT 'x'", qr/^> column .*default 'x'/m ],
	'what an identity is' => [ 'ALTER TABLE smartspace.building ALTER id SET GENERATED ALWAYS', qr/^> column .*identity "a"/m ],
	'how a column is stored' => [ 'ALTER TABLE smartspace.building ALTER name SET STORAGE EXTERNAL', qr/^> column .*storage e/m ],
	'how a column is compressed' => [ 'ALTER TABLE smartspace.building ALTER name SET COMPRESSION pglz', qr/^> column .*"p"/m ],
	'the statistics of a column' => [ 'ALTER TABLE smartspace.building ALTER name SET STATISTICS 77', qr/^> column .*statistics 77/m ],
	'a comment on a column' => [ "COMMENT ON COLUMN smartspace.building.name IS 'else'", qr/^> column .*, else$/m ],
	'a privilege for a column' => [ 'GRANT SELECT (name) ON smartspace.building TO PUBLIC', qr/^> privileges of smartspace\.building\.name: PUBLIC/m ],
	'a constraint' => [ 'ALTER TABLE smartspace.building ADD CONSTRAINT x CHECK (id > 0)', qr/^> constraint x of smartspace\.building/m ],
	'a constraint that was not checked' => [ 'ALTER TABLE smartspace.building ADD CONSTRAINT x CHECK (id > 0) NOT VALID', qr/^> constraint x .*valid f/m ],
	'an exclusion' => [ 'ALTER TABLE smartspace.building ADD CONSTRAINT x EXCLUDE (id WITH =)', qr/^> constraint x .*EXCLUDE/m ],
	'a foreign key' => [ 'ALTER TABLE smartspace.building ADD CONSTRAINT x FOREIGN KEY (id) REFERENCES smartspace.building DEFERRABLE', qr/^> constraint x .*DEFERRABLE/m ],
	'a comment on a constraint' => [ "COMMENT ON CONSTRAINT building_pkey ON smartspace.building IS 'else'", qr/^> constraint building_pkey .*, else$/m ],
	'an index' => [ 'CREATE INDEX x ON smartspace.building (name)', qr/^> index of smartspace\.building: CREATE INDEX x/m ],
	'an index that is gone' => [ 'DROP INDEX smartspace.building_integration_id_idx', qr/^< index of smartspace\.building/m ],
	'the method of an index' => [ 'DROP INDEX smartspace.building_integration_id_idx; CREATE INDEX building_integration_id_idx ON smartspace.building USING hash (integration_id)', qr/^> index .*USING hash/m ],
	'a comment on an index' => [ "COMMENT ON INDEX smartspace.building_integration_id_idx IS 'else'", qr/^> index .*, else$/m ],
	'a trigger' => [ 'CREATE TRIGGER x BEFORE DELETE ON smartspace.building EXECUTE FUNCTION smartspace.cobot_entry_trigger()', qr/^> trigger of smartspace\.building: CREATE TRIGGER x/m ],
	'a trigger that is off' => [ 'ALTER TABLE smartspace.cobot_membership DISABLE TRIGGER access_follow_insert', qr/^> trigger .*enabled D/m ],
	'a comment on a trigger' => [ "COMMENT ON TRIGGER access_follow_insert ON smartspace.cobot_membership IS 'else'", qr/^> trigger .*, else$/m ],
	'a rule' => [ 'CREATE RULE x AS ON DELETE TO smartspace.building DO INSTEAD NOTHING', qr/^> rule of smartspace\.building/m ],
	'the options of a table' => [ 'ALTER TABLE smartspace.building SET (fillfactor = 50)', qr/^> relation smartspace\.building: .*fillfactor=50/m ],
	'the options of its long values' => [ 'ALTER TABLE smartspace.building SET (toast.autovacuum_enabled = off)', qr/^> relation smartspace\.building: .*autovacuum_enabled=off/m ],
	'the replica identity' => [ 'ALTER TABLE smartspace.building REPLICA IDENTITY FULL', qr/^> relation .*replica identity f/m ],
	'UNLOGGED' => [ 'ALTER TABLE smartspace.cobot_entry_problem SET UNLOGGED', qr/^> relation .*persistence u/m ],
	'row security' => [ 'ALTER TABLE smartspace.building ENABLE ROW LEVEL SECURITY', qr/^> relation .*row security t f/m ],
	'row security for the owner' => [ 'ALTER TABLE smartspace.building FORCE ROW LEVEL SECURITY', qr/^> relation .*row security f t/m ],
	'a policy' => [ 'CREATE POLICY x ON smartspace.building USING (true)', qr/^> policy x of smartspace\.building: .*using true/m ],
	'a comment on a policy' => [ "CREATE POLICY x ON smartspace.building USING (true); COMMENT ON POLICY x ON smartspace.building IS 'else'", qr/^> policy x .*, else$/m ],
	'a view' => [ 'CREATE OR REPLACE VIEW smartspace.cobot_freshness AS SELECT *, 1 AS one FROM (' . $t->sql("SELECT rtrim(pg_get_viewdef('smartspace.cobot_freshness'), ';')") . ') v', qr/^> relation smartspace\.cobot_freshness/m ],
	'the options of a view' => [ 'ALTER VIEW smartspace.cobot_freshness SET (security_barrier)', qr/^> relation .*security_barrier/m ],
	'a comment on a view' => [ "COMMENT ON VIEW smartspace.cobot_freshness IS 'else'", qr/^> object view smartspace\.cobot_freshness: else$/m ],
	'what a function does' => [ 'CREATE OR REPLACE FUNCTION smartspace.cobot_ago(moment timestamptz) RETURNS text LANGUAGE sql AS $$SELECT 1::text$$', qr/^> function smartspace\.cobot_ago\(/m ],
	'the symbol of a function' => [ "UPDATE pg_proc SET prosrc = 'other' WHERE proname = 'cobot_library_version'", qr/^> function smartspace\.cobot_library_version/m ],
	'the path of a function' => [ "ALTER FUNCTION $function SET search_path = public", qr/^> function .*SET search_path TO 'public'/ms ],
	'whose rights a function has' => [ "ALTER FUNCTION $function SECURITY DEFINER", qr/SECURITY DEFINER/ ],
	'how often a function is called' => [ "ALTER FUNCTION $function VOLATILE; ALTER FUNCTION $function STRICT", qr/^> function /m ],
	'the cost of a function' => [ "ALTER FUNCTION $function COST 7", qr/COST 7/ ],
	'in which processes a function runs' => [ "ALTER FUNCTION $function PARALLEL RESTRICTED", qr/PARALLEL RESTRICTED/ ],
	'a default of an argument' => [ 'CREATE OR REPLACE FUNCTION smartspace.cobot_ago(moment timestamptz DEFAULT now()) RETURNS text LANGUAGE sql AS $$SELECT 1::text$$', qr/^> function .*DEFAULT now/m ],
	'a function that is gone' => [ "$extension DROP FUNCTION smartspace.cobot_library_version(); DROP FUNCTION smartspace.cobot_library_version()", qr/^< function smartspace\.cobot_library_version/m ],
	'a comment on a function' => [ "COMMENT ON FUNCTION $function IS 'else'", qr/^> object function .*: else$/m ],
	'REVOKE of a function' => [ "GRANT EXECUTE ON FUNCTION $function TO PUBLIC", qr/^> privileges of .*PUBLIC: EXECUTE/m ],
	'REVOKE of a table' => [ 'GRANT SELECT ON smartspace.building TO PUBLIC', qr/^> privileges of smartspace\.building: .*PUBLIC: SELECT/m ],
	'the right to grant' => [ 'CREATE ROLE x; GRANT SELECT ON smartspace.building TO x WITH GRANT OPTION', qr/^> privileges of smartspace\.building: .*x: SELECT\*/m ],
	'REVOKE of the schema' => [ 'GRANT CREATE ON SCHEMA smartspace TO PUBLIC', qr/^> privileges of schema smartspace: .*PUBLIC: CREATE/m ],
	'privileges by default' => [ 'ALTER DEFAULT PRIVILEGES IN SCHEMA smartspace GRANT SELECT ON TABLES TO PUBLIC', qr/^> default privileges of .* for r/m ],
	'privileges that a dump takes for given' => [ "DELETE FROM pg_init_privs WHERE objoid = 'smartspace.building'::regclass", qr/^< privileges of at first, table smartspace\.building/m ],
	'the owner of a table' => [ 'CREATE ROLE x; ALTER TABLE smartspace.building OWNER TO x', qr/^> relation smartspace\.building: .*owner x/m ],
	'the owner of a function' => [ "CREATE ROLE x; ALTER FUNCTION $function OWNER TO x", qr/^> function .*owner x/m ],
	'a comment on the schema' => [ "COMMENT ON SCHEMA smartspace IS 'else'", qr/^> schema: .*else$/m ],
	'the size of a sequence' => [ 'ALTER SEQUENCE smartspace.building_id_seq MAXVALUE 99', qr/^> sequence .* 99 /m ],
	'the cache of a sequence' => [ 'ALTER SEQUENCE smartspace.building_id_seq CACHE 5', qr/^> sequence .*cache 5/m ],
	'whose a sequence is' => [ "CREATE SEQUENCE smartspace.s; $extension ADD SEQUENCE smartspace.s", qr/^> sequence smartspace\.s: .*of $/m ],
	'that a table is dumped' => [ 'UPDATE pg_extension SET extconfig = extconfig[2:], extcondition = extcondition[2:] WHERE extname = \'smartspace_cobot\'', qr/^> extension: /m ],
	'which rows are dumped' => [ 'UPDATE pg_extension SET extcondition[1] = \'WHERE false\' WHERE extname = \'smartspace_cobot\'', qr/^> extension: .*\[WHERE false\]/m ],
	'that something is a part' => [ "$extension DROP VIEW smartspace.cobot_problem", qr/^< object view smartspace\.cobot_problem/m ]);

foreach my $what (sort keys %forgotten)
{
	my ($change, $shows) = @{ $forgotten{$what} };

	like(lines_differ(\@base, [ catalog_of($t, 'postgres', $change) ]), $shows, "it shows: $what");
}

# --- of what nobody has yet, nothing is compared, and that is no equality ---
foreach my $unknown ([ 'type', "CREATE TYPE smartspace.mood AS ENUM ('good'); $extension ADD TYPE smartspace.mood" ],
	[ 'type', "CREATE DOMAIN smartspace.label AS text; $extension ADD DOMAIN smartspace.label" ],
	[ 'event trigger', "CREATE FUNCTION smartspace.e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER e ON sql_drop EXECUTE FUNCTION smartspace.e(); $extension ADD EVENT TRIGGER e" ],
	[ 'function', "CREATE AGGREGATE smartspace.total(bigint) (SFUNC = int8pl, STYPE = bigint); $extension ADD AGGREGATE smartspace.total(bigint)" ],
	[ 'operator', "CREATE OPERATOR smartspace.+ (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = int8pl); $extension ADD OPERATOR smartspace.+ (bigint, bigint)" ])
{
	my ($kind, $change) = @$unknown;

	ok(!eval { catalog_of($t, 'postgres', $change); 1 }, "a new kind of object is no equality: $kind");
	like($@, qr/^not compared: unknown $kind/, '... and is named');
}
done_testing();
