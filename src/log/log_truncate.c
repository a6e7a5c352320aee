/*
 * Dropping: from the front, from the back, all of it, the log itself.
 *
 * Each is a row of file operations in an order that leaves, whenever it is interrupted, something
 * that log_open makes a log of:
 *
 *   truncate front  one store after the other from the oldest on, each removal on the disk, and the
 *                   next store's header too, before the next: no gap can appear.
 *   truncate back   stores behind the place from the newest on; then the store is cut and synced,
 *                   before anything is appended.
 *   reset           a new store of a higher generation, under a temporary name, synced; renamed;
 *                   the directory synced: this moment is the reset. Then the old ones are removed.
 *   delete          stores from the newest on, the rest, the directory.
 *
 * Readers that hold a segment go on with it: a removed file lives as long as it is open, and a
 * store that somebody reads is replaced by a shorter copy, not cut.
 */
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "log/log_internal.h"

enum err log_check_request(const struct log *self, uint64_t offset, struct err_info *info)
{
    if (!log_healthy(self)) {
        return err_set(info, ERR_FAILED, "the log in '%s' failed earlier", self->dir);
    }
    if (offset < log_start(self) || offset > log_end(self)) {
        return err_set(info, ERR_RANGE,
                       "offset %" PRIu64 " is out of range; the log holds [%" PRIu64 ", %" PRIu64
                       ")",
                       offset, log_start(self), log_end(self));
    }
    return ERR_OK;
}

/* ---- front ---- */

/* Takes the first segment away. The next one is the first then: it must be on the disk before, at
 * least its header; and an earlier removal before this one: else the disk could show a gap. */
static enum err remove_first(struct log *self, struct err_info *info)
{
    struct segment *first;
    struct store *next;
    enum err err = ERR_OK;

    ASSERT(self->list.count > 1);
    next = self->list.items[1]->store;
    if (next->synced_size < STORE_HEADER_SIZE) {
        uint64_t size = store_size(next);

        err = store_sync(next, info);
        if (err == ERR_OK) {
            store_set_synced(next, size);
        }
    }
    if (err == ERR_OK) {
        err = log_sync_dir(self, info);
    }
    if (err == ERR_OK) {
        first = segment_list_pop_front(&self->list);
        segment_retire(first, false);
        err = log_remove_segment(self, first->base_offset, first->filling, info);
        segment_unref(first);
    }
    return err;
}

enum err log_drop_passed(struct log *self, struct err_info *info)
{
    uint64_t start = log_start(self);
    enum err err = ERR_OK;

    while (err == ERR_OK && self->list.count > 1 && self->list.items[0]->end_offset <= start) {
        err = remove_first(self, info);
    }
    return err;
}

enum err log_truncate_front(struct log *self, uint64_t offset, struct err_info *info)
{
    struct segment *last = segment_list_last(&self->list);
    enum err err = log_check_request(self, offset, info);

    if (err != ERR_OK) {
        return err;
    }
    err = log_remove_passed(self, offset, UINT_MAX, info); /* They are older. */
    if (err != ERR_OK) {
        return err;
    }
    segment_list_set_bounds(&self->list, offset, log_end(self));
    if (offset == log_end(self) && last->end_offset > last->base_offset) {
        err = log_roll(self, info);
    }
    if (err == ERR_OK) {
        err = log_drop_passed(self, info);
    }
    log_publish_totals(self);
    return err == ERR_OK ? ERR_OK : log_fail(self, err);
}

/* ---- back ---- */

/* Where a log is to end. */
struct place {
    size_t segment; /* number in the list */
    uint64_t position;
    struct batch_header last; /* of the last batch before it; size 0 when the segment has none */
};

/* Finds where the batch that begins at offset, below end, stands. ERR_INVALID inside of a batch. */
static enum err find_place(struct log *self, uint64_t offset, struct place *ret_place,
                           struct err_info *info)
{
    struct segment_query query = {.offset = offset, .end_max = log_end(self)};
    struct place place = {.segment = segment_list_locate(&self->list, offset)};
    const struct segment *segment = self->list.items[place.segment];
    struct segment_run run;
    enum err err;

    err = segment_find(segment, &query, &run, info);
    if (err != ERR_OK) {
        return err;
    }
    if (run.base_offset != offset) {
        return err_set(info, ERR_INVALID,
                       "offset %" PRIu64 " lies inside the batch [%" PRIu64 ", %" PRIu64 ")",
                       offset, run.base_offset, run.end_offset);
    }
    place.position = run.position;
    if (offset > segment->base_offset) {
        query.offset = offset - 1;
        err = segment_find(segment, &query, &run, info);
        place.last = run.first;
    }
    if (err == ERR_OK) {
        *ret_place = place;
    }
    return err;
}

/* Shortens the file of the last segment. *ret_store is a reference for the caller. */
static enum err shorten(struct log *self, uint64_t position, struct store **ret_store,
                        struct err_info *info)
{
    struct store *old = segment_list_last(&self->list)->store;
    bool filling = segment_list_last(&self->list)->filling;
    struct store *copy = NULL;
    char path[IO_PATH_SIZE];
    enum err err;

    if (!segment_list_last_is_shared(&self->list) && !filling) {
        err = store_truncate(old, position, info);
        if (err == ERR_OK) {
            *ret_store = store_ref(old);
        }
        return err;
    }
    segment_retire(segment_list_last(&self->list), true);
    err = segment_path(path, self->dir, old->base_offset, SEGMENT_STORE, info);
    if (err == ERR_OK) {
        err = store_copy(old, path, position, &copy, info);
    }
    if (err == ERR_OK) {
        err = store_commit(copy, info);
    }
    if (err != ERR_OK) {
        store_unref(copy);
        return err;
    }
    self->dir_changes += 1;
    /* The copy has the ordinary name, whatever the old one had. */
    err = log_sync_dir(self, info);
    if (err == ERR_OK && filling) {
        err = log_remove_file(self, old->base_offset, SEGMENT_FILLING, info);
    }
    if (err != ERR_OK) {
        store_unref(copy);
        return err;
    }
    *ret_store = copy;
    return ERR_OK;
}

/* The segments behind the place are gone; now the one it lies in, which is pinned up to here. */
static enum err cut_last(struct log *self, uint64_t offset, const struct place *place,
                         struct err_info *info)
{
    struct segment *old = segment_list_last(&self->list);
    struct segment_cut cut = {
        .position = place->position,
        .end_offset = offset,
        .last = place->last.size > 0 ? &place->last : NULL,
        .before = place->segment > 0 ? self->list.items[place->segment - 1] : NULL,
    };
    struct segment *active = NULL;
    struct store *store = NULL;
    enum err err;

    ASSERT(place->segment == self->list.count - 1);
    err = shorten(self, place->position, &store, info);
    if (err == ERR_OK) {
        err = segment_cut(&self->config, old, store, &cut, &active, info);
    }
    segment_unpin(old);
    if (err != ERR_OK) {
        store_unref(store);
        return err;
    }
    segment_list_replace_last(&self->list, active);
    return ERR_OK;
}

/* Removes the segments from number `count` on, newest first. */
static enum err remove_from(struct log *self, size_t count, struct err_info *info)
{
    enum err err = ERR_OK;

    while (err == ERR_OK && self->list.count > count) {
        struct segment *last = segment_list_pop_back(&self->list);

        segment_retire(last, false);
        err = log_remove_segment(self, last->base_offset, last->filling, info);
        segment_unref(last);
    }
    return err;
}

/* The log is to end inside a hole, or where one begins. */
static enum err cut_hole(struct log *self, uint64_t offset, struct err_info *info)
{
    struct segment_origin origin = {.base_offset = offset, .generation = self->generation};
    struct segment *active = NULL;
    enum err err;

    err = remove_from(self, segment_list_count_from(&self->list, offset), info);
    if (err == ERR_OK) {
        /* As cutting does, before anything new is there. */
        err = log_sync_dir(self, info);
    }
    if (err == ERR_OK) {
        err = segment_list_reserve(&self->list);
    }
    if (err == ERR_OK) {
        origin.before = self->list.count > 0 ? segment_list_last(&self->list) : NULL;
        err = segment_create(&self->config, &origin, &active, info);
    }
    if (err != ERR_OK) {
        return err;
    }
    self->dir_changes += 1;
    segment_list_push(&self->list, active);
    return ERR_OK;
}

/* The log is to end inside a segment. */
static enum err cut_segment(struct log *self, uint64_t offset, const struct place *place,
                            struct err_info *info)
{
    const struct segment *segment = self->list.items[place->segment];
    enum err err = segment_pin(segment, NULL, info); /* Its index is needed without its file. */

    if (err != ERR_OK) {
        return err;
    }
    err = remove_from(self, place->segment + 1, info);
    if (err == ERR_OK) {
        err = log_remove_file(self, segment->base_offset, SEGMENT_INDEX, info);
    }
    if (err == ERR_OK) {
        err = log_sync_dir(self, info);
    }
    if (err != ERR_OK) {
        segment_unpin(segment);
        return err;
    }
    return cut_last(self, offset, place, info);
}

/* Whether no segment holds offset, which is below the end. */
static bool is_missing(const struct log *self, uint64_t offset)
{
    size_t count = segment_list_count_from(&self->list, offset);

    return count == 0 || self->list.items[count - 1]->end_offset <= offset;
}

enum err log_truncate_back(struct log *self, uint64_t offset, struct err_info *info)
{
    struct place place = {0};
    bool missing;
    enum err err = log_check_request(self, offset, info);

    if (err != ERR_OK || offset == log_end(self)) {
        return err;
    }
    missing = is_missing(self, offset);
    err = missing ? ERR_OK : find_place(self, offset, &place, info);
    if (err != ERR_OK) {
        return err;
    }
    segment_list_set_bounds(&self->list, log_start(self), offset);
    err = log_forget_superseded(self, info);
    if (err != ERR_OK) {
        return log_fail(self, err);
    }
    err = missing ? cut_hole(self, offset, info) : cut_segment(self, offset, &place, info);
    log_publish_totals(self);
    return err == ERR_OK ? ERR_OK : log_fail(self, err);
}

/* ---- all ---- */

/* The new first store, durably in its place. */
static enum err create_reset(struct log *self, uint64_t next_offset, struct segment **ret_segment,
                             struct err_info *info)
{
    struct segment_origin origin = {
        .base_offset = next_offset,
        .generation = self->generation + 1,
        .temporary = true,
    };
    size_t count = segment_list_count_from(&self->list, next_offset);
    struct segment *segment = NULL;
    enum err err;

    err = segment_create(&self->config, &origin, &segment, info);
    if (err != ERR_OK) {
        return err;
    }
    err = store_sync(segment->store, info);
    if (err == ERR_OK && count > 0 && self->list.items[count - 1]->base_offset == next_offset) {
        segment_retire(self->list.items[count - 1], true); /* Its name goes to the new one. */
    }
    if (err == ERR_OK) {
        err = store_commit(segment->store, info);
    }
    if (err == ERR_OK) {
        self->dir_changes += 1;
        err = log_sync_dir(self, info);
    }
    if (err != ERR_OK) {
        segment_unref(segment);
        return err;
    }
    store_set_synced(segment->store, store_size(segment->store));
    *ret_segment = segment;
    return ERR_OK;
}

/* Removes the files of a segment that was there before the reset to next_offset: its store may be
 * replaced by now. */
static enum err remove_old(struct log *self, uint64_t base_offset, bool filling,
                           uint64_t next_offset, struct err_info *info)
{
    return base_offset == next_offset && !filling
               ? log_remove_file(self, base_offset, SEGMENT_INDEX, info)
               : log_remove_segment(self, base_offset, filling, info);
}

static enum err remove_all_old(struct log *self, struct segment_list *old, uint64_t next_offset,
                               struct err_info *info)
{
    enum err err = ERR_OK;

    while (err == ERR_OK && old->count > 0) {
        struct segment *last = segment_list_pop_back(old);

        segment_retire(last, false);
        err = remove_old(self, last->base_offset, last->filling, next_offset, info);
        segment_unref(last);
    }
    while (err == ERR_OK && self->passed_count > 0) {
        const struct passed_segment *passed = &self->passed[self->passed_count - 1];

        err = remove_old(self, passed->base_offset, passed->filling, next_offset, info);
        self->passed_count--;
    }
    while (err == ERR_OK && self->superseded_count > 0) {
        uint64_t base_offset = self->superseded[self->superseded_count - 1].base_offset;

        err = remove_old(self, base_offset, false, next_offset, info);
        self->superseded_count--;
    }
    return err;
}

enum err log_reset(struct log *self, uint64_t next_offset, struct err_info *info)
{
    struct segment_list old;
    struct segment *segment = NULL;
    enum err err;

    if (!log_healthy(self)) {
        return err_set(info, ERR_FAILED, "the log in '%s' failed earlier", self->dir);
    }
    segment_list_init(&old);
    err = segment_list_reserve(&old); /* Before anything changes. */
    if (err != ERR_OK) {
        segment_list_fini(&old);
        return err_set(info, err, "reset: out of memory");
    }
    err = create_reset(self, next_offset, &segment, info);
    if (err != ERR_OK) {
        segment_list_fini(&old);
        return log_fail(self, err);
    }
    self->generation += 1;
    segment_list_exchange(&self->list, &old, segment, next_offset);
    err = remove_all_old(self, &old, next_offset, info);
    segment_list_fini(&old);
    log_publish_totals(self);
    if (err == ERR_OK) {
        err = log_drop_damaged(self, info);
    }
    if (err == ERR_OK) {
        /* Before anything is appended: a store that comes back must not seem to go on from it. */
        err = log_sync_dir(self, info);
    }
    return err == ERR_OK ? ERR_OK : log_fail(self, err);
}

enum err log_delete(struct log *self, struct err_info *info)
{
    struct io *io = self->config.io;
    char *dir = self->dir;
    const char *parent = ".";
    char *name = dir;
    char *slash;
    size_t size = strlen(dir);
    enum err err = ERR_OK;

    err = remove_from(self, 0, info);
    self->dir = NULL;
    log_free(self);
    while (size > 1 && dir[size - 1] == '/') {
        size -= 1;
        dir[size] = '\0';
    }
    slash = strrchr(dir, '/');
    if (slash != NULL) {
        *slash = '\0';
        parent = slash == dir ? "/" : dir;
        name = slash + 1;
    }
    if (err == ERR_OK) {
        err = io_remove_dir(io, parent, name, info);
    }
    free(dir);
    return err;
}
