/*
 * The smallest of numbers over ranges of places: either numbers are given to places and asked for
 * over a range, or given to ranges and asked for at a place. O(log n) each, 16 bytes a place.
 */
#ifndef QUORLOG_CHECKER_RANGES_H
#define QUORLOG_CHECKER_RANGES_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct ranges {
    size_t count;
    uint64_t *nodes; /* owned; 2 * count: node i stands for the nodes 2 * i and 2 * i + 1 */
};

/* Places [0, count), all UINT64_MAX. ERR_NOMEM. */
enum err ranges_init(struct ranges *self, size_t count);
void ranges_fini(struct ranges *self); /* all zeros: nothing happens */

/* Gives the number to one place; then asks for the smallest one in [from, to); UINT64_MAX: none. */
void ranges_put(struct ranges *self, size_t at, uint64_t number);
uint64_t ranges_smallest(const struct ranges *self, size_t from, size_t to);

/* Gives the number to all places in [from, to); then asks for the smallest one that a place has.
 * Not together with the two above. */
void ranges_cover(struct ranges *self, size_t from, size_t to, uint64_t number);
uint64_t ranges_at(const struct ranges *self, size_t at);

#endif
