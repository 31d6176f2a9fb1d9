# The key file goes away under a worker, or another one comes in its place: the worker asks
# Cobot nothing, deletes and overwrites nothing, neither turns in circles nor fills the log,
# and goes on by itself when the key is back.
use strict;
use warnings;

use CobotWorker;
use File::Temp;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

# --- given: two spaces whose tokens are sealed, and as many members as there are ways to lose a key ---
my $world = File::Temp->new;
print $world encode_json({
	users => [ { id => 'admin', email => 'admin@example.com', admin_of => [ 'loft', 'quay' ] } ],
	tokens => [ { token => 'admin-token', user => 'admin' } ],
	spaces => [ map { my $space = $_; {
		subdomain => $space, plans => [ { id => 'full', name => 'Full Time' } ],
		memberships => [ map { { id => "$space-$_", name => "Member $_", confirmed_at => '2020/01/01 00:00:00 +0000', plan => { parent_plan => { id => 'full' } } } } 1 .. 9 ]
	} } qw(loft quay) ] });
$world->flush;
chmod 0644, $world->filename;

my $keys = PostgreSQL::Test::Utils::tempdir();
my $key_file = "$keys/keys";
my %key = (right => 'k1 ' . '5a' x 32 . "\n", wrong => 'k1 ' . 'a5' x 32 . "\n", other => 'k2 ' . 'a5' x 32 . "\n");

sub write_key
{
	my ($content) = @_;

	chmod 0600, $key_file;
	open my $out, '>', $key_file or die "$key_file: $!";
	print $out $content;
	close $out or die "$key_file: $!";
	chmod 0600, $key_file;
	return;
}
write_key($key{right});

my $t = CobotWorker->new(state => $world->filename, linger => 1, conf => <<"CONF");
log_statement = none
log_min_messages = info
smartspace_cobot.key_file = '$key_file'
smartspace_cobot.checkin_settle_time = '100ms'
CONF
my $cobot = $t->cobot;
my %space = map { $_ => $t->connect_space($_) } qw(loft quay);
$t->wait_for_run($_) foreach values %space;
my $building = $t->sql("INSERT INTO smartspace.building (integration_id, name) VALUES ($space{loft}, 'Front door') RETURNING id");
is($t->sql("SELECT bool_and(token ~ '^sealed:1:k1:') FROM smartspace.cobot_secret"), 't', '(the tokens are sealed)');

# What must not change: secrets to the row's version, members, states.
sub everything
{
	return join "\n", map { $t->sql("SELECT $_") } 's.xmin, s.* FROM smartspace.cobot_secret s ORDER BY 2',
		'id, state, state_reason, connected_at FROM smartspace.cobot_integration ORDER BY id',
		'm.xmin, m.* FROM smartspace.cobot_membership m ORDER BY m.id', 'max(id) FROM smartspace.cobot_sync_run';
}

sub make_due
{
	return $t->sql("UPDATE smartspace.cobot_sync_task SET due_at = now(), requested_at = now(); UPDATE smartspace.cobot_checkin SET next_attempt_at = now() WHERE state = 'queued';"
		  . ' SELECT smartspace.cobot_wake_worker()');
}

sub statuses { return $t->sql("SELECT string_agg(concat_ws(' ', state, reason), ', ' ORDER BY integration_id) FROM smartspace.cobot_status"); }

# All there is to do was looked at, and nothing is to be done again soon.
sub all_is_put_off
{
	return $t->sql("SELECT (SELECT bool_and(due_at > now() + interval '20 s') FROM smartspace.cobot_sync_task)"
		  . " AND (SELECT bool_and(reason IN ('key_missing', 'secret_unreadable') AND next_attempt_at > now() + interval '10 s') FROM smartspace.cobot_checkin WHERE state = 'queued')") eq 't';
}

my $member = 0;

# Of each way to lose it: what is done, what the status says then, and what brings it back.
sub is_survived
{
	my ($name, $reason, $lose, $restore, %options) = @_;

	subtest $name => sub {
		$t->wait_for_no_worker;
		my $before = everything();
		my $last = $t->sql('SELECT max(id) FROM smartspace.cobot_sync_run');

		$lose->();
		$cobot->clear_log;
		$t->mark_log;
		$member++;
		$t->sql("INSERT INTO smartspace.building_entry (membership_id, building_id) SELECT m.id, $building FROM smartspace.cobot_membership m WHERE m.cobot_id = 'loft-$member'");
		$t->sql("SELECT smartspace.cobot_webhook($space{loft}, 'updated_membership', '{\"url\": \"https://loft.cobot.me/api/memberships/loft-$member\"}')");
		make_due();
		$t->wait_until(sub { all_is_put_off() }, 'the worker has looked at all of it');
		$t->wait_for_no_worker;
		if ($options{restart})
		{
			$t->node->restart;
			$t->mark_log;
			make_due();
			$t->wait_until(sub { all_is_put_off() }, 'the worker of the new server has looked at all of it');
			$t->wait_for_no_worker;
		}
		is(statuses(), "degraded $reason, degraded $reason", 'the status says so of both');
		like($t->sql('SELECT string_agg(summary, E\'\n\') FROM smartspace.cobot_status'), qr/(.*Cobot is asked nothing, because the token cannot be read.*\n?){2}/, '... in words');
		is(everything(), $before, 'nothing was deleted, written over or recorded as failed');
		is(scalar(() = $cobot->log), 0, 'Cobot was asked nothing');

		# a worker that would come at once would come within this time
		my $busy = 0;
		for (1 .. 15) { $busy++ if $t->worker; sleep 0.1; }
		is($busy, 0, 'the worker does not come back again and again');
		is($t->logged(qr/(?:ERROR|WARNING|FATAL|PANIC):/), 0, 'it does not fill the log');

		$restore->();
		make_due();
		$t->wait_until(sub { $t->sql("SELECT count(DISTINCT integration_id) FROM smartspace.cobot_sync_run WHERE id > $last AND result LIKE 'ok%'") eq '2' }, 'both are synchronised');
		$t->wait_until(sub { $t->sql("SELECT count(*) FROM smartspace.cobot_checkin WHERE state = 'queued'") eq '0' }, 'the check-in is made');
		is(statuses(), 'connected, connected', 'with the key back all is well');
		is($t->sql("SELECT state FROM smartspace.cobot_checkin ORDER BY id DESC LIMIT 1"), 'done', 'the check-in was made');
		is($t->sql("SELECT count(*) FROM smartspace.cobot_pending_hints($space{loft})"), '0', 'and the webhook seen to');
		is($t->sql('SELECT max(attempts) FROM smartspace.cobot_sync_task'), '0', 'nothing counts as broken off');
	};
	return;
}

sub setting_is
{
	my ($file) = @_;

	$t->node->append_conf('postgresql.conf', "smartspace_cobot.key_file = '$file'");
	$t->node->reload;
	return $t->wait_until(sub { $t->sql('SHOW smartspace_cobot.key_file') eq $file }, 'the setting is in use');
}

my $right = sub { write_key($key{right}); };
is_survived('removed', 'key_missing', sub { rename $key_file, "$key_file.away" }, sub { rename "$key_file.away", $key_file });
is_survived('replaced_by_another_of_that_name', 'secret_unreadable', sub { write_key($key{wrong}) }, $right);
is_survived('old_key_removed_too_early', 'key_missing', sub { write_key($key{other}) }, $right);
is_survived('unreadable', 'key_missing', sub { chmod 0000, $key_file }, sub { chmod 0600, $key_file });
is_survived('cut', 'key_missing', sub { write_key(substr $key{right}, 0, 40) }, $right);
is_survived('setting_taken_away', 'key_missing', sub { setting_is('') }, sub { setting_is($key_file) });
is_survived('removed_and_restarted', 'key_missing', sub { rename $key_file, "$key_file.away" }, sub { rename "$key_file.away", $key_file }, restart => 1);

# --- in the middle of a run ---
$t->wait_for_no_worker;
my $before = $t->last_run($space{loft});
$t->stall($space{loft}, 'loft', delay_ms => 3000);
rename $key_file, "$key_file.away";
$t->mark_log;
$t->wait_until(sub { !$t->rows('SELECT FROM smartspace.cobot_sync_progress') }, 'the run ends');
$t->wait_for_no_worker;
is($t->last_run($space{loft})->{id}, $before->{id}, 'lost_in_the_middle: the run is given up and recorded as nothing');
is($t->task($space{loft})->{last_error}, undef, '... nor as an error');
is($t->logged(qr/ERROR|WARNING/), 0, '... nor in the log');
like(statuses(), qr/^degraded key_missing/, '... and the status says why');
$cobot->clear_faults;
rename "$key_file.away", $key_file;
make_due();
like($t->wait_for_run($space{loft}, $before->{id})->{result}, qr/^ok/, '... it is made again with the key');

# --- another key on purpose, while the worker synchronises ---
write_key($key{other} . $key{right});
$t->stall($space{loft}, 'loft', delay_ms => 2000);
my $last = $t->last_run($space{loft})->{id};
is($t->sql('SELECT * FROM smartspace.cobot_seal_secrets()'), '0|2|0|0|0', 'rotation_during_a_run');
write_key($key{other});
$t->wait_for_run($space{loft}, $last);
like($t->last_run($space{loft})->{result}, qr/^ok/, '... does it no harm');
is(statuses(), 'connected, connected', '... and all is well without the old key');

done_testing();
