/*
 * Hash tables: uthash as raft_fsm uses it. Included by .c files only.
 *
 * An element has a member `bool hashed`, set before HASH_ADD and false after it when memory was
 * short: the table is then as it was, without the element.
 */
#ifndef QUORLOG_RAFT_FSM_TABLE_H
#define QUORLOG_RAFT_FSM_TABLE_H

#include "base/crc32c.h"

#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(element) ((element)->hashed = false)
#define HASH_FUNCTION(key, size, result) ((result) = crc32c((key), (size)))
#include <uthash.h>

#endif
