/*
 * A scripted cluster for the client's tests: the far side of the protocol, in memory, on the test's
 * own loop.
 *
 * A fake_cluster keeps topics (batches as they would be stored) and decides about producers as the
 * real state machine does: duplicates, gaps, fenced or unknown ids. Its fake_nodes listen on real
 * sockets, answer as a node would, and depart from that where a script tells them to.
 *
 * Everything fails the running test when the client breaks the protocol.
 */
#ifndef QUORLOG_TESTS_CLIENT_FAKE_NODE_H
#define QUORLOG_TESTS_CLIENT_FAKE_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"

/* What a node does with one request instead of answering it. */
enum fake_action {
    FAKE_ANSWER,      /* as if there were no script: to let some pass */
    FAKE_ERROR,       /* an Error with `err`; nothing is applied */
    FAKE_APPLY_ERROR, /* applied, and an Error with `err` */
    FAKE_HOLD,        /* nothing, until fake_node_release */
    FAKE_APPLY_HOLD,  /* applied, the answer waits for fake_node_release */
    FAKE_DROP,        /* the connection ends; nothing is applied */
    FAKE_APPLY_DROP,  /* applied, then the connection ends without an answer */
    FAKE_GARBAGE,     /* a reply whose header is no protobuf message */
    FAKE_WRONG_TYPE,  /* a HelloReply for an answer */
    FAKE_WRONG_ID,    /* an answer to a request that nobody made */
    FAKE_DAMAGE,      /* CONSUME only: the last byte of the body is flipped */
    FAKE_END_STREAM,  /* CONSUME_STREAM only: STREAM_END at once */
};

struct fake_rule {
    uint16_t type; /* of the request */
    enum fake_action action;
    enum err err;
    unsigned times; /* 0: once */
    bool unknown;   /* FAKE_ERROR: outcome_unknown; FAKE_APPLY_ERROR always sets it */
};

struct fake_batch {
    uint8_t *bytes; /* owned; stamped */
    uint32_t size;
    uint64_t base_offset;
    uint32_t record_count;
    uint64_t producer_id;
    uint32_t base_sequence;
    uint32_t body_crc32c;
};

struct fake_topic {
    char name[201];
    uint64_t id;
    uint64_t start; /* offsets below were trimmed */
    uint64_t end;
    struct fake_batch *batches; /* owned */
    size_t batch_count;
};

/* The one cursor that there is room for. */
struct fake_cursor {
    char name[201]; /* "": none */
    uint64_t offset;
    uint64_t revision; /* 0: none */
    uint64_t owner;
    unsigned sets; /* that were made */
};

struct fake_cluster {
    uv_loop_t *loop;
    struct fake_topic topics[8];
    unsigned topic_count;
    uint64_t next_producer_id;
    uint64_t raft_index;
    unsigned produces;    /* PRODUCE requests that were decided, duplicates and refusals included */
    unsigned inits;       /* producer ids given out, epochs raised */
    bool unconfirmed;     /* two of three voters have what is written, and the third never will */
    uint16_t epoch;       /* of every producer id */
    unsigned compression; /* what topics' settings say */
    struct fake_cursor cursor;
    struct fake_node *nodes[4];
    unsigned node_count;
};

struct fake_node;

void fake_cluster_init(struct fake_cluster *self, uv_loop_t *loop);
/* Closes all nodes, runs the loop until they are closed. */
void fake_cluster_fini(struct fake_cluster *self);

struct fake_topic *fake_cluster_topic(struct fake_cluster *self, const char *name);
struct fake_topic *fake_cluster_add_topic(struct fake_cluster *self, const char *name);
/* Appends a batch with these values, "v<offset>" each, as from no producer. */
void fake_topic_append(struct fake_cluster *self, struct fake_topic *topic, unsigned count);
/* The same with attributes (log/batch.h): compressed, or sparse, with the odd offsets alone. */
void fake_topic_append_as(struct fake_cluster *self, struct fake_topic *topic, unsigned count,
                          uint16_t attributes);
/* The value of the record at an offset; fails the test if there is none. Returned text is valid
 * until the next call. */
const char *fake_topic_value(const struct fake_topic *topic, uint64_t offset);

/* A node that listens on a port of 127.0.0.1; its address is in fake_node_address. */
struct fake_node *fake_node_new(struct fake_cluster *cluster);
const char *fake_node_address(const struct fake_node *self);
void fake_node_script(struct fake_node *self, const struct fake_rule *rule);
/* Rules that were not used up. */
unsigned fake_node_rules_left(const struct fake_node *self);
/* Answers what is held, the newest first. */
void fake_node_release(struct fake_node *self);
unsigned fake_node_held(const struct fake_node *self);
/* Ends all connections. */
void fake_node_hang_up(struct fake_node *self);
/* Requests of this type that came. */
unsigned fake_node_seen(const struct fake_node *self, uint16_t type);
unsigned fake_node_accepted(const struct fake_node *self);

struct fake_node_settings {
    bool leaderless;      /* NO_LEADER to all that takes a leader */
    enum err hello_error; /* refuses the hello */
    unsigned version;     /* 0: 1 */
    const char *cluster_id;
    unsigned batch_size_max;
    bool speaks_no_frames;  /* sends bytes that are none when it accepts */
    bool mute;              /* reads and answers nothing but the hello, not even pings */
    bool still;             /* accepts connections, and answers nothing at all */
    uint64_t visible_end;   /* shows records below it only; 0: all */
    unsigned batches_max;   /* in an answer; 0: by size */
    unsigned passes_over;   /* so many batches, as if nothing in them matched; then all come */
    bool leads;             /* its hello says so; else it says nothing of a leader */
    uint64_t applied_index; /* in answers to CONSUME */
};
struct fake_node_settings *fake_node_settings(struct fake_node *self);

/* What the last TOPIC_ALTER asked for, packed; and the settings of the last TOPIC_CREATE that had
 * some. */
struct fake_settings {
    uint8_t bytes[512];
    size_t size;
};
const struct fake_settings *fake_node_alteration(const struct fake_node *self);
const struct fake_settings *fake_node_created_with(const struct fake_node *self);

/* What the last CONSUME or CONSUME_STREAM asked for. */
struct fake_asked {
    uint64_t at_least;
    bool linearizable;
    uint32_t max_lag_ms;
    uint32_t deadline_ms;
    bool filtered;
    unsigned conditions; /* of the filter */
    int64_t since_us;
};
const struct fake_asked *fake_node_asked(const struct fake_node *self);

/* Bytes of bodies that were sent on streams. */
uint64_t fake_node_streamed(const struct fake_node *self);

/* Runs the loop until *done, or fails the test after five seconds. */
void loop_run_until(uv_loop_t *loop, const bool *done);
/* The same with a condition. */
void loop_run_until_true(uv_loop_t *loop, bool (*condition)(void *arg), void *arg);
/* Runs the loop for some turns, to let happen what should not. */
void loop_run_for(uv_loop_t *loop, unsigned ms);

#endif
