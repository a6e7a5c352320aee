/*
 * Happy path: adopt opens the connection and answers the hello; each frame is decoded, checked and
 * handed on, with nothing in between: no queue, so what is not read yet waits in the socket.
 *
 * The table has room for several connections of each member, since those that are closing still
 * count. When it is full, of strangers that said the right hello, the oldest of them has to go.
 */
#include "raft_fsm/group_inbound.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"
#include "quorlog.pb-c.h"

enum {
    INBOUND_MAX = 4 * MEMBERSHIP_MAX,
    QUEUE_SIZE_MAX = 64 * 1024, /* for the hello's answer and an error */
    LINGER_MS = 500,
};

struct inbound {
    struct group_inbound *owner;
    struct conn *conn; /* NULL: the slot is free */
    uint64_t peer_id;
    uint64_t number; /* counts up with every connection */
    bool closing;
};

struct group_inbound {
    struct group_inbound_options options;
    struct inbound slots[INBOUND_MAX];
    uint64_t last_number;
    unsigned open;
    bool stopping;
    void (*closed)(void *arg);
    void *closed_arg;
};

enum err group_inbound_new(const struct group_inbound_options *options,
                           struct group_inbound **ret_inbound)
{
    struct group_inbound *self = calloc(1, sizeof *self);

    if (self == NULL) {
        return ERR_NOMEM;
    }
    self->options = *options;
    *ret_inbound = self;
    return ERR_OK;
}

void group_inbound_free(struct group_inbound *self)
{
    if (self != NULL) {
        ASSERT(self->open == 0);
        free(self);
    }
}

static void end(struct inbound *inbound, uint64_t linger_ms)
{
    inbound->closing = true;
    conn_close(inbound->conn, linger_ms);
}

/* Tells the peer why, as far as that can be, and ends. */
static void refuse(struct inbound *inbound, uint64_t request_id, enum err err, const char *text)
{
    Quorlog__Error error = QUORLOG__ERROR__INIT;
    uint8_t header[1024];
    char name[32];
    char copy[sizeof((struct err_info *)0)->text];
    char quoted[400];
    struct frame_out frame = {
        .type = QUORLOG__FRAME_TYPE__FRAME_ERROR, .request_id = request_id, .header = header};

    ASSERT(err != ERR_OK && !inbound->closing);
    diag_event(inbound->owner->options.diag, DIAG_INFO, "raft_fsm", "connection_refused",
               "peer=%" PRIu64 " from=%s reason=%s text=%s", inbound->peer_id,
               conn_peer(inbound->conn), err_name(err), diag_quote(quoted, sizeof quoted, text));
    (void)snprintf(name, sizeof name, "%s", err_name(err)); /* Short words. */
    (void)snprintf(copy, sizeof copy, "%s", text);          /* Cut is fine. */
    error.code = err;
    error.name = name;
    error.text = copy;
    error.retryable = err_retryable(err);
    error.node_id = inbound->owner->options.self_id;
    ASSERT(quorlog__error__get_packed_size(&error) <= sizeof header);
    frame.header_size = quorlog__error__pack(&error, header);
    (void)conn_send(inbound->conn, &frame, true); /* It ends in any case. */
    end(inbound, LINGER_MS);
}

/* Decodes a frame and checks that it is this peer's message. */
static enum err read_message(const struct inbound *inbound, const struct frame *frame,
                             struct message *ret_message, struct err_info *info)
{
    enum err err;

    if (frame->type != QUORLOG__FRAME_TYPE__FRAME_RAFT) {
        return err_set(info, ERR_PROTOCOL, "a frame of type %u on a connection for raft messages",
                       frame->type);
    }
    err = message_decode(frame->header, frame->header_size, frame->block, frame->body,
                         frame->body_size, ret_message, info);
    if (err == ERR_OK && ret_message->from != inbound->peer_id) {
        err = err_set(info, ERR_PROTOCOL,
                      "node %" PRIu64 " sent a message in the name of node %" PRIu64,
                      inbound->peer_id, ret_message->from);
        message_fini(ret_message);
    }
    return err;
}

static void on_frame(struct conn *conn, void *arg, const struct frame *frame)
{
    struct inbound *inbound = arg;
    const struct group_inbound_options *options = &inbound->owner->options;
    struct message message;
    struct err_info info = {0};
    enum err err;

    ASSERT(inbound->conn == conn);
    if (inbound->closing) {
        return;
    }
    err = read_message(inbound, frame, &message, &info);
    if (err == ERR_NOMEM) {
        return; /* As if it had been lost on the way; raft sends it again. */
    }
    if (err == ERR_OK && options->removed(options->arg, inbound->peer_id)) {
        message_fini(&message);
        err = err_set(&info, ERR_ID_USED, "node %" PRIu64 " was removed from this cluster: stop it",
                      inbound->peer_id);
    }
    if (err != ERR_OK) {
        refuse(inbound, frame->request_id, err, info.text);
        return;
    }
    options->message(options->arg, &message);
    message_fini(&message);
}

static void on_failed(struct conn *conn, void *arg, enum err err, const char *text)
{
    struct inbound *inbound = arg;

    ASSERT(inbound->conn == conn);
    if (inbound->closing || err == ERR_CLOSED || err == ERR_IO) {
        end(inbound, 0);
    } else {
        refuse(inbound, 0, err, text);
    }
}

static void on_closed(struct conn *conn, void *arg)
{
    struct inbound *inbound = arg;
    struct group_inbound *self = inbound->owner;

    ASSERT(inbound->conn == conn && inbound->closing && self->open > 0);
    *inbound = (struct inbound){0};
    self->open--;
    if (self->open == 0 && self->closed != NULL) {
        self->closed(self->closed_arg);
    }
}

/* Whether a should go before b (NULL: none), when one has to: strangers first, then the older. */
static bool goes_first(const struct inbound *a, const struct inbound *b)
{
    const struct membership *members = a->owner->options.members;
    bool member;

    if (b == NULL) {
        return true;
    }
    member = membership_find(members, a->peer_id) != NULL;
    if (member != (membership_find(members, b->peer_id) != NULL)) {
        return !member;
    }
    return a->number < b->number;
}

/* Ends the peer's older connection, and another one when the table is full. Returns a free slot;
 * NULL when there is none, since they are closing still. */
static struct inbound *make_room(struct group_inbound *self, uint64_t peer_id)
{
    struct inbound *first = NULL;
    struct inbound *room = NULL;

    for (size_t i = 0; i < INBOUND_MAX; i++) {
        struct inbound *inbound = &self->slots[i];
        char text[96];

        if (inbound->conn == NULL) {
            room = inbound;
        } else if (!inbound->closing && inbound->peer_id == peer_id) {
            (void)snprintf(text, sizeof text,
                           "another connection of node %" PRIu64 " replaced this one",
                           peer_id); /* Fits. */
            refuse(inbound, 0, ERR_FENCED, text);
        } else if (!inbound->closing && goes_first(inbound, first)) {
            first = inbound;
        }
    }
    if (room == NULL && first != NULL) {
        refuse(first, 0, ERR_LIMIT, "too many connections of peers");
    }
    return room;
}

static enum err answer_hello(struct conn *conn, const struct group_connection *connection)
{
    const struct frame_out frame = {
        .type = QUORLOG__FRAME_TYPE__FRAME_HELLO_REPLY,
        .request_id = connection->request_id,
        .header = connection->reply,
        .header_size = connection->reply_size,
    };

    return conn_send(conn, &frame, true);
}

void group_inbound_adopt(struct group_inbound *self, const struct group_connection *connection)
{
    static const struct conn_events events = {
        .frame = on_frame, .failed = on_failed, .closed = on_closed};
    /* Keepalive ends what is dead; a quiet peer is no fault. */
    const struct conn_limits limits = {.frame_size_max = self->options.frame_size_max,
                                       .queue_size_max = QUEUE_SIZE_MAX,
                                       .turns = self->options.turns};
    struct inbound *inbound = self->stopping ? NULL : make_room(self, connection->peer_id);
    enum err err;

    ASSERT(connection->peer_id != 0);
    if (inbound == NULL) {
        (void)close(connection->fd); /* Nothing was said on it. */
        return;
    }
    *inbound = (struct inbound){.owner = self, .peer_id = connection->peer_id};
    err = conn_open(self->options.loop, connection->fd, &limits, &events, inbound, &inbound->conn);
    if (err != ERR_OK) {
        *inbound = (struct inbound){0};
        diag_event(self->options.diag, DIAG_WARN, "raft_fsm", "connection_dropped",
                   "peer=%" PRIu64 " reason=%s", connection->peer_id, err_name(err));
        return;
    }
    self->open++;
    inbound->number = ++self->last_number;
    conn_established(inbound->conn, &limits);
    if (answer_hello(inbound->conn, connection) != ERR_OK) {
        end(inbound, 0); /* Without the answer the peer would say nothing. */
    }
}

void group_inbound_close(struct group_inbound *self, void (*closed)(void *arg), void *arg)
{
    ASSERT(!self->stopping);
    self->stopping = true;
    if (self->open == 0) {
        closed(arg);
        return;
    }
    self->closed = closed;
    self->closed_arg = arg;
    for (size_t i = 0; i < INBOUND_MAX; i++) {
        if (self->slots[i].conn != NULL && !self->slots[i].closing) {
            end(&self->slots[i], 0);
        }
    }
}
