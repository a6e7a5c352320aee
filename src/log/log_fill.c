/*
 * Holes: making one at the end, and filling them.
 *
 *      [ sealed ]      hole        [ sealed ] …           log_punch, log_skip, log_open
 *      [ sealed ][ filling )  hole [ sealed ] …           log_fill: one behind which the hole
 * begins [ sealed ][ filling ][ filling ][ sealed ] …       full, or closed: nothing is put there
 * now [ sealed ][ sealed  ][ sealed  ][ sealed ] …       log_settle, once they were synced
 *
 * A filling segment's store is BASE.store.fill. After a crash nothing is believed of such a file
 * that does not verify, and what does is written again; the ordinary name and the index, which
 * recovery does believe, come only after a sync.
 */
#include <inttypes.h>

#include "base/assert.h"
#include "log/log_internal.h"

size_t log_holes(const struct log *self, uint64_t after, struct log_hole *ret_holes, size_t max)
{
    struct segment_list *list = (struct segment_list *)&self->list; /* Only its lock is changed. */
    struct segment_gap gaps[16];
    size_t done = 0;
    size_t count;

    do {
        size_t wanted = max - done < 16 ? max - done : 16;

        count = segment_list_gaps(list, after, gaps, wanted);
        count = count < wanted ? count : wanted;
        for (size_t i = 0; i < count; i++) {
            ret_holes[done] = (struct log_hole){.from = gaps[i].from, .to = gaps[i].to};
            after = gaps[i].to;
            done += 1;
        }
    } while (count == 16 && done < max);
    return done;
}

bool log_has_holes(const struct log *self)
{
    return atomic_load_explicit(&self->hole_count, memory_order_acquire) > 0;
}

/* ---- at the end ---- */

enum err log_new_active(struct log *self, uint64_t base_offset, struct err_info *info)
{
    struct segment *active = segment_list_last(&self->list);
    bool empty = active->end_offset == active->base_offset;
    struct segment_origin origin = {
        .base_offset = base_offset,
        .generation = self->generation,
        .before = active,
    };
    struct segment *next = NULL;
    uint64_t old_base = active->base_offset;
    enum err err;

    ASSERT(base_offset >= active->end_offset);
    ASSERT(IMPLIES(empty, base_offset > active->base_offset));
    err = segment_list_reserve(&self->list);
    if (err == ERR_OK) {
        err = segment_create(&self->config, &origin, &next, info);
    }
    if (err != ERR_OK) {
        return err;
    }
    self->dir_changes += 1;
    store_write_back(active->store, 1);
    segment_list_splice(&self->list, empty ? self->list.count - 1 : self->list.count, empty ? 1 : 0,
                        next);
    return empty ? log_remove_segment(self, old_base, false, info) : ERR_OK;
}

/* The active segment's index becomes a file; the segment stays the last. */
static enum err seal_active(struct log *self, struct err_info *info)
{
    struct segment *active = segment_list_last(&self->list);
    struct segment *sealed = NULL;
    enum err err;

    if (active->end_offset == active->base_offset) {
        return ERR_OK;
    }
    err = segment_seal(&self->config, active, &sealed, info);
    if (err == ERR_OK) {
        self->dir_changes += 1;
        segment_list_replace_last(&self->list, sealed);
    }
    return err;
}

enum err log_skip(struct log *self, uint64_t to, struct err_info *info)
{
    enum err err = log_check_healthy(self, info);

    if (err != ERR_OK) {
        return err;
    }
    if (to < log_end(self)) {
        return err_set(info, ERR_RANGE, "offset %" PRIu64 " is below the end, %" PRIu64, to,
                       log_end(self));
    }
    if (to == log_end(self)) {
        return ERR_OK;
    }
    err = seal_active(self, info);
    if (err == ERR_OK) {
        err = log_new_active(self, to, info);
    }
    if (err != ERR_OK) {
        return log_fail(self, err);
    }
    segment_list_set_bounds(&self->list, log_start(self), to);
    log_publish_totals(self);
    return ERR_OK;
}

/* ---- filling ---- */

/* Where a batch is to go. */
struct spot {
    size_t at; /* number of the segment behind the hole */
    struct segment_gap gap;
    struct segment *before;       /* borrowed; NULL: none */
    const struct segment *behind; /* borrowed */
};

/* Finds the hole that begins with the batch. A hole that begins at the log's start may begin inside
 * of one. */
static enum err find_spot(struct log *self, const struct batch_header *header,
                          struct spot *ret_spot, struct err_info *info)
{
    size_t at = segment_list_count_from(&self->list, header->base_offset);
    struct segment *before = at == 0 ? NULL : self->list.items[at - 1];
    struct segment_gap gap = {0};
    bool found = at < self->list.count && segment_list_gap(&self->list, at, &gap);
    bool begins = header->base_offset == gap.from ||
                  (gap.from == log_start(self) && header->base_offset < gap.from &&
                   batch_end_offset(header) > gap.from);

    if (!found || !begins || (before != NULL && before->end_offset > header->base_offset)) {
        return err_set(info, ERR_RANGE, "no hole begins at offset %" PRIu64, header->base_offset);
    }
    if (batch_end_offset(header) > gap.to) {
        return err_set(info, ERR_CORRUPT,
                       "the batch [%" PRIu64 ", %" PRIu64 ") passes the end of the hole, %" PRIu64,
                       header->base_offset, batch_end_offset(header), gap.to);
    }
    *ret_spot =
        (struct spot){.at = at, .gap = gap, .before = before, .behind = self->list.items[at]};
    return ERR_OK;
}

/* I2, against both sides. What stands behind and cannot be read says nothing. */
static enum err check_order(const struct spot *spot, const struct batch_header *header,
                            struct err_info *info)
{
    struct segment *before = spot->before;
    const struct segment *behind = spot->behind;
    uint8_t bytes[BATCH_HEADER_SIZE];
    struct store_window window = {.store = behind->store, .data = bytes, .capacity = sizeof bytes};
    struct batch_header next;
    enum err err = ERR_OK;

    if (before != NULL) {
        segment_trust(before);
    }
    if (before != NULL && (header->raft_index < before->last_raft_index ||
                           header->append_time_us < before->last_append_time_us)) {
        err = ERR_CORRUPT;
    }
    if (err == ERR_OK && behind->end_offset > behind->base_offset &&
        store_window_header(&window, STORE_HEADER_SIZE, &next, NULL) == ERR_OK &&
        (header->raft_index > next.raft_index || header->append_time_us > next.append_time_us)) {
        err = ERR_CORRUPT;
    }
    return err == ERR_OK
               ? ERR_OK
               : err_set(info, err, "raft index or append time are out of order at offset %" PRIu64,
                         header->base_offset);
}

/* The segment that takes the batch: the one before the hole, or a new one, not in the list yet. */
static enum err choose_segment(struct log *self, const struct spot *spot,
                               const struct batch_header *header, struct segment **ret_segment,
                               struct err_info *info)
{
    struct segment_origin origin = {
        .base_offset = header->base_offset,
        .generation = self->generation,
        .before = spot->before,
        .filling = true,
    };
    struct segment *before = spot->at == 0 ? NULL : self->list.items[spot->at - 1];
    enum err err;

    if (before != NULL && before->filling && before->end_offset == header->base_offset &&
        store_size(before->store) + header->size <= self->config.size_max) {
        *ret_segment = before;
        return ERR_OK;
    }
    err = segment_list_reserve(&self->list);
    if (err == ERR_OK) {
        err = segment_create(&self->config, &origin, ret_segment, info);
    }
    if (err == ERR_OK) {
        self->dir_changes += 1;
        if (before != NULL && before->filling) {
            store_write_back(before->store, 1);
        }
    }
    return err;
}

/* An empty active segment behind what was filled: what comes there comes later. */
static void raise_stamps(struct segment *behind, const struct batch_header *header)
{
    if (behind->end_offset > behind->base_offset) {
        return;
    }
    if (behind->last_raft_index < header->raft_index) {
        behind->last_raft_index = header->raft_index;
    }
    if (behind->last_append_time_us < header->append_time_us) {
        behind->last_append_time_us = header->append_time_us;
    }
}

static enum err put(struct log *self, const struct spot *spot, const struct batch_header *header,
                    const uint8_t *batch, struct err_info *info)
{
    struct iovec part = {.iov_base = (void *)batch, .iov_len = header->size};
    struct segment *segment = NULL;
    bool is_new;
    enum err err = choose_segment(self, spot, header, &segment, info);

    if (err != ERR_OK) {
        return err;
    }
    is_new = segment->end_offset == segment->base_offset;
    err = segment_append(segment, header, &part, 1, info); /* I5: readable from here on */
    if (err != ERR_OK) {
        if (is_new) {
            segment_unref(segment);
        }
        return err;
    }
    raise_stamps(self->list.items[spot->at], header);
    store_write_back(segment->store, self->write_back_size);
    if (is_new) {
        segment_list_splice(&self->list, spot->at, 0, segment);
    }
    if (is_new || batch_end_offset(header) == spot->gap.to) {
        log_publish_totals(self);
    } else {
        atomic_fetch_add_explicit(&self->size, header->size, memory_order_relaxed);
    }
    return ERR_OK;
}

enum err log_fill(struct log *self, const uint8_t *batches, size_t size, struct err_info *info)
{
    size_t done = 0;
    enum err err = log_check_healthy(self, info);

    while (err == ERR_OK && done < size) {
        struct batch_header header = {0};
        struct spot spot = {0};

        err = log_check_batch(self, batches + done, size - done, &header, info);
        if (err == ERR_OK) {
            err = find_spot(self, &header, &spot, info);
        }
        if (err == ERR_RANGE && done > 0) { /* The hole was closed by the batch before. */
            err = err_set(info, ERR_CORRUPT,
                          "the batch at offset %" PRIu64 " does not follow the one before it",
                          header.base_offset);
        }
        if (err == ERR_OK) {
            err = check_order(&spot, &header, info);
        }
        if (err == ERR_OK) {
            err = put(self, &spot, &header, batches + done, info);
            err = err == ERR_OK ? ERR_OK : log_fail(self, err);
            done += header.size;
        }
    }
    ASSERT(err != ERR_OK || done == size);
    return err;
}

/* ---- what was filled becomes ordinary ---- */

/* Complete, and on the disk: all but the last one of the list can be. */
static bool can_settle(const struct log *self, size_t at)
{
    const struct segment *segment = self->list.items[at];

    return !segment->sealed && segment->end_offset == self->list.items[at + 1]->base_offset &&
           segment->store->synced_size == store_size(segment->store);
}

/* Gives the file its ordinary name. */
static enum err rename_filled(struct log *self, size_t at, struct err_info *info)
{
    struct segment *old = self->list.items[at];
    uint64_t size = store_size(old->store);
    struct segment_cut cut = {
        .position = size,
        .end_offset = old->end_offset,
        .before = old,
    };
    struct segment *renamed = NULL;
    struct store *store = NULL;
    enum err err;

    segment_retire(old, true);
    err = log_rename_file(self, old->base_offset, SEGMENT_FILLING, SEGMENT_STORE, info);
    if (err == ERR_OK) {
        err = log_open_store(self, old->base_offset, SEGMENT_STORE, &store, info);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (store_size(store) != size) {
        store_unref(store);
        return err_set(info, ERR_IO, "'%s' changed its size", old->store->path);
    }
    store_set_synced(store, size);
    err = segment_cut(&self->config, old, store, &cut, &renamed, info);
    if (err != ERR_OK) {
        store_unref(store);
        return err;
    }
    segment_list_splice(&self->list, at, 1, renamed);
    return ERR_OK;
}

static enum err settle_one(struct log *self, size_t at, struct err_info *info)
{
    struct segment *sealed = NULL;
    enum err err = ERR_OK;

    if (self->list.items[at]->filling) {
        err = rename_filled(self, at, info);
    }
    if (err != ERR_OK) {
        return err;
    }
    err = segment_seal(&self->config, self->list.items[at], &sealed, info);
    if (err == ERR_CORRUPT) {
        return ERR_OK; /* Damaged meanwhile: whoever reads it finds out and punches it. */
    }
    if (err == ERR_OK) {
        self->dir_changes += 1;
        segment_list_splice(&self->list, at, 1, sealed);
    }
    return err;
}

enum err log_settle(struct log *self, struct err_info *info)
{
    bool filling = false;
    enum err err = ERR_OK;

    for (size_t i = 0; err == ERR_OK && i + 1 < self->list.count; i++) {
        if (can_settle(self, i)) {
            err = settle_one(self, i, info);
        }
        filling = filling || self->list.items[i]->filling;
    }
    if (err == ERR_OK) {
        err = log_drop_superseded(self, info);
    }
    if (err == ERR_OK && self->damaged_count > 0 && !filling && !log_has_holes(self)) {
        err = log_drop_damaged(self, info);
    }
    return err;
}
