# From one version to the next: the library first, the extension's objects when somebody
# says ALTER EXTENSION UPDATE. There is no next version yet, so a small one is made here,
# in a server of its own.
use strict;
use warnings;

use CobotCatalog;
use CobotMirror;
use CobotRelease;
use CobotWorker;
use File::Copy qw(copy);
use File::Path qw(make_path);
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir;
my ($server) = qx(pg_config --bindir) =~ m{^(.*)/lib/postgresql/\d+/bin$} or plan skip_all => 'needs a server that may be copied';
my $major = (qx(pg_config --version) =~ /(\d+)/)[0];
my $install = "$dir/usr/lib/postgresql/$major";
my $scripts = "$dir/usr/share/postgresql/$major/extension";
my $old = version_of('.');
my $next = join '.', map { $_->[0], $_->[1] + 1 } [ split /\./, $old ];

# --- the next version: a column and a function more ---
my $function = <<'SQL';
CREATE FUNCTION smartspace.cobot_floors(building bigint)
RETURNS integer
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS 'SELECT b.floors FROM smartspace.building b WHERE b.id = building';
COMMENT ON FUNCTION smartspace.cobot_floors(bigint) IS 'how many floors a building has';
COMMENT ON COLUMN smartspace.building.floors IS 'null: nobody counted';
SQL
my $update = <<"SQL";
\\echo Use "ALTER EXTENSION smartspace_cobot UPDATE TO '$next'" to load this file. \\quit

ALTER TABLE smartspace.building ADD COLUMN floors integer;
$function
REVOKE ALL ON FUNCTION smartspace.cobot_floors(bigint) FROM PUBLIC;
SELECT smartspace.cobot_wake_worker();
SQL

sub write_file
{
	my ($path, $text) = @_;

	open my $file, '>', $path or die "$path: $!";
	print $file $text;
	close $file;
	return;
}

# This version as it is when it is out.
sub make_release
{
	system('cp', '-a', $server, "$dir/usr") == 0 or die 'could not copy the server';
	system('cp', '-a', '.', "$dir/source") == 0 or die 'could not copy the source';
	copy("smartspace_cobot--$old.sql", "$dir/$old.sql") or die $!;
	make_path("$dir/source/src/sql/updates", "$dir/source/src/sql/released");
	copy("smartspace_cobot--$old.sql", "$dir/source/src/sql/released/") or die $!;

	my $log = qx{make -C $dir/source -s PG_CONFIG=$install/bin/pg_config install 2>&1};
	is($?, 0, 'a version that is out is built and installed') or diag $log;
	is_deeply([ release_faults("$dir/source") ], [], 'it has no fault');
	return;
}

# Changes a file of the made-up source for a moment; returns what is said to be wrong.
sub faults_with
{
	my ($file, $change) = @_;
	my $text = slurp_file("$dir/source/$file");

	$change ? write_file("$dir/source/$file", $change->($text)) : unlink "$dir/source/$file";
	my $faults = join "\n", release_faults("$dir/source");
	write_file("$dir/source/$file", $text);
	return $faults;
}

sub make_next
{
	my $control = slurp_file("$dir/source/smartspace_cobot.control");
	write_file("$dir/source/smartspace_cobot.control", $control =~ s/^(default_version = ).*/$1'$next'/mr);

	my $building = slurp_file("$dir/source/src/sql/building.sql");
	$building =~ s/^(\tcreated_at timestamptz NOT NULL DEFAULT now\(\),\n)(\tCONSTRAINT .*\n)/$1\tfloors integer,\n$2/m or die 'building.sql is not as expected';
	write_file("$dir/source/src/sql/building.sql", "$building\n$function");
	write_file("$dir/source/src/sql/updates/smartspace_cobot--$old--$next.sql", $update);
	write_file("$dir/source/META.json", slurp_file("$dir/source/META.json") =~ s/^(\t+"version": ")[^"]*/$1$next.0/gmr);
	# quickly, for what it does is what counts
	my $log = qx{make -C $dir/source -s -j2 PROFILE=-O0 with_llvm=no PG_CONFIG=$install/bin/pg_config install 2>&1};
	is($?, 0, 'the next version is built and installed') or die $log;
	return;
}

# Things to compare before and after.
sub contents
{
	my ($t, $database) = @_;

	return join "\n", map { $t->node->safe_psql($database, "SELECT '$_', to_jsonb(t) - 'floors' - 'id' FROM smartspace.$_ t ORDER BY t.id") }
	  qw(cobot_integration cobot_plan cobot_membership user_group user_group_assignment building building_entry);
}

sub version_in
{
	my ($t, $database) = @_;

	return $t->node->safe_psql($database, "SELECT extversion FROM pg_extension WHERE extname = 'smartspace_cobot'");
}

is(join("\n", release_faults('.')), '', 'whoever has a released version of this extension gets to the one that is here');
make_release();
my $changed = "the install script of $old changed after its release: it needs the next default_version and an update script";
is(faults_with("smartspace_cobot--$old.sql", sub { "$_[0]-- more\n" }), $changed, 'an install script that changes after its release is a fault');
make_next();
is(join("\n", release_faults("$dir/source")), '', 'the next version has none');
is(faults_with("src/sql/updates/smartspace_cobot--$old--$next.sql"), "no update script leads from $old to $next", 'without the update script it has one');
like(faults_with("src/sql/updates/smartspace_cobot--$old--$next.sql", sub { $_[0] =~ s/^.*?\n//r }), qr/does not begin with/, 'with one that psql would run, too');
is(faults_with('META.json', sub { $_[0] =~ s/\Q"$next.0"/"$old.0"/r }), "META.json is of another version than $next", 'and with a version that was forgotten');
my $t = CobotWorker->new(members => 10, extension => 0, install => $install, databases => 'postgres, ancient',
	conf => "log_min_messages = debug1\n");
my $node = $t->node;

# --- given: the library of the next version, and the objects of this one ---
$t->sql("CREATE EXTENSION smartspace_cobot VERSION '$old'");
is(version_in($t, 'postgres'), $old, 'the older objects');
is($t->sql('SELECT library FROM smartspace.cobot_library_version()'), $next, 'with the newer library');

my $space = $t->connect_space('demo-space');
my $run = $t->wait_for_run($space);
like($run->{result}, qr/^ok/, 'the worker synchronises');
my $group = $t->group('Door');
$t->assign($_->{cobot_id}, $group) foreach $t->rows('SELECT cobot_id FROM smartspace.cobot_plan');
$t->sql("INSERT INTO smartspace.building (integration_id, name) VALUES ($space, 'Main house');"
	  . ' INSERT INTO smartspace.building_entry (membership_id, building_id) SELECT m.id, b.id FROM smartspace.cobot_membership m, smartspace.building b');
like($t->sync($space)->{result}, qr/^ok/, 'so does somebody by hand');
is(mirror_differs($t, $space, 'demo-space'), '', 'the mirror equals Cobot');
is($t->grants_differ, 0, 'the grants equal their definition');
foreach my $statement ('SELECT count(*) FROM smartspace.cobot_status', 'SELECT count(*) FROM smartspace.cobot_problem', 'SELECT count(*) FROM smartspace.access_now',
	"SELECT smartspace.cobot_explain(min(id)) FROM smartspace.cobot_membership", 'SELECT smartspace.cobot_run_due()', 'SELECT smartspace.cobot_library_version()')
{
	ok($t->try($statement)->{ok}, "works: $statement");
}

# --- a dump of now, for later ---
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dir/old.dump", '-d', $node->connstr('postgres') ], 'a dump of the older version');

# --- when: the objects follow ---
my $before = contents($t, 'postgres');
$t->sql('ALTER EXTENSION smartspace_cobot UPDATE');
is(version_in($t, 'postgres'), $next, 'the objects follow');
is(contents($t, 'postgres'), $before, 'everything is still there');
is($t->sql("UPDATE smartspace.building SET floors = 3; SELECT smartspace.cobot_floors(min(id)) FROM smartspace.building"), '3', 'what is new works');
$run = $t->request($space);
like($run->{result}, qr/^ok/, 'the worker goes on');
is($t->grants_differ, 0, 'the grants equal their definition');
$t->sql('CREATE DATABASE fresh');
$node->safe_psql('fresh', 'CREATE EXTENSION smartspace_cobot');
is(version_in($t, 'fresh'), $next, 'a new installation is of the next version');
is(catalog_differs($t, 'postgres', 'fresh'), '', 'updated equals fresh');
cmp_ok(catalog_of($t, 'fresh'), '>', 500, 'and that is many parts');

# --- every version that was ever released gets there, and is served on its way ---
my $c_functions = "FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE l.lanname = 'c' AND p.pronamespace = 'smartspace'::regnamespace";
foreach my $released (released_in("$dir/source"))
{
	$t->sql("CREATE DATABASE walk");
	$node->safe_psql('walk', "CREATE EXTENSION smartspace_cobot VERSION '$released'");
	is($node->safe_psql('walk', "SELECT count(fmgr_c_validator(p.oid)) = count(*) AND count(*) > 50 $c_functions"), 't', "$released: every function is in the newer library");
	$node->safe_psql('walk', 'ALTER EXTENSION smartspace_cobot UPDATE');
	is(version_in($t, 'walk'), $next, "$released: updated");
	is(catalog_differs($t, 'walk', 'fresh'), '', "$released: equals fresh");
	$t->sql('DROP DATABASE walk');
}

# --- a dump of the older version goes into the next ---
$t->sql('CREATE DATABASE restored');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('restored'), "$dir/old.dump" ], 'the dump of the older version is restored');
is(version_in($t, 'restored'), $next, 'as the next one');
is(contents($t, 'restored'), $before, 'with everything in it');
is($node->safe_psql('restored', 'SELECT count(*) FROM smartspace.building WHERE floors IS NULL'), '1', 'and nothing in the new column');

# --- what the library does not serve, the worker leaves alone ---
copy("$dir/$old.sql", "$scripts/smartspace_cobot--0.9.sql") or die $!;
write_file("$scripts/smartspace_cobot--0.9--$old.sql", "SELECT smartspace.cobot_wake_worker();\n");
$t->mark_log;
$t->sql('CREATE DATABASE ancient');
$node->safe_psql('ancient', "CREATE EXTENSION smartspace_cobot VERSION '0.9'");
my $left_alone = 'extension smartspace_cobot 0\.9 in database "ancient" is left alone by the worker, which serves';
my $started = 'starting background worker process "smartspace_cobot worker: ancient"';
$t->wait_until(sub { $t->logged($left_alone) }, 'a word in the log');
foreach (1 .. 2)
{
	$t->wait_for_no_worker('ancient');
	my $count = $t->logged($started);
	$node->safe_psql('ancient', 'SELECT smartspace.cobot_wake_worker()');
	$t->wait_until(sub { $t->logged($started) > $count }, 'a worker looks again');
}
$t->wait_for_no_worker('ancient');
is($t->logged($left_alone), 1, 'once');
like(slurp_file($node->logfile), qr/HINT:  Run in that database: ALTER EXTENSION smartspace_cobot UPDATE\.$/m, 'with what to do');
$node->safe_psql('ancient', 'ALTER EXTENSION smartspace_cobot UPDATE');
is(version_in($t, 'ancient'), $next, 'over two versions');
is(catalog_differs($t, 'ancient', 'postgres'), '', 'equal, too');

# --- the older library with the newer objects: somebody took the package back ---
copy("$server/lib/postgresql/$major/lib/smartspace_cobot.so", "$install/lib/smartspace_cobot.so.old") or die $!;
rename "$install/lib/smartspace_cobot.so.old", "$install/lib/smartspace_cobot.so" or die $!;
$t->mark_log;
$node->restart;
is($t->sql('SELECT library FROM smartspace.cobot_library_version()'), $old, 'the older library');
$t->wait_until(sub { $t->logged("extension smartspace_cobot \Q$next\E in database \"postgres\" is left alone by the worker") }, 'a word in the log');
like(slurp_file($node->logfile), qr/HINT:  Install the package of that version and restart the server\.$/m, 'with what to do');
my $last = $t->last_run($space);
$t->sql("SELECT smartspace.cobot_request_sync($space)");
$t->wait_for_no_worker;
is($t->last_run($space)->{id}, $last->{id}, 'the worker does nothing');
is($t->sql("SELECT count(*) > 0 FROM smartspace.access_now"), 't', 'doors are answered');

done_testing();
