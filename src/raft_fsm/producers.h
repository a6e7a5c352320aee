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
 *   P4  At most PRODUCERS_BATCHES_MAX batches are remembered in all windows together, which bounds
 *       memory and snapshots. There, a window grows no more: its oldest batch makes room for the
 *       next; and a producer's first batch for a topic is refused unless P3 makes room.
 *   P5  A producer's epoch only goes up. Its windows stay: the sequences of a topic go on from one
 *       epoch to the next, so what an older instance wrote is known to the newer one.
 */
#ifndef QUORLOG_RAFT_FSM_PRODUCERS_H
#define QUORLOG_RAFT_FSM_PRODUCERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "log/batch.h"
#include "raft_fsm/command.h"

enum {
    PRODUCERS_WINDOW = 64, /* batches */
    PRODUCERS_MAX = 100000,
    PRODUCERS_BATCHES_MAX = 2 * 1024 * 1024, /* a manifest takes at most 63 bytes for one */
};
#define PRODUCERS_IDLE_US (INT64_C(3600) * 1000000)

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

/* A second table, equal to self, owned by the caller. ERR_NOMEM. */
enum err producers_copy(const struct producers *self, struct producers **ret_copy);

/* A new producer id (1, 2, 3 …) with epoch 0. ERR_LIMIT when PRODUCERS_MAX are in use and none is
 * idle for long enough, ERR_NOMEM. now_us, here and below: the state machine's time, which never
 * goes down. */
enum err producers_init(struct producers *self, int64_t now_us, uint64_t *ret_id,
                        uint16_t *ret_epoch);

/* Somebody takes the producer over: its epoch goes up by one, and what was sent with an older one
 * is refused from now on (P5). has_epoch: only from `epoch`. ERR_PRODUCER_UNKNOWN (also an epoch
 * that was never given out), ERR_FENCED (a newer one than `epoch` is there), ERR_EPOCHS_USED_UP. */
enum err producers_raise(struct producers *self, int64_t now_us, const struct producer_claim *claim,
                         uint16_t *ret_epoch);

/* How many records the producer ever wrote to the topic: mod 2^32 its next sequence there. */
uint64_t producers_records(const struct producers *self, uint64_t id, uint64_t topic_id);

/*
 * Decides a batch of producer_id != 0: OK: it is next; append it, then call producers_note.
 * ERR_EXISTS: it was written before, *ret_before tells where (success, for the producer).
 * ERR_PRODUCER_UNKNOWN (also an epoch that was never given out), ERR_FENCED (an older epoch),
 * ERR_SEQUENCE_GAP, ERR_SEQUENCE_REUSED (written before, but these records were others, or cut into
 * other batches), ERR_DUPLICATE_OLD (written before the window's batches), ERR_LIMIT (P4).
 * A topic that the producer has not written to yet expects sequence 0. A sequence counts as old up
 * to 2^31 - 1 records back, and never further back than the producer's first record.
 */
enum err producers_decide(struct producers *self, uint64_t topic_id, int64_t now_us,
                          const struct batch_header *header, struct window_batch *ret_before);

/* The batch, which producers_decide found to be next, was appended. ERR_NOMEM. */
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
    /* records: how many the producer ever wrote to the topic. */
    enum err (*window)(void *arg, uint64_t topic_id, uint64_t records,
                       const struct window_batch *batches, unsigned count);
};
/* Stops at the first error of a visitor and returns it; ERR_NOMEM. */
enum err producers_visit(const struct producers *self, const struct producers_visitor *visitor);
uint64_t producers_next_id(const struct producers *self);

/* Sizes of what a visit shows. */
struct producers_counts {
    size_t producers;
    size_t windows;
    size_t batches;
};
struct producers_counts producers_count(const struct producers *self);

/* Puts back what was visited, into a new table: the next id first, then in the order of the visit.
 * ERR_CORRUPT for what no table visits, ERR_NOMEM. */
void producers_set_next_id(struct producers *self, uint64_t next_id);
enum err producers_restore_producer(struct producers *self, const struct producer_view *producer);
enum err producers_restore_window(struct producers *self, uint64_t producer_id, uint64_t topic_id,
                                  uint64_t records, const struct window_batch *batches,
                                  unsigned count);

/* ASSERTs P1 to P4. */
void producers_check(const struct producers *self);

#endif
