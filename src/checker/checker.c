#include "checker/checker.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "checker/checker_internal.h"

enum {
    UNKNOWN_MAX_PERCENT_DEFAULT = 20,
    VIOLATIONS_KEPT_DEFAULT = 10,
    TEXT_SIZE_MAX = 1024,
};

static const uint64_t progress_max_us_default = 30000000;
static const uint64_t answer_max_us_default = 60000000;

static const char *const rule_names[] = {
#define RULE_NAME(name, text, meaning) text,
    CHECKER_RULE_MAP(RULE_NAME)
#undef RULE_NAME
};

static const char *const rule_meanings[] = {
#define RULE_MEANING(name, text, meaning) meaning,
    CHECKER_RULE_MAP(RULE_MEANING)
#undef RULE_MEANING
};

const char *checker_rule_name(enum checker_rule rule)
{
    ASSERT(rule < CHECKER_RULE_COUNT);
    return rule_names[rule];
}

const char *checker_rule_meaning(enum checker_rule rule)
{
    ASSERT(rule < CHECKER_RULE_COUNT);
    return rule_meanings[rule];
}

enum err checker_new(const struct checker_options *options, struct checker **ret_checker)
{
    struct checker *self = calloc(1, sizeof *self);

    if (self == NULL) {
        return ERR_NOMEM;
    }
    if (options != NULL) {
        self->options = *options;
    }
    if (self->options.unknown_max_percent == 0) {
        self->options.unknown_max_percent = UNKNOWN_MAX_PERCENT_DEFAULT;
    }
    if (self->options.progress_max_us == 0) {
        self->options.progress_max_us = progress_max_us_default;
    }
    if (self->options.answer_max_us == 0) {
        self->options.answer_max_us = answer_max_us_default;
    }
    if (self->options.violations_kept_max == 0) {
        self->options.violations_kept_max = VIOLATIONS_KEPT_DEFAULT;
    }
    self->first_us = NEVER;
    self->healed_us = NEVER;
    *ret_checker = self;
    return ERR_OK;
}

static void topic_fini(struct topic *self)
{
    cells_fini(&self->cells);
    free(self->produces);
    free(self->values);
    free(self->keys);
    free(self->readings);
    free(self->gaps);
    free(self->pieces);
    free(self->cursor_ops);
    free(self->suspects);
    free(self->trims);
}

void checker_free(struct checker *self)
{
    if (self == NULL) {
        return;
    }
    for (size_t i = 0; i < self->topics_count; i++) {
        topic_fini(&self->topics[i]);
    }
    for (size_t i = 0; i < CHECKER_RULE_COUNT; i++) {
        for (size_t k = 0; k < self->rules[i].texts_count; k++) {
            free(self->rules[i].texts[k]);
        }
        free(self->rules[i].texts);
    }
    names_fini(&self->topic_names);
    names_fini(&self->cursor_names);
    free(self->topics);
    free(self->dumped_nodes);
    free(self->unanswered);
    free(self->staleness);
    free(self);
}

/* ---- deciding ---- */

static enum err decide_topic(struct checker *self, struct topic *topic)
{
    enum err (*const rules[])(struct checker *, struct topic *) = {
        dumps_decide,  places_decide,    compaction_decide, order_decide,
        tokens_decide, sequences_decide, reads_decide,      cursors_decide,
    };

    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        enum err err = rules[i](self, topic);

        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

enum err checker_finish(struct checker *self)
{
    enum err err = ERR_OK;

    ASSERT(!self->finished);
    self->finished = true;
    dumps_decide_nodes(self);
    for (size_t i = 0; i < self->topics_count && err == ERR_OK; i++) {
        err = decide_topic(self, &self->topics[i]);
    }
    if (err == ERR_OK) {
        err = cursors_decide_revisions(self);
    }
    reads_summarise(self);
    liveness_decide(self);
    self->summary.topic_count = self->topics_count;
    self->summary.node_count = (unsigned)self->dumped_nodes_count;
    self->summary.span_us = self->first_us == NEVER ? 0 : self->last_us - self->first_us;
    return err == ERR_OK && self->nomem ? ERR_NOMEM : err;
}

uint64_t checker_violation_count(const struct checker *self)
{
    uint64_t count = 0;

    ASSERT(self->finished);
    for (size_t i = 0; i < CHECKER_RULE_COUNT; i++) {
        count += self->rules[i].violation_count;
    }
    return count;
}

struct checker_verdict checker_verdict(const struct checker *self, enum checker_rule rule)
{
    const struct rule_state *state = &self->rules[rule];

    ASSERT(self->finished);
    ASSERT(rule < CHECKER_RULE_COUNT);
    return (struct checker_verdict){.fact_count = state->fact_count,
                                    .violation_count = state->violation_count,
                                    .texts = (const char *const *)state->texts,
                                    .text_count = state->texts_count};
}

const struct checker_summary *checker_summary(const struct checker *self)
{
    ASSERT(self->finished);
    return &self->summary;
}

/* ---- telling ---- */

void tell_facts(struct checker *self, enum checker_rule rule, uint64_t count)
{
    ASSERT(rule < CHECKER_RULE_COUNT);
    self->rules[rule].fact_count += count;
}

void tell(struct checker *self, enum checker_rule rule, const char *format, ...)
{
    struct rule_state *state = &self->rules[rule];
    char text[TEXT_SIZE_MAX];
    va_list arguments;
    char *copy;

    ASSERT(rule < CHECKER_RULE_COUNT);
    state->violation_count++;
    if (state->texts_count >= self->options.violations_kept_max) {
        return;
    }
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments); /* Cut: still a sentence's beginning. */
    va_end(arguments);
    copy = strdup(text);
    if (copy == NULL || ARRAY_RESERVE(state, texts, 1) != ERR_OK) {
        free(copy);
        self->nomem = true; /* checker_finish says so. */
        return;
    }
    state->texts[state->texts_count++] = copy;
}

struct time_text time_text(uint64_t time_us)
{
    struct time_text self;

    (void)snprintf(self.text, sizeof self.text, "%" PRIu64 ".%06u s", time_us / 1000000,
                   (unsigned)(time_us % 1000000)); /* fits */
    return self;
}

struct origin_text origin_text(const struct origin *origin)
{
    struct origin_text self;
    char end[40];

    if (origin->return_us == NEVER) {
        (void)snprintf(end, sizeof end, "never ended");
    } else {
        (void)snprintf(end, sizeof end, "to %s", TIME(origin->return_us));
    }
    (void)snprintf(self.text, sizeof self.text, "line %" PRIu32 ", client %" PRIu32 ", %s %s",
                   origin->line, origin->client, TIME(origin->invoke_us), end); /* fits */
    return self;
}
