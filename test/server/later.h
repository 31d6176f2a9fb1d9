/*
 * later.h
 *	  Requests that wait: for a delay to pass, or (stalled) for the client to
 *	  hang up. A waiting request is a suspended connection and costs no thread.
 */
#ifndef COBOT_TEST_LATER_H
#define COBOT_TEST_LATER_H

#include "request.h"

#define LATER_NEVER (-1)

extern void later_start(void);

/*
 * Suspends the request's connection. It goes on after delay_ms, or at once when
 * the client hangs up or later_stop() is called; then request->gone is set.
 * Returns false, with gone set, once the server is stopping.
 */
extern bool later_wait(Request *request, int delay_ms);

/* Lets everybody go on and no one wait any more. */
extern void later_stop(void);

#endif
