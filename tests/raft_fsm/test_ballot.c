#include "raft_fsm/ballot.h"

#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "lib/faulty_io.h"
#include "lib/runner.h"
#include "sim/mem_io.h"

enum { FILE_SIZE = 8192, SLOT_SIZE = 4096 };

static struct mem_io disk;

static void setup(void)
{
    mem_io_init(&disk);
}

static void teardown(void)
{
    ck_assert_uint_eq(mem_io_open_count(&disk), 0);
    mem_io_fini(&disk);
}

static uint64_t draw(void *arg)
{
    uint64_t *state = arg;

    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state ^ *state >> 29;
}

static enum err open_ballot(struct ballot *ballot)
{
    return ballot_open(ballot, &disk.io, "/", 3, true, NULL);
}

/* A ballot that went through (5, 2) and (6, 1). */
static void make_ballot(void)
{
    struct ballot ballot;

    ck_assert_int_eq(open_ballot(&ballot), ERR_OK);
    ck_assert_int_eq(ballot_write(&ballot, 5, 2, NULL), ERR_OK);
    ck_assert_int_eq(ballot_write(&ballot, 6, 1, NULL), ERR_OK);
    ballot_close(&ballot);
}

START_TEST(new_ballot_is_empty_and_only_made_on_demand)
{
    struct ballot ballot;

    ck_assert_int_eq(ballot_open(&ballot, &disk.io, "/", 3, false, NULL), ERR_NOT_FOUND);
    ck_assert_int_eq(open_ballot(&ballot), ERR_OK);
    ck_assert_uint_eq(ballot.term, 0);
    ck_assert_uint_eq(ballot.vote, 0);
    ballot_close(&ballot);
    ck_assert(!mem_io_is_dirty(&disk));
    ck_assert_int_eq(ballot_open(&ballot, &disk.io, "/", 3, false, NULL), ERR_OK);
    ballot_close(&ballot);
}
END_TEST

START_TEST(what_was_written_is_there_after_power_loss)
{
    struct ballot ballot;
    uint64_t state = 1;

    ck_assert_int_eq(open_ballot(&ballot), ERR_OK);
    for (uint64_t term = 1; term < 20; term++) {
        ck_assert_int_eq(ballot_write(&ballot, term, 0, NULL), ERR_OK);
        ck_assert_int_eq(ballot_write(&ballot, term, term % 3 + 1, NULL), ERR_OK);
        mem_io_crash(&disk, draw, &state);
        ck_assert_int_eq(open_ballot(&ballot), ERR_OK);
        ck_assert_uint_eq(ballot.term, term);
        ck_assert_uint_eq(ballot.vote, term % 3 + 1);
    }
    ballot_close(&ballot);
}
END_TEST

START_TEST(every_flipped_bit_is_survived)
{
    struct ballot ballot;

    make_ballot();
    for (uint64_t position = 0; position < FILE_SIZE; position++) {
        ck_assert_int_eq(mem_io_flip(&disk, "/ballot", position, (unsigned)(position % 8)), 0);
        ck_assert_int_eq(open_ballot(&ballot), ERR_OK);
        ck_assert_uint_eq(ballot.term, 6);
        ck_assert_uint_eq(ballot.vote, 1);
        ballot_close(&ballot);
    }
}
END_TEST

START_TEST(damage_to_both_slots_is_corrupt)
{
    struct ballot ballot;
    struct err_info info;

    make_ballot();
    ck_assert_int_eq(mem_io_flip(&disk, "/ballot", 17, 3), 0);
    ck_assert_int_eq(mem_io_flip(&disk, "/ballot", SLOT_SIZE + 25, 3), 0);
    ck_assert_int_eq(ballot_open(&ballot, &disk.io, "/", 3, true, &info), ERR_CORRUPT);
    ck_assert_ptr_nonnull(strstr(info.text, "ballot"));
}
END_TEST

START_TEST(file_of_another_size_is_corrupt)
{
    struct ballot ballot;
    int fd;

    make_ballot();
    ck_assert_int_eq(io_open(&disk.io, "/ballot", 2, &fd, NULL), ERR_OK);
    ck_assert_int_eq(disk.io.truncate(&disk.io, fd, SLOT_SIZE), 0);
    io_close(&disk.io, &fd);
    ck_assert_int_eq(open_ballot(&ballot), ERR_CORRUPT);
}
END_TEST

START_TEST(ballot_of_another_node_is_corrupt)
{
    struct ballot ballot;

    make_ballot();
    ck_assert_int_eq(ballot_open(&ballot, &disk.io, "/", 4, true, NULL), ERR_CORRUPT);
}
END_TEST

START_TEST(vote_never_changes_within_a_term)
{
    struct ballot ballot;

    ck_assert_int_eq(open_ballot(&ballot), ERR_OK);
    ck_assert_int_eq(ballot_write(&ballot, 5, 2, NULL), ERR_OK);
    (void)ballot_write(&ballot, 5, 3, NULL);
}
END_TEST

START_TEST(term_never_goes_down)
{
    struct ballot ballot;

    ck_assert_int_eq(open_ballot(&ballot), ERR_OK);
    ck_assert_int_eq(ballot_write(&ballot, 5, 2, NULL), ERR_OK);
    (void)ballot_write(&ballot, 4, 2, NULL);
}
END_TEST

/* Opens and writes terms 1, 2, 3 … until something fails; returns the last acknowledged one. */
static uint64_t write_until_failure(struct io *io)
{
    struct ballot ballot;
    uint64_t acknowledged = 0;

    if (ballot_open(&ballot, io, "/", 3, true, NULL) != ERR_OK) {
        return 0;
    }
    while (acknowledged < 5 &&
           ballot_write(&ballot, acknowledged + 1, acknowledged + 2, NULL) == ERR_OK) {
        acknowledged++;
    }
    ballot_close(&ballot);
    return acknowledged;
}

START_TEST(after_any_failed_call_and_power_loss_nothing_acknowledged_is_lost)
{
    bool all_passed = false;

    for (unsigned n = 1; !all_passed; n++) {
        for (uint64_t seed = 0; seed < 8; seed++) {
            struct faulty_io faulty;
            struct ballot ballot;
            uint64_t state = seed;
            uint64_t acknowledged;

            mem_io_fini(&disk);
            mem_io_init(&disk);
            faulty_io_init(&faulty, &disk.io);
            faulty_io_fail_at(&faulty, n, EIO, true);
            acknowledged = write_until_failure(&faulty.io);
            all_passed = faulty_io_calls(&faulty) < n;
            mem_io_crash(&disk, draw, &state);
            ck_assert_int_eq(open_ballot(&ballot), ERR_OK);
            ck_assert(ballot.term == acknowledged || ballot.term == acknowledged + 1);
            ck_assert_uint_eq(ballot.vote, ballot.term == 0 ? 0 : ballot.term + 1);
            ballot_close(&ballot);
        }
    }
}
END_TEST

static unsigned writes_left;
static bool reaches_cache;

/* A write fails; perhaps the page cache has all of it. */
static int fail_write(void *arg, struct mem_io_op *op)
{
    (void)arg;
    if (op->kind != MEM_IO_PWRITEV || writes_left-- > 0) {
        return 0;
    }
    op->partial = reaches_cache ? op->size : 0;
    return EIO;
}

static uint64_t lose_all(void *arg)
{
    (void)arg;
    return 1; /* Nothing that is dirty survives. */
}

/* The ballot that is found was in the page cache only; putting it right ends in the middle. */
START_TEST(death_while_opening_what_only_the_cache_has_is_survived)
{
    struct ballot ballot;

    make_ballot();
    ck_assert_int_eq(open_ballot(&ballot), ERR_OK);
    reaches_cache = true;
    writes_left = 0;
    mem_io_set_hook(&disk, fail_write, NULL);
    ck_assert_int_eq(ballot_write(&ballot, 7, 0, NULL), ERR_IO);
    mem_io_kill(&disk);
    reaches_cache = false;
    writes_left = (unsigned)_i;
    ck_assert_int_eq(open_ballot(&ballot), ERR_IO);
    mem_io_set_hook(&disk, NULL, NULL);
    mem_io_crash(&disk, lose_all, NULL);
    ck_assert_int_eq(open_ballot(&ballot), ERR_OK);
    ck_assert(ballot.term == 7 || (ballot.term == 6 && ballot.vote == 1));
    ballot_close(&ballot);
}
END_TEST

int main(void)
{
    /* Assertions can only be caught in a process of their own. */
    const char *fork_mode = getenv("CK_FORK");
    Suite *suite = suite_create("raft_fsm/ballot");
    TCase *tc = tcase_create("ballot_open");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, new_ballot_is_empty_and_only_made_on_demand);
    tcase_add_test(tc, every_flipped_bit_is_survived);
    tcase_add_test(tc, damage_to_both_slots_is_corrupt);
    tcase_add_test(tc, file_of_another_size_is_corrupt);
    tcase_add_test(tc, ballot_of_another_node_is_corrupt);
    tcase_add_loop_test(tc, death_while_opening_what_only_the_cache_has_is_survived, 0, 2);
    suite_add_tcase(suite, tc);
    tc = tcase_create("ballot_write");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, what_was_written_is_there_after_power_loss);
    tcase_add_test(tc, after_any_failed_call_and_power_loss_nothing_acknowledged_is_lost);
    if (fork_mode == NULL || strcmp(fork_mode, "no") != 0) {
        tcase_add_test_raise_signal(tc, vote_never_changes_within_a_term, SIGABRT);
        tcase_add_test_raise_signal(tc, term_never_goes_down, SIGABRT);
    }
    suite_add_tcase(suite, tc);
    return runner_main(suite);
}
