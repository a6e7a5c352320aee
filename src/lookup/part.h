/*
 * A part: one file of a topic's derived indexes, for a range of its offsets.
 *
 *      body                                    what the kind of index says: time_part.h,
 *      …                                       bloom_part.h, key_run.h
 *      seal, the file's last 128 bytes:
 *       0                 4                 8                12                16
 *       +-----------------+-----------------+-----------------+-----------------+
 *     0 | magic "QLI1"    | crc32c          | version         | kind            |
 *       +-----------------+-----------------+-----------------+-----------------+
 *    16 | topic_id                          | base_offset                       |
 *       +-----------------------------------+-----------------------------------+
 *    32 | end_offset                        | count                             |
 *       +-----------------------------------+-----------------------------------+
 *    48 | first_time_us                     | last_time_us                      |
 *       +-----------------------------------+-----------------------------------+
 *    64 | body_size                         | body_crc32c     | level           |
 *       +-----------------------------------+-----------------+-----------------+
 *    80 | probe           | log_kib         | digest[32]                        |
 *       +-----------------+-----------------+ - - - - - - - - - - - - - - - - - +
 *
 *   Little-endian; crc32c covers [8, 128) of the seal. log_kib is how much of log it was made of,
 *   0: not known; compaction may have left less of it. digest is that of the last batch below
 *   end_offset: it chains the log, so a part whose digest the log still has is of that log. The
 *   file is "<base_offset, 20 digits>-<end_offset, 20 digits>.timeindex" (.bloom, .keys). It gets
 *   that name when all of it is on the disk, and never changes after; until then it ends in
 *   ".tmp".
 *
 *   A part is valid iff its size is body_size + 128, the seal's magic, version and crc32c match,
 *   kind and offsets are the name's, base_offset < end_offset, and the body is what its kind asks
 *   for.
 */
#ifndef QUORLOG_LOOKUP_PART_H
#define QUORLOG_LOOKUP_PART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/io.h"
#include "log/batch.h"

enum { PART_SEAL_SIZE = 128, PART_NAME_SIZE = 64 };

/* As the bits of topic_settings.h: 1 << kind. */
enum part_kind {
    PART_TIME,
    PART_KEYS,
    PART_BLOOM,
    PART_KIND_COUNT,
};

struct part_seal {
    enum part_kind kind;
    uint64_t topic_id;
    uint64_t base_offset;
    uint64_t end_offset;
    uint64_t count; /* entries: batches noted, keys, records with a key */
    int64_t first_time_us;
    int64_t last_time_us;
    uint64_t body_size;
    uint32_t body_crc32c;
    uint32_t level;   /* keys: how often it was merged */
    uint32_t probe;   /* bloom: what the library makes of known keys */
    uint32_t log_kib; /* KiB of batches that it was made of; 0: not known */
    uint8_t digest[BATCH_DIGEST_SIZE];
};

/* "time", "btree", "bloom": as in settings. */
const char *part_kind_name(enum part_kind kind);

void part_seal_encode(const struct part_seal *self, uint8_t to[PART_SEAL_SIZE]);

/* ERR_CORRUPT with the reason, ERR_VERSION. */
enum err part_seal_decode(const uint8_t from[PART_SEAL_SIZE], struct part_seal *ret_seal,
                          struct err_info *info);

/* "<base>-<end>.timeindex" */
void part_name(char buffer[PART_NAME_SIZE], const struct part_seal *seal);

/* Takes kind and offsets from a name; false when it is none of a part. */
bool part_parse_name(const char *name, struct part_seal *ret_seal);

/* Opens a file, whatever its name, and reads its seal, which has to be right by itself. Errors as
 * of part_open. *ret_fd is the caller's. */
enum err part_open_file(struct io *io, const char *path, int *ret_fd, struct part_seal *ret_seal,
                        struct err_info *info);

/* Opens DIR/<name of seal> and reads its seal, which has to be for the same kind, offsets and
 * topic; ERR_NOT_FOUND, ERR_CORRUPT with file and reason, ERR_VERSION, ERR_IO. *ret_fd is the
 * caller's. */
enum err part_open(struct io *io, const char *dir, const struct part_seal *named, int *ret_fd,
                   struct part_seal *ret_seal, struct err_info *info);

/* Reads size bytes at position, all of them. ERR_CORRUPT when the file is shorter. */
enum err part_read(struct io *io, int fd, const char *path, void *data, size_t size,
                   uint64_t position, struct err_info *info);

/* Writes body and seal as a new part, durably and whole or not at all; an old one is replaced. */
enum err part_write(struct io *io, const char *dir, const struct part_seal *seal, const void *body,
                    struct err_info *info);

/* Removes it; a missing one is fine. Not synced: what comes back after a crash is checked again. */
enum err part_remove(struct io *io, const char *dir, const struct part_seal *seal,
                     struct err_info *info);

#endif
