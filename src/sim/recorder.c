#include "sim/recorder.h"

#include <stdlib.h>

#include "base/assert.h"

enum { TOLD_MAX = 3 /* violations of a rule */ };

/* No bound: disasters can make most outcomes unknown, and one of a change by a topic's name is
 * recorded for each topic that it may have met. That enough is known is seen to by progress after
 * each healing. */
enum { UNKNOWN_MAX_PERCENT = 100 };

static void must(enum err err)
{
    if (err != ERR_OK) {
        (void)fprintf(stderr, "quorlog: sim: the history cannot be judged: %s\n", err_text(err));
        exit(1);
    }
}

void sim_recorder_init(struct sim_recorder *self, const uint64_t *now_ms, const char *path,
                       uint64_t seed)
{
    const struct checker_options options = {.unknown_max_percent = UNKNOWN_MAX_PERCENT};
    char source[64];

    *self = (struct sim_recorder){.now_ms = now_ms};
    if (path != NULL) {
        self->file = fopen(path, "we");
        if (self->file == NULL) {
            perror(path);
            exit(1);
        }
        (void)snprintf(source, sizeof source, "quorlog sim --seed %llu", (unsigned long long)seed);
        history_begin(self->file, source);
    }
    must(checker_new(&options, &self->checker));
}

void sim_recorder_fini(struct sim_recorder *self)
{
    if (self->file != NULL && (fflush(self->file) != 0 || ferror(self->file) != 0)) {
        perror("quorlog: sim: the history cannot be written");
        exit(1);
    }
    if (self->file != NULL) {
        (void)fclose(self->file); /* It is flushed. */
    }
    checker_free(self->checker);
}

uint64_t sim_recorder_us(struct sim_recorder *self)
{
    uint64_t now_us = *self->now_ms * 1000;

    self->last_us = now_us > self->last_us ? now_us : self->last_us + 1;
    return self->last_us;
}

uint32_t sim_recorder_client(struct sim_recorder *self)
{
    return ++self->clients;
}

void sim_topic_text(unsigned name, uint64_t id, char ret_text[SIM_TOPIC_SIZE_MAX])
{
    (void)snprintf(ret_text, SIM_TOPIC_SIZE_MAX, "topic-%u#%llu", name, (unsigned long long)id);
}

void sim_recorder_add(struct sim_recorder *self, const struct history_op *op)
{
    ASSERT(op->return_us == 0 || op->return_us >= op->invoke_us);
    self->counts[op->kind][op->outcome]++;
    if (self->file != NULL) {
        history_write(self->file, op);
    }
    must(checker_add(self->checker, op));
}

void sim_recorder_event(struct sim_recorder *self, enum history_event event, const char *text)
{
    struct history_op op = {.kind = HISTORY_EVENT, .event = event, .text = text};

    op.invoke_us = sim_recorder_us(self);
    sim_recorder_add(self, &op);
}

static bool needs_end(enum checker_rule rule)
{
    return rule == CHECKER_DUMPS || rule == CHECKER_CONVERGED || rule == CHECKER_PROGRESS ||
           rule == CHECKER_ANSWERED || rule == CHECKER_UNKNOWN_SHARE;
}

uint64_t sim_recorder_judge(struct sim_recorder *self, bool whole)
{
    uint64_t rules = 0;

    must(checker_finish(self->checker));
    for (unsigned i = 0; i < CHECKER_RULE_COUNT; i++) {
        struct checker_verdict verdict = checker_verdict(self->checker, (enum checker_rule)i);

        if (verdict.violation_count == 0 || (!whole && needs_end((enum checker_rule)i))) {
            continue;
        }
        rules |= UINT64_C(1) << i;
        (void)fprintf(stderr, "  checker: %s: %llu\n", checker_rule_name((enum checker_rule)i),
                      (unsigned long long)verdict.violation_count);
        for (size_t k = 0; k < verdict.text_count && k < TOLD_MAX; k++) {
            (void)fprintf(stderr, "    %s\n", verdict.texts[k]);
        }
    }
    return rules;
}
