# Links in the navigation of a space at Cobot: what there is comes first, so that a link is
# there once however often it is installed; nobody else's links are touched.
use strict;
use warnings;

use CobotTest;
use JSON::PP;
use Test::More;

my $t = CobotTest->new(spaces => 2, members => 5);
my $cobot = $t->cobot;
my ($first, $second) = ('space-0001', 'space-0002');
my $loft = $t->connect_space($first);
my $page = 'https://backend.example/cobot/doors?tab=1&lang=de%20DE';

sub quoted { return "'" . ($_[0] =~ s/'/''/gr) . "'"; }

sub install
{
	my ($label, $url, @section) = @_;

	$cobot->clear_log;
	return $t->try("SELECT row_to_json(l) FROM smartspace.cobot_install_link($loft, " . join(', ', map { quoted($_) } $label, $url, @section) . ') l');
}

sub posts { return scalar grep { $_->{method} ne 'GET' } $cobot->log; }

# --- install ---
my $made = install('Doors', $page);
ok($made->{ok}, 'a link is installed') or diag $made->{err};
my $row = decode_json($made->{out});
is("$row->{result} $row->{label}", 'created Doors', '... and made');
is_deeply([ map { "$_->{section} $_->{label} $_->{iframe_url}" } $cobot->links($first) ], ["admin/manage Doors $page"], '... at Cobot, in admin/manage');
like($row->{user_url}, qr{^https://$first\.cobot\.me/navigation_links/\Q$row->{id}\E$}, '... and it is said where people find it');
my $again = decode_json(install('Doors', $page)->{out});
is_deeply($again, { %$row, result => 'present' }, 'a second time it is there');
is(posts(), 0, '... and nothing is written');
my $renamed = install('Access', $page);
is_deeply(decode_json($renamed->{out}), { %$row, result => 'present' }, 'with another label as well, because people may rename links');
like($renamed->{err}, qr/NOTICE: .*the link is there with another label\n.*\n?.*HINT: .*cobot_remove_link/s, '... with a word about it');
is(posts(), 0, '... and still nothing is written');
is(decode_json(install('Doors', $page, $_)->{out})->{result}, 'created', "another section: $_") foreach qw(admin/setup admin/analyze members);
is(decode_json(install('Doors', "$page&more", 'members')->{out})->{result}, 'created', 'another page');
is(scalar($cobot->links($first)), 5, 'there are five now');

# --- list ---
my @listed = $t->rows("SELECT * FROM smartspace.cobot_list_links($loft)");
is_deeply([ sort map { "$_->{section} $_->{label} $_->{iframe_url}" } @listed ], [ sort map { "$_->{section} $_->{label} $_->{iframe_url}" } $cobot->links($first) ], 'all of them are listed');
is((grep { $_->{id} eq $row->{id} && $_->{user_url} eq $row->{user_url} } @listed), 1, '... with their ids');

# --- those of another app and another space ---
my $yard = $t->connect_space($second);
is($t->sql("SELECT count(*) FROM smartspace.cobot_list_links($yard)"), 0, 'another space has none');
my $other = $cobot->token(client_id => 'another-app');
my $loft_token = $t->sql("SELECT token FROM smartspace.cobot_secret WHERE integration_id = $loft");
$t->sql("UPDATE smartspace.cobot_secret SET token = '$other' WHERE integration_id = $loft");
is($t->sql("SELECT count(*) FROM smartspace.cobot_list_links($loft)"), 0, 'links of another app are not listed');
is($t->sql("SELECT smartspace.cobot_remove_link($loft, '$row->{id}')"), 'was not there', '... nor removed');
is(decode_json(install('Doors', $page)->{out})->{result}, 'created', '... and no reason to do without one\'s own');
$t->sql("UPDATE smartspace.cobot_secret SET token = '$loft_token' WHERE integration_id = $loft");

# --- remove ---
is($t->sql("SELECT smartspace.cobot_remove_link($loft, '$row->{id}')"), 'removed', 'a link is removed');
is((grep { $_->{url} =~ m{/\Q$row->{id}\E$} } $cobot->links($first)), 0, '... at Cobot');
is($t->sql("SELECT smartspace.cobot_remove_link($loft, '$row->{id}')"), 'was not there', '... once');
foreach my $id ('../memberships', '..', 'a b', "a\r\nX-Evil: 1", q{%2e%2e/'"?x=1#y}, "\xc3\xb6")
{
	$cobot->clear_log;
	is($t->sql("SELECT smartspace.cobot_remove_link($loft, " . quoted($id) . ')'), 'was not there', 'an odd id: ' . $id =~ s/[^ -~]/?/gr);
	is((grep { $_->{path} !~ m{^/api/navigation_links/} } $cobot->log), 0, '... leads nowhere else');
}
is($t->try("SELECT smartspace.cobot_remove_link($loft, $_->[0])")->{sqlstate}, $_->[1], "no id: $_->[0]") foreach [ "''", '22023' ], [ 'NULL', '22004' ], [ "repeat('x', 10000)", '22023' ];

# --- texts that are no good ---
$cobot->clear_log;
foreach my $url ('', 'http://backend.example/', 'http://localhost/', 'javascript:alert(1)', 'https://', 'https:///x', 'https://a@b.example/', "https://backend.example/\r\nX: 1", 'https://backend.example/a b',
	'https://backend.example/#x', 'https://backend.example/"', 'https://backend.example/' . 'x' x 10000, "https://backend.example/\xc3\xb6")
{
	is(install('Doors', $url)->{sqlstate}, '22023', 'no page: ' . substr($url, 0, 40) =~ s/[^ -~]/?/gr);
}
is(install($_, $page)->{sqlstate}, '22023', 'no label: ' . substr($_, 0, 20) =~ s/[^ -~]/?/gr) foreach '', '   ', "a\r\nb", "a\tb", 'x' x 201, 'x' x 10000;
is(install('Doors', $page, $_)->{sqlstate}, '22023', 'no section: ' . substr($_, 0, 20) =~ s/[^ -~]/?/gr) foreach '', 'admin', 'Members', "members\n", 'x' x 10000;
is($t->try("SELECT smartspace.cobot_install_link($_->[0])")->{sqlstate}, $_->[1], "not: $_->[0]") foreach [ "NULL, 'x', '$page'", '22004' ], [ "$loft, NULL, '$page'", '22004' ],
  [ "$loft, 'x', NULL", '22004' ], [ "$loft, 'x', '$page', NULL", '22004' ], [ "4711, 'x', '$page'", '42704' ];
is(scalar($cobot->log), 0, 'Cobot is asked about none of these');
my $odd = q{Türen & "Schlösser" 100 %s \\ 'x' </script> 日本};
my $odd_link = install($odd, 'https://backend.example/odd');
is(decode_json($odd_link->{out})->{result}, 'created', 'an odd label is fine');
is($t->sql("SELECT count(*) FROM smartspace.cobot_list_links($loft) WHERE label = " . quoted($odd)), 1, '... and comes back as it was');

# --- Cobot says no ---
my $poor = $cobot->token(scopes => [qw(read_user read_memberships)]);
$t->sql("UPDATE smartspace.cobot_secret SET token = '$poor' WHERE integration_id = $loft");
foreach my $call ("cobot_list_links($loft)", "cobot_install_link($loft, 'x', '$page')", "cobot_remove_link($loft, 'x')")
{
	my $answer = $t->try("SELECT * FROM smartspace.$call");

	is($answer->{sqlstate}, '42501', "$call: without the scope it is refused");
	like($answer->{err}, qr/it needs the scope navigation\nDETAIL:  HTTP status 403.*\nHINT:  Add the scope navigation to the OAuth client/, '... with what to do');
}
$t->sql("UPDATE smartspace.cobot_secret SET token = '$loft_token' WHERE integration_id = $loft");
foreach my $case ([ 'HTTP 500', { status => 500 }, '08006' ], [ 'a page', { body => '<html>' }, '08P01' ], [ 'an object', { body => '{}' }, '08P01' ],
	[ 'no url', { body => '[{"section":"members","label":"x","iframe_url":"https://x.example"}]' }, '08P01' ], [ 'a number', { body => '[{"url":17}]' }, '08P01' ])
{
	my ($name, $fault, $sqlstate) = @$case;

	$cobot->fault(match => { path => '/api/navigation_links', method => 'GET' }, times => 0, %$fault);
	is(install('Doors', $page)->{sqlstate}, $sqlstate, "the list: $name: nothing is installed");
	is(posts(), 0, '... because nothing is known');
	$cobot->clear_faults;
}
$cobot->fault(match => { path => '/api/navigation_links', method => 'POST' }, times => 1, status => 422);
is(install('Doors', "$page#2" =~ s/#/-/r)->{sqlstate}, '22023', 'Cobot may reject a link');
$cobot->fault(match => { path => '/api/navigation_links', method => 'POST' }, times => 1, drop => JSON::PP::true, perform => JSON::PP::true);
is(install('Lost', 'https://backend.example/lost')->{sqlstate}, '08001', 'an answer that got lost is an error');
is(decode_json(install('Lost', 'https://backend.example/lost')->{out})->{result}, 'present', '... and the next attempt finds what it made');

# --- two at once ---
$cobot->fault(match => { path => '/api/navigation_links', method => 'GET' }, times => 1, delay_ms => 700);
my @sessions = map { $t->node->background_psql('postgres', on_error_stop => 0) } 1, 2;
$_->query_until(qr/go/, "\\echo go\nSELECT result FROM smartspace.cobot_install_link($loft, 'Twice', 'https://backend.example/twice');\n") foreach @sessions;
is(join(' ', sort map { $_->query('SELECT 1') =~ /(created|present)/ } @sessions), 'created present', 'two who install the same link at once make one');
$_->quit foreach @sessions;

# --- not connected, and nobody's business ---
$t->sql("SELECT smartspace.cobot_disconnect($loft)");
is($t->try("SELECT smartspace.cobot_list_links($loft)")->{sqlstate}, '55000', 'what is not connected has no links');
is($t->try("BEGIN READ ONLY; SELECT smartspace.cobot_install_link($yard, 'x', '$page')")->{sqlstate}, '25006', 'nothing is installed in a read-only transaction');
$t->sql('CREATE ROLE nobody LOGIN; GRANT USAGE ON SCHEMA smartspace TO nobody');
is($t->try("SET ROLE nobody; SELECT * FROM smartspace.$_")->{sqlstate}, '42501', "refused: $_") foreach "cobot_list_links($yard)", "cobot_install_link($yard, 'x', '$page')", "cobot_remove_link($yard, 'x')";

done_testing();
