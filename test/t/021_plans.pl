# Plans are matched by the id of the plan that a member's own copy descends from,
# never by name; what the catalogue does to a plan takes nothing from its members.
use strict;
use warnings;

use CobotMirror;
use CobotTest;
use File::Temp;
use JSON::PP;
use Test::More;

# --- given: plans with groups, and members with copies of all kinds ---
my $world = File::Temp->new;
print $world encode_json({
	users => [ { id => 'admin', email => 'admin@example.com', admin_of => ['loft'] } ],
	tokens => [ { token => 'admin-token', user => 'admin' } ],
	spaces => [ {
		subdomain => 'loft', plans => [ map { { id => $_, name => "Plan $_" } } qw(full flex) ],
		memberships => [ map { { id => $_, name => "Member $_", plan => { parent_plan => { id => 'full' } } } } qw(ada bob cleo) ] } ] });
$world->flush;
chmod 0644, $world->filename;

my $t = CobotTest->new(state => $world->filename);
my $cobot = $t->cobot;
my $space = $t->connect_space('loft', individual => 0);

$t->sync($space);
my $door = $t->group('Door');
my $roof = $t->group('Roof');
my $studio = $t->group('Studio');
$t->assign('full', $door);
$t->assign('flex', $roof);

# Runs once; the run must do this and no more. Returns the run.
sub check_run
{
	my ($name, $counts, $written, $result) = @_;
	my $marks = marks($t);
	my $run = $t->sync($space);

	is("$run->{result} " . counts_of($run), ($result // 'ok') . " $counts", "$name: the run counts what it did");
	is(written_since($t, $marks), $written, "$name: only rows that differ were written");
	is(mirror_differs($t, $space, 'loft'), '', "$name: the mirror equals Cobot");
	is($t->grants_differ, 0, "$name: the grants equal their definition");
	return $run;
}

sub plan_row
{
	my ($cobot_id) = @_;

	return $t->sql("SELECT name, listed FROM smartspace.cobot_plan WHERE cobot_id = '$cobot_id'");
}

# --- names ---
$cobot->patch_plan('loft', 'full', name => 'Everything', price_per_cycle => '250.0');
check_run('a renamed plan', '0/0/0 0/0/0', 'plan full');
is(plan_row('full'), 'Everything|t', 'the new name is here');
$cobot->patch_member('loft', 'ada', plan => { name => 'Everything', price_per_cycle => '250.0' });
check_run('the name in a member\'s copy', '0/1/0 0/0/0', 'member ada');
$cobot->patch_plan('loft', 'flex', name => 'Everything');
check_run('two plans of the same name', '0/0/0 0/0/0', 'plan flex');
$cobot->patch_plan('loft', 'flex', name => 'Plan flex');
$t->sync($space);

# --- copies ---
$cobot->patch_member('loft', 'bob', plan => { name => 'Bob\'s bargain', price_per_cycle => '1.0', extras => [ { name => 'Cake', price => '0.0' } ] });
check_run('a customised copy', '0/1/0 0/0/0', 'member bob');
is($t->groups_of('bob'), 'Door (plan)', 'has the groups of the plan it descends from');
is($t->sql("SELECT plan_name, plan_price_per_cycle, extras FROM smartspace.cobot_membership WHERE cobot_id = 'bob'"),
	'Bob\'s bargain|1.0|[{"name": "Cake", "price": "0.0"}]', 'with its own name, price and extras');

$cobot->patch_member('loft', 'cleo', plan => { name => 'Plan full' }, without => ['plan.parent_plan']);
check_run('a plan of no descent', '0/1/0 0/0/1', 'grant cleo Door (plan), member cleo', 'ok_with_problems');
is($t->groups_of('cleo'), '', 'gives no groups, whatever its name');
is($t->sql("SELECT p.problem, m.cobot_id, p.detail FROM smartspace.cobot_problem p JOIN smartspace.cobot_membership m ON m.id = p.membership_id"),
	'plan_unmapped|cleo|The plan "Plan full" is a copy of no plan of the space (members on it: 1).', 'and is reported with the member');
$t->sql('UPDATE smartspace.cobot_integration SET sync_plan_access = false');
is($t->sql("SELECT count(*) FROM smartspace.cobot_problem WHERE severity = 'problem'"), '0', 'and is no problem where plans give no access');
$t->sql('UPDATE smartspace.cobot_integration SET sync_plan_access = true');
$cobot->patch_member('loft', 'cleo', plan => { name => 'Plan flex', parent_plan => { id => 'flex' } });
check_run('moved to a plan of the space', '0/1/0 1/0/0', 'grant cleo Roof (plan), member cleo');

# --- a record without any plan is none that can be used ---
my %cleo = %{ $cobot->member('loft', 'cleo') };
$cobot->patch_member('loft', 'cleo', name => 'Cleo Patra', without => ['plan']);
my $marks = marks($t);
my $run = $t->sync($space);
is("$run->{result} " . counts_of($run), 'ok_with_problems 0/0/0 0/0/0', 'a record without a plan');
is(written_since($t, $marks), '', 'changes nothing for the member');
is($t->groups_of('cleo'), 'Roof (plan)', 'who keeps the groups');
is($t->sql("SELECT p.problem, m.cobot_id, p.detail FROM smartspace.cobot_problem p JOIN smartspace.cobot_membership m ON m.id = p.membership_id"),
	'bad_record|cleo|memberships[2].plan is missing', 'and it is reported');
$cobot->put_member('loft', 'cleo', \%cleo);
check_run('a good record again, in other bytes', '0/0/0 0/0/0', 'member cleo');
is($t->sql("SELECT count(*) FROM smartspace.cobot_problem WHERE severity = 'problem'"), '0', 'no problem is left');

# --- the catalogue loses a plan ---
$cobot->delete_plan('loft', 'full');
check_run('a plan that is listed no more', '0/0/0 0/0/0', 'plan full');
is(plan_row('full'), 'Everything|f', 'stays here, marked');
is($t->groups_of('ada'), 'Door (plan)', 'its members keep their groups');
$cobot->add_member('loft', id => 'emil', name => 'Emil', plan => { name => 'Everything', parent_plan => { id => 'full' } });
check_run('one more member on it', '1/0/0 1/0/0', 'grant emil Door (plan), member emil');
my $assigned = $t->sql("INSERT INTO smartspace.user_group_assignment (plan_id, user_group_id)"
	  . " SELECT id, $studio FROM smartspace.cobot_plan WHERE cobot_id = 'full' RETURNING plan_id");
is($t->groups_of('ada'), 'Door (plan), Studio (plan)', 'it can be assigned');
$cobot->add_plan('loft', id => 'full', name => 'Everything again');
check_run('listed again', '0/0/0 0/0/0', 'plan full');
is(plan_row('full') . " $assigned", 'Everything again|t ' . $t->sql("SELECT id FROM smartspace.cobot_plan WHERE cobot_id = 'full'"), 'it is the same plan here');

# --- a member's copy descends from a plan that was never listed ---
$cobot->add_member('loft', id => $_, name => "Member $_", plan => { name => 'Founders', parent_plan => { id => 'founders-2009' } }) foreach qw(finn gil);
check_run('a plan in no list', '2/0/0 0/0/0', 'member finn, member gil, plan founders-2009', 'incomplete');
is(plan_row('founders-2009'), 'Founders|f', 'becomes one here, with the name of the copy, not listed');
$t->assign('founders-2009', $door);
is(join(' ', map { $t->groups_of($_) } qw(finn gil)), 'Door (plan) Door (plan)', 'and can be assigned');
check_run('nothing new', '0/0/0 0/0/0', '');
$cobot->add_plan('loft', id => 'founders-2009', name => 'Founders of 2009');
check_run('it appears in the list', '0/0/0 0/0/0', 'plan founders-2009');
is(plan_row('founders-2009'), 'Founders of 2009|t', 'and is listed');

# --- there and back, and what is to come ---
$cobot->patch_member('loft', 'ada', upcoming_plan => { name => 'Plan flex', parent_plan => { id => 'flex' } }, plan => { canceled_to => '2099/01/31' });
check_run('another plan follows', '0/1/0 0/0/0', 'member ada');
is($t->groups_of('ada'), 'Door (plan), Studio (plan)', 'until then the groups are those of the plan that holds');
$cobot->patch_member('loft', 'ada', upcoming_plan => undef, plan => { name => 'Plan flex', parent_plan => { id => 'flex' }, canceled_to => undef });
check_run('and has come', '0/1/0 1/0/2', 'grant ada Door (plan), grant ada Roof (plan), grant ada Studio (plan), member ada');
$cobot->patch_member('loft', 'ada', plan => { name => 'Everything', parent_plan => { id => 'full' } });
check_run('back again', '0/1/0 2/0/1', 'grant ada Door (plan), grant ada Roof (plan), grant ada Studio (plan), member ada');

done_testing();
