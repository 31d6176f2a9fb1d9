/*
 * wake.h
 *	  Whoever has queued work wakes the worker of this database at commit. Without
 *	  smartspace_cobot in shared_preload_libraries nobody is woken, and pg_cron or a
 *	  person calls cobot_run_due().
 */
#ifndef SMARTSPACE_WAKE_H
#define SMARTSPACE_WAKE_H

/* When this transaction commits, the worker looks for work. Costs next to nothing; call as often as you like. */
extern void wake_at_commit(void);

/* True if the launcher runs and looks after this database: what is queued will be done soon. */
extern bool wake_has_worker(void);

#endif
