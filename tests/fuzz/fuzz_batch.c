/*
 * Batches: as a producer sends them, as they are stored, as they follow on one another, and parts
 * of them.
 *
 *      u8 1: checksums are made right, 2: digests too | the bytes
 */
#include <stdlib.h>
#include <string.h>

#include "archive/chained.h"
#include "base/assert.h"
#include "fuzz/fix.h"
#include "fuzz/fuzz.h"
#include "raft_fsm/chain.h"
#include "record/batch_cut.h"

enum { BATCH_MAX = 1 << 20 };

static void check_produced(const uint8_t *bytes, size_t size)
{
    struct batch_header header;
    struct batch_header without_body;
    uint8_t encoded[BATCH_HEADER_SIZE];
    enum err err = batch_check_produced(bytes, size, BATCH_MAX, &header, NULL);
    enum err header_err = batch_header_decode_produced(bytes, size, BATCH_MAX, &without_body, NULL);

    ASSERT(err == ERR_OK || err == ERR_INVALID || err == ERR_TOO_LARGE || err == ERR_CHECKSUM);
    ASSERT(header_err == (err == ERR_CHECKSUM ? ERR_OK : err));
    if (err == ERR_OK) {
        ASSERT(header.size == size && header.record_count > 0 && header.base_offset == 0);
        ASSERT(batch_check_body(&header, bytes + BATCH_HEADER_SIZE, NULL) == ERR_OK);
        batch_header_encode(&header, encoded); /* Equal, but for the checksum. */
        ASSERT(memcmp(encoded + 8, bytes + 8, sizeof encoded - 8) == 0);
    }
}

static void check_stored(const uint8_t *bytes, size_t size)
{
    struct batch_header header;
    uint8_t encoded[BATCH_HEADER_SIZE];
    enum err err;

    if (size < BATCH_HEADER_SIZE) {
        return;
    }
    err = batch_header_decode(bytes, BATCH_MAX, &header, NULL);
    ASSERT(err == ERR_OK || err == ERR_CORRUPT);
    if (err == ERR_OK) {
        ASSERT(header.size > BATCH_HEADER_SIZE && header.size <= BATCH_MAX);
        ASSERT(batch_end_offset(&header) > header.base_offset);
        batch_header_encode(&header, encoded);
        ASSERT(memcmp(encoded, bytes, sizeof encoded) == 0);
        if (header.size <= size) {
            (void)batch_check_body(&header, bytes + BATCH_HEADER_SIZE, NULL); /* Either is fine. */
        }
    }
}

/* A chain takes batches one by one as it takes them all, and never a part of one. */
static void check_chain(const uint8_t *bytes, size_t size, bool known)
{
    struct batch_header first;
    struct chain chain;
    struct chain single;
    struct chain follow;
    uint32_t batch_size;
    size_t done;
    enum err err;
    static const uint8_t zeros[DIGEST_SIZE];

    if (size < BATCH_HEADER_SIZE || batch_header_decode(bytes, BATCH_MAX, &first, NULL) != ERR_OK) {
        return;
    }
    chain_init(&chain, first.base_offset, known ? zeros : NULL);
    single = chain;
    follow = chain;
    err = chain_batches(&chain, bytes, size, &done, NULL);
    ASSERT((err == ERR_OK) == (done == size) && done <= size);
    for (size_t at = 0; at < done; at += batch_size) {
        enum err one = chain_batch(&single, bytes + at, size - at, &batch_size, NULL);

        ASSERT(one == ERR_OK && batch_size <= done - at);
    }
    ASSERT(single.offset == chain.offset);
    ASSERT(memcmp(single.digest, chain.digest, DIGEST_SIZE) == 0);
    ASSERT(chain_follow(&follow, bytes, size, NULL) == err);
    ASSERT(follow.offset == (err == ERR_OK ? chain.offset : first.base_offset));
    if (size >= CHAIN_LINK_SIZE) {
        (void)chain_link(&follow, bytes, NULL); /* Either is fine. */
    }
}

/* The part of the first batch from its middle on is a batch, or its records are none; once more it
 * is the same. */
static void check_cut(const uint8_t *bytes, size_t size)
{
    static const uint8_t before[DIGEST_SIZE] = {1, 2, 3};
    struct batch_header header;
    struct batch_header part;
    struct batch_cut cut = {.to = UINT64_MAX, .before = before};
    struct buf out;
    size_t first_size;
    enum err err;

    if (size < BATCH_HEADER_SIZE ||
        batch_header_decode(bytes, BATCH_MAX, &header, NULL) != ERR_OK || header.size > size ||
        batch_check_body(&header, bytes + BATCH_HEADER_SIZE, NULL) != ERR_OK) {
        return;
    }
    cut.from = header.base_offset + header.record_count / 2;
    buf_init(&out, 4 * BATCH_MAX);
    err = batch_cut_append(bytes, header.size, &cut, &out, NULL);
    ASSERT(err == ERR_OK || err == ERR_CORRUPT || err == ERR_TOO_LARGE);
    if (err == ERR_OK) {
        ASSERT(batch_header_decode(out.data, UINT32_MAX, &part, NULL) == ERR_OK);
        ASSERT(part.size == out.size && part.base_offset == cut.from);
        ASSERT(batch_end_offset(&part) == batch_end_offset(&header));
        ASSERT(memcmp(part.digest, header.digest, DIGEST_SIZE) == 0);
        first_size = out.size;
        err = batch_cut_append(out.data, part.size, &cut, &out, NULL);
        ASSERT(err == ERR_TOO_LARGE || (err == ERR_OK && out.size == 2 * first_size));
        ASSERT(err != ERR_OK || memcmp(out.data, out.data + first_size, first_size) == 0);
    }
    buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    uint8_t control = fuzz_u8(&input);
    uint8_t previous[DIGEST_SIZE] = {0};
    uint8_t *bytes = fuzz_copy(&input);

    if ((control & 1) != 0) {
        fix_batches(bytes, input.size, (control & 2) != 0 ? previous : NULL);
    }
    check_stored(bytes, input.size);
    check_chain(bytes, input.size, (control & 2) != 0);
    check_cut(bytes, input.size);
    if ((control & 1) != 0 && input.size >= 8) {
        memset(bytes + 4, 0, 4); /* Stamped: a producer leaves it zero. */
    }
    check_produced(bytes, input.size);
    free(bytes);
    return 0;
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    struct chained topic;

    chained_init(&topic, 4096, "t");
    for (unsigned i = 1; i <= 3; i++) {
        struct buf seed = {0};

        chained_add(&topic, i, i * 20);
        fuzz_put_u8(&seed, 3);
        fuzz_put(&seed, topic.bytes, topic.size);
        fuzz_emit(emit, arg, &seed);
    }
    for (uint8_t stamped = 0; stamped < 2; stamped++) {
        struct buf seed = {0};
        uint8_t produced[BATCH_HEADER_SIZE + 20];

        memcpy(produced, topic.bytes, BATCH_HEADER_SIZE + 20);
        if (stamped == 0) {
            memset(produced + 16, 0, 32);
            memset(produced + BATCH_DIGESTED_TO, 0, DIGEST_SIZE);
        }
        fuzz_put_u8(&seed, 1);
        fuzz_put(&seed, produced, sizeof produced);
        fuzz_emit(emit, arg, &seed);
    }
    for (size_t first = 0; first < 2; first++) { /* Compacted ones, and one that follows. */
        struct buf seed = {0};

        chained_merge(&topic, first, 2 - first);
        fuzz_put_u8(&seed, 3);
        fuzz_put(&seed, topic.bytes, topic.size);
        fuzz_emit(emit, arg, &seed);
    }
    chained_fini(&topic);
}
