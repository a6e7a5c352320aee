#include "raft_fsm/raft_driver_log.h"

#include <stdlib.h>

#include "base/block.h"
#include "lib/runner.h"

static struct entry make(uint64_t index, uint64_t term, uint32_t size)
{
    struct block *block = entry_block_new(size);
    struct entry entry;

    ck_assert_ptr_nonnull(block);
    for (uint32_t i = 0; i < size; i++) {
        block->data[ENTRY_HEADER_SIZE + i] = (uint8_t)(index + i);
    }
    entry_seal(block, size, index, term, ENTRY_COMMAND, &entry);
    return entry;
}

static void push(struct raft_driver_log *log, uint64_t index, uint64_t term)
{
    struct entry entry = make(index, term, 8);

    ck_assert_int_eq(raft_driver_log_push(log, &entry, 1), ERR_OK);
    entry_unref(&entry);
    raft_driver_log_check(log, true);
}

START_TEST(an_empty_log_ends_before_its_first_index)
{
    struct raft_driver_log log;

    raft_driver_log_init(&log, 7);
    ck_assert_uint_eq(raft_driver_log_last(&log), 6);
    ck_assert_ptr_null(raft_driver_log_get(&log, 6));
    ck_assert_ptr_null(raft_driver_log_get(&log, 7));
    ck_assert_uint_eq(raft_driver_log_term(&log, 7), 0);
    raft_driver_log_fini(&log);
}
END_TEST

START_TEST(a_pushed_entry_is_held_with_a_reference_of_its_own)
{
    struct raft_driver_log log;
    struct entry entry = make(1, 3, 20);

    raft_driver_log_init(&log, 1);
    ck_assert_int_eq(raft_driver_log_push(&log, &entry, 1), ERR_OK);
    entry_unref(&entry);
    ck_assert_uint_eq(raft_driver_log_get(&log, 1)->size, 20);
    ck_assert_uint_eq(raft_driver_log_get(&log, 1)->block->refs, 1);
    ck_assert_uint_eq(raft_driver_log_term(&log, 1), 3);
    ck_assert_uint_eq(log.size, entry_frame_size(20));
    raft_driver_log_fini(&log);
}
END_TEST

START_TEST(truncation_drops_from_an_index_on)
{
    struct raft_driver_log log;

    raft_driver_log_init(&log, 5);
    for (uint64_t i = 5; i <= 9; i++) {
        push(&log, i, 1);
    }
    raft_driver_log_truncate(&log, 7);
    raft_driver_log_check(&log, true);
    ck_assert_uint_eq(raft_driver_log_last(&log), 6);
    push(&log, 7, 2);
    ck_assert_uint_eq(raft_driver_log_term(&log, 7), 2);
    raft_driver_log_truncate(&log, 5);
    raft_driver_log_check(&log, true);
    ck_assert_uint_eq(raft_driver_log_last(&log), 4);
    ck_assert_uint_eq(log.size, 0);
    raft_driver_log_fini(&log);
}
END_TEST

START_TEST(dropping_a_prefix_keeps_the_rest_in_place)
{
    struct raft_driver_log log;

    raft_driver_log_init(&log, 1);
    for (uint64_t i = 1; i <= 10; i++) {
        push(&log, i, i);
    }
    raft_driver_log_drop_prefix(&log, 0);
    ck_assert_uint_eq(log.first, 1);
    raft_driver_log_drop_prefix(&log, 4);
    raft_driver_log_check(&log, true);
    ck_assert_uint_eq(log.first, 5);
    ck_assert_ptr_null(raft_driver_log_get(&log, 4));
    ck_assert_uint_eq(raft_driver_log_term(&log, 5), 5);
    raft_driver_log_drop_prefix(&log, 10);
    ck_assert_uint_eq(log.first, 11);
    ck_assert_uint_eq(raft_driver_log_last(&log), 10);
    raft_driver_log_fini(&log);
}
END_TEST

/* Against a plain array: many pushes, truncations and drops, wrapping and growing. */
START_TEST(a_ring_that_wraps_and_grows_is_still_a_log)
{
    enum { COUNT = 5000 };
    uint64_t *terms = calloc(COUNT * 4, sizeof *terms);
    struct raft_driver_log log;
    uint64_t random = 12345;
    uint64_t first = 1;
    uint64_t last = 0;

    ck_assert_ptr_nonnull(terms);
    raft_driver_log_init(&log, 1);
    for (unsigned step = 0; step < COUNT; step++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        switch ((random >> 33) % 8) {
        case 0:
            if (last > first) {
                uint64_t from = first + (random >> 40) % (last - first + 1);

                raft_driver_log_truncate(&log, from);
                last = from - 1;
            }
            break;
        case 1:
            if (last > first) {
                uint64_t upto = first + (random >> 40) % (last - first + 1) / 4;

                raft_driver_log_drop_prefix(&log, upto);
                first = upto + 1;
            }
            break;
        default:
            for (unsigned i = 0; i < 3; i++) {
                last++;
                terms[last] = step + 1;
                push(&log, last, terms[last]);
            }
            break;
        }
        raft_driver_log_check(&log, true);
        ck_assert_uint_eq(log.first, first);
        ck_assert_uint_eq(raft_driver_log_last(&log), last);
        if (last >= first) {
            ck_assert_uint_eq(raft_driver_log_term(&log, first), terms[first]);
            ck_assert_uint_eq(raft_driver_log_term(&log, last), terms[last]);
        }
    }
    raft_driver_log_reset(&log, 99);
    ck_assert_uint_eq(log.first, 99);
    ck_assert_uint_eq(log.count, 0);
    raft_driver_log_fini(&log);
    free(terms);
}
END_TEST

START_TEST(a_gap_is_a_mistake_of_ours)
{
    struct raft_driver_log log;
    struct entry entry = make(3, 1, 8);

    raft_driver_log_init(&log, 1);
    (void)raft_driver_log_push(&log, &entry, 1); /* Aborts. */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_driver_log");
    TCase *tcase = tcase_create("log");

    tcase_add_test(tcase, an_empty_log_ends_before_its_first_index);
    tcase_add_test(tcase, a_pushed_entry_is_held_with_a_reference_of_its_own);
    tcase_add_test(tcase, truncation_drops_from_an_index_on);
    tcase_add_test(tcase, dropping_a_prefix_keeps_the_rest_in_place);
    tcase_add_test(tcase, a_ring_that_wraps_and_grows_is_still_a_log);
    tcase_add_test_raise_signal(tcase, a_gap_is_a_mistake_of_ours, 6);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
