/*
 * consume --key, --header, --grep, --since, --until, --latest: which records are wanted, and what
 * it took to find them.
 */
#ifndef QUORLOG_CLI_CONSUME_FILTER_H
#define QUORLOG_CLI_CONSUME_FILTER_H

#include <stdbool.h>

#include "base/buf.h"
#include "cli/options.h"
#include "client/client.h"

#define CONSUME_FILTER_OPTIONS                                                                     \
    {"key", 'k', "KEY", false, "only records with this key"},                                      \
        {"latest", 0, NULL, false, "with --key: only the last one"},                               \
        {"header", 'H', "NAME[=VALUE]", true, "only records with this header; may be repeated"},   \
        {"grep", 'g', "TEXT", true, "only records whose value has TEXT in it; may be repeated"},   \
        {"since", 0, "TIME", false, "only records appended at TIME or later"},                     \
    {                                                                                              \
        "until", 0, "TIME", false, "only records appended before TIME"                             \
    }

struct consume_filter {
    struct filter filter;
    bool given;
    bool json;
    struct buf latest; /* the last match, as a RecordSet of one; empty: none yet */
};

/* Reads the options into self, and puts the filter, which stays self's, into consumer_options.
 * Returns an exit code. */
int consume_filter_parse(struct consume_filter *self, const struct invocation *invocation,
                         struct consumer_options *consumer_options);

/* Whether records are kept, and the last one is printed at the end. */
static inline bool consume_filter_wants_latest(const struct consume_filter *self)
{
    return self->filter.latest;
}

/* Keeps the record in place of the one before. ERR_NOMEM, ERR_TOO_LARGE. */
enum err consume_filter_keep(struct consume_filter *self, const struct record *record);

/* Gives the kept record, if there is one. */
void consume_filter_give(struct consume_filter *self,
                         void (*give)(void *arg, const struct record *record), void *arg);

/* Tells on stderr what the nodes did. */
void consume_filter_report(const struct consume_filter *self, const struct consumer *consumer);

void consume_filter_fini(struct consume_filter *self);

#endif
