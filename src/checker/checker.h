/*
 * Decides whether a recorded history (checker/history.h) can be one of a log that keeps its
 * promises. It takes the operations one by one, in any order, and decides every rule in the end, in
 * O(n log n) time and about 100 bytes an operation and 40 a record.
 *
 * What makes that possible is that each record has a value of its own (H3): where it stands can be
 * looked up, so the one order of the appends is known and nothing must be searched for. What is
 * left of linearizability is that this order agrees with the real time (checker/order.c).
 *
 * F below is the final log of a topic: what the dumps hold, and for offsets that none of them has
 * (below its start, of a deleted topic) what anyone was shown.
 *
 *   K1  What is told is wrong with the cluster, or with the recorder: a history that a correct
 *       cluster and recorder make has no violation (no false alarm).
 *   K2  Times are compared strictly: what ends in the microsecond in which another thing begins is
 *       concurrent with it. In doubt nothing is told.
 *   K3  An unknown outcome is concurrent with all that comes later, until somebody is shown it.
 *
 * What it can't see: damage that no operation met; records below the log's start that nobody had
 * read; where a stream or a read was asked to begin; whether a refusal was right; a read with a
 * bound on its age that a node kept only by luck. docs/history.md has a table.
 */
#ifndef QUORLOG_CHECKER_CHECKER_H
#define QUORLOG_CHECKER_CHECKER_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "checker/history.h"

/* X(NAME, "name", "what holds"): the names are stable, for scripts. */
#define CHECKER_RULE_MAP(X)                                                                        \
    X(RECORDING, "recording", "the history doesn't contradict itself: the recorder is right")      \
    X(DUMPS, "dumps", "each node shows all topics in the end, and no deleted one")                 \
    X(DENSE, "dense", "a node's copy has each offset from its start to its end once")              \
    X(AGREEMENT, "agreement", "all nodes have the same record at each offset")                     \
    X(CONVERGED, "converged", "all nodes' copies begin and end at the same offsets")               \
    X(INVENTION, "invention", "each record that is seen was written by somebody")                  \
    X(UNIQUE, "unique", "no record stands at two offsets")                                         \
    X(DURABILITY, "durability", "an acknowledged record is where it was said to be")               \
    X(ABORTED, "aborted", "what was refused is nowhere and was never seen")                        \
    X(ATOMIC, "atomic", "a batch is there whole and in one piece, or not at all")                  \
    X(IMMUTABLE, "immutable", "what was seen at an offset, and how far the log went, stays so")    \
    X(REAL_TIME, "real-time", "what is written later stands behind what was there before")         \
    X(EXPECT, "expect", "a conditional append is at the offset that it expects, or nowhere")       \
    X(TOKENS, "tokens", "a later token belongs to later records")                                  \
    X(PRODUCER_ORDER, "producer-order", "a producer's records stand in its order, without a gap")  \
    X(EXACTLY_ONCE, "exactly-once", "a producer's retry writes nothing twice, and is told where")  \
    X(BOUNDS, "bounds", "a read gives records from within the log that it shows")                  \
    X(COMPACTION, "compaction", "a record is missing only if a later one of its key stands")       \
    X(VIEWS, "views", "each key has its latest value on all nodes, and a deleted one stays so")    \
    X(LOG_START, "log-start", "nothing is gone from a log's start unasked")                        \
    X(LINEARIZABLE, "linearizable", "a linearizable read shows all that was there before it")      \
    X(TOKEN_READ, "token-read", "a read with a token shows what the token stands for")             \
    X(MAX_LAG, "max-lag", "a read with a bound on its age shows all that is older")                \
    X(SESSION, "session", "a client's reads never go back behind what it has read")                \
    X(STREAM, "stream", "a stream gives one record after the other, each once")                    \
    X(CURSOR_REVISION, "cursor-revision", "no two changes of cursors have the same revision")      \
    X(CURSOR_SET, "cursor-set", "a compare-and-set changes just what it expects")                  \
    X(CURSOR_ORDER, "cursor-order", "changes of a cursor happen in the order of real time")        \
    X(CURSOR_READ, "cursor-read", "a cursor is shown as it was set, and no older than asked for")  \
    X(ANSWERED, "answered", "no operation waits for ever")                                         \
    X(PROGRESS, "progress", "a healed cluster takes records soon")                                 \
    X(UNKNOWN_SHARE, "unknown-share", "not too many outcomes are unknown: they prove nothing")

enum checker_rule {
#define CHECKER_RULE_ENUM(name, text, meaning) CHECKER_##name,
    CHECKER_RULE_MAP(CHECKER_RULE_ENUM)
#undef CHECKER_RULE_ENUM
        CHECKER_RULE_COUNT
};

const char *checker_rule_name(enum checker_rule rule);
const char *checker_rule_meaning(enum checker_rule rule);

/* Zero stands for the default. */
struct checker_options {
    unsigned unknown_max_percent; /* of changes; default 20; 100 allows all */
    uint64_t progress_max_us;     /* from HEALED to an acknowledged append; default 30 s */
    uint64_t answer_max_us;       /* after which an operation without end hangs; default 60 s */
    unsigned node_count;          /* that must show what they have; default: those that do */
    unsigned violations_kept_max; /* of each rule, with text; default 10 */
};

struct checker;

/* ERR_NOMEM. Options are copied; may be NULL. */
enum err checker_new(const struct checker_options *options, struct checker **ret_checker);
void checker_free(struct checker *self); /* NULL is fine */

/* Takes an operation; nothing of it is kept. They are counted from line 2 of a history on. In
 * messages that is where they stand. ERR_NOMEM, and ERR_LIMIT after 2^32 - 2 operations or 2^32 - 2
 * records in a topic: self can only be freed then. */
enum err checker_add(struct checker *self, const struct history_op *op);

/* Decides all rules; once. ERR_NOMEM. */
enum err checker_finish(struct checker *self);

/* ---- after checker_finish; all that is pointed to lives as long as self ---- */

struct checker_verdict {
    uint64_t fact_count; /* how often there was something to check; 0: the rule says nothing */
    uint64_t violation_count;
    const char *const *texts; /* of the first ones */
    size_t text_count;
};

/* All rules' violations. */
uint64_t checker_violation_count(const struct checker *self);
struct checker_verdict checker_verdict(const struct checker *self, enum checker_rule rule);

struct checker_summary {
    uint64_t counts[HISTORY_EVENT + 1][HISTORY_UNKNOWN + 1]; /* operations */
    uint64_t records_acknowledged;
    uint64_t records_seen; /* by reads and deliveries, each time */
    uint64_t records_held; /* different ones in dumps */
    uint64_t topic_count;
    unsigned node_count; /* that were dumped */
    uint64_t span_us;    /* from the first to the last time */
    /* Reads without any promise on their age: how long ago had been acknowledged, when they were
     * asked, what they don't show. */
    uint64_t local_read_count;
    uint64_t staleness_p50_us;
    uint64_t staleness_p99_us;
    uint64_t staleness_max_us;
};
const struct checker_summary *checker_summary(const struct checker *self);

#endif
