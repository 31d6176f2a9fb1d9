/*
 * server.c
 *	  The two listeners. The HTTPS side has a few threads that share the
 *	  connections by epoll; whoever has to wait is suspended (later.c), so a
 *	  stalled request holds up nobody. The control side has a thread of its own.
 */
#include "server.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "control.h"
#include "deliver.h"
#include "later.h"

#define HTTPS_THREADS 4
#define CONNECTION_LIMIT 16000
#define LISTEN_BACKLOG 4096
#define BODY_LIMIT_BYTES ((size_t) 256 << 20)

static struct MHD_Daemon *https;
static struct MHD_Daemon *control;

/* The path and query before the library decodes anything. */
static void *
start_request(void *closure, const char *uri, struct MHD_Connection *connection)
{
	Request    *request = request_create(uri);

	(void) closure;
	request->connection = connection;
	return request;
}

static void
end_request(void *closure, struct MHD_Connection *connection, void **request,
			enum MHD_RequestTerminationCode code)
{
	(void) closure;
	(void) connection;
	(void) code;
	request_free(*request);
	*request = NULL;
}

/* Gives each connection a number that tests can compare. */
static void
notify_connection(void *closure, struct MHD_Connection *connection, void **number,
				  enum MHD_ConnectionNotificationCode code)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static uintptr_t count;

	(void) closure;
	(void) connection;
	if (code != MHD_CONNECTION_NOTIFY_STARTED)
		return;
	pthread_mutex_lock(&lock);
	*number = (void *) ++count;
	pthread_mutex_unlock(&lock);
}

static const char *
header(Request *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

static char *
host_name(const char *host)
{
	char	   *name = text_copy(host != NULL ? host : "");

	name[strcspn(name, ":")] = '\0';
	for (char *p = name; *p != '\0'; p++)
		*p = (char) tolower((unsigned char) *p);
	return name;
}

static void
read_headers(Request *request, const char *method)
{
	const union MHD_ConnectionInfo *info;
	const char *authorization = header(request, "Authorization");
	const char *encoding = header(request, "Accept-Encoding");

	info = MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	request->connection_number = (uintptr_t) info->socket_context;
	request->method = text_copy(method);
	request->host = host_name(header(request, "Host"));
	request->user_agent = text_copy(header(request, "User-Agent"));
	request->if_none_match = text_copy(header(request, "If-None-Match"));
	request->accepts_gzip = encoding != NULL && strstr(encoding, "gzip") != NULL;
	if (authorization != NULL && strncasecmp(authorization, "Bearer ", strlen("Bearer ")) == 0)
		request->token = text_copy(authorization + strlen("Bearer "));
	else
		request->token = request_query(request, "access_token");
}

/* True once the request is complete. */
static bool
receive(Request *request, const char *method, const char *data, size_t *size, enum MHD_Result *result)
{
	*result = MHD_YES;
	if (request->method == NULL)
	{
		read_headers(request, method);
		return false;
	}
	if (*size == 0)
		return true;
	if (request->body.length + *size > BODY_LIMIT_BYTES)
		*result = MHD_NO;
	else
		text_add_bytes(&request->body, data, *size);
	*size = 0;
	return false;
}

static bool
gzip_is_on(void)
{
	bool		on;

	world_lock();
	on = world.settings.gzip;
	world_unlock();
	return on;
}

static enum MHD_Result
handle_https(void *closure, struct MHD_Connection *connection, const char *url, const char *method,
			 const char *version, const char *data, size_t *size, void **state)
{
	Request    *request = *state;
	enum MHD_Result result;

	(void) closure;
	(void) connection;
	(void) url;
	(void) version;
	if (!receive(request, method, data, size, &result))
		return result;
	if (!request->handled)
		request_handle(request);
	if (!request->waited && request->delivery.kind == DELIVER_STALL_HEADERS)
		return later_wait(request, LATER_NEVER) ? MHD_YES : MHD_NO;
	if (!request->waited && request->delivery.delay_ms > 0)
		return later_wait(request, request->delivery.delay_ms) ? MHD_YES : MHD_NO;
	if (request->gone)
		return MHD_NO;
	return deliver(request, gzip_is_on());
}

static enum MHD_Result
handle_control(void *closure, struct MHD_Connection *connection, const char *url, const char *method,
			   const char *version, const char *data, size_t *size, void **state)
{
	Request    *request = *state;
	enum MHD_Result result;

	(void) closure;
	(void) connection;
	(void) url;
	(void) version;
	if (!receive(request, method, data, size, &result))
		return result;
	control_handle(request);
	return deliver(request, false);
}

static struct MHD_Daemon *
listen_https(int port, const char *certificate, const char *key)
{
	struct sockaddr_in address = {0};

	address.sin_family = AF_INET;
	address.sin_port = htons((uint16_t) port);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_TLS | MHD_ALLOW_SUSPEND_RESUME,
							(uint16_t) port, NULL, NULL, handle_https, NULL,
							MHD_OPTION_SOCK_ADDR, &address,
							MHD_OPTION_THREAD_POOL_SIZE, HTTPS_THREADS,
							MHD_OPTION_CONNECTION_LIMIT, CONNECTION_LIMIT,
							MHD_OPTION_LISTEN_BACKLOG_SIZE, LISTEN_BACKLOG,
							MHD_OPTION_HTTPS_MEM_CERT, certificate,
							MHD_OPTION_HTTPS_MEM_KEY, key,
							MHD_OPTION_URI_LOG_CALLBACK, start_request, NULL,
							MHD_OPTION_NOTIFY_COMPLETED, end_request, NULL,
							MHD_OPTION_NOTIFY_CONNECTION, notify_connection, NULL,
							MHD_OPTION_END);
}

static struct MHD_Daemon *
listen_control(int port)
{
	struct sockaddr_in address = {0};

	address.sin_family = AF_INET;
	address.sin_port = htons((uint16_t) port);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD,
							(uint16_t) port, NULL, NULL, handle_control, NULL,
							MHD_OPTION_SOCK_ADDR, &address,
							MHD_OPTION_URI_LOG_CALLBACK, start_request, NULL,
							MHD_OPTION_NOTIFY_COMPLETED, end_request, NULL,
							MHD_OPTION_NOTIFY_CONNECTION, notify_connection, NULL,
							MHD_OPTION_END);
}

bool
server_start(int port, int control_port, const char *certificate, const char *key)
{
	later_start();
	https = listen_https(port, certificate, key);
	control = listen_control(control_port);
	return https != NULL && control != NULL;
}

int
server_port(void)
{
	return MHD_get_daemon_info(https, MHD_DAEMON_INFO_BIND_PORT)->port;
}

int
server_control_port(void)
{
	return MHD_get_daemon_info(control, MHD_DAEMON_INFO_BIND_PORT)->port;
}

void
server_stop(void)
{
	if (control != NULL)
		MHD_stop_daemon(control);
	later_stop();
	if (https != NULL)
		MHD_stop_daemon(https);
}
