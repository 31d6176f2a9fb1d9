-- When which integration is to be synchronised. Written by the worker, and by those who
-- ask for a synchronisation; a synchronisation by hand leaves it alone.

CREATE TABLE smartspace.cobot_sync_task (
	integration_id bigint CONSTRAINT cobot_sync_task_pkey PRIMARY KEY
		CONSTRAINT cobot_sync_task_integration_id_fkey REFERENCES smartspace.cobot_integration ON DELETE CASCADE,
	due_at timestamptz NOT NULL,
	requested_at timestamptz,
	requested_by text,
	claimed_at timestamptz,
	attempts integer NOT NULL DEFAULT 0,
	last_error text,
	etags text[],
	etags_run bigint,
	etags_individual boolean,
	check_due_at timestamptz NOT NULL DEFAULT 'infinity'
) WITH (fillfactor = 50);

CREATE INDEX cobot_sync_task_due_at_idx ON smartspace.cobot_sync_task (due_at);
CREATE INDEX cobot_sync_task_check_due_at_idx ON smartspace.cobot_sync_task (check_due_at);
CREATE INDEX cobot_sync_task_requested_at_idx ON smartspace.cobot_sync_task (requested_at) WHERE requested_at IS NOT NULL;

COMMENT ON TABLE smartspace.cobot_sync_task IS 'when the worker or cobot_run_due() shall synchronise which integration';
COMMENT ON COLUMN smartspace.cobot_sync_task.due_at IS 'not before; infinity while the integration cannot be asked. Once claimed: when to try again if nothing more is heard of it';
COMMENT ON COLUMN smartspace.cobot_sync_task.requested_at IS 'when somebody asked for it with cobot_request_sync()';
COMMENT ON COLUMN smartspace.cobot_sync_task.claimed_at IS 'when it was taken up last';
COMMENT ON COLUMN smartspace.cobot_sync_task.attempts IS 'how often it was taken up since a synchronisation came to its end; more than one: something broke it off';
COMMENT ON COLUMN smartspace.cobot_sync_task.last_error IS 'the error that broke it off last';

COMMENT ON COLUMN smartspace.cobot_sync_task.etags IS 'Cobot''s entity tags of the lists that the mirror is made of, in the order in which they are asked for; null where it gives none';
COMMENT ON COLUMN smartspace.cobot_sync_task.etags_run IS 'the run that they are of; they count only while no other came after it';
COMMENT ON COLUMN smartspace.cobot_sync_task.etags_individual IS 'the switch sync_individual_access at that time: which lists they are of';

COMMENT ON COLUMN smartspace.cobot_sync_task.check_due_at IS 'when to check next whether the token still may do what it has to; once a day, spread by chance';

CREATE FUNCTION smartspace.cobot_follow_integration()
RETURNS trigger
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sync_task_follow';
COMMENT ON FUNCTION smartspace.cobot_follow_integration() IS
'keeps cobot_sync_task in step with the integrations, and wakes the worker';

CREATE TRIGGER cobot_follow_new_integration AFTER INSERT ON smartspace.cobot_integration
	FOR EACH ROW EXECUTE FUNCTION smartspace.cobot_follow_integration('infinity');
CREATE TRIGGER cobot_follow_connection AFTER UPDATE ON smartspace.cobot_integration
	FOR EACH ROW WHEN (OLD.state IN ('new', 'disconnected', 'paused') AND NEW.state IN ('connected', 'degraded')
		OR OLD.connected_at IS DISTINCT FROM NEW.connected_at OR OLD.armed_at IS DISTINCT FROM NEW.armed_at)
	EXECUTE FUNCTION smartspace.cobot_follow_integration('now', 'request');
CREATE TRIGGER cobot_follow_interval AFTER UPDATE ON smartspace.cobot_integration
	FOR EACH ROW WHEN (OLD.sync_interval > NEW.sync_interval)
	EXECUTE FUNCTION smartspace.cobot_follow_integration('now');

CREATE FUNCTION smartspace.cobot_request_sync(integration bigint DEFAULT NULL)
RETURNS bigint
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sync_task_request';
COMMENT ON FUNCTION smartspace.cobot_request_sync(bigint) IS
'queues a synchronisation of one integration, or of all that are connected, returns at once, and says how many were queued; the worker begins when the transaction commits';

CREATE FUNCTION smartspace.cobot_run_due()
RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'worker_run_due';
COMMENT ON FUNCTION smartspace.cobot_run_due() IS
'for a schedule: wakes the worker where there is one, else does what is due in a process of its own, waits for its end, and says in words what was done';

CREATE FUNCTION smartspace.cobot_wake_worker()
RETURNS boolean
LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'wake_worker';
COMMENT ON FUNCTION smartspace.cobot_wake_worker() IS
'lets the worker look for work when the transaction commits; false: no worker looks after this database, see the settings shared_preload_libraries and smartspace_cobot.databases';

SELECT smartspace.cobot_wake_worker();

CREATE FUNCTION smartspace.cobot_progress()
RETURNS TABLE (integration_id bigint, pid integer, phase text, members integer, requests integer, started_at timestamptz)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'progress_rows';
COMMENT ON FUNCTION smartspace.cobot_progress() IS
'what the view cobot_sync_progress knows from shared memory; without shared_preload_libraries that is nothing';

-- Whoever synchronises has a lock, so it is seen that somebody does, also where how far they are is not known.
CREATE VIEW smartspace.cobot_sync_progress AS
SELECT i.id AS integration_id, i.name, l.pid, coalesce(p.phase, 'running') AS phase, p.members, p.requests,
	round(extract(epoch FROM clock_timestamp() - p.started_at)::numeric, 1) AS seconds
FROM pg_catalog.pg_locks l
	JOIN smartspace.cobot_integration i
		ON l.objid::bigint = i.id & 4294967295 AND l.objsubid = (i.id >> 32) & 65535
	LEFT JOIN smartspace.cobot_progress() p ON p.integration_id = i.id AND p.pid = l.pid
WHERE l.locktype = 'object' AND l.classid = 'smartspace.cobot_sync_run'::regclass
	AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
	AND l.mode = 'ExclusiveLock' AND l.granted;

COMMENT ON VIEW smartspace.cobot_sync_progress IS 'the synchronisations that are under way, by the worker or by anybody';
COMMENT ON COLUMN smartspace.cobot_sync_progress.phase IS
'asking: waits for Cobot''s lists; verifying: asks for members one by one; applying: compares and writes; running: not known, the library is not in shared_preload_libraries';
COMMENT ON COLUMN smartspace.cobot_sync_progress.members IS 'members that Cobot has told of so far';
COMMENT ON COLUMN smartspace.cobot_sync_progress.requests IS 'requests sent so far';
