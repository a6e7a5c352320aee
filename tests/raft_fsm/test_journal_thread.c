#include "raft_fsm/journal_thread.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "lib/runner.h"
#include "raft_fsm/journal_lab.h"
#include "sim/mem_io.h"

enum { WAIT_MS = 10000 };

static struct mem_io disk;
static struct journal_options options;
static struct lab_model model;

/* What the thread hands back, and a gate in front of the disk. */
static struct {
    pthread_mutex_t lock; /* Guards all below. */
    pthread_cond_t changed;
    struct journal_task *head;
    struct journal_task **tail;
    unsigned done;
    unsigned calls;    /* of done */
    bool closed;       /* The gate: writes wait. */
    bool waiting;      /* One does. */
    bool broken;       /* Writes fail. */
    unsigned spares;   /* made, and synced */
    uint64_t write_ns; /* How long a write takes, … */
    uint64_t now_ns;   /* … by the only clock that the disk is measured with. */
} lab;

static uint64_t monotonic_ns(const struct clock *clock)
{
    uint64_t now_ns;

    (void)clock;
    pthread_mutex_lock(&lab.lock);
    now_ns = lab.now_ns;
    pthread_mutex_unlock(&lab.lock);
    return now_ns;
}

static const struct clock lab_clock = {.monotonic_ns = monotonic_ns};

static void on_done(void *arg, struct journal_task *list)
{
    ck_assert_ptr_eq(arg, &lab);
    pthread_mutex_lock(&lab.lock);
    *lab.tail = list;
    for (; list != NULL; list = list->next) {
        lab.done++;
        lab.tail = &list->next;
    }
    lab.calls++;
    pthread_cond_broadcast(&lab.changed);
    pthread_mutex_unlock(&lab.lock);
}

static int on_call(void *arg, struct mem_io_op *op)
{
    int rv = 0;

    (void)arg; /* All is in lab. */
    if (op->kind == MEM_IO_FDATASYNC && strstr(op->path, ".spare") != NULL) {
        pthread_mutex_lock(&lab.lock);
        lab.spares++;
        pthread_cond_broadcast(&lab.changed);
        pthread_mutex_unlock(&lab.lock);
    }
    if (op->kind != MEM_IO_PWRITEV) {
        return 0;
    }
    pthread_mutex_lock(&lab.lock);
    lab.waiting = lab.closed;
    pthread_cond_broadcast(&lab.changed);
    while (lab.closed) {
        pthread_cond_wait(&lab.changed, &lab.lock);
    }
    lab.waiting = false;
    rv = lab.broken ? EIO : 0;
    lab.now_ns += lab.write_ns;
    pthread_mutex_unlock(&lab.lock);
    return rv;
}

static struct timespec deadline_of_wait(void)
{
    struct timespec deadline;

    (void)clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += WAIT_MS / 1000;
    return deadline;
}

static void wait_done(unsigned done)
{
    struct timespec deadline = deadline_of_wait();

    pthread_mutex_lock(&lab.lock);
    while (lab.done < done) {
        ck_assert_int_eq(pthread_cond_timedwait(&lab.changed, &lab.lock, &deadline), 0);
    }
    pthread_mutex_unlock(&lab.lock);
}

static void wait_spares(unsigned spares)
{
    struct timespec deadline = deadline_of_wait();

    pthread_mutex_lock(&lab.lock);
    while (lab.spares < spares) {
        ck_assert_int_eq(pthread_cond_timedwait(&lab.changed, &lab.lock, &deadline), 0);
    }
    pthread_mutex_unlock(&lab.lock);
}

static void close_gate(void)
{
    pthread_mutex_lock(&lab.lock);
    lab.closed = true;
    pthread_mutex_unlock(&lab.lock);
}

static void wait_for_writer_at_gate(void)
{
    struct timespec deadline = deadline_of_wait();

    pthread_mutex_lock(&lab.lock);
    while (!lab.waiting) {
        ck_assert_int_eq(pthread_cond_timedwait(&lab.changed, &lab.lock, &deadline), 0);
    }
    pthread_mutex_unlock(&lab.lock);
}

static void open_gate(void)
{
    pthread_mutex_lock(&lab.lock);
    lab.closed = false;
    pthread_cond_broadcast(&lab.changed);
    pthread_mutex_unlock(&lab.lock);
}

static void slow_down(uint64_t write_ns)
{
    pthread_mutex_lock(&lab.lock);
    lab.write_ns = write_ns;
    pthread_mutex_unlock(&lab.lock);
}

static void setup(void)
{
    memset(&lab, 0, sizeof lab);
    lab.tail = &lab.head;
    ck_assert_int_eq(pthread_mutex_init(&lab.lock, NULL), 0);
    ck_assert_int_eq(pthread_cond_init(&lab.changed, NULL), 0);
    mem_io_init(&disk);
    mem_io_set_hook(&disk, on_call, NULL);
    options = lab_options(&disk.io, "/");
    lab_model_init(&model);
}

static void teardown(void)
{
    while (lab.head != NULL) {
        struct journal_task *task = lab.head;

        lab.head = task->next;
        journal_task_free(task);
    }
    mem_io_set_hook(&disk, NULL, NULL);
    mem_io_fini(&disk);
    pthread_cond_destroy(&lab.changed);
    pthread_mutex_destroy(&lab.lock);
}

static struct journal_thread *start(void)
{
    struct journal_contents contents;
    struct journal *journal = lab_open(&options, &contents);
    struct journal_thread *thread;

    ck_assert(lab_model_matches(&model, &contents));
    journal_contents_fini(&contents);
    ck_assert_int_eq(journal_thread_start(journal, &lab_clock, on_done, &lab, &thread), ERR_OK);
    return thread;
}

static void post_append(struct journal_thread *thread, uint64_t first, unsigned count,
                        uint64_t term, uint32_t size)
{
    journal_thread_post(thread, lab_append_task(first, count, term, size));
    lab_model_append(&model, first, count, term);
}

static uint64_t writes_of(struct journal_thread *thread)
{
    struct journal_stats stats;

    journal_thread_stats(thread, &stats);
    return stats.writes;
}

START_TEST(tasks_come_back_in_order_and_durable)
{
    struct journal_thread *thread = start();
    uint64_t index = 1;

    for (unsigned i = 0; i < 200; i++) {
        post_append(thread, index, 1 + i % 3, 1, 100 + i);
        index += 1 + i % 3;
    }
    wait_done(200);
    journal_thread_stop(thread);
    index = 1;
    for (const struct journal_task *task = lab.head; task != NULL; task = task->next) {
        ck_assert_int_eq(task->err, ERR_OK);
        ck_assert_uint_eq(task->entries[0].index, index);
        index += task->count;
    }
    lab_assert_holds(&options, &model);
}
END_TEST

START_TEST(what_comes_during_a_write_goes_into_the_next_one)
{
    struct journal_thread *thread = start();
    uint64_t writes;

    post_append(thread, 1, 1, 1, 10);
    wait_done(1);
    writes = writes_of(thread);
    close_gate();
    post_append(thread, 2, 1, 1, 10);
    wait_for_writer_at_gate();
    for (uint64_t i = 0; i < 20; i++) {
        post_append(thread, 3 + i, 1, 1, 10);
    }
    open_gate();
    wait_done(22);
    /* At the gate it may have been a seal or a spare; then all 21 went into one write. */
    ck_assert_uint_le(writes_of(thread), writes + 3);
    ck_assert_uint_le(lab.calls, 3);
    journal_thread_stop(thread);
    lab_assert_holds(&options, &model);
}
END_TEST

START_TEST(stop_performs_what_was_posted)
{
    struct journal_thread *thread = start();

    close_gate();
    for (uint64_t i = 0; i < 10; i++) {
        post_append(thread, 1 + i, 1, 1, 10);
    }
    open_gate();
    journal_thread_stop(thread);
    ck_assert_uint_eq(lab.done, 10);
    lab_assert_holds(&options, &model);
}
END_TEST

/* Waits for an idle thread to have made this many durable writes. */
static void wait_writes(struct journal_thread *thread, uint64_t writes)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    uint64_t end = clock_monotonic_ms(clock_real()) + WAIT_MS;

    while (writes_of(thread) < writes) {
        ck_assert_uint_lt(clock_monotonic_ms(clock_real()), end);
        (void)nanosleep(&pause, NULL); /* Polling: the thread tells nobody. */
    }
}

START_TEST(idle_thread_seals_once)
{
    struct journal_thread *thread = start();

    post_append(thread, 1, 2, 1, 10);
    wait_writes(thread, 2);
    post_append(thread, 3, 1, 1, 10);
    wait_writes(thread, 4);
    journal_thread_stop(thread); /* Would seal, were there anything to seal. */
    options.segment_size = 2 * (uint64_t)LAB_SEGMENT_SIZE;
    thread = start();
    ck_assert_uint_eq(writes_of(thread), 0);
    journal_thread_stop(thread);
}
END_TEST

START_TEST(idle_thread_prepares_a_spare)
{
    struct journal_thread *thread = start();

    wait_spares(1); /* Before any task. */
    post_append(thread, 1, 2, 1, 10);
    wait_spares(2); /* The first one is in use. */
    journal_thread_stop(thread);
    lab_assert_holds(&options, &model);
}
END_TEST

START_TEST(failed_write_fails_all_later_tasks)
{
    struct journal_thread *thread = start();
    unsigned failed = 0;

    post_append(thread, 1, 1, 1, 10);
    wait_done(1);
    pthread_mutex_lock(&lab.lock);
    lab.broken = true;
    pthread_mutex_unlock(&lab.lock);
    for (uint64_t i = 0; i < 5; i++) {
        journal_thread_post(thread, lab_append_task(2 + i, 1, 1, 10));
    }
    wait_done(6);
    journal_thread_stop(thread);
    lab.broken = false;
    for (const struct journal_task *task = lab.head->next; task != NULL; task = task->next) {
        ck_assert(task->err == ERR_IO || task->err == ERR_FAILED);
        failed++;
    }
    ck_assert_uint_eq(failed, 5);
    lab_assert_holds(&options, &model);
}
END_TEST

/* Tries until the thread has nothing else to do with the journal. */
static struct journal_task *try_append(struct journal_thread *thread, uint64_t index, uint32_t size)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    uint64_t end = clock_monotonic_ms(clock_real()) + WAIT_MS;
    struct journal_task *task = lab_append_task(index, 1, 1, size);

    while (!journal_thread_try(thread, task)) {
        ck_assert_uint_lt(clock_monotonic_ms(clock_real()), end);
        (void)nanosleep(&pause, NULL); /* It prepares a spare, say. */
    }
    lab_model_append(&model, index, 1, 1);
    return task;
}

START_TEST(a_small_append_is_performed_by_who_tries_it)
{
    struct journal_thread *thread = start();

    post_append(thread, 1, 1, 1, 10); /* Opens a segment. */
    wait_done(1);
    for (uint64_t index = 2; index < 100; index++) {
        struct journal_task *task = try_append(thread, index, 100);

        ck_assert_int_eq(task->err, ERR_OK);
        journal_task_free(task);
    }
    ck_assert_uint_eq(lab.calls, 1);
    post_append(thread, 100, 1, 1, 10); /* The two ways mix. */
    wait_done(2);
    journal_thread_stop(thread);
    lab_assert_holds(&options, &model);
}
END_TEST

START_TEST(nothing_is_tried_that_could_wait_for_more_than_its_write)
{
    struct journal_thread *thread = start();
    struct journal_task *first = lab_append_task(1, 1, 1, 10);
    struct journal_task *trim = journal_task_new(JOURNAL_TRIM, 0);
    struct journal_task *large;
    struct journal_task *small;

    ck_assert(!journal_thread_try(thread, first)); /* No segment is open. */
    journal_task_free(first);
    post_append(thread, 1, 1, 1, 10);
    wait_done(1);
    journal_task_free(try_append(thread, 2, 10));
    large = lab_append_task(3, 1, 1, 17000);
    trim->index = 1;
    ck_assert(!journal_thread_try(thread, large));
    ck_assert(!journal_thread_try(thread, trim));
    close_gate();
    journal_thread_post(thread, large);
    lab_model_append(&model, 3, 1, 1);
    wait_for_writer_at_gate();
    small = lab_append_task(4, 1, 1, 10);
    ck_assert(!journal_thread_try(thread, small)); /* It would overtake. */
    open_gate();
    journal_thread_post(thread, small);
    lab_model_append(&model, 4, 1, 1);
    wait_done(3);
    journal_task_free(trim);
    journal_thread_stop(thread);
    lab_assert_holds(&options, &model);
}
END_TEST

/* Whoever makes the writes: the thread's own tell when the disk is quick again. */
START_TEST(a_disk_that_is_slow_is_left_to_the_thread_until_it_is_quick)
{
    struct journal_thread *thread = start();
    struct journal_task *task = lab_append_task(3, 1, 1, 10);
    unsigned done = 1;
    uint64_t index = 3;

    post_append(thread, 1, 1, 1, 10);
    wait_done(1);
    slow_down(50000000);
    journal_task_free(try_append(thread, 2, 10));
    slow_down(0);
    ck_assert(!journal_thread_try(thread, task));
    journal_task_free(task);
    for (unsigned i = 0; i < 100; i++) {
        post_append(thread, index++, 1, 1, 10);
        wait_done(++done);
    }
    journal_task_free(try_append(thread, index, 10));
    journal_thread_stop(thread);
    lab_assert_holds(&options, &model);
}
END_TEST

START_TEST(idleness_after_a_tried_append_is_sealed_too)
{
    struct journal_thread *thread = start();
    uint64_t writes;

    post_append(thread, 1, 1, 1, 10);
    wait_writes(thread, 2);
    writes = writes_of(thread);
    journal_task_free(try_append(thread, 2, 10));
    wait_writes(thread, writes + 2);
    journal_thread_stop(thread);
    lab_assert_holds(&options, &model);
}
END_TEST

START_TEST(a_tried_append_that_fails_fails_all_later_ones)
{
    struct journal_thread *thread = start();
    struct journal_task *task = lab_append_task(3, 1, 1, 10);

    post_append(thread, 1, 1, 1, 10);
    wait_done(1);
    journal_task_free(try_append(thread, 2, 10));
    pthread_mutex_lock(&lab.lock);
    lab.broken = true;
    pthread_mutex_unlock(&lab.lock);
    if (journal_thread_try(thread, task)) {
        ck_assert_int_eq(task->err, ERR_IO);
    } /* Else a seal was under way, and failed. */
    journal_task_free(task);
    journal_thread_post(thread, lab_append_task(4, 1, 1, 10));
    wait_done(2);
    journal_thread_stop(thread);
    lab.broken = false;
    ck_assert(lab.head->next->err == ERR_IO || lab.head->next->err == ERR_FAILED);
}
END_TEST

static void *post_many(void *arg)
{
    struct journal_thread *thread = arg;

    for (uint64_t index = 1; index <= 500; index++) {
        journal_thread_post(thread, lab_append_task(index, 1, 1, 500));
        if (index % 100 == 0) {
            struct journal_task *trim = journal_task_new(JOURNAL_TRIM, 0);

            trim->index = index - 50;
            journal_thread_post(thread, trim);
        }
    }
    return NULL;
}

START_TEST(posting_reading_and_writing_side_by_side)
{
    struct journal_thread *thread = start();
    struct journal_stats stats = {.entries = 0};
    pthread_t poster;

    ck_assert_int_eq(pthread_create(&poster, NULL, post_many, thread), 0);
    while (stats.entries < 500) {
        journal_thread_stats(thread, &stats);
    }
    ck_assert_int_eq(pthread_join(poster, NULL), 0);
    journal_thread_stop(thread);
    ck_assert_uint_eq(lab.done, 505);
    lab_model_append(&model, 1, 500, 1);
    lab_model_trim(&model, 450);
    lab_assert_holds(&options, &model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_fsm/journal_thread");
    TCase *tc = tcase_create("journal_thread_post");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, tasks_come_back_in_order_and_durable);
    tcase_add_test(tc, what_comes_during_a_write_goes_into_the_next_one);
    tcase_add_test(tc, failed_write_fails_all_later_tasks);
    tcase_add_test(tc, posting_reading_and_writing_side_by_side);
    suite_add_tcase(suite, tc);
    tc = tcase_create("journal_thread_try");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, a_small_append_is_performed_by_who_tries_it);
    tcase_add_test(tc, nothing_is_tried_that_could_wait_for_more_than_its_write);
    tcase_add_test(tc, a_disk_that_is_slow_is_left_to_the_thread_until_it_is_quick);
    tcase_add_test(tc, idleness_after_a_tried_append_is_sealed_too);
    tcase_add_test(tc, a_tried_append_that_fails_fails_all_later_ones);
    suite_add_tcase(suite, tc);
    tc = tcase_create("journal_thread_stop");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, stop_performs_what_was_posted);
    suite_add_tcase(suite, tc);
    tc = tcase_create("idle");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, idle_thread_seals_once);
    tcase_add_test(tc, idle_thread_prepares_a_spare);
    suite_add_tcase(suite, tc);
    return runner_main(suite);
}
