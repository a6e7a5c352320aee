/*
 * What may be missing from a topic that keeps the latest record of each key, and what may not come
 * back.
 *
 *   compaction   What stands for offsets and shows no record there lacks, of those that are known
 *                to be there, only records with a key of which a later one stands somewhere that
 *                had been begun by then, and, in the end, in this copy; or tombstones. Nothing is
 *                missing before somebody asked for it.
 *   views        Each copy shows in the end, for each key, the record that was written last, and
 *                nothing of a key whose last one is a tombstone: the tombstone may be gone, but
 *                nothing before it shows then. And on the way: what is begun after a tombstone was
 *                seen to be gone, and not for a later record's sake, shows no record before it, if
 *                it is a linearizable read, or one with a bound on its age. (Others may be answered
 *                by a node that was a member once.)
 *
 * An UNKNOWN produce of which nobody saw a record may stand anywhere, and be gone: with one of its
 * key a record may be missing at any time from its beginning on, and a key may be deleted.
 */
#include <stdio.h>
#include <string.h>

#include "checker/checker_internal.h"
#include "checker/ranges.h"

/* A record that is known to stand where it does. */
struct record {
    uint64_t offset;
    uint64_t key;       /* 0: none */
    uint64_t begun_us;  /* when it was produced */
    uint64_t later;     /* offset of the next one of its key; NOWHERE: none */
    uint64_t later_us;  /* when that was begun; NEVER */
    uint64_t hidden_us; /* when one of its key began that may stand anywhere; NEVER */
    uint32_t line;      /* of its produce */
    bool tombstone;
};

/* One of an UNKNOWN produce that nobody saw. */
struct hidden {
    uint64_t key;
    uint64_t begun_us;
    bool tombstone;
};

struct compaction {
    struct checker *checker;
    const struct topic *topic;
    ARRAY(struct record, records); /* by offset */
    ARRAY(struct hidden, hidden);  /* by key, then time */
    uint32_t *by_key;              /* places in records, by key, then offset */
    uint64_t *views;               /* of by_key's first of each key: what the first copy shows */
    bool *present;                 /* of records: in the copy that is looked at */
};

static int compare_records(const void *left, const void *right)
{
    const struct record *a = left;
    const struct record *b = right;

    if (a->offset != b->offset) {
        return a->offset < b->offset ? -1 : 1;
    }
    return a->line < b->line ? -1 : a->line > b->line;
}

static int compare_hidden(const void *left, const void *right)
{
    const struct hidden *a = left;
    const struct hidden *b = right;

    if (a->key != b->key) {
        return a->key < b->key ? -1 : 1;
    }
    return a->begun_us < b->begun_us ? -1 : a->begun_us > b->begun_us;
}

static int compare_keys(const void *left, const void *right, void *records)
{
    const struct record *a = (const struct record *)records + *(const uint32_t *)left;
    const struct record *b = (const struct record *)records + *(const uint32_t *)right;

    if (a->key != b->key) {
        return a->key < b->key ? -1 : 1;
    }
    return a < b ? -1 : a > b;
}

/* ---- what is there ---- */

static void add_records(struct compaction *self, const struct produce *produce)
{
    for (uint32_t i = 0; i < produce->count; i++) {
        uint64_t key = self->topic->keys_count == 0 ? 0 : self->topic->keys[produce->first + i];

        if (produce_present(produce)) {
            self->records[self->records_count++] = (struct record){
                .offset = produce->offset + i,
                .key = key / 2,
                .begun_us = produce->origin.invoke_us,
                .later = NOWHERE,
                .later_us = NEVER,
                .hidden_us = NEVER,
                .line = produce->origin.line,
                .tombstone = (key & 1) != 0,
            };
        } else if (produce->outcome == HISTORY_UNKNOWN && key != 0) {
            self->hidden[self->hidden_count++] = (struct hidden){
                .key = key / 2,
                .begun_us = produce->origin.invoke_us,
                .tombstone = (key & 1) != 0,
            };
        }
    }
}

/* The first of a key's; hidden_count: there is none. */
static size_t find_hidden(const struct compaction *self, uint64_t key)
{
    size_t low = 0;
    size_t high = self->hidden_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (self->hidden[middle].key < key) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < self->hidden_count && self->hidden[low].key == key ? low : self->hidden_count;
}

static void link_keys(struct compaction *self)
{
    for (size_t i = self->records_count; i > 0; i--) {
        struct record *record = &self->records[self->by_key[i - 1]];
        size_t hidden;

        if (record->key == 0) {
            continue;
        }
        if (i < self->records_count && self->records[self->by_key[i]].key == record->key) {
            const struct record *later = &self->records[self->by_key[i]];

            record->later = later->offset;
            record->later_us = later->begun_us;
            record->hidden_us = later->hidden_us;
            continue;
        }
        hidden = find_hidden(self, record->key);
        if (hidden < self->hidden_count) {
            record->hidden_us = self->hidden[hidden].begun_us;
        }
    }
}

static enum err collect(struct compaction *self)
{
    const struct topic *topic = self->topic;
    size_t count = topic->values_count + 1;

    if (ARRAY_RESERVE(self, records, count) != ERR_OK ||
        ARRAY_RESERVE(self, hidden, count) != ERR_OK) {
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < topic->produces_count; i++) {
        add_records(self, &topic->produces[i]);
    }
    self->by_key = malloc(count * sizeof *self->by_key);
    self->views = malloc(count * sizeof *self->views);
    self->present = malloc(count * sizeof *self->present);
    if (self->by_key == NULL || self->views == NULL || self->present == NULL) {
        return ERR_NOMEM;
    }
    ASSERT(self->records_count < UINT32_MAX);
    qsort(self->records, self->records_count, sizeof self->records[0], compare_records);
    qsort(self->hidden, self->hidden_count, sizeof self->hidden[0], compare_hidden);
    for (size_t i = 0; i < self->records_count; i++) {
        self->by_key[i] = (uint32_t)i;
    }
    qsort_r(self->by_key, self->records_count, sizeof self->by_key[0], compare_keys, self->records);
    link_keys(self);
    return ERR_OK;
}

/* The place of the first record that is not below this offset. */
static size_t place_of(const struct compaction *self, uint64_t offset)
{
    size_t low = 0;
    size_t high = self->records_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (self->records[middle].offset < offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* ---- what is missing ---- */

/* When it may be missing at the earliest, and the end that what lacks it must show at least. */
static uint64_t missing_from_us(const struct record *record)
{
    return record->key == 0                       ? NEVER
           : record->tombstone                    ? record->begun_us
           : record->hidden_us < record->later_us ? record->hidden_us
                                                  : record->later_us;
}

static uint64_t missing_from_end(const struct record *record)
{
    return record->key != 0 && (record->tombstone || record->hidden_us != NEVER) ? 0
                                                                                 : record->later;
}

static bool may_miss(const struct gap *gap, const struct record *record)
{
    return missing_from_us(record) <= gap->by_us && missing_from_end(record) < gap->log_end;
}

static void tell_missing(struct compaction *self, const struct gap *gap, size_t from, size_t to)
{
    char later[96] = "no record of its key stands behind it";

    for (size_t i = from; i < to; i++) {
        const struct record *record = &self->records[i];

        if (may_miss(gap, record)) {
            continue;
        }
        if (record->key == 0) {
            (void)snprintf(later, sizeof later, "it has no key"); /* fits */
        } else if (record->later != NOWHERE) {
            (void)snprintf(later, sizeof later,
                           "the next one of its key, at %" PRIu64 ", was not there yet",
                           record->later); /* fits */
        }
        tell(self->checker, CHECKER_COMPACTION,
             "topic %s, offset %" PRIu64 ": line %" PRIu32 "%s shows no record, but one was "
             "written there (line %" PRIu32 "), and %s",
             self->topic->name, record->offset, gap->line, gap->node != 0 ? ", a node's copy," : "",
             record->line, later);
        return;
    }
}

/* Of a topic that nobody has asked to compact by then nothing is missing. */
static bool check_asked(struct compaction *self, const struct gap *gap)
{
    if (self->topic->compact_asked_us <= gap->by_us) {
        return true;
    }
    tell(self->checker, gap->node != 0 ? CHECKER_DENSE : CHECKER_COMPACTION,
         "topic %s: line %" PRIu32 " shows no records at [%" PRIu64 ", %" PRIu64
         "), and nobody had asked to compact it",
         self->topic->name, gap->line, gap->from, gap->to);
    return false;
}

/* Complements, so that the smallest one is what demands most. */
static enum err check_gaps(struct compaction *self)
{
    struct ranges times = {0};
    struct ranges ends = {0};
    enum err err = ranges_init(&times, self->records_count);

    if (err == ERR_OK) {
        err = ranges_init(&ends, self->records_count);
    }
    for (size_t i = 0; err == ERR_OK && i < self->records_count; i++) {
        ranges_put(&times, i, ~missing_from_us(&self->records[i]));
        ranges_put(&ends, i, ~missing_from_end(&self->records[i]));
    }
    if (topic_compacted(self->topic)) {
        tell_facts(self->checker, CHECKER_COMPACTION,
                   self->topic->readings_count + self->topic->pieces_count);
    }
    for (size_t i = 0; err == ERR_OK && i < self->topic->gaps_count; i++) {
        const struct gap *gap = &self->topic->gaps[i];
        size_t from = place_of(self, gap->from);
        size_t to = place_of(self, gap->to);

        tell_facts(self->checker, CHECKER_COMPACTION, 1);
        if (check_asked(self, gap) && from < to &&
            (~ranges_smallest(&times, from, to) > gap->by_us ||
             ~ranges_smallest(&ends, from, to) >= gap->log_end)) {
            tell_missing(self, gap, from, to);
        }
    }
    ranges_fini(&times);
    ranges_fini(&ends);
    return err;
}

/* ---- what comes back ---- */

/* Since when a reading shows what members have; 0: nobody knows. */
static uint64_t shown_since_us(const struct reading *reading)
{
    uint64_t lag_us = reading->delivery ? 0 : reading->lag_or_stream;

    if (reading->mode == HISTORY_READ_LINEARIZABLE) {
        return reading->origin.invoke_us;
    }
    return reading->mode == HISTORY_READ_MAX_LAG && !reading->delivery &&
                   reading->origin.invoke_us > lag_us
               ? reading->origin.invoke_us - lag_us
               : 0;
}

/* Runs of records that readings show get that time (its complement, so that the latest counts);
 * gaps of everything, when they were over. */
static void cover(struct compaction *self, struct ranges *shown, struct ranges *gone)
{
    const struct topic *topic = self->topic;
    size_t at = 0;

    for (size_t i = 0; i < topic->gaps_count; i++) {
        ranges_cover(gone, place_of(self, topic->gaps[i].from), place_of(self, topic->gaps[i].to),
                     topic->gaps[i].by_us);
    }
    for (size_t i = 0; i < topic->readings_count; i++) {
        const struct reading *reading = &topic->readings[i];
        uint64_t next = reading->offset;

        while (at < topic->gaps_count && topic->gaps[at].line < reading->origin.line) {
            at++;
        }
        for (; at < topic->gaps_count && topic->gaps[at].line == reading->origin.line; at++) {
            ranges_cover(shown, place_of(self, next), place_of(self, topic->gaps[at].from),
                         ~shown_since_us(reading));
            next = topic->gaps[at].to;
        }
        ranges_cover(shown, place_of(self, next), place_of(self, reading->offset + reading->count),
                     ~shown_since_us(reading));
    }
}

static void check_returns(struct compaction *self, const struct ranges *shown,
                          const struct ranges *gone)
{
    uint64_t gone_us = NEVER; /* when a tombstone of this key was gone, behind the record */
    uint64_t by = 0;

    for (size_t i = self->records_count; i > 0; i--) {
        uint32_t at = self->by_key[i - 1];
        const struct record *record = &self->records[at];
        uint64_t not_shown_us = ranges_at(shown, at);

        if (i == self->records_count || self->records[self->by_key[i]].key != record->key) {
            gone_us = NEVER;
        }
        if (gone_us != NEVER) {
            tell_facts(self->checker, CHECKER_VIEWS, 1);
        }
        if (not_shown_us != UINT64_MAX && ~not_shown_us > gone_us) {
            tell(self->checker, CHECKER_VIEWS,
                 "topic %s, offset %" PRIu64 ": a read that began at %s shows the record of line "
                 "%" PRIu32 ", though its key was deleted behind it, at %" PRIu64
                 ", and the tombstone gone by %s: it comes back",
                 self->topic->name, record->offset, TIME(~not_shown_us), record->line, by,
                 TIME(gone_us));
        }
        /* Not for the sake of a later one, which had not been begun. */
        if (record->tombstone && ranges_at(gone, at) < gone_us &&
            ranges_at(gone, at) < record->later_us && ranges_at(gone, at) < record->hidden_us) {
            gone_us = ranges_at(gone, at);
            by = record->offset;
        }
    }
}

static enum err check_deleted(struct compaction *self)
{
    struct ranges shown = {0};
    struct ranges gone = {0};
    enum err err = ranges_init(&shown, self->records_count);

    if (err == ERR_OK) {
        err = ranges_init(&gone, self->records_count);
    }
    if (err == ERR_OK) {
        cover(self, &shown, &gone);
        check_returns(self, &shown, &gone);
    }
    ranges_fini(&shown);
    ranges_fini(&gone);
    return err;
}

/* ---- views ---- */

static int compare_gaps(const void *left, const void *right)
{
    const struct gap *a = left;
    const struct gap *b = right;

    if (a->node != b->node) {
        return a->node < b->node ? -1 : 1;
    }
    return a->from < b->from ? -1 : a->from > b->from;
}

/* gaps: of this copy. */
static void find_present(struct compaction *self, const struct dump_piece *copy,
                         const struct gap *gaps, size_t gap_count)
{
    size_t gap = 0;

    for (size_t i = 0; i < self->records_count; i++) {
        uint64_t offset = self->records[i].offset;

        while (gap < gap_count && gaps[gap].to <= offset) {
            gap++;
        }
        self->present[i] = offset >= copy->log_start && offset < copy->log_end &&
                           (gap == gap_count || offset < gaps[gap].from);
    }
}

static bool may_be_deleted(const struct compaction *self, uint64_t key)
{
    for (size_t i = find_hidden(self, key); i < self->hidden_count && self->hidden[i].key == key;
         i++) {
        if (self->hidden[i].tombstone) {
            return true;
        }
    }
    return false;
}

/* by_key[from, to) are of one key. first: nothing was seen of it yet. */
static void check_view(struct compaction *self, const struct dump_piece *copy, size_t from,
                       size_t to, bool first)
{
    const struct record *last = &self->records[self->by_key[to - 1]];
    uint64_t expected = last->tombstone || last->offset < copy->log_start ? NOWHERE : last->offset;
    uint64_t view = NOWHERE;

    for (size_t i = to; i > from; i--) {
        const struct record *record = &self->records[self->by_key[i - 1]];

        if (self->present[self->by_key[i - 1]]) {
            view = record->tombstone ? NOWHERE : record->offset;
            break;
        }
    }
    tell_facts(self->checker, CHECKER_VIEWS, 1);
    if (may_be_deleted(self, last->key) && (first || view == self->views[from])) {
        self->views[from] = view; /* Nobody knows; but all show the same. */
        return;
    }
    if (view != expected) {
        tell(self->checker, CHECKER_VIEWS,
             "topic %s, node %" PRIu32 ": its copy (line %" PRIu32 ") shows of key %" PRIu64
             " the record at offset %" PRId64 ", expected was %" PRId64
             " (-1: none), the last one is of line %" PRIu32,
             self->topic->name, copy->node, copy->line, last->key, (int64_t)view, (int64_t)expected,
             last->line);
    }
}

static void check_copy(struct compaction *self, const struct dump_piece *copy,
                       const struct gap *gaps, size_t gap_count, bool first)
{
    size_t from = 0;

    find_present(self, copy, gaps, gap_count);
    for (size_t i = 1; i <= self->records_count; i++) {
        uint64_t key = self->records[self->by_key[from]].key;

        if (i < self->records_count && self->records[self->by_key[i]].key == key) {
            continue;
        }
        if (key != 0) {
            check_view(self, copy, from, i, first);
        }
        from = i;
    }
}

/* dumps_decide has sorted the pieces by node. */
static enum err check_views(struct compaction *self)
{
    const struct topic *topic = self->topic;
    size_t count = topic->gaps_count;
    struct gap *gaps = malloc((count + 1) * sizeof *gaps);
    size_t at = 0;

    if (gaps == NULL) {
        return ERR_NOMEM;
    }
    if (count > 0) {
        memcpy(gaps, topic->gaps, count * sizeof *gaps);
        qsort(gaps, count, sizeof *gaps, compare_gaps);
    }
    for (size_t i = 0; i < topic->pieces_count; i++) {
        size_t from;

        if (i > 0 && topic->pieces[i - 1].node == topic->pieces[i].node) {
            continue;
        }
        while (at < count && gaps[at].node < topic->pieces[i].node) {
            at++;
        }
        from = at;
        while (at < count && gaps[at].node == topic->pieces[i].node) {
            at++;
        }
        check_copy(self, &topic->pieces[i], gaps + from, at - from, i == 0);
    }
    free(gaps);
    return ERR_OK;
}

enum err compaction_decide(struct checker *self, struct topic *topic)
{
    struct compaction compaction = {.checker = self, .topic = topic};
    enum err err;

    if (topic->gaps_count == 0 && !topic_compacted(topic)) {
        return ERR_OK;
    }
    err = collect(&compaction);
    if (err == ERR_OK) {
        err = check_gaps(&compaction);
    }
    if (err == ERR_OK) {
        err = check_deleted(&compaction);
    }
    if (err == ERR_OK) {
        err = check_views(&compaction);
    }
    free(compaction.records);
    free(compaction.hidden);
    free(compaction.by_key);
    free(compaction.views);
    free(compaction.present);
    return err;
}
