/*
 * What a front does where memory that is shared by all connections is short: reads that found no
 * room try again, who takes nothing of what waits for it is given up, and who sends requests is
 * read on only when there is room for more of them.
 */
#ifndef QUORLOG_SERVER_PRESSURE_H
#define QUORLOG_SERVER_PRESSURE_H

#include "server/deadline.h"

struct front;

struct pressure {
    struct deadline starved; /* the next try of those that found no room */
    struct deadline watch;   /* the next look for those that take nothing */
};

void pressure_init(struct front *front);
void pressure_fini(struct front *front);

/* A session found no room for what it wants to send. */
void pressure_starved(struct front *front);

/* A session has something to send. */
void pressure_watch(struct front *front);

/* There is room for more requests: sessions that were not read for want of it are. */
void pressure_eased(struct front *front);

#endif
