-- People on their way: sent to Cobot to authorise something, and not back yet. Only a
-- digest of the state is kept, so reading this table lets nobody come back in their stead.
-- Not dumped. No CHECK on the verifier: its error would show the failing row.

CREATE TABLE smartspace.cobot_oauth_flow (
	state_digest bytea CONSTRAINT cobot_oauth_flow_pkey PRIMARY KEY,
	purpose text NOT NULL CONSTRAINT cobot_oauth_flow_purpose_known CHECK (purpose IN ('connect', 'login')),
	integration_id bigint CONSTRAINT cobot_oauth_flow_integration_id_fkey
		REFERENCES smartspace.cobot_integration ON DELETE CASCADE,
	mobile_app_id bigint CONSTRAINT cobot_oauth_flow_mobile_app_id_fkey
		REFERENCES smartspace.mobile_app ON DELETE CASCADE,
	redirect_uri text NOT NULL,
	scope text NOT NULL,
	verifier text,
	created_at timestamptz NOT NULL,
	expires_at timestamptz NOT NULL,
	used_at timestamptz,
	CONSTRAINT cobot_oauth_flow_owner_fits CHECK (integration_id IS NOT NULL AND mobile_app_id IS NULL AND purpose = 'connect'
		OR mobile_app_id IS NOT NULL AND integration_id IS NULL AND purpose = 'login')
);

CREATE INDEX cobot_oauth_flow_integration_idx ON smartspace.cobot_oauth_flow (integration_id, created_at);
CREATE INDEX cobot_oauth_flow_mobile_app_idx ON smartspace.cobot_oauth_flow (mobile_app_id, created_at);
CREATE INDEX cobot_oauth_flow_expires_at_idx ON smartspace.cobot_oauth_flow (expires_at);

-- as in secret.sql: nothing of it in the statistics
ALTER TABLE smartspace.cobot_oauth_flow ALTER COLUMN verifier SET STATISTICS 0;

COMMENT ON TABLE smartspace.cobot_oauth_flow IS
'authorisations at Cobot that were begun less than ten minutes ago; no privileges for anybody, never dumped';
COMMENT ON COLUMN smartspace.cobot_oauth_flow.state_digest IS 'SHA-256 of the state, which the person''s browser alone has';
COMMENT ON COLUMN smartspace.cobot_oauth_flow.purpose IS 'connect: an integration; login: to a mobile app';
COMMENT ON COLUMN smartspace.cobot_oauth_flow.redirect_uri IS 'where Cobot sends the person back to';
COMMENT ON COLUMN smartspace.cobot_oauth_flow.scope IS 'what was asked for, separated by blanks';
COMMENT ON COLUMN smartspace.cobot_oauth_flow.verifier IS 'secret of PKCE; null once it is used';
COMMENT ON COLUMN smartspace.cobot_oauth_flow.expires_at IS 'the state is worth nothing from then on, and the row goes';
COMMENT ON COLUMN smartspace.cobot_oauth_flow.used_at IS 'when the person came back; a state is good once';
