#!/usr/bin/perl
# Checks the test server itself: links in the navigation of a space.
use strict;
use warnings;
use utf8;

use File::Basename qw(dirname);
use Test::More;

use lib dirname(__FILE__);
use CheckServer;

my $url = "$space/api/navigation_links";
my %wanted = (section => 'admin/manage', label => 'Türen', iframe_url => 'https://app.example.com/x?a=b');

sub app_makes_and_deletes_its_links
{
	is_deeply ask(GET => $url)->{data}, [], 'none to begin with';
	my $made = ask(POST => $url, json => \%wanted);
	is $made->{status}, 201, 'made';
	is_deeply [ sort keys %{ $made->{data} } ], [qw(iframe_url label section url user_url)], 'shown as documented';
	is_deeply { map { $_ => $made->{data}{$_} } keys %wanted }, \%wanted, 'as wanted';
	my ($id) = $made->{data}{url} =~ m{^https://\Q$url\E/(\w+)$};
	is $made->{data}{user_url}, "https://$space/navigation_links/$id", 'where people find it';
	is_deeply ask(GET => $url)->{data}, [ $made->{data} ], 'listed';
	my $again = ask(POST => $url, json => { %wanted, section => 'members', user_editable => JSON::PP::false });
	is $again->{status}, 201, 'another one';
	is $again->{data}{user_editable}, JSON::PP::false, 'with what else was said';
	is ask(POST => $url, json => \%wanted)->{status}, 201, 'the same once more';
	is ask(POST => $url, form => 'section=members&label=a&iframe_url=https://app.example.com')->{status}, 201, 'by form';
	is scalar @{ ask(GET => $url)->{data} }, 4, 'four';

	my $other = $cobot->token(client_id => 'another-app');
	is_deeply ask(GET => $url, token => $other)->{data}, [], 'another app does not see them';
	is ask(DELETE => "$url/$id", token => $other)->{status}, 404, 'nor delete them';
	is ask(DELETE => "$url/$id")->{status}, 204, 'deleted';
	is ask(DELETE => "$url/$id")->{status}, 404, 'once';
	ask(POST => $url, json => \%wanted, token => $other);
	is scalar($cobot->links('demo-space')), 4, 'all are seen from outside';
	is scalar @{ $cobot->space('demo-space')->{navigation_links} }, 4, 'with the space, too';
	$cobot->delete_link('demo-space', $_->{url} =~ s{.*/}{}r) foreach $cobot->links('demo-space');
	is_deeply ask(GET => $url)->{data}, [], 'an admin has deleted them all';
	$cobot->reset;
	return;
}

sub bad_links_are_refused
{
	my @wrong = (
		{ section => 'admin' }, { section => undef }, { section => 'Members' }, { label => '' }, { label => " \n" }, { label => undef }, { label => 7 },
		map { { iframe_url => $_ } } undef, '', 'app.example.com', 'ftp://app.example.com/', 'http://app.example.com/',
		'https://', 'https:///x', 'https://?x', 'https://:443', 'https://app.example.com/a b', 'javascript:alert(1)');

	foreach my $wrong (@wrong)
	{
		my ($key) = keys %$wrong;
		my $refused = ask(POST => $url, json => { %wanted, %$wrong });

		is $refused->{status}, 422, "$key " . ($wrong->{$key} // 'null') =~ s/\n/ /r;
		is_deeply [ keys %{ $refused->{data}{errors} } ], [$key], 'named';
	}
	is ask(POST => $url)->{status}, 422, 'nothing';
	is ask(POST => $url, form => '{')->{status}, 422, 'no JSON';
	is_deeply ask(GET => $url)->{data}, [], 'nothing made';
	return;
}

sub links_are_for_admins_with_the_scope
{
	my $member = ask(GET => "$space/api/memberships")->{data}[1];
	my $id = ask(POST => $url, json => \%wanted)->{data}{url} =~ s{.*/}{}r;
	my @calls = ([ GET => $url, 200 ], [ POST => $url, 201, json => \%wanted ], [ DELETE => "$url/$id", 204 ]);

	foreach my $call (@calls)
	{
		my ($method, $address, $status, @json) = @$call;
		is ask($method => $address, @json, token => undef)->{status}, 401, "$method without a token";
		is ask($method => $address, @json, token => $cobot->token(user => $member->{user}{id}))->{status}, 403, "$method by a member";
		is ask($method => $address, @json, token => $cobot->token(scopes => [qw(read write read_navigation_links write_navigation_links)]))->{status},
		  403, "$method with the scopes of the other API";
		is ask($method => $address, @json, token => $cobot->token(scopes => ['navigation']))->{status}, $status, "$method with the scope";
	}
	$cobot->fault(match => { method => 'POST' }, drop => 1, perform => 1);
	ask(POST => $url, json => \%wanted);
	is scalar($cobot->links('demo-space')), 2, 'made though nobody heard of it';
	return;
}

$cobot->start;
app_makes_and_deletes_its_links();
bad_links_are_refused();
links_are_for_admins_with_the_scope();
$cobot->stop;
done_testing();
