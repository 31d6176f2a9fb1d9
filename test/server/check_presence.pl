#!/usr/bin/perl
# Checks the test server itself: check-ins, time passes, check-in tokens.
use strict;
use warnings;

use File::Basename qw(dirname);
use POSIX qw(strftime);
use Test::More;

use lib dirname(__FILE__);
use CheckServer;

my $record_keys = [qw(id membership membership_id valid_from valid_until)];

# Noon in the space, so that no day of any kind ends while we look: zone and the hours it is ahead.
sub noon
{
	my $ahead = 12 - (gmtime)[2];

	$cobot->patch_space('demo-space', time_zone_name => sprintf 'Etc/GMT%+d', -$ahead);
	return $ahead;
}

# So many seconds from now, as a client writes it in a query.
sub moment { return strftime '%Y-%m-%dT%H:%M:%SZ', gmtime time + $_[0]; }

sub range { return 'from=' . moment($_[0]) . '&to=' . moment($_[1]); }

sub ids { return [ map { $_->{id} } @{ $_[0]{data} } ]; }

sub check_in { return ask(POST => "$space/api/memberships/$_[0]{id}/work_sessions", json => {}, @_[ 1 .. $#_ ]); }

# A member whose plan has time passes.
sub member_with_passes
{
	my ($unused) = @_;
	my ($plan) = grep { @{ $_->{time_passes} } } @{ ask(GET => "$space/api/plans")->{data} };
	my $member = $cobot->add_member('demo-space', plan => { parent_plan => { id => $plan->{id} } });

	$cobot->set_passes('demo-space', $member->{id}, $unused);
	return $member;
}

sub admin_checks_a_member_in_and_out
{
	my $ahead = noon();
	my $member = $cobot->add_member('demo-space', name => 'Ada');
	my $made = check_in($member);
	is $made->{status}, 201, 'checked in';
	my $record = $made->{data};
	is_deeply [ sort keys %$record ], $record_keys, 'shown as documented, without a pass';
	is_deeply $record->{membership}, { id => $member->{id}, name => 'Ada' }, 'who it is';
	is $record->{membership_id}, $member->{id}, 'twice';
	my $midnight = (int((time + $ahead * 3600) / 86400) + 1) * 86400 - $ahead * 3600;
	is $record->{valid_until}, strftime('%Y/%m/%d %H:%M:%S +0000', gmtime $midnight + 4 * 3600 - 1), 'until one second before four in the morning';
	is_deeply ask(GET => "$space/api/check_ins")->{data}, [$record], 'here today';
	is_deeply ask(GET => "$space/api/check_ins/$record->{id}")->{data}, $record, 'by id';
	is ask(GET => "$space/api/check_ins/unknown")->{status}, 404, 'unknown id';
	$cobot->patch_member('demo-space', $member->{id}, name => 'Ada L.');
	is ask(GET => "$space/api/check_ins")->{data}[0]{membership}{name}, 'Ada L.', 'the name is that of today';

	my $current = "$space/api/memberships/$member->{id}/check_ins/current";
	is ask(DELETE => $current)->{status}, 204, 'checked out';
	is ask(DELETE => $current)->{status}, 404, 'once';
	is ask(DELETE => "$space/api/memberships/nobody/check_ins/current")->{status}, 404, 'nobody';
	my $left = ask(GET => "$space/api/check_ins/$record->{id}")->{data};
	cmp_ok $left->{valid_until}, 'lt', $record->{valid_until}, 'no longer valid';
	is_deeply ids(ask(GET => "$space/api/check_ins")), [ $record->{id} ], 'was here today';
	is check_in($member)->{status}, 201, 'back again';
	$cobot->delete_member('demo-space', $member->{id});
	is_deeply [ sort keys %{ ask(GET => "$space/api/check_ins")->{data}[0] } ], [ grep { $_ ne 'membership' } @$record_keys ],
	  'of a deleted member only the id is left';
	$cobot->reset;
	return;
}

sub lists_hold_a_day_or_a_range
{
	noon();
	my ($one, $two) = map { $cobot->add_member('demo-space') } 1 .. 2;
	my $now = $cobot->add_check_in('demo-space', membership_id => $one->{id});
	my ($hours, $day) = map { $cobot->add_check_in('demo-space', membership_id => $two->{id}, valid_from => moment($_)) } -3600, -86400;
	my $days = $cobot->add_check_in('demo-space', membership_id => $one->{id}, valid_from => moment(-3 * 86400), valid_until => moment(-3 * 86400 + 60));
	is_deeply ids(ask(GET => "$space/api/check_ins")), [ map { $_->{id} } $now, $hours ], 'today';
	my $sessions = "$space/api/work_sessions";
	is_deeply ids(ask(GET => "$sessions?" . range(-86500, -3500))), [ map { $_->{id} } $hours, $day ], 'a range';
	is_deeply ids(ask(GET => "$sessions?" . range(-3600 * 1000, 60))), [ map { $_->{id} } $now, $hours, $day, $days ], 'all';
	foreach my $slash ('', '/')
	{
		my $url = "$space/api/memberships/$one->{id}/check_ins$slash?" . range(-86400 * 10, 60);
		is_deeply ids(ask(GET => $url)), [ map { $_->{id} } $now, $days ], "one member's $slash";
	}
	is_deeply ids(ask(GET => "$space/api/memberships/$two->{id}/check_ins?" . range(-60, 60))), [], 'none';
	is ask(GET => "$space/api/memberships/nobody/check_ins?" . range(-60, 60))->{status}, 404, 'unknown member';

	my ($date, $clock) = moment(-3600) =~ /^(.*)T(.*)Z$/;
	my $to = 'to=' . moment(-3599);
	is_deeply ids(ask(GET => "$sessions?from=$_&$to")), [ $hours->{id} ], "from=$_"
	  foreach moment(-3600), "$date%20$clock%20%2B0000", "$date%20$clock", "${date}T$clock.000Z", ($date =~ s{-}{/}gr) . "%20$clock%20%2B00:00";
	is_deeply ids(ask(GET => "$sessions?" . range(-3599, -3599 + 60))), [], 'what began before is not in it';
	is_deeply ids(ask(GET => "$sessions?" . range(-3700, -3600))), [], 'nor what begins when it ends';
	is ask(GET => "$sessions?$_")->{status}, 422, "a range needs both ends: $_"
	  foreach '', 'from=2026-01-01', 'to=2026-01-01', 'from=today&to=tomorrow', 'from=2026-01-01T10:00+02:00&to=2026-01-02', 'from=2026-01-01T24:00Z&to=2026-01-02';
	is ask(GET => "$space/api/memberships/$one->{id}/check_ins")->{status}, 422, "a member's, too";

	$cobot->settings(clock_shift_s => 86400);
	is_deeply ids(ask(GET => "$space/api/check_ins")), [], 'tomorrow nobody is here';
	is ask(DELETE => "$space/api/memberships/$one->{id}/check_ins/current")->{status}, 404, 'nor checked in';
	$cobot->settings(clock_shift_s => 0);
	$cobot->delete_check_in('demo-space', $_->{id}) foreach $cobot->check_ins('demo-space');
	is_deeply [ $cobot->check_ins('demo-space'), @{ $cobot->space('demo-space')->{check_ins} } ], [], 'as if they had never been';
	ok !eval { $cobot->add_check_in('demo-space', membership_id => 'nobody') }, 'nobody was never here';
	ok !eval { $cobot->add_check_in('demo-space', membership_id => $one->{id}, valid_from => 'soon') }, 'at no time';
	$cobot->reset;
	return;
}

sub day_of_check_ins_follows_the_zone
{
	$cobot->patch_space('demo-space', time_zone_name => 'Europe/Berlin');
	my $member = $cobot->add_member('demo-space');
	my %until = (
		'2026/03/31 08:37:00 +0000' => '2026/04/01 01:59:59 +0000', '2026/03/31 01:59:59 +0000' => '2026/03/31 01:59:59 +0000',
		'2026/03/31 02:00:00 +0000' => '2026/04/01 01:59:59 +0000', '2026/03/28 12:00:00 +0000' => '2026/03/29 01:59:59 +0000',
		'2026/10/24 12:00:00 +0000' => '2026/10/25 02:59:59 +0000', '2026/12/31 12:00:00 +0100' => '2027/01/01 02:59:59 +0000');
	is $cobot->add_check_in('demo-space', membership_id => $member->{id}, valid_from => $_)->{valid_until}, $until{$_}, "from $_"
	  foreach sort keys %until;
	my $list = ask(GET => "$space/api/work_sessions?from=2026-03-31&to=2026-04-01")->{data};
	is_deeply [ sort map { $_->{valid_from} } @$list ], [ map { "2026/03/31 $_ +0000" } qw(01:59:59 02:00:00 08:37:00) ], 'dates alone';
	$cobot->add_check_in('demo-space', membership_id => $member->{id}, valid_from => '2026/03/30 22:00:00 +0000');
	is scalar @{ ask(GET => "$space/api/work_sessions?from=2026-03-31&to=2026-04-01")->{data} }, 4, 'stand for midnight in the space';
	is scalar @{ ask(GET => "$space/api/work_sessions?from=2026-03-31T00:00:00Z&to=2026-04-01")->{data} }, 3, 'which is not that of UTC';
	$cobot->reset;
	return;
}

sub check_in_uses_up_a_pass
{
	noon();
	my $member = member_with_passes(2);
	my $unused = "$space/api/memberships/$member->{id}/time_passes/unused";
	my @before = @{ ask(GET => $unused)->{data} };
	is_deeply [ sort keys %{ $before[0] } ],
	  [qw(created_at expires_at id name parsed_timespans timespans updated_at url used_at)], 'a pass as documented';
	is scalar @before, 2, 'two';
	my $made = check_in($member);
	is $made->{data}{time_pass}{id}, $before[0]{id}, 'the first one is used up';
	is_deeply ask(GET => $unused)->{data}, [ $before[1] ], 'the other is left';
	is check_in($member)->{status}, 422, 'who is here cannot come again';
	$cobot->settings(repeat_check_in => 'second');
	is check_in($member)->{data}{time_pass}{id}, $before[1]{id}, 'or burns another pass, as set';
	my $none = check_in($member);
	is "$none->{status} $none->{body}", '422 {"errors":{"base":"No time passes left"}}', 'none left';
	$cobot->settings(check_in_error_shape => 'base');
	is check_in($member)->{body}, '{"base":"No time passes left"}', 'in the other form';
	is $cobot->passes('demo-space', $member->{id}), 0, 'none, seen from outside';
	is scalar @{ ask(GET => "$space/api/check_ins")->{data} }, 2, 'two records';
	is ask(DELETE => "$space/api/memberships/$member->{id}/check_ins/current")->{status}, 204, 'one check-out';
	is ask(DELETE => "$space/api/memberships/$member->{id}/check_ins/current")->{status}, 404, 'ends both';
	$cobot->set_passes('demo-space', $member->{id}, 1);
	isnt check_in($member)->{data}{time_pass}{id}, $_->{id}, 'a new pass is another one' foreach @before;

	$cobot->reset;
	my @all = @{ ask(GET => "$space/api/time_passes/unused")->{data} };
	my ($day_pass) = grep { @{ $_->{plan}{time_passes} } && $_->{starts_at} lt strftime('%Y/%m/%d', gmtime) } @{ ask(GET => "$space/api/memberships")->{data} };
	is $cobot->passes('demo-space', $day_pass->{id}), 10, 'as many as the plan includes';
	is scalar(grep { $_->{url} =~ /\Q$day_pass->{id}\E/ } @all), 10, 'in the list of all';
	cmp_ok scalar @all, '>', 10, 'with others';
	is check_in($day_pass)->{status}, 201, 'a generated member checks in';
	is scalar @{ ask(GET => "$space/api/time_passes/unused")->{data} }, @all - 1, 'one less';
	my $free = $cobot->add_member('demo-space');
	$cobot->set_passes('demo-space', $free->{id}, 3);
	ok !exists check_in($free)->{data}{time_pass}, 'on another plan passes are not needed';
	is scalar @{ ask(GET => "$space/api/memberships/$free->{id}/time_passes/unused")->{data} }, 3, 'and not used';
	ok !eval { $cobot->set_passes('demo-space', $free->{id}, -1) }, 'nobody has less than none';
	$cobot->reset;
	return;
}

sub only_active_members_check_in
{
	noon();
	my %member = (
		ended => $cobot->add_member('demo-space', canceled_to => 'today-1d'),
		unconfirmed => $cobot->add_member('demo-space', confirmed_at => undef),
		future => $cobot->add_member('demo-space', starts_at => 'today+1d'));
	is check_in($member{$_})->{status}, 422, $_ foreach sort keys %member;
	is check_in({ id => 'nobody' })->{status}, 404, 'unknown';
	is check_in($cobot->add_member('demo-space', canceled_to => 'today'))->{status}, 201, 'on the last day';
	is check_in($cobot->add_member('demo-space', starts_at => 'today', plan => undef))->{status}, 201, 'on the first, whatever the plan';
	is scalar @{ ask(GET => "$space/api/check_ins")->{data} }, 2, 'nobody else';
	$cobot->reset;
	return;
}

sub lost_answer_is_not_a_lost_check_in
{
	noon();
	my $member = member_with_passes(5);
	my $path = "/api/memberships/$member->{id}/work_sessions";
	my $here = sub { return scalar @{ ask(GET => "$space/api/check_ins")->{data} } . ' ' . $cobot->passes('demo-space', $member->{id}); };

	$cobot->settings(repeat_check_in => 'second');
	$cobot->fault(match => { method => 'POST', path => $path }, %$_) foreach { drop => 1 }, { status => 502 }, { stall => 'headers' };
	check_in($member, timeout => 0.5) foreach 1 .. 3;
	is $here->(), '0 5', 'it never got there';
	$cobot->fault(match => { method => 'POST', path => $path }, perform => 1, %$_) foreach { drop => 1 }, { status => 502 }, { stall => 'headers' };
	is check_in($member)->{exit}, 52, 'dropped';
	is $here->(), '1 4', 'but made';
	is check_in($member)->{status}, 502, 'answered with an error';
	is $here->(), '2 3', 'but made';
	is check_in($member, timeout => 0.5)->{exit}, 28, 'no answer';
	is $here->(), '3 2', 'but made';
	$cobot->clear_log;
	check_in($member);
	my ($logged) = $cobot->log;
	is "$logged->{method} $logged->{path} $logged->{status} $logged->{body}", "POST $path 201 {}", 'in the log';
	$cobot->reset;
	return;
}

sub card_checks_its_owner_in
{
	noon();
	my $url = "$space/api/check_ins";
	my $member = $cobot->add_member('demo-space');
	$cobot->set_check_in_tokens('demo-space', '04A1B2C3' => $member->{id}, ended => $cobot->add_member('demo-space', canceled_to => 'today-1d')->{id});
	my $made = ask(POST => $url, json => { token => '04A1B2C3' });
	is "$made->{status} $made->{data}{membership_id}", "201 $member->{id}", 'checked in';
	is ask(POST => $url, form => 'token=04A1B2C3')->{status}, 422, 'once';
	my $nobody = ask(POST => $url, json => { token => 'unknown' });
	is "$nobody->{status} $nobody->{body}", '204 ', 'an unknown card';
	is ask(POST => $url, json => { token => 'ended' })->{status}, 422, 'an ended membership';
	is ask(POST => $url, json => {})->{status}, 422, 'no card';
	$cobot->set_check_in_tokens('demo-space', '04A1B2C3' => undef);
	is ask(POST => $url, json => { token => '04A1B2C3' })->{status}, 204, 'taken back';
	ok !eval { $cobot->set_check_in_tokens('demo-space', x => 'nobody') }, "not nobody's";
	is scalar @{ ask(GET => $url)->{data} }, 1, 'one check-in';
	$cobot->reset;
	return;
}

sub calls_need_scope_and_right
{
	my ($one, $two) = @{ ask(GET => "$space/api/memberships")->{data} }[ 1, 3 ];
	my $self = "$space/api/memberships/$one->{id}";
	my $range = range(-60, 60);
	my $theirs = $cobot->add_check_in('demo-space', membership_id => $two->{id});
	my @calls = (
		[ GET => "$space/api/check_ins", 'read_check_ins', 200 ],
		[ GET => "$space/api/check_ins/$theirs->{id}", 'read_check_ins', 403 ],
		[ GET => "$space/api/work_sessions?$range", 'read_check_ins', 200 ],
		[ GET => "$self/check_ins?$range", 'read_check_ins', 200 ],
		[ GET => "$space/api/memberships/$two->{id}/check_ins?$range", 'read_check_ins', 403 ],
		[ POST => "$self/work_sessions", 'checkin', 201 ],
		[ POST => "$space/api/memberships/$two->{id}/work_sessions", 'checkin', 403 ],
		[ POST => "$space/api/memberships/nobody/work_sessions", 'checkin', 403 ],
		[ DELETE => "$self/check_ins/current", 'checkin', 204 ],
		[ DELETE => "$space/api/memberships/$two->{id}/check_ins/current", 'checkin', 403 ],
		[ POST => "$space/api/check_ins", 'checkin', 403 ],
		[ GET => "$self/time_passes/unused", 'read_time_passes', 200 ],
		[ GET => "$space/api/time_passes/unused", 'read_time_passes', 403 ]);
	my $outsider = $cobot->add_user(name => 'Somebody')->{id};

	foreach my $call (@calls)
	{
		my ($method, $url, $scope, $member_status) = @$call;
		my @json = $method eq 'POST' ? (json => {}) : ();
		my ($what) = "$method $url" =~ s/\?.*|demo-space\.cobot\.me//gr;

		is ask($method => $url, @json, token => 'unknown')->{status}, 401, "$what: unknown token";
		is ask($method => $url, @json, token => $cobot->token(scopes => [ grep { $_ ne $scope } qw(read_check_ins checkin read_time_passes write) ]))->{status},
		  403, "$what: without $scope";
		is ask($method => $url, @json, token => $cobot->token(user => $outsider))->{status}, 403, "$what: an outsider";
		is ask($method => $url, @json, token => $cobot->token(user => $one->{user}{id}, scopes => [$scope]))->{status}, $member_status, "$what: a member";
		is ask(GET => $url, token => $cobot->token(scopes => ['read']))->{status}, 200, "$what: the umbrella" if $method eq 'GET';
	}
	my $own = $cobot->token(user => $one->{user}{id});
	is scalar(grep { $_->{membership_id} ne $one->{id} } @{ ask(GET => "$space/api/work_sessions?$range", token => $own)->{data} }), 0, 'members see themselves';
	is scalar(grep { $_->{membership_id} eq $two->{id} } @{ ask(GET => "$space/api/check_ins", token => $own)->{data} }), 1, 'and who is here';
	$cobot->patch_member('demo-space', $one->{id}, canceled_to => 'today-2d');
	is ask(GET => "$space/api/check_ins", token => $own)->{status}, 403, 'as long as they are members';

	# Not across the end of a minute.
	select undef, undef, undef, 1 while time % 60 > 45;
	$cobot->settings(rate_limit => 1);
	my @refused = grep { ask(GET => "$space/api/check_ins")->{status} == 429 } 1 .. 61;
	is_deeply \@refused, [61], 'sixty a minute';
	$cobot->reset;
	return;
}

$cobot->start;
admin_checks_a_member_in_and_out();
lists_hold_a_day_or_a_range();
day_of_check_ins_follows_the_zone();
check_in_uses_up_a_pass();
only_active_members_check_in();
lost_answer_is_not_a_lost_check_in();
card_checks_its_owner_in();
calls_need_scope_and_right();
$cobot->stop;
done_testing();
