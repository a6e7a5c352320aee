#include "base/crc32c.h"

#include <isa-l/crc.h>
#include <limits.h>

#include "base/assert.h"

uint32_t crc32c_extend(uint32_t crc, const void *data, size_t size)
{
    ASSERT(size <= INT_MAX);
    /* ISA-L does neither the initial nor the final inversion, and does not write to its input. */
    return ~crc32_iscsi((unsigned char *)(uintptr_t)data, (int)size, ~crc);
}

uint32_t crc32c(const void *data, size_t size)
{
    return crc32c_extend(0, data, size);
}
