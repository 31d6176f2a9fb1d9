/*
 * member.h
 *	  The members of a space, by slot or by id. Wants the world's lock.
 */
#ifndef COBOT_TEST_MEMBER_H
#define COBOT_TEST_MEMBER_H

#include "world.h"

/* What decides where a member appears. */
typedef struct MemberFacts
{
	bool		confirmed;
	int32_t		last_day;		/* DAY_NEVER unless cancelled */
} MemberFacts;

/*
 * Writes records of one space; keeps what the generator can share between
 * them. Close it before the space changes.
 */
typedef struct MemberWriter
{
	const Space *space;
	struct Generated *generated;	/* NULL until a generated record is written */
} MemberWriter;

extern int	members_slots(const Space *space);

/* False if the slot is empty (deleted). */
extern bool members_facts(const Space *space, int slot, MemberFacts *facts);

/* Confirmed, and its last day is not over in the space's own zone. */
extern bool members_is_current(const MemberFacts *facts, int32_t today);

/* The slot, or -1 for unknown and deleted ones. */
extern int	members_find(const Space *space, const char *id);

/* The id of a slot, in a buffer of the caller. */
#define MEMBER_ID_SIZE 128
extern void members_id(const Space *space, int slot, char id[MEMBER_ID_SIZE]);

extern MemberWriter member_writer_open(const Space *space);
extern void member_writer_close(MemberWriter *writer);
extern void member_write(MemberWriter *writer, int slot, Text *out);

/* The record as a tree, which the caller owns. */
extern cJSON *members_record_copy(const Space *space, int slot);

/* The stored form of a slot, made from the generated one if need be. */
extern Member *members_store(Space *space, int slot);

/* Sets the record of a member, or of a new one; the id stands in it. record is taken over. */
extern int	members_put(Space *space, cJSON *record);
extern void members_delete(Space *space, int slot);

/* Calls back for each membership of a user, in any space. */
typedef void (*MemberVisitor) (const Space *space, int slot, void *closure);
extern void members_of_user(const char *user_id, MemberVisitor visit, void *closure);

extern void members_free(Space *space);

#endif
