/*
 * The segments of a log in order, and the bounds of what may be read of them.
 *
 *      items  [ 0 ][ 1 ] … [ count - 1, active ]      start ──────► end
 *
 * One writer changes the list; any thread looks an offset up and gets a reference that outlives
 * whatever the writer does next. The lock is held for look-ups and pointer moves, never while a
 * file is touched.
 *
 * Invariants:
 *   I1  A segment and the bounds that a look-up gives belong together: both are read under the
 *       lock. The bounds alone may be read without it.
 *   I2  What lies in [start, end) is in the list, or in a hole: between one segment's end and the
 *       next one's base, or before the first one's. It stays readable for who holds a reference.
 */
#ifndef QUORLOG_LOG_SEGMENT_LIST_H
#define QUORLOG_LOG_SEGMENT_LIST_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "log/segment.h"

struct segment_list {
    pthread_mutex_t lock;   /* Guards all but the atomics against readers. */
    struct segment **items; /* owned, each with one reference */
    size_t count;
    size_t capacity;
    _Atomic uint64_t start;
    _Atomic uint64_t end;
};

void segment_list_init(struct segment_list *self);
void segment_list_fini(struct segment_list *self);

/* (writer) Room for one more. ERR_NOMEM. */
enum err segment_list_reserve(struct segment_list *self);

/* (writer) Adds a segment, taken over, at the end; room was reserved. */
void segment_list_push(struct segment_list *self, struct segment *segment);

/* (writer) Puts `segment`, taken over, in the place of the last one, which loses its reference. */
void segment_list_replace_last(struct segment_list *self, struct segment *segment);

/* (writer) Takes `removed` (0 or 1) segments out at place `at`, which lose their reference, and
 * puts `segment`, taken over, there; NULL: nothing. Room was reserved. */
void segment_list_splice(struct segment_list *self, size_t at, size_t removed,
                         struct segment *segment);

/* (writer) Puts `segment`, taken over, in the place of the `count` ones from `at` on, which lose
 * their reference: the caller has another one to each. */
void segment_list_merge(struct segment_list *self, size_t at, size_t count,
                        struct segment *segment);

/* (writer) Takes the last / the first one out; the caller owns its reference. */
struct segment *segment_list_pop_back(struct segment_list *self);
struct segment *segment_list_pop_front(struct segment_list *self);

/* (writer) Moves the bounds; look-ups that come later see both. */
void segment_list_set_bounds(struct segment_list *self, uint64_t start, uint64_t end);

/* (writer) Starts anew with `segment`, taken over, and bounds [next_offset, next_offset). *empty,
 * an empty list with room, gets the segments that were there. */
void segment_list_exchange(struct segment_list *self, struct segment_list *empty,
                           struct segment *segment, uint64_t next_offset);

/* (writer) Publishes what was appended to the last segment. */
static inline void segment_list_set_end(struct segment_list *self, uint64_t end)
{
    atomic_store_explicit(&self->end, end, memory_order_release);
}

/* (writer) The last one, borrowed. */
struct segment *segment_list_last(const struct segment_list *self);

/* (writer) How many segments begin at or below offset: the last of them holds it, if any does. */
size_t segment_list_count_from(const struct segment_list *self, uint64_t offset);

/* (writer) The number of the segment that begins at or below offset; there is one. */
size_t segment_list_locate(const struct segment_list *self, uint64_t offset);

/* What is missing: offsets in [from, to). */
struct segment_gap {
    uint64_t from;
    uint64_t to;
};

/* (writer) The hole before segment `at` of the list, what is below start left out; false when there
 * is none. */
bool segment_list_gap(const struct segment_list *self, size_t at, struct segment_gap *ret_gap);

/* (any) The holes that end above `after`, lowest first, up to max of them; how many there are. */
size_t segment_list_gaps(struct segment_list *self, uint64_t after, struct segment_gap *ret_gaps,
                         size_t max);

/* (writer) Whether a reader holds the last segment or its store. False is certain: later look-ups
 * see the bounds of now. */
bool segment_list_last_is_shared(struct segment_list *self);

/* (any) The segment that holds offset, with a reference for the caller, and how far it may be read
 * (the lowest of its end, end and end_max). ERR_RANGE outside of [start, end], ERR_AGAIN at that
 * limit, ERR_HOLE inside a hole. */
enum err segment_list_find(struct segment_list *self, uint64_t offset, uint64_t end_max,
                           struct segment **ret_segment, uint64_t *ret_limit,
                           struct err_info *info);

/* (any) How many segments lie wholly in [from, to), what is below start left out. */
uint64_t segment_list_count_within(struct segment_list *self, uint64_t from, uint64_t to);

/* (any) All segments with data in [start, end), with references, in an owned array, NULL when
 * there are none; and the bounds. ERR_NOMEM. */
enum err segment_list_snapshot(struct segment_list *self, struct segment ***ret_segments,
                               size_t *ret_count, uint64_t *ret_start, uint64_t *ret_end);

#endif
