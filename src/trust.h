/*
 * trust.h
 *	  Whose functions run while the extension works with the rights of its owner.
 *
 * Whoever has the privilege TRIGGER on one of our tables can put a function of their own
 * behind it, or into a condition of a trigger, and that runs with the rights of whoever
 * writes the table: the owner of the tables, usually a superuser, as the worker and the
 * SECURITY DEFINER functions do. It is refused when it is about to run, so it does not
 * matter when or how it got there: with those rights no function runs whose own owner does
 * not have them. SECURITY DEFINER functions run as their owner, and are not refused.
 */
#ifndef SMARTSPACE_TRUST_H
#define SMARTSPACE_TRUST_H

/* Once per process, from _PG_init(). From then on functions of the extension are guarded. */
extern void trust_install(void);

/* For the worker, where no function of the extension is called: guards everything done as this role. */
extern void trust_guard(Oid role);

/*
 * On whose behalf the code runs that asks: of whoever called a SECURITY DEFINER function of the
 * extension, also by way of other people's functions, else the current user. InvalidOid: that
 * cannot be known. function: what they called; InvalidOid: none such.
 */
extern Oid	trust_caller(Oid *function);

#endif
