-- Secrets of integrations: readable by the owner of the extension alone, and
-- not dumped. After a logical restore an integration waits for somebody to
-- connect it on purpose. No CHECK here: its error would show the failing row.

CREATE TABLE smartspace.cobot_secret (
	integration_id bigint CONSTRAINT cobot_secret_pkey PRIMARY KEY
		CONSTRAINT cobot_secret_integration_id_fkey REFERENCES smartspace.cobot_integration ON DELETE CASCADE,
	client_secret text,
	token text,
	hash_seed bigint
);

COMMENT ON TABLE smartspace.cobot_secret IS 'tokens and client secrets; no privileges for anybody, never dumped';
COMMENT ON COLUMN smartspace.cobot_secret.client_secret IS 'of the OAuth client registered at Cobot';
COMMENT ON COLUMN smartspace.cobot_secret.token IS 'space token: belongs to the space, not to the admin who connected it';
COMMENT ON COLUMN smartspace.cobot_secret.hash_seed IS 'random key of cobot_membership.source_hash';
