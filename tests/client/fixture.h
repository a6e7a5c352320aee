/*
 * What the client's tests begin with: a loop, a fake cluster of two nodes with the topic "t", and a
 * client of them, all on one thread.
 */
#ifndef QUORLOG_TESTS_CLIENT_FIXTURE_H
#define QUORLOG_TESTS_CLIENT_FIXTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "client/client.h"
#include "client/fake_node.h"
#include "quorlog.pb-c.h"

#define TYPE(name) QUORLOG__FRAME_TYPE__FRAME_##name

/* The answer to one request, and how many came. */
struct answered {
    bool done;
    unsigned count;
    enum err err;
    bool retryable;
    bool outcome_unknown;
    char text[512];
    size_t reply_size;
};

struct fixture {
    uv_loop_t loop;
    struct fake_cluster cluster;
    struct fake_node *one;
    struct fake_node *two;
    struct fake_topic *topic;
    struct client *client; /* NULL: none */
    bool closed;
};

extern struct fixture f;

/* For tcase_add_checked_fixture. Teardown closes the client, if there is one still. */
void fixture_setup(void);
void fixture_teardown(void);

/* Makes the client, of both nodes or of node one only. timeout_ms 0: the default. */
void fixture_connect(bool both, uint64_t timeout_ms);
/* Makes node silence and leaderless times short. */
void fixture_hurry(void);
void fixture_close(void);

/* A client_reply_cb; arg is a struct answered. */
void on_answered(void *arg, const struct client_error *error, const uint8_t *reply,
                 size_t reply_size);

#endif
