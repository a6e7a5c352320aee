/*
 * How batches of another replica fit into a hole of this one, when both compact, each in its time.
 *
 * Where a batch ends on any node, one ended on all of them before; so a hole begins and ends where
 * original batches did, and the part of a batch from there on is what compaction would have made of
 * the originals from there on. Which of the two digests at its ends the part needs is known here:
 * that at the hole's beginning. Its other end, and its stamps, are the batch's.
 */
#include <inttypes.h>
#include <string.h>

#include "base/assert.h"
#include "raft_fsm/fsm_internal.h"
#include "record/batch_cut.h"

/* The chunk's first batch, verified. */
static enum err read_first(const struct slice *batches, struct batch_header *ret_header,
                           struct err_info *info)
{
    enum err err;

    if (batches->size < BATCH_HEADER_SIZE) {
        return err_set(info, ERR_CORRUPT, "%zu bytes are no batch", batches->size);
    }
    err = batch_header_decode(batches->data, CHAIN_BATCH_SIZE_MAX, ret_header, info);
    if (err == ERR_OK && ret_header->size > batches->size) {
        err = err_set(info, ERR_CORRUPT, "the batch at offset %" PRIu64 " is cut off",
                      ret_header->base_offset);
    }
    return err == ERR_OK ? batch_check_body(ret_header, batches->data + BATCH_HEADER_SIZE, info)
                         : err;
}

/* Where a batch ends here where this one begins, the digest there is the one that it names. */
static enum err check_below(const struct fsm_hole *hole, const struct batch_header *first,
                            const uint8_t *before, struct err_info *info)
{
    struct batch_header below;
    bool known = false;

    if (first->base_offset > log_start(hole->topic->log) &&
        log_read_header(hole->topic->log, first->base_offset - 1, &below, NULL) == ERR_OK) {
        known = batch_end_offset(&below) == first->base_offset;
    }
    return !known || memcmp(below.digest, before, DIGEST_SIZE) == 0
               ? ERR_OK
               : err_set(info, ERR_CORRUPT,
                         "the batch at offset %" PRIu64 " does not follow on the one before it",
                         first->base_offset);
}

/* The chunk with its first batch cut, in place of what it was. */
static enum err cut_first(const struct fsm_hole *hole, struct slice *batches,
                          const struct batch_header *first, struct err_info *info)
{
    const struct batch_cut cut = {
        .from = hole->chain.offset, .to = UINT64_MAX, .before = hole->chain.digest};
    struct block *block;
    struct buf part;
    size_t rest = batches->size - first->size;
    enum err err;

    buf_init(&part, CHAIN_BATCH_SIZE_MAX);
    err = batch_cut_append(batches->data, first->size, &cut, &part, info);
    if (err != ERR_OK) {
        buf_fini(&part);
        return err == ERR_TOO_LARGE ? ERR_CORRUPT : err; /* No batch is so large when unpacked. */
    }
    block = block_new(part.size + rest);
    if (block != NULL) {
        memcpy(block->data, part.data, part.size);
        memcpy(block->data + part.size, batches->data + first->size, rest);
        block_unref(batches->block);
        *batches = (struct slice){.block = block, .data = block->data, .size = block->size};
    }
    buf_fini(&part);
    return block == NULL ? err_set(info, ERR_NOMEM, "out of memory") : ERR_OK;
}

/* The first batch begins below the hole. */
static enum err fit_below(const struct fsm_hole *hole, struct fsm_chunk *chunk,
                          const struct batch_header *first, struct err_info *info)
{
    uint64_t at = hole->chain.offset;
    enum err err;

    if (!batch_is_compacted(first) || batch_end_offset(first) <= at) {
        return err_set(info, ERR_CORRUPT,
                       "a batch of [%" PRIu64 ", %" PRIu64 ") where one at %" PRIu64 " belongs",
                       first->base_offset, batch_end_offset(first), at);
    }
    if (hole->chain.known) {
        err = check_below(hole, first, chunk->batches.data + BATCH_HEADER_SIZE, info);
        return err == ERR_OK ? cut_first(hole, &chunk->batches, first, info) : err;
    }
    if (at > log_start(hole->topic->log)) {
        chunk->fit = FSM_FIT_BEGINS_LOW;
        return ERR_OK;
    }
    /* A log may begin inside of its first batch. */
    chain_init(&chunk->after, first->base_offset, NULL);
    return ERR_OK;
}

/* Only a first batch may end above: whoever sends one sends nothing else. */
static enum err fit_above(const struct fsm_hole *hole, struct fsm_chunk *chunk,
                          struct err_info *info)
{
    struct batch_header first;
    enum err err = read_first(&chunk->batches, &first, info);

    ASSERT(err == ERR_OK && chunk->after.offset > hole->to);
    if (!batch_is_compacted(&first) || first.size != chunk->batches.size) {
        return err_set(info, ERR_CORRUPT,
                       "the batches end at %" PRIu64 ", above the hole's end, %" PRIu64,
                       chunk->after.offset, hole->to);
    }
    chunk->fit = FSM_FIT_PASSES;
    return ERR_OK;
}

enum err fsm_hole_fit(const struct fsm_hole *hole, struct fsm_chunk *chunk, struct err_info *info)
{
    struct batch_header first;
    enum err err = read_first(&chunk->batches, &first, info);

    ASSERT(hole->chain.offset < hole->to);
    chunk->fit = FSM_FIT_WHOLE;
    chunk->after = hole->chain;
    if (err == ERR_OK && first.base_offset < hole->chain.offset) {
        err = fit_below(hole, chunk, &first, info);
    }
    if (err != ERR_OK || chunk->fit == FSM_FIT_BEGINS_LOW) {
        return err;
    }
    err = chain_follow(&chunk->after, chunk->batches.data, chunk->batches.size, info);
    return err == ERR_OK && chunk->after.offset > hole->to ? fit_above(hole, chunk, info) : err;
}
