# Where Cobot gives entity tags, the worker asks whether something has changed: nothing is
# sent and nothing compared twice, and no change is missed for it.
use strict;
use warnings;

use CobotMirror;
use CobotTest;
use Test::More;

my $t = CobotTest->new(members => 30, conf => <<'CONF');
shared_preload_libraries = 'smartspace_cobot'
smartspace_cobot.databases = 'postgres'
CONF
my $cobot = $t->cobot;
my @lists = qw(/api/memberships /api/plans /api/spaces/demo-space /api/space/custom_fields /api/custom_fields);

$cobot->settings(etag => 1, rate_limit => 0);
my $space = $t->connect_space('demo-space');

# The next run of the worker; with its requests as "path status", in order of the path.
sub next_run
{
	my ($before) = $t->sql('SELECT coalesce(max(id), 0) FROM smartspace.cobot_sync_run');

	$cobot->clear_log;
	$t->sql("SELECT smartspace.cobot_request_sync($space)");
	$t->wait_until(sub { $t->sql("SELECT count(*) FROM smartspace.cobot_sync_run WHERE id > $before") }, 'a run of the worker');
	return {
		%{ $t->row("SELECT * FROM smartspace.cobot_sync_run WHERE id > $before") },
		asked => join(', ', map { "$_->{path} $_->{status}" } sort { $a->{path} cmp $b->{path} || $a->{n} <=> $b->{n} } $cobot->log)
	};
}

my $unchanged = join ', ', map { "$_ 304" } sort @lists;

$t->wait_until(sub { $t->sql(q{SELECT count(*) FROM smartspace.cobot_sync_run WHERE run_by = 'worker'}) }, 'the first run');
my $run = next_run();
is($run->{asked}, $unchanged, 'every list is asked for with its tag');
like($run->{message}, qr/^nothing changed, says Cobot; 5 requests/, 'the run says so');
is("$run->{result} $run->{members_seen}", 'ok_with_problems 30', '... and is a good one, of as many members as before');
is($t->sql("SELECT freshness FROM smartspace.cobot_status"), 'fresh', 'the integration is fresh by it');

my @members = map { $_->{cobot_id} } $t->rows('SELECT cobot_id FROM smartspace.cobot_membership WHERE departed_at IS NULL ORDER BY id');
$cobot->patch_member('demo-space', $members[0], name => 'Grace Hopper');
$run = next_run();
like($run->{asked}, qr{^/api/custom_fields 304, /api/custom_fields 200, /api/memberships 200, /api/plans 304, /api/plans 200,}, 'where one list has changed, the others are asked for again in full');
is($run->{members_changed}, 1, 'the change is taken');
is(mirror_differs($t, $space, 'demo-space'), '', 'the mirror equals Cobot');
is(next_run()->{asked}, $unchanged, 'and then there is nothing new');

# whatever else may have changed the mirror meanwhile
$t->sync($space);
is(next_run()->{asked}, join(', ', map { "$_ 200" } sort @lists), 'after a run by hand everything is asked for in full');
next_run();
$t->sql("UPDATE smartspace.cobot_integration SET sync_individual_access = false");
is(next_run()->{asked}, join(', ', map { "$_ 200" } sort grep { !/custom/ } @lists), 'a switch makes the tags worthless');
is(next_run()->{asked}, join(', ', map { "$_ 304" } sort grep { !/custom/ } @lists), 'and new ones are kept');

# a run that took nothing is no ground to say that nothing has changed
$cobot->delete_member('demo-space', $_) foreach @members[ 0 .. 9 ];
is(next_run()->{result}, 'held', 'ten of thirty are gone, which is held');
like(next_run()->{asked}, qr{/api/memberships 200}, 'while something is held, nothing is taken for unchanged');

# a server without tags
$cobot->settings(etag => 0);
$t->sql('SELECT smartspace.cobot_release((SELECT held_run FROM smartspace.cobot_status))');
next_run();
is(next_run()->{asked}, join(', ', map { "$_ 200" } sort grep { !/custom/ } @lists), 'without tags everything is asked for');
is(mirror_differs($t, $space, 'demo-space'), '', 'the mirror equals Cobot');
done_testing;
