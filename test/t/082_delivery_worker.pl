# Check-ins with a worker that looks after the database: at once, by itself, and once,
# also across a crash in the middle of a request and with several who deliver.
use strict;
use warnings;

use CobotTest;
use JSON::PP;
use Test::More;

my $t = CobotTest->new(members => 60, conf => <<'CONF');
shared_preload_libraries = 'smartspace_cobot'
smartspace_cobot.databases = 'postgres'
smartspace_cobot.worker_linger = 1
smartspace_cobot.checkin_settle_time = '100ms'
smartspace_cobot.request_timeout = '20s'
CONF
my $cobot = $t->cobot;
my $space = $t->connect_space('demo-space');
$t->wait_until(sub { $t->sql('SELECT count(*) FROM smartspace.cobot_sync_run') > 0 }, 'the first synchronisation');
my $front = $t->sql("INSERT INTO smartspace.building (integration_id, name) VALUES ($space, 'Front door') RETURNING id");
my @members = $t->rows("SELECT m.id, m.cobot_id FROM smartspace.cobot_membership m JOIN smartspace.cobot_integration i ON i.id = m.integration_id"
	  . " WHERE smartspace.cobot_not_active(m.departed_at, m.confirmed_at, m.starts_at, m.canceled_to, i.time_zone) IS NULL"
	  . " AND coalesce(jsonb_array_length(m.time_passes), 0) = 0 ORDER BY m.id");

sub entry { return "INSERT INTO smartspace.building_entry (membership_id, building_id) VALUES ($_[0]{id}, $front)"; }

sub state_of { return $t->sql("SELECT string_agg(state || coalesce(' ' || reason, ''), ', ' ORDER BY id) FROM smartspace.cobot_checkin WHERE membership_id = $_[0]{id}"); }

sub posts
{
	my ($member) = @_;

	return scalar grep { $_->{method} eq 'POST' && $_->{path} eq "/api/memberships/$member->{cobot_id}/work_sessions" } $cobot->log;
}

sub is_settled { return $t->sql("SELECT count(*) = 0 FROM smartspace.cobot_checkin WHERE state IN ('queued', 'sending')") eq 't'; }

subtest 'the worker delivers by itself' => sub {
	foreach my $round (1 .. 3)
	{
		my $member = shift @members;

		$t->wait_until(sub { $t->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'smartspace_cobot worker'}) == 0 }, 'the worker to leave') if $round == 2;
		$t->sql(entry($member));
		$t->wait_until(sub { is_settled() }, 'the delivery');
		is(state_of($member), 'done', 'a check-in that nobody waits for');
	}
	is($t->sql("SELECT max(sent_at - queued_at) < @{[ patient(2) ]} * interval '1 second' FROM smartspace.cobot_checkin"), 't', 'leaves soon');
	is($t->sql('SELECT waiting FROM smartspace.cobot_deliver_checkins()'), 0, 'nothing is left for others');
};

subtest 'two sessions that cannot see each other' => sub {
	my $member = shift @members;
	my @sessions = map { $t->node->background_psql('postgres') } 1 .. 2;

	$_->query_safe('BEGIN; ' . entry($member)) foreach @sessions;
	is(state_of($member), '', 'neither waits for the other');
	$_->query_safe('COMMIT') foreach @sessions;
	$t->wait_until(sub { is_settled() }, 'the delivery');
	is(state_of($member), 'done, skipped duplicate', 'both queued one, and one was sent') or diag state_of($member);
	is(posts($member), 1, '... by one request');
	$_->quit foreach @sessions;
};

subtest 'many who deliver' => sub {
	my @many = splice @members, 0, 8;
	my @sessions = map { $t->node->background_psql('postgres') } 1 .. 3;

	$cobot->settings(latency_ms => 50);
	foreach my $member (@many)
	{
		$t->sql(entry($member));
		$_->query_until(qr//, "SELECT smartspace.cobot_deliver_checkins();\n") foreach @sessions;
	}
	$_->query('SELECT 1') foreach @sessions;
	$t->wait_until(sub { is_settled() }, 'the deliveries');
	$cobot->settings(latency_ms => 0);
	is_deeply([ map { posts($_) } @many ], [ (1) x @many ], 'each member once');
	$_->quit foreach @sessions;
};

subtest 'somebody waits while somebody else delivers' => sub {
	my ($slow, $member) = splice @members, 0, 2;

	$cobot->fault(match => { method => 'POST', path => "/api/memberships/$slow->{cobot_id}/work_sessions" }, delay_ms => 1000);
	$t->sql(entry($slow));
	$t->wait_until(sub { posts($slow) == 1 }, 'the request');
	is($t->sql("SELECT state FROM smartspace.cobot_checkin($member->{id}, wait => true)"), 'done', 'the outcome is waited for');
	is(posts($member), 1, 'one request');
};

subtest 'a crash in the middle of a request' => sub {
	my ($carried_out, $lost) = splice @members, 0, 2;

	foreach ([ $carried_out, 1 ], [ $lost, 0 ])
	{
		my ($member, $perform) = @$_;

		$cobot->fault(match => { method => 'POST', path => "/api/memberships/$member->{cobot_id}/work_sessions" },
			stall => 'headers', $perform ? (perform => JSON::PP::true) : ());
		$t->sql(entry($member));
		$t->wait_until(sub { posts($member) == 1 }, 'the request');
		is(state_of($member), 'sending', 'it is committed as sending before it leaves');
		$t->node->stop('immediate');
		$t->node->start;
		$t->wait_until(sub { is_settled() }, 'the delivery after the crash');
		is(state_of($member), 'done', 'done');
		is(posts($member), $perform ? 1 : 2, $perform ? 'Cobot had it: no second request' : 'Cobot did not have it: a second request');
	}
};

subtest 'the extension goes in the middle of a request' => sub {
	my $member = shift @members;

	$cobot->fault(match => { method => 'POST', path => "/api/memberships/$member->{cobot_id}/work_sessions" }, delay_ms => 1000);
	$t->sql(entry($member));
	$t->wait_until(sub { posts($member) == 1 }, 'the request');
	my $answer = $t->try('DROP EXTENSION smartspace_cobot CASCADE');
	ok($answer->{ok}, 'it can be dropped');
	cmp_ok($answer->{seconds}, '<', patient(3), 'at once');
	$t->wait_until(sub { $t->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'smartspace_cobot worker'}) == 0 }, 'the worker to leave');
	unlike(slurp($t->node->logfile), qr/PANIC|TRAP/, 'without a crash');
};

sub slurp
{
	open my $file, '<', $_[0] or die $!;
	local $/;
	return <$file>;
}

done_testing();
