-- The journal of grants: what was given, changed and taken, when and by whom. It is
-- written by the statement that writes user_group_member, and by nothing else.
-- Rows are only ever appended, in the order of time: a BRIN index finds the pages of
-- a time or a position among ten million rows and costs nothing while writing.
-- Not dumped: positions belong to this cluster.

CREATE TABLE smartspace.access_journal (
	id bigint GENERATED ALWAYS AS IDENTITY,
	position bigint NOT NULL,
	at timestamptz NOT NULL,
	action text NOT NULL CONSTRAINT access_journal_action_known CHECK (action IN ('given', 'changed', 'taken')),
	membership_id bigint NOT NULL,
	user_group_id bigint NOT NULL,
	source text NOT NULL,
	valid_before tstzrange,
	valid tstzrange,
	run_id bigint,
	done_by text NOT NULL
);

CREATE INDEX access_journal_brin_idx ON smartspace.access_journal USING brin (position, at) WITH (pages_per_range = 32);

COMMENT ON TABLE smartspace.access_journal IS 'append-only: one row for each grant given, changed or taken';
COMMENT ON COLUMN smartspace.access_journal.position IS 'number of the transaction; see access_changes()';
COMMENT ON COLUMN smartspace.access_journal.action IS 'given, changed (its dates) or taken';
COMMENT ON COLUMN smartspace.access_journal.valid_before IS 'when the grant held before; null when it was given';
COMMENT ON COLUMN smartspace.access_journal.valid IS 'when it holds from now on; null when it was taken';
COMMENT ON COLUMN smartspace.access_journal.run_id IS 'the synchronisation that did it; null when an assignment, a switch or a person did';
COMMENT ON COLUMN smartspace.access_journal.done_by IS 'the role that was logged in';

CREATE FUNCTION smartspace.access_position()
RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint$$;
COMMENT ON FUNCTION smartspace.access_position() IS
'the position to start from for somebody who reads access_now at this moment, before reading it';

CREATE FUNCTION smartspace.access_changes(since bigint,
	OUT next_position bigint, OUT id bigint, OUT at timestamptz, OUT action text, OUT membership_id bigint,
	OUT user_group_id bigint, OUT source text, OUT valid_before tstzrange, OUT valid tstzrange)
RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT p.next_position, j.id, j.at, j.action, j.membership_id, j.user_group_id, j.source, j.valid_before, j.valid
FROM (SELECT smartspace.access_position() AS next_position) p
	CROSS JOIN smartspace.access_journal j
WHERE j.position >= since AND ((SELECT smartspace.cobot_sees(NULL)) OR smartspace.cobot_sees_member(j.membership_id))
ORDER BY j.id
$$;
COMMENT ON FUNCTION smartspace.access_changes(bigint) IS
'journal rows since a position. Go on from next_position: no change is ever missed, and one that was in progress then may come twice, with the same id';

CREATE FUNCTION smartspace.access_at(moment timestamptz, member bigint DEFAULT NULL)
RETURNS TABLE (membership_id bigint, user_group_id bigint, source text, valid tstzrange, given_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT last.membership_id, last.user_group_id, last.source, last.valid, last.at
FROM (SELECT DISTINCT ON (j.membership_id, j.user_group_id, j.source) j.*
	  FROM smartspace.access_journal j
	  WHERE j.at <= moment AND (member IS NULL OR j.membership_id = member)
		AND ((SELECT smartspace.cobot_sees(NULL)) OR smartspace.cobot_sees_member(j.membership_id))
	  ORDER BY j.membership_id, j.user_group_id, j.source, j.id DESC) last
WHERE last.valid @> moment
$$;
COMMENT ON FUNCTION smartspace.access_at(timestamptz, bigint) IS
'who was in which user group at that moment, from which source, as the journal tells; back to the retention of the journal';

CREATE FUNCTION smartspace.cobot_journal_retention()
RETURNS interval
LANGUAGE c STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'smartspace_journal_retention';
COMMENT ON FUNCTION smartspace.cobot_journal_retention() IS 'the setting smartspace_cobot.journal_retention_days, as an interval';

CREATE FUNCTION smartspace.cobot_purge_journal(keep interval DEFAULT smartspace.cobot_journal_retention())
RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
WITH old AS MATERIALIZED (
	SELECT j.ctid AS place, j.action,
		row_number() OVER (PARTITION BY j.membership_id, j.user_group_id, j.source ORDER BY j.id DESC) AS age
	FROM smartspace.access_journal j
	WHERE j.at < now() - keep
), purged AS (
	DELETE FROM smartspace.access_journal j USING old o
	WHERE j.ctid = o.place AND (o.age > 1 OR o.action = 'taken')
	RETURNING 1)
SELECT count(*) FROM purged
$$;
COMMENT ON FUNCTION smartspace.cobot_purge_journal(interval) IS
'deletes journal rows that are older than the interval, except those that say what still held then, so that access_at() stays right for all later moments; returns how many';
