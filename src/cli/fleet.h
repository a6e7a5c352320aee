/*
 * All nodes of a cluster at once: a client for each, on one loop, each talking to its own node
 * only. For commands that compare nodes, or choose one.
 */
#ifndef QUORLOG_CLI_FLEET_H
#define QUORLOG_CLI_FLEET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "cli/options.h"
#include "client/client.h"

enum { FLEET_MAX = 16 };

struct fleet;

/* A question to one node, and its answer. */
struct ask {
    struct fleet *fleet;
    bool done;
    enum err err; /* OK: header and body hold the answer */
    char text[512];
    uint64_t log_start; /* with ERR_RANGE, as log_end */
    uint64_t log_end;
    uint8_t *header; /* owned: a packed message */
    size_t header_size;
    uint8_t *body; /* owned */
    size_t body_size;
};

struct fleet_node {
    uint64_t id;
    char address[300];
    char state[32]; /* as cluster status says */
    uint64_t holes;
    uint64_t applied;
    bool lost; /* It did not answer, and is not asked again. */
    char why[512];
    struct client *client;
};

struct fleet {
    uv_loop_t loop;
    struct fleet_node nodes[FLEET_MAX];
    unsigned count;
    uint64_t leader_id; /* 0: none known */
    unsigned unanswered;
};

/* Asks the cluster for its nodes and opens a client for each that holds data. On failure says why
 * on stderr and returns the exit code. */
int fleet_open(const struct invocation *invocation, struct fleet *ret_fleet);
void fleet_close(struct fleet *self);

/* Asks node `at`; fleet_wait gets the answer. The question is borrowed until then. */
void fleet_ask(struct fleet *self, unsigned at, const struct client_question *question,
               struct ask *ret_ask);

/* Until all asked questions are answered. A node that did not answer is lost. */
void fleet_wait(struct fleet *self);

/* Notes that the node cannot be asked when that is what the answer means; true then. */
bool fleet_is_lost(struct fleet *self, unsigned at, const struct ask *ask);

/* Frees the answer and leaves it empty. */
void ask_fini(struct ask *ask);

#endif
