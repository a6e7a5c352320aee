/* Where memory that all connections share is short: who waits, and that all go on afterwards. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/runner.h"
#include "server/lab.h"

enum { VALUE = 30000, BATCHES = 60, LEAVING = 512 * 1024, READERS = 6 };

static struct lab lab;
static uint8_t batch[VALUE + 1000];
static size_t batch_size;

/* Sizes are changed before anybody is connected. */
static void setup(void)
{
    lab_init(&lab);
    lab_start(&lab);
    (void)lab_leader(&lab, 1);
    batch_size = make_large_batch(batch, sizeof batch, VALUE);
}

static void teardown(void)
{
    lab_stop(&lab);
    lab_fini(&lab);
}

/* All are sent before an answer is read. Returns how many were refused as BUSY. */
static unsigned produce_all(struct wire *wire, unsigned count)
{
    unsigned busy = 0;

    for (unsigned i = 0; i < count; i++) {
        (void)wire_produce_start(wire, "t", batch, batch_size, 0);
    }
    for (unsigned i = 0; i < count; i++) {
        struct answer answer;

        ck_assert(wire_receive(wire, &answer));
        busy += answer.type != QUORLOG__FRAME_TYPE__FRAME_PRODUCE_REPLY;
        answer_fini(&answer);
    }
    return busy;
}

START_TEST(who_sends_more_requests_than_there_is_room_for_is_read_later)
{
    struct wire wire;

    lab.node->requests_size_max = (size_t)5 * batch_size;
    wire = wire_client(&lab);
    wire_create(&wire, "t");
    ck_assert_uint_eq(produce_all(&wire, BATCHES), 0);
    wire_close(&wire);
}
END_TEST

static struct wire open_reader(void)
{
    struct wire wire = wire_client(&lab);
    int size = 8192;

    ck_assert_int_eq(setsockopt(wire.fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size), 0);
    return wire;
}

static void ask_for_all(struct wire *wire)
{
    Quorlog__ConsumeRequest request = QUORLOG__CONSUME_REQUEST__INIT;

    request.topic = (char *)(uintptr_t) "t";
    request.start = QUORLOG__START__START_EARLIEST;
    wire_send(wire, QUORLOG__FRAME_TYPE__FRAME_CONSUME, &request.base, NULL, 0);
}

START_TEST(readers_that_take_nothing_share_what_waits_for_them_and_keep_nobody_out_for_ever)
{
    struct wire readers[READERS];
    struct wire wire;
    size_t body_size;
    size_t most = 0;

    budget_init(&lab.node->leaving, LEAVING);
    lab.node->shares.leaving = LEAVING;
    wire = wire_client(&lab);
    wire_create(&wire, "t");
    ck_assert_uint_eq(produce_all(&wire, BATCHES), 0);
    for (unsigned i = 0; i < READERS; i++) {
        readers[i] = open_reader();
        for (unsigned j = 0; j < 60; j++) {
            ask_for_all(&readers[i]);
        }
    }
    for (unsigned i = 0; i < 100; i++) {
        size_t used = budget_used(&lab.node->leaving);

        most = used > most ? used : most;
        (void)usleep(2000);
    }
    /* Batches are read whole, so a read may bring a little more than it took. */
    ck_assert_uint_le(most, LEAVING + LEAVING / 8 + 4 * (VALUE + 1000));
    ck_assert_uint_gt(most, LEAVING / 2);
    ask_for_all(&wire);
    for (unsigned i = 0; i < READERS; i++) {
        wire_close(&readers[i]);
    }
    quorlog__consume_reply__free_unpacked(wire_consumed(&wire, &body_size), NULL);
    ck_assert_uint_gt(body_size, 0);
    wire_close(&wire);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("server/pressure");
    TCase *tcase = tcase_create("pressure");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, who_sends_more_requests_than_there_is_room_for_is_read_later);
    tcase_add_test(
        tcase, readers_that_take_nothing_share_what_waits_for_them_and_keep_nobody_out_for_ever);
    suite_add_tcase(s, tcase);
    return s;
}

int main(void)
{
    return runner_main(suite());
}
