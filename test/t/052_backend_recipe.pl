# The recipe of doc/backend.md works as it is printed: the blocks of the document are run
# in their order, by the roles they name, and then a backend with users, groups and
# permissions of its own knows at every moment who may do what.
use strict;
use warnings;

use CobotTest;
use PostgreSQL::Test::Utils;
use Test::More;

# --- given: two spaces; Ada is a member of both, under two addresses; Bob shares one ---
my $t = CobotTest->new(members => 1);
my $node = $t->node;

$t->sql(<<'SQL');
SET search_path = smartspace;
INSERT INTO cobot_integration (id, name, subdomain, time_zone) VALUES (1, 'Loft', 'loft', 'Europe/Berlin'), (2, 'Barn', 'barn', 'Asia/Tokyo');
INSERT INTO cobot_plan (id, integration_id, cobot_id, name) VALUES (1, 1, 'desk', 'Desk'), (2, 2, 'craft', 'Craft');
INSERT INTO cobot_membership (id, integration_id, cobot_id, name, email, user_id, plan_id, confirmed_at) VALUES
	(1, 1, 'ada', 'Ada', 'ada@example.com', 'u-ada', 1, '2026-01-01'), (2, 2, 'ada-2', 'Ada L.', 'family@example.com', 'u-ada', 2, '2026-01-01'),
	(3, 1, 'bob', 'Bob', 'family@example.com', 'u-bob', 1, '2026-01-01'), (4, 2, 'guest', 'Guest', 'ada@example.com', NULL, 2, '2026-01-01');
SQL

my @blocks = slurp_file('doc/backend.md') =~ /^```sql\n(.*?)^```$/msg;
is(scalar @blocks, 7, 'the document has the blocks that are expected');

# Statements as the role backend, logged in; dies if they fail.
sub as_backend { my ($sql) = @_; return $node->safe_psql('postgres', $sql, extra_params => [ '-U', 'backend' ]); }

# The SQLSTATE of statements that fail.
sub refused
{
	my ($sql, $role) = @_;

	return $t->try(($role ? "SET SESSION AUTHORIZATION $role;\n" : '') . $sql)->{sqlstate};
}

# --- when: the blocks are pasted, up to the listener ---
foreach my $block (@blocks[ 0 .. 4 ])
{
	my ($role) = $block =~ /^-- as (a superuser|backend)$/m or die "no role in: $block";

	$role eq 'backend' ? as_backend($block) : $t->sql($block);
}
pass('all blocks run');

# --- then: persons and memberships ---
sub allowed { return as_backend("SELECT u.name || ': ' || string_agg(a.thing, ', ' ORDER BY a.thing) FROM backend.allowed a JOIN backend.users u ON u.id = a.user_id GROUP BY u.name ORDER BY 1"); }

sub allowed_membership { return as_backend("SELECT membership_id || ': ' || string_agg(thing, ', ' ORDER BY thing) FROM backend.allowed_membership GROUP BY membership_id ORDER BY 1"); }

sub zones { return as_backend("SELECT cobot_user_id || ': ' || string_agg(zone, ', ' ORDER BY zone) FROM backend.allowed_zone WHERE cobot_user_id IS NOT NULL GROUP BY cobot_user_id ORDER BY 1"); }

is(as_backend('SELECT cobot_user_id FROM backend.users ORDER BY 1'), "u-ada\nu-bob", 'one user for each person');
is(allowed(), '', 'nobody may anything before a plan gives a group');
is(as_backend('SELECT count(*) FROM smartspace.cobot_status'), '2', 'the backend sees how the integrations are');
is(as_backend("SELECT string_agg(DISTINCT problem, ' ' ORDER BY problem) FROM smartspace.cobot_problem"),
	'group_without_members plan_without_assignment', 'and what looks like a slip');
as_backend("INSERT INTO smartspace.user_group_assignment (plan_id, user_group_id) SELECT p.id, g.id FROM smartspace.cobot_plan p, smartspace.user_group g"
	  . " WHERE (p.name, g.external_identifier) IN (('Desk', 'front-door'), ('Craft', 'workshop'))");
is(allowed(), "Ada: open the door, open the workshop, start the laser\nBob: open the door", 'a person has what both memberships give; a shared address gives nothing');
is(allowed_membership(), "1: open the door\n2: open the workshop, start the laser\n3: open the door\n4: open the workshop, start the laser", 'each membership has its own');
is(zones(), "u-ada: cellar, ground floor\nu-bob: ground floor", 'and by external identifier');
is(as_backend("SELECT string_agg(m.id::text, ' ' ORDER BY m.id) FROM smartspace.cobot_membership m, smartspace.user_group g WHERE g.external_identifier = 'workshop' AND smartspace.cobot_has_access(m.id, g.id)"),
	'2 4', 'the quick question says the same');

# --- the listener: a session of psql; what is pasted there comes from the document, too.
my $session = $node->background_psql('postgres');
$session->query_safe("SET SESSION AUTHORIZATION backend");
my $read = $session->query_safe($blocks[5]);
is(join("\n", sort grep { /^\d+\|/ } split /\n/, $read), $t->sql('SELECT membership_id, user_group_id, source FROM smartspace.access_now ORDER BY concat(membership_id)'), 'it reads the grants');
$session->query_safe($blocks[6]);
$t->sql("UPDATE smartspace.cobot_membership SET departed_at = now() WHERE id = 2");
my $heard = '';
$t->wait_until(sub { $heard .= $session->query_safe('SELECT 1'); return $heard =~ /smartspace_access/; }, 'the notification');
like($heard, qr/"smartspace_access" with payload "\{"position":\d+,"count":1,"changes":\[\{"action":"taken","membership_id":2,"user_group_id":\d+,"source":"plan"\}\]\}"/, 'it hears of a change, as the document prints it');
my ($changes) = $session->query_safe($blocks[6]);
like($changes, qr/^\d+\|\d+\|[^|]+\|taken\|2\|\d+\|plan\|/m, 'and reads it');
$session->quit;
is(allowed(), "Ada: open the door\nBob: open the door", 'who left one space keeps the other');
$t->sql("UPDATE smartspace.cobot_membership SET departed_at = NULL WHERE id = 2");

# --- who has a new address stays the same person; dates end by themselves ---
$t->sql("UPDATE smartspace.cobot_membership SET email = 'new\@example.com', name = 'Ada Lovelace' WHERE id = 1");
like(allowed(), qr/^Ada: open the door, open the workshop, start the laser$/m, 'a new address and name change nothing');
$t->sql("UPDATE smartspace.cobot_membership SET starts_at = current_date - 9, canceled_to = current_date - 3 WHERE id = 3");
unlike(allowed(), qr/Bob/, 'whose last day is over may nothing');

# --- a group of ours changes its name, and goes ---
as_backend("UPDATE smartspace.user_group SET external_identifier = 'studio' WHERE external_identifier = 'workshop'");
is(as_backend("SELECT external_identifier FROM backend.zones WHERE name = 'cellar'"), 'studio', 'a changed identifier is carried over');
like(zones(), qr/^u-ada: cellar, ground floor$/m, 'and the zone stays open');

as_backend("DELETE FROM smartspace.user_group WHERE external_identifier = 'studio'");
is(as_backend('SELECT count(*), count(user_group_id), (SELECT count(*) FROM backend.permissions) FROM backend.groups'), '2|1|3', 'SET NULL: the group and its permissions stay, and point nowhere');
is(as_backend("SELECT name, external_identifier IS NULL FROM backend.zones WHERE name = 'cellar'"), 'cellar|t', 'the zone, too');
like(allowed(), qr/^Ada: open the door$/m, 'and open nothing');
as_backend("WITH g AS (INSERT INTO smartspace.user_group (name, external_identifier) VALUES ('Workshop again', 'workshop') RETURNING id),"
	  . " a AS (UPDATE backend.groups SET user_group_id = g.id FROM g WHERE user_group_id IS NULL) SELECT count(*) FROM g");
as_backend("INSERT INTO smartspace.user_group_assignment (plan_id, user_group_id) SELECT 2, id FROM smartspace.user_group WHERE external_identifier = 'workshop'");
like(allowed(), qr/^Ada: open the door, open the workshop, start the laser$/m, 'until it points at another');

# The other rows of the table.
foreach my $case ([ '', '23503', '2|2|3' ], [ 'ON DELETE RESTRICT', '23503', '2|2|3' ], [ 'ON DELETE CASCADE', '', '1|1|1' ])
{
	my ($action, $sqlstate, $left) = @$case;

	as_backend("ALTER TABLE backend.groups DROP CONSTRAINT groups_user_group_id_fkey, ADD CONSTRAINT groups_user_group_id_fkey FOREIGN KEY (user_group_id) REFERENCES smartspace.user_group $action");
	is(refused("DELETE FROM smartspace.user_group WHERE external_identifier = 'workshop'", 'backend'), $sqlstate, ($action || 'no action') . ($sqlstate ? ': our group cannot be deleted' : ': it can'));
	is(as_backend('SELECT count(*), count(user_group_id), (SELECT count(*) FROM backend.permissions) FROM backend.groups'), $left, 'what is left of the backend');
}
is($t->grants_differ, 0, 'the grants equal their definition');

# --- and the role can do no more ---
is(refused($_, 'backend'), '42501', "backend may not: $_") foreach (
	'SELECT * FROM smartspace.cobot_secret', 'SELECT * FROM smartspace.access_journal', 'SELECT * FROM smartspace.cobot_role',
	"INSERT INTO smartspace.user_group_member (membership_id, user_group_id, source, valid, granted_at) VALUES (1, 1, 'manual', '(,)', now())",
	"UPDATE smartspace.cobot_membership SET name = 'x'", 'DELETE FROM smartspace.cobot_plan', 'TRUNCATE smartspace.user_group CASCADE',
	'SELECT smartspace.cobot_arm(1)', 'SELECT smartspace.cobot_purge_journal()', 'SELECT smartspace.cobot_recompute_access()');

done_testing();
