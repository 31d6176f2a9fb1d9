# Adding our custom field to a space loses no other field and no value, whatever goes
# wrong meanwhile. Cobot's PUT replaces the whole list and deletes what is left out, so
# the worst mistake here is one PUT too many.
use strict;
use warnings;
use utf8;

use CobotTest;
use JSON::PP;
use Test::More;
use Time::HiRes qw(time);

my $t = CobotTest->new(members => 30);
my $json = JSON::PP->new->canonical;
my $ours = 'smart_spaces_access_additional_units';
my $path = '/api/space/custom_fields';
my $quick = "SET smartspace_cobot.request_timeout = '700ms';";
my $space = $t->sql("SELECT smartspace.cobot_create_integration('demo-space', 'demo-space', sync_individual_access => true)");

# Twelve fields with values, as a space has that was in use for years.
my @labels = ('Wi-Fi user name', 'Locker number', 'Emergency contact', 'Door PIN', 'MAC addresses', 'Allergies',
	'Birthday', 'Türschild', 'Notes "internal"', 'Badge\\RFID', 'お名前', 'smart_spaces_access');
my @members = map { $_->{id} } @{ $t->cobot->control(GET => '/spaces/demo-space/memberships?attributes=id') };

sub fill_space
{
	$t->cobot->set_fields('demo-space', map { { label => $_ } } @_);
	foreach my $i (0 .. $#_)
	{
		$t->cobot->set_field('demo-space', $members[ $i % 5 ], $_[$i] => "value $i\nof $_[$i]");
	}
	$t->cobot->clear_log;
	return;
}

# What there is in Cobot: the definitions in order, and the values of all members.
sub in_cobot
{
	my $state = $t->cobot->space('demo-space');

	return {
		fields => $state->{custom_fields},
		values => { map { $_->{id} => $_->{custom_fields} } @{ $state->{memberships} } },
	};
}

sub requests
{
	my ($method) = @_;

	return grep { $_->{path} eq $path && $_->{method} eq $method } $t->cobot->log;
}

# Connects and returns the result column custom_field, and what the server said.
sub connect_space
{
	my (%options) = @_;
	my $token = $options{token} // 'admin-token';
	my $settings = $options{settings} // '';
	my $answer = $t->try("$settings SELECT 'field: ' || custom_field || ', state: ' || state FROM smartspace.cobot_connect_token($space, '$token')");

	die "connecting failed: $answer->{err}" unless $answer->{ok};
	return ($answer->{out}, $answer->{err});
}

sub check_untouched
{
	my ($before, $name) = @_;

	is(scalar(requests('PUT')), 0, "$name: nothing was written");
	is_deeply(in_cobot(), $before, "$name: fields and values are as before");
	return;
}

# Ours was appended once, and everything else is as before.
sub check_appended
{
	my ($before, $name) = @_;
	my $after = in_cobot();
	my $added = pop @{ $after->{fields} };

	is(scalar(requests('PUT')), 1, "$name: one PUT");
	is($added->{label}, $ours, "$name: our field was added, at the end");
	is_deeply($after, $before, "$name: every other field has its id and label, and every member their values");
	return;
}

# --- twelve fields with values become thirteen ---
fill_space(@labels);
my $before = in_cobot();
is(scalar @{ $before->{fields} }, 12, 'twelve fields at the beginning');
my ($out, $err) = connect_space();
is($out, 'field: created, state: connected', 'connecting creates our field');
is($err, '', '... silently');
check_appended($before, 'connecting');
is(scalar @{ in_cobot()->{fields} }, 13, 'thirteen fields at the end');
is_deeply([ map { $_->{method} } grep { $_->{path} eq $path } $t->cobot->log ], [qw(GET GET PUT GET)], 'read, read again, write, read');

# --- it is there already ---
$t->cobot->clear_log;
$before = in_cobot();
($out) = connect_space();
is($out, 'field: present, state: connected', 'connecting again finds it');
check_untouched($before, 'present');
is($t->sql("SELECT smartspace.cobot_ensure_custom_field($space)"), 'present', 'cobot_ensure_custom_field finds it as well');
check_untouched($before, 'present');

# --- a space without any field ---
fill_space();
$before = in_cobot();
is($t->sql("SELECT smartspace.cobot_ensure_custom_field($space)"), 'created', 'in a space without fields ours is created');
check_appended($before, 'no fields');

# --- similar labels are not ours ---
fill_space(' smart_spaces_access_additional_units', 'Smart_spaces_access_additional_units', 'smart_spaces_access_additional_units2');
$before = in_cobot();
is($t->sql("SELECT smartspace.cobot_ensure_custom_field($space)"), 'created', 'labels that differ in case or blanks are other fields');
check_appended($before, 'similar labels');

# --- the label twice ---
fill_space('Phone', $ours, $ours);
$before = in_cobot();
($out, $err) = connect_space();
is($out, 'field: ambiguous, state: connected', 'with the label twice the space is connected all the same');
like($err, qr/WARNING:  42710: the space has 2 custom fields named "$ours"\nHINT:  Rename all but one of them in Cobot\. Then run SELECT smartspace\.cobot_ensure_custom_field\($space\)\./, '... with a WARNING');
check_untouched($before, 'ambiguous');
my $ensure = $t->try("SELECT smartspace.cobot_ensure_custom_field($space)");
is($ensure->{sqlstate}, '42710', 'cobot_ensure_custom_field says so as an error');
check_untouched($before, 'ambiguous');

# --- reads that fail: nothing is written, for there is nothing to add to ---
fill_space(@labels);
$before = in_cobot();
my @failed_reads = (
	[ 'HTTP 500', { status => 500 } ],
	[ 'HTTP 401', { status => 401 } ],
	[ 'HTTP 404', { status => 404 } ],
	[ 'HTTP 429', { status => 429 } ],
	[ 'a page with status 200', { body => '<html></html>' } ],
	[ 'an object', { body => '{}' } ],
	[ 'truncated JSON', { truncate => 0.5 } ],
	[ 'a cut body', { cut => 200 } ],
	[ 'a stalled body', { stall => 200 } ],
	[ 'no answer', { drop => JSON::PP::true, times => 2 } ],
	[ 'a field without id', { body => $json->encode([ @{ $before->{fields} }, { label => 'New' } ]), times => 2 } ],
	[ 'a field with a number as id', { body => $json->encode([ { id => 1, label => 'New' } ]), times => 2 } ],
	[ 'a field without label', { body => $json->encode([ { id => 'f1' } ]), times => 2 } ],
	[ 'a field that is no object', { body => '["Phone"]', times => 2 } ]);
foreach my $which ('first', 'second')
{
	foreach my $case (@failed_reads)
	{
		my ($name, $fault) = @$case;

		$t->cobot->clear_log;
		$t->cobot->fault(match => { path => $path, method => 'GET' }, skip => $which eq 'first' ? 0 : 1, %$fault);
		($out, $err) = connect_space(settings => $quick);
		$t->cobot->clear_faults;
		is($out, 'field: failed, state: connected', "$which read is $name: connected without the field");
		like($err, qr/^.*WARNING:  .*\n(DETAIL:  .*\n)?HINT:  .* Then run SELECT smartspace\.cobot_ensure_custom_field\($space\)\./m, '... with a WARNING that tells what to do');
		check_untouched($before, "$which read is $name");
	}
}

# --- lists that are well-formed and lack fields of which members have values: not believed ---
foreach my $case ([ 'an empty list', [] ], [ 'half of the list', [ @{ $before->{fields} }[ 0 .. 5 ] ] ])
{
	my ($name, $list) = @$case;

	$t->cobot->clear_log;
	$t->cobot->fault(match => { path => $path, method => 'GET' }, times => 0, body => $json->encode($list));
	($out, $err) = connect_space();
	$t->cobot->clear_faults;
	is($out, 'field: failed, state: connected', "$name while members have values of other fields is not believed");
	like($err, qr/WARNING:  08P01: Cobot's list of custom fields lacks some that members have values of, so it is left alone/, '... and that is said');
	check_untouched($before, $name);
}
foreach my $case ([ 'HTTP 500', { status => 500 } ], [ 'a stalled body', { stall => 200 } ], [ 'an object', { body => '{}' } ],
	[ 'records without fields', { body => '[{"membership_id":"m1"}]' } ])
{
	my ($name, $fault) = @$case;

	$t->cobot->clear_log;
	$t->cobot->fault(match => { path => '/api/custom_fields' }, %$fault);
	($out) = connect_space(settings => $quick);
	$t->cobot->clear_faults;
	is($out, 'field: failed, state: connected', "the members' values are $name: connected without the field");
	check_untouched($before, "the members' values are $name");
}

# --- somebody else adds a field between the two reads ---
sub change_between_reads
{
	my ($label) = @_;

	return { method => 'PUT', path => '/spaces/demo-space/custom_fields', body => [ @{ in_cobot()->{fields} }, { label => $label } ] };
}

fill_space(@labels);
$t->cobot->fault(match => { path => $path, method => 'GET' }, then => [ change_between_reads('Added meanwhile') ]);
is($t->sql("SELECT smartspace.cobot_ensure_custom_field($space)"), 'created', 'a change between the reads delays our field');
my $after = in_cobot();
is_deeply([ map { $_->{label} } @{ $after->{fields} } ], [ @labels, 'Added meanwhile', $ours ], '... and the field added meanwhile survives');
my ($put) = requests('PUT');
is(scalar(requests('PUT')), 1, '... with one PUT');
like($put->{body}, qr/Added meanwhile/, '... that knows the field added meanwhile');
is_deeply([ map { $_->{method} } grep { $_->{path} eq $path } $t->cobot->log ], [qw(GET GET GET GET PUT GET)], '... after two reads that agree');
is_deeply($after->{values}, { %{ $after->{values} }, map { $_ => $before->{values}{$_} } keys %{ $before->{values} } }, '... and the values are as before');

# --- somebody who never stops: given up ---
foreach my $change ('a field more each time', 'a label each time')
{
	fill_space(@labels);
	foreach my $i (1 .. 12)
	{
		my @fields = @{ in_cobot()->{fields} };

		push @fields, { label => "Number $_" } foreach $change =~ /field/ ? 1 .. $i : ();
		$fields[0] = { %{ $fields[0] }, label => "Number $i" } if $change =~ /label/;
		$t->cobot->fault(match => { path => $path, method => 'GET' },
			then => [ { method => 'PUT', path => '/spaces/demo-space/custom_fields', body => \@fields } ]);
	}
	$ensure = $t->try("SELECT smartspace.cobot_ensure_custom_field($space)");
	$t->cobot->clear_faults;
	is($ensure->{sqlstate}, '55006', "$change: given up");
	like($ensure->{err}, qr/the custom fields are being changed by somebody else, so they are left alone\nHINT:  Try again in a minute\./, '... with a reason');
	is(scalar(requests('PUT')), 0, '... without a PUT');
	cmp_ok(scalar(requests('GET')), '<=', 6, '... after a bounded number of reads');
	is($t->sql("SELECT smartspace.cobot_ensure_custom_field($space)"), 'created', '... and done once it is quiet');
}

# --- somebody else is faster with our field ---
fill_space(@labels);
$t->cobot->fault(match => { path => $path, method => 'GET' }, then => [ change_between_reads($ours) ]);
is($t->sql("SELECT smartspace.cobot_ensure_custom_field($space)"), 'present', 'our field, added by another session between the reads, is present');
is(scalar(requests('PUT')), 0, '... without a PUT');

# --- a PUT that worked although its answer says otherwise, or never came ---
foreach my $case (
	[ 'stalled', { stall => 'headers' } ],
	[ 'dropped', { drop => JSON::PP::true } ],
	[ 'cut', { cut => 20 } ],
	[ 'HTTP 500', { status => 500 } ],
	[ 'HTTP 502', { status => 502 } ],
	[ 'HTTP 429', { status => 429, headers => { 'Retry-After' => '0' } } ],
	[ 'a page with status 200', { body => '<html></html>' } ])
{
	my ($name, $fault) = @$case;

	fill_space(@labels);
	$before = in_cobot();
	$t->cobot->fault(match => { path => $path, method => 'PUT' }, times => 0, perform => JSON::PP::true, %$fault);
	is($t->try("$quick SET smartspace_cobot.max_retries = 2; SELECT smartspace.cobot_ensure_custom_field($space)")->{out}, 'created',
		"the answer to the PUT is $name, but it worked: created");
	$t->cobot->clear_faults;
	check_appended($before, "the answer to the PUT is $name");
}

# --- a PUT that did not work: an error, and no second try ---
foreach my $case (
	[ 'HTTP 500', { status => 500 }, '08006' ],
	[ 'HTTP 502', { status => 502 }, '08006' ],
	[ 'HTTP 503', { status => 503, headers => { 'Retry-After' => '0' } }, '08006' ],
	[ 'HTTP 422', { status => 422 }, '22023' ],
	[ 'HTTP 429', { status => 429, headers => { 'Retry-After' => '0' } }, '53400' ],
	[ 'stalled', { stall => 'headers' }, '08006' ],
	[ 'dropped', { drop => JSON::PP::true }, '08001' ],
	[ 'an empty list with status 200', { body => '[]' }, '08P01' ])
{
	my ($name, $fault, $sqlstate) = @$case;

	fill_space(@labels);
	$before = in_cobot();
	$t->cobot->fault(match => { path => $path, method => 'PUT' }, times => 0, %$fault);
	$ensure = $t->try("$quick SET smartspace_cobot.max_retries = 2; SELECT smartspace.cobot_ensure_custom_field($space)");
	$t->cobot->clear_faults;
	is($ensure->{sqlstate}, $sqlstate, "the PUT is answered by $name: an error");
	like($ensure->{err}, qr/^HINT:  /m, '... with a HINT');
	is(scalar(requests('PUT')), 1, '... after one PUT');
	is_deeply(in_cobot(), $before, '... and fields and values are as before');
}

# --- fields that vanish with the PUT are reported ---
fill_space(@labels);
my @short = @{ in_cobot()->{fields} }[ 0 .. 9 ];
$t->cobot->fault(match => { path => $path, method => 'GET' }, skip => 2,
	body => $json->encode([ @short, { id => 'new', label => $ours } ]));
$ensure = $t->try("SELECT smartspace.cobot_ensure_custom_field($space)");
is($ensure->{sqlstate}, '08P01', 'fields that are gone afterwards are an error');
utf8::encode(my $missing = qq("$labels[10]", "$labels[11]"));
like($ensure->{err}, qr/^DETAIL:  Missing: \Q$missing\E\.$/m, '... that names them');

# --- a token without the right to write ---
fill_space(@labels);
$before = in_cobot();
my $reader = $t->cobot->token(scopes => [qw(read_user read_memberships read_plans read_custom_fields)]);
($out, $err) = connect_space(token => $reader);
is($out, 'field: failed, state: connected', 'without write_custom_fields the space is connected all the same');
like($err, qr/WARNING:  42501: the token lacks the scope write_custom_fields: /, '... with a WARNING that names the scope');
like($err, qr/WARNING:  42501: could not write the custom field definitions of "demo-space": the token is not allowed to do this/, '... and one that says what failed');
is_deeply(in_cobot(), $before, '... and fields and values are as before');
cmp_ok(scalar(requests('PUT')), '<=', 1, '... after at most one try');

$t->cobot->set_fields('demo-space', @{ $before->{fields} }, { label => $ours });
$t->cobot->clear_log;
($out, $err) = connect_space(token => $reader);
is($out, 'field: present, state: connected', 'a field that is there needs no right to write');
is(scalar(requests('PUT')), 0, '... and no PUT');

# --- a token without the right to read ---
fill_space(@labels);
$before = in_cobot();
($out, $err) = connect_space(token => $t->cobot->token(scopes => [qw(read_user read_memberships read_plans write_custom_fields)]));
is($out, 'field: failed, state: connected', 'without read_custom_fields nothing can be added');
check_untouched($before, 'without read_custom_fields');

# --- once it is mended ---
($out) = connect_space(settings => '');
is($out, 'field: created, state: connected', 'with a good token it is created');
is($t->sql("SELECT smartspace.cobot_ensure_custom_field($space)"), 'present', '... and present from then on');

# --- individual access off: custom fields are nobody's business ---
fill_space(@labels);
$before = in_cobot();
$t->sql("UPDATE smartspace.cobot_integration SET sync_individual_access = false WHERE id = $space");
($out, $err) = connect_space();
is($out, 'field: individual access is switched off, state: connected', 'individual access off: connected');
is($err, '', '... silently');
$t->sync($space);
is((grep { $_->{path} =~ /custom_fields/ } $t->cobot->log), 0, '... and no request to custom fields, in connecting and synchronising');
is_deeply(in_cobot(), $before, '... and fields and values are as before');

done_testing();
