#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "lookup/key_block.h"
#include "lookup/key_file.h"

enum {
    BLOCKS_A_COMMIT = 1024, /* bounds what LMDB keeps in memory */
    MAP_SLACK = 8 * 1024 * 1024,
    BLOCK_ROOM = 2 * 4096, /* a page, and its share of the tree and of what commits left free */
};

struct key_writer {
    struct io *io;
    char *dir;  /* owned */
    char *path; /* owned: of the temporary file */
    struct part_seal seal;
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    unsigned in_txn; /* blocks */
    uint64_t count;
    uint64_t count_max;
    struct key_block block;
};

enum err key_file_error(int code, const char *verb, const char *path, struct err_info *info)
{
    ASSERT(code != MDB_SUCCESS);
    return err_set(info, code > 0 ? err_from_errno(code) : ERR_CORRUPT, "%s '%s': %s", verb, path,
                   mdb_strerror(code));
}

static enum err begin(struct key_writer *self, struct err_info *info)
{
    int rv = mdb_txn_begin(self->env, NULL, 0, &self->txn);

    if (rv == 0) {
        rv = mdb_dbi_open(self->txn, NULL, 0, &self->dbi);
    }
    return rv == 0 ? ERR_OK : key_file_error(rv, "begin", self->path, info);
}

static enum err commit(struct key_writer *self, struct err_info *info)
{
    int rv = mdb_txn_commit(self->txn);

    self->txn = NULL; /* Gone, whatever was returned. */
    self->in_txn = 0;
    return rv == 0 ? ERR_OK : key_file_error(rv, "write", self->path, info);
}

static void free_writer(struct key_writer *self)
{
    if (self->txn != NULL) {
        mdb_txn_abort(self->txn);
    }
    if (self->env != NULL) {
        mdb_env_close(self->env);
    }
    free(self->dir);
    free(self->path);
    free(self);
}

static enum err open_env(struct key_writer *self, uint64_t count_max, struct err_info *info)
{
    uint64_t size = (count_max / KEY_BLOCK_ENTRIES + 2) * BLOCK_ROOM + MAP_SLACK;
    int rv = mdb_env_create(&self->env);

    if (rv == 0) {
        rv = mdb_env_set_mapsize(self->env, size);
    }
    if (rv == 0) {
        /* Nobody else sees the file, and it is synced as a whole in the end. */
        rv = mdb_env_open(self->env, self->path, MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOSYNC, 0640);
    }
    return rv == 0 ? begin(self, info) : key_file_error(rv, "create", self->path, info);
}

/* What an earlier try left would be taken for an environment. */
static enum err remove_temporary(struct key_writer *self, struct err_info *info)
{
    int rv = self->io->unlink(self->io, self->path);

    return rv == 0 || rv == -ENOENT ? ERR_OK : io_error(rv, "remove", self->path, info);
}

enum err key_writer_open(struct io *io, const char *dir, const struct part_seal *seal,
                         uint64_t count_max, struct key_writer **ret_writer, struct err_info *info)
{
    struct key_writer *self = calloc(1, sizeof *self);
    char path[IO_PATH_SIZE];
    char name[PART_NAME_SIZE + 8];
    enum err err;

    ASSERT(seal->kind == PART_KEYS);
    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "no memory for a key index");
    }
    part_name(name, seal);
    (void)strcat(name, ".tmp"); /* fits */
    err = io_path(path, dir, name, info);
    self->io = io;
    self->seal = *seal;
    self->count_max = count_max;
    self->block.before = KEY_LOWEST;
    self->dir = strdup(dir);
    self->path = strdup(err == ERR_OK ? path : "");
    if (err == ERR_OK && (self->dir == NULL || self->path == NULL)) {
        err = err_set(info, ERR_NOMEM, "no memory for a key index");
    }
    err = err != ERR_OK ? err : remove_temporary(self, info);
    err = err != ERR_OK ? err : open_env(self, count_max, info);
    if (err != ERR_OK) {
        free_writer(self);
        return err;
    }
    *ret_writer = self;
    return ERR_OK;
}

static enum err put_block(struct key_writer *self, const struct key_entry *last,
                          struct err_info *info)
{
    uint8_t key_bytes[KEY_BLOCK_KEY_SIZE];
    uint8_t value_bytes[KEY_BLOCK_SIZE_MAX];
    MDB_val key = {.mv_size = sizeof key_bytes, .mv_data = key_bytes};
    MDB_val value = {.mv_data = value_bytes};
    enum err err = ERR_OK;
    int rv;

    self->block.last = *last;
    key_block_key_encode(last, key_bytes);
    value.mv_size = key_block_encode(&self->block, &self->seal, value_bytes);
    if (self->in_txn == BLOCKS_A_COMMIT) {
        err = commit(self, info);
        err = err != ERR_OK ? err : begin(self, info);
    }
    if (err != ERR_OK) {
        return err;
    }
    rv = mdb_put(self->txn, self->dbi, &key, &value, MDB_APPEND);
    if (rv != 0) {
        return key_file_error(rv, "write", self->path, info);
    }
    self->in_txn += 1;
    self->block.before = *last;
    self->block.count = 0;
    return ERR_OK;
}

enum err key_writer_add(struct key_writer *self, const struct key_entry *entry,
                        struct err_info *info)
{
    enum err err = ERR_OK;

    ASSERT(self->count < self->count_max);
    if (self->block.count == KEY_BLOCK_ENTRIES) {
        err = put_block(self, &self->block.entries[KEY_BLOCK_ENTRIES - 1], info);
    }
    if (err == ERR_OK) {
        ASSERT(key_entry_compare(self->block.count > 0 ? &self->block.entries[self->block.count - 1]
                                                       : &self->block.before,
                                 entry) < 0);
        self->block.entries[self->block.count] = *entry;
        self->block.count += 1;
        self->count += 1;
    }
    return err;
}

/* The checksums of the tree, behind it, and the seal behind them. */
static enum err append_seal(struct key_writer *self, int fd, struct part_seal *seal,
                            struct err_info *info)
{
    uint8_t bytes[PART_SEAL_SIZE];
    struct key_checksums sums = {0};
    struct iovec parts[2];
    uint64_t size;
    int rv = self->io->size(self->io, fd, &size);
    enum err err;

    if (rv < 0) {
        return io_error(rv, "size", self->path, info);
    }
    err = key_checksums_make(self->io, fd, self->path, size, &sums, info);
    if (err != ERR_OK) {
        return err;
    }
    seal->count = self->count;
    seal->body_size = size + sums.size;
    seal->body_crc32c = crc32c(sums.data, sums.size);
    part_seal_encode(seal, bytes);
    parts[0] = (struct iovec){.iov_base = sums.data, .iov_len = sums.size};
    parts[1] = (struct iovec){.iov_base = bytes, .iov_len = sizeof bytes};
    err = io_write(self->io, fd, self->path, parts, 2, size, 0, info);
    free(sums.data);
    return err != ERR_OK ? err : io_sync(self->io, fd, self->path, info);
}

static enum err publish(struct key_writer *self, struct part_seal *seal, struct err_info *info)
{
    char name[PART_NAME_SIZE];
    char path[IO_PATH_SIZE];
    int fd = -1;
    int rv;
    enum err err = io_open(self->io, self->path, O_RDWR, &fd, info);

    err = err != ERR_OK ? err : append_seal(self, fd, seal, info);
    io_close(self->io, &fd);
    part_name(name, seal);
    err = err != ERR_OK ? err : io_path(path, self->dir, name, info);
    if (err != ERR_OK) {
        return err;
    }
    rv = self->io->rename(self->io, self->path, path);
    return rv < 0 ? io_error(rv, "rename to", path, info) : io_sync_dir(self->io, self->dir, info);
}

enum err key_writer_finish(struct key_writer *self, struct part_seal *seal, struct err_info *info)
{
    enum err err = put_block(self, &KEY_HIGHEST, info);

    ASSERT(seal->kind == PART_KEYS && seal->base_offset == self->seal.base_offset &&
           seal->end_offset == self->seal.end_offset);
    err = err != ERR_OK ? err : commit(self, info);
    if (err != ERR_OK) {
        key_writer_abort(self);
        return err;
    }
    mdb_env_close(self->env);
    self->env = NULL;
    err = publish(self, seal, info);
    if (err != ERR_OK) {
        key_writer_abort(self);
        return err;
    }
    free_writer(self);
    return ERR_OK;
}

void key_writer_abort(struct key_writer *self)
{
    if (self == NULL) {
        return;
    }
    /* What cannot be removed is removed at the next start. */
    (void)remove_temporary(self, NULL);
    free_writer(self);
}
