/*
 * progress.h
 *	  How far the synchronisations of this process are: for the view
 *	  cobot_sync_progress, as far as there is shared memory, and in words for somebody
 *	  who waits.
 */
#ifndef SMARTSPACE_PROGRESS_H
#define SMARTSPACE_PROGRESS_H

typedef enum ProgressPhase
{
	PROGRESS_ASKING,
	PROGRESS_VERIFYING,
	PROGRESS_APPLYING
} ProgressPhase;

typedef struct Progress Progress;

/*
 * A synchronisation begins. The result is palloc'd in the current memory context, and
 * good until progress_end(), or until that context ends, which does the same. name NULL:
 * nobody is told in words.
 */
extern Progress *progress_begin(int64 integration, const char *name);

extern void progress_enter(Progress *progress, ProgressPhase phase);
extern void progress_count(Progress *progress, int requests, int members);

/* A NOTICE every few seconds. */
extern void progress_notice(Progress *progress);

extern void progress_end(Progress *progress);

#endif
