/*
 * faults.h
 *	  Failures on order: which requests are to go wrong, how often, and how. Has a
 *	  lock of its own and takes no other while it holds that.
 */
#ifndef COBOT_TEST_FAULTS_H
#define COBOT_TEST_FAULTS_H

#include "request.h"

/*
 * The fault meant for this request, counted down, as a copy that the caller
 * frees; NULL if the request may go its normal way.
 */
extern cJSON *faults_take(const Request *request);

/* Whether the request must not reach the API at all. */
extern bool faults_replace_answer(const cJSON *fault);

/* Changes answer and delivery. */
extern void faults_apply(const cJSON *fault, Request *request);

/* Carries out the control operations that belong to the fault. */
extern void faults_run_then(const cJSON *fault);

/* For the control interface. faults_add() takes the fault over and returns its number. */
extern const char *faults_wrong_with(const cJSON *fault);
extern int	faults_add(cJSON *fault);
extern cJSON *faults_list(void);
extern bool faults_remove(int number);
extern void faults_clear(void);

#endif
