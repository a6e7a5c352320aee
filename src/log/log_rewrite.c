/*
 * Other batches in the place of those of some sealed segments, which become one.
 *
 *      [ 0 … 99 ][ 100 … 199 ][ 200 … ]        0.store       100.store   200.store
 *                                              0.store.compact           put, run: any thread
 *      [ 0 ………………………… 199 ][ 200 … ]          0.store (new) 100.store   200.store   end
 *      [ 0 ………………………… 199 ][ 200 … ]          0.store (new)             200.store   log_settle
 *
 * What is new is whole and synced before it gets the name of the first of the old stores: this
 * moment is the rewriting. The other old files are superseded: they go when that name is durable,
 * after a sync of the log. A crash before finds the old segments as they were, or the new one, and
 * the others as leftovers: a store that says that it was rewritten, and verifies, covers them
 * (log_files.c). Before the log is cut where it was rewritten, they go durably
 * (log_forget_superseded).
 *
 * A new store counts the rewritings of what begins where it begins, and so does its index: an old
 * index is never taken for that of a new store, nor a new one for that of an old store, which
 * readers may still have, whatever a crash makes of the order of the two renames.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "log/log_internal.h"

struct log_rewrite {
    const struct log *log; /* borrowed: what never changes of it */
    uint64_t from;
    uint64_t to;
    uint64_t generation;
    struct segment *made;     /* owned; NULL: nothing was put; sealed by run */
    struct batch_header last; /* of what was put */
    bool done;                /* run was called */
    enum err err;             /* what put or run failed with */
    size_t count;
    struct segment *old[]; /* owned references */
};

/* ---- begin ---- */

/* How many segments from number `at` on make up [from, to); 0: they are not what can be
 * rewritten. */
static size_t count_old(const struct log *self, size_t at, uint64_t from, uint64_t to)
{
    uint64_t end = from;
    size_t count = 0;

    while (end < to && at + count + 1 < self->list.count) {
        const struct segment *segment = self->list.items[at + count];

        if (!segment->sealed || segment->filling || segment->base_offset != end) {
            return 0;
        }
        end = segment->end_offset;
        count += 1;
    }
    return end == to ? count : 0;
}

static enum err not_rewritable(uint64_t from, uint64_t to, struct err_info *info)
{
    return err_set(info, ERR_AGAIN,
                   "[%" PRIu64 ", %" PRIu64 ") is not made up of whole, sealed segments", from, to);
}

enum err log_rewrite_begin(struct log *self, uint64_t from, uint64_t to,
                           struct log_rewrite **ret_rewrite, struct err_info *info)
{
    size_t at = segment_list_count_from(&self->list, from);
    struct log_rewrite *rewrite;
    size_t count;
    enum err err = log_check_healthy(self, info);

    if (err != ERR_OK) {
        return err;
    }
    count = at == 0 || from >= to ? 0 : count_old(self, at - 1, from, to);
    if (count == 0) {
        return not_rewritable(from, to, info);
    }
    rewrite = calloc(1, sizeof *rewrite + count * sizeof(struct segment *));
    if (rewrite == NULL || log_reserve_superseded(self, count - 1) != ERR_OK) {
        free(rewrite);
        return err_set(info, ERR_NOMEM, "rewrite '%s': out of memory", self->dir);
    }
    rewrite->log = self;
    rewrite->from = from;
    rewrite->to = to;
    rewrite->generation = self->generation;
    rewrite->count = count;
    for (size_t i = 0; i < count; i++) {
        rewrite->old[i] = segment_ref(self->list.items[at - 1 + i]);
    }
    *ret_rewrite = rewrite;
    return ERR_OK;
}

/* ---- read ---- */

enum err log_rewrite_read(const struct log_rewrite *rewrite, uint64_t offset, uint64_t end_max,
                          size_t size_max, struct block **ret_batches, uint64_t *ret_end_offset,
                          struct err_info *info)
{
    struct segment_query query = {.offset = offset, .size_max = size_max};
    size_t i = 0;

    ASSERT(offset >= rewrite->from && offset < rewrite->to && offset < end_max);
    while (rewrite->old[i]->end_offset <= offset) {
        i += 1;
    }
    ASSERT(i < rewrite->count);
    query.end_max = end_max < rewrite->old[i]->end_offset ? end_max : rewrite->old[i]->end_offset;
    return segment_read(rewrite->old[i], &query, ret_batches, ret_end_offset, info);
}

/* ---- put ---- */

/* The header of the old batch that holds `offset`, of segment number `i`. */
static enum err find_old(const struct log_rewrite *self, size_t i, uint64_t offset,
                         struct batch_header *ret_header, struct err_info *info)
{
    struct segment_query query = {.offset = offset, .end_max = self->old[i]->end_offset};
    struct segment_run run = {0};
    enum err err = segment_find(self->old[i], &query, &run, info);

    if (err == ERR_OK) {
        *ret_header = run.first;
    }
    return err;
}

/* The new segment, empty, under a name of its own. */
static enum err make(struct log_rewrite *self, struct err_info *info)
{
    uint16_t rewrites = self->old[0]->store->rewrites;
    struct segment_origin origin = {
        .base_offset = self->from,
        .generation = self->generation,
        .rewrites = rewrites == UINT16_MAX ? 1 : (uint16_t)(rewrites + 1),
    };
    struct batch_header first = {0};
    enum err err = find_old(self, 0, self->from, &first, info);

    if (err == ERR_OK) {
        err = segment_create(&self->log->config, &origin, &self->made, info);
    }
    if (err == ERR_OK) {
        /* What takes the place of the first one is stamped as it was, or as one behind it. */
        self->made->last_raft_index = first.raft_index;
        self->made->last_append_time_us = first.append_time_us;
    }
    return err;
}

/* Is what begins at data a batch that comes next? */
static enum err check_next(const struct log_rewrite *self, const uint8_t *data, size_t size,
                           struct batch_header *ret_header, struct err_info *info)
{
    const struct segment *made = self->made;
    enum err err = log_check_batch(self->log, data, size, ret_header, info);

    if (err != ERR_OK) {
        return err;
    }
    if (ret_header->base_offset != made->end_offset) {
        return err_set(info, ERR_CORRUPT, "offset %" PRIu64 " came where %" PRIu64 " belongs",
                       ret_header->base_offset, made->end_offset);
    }
    if (batch_end_offset(ret_header) > self->to) {
        return err_set(info, ERR_CORRUPT,
                       "the batch [%" PRIu64 ", %" PRIu64 ") passes the end, %" PRIu64,
                       ret_header->base_offset, batch_end_offset(ret_header), self->to);
    }
    if (ret_header->raft_index < made->last_raft_index ||
        ret_header->append_time_us < made->last_append_time_us) {
        return err_set(info, ERR_CORRUPT, "raft index or append time go down at offset %" PRIu64,
                       ret_header->base_offset);
    }
    if (store_size(made->store) + ret_header->size > LOG_SEGMENT_SIZE_LIMIT &&
        made->end_offset > self->from) {
        return err_set(info, ERR_TOO_LARGE, "the segment would pass %" PRIu64 " bytes",
                       LOG_SEGMENT_SIZE_LIMIT);
    }
    return ERR_OK;
}

enum err log_rewrite_put(struct log_rewrite *rewrite, const uint8_t *batches, size_t size,
                         struct err_info *info)
{
    size_t done = 0;
    enum err err = rewrite->err;

    ASSERT(!rewrite->done);
    if (err == ERR_OK && rewrite->made == NULL) {
        err = make(rewrite, info);
    }
    while (err == ERR_OK && done < size) {
        struct batch_header header = {0};

        err = check_next(rewrite, batches + done, size - done, &header, info);
        if (err == ERR_OK) {
            struct iovec part = {
                .iov_base = (void *)(uintptr_t)(batches + done),
                .iov_len = header.size,
            };

            err = segment_append(rewrite->made, &header, &part, 1, info);
            rewrite->last = header;
            done += header.size;
        }
    }
    if (err == ERR_OK) {
        store_write_back(rewrite->made->store, rewrite->log->write_back_size);
    }
    rewrite->err = err;
    return err;
}

/* ---- run ---- */

/* Everything came, and it ends as it ended before. */
static enum err check_whole(const struct log_rewrite *self, struct err_info *info)
{
    const struct batch_header *last = &self->last;
    uint64_t end = self->made == NULL ? self->from : self->made->end_offset;
    struct batch_header old = {0};
    enum err err;

    if (end != self->to) {
        return err_set(info, ERR_CORRUPT, "what was put ends at offset %" PRIu64 ", not %" PRIu64,
                       end, self->to);
    }
    err = find_old(self, self->count - 1, self->to - 1, &old, info);
    if (err == ERR_OK && (last->raft_index != old.raft_index || last->raft_term != old.raft_term ||
                          last->append_time_us != old.append_time_us ||
                          memcmp(last->digest, old.digest, BATCH_DIGEST_SIZE) != 0)) {
        err = err_set(info, ERR_CORRUPT,
                      "what was put ends with other stamps at offset %" PRIu64 " than stand there",
                      self->to);
    }
    return err;
}

/* Writes the index, and syncs both files: then nothing of the new one is only in memory. */
static enum err finish(struct log_rewrite *self, struct err_info *info)
{
    const struct segment_config *config = &self->log->config;
    struct store *store = self->made->store;
    struct segment *sealed = NULL;
    enum err err = segment_seal(config, self->made, &sealed, info);

    if (err != ERR_OK) {
        return err;
    }
    segment_unref(self->made);
    self->made = sealed;
    err = store_sync(store, info);
    if (err == ERR_OK) {
        store_set_synced(store, store_size(store));
        err = io_sync(config->io, sealed->index_fd, store->path, info);
    }
    segment_close_index_fd(sealed, &sealed->index_fd);
    return err;
}

enum err log_rewrite_run(struct log_rewrite *rewrite, struct err_info *info)
{
    ASSERT(!rewrite->done);
    if (rewrite->err == ERR_OK) {
        rewrite->err = check_whole(rewrite, info);
    }
    if (rewrite->err == ERR_OK) {
        rewrite->err = finish(rewrite, info);
    }
    rewrite->done = true;
    return rewrite->err;
}

/* ---- end ---- */

/* Whether the old segments stand in the list as they did; none of them changes, but others may take
 * their place. */
static bool find_place(const struct log *self, const struct log_rewrite *rewrite, size_t *ret_at)
{
    size_t at = segment_list_count_from(&self->list, rewrite->from);

    if (at == 0 || self->list.count - (at - 1) <= rewrite->count) {
        return false;
    }
    at -= 1;
    for (size_t i = 0; i < rewrite->count; i++) {
        if (self->list.items[at + i] != rewrite->old[i]) {
            return false;
        }
    }
    *ret_at = at;
    return true;
}

/* The new segment takes the name and the place. */
static enum err take_place(struct log *self, struct log_rewrite *rewrite, size_t at,
                           struct err_info *info)
{
    struct segment *made = rewrite->made;
    enum err err;

    ASSERT(made->sealed && made->end_offset == rewrite->to);
    segment_retire(rewrite->old[0], true); /* Its name goes to the new one. */
    err = store_commit(made->store, info);
    if (err != ERR_OK) {
        return err;
    }
    self->dir_changes += 1;
    err = log_rename_file(self, made->base_offset, SEGMENT_COMPACT_INDEX, SEGMENT_INDEX, info);
    rewrite->made = NULL;
    segment_list_merge(&self->list, at, rewrite->count, made);
    for (size_t i = 1; i < rewrite->count; i++) {
        log_note_superseded(self, rewrite->old[i]->base_offset);
        segment_retire(rewrite->old[i], false);
    }
    return err;
}

/* What it holds goes; what stands under the names of its own is of nobody. */
static enum err drop(struct log *self, struct log_rewrite *rewrite)
{
    uint64_t base_offset = rewrite->from;
    enum err err = ERR_OK;

    segment_unref(rewrite->made);
    for (size_t i = 0; i < rewrite->count; i++) {
        segment_unref(rewrite->old[i]);
    }
    free(rewrite);
    if (log_healthy(self)) {
        err = log_remove_file(self, base_offset, SEGMENT_COMPACT, NULL);
        if (err == ERR_OK) {
            err = log_remove_file(self, base_offset, SEGMENT_COMPACT_INDEX, NULL);
        }
    }
    return err;
}

enum err log_rewrite_end(struct log *self, struct log_rewrite *rewrite, struct err_info *info)
{
    enum err err = rewrite->done ? rewrite->err : ERR_CANCELED;
    enum err dropped;
    size_t at;

    ASSERT(rewrite->log == self);
    if (err == ERR_OK) {
        err = log_check_healthy(self, info);
    }
    if (err == ERR_OK && !find_place(self, rewrite, &at)) {
        err = not_rewritable(rewrite->from, rewrite->to, info);
    } else if (err == ERR_OK) {
        err = take_place(self, rewrite, at, info);
        err = err == ERR_OK ? ERR_OK : log_fail(self, err);
    }
    dropped = drop(self, rewrite);
    log_publish_totals(self);
    return dropped == ERR_OK ? err : log_fail(self, dropped);
}

void log_rewrite_cancel(struct log *self, struct log_rewrite *rewrite)
{
    ASSERT(rewrite->log == self);
    if (drop(self, rewrite) != ERR_OK) {
        (void)log_fail(self, ERR_IO); /* Who asks the log for anything else is told. */
    }
}

/* ---- what was superseded ---- */

enum err log_reserve_superseded(struct log *self, size_t count)
{
    size_t capacity = self->superseded_count + count;
    struct superseded *grown;

    if (capacity <= self->superseded_capacity) {
        return ERR_OK;
    }
    grown = reallocarray(self->superseded, capacity, sizeof *grown);
    if (grown == NULL) {
        return ERR_NOMEM;
    }
    self->superseded = grown;
    self->superseded_capacity = capacity;
    return ERR_OK;
}

void log_note_superseded(struct log *self, uint64_t base_offset)
{
    ASSERT(self->superseded_count < self->superseded_capacity);
    ASSERT(self->dir_changes > self->dir_synced);
    self->superseded[self->superseded_count++] = (struct superseded){
        .base_offset = base_offset,
        .change = self->dir_changes,
    };
}

enum err log_drop_superseded(struct log *self, struct err_info *info)
{
    enum err err = ERR_OK;
    size_t done = 0;

    while (err == ERR_OK && done < self->superseded_count &&
           self->superseded[done].change <= self->dir_synced) {
        err = log_remove_segment(self, self->superseded[done].base_offset, false, info);
        done += err == ERR_OK ? 1 : 0;
    }
    self->superseded_count -= done;
    if (done > 0) {
        memmove(self->superseded, self->superseded + done,
                self->superseded_count * sizeof self->superseded[0]);
    }
    return err;
}

enum err log_forget_superseded(struct log *self, struct err_info *info)
{
    enum err err;

    if (self->superseded_count == 0) {
        return ERR_OK;
    }
    err = log_sync_dir(self, info);
    if (err == ERR_OK) {
        err = log_drop_superseded(self, info);
    }
    ASSERT(err != ERR_OK || self->superseded_count == 0);
    return err == ERR_OK ? log_sync_dir(self, info) : err;
}
