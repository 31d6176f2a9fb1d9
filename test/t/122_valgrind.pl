# "make valgrind" (test/valgrind) takes long and is run seldom, so here is shown in seconds
# that it would find something: everything it looks for is planted in a module, which runs
# in the server under valgrind and is judged like the library. What is done rightly is no
# finding, and so are the ways of the library itself to libcurl, cJSON and OpenSSL.
use strict;
use warnings;

use Cwd qw(getcwd);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir;
my $valgrind = getcwd . '/test/valgrind';
my $postgres = (qx(pg_config --bindir) =~ s/\n//r) . '/postgres';
my $include = qx(pg_config --includedir-server) =~ s/\n//r;
my $node = PostgreSQL::Test::Cluster->new('main');

# Runs statements under valgrind, in a process without postmaster; returns where the reports are.
sub under_valgrind
{
	my ($name, @statements) = @_;
	my $logs = "$dir/$name";
	my $output;

	mkdir $logs or die "$logs: $!";
	IPC::Run::run([ "$valgrind/memcheck", $logs, $postgres, '--single', '-D', $node->data_dir, '-c', 'smartspace_cobot.connect_to=127.0.0.1:1',
			'-c', 'smartspace_cobot.max_retries=0', 'postgres' ], '<', \(join "\n", @statements), '>&', \$output);
	note $output;
	return ($logs, $output);
}

sub judge
{
	my ($logs, $source) = @_;
	my $output = qx{$^X $valgrind/judge.pl '$logs' '$source' 2>&1};

	return ($? >> 8, $output);
}

sub write_log
{
	my ($name, $text) = @_;

	mkdir "$dir/$name" or die $!;
	append_to_file("$dir/$name/1.log", $text);
	return "$dir/$name";
}

my $log = qx{cc -std=gnu99 -g -O2 -fPIC -shared -Wall -Wno-declaration-after-statement -Wno-use-after-free -isystem '$include' -o '$dir/planted.so' $valgrind/planted.c -lcurl -lcjson -lcrypto 2>&1};
is($?, 0, 'the faults are built') or die $log;
$node->init;

my @planted = slurp_file("$valgrind/planted.c") =~ /^PG_FUNCTION_INFO_V1\((plant_\w+)\);/mg;
my ($logs) = under_valgrind('planted', map { ("CREATE FUNCTION $_() RETURNS void LANGUAGE c AS '$dir/planted'", "SELECT $_()") } @planted, 'everything_right');
my ($status, $output) = judge($logs, "$valgrind/");
is($status, 1, 'what is planted fails the run');
like($output, qr/^valgrind: 1 processes, 1 of them to their end, /m, 'of a process that came to its end');
cmp_ok(@planted, '>=', 10, '(there are faults)');
my @reports = split /\n\n/, $output;
foreach my $fault (@planted)
{
	my $frame = $fault eq 'plant_lost_by_thread' ? qr/: curl_easy_duphandle .*\n.*: start_thread / : qr/: $fault /;

	ok((grep { /$frame/ } @reports), "found: $fault");
}
is(scalar(grep { /: everything_right / } @reports), 0, 'what is right is not');

my $said;
($logs, $said) = under_valgrind('library', 'CREATE EXTENSION smartspace_cobot', "SELECT smartspace.cobot_create_integration('loft', 'demo-space', 'client', 'secret')",
	"SELECT smartspace.cobot_connect_url(1, 'https://backend.example/cobot')", "SELECT smartspace.cobot_connect_token(1, 'some-token')");
like($said, qr/Cobot cannot be reached/, 'the library goes as far as it gets alone');
($status, $output) = judge($logs, getcwd . '/src/');
is($status, 0, 'and nothing of it is found') or diag $output;

is((judge(write_log('killed', "==1== Memcheck, a memory error detector\n==1== \n"), '/src/'))[0] != 0, 1, 'no judgement about processes that were killed');
isnt((judge("$dir/nothing", '/src/'))[0], 0, 'nor about none');
done_testing();
