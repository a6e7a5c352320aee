/*
 * A broken build: what fills a hole is not held against the chain of digests, and neither is what
 * the scrubber reads. Linked with --wrap=chain_follow.
 */
#include <string.h>

#include "base/assert.h"
#include "raft_fsm/chain.h"

enum err __wrap_chain_follow(struct chain *self, const uint8_t *bytes, size_t size,
                             struct err_info *info);

enum err __wrap_chain_follow(struct chain *self, const uint8_t *bytes, size_t size,
                             struct err_info *info)
{
    for (size_t at = 0; at < size;) {
        struct batch_header header;
        enum err err = batch_header_decode(bytes + at, (uint32_t)(size - at), &header, info);

        if (err != ERR_OK) {
            return err;
        }
        memcpy(self->digest, header.digest, sizeof self->digest);
        self->offset = batch_end_offset(&header);
        self->known = true;
        ASSERT(header.size > 0);
        at += header.size;
    }
    return ERR_OK;
}
