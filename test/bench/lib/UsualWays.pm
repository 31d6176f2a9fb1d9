package UsualWays;

=head1 NAME

UsualWays - the yardsticks: the same work done as a good SQL developer usually would

=head1 SYNOPSIS

    my $usual = $bench->usual;
    $usual->empty($session);
    my $ms = $session->time_of('BEGIN; ' . $usual->upsert . '; ' . $usual->give_grants . '; COMMIT');
    $usual->assert_same_members;

Works on tables in the schema "usual", which have the columns, constraints and indexes of
ours (see usual_ways.sql), from the very answers that the extension got.

=cut

use strict;
use warnings;

use Carp qw(croak);
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp;

my $script = dirname(abs_path(__FILE__)) . '/../usual_ways.sql';

=head2 new($bench, \%requests)

Makes the schema; the requests are those of the extension's own synchronisation, by path.

=cut

sub new
{
	my ($class, $bench, $requests) = @_;
	my $self = bless { bench => $bench, test => $bench->test }, $class;
	my $session = $bench->session;

	$session->run("\\set integration @{[ $bench->integration ]}\n\\i $script\n");
	foreach my $path ('/api/memberships', '/api/custom_fields')
	{
		my $answer = $self->_fetch($requests->{$path} // croak "the extension did not ask for $path");

		$session->run("INSERT INTO usual.answer VALUES ('$path', pg_read_file('$answer'))");
	}
	($self->{columns}) = $session->run(<<'SQL');
SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute
WHERE attrelid = 'usual.incoming'::regclass AND attnum > 0 AND attname NOT IN ('integration_id', 'cobot_id')
SQL
	$session->run($self->_procedure);
	return $self;
}

# The answer to the question that the extension asked, as a file.
sub _fetch
{
	my ($self, $request) = @_;
	my $cobot = $self->{test}->cobot;
	my $query = length($request->{query} // '') ? "?$request->{query}" : '';
	my $file = File::Temp->new(TEMPLATE => 'answer_XXXXXX', TMPDIR => 1);

	system('curl', '--silent', '--fail', '--compressed', '--output', $file->filename,
		'--connect-to', '::' . $cobot->connect_to, '--cacert', $cobot->ca_file,
		'--header', 'Authorization: Bearer admin-token', "https://$request->{host}$request->{path}$query") == 0
	  or croak "could not fetch $request->{path}";
	return $file;
}

=head2 empty($session)

Empties the tables.

=cut

sub empty
{
	my ($self, $session) = @_;

	$session->run('TRUNCATE usual.cobot_membership, usual.user_group_member RESTART IDENTITY');
	return;
}

# An upsert of what a query or VALUES gives.
sub _upsert_of
{
	my ($self, $source) = @_;
	my $excluded = $self->_prefixed('excluded.');

	return <<"SQL";
INSERT INTO usual.cobot_membership AS m (integration_id, cobot_id, $self->{columns})
$source
ON CONFLICT (integration_id, cobot_id) DO UPDATE SET ($self->{columns}) = ROW ($excluded)
SQL
}

sub _prefixed
{
	my ($self, $prefix) = @_;

	return join ', ', map { "$prefix$_" } split /, /, $self->{columns};
}

=head2 upsert

The usual statement: writes all members, whether they changed or not.

=cut

sub upsert
{
	my ($self) = @_;

	return $self->_upsert_of("SELECT integration_id, cobot_id, $self->{columns} FROM usual.incoming");
}

=head2 give_grants

Makes the grants of new members, set-based.

=cut

sub give_grants
{
	return 'INSERT INTO usual.user_group_member (membership_id, user_group_id, source, valid, granted_at)'
	  . ' SELECT membership_id, user_group_id, source, valid, now() FROM usual.due';
}

=head2 write_one_by_one

Members and grants in a PL/pgSQL loop: for each record the member, then its grants.

=cut

sub write_one_by_one { return 'CALL usual.write_one_by_one()'; }

sub _procedure
{
	my ($self) = @_;
	my $upsert = $self->_upsert_of('VALUES (r.integration_id, r.cobot_id, ' . $self->_prefixed('r.') . ')');

	return <<"SQL";
CREATE PROCEDURE usual.write_one_by_one() LANGUAGE plpgsql AS \$\$
DECLARE
	r usual.incoming;
	member usual.entitled;
	member_id bigint;
	identifier text;
BEGIN
	FOR r IN SELECT * FROM usual.incoming LOOP
		$upsert RETURNING m.id INTO member_id;

		SELECT * INTO member FROM usual.entitled e WHERE e.id = member_id;
		INSERT INTO usual.user_group_member (membership_id, user_group_id, source, valid, granted_at)
			SELECT member.id, a.user_group_id, 'plan', member.valid, now()
			FROM smartspace.user_group_assignment a WHERE a.plan_id = member.plan_id
			ON CONFLICT (membership_id, user_group_id, source) DO UPDATE SET valid = excluded.valid;
		FOREACH identifier IN ARRAY string_to_array(coalesce(member.individual_access, ''), ',') LOOP
			INSERT INTO usual.user_group_member (membership_id, user_group_id, source, valid, granted_at)
				SELECT member.id, g.id, 'individual', member.valid, now()
				FROM smartspace.user_group g WHERE lower(g.external_identifier) = lower(btrim(identifier))
				ON CONFLICT (membership_id, user_group_id, source) DO UPDATE SET valid = excluded.valid;
		END LOOP;
	END LOOP;
END
\$\$
SQL
}

=head2 save, load

Copies our members and grants into files, which load copies into the yardstick's tables.

=cut

sub save
{
	my ($self, $session) = @_;

	$self->{files} //= File::Temp->newdir('copy_XXXXXX', TMPDIR => 1);
	$session->run(join '; ', map { "COPY smartspace.$_ TO '$self->{files}/$_'" } qw(cobot_membership user_group_member));
	return;
}

sub load
{
	my ($self) = @_;

	return join '; ', map { "COPY usual.$_ FROM '$self->{files}/$_'" } qw(cobot_membership user_group_member);
}

=head2 assert_same_members, assert_same_grants

Dies unless the yardstick's tables hold what ours hold.

=cut

sub assert_same_members
{
	my ($self) = @_;
	my ($ours, $theirs) = map { "(SELECT integration_id, cobot_id, $self->{columns} FROM $_.cobot_membership)" } qw(smartspace usual);

	$self->_assert_same('members', $ours, $theirs);
	croak 'members are missing'
	  unless $self->{test}->sql('SELECT count(*) FROM smartspace.cobot_membership') == $self->{bench}->members;
	return;
}

sub assert_same_grants
{
	my ($self) = @_;
	my ($ours, $theirs) = map
	{
		"(SELECT m.cobot_id, g.user_group_id, g.source, g.valid FROM $_.user_group_member g"
		  . " JOIN $_.cobot_membership m ON m.id = g.membership_id)"
	} qw(smartspace usual);

	$self->_assert_same('grants', $ours, $theirs);
	croak 'our grants differ from their definition' unless $self->{test}->grants_differ == 0;
	croak 'there are no grants' unless $self->{test}->sql('SELECT count(*) FROM smartspace.user_group_member') > 0;
	return;
}

sub _assert_same
{
	my ($self, $what, $ours, $theirs) = @_;
	my $count = $self->{test}->sql("SELECT count(*) FROM (($ours EXCEPT ALL $theirs) UNION ALL ($theirs EXCEPT ALL $ours)) d");

	croak "ours and the yardstick's $what differ in $count rows" unless $count == 0;
	return;
}

1;
