#include <stdio.h>
#include <stdlib.h>

#include "lib/runner.h"
#include "lib/tmpdir.h"
#include "lookup/bloom_part.h"
#include "lookup/key_hash.h"
#include "lookup/lookup_lab.h"

enum { KEYS = 20000 };

static const char *dir;
static struct part_seal seal;

static void write_keys(size_t count)
{
    uint64_t *hashes = calloc(count + 1, sizeof *hashes);

    ck_assert_ptr_nonnull(hashes);
    for (size_t i = 0; i < count; i++) {
        hashes[i] = key_hash(&i, sizeof i);
    }
    dir = tmpdir_new();
    seal =
        (struct part_seal){.kind = PART_BLOOM, .topic_id = 3, .base_offset = 40, .end_offset = 90};
    ck_assert_int_eq(bloom_part_write(io_real(), dir, hashes, count, &seal, NULL), ERR_OK);
    free(hashes);
}

static enum err ask(size_t key, bool *ret_may, struct err_info *info)
{
    return bloom_part_may_hold(io_real(), dir, &seal, key_hash(&key, sizeof key), ret_may, info);
}

static void finish(void)
{
    tmpdir_remove(dir);
}

START_TEST(no_key_is_denied_and_few_are_claimed_falsely)
{
    unsigned claimed = 0;
    bool may;

    write_keys(KEYS);
    ck_assert_uint_eq(seal.count, KEYS);
    for (size_t i = 0; i < KEYS; i += 7) {
        ck_assert_int_eq(ask(i, &may, NULL), ERR_OK);
        ck_assert(may);
    }
    for (size_t i = KEYS; i < KEYS + 3000; i++) {
        ck_assert_int_eq(ask(i, &may, NULL), ERR_OK);
        claimed += may ? 1 : 0;
    }
    ck_assert_uint_lt(claimed, 60); /* 2 % */
    finish();
}
END_TEST

START_TEST(a_range_without_keys_has_none)
{
    bool may = true;

    write_keys(0);
    ck_assert_int_eq(ask(1, &may, NULL), ERR_OK);
    ck_assert(!may);
    finish();
}
END_TEST

START_TEST(every_flipped_bit_is_found_and_named)
{
    struct err_info info;
    char path[512];
    bool may;

    write_keys(100);
    (void)snprintf(path, sizeof path, "%s/%020d-%020d.bloom", dir, 40, 90);
    for (uint64_t bit = 0; bit < lab_file_size(path) * 8; bit += 3) {
        lab_flip_bit(path, bit);
        ck_assert_int_eq(ask(1, &may, &info), ERR_CORRUPT);
        ck_assert_ptr_nonnull(strstr(info.text, "00090.bloom"));
        ck_assert_int_eq(bloom_part_verify(io_real(), dir, &seal, &info), ERR_CORRUPT);
        lab_flip_bit(path, bit);
    }
    ck_assert_int_eq(bloom_part_verify(io_real(), dir, &seal, &info), ERR_OK);
    finish();
}
END_TEST

START_TEST(what_another_version_of_the_library_made_is_not_asked)
{
    bool may;

    write_keys(10);
    seal.probe += 1;
    ck_assert_int_eq(ask(1, &may, NULL), ERR_VERSION);
    finish();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bloom_part");
    TCase *tcase = tcase_create("filters");

    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, no_key_is_denied_and_few_are_claimed_falsely);
    tcase_add_test(tcase, a_range_without_keys_has_none);
    tcase_add_test(tcase, every_flipped_bit_is_found_and_named);
    tcase_add_test(tcase, what_another_version_of_the_library_made_is_not_asked);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
