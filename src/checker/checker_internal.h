/*
 * What the checker keeps of a history until it decides, topic by topic, and how the files that
 * decide tell what they find.
 *
 * checker.c (the object, verdicts) → intake.c (operations come in) → dumps.c, places.c (where
 * everything stands) → compaction.c (what may be missing), order.c, tokens.c, sequences.c, reads.c,
 * cursors.c, liveness.c (what follows from it).
 */
#ifndef QUORLOG_CHECKER_CHECKER_INTERNAL_H
#define QUORLOG_CHECKER_CHECKER_INTERNAL_H

#include <inttypes.h>
#include <stdbool.h>

#include "checker/array.h"
#include "checker/cells.h"
#include "checker/checker.h"
#include "checker/names.h"

#define NEVER UINT64_MAX   /* a time */
#define NOWHERE UINT64_MAX /* an offset */

enum { SUSPECTS_MAX = 1000 };

/* What every operation that is kept has, so that messages can name it. */
struct origin {
    uint64_t invoke_us;
    uint64_t return_us; /* NEVER */
    uint32_t line;
    uint32_t client;
};

struct produce {
    struct origin origin;
    uint64_t offset; /* as answered; of an UNKNOWN one, where it is, as places.c finds. NOWHERE */
    uint64_t token;
    uint64_t producer_id;
    uint64_t expect_offset; /* NOWHERE: none */
    uint32_t first;         /* of its values in the topic's */
    uint32_t count;
    uint32_t sequence;
    uint16_t epoch; /* as on the wire */
    uint8_t outcome;
    bool duplicate;
};

/* A READ or DELIVERY that was OK. */
struct reading {
    struct origin origin;
    uint64_t sequence;
    uint64_t offset;
    uint64_t log_end;
    uint64_t log_start;
    uint64_t at_least;
    uint64_t lag_or_stream; /* READ: lag_us. DELIVERY: stream */
    uint64_t count;         /* offsets that it stands for */
    uint8_t mode;
    bool delivery;
};

struct dump_piece {
    uint64_t offset;
    uint64_t log_start;
    uint64_t log_end;
    uint64_t at_us;
    uint64_t count; /* offsets that it stands for */
    uint32_t node;
    uint32_t line;
};

/* Offsets that a READ, DELIVERY or DUMP stands for and shows no record at. */
struct gap {
    uint64_t from;
    uint64_t to;
    uint64_t log_end; /* DUMP: of the copy. NOWHERE: a node that is behind may have been filled up
                         by others, which know of later records */
    uint64_t by_us;   /* when it was over */
    uint32_t node;    /* DUMP: whose; 0: of something that was read */
    uint32_t line;
};

/* An operation on a cursor, but for those that did nothing and told nothing. */
struct cursor_op {
    struct origin origin;
    uint64_t token;
    uint64_t at_least;
    uint64_t revision;
    uint64_t offset; /* SET: that it sets. Otherwise that it was told */
    uint64_t expect; /* a revision; NOWHERE: none */
    uint32_t cursor; /* number of its name in `cursors`, which counts all topics' */
    uint8_t verb;
    uint8_t outcome; /* FAIL: a conflict, which tells what the cursor was */
    uint8_t mode;
};

/* A value that was seen where in the end another stands, or none can. */
struct suspect {
    uint64_t offset;
    uint64_t value;
    uint32_t line;
};

struct trim {
    uint64_t at_us;
    uint64_t offset;
};

struct topic {
    const char *name; /* borrowed from the checker's names */
    struct cells cells;
    ARRAY(struct produce, produces);
    ARRAY(uint64_t, values); /* of all produces, in their order */
    /* Of each value: twice its key's number, and 1 for a tombstone; 0: no key. Empty as long as no
     * record has one. */
    ARRAY(uint64_t, keys);
    ARRAY(struct reading, readings);
    ARRAY(struct gap, gaps); /* by line */
    ARRAY(struct dump_piece, pieces);
    ARRAY(struct cursor_op, cursor_ops);
    ARRAY(struct suspect, suspects); /* at most SUSPECTS_MAX */
    ARRAY(struct trim, trims);

    uint64_t compact_asked_us; /* NEVER; of the first time that was not refused */
    uint64_t delete_asked_us;  /* NEVER; of the first delete that was not refused */
    uint64_t deleted_us;       /* NEVER; when the first one was acknowledged */
    uint32_t deleted_line;
    /* F, as dumps.c finds: [start, end) is in dumps. */
    bool dumped;
    uint64_t start;
    uint64_t end;
};

struct rule_state {
    uint64_t fact_count;
    uint64_t violation_count;
    ARRAY(char *, texts); /* owned */
};

struct checker {
    struct checker_options options; /* defaults filled in */
    struct rule_state rules[CHECKER_RULE_COUNT];
    struct checker_summary summary;
    struct names topic_names;
    struct names cursor_names;
    ARRAY(struct topic, topics); /* by the number of the name */
    ARRAY(uint32_t, dumped_nodes);
    uint64_t op_count;
    uint64_t first_us;
    uint64_t last_us;
    uint64_t healed_us; /* of the last HEALED; NEVER */
    uint32_t healed_line;
    ARRAY(struct origin, unanswered); /* bounded by what has no end */
    ARRAY(uint64_t, staleness);       /* of each local read */
    bool nomem;                       /* a text could not be made */
    bool finished;
};

/* ---- telling ---- */

void tell_facts(struct checker *self, enum checker_rule rule, uint64_t count);
/* Counts a violation and keeps its text, if it is one of the first. */
void tell(struct checker *self, enum checker_rule rule, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "line 12, client 3, 0.000100 to 0.000250 s" */
struct origin_text {
    char text[120];
};
struct origin_text origin_text(const struct origin *origin);
#define ORIGIN(origin) (origin_text(origin).text)

/* "1.234567 s" for a time. */
struct time_text {
    char text[32];
};
struct time_text time_text(uint64_t time_us);
#define TIME(time_us) (time_text(time_us).text)

static inline struct origin origin_of(const struct history_op *op, uint32_t line)
{
    return (struct origin){.invoke_us = op->invoke_us,
                           .return_us = op->return_us == 0 ? NEVER : op->return_us,
                           .line = line,
                           .client = op->client};
}

/* A produce stands in F: an acknowledged one always, if only by its own word. */
static inline bool produce_present(const struct produce *self)
{
    return self->outcome != HISTORY_FAIL && self->offset != NOWHERE;
}

/* Records of it may be missing. */
static inline bool topic_compacted(const struct topic *self)
{
    return self->compact_asked_us != NEVER;
}

static inline uint64_t produce_end(const struct produce *self)
{
    return self->offset + self->count; /* intake.c: doesn't overflow */
}

/* The end that a reading proves. */
static inline uint64_t reading_end(const struct reading *self)
{
    uint64_t end = self->offset + self->count;

    return self->count > 0 && end > self->log_end ? end : self->log_end;
}

/* ---- the rules; each decides for one topic. ERR_NOMEM ---- */

enum err dumps_decide(struct checker *self, struct topic *topic);
/* Where everything stands; sets the offset of UNKNOWN produces. After dumps_decide. */
enum err places_decide(struct checker *self, struct topic *topic);
/* The rest: after places_decide. */
enum err order_decide(struct checker *self, struct topic *topic);
enum err compaction_decide(struct checker *self, struct topic *topic);
enum err tokens_decide(struct checker *self, struct topic *topic);
enum err sequences_decide(struct checker *self, struct topic *topic);
enum err reads_decide(struct checker *self, struct topic *topic);
enum err cursors_decide(struct checker *self, struct topic *topic);

/* Over all topics. */
void dumps_decide_nodes(struct checker *self);
enum err cursors_decide_revisions(struct checker *self);
void liveness_decide(struct checker *self);
void reads_summarise(struct checker *self);

#endif
