#include "server/inspect.h"

#include <string.h>

#include "base/assert.h"

/* The chain before the batch that begins at base. */
static void before(struct log *log, uint64_t base, struct chain *ret_chain)
{
    struct batch_header header;

    /* At the log's start, and where the batch before is damaged, nothing is known. */
    if (base > log_start(log) && log_read_header(log, base - 1, &header, NULL) == ERR_OK &&
        batch_end_offset(&header) == base) {
        chain_init(ret_chain, base, header.digest);
    } else {
        chain_init(ret_chain, base, NULL);
    }
}

static enum err read_header(struct inspect *self)
{
    uint64_t end = log_end(self->log);
    enum err err;

    if (self->offset == UINT64_MAX) {
        if (end == log_start(self->log)) {
            return ERR_OK;
        }
        self->offset = end - 1;
    } else if (self->kind != INSPECT_HEADER && self->offset == end) {
        return ERR_OK;
    }
    err = log_read_header(self->log, self->offset, &self->header, &self->info);
    self->has_header = err == ERR_OK;
    return err;
}

/* Batches from the one that holds `offset` on, and the header of that one. It may begin below the
 * log's start. */
static enum err read_batches(struct inspect *self, uint64_t offset, size_t size_max,
                             struct block **ret_block, struct batch_header *ret_first)
{
    uint64_t start = log_start(self->log);
    uint64_t end;
    struct block *block;
    enum err err = log_read(self->log, offset < start ? start : offset, self->end, size_max, &block,
                            &end, &self->info);

    if (err != ERR_OK) {
        return err;
    }
    err = batch_header_decode(block->data, UINT32_MAX, ret_first, &self->info);
    ASSERT(err == ERR_OK && end > offset); /* log_read verified it. */
    *ret_block = block;
    return ERR_OK;
}

/* Reads and verifies from chain->offset on; what was verified is counted. */
static enum err check_from(struct inspect *self, struct chain *chain, size_t size_max)
{
    struct batch_header first;
    struct block *block;
    size_t done;
    enum err err = read_batches(self, chain->offset, size_max, &block, &first);

    if (err != ERR_OK) {
        return err;
    }
    if (first.base_offset != chain->offset) {
        before(self->log, first.base_offset, chain); /* It was compacted since. */
    }
    err = chain_batches(chain, block->data, block->size, &done, &self->info);
    self->size += done;
    block_unref(block);
    return err;
}

static bool is_damage(enum err err)
{
    return err == ERR_CORRUPT || err == ERR_IO || err == ERR_HOLE;
}

static void check(struct inspect *self)
{
    struct chain chain;
    enum err err = read_header(self);

    self->next = self->offset;
    if (err == ERR_OK && self->has_header) {
        before(self->log, self->header.base_offset, &chain);
        err = check_from(self, &chain, self->size_max);
        if (is_damage(err) && self->size == 0) {
            /* The text may tell of any batch of the run: one at a time shows which. */
            err = ERR_OK;
            while (err == ERR_OK && self->size < self->size_max) {
                err = check_from(self, &chain, 1);
            }
        }
        self->next = chain.offset;
    }
    if (err == ERR_AGAIN) {
        err = ERR_OK; /* The end of what is to be looked at. */
    }
    self->damage = is_damage(err) ? err : ERR_OK;
    self->err = is_damage(err) ? ERR_OK : err;
}

static enum err make_links(struct inspect *self, const struct block *batches)
{
    const uint8_t *at = batches->data;
    const uint8_t *end = batches->data + batches->size;
    size_t count = 0;
    uint8_t *to;

    for (; at < end && count < INSPECT_LINKS_MAX; count++) {
        struct batch_header header;
        enum err err = batch_header_decode(at, CHAIN_BATCH_SIZE_MAX, &header, &self->info);

        ASSERT(err == ERR_OK && header.size <= (size_t)(end - at)); /* log_read verified it. */
        self->next = batch_end_offset(&header);
        at += header.size;
    }
    end = at;
    self->links = block_new(count * CHAIN_LINK_SIZE);
    if (self->links == NULL) {
        return ERR_NOMEM;
    }
    to = self->links->data;
    for (at = batches->data; at < end; to += CHAIN_LINK_SIZE) {
        struct batch_header header;
        enum err err = batch_header_decode(at, CHAIN_BATCH_SIZE_MAX, &header, &self->info);

        ASSERT(err == ERR_OK); /* As above. */
        memcpy(to, at, BATCH_HEADER_SIZE);
        chain_part(&header, at + BATCH_HEADER_SIZE, to + BATCH_HEADER_SIZE);
        at += header.size;
    }
    return ERR_OK;
}

static enum err read_links(struct inspect *self)
{
    struct block *block;
    enum err err = read_header(self);

    self->next = self->offset;
    if (err != ERR_OK || !self->has_header || self->header.base_offset >= self->end) {
        return err;
    }
    err = read_batches(self, self->header.base_offset, self->size_max, &block, &self->header);
    if (err != ERR_OK) {
        return err;
    }
    before(self->log, self->header.base_offset, &self->previous);
    self->has_previous = self->previous.known;
    err = make_links(self, block);
    block_unref(block);
    return err;
}

void inspect_run(struct inspect *self)
{
    ASSERT(self->log != NULL && self->links == NULL);
    self->info = (struct err_info){0};
    switch (self->kind) {
    case INSPECT_HEADER:
        self->err = read_header(self);
        break;
    case INSPECT_CHECK:
        ASSERT(self->size_max > 0);
        check(self);
        break;
    case INSPECT_LINKS:
        ASSERT(self->size_max > 0);
        self->err = read_links(self);
        break;
    }
}

void inspect_fini(struct inspect *self)
{
    block_unref(self->links);
    self->links = NULL;
}
