/*
 * Recovery: from the files of a directory to a log.
 *
 *   1. list the directory; remove what an interrupted step left (temporaries, indexes without a
 *      store, rewritten segments that were not finished);
 *   2. open all stores; those of a lower generation are leftovers of an interrupted reset;
 *   3. stores wholly below options->start are leftovers of an interrupted truncation;
 *   4. go through the rest in order: what ends at or below durable_end is opened by its index's
 *      seal, all else is read, verified and, above durable_end, written again; what was being
 *      filled is read and written again, too, wherever it lies. Where something does not verify or
 *      does not follow, above durable_end the log ends there; below it is damage: an error, or the
 *      file goes aside and what verifies of it is kept, with a hole behind it. What a rewritten
 *      segment has, that is whole, is a leftover of the rewriting;
 *   5. remove what lies behind that place, cut the store, make the last segment the active one, or
 *      put a new one behind it.
 *
 * Without holes nothing with a believable record in it is removed before step 4 has come through
 * without finding damage. Each step can be interrupted and done again.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "log/log_open_internal.h"

enum {
    SEGMENT_SIZE_DEFAULT = 64 << 20,
    BATCH_SIZE_DEFAULT = 16 << 20,
    INDEX_INTERVAL_DEFAULT = 4096,
    WRITE_BACK_DEFAULT = 4 << 20,
};

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

/* Does the index file say what the store does? */
static bool is_same(const struct segment *sealed, const struct segment *last)
{
    const struct index *index;
    bool same = sealed->end_offset == last->end_offset;

    ASSERT(sealed->sealed && !last->sealed);
    if (!same || segment_pin(sealed, &index, NULL) != ERR_OK) {
        return false;
    }
    same = index_equal(index, last->index);
    segment_unpin(sealed);
    return same;
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
    err = segment_open(&log->config, store_ref(last->store), &sealed, &self->info);
    if (err == ERR_OK) {
        if (is_same(sealed, last)) {
            segment_list_replace_last(&log->list, sealed);
            return ERR_OK;
        }
        segment_unref(sealed);
    } else {
        store_unref(last->store);
    }
    if (err != ERR_OK && err != ERR_CORRUPT && err != ERR_NOT_FOUND && err != ERR_VERSION) {
        return err;
    }
    err = segment_seal(&log->config, last, &sealed, &self->info);
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
static enum err rewrite_tail(struct recovery *self, const struct segment *segment)
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
        store_set_synced(segment->store, to);
        return ERR_OK;
    }
    if (durable_end > segment->base_offset) {
        err = segment_find(segment, &query, &run, &self->info);
    }
    return err == ERR_OK ? store_rewrite(segment->store, run.position, to, &self->info) : err;
}

/* Something is wrong below durable_end, as info says: an error, or reported and made a hole. */
static enum err note_damage(struct recovery *self)
{
    struct log_report *report = self->report;

    if (!self->options->holes_allowed) {
        return ERR_CORRUPT;
    }
    if (report->damaged == 0) {
        report->damage = self->info;
        report->damage.code = ERR_CORRUPT;
    }
    report->damaged += 1;
    return ERR_OK;
}

/* The last segment does not verify below durable_end: what does is kept, to be filled on. */
static enum err keep_prefix(struct recovery *self)
{
    struct log *log = self->log;
    struct segment *last = segment_list_last(&log->list);
    struct segment_cut cut = {
        .position = self->tail.position,
        .end_offset = last->end_offset,
        .before = last,
    };
    struct segment *prefix = NULL;
    struct store *copy = NULL;
    enum err err = note_damage(self);

    if (err == ERR_OK && last->end_offset > last->base_offset) {
        err = log_copy_prefix(&log->config, last, &cut, &copy, &self->info);
    }
    if (err == ERR_OK && copy != NULL) {
        err = log_take_prefix(log, last, copy, &cut, &prefix, &self->info);
        copy = err == ERR_OK ? NULL : copy;
    }
    if (err == ERR_OK) {
        err = log_keep_damaged(log, last->base_offset, &self->info);
    }
    if (err != ERR_OK) {
        segment_unref(prefix);
        store_unref(copy);
        return err;
    }
    segment_list_splice(&log->list, log->list.count - 1, 1, prefix);
    self->tail = (struct segment_tail){0};
    return ERR_OK;
}

/* The last segment was being filled: it was never believed to be on the disk. */
static enum err keep_filling(struct recovery *self)
{
    struct log *log = self->log;
    struct segment *last = segment_list_last(&log->list);
    uint64_t base_offset = last->base_offset;
    enum err err = ERR_OK;

    if (last->end_offset == base_offset) {
        segment_list_splice(&log->list, log->list.count - 1, 1, NULL);
        err = log_remove_segment(log, base_offset, true, &self->info);
    } else {
        last->filling = true;
        if (self->tail.torn) {
            err = store_truncate(last->store, self->tail.position, &self->info);
        }
        if (err == ERR_OK) {
            err = store_rewrite(last->store, 0, self->tail.position, &self->info);
        }
        store_set_synced(last->store, 0);
    }
    self->tail = (struct segment_tail){0};
    return err;
}

/* Opens the segment of entry i, which was sealed, and durable, and has one behind it: by no more
 * than the seal, if nothing is missing between the two. A rewritten one, with leftovers behind it,
 * covers them only when all of it verifies: ERR_CORRUPT, as for one that has to be read. */
static enum err open_sealed(struct recovery *self, size_t i, struct segment **ret_segment)
{
    struct log *log = self->log;
    struct store *store = self->found[i].store;
    enum err err;

    ASSERT(i + 1 < self->count);
    err = segment_open_by_seal(&log->config, store, self->found[i + 1].base_offset, ret_segment,
                               &self->info);
    if (err == ERR_CORRUPT) {
        err = segment_open(&log->config, store, ret_segment, &self->info);
    }
    if (err == ERR_OK && (*ret_segment)->end_offset > self->found[i + 1].base_offset) {
        (void)store_ref(store);
        segment_unref(*ret_segment);
        *ret_segment = NULL;
        err = ERR_CORRUPT;
    }
    return err;
}

/* Opens or recovers the segment of entry i and adds it to the list. */
static enum err add_segment(struct recovery *self, size_t i)
{
    struct log *log = self->log;
    struct found *found = &self->found[i];
    struct segment *before = log->list.count == 0 ? NULL : segment_list_last(&log->list);
    uint64_t durable_end = self->options->durable_end;
    bool durable =
        !found->filling && i + 1 < self->count && self->found[i + 1].base_offset <= durable_end;
    bool lenient = found->filling || self->options->holes_allowed;
    struct segment *segment = NULL;
    enum err err;

    self->measured = NULL;
    self->tail = (struct segment_tail){.position = found->size};
    err = segment_list_reserve(&log->list);
    if (err == ERR_OK && durable) {
        err = open_sealed(self, i, &segment);
        if (err == ERR_IO || err == ERR_LIMIT || err == ERR_NOMEM) {
            return err;
        }
    }
    if (segment == NULL && err != ERR_NOMEM) {
        if (before != NULL) {
            segment_trust(before);
        }
        err = segment_recover(&log->config, found->store, before, lenient ? 0 : durable_end,
                              &segment, &self->tail, &self->info);
    }
    if (err != ERR_OK) {
        return err;
    }
    durable = durable && segment->end_offset <= durable_end;
    store_set_synced(found->store, durable ? found->size : 0);
    found->store = NULL;
    segment_list_push(&log->list, segment);
    if (found->filling) {
        return keep_filling(self);
    }
    if (self->tail.torn && segment->end_offset < durable_end) {
        return keep_prefix(self);
    }
    return durable ? ERR_OK : rewrite_tail(self, segment);
}

/* What is to become of an entry. */
enum verdict {
    ADD,  /* It goes on where the list ends, or behind a hole. */
    DROP, /* It is damaged, and what is behind it may be good. */
    STOP, /* The log ends before it. */
};

/* Where the list ends, seen from entry i: for the first one, it begins there. */
static uint64_t list_end(const struct recovery *self, size_t i)
{
    uint64_t base = self->found[i].base_offset;

    if (self->log->list.count > 0) {
        return segment_list_last(&self->log->list)->end_offset;
    }
    return self->options->holes_allowed && self->options->start < base ? self->options->start
                                                                       : base;
}

static enum verdict judge(struct recovery *self, size_t i)
{
    const struct found *found = &self->found[i];
    uint64_t durable_end = self->options->durable_end;
    uint64_t base = found->base_offset;
    uint64_t end = list_end(self, i);

    if (base == end && found->store != NULL) {
        return ADD;
    }
    if ((base < end ? base : end) >= durable_end || (found->store == NULL && base >= durable_end)) {
        return STOP;
    }
    if (found->store == NULL) {
        (void)err_set(&self->info, ERR_CORRUPT,
                      "'%s/%020" PRIu64 ".store' at position 0: the header of the store is damaged",
                      self->log->dir, base);
        return DROP;
    }
    (void)err_set(&self->info, ERR_CORRUPT,
                  "'%s/%020" PRIu64 ".store' at position 0: begins at offset %" PRIu64
                  ", but the segment before ends at %" PRIu64,
                  self->log->dir, base, base, end);
    if (base > end && self->options->holes_allowed) {
        return base <= durable_end ? ADD : STOP;
    }
    return DROP;
}

/* Takes entry i out: an error where no hole may be; else its file goes aside. */
static enum err drop_damaged(struct recovery *self, size_t i)
{
    uint64_t base_offset = self->found[i].base_offset;
    enum err err = ERR_OK;

    if (self->found[i].filling && self->found[i].store == NULL) {
        err = log_remove_segment(self->log, base_offset, true,
                                 &self->info); /* It had hardly begun. */
    } else {
        err = note_damage(self);
        if (err == ERR_OK) {
            err = self->found[i].filling
                      ? log_remove_segment(self->log, base_offset, true, &self->info)
                      : log_keep_damaged(self->log, base_offset, &self->info);
        }
    }
    if (err == ERR_OK) {
        recovery_forget(self, i);
    }
    return err;
}

/* Another segment comes behind the last one: an empty one is none, and the index of an ordinary
 * one is a file. */
static enum err close_last(struct recovery *self)
{
    struct log *log = self->log;
    const struct segment *last = log->list.count == 0 ? NULL : segment_list_last(&log->list);
    enum err err = ERR_OK;

    if (last != NULL && last->end_offset == last->base_offset) {
        err = log_remove_segment(log, last->base_offset, false, &self->info);
        segment_list_splice(&log->list, log->list.count - 1, 1, NULL);
    } else if (last != NULL && !last->filling) {
        err = seal_last(self);
    }
    return err;
}

/* Takes entry i out when it is a leftover of a rewriting. */
static enum err drop_superseded(struct recovery *self, size_t i, bool *ret_dropped)
{
    const struct log *log = self->log;
    const struct segment *last = log->list.count == 0 ? NULL : segment_list_last(&log->list);
    enum err err = ERR_OK;

    *ret_dropped = false;
    if (last != NULL && self->found[i].base_offset < last->end_offset) {
        err = recovery_is_superseded(self, last->store, i, ret_dropped);
    }
    return err == ERR_OK && *ret_dropped ? recovery_remove(self, i) : err;
}

/* Fills the list with what verifies; *ret_kept is the number of entries that went into it. */
static enum err add_segments(struct recovery *self, size_t *ret_kept)
{
    size_t i = 0;

    while (i < self->count && !self->tail.torn) {
        bool dropped;
        enum err err = drop_superseded(self, i, &dropped);
        enum verdict verdict = STOP;

        if (err == ERR_OK && dropped) {
            continue;
        }
        if (err != ERR_OK) {
            return err;
        }
        verdict = judge(self, i);
        if (verdict == STOP) {
            break;
        }
        if (verdict == DROP) {
            err = drop_damaged(self, i);
        } else {
            err = close_last(self);
            if (err == ERR_OK) {
                err = add_segment(self, i);
            }
            i += 1;
        }
        if (err != ERR_OK) {
            return err;
        }
    }
    *ret_kept = i;
    return ERR_OK;
}

/* The end must reach what was durable. */
static enum err check_end(struct recovery *self)
{
    const struct segment *last;
    uint64_t end = self->options->start;

    if (self->options->holes_allowed) {
        return ERR_OK;
    }
    if (self->log->list.count == 0) {
        if (end < self->options->durable_end) {
            return err_set(&self->info, ERR_CORRUPT,
                           "'%s' holds no segment, but offsets [%" PRIu64 ", %" PRIu64
                           ") were synced",
                           self->log->dir, end, self->options->durable_end);
        }
        return ERR_OK;
    }
    last = segment_list_last(&self->log->list);
    if (last->end_offset < self->options->durable_end) {
        (void)err_set(&self->info, ERR_CORRUPT,
                      "the log ends at offset %" PRIu64 ", but those below %" PRIu64 " were synced",
                      last->end_offset, self->options->durable_end);
        return store_error(last->store, self->tail.position, ERR_CORRUPT, &self->info);
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
        enum err err = log_remove_segment(self->log, self->found[i].base_offset,
                                          self->found[i].filling, &self->info);

        if (err != ERR_OK) {
            return err;
        }
        recovery_forget(self, i);
    }
    return log_sync_dir(self->log, &self->info);
}

/* The last segment, which is not sealed, is appended to: what does not verify is cut. */
static enum err activate_last(struct recovery *self)
{
    struct log *log = self->log;
    const struct segment *last = segment_list_last(&log->list);
    /* The index file of an active segment says nothing. */
    enum err err = log_remove_file(log, last->base_offset, SEGMENT_INDEX, &self->info);

    ASSERT(!last->sealed && !last->filling);
    if (err == ERR_OK && self->tail.torn) {
        err = store_truncate(last->store, self->tail.position, &self->info);
    } else if (err == ERR_OK) {
        err = store_give_back(last->store, &self->info); /* What was reserved behind it. */
    }
    return err;
}

static enum err create_active(struct recovery *self, uint64_t base_offset)
{
    struct log *log = self->log;
    struct segment_origin origin = {
        .base_offset = base_offset,
        .generation = log->generation,
        .before = log->list.count == 0 ? NULL : segment_list_last(&log->list),
    };
    struct segment *active = NULL;
    enum err err = segment_list_reserve(&log->list);

    if (err == ERR_OK && log->list.count > 0) {
        segment_trust(segment_list_last(&log->list));
    }
    if (err == ERR_OK) {
        err = segment_create(&log->config, &origin, &active, &self->info);
    }
    if (err != ERR_OK) {
        return err;
    }
    log->dir_changes += 1;
    segment_list_push(&log->list, active);
    return ERR_OK;
}

/* Makes the log end in a segment that can be appended to, where it must end: at durable_end at
 * least, with a hole before it if need be. */
static enum err make_end(struct recovery *self)
{
    struct log *log = self->log;
    const struct log_options *options = self->options;
    uint64_t end = options->start;
    enum err err = ERR_OK;

    if (options->holes_allowed && options->durable_end > end) {
        end = options->durable_end;
    }
    if (log->list.count > 0) {
        const struct segment *last = segment_list_last(&log->list);
        bool reaches = last->end_offset >= end || !options->holes_allowed;

        if (reaches && !last->filling && !last->sealed) {
            return activate_last(self);
        }
        /* What was sealed, and perhaps not read, is not opened again: the next one is new. */
        end = reaches ? last->end_offset : end;
        ASSERT(!self->tail.torn);
        err = close_last(self);
    }
    return err == ERR_OK ? create_active(self, end) : err;
}

static enum err recover(struct recovery *self)
{
    size_t kept = 0;
    enum err err = recovery_find_stores(self);

    if (err == ERR_OK) {
        err = add_segments(self, &kept);
    }
    if (err == ERR_OK) {
        err = check_end(self);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (self->tail.torn) {
        report_cut(self, kept - 1, self->tail.position,
                   self->found[kept - 1].size - self->tail.position);
    }
    err = remove_behind(self, kept);
    return err == ERR_OK ? make_end(self) : err;
}

/* ---- the log ---- */

/* A log that is alone. */
static const struct file_cache_options own_files = {
    .descriptors_max = 64,
    .descriptors_limit = 1 << 20,
    .mapped_max = 16 << 20,
};

static struct log *log_new(const struct log_options *options)
{
    struct log *self = calloc(1, sizeof *self);
    char *dir = strdup(options->dir);
    struct file_cache *files =
        options->files == NULL ? file_cache_new(&own_files) : file_cache_ref(options->files);

    if (self == NULL || dir == NULL || files == NULL) {
        file_cache_unref(files);
        free(self);
        free(dir);
        return NULL;
    }
    self->dir = dir;
    self->files = files;
    self->config = (struct segment_config){
        .io = options->io,
        .files = files,
        .dir = dir,
        .size_max =
            options->segment_size_max == 0 ? SEGMENT_SIZE_DEFAULT : options->segment_size_max,
        .index_interval =
            options->index_interval == 0 ? INDEX_INTERVAL_DEFAULT : options->index_interval,
    };
    self->size_max_opened = self->config.size_max;
    self->batch_size_max =
        options->batch_size_max == 0 ? BATCH_SIZE_DEFAULT : options->batch_size_max;
    self->write_back_size =
        options->write_back_size == 0 ? WRITE_BACK_DEFAULT : options->write_back_size;
    self->dir_changes = 1; /* What is found may be younger than the last sync. */
    segment_list_init(&self->list);
    return self;
}

/* Everything is recovered: sets what readers see. */
static enum err publish(struct recovery *self)
{
    struct log *log = self->log;
    uint64_t start = log->list.items[0]->base_offset;
    uint64_t end = segment_list_last(&log->list)->end_offset;
    enum err err = ERR_OK;

    if (start < self->options->start || self->options->holes_allowed) {
        start = self->options->start < end ? self->options->start : end;
    }
    segment_list_set_bounds(&log->list, start, end);
    if (self->options->holes_allowed) {
        err = log_drop_passed(log, &self->info);
    }
    log_publish_totals(log);
    if (err == ERR_OK) {
        err = log_settle(log, &self->info);
    }
    return err;
}

static void report_holes(struct recovery *self)
{
    struct log_hole hole = {0};

    self->report->end = log_end(self->log);
    while (log_holes(self->log, hole.to, &hole, 1) == 1) {
        self->report->holes += 1;
        self->report->missing += hole.to - hole.from;
    }
}

enum err log_open(const struct log_options *options, struct log **ret_log,
                  struct log_report *ret_report, struct err_info *info)
{
    struct log_report report = {0};
    struct recovery recovery = {.options = options, .report = &report};
    enum err err;

    ASSERT(options->io != NULL && options->dir != NULL);
    ASSERT(options->segment_size_max == 0 || (options->segment_size_max >= LOG_SEGMENT_SIZE_MIN &&
                                              options->segment_size_max <= LOG_SEGMENT_SIZE_LIMIT));
    ASSERT(options->batch_size_max == 0 || (options->batch_size_max > BATCH_HEADER_SIZE &&
                                            options->batch_size_max <= STORE_BATCH_SIZE_MAX));
    recovery.log = log_new(options);
    if (recovery.log == NULL) {
        return err_set(info, ERR_NOMEM, "open the log in '%s': out of memory", options->dir);
    }
    err = recover(&recovery);
    if (err == ERR_OK) {
        err = publish(&recovery);
    }
    while (recovery.count > 0) {
        recovery_forget(&recovery, recovery.count - 1);
    }
    free(recovery.found);
    if (err != ERR_OK) {
        log_free(recovery.log);
        if (recovery.info.code != err && err == ERR_NOMEM) {
            return err_set(info, err, "open the log in '%s': out of memory", options->dir);
        }
        return err_set(info, err, "%s", recovery.info.text);
    }
    report_holes(&recovery);
    if (ret_report != NULL) {
        *ret_report = report;
    }
    *ret_log = recovery.log;
    return ERR_OK;
}
