# The ways of doc/secrets.md to hand over a secret, with everything the server can log switched on:
# every kind of secret there is, in no log line, no view of the server's and no dump, neither
# as it is nor encoded. And for each setting that it warns of, that it is right.
#
# Bind parameters are those of pgbench --protocol=extended, which is PQsendQueryParams().
use strict;
use warnings;

use CobotBrowser;
use CobotWorker;
use File::Temp;
use IPC::Run;
use JSON::PP;
use MIME::Base64 qw(encode_base64);
use PostgreSQL::Test::Utils;
use Test::More;

# --- given: secrets that can be recognised; some of them become known on the way ---
my %secret = (
	'token of the admin' => 'adminToken+5a3c/8e1f9b7d2046=', 'token in a file' => 'fileToken+a81c/55e0b7d29143=', 'copied token' => 'copiedToken+c7/e95a31b2d4680=',
	'client secret' => 'clientSecret+83/72615a4b9c0d1e', 'client secret in a file' => 'fileClient+55/46372a0b1c2d3e',
	'secret of the mobile app' => 'mobileSecret+33/65178f2e3d4c5b', 'secret of the mobile app in a file' => 'fileMobile+90/12874d3c2b1a0f',
	'key' => '9d4e0c7b' x 8, 'second key' => '2b6f8a13' x 8);

my $world = File::Temp->new;
print $world encode_json({
	users => [ { id => 'admin', email => 'admin@example.com', admin_of => ['loft'] } ],
	tokens => [ map { { token => $secret{$_}, user => 'admin' } } 'token of the admin', 'token in a file', 'copied token' ],
	clients => [ map { { client_id => $_->[0], client_secret => $secret{ $_->[1] }, redirect_uris => [ 'smartspace://login', 'https://app.example.com/*' ],
			scopes => [ split ' ', 'me navigation read read_custom_fields read_memberships read_plans read_user write write_custom_fields' ] } }
		[ 'plug', 'client secret' ], [ 'plug-file', 'client secret in a file' ], [ 'mobile', 'secret of the mobile app' ], [ 'mobile-file', 'secret of the mobile app in a file' ] ],
	spaces => [ { subdomain => 'loft', plans => [ { id => 'full', name => 'Full Time' } ],
		memberships => [ { id => 'ada', name => 'Ada', plan => { parent_plan => { id => 'full' } }, user => { id => 'admin', email => 'admin@example.com' } } ] } ] });
$world->flush;
chmod 0644, $world->filename;

my $dir = PostgreSQL::Test::Utils::tempdir();

sub write_file
{
	my ($name, $content) = @_;

	unlink "$dir/$name";
	open my $out, '>', "$dir/$name" or die "$dir/$name: $!";
	print $out $content;
	close $out or die "$dir/$name: $!";
	chmod 0600, "$dir/$name";
	return "$dir/$name";
}

# Everything is logged but the values of parameters.
my $t = CobotWorker->new(state => $world->filename, linger => 1, conf => <<'CONF');
shared_preload_libraries = 'smartspace_cobot, pg_stat_statements, auto_explain'
pg_stat_statements.track = all
log_statement = all
log_min_duration_statement = 0
log_min_messages = debug5
log_min_error_statement = debug5
log_error_verbosity = verbose
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
auto_explain.log_min_duration = 0
auto_explain.log_nested_statements = on
auto_explain.log_analyze = on
log_lock_waits = on
log_temp_files = 0
trace_notify = on
trace_sort = on
CONF
my $cobot = $t->cobot;
my $node = $t->node;
$t->sql('CREATE EXTENSION pg_stat_statements');

# --- looking for a secret ---
sub percent { return $_[0] =~ s/([^A-Za-z0-9._~-])/sprintf '%%%02X', ord $1/ger; }

# A text as it is and in other clothes: percent-encoded, in hexadecimal, as bytes of a node
# tree, in base64 at each of three places.
sub clothes
{
	my ($text) = @_;
	my $hex = unpack 'H*', $text;

	return ($text, percent($text), lc percent($text), $hex, uc $hex, join('', unpack 'C*', $text),
		map { substr encode_base64('x' x $_ . substr($text, 0, 27 - $_), ''), 4, 32 } 0 .. 2);
}

sub secrets_in
{
	my ($text, %wanted) = @_;

	%wanted = %secret unless %wanted;
	$text =~ s/\s+//g;    # a node tree has line breaks in the middle of its numbers
	return join ', ', grep { grep { index($text, $_) >= 0 } clothes($wanted{$_}) } sort keys %wanted;
}
foreach my $encoded ($secret{'client secret'}, percent($secret{'client secret'}), unpack('H*', $secret{'client secret'}),
	encode_base64("client:$secret{'client secret'}", ''), encode_base64("plug12:$secret{'client secret'}", ''), encode_base64("plug1:$secret{'client secret'}", ''))
{
	is(secrets_in("said: $encoded."), 'client secret', "(this test finds $encoded)");
}

# All that others see in the server's own views and tables, and in pg_stat_statements.
my @views = split /\n/, $t->sql("SELECT c.oid::regclass FROM pg_class c WHERE c.relkind IN ('r', 'v', 'm') AND (c.relnamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)"
	  . " OR c.relname ~ '^pg_stat_statements') AND c.relname NOT IN ('pg_largeobject')");
my $read_views = join '', map { "SELECT v::text FROM $_ v;\n" } @views;
cmp_ok(scalar @views, '>', 150, '(there are many views)');

# --- handing over ---
my ($told, $steps) = ('', 0);

# By bind parameters; returns pgbench's exit code and what it said.
sub bound
{
	my ($sql, $variables, %options) = @_;
	my $script = write_file('script' . ++$steps, "$sql;\n");
	my ($out, $err) = ('', '');

	local $ENV{PGOPTIONS} = '-c client_min_messages=debug5 ' . ($options{settings} // '');
	IPC::Run::run([ 'pgbench', '--no-vacuum', '--protocol=extended', '-t', 1, '-f', $script, (map { ('-D', "$_=$variables->{$_}") } sort keys %$variables),
		$node->connstr('postgres') ], '>', \$out, '2>', \$err);
	$told .= "$out$err" unless $options{settings};
	return ($?, "$out$err");
}

sub done_bound
{
	my ($name, @arguments) = @_;
	my ($code, $said) = bound(@arguments);

	is($code, 0, $name) or diag $said =~ s/^DEBUG.*\n//gmr;
	return;
}

sub space_tokens { return $t->sql("SELECT token FROM smartspace.cobot_secret WHERE token IS NOT NULL"); }

my $space = $t->sql("SELECT smartspace.cobot_create_integration('Loft', 'loft', 'plug')");
done_bound('a token by a bind parameter', 'SELECT smartspace.cobot_connect_token(:space, :token)', { space => $space, token => $secret{'token of the admin'} });
$secret{'space token'} = space_tokens();
$t->wait_for_run($space);
done_bound('a client secret', 'SELECT smartspace.cobot_set_client_secret(:space, :secret)', { space => $space, secret => $secret{'client secret'} });
my ($code, $said) = bound('SELECT smartspace.cobot_connect_token(:space, :token)', { space => $space, token => $secret{'unknown token'} = 'unknownToken+9f8e/7d6c5b4a3928=' });
isnt($code, 0, 'a token that Cobot does not know is refused');
($code, $said) = bound('SELECT smartspace.cobot_connect_token(:space, :token)', { space => 99, token => $secret{'token of the admin'} });
like($said, qr/does not exist/, 'so is one for no integration');

# the plug
sub flow
{
	my ($url_of, $name) = @_;

	$cobot->settings(login_user => 'admin', consent => 'given');
	my %back = browse($cobot, $t->sql("SELECT smartspace.$url_of"));
	$secret{"state of $name"} = $back{state};
	$secret{"code of $name"} = $back{code};
	$secret{"verifier of $name"} = $t->sql('SELECT verifier FROM smartspace.cobot_oauth_flow WHERE verifier IS NOT NULL');
	return \%back;
}
my $back = flow("cobot_connect_url($space, 'https://app.example.com/back')", 'the plug');
my $since = ($cobot->log)[-1]{n};
done_bound('state and code of the plug', 'SELECT smartspace.cobot_connect(:state, :code)', { state => $back->{state}, code => $back->{code} });
$secret{'token of the plug'} = space_tokens();
$secret{"token of the plug: $_"} = $_ foreach grep { defined } map { $_->{token} } $cobot->log($since);
($code, $said) = bound('SELECT smartspace.cobot_connect(:state, :code)', { state => $back->{state}, code => $back->{code} });
like($said, qr/It was used before/, 'a state that was used is refused');

# the mobile app
done_bound('the client secret of a mobile app', 'SELECT smartspace.cobot_create_mobile_app(:name, :client, :secret, ARRAY[:uri]::text[], :scope)',
	{ name => 'App', scope => 'read_user', client => 'mobile', secret => $secret{'secret of the mobile app'}, uri => 'smartspace://login' });
my $app = $t->sql('SELECT id FROM smartspace.mobile_app');
$back = flow("cobot_login_url($app, 'smartspace://login')", 'a login');
$since = ($cobot->log)[-1]{n};
done_bound('state and code of a login', 'SELECT smartspace.cobot_login(:state, :code)', { state => $back->{state}, code => $back->{code} });
my ($login) = grep { $_->{path} eq '/api/user' } $cobot->log($since);
$secret{'token of a login'} = $login->{token};

# webhooks
$t->sql("SELECT smartspace.cobot_create_webhooks($space, 'https://backend.example/cobot')");
my @parts = map { $_->{callback_url} =~ m{/([0-9a-f]{64})$} } $cobot->subscriptions('loft');
$secret{"secret of a webhook $_"} = $parts[$_] foreach 0 .. $#parts;
done_bound('a webhook', 'SELECT smartspace.cobot_webhook_received(:part, :payload)',
	{ part => $parts[0], payload => '{"url": "https://loft.cobot.me/api/memberships/ada"}' });

# while one waits, others look
$cobot->fault(match => { path => '/api/access_tokens/*' }, times => 1, delay_ms => 4000);
$since = ($cobot->log)[-1]{n};
my $script = write_file('waiting', "SELECT smartspace.cobot_connect_token(:space, :token);\n");
my ($out, $err) = ('', '');
my $waiting = IPC::Run::start([ 'pgbench', '--no-vacuum', '--protocol=extended', '-t', 1, '-f', $script, '-D', "space=$space", '-D', "token=$secret{'token of the admin'}",
	$node->connstr('postgres') ], '>', \$out, '2>', \$err);
$t->wait_until(sub { grep { $_->{path} =~ /access_tokens/ } $cobot->log($since) }, 'Cobot is asked');
my $seen = $t->sql($read_views);
like($seen, qr/may hold a secret/, '(others see that somebody connects)');
is(secrets_in($seen), '', 'no_secret_in_any_view_while_one_waits');
$waiting->finish;
is($?, 0, '... which then works') or diag $err;
$secret{'second space token'} = space_tokens();

# --- with all that logs parameters, and node trees: files and COPY ---
my $everything = 'SET log_parameter_max_length = -1; SET log_parameter_max_length_on_error = -1; SET auto_explain.log_verbose = on;'
  . ' SET debug_print_parse = on; SET debug_print_rewritten = on; SET debug_print_plan = on; SET client_min_messages = debug5;';

sub with_everything
{
	my ($name, $sql) = @_;
	my $answer = $t->try("$everything\n$sql");

	ok($answer->{ok}, $name) or diag $answer->{err} =~ s/^.*(?:DEBUG|LOCATION).*\n//gmr;
	$told .= $answer->{err} . $answer->{out};
	return;
}
with_everything('a token in a file', "SELECT smartspace.cobot_connect_token_file($space, '" . write_file('token', "$secret{'token in a file'}\n") . "')");
$secret{'third space token'} = space_tokens();
with_everything('a client secret in a file', "SELECT smartspace.cobot_set_client_secret_file($space, '" . write_file('client', "$secret{'client secret in a file'}\n") . "')");
with_everything('one of a mobile app', "SELECT smartspace.cobot_set_mobile_app_client_file($app, 'mobile-file', '" . write_file('mobile', "$secret{'secret of the mobile app in a file'}\n") . "')");
with_everything('by COPY', "CREATE TEMP TABLE handover (token text);\n\\copy handover FROM '" . write_file('copied', "$secret{'copied token'}\n")
	  . "'\nSELECT smartspace.cobot_connect_token($space, token) FROM handover;\nDROP TABLE handover;\nSET client_min_messages = warning;\n$read_views");
$secret{'fourth space token'} = space_tokens();
with_everything('a new URL of the plug', "SET client_min_messages = warning; SELECT smartspace.cobot_login_url($app, 'smartspace://login') IS NOT NULL;");
$secret{'verifier that stays'} = $t->sql('SELECT verifier FROM smartspace.cobot_oauth_flow WHERE verifier IS NOT NULL');
with_everything('a synchronisation', "SELECT smartspace.cobot_sync($space)");
with_everything('webhooks', "SELECT smartspace.cobot_list_webhooks($space); SELECT smartspace.cobot_delete_webhooks($space)");

# --- sealed ---
my $key_file = write_file('keys', "k1 $secret{key}\n");
$node->append_conf('postgresql.conf', "smartspace_cobot.key_file = '$key_file'");
$node->reload;
$t->wait_until(sub { $t->sql('SHOW smartspace_cobot.key_file') eq $key_file }, 'the setting is in use');
with_everything('sealing', 'SELECT smartspace.cobot_seal_secrets()');
write_file('keys', "k2 $secret{'second key'}\nk1 $secret{key}\n");
with_everything('rotation', 'SELECT smartspace.cobot_seal_secrets()');
with_everything('a synchronisation with sealed secrets', "SELECT smartspace.cobot_sync($space)");
$t->sql("SELECT smartspace.cobot_request_sync($space)");
my $last = $t->last_run($space)->{id};
write_file('keys', "k2 $secret{key}\n");
isnt($t->try("$everything SELECT smartspace.cobot_sync($space)")->{sqlstate}, '', 'a wrong key is an error');
write_file('keys', "k2 $secret{'second key'} trailing\n");
isnt($t->try("$everything SELECT smartspace.cobot_sync($space)")->{sqlstate}, '', 'so is a bad key file');
write_file('keys', "k2 $secret{'second key'}\n");
with_everything('disconnecting', "SELECT smartspace.cobot_disconnect($space)");

# --- then: nowhere ---
my $log = slurp_file($node->logfile);
cmp_ok(scalar keys %secret, '>', 25, '(there are many secrets)');
is((grep { !defined $secret{$_} || length $secret{$_} < 20 } keys %secret), 0, '(all of them are known)');
like($log, qr/LOG: .*execute <unnamed>: SELECT smartspace\.cobot_connect_token\(\$1, \$2\)/, '(the log has the statements)');
like($log, qr/Query Text: UPDATE smartspace\.cobot_secret SET token = g\.value/, '(and those within)');
like($log, qr/LOG: .*plan:/, '(and node trees)');
is(secrets_in($log), '', 'no_secret_in_the_log');
is(secrets_in($told), '', 'no_secret_is_told_to_clients, nor in a view of the same session');
is(secrets_in($t->sql($read_views)), '', 'no_secret_in_any_view');
like($t->sql('SELECT string_agg(query, \' \') FROM pg_stat_statements'), qr/UPDATE smartspace\.cobot_secret/, '(pg_stat_statements has the statements)');
foreach my $command ([ 'pg_dump', '-Z0' ], [ 'pg_dump', '--inserts' ], ['pg_dumpall'])
{
	my ($dump) = run_command([ @$command, '-d', $node->connstr('postgres') ]);

	like($dump, qr/Ada/, "(@$command has the members)");
	is(secrets_in($dump), '', "no_secret_in_a_dump: @$command");
	unlike($dump, qr/sealed:1:/, '... nor a sealed one');
}

# --- what doc/secrets.md warns of: there it is ---
my $logged = 0;

# Is the secret in what is logged of this? As text, or as bytes.
sub shows
{
	my ($name, $marker, $do) = @_;

	my $mark = -s $node->logfile;

	$do->();
	is(secrets_in(slurp_file($node->logfile, $mark), marker => $marker), 'marker', "doc/secrets.md is right: $name");
	return;
}

sub shows_bound
{
	my ($settings, $sql) = @_;
	my $marker = 'controlSecret+' . ++$logged . 'b5/c6d7e8f90a1b2';

	return shows("a bind parameter is logged with $settings", $marker, sub { bound($sql // 'SELECT smartspace.cobot_set_client_secret(:space, :secret)', { space => $space, secret => $marker }, settings => $settings) });
}
shows_bound($_) foreach '-c log_parameter_max_length=-1', '-c auto_explain.log_verbose=on', '-c debug_print_plan=on';
$t->sql('CREATE ROLE nobody; GRANT USAGE ON SCHEMA smartspace TO nobody');
shows_bound('-c log_parameter_max_length_on_error=-1 -c role=nobody');
shows('a literal is logged', 'controlLiteral+5a/4b3c2d1e0f', sub { $t->sql("SELECT smartspace.cobot_set_client_secret($space, 'controlLiteral+5a/4b3c2d1e0f')") });
shows("so is a variable of psql's", 'controlVariable+5a/4b3c2d1e0f',
	sub { $t->sql('\set secret `cat ' . write_file('variable', 'controlVariable+5a/4b3c2d1e0f') . "`\nSELECT smartspace.cobot_set_client_secret($space, :'secret')") });

done_testing();
