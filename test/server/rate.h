/*
 * rate.h
 *	  Cobot's rate limits: so many calls per minute, endpoint and user, counted in
 *	  fixed minutes. Wants the world's lock.
 */
#ifndef COBOT_TEST_RATE_H
#define COBOT_TEST_RATE_H

/* 0 if the call may go on, else the seconds to wait. user NULL: calls without a token. */
extern int	rate_check(const char *user, const char *endpoint, int per_minute);
extern void rate_clear(void);

#endif
