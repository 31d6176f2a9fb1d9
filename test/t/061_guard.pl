# Removals of access, whatever their cause, are counted in each run. Too many of them, or
# those that would empty a user group, wait for a person; everything else goes through.
# What a person released is taken when Cobot still says so, and no more than they saw.
use strict;
use warnings;

use CobotLoft;
use CobotMirror;
use CobotTest;
use Test::More;

my %members = (
	ended => 90, few => 8, emptied => 30, moved => 90, fields => 90, gone => 30, early => 90, natural => 90, limits => 20,
	fresh => 90, others => 90, more => 10, again => 90, down => 90, meanwhile => 90, crowd => 90, dropped => 90, empty => 45, hiccup => 30, misuse => 2, both => 20, twice => 12);
my $t = lofts(%members);
my $cobot = $t->cobot;

# A promise, in a space of its own.
sub promise
{
	my ($name, $subdomain, $test, %settings) = @_;

	subtest $name => sub {
		my $loft = CobotLoft->open($t, $subdomain, %settings);

		is($loft->inside, $members{$subdomain}, 'given: everybody has access');
		$test->($loft);
		$cobot->clear_faults;
		is($t->grants_differ, 0, 'the grants equal their definition');
	};
	return;
}

promise 'thirty of ninety who ended are held, and released by one call', ended => sub {
	my ($loft) = @_;

	$loft->leave(1 .. 30);
	$loft->join_in(91);
	$loft->change([40], name => 'Renamed');
	my $run = $loft->sync;
	is("$run->{result} $run->{reason} $run->{removals_held}", 'held too_many_removals 30', 'the run is held');
	is($loft->verdicts($run), '1 changed applied, 1 joined applied, 30 left held too_many_removals', 'with one row for each');
	like($run->{message}, qr/^30 of 90 members would lose access, and more than 18 are for a person to decide; 1 joined, 1 changed, 30 removals held; 1 grant given; 35 requests in /, 'it says why');
	like($run->{warning}, qr/^HINT: .*SELECT \* FROM smartspace\.cobot_release\($run->{id}\)/m, 'and to the client how to let it through');
	is($loft->state, 'degraded too_many_removals', 'the integration waits for a person');
	is($loft->inside . ' ' . $loft->name_of(40), '91 Renamed', 'nobody lost access; the one who joined has it, the one renamed is');
	is(join('|', map { "@{$_->{loses}}" } $t->rows("SELECT DISTINCT loses FROM smartspace.cobot_sync_changes($run->{id}) WHERE verdict = 'held'")), 'ended door', 'the rows say what they would lose');

	my $release = $loft->release($run);
	is("$release->{result} $release->{kind} $release->{releases} $release->{members_removed}", "ok release $run->{id} 30", 'one call releases them');
	is($loft->inside . ' ' . $loft->outside(1 .. 90), '61 ' . join(' ', 1 .. 30), 'these thirty have no access, everybody else has');
	is($loft->verdicts($run), '1 changed applied, 1 joined applied, 30 left applied too_many_removals', 'the held run knows');
	is($t->sql("SELECT DISTINCT settled_by = $release->{id}, decided_by = current_user, decided_at IS NOT NULL FROM smartspace.cobot_sync_change WHERE run_id = $run->{id} AND what = 'left'"), 't|t|t', 'by which run, and by whom');
	is($loft->state, 'connected', 'the integration is well');
	is(counts_of($loft->sync), '0/0/0 0/0/0', 'and there is nothing more to do');
	is(mirror_differs($t, $loft->id, 'ended'), '', 'the mirror equals Cobot');
};

promise 'three of eight who ended go at once', few => sub {
	my ($loft) = @_;

	$loft->leave(1 .. 3);
	is($loft->verdicts($loft->sync), '3 left applied', 'five are always few');
	is($loft->outside(1 .. 8), '1 2 3', 'they have no access');
	$loft->leave(4 .. 7);
	is($loft->verdicts($loft->sync), '4 left applied', 'nor does it matter who is left');
};

promise 'a group of five is not emptied, and who is not in it goes', emptied => sub {
	my ($loft) = @_;
	my $lab = $t->group('Lab');

	$loft->move(flex => 1 .. 5);
	$t->assign('emptied-flex', $lab, $loft->{door});
	$loft->sync;
	is($loft->inside('Lab'), 5, 'given: five in the laboratory');
	$loft->leave(1 .. 4);
	is($loft->verdicts($loft->sync), '4 left applied', 'four of five go: somebody is left');
	$loft->join_in(1 .. 4);
	$loft->move(flex => 1 .. 4);
	$loft->sync;

	$loft->leave(1 .. 5, 6);
	my $run = $loft->sync;
	is("$run->{result} $run->{reason}", 'held group_would_be_empty', 'all five: the run is held');
	is($loft->verdicts($run), '1 left applied, 5 left held group_would_be_empty', 'but for the one who was not in the laboratory');
	is($loft->inside('Lab') . ' ' . $loft->outside(1 .. 30), '5 6', 'they keep both groups');
	like($run->{message}, qr/^5 members would leave a user group with nobody in it;/, 'it says why');
	is($loft->verdicts($loft->sync), '5 left held group_would_be_empty', 'the next run holds them again');
	$loft->set(hold_emptied_group_of => 6);
	is($loft->verdicts($loft->sync), '5 left applied', 'a setting of the integration says how large such a group is');
	is($loft->inside('Lab'), 0, 'the laboratory is empty');
};

promise 'a change of plan of many is held, joins and names are not', moved => sub {
	my ($loft) = @_;

	$loft->move(flex => 1 .. 30);
	$loft->join_in(91);
	$loft->change([50], name => 'Renamed');
	my $run = $loft->sync;
	is($loft->verdicts($run), '1 changed applied, 30 changed_plan held too_many_removals, 1 joined applied', 'thirty changes of plan are held');
	is($loft->inside . ' ' . $loft->name_of(50), '91 Renamed', 'the others are not, and nobody lost access');
	is($t->sql("SELECT DISTINCT before, after FROM smartspace.cobot_sync_changes($run->{id}) WHERE what = 'changed_plan'") =~ /moved-desk.*moved-flex/ ? 1 : 0, 1, 'the rows tell both plans');
	is($loft->release($run)->{result}, 'ok', 'released');
	is($loft->outside(1 .. 91), join(' ', 1 .. 30), 'the thirty have no access');

	$loft->move(desk => 1 .. 30);
	is($loft->verdicts($loft->sync), '30 changed_plan applied', 'to give is never held');
	is($loft->inside, 91, 'everybody is in');
};

promise 'a custom field emptied for many is held', fields => sub {
	my ($loft) = @_;

	$t->group('Workshop', identifier => 'Workshop');
	$loft->field([ 1 .. 30 ], 'Workshop');
	$loft->sync;
	is($loft->inside('Workshop'), 30, 'given: thirty in the workshop by their custom field');
	$loft->field([ 1 .. 29 ], '');
	$loft->field([30], 'Elsewhere');
	my $run = $loft->sync;
	is("$run->{result} $run->{reason} " . $loft->verdicts($run), 'held too_many_removals 30 changed held too_many_removals', 'held');
	is($loft->inside('Workshop'), 30, 'all keep it');
	$loft->field([ 11 .. 29 ], 'workshop ');
	is($loft->verdicts($loft->sync), '30 changed applied', 'most are corrected in Cobot: few enough to go through');
	is($loft->inside('Workshop'), 19, 'these few are out');
};

promise 'a definition that is gone takes nothing where the plan gives the same for now', twice => sub {
	my ($loft) = @_;
	my ($ada) = $loft->who(1);

	$t->sql("UPDATE smartspace.user_group SET external_identifier = 'Twice' WHERE id = $loft->{door}");
	$loft->field([1], 'Twice');
	$loft->sync;
	is($t->groups_of($ada), 'twice door (individual), twice door (plan)', 'given: the same user group from two sources');
	$cobot->fault(match => { path => '/api/space/custom_fields', host => 'twice.cobot.me' }, times => 0, body => '[{"id":"o","label":"Other"}]');
	my $run = $loft->sync;
	is("$run->{result} $run->{reason} $run->{grants_taken}", 'held source_incomplete 0', 'the run is held');
	$loft->move(flex => 1);
	$loft->sync;
	is($t->groups_of($ada), 'twice door (individual), twice door (plan)', 'another plan takes nothing either');
	$cobot->clear_faults;
	$loft->sync;
	is($t->groups_of($ada), 'twice door (individual)', 'with the definition back she has what the field gives');
	$loft->move(desk => 1);
	$loft->sync;
};

promise 'a definition that is gone is held always, and can be released', gone => sub {
	my ($loft) = @_;

	$t->group('Kitchen', identifier => 'Kitchen');
	$loft->field([ 1 .. 3 ], 'Kitchen');
	$loft->sync;
	$cobot->set_fields('gone', { label => 'Phone' });
	my $run = $loft->sync;
	is("$run->{result} $run->{reason}", 'held source_incomplete', 'three are few, and held all the same');
	is($loft->verdicts($run), '3 changed held source_incomplete', 'with their rows');
	like($run->{message}, qr/^the space has no custom field "smart_spaces_access_additional_units" any more; members who have access by it: 3;/, 'it says why');
	is($loft->inside('Kitchen'), 3, 'they keep access');
	$run = $loft->sync;
	is($loft->verdicts($run), '3 changed held source_incomplete', 'and in the next run');
	like($loft->release($run)->{result}, qr/^ok/, 'released');
	is($loft->inside('Kitchen'), 0, 'they are out');
	$cobot->set_fields('gone', { id => 'field-1', label => FIELD });
	$loft->field([ 1 .. 3 ], 'Kitchen');
	is($loft->verdicts($loft->sync), '3 changed applied', 'the field is back');
	is($loft->inside('Kitchen'), 3, 'and with it access');
};

promise 'an end brought forward for many is held', early => sub {
	my ($loft) = @_;

	$loft->change([ 1 .. 90 ], canceled_to => 'today+90d');
	$loft->sync;
	$loft->change([ 1 .. 20 ], canceled_to => 'today-1d');
	$loft->change([ 21 .. 30 ], canceled_to => 'today');
	my $run = $loft->sync;
	is("$run->{result} $run->{reason} $run->{removals_held}", 'held too_many_removals 30', 'today and yesterday count alike');
	is($t->sql("SELECT count(*) FROM smartspace.cobot_membership WHERE integration_id = @{[ $loft->id ]} AND canceled_to = current_date + 90"), 90, 'the days are as they were');
	is($loft->inside, 90, 'and everybody has access');
	is($loft->release($run)->{result}, 'ok', 'released');
	is($loft->outside(1 .. 90), join(' ', 1 .. 20), 'yesterday is over, today is a day with access');
	$loft->change([ 31 .. 90 ], canceled_to => 'today+9d');
	is($loft->verdicts($loft->sync), '60 changed applied', 'an end that comes with notice is an end known in advance');
};

promise 'an end known in advance is never held, however many', natural => sub {
	my ($loft) = @_;

	$loft->change([ 1 .. 60 ], canceled_to => 'today+9d');
	$loft->sync;

	# ten days later
	$t->sql("UPDATE smartspace.cobot_membership SET canceled_to = current_date - 1 WHERE integration_id = @{[ $loft->id ]} AND canceled_to IS NOT NULL");
	$loft->change([ 1 .. 60 ], canceled_to => 'today-1d');
	is($loft->inside, 30, 'access ended by itself, with no run');
	$loft->sync;    # a list that lost so many is believed the second time
	my $run = $loft->sync;
	is($run->{removals_held}, 0, 'nothing is held');
	$run = $loft->sync if $run->{result} eq 'incomplete';
	is($run->{result} . $t->sql("SELECT ' ' || count(*) FROM smartspace.cobot_membership WHERE integration_id = @{[ $loft->id ]} AND departed_at IS NULL"), 'ok 30', 'and all sixty have left');
};

promise 'each integration has its limits', limits => sub {
	my ($loft) = @_;

	$loft->set(hold_removals_above => 2, hold_removals_above_percent => 10);
	$loft->leave(1 .. 3);
	my $run = $loft->sync;
	is($loft->verdicts($run), '3 left held too_many_removals', 'three are more than two, and than a tenth of twenty');
	like($run->{message}, qr/^3 of 20 members would lose access, and more than 2 /, 'the limit is told');
	$loft->set(hold_removals_above_percent => 15);
	is($loft->verdicts($loft->sync), '3 left applied', 'not more than fifteen per cent');
	$loft->set(hold_removals_above => 3, hold_removals_above_percent => 0);
	$loft->leave(4 .. 6);
	is($loft->verdicts($loft->sync), '3 left applied', 'not more than three');
	$loft->set(hold_removals_above => 0);
	$loft->leave(7);
	is($loft->verdicts($loft->sync), '1 left held too_many_removals', 'with no limit but zero, each one is for a person');
};

promise 'those who joined in the same run do not raise the limit', both => sub {
	my ($loft) = @_;

	$loft->leave(1 .. 6);
	$loft->join_in(21 .. 40);
	like($loft->verdicts($loft->sync), qr/\b6 left held too_many_removals/, 'a fifth of the twenty there were is four');
};

promise 'a release takes what Cobot says now, not what it said then', fresh => sub {
	my ($loft) = @_;

	$loft->leave(1 .. 30);
	my $run = $loft->sync;
	$loft->join_in(1 .. 3);
	$loft->change([2], name => 'Back and renamed');
	$loft->leave(31);
	my $release = $loft->release($run);
	is($release->{result}, 'ok', 'released');
	is($loft->outside(1 .. 90), join(' ', 4 .. 31), 'who came back meanwhile keeps access, who left meanwhile goes by the ordinary limit');
	is($loft->verdict_of($run, 4), 'left applied too_many_removals', 'who left, left');
	is($loft->verdict_of($run, 1), 'left superseded too_many_removals', 'who came back did not');
	is($loft->verdict_of($run, 2), 'left superseded too_many_removals', 'also if their name is another now');
	is($loft->name_of(2), 'Back and renamed', 'which is known');

	$loft->leave(1 .. 3, 40 .. 60);
	is($loft->verdicts($loft->sync), '24 left held too_many_removals', 'a release is used up: the next time is another one');
};

promise 'a release is for those who were shown, and for nobody else', others => sub {
	my ($loft) = @_;

	$loft->leave(1 .. 20);
	my $run = $loft->sync;
	$loft->leave(21 .. 40);
	my $release = $loft->release($run);
	is("$release->{result} $release->{reason} " . $loft->verdicts($release), 'held too_many_removals 20 left applied, 20 left held too_many_removals', 'as many again left meanwhile: they are held');
	is($loft->outside(1 .. 90), join(' ', 1 .. 20), 'only those who were shown are out');
	is($loft->release($release)->{result} . ' ' . $loft->outside(1 .. 90), 'ok ' . join(' ', 1 .. 40), 'the others need a decision of their own');
};

promise 'a release covers the groups that were shown, and no more', more => sub {
	my ($loft) = @_;

	$t->group('Attic', identifier => 'Attic');
	$loft->field([ 1 .. 4 ], 'Attic');
	$loft->sync;
	$loft->move(flex => 1 .. 4);
	my $run = $loft->sync;
	is($loft->verdicts($run), '4 changed_plan held too_many_removals', 'given: four changes of plan are held, which take the door');
	$loft->field([ 1, 2 ], '');
	my $release = $loft->release($run);
	is($loft->verdicts($release), '2 changed_plan applied, 2 changed_plan held too_many_removals', 'two of them would lose the attic, too: they stay held');
	is($loft->outside(1 .. 10) . ' ' . $loft->inside('Attic'), '3 4 4', 'with everything');
	is($loft->release($release)->{result}, 'ok', 'which is released like everything else');
	is($loft->outside(1 .. 10) . ' ' . $loft->inside('Attic'), '1 2 3 4 2', 'and taken');
}, hold_removals_above => 1, hold_removals_above_percent => 0;

promise 'held again, a run replaces the one before; either can be released', again => sub {
	my ($loft) = @_;

	$loft->leave(1 .. 25);
	my $first = $loft->sync;
	$loft->leave(26 .. 30);
	my $second = $loft->sync;
	is($loft->verdicts($first), '25 left superseded too_many_removals', 'the first run holds nothing any more');
	is($t->sql("SELECT DISTINCT settled_by FROM smartspace.cobot_sync_change WHERE run_id = $first->{id}"), $second->{id}, 'because of the second');
	is($loft->verdicts($second), '30 left held too_many_removals', 'which holds all');
	is($t->sql("SELECT count(*) FROM smartspace.cobot_sync_change WHERE integration_id = @{[ $loft->id ]} AND verdict = 'held'"), 30, 'each once');
	my $release = $loft->release($first);
	is($release->{result} . ' ' . $loft->outside(1 .. 90), 'ok ' . join(' ', 1 .. 30), 'the number of the first still works, and the few others go by the ordinary limit');
	is($loft->verdicts($first), '25 left applied too_many_removals', 'the first run knows');
	is($t->sql("SELECT count(*) FROM smartspace.cobot_sync_change WHERE integration_id = @{[ $loft->id ]} AND verdict IN ('held', 'released')"), 0, 'nothing is open');
};

promise 'a decision outlives a Cobot that does not answer', down => sub {
	my ($loft) = @_;

	$loft->leave(1 .. 30);
	my $run = $loft->sync;
	my $release = $loft->release($run, "SET smartspace_cobot.connect_to = '127.0.0.1:1';");
	is("$release->{result} $release->{reason}", 'failed unreachable', 'the release could not ask');
	is($loft->inside . ' ' . $loft->verdicts($run), '90 30 left released too_many_removals', 'nothing is taken, and the decision stands');
	is($loft->sync(settings => "SET smartspace_cobot.connect_to = '127.0.0.1:1';")->{result}, 'failed', 'another run does not get through');
	is($loft->verdicts($run), '30 left released too_many_removals', 'it still stands');
	is($loft->sync->{result} . ' ' . $loft->inside, 'ok 60', 'the next good run carries it out');
	is($loft->verdicts($run), '30 left applied too_many_removals', 'and says so');
};

promise 'a decision made while another run is under way is not lost', meanwhile => sub {
	my ($loft) = @_;

	$loft->leave(1 .. 30);
	my $run = $loft->sync;
	my $session = $t->node->background_psql('postgres', on_error_stop => 0);
	$session->query_safe("SET client_min_messages = error; BEGIN; SELECT smartspace.cobot_sync(@{[ $loft->id ]})");    # holds them again, and is not committed
	my $decision = $t->node->background_psql('postgres', on_error_stop => 0);
	my $pid = $decision->query_safe('SELECT pg_backend_pid()');
	$decision->{stdin} .= "SELECT (smartspace.cobot_release($run->{id})).result;\n";
	$decision->{run}->pump_nb;
	$t->wait_until(sub { $decision->{run}->pump_nb; $t->sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid AND wait_event_type = 'Lock'") eq '1' }, 'the decision waits for the run');
	$session->query_safe('COMMIT');
	$session->quit;
	like($decision->query('SELECT 1'), qr/^ok$/m, 'the release follows the run');
	$decision->quit;
	is($loft->outside(1 .. 90), join(' ', 1 .. 30), 'and takes what was decided');
};

promise 'more than forty released are taken in several runs', crowd => sub {
	my ($loft) = @_;

	$loft->leave(1 .. 44);
	my $run = $loft->sync;
	is("$run->{result} $run->{removals_held} $run->{requests}", 'held 44 45', 'those not asked for by id yet are held as well');
	$cobot->clear_log;
	my $release = $loft->release($run);
	is(scalar(grep { $_->{path} =~ m{^/api/memberships/} } $cobot->log), 40, 'the release asks for forty');
	is("$release->{result} $release->{reason} $release->{members_removed} " . $loft->inside, 'incomplete source_incomplete 40 50', 'and takes them');
	my $next = $loft->sync;
	is("$next->{result} $next->{members_removed} " . $loft->outside(1 .. 90), 'ok 4 ' . join(' ', 1 .. 44), 'the next run takes the rest, with nobody asked again');
	is($t->sql("SELECT count(*) FROM smartspace.cobot_sync_change WHERE integration_id = @{[ $loft->id ]} AND verdict IN ('held', 'released')"), 0, 'nothing is open');
};

promise 'what is dropped is not taken, and held again if Cobot goes on', dropped => sub {
	my ($loft) = @_;

	$loft->leave(1 .. 30);
	my $run = $loft->sync;
	is($t->sql("SELECT smartspace.cobot_discard($run->{id})"), 30, 'dropped');
	is($loft->verdicts($run) . ' ' . $t->sql("SELECT state FROM smartspace.cobot_status WHERE integration_id = @{[ $loft->id ]}"),
		'30 left discarded too_many_removals connected', 'the run knows, and the integration does not wait any more');
	is($t->sql("SELECT DISTINCT decided_by = current_user FROM smartspace.cobot_sync_change WHERE run_id = $run->{id}"), 't', 'nor is it forgotten who did it');
	my $answer = $t->try("SELECT smartspace.cobot_release($run->{id})");
	is($answer->{sqlstate}, '55000', 'what is dropped cannot be released');
	is($loft->inside, 90, 'everybody has access');
	is($loft->verdicts($loft->sync), '30 left held too_many_removals', 'the next run compares afresh');
	$loft->join_in(1 .. 30);
	my $good = $loft->sync;
	is("$good->{result} $good->{grants_taken}", 'ok 0', 'corrected in Cobot, it is over');
	is($loft->state . ' ' . $loft->inside, 'connected 90', 'and nobody noticed');
};

promise 'an empty list is held, and can be released where it is true', empty => sub {
	my ($loft) = @_;

	$loft->leave(1 .. 45);
	my $run = $loft->sync;
	is("$run->{result} $run->{reason} " . $loft->verdicts($run), 'held source_empty 45 left held source_empty', 'held');
	is($loft->inside, 45, 'everybody has access');
	my $again = $loft->sync;
	is("$again->{result} $again->{reason} $again->{requests} " . $loft->inside, 'held source_empty 5 45', 'also the second time, without a question');
	my $release = $loft->release($again);
	is($release->{members_removed} . ' ' . $loft->inside, '40 5', 'released: forty are asked for, and have left');
	my $next = $loft->sync;
	is("$next->{result} $next->{members_removed} " . $loft->inside, 'ok 5 0', 'then the rest');
	is($loft->sync->{result}, 'ok', 'an empty space is no surprise any more');
};

promise 'an empty list that was a hiccup costs nobody anything, even if released', hiccup => sub {
	my ($loft) = @_;

	$cobot->fault(match => { path => '/api/memberships', host => 'hiccup.cobot.me' }, body => '[]');
	my $run = $loft->sync;
	is($run->{reason}, 'source_empty', 'held');
	my $release = $loft->release($run);
	is("$release->{result} " . counts_of($release) . ' ' . $loft->inside, 'ok 0/0/0 0/0/0 30', 'released, the list is full again: nothing is taken');
	is($loft->verdicts($run), '30 left superseded source_empty', 'and the decision is used up');

	$cobot->fault(match => { path => '/api/memberships', host => 'hiccup.cobot.me' }, times => 2, body => '[]');
	$release = $loft->release($loft->sync);
	is("$release->{result} $release->{reason} $release->{members_removed} " . $loft->inside, 'incomplete source_incomplete 0 30', 'empty again, each one is asked for by id: still there');
	$cobot->clear_faults;
	is($loft->sync->{result} . ' ' . $loft->inside, 'ok 30', 'and stays');
};

promise 'what cannot be decided is said', misuse => sub {
	my ($loft) = @_;
	my $run = $loft->sync;

	foreach my $name (qw(cobot_release cobot_discard))
	{
		my $nothing = $t->try("SELECT smartspace.$name($run->{id})");
		is($nothing->{sqlstate}, '55000', "$name of a run that holds nothing");
		like($nothing->{err}, qr/ERROR:  55000: run $run->{id} holds nothing\nHINT:  The view smartspace\.cobot_status /, '... says where to look');
		is($t->try("SELECT smartspace.$name(999999)")->{sqlstate}, '42704', "$name of a run that is none");
		is($t->try("SELECT smartspace.$name(NULL)")->{sqlstate}, '22004', "$name of nothing");
		is($t->try("BEGIN READ ONLY; SELECT smartspace.$name($run->{id})")->{sqlstate}, '25006', "$name where nothing may be written");
	}
	is($t->sql("SELECT max(id) FROM smartspace.cobot_sync_run"), $run->{id}, 'none of this was a run');
};

done_testing();
