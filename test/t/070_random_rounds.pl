# A few hundred rounds of whatever can happen: members join, leave, move and come back in
# Cobot, which now and then answers badly; answers come through both doors; people release
# or discard what is held. After each round nobody has lost access without evidence, and nobody has kept it beyond a good
# run. In the end everything is as if the space had been connected just now.
#
# What is due to whom is computed here, from what the test server has, and not asked of
# the extension. SEED=n repeats a run, ROUNDS=n makes it longer.
use strict;
use warnings;

use CobotDoor;
use CobotLoft;
use CobotTest;
use JSON::PP;
use Test::More;

use constant { MEMBERS => 40, MOST => 70, FIELD_ID => 'field-1', SPACE => 'rand' };

my $seed = $ENV{SEED} // 20_261_124;
my $rounds = $ENV{ROUNDS} // 250;
srand $seed;
diag "SEED=$seed ROUNDS=$rounds" if $ENV{SEED} || $ENV{ROUNDS};
note "SEED=$seed ROUNDS=$rounds";
END { diag "SEED=$seed ROUNDS=$rounds" if $? }

my $json = JSON::PP->new->utf8->allow_nonref->canonical;
my %gives = ('rand-desk' => ['Door'], 'rand-flex' => ['Lounge'], 'bench' => [ 'Door', 'Roof' ], 'vault' => ['Vault']);
my %named = (door => 'Door', workshop => 'Workshop', attic => 'Attic');

# --- dice ---
sub chance { return rand() < $_[0]; }

sub one_of { return $_[ rand @_ ]; }

# --- given: a space, where it is noon, so that no day ends meanwhile; three plans that give something, one that does not ---
my $t = lofts(SPACE, MEMBERS);
my $cobot = $t->cobot;
my $zone = sprintf 'Etc/GMT%+d', (gmtime)[2] - 12;
$cobot->patch_space(SPACE, time_zone_name => $zone);
$cobot->add_plan(SPACE, id => $_, name => "Plan $_") foreach qw(bench vault free);
my $today = $t->sql("SELECT to_char(now() AT TIME ZONE '$zone', 'YYYY/MM/DD')");
my $space = $t->connect_space(SPACE);
my $outside = CobotDoor->new($t, 'offline');
$outside->{subdomain}{$space} = SPACE;
$t->sync($space);

sub give_groups
{
	my ($dbname) = @_;
	my %group = (map({ ($_ => undef) } qw(Door Lounge Roof Vault)), map { ($named{$_} => $_) } keys %named);
	my $sql = join '', map { "INSERT INTO smartspace.user_group (name, external_identifier) VALUES ('$_', " . ($group{$_} ? "'$group{$_}'" : 'NULL') . ");\n" } sort keys %group;

	foreach my $plan (sort keys %gives)
	{
		$sql .= "INSERT INTO smartspace.user_group_assignment (plan_id, user_group_id) SELECT p.id, g.id FROM smartspace.cobot_plan p, smartspace.user_group g"
		  . " WHERE p.cobot_id = '$plan' AND g.name = '$_';\n"
		  foreach @{ $gives{$plan} };
	}
	$t->node->safe_psql($dbname, $sql);
	return;
}
give_groups('postgres');
my $session = $t->node->background_psql('postgres', on_error_stop => 0);
$session->query_safe('SET client_min_messages = error; SET search_path = smartspace');

# --- Cobot: what the test server has, record by record as it said ---
my %there = map { ($_->{id} => $_) } @{ $cobot->space(SPACE)->{memberships} };
my %listed = map { ($_ => 1) } qw(rand-desk rand-flex bench vault free);
my ($born, %gone) = (MEMBERS);

# A control call gives the record without custom fields: those are kept here.
sub store
{
	my ($record, $value) = @_;

	$record->{custom_fields} = { FIELD, $value };
	$there{ $record->{id} } = $record;
	return;
}

sub value_of { return $_[0]{custom_fields}{+FIELD}; }

sub patch
{
	my ($id, %changes) = @_;

	store($cobot->patch_member(SPACE, $id, %changes), value_of($there{$id}));
	return;
}

sub set_value
{
	my ($id, $value) = @_;

	$cobot->set_field(SPACE, $id, FIELD, $value);
	$there{$id}{custom_fields}{+FIELD} = $value;
	return;
}

sub some_value
{
	return one_of(undef, '', 'Ghost', ' door ', 'workshop', 'WORKSHOP,attic', 'attic , ,Ghost', 'door,workshop,attic');
}

sub some_plan { return { parent_plan => { id => one_of(sort keys %listed) } }; }

sub join_in
{
	my ($id) = @_;
	my $value = some_value();
	my $record = $cobot->add_member(SPACE, id => $id, name => "Member $id", plan => some_plan(),
		starts_at => chance(0.2) ? 'today+' . one_of(1, 2, 40) . 'd' : 'today-30d', confirmed_at => chance(0.1) ? undef : 'today-30d 10:00',
		canceled_to => chance(0.1) ? 'today+' . one_of(0, 1, 30) . 'd' : undef);

	delete $gone{$id};
	store($record, undef);
	set_value($id, $value) if defined $value;
	return;
}

sub leave
{
	my ($id) = @_;

	$cobot->delete_member(SPACE, $id);
	delete $there{$id};
	$gone{$id} = 1;
	return;
}

# One random change; $_[0] is somebody who is there.
my %does = (
	joins => sub { join_in(sprintf 'rand-%02d', ++$born) if keys %there < MOST },
	returns => sub { join_in(one_of(sort keys %gone)) if %gone },
	leaves => sub { leave($_[0]) },
	ends => sub { patch($_[0], canceled_to => 'today' . one_of('-1d', '-40d', '-0d', '+1d', '+2d', '+60d')) },
	stays => sub { patch($_[0], canceled_to => undef) },
	moves => sub { patch($_[0], plan => some_plan()) },
	has_own_plan => sub { patch($_[0], plan => { name => 'Bargain' }, without => ['plan.parent_plan']) },
	has_value => sub { set_value($_[0], some_value()) },
	is_renamed => sub { patch($_[0], name => 'Renamed ' . int rand 1e6, email => one_of('shared@example.com', undef)) },
	is_not_confirmed => sub { patch($_[0], confirmed_at => undef) },
	is_confirmed => sub { patch($_[0], confirmed_at => 'today-2d 09:30') },
	starts => sub { patch($_[0], starts_at => 'today' . one_of('-90d', '-0d', '+1d', '+20d')) },
	plan_is_renamed => sub { $cobot->patch_plan(SPACE, one_of(sort keys %listed), name => 'Plan ' . int rand 1e6) },
	plan_is_removed => sub { return if keys %listed < 3; my $plan = one_of(sort keys %listed); $cobot->delete_plan(SPACE, $plan); delete $listed{$plan} },
	plan_is_added => sub { my ($plan) = grep { !$listed{$_} } sort keys %gives; $plan //= 'new-' . int rand 1e6; $cobot->add_plan(SPACE, id => $plan, name => "Plan $plan"); $listed{$plan} = 1 });
my %weight = (joins => 4, returns => 3, leaves => 4, ends => 3, stays => 4, moves => 4, has_value => 5, is_confirmed => 4);
my @bag = map { ($_) x ($weight{$_} // 1) } sort keys %does;
my %done;

sub change_something
{
	my $times = chance(0.05) ? 25 : one_of(0, 1, 1, 2, 3, 5);

	foreach (1 .. $times)
	{
		my $what = one_of(@bag);
		my $who = one_of(sort keys %there);

		next unless $who || $what eq 'joins' || $what eq 'returns';
		$done{$what}++;
		$does{$what}->($who);
	}
	return;
}

# What Cobot's present state gives: "member group source" => "first day last day".
sub due
{
	my %due;

	foreach my $member (values %there)
	{
		my ($start, $end) = @{$member}{qw(starts_at canceled_to)};
		my $plan = ($member->{plan}{parent_plan} // {})->{id} // '';
		my %groups = map { ("$_ plan" => 1) } @{ $gives{$plan} // [] };

		next if !defined $member->{confirmed_at} || defined $end && ($end lt $today || defined $start && $end lt $start);
		foreach my $name (split /,/, value_of($member) // '')
		{
			$name =~ s/^\s+|\s+$//g;
			$groups{"$named{lc $name} individual"} = 1 if $named{ lc $name };
		}
		$due{"$member->{id} $_"} = join ' ', map { $_ // '-' } $start, $end foreach keys %groups;
	}
	return \%due;
}

# --- failures ---
my %place = (space => '/api/spaces/rand', plans => '/api/plans', members => '/api/memberships', definitions => '/api/space/custom_fields',
	values => '/api/custom_fields', by_id => '/api/memberships/*');

sub some_of { my ($share, @list) = @_; return grep { rand() < $share } @list; }

sub values_of { return [ map { my $value = value_of($_); { membership_id => $_->{id}, fields => [ defined $value ? { id => FIELD_ID, label => FIELD, value => $value } : () ] } } @_ ]; }

sub as_listed { my %record = %{ $_[0] }; delete $record{custom_fields}; return \%record; }

sub in_list { return sort { $a->{id} cmp $b->{id} } grep { defined $_->{confirmed_at} && ($_->{canceled_to} // $today) ge $today } values %there; }

# Orders a failure; gives its kind and the place.
sub fail_somehow
{
	my $where = one_of(sort keys %place);
	my %way = (
		status => sub { return (status => one_of(401, 402, 403, 429, 500, 502)) },
		drop => sub { return (drop => JSON::PP::true) },
		truncate => sub { return (truncate => one_of(0.1, 0.5, 0.99)) },
		empty => sub { return (body => '[]') },
		odd => sub { return (body => one_of('{}', 'null', '', '<html>Sorry</html>', '[null]', '[{}]', '{"errors":["no"]}')) });
	my $kind = one_of(qw(status drop truncate empty odd lacking lacking lacking));

	if ($kind eq 'lacking')
	{
		$where = one_of(qw(members members values values definitions members_and_values broken doubled by_id));
		%way = (
			members => sub { return (body => $json->encode([ map { as_listed($_) } some_of(one_of(0.4, 0.8, 0.95), in_list()) ])) },
			values => sub { return (body => $json->encode(values_of(some_of(one_of(0.4, 0.8, 0.95), map { $there{$_} } sort keys %there)))) },
			definitions => sub { return (body => '[{"id":"other","label":"Other"}]') },
			broken => sub { my @list = map { as_listed($_) } in_list(); one_of(@list)->{name} = {} if @list; return (body => $json->encode(\@list)) },
			doubled => sub { my @list = map { as_listed($_) } in_list(); push @list, one_of(@list) if @list; return (body => $json->encode(\@list)) },
			by_id => sub { return (body => $json->encode(as_listed($there{ one_of(sort keys %there) // '' } // {}))) });
		if ($where eq 'members_and_values')
		{
			$cobot->fault(match => { path => $place{values} }, times => 0, $way{values}->());
			$where = 'members';
		}
		my $path = $place{$where} // $place{members};
		$cobot->fault(match => { path => $path }, times => 0, $way{$where}->());
		return "lacking $where";
	}
	$cobot->fault(match => { path => $place{$where} }, times => one_of(0, 0, 1), skip => $where eq 'by_id' ? one_of(0, 0, 1) : 0, $way{$kind}->());
	return "$kind $where";
}

# --- a round ---
my (%faults, %result, %seen, @log, $broken, $journal_id);

# What is stored now, and what the journal says since the last time.
sub look
{
	my $answer = $json->decode($session->query_safe(<<"SQL"));
SELECT json_build_object(
	'stored', (SELECT coalesce(json_object_agg(concat_ws(' ', m.cobot_id, g.name, a.source), concat_ws(' ',
			coalesce(to_char(lower(a.valid) AT TIME ZONE '$zone', 'YYYY/MM/DD'), '-'), coalesce(to_char(upper(a.valid) AT TIME ZONE '$zone' - interval '1 day', 'YYYY/MM/DD'), '-'))), '{}')
		FROM user_group_member a JOIN cobot_membership m ON m.id = a.membership_id JOIN user_group g ON g.id = a.user_group_id),
	'open', (SELECT coalesce(json_object_agg(concat_ws(' ', m.cobot_id, g.name), true), '{}')
		FROM access_now n JOIN cobot_membership m ON m.id = n.membership_id JOIN user_group g ON g.id = n.user_group_id),
	'taken', (SELECT coalesce(json_agg(concat_ws(' ', m.cobot_id, g.name, j.source)), '[]')
		FROM access_journal j JOIN cobot_membership m ON m.id = j.membership_id JOIN user_group g ON g.id = j.user_group_id
		WHERE j.id > $journal_id AND j.action = 'taken'),
	'journal', (SELECT max(id) FROM access_journal),
	'members', (SELECT count(*) FROM cobot_membership WHERE departed_at IS NULL),
	'waiting', (SELECT coalesce(json_object_agg(c.cobot_id, c.verdict), '{}') FROM cobot_sync_change c
		WHERE c.verdict IN ('held', 'released', 'rejected') AND (c.verdict <> 'rejected' OR c.run_id = (SELECT max(id) FROM cobot_sync_run))),
	'released', (SELECT count(*) FROM cobot_sync_change WHERE verdict = 'released'),
	'holding', (SELECT max(run_id) FROM cobot_sync_change WHERE verdict = 'held'),
	'differ', (SELECT count(*) FROM (
		(SELECT membership_id, user_group_id, source, valid FROM user_group_member EXCEPT ALL SELECT membership_id, user_group_id, source, valid FROM access_due)
		UNION ALL
		(SELECT membership_id, user_group_id, source, valid FROM access_due EXCEPT ALL SELECT membership_id, user_group_id, source, valid FROM user_group_member)) d))
SQL
	$journal_id = $answer->{journal} // $journal_id;
	return $answer;
}

sub wrong
{
	my ($round, $what) = @_;

	push @log, "round $round: $what";
	$broken = 1;
	return;
}

# A run of the kind, as a hash; undef for a refusal or where there is nothing to do.
sub act
{
	my ($kind, $before) = @_;
	
	return $outside->sync($space) if $kind eq 'ingest';

	my $call = $kind eq 'sync' ? "cobot_sync($space)"
	  : $kind eq 'member' ? "cobot_sync_member('" . one_of((sort keys %there), (sort keys %gone)) . "', $space)"
	  : $kind eq 'release' ? "cobot_release($before->{holding})" : undef;

	if (!$call)
	{
		$session->query_safe("SELECT cobot_discard($before->{holding})");
		return;
	}
	my $answer = $session->query("UPDATE cobot_sync_run SET not_before = NULL WHERE not_before IS NOT NULL;\nSELECT row_to_json(r) FROM $call r");
	return $json->decode($1) if $answer =~ /^(\{.*\})$/m;
	wrong('?', "$call: $session->{stderr}") unless $session->{stderr} =~ /has no member/;
	$session->{stderr} = '';
	return;
}

my %limit = (hold_removals_above => 5, hold_removals_above_percent => 20, hold_emptied_group_of => 5);
my ($before, $faulty) = (undef, '');
$journal_id = 0;
$before = look();

sub check
{
	my ($round, $kind, $run, $after, @states) = @_;
	my $result = $run ? "$run->{result} " . ($run->{reason} // '') : 'none';
	my $freed = $kind eq 'release' || $before->{released};
	my (%lost, %emptied);

	# nobody lost access without evidence
	foreach my $grant (@{ $after->{taken} })
	{
		next if grep { !defined $_->{$grant} } @states;
		if ($faulty =~ /lacking definitions|empty definitions/ && $grant =~ /^(.*) individual$/)
		{
			# a person let it through, or it takes no access, as another source gives the same
			next if $freed || grep { defined $after->{stored}{"$1 $_"} } qw(plan manual);
		}
		wrong($round, "$grant was taken, and is due");
	}
	foreach my $grant (grep { defined $after->{stored}{$_} } keys %{ $before->{stored} })
	{
		my ($had, $has) = ($before->{stored}{$grant}, $after->{stored}{$grant});

		# who keeps what the custom field gave, because nothing is known of it, keeps it for the days of the membership
		next if $grant =~ / individual$/ && $faulty =~ /values|definitions/;
		wrong($round, "$grant was valid $had, is $has, and should be $states[-1]{$grant}") if $had ne $has && !grep { ($_->{$grant} // '') eq $has } @states;
	}

	# no more than the limit in one run, and no group emptied, unless somebody said so
	foreach my $pair (grep { !$after->{open}{$_} } keys %{ $before->{open} })
	{
		my ($id, $group) = split / /, $pair;
		$lost{$id} = 1;
		$emptied{$group}++;
	}
	my $limit = int $before->{members} * $limit{hold_removals_above_percent} / 100;
	$limit = $limit{hold_removals_above} if $limit < $limit{hold_removals_above};
	wrong($round, keys(%lost) . " lost access, and the limit is $limit") if keys %lost > $limit && !$freed;
	foreach my $group (grep { $limit{hold_emptied_group_of} && $emptied{$_} >= $limit{hold_emptied_group_of} } keys %emptied)
	{
		wrong($round, "$group was emptied") unless $freed || grep { / $group / } keys %{ $after->{stored} };
	}

	# nobody kept access beyond a good run, unless it is held; and without failures nobody lacks any
	if ($kind ne 'member' && $result =~ /^ok/)
	{
		my $unreadable = $faulty =~ /status (?:definitions|values)/ || $faulty =~ /odd (?:definitions|values)/;

		foreach my $grant (sort keys %{ $after->{stored} })
		{
			my ($id) = split / /, $grant;

			next if $after->{waiting}{$id} || grep { ($_->{$grant} // '') eq $after->{stored}{$grant} } @states;
			next if $unreadable && $grant =~ / individual$/ && defined $before->{stored}{$grant};
			my ($start, $end) = split / /, $after->{stored}{$grant};
			next if $end ne '-' && $end lt $today;    # over, known in advance
			wrong($round, "$grant ($after->{stored}{$grant}) is stored after a good run, and Cobot gives " . ($states[-1]{$grant} // 'nothing'));
		}
		if (!$faulty && @states == 1)
		{
			wrong($round, "$_ is due, and not stored after a good run") foreach grep { !defined $after->{stored}{$_} } sort keys %{ $states[0] };
		}
	}
	wrong($round, "$after->{differ} grants differ from their definition") if $after->{differ};
	return;
}

foreach my $round (1 .. $rounds)
{
	change_something();
	if ($faulty =~ /lacking/ || $faulty && chance(0.7))    # a list made up is that of one moment
	{
		$cobot->clear_faults;
		$faulty = '';
	}
	if (!$faulty && chance(0.45))
	{
		$faulty = fail_somehow();
		$faulty .= ', ' . fail_somehow() if chance(0.3);
		$faults{$_}++ foreach split /, /, $faulty;
	}
	if (chance(0.1))
	{
		%limit = (hold_removals_above => one_of(0, 1, 2, 5, 5, 1000), hold_removals_above_percent => one_of(0, 5, 20, 20, 100), hold_emptied_group_of => one_of(0, 2, 5));
		$session->query_safe("UPDATE cobot_integration SET " . join(', ', map { "$_ = " . ($limit{$_} || $_ ne 'hold_emptied_group_of' ? $limit{$_} : 'NULL') } sort keys %limit));
	}
	my @states = (due());
	if (!$faulty && keys %there > 20 && chance(0.08))    # somebody leaves between two questions
	{
		my $id = one_of(sort keys %there);
		$cobot->fault(match => { path => one_of('/api/memberships', '/api/plans', '/api/custom_fields') }, then => [ { method => 'DELETE', path => "/spaces/@{[ SPACE ]}/memberships/$id" } ], headers => {});
		my $record = delete $there{$id};
		$gone{$id} = 1;
		push @states, due();
		$there{$id} = $record;
		$faulty = "meanwhile $id";
		$faults{'somebody leaves meanwhile'}++;
	}
	my $kind = $before->{holding} && chance(0.3) ? one_of(qw(release release discard)) : one_of(('sync') x 7, 'ingest', 'ingest', 'member', 'member');
	my $run = act($kind, $before);
	my $after = look();

	if ($faulty =~ /^meanwhile (.*)/)
	{
		# the call may not have come to that question
		my %still = map { ($_->{id} => 1) } $cobot->members(SPACE, 'id');
		if (!$still{$1}) { delete $there{$1} } else { delete $gone{$1} }
	}
	check($round, $kind, $run, $after, @states);
	$result{ $run ? join ' ', $kind, grep { defined } @{$run}{qw(result reason)} : $kind }++;
	push @log, sprintf '%d: %s, %s: %s', $round, $kind, $faulty || 'no failure', $run ? join ' ', grep { defined } @{$run}{qw(id result reason)}, 'limits', map { $limit{$_} } sort keys %limit : '-';
	if ($broken) { fail("round $round"); diag join "\n", "SEED=$seed", @log[ -15 .. -1 ]; last; }
	if ($faulty =~ /^meanwhile/) { $cobot->clear_faults; $faulty = ''; }
	$before = $after;
}
ok(!$broken, "$rounds rounds, after each of which every promise holds");

# --- in the end: no failures, and what is held is released ---
$cobot->clear_faults;
$session->query_safe("UPDATE cobot_integration SET hold_removals_above = 5, hold_removals_above_percent = 20, hold_emptied_group_of = 5");
my ($run, $times);
for ($times = 1; $times < 12; $times++)
{
	$run = $t->sync($space);
	my $holding = $t->sql("SELECT max(run_id) FROM smartspace.cobot_sync_change WHERE verdict = 'held'");
	if ($holding) { $t->try("SELECT smartspace.cobot_release($holding)"); next; }
	last if $run->{result} =~ /^ok/ && !grep { $run->{$_} } qw(members_added members_changed members_removed grants_given grants_changed grants_taken);
}
like($run->{result}, qr/^ok/, "with good answers it comes to rest, in run $times") or diag $run->{message};
my %now = map { ($_->{id} => $_) } @{ $cobot->space(SPACE)->{memberships} };
is(join(' ', sort keys %now), join(' ', sort keys %there), 'the test knows who is there');
is($json->encode(look()->{stored}), $json->encode(due()), 'everybody has what is due, and nobody has more');

# --- and exactly what a fresh integration has ---
$t->sql('CREATE DATABASE fresh');
$t->node->safe_psql('fresh', <<"SQL");
CREATE EXTENSION smartspace_cobot;
SELECT smartspace.cobot_create_integration('rand', 'rand', sync_plan_access => true, sync_individual_access => true);
SELECT state FROM smartspace.cobot_connect_token(1, 'admin-token');
SELECT result FROM smartspace.cobot_sync(1);
SQL
give_groups('fresh');
my %compared = (
	'members' => "SELECT to_jsonb(m) - ARRAY['id', 'integration_id', 'plan_id', 'created_at', 'source_hash'] || jsonb_build_object('plan', p.cobot_id)"
	  . " FROM smartspace.cobot_membership m LEFT JOIN smartspace.cobot_plan p ON p.id = m.plan_id WHERE m.departed_at IS NULL AND m.confirmed_at IS NOT NULL ORDER BY m.cobot_id",
	'plans' => "SELECT to_jsonb(p) - ARRAY['id', 'integration_id', 'created_at'] FROM smartspace.cobot_plan p WHERE p.listed ORDER BY p.cobot_id",
	'grants' => "SELECT m.cobot_id, g.name, a.source, a.valid FROM smartspace.user_group_member a JOIN smartspace.cobot_membership m ON m.id = a.membership_id"
	  . " JOIN smartspace.user_group g ON g.id = a.user_group_id ORDER BY 1, 2, 3");
foreach my $what (sort keys %compared)
{
	is($t->sql($compared{$what}), $t->node->safe_psql('fresh', $compared{$what}), "$what equal those of a fresh integration");
}

# --- and it was no quiet space ---
note join ', ', map { "$done{$_} $_" } sort keys %done;
note join ', ', map { "$faults{$_} $_" } sort keys %faults;
note join ', ', map { "$result{$_} $_" } sort keys %result;
if ($rounds >= 200)
{
	cmp_ok(scalar(grep { /^sync (?:held|incomplete|failed)/ } keys %result), '>', 4, 'runs went wrong in many ways');
	ok($result{'sync ok'} || $result{'sync ok_with_problems'}, 'and some went well');
}
$session->quit;

done_testing();
