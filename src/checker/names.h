/*
 * Numbers for names, from 0 on: of topics, and of the cursors in them.
 */
#ifndef QUORLOG_CHECKER_NAMES_H
#define QUORLOG_CHECKER_NAMES_H

#include <stdint.h>

#include "base/err.h"
#include "checker/array.h"

struct name {
    char *text;     /* owned */
    uint32_t scope; /* the same text in two scopes is two names */
};

struct names {
    ARRAY(struct name, items);
    uint32_t *slots;   /* owned: 1 + the place of an item, 0: free; linear probing */
    size_t slot_count; /* 0, or a power of two, at least twice items_count */
};

/* An empty table is all zeros. */
void names_fini(struct names *self);

/* The name's number; it is copied when it is new. ERR_NOMEM. */
enum err names_number(struct names *self, uint32_t scope, const char *text, uint32_t *ret_number);

#endif
