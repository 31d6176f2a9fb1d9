/*
 * deliver.h
 *	  Puts an answer on the wire: headers, compression, and the ways to fail in the
 *	  middle of a body.
 */
#ifndef COBOT_TEST_DELIVER_H
#define COBOT_TEST_DELIVER_H

#include <microhttpd.h>

#include "request.h"

/* Queues the request's answer. MHD_NO closes the connection. */
extern enum MHD_Result deliver(Request *request, bool allow_gzip);

#endif
