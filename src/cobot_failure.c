/*
 * cobot_failure.c
 *	  What the outcomes of calls to Cobot mean in words, SQLSTATEs and reasons.
 *	  Runs in any backend or background worker; waits for nothing.
 *
 * Neither URLs nor tokens nor bodies reach these texts, beyond the one character
 * that a JSON error may quote.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "cobot_client.h"

#define REQUEST_ID_LIMIT 40		/* shorter than Cobot's tokens, longer than a UUID */

/* What an outcome means to people and programs. */
typedef struct OutcomeWords
{
	const char *label;			/* for the server's debug log */
	const char *reason;			/* of the closed vocabulary of reasons */
	int			sqlstate;
	const char *words;			/* completes "could not read ...: " */
	const char *hint;			/* what to do next */
} OutcomeWords;

/*
 * SQLSTATEs: class 08 for what may pass by itself (the connection) and for
 * answers that are not what the protocol promises (08P01); else the class that a
 * client would look for if the server itself had refused.
 */
static const OutcomeWords outcome_words[] = {
	[COBOT_OK] = {
		"ok", "", ERRCODE_SUCCESSFUL_COMPLETION,
		"nothing is wrong", "There is nothing to do."
	},
	[COBOT_UNAUTHORIZED] = {
		"unauthorized", "auth_revoked", ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
		"Cobot does not accept the token",
		"Connect the integration again with a new token: tokens cannot be renewed."
	},
	[COBOT_SUSPENDED] = {
		"suspended", "account_suspended", ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
		"the space's account at Cobot is suspended",
		"The operator of the space has to settle this with Cobot; then try again."
	},
	[COBOT_FORBIDDEN] = {
		"forbidden", "admin_rights_lost", ERRCODE_INSUFFICIENT_PRIVILEGE,
		"the token is not allowed to do this",
		"Check in Cobot that the user behind the token is still an admin of the space with all permissions, and that the token has the scopes that the README lists."
	},
	[COBOT_NOT_FOUND] = {
		"not_found", "bad_answer", ERRCODE_UNDEFINED_OBJECT,
		"Cobot does not know it",
		"Check the subdomain; otherwise it was deleted in Cobot."
	},
	[COBOT_REJECTED] = {
		"rejected", "bad_answer", ERRCODE_INVALID_PARAMETER_VALUE,
		"Cobot rejected the request",
		"Report this with the request id: the request does not fit what Cobot expects."
	},
	[COBOT_RATE_LIMITED] = {
		"rate_limited", "rate_limited", ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
		"Cobot's rate limit is reached",
		"Wait for as long as Cobot asks, and look for other programs that use the same token."
	},
	[COBOT_SERVER_ERROR] = {
		"server_error", "unreachable", ERRCODE_CONNECTION_FAILURE,
		"Cobot has a server error",
		"Try again later. Known problems of Cobot are listed at cobotstatus.me."
	},
	[COBOT_REDIRECTED] = {
		"redirected", "bad_answer", ERRCODE_PROTOCOL_VIOLATION,
		"Cobot redirects to another address",
		"Check the subdomain: the space may have been renamed. Redirects are never followed, as the token would go along."
	},
	[COBOT_NOT_MODIFIED] = {
		"not_modified", "", ERRCODE_SUCCESSFUL_COMPLETION,
		"it has not changed", "There is nothing to do."
	},
	[COBOT_NOT_JSON] = {
		"not_json", "bad_answer", ERRCODE_PROTOCOL_VIOLATION,
		"the answer is not valid JSON",
		"Try again later. If it stays, something between this server and Cobot changes the answers, or Cobot has a defect."
	},
	[COBOT_WRONG_SHAPE] = {
		"wrong_shape", "bad_answer", ERRCODE_PROTOCOL_VIOLATION,
		"the answer is JSON of an unexpected kind",
		"Check the subdomain. If it stays, Cobot has changed its API."
	},
	[COBOT_TOO_LARGE] = {
		"too_large", "bad_answer", ERRCODE_PROGRAM_LIMIT_EXCEEDED,
		"the answer is too large",
		"Raise smartspace_cobot.response_limit if the space really is this large."
	},
	[COBOT_BROKEN_ANSWER] = {
		"broken_answer", "bad_answer", ERRCODE_PROTOCOL_VIOLATION,
		"the answer broke off or is garbled",
		"Try again later."
	},
	[COBOT_TIMED_OUT] = {
		"timed_out", "unreachable", ERRCODE_CONNECTION_FAILURE,
		"Cobot did not answer in time",
		"Try again later, or raise smartspace_cobot.request_timeout."
	},
	[COBOT_DNS_FAILURE] = {
		"dns_failure", "unreachable", ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
		"the host name cannot be resolved",
		"Check the name servers that the database server uses."
	},
	[COBOT_TLS_FAILURE] = {
		"tls_failure", "unreachable", ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
		"no trusted TLS connection could be made",
		"Check the database server's certificate bundle (package ca-certificates, or smartspace_cobot.ca_file) and its clock."
	},
	[COBOT_UNREACHABLE] = {
		"unreachable", "unreachable", ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
		"Cobot cannot be reached",
		"Check that the database server may open HTTPS connections to cobot.me."
	},
	[COBOT_LOCAL_FAILURE] = {
		"local_failure", "unreachable", ERRCODE_SYSTEM_ERROR,
		"the request failed on this server",
		"Check this server's memory, open files and smartspace_cobot.ca_file."
	},
};

StaticAssertDecl(lengthof(outcome_words) == COBOT_OUTCOME_COUNT,
				 "every outcome needs its words");

char *
cobot_failure_message(const CobotCall *call)
{
	const char *method = call->request->method;
	const char *verb = strcmp(method, "GET") == 0 ? "read" :
		strcmp(method, "POST") == 0 ? "create" :
		strcmp(method, "PUT") == 0 ? "write" : "delete";

	return psprintf("could not %s %s: %s", verb, call->subject, outcome_words[call->outcome].words);
}

/*
 * Facts: a request id is a UUID. A header that is longer, or has the token in it
 * (a gateway that repeats what it was sent), is not shown.
 */
static bool
is_showable_request_id(const char *text, const char *token)
{
	return text[0] != '\0' && strlen(text) <= REQUEST_ID_LIMIT &&
		(token == NULL || strstr(text, token) == NULL);
}

char *
cobot_failure_detail(const CobotCall *call)
{
	const HttpRequest *request = call->request;
	StringInfoData detail;

	initStringInfo(&detail);
	if (request->status > 0)
		appendStringInfo(&detail, "HTTP status %ld", request->status);
	else
		appendStringInfoString(&detail, "No answer");
	appendStringInfo(&detail, " after %d %s", call->attempts,
					 call->attempts == 1 ? "attempt" : "attempts");
	if (is_showable_request_id(request->request_id, call->client->token))
		appendStringInfo(&detail, "; request id %s", request->request_id);
	appendStringInfoChar(&detail, '.');

	if (call->outcome == COBOT_NOT_JSON || call->outcome == COBOT_WRONG_SHAPE)
		appendStringInfo(&detail, " The answer %s.", call->json_error.message);
	if (call->retry_after_s >= 0)
		appendStringInfo(&detail, " Cobot asks to wait for %d seconds.", call->retry_after_s);
	if (request->failure != HTTP_NO_FAILURE && request->error[0] != '\0')
		appendStringInfo(&detail, " libcurl says: %s.", request->error);
	return detail.data;
}

bool
cobot_token_is_gone(const CobotCall *call)
{
	return call->outcome == COBOT_OK || call->outcome == COBOT_UNAUTHORIZED || call->outcome == COBOT_NOT_FOUND;
}

const char *
cobot_outcome_label(CobotOutcome outcome)
{
	return outcome_words[outcome].label;
}

const char *
cobot_failure_hint(const CobotCall *call)
{
	return outcome_words[call->outcome].hint;
}

const char *
cobot_failure_reason(CobotOutcome outcome)
{
	return outcome_words[outcome].reason;
}

int
cobot_failure_sqlstate(CobotOutcome outcome)
{
	return outcome_words[outcome].sqlstate;
}

void
cobot_raise_call(const CobotCall *call)
{
	ereport(ERROR,
			(errcode(cobot_failure_sqlstate(call->outcome)),
			 errmsg("%s", cobot_failure_message(call)),
			 errdetail("%s", cobot_failure_detail(call)),
			 errhint("%s", cobot_failure_hint(call))));
}

void
cobot_raise_answer(const CobotCall *call, const JsonError *error)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("could not use %s: Cobot's answer is not as expected", call->subject),
			 errdetail("%s %s", error->path, error->message)));
}
