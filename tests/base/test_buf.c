#include "base/buf.h"

#include <stdbool.h>
#include <string.h>

#include "lib/runner.h"

START_TEST(a_new_buffer_is_empty_and_owns_nothing)
{
    struct buf buf;

    buf_init(&buf, 10);
    ck_assert_ptr_null(buf.data);
    ck_assert_uint_eq(buf.size + buf.capacity, 0);
    buf_fini(&buf);
    buf_fini(&buf);
    ck_assert_uint_eq(buf.size_max, 10);
}
END_TEST

START_TEST(append_keeps_every_byte_over_many_growths)
{
    struct buf buf;
    bool same = true;

    buf_init(&buf, 100000);
    for (int i = 0; i < 30000; i++) {
        uint8_t data[3] = {(uint8_t)i, (uint8_t)(i >> 8), 7};

        same = same && buf_append(&buf, data, 3) == ERR_OK;
        same = same && buf.size <= buf.capacity && buf.capacity <= buf.size_max;
    }
    ck_assert_uint_eq(buf.size, 90000);
    for (size_t i = 0; i < 30000; i++) {
        same = same && buf.data[3 * i] == (uint8_t)i && buf.data[3 * i + 1] == (uint8_t)(i >> 8);
    }
    ck_assert(same);
    buf_fini(&buf);
}
END_TEST

START_TEST(append_up_to_the_bound_fits_and_past_it_changes_nothing)
{
    struct buf buf;
    uint8_t *before;

    buf_init(&buf, 1000);
    ck_assert_int_eq(buf_append(&buf, NULL, 0), ERR_OK);
    ck_assert_int_eq(buf_append(&buf, memset((char[999]){0}, 1, 999), 999), ERR_OK);
    before = buf.data;
    ck_assert_int_eq(buf_append(&buf, "ab", 2), ERR_TOO_LARGE);
    ck_assert_int_eq(buf_reserve(&buf, SIZE_MAX), ERR_TOO_LARGE);
    ck_assert_ptr_eq(buf.data, before);
    ck_assert_uint_eq(buf.size, 999);
    ck_assert_int_eq(buf_append(&buf, "a", 1), ERR_OK);
    ck_assert_int_eq(buf_append(&buf, "a", 1), ERR_TOO_LARGE);
    ck_assert_uint_eq(buf.capacity, 1000);
    buf_fini(&buf);
}
END_TEST

START_TEST(reserve_makes_room_and_leaves_the_size)
{
    struct buf buf;

    buf_init(&buf, 1 << 20);
    ck_assert_int_eq(buf_reserve(&buf, 5000), ERR_OK);
    ck_assert_uint_ge(buf.capacity, 5000);
    ck_assert_uint_eq(buf.size, 0);
    memset(buf.data, 1, 5000);
    buf_fini(&buf);
}
END_TEST

START_TEST(printf_appends_text_without_the_zero)
{
    struct buf buf;

    buf_init(&buf, 100);
    ck_assert_int_eq(buf_printf(&buf, "%d-%s", 42, "x"), ERR_OK);
    ck_assert_int_eq(buf_printf(&buf, "!"), ERR_OK);
    ck_assert_uint_eq(buf.size, 5);
    ck_assert_int_eq(memcmp(buf.data, "42-x!", 5), 0);
    buf_fini(&buf);
}
END_TEST

START_TEST(printf_fills_a_buffer_to_its_last_byte)
{
    struct buf buf;

    buf_init(&buf, 7);
    ck_assert_int_eq(buf_printf(&buf, "%s", "abc"), ERR_OK);
    ck_assert_int_eq(buf_printf(&buf, "%s", "12345"), ERR_TOO_LARGE);
    ck_assert_uint_eq(buf.size, 3);
    ck_assert_int_eq(buf_printf(&buf, "%s", "defg"), ERR_OK);
    ck_assert_int_eq(buf_printf(&buf, "%s", ""), ERR_OK);
    ck_assert_uint_eq(buf.size, 7);
    ck_assert_int_eq(memcmp(buf.data, "abcdefg", 7), 0);
    ck_assert_int_eq(buf_printf(&buf, "%s", "h"), ERR_TOO_LARGE);
    buf_fini(&buf);
}
END_TEST

START_TEST(consume_drops_the_first_bytes)
{
    struct buf buf;

    buf_init(&buf, 100);
    buf_consume(&buf, 0);
    ck_assert_int_eq(buf_append(&buf, "abcdef", 6), ERR_OK);
    buf_consume(&buf, 4);
    ck_assert_uint_eq(buf.size, 2);
    ck_assert_int_eq(memcmp(buf.data, "ef", 2), 0);
    buf_consume(&buf, 2);
    ck_assert_uint_eq(buf.size, 0);
    buf_fini(&buf);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("buf");
    TCase *tcase = tcase_create("buf");

    tcase_add_test(tcase, a_new_buffer_is_empty_and_owns_nothing);
    tcase_add_test(tcase, append_keeps_every_byte_over_many_growths);
    tcase_add_test(tcase, append_up_to_the_bound_fits_and_past_it_changes_nothing);
    tcase_add_test(tcase, reserve_makes_room_and_leaves_the_size);
    tcase_add_test(tcase, printf_appends_text_without_the_zero);
    tcase_add_test(tcase, printf_fills_a_buffer_to_its_last_byte);
    tcase_add_test(tcase, consume_drops_the_first_bytes);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
