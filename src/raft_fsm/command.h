/*
 * Commands: what an ENTRY_COMMAND's payload holds. Everything that waits when the leader proposes
 * is packed into one entry.
 *
 *   entry     0         1            8            16
 *   payload   +---------+------------+------------+- - - - - - -+- - - - - - -+
 *             | version | zeros      | time_us    | command     | command …   |
 *             | u8 (1)  | (7 B)      | i64        |             |             |
 *             +---------+------------+------------+- - - - - - -+- - - - - - -+
 *             time_us: the leader's wall clock when it packed the entry. The state machine uses the
 *             largest one seen so far, so its time never goes down.
 *
 *   command   0          4      5       6       8
 *             +----------+------+-------+-------+- - - - - - -+- - - -+
 *             | size u32 | type | 0     | 0 u16 | body, size  | zeros |
 *             |          | u8   |       |       | bytes       | to 8  |
 *             +----------+------+-------+-------+- - - - - - -+- - - -+
 *
 *   PRODUCE       body: topic_id u64 | SHA-256 of the batch's body, 32 bytes | the batch as the
 *                 producer sent it (log/batch.h, stamped fields zero)
 *   TOPIC_CREATE, TOPIC_DELETE, TOPIC_ALTER   body: protobuf (proto/replicated.proto)
 *   PRODUCE, conditional (type 6)   body: expected end offset u64 | as PRODUCE
 *   INIT_PRODUCER body: empty
 *   NODE_BIND     body: node id u64 | disk id u64 (raft_fsm/nodes.h)
 *   CURSOR_SET, CURSOR_DELETE    body: protobuf CursorChange
 *   RAISE_EPOCH   body: producer id u64 | topic id u64 (0: none) | epoch u16 | 1 u8 when only from
 *                 that epoch, else 0 | zeros (5 B)
 *   TOPIC_TRIM    body: topic_id u64 | start u64 | batch_start u64: the first offset of the batch
 *                 that holds start, or start where that is a batch's first one, or the end |
 *                 digest of the batch before batch_start, 32 bytes: zeros if the log starts there
 *   AGE           body: elapsed_us u64 (raft_fsm/ages.h)
 *   COMPACT       body: topic_id u64 | clean_to u64 | tombstones_below u64
 *
 *   At most COMMAND_COUNT_MAX commands in a payload: a command's number in its entry is a part of
 *   the ids that are made from it (raft_fsm/fsm.h).
 */
#ifndef QUORLOG_RAFT_FSM_COMMAND_H
#define QUORLOG_RAFT_FSM_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/block.h"
#include "base/err.h"
#include "raft_fsm/digest.h"
#include "raft_fsm/nodes.h"
#include "raft_fsm/topic_settings.h"

enum {
    COMMAND_PAYLOAD_HEADER_SIZE = 16,
    COMMAND_HEADER_SIZE = 8,
    COMMAND_PRODUCE_HEADER_SIZE = 8 + DIGEST_SIZE,
    COMMAND_COUNT_MAX = 4096,
    COMMAND_BATCH_SIZE_MAX = 16 * 1024 * 1024, /* bytes of a PRODUCE's batch, header included */
    TOPIC_NAME_SIZE_MAX = 200,                 /* bytes, without a closing zero */
    CURSOR_NAME_SIZE_MAX = 200,                /* as above */
    CURSOR_METADATA_SIZE_MAX = 256,            /* as above */
};

enum command_type {
    COMMAND_PRODUCE = 1,
    COMMAND_TOPIC_CREATE = 2,
    COMMAND_TOPIC_DELETE = 3,
    COMMAND_INIT_PRODUCER = 4,
    COMMAND_RAISE_EPOCH = 5,
    /* 6 on the disk: a PRODUCE with an expectation. */
    COMMAND_CURSOR_SET = 7,
    COMMAND_CURSOR_DELETE = 8,
    COMMAND_NODE_BIND = 12,
    COMMAND_TOPIC_ALTER = 13,
    COMMAND_TOPIC_TRIM = 14,
    COMMAND_AGE = 15,
    COMMAND_COMPACT = 16,
};

/* What a cursor must be for a change to be made; the numbers are those of the protocol. */
enum cursor_expect {
    CURSOR_EXPECT_ANY = 0,
    CURSOR_EXPECT_REVISION = 1, /* expected; 0: there must be none */
    CURSOR_EXPECT_OFFSET = 2,
};

/* A change of a cursor; names are checked, metadata is at most so long. */
struct cursor_change {
    char topic[TOPIC_NAME_SIZE_MAX + 1];
    char name[CURSOR_NAME_SIZE_MAX + 1];
    enum cursor_expect expect;
    uint64_t expected;
    /* CURSOR_SET: */
    uint64_t offset;
    uint64_t owner;
    char metadata[CURSOR_METADATA_SIZE_MAX + 1];
};

/* Somebody takes over a producer id. */
struct producer_claim {
    uint64_t id;
    uint64_t topic_id; /* whose records are asked for; 0: none */
    uint16_t epoch;    /* raised from, 0 unless has_epoch */
    bool has_epoch;
};

/* A topic's log is to start later. */
struct topic_trim {
    uint64_t topic_id;
    uint64_t start;              /* exact to the record */
    uint64_t batch_start;        /* <= start: where the batch that holds it begins */
    uint8_t digest[DIGEST_SIZE]; /* of the one before it; counts where the log's start moves */
};

/* What nodes may take from a compacted topic: see struct topic_clean (catalog.h). */
struct topic_compact {
    uint64_t topic_id;
    uint64_t clean_to;         /* a batch's first offset, or the end; */
    uint64_t tombstones_below; /* <= clean_to */
};

/* A command on its way into an entry. */
struct command {
    enum command_type type;
    union {
        struct {
            uint64_t topic_id;
            uint8_t body_digest[DIGEST_SIZE];
            struct slice batch; /* verified by batch_check_produced; owns a reference */
            bool has_expect;
            uint64_t expect_offset; /* the log's end, or nothing is written; 0 unless has_expect */
        } produce;
        struct producer_claim claim;                  /* RAISE_EPOCH */
        struct {                                      /* TOPIC_CREATE, TOPIC_DELETE, TOPIC_ALTER */
            char topic_name[TOPIC_NAME_SIZE_MAX + 1]; /* checked */
            const struct topic_settings *settings;    /* CREATE: borrowed; NULL: all default */
            const struct topic_change *change;        /* ALTER: borrowed */
        };
        struct node_disk node;              /* NODE_BIND */
        struct topic_trim trim;             /* TOPIC_TRIM */
        struct topic_compact compact;       /* COMPACT */
        uint64_t elapsed_us;                /* AGE */
        const struct cursor_change *cursor; /* CURSOR_SET, CURSOR_DELETE; borrowed */
    };
};

/* A command as it is read from an entry; pointers go into the payload. */
struct command_view {
    enum command_type type;
    union {
        struct {
            uint64_t topic_id;
            const uint8_t *body_digest;
            struct batch_header header; /* stamped fields zero */
            const uint8_t *body;
            size_t body_size;
            bool has_expect;
            uint64_t expect_offset;
        } produce;
        struct producer_claim claim;
        struct {
            char topic_name[TOPIC_NAME_SIZE_MAX + 1];
            /* Both in the reader, until the next command; nobody has checked what they set. */
            const struct topic_settings *settings; /* TOPIC_CREATE */
            const struct topic_change *change;     /* TOPIC_ALTER */
        };
        struct node_disk node;
        struct topic_trim trim;
        struct topic_compact compact;
        uint64_t elapsed_us;
        const struct cursor_change *cursor; /* in the reader, until the next command */
    };
};

/* ERR_OK for a name that a topic may have: [A-Za-z0-9._-]{1,200}, not "." or "..", not starting
 * with "-". ERR_INVALID with text. */
enum err topic_name_check(const char *name, size_t size, struct err_info *info);
/* The same for a cursor's. */
enum err cursor_name_check(const char *name, size_t size, struct err_info *info);

void command_fini(struct command *self);

/* Bytes that the command takes in a payload, padding included. */
size_t command_encoded_size(const struct command *self);

/* Writes the payload's header, or one command; returns the bytes written. */
size_t command_encode_header(int64_t time_us, uint8_t *to);
size_t command_encode(const struct command *self, uint8_t *to);

/*
 * Reads a payload. begin verifies its header; next gives one command after the other and ERR_AGAIN
 * at the end. ERR_CORRUPT for what no encoder makes (the entry's checksum held, so a newer or
 * broken node wrote it), ERR_VERSION for a payload version or command type that is not known:
 * either stops the node, which could not stay equal to the others. ERR_NOMEM.
 */
struct command_reader {
    const uint8_t *data;
    size_t size;
    size_t position;
    int64_t time_us;
    unsigned count; /* commands given so far */
    union {         /* what the last one points to */
        struct cursor_change cursor;
        struct topic_change change;
    };
};
enum err command_reader_begin(struct command_reader *self, const uint8_t *payload, size_t size,
                              struct err_info *info);
enum err command_reader_next(struct command_reader *self, struct command_view *ret_command,
                             struct err_info *info);

/* The next NODE_BIND of a payload, nothing else of it being looked at: for entries that are not
 * applied yet. *position is 0 at first. False when there is none; what no encoder makes ends the
 * walk. */
bool command_next_binding(const uint8_t *payload, size_t size, size_t *position,
                          struct node_disk *ret_node);

#endif
