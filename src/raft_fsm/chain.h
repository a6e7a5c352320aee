/*
 * Following a topic's digest chain (raft_fsm/digest.h) over batches that come from elsewhere.
 */
#ifndef QUORLOG_RAFT_FSM_CHAIN_H
#define QUORLOG_RAFT_FSM_CHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "raft_fsm/digest.h"

/* How far verified batches go. */
struct chain {
    uint64_t offset;             /* of the next batch */
    uint8_t digest[DIGEST_SIZE]; /* of the batch before it */
    bool known;                  /* false: nobody knows that digest; the next batch is believed */
};

/*
 * Verifies that `size` bytes are whole batches (checksums, limits) which follow on the chain, one
 * on another, and moves it behind them. ERR_CORRUPT, ERR_VERSION with text: the chain stands where
 * it stood. Hashes every byte. Any thread.
 */
enum err chain_follow(struct chain *self, const uint8_t *batches, size_t size,
                      struct err_info *info);

#endif
