/*
 * Cursors: registers with compare-and-set, whose every change has a revision of its own and whose
 * acknowledged changes have tokens, which order them.
 *
 *   A  A revision belongs to one change of one cursor (cursor-revision), and whoever is shown it is
 *      shown that change's offset (cursor-read).
 *   B  A change that begins when another has ended has a higher token (cursor-order).
 *   C  A change that expects revision R happened when the cursor had R: R was set before it, no
 *      acknowledged change lies between the two, no other change expected the same R. One that
 *      expects none: the newest acknowledged change before it is no SET, unless it may have been
 *      deleted with an unknown outcome. A conflict doesn't tell the revision that was expected
 *      (cursor-set).
 *   D  What is shown was set, before it was shown. A revision that no acknowledged SET has is that
 *      of an UNKNOWN SET to the same offset that had begun by then, a different one for each
 *      (cursor-read).
 *   E  A GET with a token shows no less than all acknowledged changes up to that token; a
 *      conflict, and a linearizable GET, no less than all that were acknowledged before it began.
 *      "There is none" needs a DELETE behind those (cursor-read).
 *
 * What it can't see: where UNKNOWN changes lie in the order, but for the revision that somebody is
 * shown; so a cursor that has many of them is held to less. A GET without a token may be as old as
 * it likes.
 */
#include "checker/cursors.h"

struct revision {
    uint64_t revision;
    const struct cursor_op *op;
    const char *topic;
    bool set; /* it is its own; else: op was shown it */
};

static int compare_tokens(const void *left, const void *right)
{
    COMPARE(operation(left)->token, operation(right)->token);
    COMPARE(operation(left)->origin.line, operation(right)->origin.line);
    return 0;
}

static int compare_sets(const void *left, const void *right)
{
    COMPARE(operation(left)->revision, operation(right)->revision);
    COMPARE(operation(left)->origin.line, operation(right)->origin.line);
    return 0;
}

static int compare_expects(const void *left, const void *right)
{
    COMPARE(operation(left)->expect, operation(right)->expect);
    COMPARE(operation(left)->origin.line, operation(right)->origin.line);
    return 0;
}

/* By revision, then by when it was shown; whoever was shown an offset with it first. */
static int compare_shown(const void *left, const void *right)
{
    COMPARE(seen_revision(operation(left)), seen_revision(operation(right)));
    COMPARE(is_change(operation(left)), is_change(operation(right)));
    COMPARE(operation(left)->origin.return_us, operation(right)->origin.return_us);
    COMPARE(operation(left)->origin.line, operation(right)->origin.line);
    return 0;
}

static int compare_unknown(const void *left, const void *right)
{
    COMPARE(operation(left)->offset, operation(right)->offset);
    COMPARE(operation(left)->origin.invoke_us, operation(right)->origin.invoke_us);
    COMPARE(operation(left)->origin.line, operation(right)->origin.line);
    return 0;
}

/* ---- one cursor ---- */

static void sort_operations(const struct cursor_op **list, size_t count,
                            int (*compare)(const void *, const void *))
{
    qsort(list, count, sizeof *list, compare);
}

static void fill(struct cursor_view *self, const struct cursor_op *ops, size_t count)
{
    self->unknown_delete_us = NEVER;
    for (size_t i = 0; i < count; i++) {
        const struct cursor_op *op = &ops[i];

        if (is_change(op) && op->token != 0) {
            self->known[self->known_count++] = op;
        }
        if (is_set(op) && op->revision != 0) {
            self->sets[self->set_count++] = op;
        }
        if (is_change(op) && op->expect != NOWHERE) {
            self->changes[self->change_count++] = op;
        }
        if (seen_revision(op) != 0) {
            self->shown[self->shown_count++] = op;
        }
        if (op->outcome == HISTORY_UNKNOWN && op->verb == HISTORY_CURSOR_SET) {
            self->unknown[self->unknown_count++] = op;
        }
        if (op->outcome == HISTORY_UNKNOWN && op->verb == HISTORY_CURSOR_DELETE &&
            op->origin.invoke_us < self->unknown_delete_us) {
            self->unknown_delete_us = op->origin.invoke_us;
        }
    }
    sort_operations(self->known, self->known_count, compare_tokens);
    sort_operations(self->sets, self->set_count, compare_sets);
    sort_operations(self->changes, self->change_count, compare_expects);
    sort_operations(self->shown, self->shown_count, compare_shown);
    sort_operations(self->unknown, self->unknown_count, compare_unknown);
    self->delete_us[self->known_count] = NEVER;
    for (size_t i = self->known_count; i > 0; i--) {
        const struct cursor_op *op = self->known[i - 1];

        self->delete_us[i - 1] = self->delete_us[i];
        if (op->verb == HISTORY_CURSOR_DELETE && op->origin.invoke_us < self->delete_us[i]) {
            self->delete_us[i - 1] = op->origin.invoke_us;
        }
    }
}

static void check_alone(struct checker *self, const struct topic *topic, const char *name,
                        const struct cursor_op *op)
{
    if (op->outcome == HISTORY_FAIL && op->expect == op->revision) {
        tell(self, CHECKER_CURSOR_SET,
             "topic %s, cursor %s: %s was refused, and told the very revision that it expects: "
             "%" PRIu64,
             topic->name, name, ORIGIN(&op->origin), op->revision);
    }
    if (is_set(op)) {
        tell_facts(self, CHECKER_CURSOR_SET, 1);
        if (topic->dumped && op->offset > topic->end) {
            tell(self, CHECKER_CURSOR_SET,
                 "topic %s, cursor %s: %s sets it to offset %" PRIu64
                 ", and the log ends at %" PRIu64 " when all is over",
                 topic->name, name, ORIGIN(&op->origin), op->offset, topic->end);
        }
    }
}

static enum err decide_cursor(struct checker *checker, const struct topic *topic,
                              const struct cursor_op *ops, size_t count)
{
    struct cursor_view self = {
        .checker = checker,
        .topic = topic,
        .name = checker->cursor_names.items[ops[0].cursor].text,
    };
    size_t room = count + 1;
    const struct cursor_op **lists = calloc(5 * room, sizeof(void *));
    uint64_t *delete_us = malloc(room * sizeof *delete_us);
    enum err err = ERR_NOMEM;

    if (lists != NULL && delete_us != NULL) {
        self.known = lists;
        self.sets = lists + room;
        self.changes = lists + 2 * room;
        self.shown = lists + 3 * room;
        self.unknown = lists + 4 * room;
        self.delete_us = delete_us;
        fill(&self, ops, count);
        for (size_t i = 0; i < count; i++) {
            check_alone(checker, topic, self.name, &ops[i]);
        }
        err = cursor_rules_decide(&self, ops, count);
    }
    free(lists);
    free(delete_us);
    return err;
}

static int compare_by_cursor(const void *left, const void *right)
{
    const struct cursor_op *a = left;
    const struct cursor_op *b = right;

    COMPARE(a->cursor, b->cursor);
    COMPARE(a->origin.line, b->origin.line);
    return 0;
}

enum err cursors_decide(struct checker *self, struct topic *topic)
{
    size_t i = 0;

    if (topic->cursor_ops_count == 0) {
        return ERR_OK;
    }
    qsort(topic->cursor_ops, topic->cursor_ops_count, sizeof topic->cursor_ops[0],
          compare_by_cursor);
    while (i < topic->cursor_ops_count) {
        size_t begin = i;
        enum err err;

        while (i < topic->cursor_ops_count &&
               topic->cursor_ops[i].cursor == topic->cursor_ops[begin].cursor) {
            i++;
        }
        err = decide_cursor(self, topic, topic->cursor_ops + begin, i - begin);
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

/* ---- A ---- */

static int compare_revisions(const void *left, const void *right)
{
    const struct revision *a = left;
    const struct revision *b = right;

    COMPARE(a->revision, b->revision);
    COMPARE(b->set, a->set); /* The change itself comes first. */
    COMPARE(a->op->origin.line, b->op->origin.line);
    return 0;
}

static void add_revisions(struct revision *list, size_t *count, const struct topic *topic)
{
    for (size_t i = 0; i < topic->cursor_ops_count; i++) {
        const struct cursor_op *op = &topic->cursor_ops[i];

        if (is_set(op) || seen_revision(op) != 0) {
            list[(*count)++] = (struct revision){
                .revision = is_set(op) ? op->revision : seen_revision(op),
                .op = op,
                .topic = topic->name,
                .set = is_set(op),
            };
        }
    }
}

enum err cursors_decide_revisions(struct checker *self)
{
    struct revision *list;
    size_t count = 0;

    for (size_t i = 0; i < self->topics_count; i++) {
        count += self->topics[i].cursor_ops_count;
    }
    list = malloc((count + 1) * sizeof *list);
    if (list == NULL) {
        return ERR_NOMEM;
    }
    count = 0;
    for (size_t i = 0; i < self->topics_count; i++) {
        add_revisions(list, &count, &self->topics[i]);
    }
    qsort(list, count, sizeof *list, compare_revisions);
    for (size_t i = 0; i < count; i++) {
        const struct revision *a = i == 0 ? NULL : &list[i - 1];
        const struct revision *b = &list[i];

        tell_facts(self, CHECKER_CURSOR_REVISION, 1);
        if (b->revision == 0) {
            tell(self, CHECKER_CURSOR_REVISION, "topic %s: %s was told no revision", b->topic,
                 ORIGIN(&b->op->origin));
        } else if (a != NULL && a->revision == b->revision &&
                   (b->set || a->op->cursor != b->op->cursor)) {
            tell(self, CHECKER_CURSOR_REVISION,
                 "revision %" PRIu64 " belongs to two changes: topic %s, cursor %s (%s), and topic "
                 "%s, cursor %s (%s)",
                 b->revision, a->topic, self->cursor_names.items[a->op->cursor].text,
                 ORIGIN(&a->op->origin), b->topic, self->cursor_names.items[b->op->cursor].text,
                 ORIGIN(&b->op->origin));
        }
    }
    free(list);
    return ERR_OK;
}
