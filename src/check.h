/*
 * check.h
 *	  Whether the token of an integration still may do what it has to: scopes that were
 *	  taken away, an admin's rights that shrank, a token that was revoked.
 */
#ifndef SMARTSPACE_CHECK_H
#define SMARTSPACE_CHECK_H

#include "cobot_client.h"
#include "datatype/timestamp.h"
#include "job.h"

/*
 * The scopes of an answer to cobot_ask_token_scopes(), as text[]. The call ended in
 * COBOT_OK. False with an error if they cannot be read.
 */
extern bool check_read_scopes(CobotCall *call, Datum *scopes, JsonError *error);

/* The next check is due soon: there is a retired token to revoke. In a transaction. */
extern void check_soon(int64 id);

/*
 * The worker's: one integration whose daily check is due, in transactions of its own
 * (NULL: none), and when the next one is due (DT_NOEND: never; in a transaction).
 */
extern Job *check_job_next(void);
extern TimestampTz check_job_due(void);

#endif
