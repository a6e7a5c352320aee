/*
 * A batch of any shape, walked over: each record has an offset of its own inside of the batch, in
 * order; a dense one has all of them. What is found is written as a sparse body and found again,
 * and so are its bytes as they are, for what compaction does with them.
 *
 *      attributes u8 | record_count u16 | base_offset u64 | body
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "fuzz/fuzz.h"
#include "record/batch_records.h"
#include "record/codec.h"

enum { PLAIN_MAX = 1 << 16, APPEND_TIME = 12345 };

struct found {
    uint32_t count;
    uint64_t sum; /* of offsets, modulo 2^64 */
    struct buf again;
    struct buf raw;
};

static enum err walk(const struct batch_header *header, const uint8_t *body, struct found *found)
{
    struct batch_records records;
    struct record record;
    uint64_t next = header->base_offset;
    enum err err;

    batch_records_init(&records);
    err = batch_records_start(&records, header, body, PLAIN_MAX, NULL);
    ASSERT(err == ERR_OK || err == ERR_CORRUPT || err == ERR_TOO_LARGE);
    while (err == ERR_OK && (err = batch_records_next(&records, &record)) == ERR_OK) {
        ASSERT(record.offset >= next && record.offset < batch_end_offset(header));
        ASSERT(IMPLIES((header->attributes & BATCH_SPARSE) == 0, record.offset == next));
        ASSERT(record.value != NULL);
        next = record.offset + 1;
        found->count++;
        found->sum += record.offset;
        if (record_set_append_raw(&found->raw, records.reader.raw, records.reader.raw_size,
                                  record.offset, record.append_time_us) != ERR_OK) {
            ASSERT(!"what was read is copied");
        }
        record.header_count = 0; /* Their names may be none that are written. */
        if (record_set_append_sparse(&found->again, &record, APPEND_TIME) != ERR_OK) {
            ASSERT(!"what was read is written");
        }
    }
    ASSERT(found->count <= header->record_count);
    ASSERT(IMPLIES(err == ERR_AGAIN && (header->attributes & BATCH_SPARSE) == 0,
                   found->count == header->record_count));
    batch_records_fini(&records);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    struct batch_header header = {.append_time_us = APPEND_TIME};
    struct found found = {0};
    struct found twice = {0};
    uint8_t *body;
    enum err err;

    header.attributes = fuzz_u8(&input) & BATCH_ATTRIBUTES_KNOWN;
    header.record_count = 1 + (uint32_t)fuzz_u16(&input);
    header.base_offset = fuzz_u64(&input) >> 1;
    if ((header.attributes & BATCH_CODEC_MASK) > BATCH_CODEC_MAX || input.size == 0 ||
        ((header.attributes & BATCH_COMPACTED) != 0 &&
         ((header.attributes & BATCH_SPARSE) == 0 || input.size < BATCH_DIGEST_SIZE))) {
        return 0; /* log/batch.h has refused it. */
    }
    header.size = BATCH_HEADER_SIZE + (uint32_t)input.size;
    body = fuzz_copy(&input);
    buf_init(&found.again, 1 << 24);
    buf_init(&twice.again, 1 << 24);
    buf_init(&found.raw, 1 << 24);
    buf_init(&twice.raw, 1 << 24);
    (void)walk(&header, body, &found); /* Up to where it is good. */
    if (found.count > 0) {
        header.attributes = BATCH_SPARSE;
        header.size = BATCH_HEADER_SIZE + (uint32_t)found.again.size;
        err = walk(&header, found.again.data, &twice);
        ASSERT(err == ERR_AGAIN && twice.count == found.count && twice.sum == found.sum);
        twice.count = 0;
        twice.sum = 0;
        twice.raw.size = 0;
        header.size = BATCH_HEADER_SIZE + (uint32_t)found.raw.size;
        err = walk(&header, found.raw.data, &twice);
        ASSERT(err == ERR_AGAIN && twice.count == found.count && twice.sum == found.sum);
        ASSERT(twice.raw.size == found.raw.size &&
               memcmp(twice.raw.data, found.raw.data, found.raw.size) == 0);
    }
    buf_fini(&found.again);
    buf_fini(&twice.again);
    buf_fini(&found.raw);
    buf_fini(&twice.raw);
    free(body);
    return 0;
}

static void put_seed(fuzz_emit_cb emit, void *arg, unsigned attributes, const struct buf *set)
{
    enum codec codec = (enum codec)(attributes & BATCH_CODEC_MASK);
    static const uint8_t digest[BATCH_DIGEST_SIZE];
    struct buf seed;

    buf_init(&seed, 1 << 20);
    fuzz_put_u8(&seed, (uint8_t)attributes);
    fuzz_put_u16(&seed, 2); /* three */
    fuzz_put_u64(&seed, 20);
    if ((attributes & BATCH_COMPACTED) != 0) {
        fuzz_put(&seed, digest, sizeof digest);
    }
    if (codec == CODEC_NONE) {
        fuzz_put(&seed, set->data, set->size);
    } else if (codec_compress(codec, set->data, set->size, &seed, NULL) != ERR_OK) {
        ASSERT(!"it is compressed");
    }
    fuzz_emit(emit, arg, &seed);
    buf_fini(&seed);
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    static const unsigned attributes[] = {0,
                                          1,
                                          2,
                                          BATCH_SPARSE,
                                          BATCH_SPARSE | 2,
                                          BATCH_SPARSE | BATCH_COMPACTED,
                                          BATCH_SPARSE | BATCH_COMPACTED | 1};

    for (size_t i = 0; i < sizeof attributes / sizeof attributes[0]; i++) {
        struct buf set;

        buf_init(&set, 1 << 20);
        for (uint64_t k = 0; k < 3; k++) {
            struct record record = {
                .value = "value", .value_size = 5, .offset = 10 + k, .append_time_us = 5};

            /* Half of the offset: it is shifted above. */
            if (record_set_append_sparse(&set, &record, APPEND_TIME) != ERR_OK) {
                ASSERT(!"it fits");
            }
        }
        put_seed(emit, arg, attributes[i], &set);
        buf_fini(&set);
    }
}
