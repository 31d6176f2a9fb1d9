-- What the backend, pg_cron and a DBA call. All of them run with the rights of
-- the extension's owner, because tokens are readable by nobody else. Statements
-- that run once are not worth compiling, so jit is off in them.

CREATE FUNCTION smartspace.cobot_create_integration(name text, subdomain text, client_id text DEFAULT NULL,
	client_secret text DEFAULT NULL, sync_plan_access boolean DEFAULT true, sync_individual_access boolean DEFAULT false)
RETURNS bigint
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'connect_create_integration';
COMMENT ON FUNCTION smartspace.cobot_create_integration(text, text, text, text, boolean, boolean) IS
'makes an integration for the space at https://SUBDOMAIN.cobot.me and returns its id; connect it next';

CREATE FUNCTION smartspace.cobot_set_client_secret(integration bigint, client_secret text)
RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'connect_set_client_secret';
COMMENT ON FUNCTION smartspace.cobot_set_client_secret(bigint, text) IS
'stores the secret of an integration''s OAuth client in place of the one before; null: forgets it';

CREATE FUNCTION smartspace.cobot_connect_token(integration bigint, token text,
	OUT state text, OUT space_name text, OUT time_zone text, OUT granted_scope text[], OUT missing_scope text[], OUT custom_field text)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'connect_token';
COMMENT ON FUNCTION smartspace.cobot_connect_token(bigint, text) IS
'connects an integration with an access token of one of the space''s admins: checks it, swaps it for a space token that survives the admin, and reads the space; asks Cobot';

CREATE FUNCTION smartspace.cobot_set_client(integration bigint, client_id text, client_secret text)
RETURNS void
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'plug_set_client';
COMMENT ON FUNCTION smartspace.cobot_set_client(bigint, text, text) IS
'tells an integration the OAuth client that is registered for it at Cobot; cobot_connect_url() needs it';

CREATE FUNCTION smartspace.cobot_connect_url(integration bigint, redirect_uri text)
RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'plug_connect_url';
COMMENT ON FUNCTION smartspace.cobot_connect_url(bigint, text) IS
'the address of Cobot where an admin of the space authorises the integration, good once and for ten minutes; Cobot sends the admin back to redirect_uri with state and code for cobot_connect()';

CREATE FUNCTION smartspace.cobot_connect(state text, code text DEFAULT NULL, error text DEFAULT NULL, error_description text DEFAULT NULL,
	redirect_uri text DEFAULT NULL, OUT integration bigint, OUT state text, OUT space_name text, OUT time_zone text, OUT granted_scope text[], OUT missing_scope text[],
	OUT custom_field text, OUT message text)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'plug_connect';
COMMENT ON FUNCTION smartspace.cobot_connect(text, text, text, text, text) IS
'takes what Cobot sent an admin back with and connects the integration that cobot_connect_url() was called for, as cobot_connect_token() does: state connected; or denied or failed, with a message, where Cobot sent an error instead of a code. redirect_uri: where the admin came back to, which has to be that of cobot_connect_url(); null: not compared. Asks Cobot';

CREATE FUNCTION smartspace.cobot_check_connection(integration bigint, OUT result text, OUT missing_scope text[], OUT message text)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'check_connection';
COMMENT ON FUNCTION smartspace.cobot_check_connection(bigint) IS
'whether the token still may do what it has to, as the worker checks once a day: ok, missing_scope, auth_revoked, admin_rights_lost, account_suspended, or why it could not be found out. On this occasion the token of the connection before is revoked. Asks Cobot';

CREATE FUNCTION smartspace.cobot_disconnect(integration bigint)
RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'plug_disconnect';
COMMENT ON FUNCTION smartspace.cobot_disconnect(bigint) IS
'unplugs an integration: deletes its webhooks and revokes its token at Cobot if that can be had, deletes the token here, and says in words what became of them; a token that could not be revoked is kept for that alone, and a second call tries again. Cobot is asked nothing from then on; members, grants, mappings and history stay';
CREATE FUNCTION smartspace.cobot_set_client_secret_file(integration bigint, path text)
RETURNS void
LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'secret_file_set_client_secret';
COMMENT ON FUNCTION smartspace.cobot_set_client_secret_file(bigint, text) IS
'cobot_set_client_secret() with the content of a file on the server: for members of pg_read_server_files who may call that function';

CREATE FUNCTION smartspace.cobot_connect_token_file(integration bigint, path text,
	OUT state text, OUT space_name text, OUT time_zone text, OUT granted_scope text[], OUT missing_scope text[], OUT custom_field text)
LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'secret_file_connect_token';
COMMENT ON FUNCTION smartspace.cobot_connect_token_file(bigint, text) IS
'cobot_connect_token() with the content of a file on the server: for members of pg_read_server_files who may call that function';

CREATE FUNCTION smartspace.cobot_arm(integration bigint)
RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'integration_arm';
COMMENT ON FUNCTION smartspace.cobot_arm(bigint) IS
'lets an integration ask Cobot from this cluster, this database and this smartspace_cobot.environment, and from no other copy of its row; says what it is armed for now and was before';

CREATE FUNCTION smartspace.cobot_ensure_custom_field(integration bigint)
RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'connect_ensure_custom_field';
COMMENT ON FUNCTION smartspace.cobot_ensure_custom_field(bigint) IS
'makes sure that the space has the custom field smart_spaces_access_additional_units, without touching the other fields: present or created; asks Cobot';

CREATE FUNCTION smartspace.cobot_sync(integration bigint, reread boolean DEFAULT false)
RETURNS smartspace.cobot_sync_run
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'sync_integration';
COMMENT ON FUNCTION smartspace.cobot_sync(bigint, boolean) IS
'synchronises one integration with Cobot now and returns the run; reread => true compares also the records that Cobot sent unchanged';

CREATE FUNCTION smartspace.cobot_preview(integration bigint, reread boolean DEFAULT false)
RETURNS TABLE (member text, record text, what text, before jsonb, after jsonb, gains text[], loses text[],
	verdict text, reason text, detail text, membership_id bigint, cobot_id text)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'sync_preview';
COMMENT ON FUNCTION smartspace.cobot_preview(bigint, boolean) IS
'what cobot_sync() would do now, record by record, with the user groups that each member would gain or lose and what would be held; asks Cobot, and changes nothing';

CREATE FUNCTION smartspace.cobot_sync_member(member bigint)
RETURNS smartspace.cobot_sync_run
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'sync_member';
COMMENT ON FUNCTION smartspace.cobot_sync_member(bigint) IS
'asks Cobot for one member now, and lets grants follow at once: for somebody who stands at the door';

CREATE FUNCTION smartspace.cobot_sync_member(who text, integration bigint DEFAULT NULL)
RETURNS smartspace.cobot_sync_run
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'sync_member_called';
COMMENT ON FUNCTION smartspace.cobot_sync_member(text, bigint) IS
'the same by Cobot''s id of the membership or by e-mail address, also for somebody who joined just now and is not known here';

CREATE FUNCTION smartspace.cobot_ingest(integration bigint, memberships jsonb, plans jsonb DEFAULT NULL,
	custom_fields jsonb DEFAULT NULL, complete boolean DEFAULT false, evidence jsonb DEFAULT NULL, space jsonb DEFAULT NULL)
RETURNS smartspace.cobot_sync_run
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'sync_ingest';
COMMENT ON FUNCTION smartspace.cobot_ingest(bigint, jsonb, jsonb, jsonb, boolean, jsonb, jsonb) IS
'synchronises with answers of Cobot that an outside fetcher brings, as they came: the lists of memberships, plans and custom fields, and the details of the space. complete: who is not in the list may have left; for them evidence holds Cobot''s answers by id ({"id": record, or null for 404}), and whoever is not in it is held. Asks nobody';

CREATE FUNCTION smartspace.cobot_release(run bigint)
RETURNS smartspace.cobot_sync_run
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'sync_release_run';
COMMENT ON FUNCTION smartspace.cobot_release(bigint) IS
'lets the removals that a run holds go through, as far as Cobot still says so: synchronises now and returns that run. An integration without a token that cobot_ingest() feeds can ask nobody: the decision is stored, the next cobot_ingest() carries it out, and the run that held is returned';

CREATE FUNCTION smartspace.cobot_discard(run bigint)
RETURNS bigint
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'sync_discard_run';
COMMENT ON FUNCTION smartspace.cobot_discard(bigint) IS
'drops what a run holds and returns how many changes that were; the next synchronisation compares afresh, and holds again what is still too much';

CREATE FUNCTION smartspace.cobot_erase_member(member bigint)
RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET jit = off
AS 'MODULE_PATHNAME', 'erase_member';
COMMENT ON FUNCTION smartspace.cobot_erase_member(bigint) IS
'removes the personal data of a membership that Cobot deleted or ended, and what was given to it by hand; ids, dates and the journal stay. Refuses while Cobot has an active membership; asks Cobot where it can';

CREATE FUNCTION smartspace.cobot_library_version(OUT library text, OUT http text)
LANGUAGE c STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'smartspace_library_version';
COMMENT ON FUNCTION smartspace.cobot_library_version() IS
'version of the loaded library and of what it speaks HTTPS with, for a problem report';
