# Rotation and whoever stores or reads secrets at the same time: no secret is left behind with
# a key that is going, none is lost, nobody waits who only reads, and a rotation that is cut
# off has changed nothing.
use strict;
use warnings;

use CobotTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $keys = PostgreSQL::Test::Utils::tempdir();
my $key_file = "$keys/keys";
my %key = map { $_ => "$_ " . (sprintf '%02x', ord substr $_, 1) x 32 . "\n" } qw(k1 k2 k3);

sub keys_are
{
	open my $out, '>', "$key_file.new" or die "$key_file: $!";
	print $out @key{@_};
	close $out or die "$key_file: $!";
	chmod 0600, "$key_file.new";
	rename "$key_file.new", $key_file or die "$key_file: $!";
	return;
}
keys_are('k1');

my $t = CobotTest->new(members => 5, conf => "smartspace_cobot.key_file = '$key_file'\nlog_min_messages = info");
my $node = $t->node;
my $space = $t->connect_space('demo-space');
$t->sql("SELECT smartspace.cobot_create_integration('Space ' || n, 'space-' || n, 'client', 'secret-of-' || n) FROM generate_series(1, 200) n");
$t->sql("SELECT smartspace.cobot_create_mobile_app('App', 'client', 'secret-of-the-app', '{smartspace://login}')");
my $total = 202;

# Which keys the secrets are sealed with: "k1 202".
sub in_use
{
	return $t->sql("SELECT string_agg(key || ' ' || count, ', ' ORDER BY key) FROM (SELECT split_part(stored, ':', 3) AS key, count(*) FROM ("
		  . 'SELECT unnest(ARRAY[token, client_secret]) FROM smartspace.cobot_secret UNION ALL SELECT client_secret FROM smartspace.mobile_app_secret) s (stored)'
		  . ' WHERE stored IS NOT NULL GROUP BY 1) c');
}

sub seal_counts { return $t->sql('SELECT * FROM smartspace.cobot_seal_secrets()'); }

# A statement in a session of its own, which goes on while the test does. Its answer stands in the session.
sub begin
{
	my ($session, $statement) = @_;

	$session->query_until(qr/begun/, "\\echo begun\n$statement;\n");
	return;
}

sub waits { return $t->sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND pid <> pg_backend_pid()"); }

my ($one, $other) = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 2;
is(in_use(), "k1 $total", '(all are sealed)');

# --- who stores one comes first ---
$one->query_safe("BEGIN; SELECT smartspace.cobot_create_integration('Late', 'late', 'client', 'late-secret')");
$total++;
keys_are('k2', 'k1');
begin($other, 'SELECT * FROM smartspace.cobot_seal_secrets()');
$t->wait_until(sub { waits() eq '1' }, 'the rotation waits');
is($t->sql("SELECT count(*) FROM smartspace.cobot_secret_problems($space)"), '0', 'who reads waits for nobody');
like($t->sync($space)->{result}, qr/^ok/, '... and synchronises meanwhile');
$one->query_safe('COMMIT');
like($other->query_safe('SELECT 1'), qr/0\|$total\|0\|0\|0/, 'a_secret_that_is_being_stored_is_not_left_behind');
is(in_use(), "k2 $total", '... nor is any');
keys_are('k2');
is(seal_counts(), "0|0|0|$total|0", '... so the old key can go');

# --- the rotation comes first ---
keys_are('k1', 'k2');
$one->query_safe('BEGIN; SELECT * FROM smartspace.cobot_seal_secrets()');
is(in_use(), "k2 $total", '(not committed yet)');
like($t->sync($space)->{result}, qr/^ok/, 'who reads waits for nobody, again');
begin($other, "SELECT smartspace.cobot_set_client_secret($space, 'stored-meanwhile')");
$total++;
$t->wait_until(sub { waits() eq '1' }, 'who stores one waits');
keys_are('k3', 'k1');
$one->query_safe('COMMIT');
$other->query_safe('SELECT 1');
is(in_use(), 'k1 ' . ($total - 1) . ', k3 1', 'a_secret_that_waited_is_sealed_with_the_key_that_counts_then');
keys_are('k1', 'k3');
is(seal_counts(), '0|1|0|' . ($total - 1) . '|0', '(all with one key)');

# --- two at once ---
keys_are('k2', 'k1');
$one->query_safe('BEGIN; SELECT * FROM smartspace.cobot_seal_secrets()');
begin($other, 'SELECT * FROM smartspace.cobot_seal_secrets()');
$t->wait_until(sub { waits() eq '1' }, 'the second one waits');
$one->query_safe('COMMIT');
like($other->query_safe('SELECT 1'), qr/0\|0\|0\|$total\|0/, 'the second of two rotations finds nothing to do');
is(in_use(), "k2 $total", '... and all is well');

# --- cut off ---
my $before = $t->sql('SELECT xmin, s.* FROM smartspace.cobot_secret s ORDER BY 2');
keys_are('k3', 'k2');
$one->query_safe('BEGIN; SELECT * FROM smartspace.cobot_seal_secrets()');
$one->query_safe('ROLLBACK');
is($t->sql('SELECT xmin, s.* FROM smartspace.cobot_secret s ORDER BY 2'), $before, 'a_rotation_that_is_rolled_back_has_changed_nothing');
$one->query_safe('BEGIN; SELECT * FROM smartspace.cobot_seal_secrets()');
$one->query_until(qr/begun/, "\\echo begun\n");
$node->stop('immediate');
$node->start;
is($t->sql('SELECT xmin, s.* FROM smartspace.cobot_secret s ORDER BY 2'), $before, 'nor one that the server crashed in');
like($t->sync($space)->{result}, qr/^ok/, '... and the secrets are read as before');
is(seal_counts(), "0|$total|0|0|0", '... and the next one does it');

# --- some cannot be read: the others are sealed all the same, and a second time is as good ---
$t->sql("SELECT smartspace.cobot_set_client_secret($space, 'sealed-with-k3')");
keys_are('k1');
$t->sql("SELECT smartspace.cobot_set_client_secret($space, 'sealed-with-k1')");
keys_are('k2', 'k1');
my $counts = $t->try('SELECT * FROM smartspace.cobot_seal_secrets()');
is($counts->{out}, '0|1|0|0|' . ($total - 1), 'old_key_removed_too_early: what can be read is sealed');
is(scalar(() = $counts->{err} =~ /WARNING: .* cannot be read and stays as it is/g), $total - 1, '... and each of the others is told');
keys_are('k2', 'k3');
is(seal_counts(), '0|' . ($total - 1) . '|0|1|0', '... with the old key back, they are sealed as well');
like($t->sync($space)->{result}, qr/^ok/, '... and work');

# --- where it cannot see everything ---
foreach my $level ('REPEATABLE READ', 'SERIALIZABLE')
{
	my $refused = $t->try("BEGIN ISOLATION LEVEL $level; SELECT smartspace.cobot_seal_secrets()");

	is($refused->{sqlstate}, '25001', "refused in a transaction that is $level");
	like($refused->{err}, qr/DETAIL:  It would not see what others stored since it began\./, '... and says why');
}

# --- statistics, which nobody rewrites with the table ---
$t->sql("SELECT smartspace.cobot_set_client_secret(id, 'the-same-for-all') FROM smartspace.cobot_integration; SELECT smartspace.cobot_login_url(1, 'smartspace://login') FROM generate_series(1, 5)");
$t->sql('CREATE TABLE control AS SELECT client_secret FROM smartspace.cobot_secret; ANALYZE');
is($t->sql("SELECT count(*) FROM pg_stats WHERE tablename = 'control'"), '1', '(statistics have what is in a table)');
is($t->sql("SELECT string_agg(tablename || '.' || attname, ' ' ORDER BY 1) FROM pg_stats WHERE schemaname = 'smartspace' AND attname IN ('token', 'client_secret', 'verifier')"), '',
	'ANALYZE copies no secret');
like($t->sql("SELECT string_agg(attname, ' ') FROM pg_stats WHERE tablename = 'cobot_secret'"), qr/integration_id/, '... though it looks at the table');

$_->quit foreach grep { defined } $other;
done_testing();
