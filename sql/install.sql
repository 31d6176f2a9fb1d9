-- The extension says what it is, and everything in it says what it is for.
SELECT extname, extversion, nspname, extrelocatable
FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'smartspace_cobot';
SELECT library FROM smartspace.cobot_library_version();

-- the library speaks HTTPS with libcurl on OpenSSL
SELECT http ~ '^libcurl [0-9.]+' AS libcurl, http ~ 'OpenSSL' AS openssl FROM smartspace.cobot_library_version();

-- tables, views and sequences of the extension without a comment, except identity sequences: none
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = 'smartspace'::regnamespace AND c.relkind IN ('r', 'v') AND obj_description(c.oid, 'pg_class') IS NULL;
-- functions without a comment: none
SELECT p.oid::regprocedure FROM pg_proc p
WHERE p.pronamespace = 'smartspace'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL;
-- functions that do not pin their search_path: they look at nothing, or their names are bound (BEGIN ATOMIC)
SELECT p.oid::regprocedure FROM pg_proc p
WHERE p.pronamespace = 'smartspace'::regnamespace AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)
ORDER BY 1;
-- SECURITY DEFINER: those that read tokens or write what others may not
SELECT p.oid::regprocedure FROM pg_proc p
WHERE p.pronamespace = 'smartspace'::regnamespace AND p.prosecdef ORDER BY p.oid::regprocedure::text COLLATE "C";

-- dumped: what people entered and what cannot be fetched again, each table with its sequence
SELECT unnest(extconfig)::regclass AS dumped FROM pg_extension WHERE extname = 'smartspace_cobot' ORDER BY 1;
-- an identity column whose table is dumped and whose sequence is not would give an id twice: none
SELECT d.refobjid::regclass
FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
WHERE d.deptype = 'i' AND d.refobjid = ANY (SELECT unnest(extconfig) FROM pg_extension WHERE extname = 'smartspace_cobot')
  AND NOT d.objid = ANY (SELECT unnest(extconfig) FROM pg_extension WHERE extname = 'smartspace_cobot');

-- settings have bounds; zero never means "for ever"
SELECT name, setting, unit, context, min_val, max_val FROM pg_settings WHERE name LIKE 'smartspace_cobot.%' ORDER BY name;
SET smartspace_cobot.request_timeout = 0;
SET smartspace_cobot.connect_to = 'evil:1:2';
SET smartspace_cobot.connect_to = '127.0.0.1:99999';
SET smartspace_cobot.connect_to = '127.0.0.1';
SET smartspace_cobot.environment = 'two words';
SET smartspace_cobot.verify_peer = off;

-- fixed schema
ALTER EXTENSION smartspace_cobot SET SCHEMA public;

-- drop and create again
DROP EXTENSION smartspace_cobot;
SELECT count(*) FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'smartspace');
CREATE EXTENSION smartspace_cobot;
