/*
 * The latest offset of each key in a range of a log, in bounded memory: what compaction asks.
 *
 *      note    key, offset            in ascending order of offsets
 *      ask     is there a later record of this key?
 *
 * A key is known by 128 bits of its SHA-256, so that an entry has the same size whatever the key's,
 * and two keys are never taken for one: to find two that are would be to break the hash.
 *
 * An open-addressing table of 24 bytes a slot, four of five used at most: 64 MiB hold about 1.4
 * million keys, of which a third was set aside for growing. One thread at a time, asking included.
 */
#ifndef QUORLOG_RECORD_LATEST_H
#define QUORLOG_RECORD_LATEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { LATEST_MEMORY_MIN = 64 * 1024 };

struct latest;

/* Takes up to memory_max bytes (>= LATEST_MEMORY_MIN), and no more than what is noted needs.
 * ERR_NOMEM. */
enum err latest_new(size_t memory_max, struct latest **ret_latest);
void latest_free(struct latest *self); /* NULL is fine. */

/* Forgets all; the memory goes. */
void latest_clear(struct latest *self);

/* Notes a record; offset is not below any that was noted (ASSERT). ERR_LIMIT: the memory is used
 * up, ERR_NOMEM: there is none; nothing was noted then, and what was noted before holds. */
enum err latest_note(struct latest *self, const void *key, size_t key_size, uint64_t offset);

/* Makes room for a key: to note it does not fail from then on. Errors of latest_note. */
enum err latest_reserve(struct latest *self, const void *key, size_t key_size);

/* Whether so many keys that are not known yet are no ERR_LIMIT. */
bool latest_has_room(const struct latest *self, size_t count);

/* Whether a record of this key was noted at an offset above this one. */
bool latest_has_later(const struct latest *self, const void *key, size_t key_size, uint64_t offset);

/* Different keys noted. */
size_t latest_count(const struct latest *self);

/* One past the highest offset that was noted; 0: none was. */
uint64_t latest_end(const struct latest *self);

#endif
