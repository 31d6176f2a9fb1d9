/*
 * caller.h
 *	  Which integrations the caller may see and touch. One place for functions that run with
 *	  the rights of the extension's owner, and for the policies that stand before the tables
 *	  when others read and write them.
 *
 * The rows of cobot_role limit roles to some integrations. The owner of the extension and
 * superusers are never limited, and neither is a role with no row that counts for it: what
 * such a role may do was granted to it by hand.
 */
#ifndef SMARTSPACE_CALLER_H
#define SMARTSPACE_CALLER_H

/* May the caller see this integration; id 0: what belongs to none, which nobody who is limited sees. */
extern bool caller_sees(int64 integration);

/* The same by a membership. A membership that does not exist is seen by whoever is not limited. */
extern bool caller_sees_member(int64 member);

#endif
