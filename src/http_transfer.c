/*
 * http_transfer.c
 *	  One HTTPS transfer: how libcurl is told to make it, what its callbacks take
 *	  in, and what the outcome means. See http_internal.h.
 *
 * Nothing in a libcurl callback throws or pallocs, because a longjmp would leave
 * libcurl half done: callbacks note what happened and it is judged afterwards.
 */
#include "postgres.h"

#include <sys/socket.h>

#include "http_address.h"
#include "http_internal.h"
#include "smartspace_cobot.h"

#if LIBCURL_VERSION_NUM < 0x075500
#error "smartspace_cobot needs libcurl 7.85 or newer (CURLOPT_PROTOCOLS_STR)"
#endif

#define HEADER_LIMIT_BYTES		(64 * 1024)
#define FIRST_BODY_BYTES		4096
#define CA_CACHE_SECONDS		60L /* so that a repaired CA file is noticed soon */

static bool
is_get(const HttpRequest *request)
{
	return strcmp(request->method, "GET") == 0;
}

/* ---------- where a connection may lead ---------- */

/* A name that leads into the own network is refused, unless a superuser chose the address. */
static curl_socket_t
open_socket_callback(void *arg, curlsocktype purpose pg_attribute_unused(),
					 struct curl_sockaddr *address)
{
	HttpTransfer *transfer = arg;

	if (transfer->connect_to == NULL && http_address_is_private(&address->addr))
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

/* ---------- taking the answer in ---------- */

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
		request->etag[0] = '\0';
		request->request_id[0] = '\0';
		return length;
	}

	capture_header(line, length, "Content-Type:", request->content_type_received,
				   sizeof(request->content_type_received));
	capture_header(line, length, "Retry-After:", request->retry_after,
				   sizeof(request->retry_after));
	capture_header(line, length, "ETag:", request->etag, sizeof(request->etag));
	capture_header(line, length, "X-Request-Id:", request->request_id,
				   sizeof(request->request_id));
	return length;
}

/* Gets decompressed bytes, so the limit holds for what a small gzip blows up to. */
static size_t
body_callback(char *data, size_t size, size_t count, void *arg)
{
	HttpTransfer *transfer = arg;
	size_t		length = size * count;
	size_t		total = transfer->body_length + length;

	if (total > transfer->request->response_limit_bytes)
	{
		transfer->refusal = REFUSED_SIZE;
		return 0;
	}

	if (total >= transfer->body_capacity)
	{
		size_t		capacity = Max(transfer->body_capacity, FIRST_BODY_BYTES);

		while (capacity <= total)
			capacity *= 2;

		char	   *grown = realloc(transfer->body, capacity);

		if (grown == NULL)
		{
			transfer->refusal = REFUSED_MEMORY;
			return 0;
		}
		transfer->body = grown;
		transfer->body_capacity = capacity;
	}

	memcpy(transfer->body + transfer->body_length, data, length);
	transfer->body[total] = '\0';
	transfer->body_length = total;
	return length;
}

/* ---------- libcurl's options ---------- */

/* An option that cannot be set refuses the request, so no protection is ever missing silently. */
#define SET(option, value) \
	do { \
		if (code == CURLE_OK) \
			code = curl_easy_setopt(transfer->easy, (option), (value)); \
	} while (0)

static CURLcode
set_protections(HttpTransfer *transfer)
{
	CURLcode	code = CURLE_OK;

	SET(CURLOPT_PROTOCOLS_STR, "https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	SET(CURLOPT_PATH_AS_IS, 1L);	/* an id that reads as a step up stays one, encoded or not */
	SET(CURLOPT_PROXY, "");		/* also keeps the environment's proxy out */
	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	if (http_setting_is_set(smartspace_ca_file))
	{
		SET(CURLOPT_CAINFO, smartspace_ca_file);
		SET(CURLOPT_CAPATH, NULL);	/* else the system's are trusted as well */
	}
	SET(CURLOPT_CONNECT_TO, transfer->connect_to);
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
has_control_character(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char) *text < ' ' || *text == 0x7F)
			return true;
	return false;
}

static CURLcode
set_headers(HttpTransfer *transfer)
{
	const HttpRequest *request = transfer->request;
	char		content_type[128];
	char		if_none_match[160];
	const char *const lines[] = {"Accept: application/json", "Expect:", content_type, if_none_match};
	CURLcode	code = CURLE_OK;

	/* Empty ones are not sent, and take libcurl's form type away. Refused if it could smuggle in a header. */
	if (snprintf(content_type, sizeof(content_type), "Content-Type: %s",
				 request->content_type ? request->content_type : "") >= (int) sizeof(content_type) ||
		snprintf(if_none_match, sizeof(if_none_match), "If-None-Match: %s",
				 request->if_none_match ? request->if_none_match : "") >= (int) sizeof(if_none_match) ||
		has_control_character(content_type) || has_control_character(if_none_match) ||
		(request->bearer != NULL && has_control_character(request->bearer)))
	{
		strlcpy(transfer->error, "the token, content type or entity tag is malformed", CURL_ERROR_SIZE);
		return CURLE_BAD_FUNCTION_ARGUMENT;
	}

	for (size_t i = 0; i < lengthof(lines); i++)
	{
		struct curl_slist *longer = curl_slist_append(transfer->headers, lines[i]);

		if (longer == NULL)
			return CURLE_OUT_OF_MEMORY;
		transfer->headers = longer;
	}

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
set_request(HttpTransfer *transfer)
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

static const char *
error_text(const HttpTransfer *transfer, CURLcode code)
{
	return transfer->error[0] != '\0' ? transfer->error : curl_easy_strerror(code);
}

const char *
http_transfer_open(HttpTransfer *transfer, struct curl_slist *connect_to)
{
	transfer->connect_to = connect_to;
	transfer->easy = curl_easy_init();
	if (transfer->easy == NULL)
		return "out of memory for a request";

	CURLcode	code = set_protections(transfer);

	if (code == CURLE_OK)
		code = set_headers(transfer);
	if (code == CURLE_OK)
		code = set_request(transfer);
	return code == CURLE_OK ? NULL : error_text(transfer, code);
}

/* ---------- the outcome ---------- */

void
http_transfer_free_handle(HttpTransfer *transfer)
{
	curl_easy_cleanup(transfer->easy);
	transfer->easy = NULL;
	curl_slist_free_all(transfer->headers);
	transfer->headers = NULL;
}

void
http_transfer_free_body(HttpTransfer *transfer)
{
	free(transfer->body);
	transfer->body = NULL;
	transfer->body_length = 0;
	transfer->body_capacity = 0;
}

static void
write_down(HttpTransfer *transfer, HttpFailure failure, const char *error)
{
	HttpRequest *request = transfer->request;

	http_transfer_free_handle(transfer);
	if (failure != HTTP_NO_FAILURE)
		http_transfer_free_body(transfer);

	request->failure = failure;
	request->sent = transfer->sends > 0;
	request->response = transfer->body ? transfer->body : transfer->no_body;
	request->response_length = transfer->body_length;

	/* Only printable ASCII: the text can quote a certificate, and goes into the server's log. */
	strlcpy(request->error, error, sizeof(request->error));
	for (char *c = request->error; *c != '\0'; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
}

static HttpFailure
failure_of_code(const HttpTransfer *transfer, CURLcode code)
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

void
http_transfer_finish(HttpTransfer *transfer, CURLcode code)
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
		write_down(transfer, HTTP_NO_FAILURE, "");
	else if (transfer->refusal == REFUSED_SIZE)
		write_down(transfer, HTTP_TOO_LARGE, "the answer is larger than allowed");
	else if (transfer->refusal == REFUSED_MEMORY)
		write_down(transfer, HTTP_LOCAL_FAILURE, "out of memory for the answer");
	else if (transfer->refusal == REFUSED_RESEND)
		write_down(transfer, HTTP_CONNECT_FAILURE,
				   "the connection closed before any answer; the request may have arrived and was not sent again");
	else if (transfer->refusal == REFUSED_ADDRESS && code == CURLE_COULDNT_CONNECT)
		write_down(transfer, HTTP_CONNECT_FAILURE,
				   "the host name leads to a private or loopback address");
	else
		write_down(transfer, failure_of_code(transfer, code), error_text(transfer, code));
}

void
http_transfer_fail(HttpTransfer *transfer, const char *error)
{
	write_down(transfer, HTTP_LOCAL_FAILURE, error);
}

/* ---------- for the diagnosis function ---------- */

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
