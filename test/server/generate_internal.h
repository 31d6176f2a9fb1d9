/*
 * generate_internal.h
 *	  What the files of the generator share.
 */
#ifndef COBOT_TEST_GENERATE_INTERNAL_H
#define COBOT_TEST_GENERATE_INTERNAL_H

#include "generate.h"

#define GENERATED_ID_SIZE 40
#define GENERATED_FIELDS 3
#define GENERATED_FORMER_SHARE 20	/* one ended or unconfirmed member on so many current ones */

typedef enum GeneratedKind
{
	GENERATED_SPACE,
	GENERATED_PLAN,
	GENERATED_FIELD,
	GENERATED_MEMBER,
	GENERATED_USER,
	GENERATED_EXTRA
} GeneratedKind;

typedef struct GeneratorState
{
	GenerateOptions options;	/* spaces is 0 while nothing was generated */
	int32_t		today;			/* dates are relative to the day of the start */
} GeneratorState;

extern GeneratorState generator;

/* 64 random bits that belong to this thing. */
extern uint64_t generator_random(GeneratedKind kind, int space, int number);

extern void generator_write_id(GeneratedKind kind, int space, int number, char id[GENERATED_ID_SIZE]);
extern bool generator_read_id(GeneratedKind kind, const char *id, int *space, int *number);

#endif
