/*
 * fault_body.h
 *	  Bodies that no server should send. Added to a text, or made piece by piece.
 */
#ifndef COBOT_TEST_FAULT_BODY_H
#define COBOT_TEST_FAULT_BODY_H

#include <stdint.h>
#include <sys/types.h>

#include "body.h"
#include "text.h"

extern void fault_body_base64(const char *base64, Text *out);
extern void fault_body_nested(size_t depth, Text *out);

/* Below 1 a fraction, else a number of bytes. */
extern void fault_body_truncated(const Body *body, double amount, Text *out);

/* A JSON array of exactly total bytes: writes at most size bytes of it, from position on. */
extern size_t fault_body_huge(uint64_t total, uint64_t position, char *out, size_t size);

/* A gzip stream that expands to a JSON array of total bytes. */
typedef struct GzipBomb GzipBomb;
extern GzipBomb *gzip_bomb_create(uint64_t total);
extern size_t gzip_bomb_read(GzipBomb *bomb, char *out, size_t size);	/* 0 at the end */
extern void gzip_bomb_free(GzipBomb *bomb);

#endif
