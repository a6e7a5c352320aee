/*
 * The rules of one cursor; cursors.c says what they are.
 */
#include "checker/cursors.h"

/* How many of the known changes have a token of at most this. */
static size_t known_up_to(const struct cursor_view *self, uint64_t token)
{
    size_t low = 0;
    size_t high = self->known_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (self->known[middle]->token <= token) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static const struct cursor_op *find_set(const struct cursor_view *self, uint64_t revision)
{
    size_t low = 0;
    size_t high = self->set_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (self->sets[middle]->revision < revision) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < self->set_count && self->sets[low]->revision == revision ? self->sets[low] : NULL;
}

/* ---- C ---- */

static void check_expects_none(const struct cursor_view *self, const struct cursor_op *op)
{
    size_t earlier = op->token == 0 ? 0 : known_up_to(self, op->token - 1);
    const struct cursor_op *newest = earlier == 0 ? NULL : self->known[earlier - 1];

    /* Of changes with the same token nobody knows which came first. */
    if (newest == NULL || known_up_to(self, op->token) - earlier > 1 ||
        self->unknown_delete_us <= op->origin.return_us) {
        return;
    }
    for (size_t i = earlier; i > 0 && self->known[i - 1]->token == newest->token; i--) {
        if (self->known[i - 1]->verb == HISTORY_CURSOR_DELETE) {
            return;
        }
    }
    tell(self->checker, CHECKER_CURSOR_SET,
         "topic %s, cursor %s: a change that expects none (%s) succeeded, though it had been set "
         "to revision %" PRIu64 " (%s)",
         self->topic->name, self->name, ORIGIN(&op->origin), newest->revision,
         ORIGIN(&newest->origin));
}

static void check_expects(const struct cursor_view *self, const struct cursor_op *op)
{
    const struct cursor_op *set = find_set(self, op->expect);
    size_t from;
    size_t to;

    if (set == NULL || set->token == 0 || op->token == 0) {
        return; /* An UNKNOWN one's: D. */
    }
    if (set->token > op->token) {
        tell(self->checker, CHECKER_CURSOR_SET,
             "topic %s, cursor %s: the change of %s succeeded, though revision %" PRIu64
             ", which it expects, was set behind it (%s)",
             self->topic->name, self->name, ORIGIN(&op->origin), op->expect, ORIGIN(&set->origin));
        return;
    }
    from = known_up_to(self, set->token);
    to = known_up_to(self, op->token - 1);
    if (to > from) {
        tell(self->checker, CHECKER_CURSOR_SET,
             "topic %s, cursor %s: the change of %s succeeded, though it expects revision %" PRIu64
             " and another change lies between (%s)",
             self->topic->name, self->name, ORIGIN(&op->origin), op->expect,
             ORIGIN(&self->known[from]->origin));
    }
}

static void check_changes(const struct cursor_view *self)
{
    for (size_t i = 0; i < self->change_count; i++) {
        const struct cursor_op *op = self->changes[i];

        tell_facts(self->checker, CHECKER_CURSOR_SET, 1);
        if (op->expect == 0) {
            check_expects_none(self, op);
            continue;
        }
        check_expects(self, op);
        if (i > 0 && self->changes[i - 1]->expect == op->expect) {
            tell(self->checker, CHECKER_CURSOR_SET,
                 "topic %s, cursor %s: two changes that expect revision %" PRIu64
                 " succeeded: one is lost (%s; %s)",
                 self->topic->name, self->name, op->expect, ORIGIN(&self->changes[i - 1]->origin),
                 ORIGIN(&op->origin));
        }
    }
}

/* ---- B and E: a sweep over time ---- */

struct cursor_moment {
    uint64_t at_us;
    const struct cursor_op *op;
    bool ends;
};

static int compare_moments(const void *left, const void *right)
{
    const struct cursor_moment *a = left;
    const struct cursor_moment *b = right;

    COMPARE(a->at_us, b->at_us);
    COMPARE(a->ends, b->ends); /* K2: what begins comes before what ends */
    COMPARE(a->op->origin.line, b->op->origin.line);
    return 0;
}

/* The change that is known to have been made when the operation took place; NULL: none. */
static void check_fresh(const struct cursor_view *self, const struct cursor_op *op,
                        const struct cursor_op *least)
{
    const struct cursor_op *set = op->revision == 0 ? NULL : find_set(self, op->revision);
    bool fresh;

    tell_facts(self->checker, CHECKER_CURSOR_READ, 1);
    if (least == NULL) {
        return;
    }
    if (op->revision != 0) {
        fresh = set == NULL || set->token == 0 || set->token >= least->token;
    } else {
        size_t from = known_up_to(self, least->token - 1);

        ASSERT(from < self->known_count); /* `least` itself is there. */
        fresh = self->unknown_delete_us <= op->origin.return_us ||
                self->delete_us[from] <= op->origin.return_us;
    }
    if (!fresh) {
        tell(self->checker, CHECKER_CURSOR_READ,
             "topic %s, cursor %s: %s shows revision %" PRIu64
             ", though what is asked for has token %" PRIu64 " (%s)",
             self->topic->name, self->name, ORIGIN(&op->origin), op->revision, least->token,
             ORIGIN(&least->origin));
    }
}

static void begin_op(const struct cursor_view *self, const struct cursor_op *op,
                     const struct cursor_op *newest)
{
    bool linearizable = op->outcome == HISTORY_FAIL || op->mode == HISTORY_READ_LINEARIZABLE;

    if (is_change(op) && op->token != 0) {
        tell_facts(self->checker, CHECKER_CURSOR_ORDER, 1);
        if (newest != NULL && op->token <= newest->token) {
            tell(self->checker, CHECKER_CURSOR_ORDER,
                 "topic %s, cursor %s: the change of %s has token %" PRIu64
                 ", one that had ended before has token %" PRIu64 " (%s)",
                 self->topic->name, self->name, ORIGIN(&op->origin), op->token, newest->token,
                 ORIGIN(&newest->origin));
        }
    }
    if (!is_observation(op)) {
        return;
    }
    if (linearizable) {
        check_fresh(self, op, newest);
    }
    if (op->at_least != 0) {
        size_t count = known_up_to(self, op->at_least);

        check_fresh(self, op, count == 0 ? NULL : self->known[count - 1]);
    }
}

/* Where the operation shows the cursor to be; NULL: not known. */
static const struct cursor_op *shown_change(const struct cursor_view *self,
                                            const struct cursor_op *op)
{
    const struct cursor_op *change = is_change(op) ? op : find_set(self, seen_revision(op));

    return change == NULL || change->token == 0 ? NULL : change;
}

static enum err check_in_time(const struct cursor_view *self, const struct cursor_op *ops,
                              size_t count)
{
    struct cursor_moment *moments = malloc((2 * count + 1) * sizeof *moments);
    const struct cursor_op *newest = NULL;
    size_t moment_count = 0;

    if (moments == NULL) {
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        moments[moment_count++] =
            (struct cursor_moment){.at_us = ops[i].origin.invoke_us, .op = &ops[i]};
        if (ops[i].outcome != HISTORY_UNKNOWN) {
            moments[moment_count++] = (struct cursor_moment){
                .at_us = ops[i].origin.return_us, .op = &ops[i], .ends = true};
        }
    }
    qsort(moments, moment_count, sizeof *moments, compare_moments);
    for (size_t i = 0; i < moment_count; i++) {
        const struct cursor_op *shown;

        if (!moments[i].ends) {
            begin_op(self, moments[i].op, newest);
            continue;
        }
        shown = shown_change(self, moments[i].op);
        if (shown != NULL && (newest == NULL || shown->token > newest->token)) {
            newest = shown;
        }
    }
    free(moments);
    return ERR_OK;
}

/* ---- D ---- */

/* An UNKNOWN SET to this offset that had begun by then and that no other revision has. Those that
 * began first go first, and so do revisions that were shown first: if there is a way to give each
 * revision a SET of its own, this is one. */
static bool take_unknown(struct cursor_view *self, const struct cursor_op *op, uint32_t *taken)
{
    size_t low = 0;
    size_t high = self->unknown_count;
    size_t next;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (self->unknown[middle]->offset < op->offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    next = low == self->unknown_count ? low : low + taken[low];
    if (next >= self->unknown_count || self->unknown[next]->offset != op->offset ||
        self->unknown[next]->origin.invoke_us > op->origin.return_us) {
        return false;
    }
    taken[low]++;
    return true;
}

static int compare_returns(const void *left, const void *right)
{
    COMPARE(operation(left)->origin.return_us, operation(right)->origin.return_us);
    COMPARE(operation(left)->origin.line, operation(right)->origin.line);
    return 0;
}

static void check_shown(const struct cursor_view *self, const struct cursor_op *op,
                        const struct cursor_op *set)
{
    tell_facts(self->checker, CHECKER_CURSOR_READ, 1);
    if (op->origin.return_us < set->origin.invoke_us) {
        tell(self->checker, CHECKER_CURSOR_READ,
             "topic %s, cursor %s: %s sees revision %" PRIu64 " before it was asked to be set (%s)",
             self->topic->name, self->name, ORIGIN(&op->origin), set->revision,
             ORIGIN(&set->origin));
    }
    if (is_observation(op) && op->offset != set->offset) {
        tell(self->checker, CHECKER_CURSOR_READ,
             "topic %s, cursor %s: %s shows offset %" PRIu64 " with revision %" PRIu64
             ", which was set to offset %" PRIu64 " (%s)",
             self->topic->name, self->name, ORIGIN(&op->origin), op->offset, set->revision,
             set->offset, ORIGIN(&set->origin));
    }
}

/* Revisions that no acknowledged SET has, each once, the first one to be shown it. */
static size_t collect_foreign(const struct cursor_view *self, const struct cursor_op **ret_foreign)
{
    const struct cursor_op *first = NULL;
    size_t count = 0;

    for (size_t i = 0; i < self->shown_count; i++) {
        const struct cursor_op *op = self->shown[i];
        const struct cursor_op *set = find_set(self, seen_revision(op));

        if (set != NULL) {
            check_shown(self, op, set);
            continue;
        }
        if (first != NULL && seen_revision(first) == seen_revision(op)) {
            if (is_observation(op) && is_observation(first) && op->offset != first->offset) {
                tell(self->checker, CHECKER_CURSOR_READ,
                     "topic %s, cursor %s: revision %" PRIu64 " is at offset %" PRIu64
                     " (%s) and at %" PRIu64 " (%s)",
                     self->topic->name, self->name, seen_revision(op), first->offset,
                     ORIGIN(&first->origin), op->offset, ORIGIN(&op->origin));
            }
            continue;
        }
        first = op;
        ret_foreign[count++] = op;
    }
    return count;
}

static enum err check_foreign(struct cursor_view *self)
{
    const struct cursor_op **foreign = malloc((self->shown_count + 1) * sizeof(void *));
    uint32_t *taken = calloc(self->unknown_count + 1, sizeof *taken); /* of each offset's first */
    size_t count;

    if (foreign == NULL || taken == NULL) {
        free(foreign);
        free(taken);
        return ERR_NOMEM;
    }
    count = collect_foreign(self, foreign);
    qsort(foreign, count, sizeof *foreign, compare_returns);
    for (size_t i = 0; i < count; i++) {
        tell_facts(self->checker, CHECKER_CURSOR_READ, 1);
        /* Whoever only expected it doesn't say at what offset it was. */
        if (is_observation(foreign[i]) ? !take_unknown(self, foreign[i], taken)
                                       : self->unknown_count == 0) {
            tell(self->checker, CHECKER_CURSOR_READ,
                 "topic %s, cursor %s: %s sees revision %" PRIu64 " (offset %" PRIu64
                 "), which nobody can have set",
                 self->topic->name, self->name, ORIGIN(&foreign[i]->origin),
                 seen_revision(foreign[i]), foreign[i]->offset);
        }
    }
    free(foreign);
    free(taken);
    return ERR_OK;
}

enum err cursor_rules_decide(struct cursor_view *self, const struct cursor_op *ops, size_t count)
{
    enum err err;

    check_changes(self);
    err = check_in_time(self, ops, count);
    return err == ERR_OK ? check_foreign(self) : err;
}
