/*
 * A manifest: topics, producers, cursors, nodes. What is read is written as bytes that are read as
 * the same, and a copy of it as well.
 *
 *      u8 1: the checksum is made right | the manifest
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "fuzz/fuzz.h"
#include "raft_fsm/history.h"
#include "raft_fsm/manifest.h"
#include "sim/mem_io.h"

static void check_state(const struct manifest *manifest)
{
    for (size_t i = 0; i < manifest->topic_count; i++) {
        const struct manifest_topic *topic = &manifest->topics[i];

        ASSERT(topic->start <= topic->end);
        ASSERT(topic->clean.tombstones_below <= topic->clean.clean_to);
        ASSERT(topic->clean.clean_to <= topic->end);
        ASSERT(topic_name_check(topic->name, strlen(topic->name), NULL) == ERR_OK);
        ASSERT(manifest_find(manifest, topic->id) == topic);
        ASSERT(i == 0 || topic->id > topic[-1].id);
    }
    if (manifest->nodes != NULL) {
        for (unsigned i = 0; i < manifest->nodes->count; i++) {
            const struct node_disk *node = &manifest->nodes->list[i];

            ASSERT(node->id > 0 && node->disk_id != 0);
            ASSERT(nodes_find(manifest->nodes, node->id) == node->disk_id);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    bool fixed = (fuzz_u8(&input) & 1) != 0;
    uint8_t *bytes = fuzz_copy(&input);
    struct manifest manifest;
    struct manifest copy;
    struct slice encoded;
    struct slice again;
    enum err err;

    if (fixed && input.size >= 4) {
        bytes_put_u32(bytes + input.size - 4, crc32c(bytes, input.size - 4));
    }
    err = manifest_decode(bytes, input.size, &manifest, NULL);
    free(bytes);
    if (err != ERR_OK) {
        ASSERT(err == ERR_CORRUPT || err == ERR_VERSION);
        return 0;
    }
    check_state(&manifest);
    err = manifest_copy(&manifest, &copy);
    ASSERT(err == ERR_OK);
    err = manifest_encode(&manifest, &encoded);
    ASSERT(err == ERR_OK);
    manifest_fini(&manifest);
    err = manifest_decode(encoded.data, encoded.size, &manifest, NULL);
    ASSERT(err == ERR_OK);
    manifest_fini(&manifest);
    err = manifest_encode(&copy, &again);
    ASSERT(err == ERR_OK && again.size == encoded.size);
    ASSERT(memcmp(again.data, encoded.data, encoded.size) == 0);
    manifest_fini(&copy);
    block_unref(encoded.block);
    block_unref(again.block);
    return 0;
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    for (unsigned entries = 1; entries <= 81; entries += 20) {
        struct mem_io disk;
        const struct fsm_options options = {.io = fuzz_disk_init(&disk), .dir = "/"};
        struct buf seed = {0};
        struct history history;
        struct slice bytes;
        struct fsm *fsm;
        enum err err = fsm_open(&options, NULL, &fsm, NULL);

        ASSERT(err == ERR_OK);
        history_init(&history, entries, entries);
        history_apply(&history, fsm, entries);
        bytes = history_manifest_bytes(fsm);
        fuzz_put_u8(&seed, 1);
        fuzz_put(&seed, bytes.data, bytes.size);
        fuzz_emit(emit, arg, &seed);
        block_unref(bytes.block);
        history_fini(&history);
        fsm_close(fsm);
        fuzz_disk_fini(&disk);
    }
}
