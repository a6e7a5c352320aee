/*
 * Where to look next.
 *
 * Times first: append times never go down, so that one offset known to be before `since` rules out
 * all below it, whatever lies between, and one at or after `until` all above. Then keys, from one
 * end of what is left: the B+tree's list where there is one, else the Bloom filter's no, else it
 * has to be looked at. The topic's lock is held to see what there is; files are read outside of it,
 * and what turns out to be damaged is as if it were not there.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "lookup/bloom_part.h"
#include "lookup/key_hash.h"
#include "lookup/lookup_internal.h"

enum { PARTS_A_CALL = 64 };

struct question {
    struct lookup *lookup;
    struct topic_indexes *indexes;
    const struct lookup_query *query;
    uint64_t hash;
    uint64_t low; /* what is left: [low, high) */
    uint64_t high;
    struct lookup_answer *answer;
};

/* What a kind knows of an offset: a file, its memory, or nothing; and from where to where. */
struct cover {
    struct part *part; /* owned reference; NULL: none */
    bool fresh;
    uint64_t from;
    uint64_t to;
};

static bool usable(const struct part *part)
{
    return !atomic_load(&part->gone) && (part->seal.kind != PART_KEYS || part->verified);
}

/* Under the lock. */
static void cover_of(struct question *self, enum part_kind kind, uint64_t offset,
                     struct cover *ret_cover)
{
    const struct kind_index *index = &self->indexes->kinds[kind];
    const struct fresh *fresh = &index->fresh;
    size_t at = part_list_find(&index->parts, offset);
    struct part *above = at < index->parts.count ? index->parts.items[at] : NULL;
    struct cover cover = {.to = UINT64_MAX};

    atomic_fetch_add(&self->lookup->parts_seen, 1);
    if (above != NULL && above->seal.base_offset <= offset) {
        cover.part = usable(above) ? part_ref(above) : NULL;
        cover.from = above->seal.base_offset;
        cover.to = above->seal.end_offset;
        *ret_cover = cover;
        return;
    }
    cover.from = at > 0 ? index->parts.items[at - 1]->seal.end_offset : 0;
    cover.to = above != NULL ? above->seal.base_offset : UINT64_MAX;
    if (kind == PART_KEYS && fresh->base < fresh->end) {
        if (fresh->base > offset) {
            cover.to = fresh->base < cover.to ? fresh->base : cover.to;
        } else if (fresh->end <= offset) {
            cover.from = fresh->end > cover.from ? fresh->end : cover.from;
        } else {
            cover = (struct cover){.fresh = true, .from = fresh->base, .to = fresh->end};
        }
    }
    *ret_cover = cover;
}

/* ---- times ---- */

/* What is known of a time: all below `from` is before it, and nothing from `to` on. */
struct bounds {
    uint64_t from;
    uint64_t to;
};

static void narrow(struct bounds *bounds, uint64_t from, uint64_t to)
{
    bounds->from = from > bounds->from ? from : bounds->from;
    bounds->to = to < bounds->to ? to : bounds->to;
}

/* Under the lock. *ret_part: has to be looked into, with a reference; or NULL. */
static void bounds_in_memory(const struct topic_indexes *indexes, int64_t time_us,
                             struct bounds *bounds, struct part **ret_part)
{
    const struct kind_index *index = &indexes->kinds[PART_TIME];
    const struct fresh *fresh = &index->fresh;
    size_t low = 0;
    size_t high = index->parts.count;

    *ret_part = NULL;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (index->parts.items[middle]->seal.last_time_us < time_us) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low > 0) {
        narrow(bounds, index->parts.items[low - 1]->seal.end_offset, UINT64_MAX);
    }
    if (low < index->parts.count) {
        struct part *part = index->parts.items[low];

        narrow(bounds, 0,
               part->seal.first_time_us >= time_us ? part->seal.base_offset
                                                   : part->seal.end_offset);
        *ret_part = part->seal.first_time_us < time_us && usable(part) ? part_ref(part) : NULL;
    }
    if (fresh->base < fresh->end && indexes->times.count > 0) {
        uint64_t from;
        uint64_t to = fresh->end;

        if (fresh->last_time_us < time_us) {
            narrow(bounds, fresh->end, UINT64_MAX);
        } else if (fresh->first_time_us >= time_us) {
            narrow(bounds, 0, fresh->base);
        } else {
            (void)time_entries_find(indexes->times.entries, indexes->times.count, time_us, &from,
                                    &to); /* else: the end */
            narrow(bounds, from, to);
        }
    }
}

static struct bounds bounds_of(struct question *self, int64_t time_us)
{
    struct bounds bounds = {.to = UINT64_MAX};
    struct time_entry *entries;
    struct err_info info = {0};
    struct part *part;
    size_t count;

    topic_indexes_lock(self->indexes);
    bounds_in_memory(self->indexes, time_us, &bounds, &part);
    topic_indexes_unlock(self->indexes);
    if (part == NULL) {
        return bounds;
    }
    atomic_fetch_add(&self->lookup->files_read, 1);
    atomic_fetch_add(&self->lookup->pages_read, 1);
    info.code =
        time_part_read(self->lookup->io, self->indexes->dir, &part->seal, &entries, &count, &info);
    if (info.code == ERR_OK) {
        uint64_t from;
        uint64_t to = part->seal.end_offset;

        (void)time_entries_find(entries, count, time_us, &from, &to); /* else: the end */
        narrow(&bounds, from, to);
        free(entries);
    } else {
        lookup_damaged(self->lookup, self->indexes, part, &info);
    }
    part_unref(part);
    return bounds;
}

static void narrow_by_time(struct question *self)
{
    const struct lookup_query *query = self->query;

    if (query->since_us != 0) {
        struct bounds bounds = bounds_of(self, query->since_us);

        self->low = bounds.from > self->low ? bounds.from : self->low;
    }
    if (query->until_us != 0) {
        struct bounds bounds = bounds_of(self, query->until_us);

        self->high = bounds.to < self->high ? bounds.to : self->high;
    }
}

/* ---- keys ---- */

/* Of what is left, [low, high), the part that the cover speaks of. */
static void clip(const struct question *self, const struct cover *cover, uint64_t *ret_from,
                 uint64_t *ret_to)
{
    *ret_from = cover->from > self->low ? cover->from : self->low;
    *ret_to = cover->to < self->high ? cover->to : self->high;
    ASSERT(*ret_from < *ret_to);
}

/* Nothing is in [from, to), which is at the end of what is left where it goes on. */
static void pass_over(struct question *self, uint64_t from, uint64_t to)
{
    if (self->query->newest_first) {
        self->high = from;
    } else {
        self->low = to;
    }
    ASSERT(self->low <= self->high);
}

static bool search_part(struct question *self, struct part *part, struct key_find *find)
{
    struct err_info info = {0};
    struct key_run *run;
    uint64_t pages = 0;

    atomic_fetch_add(&self->lookup->files_read, 1);
    info.code = run_cache_acquire(&self->lookup->runs, self->indexes->dir, part, &run, &info);
    if (info.code == ERR_OK) {
        info.code = key_run_find(run, find, &pages, &info);
        run_cache_release(&self->lookup->runs, part);
    }
    atomic_fetch_add(&self->lookup->pages_read, pages);
    if (info.code != ERR_OK) {
        lookup_damaged(self->lookup, self->indexes, part, &info);
    }
    return info.code == ERR_OK;
}

/* True: answered. */
static bool answer_with(struct question *self, const struct key_find *find)
{
    struct lookup_answer *answer = self->answer;

    if (find->count == 0) {
        ASSERT(!find->more);
        pass_over(self, find->from, find->to);
        return false;
    }
    *answer = (struct lookup_answer){
        .from = find->from, .to = find->to, .exact = true, .count = find->count};
    for (size_t i = 0; i < find->count; i++) {
        answer->offsets[i] = find->offsets[i];
    }
    if (find->more && self->query->newest_first) {
        answer->from = find->offsets[find->count - 1];
    } else if (find->more) {
        answer->to = find->offsets[find->count - 1] + 1;
    }
    return true;
}

/* The B+tree at `offset`. *ret_known: it knows. True: answered. */
static bool ask_keys(struct question *self, uint64_t offset, bool *ret_known,
                     struct cover *ret_cover)
{
    uint64_t offsets[LOOKUP_OFFSETS_MAX];
    struct key_find find = {.hash = self->hash,
                            .newest_first = self->query->newest_first,
                            .offsets = offsets,
                            .count_max = LOOKUP_OFFSETS_MAX};

    topic_indexes_lock(self->indexes);
    cover_of(self, PART_KEYS, offset, ret_cover);
    clip(self, ret_cover, &find.from, &find.to);
    if (ret_cover->fresh) {
        key_table_find(&self->indexes->keys, &find);
    }
    topic_indexes_unlock(self->indexes);
    *ret_known = ret_cover->fresh;
    if (ret_cover->part != NULL) {
        *ret_known = search_part(self, ret_cover->part, &find);
        part_unref(ret_cover->part);
        ret_cover->part = NULL;
    }
    return *ret_known && answer_with(self, &find);
}

/* The Bloom filter at `offset`. True: the key is not there, and that is passed over. */
static bool ask_bloom(struct question *self, uint64_t offset, struct cover *ret_cover)
{
    struct err_info info = {0};
    uint64_t from;
    uint64_t to;
    bool may = true;

    topic_indexes_lock(self->indexes);
    cover_of(self, PART_BLOOM, offset, ret_cover);
    topic_indexes_unlock(self->indexes);
    if (ret_cover->part == NULL) {
        return false;
    }
    atomic_fetch_add(&self->lookup->files_read, 1);
    atomic_fetch_add(&self->lookup->pages_read, 1);
    info.code = bloom_part_may_hold(self->lookup->io, self->indexes->dir, &ret_cover->part->seal,
                                    self->hash, &may, &info);
    if (info.code != ERR_OK) {
        lookup_damaged(self->lookup, self->indexes, ret_cover->part, &info);
        may = true;
    }
    part_unref(ret_cover->part);
    ret_cover->part = NULL;
    if (!may) {
        clip(self, ret_cover, &from, &to);
        pass_over(self, from, to);
    }
    return !may;
}

static void answer_scan(struct question *self, uint64_t from, uint64_t to)
{
    ASSERT(from < to);
    *self->answer = (struct lookup_answer){.from = from, .to = to};
}

static void look_for_key(struct question *self)
{
    for (unsigned i = 0; i < PARTS_A_CALL && self->low < self->high; i++) {
        uint64_t offset = self->query->newest_first ? self->high - 1 : self->low;
        struct cover keys;
        struct cover bloom;
        uint64_t from;
        uint64_t to;
        bool known;

        if (ask_keys(self, offset, &known, &keys)) {
            return;
        }
        if (known || ask_bloom(self, offset, &bloom)) {
            continue;
        }
        /* As far as nothing else is known. */
        keys.from = bloom.from > keys.from ? bloom.from : keys.from;
        keys.to = bloom.to < keys.to ? bloom.to : keys.to;
        clip(self, &keys, &from, &to);
        answer_scan(self, from, to);
        return;
    }
}

void lookup_next(struct lookup *self, struct topic *topic, const struct lookup_query *query,
                 uint64_t from, uint64_t to, struct lookup_answer *ret_answer)
{
    struct question question = {
        .lookup = self, .query = query, .low = from, .high = to, .answer = ret_answer};

    ASSERT(from < to);
    atomic_fetch_add(&self->questions, 1);
    *ret_answer = (struct lookup_answer){.from = from, .to = to};
    question.indexes = lookup_find(self, topic->id);
    if (question.indexes == NULL) {
        return;
    }
    narrow_by_time(&question);
    if (question.low >= question.high) {
        question.low = question.high = query->newest_first ? from : to; /* nothing at all */
    }
    /* Where nothing is found, what was passed over so far. */
    if (question.low < question.high && query->key == NULL) {
        answer_scan(&question, question.low, question.high);
    } else {
        ret_answer->exact = true;
        question.hash = query->key != NULL ? key_hash(query->key, query->key_size) : 0;
        look_for_key(&question);
        if (ret_answer->exact && ret_answer->count == 0) {
            uint64_t at = query->newest_first ? question.high : question.low;
            bool all = question.low >= question.high;

            at = !all ? at : (query->newest_first ? from : to);
            *ret_answer = (struct lookup_answer){.from = at, .to = at};
        }
    }
    topic_indexes_unref(question.indexes);
}
