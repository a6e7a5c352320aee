/*
 * A session: the life of one accepted connection, and the requests on it that are under way.
 *
 *              hello of a client      +--------+
 *           +------------------------>| CLIENT |---+
 *           |                         +--------+   |
 *      +-------+   of a node          +--------+   |  failed, refused,     +---------+
 *      | HELLO |--------------------->|  NODE  |---+--------------------->| CLOSING |--> freed
 *      +-------+                      +--------+      the node stops       +---------+
 *          |                                                                    ^
 *          +--------------------------------------------------------------------+
 *            of a peer: the socket is handed to the group;
 *            no hello, a wrong one, too many clients
 *
 * Backpressure: over connection_requests_max or connection_requests_size under way, or over half
 * of connection_queue_size waiting to be sent, the session stops reading; so it does, having more
 * than a little under way, when requests of all are near requests_size_max. Reads also wait for
 * room in what all sessions together may send (pressure.h).
 *
 * A request is owned by whoever carries it out; the session lists it until request_end.
 */
#ifndef QUORLOG_SERVER_SESSION_H
#define QUORLOG_SERVER_SESSION_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/block.h"
#include "base/err.h"
#include "transport/transport.h"

struct cursor_position;
struct front;
struct session;

/* A request that is under way; embedded by its owner. */
struct request {
    struct session *session; /* NULL: answered, or the session has ended */
    uint64_t id;
    uint16_t type;
    size_t size; /* bytes that it keeps in memory */
    struct request *prev;
    struct request *next;
    /* The session ends, or the node stops (err says which; answer it then): request_end must have
     * been called on return. */
    void (*cancel)(struct request *request, enum err err);
    /* What was queued on the connection is sent. May be NULL. */
    void (*drained)(struct request *request);
};

/* Why a request failed, as the error frame tells it. */
struct failure {
    struct err_info info;
    bool unknown; /* the request may have taken effect */
    uint64_t log_start;
    uint64_t log_end;
    const struct cursor_position *cursor; /* with CURSOR_CONFLICT: what it is; borrowed */
    uint64_t raft_index;                  /* with CURSOR_CONFLICT: of the entry that found it so */
};

/* (front thread) Takes over fd. */
void session_open(struct front *front, int fd);

/* Closes it: requests are canceled with ERR_CLOSED. */
void session_close(struct session *self, uint64_t linger_ms);

/* The node stops: requests that nobody else has yet are answered with ERR_SHUTDOWN. */
void session_stop(struct session *self);

struct front *session_front(const struct session *self);
struct session *session_next(const struct session *self); /* in the front's list; NULL: last */
bool session_of_node(const struct session *self);
const char *session_peer(const struct session *self);
/* Room for the `size` bytes that a read, which is about to begin, may bring. False: too much is
 * waiting to be sent or being read for this connection; the request's `drained` is called when
 * there is room again. A single read finds room whatever its size. */
bool session_reserve(struct session *self, size_t size);
/* The read is over. Calls nobody: after what it brought was sent, session_wake does. */
void session_unreserve(struct session *self, size_t size);
/* Lets those go on for whom there was no room. */
void session_wake(struct session *self);
/* As session_wake, if it was for want of room for all sessions together. */
void session_feed(struct session *self);
/* There is room for more requests. */
void session_read_on(struct session *self);
/* What waits to be sent, and for how long the other side has taken nothing of it. */
size_t session_unread_size(const struct session *self);
uint64_t session_stalled_ms(const struct session *self);
/* The request of this type and id; NULL: none. */
struct request *session_find(const struct session *self, uint16_t type, uint64_t id);

/* Sends a frame; message may be NULL. An error here ends the session, later. */
void session_send(struct session *self, uint16_t type, uint64_t request_id,
                  const ProtobufCMessage *message, const struct slice *body);
/* As above with a header that is packed already. */
void session_send_packed(struct session *self, uint16_t type, uint64_t request_id,
                         const uint8_t *header, size_t header_size);
void session_send_failure(struct session *self, uint64_t request_id, const struct failure *failure);

/* Enters a request into its session's list. */
void request_begin(struct request *self, struct session *session, const struct frame *frame,
                   size_t size);
/* Takes it out; the session may go on reading. Idempotent. */
void request_end(struct request *self);

/* Answers and ends it. */
void request_reply(struct request *self, uint16_t type, const ProtobufCMessage *message,
                   const struct slice *body);
void request_fail(struct request *self, const struct failure *failure);
/* The text is err_text, and what is unknown follows from the code. */
void request_fail_plain(struct request *self, enum err err, const char *what);

/* Fills failure; unknown follows from the code (false for reads: set it so). */
enum err failure_set(struct failure *self, enum err err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
