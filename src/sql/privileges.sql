-- Nothing for PUBLIC. What a role may do is granted to it on purpose.

REVOKE ALL ON SCHEMA smartspace FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA smartspace FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA smartspace FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA smartspace FROM PUBLIC;

-- Default privileges of the role that installs may open new tables to others.
-- That is their purpose, but for secrets, for what recognises them, and for what limits roles.
DO $secret$
DECLARE
	secret_table text;
	grantee text;
BEGIN
	FOR secret_table, grantee IN
		SELECT DISTINCT c.oid::pg_catalog.regclass::pg_catalog.text, pg_catalog.quote_ident(r.rolname)
		FROM pg_catalog.pg_class c
			CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a
			JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) a.grantee
		WHERE c.oid OPERATOR(pg_catalog.=) ANY (ARRAY['smartspace.cobot_secret', 'smartspace.mobile_app_secret', 'smartspace.cobot_webhook_subscription', 'smartspace.cobot_oauth_flow', 'smartspace.cobot_role']::pg_catalog.regclass[])
			AND a.grantee OPERATOR(pg_catalog.<>) c.relowner
	LOOP
		EXECUTE pg_catalog.format('REVOKE ALL ON TABLE %s FROM %s', secret_table, grantee);
	END LOOP;
	-- and who can make functions here could put them in the place of ours
	FOR grantee IN
		SELECT DISTINCT pg_catalog.quote_ident(r.rolname)
		FROM pg_catalog.pg_namespace n
			CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) a
			JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) a.grantee
		WHERE n.nspname OPERATOR(pg_catalog.=) 'smartspace' AND a.grantee OPERATOR(pg_catalog.<>) n.nspowner
			AND a.privilege_type OPERATOR(pg_catalog.=) 'CREATE'
	LOOP
		EXECUTE pg_catalog.format('REVOKE CREATE ON SCHEMA smartspace FROM %s', grantee);
	END LOOP;
END
$secret$;
