# One poison record delays nothing else and is parked after some attempts with its reason: a
# row that somebody's trigger or constraint refuses to have written, at whatever step. And one
# dead space delays no other space.
use strict;
use warnings;

use CobotTest;
use CobotVisits;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $t = CobotTest->new(spaces => 2, members => 60, conf => <<'CONF');
shared_preload_libraries = 'smartspace_cobot'
smartspace_cobot.databases = ''
smartspace_cobot.checkin_settle_time = '100ms'
CONF
my $cobot = $t->cobot;
my @spaces = map { CobotVisits->new($t, $_, settle_time_s => 0.1, token => "admin-token-$_") } qw(space-0001 space-0002);
my ($here, $there) = @spaces;

$t->sql(<<'SQL');
CREATE TABLE poison (membership_id bigint, condition text);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF EXISTS (SELECT FROM public.poison p WHERE p.membership_id = OLD.membership_id
			AND (p.condition = 'any' OR p.condition = NEW.state OR p.condition = 'end' AND NEW.state IN ('done', 'already_in', 'refused'))) THEN
		RAISE 'the works council forbids it';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON smartspace.cobot_checkin FOR EACH ROW EXECUTE FUNCTION refuse();
SQL

sub deliver { return $t->sql('SELECT smartspace.cobot_deliver_checkins()'); }

sub deliver_now
{
	$t->sql('SET session_replication_role = replica;'
		  . " UPDATE smartspace.cobot_checkin SET next_attempt_at = now() WHERE state IN ('queued', 'sending')");
	return deliver();
}

sub message { return $t->sql("SELECT message FROM smartspace.cobot_checkin WHERE membership_id = $_[0]{id}"); }

# One member between others, in both spaces, whose row is refused on this condition.
sub poisoned
{
	my ($condition) = @_;
	my @before = $here->take(2);
	my ($poison) = $here->take(1);
	my @others = (@before, $here->take(2), $there->take(2));

	$t->sql("INSERT INTO poison VALUES ($poison->{id}, '$condition')");
	$here->enter(@before, $poison, @others[ 2, 3 ]);
	$there->enter(@others[ 4, 5 ]);
	return ($poison, @others);
}

foreach my $answer ([ 'Cobot carries out' ], [ 'Cobot refuses', status => 422 ], [ 'Cobot does not answer', drop => JSON::PP::true, perform => JSON::PP::true ])
{
	my ($name, %fault) = @$answer;

	subtest "a row whose end is refused: $name" => sub {
		my ($poison, @others) = poisoned('end');

		$here->fault($poison, %fault) if %fault;
		deliver();
		is($here->states(@others), join(', ', ('done') x @others), 'all others are done at once');
		is($here->states($poison), 'sending' . ($name eq 'Cobot carries out' ? '' : $name eq 'Cobot refuses' ? ' refused' : ' no_answer'), 'this one is as it was');
		like(message($poison), qr/^it is (done|refused), which could not be stored: the works council forbids it$/, 'and says why');
		my $attempts = 0;
		while ($here->states($poison) =~ /sending/ && $attempts++ < 12)
		{
			deliver_now();
		}
		is($here->states($poison), 'unknown gave_up', 'in the end it is given up');
		like(message($poison), qr/works council/, 'with the reason');
		is(scalar($here->posts($poison)), 1, 'after one request');
		like($t->sql("SELECT detail FROM smartspace.cobot_problem WHERE problem = 'checkin_unknown' AND membership_id = $poison->{id}"), qr/works council/, 'and somebody is told');
	};
}

foreach my $condition (qw(any sending))
{
	subtest "a row that cannot be written: $condition" => sub {
		my ($poison, @others) = poisoned($condition);
		my $log = -s $t->node->logfile;

		deliver();
		is($here->states(@others), join(', ', ('done') x @others), 'all others are done at once');
		is($here->states($poison), 'queued', 'this one is as it was');
		my @told = slurp_file($t->node->logfile, $log) =~ /the database refuses a change of check-in \d+/g;
		is(scalar @told, 1, 'the log tells once');
		is(scalar($here->posts($poison)), 0, 'nothing was sent for it');
		deliver_now();
		is(scalar($here->posts($poison)), 0, 'nor later');
		$t->sql("DELETE FROM poison WHERE membership_id = $poison->{id}");
		deliver_now();
		is($here->states($poison), 'done', 'once it can be written it is done');
		is(scalar($here->posts($poison)), 1, 'by one request');
	};
}

subtest 'a trigger that refuses everything does not keep the worker busy' => sub {
	my ($member) = $here->take(1);

	$here->enter($member);
	$t->sql("INSERT INTO poison VALUES ($member->{id}, 'any')");
	my $log = -s $t->node->logfile;
	$t->sql("ALTER SYSTEM SET smartspace_cobot.databases = 'postgres'; SELECT pg_reload_conf()");
	$t->wait_until(sub { return slurp_file($t->node->logfile, $log) =~ /the database refuses/ }, 'a first attempt');
	sleep 2;
	my @told = slurp_file($t->node->logfile, $log) =~ /the database refuses/g;
	is(scalar @told, 1, 'it is tried once in a while');
	my ($other) = $here->take(1);
	$here->enter($other);
	$t->wait_until(sub { return $here->states($other) eq 'done' }, 'another one of the space');
	my $began = time;
	($other) = $there->take(1);
	$there->enter($other);
	$t->wait_until(sub { return $there->states($other) eq 'done' }, 'one of another space');
	cmp_ok(time - $began, '<', 2, 'soon');
	$t->sql('DROP TRIGGER refuse ON smartspace.cobot_checkin');
};

subtest 'old history that something keeps' => sub {
	my ($member, $other) = $here->take(2);

	$t->sql("INSERT INTO smartspace.cobot_checkin (id, integration_id, membership_id, source, entered_at, queued_at, state, settled_at)"
		  . " OVERRIDING SYSTEM VALUE VALUES (-1, @{[ $here->space ]}, $member->{id}, 'call', now(), now(), 'done', now() - interval '731 days')");
	$t->sql('CREATE TABLE keep (checkin bigint REFERENCES smartspace.cobot_checkin); INSERT INTO keep VALUES (-1)');
	$here->enter($other);
	$t->wait_until(sub { return $here->states($other) eq 'done' }, 'keeps nobody out');
	is($t->sql('SELECT count(*) FROM smartspace.cobot_checkin WHERE id = -1'), 1, 'it is kept');
	$t->sql('DROP TABLE keep');
};

subtest 'a dead space delays no other' => sub {
	my @dead = $here->take(8);
	my @alive = $there->take(8);

	$cobot->fault(match => { host => 'space-0001.cobot.me' }, stall => 'headers', times => 0);
	$cobot->clear_log;
	$here->enter(@dead);
	$t->wait_until(sub { return scalar grep { $_->{host} eq 'space-0001.cobot.me' } $cobot->log }, 'the dead space is asked');
	foreach my $member (@alive)
	{
		my $began = time;

		$there->enter($member);
		$t->wait_until(sub { return ($there->states($member) // '') eq 'done' }, 'the other space');
		cmp_ok(time - $began, '<', 1, 'a check-in elsewhere is done within a second');
	}
	is($here->states(@dead), join(', ', ('queued') x @dead), 'the dead space has not answered yet');
	$cobot->clear_faults;
};

done_testing();
