# Access is taken only from members who are known to have left: a member who is
# missing in Cobot's list is asked for by id, and loses access if Cobot has deleted or
# ended the membership. Whatever else the answer is, the member stays with everything,
# the run says so, and all other changes go through.
use strict;
use warnings;

use CobotMirror;
use CobotTest;
use File::Temp;
use JSON::PP;
use Test::More;

my $field = 'smart_spaces_access_additional_units';

# --- given: members with access by plan, by field and by hand ---
my $world = File::Temp->new;
print $world encode_json({
	users => [ { id => 'admin', email => 'admin@example.com', admin_of => ['loft'] } ],
	tokens => [ { token => 'admin-token', user => 'admin' } ],
	spaces => [ {
		subdomain => 'loft', time_zone_name => 'America/Los_Angeles', custom_fields => [ { id => 'field-1', label => $field } ],
		plans => [ { id => 'full', name => 'Full Time' } ],
		memberships => [ map { {
			id => $_, name => "Member $_", plan => { parent_plan => { id => 'full' } }, custom_fields => { $field => 'workshop' }
		} } qw(ada bob cleo dora), map { sprintf 'm%02d', $_ } 1 .. 90 ] } ] });
$world->flush;
chmod 0644, $world->filename;

my $t = CobotTest->new(state => $world->filename);
my $cobot = $t->cobot;
my $space = $t->connect_space('loft');

$t->sync($space);
$t->sql('UPDATE smartspace.cobot_integration SET hold_removals_above = 1000, hold_emptied_group_of = NULL');    # see 061_guard.pl
my $door = $t->group('Door');
my $roof = $t->group('Roof');
$t->group('Workshop', identifier => 'Workshop');
$t->assign('full', $door);
$t->sql("SELECT smartspace.cobot_grant(id, $roof) FROM smartspace.cobot_membership WHERE cobot_id = 'ada'");
my $everything = 'Door (plan), Roof (manual), Workshop (individual)';
is($t->groups_of('ada'), $everything, 'a member with access from three sources');

# Runs and returns the run together with the ids that were asked for one by one. (A read
# that finds its connection closed is sent again.)
sub sync_and_log
{
	$cobot->clear_log;
	my $run = $t->sync($space);
	my %asked = map { $_->{path} =~ m{^/api/memberships/(.+)$} ? ($1 => 1) : () } $cobot->log;

	return ($run, sort keys %asked);
}

sub row_of
{
	my ($cobot_id) = @_;

	return $t->sql("SELECT id, departed_at IS NOT NULL FROM smartspace.cobot_membership WHERE cobot_id = '$cobot_id'");
}

sub state_of_integration
{
	return $t->sql("SELECT state, coalesce(reason, '-') FROM smartspace.cobot_status");
}

my ($id_of_ada) = split /\|/, row_of('ada');

# --- deleted, and back ---
$cobot->delete_member('loft', 'ada');
my ($run, @asked) = sync_and_log();
is("$run->{result} " . counts_of($run), 'ok 0/0/1 0/0/2', 'a deleted member has left');
is("@asked", 'ada', 'only the one who vanished was asked for by id');
is($t->groups_of('ada'), 'Roof (manual)', 'what was given by hand is not for the synchronisation to take');
is(row_of('ada'), "$id_of_ada|t", 'the row stays');
is(mirror_differs($t, $space, 'loft'), '', 'the mirror equals Cobot');
is($t->grants_differ, 0, 'the grants equal their definition');

my $marks = marks($t);
($run, @asked) = sync_and_log();
is("$run->{result} " . counts_of($run) . " $run->{requests} @asked", 'ok 0/0/0 0/0/0 5 ', 'who has left is not asked for again');
is(written_since($t, $marks), '', 'and nothing is written');

$cobot->add_member('loft', id => 'ada', name => 'Ada is back', plan => { parent_plan => { id => 'full' } }, custom_fields => { $field => 'Workshop' });
($run, @asked) = sync_and_log();
is("$run->{result} " . counts_of($run) . " @asked", 'ok 1/0/0 2/0/0 ', 'a member who comes back counts as joined');
is(row_of('ada'), "$id_of_ada|f", 'and is the same one here');
is($t->groups_of('ada'), $everything, 'with all the groups');
is(mirror_differs($t, $space, 'loft'), '', 'the mirror equals Cobot');
is($t->grants_differ, 0, 'the grants equal their definition');

# --- ended, and taken back ---
$cobot->patch_member('loft', 'bob', canceled_to => 'today-1d');
($run, @asked) = sync_and_log();
is("$run->{result} " . counts_of($run) . " @asked", 'ok 0/0/1 0/0/2 bob', 'a member whose last day was yesterday has left');
is($t->groups_of('bob'), '', 'without access');
is($t->sql("SELECT canceled_to = (now() AT TIME ZONE 'America/Los_Angeles')::date - 1, departed_at IS NOT NULL"
		  . " FROM smartspace.cobot_membership WHERE cobot_id = 'bob'"), 't|t', 'the last day is known');
($run, @asked) = sync_and_log();
is("$run->{result} " . counts_of($run) . " @asked", 'ok 0/0/0 0/0/0 ', 'and that is the end of it');
$cobot->patch_member('loft', 'bob', canceled_to => undef);
($run, @asked) = sync_and_log();
is("$run->{result} " . counts_of($run) . " @asked", 'ok 1/0/0 2/0/0 ', 'the cancellation is taken back');
is(mirror_differs($t, $space, 'loft'), '', 'the mirror equals Cobot');
is($t->grants_differ, 0, 'the grants equal their definition');

# --- the space moves to a clock that is 26 hours ahead: somebody's last day is over by it ---
$cobot->patch_space('loft', time_zone_name => 'Etc/GMT+12');
$cobot->patch_member('loft', 'cleo', canceled_to => $t->sql("SELECT (now() AT TIME ZONE 'Etc/GMT+12')::date"));
($run, @asked) = sync_and_log();
is("$run->{result} $run->{members_removed}", 'ok 0', 'the last day is not over');
$cobot->patch_space('loft', time_zone_name => 'Pacific/Kiritimati');
($run, @asked) = sync_and_log();
is("$run->{result} $run->{members_removed} @asked", 'ok 1 cleo', 'the run that learns of the new clock goes by it');
($run, @asked) = sync_and_log();
is("$run->{result} " . counts_of($run) . " @asked", 'ok 0/0/0 0/0/0 ', 'and nothing is left to the next');
$cobot->patch_member('loft', 'cleo', canceled_to => undef);
$cobot->patch_space('loft', time_zone_name => 'America/Los_Angeles');
$t->sync($space);
is(mirror_differs($t, $space, 'loft'), '', 'the mirror equals Cobot');
is($t->grants_differ, 0, 'the grants equal their definition');

# --- the list lacks somebody whom Cobot still has: every doubtful answer to the question by id ---
my %ada = %{ $cobot->member('loft', 'ada') };
my $turn = 0;

# Ada is missing in the list, while others change, join and leave.
#   answer   fault for the question about her
#   absent   she is missing in the custom fields as well
sub check_stays
{
	my ($name, %case) = @_;

	subtest $name => sub {
		my ($renamed, $joined, $left) = (sprintf('m%02d', ++$turn), "new$turn", sprintf 'm%02d', 30 + $turn);

		$case{absent} ? $cobot->delete_member('loft', 'ada') : $cobot->patch_member('loft', 'ada', canceled_to => 'today-1d');
		$cobot->fault(match => { path => '/api/memberships/ada' }, times => 0, %{ $case{answer} });
		$cobot->patch_member('loft', $renamed, name => "Renamed $turn");
		$cobot->add_member('loft', id => $joined, plan => { parent_plan => { id => 'full' } });
		$cobot->delete_member('loft', $left);
		my $before = marks($t);
		my ($run, @asked) = sync_and_log();

		is("$run->{result} $run->{reason}", "incomplete $case{reason}", 'the run is incomplete');
		like($run->{message}, $case{message}, 'and says why');
		like($run->{warning}, qr/^(?:psql:\S+ )?WARNING:  01000: synchronisation of "loft" is incomplete: /m, 'also to the client');
		is(state_of_integration(), "degraded $case{reason}" =~ s/ /|/r, 'the integration is degraded');
		is(join(' ', @asked), join(' ', sort 'ada', $left), 'the two who vanished were asked for');
		is($t->groups_of('ada'), $everything, 'she stays with everything');
		is(row_of('ada'), "$id_of_ada|f", 'and has not departed');
		is(counts_of($run), '1/1/1 1/0/2', 'the other changes go through');
		is(written_since($t, $before), join(', ', sort "grant $joined Door (plan)", "grant $left Door (plan)",
				"grant $left Workshop (individual)", "member $joined", "member $left", "member $renamed"), 'and no other row is written');
		is($t->grants_differ, 0, 'the grants equal their definition');

		$cobot->clear_faults;
		$cobot->put_member('loft', 'ada', \%ada);
		$cobot->set_field('loft', 'ada', $field => 'Workshop') if $case{absent};
		($run, @asked) = sync_and_log();
		is("$run->{result} " . counts_of($run) . " @asked", 'ok 0/0/0 0/0/0 ', 'back in the list, she is who she was');
		is(state_of_integration(), 'connected|-', 'and the integration is well');
		is(mirror_differs($t, $space, 'loft'), '', 'the mirror equals Cobot');
	};
	return;
}

my $record = encode_json(\%ada);
my %still_there = (reason => 'source_incomplete', message => qr/list of members lacks 1 that it still knows/);
check_stays('Cobot says she is active', answer => { body => $record }, %still_there);
check_stays('Cobot says she is active, and her custom fields are missing, too', answer => { body => $record }, absent => 1, %still_there);
check_stays('the record is of somebody else', answer => { body => $record =~ s/"id":"ada"/"id":"eve"/r }, %still_there);
check_stays('the record cannot be used', answer => { body => $record =~ s/"name":"[^"]*"/"name":{}/r }, %still_there);
check_stays('HTTP 500', answer => { status => 500 }, reason => 'unreachable', message => qr/^could not read the member "ada" of "loft": Cobot has a server error;/);
check_stays('HTTP 403', answer => { status => 403 }, reason => 'admin_rights_lost', message => qr/^could not read the member "ada"/);
check_stays('HTTP 401', answer => { status => 401 }, reason => 'auth_revoked', message => qr/^could not read the member "ada"/);
check_stays('HTTP 410', answer => { status => 410 }, reason => 'bad_answer', message => qr/^could not read the member "ada"/);
check_stays('HTTP 429', answer => { status => 429 }, reason => 'rate_limited', message => qr/^could not read the member "ada"/);
check_stays('HTTP 200 with a page', answer => { body => '<html>Moved</html>', headers => { 'Content-Type' => 'text/html' } },
	reason => 'bad_answer', message => qr/^could not read the member "ada"/);
check_stays('HTTP 200 with nothing', answer => { body => '' }, reason => 'bad_answer', message => qr/^could not read the member "ada"/);
check_stays('HTTP 200 with a list', answer => { body => '[]' }, reason => 'bad_answer', message => qr/^could not read the member "ada"/);
check_stays('a truncated record', answer => { body => substr $record, 0, -1 }, reason => 'bad_answer', message => qr/^could not read the member "ada"/);
check_stays('the connection breaks', answer => { drop => JSON::PP::true, }, reason => 'unreachable', message => qr/^could not read the member "ada"/);

# --- many vanish at once: no more than 40 questions in one run ---
my @all = map { $_->{id} } @{ $cobot->space('loft')->{memberships} };
my @leavers = grep { /^(?:m|new)/ } @all;
splice @leavers, 45;
my ($bob) = split /\|/, row_of('bob');

$cobot->delete_member('loft', $_) foreach @leavers;
($run, @asked) = sync_and_log();
is(scalar @asked . " $run->{requests}", '40 45', 'of 45 who vanished, 40 are asked for, once each');
is("$run->{result} $run->{reason} $run->{members_removed}", 'incomplete source_incomplete 40', 'these have left, and the run is incomplete');
like($run->{message}, qr/^45 members are missing in Cobot's lists, of whom 40 were asked for by id so far;/, 'and says so');
my %first = map { $_ => 1 } @asked;
is($t->sql('SELECT count(*) FROM smartspace.user_group_member a JOIN smartspace.cobot_membership m ON m.id = a.membership_id'
		  . " WHERE m.cobot_id IN ('" . join("','", grep { !$first{$_} } @leavers) . "')"), $t->sql("SELECT count(*) FROM smartspace.access_due d"
		  . " JOIN smartspace.cobot_membership m ON m.id = d.membership_id WHERE m.cobot_id IN ('" . join("','", grep { !$first{$_} } @leavers) . "')"),
	'the others keep what they have until they were asked for');
is($t->grants_differ, 0, 'the grants equal their definition');
($run, @asked) = sync_and_log();
is("$run->{result} $run->{members_removed}", 'ok 5', 'the next run goes on with the rest');
is(join(' ', @asked), join(' ', sort grep { !$first{$_} } @leavers), 'and asks for nobody twice');
is(mirror_differs($t, $space, 'loft'), '', 'the mirror equals Cobot');
is($t->grants_differ, 0, 'the grants equal their definition');

# --- many who are missing in the list and yet there do not hide those who have left ---
my @missing = map { sprintf 'x%02d', $_ } 1 .. 45;
$cobot->add_member('loft', id => $_, plan => { parent_plan => { id => 'full' } }) foreach @missing;
$t->sync($space);
my %kept = map { $_ => $cobot->member('loft', $_) } @missing[ 0 .. 41 ];
$cobot->delete_member('loft', $_) foreach @missing;
$cobot->fault(match => { path => "/api/memberships/$_" }, times => 0, body => encode_json($kept{$_})) foreach sort keys %kept;
my $left;
my $last_three = "'" . join("','", @missing[ 42 .. 44 ]) . "'";
foreach my $run (1 .. 30)
{
	$t->sync($space);
	$left = $t->sql("SELECT count(*) FROM smartspace.cobot_membership WHERE cobot_id IN ($last_three) AND departed_at IS NULL");
	last if $left == 0;
}
is($left, 0, 'runs get round to everybody');
is($t->sql("SELECT count(*) FROM smartspace.user_group_member a JOIN smartspace.cobot_membership m ON m.id = a.membership_id"
		  . " WHERE m.cobot_id LIKE 'x%'"), 42, 'and those who are still there keep their access');
is($t->grants_differ, 0, 'the grants equal their definition');

done_testing();
