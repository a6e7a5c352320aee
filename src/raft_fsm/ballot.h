/*
 * The ballot: the current term and the vote given in it, durable before anything else happens in
 * that term. Losing or inventing either can elect two leaders.
 *
 * A file of two slots, 512 bytes each, written in turn with RWF_DSYNC; the valid slot with the
 * higher sequence counts, so a torn write leaves the other slot. Both invalid is damage.
 *
 *      0          4          8            16           24           32           40        44 512
 *      +----------+----------+------------+------------+------------+------------+---------+------+
 *      | magic    | version  | sequence   | term       | vote       | node id    | crc32c  | zeros|
 *      | "QLBA"   | u32 (1)  | u64        | u64        | u64, 0 none| u64        | [0, 40) |      |
 *      +----------+----------+------------+------------+------------+------------+---------+------+
 *
 * If exactly one slot is invalid and the valid one has sequence n, the invalid one is taken for
 * the torn write n+1, which was never acted on. A slot that is whole but belongs to another node is
 * ERR_CORRUPT.
 */
#ifndef QUORLOG_RAFT_FSM_BALLOT_H
#define QUORLOG_RAFT_FSM_BALLOT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/io.h"

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
 * ERR_NOT_FOUND, ERR_CORRUPT, ERR_IO.
 */
enum err ballot_open(struct ballot *self, struct io *io, const char *dir, uint64_t node_id,
                     bool create, struct err_info *info);
void ballot_close(struct ballot *self);

/* Durable when it returns OK. term never goes down; within a term a vote never changes once given
 * (both ASSERTed). After an error the ballot must not be used again. */
enum err ballot_write(struct ballot *self, uint64_t term, uint64_t vote, struct err_info *info);

#endif
