# Deliveries: whatever Cobot answers or does not answer, a member is checked in once, and every
# row says what became of it. Each promise counts the requests that Cobot received.
use strict;
use warnings;
use utf8;

use CobotTest;
use JSON::PP;
use Test::More;

my $t = CobotTest->new(members => 150, conf => <<'CONF');
smartspace_cobot.checkin_settle_time = '100ms'
smartspace_cobot.request_timeout = '1s'
CONF
my $cobot = $t->cobot;
my $space = $t->connect_space('demo-space');
$t->sync($space);
my $front = $t->sql("INSERT INTO smartspace.building (integration_id, name) VALUES ($space, 'Front door') RETURNING id");

# Active members whose plan has no time passes; each is used once.
my @members = $t->rows("SELECT m.id, m.cobot_id FROM smartspace.cobot_membership m JOIN smartspace.cobot_integration i ON i.id = m.integration_id"
	  . " WHERE smartspace.cobot_not_active(m.departed_at, m.confirmed_at, m.starts_at, m.canceled_to, i.time_zone) IS NULL"
	  . " AND coalesce(jsonb_array_length(m.time_passes), 0) = 0 ORDER BY m.id");
my @with_passes = $t->rows("SELECT m.id, m.cobot_id FROM smartspace.cobot_membership m JOIN smartspace.cobot_integration i ON i.id = m.integration_id"
	  . " WHERE smartspace.cobot_not_active(m.departed_at, m.confirmed_at, m.starts_at, m.canceled_to, i.time_zone) IS NULL"
	  . " AND jsonb_array_length(m.time_passes) > 0 ORDER BY m.id");

sub enter
{
	my ($member) = @_;

	return $t->sql("INSERT INTO smartspace.building_entry (membership_id, building_id) VALUES ($member->{id}, $front) RETURNING id");
}

sub deliver { return $t->sql('SELECT waiting FROM smartspace.cobot_deliver_checkins()'); }

# What is open is due at once, as if its back-off were over.
sub deliver_now
{
	$t->sql("UPDATE smartspace.cobot_checkin SET next_attempt_at = now() WHERE state IN ('queued', 'sending')");
	return deliver();
}

sub state_of { return $t->sql("SELECT string_agg(state || coalesce(' ' || reason, ''), ', ' ORDER BY id) FROM smartspace.cobot_checkin WHERE membership_id = $_[0]{id}"); }

sub message { return $t->sql("SELECT message FROM smartspace.cobot_checkin WHERE membership_id = $_[0]{id} ORDER BY id DESC LIMIT 1"); }

sub posts
{
	my ($member) = @_;

	return scalar grep { $_->{method} eq 'POST' && $_->{path} eq "/api/memberships/$member->{cobot_id}/work_sessions" } $cobot->log;
}

sub at_cobot { return scalar grep { $_->{membership_id} eq $_[0]{cobot_id} } $cobot->check_ins('demo-space'); }

sub fault
{
	my ($member, %fault) = @_;

	return $cobot->fault(match => { method => 'POST', path => "/api/memberships/$member->{cobot_id}/work_sessions" }, %fault);
}

sub promise
{
	my ($name, $test, $member) = @_;

	subtest $name => sub {
		eval { $test->($member // shift @members); 1 } or fail("died: $@");
		$cobot->clear_faults;
		$t->sql("DELETE FROM smartspace.cobot_checkin WHERE state IN ('queued', 'sending'); UPDATE smartspace.cobot_integration SET state = 'connected', state_reason = NULL");
	};
	return;
}

promise 'twenty door openings in a morning: one check-in' => sub {
	my ($member) = @_;

	enter($member) foreach 1 .. 10;
	is(deliver(), 0, 'nothing waits after the delivery');
	enter($member) foreach 1 .. 10;
	deliver();
	is(posts($member), 1, 'one request');
	is(state_of($member), 'done', 'one row');
	is($t->sql("SELECT cobot_id IS NOT NULL AND valid_until > now() AND holds_until = valid_until AND time_pass_id IS NULL FROM smartspace.cobot_checkin WHERE membership_id = $member->{id}"), 't', 'with what Cobot said');
	is(scalar(grep { $_->{path} eq '/api/check_ins' } $cobot->log), 1, 'and Cobot was asked once who is in');
};

promise 'a morning of many: one list, and each member once' => sub {
	my @many = splice @members, 0, 9;

	$t->sql("INSERT INTO smartspace.building_entry (membership_id, building_id) VALUES " . join ', ', map { "($_->{id}, $front)" } @many);
	$cobot->clear_log;
	is(deliver(), 0, 'all are delivered');
	is_deeply([ map { posts($_) } @many ], [ (1) x @many ], 'one request each');
	is(scalar(grep { $_->{path} eq '/api/check_ins' } $cobot->log), 1, 'and one list');
};

promise 'a check-in that uses up a pass says so; without a pass it is refused, and not asked again' => sub {
	my ($member) = @_;

	foreach my $shape (qw(errors base))
	{
		my $other = shift @with_passes;

		$cobot->settings(check_in_error_shape => $shape);
		$cobot->set_passes('demo-space', $other->{cobot_id}, 0);
		enter($other);
		is(deliver(), 0, "$shape: a refusal is an outcome");
		is(state_of($other), 'refused refused', '... which is recorded');
		is(message($other), 'No time passes left', '... with Cobot\'s reason');
		enter($other);
		deliver();
		is(posts($other), 1, '... and the next entry asks nothing');
		like($t->sql("SELECT detail || advice FROM smartspace.cobot_problem WHERE problem = 'checkin_refused' AND membership_id = $other->{id}"), qr/No time passes left.*cobot_checkin\($other->{id}\)/, '... and somebody is told');
	}
	$cobot->settings(check_in_error_shape => 'errors');
	$cobot->set_passes('demo-space', $member->{cobot_id}, 2);
	enter($member);
	deliver();
	is($t->sql("SELECT state, time_pass_id IS NOT NULL FROM smartspace.cobot_checkin WHERE membership_id = $member->{id}"), 'done|t', 'with a pass it is done, and names the pass');
	is($cobot->passes('demo-space', $member->{cobot_id}), 1, 'one pass is gone');
}, shift @with_passes;

promise 'what Cobot did not answer is looked up, and not sent again' => sub {
	my @lost = (
		[ 'silence', { stall => 'headers' } ],
		[ 'a server error', { status => 500 } ],
		[ 'a dropped connection', { drop => JSON::PP::true } ],
		[ 'an HTML page', { status => 200, body => '<html>busy</html>' } ],
		[ 'an empty answer', { status => 204 } ],
		[ 'half an answer', { cut => 10 } ]);

	foreach my $lost (@lost)
	{
		my ($what, $fault) = @$lost;
		my $member = shift @with_passes;

		$cobot->set_passes('demo-space', $member->{cobot_id}, 5);
		fault($member, %$fault, perform => JSON::PP::true);
		enter($member);
		deliver();
		select undef, undef, undef, 0.15;
		deliver_now();
		is(state_of($member), 'done', "$what, though it was carried out: done");
		is(posts($member), 1, '... by one request');
		is($cobot->passes('demo-space', $member->{cobot_id}), 4, '... and one pass');
	}
};

promise 'what Cobot did not carry out is sent again once that is certain' => sub {
	foreach my $lost ([ 'silence', { stall => 'headers' } ], [ 'a server error', { status => 502 } ], [ 'a dropped connection', { drop => JSON::PP::true } ])
	{
		my ($what, $fault) = @$lost;
		my $member = shift @members;

		fault($member, %$fault);
		enter($member);
		deliver();
		is(at_cobot($member), 0, "$what: not carried out,");
		is(state_of($member), 'sending no_answer', '... which nobody can know yet');
		select undef, undef, undef, 0.15;
		deliver_now();
		is(state_of($member), 'done', '... then it is done');
		is(posts($member), 2, '... by a second request');
	}
};

promise 'it is not believed too early that a check-in was not made' => sub {
	my ($member) = @_;

	$t->sql("ALTER SYSTEM SET smartspace_cobot.checkin_settle_time = '1min'; SELECT pg_reload_conf()");
	fault($member, status => 500);
	enter($member);
	deliver();
	deliver_now() foreach 1 .. 3;
	is(state_of($member), 'sending no_answer', 'it waits');
	is(posts($member), 1, 'and nothing is sent');
	$t->sql("ALTER SYSTEM RESET smartspace_cobot.checkin_settle_time; SELECT pg_reload_conf()");
};

promise 'three requests without an effect are enough' => sub {
	my ($member) = @_;

	fault($member, status => 500, times => 0);
	enter($member);
	foreach (1 .. 6)
	{
		deliver_now();
		select undef, undef, undef, 0.12;
	}
	is(state_of($member), 'failed gave_up', 'given up');
	is(posts($member), 3, 'after three');
	like($t->sql("SELECT severity || ': ' || detail FROM smartspace.cobot_problem WHERE problem = 'checkin_failed' AND membership_id = $member->{id}"), qr/^problem: .*3 requests/, 'and somebody is told');
	enter($member);
	deliver();
	is(posts($member), 3, 'the next entry does not start again at once');
};

promise 'an answer that says nothing is not tried again' => sub {
	foreach my $answer ([ 204, { status => 204 } ], [ 'HTML', { status => 200, body => '<html>ok</html>' } ],
		[ 'a list', { status => 200, body => '[]' } ], [ 'another member', { status => 201, body => '{"id":"x","membership":{"id":"somebody-else"}}' } ])
	{
		my ($what, $fault) = @$answer;
		my $member = shift @members;

		fault($member, %$fault);
		enter($member);
		deliver();
		select undef, undef, undef, 0.15;
		deliver_now();
		is(state_of($member), 'failed bad_answer', "$what: failed");
		is(posts($member), 1, '... after one request');
	}
};

promise 'somebody who is in already is not checked in' => sub {
	my ($member) = @_;

	$cobot->add_check_in('demo-space', membership_id => $member->{cobot_id}, id => 'by-hand');
	enter($member);
	deliver();
	is($t->sql("SELECT state, cobot_id FROM smartspace.cobot_checkin WHERE membership_id = $member->{id}"), 'already_in|by-hand', 'it is found in Cobot\'s list');
	is(posts($member), 0, 'and nothing is sent');

	my $other = shift @members;
	fault($other, status => 422, body => '{"errors":{"base":["is checked in already"],"plan":"is full"}}',
		then => [ { method => 'POST', path => '/spaces/demo-space/check_ins', body => { membership_id => $other->{cobot_id} } } ]);
	enter($other);
	deliver();
	is(state_of($other), 'already_in', 'a refusal because of a check-in made meanwhile is none');

	my $third = shift @members;
	fault($third, status => 422, body => '{"errors":{"base":["first reason","second reason"],"plan":"is full"}}');
	enter($third);
	deliver();
	is(message($third), 'first reason; second reason; plan is full', 'all of Cobot\'s reasons are kept');
	my $fourth = shift @members;
	fault($fourth, status => 422, body => '<html>no</html>');
	enter($fourth);
	deliver();
	is(message($fourth), 'Cobot refused it with HTTP status 422 and no reason', 'also where it gives none');
};

promise 'a member whom Cobot does not know' => sub {
	my ($member) = @_;

	$cobot->delete_member('demo-space', $member->{cobot_id});
	enter($member);
	deliver();
	is(state_of($member), 'refused refused', 'refused');
	is(message($member), 'Cobot does not know this member', 'in words');
};

promise 'when Cobot takes nothing from us, nothing is lost and nobody is told wrong' => sub {
	foreach my $case ([ 401, 'auth_revoked' ], [ 402, 'account_suspended' ], [ 403, 'admin_rights_lost' ])
	{
		my ($status, $reason) = @$case;
		my $member = shift @members;

		fault($member, status => $status);
		enter($member);
		deliver();
		is(state_of($member), "queued $reason", "$status: it waits");
		is($t->sql("SELECT state, state_reason FROM smartspace.cobot_integration WHERE id = $space"), "degraded|$reason", '... and the integration says why');
		deliver_now();
		is(state_of($member), 'done', '... until it can be done');
		is(posts($member), 2, '... by the second request');
	}
};

promise 'a list that cannot be read: nothing is sent' => sub {
	my ($member) = @_;

	enter($member);
	foreach my $fault ({ status => 500 }, { status => 403 }, { body => '<html>' }, { body => '{}' }, { body => '[{"id":"x"}]' }, { body => '[1]' })
	{
		$cobot->fault(match => { path => '/api/check_ins' }, %$fault);
		deliver_now();
		like(state_of($member), qr/^queued /, 'it waits');
	}
	is(posts($member), 0, 'nothing was sent');
	$cobot->fault(match => { path => '/api/check_ins' }, body => encode_json([ { id => 'x', membership => { id => $member->{cobot_id} }, valid_until => 'soon' } ]));
	deliver_now();
	is(state_of($member), 'queued bad_answer', 'a record of the member that cannot be read');
	is(posts($member), 0, 'is no absence');
	deliver_now();
	is(state_of($member), 'done', 'in the end it is done');
	is($t->sql("SELECT attempts FROM smartspace.cobot_checkin WHERE membership_id = $member->{id}"), 1, 'and none of this counted against it');
};

promise 'a rate limit holds back the whole space for as long as Cobot asks' => sub {
	my ($member) = @_;
	my $other = shift @members;

	fault($member, status => 429, headers => { 'Retry-After' => '40' });
	enter($member);
	$t->sql("INSERT INTO smartspace.cobot_checkin (integration_id, membership_id, source, entered_at, state, next_attempt_at, holds_until)"
		  . " VALUES ($space, $other->{id}, 'call', now(), 'queued', now() + interval '1 second', now() + interval '1 hour')");
	deliver();
	is(state_of($member), 'queued rate_limited', 'it waits');
	is($t->sql("SELECT count(*) FROM smartspace.cobot_checkin WHERE state = 'queued' AND next_attempt_at > now() + interval '35 seconds' AND membership_id IN ($member->{id}, $other->{id})"), 2, 'and so do the others');
};

promise 'Cobot cannot be reached' => sub {
	my ($member) = @_;

	$t->sql("ALTER SYSTEM SET smartspace_cobot.connect_to = '127.0.0.1:1'; SELECT pg_reload_conf()");
	enter($member);
	deliver();
	is(state_of($member), 'queued unreachable', 'it waits');
	$t->sql("UPDATE smartspace.cobot_checkin SET entered_at = entered_at - interval '2 hours' WHERE membership_id = $member->{id}");
	deliver_now();
	like(state_of($member), qr/^stale/, 'until it is too late');
	$t->sql("ALTER SYSTEM RESET smartspace_cobot.connect_to; SELECT pg_reload_conf()");
	is(posts($member), 0, 'nothing was sent');
};

promise 'what is decided without Cobot' => sub {
	my ($member) = @_;

	$t->sql('UPDATE smartspace.cobot_integration SET checkin_dry_run = true');
	enter($member);
	deliver();
	is(state_of($member), 'skipped dry_run', 'a dry run');
	is(message($member), "would have been sent: POST /api/memberships/$member->{cobot_id}/work_sessions", 'says what it would have done');
	enter($member);
	is(state_of($member), 'skipped dry_run', 'once');
	$t->sql('UPDATE smartspace.cobot_integration SET checkin_dry_run = false');
	enter($member);
	$t->sql("INSERT INTO smartspace.cobot_checkin (integration_id, membership_id, source, entered_at, state, next_attempt_at, holds_until)"
		  . " VALUES ($space, $member->{id}, 'call', now(), 'queued', now(), now() + interval '1 hour')");
	deliver();
	is(state_of($member), 'skipped dry_run, done, skipped duplicate', 'of two rows of a member the first is sent');
	is(posts($member), 1, '... alone');

	my $ended = shift @members;
	enter($ended);
	$t->sql("UPDATE smartspace.cobot_membership SET canceled_to = current_date - 2 WHERE id = $ended->{id}");
	deliver();
	is(state_of($ended), 'skipped ended', 'a membership that ended meanwhile');
	my $off = shift @members;
	enter($off);
	$t->sql('UPDATE smartspace.cobot_integration SET auto_checkin = false');
	deliver();
	is(state_of($off), 'skipped switched_off', 'a switch that was switched off meanwhile');
	is($t->sql("SELECT state FROM smartspace.cobot_checkin($off->{id}, wait => true)"), 'done', 'which does not concern who asks on purpose');
	$t->sql('UPDATE smartspace.cobot_integration SET auto_checkin = true');
	is(posts($ended), 0, 'nothing was sent for whom has ended');
};

promise 'a row that breaks something each time is given up' => sub {
	my ($member) = @_;

	enter($member);
	$t->sql("UPDATE smartspace.cobot_checkin SET attempts = 8 WHERE membership_id = $member->{id}");
	deliver_now();
	is(state_of($member), 'failed gave_up', 'a queued one has failed');
	my $other = shift @members;
	enter($other);
	$t->sql("UPDATE smartspace.cobot_checkin SET state = 'sending', posts = 1, sent_at = now() - interval '25 hours' WHERE membership_id = $other->{id}");
	deliver_now();
	is(state_of($other), 'unknown no_answer', 'of one that was sent nobody knows any more after a day');
	is(posts($member) + posts($other), 0, 'nothing was sent');
	like($t->sql("SELECT severity || advice FROM smartspace.cobot_problem WHERE problem = 'checkin_unknown'"), qr/^problemLook in Cobot/, 'and somebody is told');
};

promise 'a record that the database refuses' => sub {
	my ($member) = @_;
	my $other = shift @members;

	$t->sql("ALTER TABLE smartspace.cobot_checkin ADD CONSTRAINT odd CHECK (membership_id <> $member->{id} OR cobot_id IS NULL)");
	$t->sql("INSERT INTO smartspace.building_entry (membership_id, building_id) VALUES ($member->{id}, $front), ($other->{id}, $front)");
	deliver();
	$t->sql('ALTER TABLE smartspace.cobot_checkin DROP CONSTRAINT odd');
	is(state_of($member), 'done', 'is kept without what it refuses');
	is(message($member), 'what Cobot said about it could not be stored', 'and says so');
	is(state_of($other), 'done', 'and stops no other');
};

promise 'somebody waits' => sub {
	my ($member) = @_;

	is($t->sql("SET default_transaction_isolation = 'repeatable read'; SELECT state, source, requested_by = session_user FROM smartspace.cobot_checkin($member->{id}, wait => true)"),
		'done|call|t', 'the outcome is returned, also under REPEATABLE READ');
	is($t->sql("SELECT count(*) FROM (SELECT smartspace.cobot_checkin($member->{id}, wait => true) FROM generate_series(1, 2)) c"), 2, 'again:');
	is(posts($member), 1, 'never a second request');
	my $slow = shift @members;
	fault($slow, stall => 'headers', perform => JSON::PP::true);
	my $answer = $t->try("SET smartspace_cobot.checkin_wait = '1s'; SELECT state FROM smartspace.cobot_checkin($slow->{id}, wait => true)");
	like($answer->{out}, qr/^(sending|done)$/m, 'nobody waits longer than checkin_wait');
	cmp_ok($answer->{seconds}, '<', 4, '(in seconds)');
};

promise 'old history goes, what is open and what is young stay' => sub {
	my ($member) = @_;

	$t->sql("INSERT INTO smartspace.cobot_checkin (id, integration_id, membership_id, source, entered_at, queued_at, state, settled_at)"
		  . " OVERRIDING SYSTEM VALUE VALUES (-2, $space, $member->{id}, 'call', now(), now(), 'done', now() - interval '731 days'), (-1, $space, $member->{id}, 'call', now(), now(), 'done', now() - interval '729 days')");
	enter($member);
	deliver();
	is($t->sql("SELECT string_agg(id::text, ' ') FROM smartspace.cobot_checkin WHERE id < 0"), '-1', 'after checkin_retention_days');
};

is($t->sql('SELECT count(*) FROM smartspace.cobot_entry_problem'), 0, 'no entry was a problem');
is_deeply([ $t->sync($space)->{result} ], ['ok_with_problems'], 'a synchronisation is as it was');
done_testing();
