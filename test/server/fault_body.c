/*
 * fault_body.c
 *	  Bodies that no server should send: huge, deep, cut, or bombs. The large ones
 *	  are made while they are sent and never stand in memory.
 */
#include "fault_body.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define GZIP_WINDOW_BITS (15 + 16)
#define MEMORY_LEVEL 8

struct GzipBomb
{
	z_stream	stream;
	uint64_t	left;			/* bytes not yet given to zlib */
	uint64_t	total;
	int			state;
	char		chunk[1 << 16];
};

void
fault_body_base64(const char *base64, Text *out)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	unsigned	bits = 0;
	int			count = 0;

	for (; *base64 != '\0' && *base64 != '='; base64++)
	{
		const char *found = strchr(alphabet, *base64);

		if (found == NULL)
			continue;
		bits = bits << 6 | (unsigned) (found - alphabet);
		count += 6;
		if (count >= 8)
		{
			count -= 8;
			text_add_char(out, (char) (bits >> count & 0xff));
		}
	}
}

void
fault_body_nested(size_t depth, Text *out)
{
	text_reserve(out, depth * 2);
	for (size_t i = 0; i < depth; i++)
		text_add_char(out, '[');
	for (size_t i = 0; i < depth; i++)
		text_add_char(out, ']');
}

void
fault_body_truncated(const Body *body, double amount, Text *out)
{
	size_t		length = body_length(body);
	size_t		kept = amount < 1 ? (size_t) ((double) length * amount) : (size_t) amount;

	text_add_bytes(out, body_bytes(body), kept < length ? kept : length);
}

/*
 * "[" + records + white space + "]". Each record is an object of a fixed size; the
 * last one has a blank where the others have a comma.
 */
size_t
fault_body_huge(uint64_t total, uint64_t position, char *out, size_t size)
{
	static const char record[] = "{\"id\":\"0c4f75fa14924423810d6f12aeb50002\",\"name\":\"One of very many\"},";
	const uint64_t record_size = sizeof(record) - 1;
	uint64_t	records_end = total > record_size + 2 ? 1 + (total - 2) / record_size * record_size : 1;
	size_t		written = 0;

	while (written < size && position < total)
	{
		uint64_t	piece = size - written;

		if (position == 0 || position == total - 1)
		{
			out[written] = position == 0 ? '[' : ']';
			piece = 1;
		}
		else if (position < records_end)
		{
			uint64_t	offset = (position - 1) % record_size;

			piece = piece < record_size - offset ? piece : record_size - offset;
			memcpy(out + written, record + offset, piece);
			if (position + piece == records_end)
				out[written + piece - 1] = ' ';
		}
		else
		{
			piece = piece < total - 1 - position ? piece : total - 1 - position;
			memset(out + written, ' ', piece);
		}
		written += piece;
		position += piece;
	}
	return written;
}

GzipBomb *
gzip_bomb_create(uint64_t total)
{
	GzipBomb   *bomb = memory_zero(sizeof(GzipBomb));

	memset(bomb->chunk, ' ', sizeof(bomb->chunk));
	bomb->total = bomb->left = total > 2 ? total : 2;
	if (deflateInit2(&bomb->stream, Z_BEST_SPEED, Z_DEFLATED, GZIP_WINDOW_BITS, MEMORY_LEVEL,
					 Z_DEFAULT_STRATEGY) != Z_OK)
		abort();
	return bomb;
}

/* The next piece of "[      ]" for zlib. */
static void
feed(GzipBomb *bomb)
{
	uint64_t	more = bomb->left < sizeof(bomb->chunk) ? bomb->left : sizeof(bomb->chunk);

	bomb->chunk[0] = bomb->left == bomb->total ? '[' : ' ';
	if (more == bomb->left)
		bomb->chunk[more - 1] = ']';
	bomb->stream.next_in = (unsigned char *) bomb->chunk;
	bomb->stream.avail_in = (unsigned) more;
	bomb->left -= more;
}

size_t
gzip_bomb_read(GzipBomb *bomb, char *out, size_t size)
{
	bomb->stream.next_out = (unsigned char *) out;
	bomb->stream.avail_out = (unsigned) size;
	while (bomb->state != Z_STREAM_END && bomb->stream.avail_out > 0)
	{
		if (bomb->stream.avail_in == 0 && bomb->left > 0)
			feed(bomb);
		bomb->state = deflate(&bomb->stream, bomb->left > 0 ? Z_NO_FLUSH : Z_FINISH);
	}
	return size - bomb->stream.avail_out;
}

void
gzip_bomb_free(GzipBomb *bomb)
{
	if (bomb == NULL)
		return;
	deflateEnd(&bomb->stream);
	free(bomb);
}
