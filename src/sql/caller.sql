-- Whose integrations: what functions with the owner's rights ask about their caller, and
-- the policies of role.sql about the reader. Not PARALLEL SAFE, because a parallel worker
-- does not know who called.

CREATE TABLE smartspace.cobot_role (
	role regrole CONSTRAINT cobot_role_pkey PRIMARY KEY,
	level text NOT NULL CONSTRAINT cobot_role_level_known CHECK (level IN ('look', 'operate', 'administer')),
	integrations bigint[] CONSTRAINT cobot_role_integrations_not_empty CHECK (integrations <> '{}'),
	granted_at timestamptz NOT NULL DEFAULT now(),
	granted_by text NOT NULL DEFAULT session_user
);

COMMENT ON TABLE smartspace.cobot_role IS 'roles that cobot_grant_role() gave a level; do not write here';
COMMENT ON COLUMN smartspace.cobot_role.level IS 'look, operate or administer; cobot_privilege says what each of them has';
COMMENT ON COLUMN smartspace.cobot_role.integrations IS 'the only integrations that the role sees and touches; null: all';
COMMENT ON COLUMN smartspace.cobot_role.granted_by IS 'the role that was logged in';

-- not those of roles that are gone: in another cluster their numbers are other roles'
SELECT pg_catalog.pg_extension_config_dump('smartspace.cobot_role', 'WHERE role IN (SELECT oid FROM pg_catalog.pg_roles)');

CREATE FUNCTION smartspace.cobot_sees(integration bigint, to_write boolean DEFAULT false)
RETURNS boolean
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'caller_cobot_sees';
COMMENT ON FUNCTION smartspace.cobot_sees(bigint, boolean) IS
'may the caller see this integration (to_write: also write), by what cobot_grant_role() limited them to; null for what belongs to none: only who is not limited';

CREATE FUNCTION smartspace.cobot_sees_member(member bigint, to_write boolean DEFAULT false)
RETURNS boolean
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'caller_cobot_sees_member';
COMMENT ON FUNCTION smartspace.cobot_sees_member(bigint, boolean) IS 'the same by a membership';

CREATE FUNCTION smartspace.cobot_sees_plan(plan bigint, to_write boolean DEFAULT false)
RETURNS boolean
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'caller_cobot_sees_plan';
COMMENT ON FUNCTION smartspace.cobot_sees_plan(bigint, boolean) IS 'the same by a plan';

CREATE FUNCTION smartspace.cobot_sees_building(building bigint, to_write boolean DEFAULT false)
RETURNS boolean
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'caller_cobot_sees_building';
COMMENT ON FUNCTION smartspace.cobot_sees_building(bigint, boolean) IS 'the same by a building';

CREATE FUNCTION smartspace.cobot_has_token(integration bigint)
RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
SELECT smartspace.cobot_sees(integration)
	AND EXISTS (SELECT FROM smartspace.cobot_secret s WHERE s.integration_id = integration AND s.token IS NOT NULL)
$$;
COMMENT ON FUNCTION smartspace.cobot_has_token(bigint) IS 'whether there is an access token, for those who may not see which';

CREATE FUNCTION smartspace.cobot_secret_problems(integration bigint)
RETURNS TABLE (kind text, reason text, detail text)
LANGUAGE sql STABLE SECURITY DEFINER ROWS 1 SET search_path = pg_catalog, pg_temp
AS $$
SELECT v.kind, p.reason, p.detail
FROM smartspace.cobot_secret s
	CROSS JOIN LATERAL (VALUES ('token', s.token), ('client_secret', s.client_secret)) v (kind, stored)
	CROSS JOIN LATERAL smartspace.cobot_secret_problem(v.kind, s.integration_id, v.stored) p
WHERE s.integration_id = integration AND smartspace.cobot_sees(integration) AND p.reason IS NOT NULL
$$;
COMMENT ON FUNCTION smartspace.cobot_secret_problems(bigint) IS
'which secrets of an integration cannot be read, and why, for those who may not see them: key_missing or secret_unreadable';
