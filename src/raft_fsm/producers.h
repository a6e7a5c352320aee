/*
 * The producer table: what makes a retry harmless.
 *
 * A producer (id, epoch) numbers the records it sends to a topic: 0, 1, 2 … A batch carries the
 * number of its first record (base_sequence). The table remembers, for each producer and topic, the
 * last PRODUCERS_WINDOW batches: the same batch again gets its first answer again. Part of the
 * state machine: changed only by applying entries, the same on all nodes, kept in snapshots.
 *
 * Invariants:
 *   P1  Sequences of a producer's batches in a topic follow on one another without gap (mod 2^32).
 *   P2  The window's batches are those with the highest offsets, oldest first.
 *   P3  At most PRODUCERS_MAX producers; one that was idle for PRODUCERS_IDLE_US is forgotten when
 *       room is needed for a new one, by the time in entries, never by a clock.
 */
#ifndef QUORLOG_RAFT_FSM_PRODUCERS_H
#define QUORLOG_RAFT_FSM_PRODUCERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "log/batch.h"

enum {
    PRODUCERS_WINDOW = 64, /* batches */
    PRODUCERS_MAX = 100000,
};
#define PRODUCERS_IDLE_US (INT64_C(7) * 24 * 3600 * 1000000)

struct producers;

/* What is remembered of a batch. */
struct window_batch {
    uint32_t base_sequence;
    uint32_t record_count;
    uint64_t base_offset;
    uint32_t body_crc32c;
    uint64_t raft_index;
    uint64_t raft_term;
    int64_t append_time_us;
};

enum err producers_new(struct producers **ret_producers);
void producers_free(struct producers *self);

/* A new producer id (1, 2, 3 …) with epoch 0. ERR_LIMIT when PRODUCERS_MAX are in use and none is
 * idle for long enough. */
enum err producers_init(struct producers *self, int64_t now_us, uint64_t *ret_id,
                        uint16_t *ret_epoch);

/*
 * Decides a batch of producer_id != 0: OK: it is next; append it, then call producers_note.
 * ERR_EXISTS: it was written before, *ret_before tells where (success, for the producer).
 * ERR_PRODUCER_UNKNOWN, ERR_FENCED, ERR_SEQUENCE_GAP, ERR_SEQUENCE_REUSED, ERR_DUPLICATE_OLD.
 * A topic that the producer has not written to yet expects sequence 0.
 */
enum err producers_decide(struct producers *self, uint64_t topic_id,
                          const struct batch_header *header, struct window_batch *ret_before);

/* The batch was appended. ERR_NOMEM. */
enum err producers_note(struct producers *self, uint64_t topic_id, int64_t now_us,
                        const struct batch_header *stamped);

/* A topic was deleted: nobody's state for it is needed any more. */
void producers_forget_topic(struct producers *self, uint64_t topic_id);

/* Visits all for a snapshot, by id, then by topic id: the order is the same on all nodes. */
struct producer_view {
    uint64_t id;
    uint16_t epoch;
    int64_t used_time_us;
};
struct producers_visitor {
    void *arg;
    enum err (*producer)(void *arg, const struct producer_view *producer);
    enum err (*window)(void *arg, uint64_t topic_id, const struct window_batch *batches,
                       unsigned count);
};
enum err producers_visit(const struct producers *self, const struct producers_visitor *visitor);
uint64_t producers_next_id(const struct producers *self);

/* Puts back what was visited, into a new table, in the same order. ERR_CORRUPT, ERR_NOMEM. */
void producers_set_next_id(struct producers *self, uint64_t next_id);
enum err producers_restore_producer(struct producers *self, const struct producer_view *producer);
enum err producers_restore_window(struct producers *self, uint64_t producer_id, uint64_t topic_id,
                                  const struct window_batch *batches, unsigned count);

void producers_check(const struct producers *self);

#endif
