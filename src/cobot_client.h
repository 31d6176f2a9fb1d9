/*
 * cobot_client.h
 *	  Cobot's HTTP API (version 1): which URL, which token, which method, and
 *	  what an answer means. Knows nothing of SQL.
 *
 * A CobotCall is one question to Cobot. Make it with one of the cobot_ask_*
 * functions, run one or many with cobot_perform(), then look at its outcome. On
 * COBOT_OK the body is in call->request->response: complete, HTTP 2xx, JSON by
 * json_check(), and of the expected top-level shape. Everything lives in the client's memory
 * context (see http.h for why to delete that context early).
 *
 * Bearer tokens go only to https://www.cobot.me and https://SUBDOMAIN.cobot.me
 * with a subdomain that passed cobot_check_subdomain(). Two of the URLs contain the token
 * (facts: /api/access_tokens/:token); no URL ever reaches a message.
 */
#ifndef SMARTSPACE_COBOT_CLIENT_H
#define SMARTSPACE_COBOT_CLIENT_H

#include "cobot_rate.h"
#include "cobot_record.h"
#include "cobot_url.h"
#include "http.h"

/* The closed set of ways a call can end. One table in cobot_failure.c maps each to its words. */
typedef enum CobotOutcome
{
	COBOT_OK,
	COBOT_UNAUTHORIZED,			/* 401 */
	COBOT_SUSPENDED,			/* 402 */
	COBOT_FORBIDDEN,			/* 403 */
	COBOT_NOT_FOUND,			/* 404 */
	COBOT_REJECTED,				/* 422, and other 4xx that blame the request */
	COBOT_RATE_LIMITED,			/* 429 */
	COBOT_SERVER_ERROR,			/* 5xx */
	COBOT_REDIRECTED,			/* 3xx, never followed */
	COBOT_NOT_MODIFIED,			/* 304 to request->if_none_match: what the caller has is still right */
	COBOT_NOT_JSON,				/* HTML, garbage, truncated, invalid UTF-8, NUL, too deep */
	COBOT_WRONG_SHAPE,			/* JSON, but not the array or object it should be */
	COBOT_TOO_LARGE,
	COBOT_BROKEN_ANSWER,
	COBOT_TIMED_OUT,
	COBOT_DNS_FAILURE,
	COBOT_TLS_FAILURE,
	COBOT_UNREACHABLE,			/* refused or closed before any answer */
	COBOT_LOCAL_FAILURE			/* not Cobot's fault: CA file, memory, descriptors */
} CobotOutcome;

#define COBOT_OUTCOME_COUNT (COBOT_LOCAL_FAILURE + 1)

typedef struct CobotClient
{
	MemoryContext context;		/* where calls and answers live */
	const char *subdomain;		/* checked; NULL: nothing can be asked of a space */
	const char *token;			/* user or space token; NULL before there is one */
	const char *user;			/* whose rate limits count; NULL: requests are not held back */
	bool		urgent;			/* somebody stands at the door: before all others */
	int			requests;		/* attempts so far, retries included */
	uint64		bytes;			/* received so far, on the wire, by attempts that ended */
} CobotClient;

typedef struct CobotCall
{
	const char *subject;		/* for messages: "the members of \"demo-space\"" */
	CobotClient *client;
	HttpRequest *request;		/* of the last attempt */
	CobotEndpoint endpoint;
	bool		expect_array;	/* else an object */
	const char *id_key;			/* of an array: where its elements have their id */
	bool		expect_empty;	/* an answer without body is fine (DELETE) */
	bool		is_read;		/* may be retried */
	int			attempts;
	double		due_ms;			/* when the next attempt shall start, by the process's own clock; 0: it has */
	bool		settled;		/* outcome is known */
	CobotOutcome outcome;
	int			retry_after_s;	/* from a 429 or 503; -1 if Cobot gave none */
	JsonError	json_error;		/* COBOT_NOT_JSON, COBOT_WRONG_SHAPE */
	JsonArray	elements;		/* COBOT_OK with an array: its elements, freed with the client's context */
} CobotCall;

/*
 * Fills a client. subdomain must have passed cobot_check_subdomain(), or be NULL for
 * questions about a token, its user, and an authorisation alone; it and the token are
 * copied into the context.
 */
extern void cobot_client_init(CobotClient *client, MemoryContext context,
							  const char *subdomain, const char *token);

/* Questions. Ids may be any text: they are percent-encoded. */
/* GET www /api/spaces/:subdomain; anybody may ask, but without a token all would share one rate limit */
extern CobotCall *cobot_ask_space(CobotClient *client);
extern CobotCall *cobot_ask_user(CobotClient *client);	/* GET www /api/user */
extern CobotCall *cobot_ask_token_scopes(CobotClient *client);	/* GET www /api/access_tokens/:token */
extern CobotCall *cobot_ask_space_token(CobotClient *client, const char *space_id); /* POST, never retried */
extern CobotCall *cobot_delete_token(CobotClient *client);	/* DELETE www /api/access_tokens/:token, revokes it */
extern CobotCall *cobot_post_access_token(CobotClient *client, const char *form);	/* POST www /oauth/access_token, for oauth.c */
extern CobotCall *cobot_ask_plans(CobotClient *client);
extern CobotCall *cobot_ask_memberships(CobotClient *client);
extern CobotCall *cobot_ask_member_emails(CobotClient *client); /* all members, id and email alone */
extern CobotCall *cobot_ask_membership(CobotClient *client, const char *cobot_id);
extern CobotCall *cobot_ask_member_fields(CobotClient *client, const char *cobot_id);	/* values, one member */
extern CobotCall *cobot_ask_custom_fields(CobotClient *client); /* values, all members */
extern CobotCall *cobot_ask_field_definitions(CobotClient *client);

/*
 * PUT of a space's custom field definitions: those of current, element by
 * element as they are, and after them one more with this label. Never retried.
 */
extern CobotCall *cobot_put_field_definitions(CobotClient *client, const cJSON *current, const char *label);

/*
 * Webhook subscriptions: those of the token's user and app; a new one, never
 * retried, whose callback_url may hold a secret; the end of one.
 */
extern CobotCall *cobot_ask_subscriptions(CobotClient *client);
extern CobotCall *cobot_post_subscription(CobotClient *client, const char *event, const char *callback_url);
extern CobotCall *cobot_delete_subscription(CobotClient *client, const char *cobot_id);

/* Links in the space's navigation: those of the token's app; a new one, never retried; the end of one. */
extern CobotCall *cobot_ask_navigation_links(CobotClient *client);
extern CobotCall *cobot_post_navigation_link(CobotClient *client, const char *section, const char *label, const char *iframe_url);
extern CobotCall *cobot_delete_navigation_link(CobotClient *client, const char *cobot_id);

/*
 * Check-ins: today's of the whole space; those that began in a range of time; a new one
 * for a member, never retried, whose answer may be empty. It can cost the member a pass.
 */
extern CobotCall *cobot_ask_check_ins(CobotClient *client);
extern CobotCall *cobot_ask_work_sessions(CobotClient *client, const char *from, const char *to);
extern CobotCall *cobot_post_work_session(CobotClient *client, const char *cobot_id);

/* An attempt at a question, in a memory context of its own. For cobot_client.c and cobot_question.c alone. */
extern HttpRequest *cobot_new_request(CobotClient *client, const char *method, const char *url);

/*
 * Sends a call, or plans it for when the rate limits of the client's user allow it; a
 * write that they do not allow ends at once in COBOT_RATE_LIMITED, with nothing sent.
 * Reads that end in 5xx, a refused or broken connection, or DNS failure are tried
 * again up to smartspace_cobot.max_retries times with exponential back-off and
 * jitter; 429 is tried again only if its Retry-After is at most
 * smartspace_cobot.retry_wait_limit. Writes are sent once.
 *
 * Whoever starts calls waits with http_wait(cobot_wait_ms()) and brings them forward
 * with cobot_advance() until all have settled. cobot_perform() does this for some
 * calls, cobot_abandon() ends some early.
 */
extern void cobot_start(CobotCall *call);

/* Brings a call that was started forward; true once nothing more will come. Never waits. */
extern bool cobot_advance(CobotCall *call);

/* How long http_wait() may sleep before one of the calls wants cobot_advance(); -1: until an answer comes. */
extern long cobot_wait_ms(CobotCall *const *calls, int count);

/* A request that somebody else sent so long ago, for the rate limits. Older ones first. */
extern void cobot_note_request(const char *user, CobotEndpoint endpoint, double age_ms);

/* Starts the calls and waits for all of them. Interruptible. The second calls a function now and then meanwhile. */
extern void cobot_perform(CobotCall **calls, int count);
extern void cobot_perform_and(CobotCall **calls, int count, void (*meanwhile) (void *), void *arg);

/* Takes calls off the wire; harmless for those that have settled or were never started. */
extern void cobot_abandon(CobotCall **calls, int count);

/*
 * The answer of a call that ended in COBOT_OK as a tree, which belongs to the
 * client's context. For small answers; lists of records are read through
 * call->elements. NULL with an error if there is no memory for it.
 */
extern const cJSON *cobot_answer(CobotCall *call, JsonError *error);

/* First call, in order, that did not end in COBOT_OK; NULL if all did. */
extern CobotCall *cobot_first_failure(CobotCall **calls, int count);

/* Of cobot_delete_token(): the token works no more, whoever ended it. */
extern bool cobot_token_is_gone(const CobotCall *call);

/* One word for logs: "not_json". */
extern const char *cobot_outcome_label(CobotOutcome outcome);

/* Words for a failed call, palloc'd in the current context. Never a URL or a token. */
extern char *cobot_failure_message(const CobotCall *call);	/* "could not read the members of \"x\": Cobot does not accept the token" */
extern char *cobot_failure_detail(const CobotCall *call);	/* "HTTP status 401 after 1 attempt; request id ..." */
extern const char *cobot_failure_hint(const CobotCall *call);	/* what to do next */

/* Of the closed vocabulary: "auth_revoked", "admin_rights_lost", "account_suspended", "rate_limited", "unreachable", "bad_answer". */
extern const char *cobot_failure_reason(CobotOutcome outcome);

/* Raises what went wrong: a call that did not end in COBOT_OK; an answer that was read in vain. */
extern void cobot_raise_call(const CobotCall *call) pg_attribute_noreturn();
extern void cobot_raise_answer(const CobotCall *call, const JsonError *error) pg_attribute_noreturn();

/* SQLSTATE for functions that raise: 28000, 42501, 08006, 08P01 ... (ERRCODE_ value). */
extern int	cobot_failure_sqlstate(CobotOutcome outcome);

#endif
