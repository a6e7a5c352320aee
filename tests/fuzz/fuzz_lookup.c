/*
 * Files of indexes, and a block of a key index. What is read is in order and in bounds; a filter
 * gives an answer or an error.
 *
 *      u8 1: checksums are made right; u8 what it is: 0 times, 1 filter, 2 block | the file; or the
 *      block's key, 16 bytes, and value
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "fuzz/fuzz.h"
#include "lookup/bloom_part.h"
#include "lookup/key_block.h"
#include "lookup/time_part.h"

enum { BASE_OFFSET = 100, END_OFFSET = 200, TOPIC_ID = 7, WHATS = 3 };

static struct part_seal seal_of(unsigned what)
{
    struct part_seal seal = {.kind = what == 0 ? PART_TIME : (what == 1 ? PART_BLOOM : PART_KEYS),
                             .topic_id = TOPIC_ID,
                             .base_offset = BASE_OFFSET,
                             .end_offset = END_OFFSET};
    enum err err = bloom_part_probe(&seal.probe);

    ASSERT(err == ERR_OK);
    return seal;
}

/* ---- files ---- */

static void fix_page(uint8_t *page, uint64_t number)
{
    uint8_t place[16];

    bytes_put_u64(place, BASE_OFFSET);
    bytes_put_u64(place + 8, number);
    bytes_put_u32(page, crc32c_extend(crc32c(place, sizeof place), page + 4, BLOOM_PAGE_SIZE - 4));
}

static void fix_file(unsigned what, uint8_t *bytes, size_t size)
{
    uint8_t *seal = bytes + size - PART_SEAL_SIZE;
    size_t body_size = size - PART_SEAL_SIZE;

    if (size < PART_SEAL_SIZE) {
        return;
    }
    for (size_t i = 0; what == 1 && i < body_size / BLOOM_PAGE_SIZE; i++) {
        fix_page(bytes + i * BLOOM_PAGE_SIZE, i);
    }
    bytes_put_u32(seal + 72, crc32c(bytes, body_size));
    bytes_put_u32(seal + 4, crc32c(seal + 8, PART_SEAL_SIZE - 8));
}

static void check_times(struct io *io, const struct part_seal *seal)
{
    struct time_entry *entries;
    size_t count;
    enum err err = time_part_read(io, "/", seal, &entries, &count, NULL);

    if (err != ERR_OK) {
        ASSERT(err == ERR_CORRUPT || err == ERR_VERSION);
        return;
    }
    ASSERT(count > 0 && count <= TIME_ENTRIES_MAX);
    for (size_t i = 0; i < count; i++) {
        uint64_t from;
        uint64_t to = END_OFFSET;

        ASSERT(entries[i].offset >= BASE_OFFSET && entries[i].offset < END_OFFSET);
        (void)time_entries_find(entries, count, entries[i].time_us, &from, &to);
        ASSERT(from <= entries[i].offset && from <= to);
    }
    free(entries);
}

static void check_filter(struct io *io, const struct part_seal *seal)
{
    bool may;
    enum err err = bloom_part_verify(io, "/", seal, NULL);

    ASSERT(err == ERR_OK || err == ERR_CORRUPT || err == ERR_VERSION);
    for (uint64_t hash = 1; hash != 0; hash <<= 3) {
        enum err asked = bloom_part_may_hold(io, "/", seal, hash, &may, NULL);

        ASSERT(asked == ERR_OK || err != ERR_OK);
    }
}

static void check_file(unsigned what, const uint8_t *bytes, size_t size)
{
    struct part_seal seal = seal_of(what);
    char path[PART_NAME_SIZE + 1] = "/";
    struct mem_io disk;
    struct io *io = fuzz_disk_init(&disk);

    part_name(path + 1, &seal);
    fuzz_write_file(io, path, bytes, size);
    if (what == 0) {
        check_times(io, &seal);
    } else {
        check_filter(io, &seal);
    }
    fuzz_disk_fini(&disk);
}

/* ---- blocks ---- */

static void fix_block(const struct part_seal *seal, uint8_t *bytes, size_t size)
{
    uint8_t place[24];
    uint32_t crc;

    if (size < KEY_BLOCK_KEY_SIZE + 4) {
        return;
    }
    bytes_put_u64(place, seal->topic_id);
    bytes_put_u64(place + 8, seal->base_offset);
    bytes_put_u64(place + 16, seal->end_offset);
    crc = crc32c_extend(crc32c(place, sizeof place), bytes, KEY_BLOCK_KEY_SIZE);
    crc = crc32c_extend(crc, bytes + KEY_BLOCK_KEY_SIZE + 4, size - KEY_BLOCK_KEY_SIZE - 4);
    bytes_put_u32(bytes + KEY_BLOCK_KEY_SIZE, crc);
}

static void check_block(const uint8_t *bytes, size_t size)
{
    struct part_seal seal = seal_of(2);
    size_t key_size = size < KEY_BLOCK_KEY_SIZE ? size : KEY_BLOCK_KEY_SIZE;
    uint8_t again[KEY_BLOCK_SIZE_MAX];
    struct key_block block;
    enum err err =
        key_block_decode(bytes, key_size, bytes + key_size, size - key_size, &seal, &block, NULL);

    if (err != ERR_OK) {
        ASSERT(err == ERR_CORRUPT);
        return;
    }
    for (size_t i = 0; i < block.count; i++) {
        ASSERT(key_entry_compare(i == 0 ? &block.before : &block.entries[i - 1],
                                 &block.entries[i]) < 0);
    }
    if (key_entry_compare(&block.before, &block.last) < 0) {
        size_t length = key_block_encode(&block, &seal, again);

        ASSERT(length == size - key_size && memcmp(again, bytes + key_size, length) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    bool fixed = (fuzz_u8(&input) & 1) != 0;
    unsigned what = fuzz_u8(&input) % WHATS;
    uint8_t *bytes = fuzz_copy(&input);
    struct part_seal seal = seal_of(what);

    if (what == 2) {
        if (fixed) {
            fix_block(&seal, bytes, input.size);
        }
        check_block(bytes, input.size);
    } else {
        if (fixed) {
            fix_file(what, bytes, input.size);
        }
        check_file(what, bytes, input.size);
    }
    free(bytes);
    return 0;
}

/* ---- inputs to begin with ---- */

static void emit_file(fuzz_emit_cb emit, void *arg, unsigned what)
{
    struct part_seal seal = seal_of(what);
    char path[PART_NAME_SIZE + 1] = "/";
    struct mem_io disk;
    struct io *io = fuzz_disk_init(&disk);
    uint64_t hashes[20];
    struct time_table table;
    struct buf seed = {0};
    enum err err = ERR_OK;

    time_table_init(&table);
    for (uint64_t i = 0; err == ERR_OK && i < 20; i++) {
        hashes[i] = i * UINT64_C(0x9e3779b97f4a7c15);
        err = time_table_add(&table, BASE_OFFSET + 3 * i,
                             &(struct time_span){(int64_t)i, (int64_t)i}, TIME_INTERVAL);
    }
    ASSERT(err == ERR_OK);
    err = what == 0 ? time_part_write(io, "/", &table, &seal, NULL)
                    : bloom_part_write(io, "/", hashes, 20, &seal, NULL);
    ASSERT(err == ERR_OK);
    part_name(path + 1, &seal);
    fuzz_put_u8(&seed, 1);
    fuzz_put_u8(&seed, (uint8_t)what);
    fuzz_read_file(io, path, &seed);
    fuzz_emit(emit, arg, &seed);
    time_table_fini(&table);
    fuzz_disk_fini(&disk);
}

static void emit_block(fuzz_emit_cb emit, void *arg, unsigned count)
{
    struct part_seal seal = seal_of(2);
    struct key_block block = {.before = KEY_LOWEST, .last = KEY_HIGHEST, .count = count};
    uint8_t key[KEY_BLOCK_KEY_SIZE];
    uint8_t value[KEY_BLOCK_SIZE_MAX];
    struct buf seed = {0};
    size_t size;

    for (unsigned i = 0; i < count; i++) {
        block.entries[i] = (struct key_entry){.hash = 1 + i / 3, .offset = 150 - i};
    }
    size = key_block_encode(&block, &seal, value);
    key_block_key_encode(&block.last, key);
    fuzz_put_u8(&seed, 1);
    fuzz_put_u8(&seed, 2);
    for (size_t i = 0; i < sizeof key; i++) {
        fuzz_put_u8(&seed, key[i]);
    }
    for (size_t i = 0; i < size; i++) {
        fuzz_put_u8(&seed, value[i]);
    }
    fuzz_emit(emit, arg, &seed);
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    emit_file(emit, arg, 0);
    emit_file(emit, arg, 1);
    emit_block(emit, arg, 0);
    emit_block(emit, arg, 7);
}
