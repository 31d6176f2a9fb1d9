/*
 * http.c
 *	  HTTPS requests with libcurl, in any backend or background worker: the
 *	  public functions, which transfer runs when, and every wait.
 *
 * Owns, per process: one epoll descriptor, one WaitEventSet that holds it beside
 * the latch, and one multi handle with its kept-alive connections. Nothing in a
 * libcurl callback throws or pallocs, and nothing waits but wait_for_events(),
 * which answers interrupts.
 */
#include "postgres.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/epoll.h>

#include "miscadmin.h"
#include "portability/instr_time.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "http_internal.h"
#include "smartspace_cobot.h"

#define MULTI_DESCRIPTORS		2	/* libcurl's own wake-up pair */
#define SETTINGS_SIZE			(2 * MAXPGPATH)
#define NO_TIME					(-1)

static struct
{
	int			pid;			/* the process this belongs to */
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

/* ---------- the state of a transfer ---------- */

static dlist_head *
list_of(TransferState state)
{
	switch (state)
	{
		case TRANSFER_QUEUED:
			return &http.queued;
		case TRANSFER_RUNNING:
			return &http.running;
		case TRANSFER_ENDED:
			return &http.ended;
		default:
			return NULL;
	}
}

/* Whoever makes it RUNNING has put it on the multi handle; leaving RUNNING takes it off. */
static void
enter_state(HttpTransfer *transfer, TransferState state)
{
	if (list_of(transfer->state) != NULL)
		dlist_delete(&transfer->node);
	if (transfer->state == TRANSFER_RUNNING)
	{
		curl_multi_remove_handle(http.multi, transfer->easy);
		http.running_count--;
	}

	transfer->state = state;
	if (state == TRANSFER_QUEUED && transfer->request->urgent)
		dlist_push_head(list_of(state), &transfer->node);
	else if (list_of(state) != NULL)
		dlist_push_tail(list_of(state), &transfer->node);
	if (state == TRANSFER_RUNNING)
		http.running_count++;
}

/* Something here is to blame, and not the other side or the way there. */
static void
fail_locally(HttpTransfer *transfer, const char *error)
{
	enter_state(transfer, TRANSFER_ENDED);
	http_transfer_fail(transfer, error);
}

/* Memory context callback: the request is about to vanish. */
static void
release_transfer(void *arg)
{
	HttpTransfer *transfer = arg;

	http_abandon(transfer->request);
	http_transfer_free_body(transfer);
}

/* ---------- the multi handle ---------- */

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

/* What a connection must not outlive a change of, as one text. */
static const char *
current_settings(void)
{
	static char settings[SETTINGS_SIZE];

	snprintf(settings, sizeof(settings), "%d\n%s\n%s", smartspace_max_connections,
			 smartspace_connect_to ? smartspace_connect_to : "",
			 smartspace_ca_file ? smartspace_ca_file : "");
	return settings;
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

	if (!http_setting_is_set(smartspace_connect_to))
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

static bool
open_epoll(void)
{
	if (http.epoll_fd >= 0)
		return true;
	if (!AcquireExternalFD())
		return false;
	http.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (http.epoll_fd < 0)
		ReleaseExternalFD();
	return http.epoll_fd >= 0;
}

/*
 * An error is swallowed: nothing but descriptors or memory can fail here, and
 * the contract is that such a failure ends the request and not the statement.
 */
static bool
open_wait_set(void)
{
	MemoryContext context = CurrentMemoryContext;
	WaitEventSet *volatile set = NULL;

	if (http.wait_set != NULL)
		return true;

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
	/* libcurl counts these calls; all but the first do nothing. */
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return "libcurl could not be initialized";

	/* Waiting comes first: the slots may take all the descriptors that are left. */
	if (!open_epoll() || !open_wait_set() || !reserve_slots())
	{
		close_multi();
		return "too many open files in this server process";
	}

	strlcpy(http.made_for, current_settings(), sizeof(http.made_for));
	http.multi = curl_multi_init();
	if (http.multi != NULL && set_connect_to() && set_multi_options())
		return NULL;
	close_multi();
	return "out of memory or descriptors for a multi handle";
}

/* ---------- making progress ---------- */

/* Returns NULL, or in words why the transfer does not run. */
static const char *
run_transfer(HttpTransfer *transfer)
{
	const char *problem = http_transfer_open(transfer, http.connect_to);
	sigset_t	saved;

	if (problem != NULL)
		return problem;

	block_signals(&saved);
	CURLMcode	code = curl_multi_add_handle(http.multi, transfer->easy);

	sigprocmask(SIG_SETMASK, &saved, NULL);
	if (code != CURLM_OK)
		return curl_multi_strerror(code);
	enter_state(transfer, TRANSFER_RUNNING);
	return NULL;
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

		if (http.multi != NULL && strcmp(http.made_for, current_settings()) != 0)
		{
			if (http.running_count > 0)
				return;
			close_multi();
		}
		if (http.multi == NULL)
			problem = open_multi();
		if (problem == NULL && http.running_count >= http.slots)
			return;

		if (problem == NULL)
			problem = run_transfer(transfer);
		if (problem != NULL)
			fail_locally(transfer, problem);
	}
}

static void
collect_finished(void)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(http.multi, &left)) != NULL)
	{
		CURLcode	code = message->data.result;
		char	   *private = NULL;

		if (message->msg != CURLMSG_DONE ||
			curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private) != CURLE_OK)
			continue;

		HttpTransfer *transfer = (HttpTransfer *) private;

		enter_state(transfer, TRANSFER_ENDED);
		http_transfer_finish(transfer, code);
	}
}

/* The multi handle itself failed, so nothing on it can be trusted any more. */
static void
fail_running(CURLMcode code)
{
	const char *error = http.socket_errno != 0 ? strerror(http.socket_errno) : curl_multi_strerror(code);

	while (!dlist_is_empty(&http.running))
		fail_locally(dlist_head_element(HttpTransfer, node, &http.running), error);
	http.socket_errno = 0;
	close_multi();
}

/* Tells libcurl what is ready. Never waits. */
static void
make_progress(void)
{
	struct epoll_event events[64];
	CURLMcode	code = CURLM_OK;
	sigset_t	saved;
	int			running;

	if (http.running_count == 0)
		return;

	int			ready = epoll_wait(http.epoll_fd, events, lengthof(events), 0);

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
	sigprocmask(SIG_SETMASK, &saved, NULL);

	if (code == CURLM_OK)
		collect_finished();
	else
		fail_running(code);
}

/* ---------- waiting ---------- */

/* Until the deadline, or sooner if libcurl's timer is due; -1 if there is neither. */
static long
sleep_ms(int64 deadline_us)
{
	int64		until_us = deadline_us;

	if (http.running_count > 0 && http.timer_due_us != NO_TIME &&
		(until_us == NO_TIME || http.timer_due_us < until_us))
		until_us = http.timer_due_us;
	if (until_us == NO_TIME)
		return -1;

	/* rounded up: waking too early would mean spinning */
	int64		left_ms = (until_us - now_us() + 999) / 1000;

	return (long) Min(Max(left_ms, 0), INT_MAX);
}

/*
 * Sleeps until a socket is ready, libcurl's timer or the deadline is due, or the
 * latch is set; the last is what it returns. Throws for cancel and shutdown.
 */
static bool
wait_for_events(int64 deadline_us)
{
	long		timeout_ms = sleep_ms(deadline_us);
	int			what = 0;

	if (http.running_count > 0)
	{
		WaitEvent	event;		/* a latch that is set comes first */

		if (WaitEventSetWait(http.wait_set, timeout_ms, &event, 1, PG_WAIT_EXTENSION) > 0)
			what = event.events;
	}
	else						/* there may be no wait set */
		what = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 timeout_ms, PG_WAIT_EXTENSION);

	if (what & WL_LATCH_SET)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return (what & WL_LATCH_SET) != 0;
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

/* Returns early for the latch, because whoever set it may have had news for the caller. */
int
http_wait(long timeout_ms)
{
	const bool	has_deadline = timeout_ms >= 0;
	bool		over = false;

	open_process();
	CHECK_FOR_INTERRUPTS();

	int64		deadline_us = has_deadline ? now_us() + (int64) timeout_ms * 1000 : NO_TIME;

	for (;;)
	{
		run_queued();

		int			finished = deliver_ended();

		if (finished > 0 || over || (!has_deadline && http.running_count == 0))
			return finished;

		bool		latch_was_set = wait_for_events(deadline_us);

		make_progress();
		over = has_deadline && (latch_was_set || now_us() >= deadline_us);
	}
}

void
http_progress(void)
{
	open_process();
	run_queued();
	make_progress();
}

void
http_abandon(HttpRequest *request)
{
	HttpTransfer *transfer = request->transfer;

	enter_state(transfer, TRANSFER_DELIVERED);
	http_transfer_free_handle(transfer);
	if (!request->done)
		http_transfer_free_body(transfer);
}
