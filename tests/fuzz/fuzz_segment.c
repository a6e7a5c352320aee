/*
 * A segment whose store is any file: recovered, read, sealed and opened again by its index.
 *
 *      u8 1: checksums are made right, 2: below the end nothing may be wrong | u16 where reads
 *      begin | the file
 */
#include <stdlib.h>
#include <string.h>

#include "archive/chained.h"
#include "base/assert.h"
#include "fuzz/fix.h"
#include "fuzz/fuzz.h"
#include "log/segment.h"

enum { READS_MAX = 64 };

static const char path[] = "/00000000000000000000.store";

/* What is found is read and verified, from one run to the next, up to the end. */
static void read_all(const struct segment *segment, uint64_t offset)
{
    uint64_t end = segment->end_offset;
    struct segment_query query = {.offset = offset, .end_max = end, .size_max = 512};

    for (unsigned i = 0; i < READS_MAX && query.offset < end; i++) {
        struct segment_run run;
        struct block *batches;
        uint64_t end_offset;
        enum err err = segment_find(segment, &query, &run, NULL);

        ASSERT(err == ERR_OK && run.base_offset <= query.offset && run.end_offset > query.offset);
        err = segment_read(segment, &query, &batches, &end_offset, NULL);
        ASSERT(err == ERR_OK && end_offset == run.end_offset && batches->size == run.size);
        block_unref(batches);
        query.offset = end_offset;
    }
}

/* Sealed, and opened again, it shows the same. */
static void check_sealed(const struct segment_config *config, const struct segment *segment,
                         uint64_t offset)
{
    struct segment *sealed;
    struct segment *opened;
    struct store *store;
    enum err err = segment_seal(config, segment, &sealed, NULL);

    ASSERT(err == ERR_OK);
    segment_check(sealed);
    read_all(sealed, offset);
    segment_unref(sealed);
    err = store_open(config->io, path, 0, &store, NULL);
    ASSERT(err == ERR_OK);
    err = segment_open(config, store, &opened, NULL);
    ASSERT(err == ERR_OK && opened->end_offset == segment->end_offset);
    segment_check(opened);
    read_all(opened, offset);
    segment_unref(opened);
}

static void check_recovered(const struct segment_config *config, struct store *store,
                            uint64_t durable_end, uint64_t offset)
{
    struct segment *segment;
    struct segment_tail tail;
    struct segment_cut cut;
    struct batch_header last;
    enum err err = segment_recover(config, store, NULL, durable_end, &segment, &tail, NULL);

    if (err != ERR_OK) {
        ASSERT(err == ERR_CORRUPT && durable_end > 0);
        store_unref(store);
        return;
    }
    ASSERT(tail.position >= STORE_HEADER_SIZE && tail.position <= store_size(store));
    ASSERT(tail.torn == (tail.position < store_size(store)));
    read_all(segment, offset);
    err = segment_measure(segment, segment->end_offset, &cut, &last, NULL);
    ASSERT(err == ERR_OK && cut.end_offset == segment->end_offset);
    if (tail.torn) {
        err = store_truncate(segment->store, tail.position, NULL);
        ASSERT(err == ERR_OK);
    }
    segment_check(segment);
    if (segment->end_offset > segment->base_offset) {
        check_sealed(config, segment, offset);
    }
    segment_unref(segment);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    uint8_t control = fuzz_u8(&input);
    uint64_t offset = fuzz_u16(&input);
    uint8_t *bytes = fuzz_copy(&input);
    struct mem_io disk;
    const struct segment_config config = {
        .io = fuzz_disk_init(&disk), .dir = "/", .size_max = 1 << 20, .index_interval = 128};
    struct store *store;
    enum err err;

    if ((control & 1) != 0) {
        fix_store(bytes, input.size);
    }
    fuzz_write_file(config.io, path, bytes, input.size);
    err = store_open(config.io, path, 0, &store, NULL);
    if (err == ERR_OK) {
        check_recovered(&config, store, (control & 2) != 0 ? 1000 : 0, offset);
    } else {
        ASSERT(err == ERR_CORRUPT || err == ERR_VERSION);
    }
    fuzz_disk_fini(&disk);
    free(bytes);
    return 0;
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    struct mem_io disk;
    const struct store_options options = {.io = fuzz_disk_init(&disk), .path = path};
    struct store *store;
    struct chained topic;
    enum err err = store_create(&options, &store, NULL);

    ASSERT(err == ERR_OK);
    store_unref(store);
    chained_init(&topic, 4096, "t");
    for (uint32_t i = 0; i < 5; i++) {
        struct buf seed = {0};

        fuzz_put_u8(&seed, 1);
        fuzz_put_u16(&seed, (uint16_t)i);
        fuzz_read_file(&disk.io, path, &seed);
        fuzz_put(&seed, topic.bytes, topic.size);
        fuzz_emit(emit, arg, &seed);
        chained_add(&topic, i + 1, 40 * i + 1);
    }
    chained_fini(&topic);
    fuzz_disk_fini(&disk);
}
