/*
 * Recovery: from the files of a directory to a log.
 *
 *   1. list the directory; remove what an interrupted step left (temporaries, indexes without a
 *      store);
 *   2. open all stores; those of a lower generation are leftovers of an interrupted reset;
 *   3. stores wholly below options->start are leftovers of an interrupted truncation;
 *   4. go through the rest in order: what ends at or below durable_end is opened by its index's
 *      seal, all else is read, verified and, above durable_end, written again. Where something does not verify or does not follow,
 *      it is damage below durable_end, and above it the log ends there;
 *   5. remove what lies behind that place, cut the store, make the last segment the active one.
 *
 * Nothing with a believable record in it is removed before step 4 has come through without finding
 * damage, and each step can be interrupted and done again.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "log/log_internal.h"

enum {
    SEGMENT_SIZE_MIN = 4096,
    SEGMENT_SIZE_DEFAULT = 64 << 20,
    BATCH_SIZE_DEFAULT = 16 << 20,
    INDEX_INTERVAL_DEFAULT = 4096,
    WRITE_BACK_DEFAULT = 4 << 20,
};

#define SEGMENT_SIZE_LIMIT (UINT64_C(2) << 30)

/* What the directory holds for one base offset. */
struct found {
    uint64_t base_offset;
    bool has[3];         /* by enum segment_file */
    struct store *store; /* owned; NULL when its header is damaged, or after it was taken */
    uint64_t size;       /* bytes of the store file */
};

struct recovery {
    struct log *log;
    const struct log_options *options;
    struct log_report *report;
    struct err_info *info;
    struct found *found; /* owned; by base offset once listed */
    size_t count;
    size_t capacity;
    enum err list_err;
    struct segment_tail tail; /* of the last segment in the log's list */
};

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
            self->list_err = err_set(self->info, ERR_NOMEM, "list: out of memory");
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
        return io_error(rv, "list", self->log->dir, self->info);
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
        for (size_t f = 0; f < sizeof last->has / sizeof last->has[0]; f++) {
            last->has[f] = last->has[f] || self->found[i].has[f];
        }
    }
    self->count = kept;
    return ERR_OK;
}

/* Takes entry i out of the list, with its store. */
static void forget(struct recovery *self, size_t i)
{
    ASSERT(i < self->count);
    store_unref(self->found[i].store);
    self->count -= 1;
    memmove(self->found + i, self->found + i + 1, (self->count - i) * sizeof *self->found);
}

static enum err remove_leftovers(struct recovery *self)
{
    size_t i = 0;

    while (i < self->count) {
        struct found *found = &self->found[i];
        enum err err = ERR_OK;

        if (found->has[SEGMENT_TEMPORARY]) {
            err = log_remove_file(self->log, found->base_offset, SEGMENT_TEMPORARY, self->info);
        }
        if (err == ERR_OK && !found->has[SEGMENT_STORE]) {
            err = log_remove_file(self->log, found->base_offset, SEGMENT_INDEX, self->info);
        }
        if (err != ERR_OK) {
            return err;
        }
        if (found->has[SEGMENT_STORE]) {
            i += 1;
        } else {
            forget(self, i);
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
        enum err err;

        err = segment_path(path, self->log->dir, found->base_offset, SEGMENT_STORE, self->info);
        if (err == ERR_OK) {
            err = store_open(io, path, found->base_offset, &found->store, self->info);
        }
        if (err == ERR_CORRUPT) {
            err = measure_file(io, path, &found->size, self->info);
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
        err = log_remove_segment(self->log, self->found[i].base_offset, self->info);
        if (err != ERR_OK) {
            return err;
        }
        forget(self, i);
    }
    ASSERT(self->count > 0);
    return log_sync_dir(self->log, self->info);
}

/* Removes the stores that lie wholly below the start. */
static enum err remove_passed(struct recovery *self)
{
    while (self->count > 1 && self->found[1].base_offset <= self->options->start) {
        enum err err = log_sync_dir(self->log, self->info); /* Oldest first, on the disk too. */

        if (err == ERR_OK) {
            err = log_remove_segment(self->log, self->found[0].base_offset, self->info);
        }
        if (err != ERR_OK) {
            return err;
        }
        forget(self, 0);
    }
    return ERR_OK;
}

/* ---- 4: the segments ---- */

/* From entry i on nothing is kept: the log ends before it. */
static void report_cut(struct recovery *self, size_t i, uint64_t position, uint64_t size)
{
    struct log_report *report = self->report;

    report->size_cut += size;
    if (!report->torn) {
        report->torn = true;
        report->position = position;
        (void)snprintf(report->path, sizeof report->path, "%020" PRIu64 ".store",
                       self->found[i].base_offset); /* fits */
    }
}

/* A sealed segment takes the place of the last one in the list, by its file when that is right,
 * else by a new one. */
static enum err seal_last(struct recovery *self)
{
    struct log *log = self->log;
    struct segment *last = segment_list_last(&log->list);
    struct segment *sealed = NULL;
    enum err err;

    if (last->sealed) {
        return ERR_OK;
    }
    err = segment_open(&log->config, store_ref(last->store), &sealed, self->info);
    if (err == ERR_OK && sealed->end_offset == last->end_offset) {
        segment_list_replace_last(&log->list, sealed);
        return ERR_OK;
    }
    if (err == ERR_OK) {
        segment_unref(sealed);
    } else {
        store_unref(last->store);
    }
    if (err != ERR_OK && err != ERR_CORRUPT && err != ERR_NOT_FOUND && err != ERR_VERSION) {
        return err;
    }
    err = segment_seal(&log->config, last, &sealed, self->info);
    if (err != ERR_OK) {
        return err;
    }
    log->dir_changes += 1;
    self->report->indexes_rebuilt += 1;
    segment_list_replace_last(&log->list, sealed);
    return ERR_OK;
}

/* What verifies and was never known to be synced is written again: a sync may have failed in the
 * process before us, and then the page cache has what the disk has not, and no sync would ever
 * write it. */
static enum err rewrite_tail(const struct recovery *self, const struct segment *segment)
{
    uint64_t durable_end = self->options->durable_end;
    uint64_t to = self->tail.position;
    struct segment_query query = {
        .offset = durable_end,
        .end_max = segment->end_offset,
        .size_max = 1,
    };
    struct segment_run run = {.position = 0};
    enum err err = ERR_OK;

    if (durable_end >= segment->end_offset && durable_end > segment->base_offset) {
        return ERR_OK;
    }
    if (durable_end > segment->base_offset) {
        err = segment_find(segment, &query, &run, self->info);
    }
    return err == ERR_OK ? store_rewrite(segment->store, run.position, to, self->info) : err;
}

/* Opens or recovers the segment of entry i and adds it to the list. */
static enum err add_segment(struct recovery *self, size_t i)
{
    struct log *log = self->log;
    struct found *found = &self->found[i];
    const struct segment *before = log->list.count == 0 ? NULL : segment_list_last(&log->list);
    bool durable =
        i + 1 < self->count && self->found[i + 1].base_offset <= self->options->durable_end;
    struct segment *segment = NULL;
    enum err err;

    self->tail = (struct segment_tail){.position = found->size};
    err = segment_list_reserve(&log->list);
    if (err == ERR_OK && durable) {
        err = segment_open(&log->config, found->store, &segment, self->info);
        if (err == ERR_IO || err == ERR_NOMEM) {
            return err;
        }
    }
    if (segment == NULL && err != ERR_NOMEM) {
        err = segment_recover(&log->config, found->store, before, self->options->durable_end,
                              &segment, &self->tail, self->info);
    }
    if (err != ERR_OK) {
        return err;
    }
    found->store->synced_size = durable ? found->size : 0;
    found->store = NULL;
    segment_list_push(&log->list, segment);
    return durable ? ERR_OK : rewrite_tail(self, segment);
}

/* Whether entry i goes on where the list ends. ERR_CORRUPT when it does not and must. */
static enum err check_follows(struct recovery *self, size_t i, bool *ret_follows)
{
    uint64_t base = self->found[i].base_offset;
    uint64_t end =
        self->log->list.count == 0 ? base : segment_list_last(&self->log->list)->end_offset;
    uint64_t from = base < end ? base : end;

    *ret_follows = base == end && self->found[i].store != NULL;
    if (*ret_follows) {
        return ERR_OK;
    }
    if (base == end && base < self->options->durable_end) {
        char name[64];

        (void)snprintf(name, sizeof name, "%020" PRIu64 ".store", base); /* fits */
        return err_set(self->info, ERR_CORRUPT,
                       "'%s/%s' at position 0: the header of the store is damaged", self->log->dir,
                       name);
    }
    if (from < self->options->durable_end) {
        return err_set(self->info, ERR_CORRUPT,
                       "'%s/%020" PRIu64 ".store' at position 0: begins at offset %" PRIu64
                       ", but the segment before ends at %" PRIu64,
                       self->log->dir, base, base, end);
    }
    return ERR_OK;
}

/* Fills the list with what verifies; *ret_kept is the number of entries that went into it. */
static enum err add_segments(struct recovery *self, size_t *ret_kept)
{
    size_t i = 0;

    while (i < self->count && !self->tail.torn) {
        bool follows;
        enum err err = check_follows(self, i, &follows);

        if (err == ERR_OK && !follows) {
            break;
        }
        if (err == ERR_OK && i > 0) {
            err = seal_last(self);
        }
        if (err == ERR_OK) {
            err = add_segment(self, i);
        }
        if (err != ERR_OK) {
            return err;
        }
        i += 1;
    }
    *ret_kept = i;
    return ERR_OK;
}

/* The end must reach what was durable. */
static enum err check_end(const struct recovery *self, size_t kept)
{
    const struct segment *last;
    uint64_t end = self->options->start;

    if (kept == 0) {
        if (end < self->options->durable_end) {
            return err_set(self->info, ERR_CORRUPT,
                           "'%s' holds no segment, but offsets [%" PRIu64 ", %" PRIu64
                           ") were synced",
                           self->log->dir, end, self->options->durable_end);
        }
        return ERR_OK;
    }
    last = segment_list_last(&self->log->list);
    if (last->end_offset < self->options->durable_end) {
        (void)err_set(self->info, ERR_CORRUPT,
                      "the log ends at offset %" PRIu64 ", but those below %" PRIu64 " were synced",
                      last->end_offset, self->options->durable_end);
        return store_error(last->store, self->tail.position, ERR_CORRUPT, self->info);
    }
    return ERR_OK;
}

/* ---- 5: the end ---- */

/* Removes the entries from `kept` on, newest first, so that what is left is always one run. */
static enum err remove_behind(struct recovery *self, size_t kept)
{
    if (kept == self->count) {
        return ERR_OK;
    }
    for (size_t i = kept; i < self->count; i++) {
        /* No more than a header: a roll was interrupted, and nothing is lost. */
        if (self->found[i].size > STORE_HEADER_SIZE || i > kept) {
            report_cut(self, i, 0, self->found[i].size);
        }
    }
    while (self->count > kept) {
        size_t i = self->count - 1;
        enum err err = log_remove_segment(self->log, self->found[i].base_offset, self->info);

        if (err != ERR_OK) {
            return err;
        }
        forget(self, i);
    }
    return log_sync_dir(self->log, self->info);
}

/* Makes the last segment one that can be appended to: cut, and its index in memory. */
static enum err activate_last(struct recovery *self)
{
    struct log *log = self->log;
    struct segment *last = segment_list_last(&log->list);
    struct segment_cut cut = {
        .position = store_size(last->store),
        .end_offset = last->end_offset,
        .before = last,
    };
    struct segment *active = NULL;
    enum err err;

    /* The index file of an active segment says nothing. */
    err = log_remove_file(log, last->base_offset, SEGMENT_INDEX, self->info);
    if (err == ERR_OK && self->tail.torn) {
        err = store_truncate(last->store, self->tail.position, self->info);
    }
    if (err != ERR_OK || !last->sealed) {
        return err;
    }
    err = segment_cut(&log->config, last, last->store, &cut, &active, self->info);
    if (err != ERR_OK) {
        return err;
    }
    (void)store_ref(last->store);
    segment_list_replace_last(&log->list, active);
    return ERR_OK;
}

static enum err create_first(struct recovery *self)
{
    struct log *log = self->log;
    struct segment_origin origin = {
        .base_offset = self->options->start,
        .generation = log->generation,
    };
    struct segment *first = NULL;
    enum err err = segment_list_reserve(&log->list);

    ASSERT(log->list.count == 0);
    if (err == ERR_OK) {
        err = segment_create(&log->config, &origin, &first, self->info);
    }
    if (err != ERR_OK) {
        return err;
    }
    log->dir_changes += 1;
    segment_list_push(&log->list, first);
    return ERR_OK;
}

static enum err recover(struct recovery *self)
{
    size_t kept = 0;
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
    if (err == ERR_OK) {
        err = remove_passed(self);
    }
    if (err == ERR_OK) {
        err = add_segments(self, &kept);
    }
    if (err == ERR_OK) {
        err = check_end(self, kept);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (self->tail.torn) {
        report_cut(self, kept - 1, self->tail.position,
                   self->found[kept - 1].size - self->tail.position);
    }
    err = remove_behind(self, kept);
    if (err == ERR_OK) {
        err = kept == 0 ? create_first(self) : activate_last(self);
    }
    return err;
}

/* ---- the log ---- */

static struct log *log_new(const struct log_options *options)
{
    struct log *self = calloc(1, sizeof *self);
    char *dir = strdup(options->dir);

    if (self == NULL || dir == NULL) {
        free(self);
        free(dir);
        return NULL;
    }
    self->dir = dir;
    self->config = (struct segment_config){
        .io = options->io,
        .dir = dir,
        .size_max =
            options->segment_size_max == 0 ? SEGMENT_SIZE_DEFAULT : options->segment_size_max,
        .index_interval =
            options->index_interval == 0 ? INDEX_INTERVAL_DEFAULT : options->index_interval,
    };
    self->batch_size_max =
        options->batch_size_max == 0 ? BATCH_SIZE_DEFAULT : options->batch_size_max;
    self->write_back_size =
        options->write_back_size == 0 ? WRITE_BACK_DEFAULT : options->write_back_size;
    self->dir_changes = 1; /* What is found may be younger than the last sync. */
    segment_list_init(&self->list);
    return self;
}

/* Everything is recovered: sets what readers see. */
static void publish(struct recovery *self)
{
    struct segment_list *list = &self->log->list;
    uint64_t start = list->items[0]->base_offset;
    uint64_t end = segment_list_last(list)->end_offset;

    if (start < self->options->start) {
        start = self->options->start < end ? self->options->start : end;
    }
    segment_list_set_bounds(list, start, end);
    log_publish_totals(self->log);
    self->report->end = end;
}

enum err log_open(const struct log_options *options, struct log **ret_log,
                  struct log_report *ret_report, struct err_info *info)
{
    struct log_report report = {0};
    struct recovery recovery = {.options = options, .report = &report, .info = info};
    enum err err;

    ASSERT(options->io != NULL && options->dir != NULL);
    ASSERT(options->segment_size_max == 0 || (options->segment_size_max >= SEGMENT_SIZE_MIN &&
                                              options->segment_size_max <= SEGMENT_SIZE_LIMIT));
    ASSERT(options->batch_size_max == 0 || (options->batch_size_max > BATCH_HEADER_SIZE &&
                                            options->batch_size_max <= STORE_BATCH_SIZE_MAX));
    recovery.log = log_new(options);
    if (recovery.log == NULL) {
        return err_set(info, ERR_NOMEM, "open the log in '%s': out of memory", options->dir);
    }
    err = recover(&recovery);
    if (err == ERR_OK) {
        publish(&recovery);
    }
    while (recovery.count > 0) {
        forget(&recovery, recovery.count - 1);
    }
    free(recovery.found);
    if (err != ERR_OK) {
        log_free(recovery.log);
        return err;
    }
    if (ret_report != NULL) {
        *ret_report = report;
    }
    *ret_log = recovery.log;
    return ERR_OK;
}
