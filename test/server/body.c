/*
 * body.c
 *	  Bytes of an answer, counted by reference, with their compressed form.
 */
#include "body.h"

#include <pthread.h>
#include <stdlib.h>
#include <zlib.h>

#include "text.h"

#define GZIP_WINDOW_BITS (15 + 16)	/* zlib: 15 bits of window, + 16 for a gzip header */
#define MEMORY_LEVEL 8

/* FNV-1a, 64 bits */
#define HASH_START UINT64_C(0xcbf29ce484222325)
#define HASH_PRIME UINT64_C(0x100000001b3)

struct Body
{
	pthread_mutex_t lock;		/* of references, compressed and hash */
	pthread_mutex_t compressing;	/* taken before lock */
	int			references;
	char	   *bytes;
	size_t		length;
	Body	   *compressed;
	uint64_t	hash;			/* 0: not made yet */
};

Body *
body_create(char *bytes, size_t length)
{
	Body	   *body = memory_zero(sizeof(Body));

	pthread_mutex_init(&body->lock, NULL);
	pthread_mutex_init(&body->compressing, NULL);
	body->references = 1;
	body->bytes = bytes;
	body->length = length;
	return body;
}

Body *
body_hold(Body *body)
{
	pthread_mutex_lock(&body->lock);
	body->references++;
	pthread_mutex_unlock(&body->lock);
	return body;
}

void
body_release(Body *body)
{
	int			left;

	if (body == NULL)
		return;
	pthread_mutex_lock(&body->lock);
	left = --body->references;
	pthread_mutex_unlock(&body->lock);
	if (left > 0)
		return;
	body_release(body->compressed);
	pthread_mutex_destroy(&body->lock);
	pthread_mutex_destroy(&body->compressing);
	free(body->bytes);
	free(body);
}

const char *
body_bytes(const Body *body)
{
	return body->bytes;
}

size_t
body_length(const Body *body)
{
	return body->length;
}

/* Fast rather than small: the answers are made for tests and thrown away. */
static Body *
compress_body(const Body *body)
{
	z_stream	stream = {0};
	size_t		limit;
	char	   *bytes;
	size_t		given = 0;

	if (deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, GZIP_WINDOW_BITS, MEMORY_LEVEL,
					 Z_DEFAULT_STRATEGY) != Z_OK)
		abort();
	limit = deflateBound(&stream, body->length);
	bytes = memory_get(limit);

	/* zlib counts in 32 bits, lists may be longer. */
	stream.next_out = (unsigned char *) bytes;
	do
	{
		size_t		more = body->length - given < 1u << 30 ? body->length - given : 1u << 30;
		size_t		room = limit - (size_t) ((char *) stream.next_out - bytes);

		stream.next_in = (unsigned char *) body->bytes + given;
		stream.avail_in = (unsigned) more;
		stream.avail_out = (unsigned) (room < 1u << 31 ? room : 1u << 31);
		given += more;
		deflate(&stream, given == body->length ? Z_FINISH : Z_NO_FLUSH);
	} while (given < body->length);
	limit = (size_t) ((char *) stream.next_out - bytes);
	deflateEnd(&stream);
	return body_create(memory_resize(bytes, limit), limit);
}

const Body *
body_gzip(Body *body)
{
	pthread_mutex_lock(&body->compressing);
	if (body->compressed == NULL)
	{
		Body	   *compressed = compress_body(body);

		pthread_mutex_lock(&body->lock);
		body->compressed = compressed;
		pthread_mutex_unlock(&body->lock);
	}
	pthread_mutex_unlock(&body->compressing);
	return body->compressed;
}

uint64_t
body_hash(Body *body)
{
	pthread_mutex_lock(&body->lock);
	if (body->hash == 0)
	{
		body->hash = HASH_START;
		for (size_t i = 0; i < body->length; i++)
			body->hash = (body->hash ^ (unsigned char) body->bytes[i]) * HASH_PRIME;
	}
	pthread_mutex_unlock(&body->lock);
	return body->hash;
}

size_t
body_memory(Body *body)
{
	size_t		memory;

	pthread_mutex_lock(&body->lock);
	memory = body->length + (body->compressed != NULL ? body->compressed->length : 0);
	pthread_mutex_unlock(&body->lock);
	return memory;
}
