#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "lookup/bloom_part.h"
#include "lookup/key_merge.h"
#include "lookup/lookup_internal.h"

enum { KEYS_KEPT = 1024 }; /* room for so many, in a table that is empty again */

static int compare_entries(const void *a, const void *b)
{
    return key_entry_compare(a, b);
}

static enum err write_sorted(struct lookup *self, const struct topic_indexes *indexes,
                             const struct key_entry *entries, size_t count, struct part_seal *seal,
                             struct err_info *info)
{
    struct key_writer *writer;
    enum err err = key_writer_open(self->io, indexes->dir, seal, count, &writer, info);

    if (err != ERR_OK) {
        return err;
    }
    for (size_t i = 0; err == ERR_OK && i < count; i++) {
        err = key_writer_add(writer, &entries[i], info);
    }
    if (err != ERR_OK) {
        key_writer_abort(writer);
        return err;
    }
    return key_writer_finish(writer, seal, info);
}

static enum err write_keys(struct lookup *self, const struct topic_indexes *indexes,
                           struct part_seal *seal, struct err_info *info)
{
    size_t count = indexes->keys.count;
    struct key_entry *entries = malloc((count + 1) * sizeof *entries);
    enum err err;

    if (entries == NULL) {
        return err_set(info, ERR_NOMEM, "no memory to sort keys");
    }
    if (count > 0) {
        memcpy(entries, indexes->keys.entries, count * sizeof *entries);
        qsort(entries, count, sizeof *entries, compare_entries);
    }
    err = write_sorted(self, indexes, entries, count, seal, info);
    free(entries);
    return err;
}

static enum err write_kind(struct lookup *self, const struct topic_indexes *indexes,
                           struct part_seal *seal, struct err_info *info)
{
    switch (seal->kind) {
    case PART_TIME:
        return time_part_write(self->io, indexes->dir, &indexes->times, seal, info);
    case PART_KEYS:
        return write_keys(self, indexes, seal, info);
    case PART_BLOOM:
        return bloom_part_write(self->io, indexes->dir, indexes->hashes, indexes->hash_count, seal,
                                info);
    case PART_KIND_COUNT:
        break;
    }
    ASSERT(!"a kind of part");
    return ERR_INVALID;
}

/* A large table is given back: another topic may be the one that fills the next. */
static void forget_keys(struct key_table *keys)
{
    if (keys->capacity > KEYS_KEPT) {
        key_table_fini(keys);
        key_table_init(keys);
    } else {
        key_table_clear(keys);
    }
}

void lookup_forget(struct topic_indexes *indexes, enum part_kind kind)
{
    topic_indexes_lock(indexes);
    indexes->kinds[kind].fresh = (struct fresh){0};
    if (kind == PART_TIME) {
        time_table_clear(&indexes->times);
    } else if (kind == PART_KEYS) {
        forget_keys(&indexes->keys);
    } else {
        free(indexes->hashes); /* It is given back: the next one may be of another topic. */
        indexes->hashes = NULL;
        indexes->hash_count = 0;
        indexes->hash_capacity = 0;
    }
    topic_indexes_unlock(indexes);
}

/* A file that was just written. */
static enum err new_part(struct lookup *self, const struct topic_indexes *indexes,
                         const struct part_seal *seal, struct part **ret_part,
                         struct err_info *info)
{
    struct part *part = part_new(seal);
    enum err err = ERR_OK;

    if (part == NULL) {
        return err_set(info, ERR_NOMEM, "no memory for an index");
    }
    part->checked_ms = lookup_now_ms(self);
    if (seal->kind == PART_KEYS) {
        err = key_run_stamp(indexes->dir, seal, &part->stamp, info);
        part->verified = err == ERR_OK;
    }
    if (err != ERR_OK) {
        part_unref(part);
        return err;
    }
    atomic_fetch_add(&self->files_written, 1);
    *ret_part = part;
    return ERR_OK;
}

static uint32_t log_kib(uint64_t size)
{
    uint64_t kib = (size + 1023) / 1024;

    ASSERT(size > 0);
    return kib < UINT32_MAX ? (uint32_t)kib : UINT32_MAX;
}

enum err lookup_flush(struct lookup *self, struct topic_indexes *indexes, enum part_kind kind,
                      struct err_info *info)
{
    struct kind_index *index = &indexes->kinds[kind];
    struct part_seal seal = {
        .kind = kind,
        .topic_id = indexes->id,
        .base_offset = index->fresh.base,
        .end_offset = index->fresh.end,
        .first_time_us = index->fresh.first_time_us,
        .last_time_us = index->fresh.last_time_us,
        .log_kib = log_kib(index->fresh.size),
    };
    struct part *part = NULL;
    enum err err;

    ASSERT(index->fresh.base < index->fresh.end);
    memcpy(seal.digest, index->fresh.digest, sizeof seal.digest);
    if (seal.last_time_us < seal.first_time_us) {
        seal.last_time_us = seal.first_time_us;
    }
    err = write_kind(self, indexes, &seal, info);
    err = err != ERR_OK ? err : new_part(self, indexes, &seal, &part, info);
    if (err != ERR_OK) {
        return err;
    }
    /* What it replaces goes in the same moment. */
    topic_indexes_lock(indexes);
    err = part_list_add(&index->parts, part);
    topic_indexes_unlock(indexes);
    ASSERT(err != ERR_EXISTS); /* I1 */
    if (err != ERR_OK) {
        part_unref(part);
        return err_set(info, err, "no memory for an index");
    }
    lookup_forget(indexes, kind);
    return ERR_OK;
}

/* ---- merging ---- */

/* The merged file takes the place of those that went into it. */
static enum err exchange(struct lookup *self, struct topic_indexes *indexes, struct err_info *info)
{
    struct part_list *parts = &indexes->kinds[PART_KEYS].parts;
    const struct part_seal *seal = key_merge_seal(indexes->merge);
    struct part *merged = NULL;
    struct part *old[KEY_MERGE_WIDTH];
    enum err err = new_part(self, indexes, seal, &merged, info);
    size_t at;

    if (err != ERR_OK) {
        return err;
    }
    topic_indexes_lock(indexes);
    at = part_list_find(parts, seal->base_offset);
    for (size_t i = 0; i < KEY_MERGE_WIDTH; i++) {
        ASSERT(parts->items[at] == key_merge_parts(indexes->merge)[i]);
        old[i] = part_list_remove(parts, at);
    }
    err = part_list_add(parts, merged);
    topic_indexes_unlock(indexes);
    ASSERT(err == ERR_OK); /* There is room: eight went. */
    key_merge_free(indexes->merge);
    indexes->merge = NULL;
    for (size_t i = 0; i < KEY_MERGE_WIDTH; i++) {
        run_cache_drop(&self->runs, old[i]);
        /* What stays is a leftover, and goes when the topic is loaded next. */
        (void)part_remove(self->io, indexes->dir, &old[i]->seal, NULL);
        part_unref(old[i]);
    }
    return ERR_OK;
}

static enum err start_merge(struct lookup *self, struct topic_indexes *indexes,
                            struct part **ret_damaged, struct err_info *info)
{
    const struct part_list *parts = &indexes->kinds[PART_KEYS].parts;
    size_t at;

    if (!key_merge_find(parts, &at)) {
        return ERR_AGAIN;
    }
    return key_merge_new(self->io, &self->runs, indexes->dir, parts->items + at, &indexes->merge,
                         ret_damaged, info);
}

enum err lookup_merge(struct lookup *self, struct topic_indexes *indexes, bool *ret_busy,
                      struct err_info *info)
{
    struct part *damaged = NULL;
    bool done = false;
    enum err err = ERR_OK;

    if (indexes->merge == NULL) {
        err = start_merge(self, indexes, &damaged, info);
        if (err == ERR_AGAIN) {
            return ERR_OK;
        }
    }
    if (err == ERR_OK) {
        err = key_merge_step(indexes->merge, log_start(indexes->topic->log), &done, &damaged, info);
    }
    if (err == ERR_OK) {
        (void)lookup_paced(self, KEY_MERGE_STEP * 16); /* A stop is seen by the worker. */
        err = done ? exchange(self, indexes, info) : ERR_OK;
    }
    *ret_busy = true;
    if (err == ERR_OK) {
        return ERR_OK;
    }
    if (damaged != NULL && err != ERR_NOMEM) {
        info->code = err;
        lookup_damaged(self, indexes, damaged, info);
        err = ERR_OK;
    }
    key_merge_free(indexes->merge);
    indexes->merge = NULL;
    return err;
}
