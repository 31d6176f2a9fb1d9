#!/usr/bin/perl
# Checks the test server itself: spaces, members, plans, custom fields, tokens; and how
# it fails and what it tells.
use strict;
use warnings;
use utf8;

use File::Basename qw(dirname);
use JSON::PP;
use Test::More;
use Time::HiRes qw(time);

use lib dirname(__FILE__);
use CheckServer;

sub a_generated_space_is_the_same_for_the_same_seed
{
	$cobot->start(members => 200, seed => 7);
	my $first = ask(GET => "$space/api/memberships")->{body};
	$cobot->stop;
	$cobot->start(members => 200, seed => 7);
	is ask(GET => "$space/api/memberships")->{body}, $first, 'same seed, same list';
	$cobot->stop;
	$cobot->start(members => 200, seed => 8);
	isnt ask(GET => "$space/api/memberships")->{body}, $first, 'another seed, another list';
	$cobot->stop;
	return;
}

sub members_appear_as_documented
{
	my $list = ask(GET => "$space/api/memberships");
	is scalar @{ $list->{data} }, 90, 'as many current members as asked for';
	is_deeply [ sort keys %{ $list->{data}[0] } ], [ sort qw(id name email phone user picture address billing_emails
		charge_taxes customer_number plan upcoming_plan payment_method confirmed_at starts_at canceled_to
		next_invoice_at team_id) ], 'every key of a record';
	cmp_ok length $list->{body}, '>', 90 * 2000, 'records are as large as real ones';

	my $id = $list->{data}[17]{id};
	is_deeply ask(GET => "$space/api/memberships/$id")->{data}, $list->{data}[17], 'one record is the same';
	is_deeply ask(GET => "$space/api/memberships?attributes=id,plan")->{data}[17],
	  { map { $_ => $list->{data}[17]{$_} } qw(id plan) }, 'attributes';
	is_deeply [ map { $_->{id} } @{ ask(GET => "$space/api/memberships?ids=$id,nobody")->{data} } ], [$id], 'ids';
	is scalar @{ ask(GET => "$space/api/memberships?all=true")->{data} }, 94, 'former ones with all=true';
	my $nobody = ask(GET => "$space/api/memberships/nobody");
	is "$nobody->{status} $nobody->{body}", '404 {}', 'unknown member';
	return;
}

sub membership_ends_with_the_day_in_the_zone_of_the_space
{
	my $last_day = $cobot->add_member('demo-space', name => 'Last day', canceled_to => 'today');
	my $gone = $cobot->add_member('demo-space', name => 'Gone', canceled_to => 'today-1d');
	my $list = ask(GET => "$space/api/memberships");
	is scalar named($list, 'Last day'), 1, 'listed on the last day';
	is scalar named($list, 'Gone'), 0, 'not listed after it';
	is ask(GET => "$space/api/memberships/$gone->{id}")->{data}{name}, 'Gone', 'an ended member can still be read';

	my ($from, $to) = map { $_->{canceled_to} =~ s{/}{-}gr } $gone, $last_day;
	my $leaving = ask(GET => "$space/api/memberships/cancellations?from=$from&to=$to");
	is scalar(grep { $_->{name} =~ /^(Gone|Last day)$/ } @{ $leaving->{data} }), 2, 'cancellations in a range';

	$cobot->settings(clock_shift_s => 86400);
	is scalar named(ask(GET => "$space/api/memberships"), 'Last day'), 0, 'a day later the list has changed by itself';
	$cobot->settings(clock_shift_s => 0);

	# At any moment, it is another day in one of these two.
	my %today;
	foreach my $zone (qw(Pacific/Kiritimati Pacific/Niue))
	{
		$cobot->patch_space('demo-space', time_zone_name => $zone);
		$today{$zone} = $cobot->patch_member('demo-space', $gone->{id}, starts_at => 'today')->{starts_at};
	}
	isnt $today{'Pacific/Kiritimati'}, $today{'Pacific/Niue'}, 'the day depends on the zone';
	$cobot->reset;
	return;
}

sub changes_are_visible_at_once
{
	my $name = qq{"Ann\\a"\n\x{1F600} \x{5D0}\x{5D1}};
	my $member = $cobot->add_member('demo-space', name => $name, user => undef);
	my $shown = ask(GET => "$space/api/memberships/$member->{id}")->{data};
	is $shown->{name}, $name, 'a difficult name comes back unharmed';
	is $shown->{user}, undef, 'null where null was asked for';
	is scalar named(ask(GET => "$space/api/memberships"), $name), 1, 'in the list';

	$cobot->patch_member('demo-space', $member->{id}, name => undef, without => ['plan.parent_plan', 'email']);
	$shown = ask(GET => "$space/api/memberships/$member->{id}")->{data};
	ok exists $shown->{name} && !defined $shown->{name}, 'patched to null';
	ok !exists $shown->{email} && !exists $shown->{plan}{parent_plan} && $shown->{plan}{name}, 'keys taken away';

	$cobot->put_member('demo-space', $member->{id}, { id => 'x', plan => 7 });
	is_deeply ask(GET => "$space/api/memberships/$member->{id}")->{data}, { id => $member->{id}, plan => 7 },
	  'a record exactly as given';

	my $id = ask(GET => "$space/api/memberships")->{data}[3]{id};
	$cobot->delete_member('demo-space', $id);
	is ask(GET => "$space/api/memberships/$id")->{status}, 404, 'deleted';
	is scalar(grep { $_->{id} eq $id } @{ ask(GET => "$space/api/memberships?all=true")->{data} }), 0, 'in no list';
	$cobot->reset;
	is ask(GET => "$space/api/memberships/$id")->{status}, 200, 'back after a reset';
	return;
}

sub plans_show_what_the_token_may_see
{
	my $all = ask(GET => "$space/api/plans");
	my $public = ask(GET => "$space/api/plans", token => undef);
	is scalar @{ $all->{data} }, 4, 'admin sees all plans';
	is scalar @{ $public->{data} }, 3, 'the public does not see the hidden one';
	ok $all->{data}[0]{welcome_message} && !exists $public->{data}[0]{welcome_message}, 'nor the welcome message';
	my $scope = $cobot->token(scopes => ['read_user']);
	is ask(GET => "$space/api/plans", token => $scope)->{body}, $public->{body}, 'nor does a token without the scope';

	$cobot->patch_plan('demo-space', $all->{data}[0]{id}, name => 'Vollzeit');
	is ask(GET => "$space/api/plans/$all->{data}[0]{id}")->{data}{name}, 'Vollzeit', 'renamed';
	$cobot->delete_plan('demo-space', $all->{data}[1]{id});
	my $new = $cobot->add_plan('demo-space', name => 'New');
	is_deeply [ map { $_->{name} } @{ ask(GET => "$space/api/plans")->{data} } ],
	  [ 'Vollzeit', $all->{data}[2]{name}, $all->{data}[3]{name}, 'New' ], 'deleted and added';
	my $member = $cobot->add_member('demo-space', plan => { parent_plan => { id => $new->{id} } });
	is $member->{plan}{name}, 'New', "a member's copy of it";
	$cobot->reset;
	return;
}

sub custom_field_definitions_are_replaced_as_a_whole
{
	my @before = @{ ask(GET => "$space/api/space/custom_fields")->{data} };
	is scalar @before, 3, 'three to begin with';
	my $member = $cobot->add_member('demo-space', custom_fields => { $before[0]{label} => 'A', $before[1]{label} => 'B' });

	my $put = ask(PUT => "$space/api/space/custom_fields", json => [ @before, { label => 'Door PIN' } ]);
	is $put->{status}, 200, 'one appended';
	is_deeply [ @{ $put->{data} }[ 0 .. 2 ] ], \@before, 'the others keep their ids';
	ok $put->{data}[3]{id}, 'the new one has an id';

	ask(PUT => "$space/api/space/custom_fields", json => [ $before[1], { label => $before[0]{label} } ]);
	my $values = ask(GET => "$space/api/memberships/$member->{id}/custom_fields")->{data};
	is_deeply [ map { $_->{value} } @{ $values->{fields} } ], [ 'B', undef ], 'a field left out is gone with its value';
	my ($listed) = grep { $_->{membership_id} eq $member->{id} } @{ ask(GET => "$space/api/custom_fields")->{data} };
	is_deeply $listed, $values, 'the bulk list agrees';
	is scalar(grep { $_->{fields}[1]{value} } @{ ask(GET => "$space/api/custom_fields")->{data} }), 0,
	  'for the generated members too';

	is ask(PUT => "$space/api/space/custom_fields", json => [ { label => ' ' } ])->{status}, 422, 'blank label';
	is ask(PUT => "$space/api/space/custom_fields", json => [ { id => 'x', label => 'y' } ])->{status}, 422, 'unknown id';
	is ask(PUT => "$space/api/space/custom_fields", json => { label => 'y' })->{status}, 422, 'no array';
	is ask(PUT => "$space/api/space/custom_fields", form => '[')->{status}, 400, 'no JSON';
	is scalar @{ ask(GET => "$space/api/space/custom_fields")->{data} }, 2, 'nothing changed by bad requests';
	$cobot->reset;
	return;
}

sub member_values_are_set_in_both_forms
{
	my @fields = @{ ask(GET => "$space/api/space/custom_fields")->{data} };
	my $id = $cobot->add_member('demo-space')->{id};
	my $url = "$space/api/memberships/$id/custom_fields";

	ask(PUT => $url, json => { fields => [ { id => $fields[0]{id}, value => 'one' }, { id => $fields[1]{id}, value => 'two' } ] });
	is ask(PUT => $url, json => [ { id => $fields[0]{id}, value => 'Ä' } ])->{data}{fields}[0]{value}, 'Ä', 'bare array';
	is ask(GET => $url)->{data}{fields}[1]{value}, 'two', 'others stay by default';
	$cobot->settings(clear_omitted_values => 1, omit_empty_fields => 1);
	ask(PUT => $url, json => [ { id => $fields[0]{id}, value => 'three' } ]);
	is_deeply [ map { $_->{value} } @{ ask(GET => $url)->{data}{fields} } ], ['three'], 'cleared and omitted if so set';
	is ask(PUT => $url, json => [ { id => 'x', value => 'y' } ])->{status}, 422, 'unknown field';
	$cobot->set_field('demo-space', $id, $fields[2]{label}, 'seven');
	is ask(GET => $url)->{data}{fields}[1]{value}, 'seven', 'set by label from outside';
	$cobot->reset;
	return;
}

sub tokens_open_what_their_scopes_say
{
	my %needs = (
		'api/memberships' => 'read_memberships',
		'api/custom_fields' => 'read_custom_fields',
		'api/space/custom_fields' => 'read_custom_fields',
		'api/user' => 'read_user');
	foreach my $path (sort keys %needs)
	{
		is ask(GET => "$space/$path", token => $cobot->token(scopes => [ $needs{$path} ]))->{status}, 200, "$path with its scope";
		is ask(GET => "$space/$path", token => $cobot->token(scopes => ['read']))->{status}, 200, "$path with the umbrella";
		is ask(GET => "$space/$path", token => $cobot->token(scopes => ['write']))->{status}, 403, "$path without";
		my $unknown = ask(GET => "$space/$path", token => 'unknown');
		is $unknown->{status}, 401, "$path with an unknown token";
		like $unknown->{headers}, qr/^WWW-Authenticate: Bearer/mi, 'says how to log in';
		ok $unknown->{data}{error}, 'in JSON';
	}
	is ask(PUT => "$space/api/space/custom_fields", token => $cobot->token(scopes => ['read']), json => [])->{status}, 403, 'reading is not writing';
	my $member = ask(GET => "$space/api/memberships")->{data}[1];
	my $token = $cobot->token(user => $member->{user}{id});
	is ask(GET => "$space/api/memberships", token => $token)->{status}, 403, 'a member is no admin';
	my $user = ask(GET => "$www/api/user", token => $token)->{data};
	is $user->{memberships}[0]{id}, $member->{id}, 'but knows the membership';
	is $user->{email}, $member->{email}, 'and the e-mail address';
	$cobot->settings(not_admin_status => 401);
	is ask(GET => "$space/api/memberships", token => $token)->{status}, 401, 'or 401, as set';
	is ask(GET => "elsewhere.cobot.me/api/plans")->{status}, 404, 'unknown space';
	is ask(GET => "$www/api/memberships")->{status}, 404, 'not on this host';
	$cobot->reset;
	return;
}

sub subscriptions_are_those_of_user_and_app
{
	my $url = "$space/api/subscriptions";
	my %wanted = (event => 'confirmed_membership', callback_url => 'https://backend.example/hook/1');
	my $made = ask(POST => $url, json => \%wanted);
	is $made->{status}, 201, 'made';
	is_deeply [ sort keys %{ $made->{data} } ], [qw(active callback_url event id url)], 'shown as documented';
	ok $made->{data}{active}, 'active';
	is_deeply ask(GET => $url)->{data}, [ $made->{data} ], 'listed';
	is ask(POST => $url, json => \%wanted)->{status}, 409, 'the same once more';
	is ask(POST => $url, form => 'event=confirmed_membership&callback_url=https://backend.example/hook/2')->{status}, 201, 'another URL, by form';
	foreach my $wrong ({ event => 'updated_membership' }, { event => undef }, { callback_url => 'ftp://backend.example/' },
		{ callback_url => 'https://' }, { callback_url => 'https://a b/' }, { callback_url => undef })
	{
		is ask(POST => $url, json => { %wanted, %$wrong })->{status}, 422, 'refused: ' . join ' ', map { $_ // 'null' } %$wrong;
	}

	my %other = (
		user => ask(GET => $url, token => 'admin-token-demo-space'),
		app => ask(GET => $url, token => ask(POST => "$www/api/access_tokens/admin-token/space",
			json => { space_id => ask(GET => "$www/api/spaces/demo-space")->{data}{id} })->{data}{token}));
	is_deeply $other{user}{data}, [], "another user's are not shown";
	is scalar @{ $other{app}{data} }, 2, 'a space token of the same user and app sees them';
	is ask(DELETE => "$url/$made->{data}{id}", token => 'admin-token-demo-space')->{status}, 404, 'nor can another user delete them';

	is scalar(ask(GET => $url, token => $cobot->token(scopes => ['write_subscriptions']))->{status}), 403, 'reading needs its scope';
	is ask(POST => $url, token => $cobot->token(scopes => ['read_subscriptions']), json => \%wanted)->{status}, 403, 'and making';
	is ask(DELETE => "$url/$made->{data}{id}", token => $cobot->token(scopes => ['read_subscriptions']))->{status}, 403, 'and deleting';
	is ask(DELETE => "$url/$made->{data}{id}")->{status}, 204, 'deleted';
	is ask(DELETE => "$url/$made->{data}{id}")->{status}, 404, 'once';

	$cobot->add_subscription('demo-space', %wanted);
	my $own = $cobot->add_subscription('demo-space', %wanted, token => 'admin-token');
	ok !$cobot->patch_subscription('demo-space', $own->{id}, active => JSON::PP::false)->{active}, 'switched off from outside';
	is scalar($cobot->subscriptions('demo-space')), 3, 'all are seen from outside';
	is_deeply [ map { $_->{active} ? 1 : 0 } @{ ask(GET => $url)->{data} } ], [ 1, 0 ], 'by others only their own';
	$cobot->delete_subscription('demo-space', $own->{id});
	is scalar @{ ask(GET => $url)->{data} }, 1, 'deleted from outside';
	$cobot->reset;
	is_deeply [ $cobot->subscriptions('demo-space') ], [], 'a reset forgets them';
	return;
}

sub space_token_outlives_its_maker
{
	my $id = ask(GET => "$www/api/spaces/demo-space", token => undef)->{data}{id};
	my $user = $cobot->add_user(name => 'Mira', admin_of => ['demo-space']);
	my $token = $cobot->token(user => $user->{id}, scopes => [qw(read_memberships read_user)]);

	is_deeply ask(GET => "$www/api/access_tokens/$token", token => $token)->{data}, { scope => [qw(read_memberships read_user)] }, 'scopes';
	my $exchanged = ask(POST => "$www/api/access_tokens/$token/space", token => $token, json => { space_id => $id });
	is $exchanged->{status}, 201, 'exchanged';
	like $exchanged->{data}{token}, qr/^[0-9a-f]{64}$/, 'for a new one';
	is ask(POST => "$www/api/access_tokens/$token/space", token => $token, form => "space_id=$id")->{status}, 201, 'by form too';
	is ask(DELETE => "$www/api/access_tokens/$token", token => $token)->{status}, 204, 'the first one revoked';
	is ask(GET => "$space/api/memberships", token => $token)->{status}, 401, 'and of no use';
	$cobot->patch_user($user->{id}, admin_of => []);
	is ask(GET => "$space/api/memberships", token => $exchanged->{data}{token})->{status}, 200, 'the space token works';

	my $later = $cobot->token(user => $user->{id});
	is ask(GET => "$space/api/memberships", token => $later)->{status}, 403, 'who is no admin any more sees nothing';
	is ask(POST => "$www/api/access_tokens/$later/space", token => $later, json => { space_id => $id })->{status}, 403, 'and gets no space token';
	$cobot->reset;
	return;
}

sub rate_limits_are_those_of_cobot
{
	# Not across the end of a minute.
	select undef, undef, undef, 1 while time % 60 > 55;
	$cobot->settings(rate_limit => 1);
	my @status = map { ask(GET => "$space/api/memberships?attributes=id")->{status} } 1 .. 6;
	is "@status", '200 200 200 200 200 200', 'six lists of members';
	my $refused = ask(GET => "$space/api/memberships");
	is $refused->{status}, 429, 'then no more';
	like $refused->{headers}, qr/^Retry-After: ([1-9]|[1-5]\d|60)\r$/mi, 'for some seconds';
	is ask(GET => "$space/api/plans")->{status}, 200, 'other endpoints are open';
	is ask(GET => "$space/api/memberships", token => 'admin-token-demo-space')->{status}, 200, 'and other users are';
	$cobot->settings(clock_shift_s => 60);
	is ask(GET => "$space/api/memberships")->{status}, 200, 'the next minute everything is';
	$cobot->reset;
	return;
}

sub failures_happen_as_ordered
{
	my $whole = ask(GET => "$space/api/plans");
	my $match = { path => '/api/plans' };
	my $answer;

	$cobot->fault(match => $match, status => 502, times => 2, skip => 1);
	my @status = map { ask(GET => "$space/api/plans")->{status} } 1 .. 4;
	is "@status", '200 502 502 200', 'skip and times';
	$cobot->fault(match => { %$match, host => 'other.cobot.me' }, status => 500);
	$cobot->fault(match => { path => '/api/pl*', method => 'GET', token => 'admin-token' }, status => 402, body => '<html>é');
	$answer = ask(GET => "$space/api/plans");
	is "$answer->{status} $answer->{body}", "402 " . "<html>\xc3\xa9", 'the one that matches, with its body';
	$cobot->clear_faults;

	$cobot->fault(match => $match, body_base64 => 'AAH/Zm9v', headers => { 'Content-Type' => 'text/plain', 'X-Odd' => 'yes' });
	$answer = ask(GET => "$space/api/plans");
	is $answer->{body}, "\0\1\xff" . 'foo', 'bytes';
	like $answer->{headers}, qr{^Content-Type: text/plain\r$}mi, 'content type';
	$cobot->fault(match => $match, headers => { 'X-Odd' => 'yes' });
	$answer = ask(GET => "$space/api/plans");
	ok $answer->{body} eq $whole->{body} && $answer->{headers} =~ /^X-Odd: yes/mi, 'normal answer with another header';
	$cobot->fault(match => $match, status => 301, headers => { Location => 'https://example.com/' });
	is ask(GET => "$space/api/plans")->{status}, 301, 'redirect';
	$cobot->fault(match => $match, status => 429, headers => { 'Retry-After' => '7' });
	like ask(GET => "$space/api/plans")->{headers}, qr/^Retry-After: 7\r$/mi, 'Retry-After as asked';

	my $began = time;
	$cobot->fault(match => $match, delay_ms => 300);
	is ask(GET => "$space/api/plans")->{body}, $whole->{body}, 'delayed, but whole';
	cmp_ok time - $began, '>=', 0.3, 'later';

	$cobot->fault(match => $match, stall => 'headers');
	is ask(GET => "$space/api/plans", timeout => 0.5)->{exit}, 28, 'silence';
	$cobot->fault(match => $match, stall => 100);
	$answer = ask(GET => "$space/api/plans", timeout => 0.5);
	is "$answer->{exit} $answer->{body}", '28 ' . substr($whole->{body}, 0, 100), 'silence after 100 bytes';
	$cobot->fault(match => $match, cut => 100);
	$answer = ask(GET => "$space/api/plans");
	is "$answer->{exit} $answer->{body}", '18 ' . substr($whole->{body}, 0, 100), 'cut after 100 bytes';
	$cobot->fault(match => $match, drop => 1);
	is ask(GET => "$space/api/plans")->{exit}, 52, 'dropped';
	$cobot->fault(match => $match, truncate => 0.5);
	$answer = ask(GET => "$space/api/plans");
	is $answer->{body}, substr($whole->{body}, 0, int(length($whole->{body}) / 2)), 'half of the JSON';

	$cobot->fault(match => $match, nesting => 100);
	is ask(GET => "$space/api/plans")->{body}, '[' x 100 . ']' x 100, 'nested';
	$cobot->fault(match => $match, huge => 1_000_000, announce => 1);
	$answer = ask(GET => "$space/api/plans");
	ok length $answer->{body} == 1_000_000 && ref $answer->{data} eq 'ARRAY', 'huge and valid';
	$cobot->fault(match => $match, gzip_bomb => 5_000_000);
	$answer = ask(GET => "$space/api/plans", curl => ['--compressed']);
	ok length $answer->{body} == 5_000_000 && ref $answer->{data} eq 'ARRAY', 'bomb of valid JSON';
	return;
}

sub things_can_happen_between_two_requests
{
	my $member = $cobot->add_member('demo-space');
	my $path = "/spaces/demo-space/memberships/$member->{id}";

	$cobot->fault(match => { path => '/api/memberships' }, then => [ { method => 'DELETE', path => $path } ]);
	my $list = ask(GET => "$space/api/memberships");
	is scalar(grep { $_->{id} eq $member->{id} } @{ $list->{data} }), 1, 'still in the list';
	is ask(GET => "$space/api/memberships/$member->{id}")->{status}, 404, 'gone a moment later';

	my @fields = @{ ask(GET => "$space/api/space/custom_fields")->{data} };
	$cobot->fault(match => { method => 'PUT' }, drop => 1, perform => 1);
	ask(PUT => "$space/api/space/custom_fields", json => [ @fields, { label => 'New' } ]);
	is scalar @{ ask(GET => "$space/api/space/custom_fields")->{data} }, 4, 'it worked though nobody heard of it';
	$cobot->fault(match => { method => 'PUT' }, status => 500);
	ask(PUT => "$space/api/space/custom_fields", json => []);
	is scalar @{ ask(GET => "$space/api/space/custom_fields")->{data} }, 4, 'without perform nothing happens';
	$cobot->reset;
	return;
}

sub log_tells_what_was_asked
{
	$cobot->clear_log;
	ask(PUT => "$space/api/space/custom_fields?a=%20b", json => [ { label => 'ä' } ]);
	$cobot->fault(drop => 1);
	ask(GET => "$www/api/user", token => undef, curl => [ '-A', 'somebody' ]);
	my ($put, $get) = $cobot->log;
	is_deeply { map { $_ => $put->{$_} } qw(method host path query status token body) },
	  { method => 'PUT', host => $space, path => '/api/space/custom_fields', query => 'a=%20b', status => 200,
		token => 'admin-token', body => $json->encode([ { label => 'ä' } ]) =~ s/\xc3\xa4/ä/r }, 'all of it';
	is_deeply [ @$get{qw(status token user_agent body)} ], [ 0, undef, 'somebody', undef ], 'unanswered, without token';
	cmp_ok abs($get->{time} - time), '<', 5, 'time';
	isnt $get->{connection}, $put->{connection}, 'another connection';
	is scalar $cobot->log($put->{n}), 1, 'only what came after';

	$cobot->clear_log;
	ask(GET => "$space/api/plans", curl => [ "https://$space/api/plans", '-o', '/dev/null' ]);
	is $_->{connection}, ($cobot->log)[0]{connection}, 'kept alive' foreach $cobot->log;
	$cobot->reset;
	return;
}

sub answers_are_compressed_for_those_who_ask
{
	my $plain = ask(GET => "$space/api/memberships");
	unlike $plain->{headers}, qr/^Content-Encoding/mi, 'plain by default';
	my $packed = ask(GET => "$space/api/memberships", curl => ['--compressed']);
	like $packed->{headers}, qr/^Content-Encoding: gzip\r$/mi, 'gzip';
	is $packed->{body}, $plain->{body}, 'the same';
	$cobot->settings(gzip => 0);
	unlike ask(GET => "$space/api/memberships", curl => ['--compressed'])->{headers}, qr/^Content-Encoding/mi, 'switched off';
	like $plain->{headers}, qr/^X-Request-Id: \S+\r$/mi, 'request id';
	my @ids = map { $_->{headers} =~ /^X-Request-Id: (\S+)/mi } $plain, $packed;
	isnt $ids[0], $ids[1], 'another each time';
	$cobot->reset;
	return;
}

sub what_has_not_changed_is_not_sent_again
{
	my @urls = map { "$space/api/$_" } qw(memberships plans custom_fields space/custom_fields);
	push @urls, "$www/api/spaces/demo-space";
	unlike ask(GET => $_)->{headers}, qr/^ETag/mi, "$_: no tag by default" foreach @urls;

	$cobot->settings(etag => 1);
	my $tag;
	foreach my $url (@urls)
	{
		my $whole = ask(GET => $url);
		($tag) = $whole->{headers} =~ m{^ETag: (W/"[0-9a-f]{16}")\r$}mi;
		ok $tag, "$url: a weak tag";
		$cobot->clear_log;
		my $again = ask(GET => $url, curl => [ '--compressed', '-H', "If-None-Match: $tag" ]);
		is "$again->{status} $again->{body}", '304 ', 'the same once more: no body';
		like $again->{headers}, qr/^ETag: \Q$tag\E\r$/mi, 'but the tag';
		unlike $again->{headers}, qr/^Content-(Type|Encoding)/mi, 'and no type of what is not there';
		is_deeply [ map { $_->{status} } $cobot->log ], [304], 'in the log';
		is ask(GET => $url, curl => [ '-H', "If-None-Match: \"x\", $tag" ])->{status}, 304, 'one of several';
		is ask(GET => $url, curl => [ '-H', 'If-None-Match: W/"x"' ])->{body}, $whole->{body}, 'another tag: all of it';
	}

	my $url = "$space/api/memberships";
	($tag) = ask(GET => $url)->{headers} =~ m{^ETag: (\S+)}mi;
	$cobot->patch_member('demo-space', ask(GET => $url)->{data}[0]{id}, name => 'Changed');
	my $changed = ask(GET => $url, curl => [ '-H', "If-None-Match: $tag" ]);
	is $changed->{status}, 200, 'something changed: all of it';
	unlike $changed->{headers}, qr/^ETag: \Q$tag\E/mi, 'with another tag';

	select undef, undef, undef, 1 while time % 60 > 55;
	$cobot->settings(rate_limit => 1);
	($tag) = $changed->{headers} =~ m{^ETag: (\S+)}mi;
	my @status = map { ask(GET => $url, curl => [ '-H', "If-None-Match: $tag" ])->{status} } 1 .. 7;
	is "@status", '304 304 304 304 304 304 429', 'it counts for the rate limit';
	unlike ask(GET => $url)->{headers}, qr/^ETag/mi, 'an error has no tag';
	$cobot->reset;
	return;
}

sub certificates_are_refused_that_should_be
{
	foreach my $cert (qw(expired wronghost otherca))
	{
		$cobot->start(cert => $cert);
		is ask(GET => "$www/api/spaces/demo-space")->{exit}, 60, $cert;
		is $cobot->stop, 0, 'stopped cleanly';
	}
	return;
}

sub stops_with_requests_under_way_and_with_its_test
{
	$cobot->start;
	$cobot->fault(match => {}, stall => 'headers', times => 0);
	my @curl = ('curl', '-s', '-m', '20', '--connect-to', '::' . $cobot->connect_to, '--cacert', $cobot->ca_file, "https://$space/api/plans");
	my $client = fork // die $!;
	exec @curl or die $! if $client == 0;
	select undef, undef, undef, 0.01 until $cobot->log;
	my $began = time;
	is $cobot->stop, 0, 'stopped cleanly';
	cmp_ok time - $began, '<', 2, 'at once';
	waitpid $client, 0;

	pipe my $read, my $write or die $!;
	my $test = fork // die $!;
	if ($test == 0)
	{
		require POSIX;
		my $other = CobotTestServer->new(dir => $cobot->{dir})->start;
		syswrite $write, $other->{pid};
		POSIX::_exit(0);
	}
	waitpid $test, 0;
	sysread $read, my $pid, 100;
	my $deadline = time + 5;
	select undef, undef, undef, 0.01 while kill(0, $pid) && -e "/proc/$pid/exe" && time < $deadline;
	ok !-e "/proc/$pid/exe", 'gone when the test is gone';
	return;
}

a_generated_space_is_the_same_for_the_same_seed();
$cobot->start;
members_appear_as_documented();
membership_ends_with_the_day_in_the_zone_of_the_space();
changes_are_visible_at_once();
plans_show_what_the_token_may_see();
custom_field_definitions_are_replaced_as_a_whole();
member_values_are_set_in_both_forms();
tokens_open_what_their_scopes_say();
subscriptions_are_those_of_user_and_app();
space_token_outlives_its_maker();
rate_limits_are_those_of_cobot();
failures_happen_as_ordered();
things_can_happen_between_two_requests();
log_tells_what_was_asked();
answers_are_compressed_for_those_who_ask();
what_has_not_changed_is_not_sent_again();
$cobot->stop;
certificates_are_refused_that_should_be();
stops_with_requests_under_way_and_with_its_test();
done_testing();
