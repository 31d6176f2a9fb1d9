# A dump holds what people entered and what was mirrored, with its ids, and no secret.
# The copy gets the same grants by its triggers, asks Cobot nothing, and goes on where
# the original was once somebody arms and connects it on purpose.
use strict;
use warnings;

use CobotMirror;
use CobotTest;
use PostgreSQL::Test::Utils;
use Test::More;

my @dumped = qw(cobot_integration cobot_plan cobot_membership user_group user_group_assignment building building_entry mobile_app);

# --- given: a synchronised space with all that hangs on it ---
my $t = CobotTest->new(members => 25);
my $cobot = $t->cobot;
my $node = $t->node;
my $dir = PostgreSQL::Test::Utils::tempdir;
my $space = $t->connect_space('demo-space');

$t->sql("UPDATE smartspace.cobot_integration SET name = E'Straße \\\\ \"Loft\"\\n', client_id = 'client'");
$t->sync($space);
my @plans = map { $_->{cobot_id} } $t->rows('SELECT cobot_id FROM smartspace.cobot_plan ORDER BY id');
my @groups = map { $t->group("Group $_", identifier => $_) } qw(Workshop staff Büro);
$t->assign($plans[0], @groups);
$t->assign($plans[1], $groups[0]);
my @members = map { $_->{cobot_id} } $t->rows('SELECT cobot_id FROM smartspace.cobot_membership WHERE plan_id IS NOT NULL ORDER BY id');
$cobot->delete_member('demo-space', $members[0]);
$cobot->patch_member('demo-space', $members[1], canceled_to => '2099/03/31');
$cobot->patch_member('demo-space', $members[2], name => "Tab\t, newline\n, backslash \\, quote \" and \\. alone");
$cobot->set_field('demo-space', $members[2], smart_spaces_access_additional_units => 'staff, Ghost');
$cobot->add_member('demo-space', id => 'later', plan => { parent_plan => { id => $plans[0] } }, starts_at => '2098/01/01');
$t->sync($space);
$t->sql(<<"SQL");
INSERT INTO smartspace.building (integration_id, name, external_identifier, is_entrance) VALUES ($space, 'Main house', 'house-1', true), ($space, 'Locker', NULL, false);
INSERT INTO smartspace.building_entry (membership_id, building_id, entered_at, source_reference)
	SELECT m.id, b.id, '2026-01-01 08:00+00'::timestamptz + m.id * interval '1 minute', 'event ' || m.id FROM smartspace.cobot_membership m, smartspace.building b WHERE b.is_entrance;
SELECT smartspace.cobot_create_mobile_app('App', 'app-client', 'app-secret', '{app://login}');
UPDATE smartspace.mobile_app SET other_details = '{"button": "Sign in"}';
INSERT INTO smartspace.user_group (id, name) OVERRIDING SYSTEM VALUE VALUES (1000, 'Gone');
DELETE FROM smartspace.user_group WHERE id = 1000;
SQL

sub sql_in
{
	my ($database, $sql) = @_;

	return $node->safe_psql($database, $sql);
}

# What is in the dumped tables, and who has which access.
sub contents_of
{
	my ($database) = @_;

	return join "\n", map { "-- $_\n" . sql_in($database, "SELECT row_to_json(t) FROM smartspace.$_ t ORDER BY t.id") } @dumped;
}

sub access_of
{
	my ($database) = @_;

	return sql_in($database, 'SELECT membership_id, user_group_id, source, valid FROM smartspace.user_group_member ORDER BY 1, 2, 3')
	  . "\n--\n" . sql_in($database, 'SELECT * FROM smartspace.access_now ORDER BY membership_id, user_group_id, source');
}

sub grants_differ_in
{
	my ($database) = @_;

	return sql_in($database, 'SELECT count(*) FROM (TABLE smartspace.access_due EXCEPT ALL'
		  . ' SELECT m.integration_id, m.plan_id, m.id, a.user_group_id, a.source, a.valid'
		  . ' FROM smartspace.user_group_member a JOIN smartspace.cobot_membership m ON m.id = a.membership_id) d')
	  + sql_in($database, 'SELECT abs((SELECT count(*) FROM smartspace.access_due) - (SELECT count(*) FROM smartspace.user_group_member))');
}

my $original = contents_of('postgres');
my $access = access_of('postgres');
like($original, qr/Main house.*event 1.*app:/s, '(buildings, entries and an app are among it)');
cmp_ok(scalar(() = $access =~ /\|(?:plan|individual)\|/g), '>', 20, '(and access by plan and by field)');
like($access, qr/\["2097.*\n--\n/s, '(and some that has not begun)');

my $plain = "$dir/plain.sql";
my $custom = "$dir/custom.dump";
my $data = "$dir/data.sql";
$node->command_ok([ 'pg_dump', '-f', $plain, $node->connstr('postgres') ], 'pg_dump');
$node->command_ok([ 'pg_dump', '-Fc', '-f', $custom, $node->connstr('postgres') ], 'pg_dump, custom format');
$node->command_ok([ 'pg_dump', '--data-only', '--disable-triggers', '-f', $data, $node->connstr('postgres') ], 'pg_dump, data only');
$cobot->clear_log;

# Everything that holds for any copy.
sub check_copy
{
	my ($name, $database) = @_;

	subtest $name => sub {
		is(contents_of($database), $original, 'the same rows with the same ids');
		is(access_of($database), $access, 'the same grants, the same access now');
		is(grants_differ_in($database), 0, 'the grants equal their definition');
		is(sql_in($database, "SELECT count(*) FROM smartspace.$_"), '0', "no row of $_ came along") foreach qw(cobot_secret mobile_app_secret);
		like($t->try("SELECT smartspace.cobot_login_url(1, 'app://login')", dbname => $database)->{err},
			qr/ERROR:  55000: mobile app "App" has no OAuth client\n.*HINT:  Give it one with smartspace\.cobot_set_mobile_app_client\(1,/s, 'nobody can log in to the app');
		like(sql_in($database, 'SELECT state, reason, summary FROM smartspace.cobot_status'),
			qr/^disconnected\|foreign_database\|not armed for this database.*members keep the access they have until their own last day/, 'cobot_status says disconnected, and not armed');

		my $answer = $t->try("SELECT smartspace.cobot_sync($space)", dbname => $database);
		is($answer->{sqlstate}, '55000', 'it refuses to synchronise');
		like($answer->{err}, qr/is not armed for this database.*HINT:.*SELECT smartspace.cobot_arm\($space\)/s, 'and says what to do');
		is($t->try("SELECT smartspace.cobot_ensure_custom_field($space)", dbname => $database)->{sqlstate}, '55000', 'or to touch the custom fields');
		is(scalar(() = $cobot->log), 0, 'Cobot was asked nothing');
		is(sql_in($database, 'SELECT count(*) FROM smartspace.cobot_sync_run'), '0', 'there is no run');
	};
	return;
}

# New rows get ids that nobody has.
sub check_new_ids
{
	my ($name, $database) = @_;
	my %insert = (
		cobot_integration => "(name, subdomain) VALUES ('New', 'new')",
		cobot_plan => "(integration_id, cobot_id) VALUES ($space, 'new')",
		cobot_membership => "(integration_id, cobot_id) VALUES ($space, 'new')",
		user_group => "(name) VALUES ('New')",
		user_group_assignment => "(plan_id, user_group_id) SELECT p.id, g.id FROM smartspace.cobot_plan p, smartspace.user_group g WHERE p.cobot_id = 'new' AND g.name = 'New'",
		building => "(integration_id, name) VALUES ($space, 'New')",
		building_entry => "(membership_id, building_id) SELECT m.id, b.id FROM smartspace.cobot_membership m, smartspace.building b WHERE m.cobot_id = 'new' AND b.name = 'New'",
		mobile_app => "(name) VALUES ('New')");

	subtest $name => sub {
		foreach my $table (@dumped)
		{
			my $last = sql_in('postgres', "SELECT last_value FROM smartspace.${table}_id_seq");
			is(sql_in($database, "INSERT INTO smartspace.$table $insert{$table} RETURNING id"), $last + 1, "$table goes on where the original was");
		}
		is(grants_differ_in($database), 0, 'the grants equal their definition');
	};
	return;
}

# --- restored in different ways ---
sql_in('postgres', "CREATE DATABASE $_") foreach map { "copy$_" } 1 .. 6;
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $plain, $node->connstr('copy1') ], 'psql restores it');
check_copy('restored by psql', 'copy1');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-1', '-f', $plain, $node->connstr('copy2') ], 'psql restores it in one transaction');
check_copy('restored by psql in one transaction', 'copy2');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('copy3'), $custom ], 'pg_restore restores it');
check_copy('restored by pg_restore', 'copy3');
$node->command_ok([ 'pg_restore', '--exit-on-error', '--clean', '--if-exists', '-d', $node->connstr('copy3'), $custom ], 'pg_restore replaces it');
check_copy('replaced by pg_restore', 'copy3');
# pg_restore --jobs knows no order among the tables of an extension, so the data goes in by one job.
foreach my $section (qw(pre-data data post-data))
{
	$node->command_ok([ 'pg_restore', '--exit-on-error', "--section=$section", $section eq 'data' ? () : '--jobs=4',
			'-d', $node->connstr('copy4'), $custom ], "pg_restore restores the section $section");
}
check_copy('restored section by section', 'copy4');
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$custom.2", $node->connstr('copy4') ], 'pg_dump of the copy');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('copy5'), "$custom.2" ], 'pg_restore restores it');
check_copy('a copy of a copy', 'copy5');
check_new_ids('ids after a restore', 'copy5');

# --- data alone, without triggers: grants have to be computed ---
sql_in('copy6', 'CREATE EXTENSION smartspace_cobot');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $data, $node->connstr('copy6') ], 'data alone is restored, without triggers');
is(contents_of('copy6'), $original, 'the same rows with the same ids');
is(sql_in('copy6', 'SELECT count(*) FROM smartspace.user_group_member'), '0', 'no grants yet');
my $grants = sql_in('postgres', 'SELECT count(*) FROM smartspace.user_group_member');
is(sql_in('copy6', 'SELECT * FROM smartspace.cobot_recompute_access()'), "$grants|0|0", 'cobot_recompute_access() makes them all');
is(sql_in('copy6', 'SELECT * FROM smartspace.cobot_recompute_access()'), '0|0|0', 'and nothing the next time');
check_copy('data alone and cobot_recompute_access()', 'copy6');
check_new_ids('ids after data alone', 'copy6');

# --- somebody arms and connects the copy on purpose ---
is($t->try("SELECT smartspace.cobot_connect_token($space, 'admin-token')", dbname => 'copy1')->{sqlstate}, '55000', 'not armed, it cannot be connected');
sql_in('copy1', "SELECT smartspace.cobot_arm($space)");
is(sql_in('copy1', 'SELECT summary FROM smartspace.cobot_status'), 'disconnected; members keep the access they have until their own last day', 'armed, it is disconnected');
like($t->try("SELECT smartspace.cobot_sync($space)", dbname => 'copy1')->{err},
	qr/Tokens are not part of a dump.*HINT:  Connect it with smartspace.cobot_connect_token\($space, token\)/s, 'and says how to go on');
my $ids = sql_in('postgres', 'SELECT cobot_id, id FROM smartspace.cobot_membership ORDER BY 1');
is(sql_in('copy1', "SELECT state, space_name, custom_field FROM smartspace.cobot_connect_token($space, 'admin-token')"), 'connected|Demo Space|present', 'connected');
is(sql_in('copy1', 'SELECT state FROM smartspace.cobot_status'), 'connected', 'cobot_status says so');
is(sql_in('copy1', "SELECT members_added, members_changed, members_removed, grants_given, grants_changed, grants_taken FROM smartspace.cobot_sync($space)"),
	'0|0|0|0|0|0', 'the first run there finds nothing to change');
is(sql_in('copy1', 'SELECT cobot_id, id FROM smartspace.cobot_membership ORDER BY 1'), $ids, 'everybody has the same id');
is(access_of('copy1'), $access, 'and the same access');
$cobot->add_member('demo-space', id => $members[0], name => 'Back', plan => { parent_plan => { id => $plans[0] } });
is(sql_in('copy1', "SELECT members_added, grants_given FROM smartspace.cobot_sync($space)"), '1|3', 'who comes back');
is(sql_in('copy1', 'SELECT cobot_id, id FROM smartspace.cobot_membership ORDER BY 1'), $ids, 'has the same id, too');
is(grants_differ_in('copy1'), 0, 'the grants equal their definition');
is(contents_of('postgres'), $original, 'the original noticed nothing');
like($t->sync($space)->{result}, qr/^ok/, 'and still works');
is(mirror_differs($t, $space, 'demo-space'), '', 'its mirror equals Cobot');

done_testing();
