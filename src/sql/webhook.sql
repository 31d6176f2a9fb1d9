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

-- What came and what was done about it. A row for each hint rather than one for each
-- member, so that writing a hint down waits for nobody; see webhook.c.

CREATE TABLE smartspace.cobot_webhook_hint (
	id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT cobot_webhook_hint_pkey PRIMARY KEY,
	integration_id bigint NOT NULL CONSTRAINT cobot_webhook_hint_integration_id_fkey
		REFERENCES smartspace.cobot_integration ON DELETE CASCADE,
	cobot_id text,
	received_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX cobot_webhook_hint_integration_idx ON smartspace.cobot_webhook_hint (integration_id, cobot_id);

COMMENT ON TABLE smartspace.cobot_webhook_hint IS 'hints that something changed at Cobot, until a synchronisation has seen to it; cobot_pending_hints(integration) sums them up';
COMMENT ON COLUMN smartspace.cobot_webhook_hint.cobot_id IS 'Cobot''s id of the membership; null: it may be anybody, so all are to be synchronised';

CREATE TABLE smartspace.cobot_webhook_fetch (
	integration_id bigint CONSTRAINT cobot_webhook_fetch_integration_id_fkey
		REFERENCES smartspace.cobot_integration ON DELETE CASCADE,
	cobot_id text,
	started_at timestamptz NOT NULL,
	failed boolean NOT NULL,
	CONSTRAINT cobot_webhook_fetch_pkey PRIMARY KEY (integration_id, cobot_id)
);

COMMENT ON TABLE smartspace.cobot_webhook_fetch IS 'members that were fetched because of a hint, kept for a few minutes';
COMMENT ON COLUMN smartspace.cobot_webhook_fetch.failed IS 'Cobot could not be asked, so the hint is still pending';

-- A run that found nobody at Cobot changed nothing, so it settles no hint.
CREATE VIEW smartspace.cobot_whole_run WITH (security_invoker = true) AS
SELECT r.integration_id, r.id, r.started_at,
	r.result IN ('ok', 'ok_with_problems') OR r.result = 'held' AND r.reason <> 'source_empty' AS good
FROM smartspace.cobot_sync_run r
WHERE r.kind IN ('sync', 'release') AND r.result <> 'skipped_locked';

COMMENT ON VIEW smartspace.cobot_whole_run IS 'synchronisations that asked Cobot for a whole space, and whether all that Cobot said was looked at';

-- The rules in one place. A hint is settled by the fetch of its member, which deletes
-- it, or by any good synchronisation of the whole space that began after it came.
--	 one by one: not within 3 seconds of the last fetch, nor 60 of a failed one
--	 all at once: for more than 10 members pending, or fetched within 10 seconds, and
--	   for a hint about anybody; not within 15 seconds of the last time (Cobot gives the
--	   list of members 6 times a minute), nor 60 if it failed
CREATE FUNCTION smartspace.cobot_pending_hints(integration bigint)
RETURNS TABLE (cobot_id text, first_at timestamptz, last_at timestamptz, hints bigint, all_at_once boolean,
	not_before timestamptz, why text, ids bigint[])
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS $$
WITH whole AS (
	SELECT r.started_at, NOT r.good AS failed FROM smartspace.cobot_whole_run r
	WHERE r.integration_id = integration ORDER BY r.id DESC LIMIT 1),
good AS (
	SELECT r.started_at FROM smartspace.cobot_whole_run r
	WHERE r.integration_id = integration AND r.good ORDER BY r.id DESC LIMIT 1),
pending AS (
	SELECT h.cobot_id, min(h.received_at) AS first_at, max(h.received_at) AS last_at, count(*) AS hints, array_agg(h.id) AS ids
	FROM smartspace.cobot_webhook_hint h LEFT JOIN good ON true
	WHERE h.integration_id = integration AND (good.started_at IS NULL OR h.received_at >= good.started_at)
	GROUP BY h.cobot_id),
recent AS (
	SELECT f.cobot_id FROM smartspace.cobot_webhook_fetch f LEFT JOIN good ON true
	WHERE f.integration_id = integration AND f.started_at > clock_timestamp() - interval '10 seconds'
	  AND (good.started_at IS NULL OR f.started_at >= good.started_at)),
storm AS (
	SELECT count(*) > 10 OR count(*) > count(m.cobot_id) AS all_at_once
	FROM (SELECT p.cobot_id FROM pending p UNION SELECT r.cobot_id FROM recent r) m),
wait AS (
	SELECT p.*, storm.all_at_once, f.failed AS fetch_failed, whole.failed AS whole_failed,
		greatest(f.started_at, CASE WHEN NOT whole.failed THEN whole.started_at END) AS fetched_at,
		CASE WHEN storm.all_at_once THEN whole.started_at + CASE WHEN whole.failed THEN interval '60 seconds' ELSE interval '15 seconds' END
			ELSE greatest(f.started_at + CASE WHEN f.failed THEN interval '60 seconds' ELSE interval '3 seconds' END,
				CASE WHEN NOT whole.failed THEN whole.started_at + interval '3 seconds' END) END AS not_before
	FROM pending p CROSS JOIN storm LEFT JOIN whole ON true
		LEFT JOIN smartspace.cobot_webhook_fetch f ON f.integration_id = integration AND f.cobot_id = p.cobot_id)
SELECT w.cobot_id, w.first_at, w.last_at, w.hints, w.all_at_once, w.not_before,
	CASE WHEN w.not_before IS NULL OR w.not_before <= clock_timestamp() THEN NULL
		ELSE CASE WHEN w.all_at_once AND w.whole_failed THEN 'the last synchronisation failed'
				WHEN w.all_at_once THEN 'all members are to be synchronised at once'
				WHEN w.fetch_failed THEN 'Cobot could not be asked ' || smartspace.cobot_ago(w.fetched_at)
				ELSE 'fetched ' || smartspace.cobot_ago(w.fetched_at) END
			|| format(', due in %s s', ceil(extract(epoch FROM w.not_before - clock_timestamp()))) END,
	w.ids
FROM wait w
WHERE smartspace.cobot_sees(integration)
ORDER BY w.first_at
$$;
COMMENT ON FUNCTION smartspace.cobot_pending_hints(bigint) IS
'the members about whom webhooks came that no synchronisation has seen to yet: when, how many, not before when, and why not now (null: due)';

CREATE FUNCTION smartspace.cobot_webhook(integration bigint, event text, payload jsonb)
RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'webhook_told';
COMMENT ON FUNCTION smartspace.cobot_webhook(bigint, text, jsonb) IS
'takes what Cobot posted to a webhook as a hint: asks Cobot for the member it names, and says in words what became of it: synchronised, pending or ignored';

CREATE FUNCTION smartspace.cobot_webhook_received(secret_path_part text, payload jsonb)
RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'webhook_received';
COMMENT ON FUNCTION smartspace.cobot_webhook_received(text, jsonb) IS
'the same for a webhook that cobot_create_webhooks() made: the last part of the path tells integration and event';

CREATE FUNCTION smartspace.cobot_process_hints(integration bigint)
RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'webhook_process_hints';
COMMENT ON FUNCTION smartspace.cobot_process_hints(bigint) IS
'takes up the pending hints that are due, and says in words what was done and what is still pending; asks Cobot only if there are any';
