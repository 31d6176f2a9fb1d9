/*
 * access_look.c
 *	  Questions about access that are asked often or row by row: has somebody
 *	  access, what does a field name, how alike are two identifiers. Runs in any
 *	  backend, reads only.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/itup.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/visibilitymap.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rangetypes.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
#include "utils/varlena.h"

#include "caller.h"
#include "field_token.h"
#include "smartspace_cobot.h"

PG_FUNCTION_INFO_V1(access_has_access);
PG_FUNCTION_INFO_V1(access_field_tokens);
PG_FUNCTION_INFO_V1(access_edit_distance);

/* Columns of the index user_group_member_pkey. */
#define INDEX_MEMBERSHIP 1
#define INDEX_USER_GROUP 2
#define INDEX_VALID 4

/* varstr_levenshtein() takes no more, and nobody mistypes longer names. */
#define EDIT_DISTANCE_LENGTH_LIMIT 255

/* What a series of calls keeps. */
typedef struct LookCache
{
	Oid			table;
	Oid			index;
	TypeCacheEntry *range_type;
} LookCache;

static LookCache *
look_cache(FmgrInfo *flinfo)
{
	if (flinfo->fn_extra == NULL)
	{
		Oid			schema = get_namespace_oid(SMARTSPACE_SCHEMA, false);
		LookCache  *cache = MemoryContextAllocZero(flinfo->fn_mcxt, sizeof(LookCache));

		cache->table = get_relname_relid("user_group_member", schema);
		cache->index = get_relname_relid("user_group_member_pkey", schema);
		cache->range_type = lookup_type_cache(TSTZRANGEOID, TYPECACHE_RANGE_INFO);
		flinfo->fn_extra = cache;
	}
	return flinfo->fn_extra;
}

/*
 * Reads the grants of a member and group from the index alone, as far as the
 * visibility map allows, as an index-only scan does.
 */
static bool
any_grant_contains(Relation table, Relation index, TypeCacheEntry *range_type,
				   Datum membership, Datum user_group, Datum moment)
{
	ScanKeyData keys[2];
	Buffer		map_buffer = InvalidBuffer;
	ItemPointer tid;
	bool		found = false;

	ScanKeyInit(&keys[0], INDEX_MEMBERSHIP, BTEqualStrategyNumber, F_INT8EQ, membership);
	ScanKeyInit(&keys[1], INDEX_USER_GROUP, BTEqualStrategyNumber, F_INT8EQ, user_group);

	IndexScanDesc scan = index_beginscan(table, index, GetActiveSnapshot(), lengthof(keys), 0);
	TupleTableSlot *slot = table_slot_create(table, NULL);

	scan->xs_want_itup = true;
	index_rescan(scan, keys, lengthof(keys), NULL, 0);
	while (!found && (tid = index_getnext_tid(scan, ForwardScanDirection)) != NULL)
	{
		bool		isnull;

		if (!VM_ALL_VISIBLE(table, ItemPointerGetBlockNumber(tid), &map_buffer) &&
			!index_fetch_heap(scan, slot))
			continue;

		Datum		valid = index_getattr(scan->xs_itup, INDEX_VALID, scan->xs_itupdesc, &isnull);

		found = range_contains_elem_internal(range_type, DatumGetRangeTypeP(valid), moment);
	}

	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	if (BufferIsValid(map_buffer))
		ReleaseBuffer(map_buffer);
	return found;
}

/*
 * cobot_has_access(member bigint, "group" bigint, at timestamptz) -> boolean
 *
 * False also for members and groups that do not exist.
 */
Datum
access_has_access(PG_FUNCTION_ARGS)
{
	LookCache  *cache = look_cache(fcinfo->flinfo);
	Relation	table = table_open(cache->table, AccessShareLock);

	/* row level security is there only while somebody is limited to some integrations */
	if (table->rd_rel->relrowsecurity && !caller_sees_member(PG_GETARG_INT64(0)))
	{
		table_close(table, AccessShareLock);
		PG_RETURN_BOOL(false);
	}

	Relation	index = index_open(cache->index, AccessShareLock);
	bool		found = any_grant_contains(table, index, cache->range_type, PG_GETARG_DATUM(0),
										   PG_GETARG_DATUM(1), PG_GETARG_DATUM(2));

	index_close(index, AccessShareLock);
	table_close(table, AccessShareLock);
	PG_RETURN_BOOL(found);
}

/*
 * cobot_edit_distance(a text, b text) -> integer: letters to insert, delete or
 * exchange; null if one of them is longer than anything a person would mistype.
 */
Datum
access_edit_distance(PG_FUNCTION_ARGS)
{
	text	   *a = PG_GETARG_TEXT_PP(0);
	text	   *b = PG_GETARG_TEXT_PP(1);

	if (VARSIZE_ANY_EXHDR(a) > EDIT_DISTANCE_LENGTH_LIMIT || VARSIZE_ANY_EXHDR(b) > EDIT_DISTANCE_LENGTH_LIMIT)
		PG_RETURN_NULL();
	PG_RETURN_INT32(varstr_levenshtein(VARDATA_ANY(a), VARSIZE_ANY_EXHDR(a),
									   VARDATA_ANY(b), VARSIZE_ANY_EXHDR(b), 1, 1, 1, false));
}

/*
 * cobot_field_tokens(text) -> setof text, in the order of the value, doubles included
 */
Datum
access_field_tokens(PG_FUNCTION_ARGS)
{
	text	   *field = PG_GETARG_TEXT_PP(0);
	const char *cursor = VARDATA_ANY(field);
	const char *end = cursor + VARSIZE_ANY_EXHDR(field);
	const char *token;
	size_t		length;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);

	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	while (field_token_next(&cursor, end, &token, &length))
	{
		Datum		value = PointerGetDatum(cstring_to_text_with_len(token, (int) length));
		bool		isnull = false;

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
	}
	return (Datum) 0;
}
