#include "raft_fsm/journal.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "lib/runner.h"
#include "lib/tmpdir.h"
#include "raft_fsm/journal_lab.h"
#include "raft_fsm/journal_segment.h"
#include "sim/mem_io.h"

static struct mem_io disk;
static struct journal_options options;
static struct lab_model model;

static void setup(void)
{
    mem_io_init(&disk);
    options = lab_options(&disk.io, "/");
    lab_model_init(&model);
}

static void teardown(void)
{
    ck_assert_uint_eq(mem_io_open_count(&disk), 0);
    mem_io_fini(&disk);
}

static struct journal *open_empty(void)
{
    struct journal_contents contents;
    struct journal *journal = lab_open(&options, &contents);

    ck_assert_uint_eq(contents.count, 0);
    journal_contents_fini(&contents);
    return journal;
}

static struct journal *reopen(void)
{
    struct journal_contents contents;
    struct journal *journal = lab_open(&options, &contents);

    ck_assert(lab_model_matches(&model, &contents));
    journal_contents_fini(&contents);
    return journal;
}

static void append(struct journal *journal, uint64_t first, size_t count, uint64_t term,
                   uint32_t size)
{
    ck_assert_int_eq(lab_append(journal, first, count, term, size), ERR_OK);
    lab_model_append(&model, first, count, term);
    ck_assert_uint_eq(journal_last_index(journal), model.last);
}

struct counts {
    unsigned segments;
    unsigned spares;
    unsigned others;
};

static void count_file(void *arg, const char *path, uint64_t size)
{
    struct counts *counts = arg;

    (void)size; /* Only names count. */
    if (strstr(path, ".journal") != NULL) {
        counts->segments++;
    } else if (strstr(path, ".spare") != NULL) {
        counts->spares++;
    } else {
        counts->others++;
    }
}

static struct counts count_files(void)
{
    struct counts counts = {.segments = 0};

    mem_io_files(&disk, count_file, &counts);
    return counts;
}

static uint64_t writes_of(const struct journal *journal)
{
    struct journal_stats stats;

    journal_stats(journal, &stats);
    return stats.writes;
}

/* ---- journal_open ---- */

START_TEST(new_journal_is_empty_and_starts_at_one)
{
    struct journal_contents contents;
    struct journal *journal = lab_open(&options, &contents);

    ck_assert_uint_eq(contents.first_index, 1);
    ck_assert_uint_eq(contents.count, 0);
    ck_assert(!contents.torn);
    ck_assert(contents.direct);
    ck_assert_uint_eq(journal_last_index(journal), 0);
    journal_close(journal);
    ck_assert_uint_eq(count_files().segments, 0);
    lab_assert_holds(&options, &model);
}
END_TEST

START_TEST(entries_come_back)
{
    struct journal *journal = open_empty();

    append(journal, 1, 3, 1, 100);
    append(journal, 4, 1, 2, 0);
    append(journal, 5, 40, 2, 1000);
    journal_close(journal);
    journal = reopen();
    append(journal, 45, 2, 3, 10);
    journal_close(journal);
    lab_assert_holds(&options, &model);
}
END_TEST

START_TEST(real_files_with_and_without_o_direct)
{
    const char *dir = tmpdir_new();
    bool wanted_direct = _i == 0;
    struct journal_contents contents;
    struct journal *journal;

    options = lab_options(io_real(), dir);
    options.no_direct = !wanted_direct;
    journal = lab_open(&options, &contents);
    ck_assert(IMPLIES(contents.direct, wanted_direct));
    journal_contents_fini(&contents);
    append(journal, 1, 100, 1, 1000);
    append(journal, 60, 1, 2, 200 * 1024);
    ck_assert_int_eq(journal_trim(journal, 50, NULL), ERR_OK);
    lab_model_trim(&model, 50);
    append(journal, 61, 100, 2, 1000);
    journal_close(journal);
    /* What was written one way is read the other way. */
    options.no_direct = wanted_direct;
    lab_assert_holds(&options, &model);
    tmpdir_remove(dir);
}
END_TEST

START_TEST(journal_of_another_node_is_refused)
{
    struct journal *journal = open_empty();
    struct journal_contents contents;

    append(journal, 1, 1, 1, 1);
    journal_close(journal);
    options.node_id = LAB_NODE + 1;
    ck_assert_int_eq(journal_open(&options, &journal, &contents, NULL), ERR_WRONG_CLUSTER);
}
END_TEST

START_TEST(missing_segment_is_corrupt)
{
    struct journal *journal = open_empty();
    struct journal_contents contents;
    struct err_info info;

    append(journal, 1, 200, 1, 1000);
    journal_close(journal);
    ck_assert_uint_ge(count_files().segments, 3);
    ck_assert_int_eq(disk.io.unlink(&disk.io, "/0000000000000002.journal"), 0);
    ck_assert_int_eq(journal_open(&options, &journal, &contents, &info), ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(info.text, "segment 2 is missing"));
}
END_TEST

START_TEST(restart_without_writes_takes_no_space)
{
    struct journal *journal = open_empty();
    struct counts before;

    append(journal, 1, 3, 1, 100);
    journal_close(journal);
    before = count_files();
    for (unsigned i = 0; i < 5; i++) {
        journal = reopen();
        ck_assert_int_eq(journal_seal(journal, NULL), ERR_OK);
        ck_assert_uint_eq(writes_of(journal), 0);
        journal_close(journal);
    }
    ck_assert_uint_eq(count_files().segments, before.segments);
    ck_assert_uint_eq(count_files().others, 0);
}
END_TEST

/* ---- journal_append ---- */

START_TEST(lower_index_truncates)
{
    struct journal *journal = open_empty();

    append(journal, 1, 20, 1, 100);
    append(journal, 11, 2, 2, 50);
    journal_close(journal);
    journal = reopen();
    append(journal, 2, 1, 3, 100);
    journal_close(journal);
    journal = reopen();
    append(journal, 1, 30, 4, 3000);
    journal_close(journal);
    lab_assert_holds(&options, &model);
}
END_TEST

START_TEST(entry_larger_than_a_segment_gets_one_of_its_own)
{
    struct journal *journal = open_empty();

    append(journal, 1, 2, 1, 100);
    append(journal, 3, 1, 1, 3 * LAB_SEGMENT_SIZE);
    append(journal, 4, 2, 1, 100);
    journal_close(journal);
    lab_assert_holds(&options, &model);
}
END_TEST

START_TEST(large_append_is_a_few_writes_in_order)
{
    struct journal *journal = open_empty();

    append(journal, 1, 10, 1, 2000); /* Four to a write of 8 KiB. */
    ck_assert_uint_eq(writes_of(journal), 3);
    append(journal, 11, 4, 1, 10);
    ck_assert_uint_eq(writes_of(journal), 4);
    journal_close(journal);
    lab_assert_holds(&options, &model);
}
END_TEST

START_TEST(what_was_appended_is_durable_at_once)
{
    struct journal *journal = open_empty();
    uint64_t state = 5;

    for (uint64_t index = 1; index < 200; index += 10) {
        append(journal, index, 10, 1, 700);
        mem_io_crash(&disk, lab_draw, &state);
        lab_abandon(&disk, journal);
        journal = reopen();
    }
    journal_close(journal);
}
END_TEST

/* ---- journal_trim ---- */

START_TEST(trim_recycles_segments_oldest_first)
{
    struct journal *journal = open_empty();
    unsigned segments;

    append(journal, 1, 300, 1, 1000);
    segments = count_files().segments;
    ck_assert_uint_ge(segments, 5);
    ck_assert_int_eq(journal_trim(journal, 150, NULL), ERR_OK);
    lab_model_trim(&model, 150);
    ck_assert_uint_lt(count_files().segments, segments);
    ck_assert_uint_ge(count_files().spares, 1);
    journal_close(journal);
    journal = reopen();
    ck_assert_int_eq(journal_trim(journal, 300, NULL), ERR_OK);
    lab_model_trim(&model, 300);
    ck_assert_uint_eq(count_files().segments, 1);
    ck_assert_uint_eq(journal_last_index(journal), 300);
    append(journal, 301, 1, 2, 1);
    journal_close(journal);
    lab_assert_holds(&options, &model);
}
END_TEST

START_TEST(trim_keeps_a_truncation_as_long_as_what_it_truncated)
{
    struct journal *journal = open_empty();

    append(journal, 1, 100, 1, 1000); /* Two segments. */
    append(journal, 40, 1, 2, 1000);  /* Truncates 40 to 100. */
    append(journal, 41, 100, 2, 1000);
    for (uint64_t index = 5; index <= 140; index += 5) {
        ck_assert_int_eq(journal_trim(journal, index, NULL), ERR_OK);
        lab_model_trim(&model, index);
        journal_close(journal);
        journal = reopen();
    }
    journal_close(journal);
}
END_TEST

/* Files are recycled in the same order and batches have the same sizes, so what a segment held
 * stands exactly where the next batch is looked for. */
START_TEST(old_contents_of_recycled_segments_never_come_back)
{
    struct journal *journal = open_empty();
    uint64_t index = 1;

    for (unsigned round = 0; round < 40; round++) {
        for (unsigned i = 0; i < 7 + round % 5; i++) {
            append(journal, index, 5, 1 + round, 2000);
            index += 5;
        }
        if (round % 3 != 0) {
            ck_assert_int_eq(journal_trim(journal, index - 2, NULL), ERR_OK);
            lab_model_trim(&model, index - 2);
        }
        if (round % 4 == 0) {
            journal_close(journal);
            journal = reopen();
        }
    }
    journal_close(journal);
    lab_assert_holds(&options, &model);
}
END_TEST

/* A payload of which every sector, at every place that a frame may begin, is a batch of the
 * segment that this file may become, as far as anyone can know who has not seen the file. */
static struct entry crafted_entry(uint64_t index, uint64_t segment, uint32_t size)
{
    const struct journal_batch batch = {
        .segment = segment, .sequence = 1000, .first_index = 1, .type = JOURNAL_BATCH_SEAL};
    struct block *block = entry_block_new(size);
    struct entry entry;
    uint8_t *payload;

    ck_assert_ptr_nonnull(block);
    payload = block->data + ENTRY_HEADER_SIZE;
    memset(payload, 0, size);
    for (uint32_t at = JOURNAL_BATCH_HEADER_SIZE - ENTRY_HEADER_SIZE % JOURNAL_BATCH_HEADER_SIZE;
         at + JOURNAL_BATCH_HEADER_SIZE <= size; at += JOURNAL_BATCH_HEADER_SIZE) {
        journal_batch_encode(&batch, 0, payload + at);
    }
    entry_seal(block, size, index, 1, ENTRY_COMMAND, &entry);
    return entry;
}

START_TEST(a_payload_that_looks_like_a_batch_is_none_in_a_recycled_segment)
{
    struct journal *journal = open_empty();
    struct journal_contents contents;
    uint64_t state = 1;

    for (uint64_t index = 1; index <= 30; index++) {
        struct entry entry = crafted_entry(index, 3 + index % 4, 7000);

        ck_assert_int_eq(journal_append(journal, &entry, 1, NULL), ERR_OK);
        entry_unref(&entry);
    }
    ck_assert_int_eq(journal_trim(journal, 30, NULL), ERR_OK);
    for (uint64_t index = 31; index < 131; index++) {
        ck_assert_int_eq(lab_append(journal, index, 1, 1, 3000), ERR_OK);
        ck_assert_int_eq(journal_trim(journal, index - 1, NULL), ERR_OK);
        if (index % 25 == 0) {
            mem_io_crash(&disk, lab_draw, &state); /* Without a seal. */
            lab_abandon(&disk, journal);
            journal = lab_open(&options, &contents);
            ck_assert_uint_eq(contents.first_index + contents.count, index + 1);
            journal_contents_fini(&contents);
        }
    }
    journal_close(journal);
}
END_TEST

/* ---- journal_reset ---- */

START_TEST(reset_forgets_everything_and_moves_on)
{
    struct journal *journal = open_empty();

    append(journal, 1, 300, 5, 1000);
    ck_assert_int_eq(journal_reset(journal, 1000, NULL), ERR_OK);
    lab_model_reset(&model, 1000);
    ck_assert_uint_eq(count_files().segments, 1);
    ck_assert_uint_eq(journal_last_index(journal), 999);
    journal_close(journal);
    journal = reopen();
    append(journal, 1000, 5, 6, 10);
    ck_assert_int_eq(journal_reset(journal, 50, NULL), ERR_OK);
    lab_model_reset(&model, 50);
    append(journal, 50, 5, 1, 10);
    journal_close(journal);
    lab_assert_holds(&options, &model);
}
END_TEST

/* ---- journal_seal, journal_prepare ---- */

START_TEST(seal_is_written_once)
{
    struct journal *journal = open_empty();

    ck_assert_int_eq(journal_seal(journal, NULL), ERR_OK);
    ck_assert_uint_eq(writes_of(journal), 0);
    append(journal, 1, 1, 1, 1);
    ck_assert_int_eq(journal_seal(journal, NULL), ERR_OK);
    ck_assert_int_eq(journal_seal(journal, NULL), ERR_OK);
    ck_assert_uint_eq(writes_of(journal), 2);
    journal_close(journal);
    lab_assert_holds(&options, &model);
}
END_TEST

START_TEST(spare_is_prepared_in_steps)
{
    struct journal *journal = open_empty();
    unsigned steps = 0;
    bool more = true;

    while (more) {
        ck_assert_int_eq(journal_prepare(journal, 16 * 1024, &more, NULL), ERR_OK);
        steps++;
    }
    ck_assert_uint_eq(steps, 4);
    ck_assert_uint_eq(count_files().spares, 1);
    append(journal, 1, 1, 1, 1);
    ck_assert_uint_eq(count_files().spares, 0);
    ck_assert_int_eq(journal_prepare(journal, 16 * 1024, &more, NULL), ERR_OK);
    ck_assert(more);
    journal_close(journal); /* Takes the unfinished one away. */
    ck_assert_uint_eq(count_files().spares, 0);
    journal = reopen();
    ck_assert_int_eq(journal_prepare(journal, 0, &more, NULL), ERR_OK);
    ck_assert(!more);
    journal_close(journal);
    ck_assert_uint_eq(count_files().spares, 1);
    journal = reopen();
    ck_assert_int_eq(journal_prepare(journal, 0, &more, NULL), ERR_OK);
    ck_assert_uint_eq(count_files().spares, 1);
    journal_close(journal);
}
END_TEST

START_TEST(full_disk_while_preparing_leaves_the_journal_usable)
{
    struct journal *journal = open_empty();
    bool more;

    append(journal, 1, 1, 1, 1);
    mem_io_set_free(&disk, 10000);
    ck_assert_int_eq(journal_prepare(journal, 0, &more, NULL), ERR_NOSPACE);
    ck_assert_uint_eq(count_files().spares, 0);
    append(journal, 2, 5, 1, 1000);
    ck_assert_int_eq(lab_append(journal, 7, 100, 1, 1000), ERR_NOSPACE);
    ck_assert_int_eq(lab_append(journal, 7, 1, 1, 1), ERR_FAILED);
    mem_io_set_free(&disk, UINT64_MAX);
    ck_assert_int_eq(lab_append(journal, 7, 1, 1, 1), ERR_FAILED);
    journal_close(journal);
}
END_TEST

/* ---- journal_perform ---- */

START_TEST(consecutive_appends_become_one_write)
{
    struct journal *journal = open_empty();
    struct journal_task *tasks[6];
    struct journal_task *list;

    tasks[0] = lab_append_task(1, 3, 1, 10);
    tasks[1] = lab_append_task(4, 1, 1, 10);
    tasks[2] = lab_append_task(5, 2, 2, 10);
    tasks[3] = lab_append_task(5, 2, 3, 10); /* Truncates: a write of its own. */
    tasks[4] = journal_task_new(JOURNAL_TRIM, 0);
    tasks[4]->index = 2;
    tasks[5] = lab_append_task(7, 1, 3, 10);
    for (unsigned i = 0; i + 1 < 6; i++) {
        tasks[i]->next = tasks[i + 1];
    }
    list = tasks[0];
    ck_assert_int_eq(journal_perform(journal, list, NULL), ERR_OK);
    ck_assert_uint_eq(writes_of(journal), 3);
    for (unsigned i = 0; i < 6; i++) {
        ck_assert_int_eq(tasks[i]->err, ERR_OK);
        journal_task_free(tasks[i]);
    }
    journal_close(journal);
    lab_model_append(&model, 1, 4, 1);
    lab_model_append(&model, 5, 2, 3);
    lab_model_append(&model, 7, 1, 3);
    lab_model_trim(&model, 2);
    lab_assert_holds(&options, &model);
}
END_TEST

static int fail_writes(void *arg, struct mem_io_op *op)
{
    (void)arg; /* It fails always. */
    return op->kind == MEM_IO_PWRITEV ? 5 : 0;
}

START_TEST(after_an_error_the_rest_is_refused)
{
    struct journal *journal = open_empty();
    struct journal_task *first = lab_append_task(1, 1, 1, 10);
    struct journal_task *second = journal_task_new(JOURNAL_RESET, 0);

    second->index = 10;
    first->next = second;
    append(journal, 1, 1, 1, 1);
    mem_io_set_hook(&disk, fail_writes, NULL);
    ck_assert_int_eq(journal_perform(journal, first, NULL), ERR_IO);
    ck_assert_int_eq(first->err, ERR_IO);
    ck_assert_int_eq(second->err, ERR_FAILED);
    mem_io_set_hook(&disk, NULL, NULL);
    ck_assert_int_eq(journal_perform(journal, second, NULL), ERR_FAILED);
    ck_assert_int_eq(journal_seal(journal, NULL), ERR_FAILED);
    ck_assert_int_eq(journal_trim(journal, 1, NULL), ERR_FAILED);
    journal_close(journal);
    journal_task_free(first);
    journal_task_free(second);
    lab_assert_holds(&options, &model);
}
END_TEST

static TCase *add_case(Suite *suite, const char *name)
{
    TCase *tc = tcase_create(name);

    tcase_add_checked_fixture(tc, setup, teardown);
    suite_add_tcase(suite, tc);
    return tc;
}

int main(void)
{
    Suite *suite = suite_create("raft_fsm/journal");
    TCase *tc = add_case(suite, "journal_open");

    tcase_add_test(tc, new_journal_is_empty_and_starts_at_one);
    tcase_add_test(tc, entries_come_back);
    tcase_add_loop_test(tc, real_files_with_and_without_o_direct, 0, 2);
    tcase_add_test(tc, journal_of_another_node_is_refused);
    tcase_add_test(tc, missing_segment_is_corrupt);
    tcase_add_test(tc, restart_without_writes_takes_no_space);
    tc = add_case(suite, "journal_append");
    tcase_add_test(tc, lower_index_truncates);
    tcase_add_test(tc, entry_larger_than_a_segment_gets_one_of_its_own);
    tcase_add_test(tc, large_append_is_a_few_writes_in_order);
    tcase_add_test(tc, what_was_appended_is_durable_at_once);
    tc = add_case(suite, "journal_trim");
    tcase_add_test(tc, trim_recycles_segments_oldest_first);
    tcase_add_test(tc, trim_keeps_a_truncation_as_long_as_what_it_truncated);
    tcase_add_test(tc, old_contents_of_recycled_segments_never_come_back);
    tcase_add_test(tc, a_payload_that_looks_like_a_batch_is_none_in_a_recycled_segment);
    tc = add_case(suite, "journal_reset");
    tcase_add_test(tc, reset_forgets_everything_and_moves_on);
    tc = add_case(suite, "journal_prepare");
    tcase_add_test(tc, seal_is_written_once);
    tcase_add_test(tc, spare_is_prepared_in_steps);
    tcase_add_test(tc, full_disk_while_preparing_leaves_the_journal_usable);
    tc = add_case(suite, "journal_perform");
    tcase_add_test(tc, consecutive_appends_become_one_write);
    tcase_add_test(tc, after_an_error_the_rest_is_refused);
    return runner_main(suite);
}
