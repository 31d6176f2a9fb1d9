/*
 * map.c
 *	  From strings to pointers: open addressing with linear probing; removal
 *	  closes the gap, so there are no tombstones.
 */
#include "map.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

static size_t
hash(const char *key)
{
	uint64_t	h = UINT64_C(14695981039346656037);

	for (; *key != '\0'; key++)
		h = (h ^ (unsigned char) *key) * UINT64_C(1099511628211);
	return (size_t) (h ^ (h >> 32));
}

/* The slot that holds the key, or the free one where it belongs. */
static size_t
find(const Map *map, const char *key)
{
	size_t		slot = hash(key) & (map->size - 1);

	while (map->entries[slot].key != NULL && strcmp(map->entries[slot].key, key) != 0)
		slot = (slot + 1) & (map->size - 1);
	return slot;
}

static void
grow(Map *map)
{
	MapEntry   *old = map->entries;
	size_t		old_size = map->size;

	map->size = old_size > 0 ? old_size * 2 : 16;
	map->entries = memory_zero(map->size * sizeof(MapEntry));
	for (size_t i = 0; i < old_size; i++)
	{
		if (old[i].key != NULL)
			map->entries[find(map, old[i].key)] = old[i];
	}
	free(old);
}

void *
map_get(const Map *map, const char *key)
{
	return map->count > 0 ? map->entries[find(map, key)].value : NULL;
}

void
map_set(Map *map, const char *key, void *value)
{
	size_t		slot;

	if ((map->count + 1) * 2 > map->size)
		grow(map);
	slot = find(map, key);
	if (map->entries[slot].key == NULL)
	{
		map->entries[slot].key = text_copy(key);
		map->count++;
	}
	map->entries[slot].value = value;
}

void *
map_remove(Map *map, const char *key)
{
	size_t		hole;
	void	   *value;

	if (map->count == 0)
		return NULL;
	hole = find(map, key);
	if (map->entries[hole].key == NULL)
		return NULL;
	value = map->entries[hole].value;
	free(map->entries[hole].key);
	map->count--;
	for (size_t next = (hole + 1) & (map->size - 1); map->entries[next].key != NULL;
		 next = (next + 1) & (map->size - 1))
	{
		size_t		home = hash(map->entries[next].key) & (map->size - 1);

		/* Moves back unless its home lies between the hole and itself. */
		if (((next - home) & (map->size - 1)) >= ((next - hole) & (map->size - 1)))
		{
			map->entries[hole] = map->entries[next];
			hole = next;
		}
	}
	map->entries[hole] = (MapEntry) {NULL, NULL};
	return value;
}

void
map_clear(Map *map)
{
	for (size_t i = 0; i < map->size; i++)
		free(map->entries[i].key);
	free(map->entries);
	memset(map, 0, sizeof(*map));
}

MapEntry *
map_next(const Map *map, size_t *position)
{
	while (*position < map->size)
	{
		MapEntry   *entry = &map->entries[(*position)++];

		if (entry->key != NULL)
			return entry;
	}
	return NULL;
}
