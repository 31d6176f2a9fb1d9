# What changes in Cobot changes here, and nothing else does: after each kind of
# change the run counts it, only the rows that differ were written, the mirror equals
# Cobot and the grants equal their definition.
use strict;
use warnings;
use utf8;

use CobotMirror;
use CobotTest;
use File::Temp;
use JSON::PP;
use Test::More;

my $field = 'smart_spaces_access_additional_units';

# --- given: a space in Auckland with two plans and four members, synchronised ---
my $world = File::Temp->new;
print $world encode_json({
	users => [ { id => 'admin', email => 'admin@example.com', admin_of => ['loft'] } ],
	tokens => [ { token => 'admin-token', user => 'admin' } ],
	spaces => [ {
		subdomain => 'loft', time_zone_name => 'Pacific/Auckland', custom_fields => [ { id => 'field-1', label => $field } ],
		plans => [ { id => 'full', name => 'Full Time' }, { id => 'flex', name => 'Flex Desk' } ],
		memberships => [
			{ id => 'ada', name => 'Ada', plan => { parent_plan => { id => 'full' } }, custom_fields => { $field => 'workshop' } },
			{ id => 'bob', name => 'Bob', plan => { parent_plan => { id => 'full' } } },
			{ id => 'cleo', name => 'Cleo', plan => { parent_plan => { id => 'flex' } } },
			{ id => 'dora', name => 'Dora', plan => { parent_plan => { id => 'flex' } } } ] } ] });
$world->flush;
chmod 0644, $world->filename;

my $t = CobotTest->new(state => $world->filename);
my $cobot = $t->cobot;
my $space = $t->connect_space('loft');

is(counts_of($t->sync($space)), '4/0/0 0/0/0', 'the first run adds the members; nothing is assigned yet');
my ($door, $roof) = map { $t->group($_) } qw(Door Roof);
my ($workshop, $staff, $admin) = map { $t->group($_, identifier => $_) } qw(Workshop Staff Admin);
$t->assign('full', $door);
$t->assign('flex', $roof);
is($t->groups_of('ada'), 'Door (plan), Workshop (individual)', 'assignment and group give grants at once');

# A step: changes in Cobot, one run, and what it did. Returns the run.
#   change   what happens in Cobot (or here) before the run
#   counts   members added/changed/removed grants given/changed/taken
#   written  the rows of mirror and grants that were written
#   result   "ok" unless given
#   requests how many were sent: five unless given
sub step
{
	my ($name, %step) = @_;
	my $run;

	subtest $name => sub {
		my $marks = marks($t);

		$step{change}->();
		$marks = marks($t) if $step{changed_here};
		$run = $t->sync($space);
		is($run->{result}, $step{result} // 'ok', 'result');
		is(counts_of($run), $step{counts}, 'the run counts what it did');
		is($run->{requests}, $step{requests} // 5, 'and asked no more than needed');
		is(written_since($t, $marks), $step{written}, 'only rows that differ were written');
		is(mirror_differs($t, $space, 'loft'), '', 'the mirror equals Cobot');
		is($t->grants_differ, 0, 'the grants equal their definition');
	};
	return $run;
}

sub problems
{
	return $t->sql("SELECT p.problem, m.cobot_id, p.detail FROM smartspace.cobot_problem p"
		  . " LEFT JOIN smartspace.cobot_membership m ON m.id = p.membership_id WHERE p.severity = 'problem' ORDER BY 1, 2, 3");
}

sub valid_of
{
	my ($cobot_id) = @_;

	return $t->sql("SELECT string_agg(DISTINCT a.valid::text, ' ') FROM smartspace.user_group_member a"
		  . " JOIN smartspace.cobot_membership m ON m.id = a.membership_id WHERE m.cobot_id = '$cobot_id'");
}

my $id_of_ada = $t->sql("SELECT id FROM smartspace.cobot_membership WHERE cobot_id = 'ada'");

# --- what somebody is called ---
step('another name', change => sub { $cobot->patch_member('loft', 'ada', name => "Ada O'Neill \"née\" Lovelace 🦊") },
	counts => '0/1/0 0/0/0', written => 'member ada');
step('another e-mail, which somebody else has too',
	change => sub { $cobot->patch_member('loft', $_, email => 'office@example.com') foreach qw(ada bob) },
	counts => '0/2/0 0/0/0', written => 'member ada, member bob');
is($t->sql("SELECT id FROM smartspace.cobot_membership WHERE cobot_id = 'ada'"), $id_of_ada, 'it is the same membership here');

# --- plans ---
step('another plan', change => sub { $cobot->patch_member('loft', 'bob', plan => { name => 'Flex Desk', parent_plan => { id => 'flex' } }) },
	counts => '0/1/0 1/0/1', written => 'grant bob Door (plan), grant bob Roof (plan), member bob');
is($t->groups_of('bob'), 'Roof (plan)', 'the groups of the other plan');

# --- the custom field ---
step('identifiers as people write them', change => sub { $cobot->set_field('loft', 'ada', $field => ' staff ,Admin,,Ghost') },
	counts => '0/1/0 2/0/1', result => 'ok_with_problems',
	written => 'grant ada Admin (individual), grant ada Staff (individual), grant ada Workshop (individual), member ada');
is($t->groups_of('ada'), 'Admin (individual), Door (plan), Staff (individual)', 'two of the names are groups');
is(problems(), 'unknown_identifier|ada|No user group has the external identifier "Ghost".', 'the third is reported');
is($t->sql('SELECT problems FROM smartspace.cobot_status'), '1', 'and counted in cobot_status');

my $lower = $t->group('Lower staff', identifier => 'staff');
is($t->groups_of('ada'), 'Admin (individual), Door (plan), Lower staff (individual)', 'an exact identifier goes before one that differs in case');
step('nothing new', change => sub { }, counts => '0/0/0 0/0/0', written => '', result => 'ok_with_problems');

step('two groups that differ in case', change => sub { $cobot->set_field('loft', 'ada', $field => 'sTaFf, Ghost, Ghost') },
	counts => '0/1/0 0/0/2', result => 'ok_with_problems',
	written => 'grant ada Admin (individual), grant ada Lower staff (individual), member ada');
is(problems(), <<'EOT' =~ s/\n$//r, 'which one is meant cannot be told');
ambiguous_identifier|ada|2 user groups have an external identifier like "sTaFf".
unknown_identifier|ada|No user group has the external identifier "Ghost".
EOT
$t->sql("DELETE FROM smartspace.user_group WHERE id = $lower");
$t->group('Ghosts', identifier => 'ghost');
is($t->groups_of('ada'), 'Door (plan), Ghosts (individual), Staff (individual)', 'groups that come and go are followed at once');
is(problems(), '', 'no problem is left');

step('the field is emptied', change => sub { $cobot->set_field('loft', 'ada', $field => undef) },
	counts => '0/1/0 0/0/2', written => 'grant ada Ghosts (individual), grant ada Staff (individual), member ada');
step('a name in the field of somebody who had none', change => sub { $cobot->set_field('loft', 'cleo', $field => 'Workshop') },
	counts => '0/1/0 1/0/0', written => 'grant cleo Workshop (individual), member cleo');
step('a group by plan and by name', change => sub { $t->assign('flex', $workshop) }, changed_here => 1,
	counts => '0/0/0 0/0/0', written => '');
is($t->groups_of('cleo'), 'Roof (plan), Workshop (individual), Workshop (plan)', 'both sources give the group');
$t->sql("DELETE FROM smartspace.user_group_assignment WHERE user_group_id = $workshop");
is($t->groups_of('cleo'), 'Roof (plan), Workshop (individual)', 'when one source ends, the other stays');

# --- somebody joins ---
step('a new member', change => sub {
		$cobot->add_member('loft', id => 'emil', name => 'Emil', plan => { parent_plan => { id => 'full' } }, custom_fields => { $field => 'Admin' }) },
	counts => '1/0/0 2/0/0', written => 'grant emil Admin (individual), grant emil Door (plan), member emil');
step('somebody who is not confirmed is in no list', change => sub {
		$cobot->add_member('loft', id => 'finn', plan => { parent_plan => { id => 'full' } }, confirmed_at => undef) },
	counts => '0/0/0 0/0/0', written => '');

# --- the first and the last day, in Auckland ---
step('a member who starts later', change => sub {
		$cobot->add_member('loft', id => 'gil', plan => { parent_plan => { id => 'full' } }, starts_at => '2099/01/15') },
	counts => '1/0/0 1/0/0', written => 'grant gil Door (plan), member gil');
is(valid_of('gil'), '["2099-01-14 11:00:00+00",)', 'access begins with midnight there');
is($t->sql("SELECT count(*) FROM smartspace.access_now a JOIN smartspace.cobot_membership m ON m.id = a.membership_id WHERE m.cobot_id = 'gil'"),
	'0', 'and not before');

step('a member who starts today', change => sub {
		$cobot->add_member('loft', id => 'hana', plan => { parent_plan => { id => 'full' } }, starts_at => 'today') },
	counts => '1/0/0 1/0/0', written => 'grant hana Door (plan), member hana');
is($t->sql("SELECT a.user_group, a.valid_from = date_trunc('day', now() AT TIME ZONE 'Pacific/Auckland') AT TIME ZONE 'Pacific/Auckland'"
		  . " FROM smartspace.access_now a JOIN smartspace.cobot_membership m ON m.id = a.membership_id WHERE m.cobot_id = 'hana'"),
	'Door|t', 'is in since midnight there');

step('a last day is known', change => sub { $cobot->patch_member('loft', 'emil', canceled_to => '2099/06/30') },
	counts => '0/1/0 0/2/0', written => 'grant emil Admin (individual), grant emil Door (plan), member emil');
like(valid_of('emil'), qr/,"2099-06-30 12:00:00\+00"\)$/, 'access ends with the midnight after it, there');
step('today is the last day', change => sub { $cobot->patch_member('loft', 'dora', canceled_to => 'today') },
	counts => '0/1/0 0/1/0', written => 'grant dora Roof (plan), member dora');
is($t->sql("SELECT a.user_group, a.valid_until > now() AND a.valid_until <= now() + interval '25 hours'"
		  . " FROM smartspace.access_now a JOIN smartspace.cobot_membership m ON m.id = a.membership_id WHERE m.cobot_id = 'dora'"),
	'Roof|t', 'access until it is over');
step('the cancellation is taken back', change => sub { $cobot->patch_member('loft', $_, canceled_to => undef) foreach qw(dora emil) },
	counts => '0/2/0 0/3/0',
	written => 'grant dora Roof (plan), grant emil Admin (individual), grant emil Door (plan), member dora, member emil');
unlike(valid_of('emil'), qr/2099/, 'no end any more');

# --- the space moves ---
$cobot->patch_member('loft', 'emil', canceled_to => '2099/06/30');
$t->sync($space);
subtest 'the space moves to another time zone' => sub {
	$cobot->patch_space('loft', time_zone_name => 'Europe/Berlin');
	my $marks = marks($t);
	my $run = $t->sync($space);

	is($run->{result}, 'ok', 'result');
	is(counts_of($run), '0/0/0 0/' . $t->sql('SELECT count(*) FROM smartspace.user_group_member') . '/0', 'every grant moves, as all have a first day');
	like(written_since($t, $marks), qr/^grant [^,]+(, grant [^,]+)*$/, 'grants were written, no member');
	is(valid_of('gil'), '["2099-01-14 23:00:00+00",)', 'the first day begins there');
	like(valid_of('emil'), qr/,"2099-06-30 22:00:00\+00"\)$/, 'the last day ends there');
	is($t->grants_differ, 0, 'the grants equal their definition');
};
step('a time zone that nobody knows', change => sub { $cobot->patch_space('loft', time_zone_name => 'Mars/Olympus', name => 'Loft Mars') },
	counts => '0/0/0 0/0/0', written => '', result => 'ok_with_problems');
is($t->sql('SELECT time_zone, space_name FROM smartspace.cobot_integration'), 'Europe/Berlin|Loft Mars', 'the one before stays in force');
like(problems(), qr/^bad_record\|\|time_zone_name is "Mars\/Olympus"/, 'and it is reported');
$cobot->patch_space('loft', time_zone_name => 'Europe/Berlin');
$t->sync($space);

# --- switches and grants by hand ---
$t->sql("SELECT smartspace.cobot_grant($id_of_ada, $roof)");
$t->sql('UPDATE smartspace.cobot_integration SET sync_individual_access = false');
is($t->sql("SELECT string_agg(DISTINCT source, ' ' ORDER BY source) FROM smartspace.user_group_member"), 'manual plan', 'the switch takes individual access at once');
is($t->grants_differ, 0, 'the grants equal their definition');
$cobot->clear_log;
$cobot->set_field('loft', 'cleo', $field => 'Admin');
my $run = $t->sync($space);
is(counts_of($run), '0/0/0 0/0/0', 'nobody changes');
is_deeply([ grep { $_->{path} =~ /custom_fields/ } $cobot->log ], [], 'and custom fields are not asked for');
is($t->grants_differ, 0, 'the grants equal their definition');
$t->sql('UPDATE smartspace.cobot_integration SET sync_individual_access = true');
is($t->groups_of('cleo'), 'Roof (plan), Workshop (individual)', 'switched on again, what was known gives access at once');
is(counts_of($t->sync($space)), '0/1/0 1/0/1', 'and the next run brings what changed meanwhile');
is($t->groups_of('cleo'), 'Admin (individual), Roof (plan)', 'which moves the grant');
$t->sql('UPDATE smartspace.cobot_integration SET sync_plan_access = false');
is($t->groups_of('ada'), 'Roof (manual)', 'without plan access there is what was given by hand');
is(counts_of($t->sync($space)), '0/0/0 0/0/0', 'a run leaves it at that');
$t->sql('UPDATE smartspace.cobot_integration SET sync_plan_access = true');
is($t->groups_of('ada'), 'Door (plan), Roof (manual)', 'switched on again');
is(mirror_differs($t, $space, 'loft'), '', 'the mirror equals Cobot');
is($t->grants_differ, 0, 'the grants equal their definition');

# --- records that only a wrong answer has: members in the list who are not confirmed ---
my @list = grep { $_->{confirmed_at} } @{ $cobot->control(GET => '/spaces/loft/memberships') };
my @unconfirmed = map { $_->{id} eq 'ada' ? { %$_, confirmed_at => undef } : $_ } @list;
push @unconfirmed, { %{ $list[0] }, id => 'uma', confirmed_at => undef };
$cobot->fault(match => { path => '/api/memberships' }, body => encode_json(\@unconfirmed));
$run = $t->sync($space);
is(counts_of($run), '1/1/0 0/0/1', 'one who is not confirmed is added, one is not confirmed any more');
is($t->groups_of('uma'), '', 'who is not confirmed has no access');
is($t->groups_of('ada'), 'Roof (manual)', 'nor has who was, but for what was given by hand');
is($t->grants_differ, 0, 'the grants equal their definition');
$run = $t->sync($space);
is(counts_of($run), '0/1/1 1/0/0', 'the true list corrects it');
is(mirror_differs($t, $space, 'loft'), '', 'the mirror equals Cobot');

# --- a transaction that is rolled back ---
my $before = $t->contents;
my $runs = $t->sql('SELECT count(*) FROM smartspace.cobot_sync_run');
my $status = $t->sql('SELECT i.* FROM smartspace.cobot_integration i');
$cobot->patch_member('loft', 'ada', name => 'Ada again', plan => { name => 'Flex Desk', parent_plan => { id => 'flex' } });
$cobot->patch_space('loft', name => 'Loft Ten', time_zone_name => 'Asia/Tokyo');
$cobot->delete_member('loft', 'hana');
like($t->sql("BEGIN; SELECT members_changed, members_removed FROM smartspace.cobot_sync($space); ROLLBACK"), qr/^1\|1$/m, 'a run in a transaction');
is($t->contents, $before, 'rolled back, it has changed no row of mirror or grants');
is($t->sql('SELECT count(*) FROM smartspace.cobot_sync_run'), $runs, 'there was no run');
is($t->sql('SELECT i.* FROM smartspace.cobot_integration i'), $status, 'and the integration is as before');
is($t->sql("BEGIN; SAVEPOINT a; SELECT members_changed FROM smartspace.cobot_sync($space); ROLLBACK TO a;"
		  . " SELECT members_changed FROM smartspace.cobot_sync($space); COMMIT"), "1\n1", 'the same with a savepoint: the second run does what the first did');
is($t->groups_of('ada'), 'Roof (manual), Roof (plan)', 'and it stays');
is(mirror_differs($t, $space, 'loft'), '', 'the mirror equals Cobot');
is($t->grants_differ, 0, 'the grants equal their definition');

done_testing();
