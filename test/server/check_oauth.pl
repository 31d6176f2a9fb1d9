#!/usr/bin/perl
# Checks the test server itself: how apps get their tokens.
use strict;
use warnings;

use File::Basename qw(dirname);
use Test::More;

use lib dirname(__FILE__);
use CheckServer;

# Where an app's user is sent, and what comes back: the answer, and its Location's parameters.
sub authorize
{
	my ($host, %asked) = @_;
	%asked = (
		response_type => 'code', client_id => 'demo-client', redirect_uri => 'smartspace://login',
		scope => 'read_user checkin', state => 'a b&c', %asked);
	my $query = join '&', map { "$_=" . CobotWorld::_segment($asked{$_}) } grep { defined $asked{$_} } sort keys %asked;
	my $answer = ask(GET => "$host/oauth/authorize?$query", token => undef);
	my ($address, $parameters) = $answer->{headers} =~ /^Location: ([^?\r]*)\?(\S*)\r$/mi;

	return ($answer, $address, map { s/%(..)/chr hex $1/ger } map { split /=/, $_, 2 } split /&/, $parameters // '');
}

# What an app gets for a code.
sub exchange
{
	my (%form) = @_;
	%form = (client_id => 'demo-client', client_secret => 'demo-secret', grant_type => 'authorization_code', %form);
	my $answer = ask(POST => "$www/oauth/access_token", token => undef,
		form => join '&', map { "$_=" . CobotWorld::_segment($form{$_}) } grep { defined $form{$_} } sort keys %form);

	return wantarray ? ("$answer->{status} $answer->{body}", $answer) : "$answer->{status} $answer->{body}";
}

sub code_of { my (undef, undef, %back) = authorize($space, @_); return $back{code}; }

sub app_gets_a_token_for_its_user
{
	my $refused = '400 {"error":"invalid_grant"}';
	my ($answer, $address, %back) = authorize($www);
	is "$answer->{status} $address", '302 smartspace://login', 'sent back to the app';
	is $back{state}, 'a b&c', 'with its state';
	is exchange(code => $back{code}, client_secret => 'wrong'), '401 {"error":"invalid_client"}', 'wrong secret';
	is exchange(code => $back{code}, client_secret => undef), '401 {"error":"invalid_client"}', 'no secret';
	is exchange(code => $back{code}, client_id => 'nobody'), '401 {"error":"invalid_client"}', 'unknown app';
	is exchange(code => $back{code}, grant_type => 'password'), '400 {"error":"unsupported_grant_type"}', 'another grant';
	my (undef, $given) = exchange(code => $back{code});
	is_deeply [ $given->{status}, $given->{data}{token_type}, sort keys %{ $given->{data} } ],
	  [ 200, 'bearer', qw(access_token token_type) ], 'a token';
	my $token = $given->{data}{access_token};
	like $token, qr/^[0-9a-f]{64}$/, 'of the usual form';
	is exchange(code => $back{code}), $refused, 'once';
	is exchange(code => 'unknown'), $refused, 'unknown code';
	is exchange(), $refused, 'no code';
	is_deeply ask(GET => "$www/api/access_tokens/$token", token => $token)->{data}, { scope => [qw(read_user checkin)] }, 'the scopes asked for';
	is ask(GET => "$www/api/user", token => $token)->{data}{id}, 'admin', "the user's";
	is ask(GET => "$space/api/memberships", token => $token)->{status}, 403, 'and no more';

	$address = 'https://app.example.com/back?to=here';
	like((authorize($space, redirect_uri => $address))[0]{headers}, qr{^Location: \Q$address\E&code=\w+&state=a%20b%26c\r$}mi, "on the space's host; the address keeps its query");
	my $id = ask(GET => "$www/api/spaces/demo-space")->{data}{id};
	(undef, $given) = exchange(code => code_of(redirect_uri => $address), redirect_uri => $address);
	my $exchanged = ask(POST => "$www/api/access_tokens/$given->{data}{access_token}/space", token => $given->{data}{access_token}, json => { space_id => $id });
	is $exchanged->{data}{client_id}, 'demo-client', "a space token made from it is the app's";
	is exchange(code => code_of(redirect_uri => $address), redirect_uri => 'smartspace://login'), $refused, 'another address than before';
	my $code = code_of();
	$cobot->settings(clock_shift_s => 601);
	is exchange(code => $code), $refused, 'too late';
	$cobot->reset;
	return;
}

sub app_proves_that_it_asked
{
	my $refused = '400 {"error":"invalid_grant"}';

	# The example of RFC 7636.
	my $verifier = 'dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk';
	my %pkce = (code_challenge => 'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM', code_challenge_method => 'S256');
	like exchange(code => code_of(%pkce), code_verifier => $verifier), qr/^200 /, 'the right verifier';
	is exchange(code => code_of(%pkce), code_verifier => $verifier =~ s/k$/l/r), $refused, 'a wrong one';
	is exchange(code => code_of(%pkce)), $refused, 'none';
	is exchange(code => code_of(%pkce), code_verifier => $pkce{code_challenge}), $refused, 'the challenge itself';
	is exchange(code => code_of(), code_verifier => $verifier), $refused, 'one without a challenge';
	my $code = code_of(%pkce);
	exchange(code => $code, code_verifier => 'wrong' x 10);
	is exchange(code => $code, code_verifier => $verifier), $refused, 'no second guess';
	my %wrong = (
		'method plain' => { %pkce, code_challenge_method => 'plain' }, 'no method' => { %pkce, code_challenge_method => undef },
		'no challenge' => { code_challenge_method => 'S256' }, 'short challenge' => { %pkce, code_challenge => 'abc' });
	foreach my $what (sort keys %wrong)
	{
		my (undef, undef, %back) = authorize($www, %{ $wrong{$what} });
		is $back{error}, 'invalid_request', $what;
	}
	$cobot->reset;
	return;
}

sub consent_is_given_to_known_apps_as_set
{
	my %back;
	my $page = (authorize($www, client_id => 'nobody'))[0];
	is $page->{status}, 400, 'unknown app';
	like $page->{headers}, qr{^Content-Type: text/html}mi, 'a page, no redirect';
	is((authorize($www, redirect_uri => $_))[0]{status}, 400, 'not to ' . ($_ // 'nowhere') =~ s/\n/ /r)
	  foreach undef, 'https://evil.example/', 'smartspace://login/', 'https://app.example.com.evil/',
	  'https://app.example.com/#x', "https://app.example.com/\nX-Odd: yes";
	(undef, undef, %back) = authorize($www, scope => $_), is $back{error}, 'invalid_scope', 'no scope ' . ($_ // '')
	  foreach undef, 'read_user everything', ' ';
	(undef, undef, %back) = authorize($www, response_type => 'token');
	is "$back{error} $back{state}", 'unsupported_response_type a b&c', 'no token at once';
	(undef, undef, %back) = authorize($www, state => undef);
	is_deeply [ keys %back ], ['code'], 'no state, no state';

	$cobot->settings(consent => 'denied');
	(undef, undef, %back) = authorize($www);
	is_deeply \%back, { error => 'access_denied', state => 'a b&c' }, 'denied';
	my $member = ask(GET => "$space/api/memberships")->{data}[1];
	$cobot->settings(consent => 'given', login_user => $member->{user}{id});
	my (undef, $given) = exchange(code => code_of());
	is ask(GET => "$www/api/user", token => $given->{data}{access_token})->{data}{email}, $member->{email}, 'somebody else logs in';
	ok !eval { $cobot->settings(consent => 'perhaps', gzip => 0) } && $cobot->settings->{gzip}, 'no such choice, nothing changed';
	is $cobot->settings(login_user => undef)->{login_user}, undef, 'the default user again';

	my $client = $cobot->client(client_id => 'door', redirect_uris => ['door://*'], scopes => ['read_user']);
	(undef, undef, %back) = authorize($www, client_id => 'door', redirect_uri => 'door://open', scope => 'checkin');
	is $back{error}, 'invalid_scope', 'an app may not ask for more than it is registered for';
	my $code = code_of(client_id => 'door', redirect_uri => 'door://open', scope => 'read_user');
	is exchange(code => $code), '400 {"error":"invalid_grant"}', "another app's code";
	$code = code_of(client_id => 'door', redirect_uri => 'door://open', scope => 'read_user');
	like exchange(code => $code, client_id => 'door', client_secret => $client->{client_secret}), qr/^200 /, 'its own';
	is ask(POST => "$www/oauth/access_token", token => undef, json => { %$client, grant_type => 'authorization_code' })->{status}, 401, 'a form, not JSON';
	$cobot->delete_client('door');
	is((authorize($www, client_id => 'door', redirect_uri => 'door://open'))[0]{status}, 400, 'unregistered');
	ok !eval { $cobot->client(scopes => 'read') }, 'not of the right form';
	$cobot->fault(match => { path => '/oauth/access_token' }, drop => 1, perform => 1);
	$code = code_of();
	exchange(code => $code);
	is exchange(code => $code), '400 {"error":"invalid_grant"}', 'the answer lost, the code used up';
	$cobot->reset;
	return;
}

$cobot->start;
app_gets_a_token_for_its_user();
app_proves_that_it_asked();
consent_is_given_to_known_apps_as_set();
$cobot->stop;
done_testing();
