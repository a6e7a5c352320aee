/*
 * consume --cursor and --share: where the reading begins, commits behind the output, and an orderly
 * end at SIGINT and SIGTERM.
 */
#ifndef QUORLOG_CLI_CONSUME_CURSOR_H
#define QUORLOG_CLI_CONSUME_CURSOR_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "cli/options.h"
#include "client/cursor.h"

#define CONSUME_CURSOR_OPTIONS                                                                     \
    {"cursor", 'c', "CURSOR", false, "go on where this cursor stands, and move it along"},         \
        {"commit-records", 0, "N", false, "move the cursor after so many records; default 1000"},  \
        {"commit-interval", 0, "MS", false, "and after so long; default 1000"},                    \
    {                                                                                              \
        "share", 0, "I/N", false, "only the I-th of N parts of the records, by their keys"         \
    }

struct consume_cursor {
    struct committer *committer; /* NULL: there is no cursor, or it is over */
    struct client *client;       /* borrowed */
    const char *topic;
    char name[256]; /* "": none was asked for */
    uint64_t records_max;
    uint64_t interval_ms;
    bool waited_for; /* the next event of the committer came */
    bool exists;
    uint64_t offset;
    uint64_t token;
    bool *stop; /* set when the reading is to end */
    int code;   /* what went wrong */
    bool watching;
    uv_signal_t signals[2];
};

/* Reads the options, and puts the share into consumer_options. Returns an exit code. */
int consume_cursor_parse(struct consume_cursor *self, const struct invocation *invocation,
                         struct consumer_options *consumer_options);

/* Takes the cursor over, if there is to be one, and makes the reading begin there. *stop becomes
 * true when the reading is to end. Returns an exit code. */
int consume_cursor_open(struct consume_cursor *self, struct client *client, bool *stop,
                        struct consumer_options *consumer_options);

/* All records below offset have been printed, and what was printed is written. */
void consume_cursor_advance(struct consume_cursor *self, uint64_t offset);

/* Commits the rest. `code` is what the reading came to; returns the exit code of all. */
int consume_cursor_close(struct consume_cursor *self, int code);

#endif
