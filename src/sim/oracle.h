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
 *   S12 What retention deletes by age was sent at least so long ago, whatever clocks showed.
 *   S13 A topic's log starts at a batch's beginning that others have read, or at its end.
 *
 *   S14 What compaction put in place of batches stands for some of those that others read, whole:
 *       it has the last one's stamps and digest, and begins with the digest before the first one.
 *       A record that is there is what it was, at its offset. One that is missing lies below
 *       clean_to, as some node has applied it, and so does a later one of its key; or it is a
 *       tombstone below tombstones_below. Below that no tombstone is younger than the topic's
 *       tombstone_ms.
 *   S15 A copy without holes, that goes up to clean_to at least, shows of each key the record that
 * was written last, or nothing if that is a tombstone; and, of a member, nothing older than a
 * tombstone that is gone from any copy. (Copies are read whole after each rewriting, and at the
 * end.)
 *
 * Contents are known by a number of their own, the first 8 bytes of a batch's body; records with
 * keys by one each, their timestamp.
 */
#ifndef QUORLOG_SIM_ORACLE_H
#define QUORLOG_SIM_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raft_fsm/fsm.h"
#include "raft_fsm/message.h"
#include "record/record.h"

enum {
    SIM_NODES_MAX = 7, /* machines */
    SIM_TOPIC_NAMES = 4,
    SIM_KEYED_TOPIC = 3, /* that may be compacted */
    SIM_RECORDS_MAX = 5, /* of a batch */
    SIM_KEYS = 12,       /* of a topic that may be compacted */
    SIM_VALUE_SIZE_MAX = 2500,
    SIM_EXIT = 3,       /* of a process that found a violation … */
    SIM_EXIT_OTHER = 4, /* … but not the checker, which alone is to judge */
};

/* A batch that a client wants to have written. */
struct sim_content {
    uint64_t number;
    uint64_t topic_id;
    uint64_t producer_id;
    uint16_t epoch;
    uint32_t base_sequence;
    uint32_t record_count;
    bool has_expect;
    uint64_t expect_offset;
    bool fenced; /* a claim says that it is not written (S10) */
    bool acks_all;
    bool keyed; /* its records have keys: it may be compacted */
    unsigned keys[SIM_RECORDS_MAX];
    bool tombstones[SIM_RECORDS_MAX];
    uint32_t value_size; /* of those that are none */
    uint64_t value;      /* of the first record, in the history */
    struct slice batch;  /* owned reference; as produced; none when nobody will send it any more */
    uint32_t body_size;
    uint8_t body_digest[DIGEST_SIZE];
    unsigned possible; /* tries that may have been, or may be, written */
    bool seen;         /* in a log, at base_offset */
    bool answered;     /* with OK: answer */
    uint64_t base_offset;
    uint64_t raft_index;
    struct fsm_result answer;
    /* Its client's: */
    uint64_t invoke_us; /* 0: not sent yet */
    uint64_t sequence;
    uint64_t sent_ms; /* when it was made */
    unsigned open;    /* tries that may have been written, for all that it was told */
    bool concluded;   /* it is recorded what became of it */
};

/* A batch as it stands in the logs. */
struct sim_batch {
    uint64_t base_offset;
    uint32_t header_crc32c; /* covers the body's, and the chain of digests */
    uint32_t body_crc32c;
    uint64_t sent_ms; /* when its content was made */
    uint64_t raft_index;
    int64_t append_time_us;
    uint64_t digest;                   /* its first bytes */
    const struct sim_content *content; /* borrowed */
};

/* A record with a key, as it stands in a topic. */
struct sim_keyed {
    unsigned key;
    bool tombstone;
    bool gone;      /* a tombstone that some node dropped, and not for a later record */
    uint64_t later; /* where the next one of its key is; UINT64_MAX: there is none */
};

struct sim_topic {
    uint64_t id;
    unsigned name;             /* topic-0 … */
    struct sim_batch *batches; /* owned */
    size_t count;
    size_t capacity;
    uint64_t end;
    uint64_t start;      /* the highest that a node showed */
    bool blind;          /* Records went before anybody could read them: damaged where they were. */
    uint32_t *sequences; /* owned; by producer id: the next one */
    uint64_t sequence_count;
    uint64_t deleted_us; /* when somebody was told so first; 0: nobody was */
    /* Of a topic whose records have keys: */
    bool keyed;
    bool compacted;            /* Nodes were told to, once. */
    struct sim_keyed *records; /* owned; by offset */
    size_t record_capacity;
    uint64_t last[SIM_KEYS];  /* offset of each key's last one, and 1 */
    struct topic_clean clean; /* the most that a node has applied */
};

/* What was applied at an index. */
struct sim_applied {
    uint64_t term;     /* 0: not known */
    uint64_t entry;    /* fingerprint */
    uint64_t manifest; /* of the state after it; 0: not known */
};

struct sim_vote {
    uint64_t term;
    uint64_t candidate;
};

/* What a node has just answered. */
struct sim_fresh {
    struct sim_content *content;
    unsigned node;
};

struct sim_oracle {
    uint64_t seed;
    const uint64_t *now_ms;      /* borrowed */
    bool off;                    /* it only remembers what was sent */
    bool (*violated)(void *arg); /* before the process ends; whether the checker found something */
    /* A topic starts later than anybody has seen so far; may be NULL. */
    void (*trimmed)(void *arg, unsigned name, uint64_t topic_id, uint64_t start);
    /* A topic is to be compacted, as some node has applied it; may be NULL. */
    void (*compacted)(void *arg, unsigned name, uint64_t topic_id);
    void *arg;
    uint64_t values; /* that were given to records */

    struct sim_content **contents; /* owned; [number - 1] */
    size_t content_count;
    size_t content_capacity;
    struct sim_fresh *fresh; /* owned; answered as written, not yet looked for (S3) */
    size_t fresh_count;
    size_t fresh_capacity;
    uint64_t answered;

    struct sim_topic *topics; /* owned */
    size_t topic_count;
    unsigned deletes[SIM_TOPIC_NAMES]; /* tries that may have been done */

    struct sim_applied *applied; /* owned; by index */
    size_t applied_capacity;
    uint64_t applied_last;

    unsigned *leaders; /* owned; by term */
    size_t leader_capacity;
    uint64_t terms[SIM_NODES_MAX + 1]; /* that a node has spoken of */
    struct sim_vote votes[SIM_NODES_MAX + 1];
    unsigned *claims; /* owned; by producer id: tries to raise its epoch */
    size_t claim_capacity;
    uint64_t *producer_ids; /* owned; given out */
    size_t producer_count;
    uint64_t *revisions; /* owned; expected by changes that were made */
    size_t revision_count;
};

/* How far a node's log was compared. */
struct sim_seen_topic {
    size_t count;     /* batches */
    bool holes;       /* There were some then. */
    uint8_t *present; /* owned; of a topic whose records have keys: which are there */
    size_t present_capacity;
    uint64_t rewritten; /* bytes of the node's, when it was read from its start */
};

/* Of all topics. */
struct sim_seen {
    struct sim_seen_topic *topics; /* owned; by the oracle's topics */
    size_t count;
    uint64_t rewritten; /* In: bytes that compaction has read on this node. */
    bool apart;         /* In: it is no member any more, and keeps what the others dropped. */
    /* In: bits of its disk were turned, and reading may tell of damage, which is passed over. Out:
     * it did, there. */
    bool may_be_damaged;
    bool unread; /* a topic has records that nobody was shown yet, for there is a hole here */
    bool damaged;
    uint64_t damaged_topic;
    uint64_t damaged_offset;
};
/* What was seen is forgotten. */
void sim_seen_fini(struct sim_seen *self);

void sim_oracle_init(struct sim_oracle *self, uint64_t seed, const uint64_t *now_ms);
void sim_oracle_fini(struct sim_oracle *self);

/* Says what was violated, when and in which seed, and ends the process. */
_Noreturn void sim_violation(const struct sim_oracle *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A new content, owned by the oracle. */
struct sim_content *sim_oracle_content(struct sim_oracle *self, const struct sim_content *like,
                                       uint32_t body_size);

/* What a batch's body says it is, if that is what was sent; NULL otherwise. */
const struct sim_content *sim_oracle_find(const struct sim_oracle *self,
                                          const struct batch_header *header, const uint8_t *body);
/* The number in the history of a record with a key, if all its bytes follow from it; 0: nobody sent
 * that. */
uint64_t sim_oracle_value(const struct sim_oracle *self, const struct record *record);
/* Nobody sends it any more. */
void sim_oracle_release(struct sim_content *content);

/* The answer to a try of a content, where it is made. */
void sim_oracle_answer(struct sim_oracle *self, struct sim_content *content, unsigned node,
                       const struct fsm_result *result);
/* The try never reached a node, or was refused there. */
void sim_oracle_not_written(struct sim_oracle *self, struct sim_content *content);
/* A try to raise a producer's epoch is made; and what an answer to one says of a content. */
void sim_oracle_claim(struct sim_oracle *self, uint64_t producer_id);
void sim_oracle_fenced(struct sim_oracle *self, struct sim_content *content);
void sim_oracle_producer(struct sim_oracle *self, uint64_t producer_id);

/* A topic was deleted. */
void sim_oracle_deleted(struct sim_oracle *self, uint64_t topic_id, uint64_t now_us);

/* A change of a cursor was made. */
void sim_oracle_cursor(struct sim_oracle *self, const struct cursor_change *change);

/* A node's call is over: what it answered with OK stands in its logs, which were read, unless the
 * topic is deleted since. catalog NULL: the node died, and nobody can tell. */
void sim_oracle_answered(struct sim_oracle *self, unsigned node, struct catalog *catalog);

/* Reads what a node's logs have beyond `seen`. */
void sim_oracle_read(struct sim_oracle *self, unsigned node, struct catalog *catalog,
                     struct sim_seen *seen);

/* The machine of a slot is another node's from now on. */
void sim_oracle_new_node(struct sim_oracle *self, unsigned slot);

void sim_oracle_leads(struct sim_oracle *self, unsigned node, uint64_t term);
void sim_oracle_says(struct sim_oracle *self, unsigned node, const struct message *message);

void sim_oracle_entry(struct sim_oracle *self, unsigned node, const struct entry *entry);
void sim_oracle_state(struct sim_oracle *self, unsigned node, uint64_t index,
                      const struct fsm *fsm);

/* Everything that was ever seen is there, but in topics that somebody deleted. (No hole is left.)
 */
void sim_oracle_final(struct sim_oracle *self, unsigned node, struct catalog *catalog);

#endif
