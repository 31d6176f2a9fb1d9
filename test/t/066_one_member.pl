# "Add her now, she is standing at the door": one member by our id, Cobot's id or e-mail,
# with two or three requests, and grants at once. Evidence, guard and failures are those
# of a whole run; back-off and state of the integration are not disturbed.
use strict;
use warnings;

use CobotLoft;
use CobotTest;
use JSON::PP;
use Test::More;

my $t = lofts((map { $_ => 12 } qw(ids joined gone fields bad quiet)), limit => 24, shared => 3, other => 3);
my $cobot = $t->cobot;
my $json = JSON::PP->new->utf8->allow_nonref;
$t->group('Workshop', identifier => 'Workshop');

sub promise
{
	my ($name, $subdomain, $test, %settings) = @_;

	subtest $name => sub {
		my $loft = CobotLoft->open($t, $subdomain, %settings);

		$cobot->clear_log;
		$test->($loft);
		$cobot->clear_faults;
		is($t->grants_differ, 0, 'the grants equal their definition');
	};
	return;
}

# cobot_sync_member(ARGUMENTS): the run, with the warning and the paths that were asked for.
sub sync_member
{
	my ($arguments) = @_;
	$cobot->clear_log;
	my $answer = $t->try("SELECT row_to_json(r) FROM smartspace.cobot_sync_member($arguments) r");

	BAIL_OUT("cobot_sync_member($arguments): $answer->{err}") unless $answer->{ok};
	my $run = $json->decode($answer->{out});
	$run->{warning} = $answer->{err};
	$run->{asked} = join ' ', sort map { $_->{path} . ($_->{query} ? "?$_->{query}" : '') } $cobot->log;
	return $run;
}

sub refused
{
	my ($arguments, $sqlstate, $message) = @_;
	my $answer = $t->try("SELECT smartspace.cobot_sync_member($arguments)");

	is($answer->{sqlstate}, $sqlstate, "cobot_sync_member($arguments): SQLSTATE");
	like($answer->{err}, $message, '... and a message');
	return $answer->{err};
}

sub id_of { return $t->sql("SELECT id FROM smartspace.cobot_membership WHERE cobot_id = '$_[0]'"); }

sub mirror
{
	return $t->sql('SELECT m.xmin, m.ctid, m.* FROM smartspace.cobot_membership m ORDER BY id; SELECT g.xmin, g.* FROM smartspace.user_group_member g ORDER BY 2, 3, 4');
}

my $about = '/api/memberships';

promise 'by our id, by Cobot\'s id, and by e-mail whatever its case: two requests, grants at once', ids => sub {
	my ($loft) = @_;
	my ($ada, $bob, $cleo) = $loft->who(1 .. 3);
	my $email = $cobot->member('ids', $cleo)->{email};

	$loft->move(flex => 1);
	my $run = sync_member(id_of($ada));
	is("$run->{kind} $run->{result} $run->{members_changed_plan} $run->{grants_taken}", 'member ok 1 1', 'by our id');
	is($run->{asked}, "$about/$ada $about/$ada/custom_fields", 'two requests, about her alone');
	is($run->{requests}, 2, '... as the run says');
	is($t->groups_of($ada), '', 'her grants followed');

	$loft->field([2], 'Workshop');
	is(sync_member("'$bob'")->{grants_given}, 1, 'by Cobot\'s id');
	is($t->groups_of($bob), 'Workshop (individual), ids door (plan)', 'the custom field was read, by its label');

	$cobot->patch_member('ids', $cleo, name => 'Cleo Nova');
	$run = sync_member("upper('$email'), @{[ $loft->id ]}");
	is("$run->{members_changed} $run->{requests}", '1 2', 'by e-mail in capitals, within the integration');
	is($t->sql("SELECT name FROM smartspace.cobot_membership WHERE cobot_id = '$cleo'"), 'Cleo Nova', '... her name followed');
	$run = $loft->sync;
	is("$run->{members_added} $run->{members_changed} $run->{members_removed} $run->{grants_given}", '0 0 0 0', 'a whole run finds nothing left to do');
	is(mirror(), do { my $before = mirror(); $loft->sync; $before }, 'and writes nothing the second time');
};

promise 'somebody who joined a second ago', joined => sub {
	my ($loft) = @_;
	my ($eve, $finn, $gil) = $loft->who(21 .. 23);

	$loft->join_in(21, 22);
	$cobot->patch_member('joined', $finn, email => 'finn@example.com');
	my $run = sync_member("'$eve', @{[ $loft->id ]}");
	is("$run->{result} $run->{members_added} $run->{grants_given}", 'ok 1 1', 'by Cobot\'s id');
	is($t->groups_of($eve), 'joined door (plan)', 'she is in');

	$run = sync_member("'Finn\@Example.com', @{[ $loft->id ]}");
	is("$run->{members_added} $run->{requests}", '1 3', 'by e-mail');
	is($run->{asked}, "$about/$finn $about/$finn/custom_fields $about?attributes=id,email", 'Cobot is asked who that is, for ids and addresses alone');
	is($t->groups_of($finn), 'joined door (plan)', 'he is in');

	$loft->join_in(23);
	$cobot->patch_member('joined', $gil, confirmed_at => undef);
	$run = sync_member("'$gil', @{[ $loft->id ]}");
	is("$run->{result} $run->{message}", 'ok Cobot has not confirmed the membership yet', 'who is not confirmed is not a member yet');
	is(id_of($gil), '', 'and not here');
};

promise 'who is gone', gone => sub {
	my ($loft) = @_;
	my ($ada, $bob, $cleo, $dora) = $loft->who(1 .. 4);

	$loft->leave(1);
	my $run = sync_member(id_of($ada));
	is("$run->{members_removed} $run->{requests}", '1 3', 'deleted: Cobot is asked whether the space is there at all');
	is($t->groups_of($ada), '', 'she is out');

	$loft->change([2], canceled_to => 'today-1d');
	$run = sync_member(id_of($bob));
	is("$run->{members_removed} $run->{message}", '1 the membership has ended; 1 left; 1 grant taken; ' . ($run->{message} =~ /(2 requests in .*)/)[0], 'ended');
	is($t->groups_of($bob), '', 'he is out');

	$loft->leave(3);
	$cobot->fault(match => { path => '/api/spaces/gone' }, times => 0, status => 404);
	$run = sync_member(id_of($cleo));
	is("$run->{result} $run->{members_removed}", 'incomplete 0', 'not found, and no space either: that proves nothing');
	is($t->groups_of($cleo), 'gone door (plan)', 'she is in');
	$cobot->clear_faults;

	refused("'nobody-99', " . $loft->id, '42704', qr/Cobot has no member "nobody-99" in "gone"/);
	refused("'nobody\@example.com', " . $loft->id, '42704', qr/Cobot has no member "nobody\@example.com"/);
	refused("'nobody\@example.com'", '42704', qr/nobody here has the Cobot id or e-mail.*HINT:  To ask Cobot, name the integration/s);
	refused('NULL::bigint', '22004', qr/must not be null/);
	refused('NULL::text', '22004', qr/must not be null/);
	refused('987654', '42704', qr/membership 987654 does not exist/);
	refused("'x', 987654", '42704', qr/integration 987654 does not exist/);
};

promise 'the custom fields that Cobot does not give cost nobody their groups', fields => sub {
	my ($loft) = @_;
	my ($ada) = $loft->who(1);

	$loft->field([1], 'Workshop');
	sync_member(id_of($ada));
	foreach my $status (403, 500)
	{
		$cobot->fault(match => { path => "$about/$ada/custom_fields" }, times => 0, status => $status);
		$cobot->patch_member('fields', $ada, name => "Ada $status");
		my $run = sync_member(id_of($ada));
		is("$run->{result} $run->{members_changed}", 'incomplete 1', "HTTP $status: the membership itself is applied");
		is($t->groups_of($ada), 'Workshop (individual), fields door (plan)', '... and she keeps what the field gave');
		$cobot->clear_faults;
	}
	$loft->field([1], '');
	is(sync_member(id_of($ada))->{grants_taken}, 1, 'an empty field is an answer');
};

promise 'an answer that cannot be used changes nothing', bad => sub {
	my ($loft) = @_;
	my ($ada) = $loft->who(1);
	my %answers = (
		auth_revoked => { status => 401 }, unreachable => { status => 502 }, rate_limited => { status => 429 },
		bad_answer => { body => '<html>Moved</html>' });

	foreach my $reason (sort keys %answers)
	{
		$cobot->fault(match => { path => "$about/$ada" }, times => 0, %{ $answers{$reason} });
		my $before = mirror();
		my $run = sync_member(id_of($ada));
		is("$run->{result} $run->{reason}", "incomplete $reason", "$reason: the run says so");
		like($run->{warning}, qr/WARNING:  01000: synchronisation of "bad" is incomplete: could not read the member "$ada"/, '... also to the client');
		is(mirror(), $before, '... and nothing is written');
		is($t->sql("SELECT count(*) FROM smartspace.cobot_sync_change WHERE run_id = $run->{id}"), 0, '... nor held');
		$cobot->clear_faults;
	}
	$cobot->put_member('bad', $ada, { %{ $cobot->member('bad', $ada) }, name => {} });
	my $before = mirror();
	is(sync_member(id_of($ada))->{result}, 'ok_with_problems', 'a record that cannot be used');
	is(mirror(), $before, '... leaves her as she was');
	like($t->sql('SELECT detail FROM smartspace.cobot_problem WHERE membership_id = ' . id_of($ada)), qr/^membership\.name is an object, expected a string/, '... and is a problem');
	$cobot->put_member('bad', $ada, { %{ $cobot->member('bad', $ada) }, name => 'Ada' });
	sync_member(id_of($ada));
	is($t->sql('SELECT count(*) FROM smartspace.cobot_problem WHERE membership_id = ' . id_of($ada)), 0, 'which goes when she is read again');
};

promise 'many runs of one member do not get past the limit of one run', limit => sub {
	my ($loft) = @_;

	$loft->leave(1 .. 7);
	is(join(' ', map { sync_member(id_of($_))->{result} } $loft->who(1 .. 5)), 'ok ok ok ok ok', 'five go by themselves');
	my $run = sync_member(id_of(($loft->who(6))[0]));
	is("$run->{result} $run->{reason}", 'held too_many_removals', 'the sixth within the hour waits');
	is($t->groups_of(($loft->who(6))[0]), 'limit door (plan)', 'and keeps the access');
	is($t->sql("SELECT held, held_run FROM smartspace.cobot_status WHERE integration_id = @{[ $loft->id ]}"), "1|$run->{id}", 'cobot_status shows it');
	$run = $t->row("SELECT * FROM smartspace.cobot_release($run->{id})");
	is($t->groups_of(($loft->who(6))[0]), '', 'a release lets it through');
};

promise 'back-off, state and history of whole runs are not disturbed', quiet => sub {
	my ($loft) = @_;
	my ($ada) = $loft->who(1);
	my $id = $loft->id;

	$cobot->fault(match => { path => '/api/plans' }, times => 0, status => 500);
	$loft->sync foreach 1, 2;
	my $status = "SELECT state, reason, failures, next_at, last_run, last_result FROM smartspace.cobot_status WHERE integration_id = $id";
	my $before = $t->sql($status);
	like($before, qr/^degraded\|unreachable\|2\|/, 'given: two runs that failed');
	is(sync_member(id_of($ada))->{result}, 'ok', 'one member can be read all the same');
	is($t->sql($status), $before, 'and the integration is as it was');
	is($t->sql("SELECT next_at IS NULL AND failures = 0 FROM smartspace.cobot_sync_run WHERE integration_id = $id ORDER BY id DESC LIMIT 1"), 't', 'the run of one member is no appointment');
	$cobot->clear_faults;
	$t->sql("UPDATE smartspace.cobot_sync_run SET not_before = now() + interval '1 hour' WHERE integration_id = $id AND kind = 'sync'");
	is(sync_member(id_of($ada))->{result}, 'ok', 'the list has to wait, one member has not');

	my $other = $t->node->background_psql('postgres');
	$other->query_safe("UPDATE smartspace.cobot_sync_run SET not_before = NULL WHERE integration_id = $id");
	$other->query_safe("BEGIN; SELECT count(*) FROM smartspace.cobot_preview($id)");
	is(sync_member(id_of($ada))->{result}, 'skipped_locked', 'while another run is under way');
	$other->quit;

	$t->sql("UPDATE smartspace.cobot_integration SET state = 'paused' WHERE id = $id");
	refused(id_of($ada), '55000', qr/integration "quiet" is paused/);
	$t->sql("UPDATE smartspace.cobot_integration SET state = 'disconnected' WHERE id = $id");
	refused(id_of($ada), '55000', qr/integration "quiet" is not connected/);
};

subtest 'an e-mail address can be shared' => sub {
	my ($one, $two) = map { CobotLoft->open($t, $_) } qw(shared other);
	my ($ada, $bob) = $one->who(1, 2);
	my ($kim) = $two->who(1);

	$cobot->patch_member('shared', $_, email => 'desk@example.com') foreach $ada, $bob;
	$cobot->patch_member('other', $kim, email => 'desk@example.com');
	$_->sync foreach $one, $two;
	like(refused("'desk\@example.com'", '21000', qr/3 members here have/), qr/HINT:  Give the id of the membership, or name the integration/, 'three have it');
	refused("'desk\@example.com', " . $one->id, '21000', qr/2 members here have/);
	is(sync_member("'desk\@example.com', " . $two->id)->{result}, 'ok', 'in the other space it is one');
	$one->leave(1);
	$one->sync;
	is(sync_member("'desk\@example.com', " . $one->id)->{asked}, "$about/$bob $about/$bob/custom_fields", 'who left does not count');
};

done_testing();
