#include "base/bytes.h"

#include "lib/runner.h"

START_TEST(numbers_are_little_endian_at_any_address)
{
    uint8_t data[16] = {0};

    bytes_put_u16(data + 1, 0x0201);
    bytes_put_u32(data + 3, 0x06050403);
    bytes_put_u64(data + 7, 0x0e0d0c0b0a090807);
    for (uint8_t i = 1; i < 15; i++) {
        ck_assert_uint_eq(data[i], i);
    }
    ck_assert_uint_eq(data[0], 0);
    ck_assert_uint_eq(data[15], 0);
    ck_assert_uint_eq(bytes_get_u16(data + 1), 0x0201);
    ck_assert_uint_eq(bytes_get_u32(data + 3), 0x06050403);
    ck_assert_uint_eq(bytes_get_u64(data + 7), 0x0e0d0c0b0a090807);
}
END_TEST

START_TEST(extremes_survive)
{
    uint8_t data[8];

    bytes_put_u64(data, UINT64_MAX);
    ck_assert_uint_eq(bytes_get_u64(data), UINT64_MAX);
    ck_assert_uint_eq(bytes_get_u32(data), UINT32_MAX);
    ck_assert_uint_eq(bytes_get_u16(data), UINT16_MAX);
}
END_TEST

START_TEST(round_up_goes_to_the_next_multiple)
{
    ck_assert_uint_eq(bytes_round_up(0, 512), 0);
    ck_assert_uint_eq(bytes_round_up(1, 512), 512);
    ck_assert_uint_eq(bytes_round_up(512, 512), 512);
    ck_assert_uint_eq(bytes_round_up(513, 512), 1024);
    ck_assert_uint_eq(bytes_round_up(7, 1), 7);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bytes");
    TCase *tcase = tcase_create("bytes");

    tcase_add_test(tcase, numbers_are_little_endian_at_any_address);
    tcase_add_test(tcase, extremes_survive);
    tcase_add_test(tcase, round_up_goes_to_the_next_multiple);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
