/*
 * sync_question.c
 *	  What a run asks Cobot. A run never waits: it asks for an answer, and if there is
 *	  none yet, the question is noted down and the run is broken off, before it has
 *	  written anything. Whoever drives it has the questions answered, and begins
 *	  the run anew, until it has all that it wants to know. That is how the same run
 *	  works in a transaction of somebody who waits, and in the worker, which waits for
 *	  many integrations at once and must not have a transaction open meanwhile.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "utils/memutils.h"

#include "sync.h"

#define FIRST_LIMIT 8

typedef CobotCall *(*AskSpace) (CobotClient *client);
typedef CobotCall *(*AskMember) (CobotClient *client, const char *cobot_id);

/* Either of the two. */
static const struct
{
	AskSpace	of_space;
	AskMember	of_member;
}			question[] = {
	[SYNC_ASK_SPACE] = {.of_space = cobot_ask_space},
	[SYNC_ASK_PLANS] = {.of_space = cobot_ask_plans},
	[SYNC_ASK_MEMBERSHIPS] = {.of_space = cobot_ask_memberships},
	[SYNC_ASK_MEMBER_EMAILS] = {.of_space = cobot_ask_member_emails},
	[SYNC_ASK_FIELD_DEFINITIONS] = {.of_space = cobot_ask_field_definitions},
	[SYNC_ASK_CUSTOM_FIELDS] = {.of_space = cobot_ask_custom_fields},
	[SYNC_ASK_MEMBERSHIP] = {.of_member = cobot_ask_membership},
	[SYNC_ASK_MEMBER_FIELDS] = {.of_member = cobot_ask_member_fields}
};

void
sync_questions_init(SyncQuestions *questions, MemoryContext context)
{
	*questions = (SyncQuestions) {.context = context, .limit = FIRST_LIMIT, .seed = (int64) pg_prng_uint64(&pg_global_prng_state)};
	questions->kind = MemoryContextAlloc(context, sizeof(SyncQuestionKind) * FIRST_LIMIT);
	questions->cobot_id = MemoryContextAlloc(context, sizeof(char *) * FIRST_LIMIT);
	questions->call = MemoryContextAlloc(context, sizeof(CobotCall *) * FIRST_LIMIT);
}

/* A few dozen at most, so they are looked through one by one. */
static int
find(const SyncQuestions *questions, SyncQuestionKind kind, const char *cobot_id)
{
	for (int i = 0; i < questions->count; i++)
		if (questions->kind[i] == kind &&
			(cobot_id == NULL || strcmp(questions->cobot_id[i], cobot_id) == 0))
			return i;
	return -1;
}

static void
append(SyncQuestions *questions, SyncQuestionKind kind, const char *cobot_id)
{
	int			i = questions->count;

	if (i == questions->limit)
	{
		questions->limit *= 2;
		questions->kind = repalloc(questions->kind, sizeof(SyncQuestionKind) * questions->limit);
		questions->cobot_id = repalloc(questions->cobot_id, sizeof(char *) * questions->limit);
		questions->call = repalloc(questions->call, sizeof(CobotCall *) * questions->limit);
	}
	questions->kind[i] = kind;
	questions->cobot_id[i] = cobot_id ? MemoryContextStrdup(questions->context, cobot_id) : NULL;
	questions->call[i] = cobot_id ? question[kind].of_member(&questions->client, cobot_id) :
		question[kind].of_space(&questions->client);
	if (kind < SYNC_SNAPSHOT_QUESTIONS)
		questions->call[i]->request->if_none_match = questions->etag[kind];
	questions->count++;
}

CobotCall *
sync_ask(SyncRun *run, SyncQuestionKind kind, const char *cobot_id)
{
	SyncQuestions *questions = run->questions;
	int			i = find(questions, kind, cobot_id);

	if (i < 0)
		append(questions, kind, cobot_id);
	return i >= 0 && i < questions->answered ? questions->call[i] : NULL;
}

void
sync_ask_whole(SyncRun *run, SyncQuestionKind kind)
{
	SyncQuestions *questions = run->questions;
	int			i = find(questions, kind, NULL);

	/* the place of the old question is given to none */
	questions->kind[i] = SYNC_ASK_NOTHING;
	questions->etag[kind] = NULL;
	append(questions, kind, NULL);
}

int64
sync_seed(const SyncRun *run)
{
	return run->questions ? run->questions->seed : 0;
}

bool
sync_questions_open(const SyncQuestions *questions)
{
	return questions->answered < questions->count;
}

CobotCall **
sync_questions_take(SyncQuestions *questions, int *count)
{
	CobotCall **calls = questions->call + questions->answered;

	*count = questions->count - questions->answered;
	questions->answered = questions->count;
	return calls;
}
