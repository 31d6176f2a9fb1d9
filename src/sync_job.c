/*
 * sync_job.c
 *	  Synchronisations that the worker makes by itself: which one is next, and its steps
 *	  from one transaction to the next. Runs in the worker alone.
 *
 * A job has the lock of a run from its claim to its end, so a process that dies gives the
 * integration back at once. That it was claimed is committed first, together with when to
 * try again if nothing more is heard of it: after one, two, four minutes and so on up to the
 * interval; the first time already when the next worker comes up. So whatever breaks a
 * synchronisation off each time, be it the server itself that crashes, stops neither the
 * others nor the machine.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "job.h"
#include "lock.h"
#include "progress.h"
#include "query.h"
#include "sync.h"
#include "sync_job.h"
#include "sync_member.h"
#include "webhook_pending.h"

/* Somebody else synchronises it: look again then. */
#define LOCKED_AGAIN_S "5"

/* How often a run may find out that it wants to know more. */
#define ROUND_LIMIT 8

/* A job's own. */
typedef struct SyncJob
{
	SyncQuestions questions;
	bool		is_hint;		/* because of a webhook; else the whole space is due by itself */
	PendingMember member;		/* then: whom it is about */
	LOCKTAG		lock;
	TimestampTz started_at;
	instr_time	asked_at;		/* when the calls that are under way were started */
	double		fetch_ms;
	double		apply_ms;
	int			rounds;
	int			members;		/* that Cobot has told of so far */
	Progress   *progress;
} SyncJob;

/* ---- which one ---- */

/* What counts as now for an integration i: a fifth of its interval ahead at most, and not where less than half of it is waited for. */
#define NOW_AND_SLACK "pg_catalog.clock_timestamp() + LEAST($1 * interval '1 second', i.sync_interval / 5)"

static int64 slack_s = 0;

void
sync_job_set_slack(int seconds)
{
	slack_s = seconds;
}

/*
 * One that somebody asked for comes first; of the others who has waited longest. Each
 * query walks along an index.
 */
static const char *const due_queries[] = {
	"SELECT t.integration_id FROM smartspace.cobot_sync_task t WHERE t.requested_at IS NOT NULL"
	" AND t.due_at <= pg_catalog.clock_timestamp() + $1 * interval '0' ORDER BY t.requested_at LIMIT 1 FOR UPDATE SKIP LOCKED",
	"SELECT t.integration_id FROM smartspace.cobot_sync_task t JOIN smartspace.cobot_integration i ON i.id = t.integration_id"
	" WHERE t.due_at <= pg_catalog.clock_timestamp() + $1 * interval '1 second' AND t.due_at <= " NOW_AND_SLACK
	" AND (t.due_at <= pg_catalog.clock_timestamp() OR (SELECT r.next_at - r.finished_at FROM smartspace.cobot_sync_run r"
	"  WHERE r.integration_id = t.integration_id AND r.next_at IS NOT NULL ORDER BY r.id DESC LIMIT 1) > i.sync_interval / 2)"
	" ORDER BY t.due_at LIMIT 1 FOR UPDATE OF t SKIP LOCKED"
};

static bool
find_due(int64 *integration)
{
	QueryArg	slack = query_int64(slack_s);

	for (int i = 0; i < (int) lengthof(due_queries); i++)
		if (query_run_kept(due_queries[i], 1, &slack) > 0)
		{
			*integration = query_result_int64(0, 1);
			return true;
		}
	return false;
}

/* Not now, but then; an SQL expression. Never so soon that it would be due again at once. */
static void
put_off(int64 integration, const char *due_at)
{
	QueryArg	args[] = {query_int64(slack_s), query_int64(integration)};

	query_run(psprintf("UPDATE smartspace.cobot_sync_task t SET due_at = GREATEST(%s, " NOW_AND_SLACK " + interval '1 second')"
					   " FROM smartspace.cobot_integration i WHERE i.id = t.integration_id AND t.integration_id = $2", due_at),
			  lengthof(args), args);
}

/*
 * A synchronisation by hand counts as well, also for who asked for one before it began,
 * and so does Cobot's wish to be left alone. A shorter interval counts from the last run
 * on. True if it has to wait.
 */
static bool
must_wait(int64 integration)
{
	QueryArg	args[] = {query_int64(slack_s), query_int64(integration)};

	query_run_kept("UPDATE smartspace.cobot_sync_task t SET due_at = u.until, requested_at = CASE WHEN w.is_requested THEN t.requested_at END"
				   " FROM (SELECT k.requested_at IS NOT NULL AND (last.id IS NULL OR k.requested_at >= last.started_at) AS is_requested,"
				   "   LEAST(last.next_at, last.finished_at + i.sync_interval) AS due,"
				   "   (SELECT pg_catalog.max(r.not_before) FROM smartspace.cobot_sync_run r"
				   "    WHERE r.integration_id = $2 AND r.kind <> 'member' AND r.not_before > pg_catalog.clock_timestamp()) AS not_before,"
				   "   " NOW_AND_SLACK " AS now_and_slack"
				   "   FROM smartspace.cobot_sync_task k JOIN smartspace.cobot_integration i ON i.id = k.integration_id"
				   "    LEFT JOIN LATERAL (SELECT r.* FROM smartspace.cobot_sync_run r WHERE r.integration_id = $2 AND r.next_at IS NOT NULL"
				   "     ORDER BY r.id DESC LIMIT 1) last ON true"
				   "   WHERE k.integration_id = $2) w"
				   "  CROSS JOIN LATERAL (SELECT CASE WHEN w.not_before IS NOT NULL OR (NOT w.is_requested AND w.due > w.now_and_slack)"
				   "   THEN GREATEST(w.not_before, CASE WHEN NOT w.is_requested THEN w.due END, w.now_and_slack + interval '1 second') END) u (until)"
				   " WHERE t.integration_id = $2 AND u.until IS NOT NULL", lengthof(args), args);
	return SPI_processed > 0;
}

static void
claim(int64 integration)
{
	QueryArg	arg = query_int64(integration);

	query_run_kept("UPDATE smartspace.cobot_sync_task t SET claimed_at = pg_catalog.clock_timestamp(), attempts = t.attempts + 1,"
				   " due_at = pg_catalog.clock_timestamp() + LEAST(i.sync_interval,"
				   "  interval '1 minute' * pg_catalog.power(2, LEAST(t.attempts, 10)))"
				   " FROM smartspace.cobot_integration i WHERE i.id = t.integration_id AND t.integration_id = $1", 1, &arg);
}

/* Whose rate limits count, in the current context. */
static char *
rate_user(const char *connected_by, const char *subdomain)
{
	return pstrdup(connected_by ? connected_by : subdomain);
}

/* Cobot counts on when a worker leaves and another one comes: what runs of the last minute have asked for. */
static void
note_requests(void)
{
	static const CobotEndpoint endpoints[] = {
		ENDPOINT_MEMBERSHIPS, ENDPOINT_PLANS, ENDPOINT_SPACE, ENDPOINT_FIELD_DEFINITIONS, ENDPOINT_CUSTOM_FIELDS
	};

	query_run("SELECT i.connected_by, i.subdomain, (EXTRACT(epoch FROM pg_catalog.clock_timestamp() - r.started_at) * 1000)::bigint"
			  " FROM smartspace.cobot_sync_run r JOIN smartspace.cobot_integration i ON i.id = r.integration_id"
			  " WHERE r.id > (SELECT pg_catalog.max(m.id) FROM smartspace.cobot_sync_run m) - 1000"
			  " AND r.started_at > pg_catalog.clock_timestamp() - interval '1 minute' AND r.requests > 0 AND r.kind IN ('sync', 'release')"
			  " ORDER BY r.started_at", 0, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char	   *user = rate_user(query_result_text(i, 1), query_result_text(i, 2));

		for (int j = 0; j < (int) lengthof(endpoints); j++)
			cobot_note_request(user, endpoints[j], (double) query_result_int64(i, 3));
	}
}

void
sync_job_recover(void)
{
	note_requests();
	query_run("UPDATE smartspace.cobot_sync_task SET due_at = pg_catalog.now() WHERE attempts = 1 AND due_at > pg_catalog.now()", 0, NULL);
}

/* ---- what has not changed since last time ---- */

/*
 * The entity tags of the answers that the mirror is made of: kept by the last run, if it
 * was good, held nothing, and was asked with the same switches.
 */
static void
load_etags(SyncQuestions *questions, const Integration *integration)
{
	QueryArg	args[] = {query_int64(integration->id), query_bool(integration->sync_individual_access)};
	uint64		count;

	count = query_run_kept("SELECT e.kind, e.etag FROM smartspace.cobot_sync_task t,"
						   " pg_catalog.unnest(t.etags) WITH ORDINALITY e (etag, kind) WHERE t.integration_id = $1"
						   " AND t.etags_individual = $2 AND t.etags_run = (SELECT pg_catalog.max(r.id) FROM smartspace.cobot_sync_run r"
						   "  WHERE r.integration_id = $1) AND NOT EXISTS (SELECT FROM smartspace.cobot_sync_change c"
						   "  WHERE c.integration_id = $1 AND c.verdict IN ('held', 'released'))", lengthof(args), args);
	for (uint64 i = 0; i < count; i++)
	{
		int64		kind = query_result_int64(i, 1) - 1;

		if (kind < SYNC_SNAPSHOT_QUESTIONS)
			questions->etag[kind] = MemoryContextStrdup(questions->context, query_result_text(i, 2));
	}
}

/* The tags of this run's answers, as text[]; an SQL null if there are not all. */
static QueryArg
etags_of(const SyncRun *run)
{
	Datum		etags[SYNC_SNAPSHOT_QUESTIONS];
	int			count = run->integration.sync_individual_access ? SYNC_SNAPSHOT_QUESTIONS : SYNC_ASK_SPACE + 1;
	bool		good = strcmp(run->result, "ok") == 0 || strcmp(run->result, "ok_with_problems") == 0;

	for (int i = 0; i < count && good; i++)
	{
		const CobotCall *call = sync_ask((SyncRun *) run, i, NULL);
		const char *etag = call->outcome == COBOT_OK ? call->request->etag : run->questions->etag[i];

		good = etag && etag[0] != '\0';
		if (good)
			etags[i] = CStringGetTextDatum(etag);
	}
	return good ? query_value(TEXTARRAYOID, query_text_array(etags, count)) : (QueryArg) {.type = TEXTARRAYOID, .isnull = true};
}

/* ---- its steps ---- */

/* The integration as it is now; false if it is not there, or cannot be asked, or is another space's meanwhile. */
static bool
load(const Job *job, Integration *integration)
{
	const CobotClient *client = &((SyncJob *) job->data)->questions.client;
	QueryArg	arg = query_int64(job->integration);
	bool		usable;

	if (query_run_kept("SELECT FROM smartspace.cobot_integration i WHERE i.id = $1", 1, &arg) == 0)
		return false;
	integration_load(integration, job->integration, false);
	usable = integration_can_ask(integration) &&
		(client->subdomain == NULL ||
		 (strcmp(client->subdomain, integration->subdomain) == 0 && strcmp(client->token, integration->token.value) == 0));
	if (!usable)
		integration_wipe(integration);
	return usable;
}

static SyncRun
new_run(const SyncJob *own, const Integration *integration)
{
	SyncRun		run = {
		.kind = SYNC_WHOLE, .source = &sync_from_cobot, .run_by = "worker",
		.integration = *integration, .started_at = own->started_at,
		.fetch_ms = own->fetch_ms, .apply_ms = own->apply_ms
	};

	return run;
}

/* The run has come to its end: when is the next one? */
static void
settle_task(const Job *job, const SyncJob *own, const SyncRun *run)
{
	QueryArg	args[] = {
		query_int64(job->integration), query_value(TIMESTAMPTZOID, TimestampTzGetDatum(own->started_at)),
		etags_of(run), query_int64(run->id), query_bool(run->integration.sync_individual_access)
	};

	query_run_kept("UPDATE smartspace.cobot_sync_task t SET attempts = 0, last_error = NULL,"
				   " etags = $3, etags_run = $4, etags_individual = $5,"
				   " requested_at = CASE WHEN t.requested_at > $2 THEN t.requested_at END,"
				   " due_at = CASE WHEN t.requested_at > $2 THEN pg_catalog.clock_timestamp() ELSE"
				   "  (SELECT r.next_at FROM smartspace.cobot_sync_run r WHERE r.integration_id = $1 AND r.next_at IS NOT NULL"
				   "   ORDER BY r.id DESC LIMIT 1) END"
				   " WHERE t.integration_id = $1", lengthof(args), args);
}

/* One attempt at the run, with what is known so far. */
static void
try_run(Job *job, SyncJob *own, const Integration *integration)
{
	SyncRun		run = new_run(own, integration);
	Datum		row;

	if (own->member.cobot_id)
		sync_member_describe(&run, own->member.cobot_id);
	run.questions = &own->questions;
	progress_enter(own->progress, PROGRESS_APPLYING);

	bool		done = sync_try_run(&run, NULL, &row);

	own->apply_ms = run.apply_ms;
	own->members = run.members_seen;
	if (done)
	{
		if (own->member.cobot_id)
			webhook_settle_member(job->integration, &own->member, own->started_at);
		else
			settle_task(job, own, &run);
		webhook_tidy(job->integration);
		return;
	}
	if (own->rounds++ >= ROUND_LIMIT)
		elog(ERROR, "a run still has questions after %d rounds", ROUND_LIMIT);
	job->calls = sync_questions_take(&own->questions, &job->call_count);
	progress_enter(own->progress, own->rounds > 1 ? PROGRESS_VERIFYING : PROGRESS_ASKING);
}

static void
open_client(Job *job, SyncJob *own, const Integration *integration)
{
	CobotClient *client = &own->questions.client;

	integration_open_client(integration, client, job->context);
	client->user = MemoryContextStrdup(job->context, rate_user(integration->connected_by, integration->subdomain));
	client->urgent = own->is_hint;
}

static double
ms_since(instr_time start)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	return INSTR_TIME_GET_MILLISEC(now);
}

static void
step(Job *job)
{
	SyncJob    *own = job->data;
	Integration integration;

	if (own->rounds > 0)
		own->fetch_ms += ms_since(own->asked_at);
	if (!job_begin())
		return;
	if (!load(job, &integration))
	{
		/* another token is to be tried soon; for what cannot be asked, take() finds out what to wait for */
		if (!own->is_hint)
			put_off(job->integration, "pg_catalog.clock_timestamp()");
		job_commit();
		return;
	}
	if (own->rounds == 0)
	{
		open_client(job, own, &integration);
		if (own->member.cobot_id == NULL)
			load_etags(&own->questions, &integration);
	}
	integration_wipe(&integration);
	try_run(job, own, &integration);
	job_commit();
	progress_count(own->progress, own->questions.client.requests + job->call_count, own->members);
	INSTR_TIME_SET_CURRENT(own->asked_at);
}

/* The error, so that people see it where they look for what went wrong. */
static void
failed(Job *job, const char *error)
{
	SyncJob    *own = job->data;
	QueryArg	args[] = {query_int64(job->integration), query_text(error)};
	Integration integration;

	if (own->member.cobot_id)
		webhook_note_failed(job->integration, &own->member, own->started_at);
	else
		query_run("UPDATE smartspace.cobot_sync_task SET last_error = $2 WHERE integration_id = $1", lengthof(args), args);
	if (!load(job, &integration))
		return;
	integration_wipe(&integration);

	SyncRun		run = new_run(own, &integration);

	run.questions = own->rounds > 0 ? &own->questions : NULL;
	sync_record_error(&run, error);
}

static void
ended(Job *job)
{
	SyncJob    *own = job->data;

	progress_end(own->progress);
	lock_release(&own->lock);
}

/* ---- the jobs ---- */

static Job *
create(int64 integration, const LOCKTAG *lock)
{
	Job		   *job = job_create("synchronisation", integration);
	MemoryContext old = MemoryContextSwitchTo(job->context);
	SyncJob    *own = palloc0(sizeof(SyncJob));

	sync_questions_init(&own->questions, job->context);
	own->lock = *lock;
	own->started_at = GetCurrentTimestamp();
	own->progress = progress_begin(integration, NULL);
	job->data = own;
	job->step = step;
	job->failed = failed;
	job->ended = ended;
	MemoryContextSwitchTo(old);
	return job;
}

/* True if the integration can be asked; what else there is to its task is written down. */
static bool
take(int64 integration, LOCKTAG *lock)
{
	Integration loaded;
	bool		can_ask;

	integration_load(&loaded, integration, false);
	can_ask = integration_can_ask(&loaded);
	integration_wipe(&loaded);
	if (!can_ask)
		/* where smartspace_cobot.environment or the key file decides, nothing tells that it changed */
		put_off(integration, !integration_has_token(&loaded) ? "'infinity'"
				: !home_is_here(&loaded.home) ? "pg_catalog.now() + interval '1 hour'"
				: secret_reason(loaded.token.state) ? "pg_catalog.now() + interval '1 minute'" : "'infinity'");
	else if (!must_wait(integration))
	{
		if (lock_try_run_job(integration, lock))
			return true;
		put_off(integration, "pg_catalog.clock_timestamp() + interval '" LOCKED_AGAIN_S " s'");
	}
	return false;
}

Job *
sync_job_next(void)
{
	Job		   *job = NULL;
	int64		integration;
	LOCKTAG		lock;

	if (!job_begin())
		return NULL;
	while (job == NULL && find_due(&integration))
	{
		if (!take(integration, &lock))
			continue;
		job = create(integration, &lock);
		claim(integration);
	}
	job_commit();
	return job;
}

TimestampTz
sync_job_due(void)
{
	query_run_kept("SELECT pg_catalog.min(t.due_at) FROM smartspace.cobot_sync_task t", 0, NULL);
	return query_result_is_null(0, 1) ? DT_NOEND : query_result_int64(0, 1);
}

Job *
hint_job_next(void)
{
	Job		   *job = NULL;
	PendingMember member;
	int64		integration;
	LOCKTAG		lock;

	if (!job_begin())
		return NULL;
	if (webhook_next_due(&integration, &member, &lock))
	{
		job = create(integration, &lock);

		SyncJob    *own = job->data;
		MemoryContext old = MemoryContextSwitchTo(job->context);

		own->is_hint = true;
		own->member = (PendingMember) {
			.cobot_id = member.cobot_id ? pstrdup(member.cobot_id) : NULL, .ids = datumCopy(member.ids, false, -1)
		};
		MemoryContextSwitchTo(old);
	}
	job_commit();
	return job;
}

TimestampTz
hint_job_due(void)
{
	return webhook_due();
}
