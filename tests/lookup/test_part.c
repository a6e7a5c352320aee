#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "lib/runner.h"
#include "lookup/part.h"

static const struct part_seal sample = {.kind = PART_KEYS,
                                        .topic_id = 7,
                                        .base_offset = 100,
                                        .end_offset = 250,
                                        .count = 12,
                                        .first_time_us = -5,
                                        .last_time_us = 9,
                                        .body_size = 4096,
                                        .body_crc32c = 0xabcdef01,
                                        .level = 2,
                                        .probe = 3,
                                        .digest = {1, 2, 3}};

START_TEST(what_is_encoded_is_decoded)
{
    uint8_t bytes[PART_SEAL_SIZE];
    struct part_seal seal;

    part_seal_encode(&sample, bytes);
    ck_assert_int_eq(part_seal_decode(bytes, &seal, NULL), ERR_OK);
    ck_assert_mem_eq(&seal, &sample, sizeof seal);
}
END_TEST

START_TEST(every_flipped_bit_of_a_seal_is_found)
{
    uint8_t bytes[PART_SEAL_SIZE];
    struct part_seal seal;

    part_seal_encode(&sample, bytes);
    for (unsigned bit = 0; bit < 8 * PART_SEAL_SIZE; bit++) {
        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << bit % 8);
        ck_assert_int_eq(part_seal_decode(bytes, &seal, NULL), ERR_CORRUPT);
        bytes[bit / 8] = (uint8_t)(bytes[bit / 8] ^ 1u << bit % 8);
    }
}
END_TEST

START_TEST(a_newer_version_is_refused)
{
    uint8_t bytes[PART_SEAL_SIZE];
    struct part_seal seal;

    part_seal_encode(&sample, bytes);
    bytes_put_u32(bytes + 8, 2);
    bytes_put_u32(bytes + 4, crc32c(bytes + 8, PART_SEAL_SIZE - 8));
    ck_assert_int_eq(part_seal_decode(bytes, &seal, NULL), ERR_VERSION);
}
END_TEST

START_TEST(names_are_parsed_as_they_are_written)
{
    char name[PART_NAME_SIZE];
    struct part_seal seal;

    part_name(name, &sample);
    ck_assert_str_eq(name, "00000000000000000100-00000000000000000250.keys");
    ck_assert(part_parse_name(name, &seal));
    ck_assert_int_eq(seal.kind, PART_KEYS);
    ck_assert_uint_eq(seal.base_offset, 100);
    ck_assert_uint_eq(seal.end_offset, 250);
}
END_TEST

START_TEST(other_names_are_none)
{
    static const char *const names[] = {
        "",
        "00000000000000000100.store",
        "00000000000000000100-00000000000000000250",
        "00000000000000000100-00000000000000000250.key",
        "00000000000000000100-00000000000000000250.keys.tmp",
        "00000000000000000250-00000000000000000250.keys",
        "00000000000000000100-99999999999999999999.keys",
        "0000000000000000010a-00000000000000000250.keys",
    };
    struct part_seal seal;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        ck_assert_msg(!part_parse_name(names[i], &seal), "%s", names[i]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("part");
    TCase *tcase = tcase_create("seal and name");

    tcase_add_test(tcase, what_is_encoded_is_decoded);
    tcase_add_test(tcase, every_flipped_bit_of_a_seal_is_found);
    tcase_add_test(tcase, a_newer_version_is_refused);
    tcase_add_test(tcase, names_are_parsed_as_they_are_written);
    tcase_add_test(tcase, other_names_are_none);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
