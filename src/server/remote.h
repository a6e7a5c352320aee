/*
 * The links of a front thread to other nodes, for requests that are passed on. One link a node,
 * dialled when it is first needed, kept up from then on; requests are pipelined on it.
 *
 * A request that was sent is in `passed` until its answer comes, its owner forgets it, or the
 * connection ends: then nobody knows what became of it.
 */
#ifndef QUORLOG_SERVER_REMOTE_H
#define QUORLOG_SERVER_REMOTE_H

#include <stdint.h>

#include "base/err.h"
#include "transport/transport.h"

struct front;
struct remote;

/* A request that another node has; embedded by its owner. */
struct passed {
    struct remote *remote; /* NULL: not sent, or over */
    uint64_t request_id;
    struct passed *prev;
    struct passed *next;
    /* Exactly one of the two is called after remote_send returned OK, unless forgotten before.
     * frame is borrowed until return. */
    void (*answered)(struct passed *passed, const struct frame *frame);
    void (*lost)(struct passed *passed, enum err err, const char *text);
};

struct remotes {
    struct remote *list;
};

/*
 * Sends the frame (its request id is set here) to node `to`. ERR_AGAIN: there is no connection yet;
 * changes_retry and its like (retry in remote.c) are called when there is. ERR_BUSY: too much waits
 * to be sent; they are called when that is over. ERR_NOT_FOUND: no such member. ERR_NOMEM.
 */
enum err remote_send(struct front *front, uint64_t to, struct passed *passed,
                     struct frame_out *frame);

/* Its answer interests nobody any more. One that is over is fine. */
void remote_forget(struct passed *passed);

/* The node that has it. */
uint64_t remote_node(const struct passed *passed);

/* Closes all links; what is passed on is lost with ERR_SHUTDOWN. */
void remotes_close(struct front *front);

#endif
