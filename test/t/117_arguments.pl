# Whatever text comes as an argument: no crash, no request that nobody meant, and an error
# with a SQLSTATE of its own that does not repeat ten kilobytes. The functions are taken
# from the catalog, so a new one is tried as well. And the environment leads no request
# elsewhere.
use strict;
use warnings;

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

# What stands for arguments that are not tried at the moment.
my %usual = (integration => $space, member => $member, run => $run, plan => $plan, entry => $entry, building => $building, group => $group,
	name => "'New'", subdomain => "'elsewhere'", token => "'admin-token'", who => "'$cobot_id'", event => "'updated_membership'", payload => "'{}'",
	memberships => "'[]'", callback_url => "'https://example.com/hook'", schedule => "'*/30 * * * *'", level => "'look'", role => "current_user::regrole");

my $long = 'L' x 10_000;
my $inject = "\r\nUser-Agent: injected\r\nHost: injected.example\r\n\r\nGET /injected HTTP/1.1\r\nHost: injected.example\r\n\r\n";
my %hostile = (
	'CR and LF' => "x$inject", 'LF alone' => "x\nUser-Agent: injected\n\nGET /injected", 'encoded CR and LF' => 'x%0d%0aUser-Agent:%20injected%0d%0a%0d%0aGET%20/injected',
	'quotes' => q{'"`\\'; DROP TABLE smartspace.cobot_secret; --}, 'percent signs' => '%s%n%p%1$s%x%%', 'another path' => '../../../injected?injected=1#x',
	'another host' => '@injected.example/', 'something like NUL' => "\x01\\u0000\\0%00\x7f", 'turned around' => "\x{202e}\x{0}moc" =~ s/\0//r, 'nothing' => '', 'blanks' => " \t ",
	'10 kB' => $long, '10 kB of signs' => "\x{20ac}" x 3400, '10 kB of lines' => "x\r\n" x 3400, 'JSON' => '{"url": "https://injected.example/injected"}', 'a drive' => '/etc/passwd');

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
foreach my $function ($t->rows(<<'SQL'))
SELECT p.oid::regprocedure::text AS signature, p.proname AS name, p.proargnames AS names, p.pronargs AS count, p.pronargdefaults AS defaults,
	ARRAY(SELECT t::regtype::text FROM unnest(p.proargtypes) t) AS types
FROM pg_proc p
WHERE p.pronamespace = 'smartspace'::regnamespace AND p.prorettype <> 'trigger'::regtype
	AND p.proargtypes::oid[] && ARRAY['text'::regtype, 'jsonb'::regtype, 'text[]'::regtype]::oid[]
ORDER BY 1
SQL
{
	my @names = @{ $function->{names} }[ 0 .. $function->{count} - 1 ];
	my @texts = grep { $function->{types}[$_] =~ /^(?:text|jsonb|text\[\])$/ } 0 .. $#names;

	subtest $function->{signature} => sub {
		foreach my $position (@texts)
		{
			my $type = $function->{types}[$position];

			foreach my $name (sort keys %hostile)
			{
				my $value = literal($type eq 'jsonb' ? JSON::PP->new->encode({ url => $hostile{$name}, id => $hostile{$name}, $hostile{$name} => [ $hostile{$name} ] }) =~ s/\\u0000//gr : $hostile{$name});
				$value = "ARRAY[$value]" if $type eq 'text[]';
				my @arguments = map { "\"$names[$_]\" => " . ($_ == $position ? "$value\::$type" : exists $usual{ $names[$_] } ? "$usual{$names[$_]}::$function->{types}[$_]" : "NULL::$function->{types}[$_]") }
				  grep { $_ == $position || $_ < $function->{count} - $function->{defaults} || $names[$_] eq 'integration' } 0 .. $#names;
				my $sql = "SELECT smartspace.$function->{name}(" . join(', ', @arguments) . ')';
				my $answer = $t->try("SET client_min_messages = error; SELECT public.attempt(\$attempt\$$sql\$attempt\$)");
				my $result = $answer->{ok} ? eval { decode_json($answer->{out}) } : undef;

				$tried++;
				ok($result, "$names[$position]: $name: the session lives") or do { diag $answer->{err}; next };
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
	  || ($_->{path} // '') =~ m{^/injected} || ($_->{path} // '') !~ m{^/(?:api|oauth)/} } @requests;
is(join("\n", map { "$_->{method} $_->{host} $_->{path} " . ($_->{user_agent} // '') } @odd), '', 'no request has a path, a host or a header that came from an argument');
unlike(slurp_file($t->node->logfile, $logged), qr/terminated by signal|PANIC|TRAP/, 'nothing crashed');
is($t->sql('SELECT count(*) > 0 FROM smartspace.cobot_secret'), 't', 'the tables are there');
ok(!IO::Select->new($proxy)->can_read(0), 'and still nobody came to the proxy');

# That names which lead to private addresses are refused is tried in test/unit/unit_address.c,
# because no test may ask the real Cobot.

done_testing();
