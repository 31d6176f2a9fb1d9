/*
 * compat.h
 *	  Differences between PostgreSQL 15 and its successors. No other file
 *	  tests PG_VERSION_NUM.
 */
#ifndef SMARTSPACE_COMPAT_H
#define SMARTSPACE_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "smartspace_cobot needs PostgreSQL 15 or newer"
#endif

/* 17 replaced the memory context argument by a resource owner; NULL means "the process" in both. */
#if PG_VERSION_NUM >= 170000
#define compat_create_wait_event_set(nevents) CreateWaitEventSet(NULL, (nevents))
#else
#define compat_create_wait_event_set(nevents) CreateWaitEventSet(TopMemoryContext, (nevents))
#endif

/* This process's place in ProcGlobal->allProcs. Needs storage/proc.h. */
#if PG_VERSION_NUM >= 170000
#define compat_my_procno() MyProcNumber
#else
#define compat_my_procno() (MyProc->pgprocno)
#endif

/* May a role call a function? Needs catalog/pg_proc.h and utils/acl.h. */
#if PG_VERSION_NUM >= 160000
#define compat_may_execute(function, role) (object_aclcheck(ProcedureRelationId, (function), (role), ACL_EXECUTE) == ACLCHECK_OK)
#else
#define compat_may_execute(function, role) (pg_proc_aclcheck((function), (role), ACL_EXECUTE) == ACLCHECK_OK)
#endif

#endif
