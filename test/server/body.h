/*
 * body.h
 *	  Bytes of an answer, counted by reference so that a cached list can be sent
 *	  by many connections at once. Needs no lock.
 */
#ifndef COBOT_TEST_BODY_H
#define COBOT_TEST_BODY_H

#include <stddef.h>
#include <stdint.h>

typedef struct Body Body;

/* Takes over the bytes, which were got with malloc. The caller holds one reference. */
extern Body *body_create(char *bytes, size_t length);
extern Body *body_hold(Body *body);
extern void body_release(Body *body);	/* NULL is fine */

extern const char *body_bytes(const Body *body);
extern size_t body_length(const Body *body);

/* The body compressed, made once and kept with the body; no reference is added. */
extern const Body *body_gzip(Body *body);

/* A hash of the bytes, made once and kept with the body. */
extern uint64_t body_hash(Body *body);

/* What it takes in memory now, with the compressed form. */
extern size_t body_memory(Body *body);

#endif
