# One member now, where it is not simple: somebody who left and came back as a new
# membership, addresses that are shared at Cobot, lists that fail, a limit that single
# runs share, an endpoint that is exhausted. A whole run afterwards finds nothing to do.
use strict;
use warnings;

use CobotLoft;
use CobotMirror;
use CobotTest;
use JSON::PP;
use Test::More;

my $t = lofts((map { $_ => 12 } qw(again shared list slow gone label off state copy)), storm => 24, one => 3, two => 3);
my $cobot = $t->cobot;
my $json = JSON::PP->new->utf8->allow_nonref;
my $about = '/api/memberships';
$t->group('Workshop', identifier => 'Workshop');

# Whatever happens to one member, a whole run then agrees, and a second one writes nothing.
sub promise
{
	my ($name, $subdomain, $test, %settings) = @_;

	subtest $name => sub {
		my $loft = CobotLoft->open($t, $subdomain, %settings);

		$cobot->clear_log;
		$test->($loft);
		$cobot->clear_faults;
		$loft->sync;
		my $before = $t->contents;
		$loft->sync;
		ok($t->contents eq $before, 'a second whole run writes nothing');
		is(mirror_differs($t, $loft->id, $subdomain), '', 'the mirror equals Cobot');
		is($t->grants_differ, 0, 'the grants equal their definition');
	};
	return;
}

# cobot_sync_member(ARGUMENTS): the run, with the warning and the paths that were asked for.
sub sync_member
{
	my ($arguments, $settings) = @_;
	$cobot->clear_log;
	my $answer = $t->try(($settings // '') . " SELECT row_to_json(r) FROM smartspace.cobot_sync_member($arguments) r");

	die "cobot_sync_member($arguments): $answer->{err}" unless $answer->{ok};
	return { %{ $json->decode($answer->{out}) }, warning => $answer->{err},
		asked => join ' ', sort map { $_->{path} . ($_->{query} ? "?$_->{query}" : '') } $cobot->log };
}

sub refused
{
	my ($arguments, $sqlstate, $message) = @_;
	my $answer = $t->try("SELECT smartspace.cobot_sync_member($arguments)");

	is($answer->{sqlstate}, $sqlstate, "cobot_sync_member($arguments): SQLSTATE");
	like($answer->{err}, $message, '... and a message');
	return;
}

sub id_of { return $t->sql("SELECT id FROM smartspace.cobot_membership WHERE cobot_id = '$_[0]'"); }

promise 'who left and joined again is found by the same address', again => sub {
	my ($loft) = @_;
	my $id = $loft->id;

	$cobot->patch_member('again', 'again-01', email => 'ada@example.com');
	$loft->sync;
	$loft->leave(1);
	$loft->sync;
	$loft->join_in(31);
	$cobot->patch_member('again', 'again-31', email => 'Ada@Example.com');
	my $run = sync_member("'ada\@example.com', $id");
	is("$run->{members_added} $run->{requests} " . $t->groups_of('again-31'), '1 3 again door (plan)', 'the new membership, though the old one is known here');
	is($t->groups_of('again-01'), '', '... which stays what it is');
	$run = sync_member("'ADA\@example.com', $id");
	is("$run->{asked}", "$about/again-31 $about/again-31/custom_fields", 'from then on it is known');
	$loft->leave(31);
	$run = sync_member("'ada\@example.com', $id");
	is("$run->{members_removed} " . $t->groups_of('again-31'), '1 ', 'she leaves again');
	refused("'ada\@example.com', $id", '42704', qr/Cobot has no member "ada\@example.com" in "again"/);
	$run = sync_member("'again-31', $id");
	is("$run->{result} $run->{members_removed} " . counts_of($run), 'ok 0 0/0/0 0/0/0', 'by Cobot\'s id a former member can be asked for: nothing new');
	$loft->join_in(31);
	$run = sync_member("'again-31'");
	is("$run->{members_added} " . $t->groups_of('again-31'), '1 again door (plan)', 'and is back when Cobot has the membership again');
};

promise 'an address that several share at Cobot is nobody\'s', shared => sub {
	my ($loft) = @_;
	my $id = $loft->id;
	my $before = $t->contents;

	$loft->join_in(31, 32);
	$cobot->patch_member('shared', $_, email => 'desk@example.com') foreach $loft->who(31, 32);
	my $answer = $t->try("SELECT smartspace.cobot_sync_member('DESK\@example.com', $id)");
	is($answer->{sqlstate}, '21000', 'two who joined just now');
	like($answer->{err}, qr/several members of "shared" have the e-mail address "DESK\@example\.com".*HINT:  Give Cobot's id of the membership/s, '... and what to do');
	ok($t->contents eq $before, 'nothing is written');
	is(sync_member("'shared-31', $id")->{members_added}, 1, 'by Cobot\'s id it is one');
	is(sync_member("'desk\@example.com', $id")->{asked}, "$about/shared-31 $about/shared-31/custom_fields", 'the one who is known comes first');
};

promise 'a list of addresses that fails changes nothing', list => sub {
	my ($loft) = @_;
	my $id = $loft->id;
	my $before = $t->contents;
	my @tries = (
		[ { status => 401 }, 'failed auth_revoked' ], [ { status => 429 }, 'incomplete rate_limited' ], [ { status => 500 }, 'failed unreachable' ],
		[ { body => '<html>' }, 'incomplete bad_answer' ], [ { body => '{}' }, 'incomplete bad_answer' ], [ { truncate => 0.5 }, 'incomplete bad_answer' ], [ { stall => 'headers' }, 'failed unreachable' ]);

	$loft->join_in(31);
	$cobot->patch_member('list', 'list-31', email => 'eve@example.com');
	foreach my $try (@tries)
	{
		$cobot->fault(match => { path => $about }, times => 0, %{ $try->[0] });
		my $run = sync_member("'eve\@example.com', $id", "SET smartspace_cobot.request_timeout = '1s';");
		is("$run->{result} $run->{reason} " . id_of('list-31'), "$try->[1] ", join(' ', %{ $try->[0] }));
		is($run->{asked}, "$about?attributes=id,email", '... nothing else was asked');
		$cobot->clear_faults;
	}
	ok($t->contents eq $before, 'nothing is written');
	foreach my $odd ('[]', '[{"id": "list-31"}]', '[{"id": "list-31", "email": null}]', '[{"id": 7, "email": "eve@example.com"}]', '[7, null, "eve@example.com"]', '[{"email": "eve@example.com"}]')
	{
		$cobot->fault(match => { path => $about }, times => 0, body => $odd);
		refused("'eve\@example.com', $id", '42704', qr/Cobot has no member "eve\@example.com" in "list"/);
		$cobot->clear_faults;
	}
	is(sync_member("'eve\@example.com', $id")->{members_added}, 1, 'when it comes, she joins');
};

promise 'silence about the member, and an answer about another one', slow => sub {
	my ($loft) = @_;
	my $before = $t->contents;
	my $id = id_of('slow-01');

	foreach my $fault ({ stall => 'headers' }, { stall => 20 }, { cut => 20 }, { status => 403 }, { status => 402 }, { status => 301 }, { body => '[]' }, { body => 'null' }, { body => '{}' }, { nesting => 500 },
		{ body => $json->encode($cobot->member('slow', 'slow-02')) }, { body => $json->encode({ %{ $cobot->member('slow', 'slow-02') }, canceled_to => '2020/01/01' }) })
	{
		$cobot->fault(match => { path => "$about/slow-01" }, times => 0, %$fault);
		my $run = sync_member($id, "SET smartspace_cobot.request_timeout = '1s';");
		my ($what) = map { "$_ " . substr($fault->{$_}, 0, 20) } keys %$fault;
		like($run->{result}, qr/^(?:incomplete|ok_with_problems)$/, "$what: $run->{result}");
		ok($t->contents eq $before, '... nothing is written');
		is($t->sql("SELECT count(*) FROM smartspace.cobot_sync_change WHERE run_id = $run->{id} AND verdict IN ('applied', 'released')"), 0, '... or taken');
		$cobot->clear_faults;
	}
	$loft->sync;
	is($loft->state, 'connected', 'a whole run mends what was reported');
};

promise '404 is evidence only where the space is', gone => sub {
	my ($loft) = @_;
	my $id = $loft->id;

	$loft->leave(1);
	foreach my $fault ({ status => 404 }, { status => 500 }, { status => 401 }, { drop => JSON::PP::true })
	{
		$cobot->fault(match => { path => '/api/spaces/gone' }, times => 0, %$fault);
		my $run = sync_member(id_of('gone-01'));
		is("$run->{result} $run->{members_removed} " . $t->groups_of('gone-01'), 'incomplete 0 gone door (plan)', join ' ', %$fault);
		$cobot->clear_faults;
	}
	$t->sql("UPDATE smartspace.cobot_integration SET subdomain = 'nowhere' WHERE id = $id");
	my $run = sync_member(id_of('gone-02'));
	is("$run->{result} $run->{members_removed} " . $t->groups_of('gone-02'), 'incomplete 0 gone door (plan)', 'a subdomain that is wrong');
	my $answer = $t->try("SELECT result FROM smartspace.cobot_sync_member('stranger', $id)");
	is($answer->{sqlstate} . $answer->{out}, 'incomplete', '... nor does it say that somebody is unknown');
	$t->sql("UPDATE smartspace.cobot_integration SET subdomain = 'gone' WHERE id = $id");
	$loft->change([2], confirmed_at => undef);
	$run = sync_member(id_of('gone-02'));
	is($t->groups_of('gone-02'), '', 'who is not confirmed any more has no access');
	like($run->{message}, qr/^Cobot has not confirmed the membership yet; /, '... which is said');
	$loft->change([2], confirmed_at => '2020/01/01 10:00:00 +0000');
	is(sync_member(id_of('gone-02'))->{grants_given}, 1, 'confirmed, it is there again');
	is(sync_member(id_of('gone-01'))->{members_removed}, 1, 'and where the space is, 404 counts');
};

promise 'the custom field is found by its label, and a field that is gone takes nothing by itself', label => sub {
	my ($loft) = @_;
	my $groups = 'Workshop (individual), label door (plan)';
	my $id = id_of('label-01');
	my $answers = sub { $cobot->fault(match => { path => "$about/label-01/custom_fields" }, times => 0, body => $json->encode({ membership_id => 'label-01', fields => $_[0] })) };

	$loft->field([1], 'Workshop');
	is(sync_member($id)->{grants_given} . ' ' . $t->groups_of('label-01'), "1 $groups", 'given: she has a group by the field');
	foreach my $bad ([ { label => FIELD, value => 7 } ], [ { label => FIELD, value => 'x' }, { label => FIELD, value => 'y' } ], [7], 'x')
	{
		$answers->($bad);
		my $run = sync_member($id);
		is("$run->{result} " . $t->groups_of('label-01'), "ok_with_problems $groups", 'cannot be used: ' . $json->encode($bad));
		$cobot->clear_faults;
	}
	$answers->([ { id => 'another', label => FIELD, value => 'Workshop' } ]);
	is(sync_member($id)->{result} . ' ' . $t->groups_of('label-01'), "ok $groups", 'another id, the same label');
	$cobot->clear_faults;

	$cobot->set_fields('label', { label => 'Phone' });
	$loft->change([1], name => 'Renamed');
	my $run = sync_member($id);
	is("$run->{result} $run->{reason} " . $t->groups_of('label-01'), "incomplete source_incomplete $groups", 'the space has no such field any more: one member alone loses nothing by it');
	is($loft->name_of(1), 'Renamed', '... and the rest of the record is taken');
	is(sync_member(id_of('label-02'))->{asked}, "$about/label-02 $about/label-02/custom_fields", '... who had nothing by it is not concerned');
	$cobot->set_fields('label', { id => 'field-1', label => FIELD });
	$cobot->fault(match => { path => '/api/space/custom_fields' }, status => 500);
	is(sync_member($id)->{result} . ' ' . $t->groups_of('label-01'), "incomplete $groups", 'whether it is there is not told');
	$run = sync_member($id);
	is("$run->{result} $run->{requests} $run->{grants_taken} " . $t->groups_of('label-01'), 'ok 3 1 label door (plan)', 'the field is there, and empty: an answer');
};

promise 'where individual access is off, one request', off => sub {
	my ($loft) = @_;

	$loft->set(sync_individual_access => 'false');
	my $run = sync_member(id_of('off-01'));
	is("$run->{result} $run->{asked}", "ok $about/off-01", 'the member alone');
};

promise 'a storm of single runs shares one limit, and its held run can be released', storm => sub {
	my ($loft) = @_;
	my $id = $loft->id;

	$loft->leave(1 .. 8);
	is(join(' ', map { sync_member(id_of($_))->{result} } $loft->who(1 .. 5)), 'ok ok ok ok ok', 'five go by themselves');
	my @held = map { sync_member(id_of($_)) } $loft->who(6 .. 8);
	is(join(' ', map { "$_->{result} $_->{reason}" } @held), join(' ', ('held too_many_removals') x 3), 'the others wait');
	is($loft->outside(1 .. 24), '1 2 3 4 5', '... and keep their access');
	is($t->sql("SELECT held FROM smartspace.cobot_status WHERE integration_id = $id"), 3, 'cobot_status counts them');
	like($held[0]{message}, qr/within the hour|single runs|too|more than 5/, 'the run says why');
	is(sync_member(id_of('storm-10'))->{result}, 'ok', 'who did not leave is not concerned');
	is($t->sql("SELECT held FROM smartspace.cobot_status WHERE integration_id = $id"), 3, '... and settles nothing of the others');
	my $release = $loft->release($held[1]);
	is($loft->verdict_of($held[1], 7), 'left applied too_many_removals', 'a release of one of them lets that one through');
	is("$release->{kind} $release->{releases}", "release $held[1]{id}", '... by a whole run');
	is($loft->outside(7), '7', '... and out');
	$loft->join_in(6, 8);
	$loft->sync;
	is($t->sql("SELECT held FROM smartspace.cobot_status WHERE integration_id = $id"), 0, 'who came back is held no more');
	$loft->leave(9);
	$t->sql("UPDATE smartspace.cobot_sync_run SET finished_at = finished_at - interval '61 minutes' WHERE integration_id = $id");
	is(sync_member(id_of('storm-09'))->{result} . ' ' . $loft->outside(9), 'ok 9', 'an hour later there is room again');
};

promise 'trouble with one member is not taken for more than it is', state => sub {
	my ($loft) = @_;
	my $id = $loft->id;
	my $schedule = "SELECT failures, next_at, last_run, last_result, last_good_at FROM smartspace.cobot_status WHERE integration_id = $id";
	my $counts = "SELECT members_seen, plans_seen, fields_seen FROM smartspace.cobot_sync_run WHERE integration_id = $id ORDER BY id DESC LIMIT 1";
	my $before = $t->sql($schedule);

	$cobot->fault(match => { path => "$about/state-01" }, status => 500);
	is(sync_member(id_of('state-01'))->{result}, 'incomplete', 'given: one that failed');
	is($t->sql($schedule), $before, 'no failure of the integration, and no other appointment');
	sync_member(id_of('state-02'));
	is($t->sql($counts), '0|0|0', 'a run of one member counts no lists');
	$loft->leave(1 .. 3);
	is($loft->sync->{members_removed}, 3, '... so the next whole run compares with the one before');
};

subtest 'who is called so, here and there' => sub {
	my ($one, $two) = map { CobotLoft->open($t, $_) } qw(one two);

	$one->join_in(31);
	refused("'one-31'", '42704', qr/nobody here has the Cobot id or e-mail address "one-31".*HINT:  To ask Cobot, name the integration/s);
	is(sync_member("'one-31', @{[ $one->id ]}")->{members_added}, 1, 'the integration named: she joins');
	refused("'one-31', @{[ $two->id ]}", '42704', qr/Cobot has no member "one-31" in "two"/);
	is($t->sql("SELECT count(*) FROM smartspace.cobot_membership WHERE cobot_id = 'one-31'"), 1, '... in her space alone');
	refused("'$_', @{[ $one->id ]}", '42704', qr/nobody has an empty Cobot id or e-mail address/) foreach '', '  ';
	refused("'../plans', @{[ $one->id ]}", '42704', qr/./);
	refused("'one-31/custom_fields', @{[ $one->id ]}", '42704', qr/./);
	refused("'a b?c#d%', @{[ $one->id ]}", '42704', qr/./);
	$t->sql('CREATE ROLE somebody');
	is($t->try("SET ROLE somebody; SELECT smartspace.cobot_sync_member('one-31')")->{sqlstate}, '42501', 'a role without the privilege');
	is($t->try("SET default_transaction_read_only = on; SELECT smartspace.cobot_sync_member('one-31')")->{sqlstate}, '25006', 'where nothing can be written');
	$t->sql("UPDATE smartspace.cobot_integration SET armed_system = 1 WHERE id = @{[ $one->id ]}");
	$cobot->clear_log;
	refused("'one-31'", '55000', qr/integration "one" is not armed for this database/);
	is(scalar(() = $cobot->log), 0, '... nothing is sent');
};

done_testing();
