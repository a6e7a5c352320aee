#include "cli/common_ends.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "lib/runner.h"

enum { COPIES = 3, BATCHES_MAX = 64, ORIGINALS = 40 };

struct copy {
    struct batch_header batches[BATCHES_MAX];
    unsigned count;
    uint64_t end;
};

static struct copy copies[COPIES];
static struct end_header asked[COPIES];
static unsigned asks;
static uint64_t random_state;

static unsigned below(unsigned limit)
{
    random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (unsigned)(random_state >> 33) % limit;
}

static void on_ask(void *arg, uint64_t offset)
{
    (void)arg;
    asks++;
    for (unsigned i = 0; i < COPIES; i++) {
        asked[i].known = false;
        for (unsigned at = 0; at < copies[i].count && !asked[i].known; at++) {
            asked[i].header = copies[i].batches[at];
            asked[i].known = asked[i].header.base_offset <= offset &&
                             batch_end_offset(&asked[i].header) > offset;
        }
        ck_assert(asked[i].known);
    }
}

/* The n-th batch of a history that is another one from batch `fork` on. */
static struct batch_header original(unsigned n, uint64_t base, unsigned fork)
{
    struct batch_header header = {.size = 200,
                                  .record_count = 1 + n % 3,
                                  .base_offset = base,
                                  .raft_index = n,
                                  .raft_term = 1};

    header.digest[0] = (uint8_t)n;
    header.digest[1] = n >= fork;
    header.body_crc32c = n == fork;
    return header;
}

static void make(struct copy *copy, unsigned fork)
{
    uint64_t base = 0;

    copy->count = 0;
    for (unsigned n = 0; n < ORIGINALS; n++) {
        copy->batches[copy->count] = original(n, base, fork);
        base = batch_end_offset(&copy->batches[copy->count]);
        copy->count++;
    }
    copy->end = base;
}

/* Makes one batch of [first, first + count). */
static void merge(struct copy *copy, unsigned first, unsigned count)
{
    struct batch_header *to = &copy->batches[first];
    struct batch_header last = copy->batches[first + count - 1];

    last.record_count = (uint32_t)(batch_end_offset(&last) - to->base_offset);
    last.base_offset = to->base_offset;
    last.attributes = BATCH_SPARSE | BATCH_COMPACTED;
    last.body_crc32c = 17;
    *to = last;
    memmove(to + 1, to + count, (copy->count - first - count) * sizeof *to);
    copy->count -= count - 1;
}

static void merge_some(struct copy *copy)
{
    for (unsigned first = 0; first < copy->count; first++) {
        unsigned left = copy->count - first;

        if (below(3) > 0) {
            unsigned count = 1 + below(6);

            merge(copy, first, count < left ? count : left);
        }
    }
}

static struct common_ends_result compare(uint64_t low, uint64_t high)
{
    const struct common_ends ends = {
        .copies = asked, .count = COPIES, .ask = on_ask, .low = low, .high = high};
    struct common_ends_result result;

    asks = 0;
    common_ends_compare(&ends, &result);
    return result;
}

static void setup(void)
{
    for (unsigned i = 0; i < COPIES; i++) {
        make(&copies[i], UINT32_MAX);
    }
}

START_TEST(equal_copies_are_equal_after_one_look)
{
    struct common_ends_result result = compare(0, copies[0].end);

    ck_assert(!result.different);
    ck_assert_uint_eq(result.end, copies[0].end);
    ck_assert_uint_eq(result.digest[0], ORIGINALS - 1);
    ck_assert_uint_eq(asks, 1);
}
END_TEST

START_TEST(copies_compacted_at_any_time_are_equal_up_to_their_last_common_end)
{
    struct common_ends_result result;

    merge(&copies[0], ORIGINALS - 3, 3);
    merge(&copies[1], ORIGINALS - 5, 4);
    result = compare(0, copies[0].end);
    ck_assert(!result.different);
    ck_assert_uint_eq(result.end, copies[0].end);
    /* One ends earlier: in the middle of what the others have merged. */
    result = compare(0, copies[1].batches[ORIGINALS - 5].base_offset + 1);
    ck_assert(!result.different);
    ck_assert_uint_eq(result.end, copies[1].batches[ORIGINALS - 5].base_offset);
    ck_assert_uint_eq(result.digest[0], ORIGINALS - 6);
}
END_TEST

START_TEST(without_a_common_end_nothing_is_compared)
{
    struct common_ends_result result;

    merge(&copies[0], 0, ORIGINALS);
    result = compare(0, 10);
    ck_assert(!result.different);
    ck_assert_uint_eq(result.end, 0);
    result = compare(5, 5);
    ck_assert(!result.different);
    ck_assert_uint_eq(result.end, 5);
}
END_TEST

START_TEST(random_compactions_of_one_history_are_no_difference)
{
    struct common_ends_result result;

    random_state = (uint64_t)_i;
    for (unsigned i = 0; i < COPIES; i++) {
        merge_some(&copies[i]);
    }
    result = compare(below(10), copies[0].end - below(10));
    ck_assert(!result.different);
}
END_TEST

/* The difference lies in the batches of the copies that hold the first batch that differs. */
START_TEST(another_history_is_found_where_it_begins_however_compacted)
{
    unsigned fork;
    struct common_ends_result result;
    uint64_t at;

    random_state = (uint64_t)_i;
    fork = below(ORIGINALS);
    make(&copies[1 + _i % 2], fork);
    at = copies[0].batches[fork].base_offset;
    if (_i >= 20) {
        for (unsigned i = 0; i < COPIES; i++) {
            merge_some(&copies[i]);
        }
    }
    result = compare(0, copies[0].end);
    ck_assert(result.different);
    ck_assert_uint_le(result.offset, at);
    if (_i < 20) {
        ck_assert_uint_eq(result.offset, at);
        ck_assert_uint_lt(asks, 12);
    } else {
        struct common_ends_result before = compare(0, result.offset);

        ck_assert(!before.different);
    }
}
END_TEST

START_TEST(an_end_inside_of_an_original_batch_is_a_difference)
{
    /* The same records in other batches, none of them compacted. */
    copies[2].batches[4].record_count -= 1;
    copies[2].batches[5].base_offset -= 1;
    copies[2].batches[5].record_count += 1;
    ck_assert(!common_ends_agree(&copies[2].batches[4], &copies[0].batches[4]));
    ck_assert(!common_ends_agree(&copies[0].batches[4], &copies[2].batches[4]));
    merge(&copies[1], 0, 5);
    ck_assert(common_ends_agree(&copies[0].batches[4], &copies[1].batches[0]));
    ck_assert(common_ends_agree(&copies[1].batches[0], &copies[0].batches[4]));
    ck_assert(!common_ends_agree(&copies[1].batches[0], &copies[2].batches[5]));
    for (unsigned n = 6; n < ORIGINALS; n++) {
        copies[2].batches[n].digest[1] = 1;
    }
    ck_assert(compare(0, copies[0].end).different);
}
END_TEST

START_TEST(two_that_end_together_with_other_stamps_are_different)
{
    struct batch_header a = copies[0].batches[7];
    struct batch_header b;

    merge(&copies[1], 5, 3);
    b = copies[1].batches[5];
    ck_assert(common_ends_agree(&a, &b));
    b.raft_index++;
    ck_assert(!common_ends_agree(&a, &b));
    b.raft_index--;
    b.digest[31] ^= 1;
    ck_assert(!common_ends_agree(&a, &b));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli/common_ends");
    TCase *tcase = tcase_create("common_ends_compare");

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, equal_copies_are_equal_after_one_look);
    tcase_add_test(tcase, copies_compacted_at_any_time_are_equal_up_to_their_last_common_end);
    tcase_add_test(tcase, without_a_common_end_nothing_is_compared);
    tcase_add_loop_test(tcase, random_compactions_of_one_history_are_no_difference, 0, 50);
    tcase_add_loop_test(tcase, another_history_is_found_where_it_begins_however_compacted, 0, 80);
    tcase_add_test(tcase, an_end_inside_of_an_original_batch_is_a_difference);
    tcase_add_test(tcase, two_that_end_together_with_other_stamps_are_different);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
