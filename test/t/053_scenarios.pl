# What goes wrong in this field, each case once, as somebody at the front desk sees it:
# who is in which user group, what cobot_explain() answers, how the run ended. One
# subtest for each row of the list of scenarios, with the row's words, and all of them
# through both doors: the extension asks Cobot itself, or an outside fetcher brings
# Cobot's answers to cobot_ingest().
#
# Rows that are not here: "Backup restored as staging" is in 060_clone_guard.pl, "Space
# already has 12 custom fields" in 033_custom_field.pl. Those about check-ins (twenty door
# openings, a request that times out, no pass left, yesterday's events) and about the
# worker on a standby belong to later work.
use strict;
use warnings;

use CobotDoor;
use CobotMirror;
use CobotTest;
use File::Temp;
use JSON::PP;
use Test::More;

my $field = 'smart_spaces_access_additional_units';

# --- given: a space of ninety, two small ones, of which one keeps the clock of New Zealand ---
sub space_of
{
	my ($subdomain, $zone, @members) = @_;

	return {
		subdomain => $subdomain, time_zone_name => $zone, custom_fields => [ { id => 'field-1', label => $field } ],
		plans => [ map { { id => "$subdomain-$_", name => "Plan $_" } } qw(desk flex) ],
		memberships => [ map { { id => $_, name => "Member $_", plan => { parent_plan => { id => "$subdomain-desk" } } } } @members ] };
}

my $world = File::Temp->new;
print $world encode_json({
	users => [ { id => 'admin', email => 'admin@example.com', admin_of => [qw(loft quay nook hall)] } ],
	tokens => [ { token => 'admin-token', user => 'admin' } ],
	spaces => [ space_of('loft', 'UTC', 'ada', map { sprintf 'm%02d', $_ } 1 .. 89), space_of('quay', 'Pacific/Auckland', 'kiri'),
		space_of('nook', 'UTC', map { "n$_" } 1 .. 8), space_of('hall', 'UTC', map { sprintf 'h%02d', $_ } 1 .. 90) ] });
$world->flush;
chmod 0644, $world->filename;

my ($t, $cobot, $way, %space, $door);

# Servers of its own for each door.
sub given
{
	my ($name) = @_;

	$t = CobotTest->new(state => $world->filename);
	$cobot = $t->cobot;
	$way = CobotDoor->new($t, $name);
	%space = map { ($_ => $way->open($_)) } qw(loft quay nook hall);
	$way->sync($_) foreach values %space;
	$door = $t->group('Door');
	$t->group($_, identifier => $_) foreach qw(Staff Admin);
	$t->assign("$_-desk", $door) foreach keys %space;
	return;
}

sub id_of
{
	return $t->sql("SELECT id FROM smartspace.cobot_membership WHERE cobot_id = '$_[0]'");
}

# Groups with access at this moment, as "Door (plan)".
sub now_of
{
	return $t->sql("SELECT string_agg(format('%s (%s)', user_group, source), ', ' ORDER BY user_group, source)"
		  . " FROM smartspace.access_now WHERE membership_id = " . id_of($_[0]));
}

# What cobot_explain() answers, as "Door yes" or "Door no: ended".
sub explained
{
	return $t->sql("SELECT string_agg(concat(user_group, CASE WHEN has_access THEN ' yes' ELSE ' no: ' || reason END), ', '"
		  . " ORDER BY user_group, source, reason) FROM smartspace.cobot_explain(" . id_of($_[0]) . ")");
}

sub add
{
	my ($space, $id, %more) = @_;

	return $cobot->add_member($space, id => $id, name => "Member $id", plan => { parent_plan => { id => "$space-desk" } }, %more);
}

sub inside
{
	return $t->sql("SELECT count(DISTINCT membership_id) FROM smartspace.access_now WHERE integration_id = $space{$_[0]}");
}

# "held source_empty"; "no run" where the fetcher did not get what it asked for.
sub ended
{
	my ($run) = @_;

	return $run ? join ' ', grep { defined } @{$run}{qw(result reason)} : 'no run';
}

# A scenario; whatever happened in it, the grants equal their definition afterwards.
my @scenarios;

sub scenario
{
	my ($name, $test) = @_;

	push @scenarios, [ $name => $test ];
	return;
}

sub act_out
{
	my ($name, $test) = @_;

	subtest $name => sub {
		$test->();
		$cobot->clear_faults;
		is($t->grants_differ, 0, 'the grants equal their definition');
	};
	return;
}

# Cobot fails in some way, which must change nothing. Offline it is the fetcher that
# notices, unless told otherwise, and nothing is ingested.
sub nothing_changes
{
	my ($fault, $outcome, $offline) = @_;
	my $loft = $space{loft};
	my $mark = ++$t->{mark};
	$cobot->patch_member('loft', 'ada', name => "Ada $mark");
	my $before = $t->contents;
	my $runs = 'SELECT count(*) FROM smartspace.cobot_sync_run';
	my $runs_before = $t->sql($runs);
	my $expected = $way->is_offline ? $offline // 'no run' : $outcome;

	$cobot->fault(times => 0, match => { path => '/api/memberships' }, %$fault);
	my $run = $way->sync($loft);
	$cobot->clear_faults;

	is(ended($run), $expected, 'the run says why');
	is($t->sql($runs) - $runs_before, $run ? 1 : 0, $run ? 'it is recorded' : 'there is no row of it');
	is($t->sql("SELECT concat_ws(' ', state, reason) FROM smartspace.cobot_status WHERE integration_id = $loft"), $run ? "degraded $run->{reason}" : 'connected', $run ? 'the integration is degraded' : 'the integration is as before');
	is(counts_of($run) . " $run->{removals_held}", '0/0/0 0/0/0 ' . ($expected =~ /held/ ? 90 : 0), 'no change is counted') if $run;
	is($t->contents, $before, 'no row of mirror or grants was written');
	is(inside('loft'), 90, 'everybody has access');
	is(counts_of($way->sync($loft)), '0/1/0 0/0/0', 'the next run brings what changed');
	return;
}

scenario 'Cobot answers 200 with `[]` where 90 were' => sub {
	nothing_changes({ body => '[]' }, 'held source_empty', 'held source_empty');
};

scenario 'Cobot answers 200 with an HTML page or truncated JSON' => sub {
	nothing_changes({ body => '<!DOCTYPE html><p>Down for maintenance</p>' }, 'incomplete bad_answer');
	nothing_changes({ body => '[{"id":"ada","name":' }, 'incomplete bad_answer');
	nothing_changes({ truncate => 0.5 }, 'incomplete bad_answer');
};

scenario '429 in the middle, Retry-After 30' => sub {
	nothing_changes({ status => 429, headers => { 'Retry-After' => '30' } }, 'incomplete rate_limited');
	return if $way->is_offline;    # when to ask again is the fetcher's matter

	my $limit = sub { $cobot->fault(match => { path => '/api/memberships' }, status => 429, headers => { 'Retry-After' => "$_[0]" }) };
	$limit->(30);
	$cobot->delete_member('loft', 'm89');
	is(ended($way->sync($space{loft})), 'incomplete rate_limited', '(again)');
	$cobot->clear_log;
	is(ended($way->sync($space{loft}, waits => 1)) . ' ' . scalar($cobot->log), 'incomplete rate_limited 0', 'it waits: for thirty seconds nothing is sent');
	is(inside('loft'), 90, 'and nobody is out');
	$cobot->clear_faults;
	$limit->(1);
	my $run = $way->sync($space{loft}, settings => 'SET smartspace_cobot.max_retries = 1;');
	is(ended($run) . " $run->{members_removed}", 'ok 1', 'a second is waited for within the run, which then resumes') or diag $run->{warning};
	add('loft', 'm89');
	$way->sync($space{loft});
};

scenario '401 after the admin was deleted' => sub {
	my $today = $t->sql("SELECT date_trunc('day', now(), 'UTC')");
	$cobot->patch_member('loft', 'm01', canceled_to => 'today+1d');
	$way->sync($space{loft});
	nothing_changes({ status => 401 }, 'failed auth_revoked');
	$cobot->fault(times => 0, match => { path => '/api/*' }, status => 401);
	$way->sync($space{loft});
	is($t->sql("SELECT string_agg(problem, ', ') FROM smartspace.cobot_problem WHERE integration_id = $space{loft} AND problem = 'auth_revoked'"), 'auth_revoked', 'a person has to mend it') unless $way->is_offline;
	my $id = id_of('m01');
	is($t->sql("SELECT smartspace.cobot_has_access($id, $door, '$today'::timestamptz + interval '1 day 23:59:59'), smartspace.cobot_has_access($id, $door, '$today'::timestamptz + interval '2 days')"), 't|f', 'grants stay until their own end');
	$cobot->clear_faults;
	$cobot->patch_member('loft', 'm01', canceled_to => undef);
	is(ended($way->sync($space{loft})), 'ok', 'with a good answer all is well again');
};

scenario '30 of 90 vanish but each is confirmed ended' => sub {
	$cobot->delete_member('hall', sprintf 'h%02d', $_) foreach 1 .. 15;
	$cobot->patch_member('hall', sprintf('h%02d', $_), canceled_to => 'today-1d') foreach 16 .. 30;
	my $held = $way->sync($space{hall});
	is(ended($held) . " $held->{removals_held}", 'held too_many_removals 30', 'still held by the limit');
	is(inside('hall'), 90, 'everybody has access');
	my $run = $way->release($space{hall}, $held);
	is(ended($run) . " $run->{members_removed}", 'ok 30', 'released by one call');
	is(inside('hall') . ' ' . now_of('h01') . now_of('h30') . ' ' . now_of('h31'), '60  Door (plan)', 'these thirty are out, the others in');
	is($t->sql("SELECT DISTINCT verdict, decided_by FROM smartspace.cobot_sync_change WHERE run_id = $held->{id}"), ($way->is_offline ? 'superseded' : 'applied') . '|postgres', 'the held run knows who decided');
	is($t->sql("SELECT count(*) FROM smartspace.cobot_sync_change WHERE integration_id = $space{hall} AND verdict IN ('held', 'released')"), 0, 'nothing waits any more');
	is(mirror_differs($t, $space{hall}, 'hall'), '', 'the mirror equals Cobot');
};

scenario '3 of 8 vanish, all confirmed' => sub {
	$cobot->delete_member('nook', "n$_") foreach 1 .. 3;
	my $run = $way->sync($space{nook});
	is(ended($run) . ' ' . counts_of($run), 'ok 0/0/3 0/0/3', 'applied');
	is(inside('nook') . ' ' . explained('n1'), '5 Door no: ended', 'they are out, and the desk can tell why');
};

scenario '3 of 8 vanish, one of them cannot be confirmed' => sub {
	add('loft', $_) foreach qw(gone1 gone2 gone3);
	$way->sync($space{loft});
	$cobot->delete_member('loft', $_) foreach qw(gone1 gone2 gone3);
	$cobot->fault(times => 0, match => { path => '/api/memberships/gone3' }, status => 500);
	is($way->sync($space{loft})->{result}, 'incomplete', 'one answer by id is missing');
	is(join('|', map { now_of($_) } qw(gone1 gone2 gone3)), '||Door (plan)', 'who is known to be gone is out, the other stays');
	is(explained('gone1'), 'Door no: ended', 'and the desk can tell why');
	$cobot->clear_faults;
	is(counts_of($way->sync($space{loft})), '0/0/1 0/0/1', 'with evidence the last one leaves');
};

scenario "Member's end date was known, worker dead for two days" => sub {
	add('loft', 'ends', canceled_to => 'today+1d');
	$way->sync($space{loft});
	is(now_of('ends'), 'Door (plan)', 'has access to the last day');
	my $id = id_of('ends');
	is($t->sql("SELECT smartspace.cobot_has_access($id, $door, d + interval '1 day 23:59:59'), smartspace.cobot_has_access($id, $door, d + interval '2 days')"
			  . " FROM date_trunc('day', now(), 'UTC') d"), 't|f', 'and none from the midnight after it, without anybody\'s doing');
	my $before = $t->contents;
	$way->sync($space{loft}, unreachable => 1);
	is($t->contents, $before, 'a run that reaches nobody prolongs nothing');
	$t->sql("UPDATE smartspace.cobot_membership SET canceled_to = current_date - 1 WHERE id = $id");
	is(explained('ends') . '|' . now_of('ends'), 'Door no: ended|', 'afterwards the desk can tell why');
	$cobot->patch_member('loft', 'ends', canceled_to => 'today-1d');
	like($way->sync($space{loft})->{result}, qr/^ok/, 'and a run that misses them in the list is complete, whoever asks Cobot');
};

scenario 'Member starts tomorrow in Auckland, server in UTC' => sub {
	my $start = $t->sql("SELECT to_char((now() AT TIME ZONE 'Pacific/Auckland')::date + 1, 'YYYY/MM/DD')");
	add('quay', 'starts', starts_at => $start);
	$way->sync($space{quay});
	is(now_of('starts') . explained('starts'), 'Door no: not_started', 'not yet');
	my $id = id_of('starts');
	is($t->sql("SELECT smartspace.cobot_has_access($id, $door, m - interval '1 s'), smartspace.cobot_has_access($id, $door, m)"
			  . " FROM (SELECT '$start'::timestamp AT TIME ZONE 'Pacific/Auckland' AS m) s"), 'f|t', 'access from local midnight');
};

scenario 'Customised plan' => sub {
	add('loft', 'custom', plan => { name => 'A bargain', parent_plan => { id => 'loft-desk' } });
	$way->sync($space{loft});
	is(now_of('custom'), 'Door (plan)', 'groups of the parent plan');
};

scenario 'Custom team plan' => sub {
	foreach my $id (qw(team1 team2))
	{
		add('loft', $id);
		$cobot->patch_member('loft', $id, plan => { name => 'Team Rocket' }, without => ['plan.parent_plan']);
	}
	is($way->sync($space{loft})->{result}, 'ok_with_problems', 'the run points at it');
	is(now_of('team1') . explained('team1'), ' no: plan_unmapped', 'no groups, and the desk can tell why');
	is($t->sql("SELECT DISTINCT detail FROM smartspace.cobot_problem WHERE problem = 'plan_unmapped'"),
		'The plan "Team Rocket" is a copy of no plan of the space (members on it: 2).', 'listed as unmapped with head-count');
};

scenario 'Field value ` staff ,Admin,,Ghost`' => sub {
	add('loft', 'field', plan => { parent_plan => { id => 'loft-flex' } }, custom_fields => { $field => ' staff ,Admin,,Ghost' });
	$way->sync($space{loft});
	is(now_of('field'), 'Admin (individual), Staff (individual)', 'two grants');
	is($t->sql("SELECT detail FROM smartspace.cobot_problem WHERE problem = 'unknown_identifier'"), 'No user group has the external identifier "Ghost".', 'one reported unknown identifier');
	like(explained('field'), qr/unknown_identifier/, 'which the desk sees, too');
};

scenario 'Manual grant to the same group, then plan ends' => sub {
	add('loft', 'manual');
	$way->sync($space{loft});
	$t->sql('SELECT smartspace.cobot_grant(' . id_of('manual') . ", $door)");
	is(now_of('manual'), 'Door (manual), Door (plan)', 'both');
	$cobot->patch_member('loft', 'manual', canceled_to => 'today-1d');
	$way->sync($space{loft});
	is(now_of('manual'), 'Door (manual)', 'the manual grant stays');
};

scenario 'Two installations feed one group, one ends' => sub {
	add($_, "both-$_") foreach qw(loft quay);
	$way->sync($_) foreach @space{qw(loft quay)};
	is(join('|', map { now_of("both-$_") } qw(loft quay)), 'Door (plan)|Door (plan)', 'one person, two memberships, one group');
	$cobot->delete_member('loft', 'both-loft');
	$way->sync($_) foreach @space{qw(loft quay)};
	is(join('|', map { now_of("both-$_") } qw(loft quay)), '|Door (plan)', 'the grant of the other one stays');
};

scenario 'Plan renamed in Cobot' => sub {
	$cobot->patch_plan('loft', 'loft-desk', name => 'Everything');
	my $marks = marks($t);
	is(counts_of($way->sync($space{loft})), '0/0/0 0/0/0', 'no change in grants');
	is(written_since($t, $marks), 'plan loft-desk', 'only the name was written');
};

scenario 'Same input twice' => sub {
	$way->sync($space{loft});
	my $before = $t->contents;
	my $journal = $t->sql('SELECT count(*) FROM smartspace.access_journal');
	is(counts_of($way->sync($space{loft})), '0/0/0 0/0/0', 'second run changes nothing');
	is($t->contents, $before, 'and writes nothing');
	is($t->sql('SELECT count(*) FROM smartspace.access_journal'), $journal, 'the journal is silent');
};

scenario 'Two runs at once' => sub {
	my $call = $way->is_offline ? CobotDoor::ingest_call($space{loft}, memberships => '[]') : "smartspace.cobot_sync($space{loft})";
	my $session = $t->node->background_psql('postgres', on_error_stop => 0);
	$session->query_safe("BEGIN; SELECT result FROM $call");
	is($way->sync($space{loft})->{result}, 'skipped_locked', 'one is skipped_locked');
	$session->query_safe('COMMIT');
	$session->quit;
	like($way->sync($space{loft})->{result}, qr/^ok/, 'then the next one runs');
};

scenario 'Disconnect, reconnect' => sub {
	my $loft = $space{loft};
	my $kept = sub {
		return join "\n", map { $t->sql($_) } 'SELECT id, cobot_id, departed_at FROM smartspace.cobot_membership ORDER BY id',
		  'SELECT p.*, p.xmin, p.ctid FROM smartspace.cobot_plan p ORDER BY id', 'SELECT a.*, a.xmin, a.ctid FROM smartspace.user_group_assignment a ORDER BY 1, 2',
		  'SELECT g.*, g.xmin, g.ctid FROM smartspace.user_group_member g ORDER BY ctid', 'SELECT count(*), max(id) FROM smartspace.access_journal';
	};
	my $before = $kept->();
	my $runs = $t->sql("SELECT count(*) FROM smartspace.cobot_sync_run WHERE integration_id = $loft");
	my $disconnect = sub {
		$t->sql("UPDATE smartspace.cobot_integration SET fed_from_outside = false; UPDATE smartspace.cobot_secret SET token = NULL WHERE integration_id = $loft");
		is($t->sql("SELECT state FROM smartspace.cobot_status WHERE integration_id = $loft"), 'disconnected', 'without a token it is disconnected');
		is($t->try("SELECT smartspace.cobot_sync($loft)")->{sqlstate}, '55000', 'and cannot be synchronised');
		is(now_of('ada'), 'Door (plan)', 'members keep their access');
	};
	my $compare = sub {
		my ($run) = @_;

		is(ended($run) . ' ' . counts_of($run), 'ok_with_problems 0/0/0 0/0/0', 'reconnected, nothing is to do');
		is($t->sql("SELECT state FROM smartspace.cobot_status WHERE integration_id = $loft"), 'connected', 'it is connected');
		is($kept->(), $before, 'ids, plans, mappings, grants and their history are intact');
		is($t->sql("SELECT count(*) FROM smartspace.cobot_sync_run WHERE integration_id = $loft"), ++$runs, 'and so is that of runs');
	};

	$disconnect->();
	$t->sql("SELECT state FROM smartspace.cobot_connect_token($loft, 'admin-token')") unless $way->is_offline;
	$compare->($way->sync($loft));

	# the other door leads to the same place
	my $other = CobotDoor->new($t, $way->is_offline ? 'network' : 'offline');
	$other->{subdomain}{$loft} = 'loft';
	$disconnect->();
	$t->sql("SELECT state FROM smartspace.cobot_connect_token($loft, 'admin-token')") unless $other->is_offline;
	$compare->($other->sync($loft));
};

foreach my $name (qw(network offline))
{
	subtest "through the door: $name" => sub {
		given($name);
		act_out(@$_) foreach @scenarios;
		$t->node->stop;
	};
}

done_testing();
