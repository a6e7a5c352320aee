/*
 * An index file. What opens is in order, and finds for every offset the entry that stands before.
 *
 *      u8 1: checksums are made right | u64 an offset to look for | the file
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "fuzz/fix.h"
#include "fuzz/fuzz.h"
#include "log/index.h"

enum { BASE_OFFSET = 100 };

static const struct index_header header_of = {.base_offset = BASE_OFFSET, .generation = 1};

static const char path[] = "/00000000000000000100.index";

static void check_find(const struct index *index, uint64_t offset)
{
    struct index_entry entry;
    size_t count = index_count(index);

    if (!index_find(index, offset, &entry)) {
        ASSERT(count == 0 || index_get(index, 0).offset > offset);
        return;
    }
    ASSERT(entry.offset <= offset);
    for (size_t i = 0; i < count; i++) {
        struct index_entry other = index_get(index, i);

        ASSERT(other.offset > offset || other.offset <= entry.offset);
    }
}

static void check(const struct index *index, uint64_t offset)
{
    size_t count = index_count(index);

    check_find(index, offset);
    check_find(index, 0);
    check_find(index, UINT64_MAX);
    for (size_t i = 0; i < count; i++) {
        struct index_entry entry = index_get(index, i);

        check_find(index, entry.offset);
        ASSERT(i == 0 || entry.offset > index_get(index, i - 1).offset);
        ASSERT(i == 0 || entry.position > index_get(index, i - 1).position);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    bool fixed = (fuzz_u8(&input) & 1) != 0;
    uint64_t offset = fuzz_u64(&input);
    uint8_t *bytes = fuzz_copy(&input);
    struct mem_io disk;
    struct io *io = fuzz_disk_init(&disk);
    struct index *index;
    struct index_seal seal;
    enum err err;

    if (fixed) {
        fix_index(bytes, input.size);
    }
    fuzz_write_file(io, path, bytes, input.size);
    err = index_open(io, path, &header_of, &index, &seal, NULL);
    if (err == ERR_OK) {
        check(index, offset);
        index_free(index);
    } else {
        ASSERT(err == ERR_CORRUPT || err == ERR_VERSION);
    }
    fuzz_disk_fini(&disk);
    free(bytes);
    return 0;
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    for (unsigned count = 0; count <= 9; count += 3) {
        struct mem_io disk;
        struct io *io = fuzz_disk_init(&disk);
        struct index *index = index_new(io, 1 << 16, 64);
        struct index_seal seal = {.store_size = 32 + 100 * (uint64_t)count,
                                  .end_offset = BASE_OFFSET + 10 * (uint64_t)count,
                                  .last_position =
                                      count == 0 ? 0 : 32 + 100 * ((uint64_t)count - 1),
                                  .last_raft_index = 9};
        struct index *sealed;
        struct buf seed = {0};
        enum err err;

        ASSERT(index != NULL);
        for (unsigned i = 0; i < count; i++) {
            index_add(index, BASE_OFFSET + 10 * (uint64_t)i, 32 + 100 * (uint64_t)i);
        }
        err = index_seal(index, path, &header_of, &seal, &sealed, NULL);
        ASSERT(err == ERR_OK);
        index_free(index);
        index_free(sealed);
        fuzz_put_u8(&seed, 1);
        fuzz_put_u64(&seed, BASE_OFFSET + 15);
        fuzz_read_file(io, path, &seed);
        fuzz_emit(emit, arg, &seed);
        fuzz_disk_fini(&disk);
    }
}
