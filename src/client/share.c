#include "client/share.h"

#include "base/assert.h"
#include "base/crc32c.h"

static uint32_t mix(uint32_t h)
{
    h ^= h >> 16;
    h *= 0x85ebca6bU;
    h ^= h >> 13;
    h *= 0xc2b2ae35U;
    h ^= h >> 16;
    return h;
}

unsigned share_of(const struct record *record, unsigned count)
{
    uint64_t hash = record->offset;

    ASSERT(count > 0 && count <= SHARE_COUNT_MAX);
    if (record->key != NULL) {
        hash = mix(crc32c(record->key, record->key_size));
    }
    return (unsigned)(hash % count) + 1;
}

bool share_is_one(unsigned share, unsigned count)
{
    if (count == 0) {
        return share == 0;
    }
    return count <= SHARE_COUNT_MAX && share >= 1 && share <= count;
}
