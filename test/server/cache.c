/*
 * cache.c
 *	  Serialised answers, dropped in the order of their last use.
 */
#include "cache.h"

#include <stdlib.h>

#include "clock.h"
#include "text.h"

#define MEMORY_LIMIT ((size_t) 512 << 20)

typedef struct CacheEntry
{
	char	   *key;
	Body	   *body;
	size_t		memory;			/* of the body when last looked at */
	unsigned	version;
	int32_t		day;
	struct CacheEntry *newer;	/* used later */
	struct CacheEntry *older;
} CacheEntry;

static Map	entries;
static CacheEntry *newest;
static CacheEntry *oldest;
static size_t memory_used;

static void
unlink_entry(CacheEntry *entry)
{
	*(entry->newer != NULL ? &entry->newer->older : &newest) = entry->older;
	*(entry->older != NULL ? &entry->older->newer : &oldest) = entry->newer;
}

static void
link_newest(CacheEntry *entry)
{
	entry->newer = NULL;
	entry->older = newest;
	*(newest != NULL ? &newest->newer : &oldest) = entry;
	newest = entry;
}

static void
drop(CacheEntry *entry)
{
	unlink_entry(entry);
	memory_used -= entry->memory;
	map_remove(&entries, entry->key);
	body_release(entry->body);
	free(entry->key);
	free(entry);
}

/* A body grows when it is compressed, so it is measured at each use. */
static void
use(CacheEntry *entry)
{
	link_newest(entry);
	memory_used -= entry->memory;
	entry->memory = body_memory(entry->body);
	memory_used += entry->memory;
	while (memory_used > MEMORY_LIMIT && oldest != entry)
		drop(oldest);
}

static char *
key_of(const Space *space, const char *what)
{
	return text_printf("%s %s", space->subdomain, what);
}

Body *
cache_get(const Space *space, const char *what)
{
	char	   *key = key_of(space, what);
	CacheEntry *entry = map_get(&entries, key);

	free(key);
	if (entry == NULL)
		return NULL;
	if (entry->version != space->version || entry->day != clock_today(space->zone))
	{
		drop(entry);
		return NULL;
	}
	unlink_entry(entry);
	use(entry);
	return body_hold(entry->body);
}

void
cache_put(const Space *space, const char *what, Body *body)
{
	CacheEntry *entry = memory_zero(sizeof(CacheEntry));

	entry->key = key_of(space, what);
	entry->body = body_hold(body);
	entry->version = space->version;
	entry->day = clock_today(space->zone);
	if (map_get(&entries, entry->key) != NULL)
		drop(map_get(&entries, entry->key));
	map_set(&entries, entry->key, entry);
	use(entry);
}

void
cache_clear(void)
{
	while (newest != NULL)
		drop(newest);
	map_clear(&entries);
}
