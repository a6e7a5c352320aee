/*
 * The copies of the nodes when all is over: whole, equal in extent, and there. That they are equal
 * in content is compared as they come in (intake.c).
 */
#include "checker/checker_internal.h"

static int compare_pieces(const void *left, const void *right)
{
    const struct dump_piece *a = left;
    const struct dump_piece *b = right;

    if (a->node != b->node) {
        return a->node < b->node ? -1 : 1;
    }
    if (a->offset != b->offset) {
        return a->offset < b->offset ? -1 : 1;
    }
    return a->line < b->line ? -1 : a->line > b->line;
}

/* One node's pieces, in order; tells the first thing that is wrong. */
static void check_copy(struct checker *self, const struct topic *topic,
                       const struct dump_piece *pieces, size_t count)
{
    const struct dump_piece *first = &pieces[0];
    uint64_t next = first->log_start;

    tell_facts(self, CHECKER_DENSE, 1);
    for (size_t i = 0; i < count; i++) {
        const struct dump_piece *piece = &pieces[i];

        if (piece->log_start != first->log_start || piece->log_end != first->log_end) {
            tell(self, CHECKER_DENSE,
                 "topic %s, node %" PRIu32 ": its copy is [%" PRIu64 ", %" PRIu64
                 ") by line %" PRIu32 " and [%" PRIu64 ", %" PRIu64 ") by line %" PRIu32,
                 topic->name, piece->node, first->log_start, first->log_end, first->line,
                 piece->log_start, piece->log_end, piece->line);
            return;
        }
        if (piece->count > 0 && piece->offset != next) {
            tell(self, CHECKER_DENSE,
                 "topic %s, node %" PRIu32 ", line %" PRIu32 ": %s: this piece begins at %" PRIu64
                 ", expected was %" PRIu64,
                 topic->name, piece->node, piece->line,
                 piece->offset > next ? "records are missing" : "offsets come twice", piece->offset,
                 next);
            return;
        }
        next += piece->count;
    }
    if (next != first->log_end) {
        tell(self, CHECKER_DENSE,
             "topic %s, node %" PRIu32 ": its copy ends at %" PRIu64
             ", but has records up to %" PRIu64 " only (line %" PRIu32 ")",
             topic->name, first->node, first->log_end, next, pieces[count - 1].line);
    }
}

/* This node's copy next to the one that says what [start, end) is so far. */
static void compare_extent(struct checker *self, struct topic *topic,
                           const struct dump_piece *piece)
{
    if (!topic->dumped) {
        topic->dumped = true;
        topic->start = piece->log_start;
        topic->end = piece->log_end;
        return;
    }
    tell_facts(self, CHECKER_CONVERGED, 1);
    if (piece->log_start != topic->start || piece->log_end != topic->end) {
        tell(self, CHECKER_CONVERGED,
             "topic %s: node %" PRIu32 " has [%" PRIu64 ", %" PRIu64 ") (line %" PRIu32
             "), others have [%" PRIu64 ", %" PRIu64 ")",
             topic->name, piece->node, piece->log_start, piece->log_end, piece->line, topic->start,
             topic->end);
    }
    topic->start = piece->log_start > topic->start ? piece->log_start : topic->start;
    topic->end = piece->log_end > topic->end ? piece->log_end : topic->end;
}

static bool has_acknowledged(const struct topic *topic)
{
    for (size_t i = 0; i < topic->produces_count; i++) {
        if (topic->produces[i].outcome == HISTORY_OK) {
            return true;
        }
    }
    return false;
}

static bool node_has(const struct topic *topic, uint32_t node)
{
    for (size_t i = 0; i < topic->pieces_count; i++) {
        if (topic->pieces[i].node == node) {
            return true;
        }
    }
    return false;
}

static void check_presence(struct checker *self, const struct topic *topic)
{
    if (topic->pieces_count == 0) {
        if (topic->delete_asked_us == NEVER && has_acknowledged(topic)) {
            tell_facts(self, CHECKER_DUMPS, 1);
            tell(self, CHECKER_DUMPS,
                 "topic %s: no node shows what it has of it, though records in it were "
                 "acknowledged and nobody deleted it",
                 topic->name);
        }
        return;
    }
    for (size_t i = 0; i < self->dumped_nodes_count; i++) {
        tell_facts(self, CHECKER_DUMPS, 1);
        if (!node_has(topic, self->dumped_nodes[i])) {
            tell(self, CHECKER_DUMPS, "topic %s: node %" PRIu32 " doesn't show what it has of it",
                 topic->name, self->dumped_nodes[i]);
        }
    }
    for (size_t i = 0; i < topic->pieces_count; i++) {
        if (topic->pieces[i].at_us > topic->deleted_us) {
            tell(self, CHECKER_DUMPS,
                 "topic %s: node %" PRIu32 " has it at %s (line %" PRIu32
                 "), though it was deleted at %s (line %" PRIu32 ")",
                 topic->name, topic->pieces[i].node, TIME(topic->pieces[i].at_us),
                 topic->pieces[i].line, TIME(topic->deleted_us), topic->deleted_line);
            return;
        }
    }
}

enum err dumps_decide(struct checker *self, struct topic *topic)
{
    size_t i = 0;

    check_presence(self, topic);
    if (topic->pieces_count > 0) {
        qsort(topic->pieces, topic->pieces_count, sizeof topic->pieces[0], compare_pieces);
    }
    while (i < topic->pieces_count) {
        size_t begin = i;

        while (i < topic->pieces_count && topic->pieces[i].node == topic->pieces[begin].node) {
            i++;
        }
        check_copy(self, topic, topic->pieces + begin, i - begin);
        compare_extent(self, topic, &topic->pieces[begin]);
    }
    ASSERT(topic->dumped == (topic->pieces_count > 0));
    return ERR_OK;
}

void dumps_decide_nodes(struct checker *self)
{
    if (self->options.node_count == 0) {
        return;
    }
    tell_facts(self, CHECKER_DUMPS, 1);
    if (self->dumped_nodes_count < self->options.node_count) {
        tell(self, CHECKER_DUMPS, "%zu nodes show what they have, expected are %u",
             self->dumped_nodes_count, self->options.node_count);
    }
}
