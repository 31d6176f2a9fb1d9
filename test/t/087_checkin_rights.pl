# No role but the owner can read the token, no log contains one (bar 10), and a user's trigger never runs
# as a superuser: who may create triggers on tables that the worker writes gets no rights by that.
use strict;
use warnings;

use CobotTest;
use CobotVisits;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

my $t = CobotTest->new(members => 90, conf => <<'CONF');
shared_preload_libraries = 'smartspace_cobot'
smartspace_cobot.databases = ''
smartspace_cobot.checkin_settle_time = '100ms'
log_min_messages = debug5
log_statement = all
CONF
my $cobot = $t->cobot;
my $visits = CobotVisits->new($t, 'demo-space', settle_time_s => 0.1);
my $space = $visits->space;

$t->sql(<<'SQL');
CREATE ROLE dev LOGIN;
CREATE ROLE keeper LOGIN;
GRANT CREATE, USAGE ON SCHEMA public TO dev;
GRANT USAGE ON SCHEMA smartspace TO dev;
GRANT SELECT, TRIGGER ON ALL TABLES IN SCHEMA smartspace TO dev;
REVOKE ALL ON smartspace.cobot_secret FROM dev;
SET SESSION AUTHORIZATION dev;
CREATE TABLE spied (role text, token text);
GRANT ALL ON spied TO PUBLIC;
CREATE FUNCTION look() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	seen text;
BEGIN
	BEGIN
		seen := (SELECT s.token FROM smartspace.cobot_secret s LIMIT 1);
	EXCEPTION WHEN insufficient_privilege THEN
		seen := NULL;
	END;
	INSERT INTO public.spied VALUES (current_user, seen);
	RETURN true;
END $$;
CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM public.look(); RETURN coalesce(NEW, OLD); END $$;
CREATE FUNCTION spy_with_setting() RETURNS trigger LANGUAGE plpgsql SET work_mem = '4MB' AS $$ BEGIN PERFORM public.look(); RETURN coalesce(NEW, OLD); END $$;
CREATE FUNCTION spy_as_dev() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN PERFORM public.look(); RETURN coalesce(NEW, OLD); END $$;
SQL

sub spied { my $seen = $t->sql("SELECT string_agg(DISTINCT concat_ws(' ', role, token), ', ') FROM spied"); $t->sql('TRUNCATE spied'); return $seen; }

my @triggers = (
	[ 'for each row', 'BEFORE UPDATE ON smartspace.cobot_checkin FOR EACH ROW EXECUTE FUNCTION spy()' ],
	[ 'for each statement', 'AFTER UPDATE ON smartspace.cobot_checkin FOR EACH STATEMENT EXECUTE FUNCTION spy()' ],
	[ 'with a setting', 'AFTER UPDATE ON smartspace.cobot_checkin FOR EACH ROW EXECUTE FUNCTION spy_with_setting()' ],
	[ 'with a condition', 'BEFORE UPDATE ON smartspace.cobot_checkin FOR EACH ROW WHEN (look()) EXECUTE FUNCTION suppress_redundant_updates_trigger()' ],
	[ 'at the end of the transaction', 'AFTER UPDATE ON smartspace.cobot_checkin DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION spy()' ]);

foreach my $case (@triggers)
{
	my ($name, $definition) = @$case;
	my $constraint = $definition =~ /DEFERRABLE/ ? 'CONSTRAINT ' : '';

	subtest "a trigger of somebody else's: $name" => sub {
		my ($member) = $visits->take(1);
		my $log = -s $t->node->logfile;

		$t->sql("SET SESSION AUTHORIZATION dev; CREATE ${constraint}TRIGGER spy $definition");
		$visits->enter($member);
		$t->sql('SELECT smartspace.cobot_deliver_checkins()');
		is(spied(), '', 'it does not run in the worker');
		is($visits->states($member), 'queued', 'the check-in waits');
		is(scalar($visits->posts($member)), 0, 'and is not sent');
		ok(slurp_file($t->node->logfile, $log) =~ ($name eq 'with a condition'
			? qr/function public\.look\(\) of role "dev" would run with the rights of "postgres"/
			: qr/trigger "spy" of table "smartspace\.cobot_checkin" would run function public\.spy(_with_setting)?\(\) of role "dev" with the rights of "postgres"/), 'the log says why');

		$t->sql('DROP TRIGGER spy ON smartspace.cobot_checkin');
		$t->sql("UPDATE smartspace.cobot_checkin SET next_attempt_at = now() WHERE state = 'queued'; SELECT smartspace.cobot_deliver_checkins()");
		is($visits->states($member), 'done', 'without the trigger it is done');
	};
}

subtest 'functions of the extension, called by an operator' => sub {
	my ($member, $other) = $visits->take(2);

	$t->sql('SET SESSION AUTHORIZATION dev; CREATE TRIGGER spy BEFORE INSERT OR UPDATE ON smartspace.cobot_checkin FOR EACH ROW EXECUTE FUNCTION spy()');
	$t->sql('CREATE ROLE operator LOGIN; GRANT USAGE ON SCHEMA smartspace TO operator; GRANT EXECUTE ON FUNCTION smartspace.cobot_checkin(bigint, boolean, bigint) TO operator;'
		  . ' GRANT INSERT ON smartspace.building_entry TO operator; GRANT USAGE ON ALL SEQUENCES IN SCHEMA smartspace TO operator');
	my $answer = $t->try("SET SESSION AUTHORIZATION operator; SELECT smartspace.cobot_checkin($member->{id})");
	is($answer->{sqlstate}, '42501', 'cobot_checkin() refuses');
	like($answer->{err}, qr/trigger "spy" of table "smartspace\.cobot_checkin".*HINT:/s, 'and says why');
	$answer = $t->try('SET SESSION AUTHORIZATION operator; ' . CobotVisits::INSERT . $visits->entry_of($other));
	ok($answer->{ok}, 'the door does not care');
	is($visits->states($other), '', 'but nobody is checked in');
	like($t->sql("SELECT detail FROM smartspace.cobot_problem WHERE problem = 'entry_not_queued'"), qr/trigger "spy"/, 'and it is told why');
	is(spied(), '', 'the trigger did not run');
	$t->sql('DELETE FROM smartspace.cobot_entry_problem; DROP TRIGGER spy ON smartspace.cobot_checkin');
	is($t->sql("SET SESSION AUTHORIZATION operator; SELECT state FROM smartspace.cobot_checkin($member->{id})"), 'queued', 'without it both work');
};

subtest 'triggers that are nobody\'s trick run' => sub {
	my ($member, $other) = $visits->take(2);

	$t->sql('SET SESSION AUTHORIZATION dev; CREATE TRIGGER spy AFTER UPDATE ON smartspace.cobot_checkin FOR EACH ROW EXECUTE FUNCTION spy_as_dev()');
	$visits->enter($member);
	$t->sql('SELECT smartspace.cobot_deliver_checkins()');
	is($visits->states($member), 'done', 'SECURITY DEFINER: it is done');
	is(spied(), 'dev', 'and the trigger ran as its owner, who sees no token');
	$t->sql('DROP TRIGGER spy ON smartspace.cobot_checkin; ALTER FUNCTION spy() OWNER TO postgres; ALTER FUNCTION look() OWNER TO postgres;'
		  . ' CREATE TRIGGER spy AFTER UPDATE ON smartspace.cobot_checkin FOR EACH ROW EXECUTE FUNCTION spy()');
	$visits->enter($other);
	$t->sql('SELECT smartspace.cobot_deliver_checkins()');
	is($visits->states($other), 'done', 'a function of the tables\' owner: it is done');
	like(spied(), qr/^postgres /, 'and the trigger ran');
	$t->sql('DROP TRIGGER spy ON smartspace.cobot_checkin; ALTER FUNCTION spy() OWNER TO dev; ALTER FUNCTION look() OWNER TO dev');
};

subtest 'tables that belong to somebody who is no superuser' => sub {
	my ($member, $other) = $visits->take(2);

	$t->sql(q{DO $$ DECLARE r record; BEGIN FOR r IN SELECT c.oid::regclass AS t FROM pg_class c WHERE c.relnamespace = 'smartspace'::regnamespace AND c.relkind IN ('r', 'v') LOOP
		EXECUTE format('ALTER TABLE %s OWNER TO keeper', r.t); END LOOP; END $$; GRANT USAGE ON SCHEMA smartspace TO keeper; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA smartspace TO keeper});
	$t->sql('ALTER FUNCTION spy() OWNER TO keeper; ALTER FUNCTION look() OWNER TO keeper; GRANT keeper TO dev;'
		  . ' CREATE CONSTRAINT TRIGGER spy AFTER UPDATE ON smartspace.cobot_checkin DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION spy()');
	$visits->enter($member);
	$t->sql('SELECT smartspace.cobot_deliver_checkins()');
	is($visits->states($member), 'done', 'their own trigger runs');
	like(spied(), qr/^keeper /, 'as they, also at the end of the transaction');
	$t->sql('DROP TRIGGER spy ON smartspace.cobot_checkin; ALTER FUNCTION spy() OWNER TO dev; REVOKE keeper FROM dev;'
		  . ' CREATE CONSTRAINT TRIGGER spy AFTER UPDATE ON smartspace.cobot_checkin DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION spy()');
	$visits->enter($other);
	$t->sql('SELECT smartspace.cobot_deliver_checkins()');
	is(spied(), '', 'one of somebody else does not');
	$t->sql('DROP TRIGGER spy ON smartspace.cobot_checkin');
};

subtest 'no log and no table of check-ins has the token' => sub {
	my @members = $visits->take(6);
	my @faults = ({ status => 500 }, { drop => JSON::PP::true }, { status => 401 }, { status => 422 }, { body => '<html>' }, { stall => 'headers' });

	$t->sql("ALTER SYSTEM SET smartspace_cobot.request_timeout = '500ms'; SELECT pg_reload_conf()");
	$visits->fault($members[$_], %{ $faults[$_] }) foreach 0 .. 5;
	foreach my $member (@members)
	{
		$visits->enter($member);
		$t->sql('SELECT smartspace.cobot_deliver_checkins()');
	}
	my $token = $t->sql('SELECT token FROM smartspace.cobot_secret');
	cmp_ok(scalar(grep { $_->{method} eq 'POST' && $_->{token} eq $token } $cobot->log), '>=', 6, '(it was sent)');
	# what the tests themselves say in statements is not the worker's
	my $log = join "\n", grep { !/cobot_connect_token/ } split /\n/, slurp_file($t->node->logfile);
	ok($log =~ /DEBUG:  .*CommitTransaction/, '(the log is at debug5)');
	ok($log !~ /admin-token|\Q$token\E/, 'the log never shows it');
	foreach my $table (qw(cobot_checkin cobot_entry_problem cobot_checkin_reason cobot_problem cobot_status))
	{
		unlike($t->sql("SELECT string_agg(x::text, ' ') FROM smartspace.$table x"), qr/admin-token|\Q$token\E/, "nor does $table");
	}
	is($t->try('SET SESSION AUTHORIZATION dev; TABLE smartspace.cobot_secret')->{sqlstate}, '42501', 'who may read and put triggers on everything else cannot read it');
	is($t->try("SET SESSION AUTHORIZATION dev; CREATE TRIGGER spy BEFORE INSERT ON smartspace.cobot_secret FOR EACH ROW EXECUTE FUNCTION spy()")->{sqlstate}, '42501', 'nor put a trigger there');
};

done_testing();
