# A worker is never in the way of whoever wants to drop, rename or copy its database: it
# leaves by itself, also in the middle of its work, and the launcher goes on for the other
# databases. Databases come and go by a reload of the setting; one that is not there costs
# next to nothing. There are never more workers than max_workers, and somebody else may have
# used up all worker processes.
use strict;
use warnings;

use CobotWorker;
use Test::More;
use Time::HiRes qw(sleep time);

my $t = CobotWorker->new(spaces => 4, members => 5, linger => 30, databases => 'postgres');
my $cobot = $t->cobot;
my $home = $t->connect_space('space-0001');
$t->wait_for_run($home);

sub sql_in
{
	my ($database, $sql) = @_;

	return $t->node->safe_psql($database, $sql);
}

sub name_databases
{
	my ($databases, $more) = @_;

	$t->node->append_conf('postgresql.conf', "smartspace_cobot.databases = '$databases'\n" . ($more // ''));
	$t->node->reload;
	return;
}

# A database with a space that is connected; the setting names it.
sub with_database
{
	my ($name, $subdomain) = @_;

	$t->sql("CREATE DATABASE $name");
	sql_in($name, 'CREATE EXTENSION smartspace_cobot');
	name_databases("postgres,$name");
	sql_in($name, "SELECT smartspace.cobot_create_integration('$subdomain', '$subdomain'); SELECT state FROM smartspace.cobot_connect_token(1, 'admin-token')");
	$t->wait_until(sub { runs_in($name) > 0 }, "the first run in $name");
	return;
}

sub runs_in { return sql_in($_[0], 'SELECT count(*) FROM smartspace.cobot_sync_run'); }

# Its worker stays because more could come, or waits for Cobot.
sub keep_worker
{
	my ($name, $subdomain, $how) = @_;

	if ($how eq 'stalled')
	{
		$cobot->fault(match => { host => "$subdomain.cobot.me", path => '/api/memberships' }, times => 0, stall => 'headers');
		$cobot->clear_log;
		sql_in($name, 'SELECT smartspace.cobot_request_sync()');
		$t->wait_until(sub { grep { $_->{path} eq '/api/memberships' } $cobot->log }, 'the worker asks');
	}
	else
	{
		sql_in($name, 'SELECT smartspace.cobot_wake_worker()');
	}
	$t->wait_until(sub { my $w = $t->worker($name); $w && $w->{state} eq ($how eq 'stalled' ? 'active' : 'idle') }, "the worker is $how");
	return;
}

# --- DROP, RENAME, TEMPLATE ---
my $number = 0;
foreach my $how (qw(lingering stalled))
{
	my %statement = (
		'DROP DATABASE' => 'DROP DATABASE it',
		'DROP DATABASE ... FORCE' => 'DROP DATABASE it WITH (FORCE)',
		'CREATE DATABASE ... TEMPLATE' => 'CREATE DATABASE copy TEMPLATE it',
		'RENAME' => 'ALTER DATABASE it RENAME TO renamed');

	foreach my $what (sort keys %statement)
	{
		subtest "$what while the worker is $how" => sub {
			with_database('it', 'space-0002');
			keep_worker('it', 'space-0002', $how);
			my $answer = $t->try($statement{$what});
			ok($answer->{ok}, 'it works') or diag $answer->{err};
			cmp_ok($answer->{seconds}, '<', 3, "... soon ($answer->{seconds} s)");
			$cobot->clear_faults;
			like($t->request($home)->{result}, qr/^ok/, 'other databases are worked for');

			if ($what =~ /TEMPLATE/)
			{
				my $runs = runs_in('it');
				$t->wait_until(sub { runs_in('it') > $runs }, 'the work is done after all') if $how eq 'stalled';
				is($t->worker('copy'), undef, 'nobody works in the copy');
				name_databases('postgres,it,copy');
				$cobot->clear_log;
				$t->wait_for_worker('copy');
				$t->wait_until(sub { $t->worker('copy')->{state} eq 'idle' }, 'the worker of the copy has looked');
				is(scalar($cobot->log), 0, '... and where the setting names it, it asks nothing before somebody arms it');
				name_databases('postgres');
				$t->wait_for_no_worker($_) foreach 'it', 'copy';
				pass('a worker leaves a database that the setting names no more');
				$t->sql('DROP DATABASE copy');
				$t->sql('DROP DATABASE it');
			}
			elsif ($what eq 'RENAME')
			{
				my $runs = runs_in('renamed');
				name_databases('postgres,renamed');
				sql_in('renamed', 'SELECT smartspace.cobot_request_sync()');
				$t->wait_until(sub { runs_in('renamed') > $runs }, 'work under the new name');
				pass('under its new name it is worked for');
				name_databases('postgres');
				$t->wait_for_no_worker('renamed');
				$t->sql('DROP DATABASE renamed');
			}
			else
			{
				# one of the same name, later
				$t->sql('CREATE DATABASE it');
				sql_in('it', 'CREATE EXTENSION smartspace_cobot');
				sql_in('it', "SELECT smartspace.cobot_create_integration('x', 'space-0003'); SELECT state FROM smartspace.cobot_connect_token(1, 'admin-token')");
				$t->wait_until(sub { runs_in('it') > 0 }, 'a run in the new database');
				pass('another database of that name is worked for');
				name_databases('postgres');
				$t->wait_for_no_worker('it');
				$t->sql('DROP DATABASE it');
			}
		};
	}
}

# --- a database that does not exist ---
subtest 'a database that is not there costs little, and is found when it comes' => sub {
	$t->mark_log;
	name_databases('postgres,missing,"Odd Name"');
	my $start = time;
	$t->wait_until(sub { $t->logged(qr/FATAL:  database "missing" does not exist/) >= 3 }, 'three attempts');
	my $seconds = time - $start;
	cmp_ok($seconds, '>', 2, "it is tried again with longer and longer pauses ($seconds s for three attempts)");
	cmp_ok($seconds, '<', 15, '... but is');
	like($t->request($home)->{result}, qr/^ok/, 'the others are worked for');
	$t->sql('CREATE DATABASE "Odd Name"');
	sql_in('Odd Name', 'CREATE EXTENSION smartspace_cobot');
	sql_in('Odd Name', "SELECT smartspace.cobot_create_integration('x', 'space-0004'); SELECT state FROM smartspace.cobot_connect_token(1, 'admin-token')");
	$t->wait_until(sub { runs_in('Odd Name') > 0 }, 'a run in the new database');
	pass('one that comes later is found, whatever its name');
	name_databases('postgres');
	$t->wait_for_no_worker('Odd Name');
	$t->mark_log;
	$t->request($home);
	is($t->logged(qr/missing/), 0, 'one that is named no more is not tried');
};

subtest 'the setting is checked' => sub {
	foreach my $wrong ("'a,,b'", "'\"a'", "'" . join(',', map { "d$_" } 1 .. 65) . "'")
	{
		$t->mark_log;
		$t->node->append_conf('postgresql.conf', "smartspace_cobot.databases = $wrong");
		$t->node->reload;
		$t->wait_until(sub { $t->logged(qr/invalid value for parameter "smartspace_cobot.databases"/) > 0 }, 'the setting is refused');
		pass('a list that cannot be read is refused');
		name_databases('postgres');
	}
	like($t->request($home)->{result}, qr/^ok/, 'and all goes on');
};

# --- how many ---
subtest 'no more workers than max_workers at a time' => sub {
	$t->sql("CREATE DATABASE $_") foreach qw(w1 w2 w3);
	foreach my $name (qw(w1 w2 w3))
	{
		sql_in($name, 'CREATE EXTENSION smartspace_cobot');
		sql_in($name, "SELECT smartspace.cobot_create_integration('x', 'space-0002'); SELECT state FROM smartspace.cobot_connect_token(1, 'admin-token')");
	}
	name_databases('w1,w2,w3', "smartspace_cobot.max_workers = 2\nsmartspace_cobot.worker_linger = 1");
	my $most = 0;
	$t->wait_until(sub {
		my $count = () = $t->processes('worker');
		$most = $count if $count > $most;
		return 3 == grep { runs_in($_) > 0 } qw(w1 w2 w3);
	}, 'all have had their turn');
	is($most, 2, 'two at a time, and each comes to its turn');
	name_databases('postgres', 'smartspace_cobot.max_workers = 4');
};

subtest 'no free worker process: said once, and tried again' => sub {
	$t->node->append_conf('postgresql.conf', "max_worker_processes = 2\nmax_logical_replication_workers = 0\nsmartspace_cobot.worker_linger = 2");
	$t->node->restart;    # the launcher, and one more
	$t->mark_log;
	name_databases('postgres,w1,w2');
	$t->wait_until(sub { $t->logged(qr/no free background worker for smartspace_cobot/) > 0 }, 'it is said');
	my %before = map { $_ => runs_in($_) } qw(postgres w1 w2);
	sql_in($_, 'SELECT smartspace.cobot_request_sync()') foreach keys %before;
	$t->wait_until(sub { 3 == grep { runs_in($_) > $before{$_} } keys %before }, 'all have had their turn');
	pass('each database has its turn all the same');
	cmp_ok($t->logged(qr/no free background worker for smartspace_cobot/), '<=', 3, '... with few lines in the log');
};

done_testing;
