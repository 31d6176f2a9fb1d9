/*
 * entry_look.h
 *	  The one question about an entry that is asked without SQL, because nearly every
 *	  entry is answered by it.
 */
#ifndef SMARTSPACE_ENTRY_LOOK_H
#define SMARTSPACE_ENTRY_LOOK_H

/*
 * Has this membership itself a current check-in in the building's space? Then the rule
 * need not be asked. The building is our id (int8), or its external identifier (text).
 * False also for "not known here". Takes locks like any query.
 */
extern bool entry_look_is_in(int64 membership, Oid building_type, Datum building);

#endif
