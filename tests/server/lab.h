/*
 * A lab for tests of the server: real nodes in this process, each with a thread, a port and a
 * directory of its own, and a blocking client that can say anything, right or wrong.
 */
#ifndef QUORLOG_TESTS_SERVER_LAB_H
#define QUORLOG_TESTS_SERVER_LAB_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "quorlog.pb-c.h"
#include "server/node.h"

struct lab {
    struct config config; /* may be changed before lab_start */
    const char *dir;      /* of the node's data; removed by lab_fini */
    uv_thread_t thread;
    uv_loop_t loop;
    uv_async_t stop;
    uv_sem_t ready;
    struct diag diag;
    struct node *node;
    uint16_t port;
    enum err err; /* of node_start */
    struct err_info info;
};

/* One node alone, on a port that the kernel chooses; small files. */
void lab_init(struct lab *self);
/* count nodes of one cluster (on ports that were free a moment ago). */
void lab_init_cluster(struct lab *labs, unsigned count);
void lab_fini(struct lab *self);

/* Aborts when the node does not start; lab_try_start gives the error instead. */
void lab_start(struct lab *self);
enum err lab_try_start(struct lab *self);
void lab_stop(struct lab *self);

/* Waits until some node of the cluster leads, and all that run know it; its index. */
unsigned lab_leader(struct lab *labs, unsigned count);

/* ---- the client ---- */

struct wire {
    int fd;
    uint64_t request_id; /* of the last request */
};

struct answer {
    uint16_t type;
    uint64_t request_id;
    uint8_t *frame; /* owned */
    const uint8_t *header;
    size_t header_size;
    const uint8_t *body;
    size_t body_size;
};

struct wire wire_open(const struct lab *lab); /* without a hello */
/* False when nobody listens there. */
bool wire_try_open(const struct lab *lab, struct wire *ret_wire);
struct wire wire_client(const struct lab *lab);
void wire_close(struct wire *self);
void wire_bytes(struct wire *self, const void *data, size_t size);
/* Returns the request's id. */
uint64_t wire_send(struct wire *self, uint16_t type, const ProtobufCMessage *message,
                   const void *body, size_t body_size);
void wire_send_as(struct wire *self, uint64_t request_id, uint16_t type,
                  const ProtobufCMessage *message, const void *body, size_t body_size);
/* False when the other side ended the connection; aborts when nothing comes for 20 s. */
bool wire_receive(struct wire *self, struct answer *ret_answer);
/* True when something arrives within timeout_ms. */
bool wire_readable(const struct wire *self, int timeout_ms);
void answer_fini(struct answer *self);

/* Expects an ERROR frame with this code next; gives it, unpacked, to be freed. */
Quorlog__Error *wire_expect_error(struct wire *self, enum err err);
/* The same, and frees it. */
void wire_error(struct wire *self, enum err err);
/* Expects the connection's end. */
void wire_expect_end(struct wire *self);

/* ---- requests that tests need often; they abort on an error answer ---- */

void wire_create(struct wire *self, const char *topic);
/* A batch of count records "r0", "r1", … of a producer (0: none); returns its size. */
size_t make_batch(uint8_t *to, size_t size_max, unsigned count, uint64_t producer_id,
                  uint32_t sequence);
/* A batch of one record of value_size bytes. */
size_t make_large_batch(uint8_t *to, size_t size_max, size_t value_size);
uint64_t wire_produce_start(struct wire *self, const char *topic, const void *batch, size_t size,
                            uint32_t deadline_ms);
/* The reply, to be freed. */
Quorlog__ProduceReply *wire_produce(struct wire *self, const char *topic, unsigned count);
/* The next frame, which must be a ConsumeReply, to be freed; records are counted. */
Quorlog__ConsumeReply *wire_consumed(struct wire *self, size_t *ret_body_size);

#endif
