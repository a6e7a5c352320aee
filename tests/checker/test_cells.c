#include "checker/cells.h"

#include "lib/runner.h"

START_TEST(what_is_set_is_found_however_far_apart_it_lies)
{
    struct cells cells = {0};

    for (uint64_t i = 0; i < 3000; i++) {
        uint64_t offset = i * 0x10000000040001U % INT64_MAX; /* Pages all over. */
        struct cell cell = {.value = i + 1, .line = (uint32_t)i, .flags = CELL_DUMPED};

        ck_assert_uint_eq(cells_get(&cells, offset).value, 0);
        ck_assert_int_eq(cells_set(&cells, offset, cell), ERR_OK);
    }
    for (uint64_t i = 0; i < 3000; i++) {
        struct cell cell = cells_get(&cells, i * 0x10000000040001U % INT64_MAX);

        ck_assert_uint_eq(cell.value, i + 1);
        ck_assert_uint_eq(cell.line, i);
        ck_assert_uint_eq(cell.flags, CELL_DUMPED);
    }
    cells_fini(&cells);
}
END_TEST

START_TEST(neighbours_share_a_page)
{
    struct cells cells = {0};

    for (uint64_t i = 0; i < 1000; i++) {
        ck_assert_int_eq(cells_set(&cells, 64000 + i, (struct cell){.value = i + 1}), ERR_OK);
    }
    ck_assert_uint_eq(cells.pages_count, 1000 / CELLS_PAGE_COUNT + 1);
    ck_assert_uint_eq(cells_get(&cells, 63999).value, 0);
    ck_assert_uint_eq(cells_get(&cells, 64999).value, 1000);
    cells_fini(&cells);
}
END_TEST

START_TEST(a_flag_is_for_what_is_there)
{
    struct cells cells = {0};

    cells_flag(&cells, 5, CELL_INSIDE);
    ck_assert_int_eq(cells_set(&cells, 4, (struct cell){.value = 9, .flags = CELL_DUMPED}), ERR_OK);
    cells_flag(&cells, 4, CELL_INSIDE);
    cells_flag(&cells, 5, CELL_INSIDE);
    ck_assert_uint_eq(cells_get(&cells, 4).flags, CELL_DUMPED | CELL_INSIDE);
    ck_assert_uint_eq(cells_get(&cells, 5).flags, 0);
    cells_fini(&cells);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checker/cells");
    TCase *tcase = tcase_create("cells");

    tcase_add_test(tcase, what_is_set_is_found_however_far_apart_it_lies);
    tcase_add_test(tcase, neighbours_share_a_page);
    tcase_add_test(tcase, a_flag_is_for_what_is_there);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
