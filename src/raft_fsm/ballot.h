/*
 * The ballot: the current term and the vote given in it, durable before anything else happens in
 * that term. Losing or inventing either can elect two leaders.
 *
 * A file of two slots, a block of the disk each, that hold the same: every ballot is written to the
 * first one, durably, then to the second one, durably (RWF_DSYNC). A torn write leaves the other
 * slot whole, and so does damage, at any time, to one of them: nothing acknowledged is lost.
 *
 *      0          4          8            16           24           32           40        44  4096
 *      +----------+----------+------------+------------+------------+------------+---------+------+
 *      | magic    | version  | sequence   | term       | vote       | node id    | crc32c  | zeros|
 *      | "QLBA"   | u32 (1)  | u64        | u64        | u64, 0 none| u64        | [0, 40) |      |
 *      +----------+----------+------------+------------+------------+------------+---------+------+
 *
 * If exactly one slot is valid it counts, and the other one is written again at open. Both invalid
 * is damage. A slot that is whole but belongs to another node is ERR_CORRUPT.
 *
 * Invariants:
 *   B1  The first slot's sequence is the second one's, with the same contents, or one more.
 *   B2  A ballot that open or write returned stands in both slots.
 */
#ifndef QUORLOG_RAFT_FSM_BALLOT_H
#define QUORLOG_RAFT_FSM_BALLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/io.h"

#define BALLOT_MAGIC UINT32_C(0x41424c51) /* "QLBA" */

enum { BALLOT_SLOT_SIZE = 4096, BALLOT_SLOTS = 2 };

struct ballot_slot {
    bool valid;
    uint32_t version;
    uint64_t sequence;
    uint64_t term;
    uint64_t vote;
    uint64_t node_id;
};

/* What a file holds, and which of its slots counts. */
struct ballot_contents {
    struct ballot_slot slots[BALLOT_SLOTS];
    unsigned chosen;
};

/* Reads a ballot and changes nothing. node_id: whose it must be; 0: anybody's. The slots are set
 * after ERR_CORRUPT and ERR_VERSION, too (all invalid for a file of another size). ERR_NOT_FOUND,
 * ERR_CORRUPT, ERR_VERSION, ERR_IO. */
enum err ballot_read(struct io *io, const char *path, uint64_t node_id,
                     struct ballot_contents *ret_contents, struct err_info *info);

struct ballot {
    struct io *io; /* borrowed */
    int fd;
    char path[IO_PATH_SIZE];
    uint64_t node_id;
    uint64_t sequence;
    uint64_t term;
    uint64_t vote;
};

/*
 * Opens dir/ballot, creating it (term 0, vote 0, durable) when missing and create is set.
 * ERR_NOT_FOUND, ERR_CORRUPT, ERR_VERSION, ERR_IO, ERR_NOSPACE.
 */
enum err ballot_open(struct ballot *self, struct io *io, const char *dir, uint64_t node_id,
                     bool create, struct err_info *info);
void ballot_close(struct ballot *self);

/* Durable when it returns OK. term never goes down; within a term a vote never changes once given
 * (both ASSERTed). After an error the ballot must not be used again. */
enum err ballot_write(struct ballot *self, uint64_t term, uint64_t vote, struct err_info *info);

#endif
