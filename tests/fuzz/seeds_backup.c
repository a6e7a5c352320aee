/* Inputs to begin with for fuzz_backup.c, which says what they are made of. */
#include <inttypes.h>

#include "archive/chained.h"
#include "base/assert.h"
#include "fuzz/fuzz.h"
#include "log/store.h"

enum { APPLIED = 70 };

static void put_store(struct buf *seed, const struct chained *topic, uint8_t which)
{
    struct mem_io disk;
    const struct store_options options = {.io = fuzz_disk_init(&disk), .path = "/store"};
    struct store *store;
    struct buf file = {0};
    enum err err = store_create(&options, &store, NULL);

    ASSERT(err == ERR_OK);
    store_unref(store);
    fuzz_read_file(options.io, "/store", &file);
    fuzz_put(&file, topic->bytes, topic->size);
    fuzz_put_u8(seed, which);
    fuzz_put_u8(seed, 0);
    fuzz_put_part(seed, file.data, file.size);
    buf_fini(&file);
    fuzz_disk_fini(&disk);
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    for (unsigned batches = 0; batches < 3; batches++) {
        struct chained topics[2];
        struct slice manifest;
        struct buf seed = {0};
        struct buf text = {0};

        chained_init(&topics[0], 4096, "a");
        chained_init(&topics[1], 8192, "b");
        for (unsigned i = 0; i < batches; i++) {
            chained_add(&topics[0], 2, 20);
            chained_add(&topics[1], 1, 30 + i);
        }
        manifest = chained_manifest(topics, 2, APPLIED);
        fuzz_put(&text, "", 0);
        for (unsigned i = 0; i < 2; i++) {
            (void)buf_printf(&text, "topic %" PRIu64 " 0 %" PRIu64 " %s\n", topics[i].id,
                             topics[i].end, topics[i].name); /* fits */
            if (topics[i].end > 0) {
                (void)buf_printf(&text, "file %" PRIu64 " 0 %" PRIu64 " %zu\n", topics[i].id,
                                 topics[i].end, STORE_HEADER_SIZE + topics[i].size); /* fits */
            }
        }
        fuzz_put_u8(&seed, 3);
        fuzz_put_part(&seed, text.data, text.size);
        fuzz_put_part(&seed, manifest.data, manifest.size);
        for (uint8_t i = 0; i < 2 && batches > 0; i++) {
            put_store(&seed, &topics[i], i);
        }
        fuzz_emit(emit, arg, &seed);
        buf_fini(&text);
        block_unref(manifest.block);
        chained_fini(&topics[0]);
        chained_fini(&topics[1]);
    }
}
