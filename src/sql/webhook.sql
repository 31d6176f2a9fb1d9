-- Webhooks: Cobot tells the backend's callback that something changed, and the
-- backend passes it on. Cobot signs nothing, so the last part of each callback's
-- path is a secret; only its digest is kept here.

CREATE TABLE smartspace.cobot_webhook_subscription (
	secret_digest bytea CONSTRAINT cobot_webhook_subscription_pkey PRIMARY KEY,
	integration_id bigint NOT NULL CONSTRAINT cobot_webhook_subscription_integration_id_fkey
		REFERENCES smartspace.cobot_integration ON DELETE CASCADE,
	event text NOT NULL,
	cobot_id text,
	callback_url text NOT NULL,
	created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX cobot_webhook_subscription_integration_idx ON smartspace.cobot_webhook_subscription (integration_id);

COMMENT ON TABLE smartspace.cobot_webhook_subscription IS
'webhooks that cobot_create_webhooks() asked Cobot for; no privileges for anybody, never dumped';
COMMENT ON COLUMN smartspace.cobot_webhook_subscription.secret_digest IS
'SHA-256 of the secret part of the callback''s path; the part itself is known to Cobot alone';
COMMENT ON COLUMN smartspace.cobot_webhook_subscription.event IS 'Cobot''s name of the event that comes to this address; it is not in the payload';
COMMENT ON COLUMN smartspace.cobot_webhook_subscription.cobot_id IS 'Cobot''s id of the subscription; null as long as Cobot has not confirmed it';
COMMENT ON COLUMN smartspace.cobot_webhook_subscription.callback_url IS 'the callback without its secret part';

CREATE FUNCTION smartspace.cobot_create_webhooks(integration bigint, callback_url text)
RETURNS TABLE (event text, result text, message text)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'subscription_create_webhooks';
COMMENT ON FUNCTION smartspace.cobot_create_webhooks(bigint, text) IS
'sees to it that Cobot tells callback_url/SECRET of every event about members and custom fields: present, created, renewed or failed; asks Cobot';

CREATE FUNCTION smartspace.cobot_list_webhooks(integration bigint)
RETURNS TABLE (event text, active boolean, ours boolean, as_expected boolean, host text, note text)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'subscription_list_webhooks';
COMMENT ON FUNCTION smartspace.cobot_list_webhooks(bigint) IS
'the webhooks that Cobot has for the token''s user and app, and those that are missing; secrets are not shown; asks Cobot';

CREATE FUNCTION smartspace.cobot_delete_webhooks(integration bigint)
RETURNS TABLE (event text, result text, message text)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'subscription_delete_webhooks';
COMMENT ON FUNCTION smartspace.cobot_delete_webhooks(bigint) IS
'deletes at Cobot and here the webhooks that cobot_create_webhooks() made, and no others: deleted or failed; asks Cobot';
