/*
 * A recorded history of a cluster: what its clients asked and were told, what its nodes hold in the
 * end, what was done to them. One JSON object a line; docs/history.md has every field.
 *
 *   H1  All times are of one clock, in microseconds, and go up from a zero of the recorder's.
 *   H2  An operation stands in the history once, with what is known when it is over or when the
 *       recorder stops; lines may stand in any order.
 *   H3  A record is known by its value, a number > 0 that is given to one record only and from
 *       which the record's bytes follow. Whoever reads a record compares all its bytes; one whose
 *       bytes do not follow from any number has the value 0, which nobody ever writes.
 *   H4  A client is one thread of control: its operations follow on one another in `sequence`.
 *       Those of a pipelining producer overlap in time. A session is a client's that sees what it
 *       saw: its reads never go back. It ends when the client's number changes.
 */
#ifndef QUORLOG_CHECKER_HISTORY_H
#define QUORLOG_CHECKER_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

enum history_kind {
    HISTORY_PRODUCE,  /* a batch: all its tries, until the client gave up */
    HISTORY_READ,     /* a question with an answer */
    HISTORY_DELIVERY, /* what a followed stream handed out; invoke_us = when it was subscribed */
    HISTORY_CURSOR,   /* get, set, delete */
    HISTORY_DUMP,     /* what a node holds, when all is over; in pieces */
    HISTORY_EVENT,    /* what was done to the cluster */
};

enum history_outcome {
    HISTORY_OK,
    HISTORY_FAIL,    /* definitely not done */
    HISTORY_UNKNOWN, /* done once, or not; at any time from invoke_us on */
};

enum history_read_mode {
    HISTORY_READ_LOCAL,
    HISTORY_READ_TOKEN,        /* shows what `at_least` shows */
    HISTORY_READ_LINEARIZABLE, /* shows all that was acknowledged before it was asked */
    HISTORY_READ_MAX_LAG,      /* shows all that was acknowledged lag_us before it was asked */
};

enum history_cursor_verb { HISTORY_CURSOR_GET, HISTORY_CURSOR_SET, HISTORY_CURSOR_DELETE };

/* The events that rules depend on; others are for the reader. */
enum history_event {
    HISTORY_EVENT_OTHER,     /* text says which */
    HISTORY_EVENT_HEALED,    /* from here on nothing is broken */
    HISTORY_EVENT_SETTLED,   /* all load has ended; dumps come after this */
    HISTORY_EVENT_DELETED,   /* `topic` was asked to be deleted, with `outcome` */
    HISTORY_EVENT_TRIMMED,   /* of `topic`, what is below `offset` was asked to be deleted */
    HISTORY_EVENT_COMPACTED, /* `topic` was asked to keep the latest record of each key */
};

enum {
    HISTORY_VERSION = 1,
    HISTORY_VALUES_MAX = 65536,   /* of an operation */
    HISTORY_NAME_SIZE_MAX = 255,  /* bytes of a topic's or cursor's name */
    HISTORY_TEXT_SIZE_MAX = 4096, /* bytes of `text`, `error`; longer ones are cut */
    HISTORY_LINE_SIZE_MAX = 6 * 1024 * 1024,
};

struct history_op {
    enum history_kind kind;
    enum history_outcome outcome;
    uint32_t client;
    uint32_t node;      /* that was asked (the last one, of several); 0: not known */
    uint64_t sequence;  /* of the client's operations, from 1 */
    uint64_t invoke_us; /* of an event, a dump: when it was */
    uint64_t return_us; /* 0: never */
    const char *topic;  /* with what makes it unique, if the name is used again: "events#7" */
    const char *error;  /* NULL, or a name as LEADER_UNKNOWN: for the reader */

    /* PRODUCE, READ, DELIVERY, DUMP: records, dense from `offset` on. Of a PRODUCE that is not OK
     * offset means nothing. */
    uint64_t offset;
    const uint64_t *values;
    size_t value_count;
    uint64_t token; /* PRODUCE: of its entry. READ, DELIVERY: what the node had applied. CURSOR */

    /* PRODUCE: the records' keys, a number > 0 for each, 0: it has none; key_count is value_count,
     * or 0: none has one. Tombstones are those that have a key and no value: their places among the
     * values, ascending. */
    const uint64_t *keys;
    size_t key_count;
    const uint64_t *tombstones;
    size_t tombstone_count;

    /* READ, DELIVERY, DUMP of a topic that was compacted: the records' offsets, ascending from
     * `offset` on, where they are not dense; offset_count is value_count, or 0: they are. */
    const uint64_t *offsets;
    size_t offset_count;
    uint64_t next; /* one past the last offset that it stands for; 0: past its last record */

    /* PRODUCE. producer_id 0: none, so a client that tries again makes a new operation. */
    uint64_t producer_id;
    uint32_t epoch;
    uint32_t producer_sequence; /* of the first record */
    bool duplicate;             /* the answer says that an earlier try wrote it */
    bool has_expect;
    uint64_t expect_offset; /* it is there or nowhere */

    /* READ, DELIVERY, DUMP */
    enum history_read_mode mode;
    uint64_t at_least;  /* READ_TOKEN */
    uint64_t lag_us;    /* READ_MAX_LAG */
    uint64_t log_start; /* as answered */
    uint64_t log_end;   /* as answered: one past the last record */
    uint64_t stream;    /* DELIVERY: a subscription; its pieces follow on one another, gapless */

    /* CURSOR: `offset` and `revision` as answered (GET: revision 0, there is none); a SET or DELETE
     * may expect a revision (0: that there is none). */
    enum history_cursor_verb verb;
    const char *cursor;
    bool has_expect_revision;
    uint64_t expect_revision;
    uint64_t revision;
    uint64_t cursor_offset; /* SET: what is asked for. GET: what is told */

    /* EVENT */
    enum history_event event;
    const char *text;
};

/* One past the last offset that a READ, DELIVERY or DUMP stands for. */
uint64_t history_op_next(const struct history_op *op);

/* Writes the first line, which says what this is; source: who recorded what, for the reader; may be
 * NULL. */
void history_begin(FILE *file, const char *source);
/* Writes one line. At most HISTORY_VALUES_MAX values; names within their bounds. Ends with
 * ferror(file) set when that fails. Not for several threads at once. */
void history_write(FILE *file, const struct history_op *op);

/* Reads line by line; what an operation points to is borrowed until the next call. */
struct history_reader;
/* ERR_NOT_FOUND, ERR_IO, ERR_NOMEM; ERR_INVALID, ERR_VERSION: the first line says something else.
 */
enum err history_reader_open(const char *path, struct history_reader **ret_reader,
                             struct err_info *info); /* "-": standard input */
void history_reader_close(struct history_reader *self);
/* ERR_OK; ERR_NOT_FOUND: there is no more; ERR_INVALID: info has the line's number and what is
 * wrong in it; ERR_IO. */
enum err history_reader_next(struct history_reader *self, struct history_op *ret_op,
                             struct err_info *info);

#endif
