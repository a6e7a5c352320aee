#include <string.h>

#include "archive/backup_internal.h"
#include "base/assert.h"
#include "record/batch_cut.h"

bool backup_straddles(const struct backup_topic *topic, const struct chain *chain,
                      const struct batch_header *header)
{
    uint64_t end = batch_end_offset(header);

    ASSERT(chain->offset < topic->end);
    return batch_is_compacted(header) && header->base_offset <= chain->offset &&
           end > chain->offset && (header->base_offset < chain->offset || end > topic->end);
}

/* The part ends where the manifest does: the digest there is known. When the batch was written that
 * ended there is not, but that it was not later than the manifest. */
static void end_with_manifest(const struct backup_edges *edges, uint8_t *part)
{
    struct batch_header header;
    enum err err = batch_header_decode(part, CHAIN_BATCH_SIZE_MAX, &header, NULL);

    ASSERT(err == ERR_OK && batch_end_offset(&header) == edges->topic->end);
    memcpy(header.digest, edges->topic->digest, DIGEST_SIZE);
    header.raft_index = header.raft_index < edges->index ? header.raft_index : edges->index;
    header.raft_term = header.raft_term < edges->term ? header.raft_term : edges->term;
    header.append_time_us =
        header.append_time_us < edges->time_us ? header.append_time_us : edges->time_us;
    batch_header_encode(&header, part);
}

enum err backup_cut(const struct backup_edges *edges, const uint8_t *batch, uint32_t size,
                    struct buf *out, struct err_info *info)
{
    const struct backup_topic *topic = edges->topic;
    const struct batch_cut cut = {.from = edges->chain->offset,
                                  .to = topic->end,
                                  .before = edges->chain->known ? edges->chain->digest
                                                                : topic->start_digest};
    struct batch_header header;
    size_t at = out->size;
    enum err err = batch_header_decode(batch, size, &header, info);

    ASSERT(err == ERR_OK && backup_straddles(topic, edges->chain, &header));
    err = batch_check_body(&header, batch + BATCH_HEADER_SIZE, info);
    err = err == ERR_OK ? batch_cut_append(batch, size, &cut, out, info) : err;
    if (err == ERR_OK && batch_end_offset(&header) > topic->end) {
        end_with_manifest(edges, out->data + at);
    }
    return err;
}
