# The first synchronisation brings every field into its column, byte for byte; the
# second one on the same input writes nothing.
use strict;
use warnings;
use utf8;

use CobotTest;
use Test::More;

my $t = CobotTest->new(members => 40);
my $space = $t->connect_space('demo-space');

# --- a record in which every field is filled, with what people write ---
my %plan = (
	name => 'Full "Time"', description => "24/7\n日本語", parent_plan => { id => 'full-time' },
	price_per_cycle => '200.0', price_per_cycle_in_cents => 20000, total_price_per_cycle => '210.0', tax_rate => '19.0',
	currency => 'EUR', cycle_duration => 3, cancellation_period => 14, canceled_to => '2027/03/31', accounting_code => undef,
	extras => [ { name => "Locker 'big'", price => '10.0', price_in_cents => 1000, tax_rate => '19.0', currency => 'EUR' } ],
	booking_credits => [], time_passes => [ { id => '0', name => 'Day Pass', discounts => [] } ]);
$t->cobot->add_plan('demo-space', id => 'full-time', name => 'Full Time');
$t->cobot->put_member('demo-space', 'user-jane', {
	id => 'user-jane', name => "Ada \"the\" O'Brien\nLovelace 🦊 \\", email => 'ada@example.com', phone => '+49 30 0000',
	user => { id => '1d4d33ea-2501-5790-146a-6f12aeb50001', email => 'login@example.com' },
	picture => 'https://example.com/p.jpg?a=1&b=2',
	address => { company => 'Engine Ltd', name => 'مرحبا بالعالم', full_address => "1 Street\n10115 Berlin",
		address => '1 Street', post_code => '010115', city => 'Köln', state => undef, country => 'Germany' },
	billing_emails => [ 'billing@example.com', 'a,"b"@example.com' ], charge_taxes => JSON::PP::true,
	customer_number => '0010001', plan => \%plan,
	upcoming_plan => { name => 'Next', parent_plan => { id => 'next' } },
	payment_method => { name => 'cash', automated => JSON::PP::false },
	confirmed_at => '2026/01/01 12:00:00 +0200', starts_at => '2026/01/01', canceled_to => '2027/12/31',
	next_invoice_at => '2026/04/01', team_id => 'team-7', favourite_colour => { unknown => [ 'key' ] } });
$t->cobot->set_field('demo-space', 'user-jane', smart_spaces_access_additional_units => " Workshop,\u{200b}Büro ");

# --- a record with as little as there can be: missing, not null ---
$t->cobot->put_member('demo-space', 'bare', {
	id => 'bare', plan => { name => 'Bare' }, confirmed_at => '2026/01/01 12:00:00 +0000', canceled_to => undef });

my $run = $t->sync($space);
is($run->{members_seen}, 42, 'every member was seen');
is($run->{members_added}, 42, 'every member is new');
is($run->{requests}, 5, 'five requests, not one for each member');
cmp_ok($run->{bytes}, '>', 1000, 'bytes are counted');

my $ada = $t->row("SELECT * FROM smartspace.cobot_membership WHERE cobot_id = 'user-jane'");
delete @{$ada}{qw(id plan_id source_hash created_at)};
is_deeply($ada, {
	integration_id => $space, cobot_id => 'user-jane', name => "Ada \"the\" O'Brien\nLovelace 🦊 \\",
	email => 'ada@example.com', phone => '+49 30 0000', company => 'Engine Ltd', address_name => 'مرحبا بالعالم',
	full_address => "1 Street\n10115 Berlin", address => '1 Street', post_code => '010115', city => 'Köln', state => undef,
	country => 'Germany', billing_emails => [ 'billing@example.com', 'a,"b"@example.com' ], charge_taxes => JSON::PP::true,
	customer_number => '0010001', picture => 'https://example.com/p.jpg?a=1&b=2',
	user_id => '1d4d33ea-2501-5790-146a-6f12aeb50001', user_email => 'login@example.com', team_id => 'team-7',
	plan_name => 'Full "Time"', plan_description => "24/7\n日本語", parent_plan_id => 'full-time',
	plan_price_per_cycle => '200', plan_currency => 'EUR', plan_cycle_duration => 3, plan_canceled_to => '2027-03-31',
	extras => $plan{extras}, time_passes => $plan{time_passes}, upcoming_plan_name => 'Next', upcoming_parent_plan_id => 'next',
	payment_method => 'cash', payment_automated => JSON::PP::false, confirmed_at => '2026-01-01T10:00:00+00:00',
	starts_at => '2026-01-01', canceled_to => '2027-12-31', next_invoice_at => '2026-04-01',
	individual_access => " Workshop,\u{200b}Büro ", departed_at => undef, erased_at => undef
}, 'every field of a full record landed in its column');

my $bare = $t->row("SELECT * FROM smartspace.cobot_membership WHERE cobot_id = 'bare'");
my @filled = sort grep { defined $bare->{$_} } keys %$bare;
is_deeply(\@filled, [qw(cobot_id confirmed_at created_at id integration_id plan_name source_hash)], 'what is missing is null');

is($t->sql("SELECT p.cobot_id FROM smartspace.cobot_membership m JOIN smartspace.cobot_plan p ON p.id = m.plan_id"
		  . " WHERE m.cobot_id = 'user-jane'"), 'full-time', 'the plan is found by its parent id');

# --- every generated member as well: the mirror equals the server's own state ---
my %told = map { $_->{id} => $_ } @{ $t->cobot->space('demo-space')->{memberships} };
my %stored = map { $_->{cobot_id} => $_ } $t->rows('SELECT * FROM smartspace.cobot_membership');
my $wrong = 0;
foreach my $id (keys %stored)
{
	my ($a, $b) = ($told{$id}, $stored{$id});

	foreach my $pair ([ $a->{name}, $b->{name} ], [ $a->{email}, $b->{email} ], [ $a->{phone}, $b->{phone} ],
		[ $a->{address}{full_address}, $b->{full_address} ], [ $a->{plan}{name}, $b->{plan_name} ],
		[ $a->{user}{id}, $b->{user_id} ], [ $a->{customer_number}, $b->{customer_number} ])
	{
		$wrong++ if ($pair->[0] // '<null>') ne ($pair->[1] // '<null>');
	}
}
is($wrong, 0, 'names, addresses and plans of all members equal those at Cobot');

# --- the same again: no row of mirror or grants is written ---
my $door = $t->group('Front door');
$t->assign('full-time', $door);
$t->group('Workshop', identifier => 'workshop');
is($t->groups_of('user-jane'), 'Front door (plan), Workshop (individual)', 'plan and custom field give groups');
is($t->grants_differ, 0, 'grants equal their definition');

my $before = $t->contents;
my $wal_before = $t->sql('SELECT pg_current_wal_insert_lsn()');
my $again = $t->sync($space);
my $wal = $t->sql("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '$wal_before')");
is($again->{members_seen}, 42, 'the second run saw the same members');
is_deeply([ @{$again}{qw(members_added members_changed members_removed grants_given grants_changed grants_taken)} ],
	[ 0, 0, 0, 0, 0, 0 ], 'and changed nothing');
is($t->contents, $before, 'no row of mirror or grants was written (xmin and place are the same)');
cmp_ok($wal, '<=', 16384, "the second run wrote $wal bytes of WAL");

# --- reread compares everything and still writes nothing ---
my $reread = $t->try("SELECT members_changed FROM smartspace.cobot_sync($space, reread => true)");
is($reread->{out}, '0', 'reread finds no difference');
is($t->contents, $before, 'reread wrote no row either');

# --- reread heals what somebody changed by hand in the mirror ---
$t->sql("UPDATE smartspace.cobot_membership SET name = 'wrong', starts_at = '2020-01-01' WHERE cobot_id = 'user-jane'");
is($t->try("SELECT members_changed FROM smartspace.cobot_sync($space, reread => true)")->{out}, '1', 'reread finds a mirror row that was edited');
like($t->sql("SELECT name FROM smartspace.cobot_membership WHERE cobot_id = 'user-jane'"), qr/Lovelace/, 'and corrects it');
is($t->grants_differ, 0, 'grants equal their definition');

# --- one connection serves all requests of a session ---
$t->cobot->clear_log;
$t->sql("SELECT smartspace.cobot_sync($space), smartspace.cobot_sync($space)");
my @asked = $t->cobot->log;
my %connections = map { $_->{connection} => 1 } @asked;
is(scalar @asked, 10, 'two runs in one session ask ten times');
cmp_ok(scalar keys %connections, '<', 10, 'over connections that are kept alive');
my ($first) = @asked;
like($first->{user_agent}, qr{^smartspace_cobot/1\.0$}, 'the extension says who it is');

done_testing();
