/*
 * A Bloom filter over the keys of a range of a log: which keys no record there has.
 *
 *      body, pages of 4 KiB:
 *       0        4        8                                                   4096
 *       +--------+--------+-------------------------------------- - - - - --------+
 *       | crc32c | 0      | bits of the page's own filter, the rest 0             |
 *       +--------+--------+-------------------------------------- - - - - --------+
 *
 *   Little-endian. A page's crc32c covers its base_offset (8 bytes) and number (8 bytes), and then
 *   [4, 4096) of it. A key belongs to the page that its hash picks (key_hash.h), and is a member of
 *   that page's filter by its hash's 8 bytes: a question reads one page, and checks it. Each page
 *   is a filter of libbloom for BLOOM_PAGE_KEYS keys, of which it says 1 % falsely to be there.
 *   The seal's (part.h) count is that of the keys, its probe the checksum of a filter with keys
 *   that are known: where the library makes something else of them, the file is of another version
 *   of it.
 */
#ifndef QUORLOG_LOOKUP_BLOOM_PART_H
#define QUORLOG_LOOKUP_BLOOM_PART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lookup/part.h"

enum {
    BLOOM_PAGE_SIZE = 4096,
    BLOOM_PAGE_HEADER_SIZE = 8,
    BLOOM_PAGE_KEYS = 3000, /* of a page's room for 3400, since hashes do not spread evenly */
    BLOOM_KEYS_MAX = 1 << 20,
};

/* Writes the part of `count` hashes, at most BLOOM_KEYS_MAX, which may repeat; they are sorted.
 * *seal: what is missing is filled in. ERR_NOMEM, ERR_IO, ERR_NOSPACE. */
enum err bloom_part_write(struct io *io, const char *dir, uint64_t *hashes, size_t count,
                          struct part_seal *seal, struct err_info *info);

/* Whether a record there may have a key of that hash. named->probe is what bloom_part_probe gives.
 * ERR_CORRUPT with file and position, ERR_NOT_FOUND, ERR_VERSION, ERR_NOMEM, ERR_IO. */
enum err bloom_part_may_hold(struct io *io, const char *dir, const struct part_seal *named,
                             uint64_t hash, bool *ret_may, struct err_info *info);

/* Reads and checks one page of a part that is open: number < body_size / BLOOM_PAGE_SIZE. Errors as
 * before. */
enum err bloom_part_read_page(struct io *io, int fd, const struct part_seal *seal, uint64_t number,
                              uint8_t ret_page[BLOOM_PAGE_SIZE], struct err_info *info);

/* Reads and checks all of it. Errors as before. */
enum err bloom_part_verify(struct io *io, const char *dir, const struct part_seal *named,
                           struct err_info *info);

/* What the library of this program makes of the known keys. ERR_NOMEM. */
enum err bloom_part_probe(uint32_t *ret_probe);

#endif
