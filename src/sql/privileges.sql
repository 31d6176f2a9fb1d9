-- Nothing for PUBLIC. What a role may do is granted to it on purpose.

REVOKE ALL ON SCHEMA smartspace FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA smartspace FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA smartspace FROM PUBLIC;
REVOKE ALL ON ALL ROUTINES IN SCHEMA smartspace FROM PUBLIC;

-- Default privileges of the role that installs may open new tables to others.
-- That is their purpose, but for secrets.
DO $secret$
DECLARE
	grantee text;
BEGIN
	FOR grantee IN
		SELECT DISTINCT pg_catalog.quote_ident(r.rolname)
		FROM pg_catalog.pg_class c
			CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a
			JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) a.grantee
		WHERE c.oid OPERATOR(pg_catalog.=) 'smartspace.cobot_secret'::pg_catalog.regclass
			AND a.grantee OPERATOR(pg_catalog.<>) c.relowner
	LOOP
		EXECUTE 'REVOKE ALL ON TABLE smartspace.cobot_secret FROM ' OPERATOR(pg_catalog.||) grantee;
	END LOOP;
END
$secret$;
