/*
 * What stands at each offset of a topic: F, as it becomes known.
 *
 * Offsets come from a file and may be anything, so memory follows what is said, not how high the
 * numbers are: pages of 64 offsets, found by hash.
 */
#ifndef QUORLOG_CHECKER_CELLS_H
#define QUORLOG_CHECKER_CELLS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "checker/array.h"

enum { CELLS_PAGE_COUNT = 64 };

enum cell_flag {
    CELL_DUMPED = 1,  /* a node held it in the end */
    CELL_CLAIMED = 2, /* nobody was shown it: an acknowledged append says so */
    CELL_INSIDE = 4,  /* it belongs to the same batch as the offset before it */
};

struct cells_page {
    uint64_t number;                   /* offset / CELLS_PAGE_COUNT */
    uint64_t values[CELLS_PAGE_COUNT]; /* 0: not known */
    uint32_t lines[CELLS_PAGE_COUNT];  /* of the operation that says so */
    uint8_t flags[CELLS_PAGE_COUNT];
};

struct cells {
    ARRAY(struct cells_page *, pages); /* owned */
    uint32_t *slots;                   /* owned: 1 + the place of a page, 0: free */
    size_t slot_count;
    struct cells_page *last; /* found; neighbours are asked for together */
};

/* Copies of what a page has. */
struct cell {
    uint64_t value;
    uint32_t line;
    uint8_t flags;
};

/* An empty table is all zeros. */
void cells_fini(struct cells *self);

/* All zeros where nothing is known. */
struct cell cells_get(struct cells *self, uint64_t offset);

/* ERR_NOMEM. */
enum err cells_set(struct cells *self, uint64_t offset, struct cell cell);

/* Adds a flag to a cell that has a value; nothing to one that has none. */
void cells_flag(struct cells *self, uint64_t offset, enum cell_flag flag);

#endif
