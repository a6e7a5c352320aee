/*
 * What the consumer's files share, and nobody else: the object, and the few functions that one part
 * has for the others.
 *
 *      consumer.c          its life: step, the end, what callers use
 *      consumer_ask.c      questions and answers, and which node is asked
 *      consumer_deliver.c  from batches to records
 *      consumer_filter.c   which of them are asked for
 *
 * Invariants:
 *   I1  Delivered records are [first, next), those of them that match: each once, in order.
 *   I2  The queue holds frames for [next, ask); the next question is for `ask`.
 *   I3  Streaming: credit + queued + what is owed = credit_size, so never more than credit_size
 *       bytes and one frame are held.
 *   I4  Events are called by step(), and by the closing client, only.
 *   I5  A question's at_least covers everything that was seen before, on whatever node.
 */
#ifndef QUORLOG_CLIENT_CONSUMER_INTERNAL_H
#define QUORLOG_CLIENT_CONSUMER_INTERNAL_H

#include "client/channel.h"
#include "log/batch.h"
#include "quorlog.pb-c.h"
#include "record/batch_records.h"

#define NS_PER_MS UINT64_C(1000000)

enum consumer_state { CONSUMER_IDLE, CONSUMER_FETCHING, CONSUMER_STREAMING, CONSUMER_ENDED };

/* The body of one reply. */
struct chunk {
    struct chunk *prev;
    struct chunk *next;
    struct block *block; /* a reference */
    const uint8_t *at;   /* the next batch */
    size_t left;
    size_t size;
    uint64_t next_offset; /* where its batches must end */
};

struct consumer {
    struct channel_user user;
    struct call call;
    struct channel *channel; /* borrowed */
    struct consumer_options options;
    char topic[CHANNEL_TOPIC_SIZE_MAX + 1];
    struct consumer_events events;
    void *arg;
    enum consumer_state state;

    bool placed;    /* next and ask are known … */
    bool told;      /* … and so it was said */
    bool confirmed; /* a node has answered since the last failure */
    bool end_known;
    uint64_t topic_id; /* that the first answer was from; 0: not known */
    uint64_t next;
    uint64_t ask;
    uint64_t end;   /* not following: where to stop */
    uint64_t count; /* records delivered */
    uint64_t token; /* the newest raft index seen: of a batch, or applied by a node */

    bool leave;            /* for another node, before the next question */
    unsigned refusals;     /* nodes in a row that could not help, and would not later */
    uint64_t answer_by_ns; /* FETCHING: then the node is left; CHANNEL_NEVER: it is not */

    struct chunk *chunks;
    size_t queued;
    int64_t credit; /* bytes that the stream may still send; a frame may pass it */

    /* The batch that is being delivered. */
    bool in_batch;
    struct batch_header header;
    struct batch_records records;

    struct filter *filter; /* owned; NULL: all records */
    struct consumer_scan scan;

    bool paused;
    uint64_t deadline_ns; /* for a sign of progress; CHANNEL_NEVER: none is waited for */
    uint64_t retry_ns;
    unsigned failures;
    bool has_reason;
    struct err_info reason; /* of the last failed try */
    bool doomed;            /* ends with `failure` when the queue is empty */
    struct client_error failure;
    struct err_info failure_info; /* its text */

    bool delivering; /* inside an event */
    bool freed;      /* then */
};

/* ---- consumer.c ---- */

/* It ends with this when what is queued has been delivered. */
void consumer_doom(struct consumer *self, const struct client_error *error);
void consumer_doom_info(struct consumer *self, const struct err_info *info);

/* ---- consumer_ask.c ---- */

void consumer_init_call(struct consumer *self);
/* Asks for what comes next, if it is time to. */
void consumer_ask(struct consumer *self, uint64_t now_ns);
/* The same before what came is delivered, so that the node works meanwhile; not when what came may
 * be all that is wanted. */
void consumer_ask_ahead(struct consumer *self, uint64_t now_ns);
/* No answer is wanted any more. */
void consumer_stop_asking(struct consumer *self);
/* What came was no good: asks for `next` again, of another node, unless all in turn were no good.
 */
void consumer_refuse_node(struct consumer *self, const struct client_error *error);

/* ---- consumer_filter.c ---- */

/* A filter as a message, without memory of its own to be freed. */
struct filter_message {
    Quorlog__RecordFilter message;
    Quorlog__HeaderCondition headers[FILTER_CONDITIONS_MAX];
    Quorlog__HeaderCondition *header_list[FILTER_CONDITIONS_MAX];
    char names[FILTER_TEXT_MAX + FILTER_CONDITIONS_MAX]; /* the headers', each with its zero */
    ProtobufCBinaryData contains[FILTER_CONDITIONS_MAX];
};

/* All of it points into the filter and into itself: it is not to be moved. */
void filter_message_fill(struct filter_message *self, const struct filter *filter);

/* ---- consumer_deliver.c ---- */

void consumer_drop_chunk(struct consumer *self, struct chunk *chunk);
bool consumer_is_complete(const struct consumer *self);
/* Delivers until paused, freed, complete, out of records or out of time. */
void consumer_deliver(struct consumer *self, uint64_t now_ns);

#endif
