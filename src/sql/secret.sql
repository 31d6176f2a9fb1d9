-- Secrets of integrations: readable by the owner of the extension alone, and
-- not dumped. After a logical restore an integration waits for somebody to
-- connect it on purpose. No CHECK here: its error would show the failing row.

CREATE TABLE smartspace.cobot_secret (
	integration_id bigint CONSTRAINT cobot_secret_pkey PRIMARY KEY
		CONSTRAINT cobot_secret_integration_id_fkey REFERENCES smartspace.cobot_integration ON DELETE CASCADE,
	client_secret text,
	token text,
	retired_token text,
	hash_seed bigint
);

-- ANALYZE would copy secrets into pg_statistic, where they would outlive sealing, rotation and disconnecting.
ALTER TABLE smartspace.cobot_secret ALTER COLUMN client_secret SET STATISTICS 0, ALTER COLUMN token SET STATISTICS 0,
	ALTER COLUMN retired_token SET STATISTICS 0;

COMMENT ON TABLE smartspace.cobot_secret IS 'tokens and client secrets; no privileges for anybody, never dumped. Sealed where they were stored with smartspace_cobot.key_file set: sealed:VERSION:KEYID:HEX';
COMMENT ON COLUMN smartspace.cobot_secret.client_secret IS 'of the OAuth client registered at Cobot';
COMMENT ON COLUMN smartspace.cobot_secret.token IS 'space token: belongs to the space, not to the admin who connected it';
COMMENT ON COLUMN smartspace.cobot_secret.retired_token IS 'a token that is used no more and waits to be revoked at Cobot: by the next check of the connection, or by cobot_disconnect()';
COMMENT ON COLUMN smartspace.cobot_secret.hash_seed IS 'random key of cobot_membership.source_hash';

CREATE FUNCTION smartspace.cobot_secret_problem(kind text, id bigint, stored text, OUT reason text, OUT detail text)
LANGUAGE c STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'secret_problem';
COMMENT ON FUNCTION smartspace.cobot_secret_problem(text, bigint, text) IS
'why a secret as it is stored cannot be read: key_missing (the key that it is sealed with is not in the key file) or secret_unreadable (the key does not open it); nulls: it can. kind: token, retired_token or client_secret (id: of the integration), or mobile_app (id: of the mobile app)';

CREATE FUNCTION smartspace.cobot_seal_secrets(unseal boolean DEFAULT false,
	OUT sealed bigint, OUT resealed bigint, OUT unsealed bigint, OUT unchanged bigint, OUT unreadable bigint)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'secret_seal_all';
COMMENT ON FUNCTION smartspace.cobot_seal_secrets(boolean) IS
'seals all secrets with the first key of smartspace_cobot.key_file: those that were stored as they are, and those that another key of the file opens. unseal => true: stores all as they are. Says how many; what cannot be read stays as it is';
