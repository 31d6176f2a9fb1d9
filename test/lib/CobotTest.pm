package CobotTest;

=head1 NAME

CobotTest - a PostgreSQL with the extension and a Cobot test server beside it

=head1 SYNOPSIS

    use CobotTest;
    use Test::More;

    my $t = CobotTest->new(members => 90);          # both servers, extension created
    my $loft = $t->connect_space('demo-space');     # integration id, connected
    my $run = $t->sync($loft);                      # the run as a hash
    is($run->{result}, 'ok');
    is($t->rows_of('SELECT name FROM smartspace.cobot_membership'), ...);
    $t->cobot->delete_member('demo-space', $id);    # see CobotTestServer

The PostgreSQL server gets smartspace_cobot.connect_to and ca_file by its
configuration; retries and the worker's rate limits are off unless a test wants them,
so that failures are quick and tests need not wait.

=cut

use strict;
use warnings;

use Carp qw(croak);
use CobotTestServer;
use Exporter qw(import);
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time sleep);

our @EXPORT = qw(LOUD patient);

=head2 LOUD

A configuration in which the server says all it can, for tests that look for secrets. What
it logs of its own accord is off: that a statement is logged as it stands is not our fault.

=cut

use constant LOUD => <<'CONF';
log_statement = none
log_min_messages = debug5
log_min_error_statement = info
log_error_verbosity = verbose
log_parameter_max_length_on_error = 0
CONF

my $json = JSON::PP->new->utf8->allow_nonref;
my $count = 0;

=head2 new(%options)

Options: C<conf> (text for postgresql.conf), C<extension> (0: do not create it),
C<install> (another server's directory, the one that has bin in it), C<cert>, and those of CobotTestServer's start (state, spaces, members, plans, seed,
rate_limit).

=cut

sub new
{
	my ($class, %options) = @_;
	my $conf = delete $options{conf} // '';
	my $extension = delete $options{extension} // 1;
	my $install = delete $options{install};
	my $self = bless {}, $class;

	$self->{cobot} = CobotTestServer->new->start(%options);
	$self->{node} = PostgreSQL::Test::Cluster->new('main' . ++$count, $install ? (install_path => $install) : ());
	$self->{node}->init(extra => [ '--encoding=UTF8', '--locale=C.UTF-8' ]);
	$self->{node}->append_conf('postgresql.conf', <<"CONF");
timezone = 'UTC'
smartspace_cobot.connect_to = '@{[ $self->{cobot}->connect_to ]}'
smartspace_cobot.ca_file = '@{[ $self->{cobot}->ca_file ]}'
smartspace_cobot.max_retries = 0
smartspace_cobot.requests_per_minute = 6000
smartspace_cobot.list_requests_per_minute = 6000
$conf
CONF
	$self->{node}->start;
	$self->sql('CREATE EXTENSION smartspace_cobot') if $extension;
	return $self;
}

=head2 cobot, node

The CobotTestServer and the PostgreSQL::Test::Cluster.

=cut

sub cobot { return $_[0]{cobot}; }

sub node { return $_[0]{node}; }

=head2 restart_cobot(%options)

Another Cobot server (other certificate, other members) on the same port.

=cut

sub restart_cobot
{
	my ($self, %options) = @_;
	my $port = $self->{cobot}->port;

	$self->{cobot}->stop;
	$self->{cobot}->start(port => $port, %options);
	return;
}

=head2 sql($statements)

Runs statements, dies if they fail, returns the output as psql -At prints it.

=cut

sub sql
{
	my ($self, $sql) = @_;

	return $self->{node}->safe_psql('postgres', $sql);
}

=head2 rows($query), row($query)

The rows of a query as hashes; the only row. Text is decoded (Perl characters).

=cut

sub rows
{
	my ($self, $query) = @_;
	my $text = $self->sql("SELECT coalesce(json_agg(q), '[]') FROM ($query) q");

	return @{ $json->decode($text) };
}

sub row
{
	my ($self, $query) = @_;
	my @rows = $self->rows($query);

	croak 'not one row but ' . @rows . ": $query" unless @rows == 1;
	return $rows[0];
}

=head2 try($statements, %options)

Runs statements that may fail. Returns a hash: C<ok>, C<out>, C<err> (everything on
stderr, VERBOSITY verbose), C<sqlstate> of the first error ('' without), C<seconds>.
Options: C<dbname>, and C<node> for another server than the object's own.

=cut

sub try
{
	my ($self, $sql, %options) = @_;
	my ($out, $err) = ('', '');
	my $start = time;
	my $code = ($options{node} // $self->{node})->psql(
		$options{dbname} // 'postgres', "\\set VERBOSITY verbose\n$sql",
		stdout => \$out, stderr => \$err, on_error_stop => 1);
	my ($sqlstate) = $err =~ /(?:ERROR|FATAL):  ([0-9A-Z]{5}):/;

	return { ok => $code == 0, out => $out, err => $err, sqlstate => $sqlstate // '', seconds => time - $start };
}

=head2 connect_space($subdomain, %options)

A new integration, connected; returns its id. Options: C<token>, C<individual> (0 to
leave individual access off), C<plan> (0 to leave plan access off).

=cut

sub connect_space
{
	my ($self, $subdomain, %options) = @_;
	my $token = $options{token} // 'admin-token';
	my $individual = $options{individual} // 1 ? 'true' : 'false';
	my $plan = $options{plan} // 1 ? 'true' : 'false';
	my $id = $self->sql(
		"SELECT smartspace.cobot_create_integration('$subdomain', '$subdomain',"
		  . " sync_plan_access => $plan, sync_individual_access => $individual)");

	$self->sql("SELECT state FROM smartspace.cobot_connect_token($id, '$token')");
	return $id;
}

=head2 sync($integration, %options)

Synchronises in a session of its own and returns the run as a hash; C<warning> holds
what the server said to the client. Options: C<settings> (SET statements before it),
C<waits> (heed a Retry-After of an earlier run; tests usually do not have the time).

=cut

sub sync
{
	my ($self, $integration, %options) = @_;
	my $settings = $options{settings} // '';
	$settings .= "\nUPDATE smartspace.cobot_sync_run SET not_before = NULL WHERE not_before IS NOT NULL;" unless $options{waits};
	my $answer = $self->try("$settings\nSELECT row_to_json(r) FROM smartspace.cobot_sync($integration) r;");

	croak "cobot_sync failed: $answer->{err}" unless $answer->{ok};
	my ($line) = $answer->{out} =~ /^(\{.*\})$/m;
	my $run = $json->decode($line);
	$run->{warning} = $answer->{err};
	return $run;
}

=head2 group($name, %options), assign($plan_cobot_id, @group_ids)

A new user group (option C<identifier>), returns its id; assignments of a plan to
groups.

=cut

sub group
{
	my ($self, $name, %options) = @_;
	my $identifier = defined $options{identifier} ? "'$options{identifier}'" : 'NULL';

	return $self->sql("INSERT INTO smartspace.user_group (name, external_identifier) VALUES ('$name', $identifier) RETURNING id");
}

sub assign
{
	my ($self, $plan, @groups) = @_;

	foreach my $group (@groups)
	{
		$self->sql("INSERT INTO smartspace.user_group_assignment (plan_id, user_group_id)"
			  . " SELECT id, $group FROM smartspace.cobot_plan WHERE cobot_id = '$plan'");
	}
	return;
}

=head2 groups_of($cobot_id)

The groups a member is in, as "name (source)", sorted and joined by ", ".

=cut

sub groups_of
{
	my ($self, $cobot_id) = @_;

	return $self->sql("SELECT string_agg(format('%s (%s)', g.name, a.source), ', ' ORDER BY g.name, a.source)"
		  . " FROM smartspace.user_group_member a JOIN smartspace.user_group g ON g.id = a.user_group_id"
		  . " JOIN smartspace.cobot_membership m ON m.id = a.membership_id WHERE m.cobot_id = '$cobot_id'");
}

=head2 contents

Everything in the mirror and the grants as one text, for comparing before and after;
with xmin and ctid, so that a rewritten row shows too.

=cut

sub contents
{
	my ($self) = @_;

	return join "\n", map {
		$self->sql("SELECT '$_', t.xmin, t.ctid, t.* FROM smartspace.$_ t ORDER BY t.ctid")
	} qw(cobot_plan cobot_membership user_group_member user_group user_group_assignment manual_grant);
}

=head2 grants_differ

How many grants are stored and not due, or due and not stored. 0 is right.

=cut

sub grants_differ
{
	my ($self) = @_;
	my $columns = 'membership_id, user_group_id, source, valid';

	return $self->sql(<<"SQL");
SELECT count(*) FROM (
	(SELECT $columns FROM smartspace.user_group_member
	 EXCEPT ALL SELECT $columns FROM smartspace.access_due)
	UNION ALL
	(SELECT $columns FROM smartspace.access_due
	 EXCEPT ALL SELECT $columns FROM smartspace.user_group_member)) d
SQL
}

=head2 patient($time)

A time limit, whatever its unit: COBOT_TEST_PATIENCE times as long where the server is
slow, as under valgrind.

=cut

sub patient { return $_[0] * ($ENV{COBOT_TEST_PATIENCE} // 1); }

=head2 wait_until($condition, $what)

Calls the condition until it is true, for at most a minute (if the server is not
slow); dies otherwise.

=cut

sub wait_until
{
	my ($self, $condition, $what) = @_;
	my $deadline = time + patient(60);

	until ($condition->())
	{
		croak "waited in vain: $what" if time > $deadline;
		sleep 0.02;
	}
	return 1;
}

1;
