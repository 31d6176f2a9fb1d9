/*
 * http.c
 *	  HTTPS requests with libcurl, in any backend or background worker.
 *
 * Owns, per process: one epoll descriptor, one WaitEventSet that holds it beside
 * the latch, and one multi handle with its kept-alive connections. Two rules
 * make that safe inside a server. Nothing in a libcurl callback throws or
 * pallocs, because a longjmp would leave libcurl half done; callbacks note what
 * happened and it is judged afterwards. And nothing waits but
 * wait_for_events(), which answers interrupts.
 *
 * A request is NEW, then QUEUED until one of the slots is free, RUNNING on the
 * multi handle, ENDED when its answer is complete or has failed, and DELIVERED
 * when http_wait() has told its owner. Abandoning it makes it DELIVERED, too.
 */
#include "postgres.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <curl/curl.h>

#include "lib/ilist.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "http.h"
#include "smartspace_cobot.h"

#if LIBCURL_VERSION_NUM < 0x075500
#error "smartspace_cobot needs libcurl 7.85 or newer (CURLOPT_PROTOCOLS_STR)"
#endif

#define HEADER_LIMIT_BYTES		(64 * 1024)
#define FIRST_BODY_BYTES		4096
#define CA_CACHE_SECONDS		60L /* so that a repaired CA file is noticed soon */
#define MULTI_DESCRIPTORS		2	/* libcurl's own wake-up pair */
#define SETTINGS_SIZE			(2 * MAXPGPATH)
#define NO_TIME					(-1)

typedef enum TransferState
{
	TRANSFER_NEW,
	TRANSFER_QUEUED,
	TRANSFER_RUNNING,
	TRANSFER_ENDED,
	TRANSFER_DELIVERED
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
	TransferState state;
	dlist_node	node;			/* in the list of its state */
	MemoryContextCallback release;
	CURL	   *easy;
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

static struct
{
	int			pid;			/* the process this belongs to */
	bool		initialized;	/* curl_global_init() done */
	int			epoll_fd;
	WaitEventSet *wait_set;

	CURLM	   *multi;
	char		made_for[SETTINGS_SIZE];	/* the settings when it was made */
	int			reserved;		/* descriptors, at fd.c */
	int			slots;			/* transfers at a time */
	struct curl_slist *connect_to;	/* or NULL */

	int64		timer_due_us;	/* when libcurl wants to be called, or NO_TIME */
	int			socket_errno;	/* why the socket callback failed, or 0 */

	dlist_head	queued;
	dlist_head	running;
	dlist_head	ended;
	int			running_count;
} http;

static int64
now_us(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MICROSEC(now);
}

/*
 * The resolver's thread inherits the signal mask of whoever starts it. It must
 * take no signal: the server's handlers are written for one thread.
 */
static void
block_signals(sigset_t *saved)
{
	sigset_t	all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, saved);
}

static void
restore_signals(const sigset_t *saved)
{
	sigprocmask(SIG_SETMASK, saved, NULL);
}

static bool
is_set(const char *setting)
{
	return setting != NULL && setting[0] != '\0';
}

static bool
is_get(const HttpRequest *request)
{
	return strcmp(request->method, "GET") == 0;
}

/* ---------- callbacks: no palloc, no ereport ---------- */

static int
timer_callback(CURLM *multi pg_attribute_unused(), long timeout_ms,
			   void *arg pg_attribute_unused())
{
	http.timer_due_us = timeout_ms < 0 ? NO_TIME : now_us() + (int64) timeout_ms * 1000;
	return 0;
}

static int
socket_callback(CURL *easy pg_attribute_unused(), curl_socket_t fd, int what,
				void *arg pg_attribute_unused(), void *socket_arg pg_attribute_unused())
{
	struct epoll_event event = {0};

	if (what == CURL_POLL_REMOVE)
	{
		/* Closing a socket takes it out as well, so a failure means nothing. */
		(void) epoll_ctl(http.epoll_fd, EPOLL_CTL_DEL, fd, NULL);
		return 0;
	}

	event.data.fd = fd;
	if (what & CURL_POLL_IN)
		event.events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		event.events |= EPOLLOUT;

	if (epoll_ctl(http.epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ||
		(errno == EEXIST && epoll_ctl(http.epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0))
		return 0;

	http.socket_errno = errno;
	return -1;
}

static bool
is_private_v4(uint32 address)
{
	static const struct
	{
		uint32		network;
		int			bits;
	}			private[] = {
		{0x00000000, 8},		/* this host */
		{0x0A000000, 8},		/* 10/8 */
		{0x64400000, 10},		/* 100.64/10 */
		{0x7F000000, 8},		/* loopback */
		{0xA9FE0000, 16},		/* link local */
		{0xAC100000, 12},		/* 172.16/12 */
		{0xC0A80000, 16},		/* 192.168/16 */
		{0xE0000000, 3}			/* multicast, reserved, broadcast */
	};

	for (size_t i = 0; i < lengthof(private); i++)
		if (((address ^ private[i].network) >> (32 - private[i].bits)) == 0)
			return true;
	return false;
}

static bool
is_private_address(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
		return is_private_v4(ntohl(((const struct sockaddr_in *) address)->sin_addr.s_addr));

	if (address->sa_family == AF_INET6)
	{
		const struct in6_addr *v6 = &((const struct sockaddr_in6 *) address)->sin6_addr;
		uint32		last;

		memcpy(&last, &v6->s6_addr[12], sizeof(last));
		if (IN6_IS_ADDR_V4MAPPED(v6))
			return is_private_v4(ntohl(last));
		return IN6_IS_ADDR_UNSPECIFIED(v6) || IN6_IS_ADDR_LOOPBACK(v6) ||
			IN6_IS_ADDR_LINKLOCAL(v6) || IN6_IS_ADDR_SITELOCAL(v6) ||
			IN6_IS_ADDR_MULTICAST(v6) || (v6->s6_addr[0] & 0xFE) == 0xFC;
	}

	return true;
}

/* A name that leads into the own network is refused, unless a superuser chose the address. */
static curl_socket_t
open_socket_callback(void *arg, curlsocktype purpose pg_attribute_unused(),
					 struct curl_sockaddr *address)
{
	HttpTransfer *transfer = arg;

	if (http.connect_to == NULL && is_private_address(&address->addr))
	{
		transfer->refusal = REFUSED_ADDRESS;
		return CURL_SOCKET_BAD;
	}

	/* Programs started by COPY must not inherit it. */
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/*
 * When a kept-alive connection closes without an answer, libcurl sends the
 * request again on a new one, whatever its method. But the first may have
 * arrived. Only a GET may be repeated behind the caller's back.
 */
static int
before_send_callback(void *arg, char *remote_ip pg_attribute_unused(),
					 char *local_ip pg_attribute_unused(),
					 int remote_port pg_attribute_unused(),
					 int local_port pg_attribute_unused())
{
	HttpTransfer *transfer = arg;

	transfer->refusal = REFUSED_NOTHING;	/* another address worked */
	if (transfer->sends++ > 0 && !is_get(transfer->request))
	{
		transfer->refusal = REFUSED_RESEND;
		return CURL_PREREQFUNC_ABORT;
	}
	return CURL_PREREQFUNC_OK;
}

/* Copies the header's value, printable ASCII only, if the line is the named header. */
static void
capture_header(const char *line, size_t length, const char *name, char *value, size_t value_size)
{
	size_t		name_length = strlen(name);
	size_t		used = 0;

	if (length < name_length || pg_strncasecmp(line, name, name_length) != 0)
		return;

	for (size_t i = name_length; i < length && used < value_size - 1; i++)
	{
		if (line[i] == ' ' && used == 0)
			continue;
		if (line[i] >= ' ' && line[i] <= '~')
			value[used++] = line[i];
	}
	while (used > 0 && value[used - 1] == ' ')
		used--;
	value[used] = '\0';
}

static size_t
header_callback(char *line, size_t size, size_t count, void *arg)
{
	HttpTransfer *transfer = arg;
	HttpRequest *request = transfer->request;
	size_t		length = size * count;

	transfer->header_bytes += length;
	if (transfer->header_bytes > HEADER_LIMIT_BYTES)
	{
		transfer->refusal = REFUSED_SIZE;
		return 0;
	}

	/* A status line: what came before was an interim answer. */
	if (length >= 5 && memcmp(line, "HTTP/", 5) == 0)
	{
		request->content_type_received[0] = '\0';
		request->retry_after[0] = '\0';
		request->request_id[0] = '\0';
		return length;
	}

	capture_header(line, length, "Content-Type:", request->content_type_received,
				   sizeof(request->content_type_received));
	capture_header(line, length, "Retry-After:", request->retry_after,
				   sizeof(request->retry_after));
	capture_header(line, length, "X-Request-Id:", request->request_id,
				   sizeof(request->request_id));
	return length;
}

/* Gets decompressed bytes, so the limit holds for what a small gzip blows up to. */
static size_t
body_callback(char *data, size_t size, size_t count, void *arg)
{
	HttpTransfer *transfer = arg;
	size_t		limit = transfer->request->response_limit_bytes;
	size_t		length = size * count;
	size_t		needed;

	if (transfer->body_length + length > limit)
	{
		transfer->refusal = REFUSED_SIZE;
		return 0;
	}

	needed = transfer->body_length + length + 1;
	if (needed > transfer->body_capacity)
	{
		size_t		capacity = Max(transfer->body_capacity, FIRST_BODY_BYTES);
		char	   *grown;

		while (capacity < needed)
			capacity *= 2;
		grown = realloc(transfer->body, capacity);
		if (grown == NULL)
		{
			transfer->refusal = REFUSED_MEMORY;
			return 0;
		}
		transfer->body = grown;
		transfer->body_capacity = capacity;
	}

	memcpy(transfer->body + transfer->body_length, data, length);
	transfer->body_length += length;
	transfer->body[transfer->body_length] = '\0';
	return length;
}

/* ---------- the life of one transfer ---------- */

static void
enter_state(HttpTransfer *transfer, TransferState state)
{
	if (transfer->state == TRANSFER_QUEUED || transfer->state == TRANSFER_RUNNING ||
		transfer->state == TRANSFER_ENDED)
		dlist_delete(&transfer->node);
	if (transfer->state == TRANSFER_RUNNING)
		http.running_count--;

	transfer->state = state;
	if (state == TRANSFER_QUEUED)
		dlist_push_tail(&http.queued, &transfer->node);
	else if (state == TRANSFER_ENDED)
		dlist_push_tail(&http.ended, &transfer->node);
	else if (state == TRANSFER_RUNNING)
	{
		dlist_push_tail(&http.running, &transfer->node);
		http.running_count++;
	}
}

/* Gives back what libcurl holds for it; the body stays for the caller to read. */
static void
release_handle(HttpTransfer *transfer)
{
	if (transfer->easy != NULL)
	{
		if (transfer->state == TRANSFER_RUNNING)
			curl_multi_remove_handle(http.multi, transfer->easy);
		curl_easy_cleanup(transfer->easy);
		transfer->easy = NULL;
	}
	curl_slist_free_all(transfer->headers);
	transfer->headers = NULL;
}

static void
release_body(HttpTransfer *transfer)
{
	free(transfer->body);
	transfer->body = NULL;
	transfer->body_length = 0;
	transfer->body_capacity = 0;
}

/* Memory context callback: the request is about to vanish. */
static void
release_transfer(void *arg)
{
	HttpTransfer *transfer = arg;

	http_abandon(transfer->request);
	release_body(transfer);
}

/* Only printable ASCII: the text can quote a certificate, and goes into the server's log. */
static void
set_error(HttpRequest *request, const char *text)
{
	strlcpy(request->error, text, sizeof(request->error));
	for (char *c = request->error; *c != '\0'; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
}

static void
end_transfer(HttpTransfer *transfer, HttpFailure failure, const char *error)
{
	HttpRequest *request = transfer->request;

	release_handle(transfer);
	if (failure != HTTP_NO_FAILURE)
		release_body(transfer);

	request->failure = failure;
	set_error(request, error);
	request->response = transfer->body ? transfer->body : transfer->no_body;
	request->response_length = transfer->body_length;
	enter_state(transfer, TRANSFER_ENDED);
}

static const char *
error_text(const HttpTransfer *transfer, CURLcode code)
{
	return transfer->error[0] != '\0' ? transfer->error : curl_easy_strerror(code);
}

static HttpFailure
classify(const HttpTransfer *transfer, CURLcode code)
{
	switch (code)
	{
		case CURLE_OK:
			return HTTP_NO_FAILURE;

		case CURLE_COULDNT_RESOLVE_HOST:
			return HTTP_DNS_FAILURE;

		case CURLE_COULDNT_CONNECT:
		case CURLE_GOT_NOTHING:
			return HTTP_CONNECT_FAILURE;

		case CURLE_RECV_ERROR:
		case CURLE_SEND_ERROR:
			return transfer->header_bytes == 0 ? HTTP_CONNECT_FAILURE : HTTP_BROKEN_ANSWER;

		case CURLE_OPERATION_TIMEDOUT:
			return HTTP_TIMED_OUT;

		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_SSL_CIPHER:
		case CURLE_SSL_ISSUER_ERROR:
		case CURLE_SSL_INVALIDCERTSTATUS:
		case CURLE_SSL_CLIENTCERT:
			return HTTP_TLS_FAILURE;

		case CURLE_OUT_OF_MEMORY:
			return HTTP_LOCAL_FAILURE;

		default:

			/*
			 * Once the request was out, the answer is to blame (cut, encoding,
			 * HTTP/2, not HTTP at all); before, it is something here (URL, CA
			 * file, initialization).
			 */
			return transfer->sends > 0 ? HTTP_BROKEN_ANSWER : HTTP_LOCAL_FAILURE;
	}
}

/* libcurl is done with it: writes down the answer. */
static void
finish_transfer(HttpTransfer *transfer, CURLcode code)
{
	HttpRequest *request = transfer->request;
	curl_off_t	body_bytes = 0;
	long		header_bytes = 0;

	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &request->status);
	curl_easy_getinfo(transfer->easy, CURLINFO_SIZE_DOWNLOAD_T, &body_bytes);
	curl_easy_getinfo(transfer->easy, CURLINFO_HEADER_SIZE, &header_bytes);
	curl_easy_getinfo(transfer->easy, CURLINFO_TOTAL_TIME, &request->seconds);
	request->bytes_received = (uint64) body_bytes + (uint64) header_bytes;

	if (code == CURLE_OK)
		end_transfer(transfer, HTTP_NO_FAILURE, "");
	else if (transfer->refusal == REFUSED_SIZE)
		end_transfer(transfer, HTTP_TOO_LARGE, "the answer is larger than allowed");
	else if (transfer->refusal == REFUSED_MEMORY)
		end_transfer(transfer, HTTP_LOCAL_FAILURE, "out of memory for the answer");
	else if (transfer->refusal == REFUSED_RESEND)
		end_transfer(transfer, HTTP_CONNECT_FAILURE,
					 "the connection closed before any answer; the request may have arrived and was not sent again");
	else if (transfer->refusal == REFUSED_ADDRESS && code == CURLE_COULDNT_CONNECT)
		end_transfer(transfer, HTTP_CONNECT_FAILURE,
					 "the host name leads to a private or loopback address");
	else
		end_transfer(transfer, classify(transfer, code), error_text(transfer, code));
}

/* ---------- libcurl's options ---------- */

/* An option that cannot be set refuses the request, so no protection is ever missing silently. */
#define SET(option, value) \
	do { \
		if (code == CURLE_OK) \
			code = curl_easy_setopt(easy, (option), (value)); \
	} while (0)

static CURLcode
set_protections(CURL *easy, HttpTransfer *transfer)
{
	CURLcode	code = CURLE_OK;

	SET(CURLOPT_PROTOCOLS_STR, "https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	SET(CURLOPT_PROXY, "");		/* also keeps the environment's proxy out */
	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	if (is_set(smartspace_ca_file))
		SET(CURLOPT_CAINFO, smartspace_ca_file);
	if (http.connect_to != NULL)
		SET(CURLOPT_CONNECT_TO, http.connect_to);
	SET(CURLOPT_OPENSOCKETFUNCTION, open_socket_callback);
	SET(CURLOPT_OPENSOCKETDATA, transfer);
	SET(CURLOPT_PREREQFUNCTION, before_send_callback);
	SET(CURLOPT_PREREQDATA, transfer);

	SET(CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
	SET(CURLOPT_QUICK_EXIT, 1L);	/* do not join a resolver that hangs */
	SET(CURLOPT_CA_CACHE_TIMEOUT, CA_CACHE_SECONDS);
#endif
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long) smartspace_connect_timeout_ms);
	SET(CURLOPT_TIMEOUT_MS, (long) smartspace_request_timeout_ms);
	SET(CURLOPT_LOW_SPEED_LIMIT, (long) smartspace_low_speed_limit);
	SET(CURLOPT_LOW_SPEED_TIME, (long) smartspace_low_speed_time_s);
	return code;
}

static bool
add_header(HttpTransfer *transfer, const char *line)
{
	struct curl_slist *longer = curl_slist_append(transfer->headers, line);

	if (longer == NULL)
		return false;
	transfer->headers = longer;
	return true;
}

static bool
has_control_character(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char) *text < ' ' || *text == 0x7F)
			return true;
	return false;
}

static CURLcode
set_headers(CURL *easy, HttpTransfer *transfer)
{
	const HttpRequest *request = transfer->request;
	CURLcode	code = CURLE_OK;
	char		content_type[128];

	/* Without one, libcurl's form type is taken away. Refused if it could smuggle in a header. */
	if (snprintf(content_type, sizeof(content_type), "Content-Type:%s%s",
				 request->content_type ? " " : "",
				 request->content_type ? request->content_type : "") >= (int) sizeof(content_type) ||
		has_control_character(content_type) ||
		(request->bearer != NULL && has_control_character(request->bearer)))
	{
		strlcpy(transfer->error, "the token or content type is malformed", CURL_ERROR_SIZE);
		return CURLE_BAD_FUNCTION_ARGUMENT;
	}

	if (!add_header(transfer, "Accept: application/json") ||
		!add_header(transfer, "Expect:") ||
		!add_header(transfer, content_type))
		return CURLE_OUT_OF_MEMORY;

	SET(CURLOPT_HTTPHEADER, transfer->headers);
	SET(CURLOPT_USERAGENT, "smartspace_cobot/" SMARTSPACE_COBOT_VERSION);
	SET(CURLOPT_ACCEPT_ENCODING, "gzip");
	if (request->bearer != NULL)
	{
		SET(CURLOPT_XOAUTH2_BEARER, request->bearer);
		SET(CURLOPT_HTTPAUTH, (long) CURLAUTH_BEARER);
	}
	return code;
}

static CURLcode
set_request(CURL *easy, HttpTransfer *transfer)
{
	const HttpRequest *request = transfer->request;
	CURLcode	code = CURLE_OK;

	SET(CURLOPT_URL, request->url);
	SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_2TLS);
	if (!is_get(request))
	{
		/* A DELETE without a body says nothing of its length, the others send 0. */
		if (request->body != NULL || strcmp(request->method, "DELETE") != 0)
		{
			SET(CURLOPT_POSTFIELDSIZE_LARGE,
				(curl_off_t) (request->body ? request->body_length : 0));
			SET(CURLOPT_POSTFIELDS, request->body ? request->body : "");
		}
		SET(CURLOPT_CUSTOMREQUEST, request->method);
	}

	SET(CURLOPT_PRIVATE, transfer);
	SET(CURLOPT_ERRORBUFFER, transfer->error);
	SET(CURLOPT_HEADERFUNCTION, header_callback);
	SET(CURLOPT_HEADERDATA, transfer);
	SET(CURLOPT_WRITEFUNCTION, body_callback);
	SET(CURLOPT_WRITEDATA, transfer);
	return code;
}

/* ---------- what the process owns ---------- */

/* A connection must not outlive any of these. */
static void
describe_settings(char *settings)
{
	snprintf(settings, SETTINGS_SIZE, "%d\n%s\n%s", smartspace_max_connections,
			 smartspace_connect_to ? smartspace_connect_to : "",
			 smartspace_ca_file ? smartspace_ca_file : "");
}

static bool
settings_changed(void)
{
	char		settings[SETTINGS_SIZE];

	describe_settings(settings);
	return strcmp(settings, http.made_for) != 0;
}

/* Closes all connections; nothing may be running. */
static void
close_multi(void)
{
	curl_multi_cleanup(http.multi);
	http.multi = NULL;
	http.timer_due_us = NO_TIME;
	curl_slist_free_all(http.connect_to);
	http.connect_to = NULL;
	for (; http.reserved > 0; http.reserved--)
		ReleaseExternalFD();
}

/* As many slots as the settings ask for and fd.c grants. */
static bool
reserve_slots(void)
{
	while (http.reserved < smartspace_max_connections + MULTI_DESCRIPTORS && AcquireExternalFD())
		http.reserved++;
	http.slots = http.reserved - MULTI_DESCRIPTORS;
	return http.slots > 0;
}

static bool
set_connect_to(void)
{
	char		any_host_to[SETTINGS_SIZE];

	if (!is_set(smartspace_connect_to))
		return true;
	snprintf(any_host_to, sizeof(any_host_to), "::%s", smartspace_connect_to);
	http.connect_to = curl_slist_append(NULL, any_host_to);
	return http.connect_to != NULL;
}

static bool
set_multi_options(void)
{
	return curl_multi_setopt(http.multi, CURLMOPT_SOCKETFUNCTION, socket_callback) == CURLM_OK &&
		curl_multi_setopt(http.multi, CURLMOPT_TIMERFUNCTION, timer_callback) == CURLM_OK &&
		curl_multi_setopt(http.multi, CURLMOPT_MAXCONNECTS, (long) http.slots) == CURLM_OK &&
		curl_multi_setopt(http.multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) http.slots) == CURLM_OK;
}

/* What a parent process left behind is not ours: its descriptors stay as they are. */
static void
open_process(void)
{
	if (http.pid == MyProcPid)
		return;
	memset(&http, 0, sizeof(http));
	http.pid = MyProcPid;
	http.epoll_fd = -1;
	http.timer_due_us = NO_TIME;
	dlist_init(&http.queued);
	dlist_init(&http.running);
	dlist_init(&http.ended);
}

/*
 * The epoll descriptor and the set in which it is waited for. They come before
 * the connections' reservations, which may take all that is left. An error is
 * swallowed: nothing but descriptors or memory can fail here, and the contract
 * is that such a failure ends the request and not the statement.
 */
static bool
open_wait_set(void)
{
	MemoryContext context = CurrentMemoryContext;
	WaitEventSet *volatile set = NULL;

	if (http.epoll_fd < 0)
	{
		if (!AcquireExternalFD())
			return false;
		http.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
		if (http.epoll_fd < 0)
		{
			ReleaseExternalFD();
			return false;
		}
	}

	PG_TRY();
	{
		set = compat_create_wait_event_set(3);
		AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		if (IsUnderPostmaster)
			AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
		AddWaitEventToSet(set, WL_SOCKET_READABLE, http.epoll_fd, NULL, NULL);
		http.wait_set = set;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		FlushErrorState();
		if (set != NULL)
			FreeWaitEventSet(set);
	}
	PG_END_TRY();
	return http.wait_set != NULL;
}

/* Returns NULL, or in words why there is no multi handle. */
static const char *
open_multi(void)
{
	if (!http.initialized && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return "libcurl could not be initialized";
	http.initialized = true;

	if ((http.wait_set == NULL && !open_wait_set()) || !reserve_slots())
	{
		close_multi();
		return "too many open files in this server process";
	}

	describe_settings(http.made_for);
	http.multi = curl_multi_init();
	if (http.multi != NULL && set_connect_to() && set_multi_options())
		return NULL;
	close_multi();
	return "out of memory or descriptors for a multi handle";
}

static void
run_transfer(HttpTransfer *transfer)
{
	CURLcode	code;
	CURLMcode	multi_code;
	sigset_t	saved;

	transfer->easy = curl_easy_init();
	if (transfer->easy == NULL)
	{
		end_transfer(transfer, HTTP_LOCAL_FAILURE, "out of memory for a request");
		return;
	}

	code = set_protections(transfer->easy, transfer);
	if (code == CURLE_OK)
		code = set_headers(transfer->easy, transfer);
	if (code == CURLE_OK)
		code = set_request(transfer->easy, transfer);
	if (code != CURLE_OK)
	{
		end_transfer(transfer, HTTP_LOCAL_FAILURE, error_text(transfer, code));
		return;
	}

	block_signals(&saved);
	multi_code = curl_multi_add_handle(http.multi, transfer->easy);
	restore_signals(&saved);
	if (multi_code == CURLM_OK)
		enter_state(transfer, TRANSFER_RUNNING);
	else
		end_transfer(transfer, HTTP_LOCAL_FAILURE, curl_multi_strerror(multi_code));
}

/*
 * Hands queued requests over while there are free slots. A connection must not
 * outlive the settings it was made with: after a change, the transfers under
 * way end first, then a new multi handle takes the next ones.
 */
static void
run_queued(void)
{
	while (!dlist_is_empty(&http.queued))
	{
		HttpTransfer *transfer = dlist_head_element(HttpTransfer, node, &http.queued);
		const char *problem = NULL;

		if (http.multi != NULL && settings_changed())
		{
			if (http.running_count > 0)
				return;
			close_multi();
		}
		if (http.multi == NULL)
			problem = open_multi();
		if (problem != NULL)
			end_transfer(transfer, HTTP_LOCAL_FAILURE, problem);
		else if (http.running_count < http.slots)
			run_transfer(transfer);
		else
			return;
	}
}

/* ---------- making progress ---------- */

static void
collect_finished(void)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(http.multi, &left)) != NULL)
	{
		CURLcode	code = message->data.result;
		char	   *transfer = NULL;

		if (message->msg == CURLMSG_DONE &&
			curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer) == CURLE_OK)
			finish_transfer((HttpTransfer *) transfer, code);
	}
}

/* The multi handle itself failed, so nothing on it can be trusted any more. */
static void
fail_running(CURLMcode code)
{
	const char *error = http.socket_errno != 0 ? strerror(http.socket_errno) : curl_multi_strerror(code);

	while (!dlist_is_empty(&http.running))
		end_transfer(dlist_head_element(HttpTransfer, node, &http.running),
					 HTTP_LOCAL_FAILURE, error);
	http.socket_errno = 0;
	close_multi();
}

/* Tells libcurl what is ready. Never waits. */
static void
make_progress(void)
{
	struct epoll_event events[16];
	CURLMcode	code = CURLM_OK;
	sigset_t	saved;
	int			running;
	int			ready;

	if (http.running_count == 0)
		return;

	ready = epoll_wait(http.epoll_fd, events, lengthof(events), 0);

	block_signals(&saved);
	for (int i = 0; i < ready && code == CURLM_OK; i++)
	{
		int			what = 0;

		/* On error or hang-up libcurl shall read and write, and find out what it is. */
		if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP))
			what |= CURL_CSELECT_IN;
		if (events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
			what |= CURL_CSELECT_OUT;
		code = curl_multi_socket_action(http.multi, events[i].data.fd, what, &running);
	}
	if (code == CURLM_OK && http.timer_due_us != NO_TIME && http.timer_due_us <= now_us())
	{
		http.timer_due_us = NO_TIME;
		code = curl_multi_socket_action(http.multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
	restore_signals(&saved);

	if (code == CURLM_OK)
		collect_finished();
	else
		fail_running(code);
}

/*
 * Sleeps until a socket is ready, libcurl's timer or the deadline is due, or the
 * latch is set; the last is what it returns. Throws for cancel and shutdown.
 */
static bool
wait_for_events(int64 deadline_us)
{
	WaitEvent	events[2];
	bool		latch_was_set = false;
	int64		until_us = deadline_us;
	long		timeout_ms = -1;

	if (http.running_count > 0 && http.timer_due_us != NO_TIME &&
		(until_us == NO_TIME || http.timer_due_us < until_us))
		until_us = http.timer_due_us;
	if (until_us != NO_TIME)
	{
		/* rounded up: waking too early would mean spinning */
		int64		left_ms = (until_us - now_us() + 999) / 1000;

		timeout_ms = (long) Min(Max(left_ms, 0), INT_MAX);
	}

	if (http.running_count > 0)
	{
		int			count = WaitEventSetWait(http.wait_set, timeout_ms, events,
											 lengthof(events), PG_WAIT_EXTENSION);

		for (int i = 0; i < count; i++)
			latch_was_set |= (events[i].events & WL_LATCH_SET) != 0;
	}
	else
		latch_was_set = (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
								   timeout_ms, PG_WAIT_EXTENSION) & WL_LATCH_SET) != 0;

	if (latch_was_set)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return latch_was_set;
}

/*
 * Tells the owners. A "finished" function may start requests, delete its own
 * request's context, or throw: so each transfer leaves the list before, and what
 * ends meanwhile is left for the next time, lest that go on for ever.
 */
static int
deliver_ended(void)
{
	int			count = 0;
	int			delivered = 0;
	dlist_iter	iter;

	dlist_foreach(iter, &http.ended)
		count++;

	while (delivered < count && !dlist_is_empty(&http.ended))
	{
		HttpTransfer *transfer = dlist_head_element(HttpTransfer, node, &http.ended);
		HttpRequest *request = transfer->request;

		enter_state(transfer, TRANSFER_DELIVERED);
		request->done = true;
		delivered++;
		if (request->finished != NULL)
			request->finished(request);
	}
	return delivered;
}

/* ---------- the contract in http.h ---------- */

HttpRequest *
http_request_create(MemoryContext context, const char *method, const char *url)
{
	HttpRequest *request = MemoryContextAllocZero(context, sizeof(HttpRequest));
	HttpTransfer *transfer = MemoryContextAllocZero(context, sizeof(HttpTransfer));

	open_process();
	request->method = method;
	request->url = MemoryContextStrdup(context, url);
	request->response_limit_bytes = (size_t) smartspace_response_limit_kb * 1024;
	request->transfer = transfer;

	transfer->request = request;
	transfer->release.func = release_transfer;
	transfer->release.arg = transfer;
	MemoryContextRegisterResetCallback(context, &transfer->release);
	return request;
}

void
http_start(HttpRequest *request)
{
	Assert(request->transfer->state == TRANSFER_NEW);
	if (request->transfer->state != TRANSFER_NEW)
		return;
	enter_state(request->transfer, TRANSFER_QUEUED);
	run_queued();
}

/*
 * With a timeout it also returns early, and 0, when the latch was set: whoever
 * set it may have had news for the caller, who then looks and calls again.
 */
int
http_wait(long timeout_ms)
{
	int64		deadline_us;
	bool		over = false;

	open_process();
	CHECK_FOR_INTERRUPTS();
	deadline_us = timeout_ms < 0 ? NO_TIME : now_us() + (int64) timeout_ms * 1000;

	for (;;)
	{
		int			finished;

		run_queued();
		finished = deliver_ended();
		if (finished > 0 || over)
			return finished;
		if (timeout_ms < 0 && http.running_count == 0 && dlist_is_empty(&http.ended))
			return 0;

		over = wait_for_events(deadline_us) && timeout_ms >= 0;
		make_progress();
		if (timeout_ms >= 0 && now_us() >= deadline_us)
			over = true;
	}
}

void
http_perform(HttpRequest **requests, int count)
{
	PG_TRY();
	{
		for (int i = 0; i < count; i++)
			http_start(requests[i]);
		for (int i = 0; i < count; i++)
			while (requests[i]->transfer->state < TRANSFER_DELIVERED)
				http_wait(-1);
	}
	PG_CATCH();
	{
		for (int i = 0; i < count; i++)
			http_abandon(requests[i]);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

void
http_abandon(HttpRequest *request)
{
	HttpTransfer *transfer = request->transfer;

	release_handle(transfer);
	if (!request->done)
		release_body(transfer);
	enter_state(transfer, TRANSFER_DELIVERED);
}

const char *
http_library_version(void)
{
	static char words[256];
	const curl_version_info_data *info = curl_version_info(CURLVERSION_NOW);
	const char *resolver = "blocking resolver: a cancel waits for DNS";

	if (info->ares != NULL)
		resolver = "c-ares resolver";
	else if (info->features & CURL_VERSION_ASYNCHDNS)
		resolver = "threaded resolver";

	snprintf(words, sizeof(words), "libcurl %s, %s, %s", info->version,
			 info->ssl_version ? info->ssl_version : "no TLS", resolver);
	return words;
}
