# An hour of life, in a minute: spaces that fail in all ways, a server that crashes, a
# worker that is shot. No connected integration goes longer than its interval without an
# attempt, whatever happens, and at the end every one is fresh.
#
# Time moves by shifting all times that are stored: a minute is a step.
use strict;
use warnings;

use CobotMirror;
use CobotTest;
use List::Util qw(max);
use Test::More;

use constant { SPACES => 12, MINUTES => 60 };

my $seed = $ENV{TEST_SEED} // 20261124;
srand $seed;
note "TEST_SEED=$seed";

my $t = CobotTest->new(spaces => SPACES, members => 5, rate_limit => 0, conf => <<'CONF');
shared_preload_libraries = 'smartspace_cobot'
smartspace_cobot.databases = 'postgres'
smartspace_cobot.request_timeout = '500ms'
restart_after_crash = on
CONF
my $cobot = $t->cobot;
my @intervals = (10, 20, 30, 60);
my (%interval, %name, %last, %longest, %attempts);

foreach my $number (1 .. SPACES)
{
	my $subdomain = sprintf 'space-%04d', $number;
	my $id = $t->connect_space($subdomain);

	$interval{$id} = $intervals[ $number % @intervals ];
	$name{$id} = $subdomain;
	$last{$id} = 0;
	$longest{$id} = $attempts{$id} = 0;
	$t->sql("UPDATE smartspace.cobot_integration SET sync_interval = '$interval{$id} minutes' WHERE id = $id");
}

# Nothing is due and nothing is under way. A crash may be going on.
sub settled
{
	my $answer = $t->try('SELECT (SELECT count(*) FROM smartspace.cobot_sync_task WHERE due_at <= now())'
		  . ' + (SELECT count(*) FROM smartspace.cobot_sync_progress)');

	return $answer->{ok} && $answer->{out} eq '0';
}

# Whatever a space may do wrong in this minute.
sub some_fault
{
	my ($subdomain) = @_;
	my @path = (match => { host => "$subdomain.cobot.me", path => '/api/memberships' });
	my @kinds = (
		[ status => 500 ], [ status => 502 ], [ status => 429, headers => { 'Retry-After' => '120' } ], [ drop => JSON::PP::true() ],
		[ stall => 'headers' ], [ body => '<html>' ], [ body => '[]' ], [ cut => 20 ], [ status => 401 ], [ delay_ms => 300 ]);

	$cobot->fault(@path, times => 1 + int rand 3, @{ $kinds[ rand @kinds ] });
	return;
}

sub count_attempts
{
	my ($minute) = @_;

	foreach my $row ($t->rows('SELECT integration_id, count(*) AS n FROM smartspace.cobot_sync_run GROUP BY 1'))
	{
		my $id = $row->{integration_id};

		next if $row->{n} == $attempts{$id};
		$longest{$id} = max($longest{$id}, $minute - $last{$id});
		$last{$id} = $minute;
		$attempts{$id} = $row->{n};
	}
	return;
}

$t->wait_until(\&settled, 'the first synchronisations');
count_attempts(0);
foreach my $minute (1 .. MINUTES)
{
	$t->sql(<<"SQL");
BEGIN;
UPDATE smartspace.cobot_sync_task SET due_at = due_at - interval '1 minute', claimed_at = claimed_at - interval '1 minute';
UPDATE smartspace.cobot_sync_run SET started_at = started_at - interval '1 minute', finished_at = finished_at - interval '1 minute',
	not_before = not_before - interval '1 minute', next_at = next_at - interval '1 minute';
SELECT smartspace.cobot_wake_worker();
COMMIT;
SQL
	if ($minute < 36)
	{
		some_fault($name{$_}) foreach grep { rand() < 0.15 } keys %name;
		my ($pid) = $t->sql(q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'smartspace_cobot worker'});
		kill 'KILL', $pid if $pid && rand() < 0.06;
	}
	else
	{
		$cobot->clear_faults;
	}
	$t->wait_until(\&settled, "minute $minute");
	count_attempts($minute);
}

# whoever was not attempted up to the end counts as well
foreach my $id (sort { $a <=> $b } keys %name)
{
	my $gap = max($longest{$id}, MINUTES - $last{$id});

	cmp_ok($gap, '<=', $interval{$id} + 1, "$name{$id}, every $interval{$id} minutes: $attempts{$id} attempts, at most $gap minutes apart");
}
my $failed = $t->sql(q{SELECT count(*) FROM smartspace.cobot_sync_run WHERE result NOT IN ('ok', 'ok_with_problems')});
cmp_ok($failed, '>', 20, "$failed attempts went wrong");
is($t->sql(q{SELECT string_agg(name || ' ' || freshness, ', ') FROM smartspace.cobot_status WHERE freshness <> 'fresh'}), '', 'in the end all are fresh');
is(mirror_differs($t, $_, $name{$_}), '', "$name{$_}: the mirror equals Cobot") foreach sort { $a <=> $b } keys %name;
done_testing;
