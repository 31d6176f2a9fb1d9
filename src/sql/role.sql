-- Who may do what, in three levels. This list is the only place that says so: whatever is
-- made in this schema stands here once for the least level that may use it, and a table
-- once more for each level that may do more with it. 'owner' is nobody but the owner.

CREATE VIEW smartspace.cobot_privilege WITH (security_invoker = true) AS
SELECT p.kind, p.name, p.level, p.privileges, p.for_limited, p.row_filter
FROM (VALUES
	('table', 'access_candidate', 'owner', NULL, false, NULL),
	('table', 'access_due', 'owner', NULL, false, NULL),
	('table', 'access_journal', 'owner', NULL, false, NULL),
	('table', 'access_now', 'look', 'SELECT', true, NULL),
	('table', 'access_obstacle', 'owner', NULL, false, NULL),
	('table', 'access_reason', 'owner', NULL, false, NULL),
	('table', 'building', 'look', 'SELECT', true, 'cobot_sees(integration_id, %s)'),
	('table', 'building', 'operate', 'INSERT, UPDATE, DELETE', true, NULL),
	('table', 'building_entry', 'look', 'SELECT', true, 'cobot_sees_building(building_id, %1$s) AND smartspace.cobot_sees_member(membership_id, %1$s)'),
	('table', 'building_entry', 'operate', 'INSERT, UPDATE, DELETE', true, NULL),
	('table', 'cobot_checkin', 'look', 'SELECT', true, 'cobot_sees(integration_id, %s) AND smartspace.cobot_sees_member(membership_id, %1$s)'),
	('table', 'cobot_checkin_reason', 'look', 'SELECT', true, NULL),
	('table', 'cobot_entry_problem', 'look', 'SELECT', true, 'cobot_sees(NULL, %s)'),
	('table', 'cobot_followed_space', 'owner', NULL, false, NULL),
	('table', 'cobot_freshness', 'look', 'SELECT', true, NULL),
	('table', 'cobot_individual_token', 'look', 'SELECT', true, NULL),
	('table', 'cobot_integration', 'look', 'SELECT', true, 'cobot_sees(id, %s)'),
	('table', 'cobot_integration', 'administer', 'UPDATE (name, client_id, oauth_scope, state, state_reason, state_since, sync_plan_access, sync_individual_access, hold_removals_above, hold_removals_above_percent, hold_emptied_group_of, sync_interval, stale_after, fed_from_outside, auto_checkin, checkin_dry_run, checkin_max_age, checkin_pause_after_refusal)', true, NULL),
	('table', 'cobot_integration', 'administer', 'DELETE', false, NULL),
	('table', 'cobot_membership', 'look', 'SELECT', true, 'cobot_sees(integration_id, %s)'),
	('table', 'cobot_plan', 'look', 'SELECT', true, 'cobot_sees(integration_id, %s)'),
	('table', 'cobot_privilege', 'look', 'SELECT', true, NULL),
	('table', 'cobot_problem', 'look', 'SELECT', true, NULL),
	('table', 'cobot_record_problem', 'look', 'SELECT', true, 'cobot_sees(integration_id, %s)'),
	('table', 'cobot_role', 'owner', NULL, false, NULL),
	('table', 'cobot_secret', 'owner', NULL, false, NULL),
	('table', 'cobot_status', 'look', 'SELECT', true, NULL),
	('table', 'cobot_sync_change', 'look', 'SELECT', true, 'cobot_sees(integration_id, %s)'),
	('table', 'cobot_sync_progress', 'look', 'SELECT', true, NULL),
	('table', 'cobot_sync_run', 'look', 'SELECT', true, 'cobot_sees(integration_id, %s)'),
	('table', 'cobot_sync_task', 'look', 'SELECT', true, 'cobot_sees(integration_id, %s)'),
	('table', 'cobot_webhook_fetch', 'owner', NULL, false, NULL),
	('table', 'cobot_webhook_hint', 'owner', NULL, false, NULL),
	('table', 'cobot_webhook_subscription', 'owner', NULL, false, NULL),
	('table', 'cobot_whole_run', 'owner', NULL, false, NULL),
	('table', 'cobot_login_event', 'administer', 'SELECT, DELETE', false, NULL),
	('table', 'cobot_oauth_flow', 'owner', NULL, false, NULL),
	('table', 'manual_grant', 'look', 'SELECT', true, 'cobot_sees_member(membership_id, %s)'),
	('table', 'mobile_app', 'administer', 'SELECT, INSERT, UPDATE, DELETE', false, NULL),
	('table', 'mobile_app_secret', 'owner', NULL, false, NULL),
	-- user groups are common to all integrations: who is limited to some leaves them alone
	('table', 'user_group', 'look', 'SELECT', true, NULL),
	('table', 'user_group', 'operate', 'INSERT, UPDATE, DELETE', false, NULL),
	('table', 'user_group_assignment', 'look', 'SELECT', true, 'cobot_sees_plan(plan_id, %s)'),
	('table', 'user_group_assignment', 'operate', 'INSERT, UPDATE, DELETE', true, NULL),
	('table', 'user_group_member', 'look', 'SELECT', true, 'cobot_sees_member(membership_id, %s)'),
	('function', 'access_at', 'look', 'EXECUTE', true, NULL),
	('function', 'access_changes', 'look', 'EXECUTE', true, NULL),
	('function', 'access_follow', 'owner', NULL, false, NULL),
	('function', 'access_position', 'look', 'EXECUTE', true, NULL),
	('function', 'cobot_access_range', 'owner', NULL, false, NULL),
	('function', 'cobot_ago', 'look', 'EXECUTE', true, NULL),
	('function', 'cobot_arm', 'administer', 'EXECUTE', true, NULL),
	('function', 'cobot_arm_mobile_app', 'administer', 'EXECUTE', false, NULL),
	('function', 'cobot_cannot_ask', 'owner', NULL, false, NULL),
	('function', 'cobot_check_connection', 'operate', 'EXECUTE', true, NULL),
	('function', 'cobot_check_redirect_uris', 'administer', 'EXECUTE', false, NULL),
	('function', 'cobot_checkin', 'operate', 'EXECUTE', true, NULL),
	('function', 'cobot_connect', 'administer', 'EXECUTE', true, NULL),
	('function', 'cobot_connect_token', 'administer', 'EXECUTE', true, NULL),
	('function', 'cobot_connect_token_file', 'administer', 'EXECUTE', true, NULL),
	('function', 'cobot_connect_url', 'administer', 'EXECUTE', true, NULL),
	('function', 'cobot_create_integration', 'administer', 'EXECUTE', false, NULL),
	('function', 'cobot_create_mobile_app', 'administer', 'EXECUTE', false, NULL),
	('function', 'cobot_create_webhooks', 'administer', 'EXECUTE', true, NULL),
	('function', 'cobot_day_ends', 'owner', NULL, false, NULL),
	('function', 'cobot_delete_webhooks', 'administer', 'EXECUTE', true, NULL),
	('function', 'cobot_deliver_checkins', 'operate', 'EXECUTE', false, NULL),
	('function', 'cobot_discard', 'operate', 'EXECUTE', true, NULL),
	('function', 'cobot_disconnect', 'administer', 'EXECUTE', true, NULL),
	('function', 'cobot_edit_distance', 'owner', NULL, false, NULL),
	('function', 'cobot_ensure_custom_field', 'administer', 'EXECUTE', true, NULL),
	('function', 'cobot_entry_trigger', 'operate', 'EXECUTE', false, NULL),
	('function', 'cobot_entry_verdict', 'owner', NULL, false, NULL),
	('function', 'cobot_erase_member', 'administer', 'EXECUTE', true, NULL),
	('function', 'cobot_explain', 'look', 'EXECUTE', true, NULL),
	('function', 'cobot_explain_entry', 'look', 'EXECUTE', true, NULL),
	('function', 'cobot_field_tokens', 'look', 'EXECUTE', true, NULL),
	('function', 'cobot_follow_limits', 'owner', NULL, false, NULL),
	('function', 'cobot_follow_integration', 'owner', NULL, false, NULL),
	('function', 'cobot_grant', 'operate', 'EXECUTE', true, NULL),
	('function', 'cobot_grant_role', 'owner', NULL, false, NULL),
	('function', 'cobot_has_access', 'look', 'EXECUTE', true, NULL),
	('function', 'cobot_has_token', 'look', 'EXECUTE', true, NULL),
	('function', 'cobot_in_words', 'owner', NULL, false, NULL),
	('function', 'cobot_ingest', 'operate', 'EXECUTE', true, NULL),
	('function', 'cobot_install_link', 'administer', 'EXECUTE', true, NULL),
	('function', 'cobot_is_home', 'look', 'EXECUTE', true, NULL),
	('function', 'cobot_journal_retention', 'administer', 'EXECUTE', false, NULL),
	('function', 'cobot_library_version', 'look', 'EXECUTE', true, NULL),
	('function', 'cobot_list_links', 'administer', 'EXECUTE', true, NULL),
	('function', 'cobot_list_webhooks', 'administer', 'EXECUTE', true, NULL),
	('function', 'cobot_login', 'operate', 'EXECUTE', false, NULL),
	('function', 'cobot_login_answer', 'owner', NULL, false, NULL),
	('function', 'cobot_login_url', 'operate', 'EXECUTE', false, NULL),
	('function', 'cobot_missing_scope', 'look', 'EXECUTE', true, NULL),
	('function', 'cobot_mobile_app_secret_problems', 'look', 'EXECUTE', true, NULL),
	('function', 'cobot_nearest_identifier', 'owner', NULL, false, NULL),
	('function', 'cobot_not_active', 'owner', NULL, false, NULL),
	('function', 'cobot_pending_hints', 'look', 'EXECUTE', true, NULL),
	('function', 'cobot_preview', 'operate', 'EXECUTE', true, NULL),
	('function', 'cobot_preview_assignment', 'look', 'EXECUTE', true, NULL),
	('function', 'cobot_preview_switch', 'look', 'EXECUTE', true, NULL),
	('function', 'cobot_process_hints', 'operate', 'EXECUTE', true, NULL),
	('function', 'cobot_progress', 'look', 'EXECUTE', true, NULL),
	('function', 'cobot_purge_journal', 'administer', 'EXECUTE', false, NULL),
	('function', 'cobot_recompute_access', 'administer', 'EXECUTE', false, NULL),
	('function', 'cobot_release', 'operate', 'EXECUTE', true, NULL),
	('function', 'cobot_remove_link', 'administer', 'EXECUTE', true, NULL),
	('function', 'cobot_request_sync', 'operate', 'EXECUTE', true, NULL),
	('function', 'cobot_require_group', 'owner', NULL, false, NULL),
	('function', 'cobot_require_integration', 'owner', NULL, false, NULL),
	('function', 'cobot_require_member', 'owner', NULL, false, NULL),
	('function', 'cobot_require_plan', 'owner', NULL, false, NULL),
	('function', 'cobot_revoke', 'operate', 'EXECUTE', true, NULL),
	('function', 'cobot_revoke_role', 'owner', NULL, false, NULL),
	('function', 'cobot_run_due', 'operate', 'EXECUTE', false, NULL),
	('function', 'cobot_schedule', 'administer', 'EXECUTE', false, NULL),
	('function', 'cobot_seal_secrets', 'administer', 'EXECUTE', false, NULL),
	('function', 'cobot_secret_problem', 'owner', NULL, false, NULL),
	('function', 'cobot_secret_problems', 'look', 'EXECUTE', true, NULL),
	('function', 'cobot_sees', 'look', 'EXECUTE', true, NULL),
	('function', 'cobot_sees_building', 'look', 'EXECUTE', true, NULL),
	('function', 'cobot_sees_member', 'look', 'EXECUTE', true, NULL),
	('function', 'cobot_sees_plan', 'look', 'EXECUTE', true, NULL),
	('function', 'cobot_set_client', 'administer', 'EXECUTE', true, NULL),
	('function', 'cobot_set_client_secret', 'administer', 'EXECUTE', true, NULL),
	('function', 'cobot_set_client_secret_file', 'administer', 'EXECUTE', true, NULL),
	('function', 'cobot_set_mobile_app_client', 'administer', 'EXECUTE', false, NULL),
	('function', 'cobot_set_mobile_app_client_file', 'administer', 'EXECUTE', false, NULL),
	('function', 'cobot_sync', 'operate', 'EXECUTE', true, NULL),
	('function', 'cobot_sync_changes', 'look', 'EXECUTE', true, NULL),
	('function', 'cobot_sync_member', 'operate', 'EXECUTE', true, NULL),
	('function', 'cobot_too_late', 'owner', NULL, false, NULL),
	('function', 'cobot_unschedule', 'administer', 'EXECUTE', false, NULL),
	('function', 'cobot_user_memberships', 'operate', 'EXECUTE', false, NULL),
	('function', 'cobot_wake_worker', 'operate', 'EXECUTE', true, NULL),
	('function', 'cobot_webhook', 'operate', 'EXECUTE', true, NULL),
	('function', 'cobot_webhook_received', 'operate', 'EXECUTE', true, NULL)
	) AS p (kind, name, level, privileges, for_limited, row_filter);

COMMENT ON VIEW smartspace.cobot_privilege IS 'which level may do what with each table, view and function of this schema; cobot_grant_role() grants it';
COMMENT ON COLUMN smartspace.cobot_privilege.kind IS 'table (or view) or function';
COMMENT ON COLUMN smartspace.cobot_privilege.name IS 'a function''s name stands for all that are called so';
COMMENT ON COLUMN smartspace.cobot_privilege.level IS 'the least level that may: look, operate, administer; owner: nobody but the owner of the extension';
COMMENT ON COLUMN smartspace.cobot_privilege.for_limited IS 'also for roles that are limited to some integrations; false for what concerns all of them';
COMMENT ON COLUMN smartspace.cobot_privilege.row_filter IS 'of a table whose rows belong to integrations: the condition under which somebody who is limited sees a row; %s: whether to write it';

CREATE FUNCTION smartspace.cobot_grant_role(role regrole, level text, integrations bigint[] DEFAULT NULL)
RETURNS text
LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'role_cobot_grant_role';
COMMENT ON FUNCTION smartspace.cobot_grant_role(regrole, text, bigint[]) IS
'gives a role that exists a level (look, operate or administer), in all integrations or in some alone, in the place of whatever privileges it had in this schema, and says what it has now; for the owner of the extension';

CREATE FUNCTION smartspace.cobot_revoke_role(role regrole)
RETURNS boolean
LANGUAGE c VOLATILE STRICT SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'role_cobot_revoke_role';
COMMENT ON FUNCTION smartspace.cobot_revoke_role(regrole) IS
'takes all privileges in this schema from a role; false if cobot_grant_role() had given it none; for the owner of the extension';

CREATE FUNCTION smartspace.cobot_follow_limits()
RETURNS trigger
LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'role_follow_limits';
COMMENT ON FUNCTION smartspace.cobot_follow_limits() IS
'trigger function that keeps row level security and its policies in step with cobot_role';

CREATE TRIGGER cobot_follow_limits AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON smartspace.cobot_role
	FOR EACH STATEMENT EXECUTE FUNCTION smartspace.cobot_follow_limits();

-- also in a session that replays or loads data with the triggers of others switched off
ALTER TABLE smartspace.cobot_role ENABLE ALWAYS TRIGGER cobot_follow_limits;
