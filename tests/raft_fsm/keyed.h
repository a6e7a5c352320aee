/*
 * Records with keys for the tests of compaction: what was written, and what a log shows of it.
 */
#ifndef QUORLOG_TESTS_RAFT_FSM_KEYED_H
#define QUORLOG_TESTS_RAFT_FSM_KEYED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/block.h"
#include "log/log.h"
#include "raft_fsm/fsm.h"

enum { KEYED_MAX = 16384, KEYED_NO_KEY = 0xffff };

struct keyed {
    unsigned key;   /* KEYED_NO_KEY: none */
    uint64_t value; /* 0: a tombstone */
};

/* All that was written to a topic, by offset. */
struct keyed_topic {
    struct keyed records[KEYED_MAX];
    uint64_t count;
};

/* A batch as a producer sends it, of the topic's next `count` records; values have `size` bytes or
 * a few more. */
struct slice keyed_batch(struct keyed_topic *topic, const struct keyed *records, unsigned count,
                         size_t size);

/* What may be gone, as struct topic_clean has it; and what is to be gone, as a cleaner said. */
struct keyed_bounds {
    uint64_t clean_to;
    uint64_t tombstones_below;
    uint64_t cleaned_to;
    uint64_t tombstones_gone;
};

struct keyed_seen {
    uint64_t records;
    uint64_t superseded; /* below cleaned_to, for a later one below it */
    uint64_t tombstones; /* below tombstones_gone */
    uint64_t batches;
    uint64_t compacted; /* of them */
};

/*
 * Reads all of a log, and fails the test unless it is what was written, less what compaction may
 * have taken: every record was written there; the latest one of
 * each key is there, and every one without a key; batches touch, and are chained by their digests;
 * the digest at the end is `digest`, if that is not NULL. What is there and is to be gone is
 * counted.
 */
struct keyed_seen keyed_check(const struct keyed_topic *topic, struct log *log,
                              const struct keyed_bounds *bounds, const uint8_t *digest);

/* One pass over a topic, as a replica's cleaner makes it (replica_compact.c), on one thread and to
 * its end. Returns the first error; *ret_rewritten: segments that were replaced. */
enum err keyed_clean(struct fsm *fsm, struct topic *topic, unsigned *ret_rewritten);

#endif
