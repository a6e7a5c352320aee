/*
 * A client, and a node that answers anything: each frame of the client gets the next answer, under
 * its own id.
 *
 *      u8 what is asked | u8 1: checksums in bodies are made right, 2: the hello is answered well |
 *      answers: u16 type (high bit: a frame of its own accord follows), part: header, part: body
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "client/client.h"
#include "client/record_set.h"
#include "fuzz/fix.h"
#include "fuzz/fuzz.h"
#include "fuzz/tcp.h"
#include "log/batch.h"
#include "quorlog.pb-c.h"
#include "transport/frame.h"

enum { TURNS_MAX = 60, QUIET_MAX = 3, FRAME_LIMIT = 1 << 20 };

struct peer {
    struct fuzz_input *input;
    uint8_t control;
    int fd; /* -1: not accepted yet, or closed */
    struct frame_parser parser;
    bool greeted;
};

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

static void on_record(void *arg, const struct client_record *record)
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

static void send_answer(struct peer *self, uint16_t type, uint64_t id,
                        const struct fuzz_input *header, const struct fuzz_input *body)
{
    uint8_t *bytes = fuzz_copy(body);
    uint8_t prefix[FRAME_PREFIX_SIZE];
    const struct frame_out frame = {
        .type = type, .request_id = id, .header = header->data, .header_size = header->size};
    struct iovec parts[] = {{prefix, sizeof prefix},
                            {(void *)(uintptr_t)header->data, header->size},
                            {bytes, body->size}};
    const struct msghdr message = {.msg_iov = parts, .msg_iovlen = 3};

    if ((self->control & 1) != 0) {
        fix_batches(bytes, body->size, NULL);
    }
    frame_out_encode_prefix(&frame, body->size, prefix);
    (void)sendmsg(self->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT); /* It may be gone. */
    free(bytes);
}

static void greet(struct peer *self, uint64_t id)
{
    Quorlog__HelloReply reply = QUORLOG__HELLO_REPLY__INIT;
    uint8_t packed[128];
    struct fuzz_input none = {.data = packed};
    struct fuzz_input header = {.data = packed};

    reply.protocol_version = 1;
    reply.node_id = 1;
    reply.frame_size_max = FRAME_LIMIT;
    reply.batch_size_max = FRAME_LIMIT;
    header.size = quorlog__hello_reply__pack(&reply, packed);
    send_answer(self, QUORLOG__FRAME_TYPE__FRAME_HELLO_REPLY, id, &header, &none);
}

static void answer(struct peer *self, const struct frame *frame)
{
    bool more = true;

    if (!self->greeted && (self->control & 2) != 0) {
        greet(self, frame->request_id);
        more = false;
    }
    self->greeted = true;
    while (more && self->input->size > 0) {
        uint16_t type = fuzz_u16(self->input);
        struct fuzz_input header = fuzz_part(self->input);
        struct fuzz_input body = fuzz_part(self->input);

        more = (type & 0x8000) != 0;
        send_answer(self, type & 0x7fff, frame->request_id, &header, &body);
    }
    if (self->input->size == 0 && more) {
        (void)shutdown(self->fd, SHUT_WR); /* It may be gone. */
    }
}

/* Takes what the client has sent, and answers. False: it sent nothing. */
static bool serve(struct peer *self)
{
    uint8_t buffer[4096];
    ssize_t n = self->fd < 0 ? -1 : recv(self->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    struct slice bytes = {.data = buffer, .size = n > 0 ? (size_t)n : 0};
    struct frame frame;

    while (bytes.size > 0 && frame_parser_parse(&self->parser, &bytes, &frame, NULL) == ERR_OK) {
        answer(self, &frame);
        block_unref(frame.block);
    }
    return n > 0;
}

static void converse(uv_loop_t *loop, struct peer *peer, int listening)
{
    unsigned quiet = 0;

    for (unsigned i = 0; i < TURNS_MAX && quiet < QUIET_MAX; i++) {
        (void)uv_run(loop, UV_RUN_NOWAIT); /* What is left comes in a later turn. */
        if (peer->fd < 0) {
            peer->fd = tcp_accept(listening);
        }
        quiet = serve(peer) ? 0 : quiet + 1;
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
    const struct client_record record = {.value = "v", .value_size = 1};
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
    struct peer peer = {.input = &input, .control = fuzz_u8(&input), .fd = -1};
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
    frame_parser_init(&peer.parser, FRAME_LIMIT);
    err = client_new(&options, NULL, &client, NULL);
    ASSERT(err == ERR_OK);
    ask(client, what, &done, &records, &next);
    converse(client_loop(client), &peer, listening);
    client_close(client, NULL, NULL);
    ASSERT(what % 8 > 3 || done);
    ASSERT(what % 8 < 4 || what % 8 > 5 || records == 2);
    frame_parser_fini(&peer.parser);
    if (peer.fd >= 0) {
        (void)close(peer.fd); /* It was reset. */
    }
    while ((late = tcp_accept(listening)) >= 0) {
        (void)close(late); /* As above. */
    }
    return 0;
}

static void put_answer(struct buf *seed, uint16_t type, const ProtobufCMessage *message,
                       const void *body, size_t body_size)
{
    uint8_t packed[512];
    size_t size = protobuf_c_message_pack(message, packed);

    fuzz_put_u16(seed, type);
    fuzz_put_part(seed, packed, size);
    fuzz_put_part(seed, body, body_size);
}

/* A batch of two records. */
static size_t make_batch(uint8_t *to)
{
    const struct client_record record = {.value = "v", .value_size = 1};
    struct batch_header header = {.record_count = 2, .raft_index = 5};
    struct buf body;

    buf_init(&body, 100);
    (void)record_set_append(&body, &record); /* fits */
    (void)record_set_append(&body, &record);
    header.size = (uint32_t)(BATCH_HEADER_SIZE + body.size);
    batch_header_encode(&header, to);
    memcpy(to + BATCH_HEADER_SIZE, body.data, body.size);
    buf_fini(&body);
    fix_batches(to, header.size, NULL);
    return header.size;
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    for (uint8_t what = 0; what < 128; what = (uint8_t)(what + (what < 8 ? 1 : 9))) {
        Quorlog__TopicListReply list = QUORLOG__TOPIC_LIST_REPLY__INIT;
        Quorlog__TopicDescribeReply describe = QUORLOG__TOPIC_DESCRIBE_REPLY__INIT;
        Quorlog__StatusReply status = QUORLOG__STATUS_REPLY__INIT;
        Quorlog__ClusterChangeReply change = QUORLOG__CLUSTER_CHANGE_REPLY__INIT;
        Quorlog__InitProducerReply init = QUORLOG__INIT_PRODUCER_REPLY__INIT;
        Quorlog__ProduceReply produce = QUORLOG__PRODUCE_REPLY__INIT;
        Quorlog__ConsumeReply consume = QUORLOG__CONSUME_REPLY__INIT;
        Quorlog__Error error = QUORLOG__ERROR__INIT;
        uint8_t batch[200];
        size_t batch_size = make_batch(batch);
        struct buf seed = {0};

        fuzz_put_u8(&seed, what);
        fuzz_put_u8(&seed, 3);
        error.code = ERR_NO_LEADER;
        if (what % 8 < 4) {
            const ProtobufCMessage *replies[] = {&list.base, &describe.base, &status.base,
                                                 &change.base};
            static const uint16_t types[] = {37, 39, 49, 81};

            put_answer(&seed, types[what % 8], replies[what % 8], "", 0);
        } else if (what % 8 < 6) {
            init.producer_id = 9;
            init.window = 64;
            produce.record_count = 2;
            if ((what & 16) == 0) {
                put_answer(&seed, 41, &init.base, "", 0);
            }
            put_answer(&seed, 17, &produce.base, "", 0);
        } else {
            consume.next_offset = 2;
            consume.log_end = 2;
            put_answer(&seed, 0x8000 | 19, &consume.base, batch, batch_size);
            put_answer(&seed, 23, &consume.base, "", 0);
        }
        put_answer(&seed, 3, &error.base, "", 0);
        fuzz_emit(emit, arg, &seed);
    }
}
