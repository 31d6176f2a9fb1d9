/*
 * role.c
 *	  Gives roles one of three levels, and takes them back: cobot_grant_role() and
 *	  cobot_revoke_role(). What a level is stands in the view cobot_privilege. Runs in the
 *	  backend of the extension's owner, with the caller's own rights.
 *
 * Tables have row level security only while some role is limited to some integrations, and
 * the policies that cost something are for these roles alone. So nobody else is slower, the
 * owner's statements (the triggers behind the door) never see a policy. pg_dump leaves out the
 * policies of extension members: a trigger on cobot_role, which is dumped, makes them again.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

#include "query.h"
#include "smartspace_cobot.h"

PG_FUNCTION_INFO_V1(role_cobot_grant_role);
PG_FUNCTION_INFO_V1(role_cobot_revoke_role);
PG_FUNCTION_INFO_V1(role_follow_limits);

static const char *const levels[] = {"look", "operate", "administer"};

static void
require_owner(Oid role)
{
	QueryArg	arg = query_value(OIDOID, ObjectIdGetDatum(role));

	if (query_look("SELECT WHERE pg_catalog.pg_has_role((SELECT c.relowner FROM pg_catalog.pg_class c"
				   " WHERE c.oid = 'smartspace.cobot_role'::pg_catalog.regclass), 'USAGE')", 0, NULL) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("only the owner of the extension gives and takes levels")));
	if (query_look("SELECT FROM pg_catalog.pg_roles r WHERE r.oid = $1", 1, &arg) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role with OID %u does not exist", role)));
	if (query_look("SELECT WHERE pg_catalog.pg_has_role($1, (SELECT c.relowner FROM pg_catalog.pg_class c"
				   " WHERE c.oid = 'smartspace.cobot_role'::pg_catalog.regclass), 'USAGE')", 1, &arg) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("role \"%s\" has the rights of the owner of the extension", GetUserNameFromId(role, false)),
				 errhint("Nothing can be given to it that it has not, and nothing taken from it.")));
}

/*
 * Locks all tables that have policies. Whoever writes some of them takes their locks in an
 * order of their own, so this never holds one while it waits for another: otherwise an entry at
 * a door could be what a deadlock ends.
 */
static void
lock_tables(void)
{
	uint64		count = query_run("SELECT DISTINCT c.oid FROM smartspace.cobot_privilege p JOIN pg_catalog.pg_class c ON c.relname = p.name"
								  " AND c.relnamespace = 'smartspace'::pg_catalog.regnamespace WHERE p.row_filter IS NOT NULL", 0, NULL);
	Oid		   *tables = palloc(sizeof(Oid) * count);
	uint64		awaited = 0;
	bool		isnull;

	for (uint64 i = 0; i < count; i++)
		tables[i] = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	for (;;)
	{
		uint64		locked = 0;

		LockRelationOid(tables[awaited], AccessExclusiveLock);
		while (locked < count && (locked == awaited || ConditionalLockRelationOid(tables[locked], AccessExclusiveLock)))
			locked++;
		if (locked == count)
			return;
		for (uint64 i = 0; i < locked; i++)
			if (i != awaited)
				UnlockRelationOid(tables[i], AccessExclusiveLock);
		UnlockRelationOid(tables[awaited], AccessExclusiveLock);
		awaited = locked;
		CHECK_FOR_INTERRUPTS();
	}
}

/* Runs the statements that a query gives; if there are any and they change policies, with all the tables locked. */
static void
run_each(const char *sql, int nargs, const QueryArg *args, bool change_policies)
{
	uint64		count = query_run(sql, nargs, args);
	SPITupleTable *table = SPI_tuptable;

	if (count > 0 && change_policies)
		lock_tables();
	for (uint64 i = 0; i < count; i++)
		query_run(SPI_getvalue(table->vals[i], table->tupdesc, 1), 0, NULL);
	SPI_freetuptable(table);
}

/*
 * REVOKE takes back what the current user gave, and of a superuser what the owner gave. The
 * owner could take the grant option away from whoever passed a privilege on; this takes only
 * the one privilege.
 */
static void
run_as(Oid grantor, const char *sql)
{
	Oid			user;
	int			context;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(grantor, context | SECURITY_LOCAL_USERID_CHANGE);
	query_run(sql, 0, NULL);
	SetUserIdAndSecContext(user, context);
}

/* Takes everything in the schema from a role, by whomever and however it was given. */
static void
take_privileges(Oid role)
{
	QueryArg	args[] = {query_value(OIDOID, ObjectIdGetDatum(role)), query_text(GetUserNameFromId(role, false))};
	/* what others passed on comes first, while they still may take it back */
	uint64		count = query_run("WITH thing (name, owner, acl) AS ("
								  " SELECT 'ON SCHEMA ' || n.oid::pg_catalog.regnamespace, n.nspowner, n.nspacl"
								  "  FROM pg_catalog.pg_namespace n WHERE n.nspname = 'smartspace'"
								  " UNION ALL SELECT CASE c.relkind WHEN 'S' THEN 'ON SEQUENCE ' ELSE 'ON TABLE ' END || c.oid::pg_catalog.regclass, c.relowner, c.relacl"
								  "  FROM pg_catalog.pg_class c WHERE c.relnamespace = 'smartspace'::pg_catalog.regnamespace"
								  " UNION ALL SELECT pg_catalog.format('(%I) ON TABLE %s', a.attname, c.oid::pg_catalog.regclass), c.relowner, a.attacl"
								  "  FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid"
								  "  WHERE c.relnamespace = 'smartspace'::pg_catalog.regnamespace"
								  " UNION ALL SELECT 'ON ROUTINE ' || p.oid::pg_catalog.regprocedure, p.proowner, p.proacl"
								  "  FROM pg_catalog.pg_proc p WHERE p.pronamespace = 'smartspace'::pg_catalog.regnamespace)"
								  " SELECT DISTINCT a.grantor, pg_catalog.format('REVOKE ALL %s FROM %I CASCADE', t.name, $2), a.grantor = t.owner"
								  " FROM thing t CROSS JOIN LATERAL pg_catalog.aclexplode(t.acl) a"
								  " WHERE a.grantee = $1 ORDER BY 3, 1, 2", lengthof(args), args);
	SPITupleTable *table = SPI_tuptable;

	for (uint64 i = 0; i < count; i++)
	{
		bool		isnull;

		run_as(DatumGetObjectId(SPI_getbinval(table->vals[i], table->tupdesc, 1, &isnull)), SPI_getvalue(table->vals[i], table->tupdesc, 2));
	}
	SPI_freetuptable(table);
}

/*
 * Takes the level from a role, and the limits that came with it; true if it had one. Always
 * before any privilege is changed: that writes rows of pg_class which an autovacuum may be
 * waiting to write, with a lock on a table that is to be locked here.
 */
static bool
take_level(Oid role)
{
	QueryArg	arg = query_value(OIDOID, ObjectIdGetDatum(role));

	/* DROP OWNED and DROP ROLE leave the row, and nobody can name that role any more */
	query_run("DELETE FROM smartspace.cobot_role r WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles u WHERE u.oid = r.role)", 0, NULL);
	return query_run("DELETE FROM smartspace.cobot_role r WHERE r.role = $1", 1, &arg) > 0;
}

/* Row level security where somebody is limited; nowhere, when nobody is. */
static void
switch_row_security(void)
{
	run_each("WITH wanted AS (SELECT EXISTS (SELECT FROM smartspace.cobot_role r WHERE r.integrations IS NOT NULL) AS on)"
			 " SELECT pg_catalog.format(s.statement, c.oid::pg_catalog.regclass)"
			 " FROM smartspace.cobot_privilege p"
			 "  JOIN pg_catalog.pg_class c ON c.relname = p.name AND c.relnamespace = 'smartspace'::pg_catalog.regnamespace"
			 "  JOIN wanted w ON w.on <> c.relrowsecurity"
			 "  CROSS JOIN LATERAL (SELECT CASE WHEN w.on THEN"
			 "   ARRAY['CREATE POLICY everybody ON %s USING (true) WITH CHECK (true)', 'ALTER TABLE %s ENABLE ROW LEVEL SECURITY']"
			 "   ELSE ARRAY['ALTER TABLE %s DISABLE ROW LEVEL SECURITY', 'DROP POLICY everybody ON %s'] END) a (statements)"
			 "  CROSS JOIN LATERAL pg_catalog.unnest(a.statements) WITH ORDINALITY s (statement, place)"
			 " WHERE p.row_filter IS NOT NULL ORDER BY p.name, s.place", 0, NULL, true);
}

/* Policies for those who are limited, and for nobody else. */
static void
follow_limits(void)
{
	run_each("SELECT pg_catalog.format('DROP POLICY %I ON %s', p.polname, p.polrelid::pg_catalog.regclass)"
			 " FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid"
			 " WHERE c.relnamespace = 'smartspace'::pg_catalog.regnamespace AND NOT p.polpermissive AND NOT EXISTS"
			 "  (SELECT FROM smartspace.cobot_role r WHERE r.integrations IS NOT NULL AND p.polroles = ARRAY[r.role::pg_catalog.oid])",
			 0, NULL, true);
	/* a policy for each command: who sees a row need not be one who may write it */
	run_each("SELECT pg_catalog.format('CREATE POLICY %I ON smartspace.%I AS RESTRICTIVE FOR %s TO %I %s',"
			 "  pg_catalog.lower(k.command) || '_' || pg_catalog.left(u.rolname, 48), p.name, k.command, u.rolname,"
			 "  pg_catalog.format(k.clause, 'smartspace.' || pg_catalog.format(p.row_filter, k.writes)))"
			 " FROM smartspace.cobot_role r JOIN pg_catalog.pg_roles u ON u.oid = r.role"
			 "  CROSS JOIN smartspace.cobot_privilege p CROSS JOIN (VALUES ('SELECT', 'USING (%s)', 'false'), ('INSERT', 'WITH CHECK (%s)', 'true'),"
			 "  ('UPDATE', 'USING (%1$s) WITH CHECK (%1$s)', 'true'), ('DELETE', 'USING (%s)', 'true')) k (command, clause, writes)"
			 " WHERE r.integrations IS NOT NULL AND p.row_filter IS NOT NULL AND NOT EXISTS (SELECT FROM pg_catalog.pg_policy o"
			 "  WHERE o.polroles = ARRAY[u.oid] AND o.polrelid = (SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relname = p.name"
			 "   AND c.relnamespace = 'smartspace'::pg_catalog.regnamespace)"
			 "  AND o.polname = pg_catalog.lower(k.command) || '_' || pg_catalog.left(u.rolname, 48))", 0, NULL, true);
	switch_row_security();
}

/*
 * cobot_follow_limits() -> trigger, after a statement that writes cobot_role: also when a
 * dump is restored, because pg_dump leaves the policies of extension members out
 */
Datum
role_follow_limits(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("cobot_follow_limits() is a trigger function")));
	/* what backends keep of this table is worth nothing any more */
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	SPI_connect();
	follow_limits();
	SPI_finish();
	return PointerGetDatum(NULL);
}

static void
give(Oid role, int rank, bool is_limited)
{
	QueryArg	args[] = {
		query_text(GetUserNameFromId(role, false)), query_int64(rank), query_bool(is_limited),
		query_text(levels[0]), query_text(levels[1]), query_text(levels[2])
	};

	query_run(psprintf("GRANT USAGE ON SCHEMA smartspace TO %s", quote_identifier(GetUserNameFromId(role, false))), 0, NULL);
	run_each("SELECT pg_catalog.format('GRANT %s ON %s TO %I', p.privileges, o.name, $1)"
			 " FROM smartspace.cobot_privilege p CROSS JOIN LATERAL ("
			 "  SELECT 'TABLE ' || c.oid::pg_catalog.regclass FROM pg_catalog.pg_class c"
			 "  WHERE p.kind = 'table' AND c.relname = p.name AND c.relnamespace = 'smartspace'::pg_catalog.regnamespace"
			 "  UNION ALL SELECT 'FUNCTION ' || f.oid::pg_catalog.regprocedure FROM pg_catalog.pg_proc f"
			 "  WHERE p.kind = 'function' AND f.proname = p.name AND f.pronamespace = 'smartspace'::pg_catalog.regnamespace) o (name)"
			 " WHERE pg_catalog.array_position(ARRAY[$4, $5, $6], p.level) <= $2 + 1 AND (p.for_limited OR NOT $3)",
			 lengthof(args), args, false);
}

static int
rank_of(FunctionCallInfo fcinfo)
{
	char	   *level = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));

	for (int i = 0; level && i < (int) lengthof(levels); i++)
		if (strcmp(level, levels[i]) == 0)
			return i;
	ereport(ERROR,
			(errcode(level ? ERRCODE_INVALID_PARAMETER_VALUE : ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 level ? errmsg("there is no level \"%s\"", pnstrdup(level, pg_mbcliplen(level, strlen(level), NAMEDATALEN - 1))) : errmsg("the level must not be null"),
			 errhint("The levels are look, operate and administer.")));
}

static void
require_integrations(Oid role, QueryArg integrations)
{
	if (integrations.isnull)
		return;
	if (has_bypassrls_privilege(role))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("role \"%s\" cannot be limited to some integrations", GetUserNameFromId(role, false)),
				 errdetail("It has BYPASSRLS, and limits are row level security."),
				 errhint("ALTER ROLE ... NOBYPASSRLS, or leave the list out.")));
	if (query_look("SELECT FROM pg_catalog.unnest($1) n (id)", 1, &integrations) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the list of integrations must not be empty"),
				 errhint("Leave it out to give the level in all integrations, or call smartspace.cobot_revoke_role().")));
	query_look("SELECT smartspace.cobot_require_integration(n.id) FROM pg_catalog.unnest($1) n (id)", 1, &integrations);
}

/*
 * cobot_grant_role(role regrole, level text, integrations bigint[]) -> text
 */
Datum
role_cobot_grant_role(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the role must not be null")));

	Oid			role = PG_GETARG_OID(0);
	int			rank = rank_of(fcinfo);
	QueryArg	integrations = {.type = INT8ARRAYOID, .value = PG_ARGISNULL(2) ? 0 : PG_GETARG_DATUM(2), .isnull = PG_ARGISNULL(2)};
	QueryArg	args[] = {query_value(OIDOID, ObjectIdGetDatum(role)), query_text(levels[rank]), integrations};

	PreventCommandIfReadOnly("cobot_grant_role()");
	SPI_connect();
	require_owner(role);
	query_run("LOCK TABLE smartspace.cobot_role IN SHARE ROW EXCLUSIVE MODE", 0, NULL);
	require_integrations(role, integrations);
	take_level(role);
	query_run("INSERT INTO smartspace.cobot_role (role, level, integrations)"
			  " SELECT $1, $2, CASE WHEN $3 IS NOT NULL THEN ARRAY(SELECT DISTINCT n.id FROM pg_catalog.unnest($3) n (id) ORDER BY 1) END",
			  lengthof(args), args);
	take_privileges(role);
	give(role, rank, !integrations.isnull);
	query_run("SELECT pg_catalog.format('%s: %s in %s', r.role::pg_catalog.text, r.level, COALESCE("
			  "  (SELECT pg_catalog.string_agg(pg_catalog.format('\"%s\"', i.name), ', ' ORDER BY i.id)"
			  "   FROM smartspace.cobot_integration i WHERE i.id = ANY (r.integrations)), 'all integrations'))"
			  " FROM smartspace.cobot_role r WHERE r.role = $1", 1, args);

	PG_RETURN_DATUM(query_finish_text(query_result_text(0, 1)));
}

/*
 * cobot_revoke_role(role regrole) -> boolean, whether it had a level
 */
Datum
role_cobot_revoke_role(PG_FUNCTION_ARGS)
{
	bool		had_level;

	PreventCommandIfReadOnly("cobot_revoke_role()");
	SPI_connect();
	require_owner(PG_GETARG_OID(0));
	query_run("LOCK TABLE smartspace.cobot_role IN SHARE ROW EXCLUSIVE MODE", 0, NULL);
	had_level = take_level(PG_GETARG_OID(0));
	take_privileges(PG_GETARG_OID(0));
	SPI_finish();
	PG_RETURN_BOOL(had_level);
}
