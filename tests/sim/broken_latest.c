/*
 * A broken build: compaction takes every record for a superseded one. Linked with
 * --wrap=latest_has_later.
 */
#include "record/latest.h"

bool __wrap_latest_has_later(const struct latest *self, const void *key, size_t key_size,
                             uint64_t offset);

bool __wrap_latest_has_later(const struct latest *self, const void *key, size_t key_size,
                             uint64_t offset)
{
    (void)self;
    (void)key;
    (void)key_size;
    (void)offset;
    return true;
}
