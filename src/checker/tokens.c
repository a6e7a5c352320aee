/*
 * Tokens: a produce's stands for its records and everything before them, so tokens and offsets go
 * up together, and a read that asks for one shows at least the ends of all up to it.
 *
 * Only acknowledged produces have told a token; what an UNKNOWN one wrote is demanded by no token
 * but through those behind it.
 */
#include "checker/checker_internal.h"

struct token_end {
    uint64_t token;
    uint64_t offset;
    uint64_t end; /* in the end: the largest one of all up to this */
    const struct origin *by;
};

static int compare_tokens(const void *left, const void *right)
{
    const struct token_end *a = left;
    const struct token_end *b = right;

    if (a->token != b->token) {
        return a->token < b->token ? -1 : 1;
    }
    return a->offset < b->offset ? -1 : a->offset > b->offset;
}

static size_t collect(const struct topic *topic, struct token_end *ends)
{
    size_t count = 0;

    for (size_t i = 0; i < topic->produces_count; i++) {
        const struct produce *produce = &topic->produces[i];

        if (produce->outcome == HISTORY_OK && produce->token != 0) {
            ends[count++] = (struct token_end){.token = produce->token,
                                               .offset = produce->offset,
                                               .end = produce_end(produce),
                                               .by = &produce->origin};
        }
    }
    return count;
}

static void check_order(struct checker *self, const struct topic *topic, struct token_end *ends,
                        size_t count)
{
    for (size_t i = 1; i < count; i++) {
        tell_facts(self, CHECKER_TOKENS, 1);
        if (ends[i].offset < ends[i - 1].end) {
            tell(self, CHECKER_TOKENS,
                 "topic %s: token %" PRIu64 " stands for offset %" PRIu64 " (%s), token %" PRIu64
                 " for all up to %" PRIu64 " (%s)",
                 topic->name, ends[i].token, ends[i].offset, ORIGIN(ends[i].by), ends[i - 1].token,
                 ends[i - 1].end, ORIGIN(ends[i - 1].by));
        }
        if (ends[i].end < ends[i - 1].end) {
            ends[i].end = ends[i - 1].end;
            ends[i].by = ends[i - 1].by;
        }
    }
}

static void check_reading(struct checker *self, const struct topic *topic,
                          const struct reading *reading, const struct token_end *ends, size_t count)
{
    size_t low = 0;
    size_t high = count;

    while (low < high) { /* The first one behind what is asked for. */
        size_t middle = low + (high - low) / 2;

        if (ends[middle].token <= reading->at_least) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    tell_facts(self, CHECKER_TOKEN_READ, 1);
    if (low > 0 && reading->log_end < ends[low - 1].end) {
        tell(self, CHECKER_TOKEN_READ,
             "topic %s: the read of %s asks for token %" PRIu64 " and shows an end of %" PRIu64
             ", though tokens up to that stand for all up to %" PRIu64 " (%s)",
             topic->name, ORIGIN(&reading->origin), reading->at_least, reading->log_end,
             ends[low - 1].end, ORIGIN(ends[low - 1].by));
    }
}

enum err tokens_decide(struct checker *self, struct topic *topic)
{
    struct token_end *ends = malloc((topic->produces_count + 1) * sizeof *ends);
    size_t count;

    if (ends == NULL) {
        return ERR_NOMEM;
    }
    count = collect(topic, ends);
    qsort(ends, count, sizeof *ends, compare_tokens);
    check_order(self, topic, ends, count);
    for (size_t i = 0; i < topic->readings_count; i++) {
        if (topic->readings[i].at_least != 0) {
            check_reading(self, topic, &topic->readings[i], ends, count);
        }
    }
    free(ends);
    return ERR_OK;
}
