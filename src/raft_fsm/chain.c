#include "raft_fsm/chain.h"

#include <inttypes.h>
#include <string.h>

#include "base/assert.h"

void chain_init(struct chain *self, uint64_t offset, const uint8_t *digest)
{
    ASSERT(self != NULL);
    *self = (struct chain){.offset = offset, .known = digest != NULL || offset == 0};
    if (digest != NULL && offset > 0) {
        memcpy(self->digest, digest, DIGEST_SIZE);
    }
}

void chain_part(const struct batch_header *header, const uint8_t *body,
                uint8_t ret_part[DIGEST_SIZE])
{
    ASSERT(header->size > BATCH_HEADER_SIZE);
    if (!batch_is_compacted(header)) {
        digest_bytes(body, header->size - BATCH_HEADER_SIZE, ret_part);
        return;
    }
    ASSERT(header->size >= BATCH_HEADER_SIZE + DIGEST_SIZE); /* log/batch.h */
    memcpy(ret_part, body, DIGEST_SIZE);
}

/* What the digest of the batch tells of the one before it. */
static bool follows(const struct chain *self, const struct batch_header *header,
                    const uint8_t part[DIGEST_SIZE])
{
    uint8_t digest[DIGEST_SIZE];

    if (batch_is_compacted(header)) {
        return memcmp(part, self->digest, DIGEST_SIZE) == 0; /* C3 */
    }
    digest_chain(self->digest, header, part, digest);
    return memcmp(digest, header->digest, DIGEST_SIZE) == 0;
}

enum err chain_header(struct chain *self, const struct batch_header *header,
                      const uint8_t part[DIGEST_SIZE], struct err_info *info)
{

    ASSERT(header->record_count > 0 && header->size > BATCH_HEADER_SIZE);
    if (header->base_offset != self->offset) {
        return err_set(info, ERR_CORRUPT,
                       "a batch begins at offset %" PRIu64 " where one at %" PRIu64 " belongs",
                       header->base_offset, self->offset);
    }
    if (self->known && !follows(self, header, part)) {
        return err_set(info, ERR_CORRUPT,
                       "the digest of the batch at offset %" PRIu64 " does not follow from %s",
                       header->base_offset,
                       batch_is_compacted(header) ? "the batch before, whatever it stands for"
                                                  : "its contents and the batch before");
    }
    memcpy(self->digest, header->digest, DIGEST_SIZE);
    self->known = true;
    self->offset = batch_end_offset(header); /* C1 */
    return ERR_OK;
}

enum err chain_link(struct chain *self, const uint8_t link[CHAIN_LINK_SIZE], struct err_info *info)
{
    struct batch_header header;
    enum err err = batch_header_decode(link, CHAIN_BATCH_SIZE_MAX, &header, info);

    ASSERT(self != NULL);
    return err != ERR_OK ? err : chain_header(self, &header, link + BATCH_HEADER_SIZE, info);
}

enum err chain_batch(struct chain *self, const uint8_t *bytes, size_t size, uint32_t *ret_size,
                     struct err_info *info)
{
    struct batch_header header;
    uint8_t part[DIGEST_SIZE];
    enum err err;

    ASSERT(bytes != NULL);
    if (size < BATCH_HEADER_SIZE) {
        return err_set(info, ERR_CORRUPT, "the header of a batch is cut off after %zu bytes", size);
    }
    err = batch_header_decode(bytes, CHAIN_BATCH_SIZE_MAX, &header, info);
    if (err == ERR_OK && header.size > size) {
        err = err_set(info, ERR_CORRUPT,
                      "the batch at offset %" PRIu64 ", %" PRIu32 " bytes, is cut off after %zu",
                      header.base_offset, header.size, size);
    }
    err = err != ERR_OK ? err : batch_check_body(&header, bytes + BATCH_HEADER_SIZE, info);
    if (err != ERR_OK) {
        return err;
    }
    chain_part(&header, bytes + BATCH_HEADER_SIZE, part);
    err = chain_header(self, &header, part, info);
    if (err == ERR_OK) {
        *ret_size = header.size;
    }
    return err;
}

enum err chain_batches(struct chain *self, const uint8_t *bytes, size_t size, size_t *ret_done,
                       struct err_info *info)
{
    enum err err = ERR_OK;

    *ret_done = 0;
    while (err == ERR_OK && *ret_done < size) {
        uint32_t batch_size = 0;

        err = chain_batch(self, bytes + *ret_done, size - *ret_done, &batch_size, info);
        *ret_done += batch_size;
    }
    ASSERT(err != ERR_OK || *ret_done == size);
    return err;
}

enum err chain_follow(struct chain *self, const uint8_t *bytes, size_t size, struct err_info *info)
{
    struct chain chain = *self;
    size_t done;
    enum err err = chain_batches(&chain, bytes, size, &done, info);

    if (err == ERR_OK) {
        *self = chain;
    }
    return err;
}
