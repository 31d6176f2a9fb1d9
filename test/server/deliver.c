/*
 * deliver.c
 *	  Puts an answer on the wire. Whole bodies are handed to the library as they
 *	  are; failures in the middle are read piece by piece from a Piece.
 */
#include "deliver.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "fault_body.h"
#include "generate.h"
#include "later.h"

#define GZIP_FROM_BYTES 1024
#define PIECE_BYTES (64 * 1024)

/* A body that is made while it is sent. */
typedef struct Piece
{
	Request    *request;
	Body	   *body;
	GzipBomb   *bomb;
	uint64_t	total;			/* announced */
	uint64_t	stop;			/* where it goes wrong */
} Piece;

static void
release_body(void *body)
{
	body_release(body);
}

static struct MHD_Response *
from_body(Body *keeper, const Body *bytes)
{
	return MHD_create_response_from_buffer_with_free_callback_cls(body_length(bytes),
																  (void *) body_bytes(bytes),
																  release_body, body_hold(keeper));
}

static struct MHD_Response *
empty_response(void)
{
	return MHD_create_response_from_buffer(0, (void *) "", MHD_RESPMEM_PERSISTENT);
}

static ssize_t
read_piece(void *closure, uint64_t position, char *out, size_t size)
{
	Piece	   *piece = closure;
	Request    *request = piece->request;

	if (request->delivery.kind == DELIVER_GZIP_BOMB)
	{
		size = gzip_bomb_read(piece->bomb, out, size);
		return size > 0 ? (ssize_t) size : MHD_CONTENT_READER_END_OF_STREAM;
	}
	if (position >= piece->stop)
	{
		if (request->delivery.kind == DELIVER_HUGE)
			return MHD_CONTENT_READER_END_OF_STREAM;
		if (request->delivery.kind == DELIVER_CUT || request->gone || !later_wait(request, LATER_NEVER))
			return MHD_CONTENT_READER_END_WITH_ERROR;
		return 0;
	}
	if (size > piece->stop - position)
		size = (size_t) (piece->stop - position);
	if (request->delivery.kind == DELIVER_HUGE)
		return (ssize_t) fault_body_huge(piece->total, position, out, size);
	memcpy(out, body_bytes(piece->body) + position, size);
	return (ssize_t) size;
}

static void
free_piece(void *closure)
{
	Piece	   *piece = closure;

	body_release(piece->body);
	gzip_bomb_free(piece->bomb);
	free(piece);
}

static struct MHD_Response *
in_pieces(Request *request)
{
	Piece	   *piece = memory_zero(sizeof(Piece));
	uint64_t	announced = MHD_SIZE_UNKNOWN;
	uint64_t	length = request->answer.body != NULL ? body_length(request->answer.body) : 0;

	piece->request = request;
	piece->total = piece->stop = request->delivery.bytes;
	if (request->delivery.kind == DELIVER_GZIP_BOMB)
		piece->bomb = gzip_bomb_create(request->delivery.bytes);
	else if (request->delivery.kind == DELIVER_HUGE)
		announced = request->delivery.announce_length ? piece->total : MHD_SIZE_UNKNOWN;
	else
	{
		piece->body = request->answer.body != NULL ? body_hold(request->answer.body) : NULL;
		piece->stop = piece->stop < length ? piece->stop : length;
		announced = length > piece->stop ? length : piece->stop + 1;
	}
	return MHD_create_response_from_callback(announced, PIECE_BYTES, read_piece, piece, free_piece);
}

static struct MHD_Response *
whole(Request *request, bool allow_gzip)
{
	Body	   *body = request->answer.body;
	struct MHD_Response *response;

	if (body == NULL)
		return empty_response();
	if (!allow_gzip || !request->accepts_gzip || body_length(body) <= GZIP_FROM_BYTES)
		return from_body(body, body);
	response = from_body(body, body_gzip(body));
	MHD_add_response_header(response, "Content-Encoding", "gzip");
	return response;
}

/* Looks like Cobot's, and is never the same twice. */
static void
add_request_id(struct MHD_Response *response)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static uint64_t count;
	uint64_t	number;
	char	   *id;

	pthread_mutex_lock(&lock);
	number = ++count;
	pthread_mutex_unlock(&lock);
	number = generate_mix(number, UINT64_C(0x7e9), 1);
	id = text_printf("%08x-%04x-4%03x-a%03x-%012llx", (unsigned) (number >> 32), (unsigned) (number >> 16 & 0xffff),
					 (unsigned) (number >> 4 & 0xfff), (unsigned) (number & 0xfff),
					 (unsigned long long) (generate_mix(number, 2, 2) >> 16));
	MHD_add_response_header(response, "X-Request-Id", id);
	free(id);
}

static void
add_headers(struct MHD_Response *response, const Request *request)
{
	const Answer *answer = &request->answer;
	const cJSON *header;

	add_request_id(response);
	cJSON_ArrayForEach(header, answer->headers)
		MHD_add_response_header(response, header->string, header->valuestring);
	if (MHD_get_response_header(response, "Content-Type") == NULL &&
		(answer->body != NULL || request->delivery.kind != DELIVER_WHOLE))
		MHD_add_response_header(response, "Content-Type", answer->content_type != NULL ?
								answer->content_type : "application/json; charset=utf-8");
	if (request->delivery.kind == DELIVER_GZIP_BOMB)
		MHD_add_response_header(response, "Content-Encoding", "gzip");
}

enum MHD_Result
deliver(Request *request, bool allow_gzip)
{
	struct MHD_Response *response;
	enum MHD_Result result;

	if (request->delivery.kind == DELIVER_DROP || request->delivery.kind == DELIVER_STALL_HEADERS)
		return MHD_NO;
	if (request->delivery.kind == DELIVER_WHOLE)
		response = whole(request, allow_gzip);
	else
		response = in_pieces(request);
	add_headers(response, request);
	result = MHD_queue_response(request->connection, (unsigned) request->answer.status, response);
	MHD_destroy_response(response);
	return result;
}
