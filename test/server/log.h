/*
 * log.h
 *	  Which requests arrived, so that a test can say what was asked and what was
 *	  not. Has a lock of its own.
 */
#ifndef COBOT_TEST_LOG_H
#define COBOT_TEST_LOG_H

#include "request.h"

/* Writes the request down; the number is for log_finish(). */
extern uint64_t log_begin(const Request *request);

/* status 0: no answer was sent. */
extern void log_finish(uint64_t number, int status);

/* The entries after this number, oldest first; the caller owns the array. */
extern cJSON *log_since(uint64_t number);

/* Forgets the entries; numbers go on growing. */
extern void log_clear(void);

#endif
