/*
 * What producer.c and producer_send.c share: the object and the few functions that one part has for
 * the other. For nobody else.
 *
 * Invariants:
 *   I1  The list holds the unreported batches in order of `first`; numbered ones come first, and
 *       their sequences follow on one another.
 *   I2  At most `window` batches, from the oldest unreported one on, are numbered: the cluster
 *       remembers that many, so a repeated one is always recognised.
 *   I3  A call is pending iff its batch is SENT.
 *   I4  Reports are made by step(), producer_free() and the closing client only.
 */
#ifndef QUORLOG_CLIENT_PRODUCER_INTERNAL_H
#define QUORLOG_CLIENT_PRODUCER_INTERNAL_H

#include "base/buf.h"
#include "client/channel.h"
#include "client/client_request.h"
#include "record/codec.h"

#define NS_PER_MS UINT64_C(1000000)

enum { PRODUCER_CODES_MAX = 128 }; /* of enum err, by their numbers without the sign */

enum batch_state { BATCH_QUEUED, BATCH_SENT, BATCH_WRITTEN, BATCH_FAILED };

struct batch {
    struct batch *prev;
    struct batch *next;
    struct producer *producer;
    enum batch_state state;
    struct call call;
    struct block *body; /* as it is sent, once it is packed */
    bool packed;
    enum codec codec;  /* … so compressed */
    size_t plain_size; /* of its records */
    uint32_t body_crc32c;
    uint64_t first;
    uint32_t count;
    bool numbered; /* base_sequence is set */
    uint32_t base_sequence;
    bool maybe_written;  /* a try ended with an unknown outcome */
    bool sent_as_oldest; /* the present try was made when all earlier batches had been answered */
    uint64_t deadline_ns;
    uint64_t first_sent_ns; /* 0: never */
    uint64_t answered_ns;
    struct producer_report report; /* WRITTEN: the answer */
    struct client_error error;     /* text: NULL or owned */
};

struct producer {
    struct channel_user user;
    struct channel *channel; /* borrowed */
    struct producer_options options;
    char topic[CHANNEL_TOPIC_SIZE_MAX + 1];
    producer_report_cb cb;
    void *arg;

    struct buf building;    /* the records that no batch has yet */
    struct buf packed;      /* what was built, compressed: room that is used again */
    enum codec topic_codec; /* the topic's setting, as it was told last */
    uint32_t building_count;
    uint64_t building_ns; /* when the first of them came */
    bool flush;
    struct batch *batches; /* I1 */
    uint64_t next_first;   /* the number of the next record */
    uint64_t reported;     /* records that were reported */
    size_t buffered;       /* bytes that the batches take */

    struct client_request *init; /* under way */
    uint64_t id;                 /* 0: none (yet) */
    uint16_t epoch;
    unsigned window;
    uint32_t next_sequence;

    uint64_t retry_ns; /* nothing is sent before */
    unsigned failures;
    uint64_t retries[PRODUCER_CODES_MAX]; /* tries that failed, by code; 0: all other codes */
    bool has_reason;
    struct err_info reason; /* of the last failed try */

    bool renumber; /* a batch failed for good: see the head of this file */
    bool renew_id; /* … and its id is of no more use */
    bool failed;   /* a failure that ends it, see client.h: nothing more is taken */
    enum err failure;
    bool reporting;
    bool freed; /* while reporting */
};

static inline bool producer_is_idempotent(const struct producer *self)
{
    return !self->options.no_idempotence;
}

/* Not decided yet. */
static inline bool batch_is_open(const struct batch *batch)
{
    return batch->state == BATCH_QUEUED || batch->state == BATCH_SENT;
}

/* ---- producer.c ---- */

/* Makes a QUEUED batch of what was built. ERR_NOMEM: nothing changed. */
enum err producer_seal(struct producer *self);

/* Ends an open batch; what is said is kept until its turn to be reported. */
void producer_fail_batch(struct batch *batch, const struct client_error *error);
void producer_fail_batch_info(struct batch *batch, const struct err_info *info);

/* When the oldest record that has no answer is given up; CHANNEL_NEVER: there is none. */
uint64_t producer_oldest_deadline_ns(const struct producer *self);

/* A try failed so, and another one follows. */
void producer_count_retry(struct producer *self, enum err err);

/* A node has told the topic's setting. */
void producer_set_codec(struct producer *self, uint32_t compression);

/* Before its first try, when the topic's codec is known: the body is compressed, if that is wanted
 * and makes it smaller. ERR_NOMEM: nothing was changed. */
enum err producer_pack(struct batch *batch);

/* ---- producer_send.c ---- */

extern const struct call_events producer_call_events;

/* Sends all that may be sent now, and asks for a producer id where there is none. */
void producer_send_all(struct producer *self, uint64_t now_ns);

/* Numbers anew what comes after a batch that failed for good, when no try of it is under way. */
void producer_renumber(struct producer *self);

#endif
