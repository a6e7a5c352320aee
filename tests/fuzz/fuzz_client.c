/*
 * A client, and a node that answers anything (client_peer.h).
 *
 *      u8 what is asked | u8 1: checksums in bodies are made right, 2: the hello is answered well |
 *      answers
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "client/client.h"
#include "fuzz/client_peer.h"
#include "fuzz/fuzz.h"
#include "fuzz/tcp.h"

enum { TURNS_MAX = 60, QUIET_MAX = 3 };

static void on_reply(void *arg, const struct client_error *error, const uint8_t *reply, size_t size)
{
    bool *done = arg;

    ASSERT(!*done && IMPLIES(error->err != ERR_OK, reply == NULL && size == 0));
    (void)client_error_outcome(error); /* It is one of three for whatever was said. */
    *done = true;
}

static void on_report(void *arg, const struct producer_report *report)
{
    unsigned *records = arg;

    ASSERT(report->first == *records && report->count > 0 && report->error != NULL);
    *records += report->count;
}

static void on_record(void *arg, const struct record *record)
{
    uint64_t *next = arg;

    ASSERT(record->offset >= *next); /* In order. */
    *next = record->offset + 1;
}

static void on_ended(void *arg, const struct client_error *error, uint64_t next_offset)
{
    ASSERT(arg != NULL && error != NULL);
    (void)next_offset;
}

static void converse(uv_loop_t *loop, struct peer *peer, int listening)
{
    unsigned quiet = 0;

    for (unsigned i = 0; i < TURNS_MAX && quiet < QUIET_MAX; i++) {
        (void)uv_run(loop, UV_RUN_NOWAIT); /* What is left comes in a later turn. */
        if (peer->fd < 0) {
            peer->fd = tcp_accept(listening);
        }
        quiet = peer_serve(peer) ? 0 : quiet + 1;
    }
}

/* Asks one thing; true when a consumer or a producer is there to be ended by the client. */
static void ask(struct client *client, uint8_t what, bool *done, unsigned *records, uint64_t *next)
{
    static const struct consumer_events events = {.record = on_record, .ended = on_ended};
    const struct consumer_options reading = {.topic = "t",
                                             .start = what % 5,
                                             .follow = (what & 16) != 0,
                                             .records_max = (what & 32) != 0 ? 3 : 0,
                                             .linearizable = (what & 64) != 0};
    const struct producer_options writing = {
        .topic = "t", .no_idempotence = (what & 16) != 0, .acks_all = (what & 32) != 0};
    const struct client_members members = {
        .goal = CLIENT_MEMBERS_ADD, .node_id = 4, .address = "a:1"};
    const struct record record = {.value = "v", .value_size = 1};
    struct consumer *consumer;
    struct producer *producer;
    enum err err;

    switch (what % 8) {
    case 0:
        err = client_topic_list(client, NULL, on_reply, done);
        break;
    case 1:
        err = client_topic_describe(client, "t", on_reply, done);
        break;
    case 2:
        err = client_status(client, false, on_reply, done);
        break;
    case 3:
        err = client_change_members(client, &members, on_reply, done);
        break;
    case 4:
    case 5:
        err = producer_new(client, &writing, on_report, records, &producer);
        err = err == ERR_OK ? producer_send(producer, &record) : err;
        err = err == ERR_OK ? producer_send(producer, &record) : err;
        break;
    default:
        err = consumer_new(client, &reading, &events, next, &consumer);
        break;
    }
    ASSERT(err == ERR_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int listening = -1;
    static char server[32];
    struct fuzz_input input = {.data = data, .size = size};
    uint8_t what = fuzz_u8(&input);
    uint8_t control = fuzz_u8(&input);
    struct peer peer;
    const struct client_options options = {.servers = server, .timeout_ms = 1000};
    struct client *client;
    bool done = false;
    unsigned records = 0;
    uint64_t next = 0;
    uint16_t port;
    int late;
    enum err err;

    if (listening < 0) {
        listening = tcp_listen(&port);
        (void)snprintf(server, sizeof server, "127.0.0.1:%u", port); /* fits */
    }
    peer_init(&peer, &input, (control & 1) != 0, (control & 2) != 0);
    err = client_new(&options, NULL, &client, NULL);
    ASSERT(err == ERR_OK);
    ask(client, what, &done, &records, &next);
    converse(client_loop(client), &peer, listening);
    client_close(client, NULL, NULL);
    ASSERT(what % 8 > 3 || done);
    ASSERT(what % 8 < 4 || what % 8 > 5 || records == 2);
    peer_fini(&peer);
    while ((late = tcp_accept(listening)) >= 0) {
        (void)close(late); /* It is reset. */
    }
    return 0;
}
