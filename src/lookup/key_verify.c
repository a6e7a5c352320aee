#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "lookup/key_file.h"

enum { SUM_SIZE = 4, PROGRESS_SIZE = 16 * KEY_CHUNK_SIZE };

static size_t sums_size(uint64_t size)
{
    return (size_t)((size + KEY_CHUNK_SIZE - 1) / KEY_CHUNK_SIZE) * SUM_SIZE;
}

/* The chunk at position, its checksum. */
static enum err sum_chunk(struct io *io, int fd, const char *path, uint64_t position, uint64_t size,
                          uint8_t *chunk, uint32_t *ret_sum, struct err_info *info)
{
    size_t length = size - position < KEY_CHUNK_SIZE ? (size_t)(size - position) : KEY_CHUNK_SIZE;
    enum err err = part_read(io, fd, path, chunk, length, position, info);

    if (err == ERR_OK) {
        *ret_sum = crc32c(chunk, length);
    }
    return err;
}

enum err key_checksums_make(struct io *io, int fd, const char *path, uint64_t size,
                            struct key_checksums *ret_sums, struct err_info *info)
{
    struct key_checksums sums = {.size = sums_size(size)};
    uint8_t *chunk = malloc(KEY_CHUNK_SIZE);
    enum err err = ERR_OK;

    ASSERT(size > 0);
    sums.data = malloc(sums.size);
    if (chunk == NULL || sums.data == NULL) {
        err = err_set(info, ERR_NOMEM, "no memory for the checksums of '%s'", path);
    }
    for (uint64_t at = 0; err == ERR_OK && at < size; at += KEY_CHUNK_SIZE) {
        uint32_t sum = 0;

        err = sum_chunk(io, fd, path, at, size, chunk, &sum, info);
        bytes_put_u32(sums.data + at / KEY_CHUNK_SIZE * SUM_SIZE, sum);
    }
    free(chunk);
    if (err != ERR_OK) {
        free(sums.data);
        return err;
    }
    *ret_sums = sums;
    return ERR_OK;
}

/* The size of LMDB's part; 0: none gives that body. */
static uint64_t tree_size(uint64_t body_size)
{
    uint64_t size = body_size / (KEY_CHUNK_SIZE + SUM_SIZE) * KEY_CHUNK_SIZE;
    uint64_t rest = body_size % (KEY_CHUNK_SIZE + SUM_SIZE);

    if (rest > SUM_SIZE) {
        size += rest - SUM_SIZE;
    } else if (rest != 0) {
        return 0;
    }
    return size + sums_size(size) == body_size ? size : 0;
}

struct check {
    struct io *io;
    int fd;
    const char *name;
    key_progress_cb go_on;
    void *arg;
};

static enum err check_tree(const struct check *check, uint64_t size, const uint8_t *sums,
                           struct err_info *info)
{
    uint8_t *chunk = malloc(KEY_CHUNK_SIZE);
    enum err err =
        chunk == NULL ? err_set(info, ERR_NOMEM, "no memory to check '%s'", check->name) : ERR_OK;

    for (uint64_t at = 0; err == ERR_OK && at < size; at += KEY_CHUNK_SIZE) {
        uint32_t sum = 0;

        err = sum_chunk(check->io, check->fd, check->name, at, size, chunk, &sum, info);
        if (err == ERR_OK && sum != bytes_get_u32(sums + at / KEY_CHUNK_SIZE * SUM_SIZE)) {
            err = err_set(info, ERR_CORRUPT, "'%s': the checksum at position %" PRIu64 " is wrong",
                          check->name, at);
        }
        if (err == ERR_OK && check->go_on != NULL && (at + KEY_CHUNK_SIZE) % PROGRESS_SIZE == 0 &&
            !check->go_on(check->arg, PROGRESS_SIZE)) {
            err = ERR_CANCELED;
        }
    }
    free(chunk);
    return err;
}

static enum err check_body(const struct check *check, const struct part_seal *seal,
                           struct err_info *info)
{
    uint64_t size = tree_size(seal->body_size);
    size_t all = sums_size(size);
    uint8_t *sums;
    enum err err;

    if (size == 0) {
        return err_set(info, ERR_CORRUPT, "'%s': %" PRIu64 " bytes are no key index", check->name,
                       seal->body_size);
    }
    sums = malloc(all);
    if (sums == NULL) {
        return err_set(info, ERR_NOMEM, "no memory to check '%s'", check->name);
    }
    err = part_read(check->io, check->fd, check->name, sums, all, size, info);
    if (err == ERR_OK && crc32c(sums, all) != seal->body_crc32c) {
        err = err_set(info, ERR_CORRUPT, "'%s': the checksum of position %" PRIu64 " on is wrong",
                      check->name, size);
    }
    err = err != ERR_OK ? err : check_tree(check, size, sums, info);
    free(sums);
    return err;
}

enum err key_run_stamp(const char *dir, const struct part_seal *named, struct key_stamp *ret_stamp,
                       struct err_info *info)
{
    char path[IO_PATH_SIZE];
    char name[PART_NAME_SIZE];
    struct stat status;
    enum err err;

    part_name(name, named);
    err = io_path(path, dir, name, info);
    if (err == ERR_OK && stat(path, &status) != 0) {
        err = io_error(-errno, "stat", path, info);
    }
    if (err == ERR_OK) {
        *ret_stamp = (struct key_stamp){
            .inode = status.st_ino, .size = (uint64_t)status.st_size, .changed = status.st_mtim};
    }
    return err;
}

enum err key_run_check(struct io *io, const char *dir, const struct part_seal *named,
                       key_progress_cb go_on, void *arg, struct err_info *info)
{
    char name[PART_NAME_SIZE];
    struct check check = {.io = io, .name = name, .go_on = go_on, .arg = arg};
    struct part_seal seal;
    enum err err = part_open(io, dir, named, &check.fd, &seal, info);

    ASSERT(named->kind == PART_KEYS);
    if (err != ERR_OK) {
        return err;
    }
    part_name(name, named);
    err = check_body(&check, &seal, info);
    io_close(io, &check.fd);
    return err;
}

enum err key_run_verify(struct io *io, const char *dir, const struct part_seal *named,
                        key_progress_cb go_on, void *arg, struct key_stamp *ret_stamp,
                        struct err_info *info)
{
    struct key_stamp stamp;
    /* Before it is read: a change while it is read is one after. */
    enum err err = key_run_stamp(dir, named, &stamp, info);

    err = err != ERR_OK ? err : key_run_check(io, dir, named, go_on, arg, info);
    if (err == ERR_OK) {
        *ret_stamp = stamp;
    }
    return err;
}
