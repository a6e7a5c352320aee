/*
 * What the tests of transport share: a loop with a deadline instead of sleeps, loopback sockets,
 * and a recorder of what a connection's owner is told.
 */
#ifndef QUORLOG_TESTS_TRANSPORT_SUPPORT_H
#define QUORLOG_TESTS_TRANSPORT_SUPPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "transport/transport.h"

/* Runs the loop until *flag is at least `count`; fails the test after ten seconds. */
void run_until(uv_loop_t *loop, const unsigned *flag, unsigned count);

/* Runs what is ready now, without waiting, a few turns long. */
void run_ready(uv_loop_t *loop);

/* Closes the loop, which fails the test if anything is left on it. */
void loop_finish(uv_loop_t *loop);

/* Two connected TCP sockets on 127.0.0.1, both blocking. */
void connected_pair(int ret_fds[2]);

/* A blocking socket connected to a numeric address, or -1. */
int connect_to_port(const char *host, uint16_t port);

/* Open descriptors of this process. */
unsigned count_descriptors(void);

/* A frame as bytes, appended to buf. */
void append_frame(struct buf *buf, uint16_t type, uint64_t request_id, const char *header,
                  const void *body, size_t body_size);

/* Writes all of it to a blocking socket. */
void write_all(int fd, const void *data, size_t size);

/* An owner of a connection that writes down what it is told. */
struct owner {
    struct conn *conn; /* NULL after closed */
    unsigned frames;
    unsigned failed;
    unsigned drained;
    unsigned closed;
    enum err err;
    char text[512];
    uint64_t last_request_id;
    size_t body_bytes;
    struct block *kept; /* Of the last frame, when keep is set; owned. */
    struct frame kept_frame;
    bool keep;
    bool close_in_frame; /* conn_close from inside the callback of that name */
    bool close_in_failed;
    bool close_in_drained;
    bool release_in_frame; /* conn_release from inside the callback; what it gave: */
    enum err release_err;
    int released_fd;
    bool out_of_order; /* Request ids did not count up by one from 1. */
    unsigned pause_at; /* conn_pause inside the callback of this frame; 0: never */
};

extern const struct conn_events owner_events;
extern const struct conn_limits roomy_limits;

/* Opens a conn on fd whose events go to owner, which is zeroed first. */
void owner_open(struct owner *self, uv_loop_t *loop, int fd, const struct conn_limits *limits);

/* Closes the conn if it is open and waits for `closed`. */
void owner_close(struct owner *self, uv_loop_t *loop);

#endif
