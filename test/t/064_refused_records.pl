# What the database itself refuses (a constraint or a trigger of the backend's own) costs
# the one member their change and nobody else anything; and a run that ends with an error
# leaves the transaction around it as it was.
use strict;
use warnings;

use CobotLoft;
use CobotMirror;
use CobotTest;
use IPC::Run;
use Test::More;

my %members = (check => 100, trigger => 100, held => 90, broken => 10, cancelled => 30, nested => 10, leaver => 10);
my $t = lofts(%members);
my $cobot = $t->cobot;

sub promise
{
	my ($name, $subdomain, $test) = @_;

	subtest $name => sub {
		my $loft = CobotLoft->open($t, $subdomain);

		is($loft->inside, $members{$subdomain}, 'given: everybody has access');
		$test->($loft);
		$cobot->clear_faults;
		$t->sql('DROP TRIGGER IF EXISTS backend ON smartspace.cobot_membership; DROP FUNCTION IF EXISTS backend();'
			  . ' ALTER TABLE smartspace.cobot_membership DROP CONSTRAINT IF EXISTS backend');
		is($t->grants_differ, 0, 'the grants equal their definition');
	};
	return;
}

sub trigger_of_backend
{
	my ($when, $body, $level) = @_;

	$t->sql("CREATE FUNCTION backend() RETURNS trigger LANGUAGE plpgsql AS \$f\$BEGIN $body RETURN NEW; END\$f\$;"
		  . " CREATE TRIGGER backend $when ON smartspace.cobot_membership FOR EACH " . ($level // 'ROW') . ' EXECUTE FUNCTION backend()');
	return;
}

promise 'one record among a hundred that breaks a CHECK', check => sub {
	my ($loft) = @_;

	$t->sql("ALTER TABLE smartspace.cobot_membership ADD CONSTRAINT backend CHECK (name <> 'Mallory')");
	$loft->change([ 1 .. 100 ], phone => '123');
	$loft->change([37], name => 'Mallory');
	$loft->join_in(101);
	my $run = $loft->sync;
	is($run->{result} . ' ' . $loft->verdicts($run), 'ok_with_problems 99 changed applied, 1 joined applied, 1 unusable rejected bad_record', 'all others go through');
	is($loft->inside . ' ' . $loft->name_of(37), '101 Member check-37', 'the one keeps what they had');
	my $problem = $t->row("SELECT * FROM smartspace.cobot_problem WHERE problem = 'bad_record'");
	like($problem->{subject}, qr/check-37/, 'the problem is shown with the member');
	like($problem->{detail}, qr/^the database refuses the record: .*violates check constraint "backend" \(SQLSTATE 23514\)$/, '... and what the database said');
	unlike($problem->{detail}, qr/Mallory/, '... without the value');
	my $marks = marks($t);
	is(counts_of($loft->sync) . ' ' . written_since($t, $marks), '0/0/0 0/0/0 ', 'the next run tries the one alone, and writes nothing');
	$loft->change([37], name => 'Malory');
	is($loft->sync->{result} . ' ' . $loft->name_of(37), 'ok Malory', 'corrected, it goes through');
	is($t->sql("SELECT count(*) FROM smartspace.cobot_problem WHERE problem = 'bad_record'"), 0, 'and the problem is gone');
};

promise 'three records that a trigger of the backend refuses, found in few statements', trigger => sub {
	my ($loft) = @_;

	$t->sql('CREATE SEQUENCE tries; CREATE FUNCTION count_tries() RETURNS trigger LANGUAGE plpgsql AS $f$BEGIN PERFORM nextval(\'public.tries\'); RETURN NULL; END$f$;'
		  . ' CREATE TRIGGER count_tries BEFORE UPDATE ON smartspace.cobot_membership FOR EACH STATEMENT EXECUTE FUNCTION count_tries()');
	trigger_of_backend('BEFORE UPDATE', "IF NEW.cobot_id IN ('trigger-05', 'trigger-06', 'trigger-77') THEN RAISE EXCEPTION 'not this one'; END IF;");
	$loft->change([ 1 .. 100 ], phone => '456');
	my $run = $loft->sync;
	is($loft->verdicts($run), '97 changed applied, 3 unusable rejected bad_record', 'ninety-seven go through');
	is($t->sql("SELECT string_agg(cobot_id, ' ' ORDER BY cobot_id) FROM smartspace.cobot_membership WHERE phone IS DISTINCT FROM '456' AND integration_id = @{[ $loft->id ]}"), 'trigger-05 trigger-06 trigger-77', 'the three stay as they were');
	my $tries = $t->sql('SELECT last_value FROM tries');
	ok($tries > 3 && $tries < 50, 'halving finds them in a few statements') or diag $tries;
	$t->sql('DROP TRIGGER count_tries ON smartspace.cobot_membership');
};

promise 'a record refused among removals that are held', held => sub {
	my ($loft) = @_;

	trigger_of_backend('BEFORE INSERT OR UPDATE', "IF NEW.name = 'Mallory' THEN RAISE EXCEPTION 'not this one'; END IF;");
	$loft->leave(1 .. 30);
	$loft->change([40], name => 'Mallory');
	$loft->change([41], name => 'Alice');
	my $run = $loft->sync;
	is("$run->{result} $run->{reason} " . $loft->verdicts($run), 'held too_many_removals 1 changed applied, 30 left held too_many_removals, 1 unusable rejected bad_record', 'each for its reason, and once');
	is($loft->inside . ' ' . $loft->name_of(40) . ' ' . $loft->name_of(41), '90 Member held-40 Alice', 'and the rest is done');
	is($loft->release($run)->{result} . ' ' . $loft->inside, 'ok_with_problems 60', 'the removals can be released');
};

promise 'somebody whom the database does not let go', leaver => sub {
	my ($loft) = @_;

	trigger_of_backend('BEFORE UPDATE', "IF NEW.departed_at IS NOT NULL AND NEW.cobot_id = 'leaver-01' THEN RAISE EXCEPTION 'has the keys'; END IF;");
	$loft->leave(1, 2);
	my $run = $loft->sync;
	is($loft->verdicts($run) . '; outside: ' . $loft->outside(1 .. 10), '1 left applied, 1 unusable rejected bad_record; outside: 2', 'stays, and is shown');
};

promise 'an error that is nobody\'s fault ends the run, and leaves the transaction usable', broken => sub {
	my ($loft) = @_;

	trigger_of_backend('BEFORE UPDATE', "RAISE EXCEPTION 'the disk is full' USING ERRCODE = 'disk_full';");
	$loft->change([1], name => 'Renamed');
	my $before = $t->contents;
	my $runs = 'SELECT count(*) FROM smartspace.cobot_sync_run';
	my $count = $t->sql($runs);
	is($t->try("SELECT smartspace.cobot_sync(@{[ $loft->id ]})")->{sqlstate}, '53100', 'the error is not swallowed');
	is($t->contents . $t->sql($runs), "$before$count", 'and nothing is written');

	$t->sql('CREATE TABLE diary (entry text)');
	my $out = $t->sql(<<"SQL");
BEGIN;
INSERT INTO diary VALUES ('before');
DO \$\$BEGIN
	INSERT INTO diary VALUES ('inside');
	PERFORM smartspace.cobot_sync(@{[ $loft->id ]});
EXCEPTION WHEN disk_full THEN
	INSERT INTO diary VALUES ('caught');
END\$\$;
SELECT smartspace.cobot_grant(m.id, @{[ $loft->{door} ]}) IS NOT NULL FROM smartspace.cobot_membership m WHERE m.cobot_id = 'broken-02';
SAVEPOINT s;
DROP TRIGGER backend ON smartspace.cobot_membership;
SELECT 'run ' || (smartspace.cobot_sync(@{[ $loft->id ]})).result;
ROLLBACK TO s;
INSERT INTO diary VALUES ('after');
COMMIT;
SELECT string_agg(entry, ' ') FROM diary;
SQL
	like($out, qr/^run ok$/m, 'caught in PL/pgSQL, the same transaction can go on, even with a run');
	like($out, qr/^before caught after$/m, 'and keeps what it wrote itself');
	is($t->sql($runs) . ' ' . $loft->name_of(1), "$count Member broken-01", 'what was rolled back left nothing');
	is($t->groups_of('broken-02'), 'broken door (manual), broken door (plan)', 'what was not stays');
	is($t->sql("SELECT count(*) FROM smartspace.access_journal WHERE run_id IS NOT NULL AND membership_id = (SELECT id FROM smartspace.cobot_membership WHERE cobot_id = 'broken-02')"
		  . " AND id > (SELECT max(id) FROM smartspace.access_journal) - 1"), 0, 'and the journal does not blame a run for it');
};

promise 'a good run within nested blocks', nested => sub {
	my ($loft) = @_;

	trigger_of_backend('BEFORE UPDATE', "IF NEW.name = 'Mallory' THEN RAISE EXCEPTION 'not this one'; END IF;");
	$loft->change([1], name => 'Mallory');
	$loft->change([2], name => 'Alice');
	$loft->leave(3);
	my $out = $t->sql(<<"SQL");
DO \$\$
DECLARE run smartspace.cobot_sync_run;
BEGIN
	BEGIN
		run := smartspace.cobot_sync(@{[ $loft->id ]});
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
	END;
	run := smartspace.cobot_sync(@{[ $loft->id ]});
	PERFORM set_config('test.result', run.result || ' ' || run.members_changed || ' ' || run.members_removed, false);
END\$\$;
SELECT current_setting('test.result');
SQL
	is($out, 'ok_with_problems 1 1', 'rolled back once, and done again');
	is($loft->name_of(2) . ' ' . $loft->outside(1 .. 10), 'Alice 3', 'it stays');
};

promise 'cancelled in the middle of trying the changes out', cancelled => sub {
	my ($loft) = @_;

	# somebody else holds a row that the run is going to write
	$t->sql("ALTER TABLE smartspace.cobot_membership ADD CONSTRAINT backend CHECK (name <> 'Mallory')");
	my $locker = $t->node->background_psql('postgres');
	$locker->query_safe("BEGIN; SELECT FROM smartspace.cobot_membership WHERE cobot_id = 'cancelled-15' FOR UPDATE");
	$loft->change([ 1 .. 30 ], phone => '1');
	$loft->change([1], name => 'Mallory');
	my $before = $t->contents;
	my $session = $t->node->background_psql('postgres', on_error_stop => 0);
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	$session->query_safe("CREATE TEMP TABLE own (n int); BEGIN; INSERT INTO own VALUES (1)");
	$session->{stdin} .= "SAVEPOINT s; SELECT smartspace.cobot_sync(@{[ $loft->id ]}); ROLLBACK TO s; INSERT INTO own VALUES (2); COMMIT;\n";
	$session->{run}->pump_nb;
	$t->wait_until(sub { $session->{run}->pump_nb; $t->sql("SELECT count(*) FROM pg_stat_activity WHERE pid = $pid AND wait_event_type = 'Lock'") eq '1' }, 'the run waits for the row');
	$t->sql("SELECT pg_cancel_backend($pid)");
	$t->wait_until(sub { $session->{run}->pump_nb; $t->sql("SELECT state FROM pg_stat_activity WHERE pid = $pid") eq 'idle' }, 'the session is at rest');
	is($session->query('SELECT sum(n) FROM own'), 3, 'the transaction around it went on');
	is($t->contents, $before, 'nothing of the run is left');
	$locker->query_safe('ROLLBACK');
	$locker->quit;
	my ($line) = $session->query("SELECT (smartspace.cobot_sync(@{[ $loft->id ]})).members_changed") =~ /(\d+)/;
	is($line, 29, 'and the same session can synchronise');
	$session->quit;
};

done_testing();
