# Whatever ends a session in the middle of a synchronisation, at whatever moment - a
# cancel, pg_terminate_backend, or a kill -9 that takes the whole server down - the
# database is as it was before the run or as it is after it, never between; and the next
# run finds nothing in its way.
#
# A space goes to and fro between two states, so that every run has the same to do and
# it is known beforehand what the database looks like after it.
use strict;
use warnings;

use CobotLoft;
use CobotMirror;
use CobotTest;
use IPC::Run;
use List::Util qw(max min);
use Test::More;

use constant {
	MEMBERS => 3000,
	ROUNDS => 8,    # of each kind
	LATENCY_MS => 25,
};

my $seed = $ENV{TEST_SEED} // int rand 1e9;
srand $seed;
note "TEST_SEED=$seed";

my $t = lofts(killed => MEMBERS, first => MEMBERS, conf => 'restart_after_crash = on');
my $cobot = $t->cobot;
$cobot->settings(rate_limit => 0, latency_ms => LATENCY_MS);

# --- what is in the database, without what differs from time to time ---
my %digest = (
	integration => ["to_jsonb(i) - '{id,state_since}'::text[]", 'cobot_integration i WHERE id = $id'],
	plans => ["to_jsonb(p) - '{id,integration_id,created_at}'::text[]", 'cobot_plan p WHERE integration_id = $id'],
	members => ["to_jsonb(m) - '{id,integration_id,plan_id,created_at,departed_at}'::text[], m.departed_at IS NULL,"
		  . ' (SELECT p.cobot_id FROM smartspace.cobot_plan p WHERE p.id = m.plan_id)', 'cobot_membership m WHERE integration_id = $id'],
	grants => ['m.cobot_id, g.user_group_id, g.source, g.valid',
		'user_group_member g JOIN smartspace.cobot_membership m ON m.id = g.membership_id WHERE m.integration_id = $id'],
	problems => ["to_jsonb(p) - '{integration_id,since}'::text[]", 'cobot_record_problem p WHERE integration_id = $id'],
	open => ['c.cobot_id, c.what, c.verdict', q{cobot_sync_change c WHERE integration_id = $id AND verdict IN ('held', 'released')}]);

# What came since the marks.
my %delta = (
	runs => ["to_jsonb(r) - '{id,integration_id,message,bytes,fetch_ms,apply_ms,started_at,finished_at,next_at}'::text[],"
		  . " regexp_replace(r.message, ' in [0-9.]+ s', '')", 'cobot_sync_run r WHERE integration_id = $id AND id > $run'],
	changes => ["to_jsonb(c) - '{id,run_id,integration_id,membership_id,before,after}'::text[], c.before - 'departed_at', c.after - 'departed_at'",
		'cobot_sync_change c WHERE integration_id = $id AND run_id > $run'],
	journal => ["to_jsonb(j) - '{id,position,at,membership_id,run_id}'::text[], m.cobot_id, j.run_id IS NULL",
		'access_journal j JOIN smartspace.cobot_membership m ON m.id = j.membership_id WHERE m.integration_id = $id AND j.id > $journal']);

# One line for each part: how many rows, and a checksum of them.
sub lines_of
{
	my ($parts, %value) = @_;

	return $t->sql(join ' UNION ALL ', map {
		my ($columns, $from) = @{ $parts->{$_} };
		$from =~ s/\$(\w+)/$value{$1}/g;
		"SELECT concat_ws(' ', '$_', count(*), md5(string_agg(t, E'\\n' ORDER BY t COLLATE \"C\"))) FROM (SELECT row($columns)::text AS t FROM smartspace.$from) q"
	} sort keys %$parts);
}

sub marks_of
{
	my ($run, $journal) = split /\|/, $t->sql('SELECT (SELECT coalesce(max(id), 0) FROM smartspace.cobot_sync_run), (SELECT coalesce(max(id), 0) FROM smartspace.access_journal)');

	return (run => $run, journal => $journal);
}

# --- the two states of the space ---
my %left;    # whoever comes back is as they were

sub go_and_come
{
	my ($loft, $go, $come) = @_;

	$left{$_} = $cobot->member('killed', $_) foreach $loft->who(@$go);
	$loft->leave(@$go);
	foreach my $number (@$come)
	{
		my ($id) = $loft->who($number);
		$left{$id} ? $cobot->add_member('killed', %{ $left{$id} }) : $loft->join_in($number);
	}
	return;
}

sub turn_to
{
	my ($loft, $state) = @_;
	my $there = $state eq 'there';

	$cobot->patch_space('killed', time_zone_name => $there ? 'Pacific/Auckland' : 'UTC');    # every grant moves
	$cobot->patch_plan('killed', 'killed-desk', name => $there ? 'Renamed' : 'Plan desk');
	go_and_come($loft, $there ? ([ 1 .. 8 ], [ 4001 .. 4008 ]) : ([ 4001 .. 4008 ], [ 1 .. 8 ]));
	$loft->change([ 50 .. 90 ], name => "Somebody $state");
	$loft->move($there ? 'flex' : 'desk', 100 .. 120);
	$loft->field([ 130 .. 150 ], $there ? 'Workshop' : undef);
	$loft->change([160], starts_at => $there ? 'never' : '2020/01/01');                      # a record that cannot be used
	return;
}

# --- somebody synchronises, somebody else does not let them ---
my %blow = (
	cancel => 'PERFORM pg_cancel_backend(victim)',
	terminate => 'PERFORM pg_terminate_backend(victim)',
	kill => "EXECUTE format('COPY (SELECT) TO PROGRAM %L', 'kill -9 ' || victim)");

sub answers
{
	return $t->try('SELECT 1')->{ok};
}

# Ends a synchronisation after a delay, counted from its start or from its first write.
sub end_run
{
	my ($integration, $kind, $from, $delay_s) = @_;
	my ($out, $err) = ('', '');
	my $begun = $from eq 'start'
	  ? "query LIKE '%cobot_sync%'"
	  : "(query LIKE '%pg_sleep%' OR EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'transactionid'))";
	my $killer_sql = <<"SQL";
DO \$\$
DECLARE
	victim integer;
BEGIN
	LOOP
		PERFORM pg_stat_clear_snapshot();
		SELECT pid INTO victim FROM pg_stat_activity a WHERE application_name = 'victim' AND $begun;
		EXIT WHEN victim IS NOT NULL;
		PERFORM pg_sleep(0.0005);
	END LOOP;
	PERFORM pg_sleep($delay_s);
	LOOP
		$blow{$kind};
		PERFORM pg_sleep(0.02);
		PERFORM pg_stat_clear_snapshot();
		EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = victim);
	END LOOP;
END \$\$;
SQL
	my ($killer, $victim) = map {
		my ($name, @sql) = @$_;
		IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $t->node->connstr('postgres') . " application_name=$name", map { ('-c', $_) } @sql ],
			'<', \undef, '>', \$out, '2>', \$err, IPC::Run::timeout(60))
	} [ killer => $killer_sql ], [ victim => "SELECT result FROM smartspace.cobot_sync($integration)", 'SELECT pg_sleep(60)' ];
	$victim->finish;
	$killer->finish;
	$t->wait_until(\&answers, 'the server is there again') if $kind eq 'kill';
	return $err;
}

my $loft = CobotLoft->open($t, 'killed');
$loft->set(sync_individual_access => 'true', hold_emptied_group_of => 'NULL');
$t->group('Workshop', identifier => 'Workshop');

sub state_now { return lines_of(\%digest, id => $loft->id); }

sub since { return lines_of(\%delta, id => $loft->id, @_); }

# --- given: what a run does when it is left alone; the second time, when those who left return ---
my (%state, %news, %took);
my $nothing = since(marks_of());
foreach my $turn (qw(there here there here there here))
{
	my %marks = marks_of();

	turn_to($loft, $turn);
	my $run = $loft->sync;
	($state{$turn}, $news{$turn}) = (state_now(), since(%marks));
	$took{fetch} = $run->{fetch_ms} / 1000;
	$took{apply} = $run->{apply_ms} / 1000;
}
note sprintf 'fetch %.3f s, apply %.3f s', @took{qw(fetch apply)};
note "$state{here}\n$state{there}\n$news{there}";
isnt($state{here}, $state{there}, 'given: two states that differ');
like($news{$_}, qr/^changes \d\d.*^journal [23]\d\d\d .*^runs 1 /ms, "given: a run $_ has much to write") foreach qw(here there);

# --- and when it is not ---
# A third of the blows falls while Cobot is asked, a third while rows are written, and a
# third about the moment of the commit, which is found out by and by.
my ($now, %seen) = ('here');
my $commit_s = $took{apply};

sub moment_of
{
	my ($round) = @_;

	return (start => rand $took{fetch}) if $round % 3 == 0;
	return (write => rand $commit_s) if $round % 3 == 1;
	return (write => $commit_s * (0.95 + rand 0.1));
}

foreach my $kind (qw(cancel terminate kill))
{
	subtest "$kind at a random moment: all or nothing" => sub {
		foreach my $round (1 .. ROUNDS + 12)
		{
			last if $round > ROUNDS && $seen{"$kind before"} && $seen{"$kind after"};
			my $next = $now eq 'here' ? 'there' : 'here';
			my ($from, $delay_s) = moment_of($round > ROUNDS ? 2 : $round);
			my %marks = marks_of();

			turn_to($loft, $next);
			my $err = end_run($loft->id, $kind, $from, $delay_s);
			my $is = state_now() . "\n" . since(%marks);
			my $what = $is eq "$state{$now}\n$nothing" ? 'before' : $is eq "$state{$next}\n$news{$next}" ? 'after' : 'between';

			$seen{"$kind $what"}++;
			if ($from eq 'write')
			{
				$commit_s = 0.9 * min($commit_s, $delay_s) if $what eq 'after';
				$commit_s = max($commit_s, 1.15 * $delay_s) if $what eq 'before';
			}
			isnt($what, 'between', sprintf '%s, %.3f s after its %s: as %s it', $kind, $delay_s, $from, $what)
			  or diag "$err\n$is\nbefore:\n$state{$now}\n$nothing\nafter:\n$state{$next}\n$news{$next}";

			%marks = marks_of() if $what ne 'before';
			my $run = $loft->sync;
			is($run->{result}, $next eq 'there' ? 'ok_with_problems' : 'ok', 'the next run works');
			is(state_now(), $state{$next}, '... and brings what Cobot has');
			if ($what eq 'before')
			{
				is(since(%marks), $news{$next}, '... with all that there is to tell');
			}
			else
			{
				is(counts_of($run), '0/0/0 0/0/0', '... and had nothing to do');
			}
			$now = $next;
		}
	};
}
note join ', ', map { "$_: $seen{$_}" } sort keys %seen;
foreach my $kind (qw(cancel terminate kill))
{
	ok($seen{"$kind before"}, "$kind: at times nothing had happened");
	ok($seen{"$kind after"}, "$kind: at times everything had happened");
}

subtest 'a first synchronisation leaves nothing behind, or a whole mirror' => sub {
	$cobot->set_field('first', "first-$_", FIELD, 'Workshop') foreach 11 .. 30;
	my $first = $t->connect_space('first');
	my $nothing_yet = lines_of(\%digest, id => $first);
	my $found = '';

	foreach my $kind (qw(terminate kill cancel terminate))
	{
		my %marks = marks_of();

		end_run($first, $kind, write => rand $took{apply});
		$found = lines_of(\%digest, id => $first);
		last if $found ne $nothing_yet;
		is(lines_of(\%delta, id => $first, %marks), $nothing, "$kind: nothing is there, and no trace of the run");
	}
	my $run = $t->sync($first);
	is("$run->{result} " . ($found eq $nothing_yet ? $run->{members_added} - MEMBERS : $run->{members_added}), 'ok 0', 'the next run works');
	is($t->groups_of('first-11'), 'Workshop (individual)', '... and gives what is due');
	is(lines_of(\%digest, id => $first), $found, 'what was there was whole') if $found ne $nothing_yet;
};
is($t->grants_differ, 0, 'the grants equal their definition');

done_testing();
