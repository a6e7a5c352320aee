/*
 * Whether records have keys: what a compacted topic keeps is the latest record of each key, so a
 * record without one would stay for ever.
 *
 * It is refused where it comes in, at the node that a client talks to, and at the leader, too. What
 * was under way while `compact` was turned on may still get through: such a record stays, and does
 * no harm.
 */
#ifndef QUORLOG_SERVER_KEYS_H
#define QUORLOG_SERVER_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "log/log.h"
#include "raft_fsm/group.h"

enum { KEYS_LOOK_SIZE = 1024 * 1024 }; /* bytes of batches, at each end of a log */

/* Each record of a RecordSet has a key. ERR_INVALID: the text says which one has not, or is no
 * record; ERR_NOMEM. */
enum err keys_check(const char *topic, const uint8_t *set, size_t size, struct err_info *info);

/* Whether this node knows the topic, and that it keeps the latest record of each key. */
bool keys_are_wanted(struct catalog *catalog, const char *topic);

/* Looks for a record without a key in the first and the last batches of the log, KEYS_LOOK_SIZE of
 * them each (the last: of the last segment), and gives the offset of the lowest that it finds. May
 * block on the disk. ERR_HOLE where they are not here, ERR_CORRUPT, ERR_IO, ERR_LIMIT, ERR_NOMEM.
 */
enum err keys_find_missing(struct log *log, bool *ret_missing, uint64_t *ret_offset,
                           struct err_info *info);

#endif
