# However the library is loaded, and whatever lies about in the database: it installs
# where it may, does what it should, and only a superuser leads it elsewhere.
use strict;
use warnings;

use CobotMirror;
use CobotTest;
use IO::Select;
use IO::Socket::INET;
use Test::More;

# A member as the test server has it, for every way of loading.
sub check_works
{
	my ($name, $t) = @_;

	subtest $name => sub {
		my $space = $t->connect_space('demo-space');
		like($t->sync($space)->{result}, qr/^ok/, 'a synchronisation is fine');
		my $group = $t->group('Door');
		$t->assign($_->{cobot_id}, $group) foreach $t->rows('SELECT cobot_id FROM smartspace.cobot_plan');
		cmp_ok($t->sql("SELECT count(*) FROM smartspace.access_now WHERE user_group = 'Door'"), '>', 0, 'assignments give access');
		is(mirror_differs($t, $space, 'demo-space'), '', 'the mirror equals Cobot');
		is($t->grants_differ, 0, 'the grants equal their definition');

		# each of these is the first statement of its session
		foreach my $statement (
			'SELECT library FROM smartspace.cobot_library_version()', "SELECT smartspace.cobot_arm($space)",
			"SELECT smartspace.cobot_access_range(now(), '2026-01-01', NULL, 'UTC')",
			"SELECT count(*) FROM smartspace.cobot_field_tokens('a,b')",
			'SELECT count(*) FROM smartspace.cobot_status', 'SELECT count(*) FROM smartspace.cobot_problem', 'SELECT count(*) FROM smartspace.access_due',
			"INSERT INTO smartspace.user_group (name, external_identifier) VALUES ('x', 'x')", "DELETE FROM smartspace.user_group WHERE name = 'x'",
			'UPDATE smartspace.user_group_assignment SET user_group_id = user_group_id',
			'UPDATE smartspace.cobot_integration SET sync_plan_access = NOT sync_plan_access', 'UPDATE smartspace.cobot_integration SET sync_plan_access = NOT sync_plan_access',
			'SELECT * FROM smartspace.cobot_recompute_access()', "SELECT smartspace.cobot_create_integration('x', 'x')",
			"SELECT smartspace.cobot_ensure_custom_field($space)", "SELECT smartspace.cobot_sync($space)",
			'SET smartspace_cobot.request_timeout = 1000', "LOAD 'smartspace_cobot'")
		{
			my $answer = $t->try($statement);
			ok($answer->{ok}, "first in a session: $statement") or diag $answer->{err};
		}
		is($t->grants_differ, 0, 'the grants equal their definition');
	};
	return;
}

# --- loaded by whoever calls it, and loaded by the server ---
my $t = CobotTest->new(members => 5);
check_works('without shared_preload_libraries', $t);
my $preloaded = CobotTest->new(members => 5, conf => "shared_preload_libraries = 'smartspace_cobot'");
check_works('with shared_preload_libraries', $preloaded);
my ($space) = $t->sql("SELECT id FROM smartspace.cobot_integration WHERE subdomain = 'demo-space'");

# --- settings ---
my $load = "LOAD 'smartspace_cobot';";
my $show = 'SHOW smartspace_cobot.request_timeout';
is($t->sql("$load $show"), '2min', 'a setting has its default');
is($t->sql("SET smartspace_cobot.request_timeout = '3s'; $load $show"), '3s', 'set before the library is loaded');
is($t->sql("$load SET smartspace_cobot.request_timeout = '4s'; $show"), '4s', 'and after');
like($t->try("SET smartspace_cobot.request_timeout = 'soon'; $load $show")->{err}, qr/^(?:psql:\S+ )?WARNING:  22023: invalid value for parameter "smartspace_cobot.request_timeout": "soon"/m,
	'nonsense set before is a warning');
is($t->try("$load SET smartspace_cobot.request_timeout = 'soon'")->{sqlstate}, '22023', 'and an error after');
is($t->try("$load SET smartspace_cobot.no_such_thing = 1")->{sqlstate}, '42602', 'so is a setting that there is not');
$t->sql("$load ALTER SYSTEM SET smartspace_cobot.request_timeout = '5s'");
$t->node->reload;
$t->wait_until(sub { $t->sql("$load $show") eq '5s' }, 'ALTER SYSTEM takes effect');
is($t->sql("$load $show"), '5s', 'ALTER SYSTEM');
$t->sql("$load ALTER SYSTEM RESET smartspace_cobot.request_timeout");
$t->node->reload;
$t->wait_until(sub { $t->sql("$load $show") eq '2min' }, 'ALTER SYSTEM RESET takes effect');
$t->sql("CREATE ROLE app LOGIN; GRANT USAGE ON SCHEMA smartspace TO app; GRANT EXECUTE ON FUNCTION smartspace.cobot_sync(bigint, boolean) TO app;");
$t->sql("$load ALTER ROLE app SET smartspace_cobot.request_timeout = '6s'");

# --- where Cobot is: nobody but a superuser leads tokens elsewhere ---
my $listener = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1') or die "listener: $!";
my $elsewhere = '127.0.0.1:' . $listener->sockport;
my $select = IO::Select->new($listener);

# Runs statements as a role; returns its output and whether anybody came to the listener.
sub led_elsewhere
{
	my ($cluster, $role, $sql, $options) = @_;
	my ($out, $err) = ('', '');

	local $ENV{PGOPTIONS} = $options // '';
	$cluster->node->psql('postgres', "\\set VERBOSITY verbose\n$sql", stdout => \$out, stderr => \$err,
		on_error_stop => 0, extra_params => [ '-U', $role ]);
	my $came = 0;
	while ($select->can_read(0))
	{
		$listener->accept->close;
		$came = 1;
	}
	return { out => $out, err => $err, came => $came };
}

my $superuser = $t->node->safe_psql('postgres', 'SELECT current_user');
my $sync = "SELECT result FROM smartspace.cobot_sync($space);";
my $answer = led_elsewhere($t, $superuser, "SET smartspace_cobot.connect_timeout = 300; SET smartspace_cobot.connect_to = '$elsewhere'; $sync");
is($answer->{came}, 1, 'a superuser leads it elsewhere (this test can see that)');
is($answer->{out}, 'failed', 'where it does not trust anybody');

my %ways = (
	'SET' => ["SET smartspace_cobot.connect_to = '$elsewhere'; $sync"],
	'SET SESSION' => ["SET SESSION smartspace_cobot.connect_to TO '$elsewhere'; $sync"],
	'SET LOCAL' => ["BEGIN; SET LOCAL smartspace_cobot.connect_to = '$elsewhere'; SET LOCAL smartspace_cobot.ca_file = '/etc/passwd'; $sync COMMIT;"],
	'set_config' => ["SELECT NULL FROM set_config('smartspace_cobot.connect_to', '$elsewhere', false); $sync"],
	'RESET' => ["RESET smartspace_cobot.connect_to; $sync"],
	'RESET ALL' => ["RESET ALL; $sync"],
	'DISCARD ALL' => ["DISCARD ALL; $sync"],
	'ca_file' => ["SET smartspace_cobot.ca_file = '/etc/passwd'; $sync"],
	'after a first run' => ["$sync SET smartspace_cobot.connect_to = '$elsewhere'; $sync"],
	'a function' => ["CREATE FUNCTION pg_temp.led() RETURNS text LANGUAGE sql SET smartspace_cobot.connect_to = '$elsewhere' AS 'SELECT result FROM smartspace.cobot_sync($space)'; SELECT pg_temp.led(); $sync"],
	'ALTER ROLE' => ["ALTER ROLE app SET smartspace_cobot.connect_to = '$elsewhere'; \\c\n$sync"],
	'UPDATE pg_settings' => ["UPDATE pg_settings SET setting = '$elsewhere' WHERE name = 'smartspace_cobot.connect_to'; $sync"]);
foreach my $cluster ($t, $preloaded)
{
	my $how = $cluster == $t ? 'not preloaded' : 'preloaded';

	$preloaded->sql("CREATE ROLE app LOGIN; GRANT USAGE ON SCHEMA smartspace TO app; GRANT EXECUTE ON FUNCTION smartspace.cobot_sync(bigint, boolean) TO app")
	  if $cluster == $preloaded;
	foreach my $way (sort keys %ways)
	{
		my ($sql, $options) = @{ $ways{$way} };
		my $answer = led_elsewhere($cluster, 'app', $sql, $options);

		is($answer->{came}, 0, "$how, $way: another role leads it nowhere else");
		like($answer->{out}, qr/^\s*(ok\w*\s*)*$/, "$how, $way: it goes to where it should, if anywhere") or diag $answer->{err};
	}
}
$answer = led_elsewhere($t, 'app', $ways{SET}[0]);
like($answer->{err}, qr/WARNING:  42501: permission denied to set parameter "smartspace_cobot.connect_to"/, 'it is told when the library is loaded');
$answer = led_elsewhere($preloaded, 'app', $ways{SET}[0]);
like($answer->{err}, qr/ERROR:  42501: permission denied to set parameter "smartspace_cobot.connect_to"/, 'or at once');
like(led_elsewhere($preloaded, 'app', $sync, "-c smartspace_cobot.connect_to=$elsewhere")->{err},
	qr/FATAL:  permission denied to set parameter "smartspace_cobot.connect_to"/, 'already when connecting, if the library is preloaded');
is($t->try("SET ROLE app; ALTER SYSTEM SET smartspace_cobot.connect_to = '$elsewhere'")->{sqlstate}, '42501', 'not by ALTER SYSTEM');
is($t->try("ALTER DATABASE postgres OWNER TO app; SET ROLE app; ALTER DATABASE postgres SET smartspace_cobot.connect_to = '$elsewhere'")->{sqlstate}, '42501',
	'nor may the owner of the database');

# --- whom it trusts: a Cobot with a certificate by another authority ---
foreach my $cluster ($t, $preloaded)
{
	my $how = $cluster == $t ? 'not preloaded' : 'preloaded';
	my $stranger = $cluster->cobot->ca_file =~ s/ca\.pem$/otherca.pem/r;

	$cluster->restart_cobot(cert => 'otherca', members => 5);
	is(led_elsewhere($cluster, $superuser, "SET smartspace_cobot.ca_file = '$stranger'; SELECT reason IS DISTINCT FROM 'unreachable' FROM smartspace.cobot_sync($space);")->{out},
		't', "$how: a superuser makes it trust another authority (this test can see that)");
	foreach my $case ([ "SET smartspace_cobot.ca_file = '$stranger';" ], [ "SELECT FROM set_config('smartspace_cobot.ca_file', '$stranger', false);" ],
		[ '', "-c smartspace_cobot.ca_file=$stranger" ])
	{
		my $answer = led_elsewhere($cluster, 'app', "$case->[0] SELECT reason FROM smartspace.cobot_sync($space);", $case->[1]);
		like($answer->{out}, qr/^\s*(unreachable)?$/, "$how: nobody else does: " . ($case->[1] // $case->[0]) =~ s/[\/'].*//r);
	}
	$cluster->restart_cobot(members => 5);
}

# --- databases it does not install in ---
foreach my $encoding (qw(LATIN1 SQL_ASCII))
{
	$t->sql("CREATE DATABASE db_$encoding ENCODING '$encoding' LOCALE 'C' TEMPLATE template0");
	my $answer = $t->try('CREATE EXTENSION smartspace_cobot', dbname => "db_" . lc $encoding);
	is($answer->{sqlstate}, '0A000', "encoding $encoding is refused");
	like($answer->{err}, qr/needs a database with encoding UTF8.*DETAIL:  This database has encoding $encoding.*HINT:  Create the database with/s, 'in words');
}
$t->sql('CREATE DATABASE prepared OWNER app');
is($t->try('SET ROLE app; CREATE EXTENSION smartspace_cobot', dbname => 'prepared')->{sqlstate}, '42501', 'only a superuser installs it');
$t->try('SET ROLE app; CREATE SCHEMA smartspace', dbname => 'prepared');
$answer = $t->try('CREATE EXTENSION smartspace_cobot', dbname => 'prepared');
is($answer->{sqlstate}, '42501', 'a schema of somebody else is refused');
like($answer->{err}, qr/schema "smartspace" exists already and belongs to another role.*HINT:  Drop or rename that schema/s, 'in words');
is($t->try('CREATE EXTENSION smartspace_cobot SCHEMA public', dbname => 'prepared')->{ok}, '', 'it goes into no other schema');
is($t->node->safe_psql('prepared', "SELECT count(*) FROM pg_extension WHERE extname = 'smartspace_cobot'"), '0', 'nothing is left of it');
$t->node->safe_psql('prepared', 'DROP SCHEMA smartspace; CREATE SCHEMA smartspace');
ok($t->try('CREATE EXTENSION smartspace_cobot', dbname => 'prepared')->{ok}, 'a schema of the superuser who installs it is fine');

# --- what a hostile role leaves where names are looked up ---
# Functions, operators, tables and types by names that SQL uses; whatever calls one fails, and says so.
my @functions = (
	(map { [ $_, '' ] } qw(now clock_timestamp statement_timestamp random getdatabaseencoding current_setting)),
	(map { my $f = $_; map { [ $f, $_ ] } qw(text bigint timestamptz jsonb anyarray anyelement tstzrange) }
		  qw(count min max lower upper length format coalesce quote_ident array_agg string_agg greatest isempty range_contains access_follow cobot_ago)),
	[ 'format', 'text, text' ], [ 'nextval', 'regclass' ], [ 'nextval', 'text' ], [ 'tstzrange', 'timestamptz, timestamptz' ],
	[ 'cobot_field_tokens', 'text' ], [ 'cobot_access_range', 'timestamptz, date, date, text' ]);
my @operators = map { my $o = $_; map { [ $o, $_ ] } qw(bigint text boolean timestamptz date jsonb tstzrange regclass oid name) } qw(= <> < <= > >= || + - ~ @>);
my @tables = qw(cobot_integration cobot_plan cobot_membership cobot_secret cobot_oauth_flow cobot_record_problem cobot_sync_run user_group user_group_assignment user_group_member
  manual_grant access_journal access_candidate access_reason access_obstacle building building_entry mobile_app mobile_app_secret cobot_login_event access_due access_now cobot_individual_token cobot_problem cobot_status
  incoming incoming_plan incoming_member incoming_problem new_row old_row due have difference given changed taken pg_class pg_namespace pg_roles);

sub hostile_objects
{
	my ($schema) = @_;
	my $body = "LANGUAGE plpgsql AS \$\$BEGIN RAISE EXCEPTION 'hostile'; END\$\$";
	my @sql;

	push @sql, map { "CREATE FUNCTION $schema.\"$_->[0]\"($_->[1]) RETURNS boolean $body" } @functions;
	my $i = 0;
	foreach my $operator (@operators)
	{
		my ($sign, $type) = @$operator;

		$i++;
		push @sql, "CREATE FUNCTION $schema.hostile_$i($type, $type) RETURNS boolean $body",
		  "CREATE OPERATOR $schema.$sign (LEFTARG = $type, RIGHTARG = $type, FUNCTION = $schema.hostile_$i)";
	}
	push @sql, "CREATE FUNCTION $schema.hostile_trigger() RETURNS trigger $body";
	foreach my $table (@tables)
	{
		push @sql, "CREATE TABLE $schema.$table (id bigint, integration_id bigint, hostile text)",
		  "CREATE TRIGGER hostile BEFORE INSERT OR UPDATE OR DELETE ON $schema.$table FOR EACH STATEMENT EXECUTE FUNCTION $schema.hostile_trigger()";
	}
	push @sql, map { "CREATE DOMAIN $schema.$_ AS integer CHECK (VALUE IS NULL)" } qw(bigint text timestamptz regclass tstzrange);
	return join ';', @sql;
}

my $hostile = CobotTest->new(members => 8, extension => 0);
$hostile->sql('CREATE ROLE evil; ALTER DATABASE postgres OWNER TO evil; ALTER SCHEMA public OWNER TO evil; GRANT CREATE ON DATABASE postgres TO evil');
# Default privileges of the role that installs are open to a reader: fine for everything but secrets.
$hostile->sql('CREATE ROLE reader; ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO reader; ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO reader;'
	  . ' ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC; ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO PUBLIC');
foreach my $schema (qw(public evil))
{
	my $answer = $hostile->try('SET ROLE evil; CREATE SCHEMA IF NOT EXISTS evil; ' . hostile_objects($schema));
	ok($answer->{ok}, "hostile objects in $schema") or diag $answer->{err};
}

# The same as temporary objects, then what follows with all of it before pg_catalog.
my $temporary = join ';', map { "CREATE TEMP TABLE $_ (id bigint, integration_id bigint, hostile text)" } grep { !/^pg_/ } @tables;
my $path = 'SET search_path = evil, public, pg_temp, pg_catalog;';
like($hostile->try("$path SELECT count(1::bigint)")->{err}, qr/hostile/, '(they do take effect where names are looked up)');
foreach my $statement (
	'CREATE EXTENSION smartspace_cobot',
	"SELECT smartspace.cobot_create_integration('Demo', 'demo-space', 'client', 'secret', sync_individual_access => true)",
	"SELECT smartspace.cobot_connect_token(1, 'admin-token')",
	'SELECT smartspace.cobot_sync(1)',
	"INSERT INTO smartspace.user_group (id, name, external_identifier) VALUES (1, 'Door', NULL), (2, 'Workshop', 'workshop'), (3, 'Staff', 'staff')",
	'INSERT INTO smartspace.user_group_assignment (plan_id, user_group_id) SELECT p.id, 1 FROM smartspace.cobot_plan p',
	'UPDATE smartspace.user_group_assignment SET user_group_id = 3',
	"UPDATE smartspace.user_group SET external_identifier = NULL",
	"UPDATE smartspace.user_group SET external_identifier = 'WorkShop' WHERE name OPERATOR(pg_catalog.=) 'Workshop'",
	'UPDATE smartspace.cobot_integration SET sync_plan_access = false', 'UPDATE smartspace.cobot_integration SET sync_plan_access = true',
	'UPDATE smartspace.cobot_integration SET armed_database = NULL', 'SELECT smartspace.cobot_arm(1)',
	'SELECT smartspace.cobot_sync(1)', 'SELECT smartspace.cobot_sync(1, reread => true)', 'SELECT smartspace.cobot_ensure_custom_field(1)',
	'SELECT * FROM smartspace.cobot_recompute_access()', 'TABLE smartspace.access_due', 'TABLE smartspace.access_now',
	'TABLE smartspace.cobot_problem', 'TABLE smartspace.cobot_status', 'TABLE smartspace.cobot_individual_token',
	'INSERT INTO smartspace.building (id, integration_id, name) VALUES (1, 1, $$House$$)',
	'INSERT INTO smartspace.building_entry (membership_id, building_id) SELECT m.id, 1 FROM smartspace.cobot_membership m',
	'INSERT INTO smartspace.mobile_app (name) VALUES ($$App$$)',
	'SELECT smartspace.cobot_create_mobile_app($$Phone$$, $$client$$, $$secret$$, $${smartspace://login}$$)', 'SELECT smartspace.cobot_arm_mobile_app(2)',
	'SELECT smartspace.cobot_login_url(2, $$smartspace://login$$)', 'SELECT * FROM smartspace.cobot_login_answer($$x$$, $${a}$$, $${demo-space}$$, $${a}$$)',
	'DELETE FROM smartspace.user_group WHERE id OPERATOR(pg_catalog.=) 3::pg_catalog.int8', 'TRUNCATE smartspace.user_group_assignment',
	'INSERT INTO smartspace.user_group_assignment (plan_id, user_group_id) SELECT p.id, 1 FROM smartspace.cobot_plan p')
{
	my $answer = $hostile->try(($statement =~ /^CREATE/ ? '' : "$temporary;") . " $path $statement");

	ok($answer->{ok}, "not taken in: $statement") or diag $answer->{err};
}
$hostile->sql('SELECT smartspace.cobot_sync(1)');
is(mirror_differs($hostile, 1, 'demo-space'), '', 'the mirror equals Cobot');
is($hostile->grants_differ, 0, 'the grants equal their definition');
cmp_ok($hostile->sql('SELECT pg_catalog.count(*) FROM smartspace.user_group_member'), '>', 0, 'and there are some');
is($hostile->sql(join ' UNION ALL ', map { "SELECT '$_' FROM evil.$_" } @tables), '', 'no row went into a hostile table');
is($hostile->sql("SELECT has_table_privilege('reader', 'smartspace.cobot_membership', 'SELECT'), has_table_privilege('reader', 'smartspace.cobot_secret', 'SELECT, INSERT, UPDATE, DELETE, REFERENCES, TRIGGER'),"
	  . " has_table_privilege('reader', 'smartspace.mobile_app_secret', 'SELECT, INSERT, UPDATE, DELETE, REFERENCES, TRIGGER')"),
	't|f|f', 'default privileges do not open the secrets');
is($hostile->sql("SELECT has_table_privilege('evil', 'smartspace.cobot_membership', 'SELECT'), has_schema_privilege('evil', 'smartspace', 'USAGE, CREATE')"), 'f|f',
	'and nothing at all to PUBLIC');
is($hostile->try('SET ROLE evil; CREATE TABLE smartspace.mine ()')->{sqlstate}, '42501', 'the owner of the database gets nothing into the schema');
is($hostile->try('SET ROLE evil; DROP SCHEMA smartspace CASCADE')->{sqlstate}, '42501', 'and it cannot be taken away');

# --- read-only transactions ---
$t->cobot->clear_log;
foreach my $call ("cobot_sync($space)", "cobot_connect_token($space, 'x')", "cobot_ensure_custom_field($space)", "cobot_create_integration('y', 'y')",
	"cobot_arm($space)")
{
	is($t->try("BEGIN READ ONLY; SELECT smartspace.$call")->{sqlstate}, '25006', "refused in a read-only transaction: $call");
}
$t->sql("BEGIN; DELETE FROM smartspace.user_group_member; SET TRANSACTION READ ONLY; SELECT 1; ROLLBACK");
is($t->try("SET default_transaction_read_only = on; SELECT smartspace.cobot_sync($space)")->{sqlstate}, '25006', 'also by default_transaction_read_only');
is(scalar(() = $t->cobot->log), 0, 'and Cobot is asked nothing');
ok($t->try("BEGIN READ ONLY; TABLE smartspace.cobot_status; TABLE smartspace.cobot_problem; TABLE smartspace.access_now; TABLE smartspace.access_due; COMMIT")->{ok}, 'looking is allowed');

# --- dropped and created again, in sessions that used it before ---
my @sessions = map { $t->node->background_psql('postgres') } 1 .. 2;
my $fill = "INSERT INTO smartspace.cobot_integration (id, name, subdomain) VALUES (9, 'n', 'n'); INSERT INTO smartspace.cobot_plan (id, integration_id, cobot_id) VALUES (9, 9, 'p');"
  . " INSERT INTO smartspace.user_group (id, name, external_identifier) VALUES (9, 'g', 'g'); INSERT INTO smartspace.user_group_assignment (plan_id, user_group_id) VALUES (9, 9);"
  . " INSERT INTO smartspace.cobot_membership (integration_id, cobot_id, plan_id, confirmed_at) VALUES (9, 'm', 9, now());"
  . " UPDATE smartspace.cobot_integration SET time_zone = 'Asia/Tokyo'";
my $empty = 'DELETE FROM smartspace.user_group WHERE id = 9; DELETE FROM smartspace.cobot_integration WHERE id = 9';
foreach my $round (1 .. 3)
{
	foreach my $session (@sessions)
	{
		$session->query_safe($fill);
		is($session->query_safe('SELECT count(*) FROM smartspace.access_now a JOIN smartspace.user_group g ON g.id = a.user_group_id WHERE g.id = 9'), '1', "round $round: grants follow");
		$session->query_safe($empty);
	}
	$sessions[ $round % 2 ]->query_safe('SET client_min_messages = warning; DROP EXTENSION smartspace_cobot CASCADE; CREATE EXTENSION smartspace_cobot');
}
$_->quit foreach @sessions;
check_works('created again', $t);

done_testing();
