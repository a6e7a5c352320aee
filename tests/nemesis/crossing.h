/*
 * One connection through the link proxy: a socket to who dialled, one to the node, a pipe each way.
 * nemesis/network.h tells its life.
 */
#ifndef QUORLOG_TESTS_NEMESIS_CROSSING_H
#define QUORLOG_TESTS_NEMESIS_CROSSING_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "nemesis/pipe.h"
#include "transport/frame.h"

enum { CROSSING_HELLO_MAX = 8192, CROSSING_HELLO_MS = 10000, CROSSING_HANDLES = 5 };

enum crossing_state {
    CROSSING_HELLO,
    CROSSING_IDLE,
    CROSSING_CONNECTING,
    CROSSING_OPEN,
    CROSSING_CLOSING,
};

struct network;
struct node;
struct crossing;

struct crossing_events {
    /* Its first frame says who dialled. The callee calls crossing_begin or crossing_close. */
    void (*identified)(struct crossing *crossing, void *arg, uint64_t from);
    void (*closed)(struct crossing *crossing, void *arg); /* freed on return */
};

struct crossing {
    struct crossing *prev; /* the owner's list */
    struct crossing *next;
    struct network *network; /* the owner's; arg of `closed` */
    struct node *node;       /* the owner's; arg of `identified` */
    uint64_t from;
    uint64_t to;
    enum crossing_state state;
    const struct crossing_events *events;
    struct pipe_source *shared;
    struct sockaddr_in target;
    uv_tcp_t near; /* who dialled */
    uv_tcp_t far;  /* the node */
    uv_timer_t hello_timer;
    uv_connect_t connect;
    uv_shutdown_t shutdowns[2];
    struct pipe forth;
    struct pipe back;
    unsigned closed_count;
    unsigned ended_count;
    struct frame_parser parser;
    size_t begin_size;
    uint8_t begin[CROSSING_HELLO_MAX]; /* what came until the frame was whole */
};

/* fd is owned from now on, also when NULL is returned. */
struct crossing *crossing_new(struct pipe_source *shared, int fd, const struct sockaddr_in *target,
                              const struct crossing_events *events);

/* Waits for the first frame. May call `closed`, later. */
void crossing_start(struct crossing *self);

/* It is known who speaks. */
void crossing_begin(struct crossing *self, struct lane *forth, struct lane *back);

/* Conditions changed. */
void crossing_step(struct crossing *self);

/* Ends it now: with a reset, or after all was written. */
void crossing_close(struct crossing *self, bool reset);

/* Returns who was dialled. */
uint64_t crossing_ends(const struct crossing *self, uint64_t *ret_from);
size_t crossing_queued(const struct crossing *self);

#endif
