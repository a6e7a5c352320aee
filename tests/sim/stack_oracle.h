/*
 * What clients and readers of a cluster may count on, whatever fails.
 *
 *   S1  What a reader saw at an offset of a topic, on any node, at any time, is what every reader
 *       sees there for ever. (Every node's logs are read as soon as they grow, and whole after
 *       every restart, when their holes are closed, and at the end. In a hole nothing is seen.)
 *   S2  Offsets are dense, from 0 on.
 *   S3  A batch that was answered with OK is at the offset that it was answered with, with its
 *       contents, where the answer came from, at once. All answers to it, duplicates', too, name
 *       the same place.
 *   S4  A batch stands in a topic at most once; and not at all when every try of it was answered
 *       "not written".
 *   S5  A producer's batches follow on one another in a topic, without a gap.
 *   S6  One leader in a term. A node's term never goes down, and it votes once in a term, however
 *       often it restarts.
 *   S7  What is applied at an index is the same on all nodes, and so is the state after it.
 *   S8  A producer id is given out once.
 *   S9  Of all changes of cursors that expect one revision, one at most is made.
 *   S10 After a producer's epoch was raised nothing of the older ones is written; what is not among
 *       the records that the answer tells is never written.
 *   S11 A batch that expects an offset stands there or nowhere.
 *
 * Contents are known by a number of their own, the first 8 bytes of a batch's body.
 */
#ifndef QUORLOG_TESTS_SIM_STACK_ORACLE_H
#define QUORLOG_TESTS_SIM_STACK_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raft_fsm/fsm.h"
#include "raft_fsm/message.h"

enum {
    STACK_NODES_MAX = 5,
    STACK_TOPIC_NAMES = 4,
    STACK_EXIT = 3, /* of a process that found a violation */
};

/* A batch that a client wants to have written. */
struct stack_content {
    uint64_t number;
    uint64_t topic_id;
    uint64_t producer_id;
    uint16_t epoch;
    uint32_t base_sequence;
    uint32_t record_count;
    bool has_expect;
    uint64_t expect_offset;
    bool fenced;        /* a claim says that it is not written (S10) */
    struct slice batch; /* owned reference; as produced */
    uint8_t body_digest[DIGEST_SIZE];
    unsigned possible; /* tries that may have been, or may be, written */
    bool seen;         /* in a log, at base_offset */
    bool answered;     /* with OK: answer */
    uint64_t base_offset;
    uint64_t raft_index;
    struct fsm_result answer;
};

/* A batch as it stands in the logs. */
struct stack_batch {
    uint64_t base_offset;
    uint32_t header_crc32c; /* covers the body's, and the chain of digests */
    uint32_t body_crc32c;
};

struct stack_topic {
    uint64_t id;
    unsigned name;               /* topic-0 … */
    struct stack_batch *batches; /* owned */
    size_t count;
    size_t capacity;
    uint64_t end;
    uint32_t *sequences; /* owned; by producer id: the next one */
    uint64_t sequence_count;
    bool gone; /* in the final state it is not */
};

/* What was applied at an index. */
struct stack_applied {
    uint64_t term;     /* 0: not known */
    uint64_t entry;    /* fingerprint */
    uint64_t manifest; /* of the state after it; 0: not known */
};

struct stack_vote {
    uint64_t term;
    uint64_t candidate;
};

struct stack_oracle {
    uint64_t seed;
    const uint64_t *now_ms; /* borrowed */

    struct stack_content **contents; /* owned; [number - 1] */
    size_t content_count;
    size_t content_capacity;
    struct stack_content **fresh; /* owned; answered with OK in the call under way */
    size_t fresh_count;
    size_t fresh_capacity;
    uint64_t answered;

    struct stack_topic *topics; /* owned */
    size_t topic_count;
    unsigned deletes[STACK_TOPIC_NAMES]; /* tries that may have been done */

    struct stack_applied *applied; /* owned; by index */
    size_t applied_capacity;
    uint64_t applied_last;

    unsigned *leaders; /* owned; by term */
    size_t leader_capacity;
    uint64_t terms[STACK_NODES_MAX + 1]; /* that a node has spoken of */
    struct stack_vote votes[STACK_NODES_MAX + 1];
    unsigned *claims; /* owned; by producer id: tries to raise its epoch */
    size_t claim_capacity;
    uint64_t *producer_ids; /* owned; given out */
    size_t producer_count;
    uint64_t *revisions; /* owned; expected by changes that were made */
    size_t revision_count;
};

/* How far a node's logs were compared: batches, by the oracle's topics; and whether there were
 * holes then. */
struct stack_seen {
    size_t *counts; /* owned */
    size_t count;
    bool *holes; /* owned */
    size_t hole_count;
};
void stack_seen_fini(struct stack_seen *self);

void stack_oracle_init(struct stack_oracle *self, uint64_t seed, const uint64_t *now_ms);
void stack_oracle_fini(struct stack_oracle *self);

/* Says what was violated, when and in which seed, and ends the process. */
_Noreturn void stack_violation(const struct stack_oracle *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A new content, owned by the oracle. */
struct stack_content *stack_oracle_content(struct stack_oracle *self,
                                           const struct stack_content *like, uint32_t body_size);

/* The answer to a try of a content, where it is made. */
void stack_oracle_answer(struct stack_oracle *self, struct stack_content *content, unsigned node,
                         const struct fsm_result *result);
/* The try never reached a node, or was refused there. */
void stack_oracle_not_written(struct stack_oracle *self, struct stack_content *content);
/* A try to raise a producer's epoch is made; and what an answer to one says of a content. */
void stack_oracle_claim(struct stack_oracle *self, uint64_t producer_id);
void stack_oracle_fenced(struct stack_oracle *self, struct stack_content *content);
void stack_oracle_producer(struct stack_oracle *self, uint64_t producer_id);

/* A change of a cursor was made. */
void stack_oracle_cursor(struct stack_oracle *self, const struct cursor_change *change);

/* A node's call is over: what it answered with OK stands in its logs, which were read, unless the
 * topic is deleted since. catalog NULL: the node died, and nobody can tell. */
void stack_oracle_answered(struct stack_oracle *self, unsigned node, struct catalog *catalog);

/* Reads what a node's logs have beyond `seen`. */
void stack_oracle_read(struct stack_oracle *self, unsigned node, struct catalog *catalog,
                       struct stack_seen *seen);

void stack_oracle_leads(struct stack_oracle *self, unsigned node, uint64_t term);
void stack_oracle_says(struct stack_oracle *self, unsigned node, const struct message *message);

void stack_oracle_entry(struct stack_oracle *self, unsigned node, const struct entry *entry);
void stack_oracle_state(struct stack_oracle *self, unsigned node, uint64_t index,
                        const struct fsm *fsm);

/* Everything that was ever seen is there, but in topics that somebody deleted. (No hole is left.)
 */
void stack_oracle_final(struct stack_oracle *self, unsigned node, struct catalog *catalog);

#endif
