/*
 * A piece of a topic's log goes into its indexes: read once, for all kinds that lack it.
 *
 * Each kind goes on where it lacks something first (kind_index_missing). What is in memory of it
 * is one piece without a gap, so that it is written out when the next piece is elsewhere, behind a
 * hole or in one that was filled; of times and Bloom filters also when a segment ends. A Bloom
 * filter is made of sealed segments only.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "lookup/bloom_part.h"
#include "lookup/key_hash.h"
#include "lookup/lookup_internal.h"
#include "record/batch_records.h"

enum {
    STEP_SIZE = 1024 * 1024,
    KEYS_LEAST = 256, /* in a file, however many topics there are */
};

/* One step. */
struct step {
    struct lookup *lookup;
    struct topic_indexes *indexes;
    struct log *log;
    struct log_extent extent; /* the segment that it reads */
    uint64_t at;
    uint64_t next[PART_KIND_COUNT];  /* offset that the kind lacks */
    uint64_t limit[PART_KIND_COUNT]; /* where a file of it begins */
    bool takes[PART_KIND_COUNT];
    struct batch_records records;
    struct key_entry *keys; /* owned: of one batch */
    size_t key_count;
    size_t key_capacity;
    struct time_span times; /* of the records of one batch that count */
    struct err_info *info;
};

/* Where each kind goes on; false: nothing is missing. */
static bool find_work(struct step *step)
{
    uint64_t start = log_start(step->log);
    uint64_t end = log_end(step->log);
    uint64_t lowest = end;

    topic_indexes_lock(step->indexes); /* what is told of it changes */
    for (unsigned kind = 0; kind < PART_KIND_COUNT; kind++) {
        struct kind_index *index = &step->indexes->kinds[kind];
        struct log_extent extent;

        step->next[kind] = end;
        if (!index->wanted || index->failed != ERR_OK) {
            continue;
        }
        step->next[kind] = kind_index_missing(index, step->log, start);
        if (kind == PART_BLOOM && step->next[kind] < end &&
            (log_extent_at(step->log, step->next[kind], &extent, NULL) != ERR_OK ||
             !extent.sealed)) {
            step->next[kind] = end;
        }
        if (step->next[kind] == end) {
            index->ready = true;
            index->started_ms = 0;
        } else if (index->started_ms == 0) {
            index->started_ms = lookup_now_ms(step->lookup);
            index->offsets_done = 0;
        }
        lowest = step->next[kind] < lowest ? step->next[kind] : lowest;
    }
    topic_indexes_unlock(step->indexes);
    step->at = lowest;
    return lowest < end;
}

/* Half of a topic's share for each of the two. Those that grow by doubling may take twice what they
 * hold. */
static size_t share_of(const struct lookup *self, size_t item_size, size_t least, size_t most)
{
    size_t topics = HASH_COUNT(self->topics); /* The worker is the one that changes it. */
    size_t count = self->options.memory / 2 / (topics > 0 ? topics : 1) / (2 * item_size);

    least = least < most ? least : most;
    ASSERT(least > 0 && most <= BLOOM_KEYS_MAX);
    if (self->options.memory == 0 || count > most) {
        return most;
    }
    return count > least ? count : least;
}

size_t lookup_keys_max(const struct lookup *self)
{
    return share_of(self, KEY_TABLE_ENTRY_SIZE, KEYS_LEAST, self->options.table_max);
}

size_t lookup_hashes_max(const struct lookup *self)
{
    return share_of(self, sizeof(uint64_t), KEYS_LEAST, BLOOM_KEYS_MAX);
}

static bool is_full(const struct step *step, enum part_kind kind)
{
    const struct topic_indexes *indexes = step->indexes;
    const struct fresh *fresh = &indexes->kinds[kind].fresh;
    bool segment_ended = step->extent.sealed && fresh->end >= step->extent.end_offset;

    switch (kind) {
    case PART_TIME:
        return segment_ended || !fresh->exact;
    case PART_KEYS:
        return indexes->keys.count >= lookup_keys_max(step->lookup) ||
               fresh->size >= step->lookup->options.part_max || !fresh->exact;
    case PART_BLOOM:
        return segment_ended || indexes->hash_count >= lookup_hashes_max(step->lookup) ||
               !fresh->exact;
    case PART_KIND_COUNT:
        break;
    }
    ASSERT(!"a kind of part");
    return false;
}

/* What is in memory has to be written before the kind goes on at step->next. */
static bool must_flush(const struct step *step, enum part_kind kind)
{
    const struct fresh *fresh = &step->indexes->kinds[kind].fresh;

    return fresh->base < fresh->end &&
           (fresh->end != step->next[kind] || is_full(step, kind) ||
            (kind != PART_KEYS && fresh->segment != step->extent.base_offset));
}

/* False: the kind has failed, and is tried again later. */
static bool flush(struct step *step, enum part_kind kind)
{
    enum err err = lookup_flush(step->lookup, step->indexes, kind, step->info);

    if (err != ERR_OK) {
        step->info->code = err;
        lookup_fail(step->lookup, step->indexes, kind, step->info);
    }
    return err == ERR_OK;
}

/* Which kinds take part in this step, and that what they have in memory goes on there. */
static void prepare(struct step *step)
{
    for (unsigned i = 0; i < PART_KIND_COUNT; i++) {
        enum part_kind kind = (enum part_kind)i;
        const struct kind_index *index = &step->indexes->kinds[kind];
        uint64_t to;

        step->takes[kind] = index->wanted && index->failed == ERR_OK &&
                            step->next[kind] < step->extent.end_offset &&
                            (kind != PART_BLOOM || step->extent.sealed);
        if (step->takes[kind] && must_flush(step, kind)) {
            step->takes[kind] = flush(step, kind);
        }
        if (!kind_index_covered(index, step->next[kind], &step->limit[kind], &to)) {
            step->limit[kind] = UINT64_MAX;
        }
    }
}

static enum err note_key(struct step *step, const struct record *record)
{
    if (step->key_count == step->key_capacity) {
        size_t capacity = step->key_capacity == 0 ? 256 : 2 * step->key_capacity;
        struct key_entry *keys = realloc(step->keys, capacity * sizeof *keys);

        if (keys == NULL) {
            return err_set(step->info, ERR_NOMEM, "no memory for the keys of a batch");
        }
        step->keys = keys;
        step->key_capacity = capacity;
    }
    step->keys[step->key_count++] = (struct key_entry){
        .hash = key_hash(record->key, record->key_size), .offset = record->offset};
    return ERR_OK;
}

/* A body that is no RecordSet, though its checksum is right, has no keys that anybody could read.
 */
static enum err read_keys(struct step *step, const struct batch_header *header, const uint8_t *body)
{
    struct record record;
    enum err err = batch_records_start(&step->records, header, body, 0, step->info);

    step->key_count = 0;
    while (err == ERR_OK) {
        err = batch_records_next(&step->records, &record);
        if (err == ERR_OK && record.key != NULL) {
            err = note_key(step, &record);
        }
    }
    return err == ERR_NOMEM ? err : ERR_OK;
}

/* When the records of [from, to) were appended, and none that there might have been: before the
 * first one nothing is later, behind the last one nothing earlier. A compacted batch's header knows
 * only its end. */
static enum err read_times(struct step *step, const struct batch_header *header,
                           const uint8_t *body, uint64_t from, uint64_t to)
{
    struct time_span times = {.first_us = header->append_time_us,
                              .last_us = header->append_time_us};
    struct record record;
    bool found = false;
    enum err err;

    step->times = times;
    if ((header->attributes & BATCH_SPARSE) == 0) {
        return ERR_OK;
    }
    err = batch_records_start(&step->records, header, body, 0, step->info);
    while (err == ERR_OK && (err = batch_records_next(&step->records, &record)) == ERR_OK) {
        if (record.offset >= from && !found) {
            times.first_us = record.append_time_us;
            times.last_us = record.append_time_us;
            found = true;
        }
        if (record.offset >= to) {
            break;
        }
        if (found) {
            times.last_us = record.append_time_us;
        }
    }
    if (err == ERR_NOMEM) {
        return err;
    }
    if (to >= batch_end_offset(header)) {
        times.last_us = header->append_time_us;
    }
    if (times.first_us <= times.last_us) {
        step->times = times;
    }
    return ERR_OK;
}

static enum err reserve_hashes(struct topic_indexes *indexes, size_t count, struct err_info *info)
{
    size_t capacity = indexes->hash_capacity == 0 ? 1024 : indexes->hash_capacity;
    uint64_t *hashes;

    while (capacity < indexes->hash_count + count) {
        capacity *= 2;
    }
    if (capacity == indexes->hash_capacity) {
        return ERR_OK;
    }
    hashes = realloc(indexes->hashes, capacity * sizeof *hashes);
    if (hashes == NULL) {
        return err_set(info, ERR_NOMEM, "no memory for a Bloom filter's keys");
    }
    indexes->hashes = hashes;
    indexes->hash_capacity = capacity;
    return ERR_OK;
}

/* Under the topic's lock: all of the batch, or nothing. */
static enum err take_contents(struct step *step, enum part_kind kind,
                              const struct batch_header *header)
{
    struct topic_indexes *indexes = step->indexes;
    uint64_t from = step->next[kind];
    enum err err = ERR_OK;

    switch (kind) {
    case PART_TIME:
        return time_table_add(&indexes->times, from, &step->times, header->size);
    case PART_KEYS:
        err = key_table_reserve(&indexes->keys, step->key_count);
        for (size_t i = 0; err == ERR_OK && i < step->key_count; i++) {
            /* What is behind the limit is in the file that begins there. */
            if (step->keys[i].offset >= from && step->keys[i].offset < step->limit[kind]) {
                key_table_add(&indexes->keys, &step->keys[i]);
            }
        }
        return err;
    case PART_BLOOM:
        err = reserve_hashes(indexes, step->key_count, step->info);
        for (size_t i = 0; err == ERR_OK && i < step->key_count; i++) {
            indexes->hashes[indexes->hash_count++] = step->keys[i].hash;
        }
        return err;
    case PART_KIND_COUNT:
        break;
    }
    ASSERT(!"a kind of part");
    return ERR_INVALID;
}

static enum err take_batch(struct step *step, enum part_kind kind,
                           const struct batch_header *header, const uint8_t *body)
{
    struct kind_index *index = &step->indexes->kinds[kind];
    struct fresh *fresh = &index->fresh;
    uint64_t end = batch_end_offset(header);
    enum err err;

    ASSERT(header->base_offset <= step->next[kind] && step->next[kind] < end);
    if (kind == PART_TIME) {
        err = read_times(step, header, body, step->next[kind],
                         end <= step->limit[kind] ? end : step->limit[kind]);
        if (err != ERR_OK) {
            return err;
        }
    } else {
        step->times = (struct time_span){header->append_time_us, header->append_time_us};
    }
    topic_indexes_lock(step->indexes);
    err = take_contents(step, kind, header);
    if (err == ERR_OK) {
        if (fresh->base == fresh->end) {
            *fresh = (struct fresh){.base = step->next[kind],
                                    .segment = step->extent.base_offset,
                                    .first_time_us = step->times.first_us};
        }
        fresh->exact = end <= step->limit[kind];
        fresh->end = fresh->exact ? end : step->limit[kind];
        fresh->size += header->size;
        fresh->last_time_us = step->times.last_us;
        memcpy(fresh->digest, header->digest, sizeof fresh->digest);
        index->offsets_done += fresh->end - step->next[kind];
        step->next[kind] = fresh->end;
    }
    topic_indexes_unlock(step->indexes);
    return err == ERR_OK ? ERR_OK : err_set(step->info, err, "no memory for an index");
}

static enum err take_by_all(struct step *step, const struct batch_header *header,
                            const uint8_t *body)
{
    enum err err = ERR_OK;

    if (step->takes[PART_KEYS] || step->takes[PART_BLOOM]) {
        err = read_keys(step, header, body);
    }
    for (unsigned kind = 0; err == ERR_OK && kind < PART_KIND_COUNT; kind++) {
        if (!step->takes[kind] || batch_end_offset(header) <= step->next[kind]) {
            continue;
        }
        if (header->base_offset > step->next[kind] || step->next[kind] >= step->limit[kind]) {
            step->takes[kind] = false; /* It goes on elsewhere. */
            continue;
        }
        err = take_batch(step, (enum part_kind)kind, header, body);
        if (err == ERR_OK && is_full(step, (enum part_kind)kind)) {
            step->takes[kind] = flush(step, (enum part_kind)kind);
        }
    }
    return err;
}

static enum err take_block(struct step *step, const struct block *block)
{
    size_t at = 0;
    enum err err = ERR_OK;

    while (err == ERR_OK && at < block->size) {
        struct batch_header header;

        err = batch_header_decode(block->data + at, UINT32_MAX, &header, step->info);
        if (err == ERR_OK) {
            ASSERT(header.size <= block->size - at); /* log_read verified it */
            err = take_by_all(step, &header, block->data + at + BATCH_HEADER_SIZE);
            at += header.size;
        }
    }
    return err;
}

static enum err read_and_take(struct step *step)
{
    struct block *block = NULL;
    uint64_t end;
    enum err err = log_read(step->log, step->at, UINT64_MAX, STEP_SIZE, &block, &end, step->info);

    if (err != ERR_OK) {
        return err;
    }
    atomic_fetch_add(&step->lookup->bytes_built, block->size);
    (void)lookup_paced(step->lookup, block->size); /* A stop is seen by the worker. */
    err = take_block(step, block);
    block_unref(block);
    return err;
}

enum err lookup_build(struct lookup *self, struct topic_indexes *indexes, bool *ret_busy,
                      struct err_info *info)
{
    struct step step = {
        .lookup = self, .indexes = indexes, .log = indexes->topic->log, .info = info};
    enum err err;

    if (!find_work(&step)) {
        return ERR_OK;
    }
    err = log_extent_at(step.log, step.at, &step.extent, info);
    if (err == ERR_OK) {
        batch_records_init(&step.records);
        prepare(&step);
        err = read_and_take(&step);
        batch_records_fini(&step.records);
        free(step.keys);
    }
    if (err == ERR_RANGE || err == ERR_HOLE || err == ERR_AGAIN) {
        return ERR_OK; /* The log has changed: what was missing is not there. Later again. */
    }
    *ret_busy = err == ERR_OK;
    return err;
}
