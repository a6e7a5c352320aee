/*
 * CRC-32C (Castagnoli), as in RFC 3720 appendix B.4: crc32c("123456789") is 0xe3069283.
 */
#ifndef QUORLOG_BASE_CRC32C_H
#define QUORLOG_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of data. */
uint32_t crc32c(const void *data, size_t size);

/* The checksum of what `crc` covers followed by data: crc32c(ab) == crc32c_extend(crc32c(a), b). */
uint32_t crc32c_extend(uint32_t crc, const void *data, size_t size);

#endif
