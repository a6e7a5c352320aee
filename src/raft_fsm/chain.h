/*
 * A walk along the digest chain of a topic (raft_fsm/digest.h): batch after batch, or link after
 * link, each verified against what came before.
 *
 * A link is what of a batch enters the chain, without its body:
 *
 *      0                                     104                       136
 *      +-------------------------------------+-------------------------+
 *      | the batch's header (log/batch.h)    | its part                |
 *      +-------------------------------------+-------------------------+
 *
 *   part: the SHA-256 of the batch's body; of a compacted one (log/batch.h) the 32 bytes that its
 *   body begins with, the digest of the batch before the first one that it stands for.
 *
 * The batches that a compacted one stands for are gone, and with them what their digests are made
 * of: the chain says where it belongs, between the digest before and the one in its header, and
 * nothing about what it holds, which is protected by its checksum alone. So copies of a log that
 * were compacted at different times have the same digest wherever a batch ends in both.
 *
 * Invariants:
 *   C1  All batches below `offset` that were taken are in order, touch, and chain up to `digest`.
 *   C2  What does not verify changes nothing.
 *   C3  A compacted batch goes where its part is the digest before, and nowhere else.
 */
#ifndef QUORLOG_RAFT_FSM_CHAIN_H
#define QUORLOG_RAFT_FSM_CHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log/batch.h"
#include "raft_fsm/digest.h"

enum {
    CHAIN_LINK_SIZE = BATCH_HEADER_SIZE + DIGEST_SIZE,
    /* The largest batch believed: as large as any that a log takes. */
    CHAIN_BATCH_SIZE_MAX = 1 << 30,
};

struct chain {
    uint64_t offset;             /* of the next batch */
    bool known;                  /* false: the first batch's own digest is taken for good */
    uint8_t digest[DIGEST_SIZE]; /* of the batch before it; zeros at offset 0 */
};

/* Begins at `offset`. digest: that of the batch before it; NULL: not known, but at offset 0, where
 * it is zeros. */
void chain_init(struct chain *self, uint64_t offset, const uint8_t *digest);

/* The second part of a batch's link, of its body, which was verified. */
void chain_part(const struct batch_header *header, const uint8_t *body,
                uint8_t ret_part[DIGEST_SIZE]);

/* Takes the next batch's header, whose own checksum was verified, and its part. ERR_CORRUPT when it
 * begins at another offset, or its digest does not follow. */
enum err chain_header(struct chain *self, const struct batch_header *header,
                      const uint8_t part[DIGEST_SIZE], struct err_info *info);

/* Takes a link. ERR_CORRUPT. */
enum err chain_link(struct chain *self, const uint8_t link[CHAIN_LINK_SIZE], struct err_info *info);

/* Takes one whole batch, the first of `size` bytes: header, body and digest are verified.
 * *ret_size: its bytes. ERR_CORRUPT, also when `size` bytes do not hold it all. */
enum err chain_batch(struct chain *self, const uint8_t *bytes, size_t size, uint32_t *ret_size,
                     struct err_info *info);

/* Takes whole batches, `size` bytes in all. *ret_done: bytes of those that verify; written in any
 * case. ERR_CORRUPT. */
enum err chain_batches(struct chain *self, const uint8_t *bytes, size_t size, size_t *ret_done,
                       struct err_info *info);

/* As chain_batches, of `size` bytes from elsewhere: all of them, or the chain stands where it
 * stood. ERR_CORRUPT. Any thread. */
enum err chain_follow(struct chain *self, const uint8_t *bytes, size_t size, struct err_info *info);

#endif
