/*
 * Happy path: on_frame → HELLO: greet() → CLIENT or NODE → requests; a peer is handed over.
 * Failure modes: on_failed (the connection ended, or what came is no frame), refuse() (a hello that
 * does not fit); both tell the other side why, as far as it can still be told, and close.
 */
#include "server/session.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

#include "base/assert.h"
#include "quorlog.pb-c.h"
#include "server/api.h"
#include "server/front.h"
#include "server/hello.h"

enum {
    SESSION_MAGIC = 0x7373654c,
    LINGER_MS = 500,
    NODE_FACTOR = 16, /* A node passes on what many connections ask for. */
    HEADER_ON_STACK = 1024,
};

enum session_state { SESSION_HELLO, SESSION_CLIENT, SESSION_NODE, SESSION_CLOSING };

struct session {
    uint32_t magic;
    enum session_state state;
    struct front *front;
    struct conn *conn; /* owned until on_closed */
    bool client;       /* counted in the node's clients */
    bool paused;       /* conn_pause was called */
    bool congested;
    size_t queue_size_max; /* bytes, as the connection's limit */
    size_t reserved;       /* bytes that reads under way may bring */
    struct request *requests;
    unsigned request_count;
    size_t request_size; /* bytes */
    struct session *prev;
    struct session *next;
};

static void move(struct session *self, enum session_state state)
{
    static const struct {
        const char *name; /* for debuggers */
        unsigned next;
    } states[] = {
        [SESSION_HELLO] = {"hello",
                           1U << SESSION_CLIENT | 1U << SESSION_NODE | 1U << SESSION_CLOSING},
        [SESSION_CLIENT] = {"client", 1U << SESSION_CLOSING},
        [SESSION_NODE] = {"node", 1U << SESSION_CLOSING},
        [SESSION_CLOSING] = {"closing", 0},
    };

    ASSERT((states[self->state].next & 1U << state) != 0);
    self->state = state;
}

static struct session *recover(void *arg)
{
    struct session *self = arg;

    ASSERT(self != NULL);
    ASSERT(self->magic == SESSION_MAGIC);
    return self;
}

/* ---- backpressure ---- */

static void update_pause(struct session *self)
{
    const struct config *config = self->front->node->config;
    unsigned factor = self->state == SESSION_NODE ? NODE_FACTOR : 1;
    bool wanted = self->congested ||
                  self->request_count >= config->connection_requests_max * factor ||
                  self->request_size >= config->connection_requests_size * factor;

    if (self->state == SESSION_CLOSING || wanted == self->paused) {
        return;
    }
    self->paused = wanted;
    if (wanted) {
        conn_pause(self->conn);
    } else {
        conn_resume(self->conn);
    }
}

void request_begin(struct request *self, struct session *session, const struct frame *frame,
                   size_t size)
{
    ASSERT(self->session == NULL && self->cancel != NULL);
    ASSERT(session->state == SESSION_CLIENT || session->state == SESSION_NODE);
    self->session = session;
    self->id = frame->request_id;
    self->type = frame->type;
    self->size = size;
    DL_APPEND(session->requests, self);
    session->request_count++;
    session->request_size += size;
    update_pause(session);
}

void request_end(struct request *self)
{
    struct session *session = self->session;

    if (session == NULL) {
        return;
    }
    ASSERT(session->request_count > 0 && session->request_size >= self->size);
    DL_DELETE(session->requests, self);
    session->request_count--;
    session->request_size -= self->size;
    self->session = NULL;
    update_pause(session);
}

struct request *session_find(const struct session *self, uint16_t type, uint64_t id)
{
    struct request *request;

    DL_FOREACH(self->requests, request)
    {
        if (request->id == id && request->type == type) {
            return request;
        }
    }
    return NULL;
}

struct front *session_front(const struct session *self)
{
    return self->front;
}

struct session *session_next(const struct session *self)
{
    return self->next;
}

bool session_of_node(const struct session *self)
{
    return self->state == SESSION_NODE;
}

const char *session_peer(const struct session *self)
{
    return conn_peer(self->conn);
}

bool session_reserve(struct session *self, size_t size)
{
    size_t left = self->queue_size_max - self->reserved;

    ASSERT(self->reserved == 0 || self->request_count > 0);
    if (self->congested ||
        (self->reserved > 0 && (self->reserved >= self->queue_size_max || size > left))) {
        return false;
    }
    self->reserved += size;
    return true;
}

void session_unreserve(struct session *self, size_t size)
{
    ASSERT(self->reserved >= size);
    self->reserved -= size;
}

void session_wake(struct session *self)
{
    struct request *request;
    struct request *next;

    if (self->state == SESSION_CLOSING) {
        return;
    }
    DL_FOREACH_SAFE(self->requests, request, next)
    {
        if (request->drained != NULL && !self->congested) {
            request->drained(request);
        }
    }
}

/* ---- sending ---- */

static void send_frame(struct session *self, const struct frame_out *frame)
{
    enum err err = conn_send(self->conn, frame, true);

    if (err != ERR_OK && err != ERR_CLOSED) {
        /* An answer would be missing: the other side must know. on_closed cancels the rest. */
        conn_close(self->conn, 0);
        if (self->state != SESSION_CLOSING) {
            move(self, SESSION_CLOSING);
        }
    } else if (!self->congested && conn_queue_size(self->conn) > self->queue_size_max / 2) {
        self->congested = true;
        update_pause(self);
    }
}

void session_send_packed(struct session *self, uint16_t type, uint64_t request_id,
                         const uint8_t *header, size_t header_size)
{
    const struct frame_out frame = {
        .type = type, .request_id = request_id, .header = header, .header_size = header_size};

    ASSERT(header_size <= FRAME_HEADER_SIZE_MAX);
    send_frame(self, &frame);
}

void session_send(struct session *self, uint16_t type, uint64_t request_id,
                  const ProtobufCMessage *message, const struct slice *body)
{
    uint8_t small[HEADER_ON_STACK];
    uint8_t *header = small;
    size_t size = message == NULL ? 0 : protobuf_c_message_get_packed_size(message);
    struct frame_out frame = {.type = type, .request_id = request_id, .header_size = size};

    ASSERT(size <= FRAME_HEADER_SIZE_MAX); /* Who answers sees to it. */
    if (size > sizeof small) {
        header = malloc(size);
    }
    if (header == NULL) {
        conn_close(self->conn, 0);
        if (self->state != SESSION_CLOSING) {
            move(self, SESSION_CLOSING);
        }
        return;
    }
    if (message != NULL) {
        (void)protobuf_c_message_pack(message, header); /* size bytes, as computed. */
    }
    frame.header = header;
    frame.body = body;
    frame.body_count = body != NULL && body->size > 0 ? 1 : 0;
    send_frame(self, &frame);
    if (header != small) {
        free(header);
    }
}

void session_send_failure(struct session *self, uint64_t request_id, const struct failure *failure)
{
    struct node *node = self->front->node;
    Quorlog__Error error = QUORLOG__ERROR__INIT;
    Quorlog__CursorInfo cursor = QUORLOG__CURSOR_INFO__INIT;
    char address[MEMBER_ADDRESS_SIZE] = "";
    char name[32];
    char text[sizeof failure->info.text];
    uint64_t leader_id = group_leader_id(node->group);

    ASSERT(failure->info.code != ERR_OK);
    (void)snprintf(name, sizeof name, "%s", err_name(failure->info.code)); /* Short words. */
    memcpy(text, failure->info.text, sizeof text);
    error.code = failure->info.code;
    error.name = name;
    error.text = text;
    error.retryable = err_retryable(failure->info.code);
    error.outcome_unknown = failure->unknown;
    if (leader_id != 0 && group_member_address(node->group, leader_id, address)) {
        error.leader_id = leader_id;
        error.leader_address = address;
    }
    error.node_id = node->identity.node_id;
    error.log_start = failure->log_start;
    error.log_end = failure->log_end;
    if (failure->cursor != NULL) {
        cursor.offset = failure->cursor->offset;
        cursor.revision = failure->cursor->revision;
        cursor.owner = failure->cursor->owner;
        cursor.updated_time_us = failure->cursor->updated_time_us;
        cursor.raft_index = failure->raft_index;
        error.cursor = &cursor;
    }
    session_send(self, QUORLOG__FRAME_TYPE__FRAME_ERROR, request_id, &error.base, NULL);
}

void request_reply(struct request *self, uint16_t type, const ProtobufCMessage *message,
                   const struct slice *body)
{
    if (self->session != NULL) {
        session_send(self->session, type, self->id, message, body);
    }
    request_end(self);
    ASSERT(self->session == NULL);
}

void request_fail(struct request *self, const struct failure *failure)
{
    if (self->session != NULL) {
        session_send_failure(self->session, self->id, failure);
    }
    request_end(self);
    ASSERT(self->session == NULL);
}

void request_fail_plain(struct request *self, enum err err, const char *what)
{
    struct failure failure;

    (void)failure_set(&failure, err, "%s: %s", what, err_text(err));
    failure.unknown = false;
    request_fail(self, &failure);
}

enum err failure_set(struct failure *self, enum err err, const char *format, ...)
{
    va_list args;

    ASSERT(err != ERR_OK);
    *self = (struct failure){.unknown = err_outcome(err) == ERR_OUTCOME_UNKNOWN};
    self->info.code = err;
    va_start(args, format);
    (void)vsnprintf(self->info.text, sizeof self->info.text, format, args); /* Cut is fine. */
    va_end(args);
    return err;
}

/* ---- the end ---- */

static void cancel_all(struct session *self, enum err err)
{
    while (self->requests != NULL) {
        struct request *request = self->requests;

        request->cancel(request, err);
        ASSERT(self->requests != request);
    }
    ASSERT(self->request_count == 0 && self->request_size == 0);
}

void session_close(struct session *self, uint64_t linger_ms)
{
    if (self->state != SESSION_CLOSING) {
        move(self, SESSION_CLOSING);
    }
    cancel_all(self, ERR_CLOSED);
    conn_close(self->conn, linger_ms);
}

void session_stop(struct session *self)
{
    if (self->state != SESSION_CLOSING) {
        cancel_all(self, ERR_SHUTDOWN);
    }
    session_close(self, LINGER_MS);
}

/* Says why, and closes. */
static void refuse(struct session *self, uint64_t request_id, const struct failure *failure)
{
    char quoted[400];

    diag_event(self->front->node->diag, DIAG_INFO, "server", "connection_refused",
               "from=%s reason=%s text=%s", conn_peer(self->conn), err_name(failure->info.code),
               diag_quote(quoted, sizeof quoted, failure->info.text));
    session_send_failure(self, request_id, failure);
    session_close(self, LINGER_MS);
}

/* ---- the hello ---- */

static bool too_many_clients(struct session *self, struct failure *failure)
{
    struct node *node = self->front->node;

    if (atomic_fetch_add(&node->clients, 1) < node->config->connections_max) {
        self->client = true;
        return false;
    }
    atomic_fetch_sub(&node->clients, 1);
    (void)failure_set(failure, ERR_LIMIT,
                      "node %" PRIu64 " has %" PRIu64
                      " clients, and connections_max allows no more: try another node",
                      node->identity.node_id, node->config->connections_max);
    return true;
}

/* The answer to a hello, packed into header; returns its size. */
static size_t pack_hello_reply(const struct node *node, enum hello_kind kind,
                               uint8_t header[GROUP_REPLY_SIZE_MAX])
{
    Quorlog__HelloReply reply = QUORLOG__HELLO_REPLY__INIT;
    char cluster_id[CLUSTER_ID_SIZE];
    char address[MEMBER_ADDRESS_SIZE] = "";
    char version[] = QUORLOG_VERSION;
    uint64_t leader_id = group_leader_id(node->group);

    memcpy(cluster_id, node->identity.cluster_id, sizeof cluster_id);
    reply.protocol_version = PROTOCOL_VERSION;
    reply.cluster_id = cluster_id;
    reply.node_id = node->identity.node_id;
    reply.version = version;
    reply.disk_id = kind == HELLO_CLIENT ? 0 : node->identity.disk_id;
    if (leader_id != 0 && group_member_address(node->group, leader_id, address)) {
        reply.leader_id = leader_id;
        reply.leader_address = address;
    }
    reply.frame_size_max = (uint32_t)node->config->frame_size_max;
    reply.batch_size_max = (uint32_t)node->config->batch_size_max;
    ASSERT(quorlog__hello_reply__get_packed_size(&reply) <= GROUP_REPLY_SIZE_MAX);
    return quorlog__hello_reply__pack(&reply, header);
}

/* A peer's connection belongs to the raft thread. */
static void hand_over(struct session *self, const struct hello *hello, uint64_t request_id)
{
    struct node *node = self->front->node;
    uint8_t reply[GROUP_REPLY_SIZE_MAX];
    struct group_connection connection = {.peer_id = hello->node_id,
                                          .address = hello->address,
                                          .request_id = request_id,
                                          .reply = reply};
    struct failure failure;
    enum err err = conn_release(self->conn, &connection.fd);

    if (err == ERR_PROTOCOL) {
        (void)failure_set(&failure, err, "a peer that goes on before its hello is answered");
        failure.unknown = false;
        refuse(self, request_id, &failure);
        return;
    }
    ASSERT(err == ERR_OK); /* It is open: a frame came just now. */
    move(self, SESSION_CLOSING);
    connection.reply_size = pack_hello_reply(node, hello->kind, reply);
    err = group_adopt(node->group, &connection);
    if (err != ERR_OK) {
        diag_event(node->diag, DIAG_WARN, "server", "connection_dropped",
                   "peer=%" PRIu64 " reason=%s", hello->node_id, err_name(err));
    }
}

static void greet(struct session *self, const struct frame *frame)
{
    struct node *node = self->front->node;
    const struct config *config = node->config;
    struct conn_limits limits = {.frame_size_max = config->frame_size_max,
                                 .queue_size_max = config->connection_queue_size,
                                 .idle_ms = config->idle_timeout_ms,
                                 .stall_ms = config->stall_timeout_ms,
                                 .turns = &self->front->turns};
    uint8_t reply[GROUP_REPLY_SIZE_MAX];
    struct failure failure;
    struct hello hello;

    (void)failure_set(&failure, ERR_PROTOCOL, "no hello");
    failure.info.code = hello_check(&node->identity, frame, &hello, &failure.info);
    if (failure.info.code == ERR_WRONG_DISK) {
        node_disk_refused(node, &failure.info);
        /* To the one who dials it is as if it had reached another node: by this code it would be
         * told that its own disk is the wrong one, and it would end. */
        failure.info.code = ERR_INVALID;
    } else if (failure.info.code == ERR_OK && hello.node_id != 0) {
        failure.info.code =
            group_check_node(node->group, hello.node_id, hello.disk_id, &failure.info);
    }
    if (failure.info.code != ERR_OK ||
        (hello.kind == HELLO_CLIENT && too_many_clients(self, &failure))) {
        failure.unknown = false;
        refuse(self, frame->request_id, &failure);
        return;
    }
    if (hello.kind == HELLO_PEER) {
        hand_over(self, &hello, frame->request_id);
        return;
    }
    move(self, hello.kind == HELLO_NODE ? SESSION_NODE : SESSION_CLIENT);
    if (hello.kind == HELLO_NODE) {
        limits.idle_ms = 0;  /* Keepalive ends what is dead; a quiet node is no fault. */
        limits.stall_ms = 0; /* Nodes always read. */
        limits.queue_size_max *= NODE_FACTOR;
    }
    self->queue_size_max = limits.queue_size_max;
    conn_established(self->conn, &limits);
    session_send_packed(self, QUORLOG__FRAME_TYPE__FRAME_HELLO_REPLY, frame->request_id, reply,
                        pack_hello_reply(node, hello.kind, reply));
}

/* ---- events of the connection ---- */

static void on_frame(struct conn *conn, void *arg, const struct frame *frame)
{
    struct session *self = recover(arg);
    struct failure failure;

    ASSERT(conn == self->conn);
    switch (self->state) {
    case SESSION_HELLO:
        greet(self, frame);
        break;
    case SESSION_CLIENT:
    case SESSION_NODE:
        if (frame->type == QUORLOG__FRAME_TYPE__FRAME_HELLO ||
            frame->type == QUORLOG__FRAME_TYPE__FRAME_RAFT) {
            (void)failure_set(&failure, ERR_PROTOCOL, "a frame of type %u out of turn",
                              frame->type);
            refuse(self, frame->request_id, &failure);
        } else {
            api_dispatch(self, frame);
        }
        break;
    case SESSION_CLOSING: /* Nobody is there to answer. */
        break;
    }
}

static void on_failed(struct conn *conn, void *arg, enum err err, const char *text)
{
    struct session *self = recover(arg);
    struct failure failure;

    ASSERT(conn == self->conn);
    if (self->state == SESSION_CLOSING) {
        conn_close(conn, 0);
    } else if (err == ERR_CLOSED || err == ERR_IO) {
        session_close(self, 0);
    } else {
        (void)failure_set(&failure, err, "%s", text);
        failure.unknown = false;
        refuse(self, 0, &failure);
    }
}

static void on_drained(struct conn *conn, void *arg)
{
    struct session *self = recover(arg);

    ASSERT(conn == self->conn);
    if (self->state == SESSION_CLOSING) {
        return;
    }
    self->congested = false;
    session_wake(self);
    update_pause(self);
}

static void on_closed(struct conn *conn, void *arg)
{
    struct session *self = recover(arg);
    struct front *front = self->front;

    ASSERT(conn == self->conn && self->state == SESSION_CLOSING);
    cancel_all(self, ERR_CLOSED);
    DL_DELETE(front->sessions, self);
    if (self->client) {
        atomic_fetch_sub(&front->node->clients, 1);
    }
    atomic_fetch_sub(&front->node->sockets, 1);
    self->magic = 0;
    free(self);
    front_check_finished(front);
}

void session_open(struct front *front, int fd)
{
    static const struct conn_events events = {
        .frame = on_frame, .failed = on_failed, .drained = on_drained, .closed = on_closed};
    const struct config *config = front->node->config;
    const struct conn_limits limits = {
        .frame_size_max = HELLO_FRAME_SIZE_MAX,
        .queue_size_max = config->connection_queue_size,
        .hello_ms = config->hello_timeout_ms,
        .turns = &front->turns,
    };
    struct session *self = calloc(1, sizeof *self);
    enum err err = ERR_NOMEM;

    if (self == NULL) {
        (void)close(fd); /* Nothing was sent on it. */
        goto err_out;
    }
    self->magic = SESSION_MAGIC;
    self->front = front;
    self->queue_size_max = limits.queue_size_max;
    err = conn_open(&front->loop, fd, &limits, &events, self, &self->conn);
    if (err != ERR_OK) {
        free(self);
        goto err_out;
    }
    DL_APPEND(front->sessions, self);
    return;

err_out:
    atomic_fetch_sub(&front->node->sockets, 1);
    diag_event(front->node->diag, DIAG_WARN, "server", "connection_dropped", "reason=%s",
               err_name(err));
}
