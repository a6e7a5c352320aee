/*
 * A start that moves before the files go.
 *
 *      passed                   list
 *      [ 0 … 99 ][ 100 … 199 ]  [ 200 … 299 ][ 300 … ]        raise_start(250)
 *                [ 100 … 199 ]  [ 200 … 299 ][ 300 … ]        remove_passed(250, 1)
 *
 * The log's start is kept by whoever opens it, and a crash may lose a start that was raised. So the
 * files of what is below it stay until that is known to be durable: a log that is opened with the
 * old start finds all that was there. Afterwards log_open takes whatever is left of them for a
 * leftover, in any order: nothing has to be synced between the removals. Only the segment that is
 * the first one then must be on the disk before the others go.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "log/log_internal.h"

enum err log_reserve_passed(struct log *self)
{
    size_t capacity = self->passed_capacity == 0 ? 8 : self->passed_capacity * 2;
    struct passed_segment *grown;

    ASSERT(self->passed_count <= self->passed_capacity);
    if (self->passed_count < self->passed_capacity) {
        return ERR_OK;
    }
    grown = reallocarray(self->passed, capacity, sizeof *grown);
    if (grown == NULL) {
        return ERR_NOMEM;
    }
    self->passed = grown;
    self->passed_capacity = capacity;
    return ERR_OK;
}

void log_note_passed(struct log *self, const struct segment *segment)
{
    ASSERT(self->passed_count < self->passed_capacity);
    ASSERT(segment->end_offset <= log_start(self));
    self->passed[self->passed_count++] = (struct passed_segment){
        .base_offset = segment->base_offset,
        .end_offset = segment->end_offset,
        .filling = segment->filling,
    };
}

/* Takes the segments that end at or below start out of the list, but the last. */
static enum err pass(struct log *self, struct err_info *info)
{
    uint64_t start = log_start(self);

    while (self->list.count > 1 && self->list.items[0]->end_offset <= start) {
        struct segment *first;

        if (log_reserve_passed(self) != ERR_OK) {
            return err_set(info, ERR_NOMEM, "out of memory");
        }
        first = segment_list_pop_front(&self->list);
        segment_retire(first, false);
        log_note_passed(self, first);
        segment_unref(first);
    }
    return ERR_OK;
}

enum err log_raise_start(struct log *self, uint64_t offset, struct err_info *info)
{
    const struct segment *last = segment_list_last(&self->list);
    enum err err = log_check_request(self, offset, info);

    if (err != ERR_OK) {
        return err;
    }
    segment_list_set_bounds(&self->list, offset, log_end(self));
    if (offset == log_end(self) && last->end_offset > last->base_offset) {
        err = log_roll(self, info);
    }
    if (err == ERR_OK) {
        err = pass(self, info);
    }
    log_publish_totals(self);
    return err == ERR_OK ? ERR_OK : log_fail(self, err);
}

/* The first segment of the list is on the disk, at least its header. */
static enum err sync_first(struct log *self, struct err_info *info)
{
    struct store *first = self->list.items[0]->store;
    enum err err = ERR_OK;

    if (first->synced_size < STORE_HEADER_SIZE) {
        uint64_t size = store_size(first);

        err = store_sync(first, info);
        if (err == ERR_OK) {
            store_set_synced(first, size);
        }
    }
    return err == ERR_OK ? log_sync_dir(self, info) : err;
}

enum err log_remove_passed(struct log *self, uint64_t durable_start, unsigned max,
                           struct err_info *info)
{
    enum err err = log_check_healthy(self, info);
    size_t done = 0;

    if (err != ERR_OK || log_passed_start(self) > durable_start || max == 0) {
        return err;
    }
    err = sync_first(self, info);
    while (err == ERR_OK && done < self->passed_count && done < max &&
           self->passed[done].end_offset <= durable_start) {
        err = log_remove_segment(self, self->passed[done].base_offset, self->passed[done].filling,
                                 info);
        done++;
    }
    self->passed_count -= done;
    memmove(self->passed, self->passed + done, self->passed_count * sizeof self->passed[0]);
    return err == ERR_OK ? ERR_OK : log_fail(self, err);
}

uint64_t log_passed_start(const struct log *self)
{
    return self->passed_count == 0 ? UINT64_MAX : self->passed[0].end_offset;
}
