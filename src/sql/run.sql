-- The history of synchronisations.

CREATE TABLE smartspace.cobot_sync_run (
	id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT cobot_sync_run_pkey PRIMARY KEY,
	integration_id bigint NOT NULL CONSTRAINT cobot_sync_run_integration_id_fkey
		REFERENCES smartspace.cobot_integration ON DELETE CASCADE,
	result text NOT NULL CONSTRAINT cobot_sync_run_result_known
		CHECK (result IN ('ok', 'ok_with_problems', 'held', 'incomplete', 'failed', 'skipped_locked')),
	reason text CONSTRAINT cobot_sync_run_reason_known
		CHECK (reason IN ('source_incomplete', 'source_empty', 'too_many_removals', 'group_would_be_empty',
			'auth_revoked', 'admin_rights_lost', 'account_suspended', 'rate_limited', 'unreachable',
			'bad_answer', 'stale', 'foreign_database')),
	message text,
	members_seen integer NOT NULL DEFAULT 0,
	members_added integer NOT NULL DEFAULT 0,
	members_changed integer NOT NULL DEFAULT 0,
	members_removed integer NOT NULL DEFAULT 0,
	grants_given bigint NOT NULL DEFAULT 0,
	grants_changed bigint NOT NULL DEFAULT 0,
	grants_taken bigint NOT NULL DEFAULT 0,
	problems integer NOT NULL DEFAULT 0,
	requests integer NOT NULL DEFAULT 0,
	bytes bigint NOT NULL DEFAULT 0,
	fetch_ms double precision NOT NULL DEFAULT 0,
	apply_ms double precision NOT NULL DEFAULT 0,
	started_at timestamptz NOT NULL,
	finished_at timestamptz NOT NULL,
	run_by text NOT NULL
);

CREATE INDEX cobot_sync_run_integration_idx ON smartspace.cobot_sync_run (integration_id, id DESC);

COMMENT ON TABLE smartspace.cobot_sync_run IS 'one row for each synchronisation of an integration';
COMMENT ON COLUMN smartspace.cobot_sync_run.result IS 'ok, ok_with_problems, held, incomplete, failed or skipped_locked';
COMMENT ON COLUMN smartspace.cobot_sync_run.reason IS 'why it was held, incomplete or failed';
COMMENT ON COLUMN smartspace.cobot_sync_run.message IS 'the same in words';
COMMENT ON COLUMN smartspace.cobot_sync_run.members_seen IS 'records in Cobot''s list of members';
COMMENT ON COLUMN smartspace.cobot_sync_run.members_added IS 'new, or back after having left';
COMMENT ON COLUMN smartspace.cobot_sync_run.members_removed IS 'left: Cobot says deleted or ended; their rows stay';
COMMENT ON COLUMN smartspace.cobot_sync_run.grants_changed IS 'grants whose first or last day moved';
COMMENT ON COLUMN smartspace.cobot_sync_run.problems IS 'rows that the view cobot_problem shows for the integration after the run';
COMMENT ON COLUMN smartspace.cobot_sync_run.requests IS 'HTTP requests sent, repeated ones included';
COMMENT ON COLUMN smartspace.cobot_sync_run.bytes IS 'received, as they came over the wire';
COMMENT ON COLUMN smartspace.cobot_sync_run.fetch_ms IS 'milliseconds spent on asking Cobot';
COMMENT ON COLUMN smartspace.cobot_sync_run.apply_ms IS 'milliseconds spent on reading, comparing and writing';
