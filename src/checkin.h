#ifndef X
#define X
#include "job.h"
#include "utils/timestamp.h"
static Job *checkin_job_next(void) { return NULL; }
static TimestampTz checkin_next_due(void) { return DT_NOEND; }
static void checkin_request(int64 a, int64 b, Oid c) { (void) a; (void) b; (void) c;}
#endif
