-- cobot_run_due() by pg_cron. Not SECURITY DEFINER: pg_cron runs a job as the role
-- that made it, and that shall be the role that asked for it.

CREATE FUNCTION smartspace.cobot_schedule(schedule text DEFAULT '*/30 * * * *', database text DEFAULT NULL)
RETURNS text
LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'schedule_create';
COMMENT ON FUNCTION smartspace.cobot_schedule(text, text) IS
'has pg_cron call cobot_run_due() by this schedule, in the present or the given database: one job for each, a repeated call changes it. The job runs as whoever calls, who needs USAGE on the schema cron and EXECUTE on cobot_run_due(); for another database also EXECUTE on cron.schedule_in_database. Only the own jobs are seen and changed, by a superuser all. Says what is scheduled and was before';

CREATE FUNCTION smartspace.cobot_unschedule(database text DEFAULT NULL)
RETURNS boolean
LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'schedule_remove';
COMMENT ON FUNCTION smartspace.cobot_unschedule(text) IS
'removes the job that cobot_schedule() made for the present or the given database, which may be gone; false if there was none';
