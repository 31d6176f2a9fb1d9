# Three levels, each allowed exactly what the list in cobot_privilege says, and roles that
# are limited to some integrations: they see and touch nothing of the others, by no view, no
# function, no error, and by nobody else's function either.
use strict;
use warnings;

use CobotCalls;
use CobotTest;
use File::Temp;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

# --- given: two spaces; ids of the second begin at 70001, and its names all have "bravo" in them ---
my $world = File::Temp->new;
print $world encode_json({
	users => [ { id => 'admin', email => 'admin@example.com', admin_of => [ 'alpha', 'bravo' ] } ],
	tokens => [ { token => 'admin-token', user => 'admin' } ],
	spaces => [ map { my $s = $_; {
		subdomain => $s, plans => [ { id => "$s-full", name => "$s full" }, { id => "$s-part", name => "$s part" } ],
		memberships => [ map { { id => "$s-m$_", name => "$s member $_", email => "m$_\@$s.example", plan => { parent_plan => { id => "$s-full" } } } } 1 .. 3 ]
	} } qw(alpha bravo) ] });
$world->flush;
chmod 0644, $world->filename;
my $t = CobotTest->new(state => $world->filename);

my $alpha = $t->connect_space('alpha');
$t->sync($alpha);
my @sequences = map { $_->{name} } $t->rows("SELECT c.oid::regclass::text AS name FROM pg_class c WHERE c.relnamespace = 'smartspace'::regnamespace AND c.relkind = 'S'");
my $door = $t->group('Door');
$t->assign('alpha-full', $door);
my $alpha_member = $t->sql("SELECT min(id) FROM smartspace.cobot_membership");
my $alpha_plan = $t->sql("SELECT id FROM smartspace.cobot_plan WHERE cobot_id = 'alpha-part'");
my $alpha_building = $t->sql("INSERT INTO smartspace.building (integration_id, name) VALUES ($alpha, 'alpha house') RETURNING id");
$t->sql("INSERT INTO smartspace.building_entry (membership_id, building_id) VALUES ($alpha_member, $alpha_building); SELECT smartspace.cobot_grant($alpha_member, $door, reason => 'alpha reason')");

$t->sql("ALTER SEQUENCE $_ RESTART 70001") foreach @sequences;
my $bravo = $t->connect_space('bravo');
$t->sync($bravo);
my $bravo_door = $t->group('Other door', identifier => 'other');
$t->assign('bravo-full', $bravo_door);
my $bravo_member = $t->sql("SELECT min(id) FROM smartspace.cobot_membership WHERE integration_id = $bravo");
my $bravo_plan = $t->sql("SELECT id FROM smartspace.cobot_plan WHERE cobot_id = 'bravo-part'");
my $bravo_run = $t->sql("SELECT max(id) FROM smartspace.cobot_sync_run");
my $bravo_building = $t->sql("INSERT INTO smartspace.building (integration_id, name) VALUES ($bravo, 'bravo house') RETURNING id");
my $bravo_entry = $t->sql("INSERT INTO smartspace.building_entry (membership_id, building_id) VALUES ($bravo_member, $bravo_building) RETURNING id");
$t->sql(<<"SQL");
SELECT smartspace.cobot_grant($bravo_member, $bravo_door, reason => 'bravo reason');
INSERT INTO smartspace.cobot_record_problem (integration_id, problem, record, cobot_id, detail) VALUES ($bravo, 'bad_record', 'membership', 'bravo-m2', 'bravo detail');
INSERT INTO smartspace.cobot_entry_problem (relation, error_code, message, entries) VALUES ('bravo.doors', '22000', 'bravo message', 1);
INSERT INTO smartspace.cobot_webhook_hint (integration_id, cobot_id) VALUES ($bravo, 'bravo-m1');
UPDATE smartspace.cobot_sync_change SET verdict = 'held' WHERE run_id = $bravo_run AND cobot_id = 'bravo-m3';
SQL
$t->sql("SELECT smartspace.cobot_set_client($_, 'client', 'secret')") foreach $alpha, $bravo;
is("$bravo $bravo_member", '70001 70001', '(the second space can be told by its ids)');

# Of a query, as a role: what it prints, errors and all.
sub as_role
{
	my ($role, $sql) = @_;

	return $t->try("SET SESSION AUTHORIZATION $role; $sql");
}

# --- the list is complete ---
is($t->sql(<<'SQL'), '', 'every table, view and function stands in the list');
SELECT string_agg(o.kind || ' ' || o.name, ', ' ORDER BY o.name) FROM (
	SELECT 'table' AS kind, c.relname::text AS name FROM pg_class c WHERE c.relnamespace = 'smartspace'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p', 'f')
	UNION SELECT 'function', p.proname::text FROM pg_proc p WHERE p.pronamespace = 'smartspace'::regnamespace) o
WHERE NOT EXISTS (SELECT FROM smartspace.cobot_privilege l WHERE (l.kind, l.name) = (o.kind, o.name))
SQL
is($t->sql(<<'SQL'), '', 'the list has nothing else');
SELECT string_agg(l.kind || ' ' || l.name, ', ') FROM smartspace.cobot_privilege l
WHERE NOT EXISTS (SELECT FROM pg_class c WHERE l.kind = 'table' AND c.relname = l.name AND c.relnamespace = 'smartspace'::regnamespace)
	AND NOT EXISTS (SELECT FROM pg_proc p WHERE l.kind = 'function' AND p.proname = l.name AND p.pronamespace = 'smartspace'::regnamespace)
SQL
is($t->sql(<<'SQL'), '', 'each stands there with one least level, and the owner\'s with nothing else');
SELECT string_agg(l.name, ', ') FROM (SELECT l.kind, l.name FROM smartspace.cobot_privilege l GROUP BY l.kind, l.name
	HAVING bool_or(l.level = 'owner') <> bool_and(l.level = 'owner') OR bool_or((l.level = 'owner') <> (l.privileges IS NULL))
		OR bool_or(l.level NOT IN ('look', 'operate', 'administer', 'owner')) OR l.kind = 'function' AND count(*) > 1
		OR count(DISTINCT l.privileges) < count(l.privileges)) l
SQL
is($t->sql(<<'SQL'), '', 'what says to whom a row belongs is filtered for those who are limited');
SELECT string_agg(c.relname, ', ') FROM pg_class c JOIN smartspace.cobot_privilege l ON l.kind = 'table' AND l.name = c.relname AND l.for_limited
WHERE c.relnamespace = 'smartspace'::regnamespace AND c.relkind = 'r' AND c.relname <> 'user_group'
	AND NOT EXISTS (SELECT FROM smartspace.cobot_privilege f WHERE f.name = l.name AND f.row_filter IS NOT NULL)
SQL
is($t->sql("SELECT string_agg(c.relname, ', ') FROM pg_class c WHERE c.relnamespace = 'smartspace'::regnamespace AND c.relkind = 'v' AND NOT coalesce('security_invoker=true' = ANY (c.reloptions), false)"),
	'', 'views read with the reader\'s rights');
is($t->sql("SELECT string_agg(p.oid::regprocedure::text, ', ') FROM pg_proc p WHERE p.pronamespace = 'smartspace'::regnamespace AND p.prosecdef AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)"),
	'', 'functions with the owner\'s rights pin their search_path');

# --- each level against every function and table ---
my @rank = qw(look operate administer);
$t->sql(join ';', map { "CREATE ROLE r_$_ LOGIN" } @rank, 'nothing');
is($t->sql("SELECT smartspace.cobot_grant_role('r_$_', '$_')"), "r_$_: $_ in all integrations", "granted: $_") foreach @rank;

# Says for each function (called with nulls) and table (read, and each kind of write) whether the role was let in.
$t->sql(<<'SQL');
CREATE FUNCTION attempt(sql text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		EXECUTE sql;
		RAISE EXCEPTION 'undo' USING ERRCODE = 'P0099';
	EXCEPTION WHEN OTHERS THEN
		RETURN CASE WHEN SQLSTATE = '42501' AND SQLERRM ~ '^permission denied for (schema|table|view|function)' THEN 'denied' ELSE 'allowed' END;
	END;
END $$;
CREATE VIEW attempts AS
SELECT 'function' AS kind, p.proname::text AS name, 'EXECUTE' AS privilege,
	format('SELECT smartspace.%I(%s)', p.proname, (SELECT string_agg(format('(SELECT NULL::%s)', a.t::regtype), ', ' ORDER BY a.n) FROM unnest(p.proargtypes) WITH ORDINALITY a (t, n))) AS sql
FROM pg_proc p WHERE p.pronamespace = 'smartspace'::regnamespace AND p.prorettype <> 'trigger'::regtype
UNION ALL
SELECT 'table', c.relname::text, v.privilege, format(v.sql, c.oid::regclass, (SELECT quote_ident(a.attname) FROM pg_attribute a
	WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attidentity = '' AND (c.relname <> 'cobot_integration' OR a.attname = 'name') ORDER BY a.attnum LIMIT 1))
FROM pg_class c CROSS JOIN (VALUES ('SELECT', 'SELECT count(*) FROM (SELECT %s.* FROM %1$s LIMIT 1) x'), ('INSERT', 'INSERT INTO %s DEFAULT VALUES'),
	('UPDATE', 'UPDATE %s SET %s = NULL WHERE false'), ('DELETE', 'DELETE FROM %s'), ('TRUNCATE', 'TRUNCATE %s CASCADE')) v (privilege, sql)
WHERE c.relnamespace = 'smartspace'::regnamespace AND c.relkind IN ('r', 'v') AND (c.relkind = 'r' OR v.privilege = 'SELECT');
GRANT SELECT ON attempts TO PUBLIC;
SQL
my %expected;
foreach my $row ($t->rows('SELECT * FROM smartspace.cobot_privilege WHERE privileges IS NOT NULL'))
{
	foreach my $privilege ($row->{privileges} =~ /\b([A-Z]+)\b/g)
	{
		$expected{$_}{"$row->{kind} $row->{name} $privilege"} = $row->{for_limited} ? 2 : 1
		  foreach grep { my $r = $_; (grep { $rank[$_] eq $row->{level} } 0 .. $r) } 0 .. 2;
	}
}
foreach my $level (-1 .. 2)
{
	my $role = $level < 0 ? 'r_nothing' : "r_$rank[$level]";
	# as a member by inheritance, by SET ROLE, and as itself
	my @rows = $t->rows("SELECT a.kind, a.name, a.privilege, a.sql FROM attempts a ORDER BY 1, 2, 3");
	my $answer = $t->try("SET client_min_messages = error; SET SESSION AUTHORIZATION $role; " . join "\n", map { "SELECT '$_->{kind} $_->{name} $_->{privilege} ' || public.attempt(\$x\$$_->{sql}\$x\$);" } @rows);
	my %allowed = map { /^(.*) (allowed|denied)$/ && $2 eq 'allowed' ? ($1 => 1) : () } split /\n/, $answer->{out};

	ok($answer->{ok} && (() = $answer->{out} =~ /(?:allowed|denied)$/mg) == @rows, "$role tries everything") or diag $answer->{err};
	is(join(', ', grep { !$expected{$level}{$_} } sort keys %allowed), '', 'and is let in nowhere else');
	is(join(', ', grep { !$allowed{$_} && $_ !~ /cobot_entry_trigger/ } sort keys %{ $expected{$level} // {} }), '', 'and everywhere where it should be');
}
foreach my $view (map { $_->{name} } $t->rows("SELECT name FROM smartspace.cobot_privilege WHERE kind = 'table' AND level = 'look'"))
{
	my $answer = as_role('r_look', "SELECT * FROM smartspace.$view");

	ok($answer->{ok}, "look reads all of $view") or diag $answer->{err};
	is($answer->{out}, $t->sql("SELECT * FROM smartspace.$view"), 'and what the owner reads') unless $view =~ /status|progress|problem/;
}
is($t->sql("SELECT string_agg(c.relname, ', ') FROM pg_class c WHERE c.relnamespace = 'smartspace'::regnamespace AND c.relrowsecurity"), '',
	'there is no row level security as long as nobody is limited');

# --- members of a role ---
$t->sql('CREATE ROLE heir LOGIN IN ROLE r_operate; CREATE ROLE guest LOGIN NOINHERIT IN ROLE r_operate');
my $explain = "SELECT count(*) > 0 FROM smartspace.cobot_explain($alpha_member)";
is(as_role('heir', $explain)->{out}, 't', 'a member has the rights of the role');
is(as_role('guest', $explain)->{sqlstate}, '42501', 'not one who does not inherit');
is(as_role('guest', "SET ROLE r_operate; $explain")->{out}, 't', 'until SET ROLE');
is(as_role('heir', "SET ROLE NONE; $explain")->{out}, 't', 'SET ROLE NONE leaves what is inherited');

# --- another level, and none ---
my $acl = "SELECT string_agg(concat_ws(' ', o.name, o.acl), E'\\n' ORDER BY o.name, o.acl) FROM (SELECT c.oid::regclass::text AS name, c.relacl::text AS acl FROM pg_class c WHERE c.relnamespace = 'smartspace'::regnamespace"
  . " UNION ALL SELECT p.oid::regprocedure::text, p.proacl::text FROM pg_proc p WHERE p.pronamespace = 'smartspace'::regnamespace UNION ALL SELECT a.attrelid::regclass || '.' || a.attname, a.attacl::text FROM pg_attribute a WHERE a.attacl IS NOT NULL"
  . " UNION ALL SELECT 'schema', n.nspacl::text FROM pg_namespace n WHERE n.nspname = 'smartspace') o";
$t->sql("CREATE ROLE changing LOGIN");
my $before = $t->sql($acl);
$t->sql("SELECT smartspace.cobot_grant_role('changing', 'look')");
my $look = $t->sql($acl);
isnt($look, $before, 'a level changes something');
$t->sql("SELECT smartspace.cobot_grant_role('changing', 'look')");
is($t->sql($acl), $look, 'a second time nothing');
$t->sql("SELECT smartspace.cobot_grant_role('changing', 'administer')");
isnt($t->sql($acl), $look, 'a higher one more');
$t->sql("GRANT UPDATE ON smartspace.cobot_membership TO changing; SELECT smartspace.cobot_grant_role('changing', 'look', ARRAY[$alpha])");
$t->sql("SELECT smartspace.cobot_grant_role('changing', 'look')");
is($t->sql($acl), $look, 'a lower one takes what it has not, also what was granted by hand');
is($t->sql("SELECT smartspace.cobot_revoke_role('changing')"), 't', 'taken');
is($t->sql($acl), $before, 'it has nothing any more');
is($t->sql("SELECT smartspace.cobot_revoke_role('changing')"), 'f', 'and there is nothing to take');

# what others passed on to it
$t->sql("CREATE ROLE passing; GRANT USAGE ON SCHEMA smartspace TO passing WITH GRANT OPTION; GRANT SELECT, UPDATE (name) ON smartspace.cobot_membership TO passing WITH GRANT OPTION;"
	  . " GRANT EXECUTE ON FUNCTION smartspace.cobot_erase_member TO passing WITH GRANT OPTION; CREATE ROLE other");
$before = $t->sql($acl);
$t->sql('SET ROLE passing; ' . join ';', map { "GRANT USAGE ON SCHEMA smartspace TO $_; GRANT SELECT, UPDATE (name) ON smartspace.cobot_membership TO $_; GRANT EXECUTE ON FUNCTION smartspace.cobot_erase_member TO $_" } qw(changing other));
$t->sql("SELECT smartspace.cobot_grant_role('changing', 'look')");
is($t->sql("SELECT has_function_privilege('changing', 'smartspace.cobot_erase_member(bigint)', 'EXECUTE')"), 'f', 'a level takes what another role passed on');
$t->sql("SELECT smartspace.cobot_revoke_role('changing')");
is($t->sql("SELECT has_function_privilege('other', 'smartspace.cobot_erase_member(bigint)', 'EXECUTE')"), 't', 'and from this role alone');
$t->sql("SELECT smartspace.cobot_revoke_role('other')");
is($t->sql($acl), $before, 'whatever others passed on is taken, and nothing else');
$t->sql("SELECT smartspace.cobot_revoke_role('passing'); DROP ROLE changing, other, passing");

# --- misuse ---
foreach my $case ([ "NULL, 'look'", '22004' ], [ "'r_look', NULL", '22004' ], [ "'r_look', 'everything'", '22023' ], [ "'nosuchrole', 'look'", '42704' ], [ "'public', 'look'", '42704' ],
	[ "'0', 'look'", '42704' ], [ "'postgres', 'look'", '22023' ], [ "'r_look', 'look', '{}'", '22023' ], [ "'r_look', 'look', ARRAY[99]", '42704' ], [ "'r_look', 'look', ARRAY[NULL::bigint]", '22004' ])
{
	my $user = $t->sql('SELECT current_user');
	my $arguments = $case->[0] =~ s/postgres/$user/r;

	is($t->try("SELECT smartspace.cobot_grant_role($arguments)")->{sqlstate}, $case->[1], "refused: $case->[0]");
}
$t->sql('CREATE ROLE above BYPASSRLS');
my $above = $t->try("SELECT smartspace.cobot_grant_role('above', 'look', ARRAY[$alpha])");
is($above->{sqlstate}, '22023', 'refused: a limit for a role that row level security does not hold');
like($above->{err}, qr/BYPASSRLS/, 'in words');
$t->sql("SELECT smartspace.cobot_grant_role('above', 'look'); DROP OWNED BY above; DROP ROLE above");
$t->sql('GRANT EXECUTE ON FUNCTION smartspace.cobot_grant_role, smartspace.cobot_revoke_role TO r_administer');
is(as_role('r_administer', "SELECT smartspace.cobot_grant_role('r_look', 'administer')")->{sqlstate}, '42501', 'only the owner grants levels, whoever may call it');
is(as_role('r_administer', "SELECT smartspace.cobot_revoke_role('r_look')")->{sqlstate}, '42501', 'and takes them');
$t->sql("SELECT smartspace.cobot_grant_role('r_administer', 'administer')");

# --- limited to one integration of two ---
$t->sql("CREATE ROLE coach LOGIN; CREATE ROLE chief LOGIN; GRANT CREATE, USAGE ON SCHEMA public TO coach");
is($t->sql("SELECT smartspace.cobot_grant_role('coach', 'administer', ARRAY[$alpha, $alpha])"), 'coach: administer in "alpha"', 'granted, limited to one');
my $others = $t->sql("SELECT md5(string_agg(x::text, ' ')) FROM (" . join(' UNION ALL ', map { "SELECT t::text FROM smartspace.$_ t" }
	  qw(cobot_integration cobot_plan cobot_membership building building_entry user_group user_group_assignment user_group_member manual_grant cobot_checkin cobot_sync_run cobot_sync_change cobot_secret cobot_sync_task)) . ") AS o (x) WHERE x ~ 'bravo|7000'");
sub others_are { return $t->sql("SELECT md5(string_agg(x::text, ' ')) FROM (" . join(' UNION ALL ', map { "SELECT t::text FROM smartspace.$_ t" }
	  qw(cobot_integration cobot_plan cobot_membership building building_entry user_group user_group_assignment user_group_member manual_grant cobot_checkin cobot_sync_run cobot_sync_change cobot_secret cobot_sync_task)) . ") AS o (x) WHERE x ~ 'bravo|7000'"); }
is(others_are(), $others, '(the other one can be compared)');
$t->cobot->clear_log;

my @visible = map { $_->{name} } $t->rows("SELECT name FROM smartspace.cobot_privilege WHERE kind = 'table' AND level = 'look' AND for_limited");
foreach my $relation (@visible)
{
	my $answer = as_role('coach', "SELECT * FROM smartspace.$relation");

	ok($answer->{ok}, "reads $relation") or diag $answer->{err};
	unlike($answer->{out} . $answer->{err}, qr/bravo|\b7000\d\b/i, 'and nothing of the other space') unless $relation =~ /^user_group$/;
	my $owner = $t->sql("SELECT count(*) FROM smartspace.$relation WHERE EXISTS (SELECT FROM smartspace.cobot_integration)");
	cmp_ok($owner, '>', 0, '(where the owner sees some)') if $relation =~ /status|access_now|membership|plan|run|change$|building|checkin|manual|problem$|assignment|member$/;
}
cmp_ok(as_role('coach', "SELECT count(*) FROM smartspace.$_")->{out}, '>', 0, "sees its own rows of $_")
  foreach qw(cobot_integration cobot_plan cobot_membership access_now cobot_status user_group_assignment user_group_member manual_grant building building_entry cobot_checkin cobot_checkin_reason cobot_sync_run cobot_sync_change);
# a function that tells what it is given, called before the policy if the server let it
as_role('coach', q{CREATE FUNCTION public.peep(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$BEGIN RAISE WARNING 'peep %', $1; RETURN true; END$$});
foreach my $question ('cobot_membership WHERE public.peep(name)', 'access_now WHERE public.peep(member)', 'cobot_status WHERE public.peep(subdomain)', 'cobot_plan WHERE name::bigint > 0', 'cobot_problem WHERE public.peep(subject)', 'cobot_checkin_reason WHERE public.peep(member)')
{
	my $answer = as_role('coach', "SELECT * FROM smartspace.$question");

	unlike($answer->{out} . $answer->{err}, qr/bravo/i, "not told by a function that looks first: $question");
}

# Every function, with arguments that name the other space.
my %argument = (
	integration => $bravo, member => $bravo_member, run => $bravo_run, plan => $bravo_plan, entry => $bravo_entry, building => $bravo_building, group => $bravo_door,
	who => "'m1\@bravo.example'", event => "'updated_membership'", payload => qq('{"url": "https://bravo.cobot.me/api/memberships/bravo-m1"}'), token => "'admin-token'", memberships => "'[]'",
	moment => 'now()', at => 'now()', since => 0, callback_url => "'https://example.com/hook'", integrations => "ARRAY[$bravo]", state => $t->sql("SELECT quote_literal(substring(smartspace.cobot_connect_url($bravo, 'https://example.com/back') from 'state=([^&]+)'))"),
	code => "'authorization-code'", secret_path_part => "'unknown'", client_id => "'client'", client_secret => "'secret'", redirect_uri => "'https://example.com/back'", path => "'/nonexistent'", label => "'Doors'",
	iframe_url => "'https://example.com/frame'", id => "'link'", field_value => "'door, other'", granted => "'{read}'", individual_access => 'true', checkin => 'true', armed_system => 1, armed_database => 1, armed_environment => "'x'");
foreach my $function (functions($t, "l.level <> 'owner' AND l.for_limited"))
{
	is(join(' ', unknown_arguments($function, \%argument)), '', "(can be called: $function->{signature})");
	my $answer = as_role('coach', 'SELECT * FROM ' . call($function, \%argument));
	my $told = ($answer->{out} . $answer->{err}) =~ s/^LINE \d.*//mrs =~ s/nobody here has the Cobot id[^\n]*//r =~ s/^HINT:.*cobot_sync_member[^\n]*//mr;
	unlike($told, qr/bravo/i, 'tells nothing of the other space');
	is(others_are(), $others, 'and changes nothing there') or $others = others_are();
}
foreach my $call ("cobot_sync($bravo)", "cobot_sync_member($bravo_member)", "cobot_explain($bravo_member)", "cobot_checkin($bravo_member)", "cobot_checkin($alpha_member, building => $bravo_building)", "cobot_checkin($alpha_member, true, $bravo_building)",
	"cobot_preview($bravo)", "cobot_release($bravo_run)", "cobot_discard($bravo_run)", "cobot_grant($bravo_member, $door)", "cobot_revoke($bravo_member, $bravo_door)", "cobot_erase_member($bravo_member)", "cobot_arm($bravo)",
	"cobot_connect_token($bravo, 'admin-token')", "cobot_ingest($bravo, '[]')", "cobot_request_sync($bravo)", "cobot_process_hints($bravo)", "cobot_preview_switch($bravo)", "cobot_preview_assignment($bravo_plan, $door)",
	"cobot_webhook($bravo, 'updated_membership', '{}')", "cobot_list_webhooks($bravo)", "cobot_ensure_custom_field($bravo)")
{
	my $answer = as_role('coach', "SELECT * FROM smartspace.$call");
	my $unknown = as_role('coach', 'SELECT * FROM smartspace.' . $call =~ s/7000\d/79999/gr);

	is($answer->{sqlstate}, '42704', "as if there were none: $call");
	is($answer->{err} =~ s/\b7\d{4}\b/N/gr =~ s/^(?:LINE|LOCATION|psql).*//mgr, $unknown->{err} =~ s/\b7\d{4}\b/N/gr =~ s/^(?:LINE|LOCATION|psql).*//mgr, 'in the very same words');
}
is(as_role('coach', "SELECT smartspace.cobot_has_access($bravo_member, $bravo_door), smartspace.cobot_has_access($alpha_member, $door)")->{out}, 'f|t', 'cobot_has_access()');
is(as_role('coach', "SELECT count(*) FROM smartspace.cobot_sync_changes($bravo_run)")->{out}, '0', 'cobot_sync_changes()');
is(as_role('coach', "SELECT count(*) FROM smartspace.cobot_explain_entry($bravo_entry)")->{out}, '0', 'cobot_explain_entry()');
is(as_role('coach', "SELECT count(*) FROM smartspace.cobot_pending_hints($bravo)")->{out}, '0', 'cobot_pending_hints()');
is(as_role('coach', "SELECT count(*), count(*) FILTER (WHERE membership_id > 70000) FROM smartspace.access_at(now())")->{out} =~ s/^[1-9]\d*\|/n|/r, 'n|0', 'access_at()');
is(as_role('coach', "SELECT count(*), count(*) FILTER (WHERE membership_id > 70000) FROM smartspace.access_changes(0)")->{out} =~ s/^[1-9]\d*\|/n|/r, 'n|0', 'access_changes()');
is(as_role('coach', "SELECT smartspace.cobot_request_sync()")->{out}, '1', 'cobot_request_sync() queues its own alone');
is($t->sql("SELECT count(*) FROM smartspace.cobot_sync_task WHERE integration_id = $bravo AND requested_by = 'coach'"), '0', 'and not the other');

foreach my $write ("INSERT INTO smartspace.building (integration_id, name) VALUES ($bravo, 'mine')", "INSERT INTO smartspace.building_entry (membership_id, building_id) VALUES ($bravo_member, $alpha_building)",
	"INSERT INTO smartspace.building_entry (membership_id, building_id) VALUES ($alpha_member, $bravo_building)", "INSERT INTO smartspace.user_group_assignment (plan_id, user_group_id) VALUES ($bravo_plan, $door)",
	"UPDATE smartspace.building SET integration_id = $bravo", "UPDATE smartspace.user_group_assignment SET plan_id = $bravo_plan", "DELETE FROM smartspace.user_group", "UPDATE smartspace.user_group SET external_identifier = 'x'", "DELETE FROM smartspace.cobot_integration",
	"UPDATE smartspace.cobot_integration SET subdomain = 'other'", "UPDATE smartspace.cobot_role SET integrations = NULL", "TRUNCATE smartspace.building", "ALTER TABLE smartspace.building DISABLE ROW LEVEL SECURITY", "SELECT smartspace.cobot_run_due()", "SELECT smartspace.cobot_recompute_access()")
{
	my $answer = as_role('coach', $write);

	is($answer->{sqlstate}, '42501', "refused: $write");
	unlike($answer->{err}, qr/bravo/i, 'and nothing told');
}
is(as_role('coach', "UPDATE smartspace.cobot_integration SET name = 'alpha' RETURNING id")->{out}, $alpha, 'UPDATE of all integrations is one of its own');
as_role('coach', "DELETE FROM smartspace.building WHERE id = $bravo_building");
is(others_are(), $others, 'the other space is as it was');
is(scalar(grep { ($_->{host} // '') =~ /bravo/ } $t->cobot->log), 0, 'and Cobot was not asked about it');

like(as_role('coach', "SELECT result FROM smartspace.cobot_sync($alpha)")->{out}, qr/^ok/, 'its own it synchronises');
ok(as_role('coach', "SELECT * FROM smartspace.$_")->{ok}, "and calls $_") foreach ("cobot_explain($alpha_member)", "cobot_sync_member($alpha_member)", "cobot_sync_member('m2\@alpha.example')", "cobot_checkin($alpha_member)", "cobot_grant($alpha_member, $door)");
ok(as_role('coach', $_)->{ok}, "and writes: $_") foreach ("INSERT INTO smartspace.building (integration_id, name) VALUES ($alpha, 'mine')", "INSERT INTO smartspace.building_entry (membership_id, building_id) VALUES ($alpha_member, $alpha_building)",
	"INSERT INTO smartspace.user_group_assignment (plan_id, user_group_id) VALUES ($alpha_plan, $door)", "UPDATE smartspace.cobot_integration SET auto_checkin = false, oauth_scope = oauth_scope");

# --- by way of others ---
as_role('coach', "CREATE FUNCTION public.by_coach(m bigint) RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM smartspace.cobot_explain(m)'; GRANT EXECUTE ON FUNCTION public.by_coach TO PUBLIC;"
	  . "CREATE FUNCTION public.own_by_coach(m bigint) RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM smartspace.cobot_membership WHERE id = m';");
$t->sql("CREATE ROLE stranger LOGIN; GRANT USAGE ON SCHEMA public TO stranger; CREATE FUNCTION public.by_owner(m bigint) RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM smartspace.cobot_explain(m)'");
foreach my $loaded ('', "LOAD 'smartspace_cobot';")
{
	my $load = $loaded ? 'library loaded before' : 'first use in the session';

	is($t->try("$loaded SET SESSION AUTHORIZATION stranger; SELECT public.by_coach($bravo_member)")->{sqlstate}, '42704', "who calls a function of a limited role is limited ($load)");
	is($t->try("$loaded SELECT public.by_coach($bravo_member)")->{sqlstate}, $loaded ? '42704' : '', "the owner, too, once it is loaded ($load)");
	is($t->try("$loaded SET SESSION AUTHORIZATION stranger; SELECT public.own_by_coach($bravo_member)")->{out}, '0', "and reads nothing more ($load)");
}
like($t->try("LOAD 'smartspace_cobot'; SET SESSION AUTHORIZATION stranger; SELECT public.by_coach($alpha_member)")->{out}, qr/^[1-9]/, 'its own is answered by that function');
like($t->try("LOAD 'smartspace_cobot'; SET SESSION AUTHORIZATION stranger; SELECT public.by_owner($bravo_member)")->{out}, qr/^[1-9]/, 'a function of the owner is the owner\'s call');
as_role('coach', "CREATE TABLE public.trap (m bigint); CREATE FUNCTION public.spring(m bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN (SELECT count(*) FROM smartspace.cobot_explain(m)); END';"
	  . "CREATE INDEX ON public.trap (public.spring(m)) WHERE m > 0; INSERT INTO public.trap VALUES ($alpha_member)");
is($t->try("INSERT INTO public.trap VALUES ($bravo_member)")->{sqlstate}, '', '(the owner may run what they like)');
is($t->try("LOAD 'smartspace_cobot'; REINDEX TABLE public.trap")->{sqlstate}, '42704', 'not so in an index that the owner rebuilds for a limited role');
$t->sql('DROP TABLE public.trap');

# --- several roles in one person ---
$t->sql("SELECT smartspace.cobot_grant_role('chief', 'operate', ARRAY[$bravo]); CREATE ROLE pair LOGIN IN ROLE coach, chief; CREATE ROLE mixed LOGIN IN ROLE r_look, chief");
is(as_role('pair', 'SELECT count(*) FROM smartspace.cobot_status')->{out}, '2', 'who has two limited roles sees what both see');
is(as_role('pair', "SELECT smartspace.cobot_arm($bravo)")->{sqlstate}, '42704', 'and does in each what that role may');
is(as_role('pair', "SELECT count(*) > 0 FROM smartspace.cobot_explain($bravo_member)")->{out}, 't', 'no less');
is(as_role('mixed', 'SELECT count(*) FROM smartspace.cobot_membership')->{out}, '6', 'who looks at all, and operates one, sees all');
is(as_role('mixed', "SELECT smartspace.cobot_sync($alpha)")->{sqlstate}, '42704', 'and synchronises one');
is(as_role('mixed', "INSERT INTO smartspace.building (integration_id, name) VALUES ($alpha, 'x')")->{sqlstate}, '42501', 'and writes in one');
is(as_role('mixed', "DELETE FROM smartspace.building WHERE integration_id = $alpha RETURNING id")->{out}, '', 'and deletes in one');
is(as_role('pair', "SET ROLE chief; SELECT string_agg(name, ',') FROM smartspace.cobot_integration")->{out}, 'bravo', 'SET ROLE is one of them alone');
is(as_role('r_look', 'SELECT count(*) FROM smartspace.cobot_membership')->{out}, '6', 'who is not limited sees all, as before');
$t->sql('ALTER ROLE coach RENAME TO trainer');
is(as_role('trainer', 'SELECT count(*) FROM smartspace.cobot_membership')->{out}, '3', 'a limit goes with a role that is renamed');
$t->sql('ALTER ROLE trainer RENAME TO coach');

# --- a session that has looked already follows what somebody else changes ---
my $elsewhere = "\\! psql -qAtX \"" . $t->node->connstr('postgres') . '" -c';
my $look_again = "SELECT smartspace.cobot_has_access($bravo_member, $bravo_door), (SELECT count(*) FROM smartspace.user_group_member WHERE membership_id > 70000) > 0;";
is(as_role('coach', join "\n", $look_again, qq($elsewhere "SELECT 'granted' FROM smartspace.cobot_grant_role('coach', 'administer', ARRAY[$alpha, $bravo])"), $look_again,
		qq($elsewhere "SELECT 'granted' FROM smartspace.cobot_grant_role('coach', 'administer', ARRAY[$alpha])"), $look_again)->{out},
	"f|f\ngranted\nt|t\ngranted\nf|f", 'another limit counts at once');
is($t->sql(join "\n", 'SET ROLE heir;', $look_again, qq($elsewhere "GRANT chief TO heir; REVOKE r_operate FROM heir"), $look_again =~ s/\Q$bravo_member\E/$alpha_member/r =~ s/> 70000/< 70000/r,
		qq($elsewhere "GRANT r_operate TO heir; REVOKE chief FROM heir"), $look_again), "t|t\nf|f\nt|t", 'and so does another role of somebody');
$t->sql("BEGIN; SET LOCAL session_replication_role = replica; UPDATE smartspace.cobot_role SET integrations = ARRAY[$bravo] WHERE role = 'coach'::regrole; SET LOCAL session_replication_role = origin; COMMIT");
is(as_role('coach', 'SELECT string_agg(subdomain, NULL) FROM smartspace.cobot_integration')->{out}, 'bravo', 'also one that was replicated');
$t->sql("SELECT smartspace.cobot_grant_role('coach', 'administer', ARRAY[$alpha])");

# --- all levels given again, as after an update ---
my $policies = 'SELECT tablename, policyname, permissive, roles, cmd, qual, with_check FROM pg_policies ORDER BY 1, 2';
my $everything = $t->sql("$acl; $policies");
$t->sql('REVOKE SELECT ON smartspace.cobot_status FROM r_look, coach');
isnt($t->sql("$acl; $policies"), $everything, '(something is missing)');
$t->sql('SELECT smartspace.cobot_grant_role(role, level, integrations) FROM smartspace.cobot_role');
is(join("\n", sort split /[\n,{}]/, $t->sql("$acl; $policies")), join("\n", sort split /[\n,{}]/, $everything), 'one statement gives everybody what the level has');

# --- a dump brings levels and limits along ---
my $dump = File::Temp->new;
$t->node->command_ok([ 'pg_dump', '-Fc', '-f', $dump->filename, $t->node->connstr('postgres') ], 'pg_dump by the owner');
$t->sql('CREATE DATABASE copy');
$t->node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $t->node->connstr('copy'), $dump->filename ], 'pg_restore');
is($t->node->safe_psql('copy', $acl), $t->sql($acl), 'the same privileges');
is($t->node->safe_psql('copy', $policies), $t->sql($policies), 'the same policies');
is($t->node->safe_psql('copy', 'SELECT role, level, integrations FROM smartspace.cobot_role ORDER BY role::text'), $t->sql('SELECT role, level, integrations FROM smartspace.cobot_role ORDER BY role::text'), 'the same levels');
is($t->node->safe_psql('copy', 'SET SESSION AUTHORIZATION coach; SELECT count(*) FROM smartspace.cobot_membership'), '3', 'the same limits');
is($t->node->safe_psql('copy', 'SELECT count(*) FROM smartspace.cobot_membership'), '6', 'and everything for the owner');

# --- what a level may call works: nothing in it needs a privilege that the level has not ---
%argument = (%argument, integration => $alpha, member => $alpha_member, run => $t->sql("SELECT max(id) FROM smartspace.cobot_sync_run WHERE integration_id = $alpha"), plan => $alpha_plan, group => $door, building => $alpha_building,
	entry => $t->sql("SELECT min(id) FROM smartspace.building_entry WHERE building_id = $alpha_building"), who => "'m1\@alpha.example'", payload => qq('{"url": "https://alpha.cobot.me/api/memberships/alpha-m1"}'),
	integrations => "ARRAY[$alpha]", state => $t->sql("SELECT quote_literal(substring(smartspace.cobot_connect_url($alpha, 'https://example.com/back') from 'state=([^&]+)'))"),
	name => "'New'", subdomain => "'elsewhere'", mobile_app => 1, redirect_uris => "'{https://example.com/app}'", cobot_user_id => "'admin'");
foreach my $level (0 .. 2)
{
	my $levels = join ', ', map { "'$rank[$_]'" } 0 .. $level;
	my @functions = functions($t, "l.level IN ($levels)");
	my $answer = $t->try("SET client_min_messages = error; SET SESSION AUTHORIZATION r_$rank[$level];\n" . join "\n", map { "SELECT '$_->{signature} ' || public.attempt(\$x\$SELECT * FROM " . call($_, \%argument) . "\$x\$);" } @functions);

	is(join(', ', map { unknown_arguments($_, \%argument) } @functions), '', '(all can be called)');
	is(join("\n", sort map { s/ allowed$//r } split /\n/, $answer->{out}), join("\n", sort map { $_->{signature} } @functions), "$rank[$level] meets no missing privilege in them") or diag $answer->{err};
}

# --- a role that is gone without cobot_revoke_role() ---
$t->sql("SELECT smartspace.cobot_revoke_role('coach'); SELECT smartspace.cobot_revoke_role('chief'); CREATE ROLE gone; SELECT smartspace.cobot_grant_role('gone', 'look', ARRAY[$alpha]); DROP OWNED BY gone; DROP ROLE gone");
unlike(scalar(run_command([ 'pg_dump', '--data-only', $t->node->connstr('postgres') ])), qr/^\d+\tlook\t/m, 'is not dumped as a number');

# --- nobody limited any more ---
$t->sql("SELECT smartspace.cobot_grant_role('coach', 'look'); SELECT smartspace.cobot_revoke_role('coach')");
is($t->sql("SELECT count(*) FROM pg_class c WHERE c.relnamespace = 'smartspace'::regnamespace AND c.relrowsecurity") . $t->sql($policies), '0', 'row level security is gone with the last limit');
is(as_role('coach', 'TABLE smartspace.cobot_status')->{sqlstate}, '42501', 'and the role lets nobody in');
$t->sql('DROP DATABASE copy');
$t->sql('DROP EXTENSION smartspace_cobot CASCADE; DROP OWNED BY coach; DROP ROLE coach');
ok(1, 'the extension goes with its roles\' privileges');

done_testing();
