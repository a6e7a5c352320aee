#include "raft_fsm/compact_step.h"

#include <inttypes.h>
#include <string.h>

#include "base/assert.h"

enum {
    OUT_SIZE_MAX = 128 << 20, /* of what comes out of a chunk */
};

enum err compact_note(struct compact_step *self, struct err_info *info)
{
    uint64_t noted = self->offset;
    struct block *block;
    uint64_t end;
    enum err err;

    ASSERT(self->offset < self->to);
    self->at = self->offset;
    err = log_read(self->log, self->offset, self->to, self->chunk_size, &block, &end, info);

    if (err != ERR_OK) {
        return err;
    }
    self->bytes += block->size;
    err = compactor_note(self->latest, self->to, block->data, block->size, &noted, info);
    block_unref(block);
    self->full = err == ERR_LIMIT;
    if (err == ERR_OK || err == ERR_LIMIT) {
        self->offset = noted > self->offset ? noted : self->offset;
        /* A batch that ends above stays as it is. */
        self->to = noted < end ? self->offset : self->to;
        err = ERR_OK;
    }
    return err;
}

/* Of the batch before the one that begins the block. */
static enum err find_digest(const struct compact_step *self, const struct block *block,
                            const struct batch_header *first, uint8_t ret_digest[DIGEST_SIZE],
                            struct err_info *info)
{
    struct log *log = self->log;
    struct batch_header below;
    enum err err;

    memset(ret_digest, 0, DIGEST_SIZE);
    if (first->base_offset == 0) {
        return ERR_OK;
    }
    if (first->base_offset == self->start) {
        memcpy(ret_digest, self->start_digest, DIGEST_SIZE);
        return ERR_OK;
    }
    if (first->base_offset > log_start(log)) {
        err = log_read_header(log, first->base_offset - 1, &below, info);
        if (err == ERR_OK) {
            memcpy(ret_digest, below.digest, DIGEST_SIZE);
        }
        return err;
    }
    if ((first->attributes & BATCH_COMPACTED) == 0) {
        return err_set(info, ERR_HOLE, "what lies before offset %" PRIu64 " is not known",
                       first->base_offset);
    }
    /* The log's start lies inside of it. */
    memcpy(ret_digest, block->data + BATCH_HEADER_SIZE, DIGEST_SIZE);
    return ERR_OK;
}

/* Puts a chunk, or what is left in the compactor at the end, through it. */
static enum err put_through(struct compact_step *self, const struct block *block, struct buf *out,
                            struct err_info *info)
{
    uint8_t digest[DIGEST_SIZE];
    struct batch_header first;
    enum err err = ERR_OK;

    if (self->compactor == NULL) {
        err = batch_header_decode(block->data, UINT32_MAX, &first, info);
        err = err == ERR_OK ? find_digest(self, block, &first, digest, info) : err;
        if (err == ERR_OK) {
            err = compactor_new(&self->options, first.base_offset, digest, &self->compactor);
        }
        if (err != ERR_OK) {
            return err;
        }
        self->first = first.base_offset;
    }
    err = compactor_take(self->compactor, block->data, block->size, out, info);
    if (err == ERR_OK && self->offset == self->to) {
        err = compactor_finish(self->compactor, out, info);
        ASSERT(IMPLIES(err == ERR_OK, compactor_offset(self->compactor) == self->to));
    }
    return err;
}

enum err compact_look(struct compact_step *self, struct err_info *info)
{
    struct compactor_counts counts;
    struct block *block;
    struct buf out;
    enum err err;

    ASSERT(self->rewrite == NULL && self->offset < self->to);
    self->at = self->offset;
    err =
        log_read(self->log, self->offset, self->to, self->chunk_size, &block, &self->offset, info);

    if (err != ERR_OK) {
        return err;
    }
    buf_init(&out, OUT_SIZE_MAX);
    self->bytes += block->size;
    err = put_through(self, block, &out, info);
    if (err == ERR_OK) {
        compactor_counts(self->compactor, &counts);
        self->changes = counts.superseded + counts.tombstones > 0;
    }
    buf_fini(&out);
    block_unref(block);
    return err;
}

enum err compact_write(struct compact_step *self, struct err_info *info)
{
    bool hidden = self->offset < self->first;
    struct block *block;
    struct buf out;
    enum err err;

    ASSERT(self->first != COMPACT_FIRST_UNKNOWN && self->offset < self->to);
    self->at = self->offset;
    err = log_rewrite_read(self->rewrite, self->offset, hidden ? self->first : self->to,
                           self->chunk_size, &block, &self->offset, info);

    if (err != ERR_OK) {
        return err;
    }
    buf_init(&out, OUT_SIZE_MAX);
    err =
        hidden ? buf_append(&out, block->data, block->size) : put_through(self, block, &out, info);
    if (err == ERR_OK) {
        self->writing = true;
        err = log_rewrite_put(self->rewrite, out.data, out.size, info);
        self->bytes += block->size + out.size;
    }
    buf_fini(&out);
    block_unref(block);
    return err;
}
