/*
 * The snapshot's file, and what a node makes of it when it starts.
 *
 *      u8 1: the checksum is made right | the file
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "fuzz/fuzz.h"
#include "raft_fsm/manifest.h"
#include "raft_fsm/membership.h"

static void check_saved_again(struct io *io, const struct snapshot *snapshot)
{
    struct snapshot again;
    struct membership members;
    struct manifest manifest;
    enum err err = snapshot_save(io, "/", snapshot, NULL);

    ASSERT(err == ERR_OK);
    err = snapshot_load(io, "/", &again, NULL);
    ASSERT(err == ERR_OK);
    ASSERT(again.index == snapshot->index && again.term == snapshot->term);
    ASSERT(again.membership_index == snapshot->membership_index);
    ASSERT(again.membership.size == snapshot->membership.size);
    ASSERT(again.manifest.size == snapshot->manifest.size);
    ASSERT(memcmp(again.manifest.data, snapshot->manifest.data, again.manifest.size) == 0);
    (void)membership_decode(again.membership.data, again.membership.size, &members, NULL);
    if (manifest_decode(again.manifest.data, again.manifest.size, &manifest, NULL) == ERR_OK) {
        manifest_fini(&manifest);
    }
    snapshot_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    bool fixed = (fuzz_u8(&input) & 1) != 0;
    uint8_t *bytes = fuzz_copy(&input);
    struct mem_io disk;
    struct io *io = fuzz_disk_init(&disk);
    struct snapshot snapshot;
    enum err err;

    if (fixed && input.size >= 16) {
        bytes_put_u32(bytes + 12, (uint32_t)input.size - 16);
        bytes_put_u32(bytes + 8, crc32c(bytes + 16, input.size - 16));
    }
    fuzz_write_file(io, "/snapshot", bytes, input.size);
    err = snapshot_load(io, "/", &snapshot, NULL);
    if (err == ERR_OK) {
        check_saved_again(io, &snapshot);
        snapshot_fini(&snapshot);
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
    struct io *io = fuzz_disk_init(&disk);
    struct manifest manifest = {.applied_index = 9};
    struct membership members = {0};
    struct snapshot snapshot = {.index = 9, .term = 2, .membership_index = 1};
    struct buf seed = {0};
    enum err err;

    (void)membership_add(&members, 1, "n1:7437", MEMBER_VOTER); /* An empty one takes it. */
    snapshot.membership.size = membership_encoded_size(&members);
    snapshot.membership.block = block_new(snapshot.membership.size);
    ASSERT(snapshot.membership.block != NULL);
    membership_encode(&members, snapshot.membership.block->data);
    snapshot.membership.data = snapshot.membership.block->data;
    err = producers_new(&manifest.producers);
    ASSERT(err == ERR_OK);
    err = cursors_new(&manifest.cursors);
    ASSERT(err == ERR_OK);
    err = manifest_encode(&manifest, &snapshot.manifest);
    ASSERT(err == ERR_OK);
    manifest_fini(&manifest);
    err = snapshot_save(io, "/", &snapshot, NULL);
    ASSERT(err == ERR_OK);
    snapshot_fini(&snapshot);
    fuzz_put_u8(&seed, 1);
    fuzz_read_file(io, "/snapshot", &seed);
    fuzz_emit(emit, arg, &seed);
    fuzz_disk_fini(&disk);
}
