/*
 * Frames over TCP: connections, a listener, and a dialler that keeps one connection up.
 *
 * Transport knows frames, not what they mean. Everything here lives on one uv loop and is called
 * only from that loop's thread; a connection can be accepted on one loop and opened on another by
 * passing its file descriptor.
 *
 *      0        4        8      10     12        16           24             24+header_size 4+size
 *      +--------+--------+------+------+---------+------------+--------------+- - - - - - - - -+
 *      | size   | crc32c | type | flags| header_ | request_id | header       | body            |
 *      | u32    | u32    | u16  | u16  | size u32| u64        | header_size B|                 |
 *      +--------+--------+------+------+---------+------------+--------------+- - - - - - - - -+
 *      size counts what follows it. crc32c covers [8, 24 + header_size); bodies carry checksums of
 *      their own. All little-endian. A frame is well formed iff 20 <= size <= the connection's
 *      limit, header_size <= size - 20, header_size <= 64 KiB, and crc32c matches.
 */
#ifndef QUORLOG_TRANSPORT_TRANSPORT_H
#define QUORLOG_TRANSPORT_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/block.h"
#include "base/err.h"

enum {
    FRAME_PREFIX_SIZE = 24,
    FRAME_HEADER_SIZE_MAX = 65536,
    FRAME_BODY_SLICES_MAX = 4096,
    TRANSPORT_ADDRESS_SIZE = 300, /* "[host or IP]:port" with its zero */
};

/* A frame that arrived. header and body point into block, which is aligned so that body starts on
 * an 8-byte boundary. Borrowed until the callback returns; whoever needs more takes a reference. */
struct frame {
    uint16_t type;
    uint16_t flags;
    uint64_t request_id;
    struct block *block;
    const uint8_t *header;
    size_t header_size;
    const uint8_t *body;
    size_t body_size;
};

/* A frame to send. header is copied; each body slice's block is referenced until it is written (a
 * slice without block is copied). */
struct frame_out {
    uint16_t type;
    uint16_t flags;
    uint64_t request_id;
    const uint8_t *header;
    size_t header_size;
    const struct slice *body;
    size_t body_count;
};

struct conn;
struct turns;

struct conn_limits {
    size_t frame_size_max; /* bytes of one frame, prefix included; may be changed later */
    size_t queue_size_max; /* bytes waiting to be written; past it conn_send says ERR_BUSY */
    uint64_t idle_ms;      /* fail when nothing arrives for that long; 0: never */
    uint64_t hello_ms;     /* fail unless conn_established is called in time; 0: no limit */
    uint64_t stall_ms;     /* fail when what was sent is not taken for that long: the other side is
                              gone, or does not read; 0: 10 s */
    struct turns *turns;   /* borrowed, of the loop: events of the socket begin one; may be NULL */
};

struct conn_events {
    /* A well-formed frame. */
    void (*frame)(struct conn *conn, void *arg, const struct frame *frame);
    /*
     * The connection failed, once, and no more frames come: ERR_CLOSED (the other side ended it),
     * ERR_PROTOCOL, ERR_TOO_LARGE, ERR_CHECKSUM (a malformed frame; text says what), ERR_TIMEOUT
     * (hello_ms, idle_ms, or the peer's TCP does not answer), ERR_NOMEM, ERR_IO. May send a last
     * frame (ERR_CLOSED where the socket is of no use any more); then calls conn_close.
     */
    void (*failed)(struct conn *conn, void *arg, enum err err, const char *text);
    /* The queue, once past half of queue_size_max, is empty again. May be NULL. */
    void (*drained)(struct conn *conn, void *arg);
    /* After conn_close, exactly once: all is written or given up; conn is freed on return. */
    void (*closed)(struct conn *conn, void *arg);
};

/* Takes over a connected socket (closed even when this fails). TCP_NODELAY, keepalive and
 * TCP_USER_TIMEOUT (stall_ms) are set. Events begin from the loop, never from inside this call.
 * ERR_NOMEM, ERR_IO. */
enum err conn_open(uv_loop_t *loop, int fd, const struct conn_limits *limits,
                   const struct conn_events *events, void *arg, struct conn **ret_conn);

/* Sends a frame: queues it, and what was queued in one turn of the loop is written together.
 * ERR_BUSY when the frame would pass queue_size_max (nothing queued; `drained` follows; an empty
 * queue takes a frame of any size), ERR_CLOSED after conn_close or when the socket is of no use any
 * more, ERR_NOMEM. An answer to a request that was accepted may go past the bound: set `always`.
 * The frame keeps to the format's bounds, and to what the other side takes. */
enum err conn_send(struct conn *self, const struct frame_out *frame, bool always);

/* Stop and go on reading: backpressure. Counted: as many resumes as pauses are needed. */
void conn_pause(struct conn *self);
void conn_resume(struct conn *self);

/* Writes what is queued for up to linger_ms, then ends the connection and calls `closed`: at once
 * with linger_ms 0, else when the other side has ended too or linger_ms is over, so that it can
 * read what was written (bytes left unread here would make TCP take it away). Calling it again is
 * harmless. `failed` is not called for what happens from now on. */
void conn_close(struct conn *self, uint64_t linger_ms);

/* Gives the socket to the caller, who opens it on another loop, and ends the connection here:
 * `closed` follows, `failed` does not. From inside `frame`, or from outside. ERR_PROTOCOL when more
 * arrived than the frames that were handed out, or something is still to be written; ERR_CLOSED
 * when the connection failed or is closing: nothing was done. */
enum err conn_release(struct conn *self, int *ret_fd);

/* The hello was fine: the hello_ms timer stops, and these limits hold from now on. */
void conn_established(struct conn *self, const struct conn_limits *limits);

/* The address of the other side, "10.0.0.7:41234" or "[::1]:41234". */
const char *conn_peer(const struct conn *self);
size_t conn_queue_size(const struct conn *self);
void *conn_arg(const struct conn *self);

/* ---- listener ---- */

struct listener;

struct listener_events {
    /* A connection was accepted; fd is now the callee's (often: passed to another thread). */
    void (*accepted)(void *arg, int fd);
    /* accept failed (out of descriptors, say); the listener pauses for 100 ms and goes on. */
    void (*failed)(void *arg, enum err err, const char *text);
    void (*closed)(void *arg);
};

/* Listens on "host:port", "[v6]:port" or ":port" (all addresses); port 0 lets the kernel choose.
 * Resolves names, blocking: at start only. ERR_INVALID (address), ERR_EXISTS (in use), ERR_IO. */
enum err listener_open(uv_loop_t *loop, const char *address, const struct listener_events *events,
                       void *arg, struct listener **ret_listener, struct err_info *info);
void listener_close(struct listener *self);
uint16_t listener_port(const struct listener *self);

/* ---- link: a dialled connection that is kept up ---- */

struct link;

struct link_events {
    /* Connected; the owner says hello and sets up conn's use. conn's events go to these. */
    void (*up)(struct link *link, void *arg, struct conn *conn);
    void (*frame)(struct link *link, void *arg, const struct frame *frame);
    /* The connection is gone, or an attempt to make it failed (ERR_CONNECT): once for each. conn
     * must not be used any more. Unless the link is closing it dials again after a delay. After
     * link_close: ERR_CANCELED if the link was up, and not called if it was not. */
    void (*down)(struct link *link, void *arg, enum err err, const char *text);
    void (*drained)(struct link *link, void *arg); /* may be NULL */
    void (*closed)(struct link *link, void *arg);
};

struct link_options {
    const char *address; /* in, copied: "host:port"; resolved anew at each attempt */
    struct conn_limits limits;
    uint64_t connect_ms;   /* for each address that the host has; 0: 2000 */
    uint64_t retry_min_ms; /* first delay, doubled up to retry_max_ms, with jitter; 0: 50 */
    uint64_t retry_max_ms; /* 0: 1000 */
};

/* Starts dialling. ERR_INVALID (address), ERR_NOMEM. */
enum err link_open(uv_loop_t *loop, const struct link_options *options,
                   const struct link_events *events, void *arg, struct link **ret_link);

/* NULL while down. */
struct conn *link_conn(struct link *self);

/* Ends the present connection with this reason and dials again after the retry delay (the peer
 * refused the hello, say). */
void link_reset(struct link *self, enum err err, const char *text);

/* Dials from now on another address (a node moved); the present connection goes down. ERR_INVALID:
 * nothing changed. */
enum err link_move(struct link *self, const char *address);

/* Idempotent; `closed` comes later, from the loop, exactly once. */
void link_close(struct link *self);

/* ---- addresses ---- */

/* Splits "host:port", "[v6]:port" or ":port"; host and port are copied. ERR_INVALID with text. */
enum err address_split(const char *address, char host[256], char port[8], struct err_info *info);

/* The one place where libuv's codes become ours. */
enum err err_from_uv(int status);

#endif
