# Nothing is taken because something was not said. Who or what is missing in a list of
# Cobot is asked for by id; a list that lost much is believed the second time only; and
# Cobot is left alone for as long as it asks, and longer with each failure.
use strict;
use warnings;

use CobotLoft;
use CobotMirror;
use CobotTest;
use JSON::PP;
use Test::More;

my %members = (
	known => 12, values => 30, eve => 12, crowd => 90, half => 60, small => 60, plans => 12, lost => 90, first => 90, race => 12,
	plan => 12, stranger => 12, wait => 3, backoff => 3, other => 3);
my $t = lofts(%members);
my $cobot = $t->cobot;
my $json = JSON::PP->new->utf8;
$t->group('Workshop', identifier => 'Workshop');

sub promise
{
	my ($name, $subdomain, $test, %settings) = @_;

	subtest $name => sub {
		my $loft = CobotLoft->open($t, $subdomain, %settings);

		is($loft->inside, $members{$subdomain}, 'given: everybody has access');
		$cobot->clear_log;
		$test->($loft);
		$cobot->clear_faults;
		is($t->grants_differ, 0, 'the grants equal their definition');
	};
	return;
}

# Cobot's list of custom field values lacks these members. (The answers by id are right.)
sub without_values
{
	my ($subdomain, @ids) = @_;
	my %lacks = map { $_ => 1 } @ids;
	my @values = map { my $value = $_->{custom_fields}{+FIELD};
		$lacks{ $_->{id} } ? () : { membership_id => $_->{id}, fields => [ defined $value ? { id => 'field-1', label => FIELD, value => $value } : () ] } }
	  @{ $cobot->space($subdomain)->{memberships} };

	return $cobot->fault(match => { path => '/api/custom_fields', host => "$subdomain.cobot.me" }, times => 0, body => $json->encode(\@values));
}

# How many members were asked for by id, or for their custom fields, since the log was cleared.
sub asked
{
	my ($what) = @_;
	my $pattern = $what eq 'fields' ? qr{^/api/memberships/[^/]+/custom_fields$} : qr{^/api/memberships/[^/]+$};
	my @asked = sort map { $_->{path} =~ $pattern ? $_->{path} =~ s{^/api/memberships/|/custom_fields$}{}gr : () } $cobot->log;

	$cobot->clear_log;
	return "@asked";
}

promise 'who is on a plan in no list makes the list of members doubtful, once', plan => sub {
	my ($loft) = @_;
	my ($ada, $bob) = $loft->who(1, 2);

	$loft->leave(1);
	$loft->change([2], name => 'Bob Renamed', plan => { name => 'Vault', parent_plan => { id => 'plan-vault' } });
	my $run = $loft->sync;
	is("$run->{result} $run->{reason}", 'incomplete source_incomplete', 'the run is incomplete');
	like($run->{message}, qr/^members on a plan that Cobot does not list: 1;/, 'and says why');
	is($loft->outside(1, 2), '', 'nothing is taken, neither from who left nor from who moved');
	is($t->sql("SELECT listed FROM smartspace.cobot_plan WHERE cobot_id = 'plan-vault'"), 'f', 'the plan is known now');
	$run = $loft->sync;
	is("$run->{result} $run->{members_removed} $run->{members_changed_plan}", 'ok 1 1', 'so the next run goes on');
	is($loft->outside(1 .. 12), '1 2', 'and takes what is to be taken');
};

promise 'a member whom only the custom fields name proves the list of members short', stranger => sub {
	my ($loft) = @_;
	my ($ada, $eve, $ida) = $loft->who(1, 21, 22);

	$loft->leave(1);
	$loft->join_in(21, 22);
	$loft->field([ 21, 22 ], 'Workshop');
	$loft->change([22], canceled_to => 'today-1d');
	my @listed = grep { $_->{id} ne $eve && $_->{id} ne $ida } $cobot->members('stranger');
	$cobot->fault(match => { path => '/api/memberships', host => 'stranger.cobot.me' }, times => 0, body => $json->encode(\@listed));
	my $run = $loft->sync;
	is("$run->{result} $run->{reason}", 'incomplete source_incomplete', 'the run is incomplete');
	like($run->{message}, qr/^Cobot's list of members lacks 1 that it has custom fields of/, 'and says why; a former member is none of them');
	is(asked('members'), "$ada $eve $ida", 'who vanished and who is unknown were asked for');
	is($t->groups_of($ada), 'stranger door (plan)', 'nothing is taken');
	is($t->groups_of($eve), 'stranger door (plan)', 'and she who was missing is in');
	is($t->sql("SELECT count(*) FROM smartspace.cobot_membership WHERE cobot_id = '$ida'"), 0, 'but no former member');
	$cobot->clear_faults;
	$run = $loft->sync;
	is("$run->{result} $run->{members_removed}", 'ok 1', 'with the whole list who left has left');
	is($t->groups_of($eve), 'Workshop (individual), stranger door (plan)', 'and she has what her field gives');
};

promise 'unknown by id, and yet among the custom fields, is no evidence', known => sub {
	my ($loft) = @_;
	my ($ada) = $loft->who(1);

	$loft->field([1], 'Workshop');
	$loft->sync;
	my $values = $json->encode([ map { { membership_id => $_, fields => [] } } $loft->who(1 .. 12) ]);
	$loft->leave(1, 2);
	$cobot->fault(match => { path => '/api/custom_fields', host => 'known.cobot.me' }, times => 0, body => $values =~ s/,\{[^{]*known-02[^}]*\}//r);
	my $run = $loft->sync;
	is("$run->{result} $run->{reason}", 'incomplete source_incomplete', 'the run is incomplete');
	is($loft->verdicts($run), '1 left applied, 1 left held source_incomplete', 'it holds the one, and lets go the one whom Cobot has forgotten altogether');
	is($loft->outside(1 .. 12) . ' ' . $loft->inside('Workshop'), '2 1', 'she keeps everything');
	$cobot->clear_faults;
	is($loft->sync->{result} . ' ' . $loft->outside(1 .. 12), 'ok 1 2', 'forgotten altogether, she has left');
};

promise 'a custom field that is missing in the list is asked for by id', values => sub {
	my ($loft) = @_;

	$loft->field([ 1 .. 6 ], 'Workshop');
	$loft->sync;
	is($loft->inside('Workshop'), 6, 'given: six in the workshop by their custom field');
	asked('fields');

	without_values('values', $loft->who(1 .. 3, 10));
	my $run = $loft->sync;
	is("$run->{result} $run->{reason}", 'incomplete source_incomplete', 'three lack in the list: the run is incomplete');
	is(asked('fields'), join(' ', $loft->who(1 .. 3)), 'those who had a value are asked for, and nobody else');
	is($loft->inside('Workshop') . ' ' . counts_of($run), '6 0/0/0 0/0/0', 'they still have it');
	like($run->{message}, qr/^Cobot's list of custom field values lacks 3 that it still knows$/, 'it says so');

	$loft->change([1], name => 'Renamed');
	$loft->sync;
	is($loft->name_of(1), 'Renamed', 'a new name of theirs is taken');

	$cobot->clear_faults;
	is($loft->sync->{result} . ' ' . $loft->inside('Workshop'), 'ok 6', 'back in the list, all is as it was');

	without_values('values', $loft->who(1 .. 3));
	$loft->field([1], undef);
	$cobot->fault(match => { path => '/api/memberships/values-02/custom_fields' }, times => 0, status => 500);
	$run = $loft->sync;
	is("$run->{result} $run->{reason}", 'incomplete unreachable', 'one answer fails');
	is($loft->verdict_of($run, 1) . ', ' . $loft->verdict_of($run, 2), 'changed applied, changed held unreachable', 'only what Cobot says is taken');
	is($loft->inside('Workshop'), 5, 'from the one who has no value any more');
	$cobot->clear_faults;
	is($loft->sync->{result} . ' ' . $loft->inside('Workshop'), 'ok 5', 'the list is whole again');
};

promise 'custom fields of somebody else are no evidence', eve => sub {
	my ($loft) = @_;

	$loft->field([1], 'Workshop');
	$loft->sync;
	without_values('eve', $loft->who(1));
	$cobot->fault(match => { path => '/api/memberships/eve-01/custom_fields' }, times => 0, body => '{"membership_id":"eve-02","fields":[]}');
	my $run = $loft->sync;
	is($run->{result} . ' ' . $t->groups_of('eve-01'), 'incomplete Workshop (individual), eve door (plan)', 'an answer with the id of another');
	$cobot->clear_faults;
	without_values('eve', $loft->who(1));
	$cobot->fault(match => { path => '/api/memberships/eve-01/custom_fields' }, times => 0, body => '{}');
	$run = $loft->sync;
	is($run->{result} . ' ' . $t->groups_of('eve-01'), 'incomplete Workshop (individual), eve door (plan)', 'an answer without fields');
};

promise 'deleted between two questions is for the next run', race => sub {
	my ($loft) = @_;

	$loft->field([1], 'Workshop');
	$loft->sync;
	my $record = $json->encode([ @{ $cobot->space('race')->{memberships} } ]);
	$cobot->fault(match => { path => '/api/memberships', host => 'race.cobot.me' }, body => $record);
	$loft->leave(1);
	my $run = $loft->sync;
	is("$run->{result} $run->{reason} $run->{failures} " . $t->groups_of('race-01'), 'incomplete source_incomplete 0 Workshop (individual), race door (plan)', 'in the list of members, and unknown a moment later: kept, and no failure');
	is($loft->sync->{result} . ' ' . $t->groups_of('race-01'), 'ok ', 'gone in the next run');
};

promise 'no more than forty questions of a kind in a run', crowd => sub {
	my ($loft) = @_;

	$loft->set(hold_removals_above => 1000, hold_emptied_group_of => 'NULL');
	$loft->field([ 1 .. 90 ], 'Workshop');
	$loft->sync;
	$loft->field([ 1 .. 44 ], undef);
	without_values('crowd', $loft->who(1 .. 44));
	asked('fields');
	my $run = $loft->sync;
	my $first = asked('fields');
	is(scalar(split ' ', $first) . " $run->{result} $run->{reason} " . $loft->inside('Workshop'), '40 incomplete source_incomplete 50', 'forty of forty-four are asked for, and out');
	like($run->{message}, qr/^44 members are missing in Cobot's lists, of whom 40 were asked for by id so far;/, 'it says so');
	$run = $loft->sync;
	my $second = asked('fields');
	is(scalar(split ' ', $second) . " $run->{result} " . $loft->inside('Workshop'), '4 ok 46', 'the next run goes on');
	is(join(' ', sort split ' ', "$first $second"), join(' ', $loft->who(1 .. 44)), 'and asks nobody twice');
};

promise 'a list that lost more than half takes nothing the first time', half => sub {
	my ($loft) = @_;

	$loft->set(hold_removals_above => 1000, hold_emptied_group_of => 'NULL');
	$loft->leave(1 .. 32);
	$loft->join_in(61);
	my $run = $loft->sync;
	is("$run->{result} $run->{reason} $run->{members_removed} " . $loft->outside(1 .. 61), 'incomplete source_incomplete 0 ', 'thirty-two of sixty: nobody is out');
	is($loft->verdicts($run), '1 joined applied, 32 left held source_incomplete', 'additions go through');
	like($run->{message}, qr/^Cobot lists 29 members, where there were 60 last time;/, 'it says why');
	$run = $loft->sync;
	is("$run->{result} $run->{members_removed}", 'ok 32', 'the second time it is believed, as far as each one is confirmed');
	is($loft->outside(1 .. 61), join(' ', 1 .. 32), 'they are out');
};

promise 'a list that lost half or less is believed at once', small => sub {
	my ($loft) = @_;

	$loft->set(hold_removals_above => 1000, hold_emptied_group_of => 'NULL');
	$loft->leave(1 .. 30);
	is($loft->sync->{members_removed}, 30, 'thirty of sixty');
};

promise 'a list that lost much and is whole again has taken nothing, though it was released', lost => sub {
	my ($loft) = @_;

	$cobot->fault(match => { path => '/api/memberships', host => 'lost.cobot.me' }, body => $json->encode([ grep { $_->{id} ge 'lost-51' } @{ $cobot->space('lost')->{memberships} } ]));
	my $run = $loft->sync;
	is("$run->{result} $run->{reason} " . $loft->inside, 'incomplete source_incomplete 90', 'fifty vanish');
	is($loft->release($run)->{result} . ' ' . $loft->inside, 'ok 90', 'released, they are there');
};

promise 'a release waits for a list that can be believed, and comes first then', first => sub {
	my ($loft) = @_;

	$loft->leave(1 .. 20);
	my $held = $loft->sync;
	is($held->{removals_held}, 20, 'given: twenty are held');
	$cobot->fault(match => { path => '/api/memberships', host => 'first.cobot.me' }, times => 2, body => $json->encode([ grep { $_->{id} ge 'first-71' } @{ $cobot->space('first')->{memberships} } ]));
	my $release = $loft->release($held);
	is("$release->{result} $release->{reason} $release->{members_removed} " . $loft->inside, 'incomplete source_incomplete 0 90', 'the list that comes with the release lost much more: it takes nothing, not even what was released');
	is($t->sql("SELECT count(*) FROM smartspace.cobot_sync_change WHERE integration_id = @{[ $loft->id ]} AND verdict = 'released'"), 20, 'the decision stands');
	my $run = $loft->sync;
	is("$run->{members_removed} " . $loft->outside(1 .. 90), '20 ' . join(' ', 1 .. 20), 'seventy are missing the second time: of the forty asked for, those who were released come first');
	is($loft->sync->{result} . ' ' . $loft->inside, 'ok 70', 'nobody else is out');
};

promise 'a list of plans that lost much takes nothing either', plans => sub {
	my ($loft) = @_;

	$cobot->add_plan('plans', id => "more-$_", name => "More $_") foreach 1 .. 12;
	$loft->sync;
	$cobot->delete_plan('plans', "more-$_") foreach 1 .. 12;
	$loft->leave(1);
	my $run = $loft->sync;
	is("$run->{result} $run->{reason} " . $loft->outside(1 .. 12), 'incomplete source_incomplete ', 'who left in the same run stays for one more');
	is($loft->sync->{result} . ' ' . $loft->outside(1 .. 12), 'ok 1', 'and then goes');
};

promise 'Cobot is left alone for as long as it asks, also after a restart', wait => sub {
	my ($loft) = @_;

	$cobot->fault(match => { path => '/api/memberships', host => 'wait.cobot.me' }, status => 429, headers => { 'Retry-After' => '300' });
	my $run = $loft->sync;
	is("$run->{result} $run->{reason}", 'incomplete rate_limited', 'Cobot asks to wait');
	ok($t->sql("SELECT not_before - finished_at BETWEEN '299 s' AND '301 s' AND next_at >= not_before - interval '1 s' FROM smartspace.cobot_sync_run WHERE id = $run->{id}") eq 't', 'the time is stored, and the next run is not due before');
	$t->node->restart;
	$cobot->clear_log;
	my $early = $loft->sync(waits => 1);
	is("$early->{result} $early->{reason} $early->{requests} " . scalar($cobot->log), 'incomplete rate_limited 0 0', 'after a restart nothing is sent');
	like($early->{message}, qr/^Cobot asked not to be asked again for another (?:29\d|300) s; nothing was sent$/, 'it says for how long');
	like($t->try("SELECT * FROM smartspace.cobot_preview(@{[ $loft->id ]})")->{err}, qr/WARNING: .*Cobot asked not to be asked again/, 'a preview is not sent either');
	is(scalar($cobot->log), 0, '... indeed');

	$t->sql("UPDATE smartspace.cobot_sync_run SET not_before = not_before - interval '5 min' WHERE integration_id = @{[ $loft->id ]}");
	is($loft->sync(waits => 1)->{result}, 'ok', 'when the time is over, it goes on');
	my $other = CobotLoft->open($t, 'other');
	is($other->sync(waits => 1)->{result}, 'ok', 'other spaces never had to wait');
};

promise 'the wait grows with each failure, differs by chance, and ends with a good run', backoff => sub {
	my ($loft) = @_;
	my $down = "SET smartspace_cobot.connect_to = '127.0.0.1:1';";
	my $delay = "extract(epoch FROM next_at - finished_at)";
	my @delays;

	$loft->set(sync_interval => "'30 min'");
	foreach my $failures (1 .. 8)
	{
		my $run = $loft->sync(settings => $down);
		my $s = $t->sql("SELECT $delay FROM smartspace.cobot_sync_run WHERE id = $run->{id}");
		my $mean = 60 * 2**($failures - 1);

		$mean = 1800 if $mean > 1800;
		is($run->{failures}, $failures, "failure $failures is counted");
		ok($s >= $mean * 0.74 && $s <= $mean * 1.26 && $s <= 1800.1, "... about $mean s, and never more than the interval") or diag $s;
		push @delays, $s / $mean;
	}
	my %different = map { sprintf('%.3f', $_) => 1 } @delays;
	cmp_ok(scalar keys %different, '>', 4, 'chance spreads them');

	$cobot->fault(match => { path => '/api/plans', host => 'backoff.cobot.me' }, status => 429, headers => { 'Retry-After' => '3000' });
	my $limited = $loft->sync;
	cmp_ok($t->sql("SELECT $delay FROM smartspace.cobot_sync_run WHERE id = $limited->{id}"), '>=', 2999, 'longer only if Cobot says so');

	my $good = $loft->sync;
	is("$good->{result} $good->{failures}", 'ok 0', 'a good run');
	my $s = $t->sql("SELECT $delay FROM smartspace.cobot_sync_run WHERE id = $good->{id}");
	ok($s > 1800 * 0.84 && $s <= 1800.1, 'is followed by the interval') or diag $s;
	is($loft->sync(settings => $down)->{failures}, 1, 'and the next failure is the first again');

	$loft->leave(1 .. 3);
	my $held = $loft->sync;
	is("$held->{result} $held->{failures}", 'held 0', 'a held run is no failure');
};

done_testing();
