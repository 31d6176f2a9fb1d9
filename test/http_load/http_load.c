/*
 * http_load.c
 *	  For a test alone: many requests through the extension's own HTTP layer, whose
 *	  answers are thrown away, so that it is seen how fast that layer is by itself. Loaded
 *	  after smartspace_cobot, whose functions it calls.
 */
#include "postgres.h"

#include "fmgr.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "http.h"

PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(http_load);

static char *url;
static int	left;				/* to be started */
static int	good;

static void start_one(void);

static void
finished(HttpRequest *request)
{
	if (request->failure == HTTP_NO_FAILURE && request->status == 200)
		good++;
	MemoryContextDelete(GetMemoryChunkContext(request));
	if (left > 0)
		start_one();
}

static void
start_one(void)
{
	MemoryContext context = AllocSetContextCreate(CurTransactionContext, "http_load request", ALLOCSET_SMALL_SIZES);
	HttpRequest *request = http_request_create(context, "GET", url);

	left--;
	request->finished = finished;
	http_start(request);
}

/*
 * http_load(url text, requests integer, concurrency integer) -> text, good answers and milliseconds
 */
Datum
http_load(PG_FUNCTION_ARGS)
{
	instr_time	start,
				end;

	url = text_to_cstring(PG_GETARG_TEXT_PP(0));
	left = PG_GETARG_INT32(1);
	good = 0;
	INSTR_TIME_SET_CURRENT(start);
	for (int i = 0; i < PG_GETARG_INT32(2) && left > 0; i++)
		start_one();
	while (http_wait(-1) > 0)
		;
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("%d %.0f", good, INSTR_TIME_GET_MILLISEC(end))));
}
