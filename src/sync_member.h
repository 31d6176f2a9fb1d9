/*
 * sync_member.h
 *	  Synchronisations that other modules ask for. The caller has connected to
 *	  SPI. What goes wrong at Cobot's side is recorded and said in a WARNING;
 *	  misuse (unknown integration, not connected, another database) throws.
 */
#ifndef SMARTSPACE_SYNC_MEMBER_H
#define SMARTSPACE_SYNC_MEMBER_H

/*
 * One member of an integration, by Cobot's id, whether known here or not: one or
 * two requests. Without with_fields their custom fields stay as they are known.
 * False: another synchronisation of the integration is under way.
 */
extern bool sync_member_by_cobot_id(int64 integration, const char *cobot_id, bool with_fields);

/* Makes a run one of a member, with custom fields; palloc's. For whoever drives it themselves. */
struct SyncRun;
extern void sync_member_describe(struct SyncRun *run, const char *cobot_id);

/* All of an integration. False: another synchronisation of it is under way. */
extern bool sync_whole(int64 integration);

#endif
