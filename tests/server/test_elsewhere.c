#include "server/elsewhere.h"

#include <check.h>

#include "lib/runner.h"
#include "log/batch.h"

enum { BODY_SIZE = 20, SIZE = BATCH_HEADER_SIZE + BODY_SIZE, BATCHES = 3, RECORDS = 10 };

static uint8_t bytes[BATCHES * SIZE];

/* Batches of ten records: [100, 110), [110, 120), [120, 130). */
static void setup(void)
{
    for (unsigned i = 0; i < BATCHES; i++) {
        batch_header_encode(&(struct batch_header){.size = SIZE,
                                                   .record_count = RECORDS,
                                                   .base_offset = 100 + (uint64_t)i * RECORDS,
                                                   .raft_index = 7,
                                                   .raft_term = 1},
                            bytes + (size_t)i * SIZE);
    }
}

static const struct {
    uint64_t end;
    size_t left;
    uint64_t next;
} rows[] = {
    {.end = 110, .left = 1, .next = 110},
    {.end = 120, .left = 2, .next = 120},
    {.end = 130, .left = 3, .next = 130},
    {.end = 500, .left = 3, .next = 130},
};

/* Else it would show records beyond its own end, and later take them back. */
START_TEST(what_another_node_has_beyond_our_end_is_left_out)
{
    struct slice batches = {.data = bytes, .size = sizeof bytes};
    uint64_t next = 130;

    elsewhere_cut(rows[_i].end, &batches, &next);
    ck_assert_uint_eq(batches.size, rows[_i].left * SIZE);
    ck_assert_uint_eq(next, rows[_i].next);
}
END_TEST

START_TEST(a_place_without_batches_is_not_beyond_our_end_either)
{
    struct slice none = {.data = NULL, .size = 0};
    uint64_t next = 200;

    elsewhere_cut(130, &none, &next);
    ck_assert_uint_eq(next, 130);
    ck_assert_uint_eq(none.size, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("server/elsewhere");
    TCase *tcase = tcase_create("cut");

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_loop_test(tcase, what_another_node_has_beyond_our_end_is_left_out, 0,
                        (int)(sizeof rows / sizeof rows[0]));
    tcase_add_test(tcase, a_place_without_batches_is_not_beyond_our_end_either);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
