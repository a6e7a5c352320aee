/*
 * The state machine applies entries of any contents: it fails for what no encoder makes, and for
 * nothing else. What is applied survives a restart, and goes to another replica as a snapshot.
 *
 *      entries: each a part, its payload
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "fuzz/fuzz.h"
#include "raft_fsm/fsm.h"

enum { ENTRIES_MAX = 64 };

struct replica {
    struct mem_io disk;
    struct fsm_options options;
    struct fsm *fsm;
};

static void open_fsm(struct replica *self)
{
    enum err err = fsm_open(&self->options, NULL, &self->fsm, NULL);

    ASSERT(err == ERR_OK);
}

static void init(struct replica *self)
{
    *self = (struct replica){0};
    self->options = (struct fsm_options){.io = fuzz_disk_init(&self->disk),
                                         .dir = "/",
                                         .segment_size_max = 4096,
                                         .index_interval = 256,
                                         .holes_allowed = true};
    open_fsm(self);
}

static void fini(struct replica *self)
{
    fsm_close(self->fsm);
    fuzz_disk_fini(&self->disk);
}

static struct slice manifest_of(const struct fsm *fsm)
{
    struct manifest manifest;
    struct slice bytes;
    enum err err = fsm_manifest(fsm, &manifest);

    ASSERT(err == ERR_OK);
    err = manifest_encode(&manifest, &bytes);
    ASSERT(err == ERR_OK);
    manifest_fini(&manifest);
    return bytes;
}

static void check_equal(const struct fsm *a, const struct fsm *b)
{
    struct slice first = manifest_of(a);
    struct slice second = manifest_of(b);

    ASSERT(first.size == second.size && memcmp(first.data, second.data, first.size) == 0);
    block_unref(first.block);
    block_unref(second.block);
}

static void on_result(void *arg, unsigned number, const struct fsm_result *result)
{
    unsigned *count = arg;

    ASSERT(number == *count);
    (*count)++;
    ASSERT(result->err != ERR_IO && result->err != ERR_CORRUPT && result->err != ERR_FAILED);
}

/* False when the entry is none that an encoder makes. */
static bool apply(struct fsm *fsm, const struct fuzz_input *payload, uint64_t index)
{
    struct block *block = entry_block_new((uint32_t)payload->size);
    struct entry entry;
    unsigned count = 0;
    enum err err;

    ASSERT(block != NULL);
    if (payload->size > 0) {
        memcpy(block->data + ENTRY_HEADER_SIZE, payload->data, payload->size);
    }
    entry_seal(block, (uint32_t)payload->size, index, 1 + index / 4, ENTRY_COMMAND, &entry);
    err = fsm_apply(fsm, &entry, on_result, &count, NULL);
    ASSERT(err == ERR_OK || err == ERR_CORRUPT || err == ERR_VERSION);
    entry_unref(&entry);
    if (err == ERR_OK) {
        fsm_check(fsm);
    }
    return err == ERR_OK;
}

static void check_installed(const struct replica *from)
{
    struct slice bytes = manifest_of(from->fsm);
    struct manifest manifest;
    struct replica other;
    enum err err = manifest_decode(bytes.data, bytes.size, &manifest, NULL);

    ASSERT(err == ERR_OK);
    init(&other);
    err = fsm_install(other.fsm, &manifest, NULL);
    ASSERT(err == ERR_OK);
    fsm_check(other.fsm);
    check_equal(from->fsm, other.fsm);
    manifest_fini(&manifest);
    fini(&other);
    block_unref(bytes.block);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    struct fuzz_input payloads[ENTRIES_MAX];
    struct replica replica;
    struct replica again;
    uint64_t count = 0;
    bool good = true;

    init(&replica);
    while (count < ENTRIES_MAX && input.size > 0 && good) {
        payloads[count] = fuzz_part(&input);
        good = apply(replica.fsm, &payloads[count], count + 1);
        count += good ? 1 : 0;
    }
    if (good && count > 0) {
        ASSERT(fsm_applied_index(replica.fsm) == count);
        check_installed(&replica);
        init(&again);
        for (uint64_t i = 0; i < 2 * count; i++) {
            if (i == count / 2) { /* It restarts, and is told all again. */
                fsm_close(again.fsm);
                open_fsm(&again);
            }
            if (fsm_applied_index(again.fsm) < count) {
                uint64_t next = fsm_applied_index(again.fsm);

                good = apply(again.fsm, &payloads[next], next + 1);
                ASSERT(good);
            }
        }
        check_equal(replica.fsm, again.fsm);
        fini(&again);
    }
    fini(&replica);
    return 0;
}
