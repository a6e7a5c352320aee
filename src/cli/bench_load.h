/*
 * The writing side of a bench: connections, a producer for each topic on them, and two ways to keep
 * them busy.
 *
 *      closed loop   each connection keeps a fixed number of records under way: a new one is handed
 *                    in when an old one is answered. A cluster that stalls is asked for less, and
 *                    the records that it would have got meanwhile are in no figure.
 *      open loop     records are handed in at fixed moments, whatever became of those before them
 *                    (bench_pace.h). One that does not fit, as too many are under way, is handed in
 *                    late; its latency counts from the moment that was planned.
 *
 * Writer w is one producer: of topic w % topics, on connection w % connections. Its records are its
 * places 0, 1, 2 …, each handed in once, in order; when a producer ends, a new one goes on.
 *
 * Invariants:
 *   I1  reported <= sent, and in the open loop sent <= due. A report is for the place `reported`.
 *   I2  sent - reported <= window.
 */
#ifndef QUORLOG_CLI_BENCH_LOAD_H
#define QUORLOG_CLI_BENCH_LOAD_H

#include <uv.h>

#include "cli/bench_pace.h"
#include "cli/bench_tally.h"
#include "cli/bench_values.h"
#include "client/client.h"

enum {
    LOAD_CONNECTIONS_MAX = 256,
    LOAD_TOPICS_MAX = 4000, /* a connection has room for so many producers */
    LOAD_INFLIGHT_MAX = 65536,
    LOAD_TOPIC_SIZE_MAX = 256,
};

struct load_options {
    const char *servers; /* borrowed, as the rest */
    const char *topic;
    uint64_t timeout_ms;
    uint64_t topics;
    uint64_t connections;
    uint64_t inflight; /* records under way on a connection, at most */
    uint64_t size;     /* of a value */
    uint64_t batch_size;
    enum client_compression compression;
    uint64_t rate;    /* all together, a second; 0: closed loop */
    bool stamped;     /* values begin with a bench_stamp … */
    uint32_t run;     /* … of this run */
    uint64_t warm_s;  /* open loop: so long, and then … */
    uint64_t seconds; /* … so long */
};

struct load;

struct load_writer {
    struct load *load;
    struct client *client; /* borrowed */
    uint64_t index;
    struct producer *producer; /* NULL: to be made anew */
    bool ended;                /* it takes no more */
    uint64_t base;             /* the place of its record 0 */
    uint64_t window;
    uint64_t due;
    uint64_t sent;
    uint64_t reported;
    uint64_t blocked;  /* places below it had to wait for room, or for a producer */
    uint64_t *sent_ns; /* closed loop: by place, in a ring of a power of two */
    uint64_t ring_mask;
    uint64_t *acked_ns; /* stamped: by place, modulo load->acked_size; 0: failed */
};

struct load {
    struct load_options options;
    uv_loop_t *loop; /* borrowed */
    struct client *clients[LOAD_CONNECTIONS_MAX];
    struct load_writer *writers; /* owned */
    uint64_t *topic_acked;       /* owned: records by topic, since the load began */
    uint64_t writer_count;
    uint64_t acked_size;
    struct bench_values values;
    struct pace pace;
    uint64_t due; /* numbers below it were given to their writers */
    uv_poll_t poll;
    int timer; /* tells when the next number is due; -1: none */
    bool polling;
    uint64_t armed_ns;

    bool sending;
    bool closing;
    bool measuring;        /* what is acknowledged now counts for `records` */
    uint64_t begin_ns;     /* closed loop: of what is measured */
    uint64_t acknowledged; /* since the load began */
    uint64_t records;      /* while measuring */
    uint64_t plain_bytes;  /* of batches … */
    uint64_t sent_bytes;   /* … as they were sent */
    struct tally tally;
    bool watched;            /* somebody looks at … */
    struct histogram recent; /* … this: since the owner cleared it */
    uint64_t last_acked_ns;
    struct tally_codes errors;  /* records */
    struct tally_codes retries; /* batches; complete after load_settle */
    unsigned replicas_min;      /* voters that had a record on disk when it was acknowledged … */
    unsigned voters;            /* … of so many */
    char reason[512];           /* of the last error */
    char failure[512];          /* nothing can be written: why; "" as long as it can */
};

/* "NAME", or "NAME-3" of several. */
void load_topic_name(const char *topic, uint64_t topics, uint64_t index,
                     char ret_name[LOAD_TOPIC_SIZE_MAX]);

/* Makes connections and producers; nothing is sent yet. ERR_NOMEM and the like with a text; either
 * way load_close is to be called. options are borrowed until then. */
enum err load_open(struct load *self, const struct load_options *options, uv_loop_t *loop,
                   struct err_info *info);

/* The first record is due now. */
void load_start(struct load *self);

/* Hands in what is due, replaces producers that have ended, and sees to it that the loop wakes when
 * the next record is due. To be called after each turn of the loop. */
void load_advance(struct load *self);

/* No record that is not due yet is sent any more. */
void load_end(struct load *self);

/* How long ago the oldest record was due that is not answered yet; 0: there is none. Open loop. */
uint64_t load_behind_ns(const struct load *self);

/* All that was due has been answered. */
bool load_is_settled(const struct load *self);

/* What was not answered never is: completes the tally of an open loop, and the retries. */
void load_settle(struct load *self);

/* When a writer's record was acknowledged. False: it failed. *ret_ns: 0: not yet; a lower bound for
 * one of long ago. Only with stamps. */
bool load_acked_ns(const struct load *self, uint64_t writer, uint64_t place, uint64_t *ret_ns);

/* Records of a topic that were acknowledged since the load began. */
static inline uint64_t load_acknowledged(const struct load *self, uint64_t topic)
{
    return self->topic_acked[topic];
}

/* What is under way is forgotten. Memory stays until the loop has run out and load_fini. */
void load_close(struct load *self);
void load_fini(struct load *self);

#endif
