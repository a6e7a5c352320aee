#include "cli/bench_stamp.h"

#include <string.h>

#include "lib/runner.h"

static const struct bench_stamp stamp = {
    .run = 0x01020304,
    .writer = 0x05060708,
    .place = UINT64_C(0x090a0b0c0d0e0f10),
    .planned_ns = UINT64_C(0x1112131415161718),
};

START_TEST(bytes_are_as_the_diagram_says)
{
    static const uint8_t expected[BENCH_STAMP_SIZE] = {
        4,  3,  2,  1, 8,    7,    6,    5,    0x10, 15,   14,   13,
        12, 11, 10, 9, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
    };
    uint8_t bytes[BENCH_STAMP_SIZE];

    bench_stamp_encode(&stamp, bytes);
    ck_assert_mem_eq(bytes, expected, sizeof bytes);
}
END_TEST

START_TEST(what_is_encoded_is_decoded_whatever_follows)
{
    uint8_t value[100] = {0};
    struct bench_stamp got;

    bench_stamp_encode(&stamp, value);
    ck_assert(bench_stamp_decode(value, sizeof value, stamp.run, &got));
    ck_assert_uint_eq(got.run, stamp.run);
    ck_assert_uint_eq(got.writer, stamp.writer);
    ck_assert_uint_eq(got.place, stamp.place);
    ck_assert_uint_eq(got.planned_ns, stamp.planned_ns);
    ck_assert(bench_stamp_decode(value, BENCH_STAMP_SIZE, stamp.run, &got));
}
END_TEST

START_TEST(value_of_another_run_or_too_short_is_none)
{
    uint8_t value[BENCH_STAMP_SIZE];
    struct bench_stamp got = {.place = 17};

    bench_stamp_encode(&stamp, value);
    ck_assert(!bench_stamp_decode(value, sizeof value, stamp.run + 1, &got));
    ck_assert(!bench_stamp_decode(value, sizeof value - 1, stamp.run, &got));
    ck_assert(!bench_stamp_decode(NULL, 0, stamp.run, &got));
    ck_assert_uint_eq(got.place, 17);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli/bench_stamp");
    TCase *tcase = tcase_create("stamp");

    tcase_add_test(tcase, bytes_are_as_the_diagram_says);
    tcase_add_test(tcase, what_is_encoded_is_decoded_whatever_follows);
    tcase_add_test(tcase, value_of_another_run_or_too_short_is_none);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
