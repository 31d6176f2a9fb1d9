-- Grants by hand.

CREATE FUNCTION smartspace.cobot_require_member(member bigint) RETURNS bigint
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'grant_require_member';
COMMENT ON FUNCTION smartspace.cobot_require_member(bigint) IS 'the id of a membership, or an error if there is none';

CREATE FUNCTION smartspace.cobot_require_group("group" bigint) RETURNS bigint
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'grant_require_group';
COMMENT ON FUNCTION smartspace.cobot_require_group(bigint) IS 'the id of a user group, or an error if there is none';

CREATE FUNCTION smartspace.cobot_require_plan(plan bigint) RETURNS bigint
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'grant_require_plan';
COMMENT ON FUNCTION smartspace.cobot_require_plan(bigint) IS 'the id of a plan, or an error if there is none';

CREATE FUNCTION smartspace.cobot_require_integration(integration bigint) RETURNS bigint
LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'grant_require_integration';
COMMENT ON FUNCTION smartspace.cobot_require_integration(bigint) IS 'the id of an integration, or an error if there is none';

CREATE FUNCTION smartspace.cobot_grant(member bigint, "group" bigint, valid_from timestamptz DEFAULT NULL,
	valid_until timestamptz DEFAULT NULL, reason text DEFAULT NULL)
RETURNS smartspace.manual_grant
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'grant_give';
COMMENT ON FUNCTION smartspace.cobot_grant(bigint, bigint, timestamptz, timestamptz, text) IS
'puts a member into a user group by hand, whatever plan and custom field say; a second call replaces dates and reason';

CREATE FUNCTION smartspace.cobot_revoke(member bigint, "group" bigint)
RETURNS boolean
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'grant_take';
COMMENT ON FUNCTION smartspace.cobot_revoke(bigint, bigint) IS
'takes back what cobot_grant() gave; grants from plan or custom field stay. False if there was nothing to take back';
