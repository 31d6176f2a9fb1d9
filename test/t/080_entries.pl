# Entries queue check-ins: which ones, for whom, how many; and that the door never waits and
# never fails, whatever is wrong with check-ins.
use strict;
use warnings;

use CobotLoft;
use CobotTest;
use Test::More;

my $t = CobotTest->new(members => 30);
my $space = $t->connect_space('demo-space');
$t->sync($space);
$t->sql("INSERT INTO smartspace.building (integration_id, name, external_identifier) VALUES ($space, 'Front door', 'front'), ($space, 'Locker', 'locker')");
$t->sql("UPDATE smartspace.building SET is_entrance = false WHERE name = 'Locker'");
my ($front, $locker) = map { $t->sql("SELECT id FROM smartspace.building WHERE external_identifier = '$_'") } qw(front locker);

# members who are active today, each used once
my @members = map { $_->{id} } $t->rows("SELECT m.id FROM smartspace.cobot_membership m JOIN smartspace.cobot_integration i ON i.id = m.integration_id"
	  . " WHERE smartspace.cobot_not_active(m.departed_at, m.confirmed_at, m.starts_at, m.canceled_to, i.time_zone) IS NULL ORDER BY m.id");
cmp_ok(scalar @members, '>', 20, 'there are members to come in');

sub somebody { return shift @members; }

sub enter
{
	my ($member, $building, $at) = @_;

	return $t->sql("INSERT INTO smartspace.building_entry (membership_id, building_id, entered_at) VALUES ($member, $building, @{[ $at // 'now()' ]}) RETURNING id");
}

# The states of a member's check-ins, with reasons, oldest first.
sub checkins { return $t->sql("SELECT coalesce(string_agg(state || coalesce(' ' || reason, ''), ', ' ORDER BY id), '') FROM smartspace.cobot_checkin WHERE membership_id = $_[0]"); }

sub verdict { return $t->sql("SELECT verdict FROM smartspace.cobot_explain_entry($_[0])"); }

sub explanation { return $t->sql("SELECT explanation FROM smartspace.cobot_explain_entry($_[0])"); }

subtest 'one entry, one check-in' => sub {
	my $member = somebody();
	my $entry = enter($member, $front);
	my $again = enter($member, $front);

	is(checkins($member), 'queued', 'two entries, one row');
	my $row = $t->row("SELECT * FROM smartspace.cobot_checkin WHERE membership_id = $member");
	is_deeply([ @$row{qw(integration_id building_id source source_reference attempts posts)} ], [ $space, $front, 'entry', $entry, 0, 0 ], 'it says where it comes from');
	is(verdict($entry), 'queued', 'the entry is explained by it');
	is(verdict($again), 'covered', 'the second entry by the same row');
	like(explanation($again), qr/^the check-in of the entry at \d\d:\d\d counted for this one: it is to be sent/, 'in words');
};

subtest 'many rows, one statement' => sub {
	my @three = map { somebody() } 1 .. 3;
	my $values = join ', ', map { my $member = $_; map { "($member, $front)" } 1 .. 20 } @three;

	$t->sql("INSERT INTO smartspace.building_entry (membership_id, building_id) VALUES $values");
	is(checkins($_), 'queued', 'twenty entries in one INSERT, one row') foreach @three;

	my @others = map { somebody() } 1 .. 2;
	$t->sql("COPY smartspace.building_entry (membership_id, building_id) FROM STDIN;\n"
		  . join('', map { "$_\t$front\n" } (@others) x 20) . "\\.\n");
	is(checkins($_), 'queued', 'the same with COPY') foreach @others;

	my $member = somebody();
	$t->sql("INSERT INTO smartspace.building_entry (membership_id, building_id, entered_at) VALUES ($member, $front, now() - interval '3 hours'),"
		  . " ($member, $front, now()), ($member, $locker, now())");
	is(checkins($member), 'queued', 'of a flush, the entry counts that is young enough');
	is($t->sql("SELECT entered_at > now() - interval '1 minute' FROM smartspace.cobot_checkin WHERE membership_id = $member"), 't', '(with its own moment)');
};

subtest 'too late is recorded and never sent' => sub {
	my $member = somebody();

	enter($member, $front, "now() - interval '61 minutes'");
	like(checkins($member), qr/^stale (too_old|other_day)$/, 'an entry older than checkin_max_age');
	my $young = enter($member, $front);
	like(checkins($member), qr/, queued$/, 'does not keep a young one from checking in');

	$member = somebody();
	$t->sql("UPDATE smartspace.cobot_integration SET checkin_max_age = '12 hours'");
	my $yesterday = enter($member, $front,
		"date_trunc('day', now() AT TIME ZONE (SELECT time_zone FROM smartspace.cobot_integration WHERE id = $space)) AT TIME ZONE (SELECT time_zone FROM smartspace.cobot_integration WHERE id = $space) - interval '1 second'");
	like(checkins($member), qr/^stale (other_day|too_old)$/, 'never for yesterday, however young');
	like(explanation($yesterday), qr/^not sent: the entry was/, 'in words');
	$t->sql("UPDATE smartspace.cobot_integration SET checkin_max_age = DEFAULT");

	$member = somebody();
	enter($member, $front, "now() + interval '11 minutes'");
	is(checkins($member), 'stale in_the_future', 'an entry of the future');
	$t->sql("UPDATE smartspace.cobot_checkin SET state = 'skipped', settled_at = now() WHERE state = 'queued'");
};

subtest 'who is not checked in, and why' => sub {
	my $member = somebody();
	my $entry = enter($member, $locker);

	is(verdict($entry), 'no_entrance', 'a locker is no entrance');
	like(explanation($entry), qr/no entrance/, 'in words');

	$t->sql("UPDATE smartspace.cobot_integration SET auto_checkin = false");
	is(verdict(enter($member, $front)), 'switched_off', 'switched off');
	$t->sql("UPDATE smartspace.cobot_integration SET auto_checkin = true, state = 'paused'");
	is(verdict(enter($member, $front)), 'paused', 'paused');
	$t->sql("UPDATE smartspace.cobot_integration SET state = 'disconnected'");
	is(verdict(enter($member, $front)), 'disconnected', 'disconnected');
	$t->sql("UPDATE smartspace.cobot_integration SET state = 'connected', armed_environment = 'elsewhere'");
	is(verdict(enter($member, $front)), 'foreign_database', 'a copy queues nothing');
	$t->sql("UPDATE smartspace.cobot_integration SET armed_environment = ''");
	is(checkins($member), '', 'and nothing was queued by any of these');

	$t->sql("UPDATE smartspace.cobot_membership SET canceled_to = current_date - 2 WHERE id = $member");
	is(verdict(enter($member, $front)), 'ended', 'a membership that has ended');
	$t->sql("INSERT INTO smartspace.user_group (name) VALUES ('Cleaners')");
	$t->sql("SELECT smartspace.cobot_grant($member, (SELECT id FROM smartspace.user_group))");
	is(verdict(enter($member, $front)), 'ended', 'a grant by hand is no membership');
	$t->sql("UPDATE smartspace.cobot_membership SET canceled_to = NULL, starts_at = current_date + 3 WHERE id = $member");
	is(verdict(enter($member, $front)), 'not_started', 'one that has not started');
	$t->sql("UPDATE smartspace.cobot_membership SET starts_at = NULL, confirmed_at = NULL WHERE id = $member");
	is(verdict(enter($member, $front)), 'not_confirmed', 'one that is not confirmed');
	is(checkins($member), '', 'and nothing was queued by any of these');
};

subtest 'after a check-in and after a refusal' => sub {
	my $member = somebody();
	my $hold = sub {
		my ($state, $until) = @_;
		$t->sql("DELETE FROM smartspace.cobot_checkin WHERE membership_id = $member; INSERT INTO smartspace.cobot_checkin"
			  . " (integration_id, membership_id, source, entered_at, state, settled_at, holds_until) VALUES ($space, $member, 'call', now() - interval '1 minute', '$state', now(), $until)");
		enter($member, $front);
		return checkins($member);
	};

	is($hold->('done', "now() + interval '1 hour'"), 'done', 'no second one while one is current');
	is($hold->('done', "now() - interval '1 second'"), 'done, queued', 'another one after that');
	is($hold->('refused', "now() + interval '1 hour'"), 'refused', 'no new question right after a refusal');
	is($hold->('refused', "now() - interval '1 second'"), 'refused, queued', 'but later');
	is($t->sql("SELECT state, source, requested_by = session_user FROM smartspace.cobot_checkin($member)"), 'queued|entry|', 'who asks on purpose gets the row that is under way');
	$hold->('refused', "now() + interval '1 hour'");
	is($t->sql("SELECT state, source, requested_by = session_user FROM smartspace.cobot_checkin($member)"), 'queued|call|t', 'or a new one, whatever Cobot said lately');
};

subtest 'members of a network' => sub {
	my $other = $t->sql("INSERT INTO smartspace.cobot_integration (name, subdomain, state, time_zone, armed_system, armed_database, armed_environment)"
		  . " SELECT 'Other', 'other', 'connected', time_zone, armed_system, armed_database, armed_environment FROM smartspace.cobot_integration WHERE id = $space RETURNING id");
	$t->sql("INSERT INTO smartspace.cobot_secret (integration_id, token) VALUES ($other, 'x')");
	my $door = $t->sql("INSERT INTO smartspace.building (integration_id, name) VALUES ($other, 'Other door') RETURNING id");
	my ($stranger, $known) = (somebody(), somebody());

	$t->sql("UPDATE smartspace.cobot_membership SET user_id = 'network' WHERE id = $known");
	my $there = $t->sql("INSERT INTO smartspace.cobot_membership (integration_id, cobot_id, confirmed_at, user_id) VALUES ($other, 'there', now(), 'network') RETURNING id");
	is(verdict(enter($stranger, $door)), 'member_of_another_space', 'without a membership there, nothing');
	my $entry = enter($known, $door);
	is(checkins($known), '', 'with one there,');
	is(checkins($there), 'queued', 'it is the one that is checked in');
	is($t->sql("SELECT integration_id FROM smartspace.cobot_checkin WHERE membership_id = $there"), $other, 'in the space of the building');
	is(verdict($entry), 'queued', 'and the entry is explained by it');
	enter($known, $front);
	is(checkins($known), 'queued', 'at home the own one');
	is($t->sql("SELECT state, membership_id FROM smartspace.cobot_checkin($known, building => $door)"), "queued|$there", 'cobot_checkin() chooses in the same way');
	is($t->sql("SELECT state, reason FROM smartspace.cobot_checkin($stranger, building => $door)"), 'skipped|member_of_another_space', 'and records what cannot be');
	$t->sql("DELETE FROM smartspace.cobot_integration WHERE id = $other");
};

subtest 'what somebody asks for is always recorded' => sub {
	my $member = somebody();

	$t->sql("UPDATE smartspace.cobot_integration SET auto_checkin = false");
	is($t->sql("SELECT state FROM smartspace.cobot_checkin($member)"), 'queued', 'the switch is for entries alone');
	is($t->sql("SELECT count(*) FROM (SELECT smartspace.cobot_checkin($member)) c"), 1, 'again:');
	is(checkins($member), 'queued', 'never a second one');
	$t->sql("UPDATE smartspace.cobot_integration SET auto_checkin = true, state = 'paused'; DELETE FROM smartspace.cobot_checkin WHERE membership_id = $member");
	is($t->sql("SELECT state, reason FROM smartspace.cobot_checkin($member)"), 'skipped|paused', 'paused');
	$t->sql("UPDATE smartspace.cobot_integration SET state = 'connected'");
	is($t->try("SELECT smartspace.cobot_checkin(987654)")->{sqlstate}, '42704', 'an unknown member');
	is($t->try("SELECT smartspace.cobot_checkin($member, building => 987654)")->{sqlstate}, '42704', 'an unknown building');
	is($t->try("SELECT smartspace.cobot_checkin(NULL)")->{sqlstate}, '22004', 'nobody');
};

subtest 'tables of the backend' => sub {
	$t->sql("CREATE TABLE door_event (id uuid DEFAULT gen_random_uuid(), who int, \"the Door\" varchar(20), moment timestamptz, note text)");
	$t->sql("CREATE TRIGGER checkin AFTER INSERT ON door_event REFERENCING NEW TABLE AS \"new Rows\" FOR EACH STATEMENT"
		  . " EXECUTE FUNCTION smartspace.cobot_entry_trigger('who', 'the Door', 'moment', 'id')");
	my ($first, $second) = (somebody(), somebody());
	my $id = $t->sql("INSERT INTO door_event (who, \"the Door\", moment) VALUES ($first, 'front', now()), ($second, 'nowhere', now()), (NULL, 'front', now()), ($second, NULL, now()) RETURNING id");
	my ($reference) = split /\n/, $id;
	is($t->sql("SELECT state, source, source_reference, building_id FROM smartspace.cobot_checkin WHERE membership_id = $first"), "queued|table|$reference|$front", 'text names the building');
	is(checkins($second), '', 'rows without a member or a known building are left alone');

	$t->sql("CREATE TABLE plain_event (who bigint, door int)");
	$t->sql("CREATE TRIGGER checkin AFTER INSERT ON plain_event REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION smartspace.cobot_entry_trigger('who', 'door')");
	$t->sql("INSERT INTO plain_event VALUES ($second, $front)");
	is(checkins($second), 'queued', 'numbers do, and without a moment it is now');

	my $third = somebody();
	$t->sql("INSERT INTO plain_event VALUES ($first, $front); ALTER TABLE plain_event ALTER door TYPE text USING 'front'; INSERT INTO plain_event VALUES ($third, 'front')");
	is(checkins($third), 'queued', 'a column that gets another type in the middle of a session');
	is($t->sql('SELECT count(*) FROM smartspace.cobot_entry_problem'), 0, 'no problem so far');
};

subtest 'the door never fails' => sub {
	my $member = somebody();
	my $trouble = sub {
		my ($what, $change, $message) = @_;
		my $count = $t->sql('SELECT count(*) FROM plain_event');

		$t->sql("$change; INSERT INTO plain_event (who) SELECT $member FROM generate_series(1, 3)");
		is($t->sql('SELECT count(*) FROM plain_event'), $count + 3, "$what: the entries are stored");
		like($t->sql("SELECT detail FROM smartspace.cobot_problem WHERE problem = 'entry_not_queued' AND severity = 'problem' AND subject = 'table public.plain_event'"),
			$message, '... and it is said why nobody was checked in');
		$t->sql('DELETE FROM smartspace.cobot_entry_problem');
	};

	$trouble->('a column of the trigger is renamed', 'ALTER TABLE plain_event RENAME door TO gate', qr/column "door".* does not exist.*42703; entries: 3/);
	$trouble->('a column of another kind', 'ALTER TABLE plain_event ADD door timestamptz', qr/has type timestamp with time zone; expected an integer, text or uuid/);
	$trouble->('a trigger for each row', 'DROP TRIGGER checkin ON plain_event; CREATE TRIGGER checkin BEFORE INSERT ON plain_event FOR EACH ROW'
		  . " EXECUTE FUNCTION smartspace.cobot_entry_trigger('who', 'gate')", qr/must be AFTER INSERT.*entries: 3/);
	$trouble->('arguments that are missing', 'DROP TRIGGER checkin ON plain_event; CREATE TRIGGER checkin AFTER INSERT ON plain_event'
		  . " REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION smartspace.cobot_entry_trigger('who')", qr/must name the columns/);
	is(checkins($member), '', 'nobody was checked in');

	my $lock = $t->node->background_psql('postgres');
	$lock->query_safe('BEGIN; LOCK TABLE smartspace.cobot_checkin IN ACCESS EXCLUSIVE MODE');
	my $answer = $t->try("INSERT INTO smartspace.building_entry (membership_id, building_id) VALUES ($member, $front)");
	ok($answer->{ok}, 'with cobot_checkin locked by somebody, the INSERT succeeds');
	cmp_ok($answer->{seconds}, '<', 2, 'soon');
	$lock->query_safe('ROLLBACK');
	like($t->sql("SELECT detail FROM smartspace.cobot_problem WHERE problem = 'entry_not_queued'"), qr/55P03/, 'and it is said');
	$lock->query_safe('BEGIN; LOCK TABLE smartspace.cobot_checkin, smartspace.cobot_entry_problem IN ACCESS EXCLUSIVE MODE');
	$answer = $t->try("INSERT INTO smartspace.building_entry (membership_id, building_id) VALUES ($member, $front)");
	ok($answer->{ok}, 'with both tables locked, too');
	like($answer->{err}, qr/WARNING:.*nobody was checked in/, 'then with a warning');
	is($t->try("SET statement_timeout = '20ms'; INSERT INTO smartspace.building_entry (membership_id, building_id) VALUES ($member, $front)")->{sqlstate},
		'57014', 'but a statement that is cancelled meanwhile is cancelled');
	$lock->query_safe('ROLLBACK');
	$lock->quit;
};

subtest 'a restored dump queues nothing' => sub {
	my $member = somebody();
	enter($member, $front);
	$t->node->command_ok([ 'createdb', '-h', $t->node->host, '-p', $t->node->port, 'copy' ], 'another database');
	$t->node->command_ok([ 'bash', '-c', "pg_dump -d '@{[ $t->node->connstr('postgres') ]}' | psql -q -v ON_ERROR_STOP=1 -d '@{[ $t->node->connstr('copy') ]}'" ], 'the dump is restored');
	my $count = $t->node->safe_psql('copy', 'SELECT count(*) FROM smartspace.cobot_checkin');
	is($count, $t->sql('SELECT count(*) FROM smartspace.cobot_checkin'), 'with the history as it was: nothing was queued by what came in');
	$t->node->safe_psql('copy', "INSERT INTO smartspace.building_entry (membership_id, building_id) SELECT id, $front FROM smartspace.cobot_membership");
	is($t->node->safe_psql('copy', 'SELECT count(*) FROM smartspace.cobot_checkin'), $count, 'nor by what comes in now');
	$t->node->safe_psql('copy', "SELECT smartspace.cobot_arm($space)");
	is($t->node->safe_psql('copy', "SELECT string_agg(DISTINCT reason, ' ') FROM smartspace.cobot_checkin WHERE state IN ('queued', 'sending') OR reason = 'foreign_database'"),
		'foreign_database', 'once armed, what was open is skipped: the original may have sent it');
};

is(scalar(grep { $_->{path} =~ /work_sessions/ } $t->cobot->log), 0, 'no check-in was sent to Cobot by any of this');
done_testing();
