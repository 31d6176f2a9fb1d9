/*
 * later.c
 *	  Requests that wait. One thread owns a heap of due times and an epoll
 *	  descriptor that tells when a waiting client hangs up; it alone resumes
 *	  connections, so a descriptor it watches cannot be closed under its hands.
 */
#include "later.h"

#include <errno.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"

/* Below this a hang-up is noticed soon enough by itself. */
#define WATCH_FROM_MS 500
#define EVENTS 64

typedef struct Waiter
{
	Request    *request;
	int64_t		due_ms;			/* INT64_MAX: never */
	int			watched;		/* descriptor, or -1 */
	size_t		position;		/* in the heap */
} Waiter;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_t thread;
static Waiter **heap;			/* the one due first on top */
static size_t heap_count;
static size_t heap_size;
static int	epoll_fd = -1;
static int	wake_fd = -1;
static bool stopping;

static void
place(size_t position, Waiter *waiter)
{
	heap[position] = waiter;
	waiter->position = position;
}

static void
sift_up(size_t position, Waiter *waiter)
{
	while (position > 0 && heap[(position - 1) / 2]->due_ms > waiter->due_ms)
	{
		place(position, heap[(position - 1) / 2]);
		position = (position - 1) / 2;
	}
	place(position, waiter);
}

static void
sift_down(size_t position, Waiter *waiter)
{
	size_t		child;

	while ((child = position * 2 + 1) < heap_count)
	{
		if (child + 1 < heap_count && heap[child + 1]->due_ms < heap[child]->due_ms)
			child++;
		if (heap[child]->due_ms >= waiter->due_ms)
			break;
		place(position, heap[child]);
		position = child;
	}
	place(position, waiter);
}

static void
heap_add(Waiter *waiter)
{
	if (heap_count == heap_size)
	{
		heap_size = heap_size > 0 ? heap_size * 2 : 64;
		heap = memory_resize(heap, heap_size * sizeof(Waiter *));
	}
	sift_up(heap_count++, waiter);
}

static void
heap_remove(Waiter *waiter)
{
	Waiter	   *last = heap[--heap_count];
	size_t		position = waiter->position;

	if (last == waiter)
		return;
	if (position > 0 && heap[(position - 1) / 2]->due_ms > last->due_ms)
		sift_up(position, last);
	else
		sift_down(position, last);
}

static void
wake_thread(void)
{
	uint64_t	one = 1;

	if (write(wake_fd, &one, sizeof(one)) < 0)
		abort();				/* an eventfd takes every small number */
}

bool
later_wait(Request *request, int delay_ms)
{
	Waiter	   *waiter;
	const union MHD_ConnectionInfo *info;
	struct epoll_event event = {0};
	bool		is_first;

	pthread_mutex_lock(&lock);
	if (stopping)
	{
		pthread_mutex_unlock(&lock);
		request->gone = true;
		return false;
	}
	waiter = memory_zero(sizeof(Waiter));
	waiter->request = request;
	waiter->watched = -1;
	waiter->due_ms = delay_ms == LATER_NEVER ? INT64_MAX : clock_steady_ms() + delay_ms;
	heap_add(waiter);
	is_first = waiter->position == 0;
	MHD_suspend_connection(request->connection);
	if (delay_ms == LATER_NEVER || delay_ms >= WATCH_FROM_MS)
	{
		info = MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
		event.events = EPOLLRDHUP;
		event.data.ptr = waiter;
		if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, info->connect_fd, &event) == 0)
			waiter->watched = info->connect_fd;
	}
	pthread_mutex_unlock(&lock);
	if (is_first)
		wake_thread();
	return true;
}

/* Only in the thread, with the lock held. */
static void
resume(Waiter *waiter, bool gone)
{
	Request    *request = waiter->request;

	heap_remove(waiter);
	if (waiter->watched >= 0)
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, waiter->watched, NULL);
	free(waiter);
	request->waited = true;
	request->gone = gone;
	MHD_resume_connection(request->connection);
}

static int
milliseconds_to_first(void)
{
	int64_t		wait;

	if (heap_count == 0 || heap[0]->due_ms == INT64_MAX)
		return -1;
	wait = heap[0]->due_ms - clock_steady_ms();
	if (wait < 0)
		return 0;
	return wait < 60000 ? (int) wait : 60000;
}

static void *
run(void *unused)
{
	struct epoll_event events[EVENTS];
	uint64_t	ignored;
	int			timeout = -1;

	(void) unused;
	for (;;)
	{
		int			count = epoll_wait(epoll_fd, events, EVENTS, timeout);

		pthread_mutex_lock(&lock);
		for (int i = 0; i < count; i++)
		{
			if (events[i].data.ptr != NULL)
				resume(events[i].data.ptr, true);
			else if (read(wake_fd, &ignored, sizeof(ignored)) < 0 && errno != EAGAIN)
				abort();
		}
		while (heap_count > 0 && (stopping || heap[0]->due_ms <= clock_steady_ms()))
			resume(heap[0], stopping);
		timeout = milliseconds_to_first();
		if (stopping)
			break;
		pthread_mutex_unlock(&lock);
	}
	pthread_mutex_unlock(&lock);
	return NULL;
}

void
later_start(void)
{
	struct epoll_event event = {0};

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	event.events = EPOLLIN;
	if (epoll_fd < 0 || wake_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, wake_fd, &event) != 0 ||
		pthread_create(&thread, NULL, run, NULL) != 0)
		abort();
}

void
later_stop(void)
{
	pthread_mutex_lock(&lock);
	stopping = true;
	pthread_mutex_unlock(&lock);
	wake_thread();
	pthread_join(thread, NULL);
	free(heap);
	heap = NULL;
	close(epoll_fd);
	close(wake_fd);
}
