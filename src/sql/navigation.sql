-- Links in the navigation of a space at Cobot. Nothing is stored here: Cobot lists them.

CREATE FUNCTION smartspace.cobot_install_link(integration bigint, label text, iframe_url text, section text DEFAULT 'admin/manage',
	OUT id text, OUT result text, OUT label text, OUT user_url text)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'navigation_install_link';
COMMENT ON FUNCTION smartspace.cobot_install_link(bigint, text, text, text) IS
'sees to it that the space''s navigation at Cobot has a link to the page at iframe_url in this section (admin/setup, admin/manage, admin/analyze or members): present or created; asks Cobot';

CREATE FUNCTION smartspace.cobot_list_links(integration bigint)
RETURNS TABLE (id text, section text, label text, iframe_url text, user_url text)
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'navigation_list_links';
COMMENT ON FUNCTION smartspace.cobot_list_links(bigint) IS
'the links in the space''s navigation at Cobot that were made by the integration''s OAuth client; user_url is where people find them; asks Cobot';

CREATE FUNCTION smartspace.cobot_remove_link(integration bigint, id text)
RETURNS text
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'navigation_remove_link';
COMMENT ON FUNCTION smartspace.cobot_remove_link(bigint, text) IS
'removes a link that cobot_list_links() shows from the space''s navigation at Cobot: removed, or was not there; asks Cobot';
