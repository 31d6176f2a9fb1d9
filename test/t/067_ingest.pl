# The offline door: where the database may not call out, an outside fetcher brings Cobot's
# answers. It is the same run with the same care; what was not brought is not known, and
# takes nothing from anybody. Nothing is ever sent, and so it works in any copy, too.
use strict;
use warnings;

use CobotDoor;
use CobotLoft;
use CobotMirror;
use CobotTest;
use JSON::PP;
use Test::More;

my %members = (
	never => 12, again => 3, zone => 3, other => 3, part => 12, plans => 3, nameless => 3, known => 12, rest => 12, fields => 12, off => 3, odd => 12, held => 30, gone => 30, meanwhile => 30,
	copied => 12, paused => 3, twice => 3);
my $t = lofts(%members);
my $cobot = $t->cobot;
my $way = CobotDoor->new($t, 'offline');
my $json = JSON::PP->new->utf8->canonical;
$t->group($_, identifier => $_) foreach qw(Workshop Studio);

# --- helpers ---
# A promise in a space of its own, fed once; everybody has access to the door.
sub promise
{
	my ($name, $subdomain, $test) = @_;

	subtest $name => sub {
		my $space = $way->open($subdomain);
		is(ended($way->sync($space)), 'ok', 'given: it was fed once');
		$t->assign("$subdomain-desk", $t->group("$subdomain door"));
		is(inside($subdomain), $members{$subdomain}, 'and everybody has access');
		$test->($space);
		$cobot->clear_faults;
		is($t->grants_differ, 0, 'the grants equal their definition');
	};
	return;
}

sub ended { my ($run) = @_; return join ' ', grep { defined } @{$run}{qw(result reason)}; }

sub inside
{
	my ($subdomain, $group) = @_;
	$group //= "$subdomain door";

	return $t->sql("SELECT count(DISTINCT a.membership_id) FROM smartspace.access_now a JOIN smartspace.cobot_integration i ON i.id = a.integration_id"
		  . " WHERE i.subdomain = '$subdomain' AND a.user_group = '$group'");
}

sub outside
{
	my ($subdomain) = @_;

	return $t->sql("SELECT coalesce(string_agg(m.cobot_id, ' ' ORDER BY m.cobot_id), '') FROM smartspace.cobot_membership m JOIN smartspace.cobot_integration i ON i.id = m.integration_id"
		  . " WHERE i.subdomain = '$subdomain' AND NOT EXISTS (SELECT FROM smartspace.access_now a WHERE a.membership_id = m.id AND a.user_group = '$subdomain door')");
}

# Neither mirror nor grants: not a row was written.
sub unchanged { my ($before, $name) = @_; return ok($t->contents eq $before, $name); }

# Who and what is known of a space, whenever it was written.
sub known_of
{
	my ($subdomain) = @_;

	return $t->sql("SELECT to_jsonb(m) - 'source_hash' FROM smartspace.cobot_membership m WHERE m.cobot_id LIKE '$subdomain-%' ORDER BY m.id; SELECT to_jsonb(p) FROM smartspace.cobot_plan p WHERE p.cobot_id LIKE '$subdomain-%' ORDER BY p.id");
}

# Cobot's list without some members; Cobot's record of one.
sub list_without { my ($lists, @ids) = @_; my %not = map { $_ => 1 } @ids; return $json->encode([ grep { !$not{ $_->{id} // $_->{membership_id} } } @{ $json->decode($lists) } ]); }

sub told { my ($subdomain, $id) = @_; return ($way->get("$subdomain.cobot.me", "/api/memberships/$id"))[1]; }

sub settings_of { my ($space, $columns) = @_; return $t->sql("SELECT $columns FROM smartspace.cobot_integration WHERE id = $space"); }

sub status_of { my ($space) = @_; return $t->sql("SELECT concat_ws(' ', state, reason) FROM smartspace.cobot_status WHERE integration_id = $space"); }

sub verdicts
{
	my ($run) = @_;

	return join ', ', map { $_->{line} } $t->rows("SELECT concat_ws(' ', count(*), what, verdict, reason) AS line FROM smartspace.cobot_sync_change"
		  . " WHERE run_id = $run->{id} AND record = 'membership' GROUP BY what, verdict, reason ORDER BY what, verdict, reason");
}

subtest 'what never had a token is connected by what is brought' => sub {
	my $space = $way->open('never');
	is(status_of($space), 'new', 'given: nothing was brought yet');
	my $lists = $way->lists($space);
	$cobot->clear_log;
	my $run = $way->ingest($space, %$lists, complete => 1);
	is("$run->{result} $run->{kind} $run->{requests} $run->{bytes} $run->{members_added} $run->{members_seen} $run->{plans_seen}", 'ok ingest 0 0 12 12 2', 'a run like any other, with no request');
	is(scalar($cobot->log), 0, 'indeed nothing was sent');
	is(status_of($space), 'connected', 'it is connected');
	unlike($t->sql("SELECT summary FROM smartspace.cobot_status WHERE integration_id = $space"), qr/connected/, 'cobot_status does not call it disconnected');
	is(mirror_differs($t, $space, 'never'), '', 'the mirror equals Cobot');
	foreach my $call ("cobot_sync($space)", "cobot_preview($space)", "cobot_sync_member('never-01')")
	{
		my $answer = $t->try("SELECT smartspace.$call");
		is($answer->{sqlstate}, '55000', "$call is refused");
		like($answer->{err}, qr/integration "never" is not connected to Cobot/, '... since there is no token');
	}
	is(scalar($cobot->log), 0, 'and nothing is sent');
	my $before = $t->contents;
	is(counts_of($way->ingest($space, %$lists, complete => 1)), '0/0/0 0/0/0', 'the same once more changes nothing');
	unchanged($before, 'and writes nothing');
};

promise 'fed, an integration that lost its token is connected again', again => sub {
	my ($space) = @_;

	$t->sql("UPDATE smartspace.cobot_integration SET state = 'disconnected', fed_from_outside = false WHERE id = $space");
	like(status_of($space), qr/^disconnected/, 'given: it is disconnected');
	is(ended($way->sync($space)) . ' ' . status_of($space), 'ok connected', 'it is connected');
};

promise 'the details of the space may be brought, or not', zone => sub {
	my ($space) = @_;
	my $details = $way->lists($space)->{space};

	is(settings_of($space, 'space_id, time_zone'), $json->decode($details)->{id} . '|UTC', 'brought, they are stored');
	$cobot->patch_space('zone', time_zone_name => 'Pacific/Auckland');
	my $lists = $way->lists($space);
	is(ended($way->ingest($space, memberships => $lists->{memberships})) . ' ' . settings_of($space, 'time_zone'), 'ok UTC', 'not brought, they stay');
	is(ended($way->ingest($space, %$lists)) . ' ' . settings_of($space, 'time_zone'), 'ok Pacific/Auckland', 'brought again, they follow Cobot');
	my $before = $t->contents;
	my $other = $way->lists($way->open('other'));
	my $run = $way->ingest($space, %$other, complete => 1);
	is(ended($run), 'incomplete bad_answer', 'answers of another space are not taken');
	unchanged($before, 'they change nothing');
	like($run->{message}, qr/belongs to another space now/, 'and the run says why');
	is(settings_of($space, 'time_zone'), 'Pacific/Auckland', 'nor does the space change');
	is(ended($way->ingest($space, %$lists)), 'ok', '(the right ones)');
};

promise 'who is not in a part of the list has not left', part => sub {
	my ($space) = @_;
	my $lists = $way->lists($space);

	$cobot->patch_member('part', 'part-01', name => 'Renamed');
	my $run = $way->ingest($space, memberships => '[' . told('part', 'part-01') . ']');
	is(ended($run) . ' ' . counts_of($run) . ' ' . inside('part'), 'ok 0/1/0 0/0/0 12', 'one record alone changes this one');
	is(ended($way->ingest($space, memberships => '[]')) . ' ' . inside('part'), 'ok 12', 'none at all changes nobody');
	my $marks = marks($t);
	is(ended($way->ingest($space, memberships => '[]', custom_fields => '[]', evidence => '{"part-02": null}')) . ' ' . written_since($t, $marks), 'ok ', 'evidence about somebody whom nobody misses says nothing');
	is($t->sql('SELECT result FROM ' . CobotDoor::ingest_call($space, memberships => '[]') =~ s/\)$/, complete => NULL)/r) . ' ' . inside('part'), 'ok 12', 'and null is not complete');

	$cobot->add_member('part', id => 'part-13', name => 'New', plan => { parent_plan => { id => 'part-desk' } });
	$run = $way->ingest($space, memberships => '[' . told('part', 'part-13') . ']');
	is(counts_of($run) . ' ' . inside('part'), '1/0/0 1/0/0 13', 'somebody new joins');
	$run = $way->ingest($space, memberships => list_without($way->lists($space)->{memberships}, 'part-02'), complete => 1);
	is(ended($run) . ' ' . verdicts($run) . ' ' . inside('part'), 'incomplete source_incomplete 1 left held source_incomplete 13', 'of the whole list, who is missing is held');
	$run = $way->ingest($space, memberships => list_without($way->lists($space)->{memberships}, 'part-02'), complete => 1, evidence => '{"part-02": null}');
	is(ended($run) . ' ' . outside('part'), 'ok part-02', 'and with evidence leaves');
};

promise 'no plans at all are not believed, whatever else is brought', plans => sub {
	my ($space) = @_;
	my $lists = $way->lists($space);
	my $before = $t->contents;

	foreach my $complete (0, 1)
	{
		is(ended($way->ingest($space, %$lists, plans => '[]', complete => $complete)), 'held source_empty', 'held' . ($complete ? ', complete' : ''));
		unchanged($before, '... and nothing changes');
	}
};

promise 'a plan that cannot be told from others is none that is gone', nameless => sub {
	my ($space) = @_;
	my $lists = $way->lists($space);
	my $listed = "SELECT string_agg(cobot_id, ' ' ORDER BY cobot_id) FROM smartspace.cobot_plan WHERE integration_id = $space AND listed";

	$way->ingest($space, %$lists, plans => '[{"name": "Plan desk"}, {"id": "nameless-flex", "name": "Plan flex"}]', complete => 1);
	is($t->sql($listed), 'nameless-desk nameless-flex', 'both are listed');
	$way->ingest($space, %$lists, plans => '[{"id": "nameless-flex", "name": "Plan flex"}]', complete => 1);
	is($t->sql($listed), 'nameless-flex', 'who is really not in the list, is not');
};

promise 'only evidence lets somebody leave', known => sub {
	my ($space) = @_;
	my $lists = $way->lists($space);
	my $short = list_without($lists->{memberships}, map { "known-0$_" } 1 .. 3);
	my $values = list_without($lists->{custom_fields}, 'known-01');
	my $try = sub { my ($evidence, %more) = @_; return $way->ingest($space, %$lists, memberships => $short, custom_fields => $values, complete => 1, evidence => $evidence, %more); };
	my %kept = (
		'no evidence' => undef, 'empty evidence' => '{}', 'evidence about others' => '{"known-09": null, "nobody": null}', 'evidence that is an array' => '["known-01"]',
		'evidence that is null' => 'null', 'evidence that is a word' => '"known-01"', 'a number' => '{"known-01": 404}', 'a word' => '{"known-01": "404"}',
		'true' => '{"known-01": true}', 'an array' => '{"known-01": []}', 'an empty record' => '{"known-01": {}}', 'the record of another member' => '{"known-01": ' . told('known', 'known-02') . '}',
		'a record that says active' => '{"known-01": ' . told('known', 'known-01') . '}',
		'an ended record of another member' => '{"known-01": ' . $json->encode({ %{ $json->decode(told('known', 'known-02')) }, canceled_to => '2020/01/01' }) . '}',
		'another way to write the id' => '{"KNOWN-01": null, " known-01": null}');

	foreach my $what (sort keys %kept)
	{
		my $run = $try->($kept{$what});
		like(ended($run), qr/^incomplete (?:source_incomplete|bad_answer)$/, "$what: the run is incomplete");
		is(inside('known') . " $run->{members_removed}", '12 0', '... and nobody is out');
	}
	my $asked = $t->sql("SELECT count(*) FROM smartspace.cobot_sync_changes(@{[ $try->(undef)->{id} ]}) WHERE verdict = 'held' AND detail = 'not asked for by id yet'");
	is($asked, 3, 'a run without evidence says whom to ask for');
	my $run = $try->('{"known-01": null}', custom_fields => $lists->{custom_fields});
	is(ended($run) . ' ' . inside('known'), 'incomplete source_incomplete 12', '404, but with custom fields: kept');
	$run = $try->('{"known-01": null}');
	is(verdicts($run) . ' ' . outside('known'), '1 left applied, 2 left held source_incomplete known-01', '404: out; the others wait');
	$cobot->patch_member('known', 'known-02', canceled_to => 'today-1d');
	$run = $try->('{"known-01": null, "known-02": ' . told('known', 'known-02') . '}');
	is(verdicts($run) . ' ' . outside('known'), '1 left applied, 1 left held source_incomplete known-01 known-02', 'a record that has ended: out');
	$run = $way->ingest($space, %{ $way->lists($space) }, complete => 1);
	is($t->sql("SELECT coalesce(departed_at::text, 'here') FROM smartspace.cobot_membership WHERE cobot_id = 'known-03'") . ' ' . outside('known'), 'here known-02', 'who is in the list again is back');
};

promise 'what is held for want of evidence goes on with the next call', rest => sub {
	my ($space) = @_;

	$cobot->delete_member('rest', "rest-0$_") foreach 1 .. 5;
	my $lists = $way->lists($space);
	my $run = $way->ingest($space, %$lists, complete => 1, evidence => '{"rest-01": null, "rest-02": null}');
	is(ended($run) . ' ' . verdicts($run) . ' ' . outside('rest'), 'incomplete source_incomplete 2 left applied, 3 left held source_incomplete rest-01 rest-02', 'two are known to be gone');
	my $again = $way->ingest($space, %$lists, complete => 1, evidence => '{"rest-03": null, "rest-04": null, "rest-05": null}');
	is(ended($again) . ' ' . verdicts($again) . ' ' . outside('rest'), 'ok 3 left applied rest-01 rest-02 rest-03 rest-04 rest-05', 'and then the others');
	is(verdicts($run), '2 left applied, 3 left superseded source_incomplete', 'what was held is settled');
	is(mirror_differs($t, $space, 'rest'), '', 'the mirror equals Cobot');
};

promise 'individual access comes by the label of the custom field', fields => sub {
	my ($space) = @_;
	my $lists = $way->lists($space);
	my $values = sub {
		my (%of) = @_;
		return $json->encode([ map { { membership_id => $_, fields => [ { id => 'x1', label => 'Shoe size', value => 'Studio' }, { id => 'some-id', label => FIELD, value => $of{$_} } ] } } sort keys %of ]);
	};
	my %all = map { (sprintf('fields-%02d', $_) => '') } 1 .. 12;
	my $take = sub { my ($given, %more) = @_; return $way->ingest($space, %$lists, custom_fields => $given, complete => 1, %more); };

	is(ended($take->($values->(%all, 'fields-01' => 'Workshop', 'fields-02' => 'Workshop,Studio'))), 'ok', 'given: two have values');
	is($t->groups_of('fields-01') . ' + ' . $t->groups_of('fields-02'), 'Workshop (individual), fields door (plan) + Studio (individual), Workshop (individual), fields door (plan)', 'of the field with our label, whatever its id');
	my $before = $t->contents;
	my $run = $take->($values->(map { $_ => $all{$_} } grep { $_ ne 'fields-01' && $_ ne 'fields-02' } keys %all));
	is(ended($run) . ' ' . verdicts($run), 'incomplete source_incomplete 2 changed held source_incomplete', 'without their records nothing is known of the two');
	unchanged($before, 'who keep what they had');
	is(ended($take->('[]')), 'held source_empty', 'an empty list is not believed');
	unchanged($before, 'and changes nothing');
	$run = $way->ingest($space, memberships => '[' . told('fields', 'fields-01') . ']', custom_fields => '[]');
	is(ended($run) . ' ' . $t->groups_of('fields-01'), 'incomplete source_incomplete Workshop (individual), fields door (plan)', 'nor in a part of the list');
	is(counts_of($take->(undef)) . ' ' . inside('fields', 'Workshop') . inside('fields', 'Studio'), '0/0/0 0/0/0 21', 'where no values are brought, all is as it was');
	$before = $t->contents;
	$take->(undef);
	unchanged($before, 'and a second time writes nothing');

	$cobot->patch_member('fields', 'fields-01', name => 'Renamed');
	$lists = $way->lists($space);
	$take->($values->(map { $_ => $all{$_} } grep { $_ ne 'fields-01' } keys %all));
	is($t->sql("SELECT name FROM smartspace.cobot_membership WHERE cobot_id = 'fields-01'") . ' ' . $t->groups_of('fields-01'), 'Renamed Workshop (individual), fields door (plan)', 'a new name is taken all the same');
	is(ended($take->($values->(%all))) . ' ' . inside('fields', 'Workshop'), 'ok 0', 'an empty value takes it');
};

promise 'where individual access is off, custom fields are not looked at', off => sub {
	my ($space) = @_;
	my $lists = $way->lists($space);

	$t->sql("UPDATE smartspace.cobot_integration SET sync_individual_access = false WHERE id = $space");
	is(ended($way->ingest($space, %$lists, custom_fields => '"nonsense"', complete => 1)), 'ok', 'whatever they are');
};

promise 'what is no answer of Cobot changes nothing', odd => sub {
	my ($space) = @_;
	my $lists = $way->lists($space);
	my $short = list_without($lists->{memberships}, 'odd-01');
	my $before = $t->contents;
	my $known = known_of('odd');
	my $mega = 'x' x 1_000_000;
	my $endless_id = "[{\"id\": \"$mega\", \"membership_id\": \"$mega\"}]";    # of a plan nobody knows, so the known ones are gone
	my %odd = (
		'null' => 'null', 'a word' => '"Down for maintenance"', 'a number' => '-1e300', 'true' => 'true', 'an object' => '{"odd-02": 1}', 'an array of odds' => '[1, "a", null, [], true]', 'an array of empty records' => '[{}, {}]',
		'ids that are none' => '[{"id": 1}, {"id": null}, {"id": {}}, {"id": ""}]', 'deep arrays' => ('[' x 3000) . (']' x 3000), 'deep objects' => ('{"id":' x 3000) . '1' . ('}' x 3000), 'a megabyte of text' => "\"$mega\"",
		'a megabyte of records' => '[' . join(',', ('{"id":[]}') x 100_000) . ']');

	foreach my $argument (qw(memberships plans custom_fields evidence space))
	{
		foreach my $what (sort keys %odd)
		{
			foreach my $complete (0, 1)
			{
				my $answer = $t->try('SELECT result FROM ' . CobotDoor::ingest_call($space, %$lists, memberships => $short, $argument => $odd{$what}, complete => $complete));
				my $name = "$argument: $what" . ($complete ? ', complete' : '');

				ok($answer->{ok} ? $answer->{out} =~ /^(?:incomplete|held|ok|ok_with_problems)$/ : $answer->{sqlstate} =~ /^(?:22|54)/, $name) or diag $answer->{out} . substr $answer->{err}, 0, 500;
			}
		}
		is(inside('odd'), 12, "$argument: everybody has access");
		is(known_of('odd'), $known, "$argument: nobody is changed");
		unchanged($before, "$argument: no row was written") if $argument ne 'custom_fields';
		$way->sync($space);    # records of nobody cost the hashes of what was known of everybody
		$before = $t->contents;
	}
	foreach my $argument (qw(memberships plans custom_fields evidence space))
	{
		my $answer = $t->try('SELECT result FROM ' . CobotDoor::ingest_call($space, %$lists, memberships => $short, $argument => $endless_id, complete => 1));

		like($answer->{out}, qr/^(?:incomplete|ok_with_problems)$/, "$argument: a megabyte of an id") or diag substr $answer->{err}, 0, 500;
		is(inside('odd'), 12, '... everybody has access');
	}
	is(ended($way->sync($space)) . ' ' . status_of($space), 'ok connected', 'with right answers all is well');
	is(mirror_differs($t, $space, 'odd'), '', 'the mirror equals Cobot');
};

subtest 'misuse is an error' => sub {
	my $call = sub { return $t->try("SELECT smartspace.cobot_ingest($_[0])")->{sqlstate}; };
	my ($space) = split /\n/, $t->sql('SELECT id FROM smartspace.cobot_integration LIMIT 1');

	is($call->("NULL, '[]'"), '22004', 'no integration');
	is($call->("-1, '[]'"), '42704', 'an unknown one');
	is($call->("$space, NULL"), '22004', 'no members');
	is($call->("$space, '<html>'"), '22P02', 'no JSON');
	is($t->try("SET default_transaction_read_only = on; SELECT smartspace.cobot_ingest($space, '[]')")->{sqlstate}, '25006', 'where nothing can be written');
};

promise 'what is released waits for the next call', held => sub {
	my ($space) = @_;

	$cobot->delete_member('held', sprintf 'held-%02d', $_) foreach 1 .. 10;
	my $held = $way->sync($space);
	is(ended($held) . ' ' . inside('held'), 'held too_many_removals 30', 'given: ten are held');
	my $answer = $t->try("SELECT id, kind, result FROM smartspace.cobot_release($held->{id})");
	is($answer->{out}, "$held->{id}|ingest|held", 'the release is taken, and is no run of its own');
	like($answer->{err}, qr/^.*NOTICE: .*what run $held->{id} holds is released, and nothing is taken yet$/m, 'it says that nothing is done yet');
	like($answer->{err}, qr/^HINT:  The next smartspace\.cobot_ingest\($space, \.\.\.\) carries it out/m, 'and what does it');
	is($t->sql("SELECT DISTINCT verdict, decided_by FROM smartspace.cobot_sync_change WHERE run_id = $held->{id}"), 'released|postgres', 'the decision is stored');
	is(inside('held'), 30, 'nobody is out yet');
	is($t->try("SELECT smartspace.cobot_release($held->{id})")->{sqlstate}, '55000', 'there is nothing more to decide');
	is(ended($way->sync($space)) . ' ' . inside('held'), 'ok 20', 'the next call carries it out');
	is(mirror_differs($t, $space, 'held'), '', 'the mirror equals Cobot');
};

promise 'what is discarded is not taken by the next call', gone => sub {
	my ($space) = @_;

	$cobot->delete_member('gone', sprintf 'gone-%02d', $_) foreach 1 .. 10;
	my $held = $way->sync($space);
	is($t->sql("SELECT smartspace.cobot_discard($held->{id})"), 10, 'given: ten are held, and discarded');
	is(status_of($space), 'connected', 'it is connected');
	is(ended($way->sync($space)) . ' ' . inside('gone'), 'held too_many_removals 30', 'the next call holds them again');
};

promise 'who came back after a release keeps their access', meanwhile => sub {
	my ($space) = @_;

	$cobot->delete_member('meanwhile', sprintf 'meanwhile-%02d', $_) foreach 1 .. 10;
	my $held = $way->sync($space);
	$t->sql("SELECT id FROM smartspace.cobot_release($held->{id})");
	$cobot->add_member('meanwhile', id => 'meanwhile-01', name => 'Back', plan => { parent_plan => { id => 'meanwhile-desk' } });
	is(ended($way->sync($space)) . ' ' . inside('meanwhile') . ' ' . (outside('meanwhile') =~ tr/ //), 'ok 21 8', 'the nine are out, the one is in');
};

promise 'a paused integration is not fed', paused => sub {
	my ($space) = @_;
	my $lists = $way->lists($space);

	$cobot->patch_member('paused', 'paused-01', name => 'Renamed');
	$t->sql("UPDATE smartspace.cobot_integration SET state = 'paused' WHERE id = $space");
	my $before = $t->contents;
	my $answer = $t->try('SELECT ' . CobotDoor::ingest_call($space, %{ $way->lists($space) }));
	is($answer->{sqlstate}, '55000', 'it is refused');
	like($answer->{err}, qr/integration "paused" is paused/, 'and the error says why');
	unchanged($before, 'nothing was written');
	$t->sql("UPDATE smartspace.cobot_integration SET state = 'connected' WHERE id = $space");
	is(counts_of($way->sync($space)), '0/1/0 0/0/0', 'then it goes on');
};

promise 'two at once: one is skipped, and the other complete', twice => sub {
	my ($space) = @_;
	my $lists = $way->lists($space);
	my $session = $t->node->background_psql('postgres', on_error_stop => 0);

	$session->query_safe('BEGIN; SELECT result FROM ' . CobotDoor::ingest_call($space, %$lists));
	is($way->ingest($space, %$lists)->{result}, 'skipped_locked', 'the second one does not wait');
	$session->query_safe('COMMIT');
	$session->quit;
	is(ended($way->ingest($space, %$lists)), 'ok', 'later it can');
};

promise 'a copy of the database can be fed, and the original does not notice', copied => sub {
	my ($space) = @_;

	$t->node->safe_psql('template1', 'CREATE DATABASE copy TEMPLATE postgres');
	$cobot->delete_member('copied', 'copied-01');
	my $lists = $way->lists($space);
	$cobot->clear_log;
	is($t->try("SELECT smartspace.cobot_sync($space)", dbname => 'copy')->{sqlstate}, '55000', 'the copy may not ask');
	my $answer = $t->try('SELECT result, members_removed FROM ' . CobotDoor::ingest_call($space, %$lists, complete => 1, evidence => '{"copied-01": null}'), dbname => 'copy');
	is($answer->{out}, 'ok|1', 'it can be fed');
	is($t->node->safe_psql('copy', "SELECT reason FROM smartspace.cobot_status WHERE integration_id = $space"), 'foreign_database', 'and still says that it is one');
	is(scalar($cobot->log), 0, 'nothing was sent');
	is(inside('copied'), 12, 'the original is as before');
	is(ended($way->sync($space)) . ' ' . inside('copied'), 'ok 11', 'until it is fed itself');
	$t->node->safe_psql('postgres', 'DROP DATABASE copy');
};

is(join(' ', grep { !/^curl/ } map { $_->{user_agent} // '' } $cobot->log), '', 'nobody but the fetcher asked Cobot anything');

done_testing();
