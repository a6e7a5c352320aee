#include "base/crc32c.h"

#include <string.h>

#include "lib/runner.h"

/* RFC 3720, appendix B.4, whose bytes are the checksum in little-endian order. */
START_TEST(the_vectors_of_rfc_3720)
{
    static const uint8_t read_command[48] = {
        0x01, 0xc0, 0, 0,    0, 0, 0, 0,    0,    0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 4, 0,
        0,    0,    0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0};
    uint8_t data[32];

    memset(data, 0, sizeof data);
    ck_assert_uint_eq(crc32c(data, sizeof data), 0x8a9136aa);
    memset(data, 0xff, sizeof data);
    ck_assert_uint_eq(crc32c(data, sizeof data), 0x62a8ab43);
    for (uint8_t i = 0; i < 32; i++) {
        data[i] = i;
    }
    ck_assert_uint_eq(crc32c(data, sizeof data), 0x46dd794e);
    for (uint8_t i = 0; i < 32; i++) {
        data[i] = (uint8_t)(31 - i);
    }
    ck_assert_uint_eq(crc32c(data, sizeof data), 0x113fdb5c);
    ck_assert_uint_eq(crc32c(read_command, sizeof read_command), 0xd9963a56);
}
END_TEST

START_TEST(the_check_value)
{
    ck_assert_uint_eq(crc32c("123456789", 9), 0xe3069283);
    ck_assert_uint_eq(crc32c("", 0), 0);
    ck_assert_uint_eq(crc32c(NULL, 0), 0);
}
END_TEST

START_TEST(extend_continues_at_any_cut)
{
    uint8_t data[300];
    uint32_t whole;

    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)(i * 7 + i / 13);
    }
    whole = crc32c(data, sizeof data);
    for (size_t cut = 0; cut <= sizeof data; cut++) {
        ck_assert_uint_eq(crc32c_extend(crc32c(data, cut), data + cut, sizeof data - cut), whole);
    }
}
END_TEST

START_TEST(every_bit_counts)
{
    uint8_t data[64] = {0};
    uint32_t whole = crc32c(data, sizeof data);

    for (size_t bit = 0; bit < sizeof data * 8; bit++) {
        data[bit / 8] ^= (uint8_t)(1U << bit % 8);
        ck_assert_uint_ne(crc32c(data, sizeof data), whole);
        data[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("crc32c");
    TCase *tcase = tcase_create("crc32c");

    tcase_add_test(tcase, the_vectors_of_rfc_3720);
    tcase_add_test(tcase, the_check_value);
    tcase_add_test(tcase, extend_continues_at_any_cut);
    tcase_add_test(tcase, every_bit_counts);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
