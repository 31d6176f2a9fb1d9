/*
 * start.h
 *	  How the world begins: from a state file or from the generator.
 */
#ifndef COBOT_TEST_START_H
#define COBOT_TEST_START_H

#include "generate.h"

typedef struct StartOptions
{
	const char *state_file;		/* NULL: generate */
	GenerateOptions generate;
	bool		rate_limit;
} StartOptions;

/* The strings must live on. */
extern void start_set_options(const StartOptions *options);

/* False, with a message on stderr, if the state file is no good. */
extern bool start_check(void);

/* Throws away what there is and builds the initial state. Wants the world's lock. */
extern void start_world(void);

/* At the end: frees what start_check() read. */
extern void start_forget(void);

/* A user from a partial record, which is taken over. */
extern User *start_add_user(cJSON *record);

/* Who logs in when an app asks for consent: whom the settings name, or the default user. */
extern User *start_login_user(void);

/*
 * A token from {"token", "user", "kind", "space", "scopes"}, all optional. The
 * result is the complete form, which the caller owns; NULL if the space does not
 * exist.
 */
extern cJSON *start_add_token(const cJSON *wanted);

#endif
