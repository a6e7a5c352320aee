/*
 * Where the next records that may match a filter lie: what the topic's indexes say, as far as there
 * are any, and what append times say, which never go down.
 */
#include <string.h>

#include "base/assert.h"
#include "record/batch_records.h"
#include "server/seek.h"

enum { ASKED_MAX = 16, CANDIDATES_MAX = 16 };

static struct lookup_query query_of(const struct seek *self)
{
    struct lookup_query query = {.since_us = self->filter->since_us,
                                 .until_us = self->filter->until_us};
    const uint8_t *key;
    size_t size;

    if (filter_key(self->filter, &key, &size)) {
        query.key = key;
        query.key_size = size;
    }
    return query;
}

/* ---- the latest one ---- */

static bool matches_in(const struct seek *self, const struct block *block, uint64_t offset)
{
    struct batch_records records;
    struct batch_header header;
    struct record record;
    bool matches = false;
    enum err err = batch_header_decode(block->data, (uint32_t)block->size, &header, NULL);

    batch_records_init(&records);
    if (err == ERR_OK && header.size <= block->size) {
        err = batch_records_start(&records, &header, block->data + BATCH_HEADER_SIZE, 0, NULL);
        while (err == ERR_OK && !matches) {
            err = batch_records_next(&records, &record);
            matches =
                err == ERR_OK && record.offset == offset && filter_matches(self->filter, &record);
        }
    }
    batch_records_fini(&records);
    return matches;
}

/* The record at offset, which has the key's hash: does it match? What cannot be read does not. */
static bool matches_at(const struct seek *self, uint64_t offset)
{
    struct block *block;
    uint64_t end;
    bool matches;

    if (log_read(self->log, offset, offset + 1, 1, &block, &end, NULL) != ERR_OK) {
        return false;
    }
    matches = matches_in(self, block, offset);
    block_unref(block);
    return matches;
}

/* One that matches, from the end on downwards, as the B+tree knows them: whatever is before it need
 * not be looked at. `offset` when none was found at once. What is not indexed is passed over here,
 * and looked at on the way up again. */
static uint64_t find_latest(const struct seek *self, uint64_t offset, uint64_t end)
{
    struct lookup_query query = query_of(self);
    unsigned candidates = 0;

    query.newest_first = true;
    for (unsigned i = 0; i < ASKED_MAX && offset < end; i++) {
        struct lookup_answer answer;

        lookup_next(self->lookup, self->topic, &query, offset, end, &answer);
        for (size_t k = 0; answer.exact && k < answer.count; k++) {
            if (matches_at(self, answer.offsets[k])) {
                return answer.offsets[k];
            }
            candidates += 1;
            if (candidates == CANDIDATES_MAX) {
                return offset;
            }
        }
        end = answer.from;
    }
    return offset;
}

/* ---- the next range ---- */

/* The next of the offsets that were told before; false: there is none. */
static bool take_told(struct seek_answer *answer, uint64_t offset, struct seek_range *range)
{
    if (!answer->valid) {
        return false;
    }
    while (answer->next < answer->answer.count) {
        uint64_t told = answer->answer.offsets[answer->next];

        answer->next += 1;
        if (told >= offset) {
            range->from = told;
            range->to = told + 1;
            return true;
        }
    }
    answer->valid = false;
    if (answer->answer.to > offset) {
        range->from = range->to = answer->answer.to; /* Nothing else up to there. */
        return true;
    }
    return false;
}

static void ask(const struct seek *self, struct seek_answer *answer, uint64_t offset, uint64_t end,
                struct seek_range *range)
{
    struct lookup_query query = query_of(self);

    *range = (struct seek_range){.from = offset, .to = end};
    if (self->filter->latest && query.key != NULL) {
        offset = find_latest(self, offset, end);
    }
    lookup_next(self->lookup, self->topic, &query, offset, end, &answer->answer);
    ASSERT(answer->answer.from >= offset && answer->answer.to <= end);
    if (answer->answer.exact) {
        answer->next = 0;
        answer->valid = true;
        (void)take_told(answer, offset, range); /* There is one. */
        return;
    }
    range->from = answer->answer.from;
    range->to = answer->answer.to;
}

/* Where no index has a time, the headers have it. */
static enum err skip_early(const struct seek *self, uint64_t end, struct seek_range *range,
                           struct err_info *info)
{
    struct batch_header header;
    uint64_t from = range->from;
    enum err err = log_read_header(self->log, from, &header, info);

    if (err != ERR_OK || header.append_time_us >= self->filter->since_us) {
        return err;
    }
    err = seek_time(self->log, self->filter->since_us, &from, info);
    if (err == ERR_OK && from > range->from) {
        range->from = from > end ? end : from;
        range->to = range->to < range->from ? range->from : range->to;
    }
    return err;
}

enum err seek_next_range(struct seek *self, struct seek_answer *answer, uint64_t offset,
                         uint64_t end, struct seek_range *ret_range, struct err_info *info)
{
    struct seek_range range = {.from = offset, .to = end};
    enum err err = ERR_OK;

    ASSERT(offset < end);
    if (!take_told(answer, offset, &range) && self->lookup != NULL) {
        ask(self, answer, offset, end, &range);
    }
    if (range.from < range.to && self->filter->since_us != 0) {
        err = skip_early(self, end, &range, info);
    }
    if (err == ERR_OK) {
        ASSERT(range.from >= offset && range.from <= range.to && range.to <= end);
        range.segments_skipped =
            range.from > offset ? log_segments_within(self->log, offset, range.from) : 0;
        *ret_range = range;
    }
    return err;
}
