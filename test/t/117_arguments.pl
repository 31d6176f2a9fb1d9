# Whatever text comes as an argument: no crash, no request that nobody meant, and an error
# with a SQLSTATE of its own that does not repeat ten kilobytes. The functions are taken
# from the catalog, so a new one is tried as well. And the environment leads no request
# elsewhere.
use strict;
use warnings;

use CobotCalls;
use CobotTest;
use IO::Select;
use IO::Socket::INET;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;

# --- given: a proxy in the server's environment ---
my $proxy = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1') or die "proxy: $!";
my @names = qw(http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY);
my $t = CobotTest->new(members => 5, conf => 'smartspace_cobot.request_timeout = 3000');
{
	local @ENV{@names} = ('http://127.0.0.1:' . $proxy->sockport) x @names;
	local $ENV{no_proxy} = '';

	$t->node->restart;
}
my $space = $t->connect_space('demo-space');
like($t->sync($space)->{result}, qr/^ok/, 'a synchronisation with a proxy in the environment is fine');
ok(!IO::Select->new($proxy)->can_read(0), 'and nobody came to the proxy');
my ($member, $cobot_id) = split /\|/, $t->sql('SELECT id, cobot_id FROM smartspace.cobot_membership ORDER BY id LIMIT 1');
my $group = $t->group('Door');
my $building = $t->sql("INSERT INTO smartspace.building (integration_id, name) VALUES ($space, 'House') RETURNING id");
my $entry = $t->sql("INSERT INTO smartspace.building_entry (membership_id, building_id) VALUES ($member, $building) RETURNING id");
my $run = $t->sql('SELECT max(id) FROM smartspace.cobot_sync_run');
my $plan = $t->sql('SELECT min(id) FROM smartspace.cobot_plan');

$t->sql("SELECT smartspace.cobot_set_client($space, 'client', 'secret'); SELECT smartspace.cobot_create_mobile_app('app', 'client', 'secret', '{https://example.com/app}')");

# What stands for arguments that are not tried at the moment: with these every function does its work.
my %usual = (integration => $space, member => $member, run => $run, plan => $plan, entry => $entry, building => $building, group => $group, mobile_app => 1,
	name => "'New'", subdomain => "'elsewhere'", token => "'admin-token'", who => "'$cobot_id'", event => "'updated_membership'", payload => "'{}'",
	memberships => "'[]'", callback_url => "'https://example.com/hook'", schedule => "'*/30 * * * *'", level => "'look'", role => "'pg_monitor'",
	client_id => "'client'", client_secret => "'secret'", redirect_uri => "'https://example.com/back'", redirect_uris => "'{https://example.com/app}'",
	state => $t->sql("SELECT quote_literal(substring(smartspace.cobot_connect_url($space, 'https://example.com/back') from 'state=([^&]+)'))"), code => "'authorization-code'", error => "'access_denied'",
	label => "'Doors'", iframe_url => "'https://example.com/frame'", id => "'link'", path => "'/nonexistent'", secret_path_part => "'unknown'", cobot_user_id => "'admin'",
	field_value => "'door, other'", granted => "'{read}'", individual_access => 'true', checkin => 'true', moment => 'now()',
	'cobot_login.state' => $t->sql("SELECT quote_literal(substring(smartspace.cobot_login_url(1, 'https://example.com/app') from 'state=([^&]+)'))"), 'cobot_login_url.redirect_uri' => "'https://example.com/app'",
	# what only the owner of the extension calls
	confirmed_at => 'now()', departed_at => 'now()', starts_at => "'2026-01-01'", canceled_to => "'2026-12-31'", time_zone => "'UTC'", valid => "'[2026-01-01,)'", a => "'door'", b => "'dore'",
	has_token => 'true', is_home => 'true', armed_system => 1, armed_database => 1, armed_environment => "'here'", listed_id => "'{}'", listed_subdomain => "'{}'", listed_space => "'{}'", kind => "'token'", stored => "'x'",
	entered_at => 'now()', max_age => "'1 hour'", 'cobot_secret_problem.id' => $space);

my $long = 'L' x 10_000;
my $inject = "\r\nUser-Agent: injected\r\nHost: injected.example\r\n\r\nGET /injected HTTP/1.1\r\nHost: injected.example\r\n\r\n";
my %hostile = (
	'CR and LF' => "x$inject", 'LF alone' => "x\nUser-Agent: injected\n\nGET /injected", 'encoded CR and LF' => 'x%0d%0aUser-Agent:%20injected%0d%0a%0d%0aGET%20/injected',
	'quotes' => q{'"`\\'; DROP TABLE smartspace.cobot_secret; --}, 'percent signs' => '%s%n%p%1$s%x%%', 'another path' => '../../../injected?injected=1#x',
	'another host' => '@injected.example/', 'something like NUL' => "\x01\\u0000\\0%00\x7f", 'turned around' => "\x{202e}\x{0}moc" =~ s/\0//r, 'nothing' => '', 'a step up' => '..', 'blanks' => " \t ",
	'10 kB' => $long, '10 kB of signs' => 'x' . "\x{20ac}" x 3400, '10 kB of lines' => "x\r\n" x 3400, 'JSON' => '{"url": "https://injected.example/injected"}', 'a drive' => '/etc/passwd');

$t->sql(<<'SQL');
CREATE FUNCTION attempt(sql text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
	said text;
	detail text;
	hint text;
BEGIN
	BEGIN
		EXECUTE sql;
		RAISE EXCEPTION 'undo' USING ERRCODE = 'P0099';
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
		-- text that was cut in the middle of a letter reaches no client with another encoding
		PERFORM convert_from(convert_to(concat(said, detail, hint), 'UTF8'), 'UTF8');
		RETURN jsonb_build_object('sqlstate', SQLSTATE, 'said', said || ' ' || detail || ' ' || hint);
	END;
END $$;
SQL

sub literal
{
	my ($text) = @_;

	utf8::encode($text);
	return "E'" . ($text =~ s/\\/\\\\/gr =~ s/'/''/gr =~ s/\r/\\r/gr =~ s/\n/\\n/gr) . "'";
}

my $tried = 0;
my $logged = -s $t->node->logfile;
sub attempt
{
	my ($sql) = @_;
	my $answer = $t->try("SET client_min_messages = error; SELECT public.attempt(\$attempt\$SELECT $sql\$attempt\$)");

	return ($answer->{ok} ? eval { decode_json($answer->{out}) } : undef, $answer->{err});
}

foreach my $function (functions($t, "p.proargtypes::oid[] && ARRAY['text'::regtype, 'jsonb'::regtype, 'text[]'::regtype]::oid[]"))
{
	my @texts = grep { $function->{types}[$_] =~ /^(?:text|jsonb|text\[\])$/ } 0 .. $#{ $function->{names} };

	subtest $function->{signature} => sub {
		is(join(' ', unknown_arguments($function, \%usual)), '', '(can be called)');
		my ($result, $err) = attempt(call($function, \%usual, only_required => [ 'integration', 'code' ]));
		# but there is no such file, no pg_cron, and Cobot knows no such code
		like($result->{sqlstate}, qr/^(?:P0099|58P01|0A000|28000)$/, "(and does its work: $result->{sqlstate})") or diag $result->{said};
		foreach my $position (@texts)
		{
			my ($name, $type) = ($function->{names}[$position], $function->{types}[$position]);

			foreach my $kind (sort keys %hostile)
			{
				my $value = literal($type eq 'jsonb' ? JSON::PP->new->encode({ url => $hostile{$kind}, id => $hostile{$kind}, $hostile{$kind} => [ $hostile{$kind} ] }) =~ s/\\u0000//gr : $hostile{$kind});
				$value = "ARRAY[$value]" if $type eq 'text[]';
				($result, $err) = attempt(call($function, { %usual, $name => $value, "$function->{name}.$name" => $value }, only_required => [ $name, 'integration', $name =~ /^error/ ? 'error' : 'code' ]));
				$tried++;
				ok($result, "$name: $kind: the session lives") or do { diag $err; next };
				unlike($result->{sqlstate}, qr/^XX/, "SQLSTATE $result->{sqlstate}") or diag $result->{said};
				cmp_ok(length $result->{said}, '<', 1200, 'no long error') or diag substr $result->{said}, 0, 200;
			}
		}
	};
}
cmp_ok($tried, '>', 200, "(tried $tried)");
my @requests = eval { $t->cobot->log };
diag $@ if $@;
cmp_ok(scalar @requests, '>', 0, '(some were sent)');
my @odd = grep { join(' ', map { $_ // '' } @$_{qw(host path query)}) =~ /[\r\n]/ || ($_->{host} // '') !~ /^(?:[a-z0-9-]+\.)?cobot\.me(?::\d+)?$/ || ($_->{user_agent} // '') !~ /^smartspace_cobot/i
	  || ($_->{path} // '') =~ m{^/injected} || ($_->{path} // '') =~ m{/\.\.?(?:/|$)} || ($_->{path} // '') !~ m{^/(?:api|oauth)/} } @requests;
is(join("\n", map { "$_->{method} $_->{host} $_->{path} " . ($_->{user_agent} // '') } @odd), '', 'no request has a path, a host or a header that came from an argument');
my @forms = grep { ($_->{path} // '') =~ m{^/oauth/} && length($_->{body} // '') } @requests;
is(join("\n", grep { !/^(?:[\w.~%-]+=[\w.~%-]*(?:&|$))+$/ } map { $_->{body} } @forms), '', 'no form has a field or a sign that came from an argument');
cmp_ok(scalar(grep { $_->{body} =~ /(?:^|&)code=x%0D%0A/ } @forms), '>=', 2, '(CR and LF came as far as that)');
cmp_ok(scalar(grep { $_->{path} =~ m{/%2E%2E(?:/|$)}i } @requests), '>=', 1, '(so did a step up, as a name)');
unlike(slurp_file($t->node->logfile, $logged), qr/terminated by signal|PANIC|TRAP/, 'nothing crashed');
is($t->sql('SELECT count(*) > 0 FROM smartspace.cobot_secret'), 't', 'the tables are there');
ok(!IO::Select->new($proxy)->can_read(0), 'and still nobody came to the proxy');

# That names which lead to private addresses are refused is tried in test/unit/unit_address.c,
# because no test may ask the real Cobot.

done_testing();
