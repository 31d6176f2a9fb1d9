/*
 * http.h
 *	  HTTPS requests from a backend or a background worker: several at a time,
 *	  every wait interruptible. Knows nothing of JSON or Cobot.
 *
 * One libcurl multi handle per process keeps connections alive between calls.
 * Its sockets live in one epoll descriptor, which stands beside the process
 * latch in one WaitEventSet; no wait here blocks a query cancel, a shutdown or
 * a ProcSignalBarrier (so an unrelated DROP DATABASE goes through).
 *
 * Life of a request: http_request_create(), fill in the "asked" part,
 * http_start() and http_wait() until done, read the "answered" part. The struct is
 * palloc'd in the given memory context; everything libcurl allocates for it is
 * released by a reset callback of that context, also after an error. So delete
 * or reset that context as soon as the answers are used: bodies are large.
 *
 * A host name that leads to a private, loopback or link-local address is refused
 * (HTTP_CONNECT_FAILURE), unless smartspace_cobot.connect_to is set.
 */
#ifndef SMARTSPACE_HTTP_H
#define SMARTSPACE_HTTP_H

typedef enum HttpFailure
{
	HTTP_NO_FAILURE,			/* a whole answer arrived: see status */
	HTTP_DNS_FAILURE,			/* the host name could not be resolved */
	HTTP_CONNECT_FAILURE,		/* refused, unreachable, or closed before any answer; so a
								 * request other than GET may have been carried out */
	HTTP_TLS_FAILURE,			/* handshake, certificate or host name */
	HTTP_TIMED_OUT,				/* connect, total or low-speed timeout */
	HTTP_TOO_LARGE,				/* more than response_limit_bytes after decompression, or
								 * more than 64 kB of headers */
	HTTP_BROKEN_ANSWER,			/* cut in the middle, bad encoding, not HTTP */
	HTTP_LOCAL_FAILURE			/* out of memory, descriptors, or a bad CA file here */
} HttpFailure;

typedef struct HttpRequest HttpRequest;

typedef void (*HttpFinished) (HttpRequest *request);

struct HttpRequest
{
	/* asked: set by the caller; strings must live until the request ended */
	const char *method;			/* "GET", "POST", "PUT" or "DELETE" */
	const char *url;			/* https:// only; never logged */
	const char *bearer;			/* token for the Authorization header, or NULL */
	const char *if_none_match;	/* entity tag of the answer that the caller has, or NULL */
	const char *content_type;	/* of body; NULL without one */
	const char *body;			/* or NULL */
	size_t		body_length;
	size_t		response_limit_bytes;	/* preset from the setting */
	HttpFinished finished;		/* optional; called outside libcurl, may start requests */
	void	   *owner;			/* for the caller */
	bool		urgent;			/* before all others that wait for a free connection */

	/* answered: valid once done is true */
	bool		done;
	HttpFailure failure;
	bool		sent;			/* it may have reached the other side; false: it certainly has not */
	char		error[256];		/* what libcurl said; no URL, no token */
	long		status;			/* HTTP status, 0 if none arrived */
	char	   *response;		/* body, decompressed, NUL-terminated; "" on any failure */
	size_t		response_length;
	char		content_type_received[128]; /* "" if none */
	char		retry_after[64];	/* raw header, "" if none */
	char		etag[128];		/* raw header, "" if none; printable ASCII only */
	char		request_id[64]; /* X-Request-Id, "" if none; printable ASCII only */
	uint64		bytes_received; /* header and body bytes on the wire */
	double		seconds;

	struct HttpTransfer *transfer;	/* http_internal.h */
};

/*
 * A new GET/POST/... request in this context. url is copied. Throws only for
 * out of memory.
 */
extern HttpRequest *http_request_create(MemoryContext context, const char *method,
										const char *url);

/*
 * Hands a request to the multi handle, or queues it while
 * smartspace_cobot.max_connections are busy. The request's own clocks start
 * when it is handed over. A local failure is reported in the request, not
 * thrown; like every other end, it makes the request done in the next
 * http_wait().
 */
extern void http_start(HttpRequest *request);

/*
 * Lets transfers make progress for at most timeout_ms (-1: until something
 * finishes) and returns how many requests finished. With nothing under way, -1
 * returns at once, but a timeout is still slept, so callers can wait for a retry
 * time. With a timeout it may return 0 early, when the latch was set: such
 * callers loop until their deadline. Interruptible: throws the server's own
 * error for cancel, timeout and die.
 */
extern int	http_wait(long timeout_ms);

/*
 * Sends and receives what can be at this moment, and tells nobody. For between two long
 * pieces of other work, lest servers or time limits lose patience.
 */
extern void http_progress(void);

/* Takes a request off the wire; harmless for one that is done or was never started. */
extern void http_abandon(HttpRequest *request);

/* TLS, libcurl and resolver in words, for the diagnosis function. Static buffer. */
extern const char *http_library_version(void);

#endif
