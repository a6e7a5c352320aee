#include "raft_fsm/chain.h"

#include <inttypes.h>
#include <string.h>

#include "base/assert.h"
#include "raft_fsm/command.h"

/* Adds one batch, whose body verifies. */
static enum err add(struct chain *self, const struct batch_header *header, const uint8_t *body,
                    struct err_info *info)
{
    uint8_t digest[DIGEST_SIZE];

    if (header->base_offset != self->offset) {
        return err_set(info, ERR_CORRUPT,
                       "a batch at offset %" PRIu64 " came where %" PRIu64 " belongs",
                       header->base_offset, self->offset);
    }
    if (header->record_count > UINT64_MAX - header->base_offset) {
        return err_set(info, ERR_CORRUPT, "the batch at offset %" PRIu64 " has no end",
                       header->base_offset);
    }
    digest_bytes(body, header->size - BATCH_HEADER_SIZE, digest);
    digest_chain(self->digest, header, digest, digest);
    if (self->known && memcmp(digest, header->digest, DIGEST_SIZE) != 0) {
        return err_set(info, ERR_CORRUPT,
                       "the batch at offset %" PRIu64 " does not follow on the one before it",
                       self->offset);
    }
    memcpy(self->digest, header->digest, DIGEST_SIZE);
    self->known = true;
    self->offset = batch_end_offset(header);
    return ERR_OK;
}

enum err chain_follow(struct chain *self, const uint8_t *batches, size_t size,
                      struct err_info *info)
{
    struct chain chain = *self;
    size_t position = 0;

    while (position < size) {
        struct batch_header header;
        enum err err;

        if (size - position < BATCH_HEADER_SIZE) {
            return err_set(info, ERR_CORRUPT, "the header of a batch is cut off");
        }
        err = batch_header_decode(batches + position, COMMAND_BATCH_SIZE_MAX, &header, info);
        if (err != ERR_OK) {
            return err;
        }
        if (header.size > size - position) {
            return err_set(info, ERR_CORRUPT, "a batch of %u bytes is cut off", header.size);
        }
        err = batch_check_body(&header, batches + position + BATCH_HEADER_SIZE, info);
        if (err == ERR_OK) {
            err = add(&chain, &header, batches + position + BATCH_HEADER_SIZE, info);
        }
        if (err != ERR_OK) {
            return err;
        }
        position += header.size;
    }
    ASSERT(position == size);
    ASSERT(chain.offset >= self->offset);
    *self = chain;
    return ERR_OK;
}
