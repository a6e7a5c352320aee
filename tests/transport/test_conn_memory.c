/* What connections share: memory of frames that arrive, and of what leaves. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/budget.h"
#include "lib/runner.h"
#include "transport/support.h"

enum { BUDGET = 100000, BODY = 70000 };

static uv_loop_t loop;
static int fds[2];
static int other_fds[2];
static struct owner near;
static struct owner other;
static struct buf wire;
static struct budget budget;
static struct conn_limits limits;

static void setup(void)
{
    static uint8_t body[BODY];

    ck_assert_int_eq(uv_loop_init(&loop), 0);
    connected_pair(fds);
    connected_pair(other_fds);
    buf_init(&wire, 64 << 20);
    budget_init(&budget, BUDGET);
    limits = roomy_limits;
    limits.arriving = &budget;
    limits.arriving_ms = 40;
    owner_open(&near, &loop, fds[0], &limits);
    owner_open(&other, &loop, other_fds[0], &limits);
    append_frame(&wire, 1, 1, "header", body, sizeof body);
}

static void teardown(void)
{
    owner_close(&near, &loop);
    owner_close(&other, &loop);
    ck_assert_int_eq(close(fds[1]), 0);
    ck_assert_int_eq(close(other_fds[1]), 0);
    ck_assert_uint_eq(budget_used(&budget), 0);
    buf_fini(&wire);
    loop_finish(&loop);
}

static void on_time(uv_timer_t *timer)
{
    (*(unsigned *)timer->data)++;
}

static void run_for(unsigned ms)
{
    unsigned over = 0;
    uv_timer_t timer;

    ck_assert_int_eq(uv_timer_init(&loop, &timer), 0);
    timer.data = &over;
    ck_assert_int_eq(uv_timer_start(&timer, on_time, ms, 0), 0);
    run_until(&loop, &over, 1);
    uv_close((uv_handle_t *)&timer, NULL);
    run_ready(&loop);
}

START_TEST(a_frame_waits_until_there_is_memory_for_it)
{
    write_all(other_fds[1], wire.data, 10000);
    run_for(5);
    ck_assert_uint_ge(budget_used(&budget), BODY);
    write_all(fds[1], wire.data, wire.size);
    run_for(20);
    ck_assert_uint_eq(near.frames, 0);
    ck_assert_uint_le(budget_used(&budget), BUDGET + 65536); /* Read before it was known. */
    write_all(other_fds[1], wire.data + 10000, wire.size - 10000);
    run_until(&loop, &other.frames, 1);
    run_until(&loop, &near.frames, 1);
    ck_assert_uint_eq(near.body_bytes, BODY);
    ck_assert_uint_eq(near.failed + other.failed, 0);
}
END_TEST

START_TEST(a_frame_that_there_is_never_memory_for_is_refused)
{
    static uint8_t body[2 * BUDGET];

    wire.size = 0;
    append_frame(&wire, 1, 1, "header", body, sizeof body);
    write_all(fds[1], wire.data, 1000);
    run_until(&loop, &near.failed, 1);
    ck_assert_int_eq(near.err, ERR_TOO_LARGE);
    ck_assert_ptr_nonnull(strstr(near.text, "memory that there is for frames"));
}
END_TEST

START_TEST(what_is_small_passes_when_there_is_none)
{
    budget_take_always(&budget, BUDGET);
    wire.size = 0;
    append_frame(&wire, 1, 1, "header", "body", 4);
    write_all(fds[1], wire.data, wire.size - 1);
    run_for(5);
    write_all(fds[1], wire.data + wire.size - 1, 1);
    run_until(&loop, &near.frames, 1);
    budget_give(&budget, BUDGET);
}
END_TEST

START_TEST(who_stops_in_a_frame_while_memory_is_scarce_is_given_up)
{
    write_all(other_fds[1], wire.data, 10000);
    run_for(5);
    write_all(fds[1], wire.data, 10000);
    run_until(&loop, &other.failed, 1);
    ck_assert_int_eq(other.err, ERR_TIMEOUT);
    ck_assert_ptr_nonnull(strstr(other.text, "memory for frames is scarce"));
    conn_close(other.conn, 0);
    run_until(&loop, &other.closed, 1);
    write_all(fds[1], wire.data + 10000, wire.size - 10000);
    run_until(&loop, &near.frames, 1);
    ck_assert_uint_eq(near.failed, 0);
}
END_TEST

START_TEST(who_stops_in_a_frame_is_waited_for_while_there_is_memory)
{
    budget.size_max = 4 * BUDGET;
    write_all(fds[1], wire.data, 10000);
    run_for(120);
    ck_assert_uint_eq(near.failed, 0);
    write_all(fds[1], wire.data + 10000, wire.size - 10000);
    run_until(&loop, &near.frames, 1);
}
END_TEST

START_TEST(a_connection_that_waits_for_memory_can_be_paused_and_closed)
{
    budget_take_always(&budget, BUDGET);
    write_all(fds[1], wire.data, wire.size);
    write_all(other_fds[1], wire.data, wire.size);
    run_for(15);
    conn_pause(near.conn);
    conn_close(other.conn, 0);
    run_until(&loop, &other.closed, 1);
    budget_give(&budget, BUDGET);
    run_for(30);
    ck_assert_uint_eq(near.frames, 0);
    conn_resume(near.conn);
    run_until(&loop, &near.frames, 1);
}
END_TEST

START_TEST(what_waits_to_be_sent_is_counted_and_how_long_nobody_takes_it)
{
    struct budget leaving;
    struct conn_limits sending = roomy_limits;
    struct block *block = block_new(8 << 20);
    struct slice body;
    struct frame_out frame = {.body = &body, .body_count = 1};
    struct owner sender;
    int pair[2];

    ck_assert_ptr_nonnull(block);
    memset(block->data, 0, block->size);
    body = (struct slice){.block = block, .data = block->data, .size = block->size};
    budget_init(&leaving, 1 << 20);
    connected_pair(pair);
    sending.leaving = &leaving;
    owner_open(&sender, &loop, pair[0], &sending);
    ck_assert_uint_eq(conn_stalled_ms(sender.conn), 0);
    ck_assert_int_eq(conn_send(sender.conn, &frame, true), ERR_OK);
    run_for(30);
    ck_assert_uint_gt(conn_queue_size(sender.conn), 0);
    ck_assert_uint_eq(budget_used(&leaving), conn_queue_size(sender.conn));
    ck_assert(budget_scarce(&leaving));
    ck_assert_uint_ge(conn_stalled_ms(sender.conn), 20);
    owner_close(&sender, &loop);
    ck_assert_uint_eq(budget_used(&leaving), 0);
    ck_assert_int_eq(close(pair[1]), 0);
    block_unref(block);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("transport/conn_memory");
    TCase *tcase = tcase_create("memory");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_frame_waits_until_there_is_memory_for_it);
    tcase_add_test(tcase, a_frame_that_there_is_never_memory_for_is_refused);
    tcase_add_test(tcase, what_is_small_passes_when_there_is_none);
    tcase_add_test(tcase, who_stops_in_a_frame_while_memory_is_scarce_is_given_up);
    tcase_add_test(tcase, who_stops_in_a_frame_is_waited_for_while_there_is_memory);
    tcase_add_test(tcase, a_connection_that_waits_for_memory_can_be_paused_and_closed);
    tcase_add_test(tcase, what_waits_to_be_sent_is_counted_and_how_long_nobody_takes_it);
    suite_add_tcase(s, tcase);
    return s;
}

int main(void)
{
    return runner_main(suite());
}
