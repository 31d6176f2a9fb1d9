# pg_cron calls cobot_run_due() in this database and in others, one job for each. Without
# pg_cron nothing breaks, and the error says what to do.
use strict;
use warnings;

use CobotTest;
use Test::More;

my $t = CobotTest->new(members => 5);
my $node = $t->node;
my $stub = 'CREATE TABLE public.run_due (at timestamptz, role text); GRANT INSERT ON public.run_due TO PUBLIC;'
  . ' CREATE FUNCTION smartspace.cobot_run_due() RETURNS void LANGUAGE sql AS $$INSERT INTO public.run_due VALUES (clock_timestamp(), current_user)$$;'
  . ' REVOKE ALL ON FUNCTION smartspace.cobot_run_due() FROM PUBLIC';

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

$t->sql($stub);
$t->sql('CREATE DATABASE app');
$t->sql('CREATE DATABASE "' . $odd =~ s/"/""/gr . '"');
foreach my $database ('app', $odd)
{
	$node->safe_psql($database, "CREATE EXTENSION smartspace_cobot; $stub");
}

subtest 'without pg_cron there is an error that says what to do' => sub {
	foreach my $call ('cobot_schedule()', 'cobot_unschedule()')
	{
		my $answer = call($call);
		is($answer->{sqlstate}, '0A000', "$call is refused");
		like($answer->{err}, qr/pg_cron is not in the database "postgres"$/m, 'in words');
		like($answer->{err}, qr/^DETAIL:  The server has not loaded pg_cron\.$/m, 'why');
		like($answer->{err}, qr/^HINT:  Install the package postgresql-15-cron, .* needs no schedule\.$/m, 'and what to do');
	}

	with_conf("shared_preload_libraries = 'pg_cron'\ncron.use_background_workers = on");
	my $answer = call('cobot_schedule()');
	like($answer->{err}, qr/^DETAIL:  The extension pg_cron has not been created\.\nHINT:  Run CREATE EXTENSION pg_cron as a superuser\.$/m, 'loaded, but not created');
	is($answer->{sqlstate}, '0A000', 'with the same SQLSTATE');
};

$t->sql('CREATE EXTENSION pg_cron; CREATE ROLE operator LOGIN; CREATE ROLE other LOGIN; GRANT USAGE ON SCHEMA smartspace, cron TO operator, other;'
	  . ' GRANT EXECUTE ON FUNCTION smartspace.cobot_schedule(text, text), smartspace.cobot_unschedule(text) TO operator, other;'
	  . ' GRANT EXECUTE ON FUNCTION smartspace.cobot_run_due() TO operator');

# Runs at the next minute, while the rest is tested.
my $started = $t->sql('SELECT clock_timestamp()');
like(call(q{cobot_schedule('* * * * *', 'app')})->{out}, qr/^scheduled for the database "app": \* \* \* \* \* as postgres, job \d+ of pg_cron$/,
	'(scheduled for the next minute)');

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

subtest 'pg_cron runs it' => sub {
	ok($node->poll_query_until('app', "SELECT EXISTS (SELECT FROM public.run_due WHERE at > '$started')"), 'the job ran within the minute');
	ok($node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM cron.job_run_details WHERE status = 'succeeded')"), 'pg_cron says so, too');
	is($t->sql("SELECT DISTINCT database, username, command FROM cron.job_run_details WHERE status = 'succeeded'"),
		'app|postgres|SELECT smartspace.cobot_run_due()', 'in that database, as that role');
	is($t->sql("SELECT count(*) FROM cron.job_run_details WHERE status = 'failed'"), '0', 'and none failed');
};

done_testing();
