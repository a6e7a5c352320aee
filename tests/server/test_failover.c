/*
 * Three nodes as processes: what a client of a follower is told when the leader hangs or dies.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/runner.h"
#include "server/lab.h"
#include "server/server.h"

enum { NODES = 3 };

static struct lab nodes[NODES];
static pid_t pids[NODES];

static void setup(void)
{
    lab_init_cluster(nodes, NODES);
    for (unsigned i = 0; i < NODES; i++) {
        nodes[i].port = (uint16_t)atoi(strrchr(nodes[i].config.listen, ':') + 1);
        pids[i] = fork();
        ck_assert_int_ge(pids[i], 0);
        if (pids[i] == 0) {
            struct err_info info;
            enum err err = server_run(&nodes[i].config, &info);

            fprintf(stderr, "node %u: %s\n", i + 1, err == ERR_OK ? "stopped" : info.text);
            _exit(err == ERR_OK ? 0 : 98);
        }
    }
}

static void teardown(void)
{
    for (unsigned i = 0; i < NODES; i++) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
        lab_fini(&nodes[i]);
    }
}

/* A client of this node as soon as the node serves. */
static struct wire client_of(unsigned number)
{
    for (int i = 0; i < 10000; i++) {
        struct wire wire;

        if (wire_try_open(&nodes[number], &wire)) {
            wire_close(&wire);
            return wire_client(&nodes[number]);
        }
        usleep(1000);
    }
    ck_abort_msg("node %u does not serve", number + 1);
    return (struct wire){.fd = -1};
}

/* The leader that a write went to, counted from 0. */
static unsigned write_one(struct wire *wire)
{
    Quorlog__ProduceReply *reply = wire_produce(wire, "t", 1);
    unsigned leader = (unsigned)reply->leader_id - 1;

    ck_assert_uint_lt(leader, NODES);
    quorlog__produce_reply__free_unpacked(reply, NULL);
    return leader;
}

static const int signals[] = {SIGSTOP, SIGKILL};

START_TEST(a_write_that_was_passed_on_to_a_leader_that_is_gone_is_unknown_and_the_next_is_made)
{
    struct wire wire = client_of(0);
    unsigned leader;
    uint8_t batch[256];
    size_t size = make_batch(batch, sizeof batch, 1, 0, 0);
    Quorlog__Error *error;

    wire_create(&wire, "t");
    leader = write_one(&wire);
    wire_close(&wire);
    wire = client_of((leader + 1) % NODES);
    ck_assert_uint_eq(write_one(&wire), leader); /* The link to it is up now. */
    ck_assert_int_eq(kill(pids[leader], SIGSTOP), 0);
    wire_produce_start(&wire, "t", batch, size, 20000);
    ck_assert(!wire_readable(&wire, 50));
    if (signals[_i] != SIGSTOP) {
        ck_assert_int_eq(kill(pids[leader], signals[_i]), 0);
    }
    error = wire_expect_error(&wire, signals[_i] == SIGSTOP ? ERR_LEADERSHIP_LOST : ERR_CLOSED);
    ck_assert(error->outcome_unknown && error->retryable);
    quorlog__error__free_unpacked(error, NULL);
    ck_assert_uint_ne(write_one(&wire), leader);
    wire_close(&wire);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("server/failover");
    TCase *tcase = tcase_create("the leader goes");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(
        tcase, a_write_that_was_passed_on_to_a_leader_that_is_gone_is_unknown_and_the_next_is_made,
        0, 2);
    suite_add_tcase(suite, tcase);
    return suite;
}

int main(void)
{
    return runner_main(suite());
}
