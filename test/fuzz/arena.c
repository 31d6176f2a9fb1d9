/*
 * arena.c
 *	  palloc() and its relatives for the fuzz targets. In the server the end of a memory
 *	  context frees what is palloc'd, so the code under test does not; here arena_reset()
 *	  does, after each input. Each piece is malloc'd by itself, for the address sanitizer.
 */
#include "postgres_fe.h"

#include <stddef.h>

#include "lib/ilist.h"

extern void arena_reset(void);

typedef struct Piece
{
	dlist_node	node;
	max_align_t data[FLEXIBLE_ARRAY_MEMBER];
} Piece;

static dlist_head pieces = DLIST_STATIC_INIT(pieces);

#define piece_of(pointer) ((Piece *) ((char *) (pointer) - offsetof(Piece, data)))

/* Recent minor releases have these in palloc_array() and the like; older ones do not declare them. */
extern void *palloc_mul(Size count, Size size);

static void *
keep(Piece *piece)
{
	if (piece == NULL)
		abort();
	dlist_push_tail(&pieces, &piece->node);
	return piece->data;
}

void *
palloc(Size size)
{
	return keep(malloc(offsetof(Piece, data) + size));
}

void *
palloc_mul(Size count, Size size)
{
	return palloc(count * size);
}

void *
palloc0(Size size)
{
	return memset(palloc(size), 0, size);
}

void *
repalloc(void *pointer, Size size)
{
	dlist_delete(&piece_of(pointer)->node);
	return keep(realloc(piece_of(pointer), offsetof(Piece, data) + size));
}

void
pfree(void *pointer)
{
	dlist_delete(&piece_of(pointer)->node);
	free(piece_of(pointer));
}

char *
pstrdup(const char *text)
{
	return strcpy(palloc(strlen(text) + 1), text);
}

char *
pnstrdup(const char *text, Size limit)
{
	Size		length = strnlen(text, limit);
	char	   *copy = palloc(length + 1);

	memcpy(copy, text, length);
	copy[length] = '\0';
	return copy;
}

void
arena_reset(void)
{
	while (!dlist_is_empty(&pieces))
		free(dlist_container(Piece, node, dlist_pop_head_node(&pieces)));
}
