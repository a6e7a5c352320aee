/*
 * Recovery's first steps: what the directory holds, without what interrupted steps left.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "log/log_open_internal.h"

/* ---- 1: the directory ---- */

static int note_name(void *arg, const char *name)
{
    struct recovery *self = arg;
    struct found found = {0};
    enum segment_file file;

    if (!segment_parse_name(name, &found.base_offset, &file)) {
        return 0; /* Not ours: left alone. */
    }
    if (self->count == self->capacity) {
        size_t capacity = self->capacity == 0 ? 16 : self->capacity * 2;
        struct found *grown = realloc(self->found, capacity * sizeof *grown);

        if (grown == NULL) {
            self->list_err = err_set(&self->info, ERR_NOMEM, "list: out of memory");
            return 1;
        }
        self->found = grown;
        self->capacity = capacity;
    }
    found.has[file] = true;
    self->found[self->count] = found;
    self->count += 1;
    return 0;
}

static int compare_found(const void *a, const void *b)
{
    const struct found *left = a;
    const struct found *right = b;

    return (left->base_offset > right->base_offset) - (left->base_offset < right->base_offset);
}

/* Lists the directory and makes one entry of the files of one base offset. */
static enum err list_files(struct recovery *self)
{
    struct io *io = self->log->config.io;
    size_t kept = 0;
    int rv = io->list(io, self->log->dir, note_name, self);

    if (self->list_err != ERR_OK) {
        return self->list_err;
    }
    if (rv < 0) {
        return io_error(rv, "list", self->log->dir, &self->info);
    }
    if (self->count > 0) {
        qsort(self->found, self->count, sizeof *self->found, compare_found);
    }
    for (size_t i = 0; i < self->count; i++) {
        struct found *last = kept == 0 ? NULL : &self->found[kept - 1];

        if (last == NULL || last->base_offset != self->found[i].base_offset) {
            self->found[kept] = self->found[i];
            kept += 1;
            continue;
        }
        for (size_t f = 0; f < SEGMENT_FILE_COUNT; f++) {
            last->has[f] = last->has[f] || self->found[i].has[f];
        }
    }
    self->count = kept;
    return ERR_OK;
}

void recovery_forget(struct recovery *self, size_t i)
{
    ASSERT(i < self->count);
    self->measured = NULL; /* It may be this one. */
    store_unref(self->found[i].store);
    self->count -= 1;
    memmove(self->found + i, self->found + i + 1, (self->count - i) * sizeof *self->found);
}

/* Removes the file if it is there and says nothing. */
static enum err remove_if(struct recovery *self, const struct found *found, enum segment_file file,
                          bool condition)
{
    return found->has[file] && condition
               ? log_remove_file(self->log, found->base_offset, file, &self->info)
               : ERR_OK;
}

static enum err remove_leftovers_of(struct recovery *self, struct found *found)
{
    struct log *log = self->log;
    bool whole = found->has[SEGMENT_STORE];
    enum err err = remove_if(self, found, SEGMENT_TEMPORARY, true);

    if (err == ERR_OK) {
        err = remove_if(self, found, SEGMENT_FILLING_TEMPORARY, true);
    }
    if (err == ERR_OK) {
        err = remove_if(self, found, SEGMENT_COMPACT, true);
    }
    if (err == ERR_OK) {
        err = remove_if(self, found, SEGMENT_COMPACT_INDEX, true);
    }
    if (err == ERR_OK) {
        /* Put in the other's place, which was cut: it did not go any more. */
        err = remove_if(self, found, SEGMENT_FILLING, whole);
    }
    if (err == ERR_OK) {
        err = remove_if(self, found, SEGMENT_INDEX, !whole);
    }
    if (found->has[SEGMENT_DAMAGED] && log->damaged_count < LOG_DAMAGED_MAX) {
        log->damaged[log->damaged_count] = found->base_offset;
        log->damaged_count += 1;
    }
    found->filling = found->has[SEGMENT_FILLING] && !whole;
    return err;
}

static enum err remove_leftovers(struct recovery *self)
{
    size_t i = 0;

    while (i < self->count) {
        struct found *found = &self->found[i];
        enum err err = remove_leftovers_of(self, found);

        if (err != ERR_OK) {
            return err;
        }
        if (found->has[SEGMENT_STORE] || found->filling) {
            i += 1;
        } else {
            recovery_forget(self, i);
        }
    }
    return ERR_OK;
}

/* ---- 2 and 3: the stores ---- */

static enum err measure_file(struct io *io, const char *path, uint64_t *ret_size,
                             struct err_info *info)
{
    enum err err;
    int fd;
    int rv;

    err = io_open(io, path, O_RDONLY, &fd, info);
    if (err != ERR_OK) {
        return err;
    }
    rv = io->size(io, fd, ret_size);
    io_close(io, &fd);
    return rv < 0 ? io_error(rv, "stat", path, info) : ERR_OK;
}

static enum err open_stores(struct recovery *self)
{
    struct io *io = self->log->config.io;

    for (size_t i = 0; i < self->count; i++) {
        struct found *found = &self->found[i];
        char path[IO_PATH_SIZE];
        struct store_options options = {.io = io, .files = self->log->config.files, .path = path};
        enum err err;

        err = segment_path(path, self->log->dir, found->base_offset,
                           found->filling ? SEGMENT_FILLING : SEGMENT_STORE, &self->info);
        if (err == ERR_OK) {
            options.base_offset = found->base_offset;
            err = store_open_with(&options, &found->store, &self->info);
        }
        if (err == ERR_CORRUPT) {
            err = measure_file(io, path, &found->size, &self->info);
        } else if (err == ERR_OK) {
            found->size = store_size(found->store);
            if (found->store->generation > self->log->generation) {
                self->log->generation = found->store->generation;
            }
        }
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

/* Whether a reset was interrupted: it makes the one store of the highest generation, and nothing is
 * appended before all others are gone. */
static bool was_reset(const struct recovery *self)
{
    for (size_t i = 0; i < self->count; i++) {
        const struct store *store = self->found[i].store;

        if (store != NULL && store->generation < self->log->generation) {
            return true;
        }
    }
    return false;
}

/* Removes the stores that an interrupted reset left; those with a damaged header too, which were
 * never synced. */
static enum err remove_reset(struct recovery *self)
{
    size_t i = self->count;

    if (!was_reset(self)) {
        return ERR_OK;
    }
    while (i > 0) {
        const struct store *store = self->found[i - 1].store;
        enum err err = ERR_OK;

        i -= 1;
        if (store != NULL && store->generation == self->log->generation) {
            continue;
        }
        err = log_remove_segment(self->log, self->found[i].base_offset, self->found[i].filling,
                                 &self->info);
        if (err != ERR_OK) {
            return err;
        }
        recovery_forget(self, i);
    }
    ASSERT(self->count > 0);
    return log_sync_dir(self->log, &self->info);
}

/* Reads all of the store: where what verifies ends, and whether that is all. */
static enum err measure(struct recovery *self, struct store *store, uint64_t *ret_end,
                        bool *ret_whole)
{
    struct segment_tail tail = {0};
    struct segment *segment = NULL;
    enum err err = segment_recover(&self->log->config, store_ref(store), NULL, 0, &segment, &tail,
                                   &self->info);

    if (err != ERR_OK) {
        store_unref(store);
        return err;
    }
    *ret_end = segment->end_offset;
    *ret_whole = !tail.torn;
    segment_unref(segment);
    return ERR_OK;
}

enum err recovery_is_superseded(struct recovery *self, struct store *by, size_t i,
                                bool *ret_superseded)
{
    const struct found *found = &self->found[i];
    uint64_t end = found->base_offset;
    bool whole = true;
    enum err err = ERR_OK;

    *ret_superseded = false;
    if (by->rewrites == 0 || found->base_offset <= by->base_offset) {
        return ERR_OK;
    }
    if (self->measured != by) {
        err = measure(self, by, &self->measured_end, &whole);
        self->measured = err == ERR_OK ? by : NULL;
        self->measured_end = whole ? self->measured_end : 0;
    }
    if (err == ERR_OK && found->base_offset < self->measured_end && found->store != NULL) {
        err = measure(self, found->store, &end, &whole);
    }
    *ret_superseded =
        err == ERR_OK && found->base_offset < self->measured_end && end <= self->measured_end;
    return err;
}

enum err recovery_remove(struct recovery *self, size_t i)
{
    const struct found *found = &self->found[i];
    enum err err = log_sync_dir(self->log, &self->info);

    if (err == ERR_OK) {
        err = log_remove_segment(self->log, found->base_offset, found->filling, &self->info);
    }
    if (err == ERR_OK) {
        recovery_forget(self, i);
    }
    return err;
}

/* Removes the stores that lie wholly below the start: oldest first, on the disk too. */
static enum err remove_passed(struct recovery *self)
{
    while (self->count > 1 && self->found[1].base_offset <= self->options->start) {
        struct store *first = self->found[0].store;
        bool superseded = false; /* Then it is not the first one that ends where the next begins. */
        enum err err = ERR_OK;

        if (first != NULL) {
            err = recovery_is_superseded(self, first, 1, &superseded);
        }
        if (err == ERR_OK) {
            err = recovery_remove(self, superseded ? 1 : 0);
        }
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

enum err recovery_find_stores(struct recovery *self)
{
    enum err err = list_files(self);

    if (err == ERR_OK) {
        err = remove_leftovers(self);
    }
    if (err == ERR_OK) {
        err = open_stores(self);
    }
    if (err == ERR_OK) {
        err = remove_reset(self);
    }
    return err == ERR_OK ? remove_passed(self) : err;
}
