/*
 * map.h
 *	  From strings to pointers. The map copies its keys and never touches the
 *	  values. Start with {0}. Callers bring their own lock.
 */
#ifndef COBOT_TEST_MAP_H
#define COBOT_TEST_MAP_H

#include <stddef.h>

typedef struct MapEntry
{
	char	   *key;			/* NULL: free slot */
	void	   *value;
} MapEntry;

typedef struct Map
{
	MapEntry   *entries;
	size_t		size;			/* a power of two, or 0 */
	size_t		count;
} Map;

extern void *map_get(const Map *map, const char *key);	/* NULL if missing */
extern void map_set(Map *map, const char *key, void *value);	/* value not NULL */
extern void *map_remove(Map *map, const char *key); /* the value it had, or NULL */
extern void map_clear(Map *map);

/* Walk: start with *position = 0; NULL at the end. The map must not change meanwhile. */
extern MapEntry *map_next(const Map *map, size_t *position);

#endif
