/*
 * Little-endian integers in byte arrays: every number on disk and on the wire is little-endian,
 * whatever the machine. Unaligned addresses are fine.
 */
#ifndef QUORLOG_BASE_BYTES_H
#define QUORLOG_BASE_BYTES_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t bytes_get_u16(const uint8_t *from)
{
    uint16_t value;

    memcpy(&value, from, sizeof value);
    return le16toh(value);
}

static inline uint32_t bytes_get_u32(const uint8_t *from)
{
    uint32_t value;

    memcpy(&value, from, sizeof value);
    return le32toh(value);
}

static inline uint64_t bytes_get_u64(const uint8_t *from)
{
    uint64_t value;

    memcpy(&value, from, sizeof value);
    return le64toh(value);
}

static inline void bytes_put_u16(uint8_t *to, uint16_t value)
{
    value = htole16(value);
    memcpy(to, &value, sizeof value);
}

static inline void bytes_put_u32(uint8_t *to, uint32_t value)
{
    value = htole32(value);
    memcpy(to, &value, sizeof value);
}

static inline void bytes_put_u64(uint8_t *to, uint64_t value)
{
    value = htole64(value);
    memcpy(to, &value, sizeof value);
}

/* size rounded up to a multiple of unit, a power of two. The caller rules out overflow. */
static inline size_t bytes_round_up(size_t size, size_t unit)
{
    return (size + unit - 1) & ~(unit - 1);
}

#endif
