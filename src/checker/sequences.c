/*
 * A producer's order: its batches stand in F by their sequences, epochs never go back, nothing is
 * missing in between and nothing comes twice. What stood there with an unknown outcome counts; what
 * was refused has not used up its sequence.
 *
 * Where records may be that nobody can know (below the log's start, in a topic that is gone or
 * compacted) a gap may be theirs: then only repetition and order are decided.
 */
#include "checker/checker_internal.h"

static int compare_produces(const void *left, const void *right, void *produces)
{
    const struct produce *a = (const struct produce *)produces + *(const uint32_t *)left;
    const struct produce *b = (const struct produce *)produces + *(const uint32_t *)right;

    if (a->producer_id != b->producer_id) {
        return a->producer_id < b->producer_id ? -1 : 1;
    }
    if (a->offset != b->offset) {
        return a->offset < b->offset ? -1 : 1;
    }
    return a->origin.line < b->origin.line ? -1 : a->origin.line > b->origin.line;
}

/* previous: the same producer's batch before this one; NULL: there is none. */
static void check_step(struct checker *self, const struct topic *topic,
                       const struct produce *previous, const struct produce *produce)
{
    uint32_t expected = previous == NULL ? 0 : previous->sequence + previous->count;
    uint64_t from = previous == NULL ? 0 : produce_end(previous);
    bool all_known = topic->dumped && from >= topic->start && !topic_compacted(topic);
    uint32_t ahead = produce->sequence - expected; /* mod 2^32, as sequences go */

    tell_facts(self, CHECKER_PRODUCER_ORDER, 1);
    if (previous != NULL && produce->epoch < previous->epoch) {
        tell(self, CHECKER_PRODUCER_ORDER,
             "topic %s, producer %" PRIu64 ": epoch %u (%s) writes at offset %" PRIu64
             " behind epoch %u (%s)",
             topic->name, produce->producer_id, produce->epoch, ORIGIN(&produce->origin),
             produce->offset, previous->epoch, ORIGIN(&previous->origin));
        return;
    }
    if (ahead == 0 || (!all_known && ahead < UINT32_MAX / 2)) {
        return;
    }
    tell(self, CHECKER_PRODUCER_ORDER,
         "topic %s, producer %" PRIu64 ": at offset %" PRIu64 " is sequence %" PRIu32
         " (%s), expected was %" PRIu32 "%s%s",
         topic->name, produce->producer_id, produce->offset, produce->sequence,
         ORIGIN(&produce->origin), expected, previous == NULL ? "" : " behind ",
         previous == NULL ? "" : ORIGIN(&previous->origin));
}

enum err sequences_decide(struct checker *self, struct topic *topic)
{
    uint32_t *order = malloc((topic->produces_count + 1) * sizeof *order);
    const struct produce *previous = NULL;
    size_t count = 0;

    if (order == NULL) {
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < topic->produces_count; i++) {
        if (topic->produces[i].producer_id != 0 && produce_present(&topic->produces[i])) {
            order[count++] = (uint32_t)i;
        }
    }
    if (count > 0) {
        qsort_r(order, count, sizeof *order, compare_produces, topic->produces);
    }
    for (size_t i = 0; i < count; i++) {
        const struct produce *produce = &topic->produces[order[i]];

        if (previous != NULL && previous->producer_id != produce->producer_id) {
            previous = NULL;
        }
        check_step(self, topic, previous, produce);
        previous = produce;
    }
    free(order);
    return ERR_OK;
}
