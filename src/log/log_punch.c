/*
 * Damage becomes a hole.
 *
 *      [ sealed ][ sealed, damaged at x ][ sealed ] …
 *      [ sealed ][ filling )   hole      [ sealed ] …     BASE.store → BASE.store.damaged,
 *                        x                                a copy of [base, x) is BASE.store.fill
 *
 * What is kept of a segment is a copy, made beside the writer, in a file that can be filled on. The
 * order of the steps at the end: the copy comes, the damaged file goes aside, its index goes. After
 * a crash in the middle the damaged file still has its name, and recovery drops the copy; or it has
 * not, and the copy counts.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "log/log_internal.h"

struct item {
    struct segment *segment; /* owned reference */
    uint64_t end_max;        /* What begins above it, or reaches beyond, is not kept. */
    struct segment_cut cut;
    struct batch_header last;
    struct store *copy; /* owned; NULL: nothing of it is to stay */
};

struct log_punch {
    const struct segment_config *config; /* borrowed from the log */
    bool done;                           /* run was called */
    enum err err;                        /* what it came to */
    size_t count;
    struct item items[];
};

/* ---- the files, also for recovery ---- */

enum err log_keep_damaged(struct log *self, uint64_t base_offset, struct err_info *info)
{
    bool known = false;
    enum err err;

    for (size_t i = 0; i < self->damaged_count; i++) {
        known = known || self->damaged[i] == base_offset;
    }
    if (!known && self->damaged_count == LOG_DAMAGED_MAX) {
        return log_remove_segment(self, base_offset, false, info);
    }
    err = log_rename_file(self, base_offset, SEGMENT_STORE, SEGMENT_DAMAGED, info);
    if (err == ERR_OK && !known) {
        self->damaged[self->damaged_count] = base_offset;
        self->damaged_count += 1;
    }
    return err == ERR_OK ? log_remove_file(self, base_offset, SEGMENT_INDEX, info) : err;
}

enum err log_drop_damaged(struct log *self, struct err_info *info)
{
    enum err err = ERR_OK;

    while (err == ERR_OK && self->damaged_count > 0) {
        err = log_remove_file(self, self->damaged[self->damaged_count - 1], SEGMENT_DAMAGED, info);
        self->damaged_count -= err == ERR_OK ? 1 : 0;
    }
    return err;
}

enum err log_copy_prefix(const struct segment_config *config, const struct segment *segment,
                         const struct segment_cut *cut, struct store **ret_copy,
                         struct err_info *info)
{
    char path[IO_PATH_SIZE];
    enum err err;

    ASSERT(cut->position > STORE_HEADER_SIZE);
    err = segment_path(path, config->dir, segment->base_offset, SEGMENT_FILLING, info);
    return err == ERR_OK ? store_copy(segment->store, path, cut->position, ret_copy, info) : err;
}

enum err log_take_prefix(struct log *self, const struct segment *segment, struct store *copy,
                         const struct segment_cut *cut, struct segment **ret_segment,
                         struct err_info *info)
{
    enum err err = store_commit(copy, info);

    ASSERT(store_size(copy) == cut->position);
    if (err != ERR_OK) {
        return err;
    }
    self->dir_changes += 1;
    err = segment_cut(&self->config, segment, copy, cut, ret_segment, info);
    if (err == ERR_OK) {
        (*ret_segment)->filling = true;
    }
    return err;
}

/* ---- begin ---- */

/* Whether the active segment holds a part of the range. */
static bool hits_active(const struct log *self, uint64_t from, uint64_t to)
{
    const struct segment *active = segment_list_last(&self->list);

    return active->end_offset > active->base_offset && from < active->end_offset &&
           to > active->base_offset;
}

enum err log_punch_begin(struct log *self, uint64_t from, uint64_t to, struct log_punch **ret_punch,
                         struct err_info *info)
{
    struct log_punch *punch;
    size_t first = segment_list_count_from(&self->list, from);
    enum err err = log_check_healthy(self, info);

    if (err != ERR_OK) {
        return err;
    }
    if (from >= to || to > log_end(self)) {
        return err_set(info, ERR_RANGE, "[%" PRIu64 ", %" PRIu64 ") is no range of the log", from,
                       to);
    }
    first -= first > 0 ? 1 : 0;
    punch = calloc(1, sizeof *punch + (self->list.count - first) * sizeof punch->items[0]);
    if (punch == NULL) {
        return err_set(info, ERR_NOMEM, "punch '%s': out of memory", self->dir);
    }
    if (hits_active(self, from, to)) {
        /* Not sealed: what is damaged cannot be, perhaps, and it goes. */
        err = log_new_active(self, log_end(self), info);
        if (err != ERR_OK) {
            free(punch);
            return log_fail(self, err);
        }
        log_publish_totals(self);
    }
    for (size_t i = first; i + 1 < self->list.count; i++) {
        struct segment *segment = self->list.items[i];

        if (segment->base_offset >= to || segment->end_offset <= from) {
            continue;
        }
        punch->items[punch->count] = (struct item){
            .segment = segment_ref(segment),
            .end_max = segment->base_offset > from ? segment->base_offset : from,
        };
        punch->count += 1;
    }
    punch->config = &self->config;
    *ret_punch = punch;
    return ERR_OK;
}

/* ---- run ---- */

static enum err run_item(const struct segment_config *config, struct item *item,
                         struct err_info *info)
{
    enum err err = segment_measure(item->segment, item->end_max, &item->cut, &item->last, info);

    if (err != ERR_OK || item->cut.end_offset == item->segment->base_offset) {
        return err;
    }
    return log_copy_prefix(config, item->segment, &item->cut, &item->copy, info);
}

enum err log_punch_run(struct log_punch *punch, struct err_info *info)
{
    enum err err = ERR_OK;

    ASSERT(!punch->done);
    for (size_t i = 0; err == ERR_OK && i < punch->count; i++) {
        err = run_item(punch->config, &punch->items[i], info);
    }
    punch->done = true;
    punch->err = err;
    return err;
}

/* ---- end ---- */

/* The place of the item's segment in the list, by its store: it may have been sealed meanwhile.
 * false when it is not there any more. */
static bool find_item(const struct log *self, const struct item *item, size_t *ret_at)
{
    size_t count = segment_list_count_from(&self->list, item->segment->base_offset);

    if (count == 0 || self->list.items[count - 1]->store != item->segment->store) {
        return false;
    }
    *ret_at = count - 1;
    return true;
}

static enum err end_item(struct log *self, struct item *item, size_t at, struct err_info *info)
{
    struct segment *old = self->list.items[at];
    struct segment *prefix = NULL;
    enum err err = ERR_OK;

    segment_retire(old, true);
    if (item->copy != NULL) {
        item->cut.last = &item->last;
        err = log_take_prefix(self, item->segment, item->copy, &item->cut, &prefix, info);
        item->copy = err == ERR_OK ? NULL : item->copy;
    }
    if (err == ERR_OK && !old->filling) {
        err = log_keep_damaged(self, old->base_offset, info);
    } else if (err == ERR_OK && prefix == NULL) {
        /* It came from another replica: nothing that only we have. */
        err = log_remove_segment(self, old->base_offset, true, info);
    }
    if (err != ERR_OK) {
        segment_unref(prefix);
        return err;
    }
    segment_list_splice(&self->list, at, 1, prefix);
    return ERR_OK;
}

/* What the item holds goes; what stands under the temporary name is of nobody. */
static enum err drop_item(struct log *self, struct item *item)
{
    uint64_t base_offset = item->segment->base_offset;

    store_unref(item->copy);
    segment_unref(item->segment);
    return log_healthy(self) ? log_remove_file(self, base_offset, SEGMENT_FILLING_TEMPORARY, NULL)
                             : ERR_OK;
}

enum err log_punch_end(struct log *self, struct log_punch *punch, struct err_info *info)
{
    enum err err = punch->done ? punch->err : ERR_CANCELED;
    bool untouched = err == ERR_CANCELED || err == ERR_NOSPACE || err == ERR_NOMEM;

    if (err != ERR_OK && !untouched) {
        err = log_fail(self, err);
    } else if (!log_healthy(self)) {
        err = log_check_healthy(self, info);
    }
    for (size_t i = 0; i < punch->count; i++) {
        struct item *item = &punch->items[i];
        size_t at;
        enum err one;

        if (err == ERR_OK && find_item(self, item, &at) && at + 1 < self->list.count) {
            err = log_forget_superseded(self, info);
            err = err == ERR_OK ? end_item(self, item, at, info) : err;
            err = err == ERR_OK ? ERR_OK : log_fail(self, err);
        }
        one = drop_item(self, item);
        err = one == ERR_OK ? err : log_fail(self, one);
    }
    free(punch);
    log_publish_totals(self);
    return err;
}

void log_punch_cancel(struct log_punch *punch)
{
    for (size_t i = 0; i < punch->count; i++) {
        store_unref(punch->items[i].copy);
        segment_unref(punch->items[i].segment);
    }
    free(punch);
}

enum err log_punch(struct log *self, uint64_t from, uint64_t to, struct err_info *info)
{
    struct log_punch *punch = NULL;
    enum err err = log_punch_begin(self, from, to, &punch, info);

    if (err != ERR_OK) {
        return err;
    }
    (void)log_punch_run(punch, info); /* end says the same */
    return log_punch_end(self, punch, info);
}
