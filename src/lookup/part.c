#include "lookup/part.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "raft_fsm/topic_settings.h"

enum { PART_VERSION = 1, OFFSET_DIGITS = 20 };

#define PART_MAGIC UINT32_C(0x31494c51) /* "QLI1" */

_Static_assert(TOPIC_INDEX_TIME == 1 << PART_TIME && TOPIC_INDEX_BTREE == 1 << PART_KEYS &&
                   TOPIC_INDEX_BLOOM == 1 << PART_BLOOM,
               "a kind of part is a bit of the settings");
_Static_assert(88 + BATCH_DIGEST_SIZE <= PART_SEAL_SIZE, "see the diagram");

static const struct {
    const char *name;
    const char *suffix;
} kinds[PART_KIND_COUNT] = {
    [PART_TIME] = {"time", ".timeindex"},
    [PART_KEYS] = {"btree", ".keys"},
    [PART_BLOOM] = {"bloom", ".bloom"},
};

const char *part_kind_name(enum part_kind kind)
{
    ASSERT(kind < PART_KIND_COUNT);
    return kinds[kind].name;
}

void part_seal_encode(const struct part_seal *self, uint8_t to[PART_SEAL_SIZE])
{
    ASSERT(self->kind < PART_KIND_COUNT);
    ASSERT(self->base_offset < self->end_offset);
    memset(to, 0, PART_SEAL_SIZE);
    bytes_put_u32(to, PART_MAGIC);
    bytes_put_u32(to + 8, PART_VERSION);
    bytes_put_u32(to + 12, (uint32_t)self->kind);
    bytes_put_u64(to + 16, self->topic_id);
    bytes_put_u64(to + 24, self->base_offset);
    bytes_put_u64(to + 32, self->end_offset);
    bytes_put_u64(to + 40, self->count);
    bytes_put_u64(to + 48, (uint64_t)self->first_time_us);
    bytes_put_u64(to + 56, (uint64_t)self->last_time_us);
    bytes_put_u64(to + 64, self->body_size);
    bytes_put_u32(to + 72, self->body_crc32c);
    bytes_put_u32(to + 76, self->level);
    bytes_put_u32(to + 80, self->probe);
    bytes_put_u32(to + 84, self->log_kib);
    memcpy(to + 88, self->digest, BATCH_DIGEST_SIZE);
    bytes_put_u32(to + 4, crc32c(to + 8, PART_SEAL_SIZE - 8));
}

enum err part_seal_decode(const uint8_t from[PART_SEAL_SIZE], struct part_seal *ret_seal,
                          struct err_info *info)
{
    uint32_t kind = bytes_get_u32(from + 12);
    struct part_seal seal;

    if (bytes_get_u32(from) != PART_MAGIC) {
        return err_set(info, ERR_CORRUPT, "no seal at its end");
    }
    if (bytes_get_u32(from + 4) != crc32c(from + 8, PART_SEAL_SIZE - 8)) {
        return err_set(info, ERR_CORRUPT, "the seal's checksum is wrong");
    }
    if (bytes_get_u32(from + 8) != PART_VERSION) {
        return err_set(info, ERR_VERSION, "format %" PRIu32 " is not known",
                       bytes_get_u32(from + 8));
    }
    if (kind >= PART_KIND_COUNT) {
        return err_set(info, ERR_CORRUPT, "kind %" PRIu32 " is not known", kind);
    }
    seal = (struct part_seal){
        .kind = (enum part_kind)kind,
        .topic_id = bytes_get_u64(from + 16),
        .base_offset = bytes_get_u64(from + 24),
        .end_offset = bytes_get_u64(from + 32),
        .count = bytes_get_u64(from + 40),
        .first_time_us = (int64_t)bytes_get_u64(from + 48),
        .last_time_us = (int64_t)bytes_get_u64(from + 56),
        .body_size = bytes_get_u64(from + 64),
        .body_crc32c = bytes_get_u32(from + 72),
        .level = bytes_get_u32(from + 76),
        .probe = bytes_get_u32(from + 80),
        .log_kib = bytes_get_u32(from + 84),
    };
    memcpy(seal.digest, from + 88, BATCH_DIGEST_SIZE);
    if (seal.base_offset >= seal.end_offset || seal.first_time_us > seal.last_time_us) {
        return err_set(info, ERR_CORRUPT, "offsets or times are out of order");
    }
    *ret_seal = seal;
    return ERR_OK;
}

void part_name(char buffer[PART_NAME_SIZE], const struct part_seal *seal)
{
    int size = snprintf(buffer, PART_NAME_SIZE, "%020" PRIu64 "-%020" PRIu64 "%s",
                        seal->base_offset, seal->end_offset, kinds[seal->kind].suffix);

    ASSERT(size > 0 && size < PART_NAME_SIZE);
}

static bool parse_offset(const char *digits, uint64_t *ret_offset)
{
    uint64_t offset = 0;

    for (int i = 0; i < OFFSET_DIGITS; i++) {
        uint64_t digit;

        if (digits[i] < '0' || digits[i] > '9') {
            return false;
        }
        digit = (uint64_t)(digits[i] - '0');
        if (offset > (UINT64_MAX - digit) / 10) {
            return false;
        }
        offset = offset * 10 + digit;
    }
    *ret_offset = offset;
    return true;
}

bool part_parse_name(const char *name, struct part_seal *ret_seal)
{
    struct part_seal seal = {0};

    if (!parse_offset(name, &seal.base_offset) || name[OFFSET_DIGITS] != '-' ||
        !parse_offset(name + OFFSET_DIGITS + 1, &seal.end_offset) ||
        seal.base_offset >= seal.end_offset) {
        return false;
    }
    for (unsigned kind = 0; kind < PART_KIND_COUNT; kind++) {
        if (strcmp(name + 2 * OFFSET_DIGITS + 1, kinds[kind].suffix) == 0) {
            seal.kind = (enum part_kind)kind;
            *ret_seal = seal;
            return true;
        }
    }
    return false;
}

static enum err path_of(char path[IO_PATH_SIZE], const char *dir, const struct part_seal *seal,
                        struct err_info *info)
{
    char name[PART_NAME_SIZE];

    part_name(name, seal);
    return io_path(path, dir, name, info);
}

enum err part_read(struct io *io, int fd, const char *path, void *data, size_t size,
                   uint64_t position, struct err_info *info)
{
    size_t got;
    enum err err = io_read(io, fd, path, data, size, position, &got, info);

    if (err == ERR_OK && got != size) {
        return err_set(info, ERR_CORRUPT, "'%s' ends at position %" PRIu64, path, position + got);
    }
    return err;
}

static enum err read_seal(struct io *io, int fd, const char *path, struct part_seal *ret_seal,
                          struct err_info *info)
{
    uint8_t bytes[PART_SEAL_SIZE];
    struct part_seal seal;
    uint64_t size;
    int rv = io->size(io, fd, &size);
    enum err err;

    if (rv < 0) {
        return io_error(rv, "size", path, info);
    }
    if (size < PART_SEAL_SIZE) {
        return err_set(info, ERR_CORRUPT, "'%s' has only %" PRIu64 " bytes", path, size);
    }
    err = part_read(io, fd, path, bytes, sizeof bytes, size - PART_SEAL_SIZE, info);
    if (err != ERR_OK) {
        return err;
    }
    err = part_seal_decode(bytes, &seal, info);
    if (err != ERR_OK) {
        return err_prefix(info, err, "'%s' position %" PRIu64, path, size - PART_SEAL_SIZE);
    }
    if (seal.body_size != size - PART_SEAL_SIZE) {
        return err_set(info, ERR_CORRUPT, "'%s' is not what its seal says", path);
    }
    *ret_seal = seal;
    return ERR_OK;
}

enum err part_open_file(struct io *io, const char *path, int *ret_fd, struct part_seal *ret_seal,
                        struct err_info *info)
{
    int fd = -1;
    enum err err = io_open(io, path, O_RDONLY, &fd, info);

    if (err != ERR_OK) {
        return err;
    }
    err = read_seal(io, fd, path, ret_seal, info);
    if (err != ERR_OK) {
        io_close(io, &fd);
        return err;
    }
    *ret_fd = fd;
    return ERR_OK;
}

enum err part_open(struct io *io, const char *dir, const struct part_seal *named, int *ret_fd,
                   struct part_seal *ret_seal, struct err_info *info)
{
    char path[IO_PATH_SIZE];
    struct part_seal seal;
    int fd = -1;
    enum err err = path_of(path, dir, named, info);

    err = err != ERR_OK ? err : part_open_file(io, path, &fd, &seal, info);
    if (err != ERR_OK) {
        return err;
    }
    if (seal.kind != named->kind || seal.base_offset != named->base_offset ||
        seal.end_offset != named->end_offset || seal.topic_id != named->topic_id) {
        io_close(io, &fd);
        return err_set(info, ERR_CORRUPT, "'%s' is not what its seal says", path);
    }
    *ret_fd = fd;
    *ret_seal = seal;
    return ERR_OK;
}

enum err part_write(struct io *io, const char *dir, const struct part_seal *seal, const void *body,
                    struct err_info *info)
{
    char name[PART_NAME_SIZE];
    uint8_t *data;
    enum err err;

    ASSERT(seal->body_size > 0 && seal->body_size < SIZE_MAX - PART_SEAL_SIZE);
    part_name(name, seal);
    data = malloc(seal->body_size + PART_SEAL_SIZE);
    if (data == NULL) {
        return err_set(info, ERR_NOMEM, "no memory for index '%s'", name);
    }
    memcpy(data, body, seal->body_size);
    part_seal_encode(seal, data + seal->body_size);
    err = io_replace_file(io, dir, name, data, seal->body_size + PART_SEAL_SIZE, info);
    free(data);
    return err;
}

enum err part_remove(struct io *io, const char *dir, const struct part_seal *seal,
                     struct err_info *info)
{
    char path[IO_PATH_SIZE];
    enum err err = path_of(path, dir, seal, info);
    int rv;

    if (err != ERR_OK) {
        return err;
    }
    rv = io->unlink(io, path);
    return rv == 0 || rv == -ENOENT ? ERR_OK : io_error(rv, "remove", path, info);
}
