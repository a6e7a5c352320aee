/*
 * What is going to happen: a heap ordered by time, and among equals by when it was put in.
 */
#ifndef QUORLOG_SIM_EVENTS_H
#define QUORLOG_SIM_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum event_type {
    EVENT_TIMER,    /* of a node's driver */
    EVENT_MESSAGE,  /* arrives */
    EVENT_WRITTEN,  /* a group of appends is durable */
    EVENT_SNAPSHOT, /* a snapshot that was begun is written */
    EVENT_INSTALL,  /* an install ends, well or not */
    EVENT_RESTART,
    EVENT_ADMIN, /* someone wants other members as soon as this node leads */
    EVENT_CLIENT,
    EVENT_REQUEST, /* arrives at a node */
    EVENT_ANSWER,  /* arrives */
    EVENT_FRONT,   /* a node's front looks at what waits */
    EVENT_NEMESIS,
    EVENT_READ, /* a read comes to a node that was paused */
};

struct event {
    uint64_t time_ms;
    uint64_t sequence;
    enum event_type type;
    unsigned node;           /* 0: none */
    uint64_t generation;     /* of what it belongs to; void when that has gone on */
    struct message *message; /* owned; NULL but for EVENT_MESSAGE */
};

struct events {
    struct event *heap; /* owned */
    size_t count;
    size_t capacity;
    uint64_t sequence;
};

void events_init(struct events *self);
/* Releases the messages, too. */
void events_fini(struct events *self);

void events_push(struct events *self, uint64_t time_ms, enum event_type type, unsigned node,
                 uint64_t generation, struct message *message);

/* The earliest; false when there is none. The caller owns its message. */
bool events_pop(struct events *self, struct event *ret_event);

#endif
