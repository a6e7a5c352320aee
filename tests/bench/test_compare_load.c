#include "compare_load.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "lib/runner.h"

enum { INFLIGHT = 8 };

/* A system that does what a test says. */
static struct {
    const struct load_settings *settings;
    struct load *load;
    uint64_t numbers[INFLIGHT]; /* under way; 0: none */
    uint64_t first_values[INFLIGHT];
    uint64_t sent;
    uint64_t answered;
    uint64_t cancelled;
    uint64_t polls;
    uint64_t closed;
    uint64_t silent;  /* of the first records, so many have no answer */
    uint64_t refused; /* of the others, each so manyth is answered with an error; 0: none */
    uint64_t unsent;  /* so many can't be sent */
    uint64_t once_ns; /* when all under way are answered, the only time; 0: always */
    uint64_t lost_at; /* the poll that loses the connection; 0: none */
    uint64_t late;    /* the number of a record that was given up */
    bool unreachable;
} fake;

static uint64_t now_ns(void)
{
    return clock_real()->monotonic_ns(clock_real());
}

static void describe(char *ret_text, size_t size)
{
    (void)snprintf(ret_text, size, "fake 1");
}

static void *begin(const struct load_settings *settings, struct load *load, char *ret_error,
                   size_t error_size)
{
    fake.settings = settings;
    fake.load = load;
    (void)snprintf(ret_error, error_size, "%s", fake.unreachable ? "nobody is there" : "");
    return fake.unreachable ? NULL : &fake;
}

static bool take(void *self, uint32_t slot, uint64_t number, const uint8_t *value, char *ret_error,
                 size_t error_size)
{
    ck_assert_ptr_eq(self, &fake);
    ck_assert_uint_lt(slot, fake.settings->inflight);
    ck_assert_uint_eq(fake.numbers[slot], 0); /* I1 */
    if (fake.unsent > 0) {
        fake.unsent--;
        (void)snprintf(ret_error, error_size, "no room");
        return false;
    }
    ck_assert_uint_gt(number, fake.sent); /* I2 */
    fake.numbers[slot] = number;
    memcpy(&fake.first_values[slot], value, sizeof fake.first_values[slot]);
    fake.sent++;
    return true;
}

static bool answer(void *self, uint32_t timeout_ms, char *ret_error, size_t error_size)
{
    ck_assert_ptr_eq(self, &fake);
    ck_assert_uint_le(timeout_ms, 10);
    if (++fake.polls == fake.lost_at) {
        (void)snprintf(ret_error, error_size, "it went away");
        return false;
    }
    (void)nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    if (fake.once_ns > 0 && (fake.answered > 0 || now_ns() < fake.once_ns)) {
        return true;
    }
    for (uint32_t i = 0; i < fake.settings->inflight; i++) {
        uint64_t number = fake.numbers[i];
        bool refused = fake.refused > 0 && number % fake.refused == 0;

        if (number > fake.silent) {
            fake.numbers[i] = 0;
            fake.answered++;
            load_answered(fake.load, i, number, refused ? "it is full" : NULL);
        }
    }
    if (fake.late > 0) {
        load_answered(fake.load, 0, fake.late, NULL);
    }
    return true;
}

static void give_up(void *self, uint32_t slot)
{
    ck_assert_ptr_eq(self, &fake);
    ck_assert_uint_ne(fake.numbers[slot], 0);
    fake.late = fake.numbers[slot];
    fake.numbers[slot] = 0;
    fake.cancelled++;
}

static void end(void *self)
{
    ck_assert_ptr_eq(self, &fake);
    fake.closed++;
}

static const struct load_backend backend = {
    .system = "fake",
    .describe = describe,
    .open = begin,
    .send = take,
    .poll = answer,
    .cancel = give_up,
    .close = end,
};

static const struct load_settings closed_loop = {
    .server = "nowhere:1",
    .stream = "s",
    .size = 8,
    .inflight = INFLIGHT,
    .connections = 1,
    .warmup_s = 0.02,
    .seconds = 0.06,
    .timeout_ms = 1000,
};

static struct load_result result;

static void set_up(void)
{
    memset(&fake, 0, sizeof fake);
}

START_TEST(as_many_are_under_way_as_was_asked_for)
{
    ck_assert(load_run(&closed_loop, &backend, &result));
    ck_assert_uint_eq(result.inflight_most, INFLIGHT);
    ck_assert_uint_eq(fake.sent, fake.answered);
    ck_assert_uint_eq(fake.sent, fake.polls * INFLIGHT);
    ck_assert_uint_eq(result.errors, 0);
    ck_assert_uint_eq(fake.closed, 1);
}
END_TEST

START_TEST(what_the_warm_up_sent_does_not_count)
{
    ck_assert(load_run(&closed_loop, &backend, &result));
    ck_assert_uint_gt(result.records, 0);
    ck_assert_uint_lt(result.records, fake.answered);
    ck_assert(result.seconds >= closed_loop.seconds);
    ck_assert(result.seconds < closed_loop.seconds + 1);
    ck_assert(result.p50_ms >= 0.2);
    ck_assert(result.p50_ms <= result.p99_ms);
    ck_assert(result.p99_ms <= result.max_ms);
}
END_TEST

START_TEST(latency_that_is_longer_than_the_load_is_seen)
{
    struct load_settings settings = closed_loop;

    settings.seconds = 0.3;
    fake.once_ns = now_ns() + 150000000;
    ck_assert(load_run(&settings, &backend, &result));
    ck_assert_uint_eq(result.records, INFLIGHT);
    ck_assert(result.p50_ms >= 100);
}
END_TEST

START_TEST(values_differ)
{
    ck_assert(load_run(&closed_loop, &backend, &result));
    for (uint32_t i = 1; i < INFLIGHT; i++) {
        ck_assert_uint_ne(fake.first_values[0], fake.first_values[i]);
    }
}
END_TEST

START_TEST(an_error_counts_as_one_and_as_no_record)
{
    fake.refused = 3;
    ck_assert(load_run(&closed_loop, &backend, &result));
    ck_assert_uint_gt(result.errors, 0);
    ck_assert_uint_lt(result.records + result.errors, fake.answered);
    ck_assert_str_eq(result.last_error, "it is full");
}
END_TEST

START_TEST(what_cannot_be_sent_is_tried_again_later)
{
    fake.unsent = 2;
    ck_assert(load_run(&closed_loop, &backend, &result));
    ck_assert_uint_eq(fake.unsent, 0);
    ck_assert_uint_gt(result.records, 0);
    ck_assert_str_eq(result.last_error, "no room");
}
END_TEST

START_TEST(a_record_without_an_answer_is_given_up_and_its_late_answer_is_not_taken)
{
    struct load_settings settings = closed_loop;

    fake.silent = 1;
    settings.inflight = 1;
    settings.timeout_ms = 30;
    settings.warmup_s = 0.001;
    settings.seconds = 0.25;
    ck_assert(load_run(&settings, &backend, &result));
    ck_assert_uint_eq(fake.cancelled, 1);
    ck_assert_uint_eq(fake.late, 1);
    ck_assert_uint_eq(result.errors, 1);
    ck_assert_uint_le(result.records, fake.answered);
    ck_assert_uint_eq(fake.sent, fake.answered + 1);
}
END_TEST

START_TEST(with_an_interval_a_record_goes_each_so_many_milliseconds_whatever_became_of_the_others)
{
    struct load_settings settings = closed_loop;

    fake.silent = 3;
    settings.interval_ms = 10;
    settings.warmup_s = 0;
    settings.seconds = 0.1;
    ck_assert(load_run(&settings, &backend, &result));
    ck_assert_uint_ge(result.records, 1);
    ck_assert_uint_le(fake.sent, 11);
    ck_assert_uint_eq(fake.sent, fake.answered + 3);
}
END_TEST

START_TEST(a_lost_connection_ends_it)
{
    fake.lost_at = 5;
    ck_assert(!load_run(&closed_loop, &backend, &result));
    ck_assert_uint_eq(fake.polls, 5);
    ck_assert_str_eq(result.last_error, "it went away");
    ck_assert_uint_eq(fake.closed, 1);
}
END_TEST

START_TEST(a_server_that_is_not_there_is_told)
{
    fake.unreachable = true;
    ck_assert(!load_run(&closed_loop, &backend, &result));
    ck_assert_str_eq(result.last_error, "nobody is there");
    ck_assert_uint_eq(fake.closed, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bench/compare_load");
    TCase *tcase = tcase_create("load_run");

    tcase_add_checked_fixture(tcase, set_up, NULL);
    tcase_add_test(tcase, as_many_are_under_way_as_was_asked_for);
    tcase_add_test(tcase, what_the_warm_up_sent_does_not_count);
    tcase_add_test(tcase, latency_that_is_longer_than_the_load_is_seen);
    tcase_add_test(tcase, values_differ);
    tcase_add_test(tcase, an_error_counts_as_one_and_as_no_record);
    tcase_add_test(tcase, what_cannot_be_sent_is_tried_again_later);
    tcase_add_test(tcase, a_record_without_an_answer_is_given_up_and_its_late_answer_is_not_taken);
    tcase_add_test(
        tcase,
        with_an_interval_a_record_goes_each_so_many_milliseconds_whatever_became_of_the_others);
    tcase_add_test(tcase, a_lost_connection_ends_it);
    tcase_add_test(tcase, a_server_that_is_not_there_is_told);
    suite_add_tcase(suite, tcase);
    return runner_main(suite);
}
