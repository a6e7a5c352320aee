/*
 * That something happens at all, and that enough is known about it.
 */
#include "checker/checker_internal.h"

/* From the last HEALED on: somebody asked to write, and somebody was acknowledged soon enough. */
static void check_progress(struct checker *self)
{
    uint64_t first_us = NEVER;
    bool asked = false;

    if (self->healed_us == NEVER) {
        return;
    }
    for (size_t i = 0; i < self->topics_count; i++) {
        const struct topic *topic = &self->topics[i];

        for (size_t k = 0; k < topic->produces_count; k++) {
            const struct produce *produce = &topic->produces[k];

            if (produce->origin.return_us < self->healed_us) {
                continue;
            }
            asked = true;
            if (produce->outcome == HISTORY_OK && produce->origin.return_us < first_us) {
                first_us = produce->origin.return_us;
            }
        }
    }
    if (!asked ||
        (first_us == NEVER && self->last_us - self->healed_us <= self->options.progress_max_us)) {
        return; /* There was nothing to do, or no time to do it. */
    }
    tell_facts(self, CHECKER_PROGRESS, 1);
    if (first_us == NEVER) {
        tell(self, CHECKER_PROGRESS,
             "all was healed at %s (line %" PRIu32 "), and nothing was acknowledged any more",
             TIME(self->healed_us), self->healed_line);
    } else if (first_us - self->healed_us > self->options.progress_max_us) {
        tell(self, CHECKER_PROGRESS,
             "all was healed at %s (line %" PRIu32
             "), and the next record was acknowledged at %s only",
             TIME(self->healed_us), self->healed_line, TIME(first_us));
    }
}

/* Operations that had no end when the history ended, though they had begun long before. */
static void check_answered(struct checker *self)
{
    for (size_t i = 0; i < self->unanswered_count; i++) {
        const struct origin *origin = &self->unanswered[i];

        if (self->last_us - origin->invoke_us > self->options.answer_max_us) {
            tell(self, CHECKER_ANSWERED, "%s was never answered; the history goes on to %s",
                 ORIGIN(origin), TIME(self->last_us));
        }
    }
    for (size_t kind = 0; kind < HISTORY_DUMP; kind++) {
        for (size_t outcome = 0; outcome <= HISTORY_UNKNOWN; outcome++) {
            tell_facts(self, CHECKER_ANSWERED, self->summary.counts[kind][outcome]);
        }
    }
}

/* Of all changes: reads whose answer is not known have done nothing. */
static void check_unknown_share(struct checker *self)
{
    const uint64_t *produces = self->summary.counts[HISTORY_PRODUCE];
    const uint64_t *cursors = self->summary.counts[HISTORY_CURSOR];
    uint64_t unknown = produces[HISTORY_UNKNOWN] + cursors[HISTORY_UNKNOWN];
    uint64_t all = produces[HISTORY_OK] + produces[HISTORY_FAIL] + cursors[HISTORY_OK] +
                   cursors[HISTORY_FAIL] + unknown;

    if (all == 0) {
        return;
    }
    tell_facts(self, CHECKER_UNKNOWN_SHARE, all);
    if (unknown * 100 > all * self->options.unknown_max_percent) {
        tell(self, CHECKER_UNKNOWN_SHARE,
             "the outcomes of %" PRIu64 " of %" PRIu64 " produces and operations on cursors are "
             "unknown, more than %u %%: such a history proves little",
             unknown, all, self->options.unknown_max_percent);
    }
}

void liveness_decide(struct checker *self)
{
    check_progress(self);
    check_answered(self);
    check_unknown_share(self);
}
