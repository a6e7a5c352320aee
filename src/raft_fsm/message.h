/*
 * What replicas say to each other, in our own terms, and its form on the wire.
 *
 * Raft's messages (append to timeout_now) go to the driver, and so do confirm and its result, with
 * which a leader asks whether it still leads. Fetch and its result move batches to a replica that
 * has holes. Messages may be lost; those of one sender to one receiver never
 * overtake each other (the driver relies on it), and leftovers of an older connection never follow
 * messages of a newer one.
 *
 * A message is a frame (transport/transport.h) of type FRAME_RAFT whose header is:
 *
 *      0    1    2            8       16      24      32      40      48      56      64
 *      +----+----+------------+-------+-------+-------+-------+-------+-------+-------+
 *      |type|flags| 0 (6 B)   | from  | to    | term  | a     | b     | c     | d     |  u64 each
 *      +----+----+------------+-------+-------+-------+-------+-------+-------+-------+
 *
 *      type           flags              a           b           c           d         body
 *      APPEND         -                  prev_index  prev_term   commit      count     entry frames
 *      APPEND_RESULT  1 stale, 2 holes,  rejected    last_index  0           0         -
 *                     4 no room
 *      VOTE           1 pre, 2 disrupt   last_index  last_term   0           0         -
 *      VOTE_RESULT    1 pre, 2 granted   0           0           0           0         -
 *      SNAPSHOT       -                  index       snap_term   membership  size of   membership,
 *                                                                index       the first manifest
 *      TIMEOUT_NOW    -                  last_index  last_term   0           0         -
 *      FETCH          -                  topic_id    offset      end         size_max  -
 *      FETCH_RESULT   -                  topic_id    offset      end         code i64  batches
 *      CONFIRM        -                  round       0           0           0         -
 *      CONFIRM_RESULT -                  round       0           0           0         -
 *      CLEANED        -                  topic_id    cleaned_to  0           0         -
 */
#ifndef QUORLOG_RAFT_FSM_MESSAGE_H
#define QUORLOG_RAFT_FSM_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/block.h"
#include "base/err.h"
#include "raft_fsm/entry.h"

enum {
    MESSAGE_HEADER_SIZE = 64,
    MESSAGE_ENTRIES_MAX = 1024,
};

enum message_type {
    MESSAGE_APPEND = 1,
    MESSAGE_APPEND_RESULT,
    MESSAGE_VOTE,
    MESSAGE_VOTE_RESULT,
    MESSAGE_SNAPSHOT,
    MESSAGE_TIMEOUT_NOW,
    MESSAGE_FETCH,
    MESSAGE_FETCH_RESULT,
    MESSAGE_CONFIRM = 16,
    MESSAGE_CONFIRM_RESULT,
    MESSAGE_CLEANED, /* to the leader, now and then: what of a compacted topic's copy is clean */
};

/* A raft snapshot: what stands for all entries up to index. */
struct snapshot {
    uint64_t index;
    uint64_t term;             /* of the entry at index */
    uint64_t membership_index; /* of the ENTRY_CHANGE that membership comes from; <= index */
    struct slice membership;   /* encoded; owns a reference to its block */
    struct slice manifest;     /* opaque to the driver; owns a reference to its block */
};

struct message {
    enum message_type type;
    uint64_t from; /* node ids */
    uint64_t to;
    uint64_t term;
    union {
        struct {
            uint64_t prev_index;
            uint64_t prev_term;
            uint64_t commit;
            struct entry *entries; /* owned array of owned entries; NULL when count is 0 */
            unsigned count;        /* <= MESSAGE_ENTRIES_MAX */
        } append;
        struct {
            uint64_t rejected;   /* 0: success */
            uint64_t last_index; /* success: has everything up to here; else a hint */
            bool stale;          /* only tells the receiver our newer term */
            bool holes;          /* the sender lacks batches: it had better not lead */
            bool no_room;        /* the sender's disk is short of room */
        } append_result;
        struct {
            uint64_t last_index;
            uint64_t last_term;
            bool pre_vote;
            bool disrupt_leader;
        } vote;
        struct {
            bool pre_vote;
            bool granted;
        } vote_result;
        struct snapshot snapshot;
        struct {
            uint64_t last_index;
            uint64_t last_term;
        } timeout_now;
        struct {
            uint64_t topic_id;
            uint64_t offset;   /* first one wanted */
            uint64_t end;      /* none at or above this one */
            uint64_t size_max; /* bytes */
        } fetch;
        struct {
            uint64_t topic_id;
            uint64_t offset;
            uint64_t end;         /* one past the last offset that came */
            enum err err;         /* OK, TOPIC_UNKNOWN, RANGE, HOLE, CORRUPT, BUSY, … */
            struct slice batches; /* owns a reference; empty unless err is OK */
        } fetch_result;
        struct {
            uint64_t round; /* of the leader of `term`; > 0 */
        } confirm;          /* CONFIRM_RESULT: the one that is answered */
        struct {
            uint64_t topic_id;
            uint64_t cleaned_to;
        } cleaned;
    };
};

/* Releases what the message owns; the struct itself is the caller's. Leaves it empty. */
void message_fini(struct message *self);

/* A second message that owns references of its own. ERR_NOMEM. */
enum err message_copy(const struct message *self, struct message *ret_message);

/*
 * The wire form: the header, and the body as slices (borrowed from the message) of which at most
 * slices_max are written. Neighbouring entries in one block become one slice. ERR_TOO_LARGE when
 * slices_max is too small.
 */
enum err message_encode(const struct message *self, uint8_t ret_header[MESSAGE_HEADER_SIZE],
                        struct slice *ret_slices, unsigned slices_max, unsigned *ret_count);

/*
 * Reads and verifies a message: header, lengths, every entry frame with its checksum and its
 * indexes (consecutive from prev_index + 1, terms never down), memberships. body points into block,
 * 8-byte aligned; the message takes references of its own. ERR_CORRUPT, ERR_PROTOCOL with text.
 */
enum err message_decode(const uint8_t *header, size_t header_size, struct block *block,
                        const uint8_t *body, size_t body_size, struct message *ret_message,
                        struct err_info *info);

#endif
