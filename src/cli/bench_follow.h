/*
 * The reading side of `bench end-to-end`: many followed streams, and when each record came on each.
 *
 * One thread cannot decode each record of thousands of streams. So on some streams, the sample, all
 * records are decoded; on the others batches are verified and counted, and only the first record of
 * each is looked at. It says which records the batch holds, for a writer's records stand in a batch
 * one after another, and when each of them was planned and acknowledged is known here. So all
 * deliveries are in the figures, with times that are exact to a sixteenth of a batch.
 *
 * Invariants:
 *   I1  placed <= streams; ended <= streams.
 *   I2  planned.total is the number of measured deliveries; acked.total is at most that.
 */
#ifndef QUORLOG_CLI_BENCH_FOLLOW_H
#define QUORLOG_CLI_BENCH_FOLLOW_H

#include "cli/bench_load.h"
#include "record/batch_records.h"

enum { FOLLOW_STREAMS_MAX = 4096, FOLLOW_CONNECTIONS_MAX = 1024 };

struct follow_options {
    const char *servers; /* borrowed, as the topic */
    const char *topic;
    uint64_t timeout_ms;
    uint64_t topics; /* stream i follows topic i % topics … */
    uint64_t streams;
    uint64_t connections; /* … on connection i % connections */
    uint64_t sample;
    uint64_t token; /* nodes that have applied it know all topics */
};

struct follow;

struct follow_stream {
    struct follow *follow;
    struct consumer *consumer; /* NULL: over */
    uint64_t topic;
    bool placed;
    uint64_t delivered; /* records of this run */
};

struct follow {
    struct follow_options options;
    const struct load *load; /* borrowed */
    char reversed[4096];     /* the servers, last one first */
    struct client *clients[FOLLOW_CONNECTIONS_MAX];
    struct follow_stream *streams; /* owned */
    struct batch_records walk;
    uint64_t placed;
    uint64_t ended;
    bool measuring;      /* what is delivered now counts for `deliveries` */
    uint64_t deliveries; /* while measuring */
    uint64_t delivered;  /* since the load began, on all streams */
    uint64_t looked_at;  /* records, decoded */
    uint64_t foreign;    /* records of others, or batches of them */
    uint64_t missing; /* set by follow_settle: acknowledged, and not delivered, over all streams */
    struct tally_codes errors; /* streams that have ended */
    char reason[512];          /* of the last one */
    struct histogram acked;    /* acknowledged → delivered; 0: delivered before that was known */
    struct histogram planned;  /* planned → delivered */
};

/* Begins all streams at the end of their topics. Either way follow_close is to be called. options
 * and load are borrowed until then. */
enum err follow_open(struct follow *self, const struct follow_options *options,
                     const struct load *load, struct err_info *info);

/* All streams stand at their place, and nothing has been missed. */
static inline bool follow_is_placed(const struct follow *self)
{
    return self->placed == self->options.streams;
}

/* All that was acknowledged was delivered to all streams that have not ended. */
bool follow_is_complete(const struct follow *self);

/* Nothing more is waited for: counts what is missing, with the time that it has been missing. */
void follow_settle(struct follow *self);

/* How many streams read from which server: calls `add` for each connection. */
void follow_servers(const struct follow *self,
                    void (*add)(void *arg, const char *server, uint64_t streams), void *arg);

void follow_close(struct follow *self);
void follow_fini(struct follow *self);

#endif
