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
#include "checker/checker_internal.h"

struct revision {
    uint64_t revision;
    const struct cursor_op *op;
    const char *topic;
    bool set; /* it is its own; else: op was shown it */
};

/* One cursor's operations, sorted for what is asked of them. */
struct one {
    struct checker *checker;
    const struct topic *topic;
    const char *name;
    const struct cursor_op **known; /* acknowledged changes with a token, by token */
    size_t known_count;
    const struct cursor_op **sets; /* acknowledged SETs, by revision */
    size_t set_count;
    const struct cursor_op **changes; /* acknowledged changes that expect a revision, by it */
    size_t change_count;
    const struct cursor_op **shown; /* who was shown a revision, or expected it, by it */
    size_t shown_count;
    const struct cursor_op **unknown; /* UNKNOWN SETs, by offset, then by when they began */
    size_t unknown_count;
    uint64_t *delete_us;        /* of known[i] and later: when the first DELETE began; NEVER */
    uint64_t unknown_delete_us; /* when the first UNKNOWN DELETE began; NEVER */
};

static bool is_change(const struct cursor_op *op)
{
    return op->outcome == HISTORY_OK && op->verb != HISTORY_CURSOR_GET;
}

static bool is_set(const struct cursor_op *op)
{
    return op->outcome == HISTORY_OK && op->verb == HISTORY_CURSOR_SET;
}

/* It tells what the cursor was. */
static bool is_observation(const struct cursor_op *op)
{
    return op->outcome == HISTORY_FAIL ||
           (op->outcome == HISTORY_OK && op->verb == HISTORY_CURSOR_GET);
}

/* The revision that an operation proves to be there: that it was shown, or had expected rightly. */
static uint64_t seen_revision(const struct cursor_op *op)
{
    if (is_observation(op)) {
        return op->revision;
    }
    return is_change(op) && op->expect != NOWHERE ? op->expect : 0;
}

#define COMPARE(a, b)                                                                              \
    do {                                                                                           \
        if ((a) != (b)) {                                                                          \
            return (a) < (b) ? -1 : 1;                                                             \
        }                                                                                          \
    } while (0)

static const struct cursor_op *operation(const void *pointer)
{
    return *(const struct cursor_op *const *)pointer;
}

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

/* How many of the known changes have a token of at most this. */
static size_t known_up_to(const struct one *self, uint64_t token)
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

static const struct cursor_op *find_set(const struct one *self, uint64_t revision)
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

static void check_expects_none(const struct one *self, const struct cursor_op *op)
{
    size_t earlier = op->token == 0 ? 0 : known_up_to(self, op->token - 1);
    const struct cursor_op *newest = earlier == 0 ? NULL : self->known[earlier - 1];

    /* Another change in the same entry may have come first. */
    if (newest == NULL || newest->verb == HISTORY_CURSOR_DELETE ||
        known_up_to(self, op->token) - earlier > 1 ||
        self->unknown_delete_us <= op->origin.return_us) {
        return;
    }
    tell(
        self->checker, CHECKER_CURSOR_SET,
        "topic %s, cursor %s: a change that expects none (%s) succeeded, though it had been set to "
        "revision %" PRIu64 " (%s)",
        self->topic->name, self->name, ORIGIN(&op->origin), newest->revision,
        ORIGIN(&newest->origin));
}

static void check_expects(const struct one *self, const struct cursor_op *op)
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

static void check_changes(const struct one *self)
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
static void check_fresh(const struct one *self, const struct cursor_op *op,
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

static void begin_op(const struct one *self, const struct cursor_op *op,
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
static const struct cursor_op *shown_change(const struct one *self, const struct cursor_op *op)
{
    const struct cursor_op *change = is_change(op) ? op : find_set(self, seen_revision(op));

    return change == NULL || change->token == 0 ? NULL : change;
}

static enum err check_in_time(const struct one *self, const struct cursor_op *ops, size_t count)
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
static bool take_unknown(struct one *self, const struct cursor_op *op, uint32_t *taken)
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

static void check_shown(const struct one *self, const struct cursor_op *op,
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
static size_t collect_foreign(const struct one *self, const struct cursor_op **ret_foreign)
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

static enum err check_foreign(struct one *self)
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

/* ---- one cursor ---- */

static void sort_operations(const struct cursor_op **list, size_t count,
                            int (*compare)(const void *, const void *))
{
    qsort(list, count, sizeof *list, compare);
}

static void fill(struct one *self, const struct cursor_op *ops, size_t count)
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
    struct one self = {
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
        check_changes(&self);
        err = check_in_time(&self, ops, count);
        if (err == ERR_OK) {
            err = check_foreign(&self);
        }
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
