/*
 * http_internal.h
 *	  What http.c (which transfer runs when, and every wait) and
 *	  http_transfer.c (one transfer: its options, its answer) share.
 */
#ifndef SMARTSPACE_HTTP_INTERNAL_H
#define SMARTSPACE_HTTP_INTERNAL_H

#include <curl/curl.h>

#include "lib/ilist.h"

#include "http.h"

/* Moved on by http.c only, in this order; abandoning jumps to the last. */
typedef enum TransferState
{
	TRANSFER_NEW,
	TRANSFER_QUEUED,			/* until one of the slots is free */
	TRANSFER_RUNNING,			/* on the multi handle */
	TRANSFER_ENDED,				/* its answer is complete or has failed */
	TRANSFER_DELIVERED			/* http_wait() has told its owner */
} TransferState;

/* What a callback saw that libcurl's result code does not tell. */
typedef enum TransferRefusal
{
	REFUSED_NOTHING,
	REFUSED_SIZE,				/* headers or body beyond their limit */
	REFUSED_MEMORY,				/* no memory for the body */
	REFUSED_ADDRESS,			/* the name led to a private address */
	REFUSED_RESEND				/* libcurl wanted to send a POST twice */
} TransferRefusal;

typedef struct HttpTransfer
{
	HttpRequest *request;

	/* http.c's */
	TransferState state;
	dlist_node	node;			/* in the list of its state */
	MemoryContextCallback release;

	/* http_transfer.c's */
	CURL	   *easy;			/* NULL unless between open and end */
	struct curl_slist *connect_to;	/* borrowed; NULL: to where the name leads */
	struct curl_slist *headers;
	TransferRefusal refusal;
	int			sends;			/* times the request went onto a connection */
	size_t		header_bytes;
	char	   *body;			/* malloc'd; NUL-terminated unless NULL */
	size_t		body_length;
	size_t		body_capacity;
	char		no_body[1];		/* the response of a request without one */
	char		error[CURL_ERROR_SIZE];
} HttpTransfer;

static inline bool
http_setting_is_set(const char *setting)
{
	return setting != NULL && setting[0] != '\0';
}

/* Makes the easy handle, ready for a multi handle. Returns NULL, or in words why not. */
extern const char *http_transfer_open(HttpTransfer *transfer, struct curl_slist *connect_to);

/*
 * Both write down the answer and free what libcurl holds; the body stays for
 * the caller to read. The transfer is no longer on the multi handle.
 */
extern void http_transfer_finish(HttpTransfer *transfer, CURLcode code);
extern void http_transfer_fail(HttpTransfer *transfer, const char *error);

/* Without an answer: the first what libcurl holds, the second the body. */
extern void http_transfer_free_handle(HttpTransfer *transfer);
extern void http_transfer_free_body(HttpTransfer *transfer);

#endif
