/*
 * A mem_file beside a plain model of it: two byte arrays, what is seen and what is durable. After
 * each crash the file must be one of those that the model allows.
 */
#include "sim/mem_file.h"

#include <stdlib.h>
#include <string.h>

#include "lib/runner.h"

enum { SECTOR = MEM_FILE_SECTOR, SECTORS = 240, SIZE_MAX_HERE = SECTORS * SECTOR };

struct model {
    uint8_t seen[SIZE_MAX_HERE];
    uint8_t durable[SIZE_MAX_HERE];
    bool lost[SECTORS];
    uint64_t size;
    uint64_t durable_size;
    uint64_t cut; /* MEM_FILE_NOT_CUT: none */
};

static struct mem_file file;
static struct model model;
static uint8_t *mapped;
static uint64_t state;
static unsigned torn; /* Crashes that left a mixture of old and new sectors. */

static uint64_t draw_bits(void *arg)
{
    (void)arg;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1d;
}

static uint64_t draw(uint64_t bound)
{
    return (draw_bits(NULL) >> 20) % bound;
}

static uint64_t lesser(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void setup(void)
{
    mem_file_init(&file);
    memset(&model, 0, sizeof model);
    model.cut = MEM_FILE_NOT_CUT;
    mapped = NULL;
    torn = 0;
    state = 88172645463325252;
}

static void unmap(void)
{
    if (mapped != NULL) {
        mem_region_free(mem_file_unmap(&file));
        mapped = NULL;
    }
}

static void teardown(void)
{
    unmap();
    mem_file_fini(&file);
}

static void check_seen(void)
{
    static uint8_t back[SIZE_MAX_HERE + 10];

    ck_assert_uint_eq(file.size, model.size);
    ck_assert_uint_eq(mem_file_read(&file, back, sizeof back, 0), model.size);
    ck_assert_int_eq(memcmp(back, model.seen, model.size), 0);
}

static void commit_cut(void)
{
    if (model.cut != MEM_FILE_NOT_CUT) {
        memset(model.durable + model.cut, 0, SIZE_MAX_HERE - model.cut);
        model.durable_size = lesser(model.durable_size, model.cut);
        model.cut = MEM_FILE_NOT_CUT;
    }
}

static void do_write(bool durable)
{
    uint64_t position = draw(2) == 0 ? draw(SIZE_MAX_HERE) : draw(SECTORS) * SECTOR;
    uint64_t size = draw(2) == 0 ? draw(1500) : draw(80) * SECTOR;
    static uint8_t data[SIZE_MAX_HERE];

    size = lesser(size, SIZE_MAX_HERE - position);
    memset(data, draw(4) == 0 ? 0 : (int)draw(256), size);
    ck_assert(mem_file_write(&file, data, size, position, durable));
    if (size == 0) {
        return;
    }
    if (durable) {
        commit_cut();
    }
    memcpy(model.seen + position, data, size);
    model.size = model.size > position + size ? model.size : position + size;
    for (uint64_t s = position / SECTOR; s * SECTOR < position + size; s++) {
        model.lost[s] = false;
        if (durable) {
            memcpy(model.durable + s * SECTOR, model.seen + s * SECTOR, SECTOR);
        }
    }
    if (durable && model.durable_size < position + size) {
        model.durable_size = position + size;
    }
}

static void do_resize(void)
{
    uint64_t size = draw(2) == 0 ? draw(SIZE_MAX_HERE) : lesser(model.size, draw(5) * 20000);

    ck_assert(mem_file_resize(&file, size));
    if (size < model.size) {
        memset(model.seen + size, 0, SIZE_MAX_HERE - size);
        model.cut = lesser(model.cut, size);
    }
    model.size = size;
}

static void do_sync(void)
{
    mem_file_sync(&file);
    commit_cut();
    for (size_t s = 0; s < SECTORS; s++) {
        if (!model.lost[s]) {
            memcpy(model.durable + s * SECTOR, model.seen + s * SECTOR, SECTOR);
        }
    }
    model.durable_size = model.size;
}

static void do_sync_failed(void)
{
    mem_file_sync_failed(&file);
    for (size_t s = 0; s < SECTORS; s++) {
        model.lost[s] = memcmp(model.durable + s * SECTOR, model.seen + s * SECTOR, SECTOR) != 0;
    }
}

static void do_map(void)
{
    if (mapped != NULL) {
        unmap();
        return;
    }
    mapped = mem_file_map(&file, model.size + 1);
    ck_assert_ptr_nonnull(mapped);
}

static void do_store(void)
{
    uint64_t position;
    uint64_t size;
    int value = (int)draw(256);

    if (mapped == NULL || model.size == 0) {
        return;
    }
    position = draw(model.size);
    size = lesser(draw(3000), model.size - position);
    memset(mapped + position, value, size);
    memset(model.seen + position, value, size);
    if (draw(2) == 0 && model.size % 4096 != 0) {
        mapped[model.size] = 0xee; /* In the last page, but not in the file. */
    }
}

/* Is every sector below size one of those in a and b? */
static bool is_mixture(const uint8_t *got, uint64_t size, const uint8_t *a, const uint8_t *b)
{
    for (uint64_t at = 0; at < size; at += SECTOR) {
        size_t piece = (size_t)lesser(SECTOR, size - at);

        if (memcmp(got + at, a + at, piece) != 0 && memcmp(got + at, b + at, piece) != 0) {
            return false;
        }
    }
    return true;
}

static bool allowed_with_cut_undone(const uint8_t *got, uint64_t size)
{
    uint64_t from = model.cut - model.cut % SECTOR;
    uint64_t below = lesser(size, from);

    return model.cut != MEM_FILE_NOT_CUT && size == model.durable_size &&
           is_mixture(got, below, model.seen, model.durable) &&
           memcmp(got + below, model.durable + below, size - below) == 0;
}

static void do_crash(void)
{
    static uint8_t got[SIZE_MAX_HERE];
    uint64_t size;

    unmap();
    mem_file_crash(&file, draw_bits, NULL);
    size = mem_file_read(&file, got, sizeof got, 0);
    ck_assert_uint_eq(size, file.size);
    ck_assert(!mem_file_is_dirty(&file));
    if (!allowed_with_cut_undone(got, size)) {
        commit_cut();
        ck_assert_uint_ge(size, model.durable_size);
        ck_assert_uint_le(size, model.size);
        ck_assert(is_mixture(got, size, model.seen, model.durable));
    }
    if (memcmp(got, model.seen, size) != 0 && memcmp(got, model.durable, size) != 0) {
        torn++;
    }
    memset(got + size, 0, SIZE_MAX_HERE - size);
    memcpy(model.seen, got, SIZE_MAX_HERE);
    memcpy(model.durable, got, SIZE_MAX_HERE);
    memset(model.lost, 0, sizeof model.lost);
    model.size = size;
    model.durable_size = size;
    model.cut = MEM_FILE_NOT_CUT;
}

static void run(int steps, bool maps, bool failures)
{
    for (int step = 0; step < steps; step++) {
        switch (draw(16)) {
        case 0:
            do_resize();
            break;
        case 1:
            do_sync();
            break;
        case 2:
        case 3:
            do_write(true);
            break;
        case 4:
            if (maps) {
                do_map();
            } else if (failures) {
                do_sync_failed();
            }
            break;
        case 5:
        case 6:
        case 7:
            do_store();
            break;
        case 8:
            if (draw(2) == 0) {
                do_crash();
            }
            break;
        default:
            do_write(false);
            break;
        }
        check_seen();
    }
}

START_TEST(a_crash_leaves_a_state_that_the_model_allows)
{
    run(4000, false, false);
    ck_assert_uint_gt(torn, 20);
}
END_TEST

START_TEST(a_crash_leaves_a_state_that_the_model_allows_with_mappings)
{
    run(4000, true, false);
    ck_assert_uint_gt(torn, 20);
}
END_TEST

START_TEST(a_sync_after_a_failed_sync_saves_only_what_was_written_since)
{
    run(4000, false, true);
    ck_assert_uint_gt(torn, 20);
}
END_TEST

static bool has(uint8_t byte, uint64_t position)
{
    uint8_t got;

    return mem_file_read(&file, &got, 1, position) == 1 && got == byte;
}

START_TEST(after_a_failed_sync_the_old_contents_may_come_back)
{
    unsigned old = 0;

    for (int i = 0; i < 64; i++) {
        uint8_t data[SECTOR];

        memset(data, 1, sizeof data);
        ck_assert(mem_file_write(&file, data, sizeof data, 0, true));
        memset(data, 2, sizeof data);
        ck_assert(mem_file_write(&file, data, sizeof data, 0, false));
        mem_file_sync_failed(&file);
        mem_file_sync(&file);
        ck_assert(has(2, 0));
        mem_file_crash(&file, draw_bits, NULL);
        old += has(1, 0);
    }
    ck_assert_uint_gt(old, 8);
    ck_assert_uint_lt(old, 56);
}
END_TEST

START_TEST(unsynced_sectors_survive_and_vanish_independently)
{
    unsigned counts[4] = {0, 0, 0, 0};

    for (int i = 0; i < 400; i++) {
        uint8_t data[2 * SECTOR];

        memset(data, 0, sizeof data);
        ck_assert(mem_file_write(&file, data, sizeof data, 0, true));
        memset(data, 9, sizeof data);
        ck_assert(mem_file_write(&file, data, sizeof data, 0, false));
        mem_file_crash(&file, draw_bits, NULL);
        counts[has(9, 0) + 2 * has(9, SECTOR)]++;
    }
    for (int i = 0; i < 4; i++) {
        ck_assert_uint_gt(counts[i], 20);
    }
}
END_TEST

static size_t chunks_in_memory(void)
{
    size_t count = 0;

    for (size_t i = 0; i < file.chunk_count; i++) {
        count += (size_t)(file.chunks[i].data != NULL) + (size_t)(file.chunks[i].old != NULL);
    }
    return count;
}

START_TEST(preallocated_and_zeroed_space_takes_no_memory)
{
    static const uint8_t zeros[1 << 20];
    uint8_t byte = 1;

    ck_assert(mem_file_resize(&file, (uint64_t)64 << 20));
    for (uint64_t at = 0; at < (uint64_t)64 << 20; at += sizeof zeros) {
        ck_assert(mem_file_write(&file, zeros, sizeof zeros, at, false));
    }
    ck_assert_uint_eq(chunks_in_memory(), 0);
    ck_assert(mem_file_write(&file, &byte, 1, (uint64_t)40 << 20, false));
    ck_assert_uint_eq(chunks_in_memory(), 1);
    mem_file_sync(&file);
    ck_assert(mem_file_resize(&file, 0));
    mem_file_sync(&file);
    ck_assert_uint_eq(chunks_in_memory(), 0);
}
END_TEST

START_TEST(cutting_a_synced_file_copies_nothing_and_can_be_undone)
{
    static uint8_t data[64 * MEM_FILE_CHUNK];
    unsigned undone = 0;

    for (int i = 0; i < 20; i++) {
        memset(data, 5, sizeof data);
        ck_assert(mem_file_write(&file, data, sizeof data, 0, true));
        ck_assert_uint_eq(chunks_in_memory(), 64);
        ck_assert(mem_file_resize(&file, 0));
        ck_assert_uint_eq(chunks_in_memory(), 64); /* The same memory, now the old image. */
        mem_file_crash(&file, draw_bits, NULL);
        if (file.size > 0) {
            undone++;
            ck_assert_uint_eq(file.size, sizeof data);
            ck_assert_uint_eq(mem_file_read(&file, data, sizeof data, 0), sizeof data);
            ck_assert(data[0] == 5 && memcmp(data, data + 1, sizeof data - 1) == 0);
        }
    }
    ck_assert_uint_gt(undone, 2);
    ck_assert_uint_lt(undone, 18);
}
END_TEST

START_TEST(a_flipped_bit_stays_flipped)
{
    uint8_t byte = 0x10;

    ck_assert(mem_file_write(&file, &byte, 1, 1000, true));
    mem_file_flip(&file, 1000, 0);
    mem_file_flip(&file, 7, 7);
    ck_assert(has(0x11, 1000) && has(0x80, 7));
    ck_assert(!mem_file_is_dirty(&file));
    mapped = mem_file_map(&file, 1);
    mem_file_flip(&file, 1000, 1);
    ck_assert_uint_eq(mapped[1000], 0x13);
    unmap();
    mem_file_crash(&file, draw_bits, NULL);
    ck_assert(has(0x13, 1000) && has(0x80, 7));
}
END_TEST

START_TEST(a_mapped_file_grows_in_place_up_to_a_bound)
{
    uint8_t byte = 3;

    mapped = mem_file_map(&file, 4096);
    ck_assert_ptr_nonnull(mapped);
    ck_assert(mem_file_write(&file, &byte, 1, 100000, false));
    ck_assert_uint_eq(mapped[100000], 3);
    ck_assert_ptr_eq(mem_file_map(&file, 200000), mapped);
    ck_assert(!mem_file_write(&file, &byte, 1, (uint64_t)64 << 20, false));
    ck_assert(!mem_file_resize(&file, ((uint64_t)64 << 20) + 1));
    ck_assert_uint_eq(file.size, 100001);
    ck_assert_ptr_null(mem_file_map(&file, ((size_t)64 << 20) + 1));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mem_file");
    TCase *crash = tcase_create("crash");
    TCase *memory = tcase_create("memory");

    tcase_add_checked_fixture(crash, setup, teardown);
    tcase_add_checked_fixture(memory, setup, teardown);
    tcase_add_test(crash, a_crash_leaves_a_state_that_the_model_allows);
    tcase_add_test(crash, a_crash_leaves_a_state_that_the_model_allows_with_mappings);
    tcase_add_test(crash, a_sync_after_a_failed_sync_saves_only_what_was_written_since);
    tcase_add_test(crash, after_a_failed_sync_the_old_contents_may_come_back);
    tcase_add_test(crash, unsynced_sectors_survive_and_vanish_independently);
    tcase_add_test(memory, preallocated_and_zeroed_space_takes_no_memory);
    tcase_add_test(memory, cutting_a_synced_file_copies_nothing_and_can_be_undone);
    tcase_add_test(memory, a_flipped_bit_stays_flipped);
    tcase_add_test(memory, a_mapped_file_grows_in_place_up_to_a_bound);
    suite_add_tcase(suite, crash);
    suite_add_tcase(suite, memory);
    return runner_main(suite);
}
