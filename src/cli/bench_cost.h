/*
 * What the nodes spent on a load: the difference of their status before and after, over the records
 * that were acknowledged between the two answers.
 */
#ifndef QUORLOG_CLI_BENCH_COST_H
#define QUORLOG_CLI_BENCH_COST_H

#include "client/client.h"

enum { COST_NODES_MAX = 16 };

struct cost_node {
    uint64_t id;
    char address[CLIENT_ADDRESS_SIZE_MAX + 1];
    char state[16]; /* leader, follower … unreachable */
    uint64_t cpu_us;
    uint64_t memory;         /* resident bytes */
    uint64_t journal_writes; /* durable writes since start */
};

/* One answer. */
struct cost {
    bool done;
    enum err err;   /* ERR_OK: the rest is known */
    char text[512]; /* else: why it is not */
    struct cost_node nodes[COST_NODES_MAX];
    size_t count;
    uint64_t leader_id;
    const uint64_t *counter; /* borrowed: records that were acknowledged … */
    uint64_t acknowledged;   /* … when the answer came */
};

/* Asks; self->done is set by the loop, when the answer is there or never comes. counter is borrowed
 * until then, and so is self. */
void cost_ask(struct cost *self, struct client *client, const uint64_t *counter);

/* Both are known, and records were acknowledged between them. */
bool cost_is_known(const struct cost *before, const struct cost *after);

/* CPU seconds of after->nodes[at] for a million records; 0: not known. */
double cost_cpu_per_million(const struct cost *before, const struct cost *after, size_t at);

/* Records for each durable write of the leader; 0: not known, or another one leads now. */
double cost_records_per_write(const struct cost *before, const struct cost *after);

#endif
