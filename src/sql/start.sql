\echo Use "CREATE EXTENSION smartspace_cobot" to load this file. \quit

-- Names and addresses of people from everywhere go into these tables, and the
-- schema must be ours alone: whoever owns it could put functions of their own
-- beside ours.
DO $check$
BEGIN
	IF pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.<>) 'UTF8' THEN
		RAISE EXCEPTION 'smartspace_cobot needs a database with encoding UTF8'
			USING ERRCODE = 'feature_not_supported',
				DETAIL = pg_catalog.format('This database has encoding %s.', pg_catalog.getdatabaseencoding()),
				HINT = 'Create the database with: CREATE DATABASE name ENCODING ''UTF8'' TEMPLATE template0.';
	END IF;
	IF EXISTS (SELECT FROM pg_catalog.pg_namespace n
			   WHERE n.nspname OPERATOR(pg_catalog.=) 'smartspace'
				 AND n.nspowner OPERATOR(pg_catalog.<>) (SELECT r.oid FROM pg_catalog.pg_roles r
														 WHERE r.rolname OPERATOR(pg_catalog.=) current_user)) THEN
		RAISE EXCEPTION 'schema "smartspace" exists already and belongs to another role'
			USING ERRCODE = 'insufficient_privilege',
				HINT = 'Drop or rename that schema, or let the role that installs the extension own it.';
	END IF;
	IF EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) d.refobjid
			   WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass AND n.nspname OPERATOR(pg_catalog.=) 'smartspace'
				 AND d.classid OPERATOR(pg_catalog.<>) 'pg_catalog.pg_extension'::pg_catalog.regclass) THEN
		RAISE EXCEPTION 'schema "smartspace" is not empty'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				DETAIL = 'A function or operator there could take the place of one that is meant.',
				HINT = 'Drop or move what is in it.';
	END IF;
END
$check$;

COMMENT ON SCHEMA smartspace IS 'SmartSpace follows Cobot: memberships, plans, user groups and check-ins (extension smartspace_cobot)';
