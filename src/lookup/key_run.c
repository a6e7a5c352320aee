#include "lookup/key_run.h"

#include <lmdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "lookup/key_block.h"
#include "lookup/key_file.h"

struct key_run {
    MDB_env *env;
    MDB_dbi dbi;
    unsigned depth; /* pages from the tree's root to a block, and the block's */
    struct key_stamp stamp;
    struct part_seal seal;
    char name[PART_NAME_SIZE];
};

/* A place in the order of blocks. */
struct place {
    struct key_run *run;
    MDB_txn *txn;
    MDB_cursor *cursor;
    struct key_block block;
    uint64_t pages;
};

struct key_walk {
    struct place place;
    size_t next;
};

/* I1 */
static enum err check_stamp(const struct key_run *self, struct err_info *info)
{
    struct stat status;
    mdb_filehandle_t fd;
    int rv = mdb_env_get_fd(self->env, &fd);

    ASSERT(rv == 0);
    if (fstat(fd, &status) != 0 || status.st_ino != self->stamp.inode ||
        (uint64_t)status.st_size != self->stamp.size ||
        status.st_mtim.tv_sec != self->stamp.changed.tv_sec ||
        status.st_mtim.tv_nsec != self->stamp.changed.tv_nsec) {
        return err_set(info, ERR_CORRUPT, "'%s' was changed since it was verified", self->name);
    }
    return ERR_OK;
}

static enum err read_tree(struct key_run *self, struct err_info *info)
{
    MDB_txn *txn = NULL;
    MDB_stat status;
    int rv = mdb_txn_begin(self->env, NULL, MDB_RDONLY, &txn);

    if (rv != 0) {
        return key_file_error(rv, "open", self->name, info);
    }
    rv = mdb_dbi_open(txn, NULL, 0, &self->dbi);
    rv = rv != 0 ? rv : mdb_stat(txn, self->dbi, &status);
    if (rv != 0) {
        mdb_txn_abort(txn);
        return key_file_error(rv, "open", self->name, info);
    }
    rv = mdb_txn_commit(txn); /* Else the database would be closed again. */
    if (rv != 0) {
        return key_file_error(rv, "open", self->name, info);
    }
    self->depth = status.ms_depth + 1;
    return ERR_OK;
}

enum err key_run_open(const char *dir, const struct part_seal *seal, const struct key_stamp *stamp,
                      struct key_run **ret_run, struct err_info *info)
{
    struct key_run *self = calloc(1, sizeof *self);
    char path[IO_PATH_SIZE];
    enum err err;
    int rv = 0;

    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "no memory for a key index");
    }
    self->stamp = *stamp;
    self->seal = *seal;
    part_name(self->name, seal);
    err = io_path(path, dir, self->name, info);
    if (err == ERR_OK) {
        rv = mdb_env_create(&self->env);
        if (rv == 0) {
            rv = mdb_env_open(self->env, path, MDB_NOSUBDIR | MDB_NOLOCK | MDB_RDONLY | MDB_NOTLS,
                              0640);
        }
        err = rv == 0 ? check_stamp(self, info) : key_file_error(rv, "open", path, info);
    }
    err = err != ERR_OK ? err : read_tree(self, info);
    if (err != ERR_OK) {
        key_run_close(self);
        return err;
    }
    *ret_run = self;
    return ERR_OK;
}

void key_run_close(struct key_run *self)
{
    if (self == NULL) {
        return;
    }
    if (self->env != NULL) {
        mdb_env_close(self->env);
    }
    free(self);
}

/* ---- places ---- */

static enum err place_init(struct place *self, struct key_run *run, struct err_info *info)
{
    int rv;
    enum err err = check_stamp(run, info);

    *self = (struct place){.run = run};
    if (err != ERR_OK) {
        return err;
    }
    rv = mdb_txn_begin(run->env, NULL, MDB_RDONLY, &self->txn);
    if (rv == 0) {
        rv = mdb_cursor_open(self->txn, run->dbi, &self->cursor);
    }
    return rv == 0 ? ERR_OK : key_file_error(rv, "read", run->name, info);
}

static void place_fini(struct place *self)
{
    if (self->cursor != NULL) {
        mdb_cursor_close(self->cursor);
    }
    if (self->txn != NULL) {
        mdb_txn_abort(self->txn);
    }
}

static enum err fetch(struct place *self, MDB_cursor_op op, MDB_val *key,
                      struct key_block *ret_block, struct err_info *info)
{
    MDB_val value;
    int rv = mdb_cursor_get(self->cursor, key, &value, op);
    enum err err;

    self->pages += op == MDB_SET_RANGE ? self->run->depth : 1;
    if (rv != 0) {
        /* A block is missing: the last one's key is above all (I2). */
        return key_file_error(rv, "read", self->run->name, info);
    }
    err = key_block_decode(key->mv_data, key->mv_size, value.mv_data, value.mv_size,
                           &self->run->seal, ret_block, info);
    return err == ERR_OK ? ERR_OK : err_prefix(info, err, "'%s'", self->run->name);
}

/* The block that has the entry, or would have it. */
static enum err seek(struct place *self, const struct key_entry *entry, struct err_info *info)
{
    uint8_t bytes[KEY_BLOCK_KEY_SIZE];
    MDB_val key = {.mv_size = sizeof bytes, .mv_data = bytes};
    enum err err;

    key_block_key_encode(entry, bytes);
    err = fetch(self, MDB_SET_RANGE, &key, &self->block, info);
    if (err == ERR_OK && (key_entry_compare(&self->block.before, entry) >= 0 ||
                          key_entry_compare(&self->block.last, entry) < 0)) { /* I2 */
        return err_set(info, ERR_CORRUPT, "'%s' gave the wrong block", self->run->name);
    }
    return err;
}

static bool entries_equal(const struct key_entry *a, const struct key_entry *b)
{
    return key_entry_compare(a, b) == 0;
}

/* The block behind, or before; it has to be the neighbour (I2). */
static enum err step(struct place *self, bool forward, struct err_info *info)
{
    struct key_entry before = self->block.before;
    struct key_entry last = self->block.last;
    MDB_val key;
    enum err err = fetch(self, forward ? MDB_NEXT : MDB_PREV, &key, &self->block, info);

    if (err == ERR_OK && !(forward ? entries_equal(&self->block.before, &last)
                                   : entries_equal(&self->block.last, &before))) {
        return err_set(info, ERR_CORRUPT, "'%s' lacks a block", self->run->name);
    }
    return err;
}

/* The first entry at or behind `entry`; count when there is none in the block. */
static size_t place_of(const struct key_block *block, const struct key_entry *entry)
{
    size_t low = 0;
    size_t high = block->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (key_entry_compare(&block->entries[middle], entry) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* ---- finding ---- */

/* Takes an entry; false when there is no more to look for. */
static bool take(struct key_find *find, const struct key_entry *entry)
{
    if (entry->hash != find->hash ||
        (find->newest_first ? entry->offset < find->from : entry->offset >= find->to)) {
        return false;
    }
    if (find->count == find->count_max) {
        find->more = true;
        return false;
    }
    find->offsets[find->count] = entry->offset;
    find->count += 1;
    return true;
}

static enum err find_down(struct place *place, struct key_find *find, struct err_info *info)
{
    struct key_entry first = {.hash = find->hash, .offset = find->to - 1};
    enum err err = seek(place, &first, info);
    size_t at = err == ERR_OK ? place_of(&place->block, &first) : 0;

    for (; err == ERR_OK; at = 0) {
        for (; at < place->block.count; at++) {
            if (!take(find, &place->block.entries[at])) {
                return ERR_OK;
            }
        }
        if (entries_equal(&place->block.last, &KEY_HIGHEST) ||
            place->block.last.hash != find->hash) {
            return ERR_OK;
        }
        err = step(place, true, info);
    }
    return err;
}

/* Backward in the order of entries, which is from old to new. */
static enum err find_up(struct place *place, struct key_find *find, struct err_info *info)
{
    struct key_entry oldest = {.hash = find->hash, .offset = find->from};
    enum err err = seek(place, &oldest, info);
    size_t at;

    if (err != ERR_OK) {
        return err;
    }
    at = place_of(&place->block, &oldest);
    at += at < place->block.count && entries_equal(&place->block.entries[at], &oldest) ? 1 : 0;
    while (err == ERR_OK) {
        for (; at > 0; at--) {
            if (!take(find, &place->block.entries[at - 1])) {
                return ERR_OK;
            }
        }
        if (entries_equal(&place->block.before, &KEY_LOWEST) ||
            place->block.before.hash != find->hash) {
            return ERR_OK;
        }
        err = step(place, false, info);
        at = place->block.count;
    }
    return err;
}

enum err key_run_find(struct key_run *self, struct key_find *find, uint64_t *pages,
                      struct err_info *info)
{
    struct place place;
    enum err err = place_init(&place, self, info);

    ASSERT(find->from < find->to && find->to > 0);
    ASSERT(find->count <= find->count_max);
    if (err == ERR_OK) {
        err = find->newest_first ? find_down(&place, find, info) : find_up(&place, find, info);
    }
    *pages += place.pages;
    place_fini(&place);
    return err;
}

/* ---- walking ---- */

enum err key_walk_new(struct key_run *run, struct key_walk **ret_walk, struct err_info *info)
{
    struct key_walk *self = calloc(1, sizeof *self);
    struct key_entry first = {.hash = 0, .offset = UINT64_MAX - 1};
    enum err err;

    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "no memory for a walk over a key index");
    }
    err = place_init(&self->place, run, info);
    err = err != ERR_OK ? err : seek(&self->place, &first, info);
    if (err == ERR_OK && !entries_equal(&self->place.block.before, &KEY_LOWEST)) {
        err = err_set(info, ERR_CORRUPT, "'%s' lacks a block", run->name);
    }
    if (err != ERR_OK) {
        key_walk_free(self);
        return err;
    }
    *ret_walk = self;
    return ERR_OK;
}

void key_walk_free(struct key_walk *self)
{
    if (self != NULL) {
        place_fini(&self->place);
        free(self);
    }
}

enum err key_walk_next(struct key_walk *self, struct key_entry *ret_entry, struct err_info *info)
{
    while (self->next == self->place.block.count) {
        enum err err;

        if (entries_equal(&self->place.block.last, &KEY_HIGHEST)) {
            return ERR_AGAIN;
        }
        err = step(&self->place, true, info);
        if (err != ERR_OK) {
            return err;
        }
        self->next = 0;
    }
    *ret_entry = self->place.block.entries[self->next];
    self->next += 1;
    return ERR_OK;
}
