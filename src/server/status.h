/*
 * An inquiry: one STATUS request. The own view is at hand; unless it is all that was asked for, the
 * other members are asked for theirs, side by side, and get 500 ms.
 */
#ifndef QUORLOG_SERVER_STATUS_H
#define QUORLOG_SERVER_STATUS_H

struct front;
struct inquiry;

struct statuses {
    struct inquiry *list;
};

/* A link came up, or has room: asks whom could not be asked before. */
void statuses_retry(struct front *front);

/* The node stops: answered with what is there. */
void statuses_stop(struct front *front);

#endif
