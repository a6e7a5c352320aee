#include "raft_fsm/entry.h"

#include <check.h>
#include <string.h>

#include "lib/runner.h"

static struct entry make(uint32_t size)
{
    struct block *block = entry_block_new(size);
    struct entry entry;

    ck_assert_ptr_nonnull(block);
    for (uint32_t i = 0; i < size; i++) {
        block->data[ENTRY_HEADER_SIZE + i] = (uint8_t)(i * 7 + 1);
    }
    entry_seal(block, size, 42, 7, ENTRY_COMMAND, &entry);
    return entry;
}

START_TEST(sealed_entry_parses_to_itself)
{
    for (uint32_t size = 0; size <= 17; size++) {
        struct entry entry = make(size);
        struct entry parsed;

        ck_assert_uint_eq(entry_frame_size(size) % 8, 0);
        ck_assert_int_eq(entry_parse(entry.block, 0, entry.block->size, 1024, &parsed, NULL),
                         ERR_OK);
        ck_assert_uint_eq(parsed.index, 42);
        ck_assert_uint_eq(parsed.term, 7);
        ck_assert_int_eq(parsed.type, ENTRY_COMMAND);
        ck_assert_uint_eq(parsed.size, size);
        ck_assert_ptr_eq(entry_payload(&parsed), entry.block->data + ENTRY_HEADER_SIZE);
        ck_assert_uint_eq(entry.block->refs, 2);
        entry_unref(&parsed);
        entry_unref(&entry);
    }
}
END_TEST

START_TEST(frame_has_the_documented_bytes)
{
    static const uint8_t expected[] = {
        0x00, 0x00, 0x00, 0x00, 0x03, 0, 0, 0, 0x2a, 0, 0, 0, 0, 0, 0,  0, 0x07, 0, 0, 0,
        0,    0,    0,    0,    0x01, 0, 0, 0, 0,    0, 0, 0, 1, 8, 15, 0, 0,    0, 0, 0,
    };
    struct entry entry = make(3);

    ck_assert_uint_eq(entry.block->size, sizeof expected);
    ck_assert_mem_eq(entry.frame + 4, expected + 4, sizeof expected - 4);
    entry_unref(&entry);
}
END_TEST

START_TEST(every_flipped_bit_is_found)
{
    struct entry entry = make(13);
    struct entry parsed;

    for (size_t i = 0; i < entry.block->size * 8; i++) {
        struct err_info info = {.code = ERR_OK};

        entry.block->data[i / 8] ^= (uint8_t)(1 << i % 8);
        ck_assert_int_eq(entry_parse(entry.block, 0, entry.block->size, 1024, &parsed, &info),
                         ERR_CORRUPT);
        ck_assert_int_eq(info.code, ERR_CORRUPT);
        ck_assert_uint_eq(entry.block->refs, 1);
        entry.block->data[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    entry_unref(&entry);
}
END_TEST

START_TEST(cut_frame_is_corrupt_and_never_read_past)
{
    struct entry entry = make(13);

    for (size_t size = 0; size < entry.block->size; size++) {
        struct block *block = block_new(size); /* ASan watches its end. */
        struct entry parsed;

        memcpy(block->data, entry.frame, size);
        ck_assert_int_eq(entry_parse(block, 0, size, 1024, &parsed, NULL), ERR_CORRUPT);
        block_unref(block);
    }
    entry_unref(&entry);
}
END_TEST

START_TEST(larger_than_the_limit_is_corrupt)
{
    struct entry entry = make(13);
    struct entry parsed;

    ck_assert_int_eq(entry_parse(entry.block, 0, entry.block->size, 12, &parsed, NULL),
                     ERR_CORRUPT);
    ck_assert_int_eq(entry_parse(entry.block, 0, entry.block->size, 13, &parsed, NULL), ERR_OK);
    entry_unref(&parsed);
    entry_unref(&entry);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/entry");
    TCase *tc = tcase_create("entry_seal");

    tcase_add_test(tc, sealed_entry_parses_to_itself);
    tcase_add_test(tc, frame_has_the_documented_bytes);
    suite_add_tcase(suite, tc);
    tc = tcase_create("entry_parse");
    tcase_add_test(tc, every_flipped_bit_is_found);
    tcase_add_test(tc, cut_frame_is_corrupt_and_never_read_past);
    tcase_add_test(tc, larger_than_the_limit_is_corrupt);
    suite_add_tcase(suite, tc);
    return runner_main(suite);
}
