# Erasure where it is not simple: the token may not read custom fields, the removal would be
# held, refusals quote the person, a hint by webhook comes later, a copy of the database. No
# value of the person is in any table afterwards, whatever wrote it.
use strict;
use warnings;

use CobotLoft;
use CobotTest;
use JSON::PP;
use Test::More;

my $t = lofts(map { $_ => 12 } qw(fields held single waits erased bad foreign));
my $cobot = $t->cobot;
my $json = JSON::PP->new->utf8->canonical->allow_nonref;
$t->group('Workshop', identifier => 'Workshop');

# Every word that only this person has.
my %person = (
	name => 'Xenia Zzyzx', email => 'xenia@zzyzx.example', phone => '+49 30 zzyzx 99', picture => 'https://pictures.example/zzyzx.jpg', customer_number => 'zzyzx-7',
	billing_emails => ['billing@zzyzx.example'], user => { id => 'user-zzyzx', email => 'login@zzyzx.example' }, team_id => 'team-zzyzx',
	address => { company => 'Zzyzx Ltd', name => 'X. Zzyzx', full_address => "9 Zzyzx Road\nZzyzxville", address => '9 Zzyzx Road', post_code => 'zzyzx1', city => 'Zzyzxville', state => 'Zzyzxia', country => 'Zzyzxland' });

sub promise
{
	my ($name, $subdomain, $test, %settings) = @_;

	subtest $name => sub {
		my $loft = CobotLoft->open($t, $subdomain, %settings);

		$loft->change([1], %person);
		$loft->field([1], 'Zzyzx, Workshop');
		$loft->sync;
		$test->($loft, "$subdomain-01", id_of("$subdomain-01"));
		$cobot->clear_faults;
		is($t->grants_differ, 0, 'the grants equal their definition');
		is(traces(), '', 'no trace is left');
	};
	return;
}

sub id_of { return $t->sql("SELECT id FROM smartspace.cobot_membership WHERE cobot_id = '$_[0]'"); }

sub erase { return $t->try("SELECT smartspace.cobot_erase_member($_[0])"); }

# The tables of the schema with a word of the person in them.
sub traces
{
	my @tables = split /\n/, $t->sql("SELECT relname FROM pg_class WHERE relnamespace = 'smartspace'::regnamespace AND relkind IN ('r', 'm') ORDER BY 1");

	return join ' ', grep { $t->sql("SELECT count(*) FROM smartspace.$_ x WHERE row_to_json(x)::text ~* 'zzyzx'") > 0 } @tables;
}

promise 'a token that may not read custom fields can still erase', fields => sub {
	my ($loft, $cobot_id, $id) = @_;

	$cobot->fault(match => { path => "/api/memberships/$cobot_id/custom_fields" }, times => 0, status => 403);
	is(erase($id)->{sqlstate}, '55000', 'an active member is not erased');
	$loft->change([1], canceled_to => 'today-1d');
	my $answer = erase($id);
	ok($answer->{ok}, 'Cobot says that the membership has ended: that is enough') or diag $answer->{err};
};

promise 'a removal that would be held is no active membership', held => sub {
	my ($loft, $cobot_id, $id) = @_;

	$loft->leave(1);
	my $answer = erase($id);
	is($answer->{sqlstate}, '55000', 'refused, since access would be taken');
	like($answer->{err}, qr/the removal of membership $id is for a person to decide.*HINT:  .*cobot_sync\(@{[ $loft->id ]}\), then smartspace\.cobot_release\(\)/s, '... with what to do');
	isnt(traces(), '', 'nothing is gone');
	my $run = $loft->sync;
	is($run->{result}, 'held', 'a synchronisation holds the removal');
	is($loft->release($run)->{members_removed}, 1, 'released');
	ok(erase($id)->{ok}, 'the data can go');
}, hold_removals_above => 0, hold_removals_above_percent => 0;

promise 'what is told in refusals, problems and held changes goes, too', bad => sub {
	my ($loft, $cobot_id, $id) = @_;

	$t->sql("ALTER TABLE smartspace.cobot_membership ADD CONSTRAINT no_zzyzx CHECK (phone NOT LIKE '%666%')");
	$loft->change([1], phone => '666 zzyzx');
	$loft->sync;
	$cobot->put_member('bad', $cobot_id, { %{ $cobot->member('bad', $cobot_id) }, name => { zzyzx => 1 } });
	$loft->sync;
	isnt($t->sql("SELECT count(*) FROM smartspace.cobot_record_problem WHERE cobot_id = '$cobot_id'"), 0, 'given: problems of this person');
	$loft->leave(1);
	ok(erase($id)->{ok}, 'erased');
	is($t->sql("SELECT count(*) FROM smartspace.cobot_record_problem WHERE cobot_id = '$cobot_id'"), 0, 'the problems are gone');
	is($t->sql("SELECT count(*) FROM smartspace.cobot_sync_change WHERE membership_id = $id AND (before, after, detail) IS DISTINCT FROM (NULL, NULL, NULL)"), 0, 'changes tell nothing of what was');
	cmp_ok($t->sql("SELECT count(*) FROM smartspace.cobot_sync_change WHERE membership_id = $id"), '>=', 3, '... and are there');
	$t->sql('ALTER TABLE smartspace.cobot_membership DROP CONSTRAINT no_zzyzx');
};

promise 'who is erased stays so, whatever asks about them', erased => sub {
	my ($loft, $cobot_id, $id) = @_;

	$loft->change([1], canceled_to => 'today-1d');
	ok(erase($id)->{ok}, 'given: erased, and Cobot still has the record');
	my $row = "SELECT xmin, ctid, * FROM smartspace.cobot_membership WHERE id = $id";
	my $before = $t->sql($row);
	my $record = $json->encode($cobot->member('erased', $cobot_id));
	foreach my $ask ("cobot_sync_member($id)", "cobot_sync_member('$cobot_id')", "cobot_sync(@{[ $loft->id ]}, true)", "cobot_webhook(@{[ $loft->id ]}, 'created_membership', '{\"url\": \"https://erased.cobot.me/api/memberships/$cobot_id\"}')",
		"cobot_ingest(@{[ $loft->id ]}, '[]', evidence => \$j\${\"$cobot_id\": $record}\$j\$)", "cobot_ingest(@{[ $loft->id ]}, \$j\$[$record]\$j\$)", "cobot_ingest(@{[ $loft->id ]}, \$j\$[$record]\$j\$, complete => true)")
	{
		$t->sql("UPDATE smartspace.cobot_sync_run SET started_at = started_at - interval '1 minute'");    # so that a hint is due
		my $answer = $t->try("SELECT smartspace.$ask");
		unlike($answer->{out}, qr/^(?:pending|ignored)/, 'asked') if $ask =~ /webhook/;
		is(traces(), '', substr($ask, 0, 60)) or diag $answer->{err};
	}
	is($t->sql($row), $before, 'the row was not touched');
	is($t->try("SELECT smartspace.cobot_sync_member('xenia\@zzyzx.example', @{[ $loft->id ]})")->{sqlstate}, '42704', 'nobody here is called so');
	$loft->change([1], canceled_to => undef);
	$loft->sync;
	is($t->sql("SELECT id, name, erased_at IS NULL, departed_at IS NULL FROM smartspace.cobot_membership WHERE cobot_id = '$cobot_id'"), "$id|Xenia Zzyzx|t|t", 'active again in Cobot, the same row has a name');
	is($t->groups_of($cobot_id), 'Workshop (individual), erased door (plan)', '... and its access');
	is(erase($id)->{sqlstate}, '55000', '... and is not erased while it is active');
	$loft->leave(1);
	ok(erase($id)->{ok}, 'until it is gone');
};

promise 'while another run is under way nothing is erased', waits => sub {
	my ($loft, $cobot_id, $id) = @_;

	$loft->leave(1);
	my $other = $t->node->background_psql('postgres');
	$other->query_safe("BEGIN; SELECT count(*) FROM smartspace.cobot_preview(@{[ $loft->id ]})");
	my $answer = erase($id);
	is($answer->{sqlstate}, '55P03', 'refused');
	like($answer->{err}, qr/a synchronisation of "waits" is under way.*HINT:  Try again/s, '... and why');
	isnt(traces(), '', 'nothing is gone');
	$other->quit;
	ok(erase($id)->{ok}, 'then it works');
};

promise 'in a copy the mirror decides, and nobody is asked', foreign => sub {
	my ($loft, $cobot_id, $id) = @_;

	$t->sql("UPDATE smartspace.cobot_integration SET armed_system = 1 WHERE id = @{[ $loft->id ]}");
	$cobot->clear_log;
	is(erase($id)->{sqlstate}, '55000', 'a member as far as is known');
	$t->sql("UPDATE smartspace.cobot_membership SET canceled_to = current_date - 1 WHERE id = $id");
	ok(erase($id)->{ok}, 'an end that is over');
	is(scalar(() = $cobot->log), 0, 'nothing was sent');
};

promise 'erasing takes what was given by hand, and tells others once', single => sub {
	my ($loft, $cobot_id, $id) = @_;
	my $roof = $t->group('single roof');

	$t->sql("SELECT smartspace.cobot_grant($id, $roof, NULL, now() + interval '1 year', 'zzyzx repairs it'); SELECT smartspace.cobot_grant(@{[ id_of('single-02') ]}, $roof, reason => 'helps')");
	$loft->change([1], canceled_to => 'today-1d');
	$loft->sync;
	my $position = $t->sql('SELECT smartspace.access_position()');
	ok(erase($id)->{ok}, 'erased');
	is($t->sql("SELECT string_agg(action || ' ' || source || ' ' || membership_id, ', ') FROM smartspace.access_changes($position) WHERE membership_id = $id"), "taken manual $id", 'the journal has the grant by hand, and nothing twice');
	is($t->groups_of('single-02'), 'single door (plan), single roof (manual)', 'others keep what they have');
	is($t->sql("SELECT (cobot_id, parent_plan_id) = ('$cobot_id', 'single-desk') AND confirmed_at IS NOT NULL AND starts_at IS NOT NULL AND canceled_to IS NOT NULL AND departed_at IS NOT NULL AND erased_at IS NOT NULL FROM smartspace.cobot_membership WHERE id = $id"), 't', 'ids and dates stay');
	$position = $t->sql('SELECT smartspace.access_position()');
	ok(erase($id)->{ok} && $loft->sync, 'once more, and a run');
	is($t->sql("SELECT count(*) FROM smartspace.access_changes($position) WHERE membership_id = $id"), 0, 'change no access');
};

done_testing();
