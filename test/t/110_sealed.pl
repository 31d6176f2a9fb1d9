# With a key file, tokens and client secrets are sealed wherever the server keeps them: in
# the table's file, in the WAL, in a dump of the table. A key that is missing or wrong is a
# clear state that loses nothing and ends by itself. Secrets can be handed over in files.
use strict;
use warnings;

use CobotTest;
use File::Find;
use File::Temp;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

# --- given ---
my %token = (admin => 'adminToken5a3c8e1f9b7d2046', other => 'otherToken0f1e2d3c4b5a6978');
my %key = (k1 => '0f' x 16 . 'a1' x 16, k2 => '37' x 20 . 'b2' x 12, wrong => '4e' x 16 . 'c3' x 16);
my %client_secret = (loft => 'loftClientSecret8372615', quay => 'quayClientSecret5546372', file => 'fileClientSecret9910283', app => 'appClientSecret3365178');

my $world = File::Temp->new;
print $world encode_json({
	users => [ { id => 'admin', email => 'admin@example.com', admin_of => [ 'loft', 'quay' ] } ],
	tokens => [ map { { token => $_, user => 'admin' } } values %token ],
	spaces => [ map { {
		subdomain => $_, plans => [ { id => 'full', name => 'Full Time' } ],
		memberships => [ { id => "ada-$_", name => 'Ada', confirmed_at => '2020/01/01 00:00:00 +0000', plan => { parent_plan => { id => 'full' } } } ]
	} } qw(loft quay) ] });
$world->flush;
chmod 0644, $world->filename;

my $t = CobotTest->new(state => $world->filename, conf => LOUD . <<'CONF');
wal_recycle = off
CONF
my $cobot = $t->cobot;
my $node = $t->node;
my $keys = PostgreSQL::Test::Utils::tempdir();
my $key_file = "$keys/keys";

sub write_file
{
	my ($file, $content, $mode) = @_;

	unlink $file;
	open my $out, '>', $file or die "$file: $!";
	print $out $content;
	close $out or die "$file: $!";
	chmod $mode // 0600, $file;
	return $file;
}

# The key file with these keys, the current one first; as name or name:bytes of another.
sub keys_are
{
	return write_file($key_file, "# keys\n" . join '', map { my ($id, $bytes) = split /:/; "$id $key{$bytes // $id}\n" } @_);
}

# Changes the setting in the running server.
sub key_file_is
{
	my ($file) = @_;

	$node->append_conf('postgresql.conf', "smartspace_cobot.key_file = '$file'");
	$node->reload;
	$t->wait_until(sub { $t->sql('SHOW smartspace_cobot.key_file') eq $file }, 'the setting is in use');
	return;
}

sub stored { return $t->sql("SELECT $_[1] FROM smartspace.cobot_secret WHERE integration_id = $_[0]"); }

sub seal_counts { return $t->sql('SELECT * FROM smartspace.cobot_seal_secrets(' . ($_[0] // '') . ')'); }

sub status_of { return $t->sql("SELECT state || ' ' || coalesce(reason, 'well') FROM smartspace.cobot_status WHERE integration_id = $_[0]"); }

sub app_problems { return $t->sql("SELECT coalesce(string_agg(concat_ws(' ', integration_id, subject, problem, detail, advice), ' '), '') FROM smartspace.cobot_problem WHERE subject ~ '^mobile app'"); }

sub problems_of { return $t->sql("SELECT coalesce(string_agg(problem || ': ' || detail, ' ' ORDER BY detail), '') FROM smartspace.cobot_problem WHERE integration_id = $_[0] AND problem IN ('key_missing', 'secret_unreadable')"); }

# The tokens that requests were made with.
sub tokens_used { my %seen = map { $_->{token} => 1 } grep { $_->{token} } $cobot->log; return sort keys %seen; }

# Synchronises, and gives the token that Cobot saw.
sub token_of
{
	my ($space) = @_;

	$cobot->clear_log;
	like($t->sync($space)->{result}, qr/^ok/, '(it synchronises)');
	return join ' ', tokens_used();
}

# Is refused before Cobot is asked, with this in the DETAIL.
sub refused
{
	my ($name, $statement, $detail) = @_;

	subtest $name => sub {
		$cobot->clear_log;
		my $answer = $t->try($statement);
		is($answer->{sqlstate}, '55000', 'it is an error of class 55000');
		like($answer->{err}, $detail, 'it says why');
		like($answer->{err}, qr/HINT:/, 'and what to do');
		unlike($answer->{err}, qr/\Q$keys\E/, 'not where the key file is');
		is(scalar(grep { 1 } $cobot->log), 0, 'Cobot was not asked');
	};
	return;
}

# --- without a key file ---
my $loft = $t->sql("SELECT smartspace.cobot_create_integration('Loft', 'loft', 'client', '$client_secret{loft}')");
my $quay = $t->sql("SELECT smartspace.cobot_create_integration('Quay', 'quay', 'client')");
$t->sql("SELECT smartspace.cobot_connect_token($loft, '$token{admin}')");
my $app = $t->sql("SELECT smartspace.cobot_create_mobile_app('Door app', 'mobile', '$client_secret{app}', '{smartspace://login}')");
my $loft_token = token_of($loft);
is(stored($loft, 'token'), $loft_token, 'without_a_key_file_secrets_stand_as_they_are');
is(stored($loft, 'client_secret'), $client_secret{loft}, '... the client secret as well');
is($t->try('SELECT smartspace.cobot_seal_secrets()')->{sqlstate}, '55000', 'nothing can be sealed without a key');
is($t->try("SELECT smartspace.cobot_set_client_secret($loft, 'sealed:1:k1:00')")->{sqlstate}, '22023', 'what looks sealed is no secret');
is($t->try("SELECT smartspace.cobot_set_client_secret($loft, repeat('x', 4097))")->{sqlstate}, '22023', 'nor is what is too long');
is($t->try("SELECT smartspace.cobot_set_client_secret($loft, '')")->{sqlstate}, '22023', 'nor nothing');
is(stored($loft, 'client_secret'), $client_secret{loft}, 'the one before stays');

# --- the setting ---
my $data_dir = $node->data_dir;
foreach my $path ('keys', '../keys', "$data_dir/keys", "$data_dir/../" . ($data_dir =~ s{.*/}{}r) . '/keys')
{
	is($t->try("SELECT smartspace.cobot_library_version(); ALTER SYSTEM SET smartspace_cobot.key_file = '$path'")->{sqlstate}, '22023', "setting_is_refused: $path");
}
is($t->try("SELECT smartspace.cobot_library_version(); SET smartspace_cobot.key_file = '$key_file'")->{sqlstate}, '55P02', 'one session cannot have a key file of its own');

# --- from unsealed to sealed ---
keys_are('k1');
key_file_is($key_file);
is(token_of($loft), $loft_token, 'secrets_from_before_are_still_read');
$t->sql("CREATE ROLE guest; GRANT USAGE ON SCHEMA smartspace TO guest; GRANT EXECUTE ON FUNCTION smartspace.cobot_library_version() TO guest");
is($t->try("SET ROLE guest; SELECT smartspace.cobot_library_version(); SHOW smartspace_cobot.key_file")->{sqlstate}, '42501', 'only superusers see where the key file is');
is($t->try('SET ROLE guest; SELECT smartspace.cobot_seal_secrets(true)')->{sqlstate}, '42501', 'nobody else may unseal');

my $answer = $t->try('SELECT * FROM smartspace.cobot_seal_secrets()');
is($answer->{out}, '3|0|0|0|0', 'sealing_covers_what_was_stored_before');
like($answer->{err}, qr/NOTICE.*HINT:  Run VACUUM FULL/s, 'and says what is left to do');
like(stored($loft, $_), qr/^sealed:1:k1:[0-9a-f]+$/, "the $_ is sealed") foreach qw(token client_secret);
like($t->sql('SELECT client_secret FROM smartspace.mobile_app_secret'), qr/^sealed:1:k1:[0-9a-f]+$/, '... and that of the mobile app');
is(seal_counts(), '0|0|0|3|0', 'a second time there is nothing to do');
is(token_of($loft), $loft_token, 'it works as before');
is(status_of($loft), 'connected well', 'and all is well');

# --- sealed from the start; from here on no secret stands anywhere ---
$t->sql('VACUUM FULL smartspace.cobot_secret, smartspace.mobile_app_secret');
$t->sql('CHECKPOINT; SELECT pg_switch_wal()');
my $wal_from = $t->sql('SELECT pg_walfile_name(pg_current_wal_insert_lsn())');
$t->sql("SELECT smartspace.cobot_set_client_secret($quay, '$client_secret{quay}')");
$t->sql("SELECT smartspace.cobot_connect_token($quay, '$token{other}')");
my $quay_token = token_of($quay);
like($quay_token, qr/^\S+$/, '(the token is known from Cobot\'s log)');
isnt($quay_token, $token{other}, '(and belongs to the space)');
like(stored($quay, $_), qr/^sealed:1:k1:[0-9a-f]+$/, "$_: sealed_when_stored") foreach qw(token client_secret);
$t->sql('CHECKPOINT');

my @secrets = ($loft_token, $quay_token, values %token, values %client_secret, values %key);

# Files below a folder of the data directory that have one of these in them.
sub files_with
{
	my ($folder, $wanted, @texts) = @_;
	my (@found, $count);

	find(sub {
		return unless -f $_ && $wanted->($_);
		my $content = slurp_file($_);
		$count++;
		push @found, $File::Find::name if grep { index($content, $_) >= 0 } @texts;
	}, "$data_dir/$folder");
	cmp_ok($count, '>', 0, "(there are files in $folder)");
	return join ', ', @found;
}

my $everything = sub { return 1; };
isnt(files_with('base', $everything, 'sealed:1:k1:'), '', '(this test finds what is stored)');
is(files_with('base', $everything, @secrets), '', 'no_secret_is_in_the_tables_files');
isnt(files_with('pg_wal', sub { $_[0] ge $wal_from }, 'sealed:1:k1:'), '', '(it finds what was logged)');
is(files_with('pg_wal', sub { $_[0] ge $wal_from }, @secrets), '', 'no_secret_is_in_the_WAL');
my $dump = $node->safe_psql('postgres', 'COPY smartspace.cobot_secret TO STDOUT');
like($dump, qr/sealed:1:k1:/, '(the table can be copied)');
is(join(', ', grep { index($dump, $_) >= 0 } @secrets), '', 'not_even_a_copy_of_the_table_has_one');
$node->command_ok([ 'pg_dump', '-f', "$keys/dump", $node->connstr('postgres') ], '(a dump)');
is(join(', ', grep { index(slurp_file("$keys/dump"), $_) >= 0 } @secrets, 'sealed:1:'), '', 'and a dump has not even the sealed ones');

# --- rotation ---
keys_are('k2', 'k1');
is(token_of($loft), $loft_token, 'an_older_key_still_opens');
is(seal_counts(), '0|5|0|0|0', 'rotation_seals_everything_anew');
keys_are('k2');
is(token_of($loft), $loft_token, 'then the old key is not needed any more');
is(token_of($quay), $quay_token, '... by nobody');
like(stored($quay, 'token'), qr/^sealed:1:k2:/, '(the new key is in use)');

# --- the key is missing ---
sub is_lost_and_comes_back
{
	my ($name, $reason, $detail, $lose, $restore) = @_;

	subtest $name => sub {
		my $secrets = 'SELECT xmin, s.* FROM smartspace.cobot_secret s ORDER BY 2; SELECT xmin, s.* FROM smartspace.mobile_app_secret s';
		my $before = $t->sql($secrets);
		my $states = $t->sql('SELECT id, state, state_reason FROM smartspace.cobot_integration ORDER BY id');

		$lose->();
		refused('cobot_sync', "SELECT smartspace.cobot_sync($loft)", $detail);
		refused('cobot_preview', "SELECT * FROM smartspace.cobot_preview($loft)", $detail);
		refused('cobot_login_url', "SELECT smartspace.cobot_login_url($app, 'smartspace://login')", $detail);
		refused('cobot_request_sync', "SELECT smartspace.cobot_request_sync($loft)", $detail);
		like($t->sql("SELECT smartspace.cobot_webhook($loft, 'confirmed_membership', '{\"url\": \"https://loft.cobot.me/api/memberships/ada-loft\"}')"),
			qr/^pending: .*$detail/, 'a webhook is kept');
		is(status_of($loft), "degraded $reason", 'the status says so');
		like($t->sql("SELECT summary FROM smartspace.cobot_status WHERE integration_id = $loft"), qr/Cobot is asked nothing, because the token cannot be read/, '... in words');
		like(problems_of($loft), $detail, 'so do the problems');
		like(problems_of($loft), qr/^$reason: The client secret .* $reason: The token /, '... for both secrets');
		unlike(problems_of($loft), qr/\Q$keys\E/, '... and not where the key file is');
		like(app_problems(), qr/^mobile app Door app $reason The client secret cannot be read\. .*$detail.* store it again with cobot_set_mobile_app_client\($app, /, '... also for the mobile app, which no integration has');
		my $counts = $t->try('SELECT * FROM smartspace.cobot_seal_secrets(true)');
		like($counts->{out}, qr/^0\|0\|0\|0\|5$/, 'unsealing is in vain');
		like($counts->{err}, qr/WARNING: .*cannot be read and stays as it is/, '... and says so');

		$t->sql("UPDATE smartspace.cobot_sync_task SET due_at = now(); SELECT smartspace.cobot_run_due()");
		is($t->sql('SELECT bool_and(due_at BETWEEN now() + interval \'30 seconds\' AND now() + interval \'7 minutes\' AND attempts = 0) FROM smartspace.cobot_sync_task'), 't',
			'what is due by itself waits for some minutes, and not for ever');

		is($t->sql($secrets), $before, 'nothing of the secrets was touched');
		is($t->sql('SELECT id, state, state_reason FROM smartspace.cobot_integration ORDER BY id'), $states, 'nor of the integrations');
		$restore->();
		is(token_of($loft), $loft_token, 'with the key back, it works again');
		is(status_of($loft), 'connected well', 'and the status says so');
		is(problems_of($loft) . app_problems(), '', 'and there is no problem');
		like($t->sql("SELECT smartspace.cobot_login_url($app, 'smartspace://login')"), qr/^https:/, 'and people log in again');
		is($t->sql("SELECT count(*) FROM smartspace.cobot_pending_hints($loft)"), '0', 'and the webhook is settled');
		$t->sql("UPDATE smartspace.cobot_sync_task SET due_at = now()");
		like($t->sql('SELECT smartspace.cobot_run_due()'), qr/^\d synchronised, 0 of them not well/, 'the worker goes on');
	};
	return;
}

my $right = sub { keys_are('k2'); };
is_lost_and_comes_back('old_key_removed_too_early', 'key_missing', qr/sealed with the key "k2", which is not in the key file/, sub { keys_are('k1') }, $right);
is_lost_and_comes_back('wrong_key', 'secret_unreadable', qr/The key "k2" of the key file does not open it/, sub { keys_are('k2:wrong') }, $right);
is_lost_and_comes_back('no_key_file_is_set', 'key_missing', qr/sealed with the key "k2"\. smartspace_cobot\.key_file is not set/, sub { key_file_is('') }, sub { key_file_is($key_file) });
is_lost_and_comes_back('key_file_is_gone', 'key_missing', qr/The key file cannot be opened: No such file or directory/, sub { rename $key_file, "$key_file.away" },
	sub { rename "$key_file.away", $key_file });

# --- key files that are refused ---
my @bad_files = (
	[ 'readable by the group', qr/Others than the owner may read or write the key file/, sub { chmod 0640, $key_file } ],
	[ 'readable by others', qr/Others than the owner may read or write the key file/, sub { chmod 0604, $key_file } ],
	[ 'not readable', qr/The key file cannot be opened: Permission denied/, sub { chmod 0000, $key_file } ],
	[ 'a folder', qr/The key file is not a regular file/, sub { unlink $key_file; mkdir $key_file } ],
	[ 'a pipe', qr/The key file is not a regular file/, sub { unlink $key_file; system 'mkfifo', '-m', '600', $key_file } ],
	[ 'empty', qr/The key file has no key/, sub { write_file($key_file, '') } ],
	[ 'too large', qr/The key file is larger than 16384 bytes/, sub { write_file($key_file, "# comment\n" x 2000) } ],
	[ 'a short key', qr/Line 2 of the key file does not have 64 hexadecimal digits/, sub { write_file($key_file, "# keys\nk2 " . substr($key{k2}, 1) . "\n") } ],
	[ 'the same id twice', qr/Line 2 of the key file has the key id of a line above/, sub { write_file($key_file, "k2 $key{k2}\nk2 $key{k1}\n") } ],
	[ 'binary', qr/Line 1 of the key file begins with a key id/, sub { write_file($key_file, "\xff\x00\x01") } ],
);
foreach (@bad_files)
{
	my ($name, $detail, $spoil) = @$_;

	$right->();
	$spoil->();
	refused("bad_key_file: $name: cobot_sync", "SELECT smartspace.cobot_sync($loft)", $detail);
	refused("bad_key_file: $name: cobot_connect_token", "SELECT smartspace.cobot_connect_token($loft, '$token{admin}')", $detail);
	refused("bad_key_file: $name: cobot_set_client_secret", "SELECT smartspace.cobot_set_client_secret($loft, '$client_secret{loft}')", $detail);
	refused("bad_key_file: $name: cobot_set_mobile_app_client", "SELECT smartspace.cobot_set_mobile_app_client($app, 'mobile', '$client_secret{app}')", $detail);
	refused("bad_key_file: $name: cobot_seal_secrets", 'SELECT smartspace.cobot_seal_secrets()', $detail);
	is(status_of($loft), 'degraded key_missing', "bad_key_file: $name: the status says so");
	chmod 0600, $key_file;
	rmdir $key_file;
}
$right->();
is(token_of($loft), $loft_token, 'all is well with a good one');

# --- what was changed in the table does not open ---
sub tampered
{
	my ($name, $change) = @_;

	my $before = $t->sql('SELECT string_agg(format(\'UPDATE smartspace.cobot_secret SET token = %L, client_secret = %L WHERE integration_id = %s\', token, client_secret, integration_id), \';\') FROM smartspace.cobot_secret');
	$t->sql($change);
	refused("$name: does_not_open", "SELECT smartspace.cobot_sync($loft)", qr/The key "k2" of the key file does not open it|What is stored is no sealed secret/);
	is(status_of($loft), 'degraded secret_unreadable', "$name: the status says so");
	is($t->try('SELECT * FROM smartspace.cobot_seal_secrets()')->{out} =~ /\|[1-4]$/, 1, "$name: rotation leaves it alone");
	$t->sql($before);
	is(token_of($loft), $loft_token, "$name: put back, it works");
	return;
}

tampered('a digit', "UPDATE smartspace.cobot_secret SET token = overlay(token PLACING translate(substr(token, 60, 1), '0123456789abcdef', '123456789abcdef0') FROM 60 FOR 1) WHERE integration_id = $loft");
tampered('two rows swapped', 'UPDATE smartspace.cobot_secret s SET token = (SELECT o.token FROM smartspace.cobot_secret o WHERE o.integration_id <> s.integration_id)');
tampered('two columns swapped', 'UPDATE smartspace.cobot_secret SET token = client_secret, client_secret = token');
tampered('cut', "UPDATE smartspace.cobot_secret SET token = left(token, -2) WHERE integration_id = $loft");
tampered('another version', "UPDATE smartspace.cobot_secret SET token = replace(token, 'sealed:1:', 'sealed:2:') WHERE integration_id = $loft");

# --- reconnecting helps where a key is lost for good ---
keys_are('k1');
$t->sql("SELECT smartspace.cobot_connect_token($loft, '$token{admin}')");
like(stored($loft, 'token'), qr/^sealed:1:k1:/, 'connecting_again_needs_no_old_key');
$loft_token = token_of($loft);
like(problems_of($loft), qr/^key_missing: The client secret cannot be read/, 'what else is missing still shows');
is(status_of($loft), 'connected well', '... and Cobot is asked all the same');
keys_are('k2', 'k1');
is(seal_counts(), '0|1|0|4|0', 'all under one key again');

# --- check-ins wait for the key ---
$t->sql("INSERT INTO smartspace.building (integration_id, name) VALUES ($loft, 'Door')");
keys_are('k1');
$t->sql("INSERT INTO smartspace.building_entry (membership_id, building_id) SELECT m.id, b.id FROM smartspace.cobot_membership m, smartspace.building b WHERE m.cobot_id = 'ada-loft'");
$t->sql('SELECT smartspace.cobot_deliver_checkins()');
is($t->sql("SELECT state || ' ' || reason FROM smartspace.cobot_checkin"), 'queued key_missing', 'a_check_in_waits_for_the_key');
keys_are('k2');
$t->sql('UPDATE smartspace.cobot_checkin SET next_attempt_at = now(); SELECT smartspace.cobot_deliver_checkins()');
is($t->sql('SELECT state FROM smartspace.cobot_checkin'), 'done', '... and is made with it');

# --- secrets in files ---
my $secret_file = "$keys/secret";

sub from_file { return $t->try("SET ROLE " . ($_[1] // 'NONE') . "; SELECT smartspace.cobot_set_client_secret_file($loft, '$_[0]')"); }

# As it is known once it is unsealed.
sub client_secret
{
	return $t->sql("BEGIN; SET LOCAL client_min_messages = error; SELECT FROM smartspace.cobot_seal_secrets(true); SELECT client_secret FROM smartspace.cobot_secret WHERE integration_id = $loft; ROLLBACK") =~ s/^\n+//r;
}

foreach my $case ([ 'no line end', '' ], [ 'a line end', "\n" ], [ 'a Windows line end', "\r\n" ])
{
	my ($name, $end) = @$case;

	$t->sql("SELECT smartspace.cobot_set_client_secret($loft, NULL)");
	is(stored($loft, 'client_secret'), '', '(the client secret is forgotten)');
	write_file($secret_file, $client_secret{file} . $end);
	is(from_file($secret_file)->{sqlstate}, '', "secret_from_a_file: $name");
	like(stored($loft, 'client_secret'), qr/^sealed:1:k2:/, '... is sealed');
	is(client_secret(), $client_secret{file}, '... and is the content of the file');
}
write_file($secret_file, 'x' x 4096 . "\r\n");
is(from_file($secret_file)->{sqlstate}, '', 'the longest secret');
foreach my $case ([ 'empty', '' ], [ 'a line end alone', "\n" ], [ 'too long', 'x' x 4097 ], [ 'something behind the longest', 'x' x 4096 . "\r\nx" ],
	[ 'a NUL', "abc\0def" ], [ 'no UTF-8', "abc\xffdef" ])
{
	write_file($secret_file, $case->[1]);
	$answer = from_file($secret_file);
	is($answer->{sqlstate}, '22023', "no_secret_in_a_file: $case->[0]");
	unlike($answer->{err}, qr/abc|def|xx/, '... and the error shows nothing of it');
}
is(from_file("$keys/nothing")->{sqlstate}, '58P01', 'no such file');
is(from_file($keys)->{sqlstate}, '42809', 'a folder');
system 'mkfifo', "$keys/pipe";
is(from_file("$keys/pipe")->{sqlstate}, '42809', 'a pipe');
is(from_file($_)->{sqlstate}, '42501', "a path that is not absolute or leads upwards: $_") foreach 'secret', '../secret', "./$keys/secret", '';
is($t->try("SELECT smartspace.cobot_set_client_secret_file($loft, NULL)")->{sqlstate}, '22004', 'no path');
is($t->try("SELECT smartspace.cobot_connect_token_file(NULL, '$key_file')")->{sqlstate}, '22023', '(a key file holds no token)');
write_file($secret_file, "$token{admin}\n");
is($t->try("SELECT smartspace.cobot_connect_token_file(NULL, '$secret_file')")->{sqlstate}, '22004', 'no integration');
is($t->try("SELECT smartspace.cobot_set_mobile_app_client_file(NULL, 'mobile', '$secret_file')")->{sqlstate}, '22004', '... and no mobile app');
is($t->try("SELECT smartspace.cobot_connect_token_file(99, '$secret_file')")->{sqlstate}, '42704', 'no such integration');
is($t->sql("SELECT state, space_name IS NOT NULL, granted_scope IS NOT NULL FROM smartspace.cobot_connect_token_file($loft, '$secret_file')"), 'connected|t|t', 'token_from_a_file');
$loft_token = token_of($loft);

write_file($secret_file, $client_secret{app});
like($t->sql("SELECT smartspace.cobot_set_mobile_app_client_file($app, 'otherClient', '$secret_file')"), qr/^armed for/, 'client_secret_of_a_mobile_app_from_a_file');
is($t->sql("SELECT client_id FROM smartspace.mobile_app WHERE id = $app"), 'otherClient', '... with its client id');
like($t->sql("SELECT client_secret FROM smartspace.mobile_app_secret"), qr/^sealed:1:k2:/, '... is sealed');

# who may
write_file($secret_file, "$client_secret{file}\n");
$t->sql(<<'SQL');
CREATE ROLE admin_only; CREATE ROLE reader_only; CREATE ROLE both_of_them;
GRANT USAGE ON SCHEMA smartspace TO admin_only, reader_only, both_of_them;
GRANT EXECUTE ON FUNCTION smartspace.cobot_set_client_secret(bigint, text) TO admin_only, both_of_them;
GRANT EXECUTE ON FUNCTION smartspace.cobot_set_client_secret_file(bigint, text) TO admin_only, reader_only, both_of_them;
GRANT pg_read_server_files TO reader_only, both_of_them;
CREATE SCHEMA theirs;
GRANT CREATE, USAGE ON SCHEMA theirs TO admin_only;
SET ROLE admin_only;
CREATE FUNCTION theirs.trap(bigint, text) RETURNS void LANGUAGE sql SECURITY DEFINER AS 'SELECT smartspace.cobot_set_client_secret_file($1, $2)';
SQL
is(from_file($secret_file, 'both_of_them')->{sqlstate}, '', 'who may read files and store secrets may do this');
is(from_file($secret_file, 'admin_only')->{sqlstate}, '42501', 'file_needs_pg_read_server_files');
is(from_file($secret_file, 'reader_only')->{sqlstate}, '42501', 'and the right to store the secret');
is(from_file($secret_file, 'guest')->{sqlstate}, '42501', 'and the right to call the function');
is($t->try("SELECT theirs.trap($loft, '$secret_file')")->{sqlstate}, '42501', 'a_function_of_somebody_else_reads_no_file_by_a_superusers_call');
is($t->try("CREATE FUNCTION theirs.lent(bigint, text) RETURNS void LANGUAGE sql SECURITY DEFINER AS 'SELECT smartspace.cobot_set_client_secret_file(\$1, \$2)';"
	  . "GRANT USAGE ON SCHEMA theirs TO guest; SET ROLE guest; SELECT theirs.lent($loft, '$secret_file')")->{sqlstate}, '', 'a superuser may lend it on purpose');

# --- back to plain, on purpose ---
is(seal_counts('unseal => true'), '0|0|6|0|0', 'unsealing_is_possible_on_purpose');
is(stored($loft, 'token'), $loft_token, 'secrets stand as they are');
is($t->sql('SELECT client_secret FROM smartspace.mobile_app_secret'), $client_secret{app}, '... that of the mobile app');
is(stored($quay, 'client_secret'), $client_secret{quay}, '... all of them, unharmed by all that happened');
key_file_is('');
is(token_of($loft), $loft_token, 'and no key is needed any more');

# --- then: the log ---
my $log = slurp_file($node->logfile);
like($log, qr/STATEMENT: .*hidden: the statement may hold a secret/, '(the log is talkative)');
is(join(', ', grep { index($log, $_) >= 0 } values %key), '', 'no_key_is_in_the_log');
is(join(', ', grep { index($log, $_) >= 0 } values %token, values %client_secret, $loft_token, $quay_token), '', 'nor any secret');

done_testing();
