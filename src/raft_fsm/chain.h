/*
 * A walk along the digest chain of a topic (raft_fsm/digest.h): batch after batch, or link after
 * link, each verified against what came before.
 *
 * A link is what of a batch enters the chain, without its body:
 *
 *      0                                     104                       136
 *      +-------------------------------------+-------------------------+
 *      | the batch's header (log/batch.h)    | SHA-256 of its body     |
 *      +-------------------------------------+-------------------------+
 *
 * Invariants:
 *   C1  All batches below `offset` that were taken are in order, touch, and chain up to `digest`.
 *   C2  What does not verify changes nothing.
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

/* Takes the next batch's header, whose own checksum was verified, and the SHA-256 of its body.
 * ERR_CORRUPT when it begins at another offset, or its digest does not follow. */
enum err chain_header(struct chain *self, const struct batch_header *header,
                      const uint8_t body_digest[DIGEST_SIZE], struct err_info *info);

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
