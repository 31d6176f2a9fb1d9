# A copy of the database asks Cobot nothing, whichever way it was made, until somebody
# arms it on purpose; the original keeps working when it is renamed or fails over. In
# every refused case the test server's log shows that no request arrived, and where the
# copy has a token, the same call goes through once it is armed.
use strict;
use warnings;

use CobotTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# --- given: a production with a space that is synchronised ---
my $t = CobotTest->new(members => 12, conf => <<'CONF');
wal_level = replica
max_wal_senders = 4
smartspace_cobot.environment = 'production'
CONF
my $cobot = $t->cobot;
my $production = $t->node;
my $space = $t->connect_space('demo-space');
my $system = $t->sql('SELECT system_identifier FROM pg_control_system()');
my $columns = 'armed_system, armed_database, armed_environment, armed_by, armed_at IS NOT NULL';
my @calls = ("cobot_sync($space)", "cobot_connect_token($space, 'admin-token')", "cobot_ensure_custom_field($space)");

like($t->sync($space)->{result}, qr/^ok/, '(synchronised)');
is(armed_for(), "$system|" . oid_of('postgres') . '|production|postgres|t', 'cobot_create_integration() arms for cluster, database and environment');

# Where something happens: (node => ..., dbname => ...), production's own without.
sub sql_at
{
	my ($sql, %where) = @_;

	return ($where{node} // $production)->safe_psql($where{dbname} // 'postgres', $sql);
}

sub oid_of { my ($dbname, %where) = @_; return sql_at("SELECT oid FROM pg_database WHERE datname = '$dbname'", %where); }

sub armed_for { my (%where) = @_; return sql_at("SELECT $columns FROM smartspace.cobot_integration WHERE id = $space", %where); }

# Everything outgoing is refused for the reason given, and leaves no trace anywhere.
sub check_refused
{
	my ($name, $detail, %where) = @_;

	subtest $name => sub {
		my $state = "SELECT row_to_json(i) FROM smartspace.cobot_integration i";
		my $before = sql_at($state, %where);
		my $runs = sql_at('SELECT count(*) FROM smartspace.cobot_sync_run', %where);

		$cobot->clear_log;
		foreach my $call (@calls)
		{
			my $answer = $t->try("SELECT smartspace.$call", %where);

			is($answer->{sqlstate}, '55000', "$call is refused");
			like($answer->{err}, qr/integration "demo-space" is not armed for this database$/m, 'names the integration');
			like($answer->{err}, qr/^DETAIL:  $detail$/m, 'says what differs');
			like($answer->{err}, qr/^HINT:  .*SELECT smartspace\.cobot_arm\($space\)\.$/m, 'and what arms it');
		}
		like(sql_at("SELECT reason || ': ' || summary FROM smartspace.cobot_status WHERE integration_id = $space", %where),
			qr/^foreign_database: not armed for this database.*run SELECT smartspace\.cobot_arm\($space\)$/, 'cobot_status says so');
		is(scalar(() = $cobot->log), 0, 'Cobot was asked nothing');
		is(sql_at($state, %where), $before, 'the integration is as before');
		is(sql_at('SELECT count(*) FROM smartspace.cobot_sync_run', %where), $runs, 'no run was recorded');
	};
	return;
}

# It synchronises, and Cobot notices.
sub check_works
{
	my ($name, %where) = @_;

	$cobot->clear_log;
	like(sql_at("SELECT result FROM smartspace.cobot_sync($space)", %where), qr/^ok/, $name);
	cmp_ok(scalar(() = $cobot->log), '>', 0, '(Cobot was asked)');
	is(sql_at("SELECT coalesce(reason, '-') FROM smartspace.cobot_status WHERE integration_id = $space", %where), '-', '(cobot_status has no reason)');
	return;
}

# Arms a copy; the words and the columns say for what, and for what it was armed before.
sub check_arm
{
	my ($name, $environment, %where) = @_;
	my $database = oid_of($where{dbname} // 'postgres', %where);
	my $here = sql_at('SELECT system_identifier FROM pg_control_system()', %where);
	my @before = split /\|/, armed_for(%where);

	is(sql_at("SELECT smartspace.cobot_arm($space)", %where),
		sprintf('armed for the database "%s": cluster %s, database oid %s, environment "%s"; before: cluster %s, database oid %s, environment "%s"',
			$where{dbname} // 'postgres', $here, $database, $environment, @before[ 0 .. 2 ]), "$name: cobot_arm() says what it did");
	is(armed_for(%where), "$here|$database|$environment|postgres|t", '... and it is recorded');
	is(sql_at('SELECT now() - armed_at < interval $$1 minute$$ FROM smartspace.cobot_integration', %where), 't', '... with the time');
	return;
}

# A restored dump has no token, so that arming alone is not enough.
sub check_connect
{
	my (%where) = @_;
	my $answer;

	$cobot->clear_log;
	$answer = $t->try("SELECT smartspace.cobot_sync($space)", %where);
	is($answer->{sqlstate}, '55000', 'without a token it is not connected');
	like($answer->{err}, qr/HINT:  Connect it with smartspace\.cobot_connect_token\($space, token\)/, 'and says so');
	is(scalar(() = $cobot->log), 0, 'Cobot was asked nothing');
	is(sql_at("SELECT state FROM smartspace.cobot_connect_token($space, 'admin-token')", %where), 'connected', 'now it can be connected');
	return;
}

# --- a dump restored into another cluster ---
my $dump = PostgreSQL::Test::Utils::tempdir . '/dump.sql';
my $other = PostgreSQL::Test::Cluster->new('other_cluster');
$other->init(extra => [ '--encoding=UTF8', '--locale=C.UTF-8' ]);
$other->append_conf('postgresql.conf', join '', map { "$_ = '" . $t->sql("SELECT smartspace.cobot_library_version(); SHOW $_") =~ s/.*\n//sr . "'\n" }
	  map { "smartspace_cobot.$_" } qw(connect_to ca_file environment));
$other->start;
$production->command_ok([ 'pg_dump', '-f', $dump, $production->connstr('postgres') ], 'pg_dump');
$other->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $other->connstr('postgres') ], 'restored into another cluster');
my $other_system = sql_at('SELECT system_identifier FROM pg_control_system()', node => $other);
check_refused('dump_in_another_cluster_is_refused', qr/It is armed for the cluster with system identifier $system; this one has $other_system\./, node => $other);
check_arm('dump_in_another_cluster_is_armed_on_purpose', 'production', node => $other);
check_connect(node => $other);
check_works('dump_in_another_cluster_works_once_armed', node => $other);

# --- a dump restored into another database of the same cluster ---
$t->sql('CREATE DATABASE restored');
$production->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, $production->connstr('restored') ], 'restored beside the original');
sub other_database
{
	my ($original, $copy) = map { oid_of($_) } @_;

	return qr/It is armed for the database with oid $original; this one, "$_[1]", has $copy\./;
}
check_refused('dump_in_another_database_is_refused', other_database('postgres', 'restored'), dbname => 'restored');
check_arm('dump_in_another_database_is_armed_on_purpose', 'production', dbname => 'restored');
check_connect(dbname => 'restored');
check_works('dump_in_another_database_works_once_armed', dbname => 'restored');
check_works('the_original_is_not_disturbed');

# --- CREATE DATABASE TEMPLATE copies the token, too ---
sql_at('CREATE DATABASE copy TEMPLATE postgres', dbname => 'template1');
check_refused('template_copy_is_refused', other_database('postgres', 'copy'), dbname => 'copy');
check_arm('template_copy_is_armed_on_purpose', 'production', dbname => 'copy');
check_works('template_copy_works_once_armed', dbname => 'copy');
sql_at('CREATE DATABASE copy_of_copy TEMPLATE copy');
check_refused('copy_of_an_armed_copy_is_refused', other_database('copy', 'copy_of_copy'), dbname => 'copy_of_copy');

# --- a database that is renamed is the same ---
sql_at('ALTER DATABASE copy RENAME TO renamed');
check_works('renamed_database_keeps_working', dbname => 'renamed');
sql_at('CREATE DATABASE copy TEMPLATE renamed');
check_refused('a_copy_under_the_old_name_is_refused', other_database('renamed', 'copy'), dbname => 'copy');

# --- a copy of the files has the same identifiers, so the environment has to tell ---
$production->backup('files');
my $staging = PostgreSQL::Test::Cluster->new('staging');
$staging->init_from_backup($production, 'files');
$staging->append_conf('postgresql.conf', "smartspace_cobot.environment = 'staging'\n");
$staging->start;
is(sql_at('SELECT system_identifier FROM pg_control_system()', node => $staging) . ' ' . oid_of('postgres', node => $staging),
	"$system " . oid_of('postgres'), '(the copy of the files has the same identifiers)');
check_refused('file_copy_in_another_environment_is_refused',
	qr/It is armed for the environment "production"; smartspace_cobot\.environment is "staging"\./, node => $staging);
check_refused('every_difference_is_told',
	qr/It is armed for the database with oid \d+; this one, "copy", has \d+\. It is armed for the environment "production"; smartspace_cobot\.environment is "staging"\./,
	node => $staging, dbname => 'copy');
check_arm('file_copy_is_armed_on_purpose', 'staging', node => $staging);
check_works('file_copy_works_once_armed', node => $staging);
$staging->append_conf('postgresql.conf', "smartspace_cobot.environment = ''\n");
$staging->reload;
$t->wait_until(sub { return sql_at('SELECT smartspace.cobot_library_version(); SHOW smartspace_cobot.environment', node => $staging) !~ /staging/ }, 'the new setting');
check_refused('no_environment_is_another_one_too', qr/It is armed for the environment "staging"; smartspace_cobot\.environment is ""\./, node => $staging);
$staging->stop;

# --- failover: the promoted standby is the production ---
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($production, 'files', has_streaming => 1);
$standby->start;
$production->wait_for_catchup($standby, 'replay', $production->lsn('write'));
is(sql_at("SELECT state, coalesce(reason, '-') FROM smartspace.cobot_status WHERE integration_id = $space", node => $standby), 'connected|-', 'a_standby_is_at_home');
$cobot->clear_log;
is($t->try("SELECT smartspace.$_", node => $standby)->{sqlstate}, '25006', "... and read-only: $_") foreach @calls, "cobot_arm($space)";
is(scalar(() = $cobot->log), 0, '... Cobot was asked nothing');
$production->stop;
$standby->promote;
$t->wait_until(sub { return sql_at('SELECT pg_is_in_recovery()', node => $standby) eq 'f' }, 'the promotion');
check_works('promoted_standby_keeps_working', node => $standby);
is(sql_at("SELECT custom_field FROM smartspace.cobot_connect_token($space, 'admin-token')", node => $standby), 'present', '... and connects');
$standby->stop;
$production->start;

# --- cobot_arm where nothing has to be done ---
my $row = $t->sql("SELECT row_to_json(i), xmin FROM smartspace.cobot_integration i");
is($t->sql("SELECT smartspace.cobot_arm($space)"),
	"was armed already for the database \"postgres\": cluster $system, database oid " . oid_of('postgres') . ', environment "production"',
	'arming_again_changes_nothing');
is($t->sql("SELECT row_to_json(i), xmin FROM smartspace.cobot_integration i"), $row, '... not even the time');

# --- a row that was inserted by hand is armed for nowhere ---
$t->sql("UPDATE smartspace.cobot_integration SET armed_system = NULL, armed_database = NULL, armed_environment = NULL, armed_at = NULL, armed_by = NULL");
check_refused('row_inserted_by_hand_is_refused', qr/It was never armed\. smartspace\.cobot_create_integration\(\) arms what it makes; an INSERT does not\./);
is($t->sql("SELECT smartspace.cobot_arm($space)"),
	"armed for the database \"postgres\": cluster $system, database oid " . oid_of('postgres') . ', environment "production"', '... until cobot_arm()');
check_works('... then it works');
foreach my $column (qw(armed_system armed_database armed_environment))
{
	is($t->sql("BEGIN; UPDATE smartspace.cobot_integration SET $column = NULL; SELECT reason FROM smartspace.cobot_status; ROLLBACK"), 'foreign_database', "a_half_armed_row_is_not_armed: $column");
}

# --- the state of the integration is put back, and only that state ---
foreach my $case ([ 'degraded', 'foreign_database', 'connected|-' ], [ 'degraded', 'unreachable', 'degraded|unreachable' ], [ 'paused', '', 'paused|-' ], [ 'paused', 'foreign_database', 'paused|-' ])
{
	my ($state, $reason, $then) = @$case;

	is($t->sql("BEGIN; UPDATE smartspace.cobot_integration SET armed_database = 1, state = '$state', state_reason = nullif('$reason', '');"
			  . " SELECT smartspace.cobot_arm($space) IS NULL; SELECT state, coalesce(state_reason, '-') FROM smartspace.cobot_integration; ROLLBACK"),
		"f\n$then", "arming_puts_the_state_back: $state $reason");
}
foreach my $state (qw(new connected degraded disconnected paused))
{
	is($t->sql("BEGIN; UPDATE smartspace.cobot_integration SET armed_database = 1, state = '$state';"
			  . " SELECT state, reason, summary ~ '^not armed' FROM smartspace.cobot_status; ROLLBACK"),
		"$state|foreign_database|t", "cobot_status_tells_in_every_state: $state");
}
like($t->try("UPDATE smartspace.cobot_integration SET state = 'paused', armed_database = 1; SELECT smartspace.cobot_sync($space)")->{err},
	qr/is not armed/, 'a paused copy is a copy first');
$t->sql("UPDATE smartspace.cobot_integration SET state = 'connected'; SELECT smartspace.cobot_arm($space)");

# --- misuse ---
is($t->try('SELECT smartspace.cobot_arm(NULL)')->{sqlstate}, '22004', 'cobot_arm refuses null');
my $unknown = $t->try('SELECT smartspace.cobot_arm(4711)');
is($unknown->{sqlstate}, '42704', '... and an unknown integration');
like($unknown->{err}, qr/integration 4711 does not exist.*HINT:  The view smartspace\.cobot_status lists/s, '... and says where to look');
is($t->try("BEGIN READ ONLY; SELECT smartspace.cobot_arm($space)")->{sqlstate}, '25006', '... and a read-only transaction');

$t->sql('CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA smartspace TO guest');
is($t->try("SET ROLE guest; SELECT smartspace.$_")->{sqlstate}, '42501', "nobody_arms_without_execute: $_") foreach "cobot_arm($space)", "cobot_is_home(1, 1, '')";
$t->sql('GRANT EXECUTE ON FUNCTION smartspace.cobot_arm(bigint) TO guest; UPDATE smartspace.cobot_integration SET armed_database = 1');
like($t->sql("SET SESSION AUTHORIZATION guest; SELECT smartspace.cobot_arm($space)"), qr/^armed for/, 'who has EXECUTE arms without any other privilege');
is($t->sql('SELECT armed_by FROM smartspace.cobot_integration'), 'guest', '... and is recorded by name');

# --- the environment is the superuser's ---
foreach my $value ('two words', 'Prod/1', 'größer', 'x' x 64)
{
	is($t->try("SELECT smartspace.cobot_library_version(); SET smartspace_cobot.environment = '$value'")->{sqlstate}, '22023', "no environment: $value");
}
is($t->try("SELECT smartspace.cobot_library_version(); SET smartspace_cobot.environment = '@{['x' x 63]}'; SET smartspace_cobot.environment = 'Test-1.b_2'")->{sqlstate}, '', 'environments may be long, with digits, dots, hyphens and underscores');
$t->sql('GRANT EXECUTE ON FUNCTION smartspace.cobot_sync(bigint, boolean), smartspace.cobot_library_version() TO guest;');
$t->sql("UPDATE smartspace.cobot_integration SET armed_environment = 'staging'");
$cobot->clear_log;
my $set = $t->try("SET SESSION AUTHORIZATION guest; SELECT smartspace.cobot_library_version(); SET smartspace_cobot.environment = 'staging'");
is($set->{sqlstate}, '42501', 'others cannot set it');
{
	local $ENV{PGOPTIONS} = '-c smartspace_cobot.environment=staging';
	my ($out, $err) = ('', '');

	$production->psql('postgres', "\\set VERBOSITY verbose\nSELECT smartspace.cobot_sync($space)", stdout => \$out, stderr => \$err, extra_params => [ '-U', 'guest' ]);
	like($err, qr/55000: integration "demo-space" is not armed/, '... nor by the options of their connection');
}
is(scalar(() = $cobot->log), 0, '... so Cobot was asked nothing');
$t->sql("SELECT smartspace.cobot_arm($space)");
check_works('the original works at the end');

# --- code to come has one way to Cobot ---
is(join(' ', grep { slurp_file($_) =~ /\bcobot_client_init\(/ } glob 'src/*.c'), 'src/cobot_client.c src/integration.c src/login.c', 'a client is made behind the guard only (login.c has that of mobile apps)');

done_testing();
