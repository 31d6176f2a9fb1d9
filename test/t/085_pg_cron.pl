# pg_cron calls cobot_run_due() in this database and in others, one job for each. Without
# pg_cron nothing breaks, and the error says what to do.
use strict;
use warnings;

use CobotTest;
use Test::More;

my $t = CobotTest->new(members => 5);
my $node = $t->node;

# A name that needs quoting in every way.
my $odd = q{Loft's "9"};

sub with_conf
{
	$node->append_conf('postgresql.conf', $_[0]);
	$node->restart;
	return;
}

sub jobs { return $t->sql("SELECT jobname, schedule, command, database, username, active FROM cron.job ORDER BY jobid"); }

# Calls as a role, in a database; gives back what try() does.
sub call
{
	my ($call, %where) = @_;
	my $role = delete $where{role};

	return $t->try(($role ? "SET ROLE $role; " : '') . "SELECT smartspace.$call", %where);
}

# A space of that server, connected in the database app and not synchronised yet.
sub connect_app
{
	my ($test) = @_;

	$test->sql('CREATE DATABASE app');
	$test->node->safe_psql('app', "CREATE EXTENSION smartspace_cobot; SELECT smartspace.cobot_create_integration('demo-space', 'demo-space');"
		  . " SELECT smartspace.cobot_connect_token(1, 'admin-token')");
	return;
}

subtest 'without pg_cron there is an error that says what to do' => sub {
	foreach my $call ('cobot_schedule()', 'cobot_unschedule()')
	{
		my $answer = call($call);
		is($answer->{sqlstate}, '0A000', "$call is refused");
		like($answer->{err}, qr/pg_cron is not in the database "postgres"$/m, 'in words');
		like($answer->{err}, qr/^DETAIL:  The server has not loaded pg_cron\.$/m, 'why');
		like($answer->{err}, qr/^HINT:  Install the package postgresql-15-cron, .* restart the server and run CREATE EXTENSION pg_cron\. No schedule is needed where/m, 'and what to do');
	}

	with_conf("shared_preload_libraries = 'pg_cron'\ncron.use_background_workers = on");
	my $answer = call('cobot_schedule()');
	like($answer->{err}, qr/^DETAIL:  The extension pg_cron has not been created\.\nHINT:  Run CREATE EXTENSION pg_cron as a superuser\.$/m, 'loaded, but not created');
	is($answer->{sqlstate}, '0A000', 'with the same SQLSTATE');
};

connect_app($t);
$t->sql('CREATE DATABASE "' . $odd =~ s/"/""/gr . '"');
$node->safe_psql($odd, 'CREATE EXTENSION smartspace_cobot');
$t->sql('CREATE EXTENSION pg_cron; CREATE ROLE operator LOGIN; CREATE ROLE other LOGIN; GRANT USAGE ON SCHEMA smartspace, cron TO operator, other;'
	  . ' GRANT EXECUTE ON FUNCTION smartspace.cobot_schedule(text, text), smartspace.cobot_unschedule(text) TO operator, other;'
	  . ' GRANT EXECUTE ON FUNCTION smartspace.cobot_run_due() TO operator');

# The same where a worker looks after the database anyway.
my $preloaded = CobotTest->new(members => 5, conf => <<'CONF');
shared_preload_libraries = 'pg_cron, smartspace_cobot'
smartspace_cobot.databases = 'app'
cron.use_background_workers = on
CONF
$preloaded->sql('CREATE EXTENSION pg_cron');
connect_app($preloaded);

# Both run at the next minute, while the rest is tested.
foreach my $test ($t, $preloaded)
{
	like($test->sql(q{SELECT smartspace.cobot_schedule('* * * * *', 'app')}), qr/^scheduled for the database "app": \* \* \* \* \* as postgres, job \d+ of pg_cron$/,
		'(scheduled for the next minute)');
}

subtest 'one job for each database, changed by a repeated call' => sub {
	my $first = call('cobot_schedule()')->{out};
	like($first, qr/^scheduled for the database "postgres": \*\/30 \* \* \* \* as postgres, job \d+ of pg_cron$/, 'every half hour by default');
	my ($job) = $first =~ /job (\d+)/;
	is(call(q{cobot_schedule('*/5 * * * *')})->{out},
		"scheduled for the database \"postgres\": */5 * * * * as postgres, job $job of pg_cron; before: */30 * * * * as postgres", 'changed');
	is(jobs(), join("\n", 'smartspace_cobot: app|* * * * *|SELECT smartspace.cobot_run_due()|app|postgres|t',
			'smartspace_cobot: postgres|*/5 * * * *|SELECT smartspace.cobot_run_due()|postgres|postgres|t'), 'and pg_cron has two jobs');

	$t->sql("SELECT cron.alter_job($job, active => false)");
	call(q{cobot_schedule('*/5 * * * *')});
	like(jobs(), qr/^smartspace_cobot: postgres\|.*\|t$/m, 'one that was switched off runs again');

	is(call('cobot_unschedule()')->{out}, 't', 'removed');
	is(call('cobot_unschedule()')->{out}, 'f', 'there is nothing to remove any more');
	unlike(jobs(), qr/: postgres\|/, 'it is gone');
};

subtest 'for other databases it is made where pg_cron is' => sub {
	my $quoted = "'smartspace_cobot: Loft''s \"9\"', '*/10 * * * *', 'SELECT smartspace.cobot_run_due()', 'Loft''s \"9\"'";
	my $answer = call(q{cobot_schedule('*/10 * * * *')}, dbname => $odd);
	is($answer->{sqlstate}, '0A000', 'refused in the other one');
	like($answer->{err}, qr/^DETAIL:  pg_cron reads its jobs in the database "postgres", by the setting cron\.database_name\.$/m, 'in words');
	my ($statement) = $answer->{err} =~ /^HINT:  Run in the database "postgres": (.*)$/m;
	is($statement, "SELECT cron.schedule_in_database($quoted);", 'with the statement to run there');
	$t->sql($statement);
	like(jobs(), qr/^\Qsmartspace_cobot: $odd|*\/10 * * * *|SELECT smartspace.cobot_run_due()|$odd|postgres|t\E$/m, 'which makes the very same job');

	like($t->try('SELECT smartspace.cobot_schedule(\'*/20 * * * *\', $$' . $odd . '$$)')->{out}, qr/; before: \*\/10 \* \* \* \* as postgres$/, 'it is changed from there');
	is(scalar(() = jobs() =~ /Loft/g) / 2, 1, 'and is one job');
	($statement) = call('cobot_unschedule()', dbname => $odd)->{err} =~ /^HINT:  Run in the database "postgres": (.*)$/m;
	is($t->sql($statement), 't', 'removed by the statement of the hint');
	is($t->sql('SELECT smartspace.cobot_unschedule($$' . $odd . '$$)'), 'f', 'nothing is left');

	my @long = map { 'a' x 55 . $_ } 1, 2;
	$t->sql("CREATE DATABASE $_") foreach @long;
	call("cobot_schedule('*/15 * * * *', '$_')") foreach @long, @long;
	is($t->sql("SELECT string_agg(database, ' ' ORDER BY database) FROM cron.job WHERE schedule = '*/15 * * * *'"), "@long", 'long names are told apart');
	$t->sql("DROP DATABASE $long[0]");
	is(call("cobot_unschedule('$_')")->{out}, 't', 'and removed, even when the database is gone') foreach @long;
};

subtest 'a job belongs to whoever made it' => sub {
	like(call(q{cobot_schedule('*/10 * * * *')}, role => 'operator')->{out}, qr/ as operator, job/, 'a role with the rights makes its own');
	like(call(q{cobot_schedule('*/12 * * * *')}, role => 'operator')->{out}, qr/ as operator, .*; before: \*\/10 \* \* \* \* as operator$/, 'and changes it');

	my $answer = call('cobot_schedule()', role => 'other');
	is($answer->{sqlstate}, '42501', 'a role whose job would fail every time is told so');
	like($answer->{err}, qr/^DETAIL:  The job would run as "other"\.\nHINT:  Run GRANT EXECUTE ON FUNCTION smartspace\.cobot_run_due\(\) TO other, or/m, 'with the GRANT that it lacks');
	is(call('cobot_unschedule()', role => 'other')->{out}, 'f', 'another role removes nothing');
	is(call(q{cobot_schedule('* * * * *', 'app')}, role => 'operator')->{sqlstate}, '42501', 'nor makes a job in another database without the right');
	$t->sql('GRANT EXECUTE ON FUNCTION cron.schedule_in_database TO operator');
	like(call("cobot_schedule('*/10 * * * *', 'template1')", role => 'operator')->{out}, qr/^scheduled for the database "template1": .* as operator, job/, 'with it, it does');
	is(call("cobot_unschedule('template1')", role => 'operator')->{out}, 't', 'and takes it away');
	like(jobs(), qr/^smartspace_cobot: postgres\|\*\/12.*\|operator\|t$/m, 'the job is as it was');

	like(call(q{cobot_schedule('*/15 * * * *')})->{out}, qr/ as postgres, .*; before: \*\/12 \* \* \* \* as operator$/, 'a superuser takes it over');
	is(scalar(() = jobs() =~ /^smartspace_cobot: postgres\|/gm), 1, 'so there is still one');
	is(call('cobot_unschedule()', role => 'operator')->{out}, 'f', 'which the role does not remove');
	is(call('cobot_unschedule()')->{out}, 't', 'and the superuser does');
};

subtest 'what is no schedule is refused' => sub {
	my $before = jobs();
	is(call('cobot_schedule(NULL)')->{sqlstate}, '22004', 'null');
	is(call("cobot_schedule(E' \\n')")->{sqlstate}, '22023', 'empty');
	is(call("cobot_schedule(database => 'nowhere')")->{sqlstate}, '3D000', 'a database that does not exist');
	like(call("cobot_schedule('every now and then')")->{err}, qr/ERROR: .* invalid schedule: every now and then$/m, 'nonsense, in the words of pg_cron');
	is($t->try("BEGIN READ ONLY; SELECT smartspace.$_")->{sqlstate}, '25006', "nothing is changed in a read-only transaction: $_") foreach 'cobot_schedule()', 'cobot_unschedule()';
	is(jobs(), $before, 'pg_cron has the same jobs as before');
};

subtest 'whoever leaves hours out is warned' => sub {
	foreach my $schedule ('0 */2 * * *', '*/30 8-18 * * *', '0 * * * 1-5', '0 * 1 * *', '0 * * 1 *', '@daily')
	{
		like(call("cobot_schedule('$schedule')")->{err}, qr/WARNING: .*the schedule leaves hours out\nDETAIL: .*\nHINT: /, $schedule);
	}
	foreach my $schedule ('0 * * * *', '*/45 * * * *', ' 5,35  */1 * * * ', '@hourly')
	{
		is(call("cobot_schedule('$schedule')")->{err}, '', "not: $schedule");
	}
	call('cobot_unschedule()');
};

foreach my $case ([ $t, 'in a process of its own', qr/^0 synchronised/ ], [ $preloaded, 'by the worker that is there', qr/^the worker takes up/ ])
{
	my ($test, $how, $words) = @$case;

	subtest "pg_cron synchronises, $how" => sub {
		ok($test->node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM cron.job_run_details WHERE database = 'app' AND status = 'succeeded')"),
			'the job has run within the minute');
		is($test->sql("SELECT DISTINCT username, command, status FROM cron.job_run_details WHERE database = 'app' AND status IN ('succeeded', 'failed')"),
			'postgres|SELECT smartspace.cobot_run_due()|succeeded', 'as the role that scheduled it, and none has failed');
		ok($test->node->poll_query_until('app', 'SELECT EXISTS (SELECT FROM smartspace.cobot_sync_run)'), 'there is a run');
		is($test->node->safe_psql('app', 'SELECT DISTINCT result, members_seen FROM smartspace.cobot_sync_run'), 'ok_with_problems|5', 'which was good');
		is($test->node->safe_psql('app', 'SELECT count(*) FROM smartspace.cobot_membership'), '5', 'and the members are known');
		like($test->node->safe_psql('app', 'SELECT smartspace.cobot_run_due()'), $words, '(that is how it is done here)');
	};
}

done_testing();
