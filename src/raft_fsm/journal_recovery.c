#include "raft_fsm/journal_recovery.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"

enum { WINDOW_SIZE = 64 * 1024 };

/* A segment while it is read. */
struct reader {
    struct io *io;
    int fd;
    const char *dir; /* borrowed */
    char path[IO_PATH_SIZE];
    uint64_t segment;
    uint64_t size; /* of the file */
    bool last;     /* no newer segment */
    uint64_t salt; /* of the segment */
    uint64_t position;
    uint64_t last_position; /* of the batch before position */
    uint8_t *window; /* owned; holds [window_start, window_start + window_size) of the file */
    uint64_t window_start;
    size_t window_size;
};

/* Makes room for one more element of an array of ours. */
static enum err grow(void **array, size_t count, size_t *capacity, size_t element_size,
                     struct err_info *info)
{
    size_t wanted = *capacity == 0 ? 64 : *capacity * 2;
    void *grown;

    if (count < *capacity) {
        return ERR_OK;
    }
    grown = reallocarray(*array, wanted, element_size);
    if (grown == NULL) {
        return err_set(info, ERR_NOMEM, "no memory for what is in the journal");
    }
    *array = grown;
    *capacity = wanted;
    return ERR_OK;
}

/* ---- reading a segment ---- */

/* `size` bytes at position, size <= WINDOW_SIZE, valid until the next call; NULL and OK when the
 * file ends before. */
static enum err reader_get(struct reader *self, uint64_t position, size_t size,
                           const uint8_t **ret_bytes, struct err_info *info)
{
    enum err err;

    ASSERT(size <= WINDOW_SIZE);
    *ret_bytes = NULL;
    if (position > self->size || size > self->size - position) {
        return ERR_OK;
    }
    if (position < self->window_start || position + size > self->window_start + self->window_size) {
        self->window_start = position;
        self->window_size = 0;
        err = io_read(self->io, self->fd, self->path, self->window, WINDOW_SIZE, position,
                      &self->window_size, info);
        if (err != ERR_OK) {
            return err;
        }
    }
    if (self->window_size < size) {
        return err_set(info, ERR_IO, "read '%s': shorter than its size", self->path);
    }
    *ret_bytes = self->window + (position - self->window_start);
    return ERR_OK;
}

/* The frames of the batch at reader->position, in a block of their own. NULL and OK when they do
 * not match their checksum. */
static enum err reader_body(struct reader *self, const struct journal_batch *batch,
                            struct block **ret_block, struct err_info *info)
{
    uint64_t position = self->position + JOURNAL_BATCH_HEADER_SIZE;
    struct block *block = block_new(batch->size);
    const uint8_t *bytes;
    size_t size = batch->size;
    enum err err = ERR_OK;

    *ret_block = NULL;
    if (block == NULL) {
        return err_set(info, ERR_NOMEM, "no memory for a batch of %u bytes", batch->size);
    }
    if (size <= WINDOW_SIZE / 4) {
        err = reader_get(self, position, size, &bytes, info);
        if (err == ERR_OK) {
            ASSERT(bytes != NULL); /* The caller has checked the extent. */
            memcpy(block->data, bytes, size);
        }
    } else {
        err = io_read(self->io, self->fd, self->path, block->data, size, position, &size, info);
        if (err == ERR_OK && size < batch->size) {
            err = err_set(info, ERR_IO, "read '%s': shorter than its size", self->path);
        }
    }
    if (err == ERR_OK && crc32c(block->data, batch->size) == batch->body_crc) {
        *ret_block = block;
        return ERR_OK;
    }
    block_unref(block);
    return err;
}

static enum err corrupt_at(const struct reader *reader, struct err_info *info, const char *what)
{
    return err_set(info, ERR_CORRUPT, "'%s' at %" PRIu64 ": %s", reader->path, reader->position,
                   what);
}

/* ---- what batches say ---- */

static uint64_t last_index(const struct journal_recovery *self)
{
    return self->first_index + self->entry_count - 1;
}

/* Drops the entries at and above index. */
static void truncate_entries(struct journal_recovery *self, uint64_t index)
{
    size_t keep = index > self->first_index ? (size_t)(index - self->first_index) : 0;

    ASSERT(IMPLIES(self->entry_count > 0, self->entries != NULL));
    while (self->entry_count > keep) {
        entry_unref(&self->entries[--self->entry_count]);
    }
    if (index < self->first_index) {
        self->first_index = index; /* What was between is trimmed (J2). */
    }
}

static enum err apply_entry(struct journal_recovery *self, const struct entry *entry,
                            struct err_info *info)
{
    const struct entry *previous =
        self->entry_count > 0 ? &self->entries[self->entry_count - 1] : NULL;
    enum err err;

    if (entry->index != last_index(self) + 1 ||
        (previous != NULL && entry->term < previous->term)) {
        return err_set(info, ERR_CORRUPT, "entry %" PRIu64 " of term %" PRIu64 " does not follow",
                       entry->index, entry->term);
    }
    err = grow((void **)&self->entries, self->entry_count, &self->entry_capacity,
               sizeof self->entries[0], info);
    if (err != ERR_OK) {
        return err;
    }
    entry_ref(entry);
    self->entries[self->entry_count++] = *entry;
    return ERR_OK;
}

static enum err apply_entries(struct journal_recovery *self, const struct journal_batch *batch,
                              struct block *block, struct err_info *info)
{
    size_t position = 0;

    if (self->first_index == 0) {
        self->first_index = batch->first_index;
    }
    if (batch->count == 0 || batch->first_index > last_index(self) + 1) {
        return err_set(info, ERR_CORRUPT, "entries from %" PRIu64 " on follow %" PRIu64,
                       batch->first_index, last_index(self));
    }
    truncate_entries(self, batch->first_index);
    ASSERT(IMPLIES(self->entry_count > 0, self->entries != NULL));
    if (self->entry_count > 0 && batch->prev_term != 0 &&
        self->entries[self->entry_count - 1].term != batch->prev_term) {
        return err_set(info, ERR_CORRUPT,
                       "entries after one of term %" PRIu64 ", which has %" PRIu64,
                       batch->prev_term, self->entries[self->entry_count - 1].term);
    }
    for (uint32_t i = 0; i < batch->count; i++) {
        struct entry entry;
        enum err err;

        err = entry_parse(block, position, batch->size, ENTRY_PAYLOAD_SIZE_MAX, &entry, info);
        if (err != ERR_OK) {
            return err;
        }
        position += entry_frame_size(entry.size);
        err = apply_entry(self, &entry, info);
        entry_unref(&entry);
        if (err != ERR_OK) {
            return err;
        }
    }
    return position == batch->size ? ERR_OK
                                   : err_set(info, ERR_CORRUPT, "bytes behind the entries");
}

static enum err apply_batch(struct journal_recovery *self, const struct journal_batch *batch,
                            struct block *block, struct err_info *info)
{
    struct journal_segment *segment = &self->segments[self->segment_count - 1];
    enum err err = ERR_OK;

    if (batch->first_index == 0 || batch->first_index > UINT64_MAX - 1 - batch->count) {
        return err_set(info, ERR_CORRUPT, "a batch from index %" PRIu64 " on", batch->first_index);
    }
    switch (batch->type) {
    case JOURNAL_BATCH_ENTRIES:
        err = apply_entries(self, batch, block, info);
        if (err == ERR_OK && last_index(self) > segment->index_max) {
            segment->index_max = last_index(self);
        }
        break;
    case JOURNAL_BATCH_RESET:
        truncate_entries(self, 0);
        self->first_index = batch->first_index;
        for (size_t i = 0; i < self->segment_count; i++) {
            self->segments[i].index_max = 0;
        }
        break;
    case JOURNAL_BATCH_SEAL:
        if (self->first_index == 0) {
            self->first_index = batch->first_index;
        }
        if (batch->first_index != last_index(self) + 1) {
            err = err_set(info, ERR_CORRUPT, "a seal for %" PRIu64 " follows %" PRIu64,
                          batch->first_index, last_index(self));
        }
        break;
    default:
        err = err_set(info, ERR_CORRUPT, "a batch of unknown type %u", batch->type);
        break;
    }
    self->sealed = batch->type == JOURNAL_BATCH_SEAL;
    return err;
}

/* ---- segments ---- */

/* Reads the batch at reader->position and moves behind it. *ret_end: there is none that verifies;
 * *ret_skip: how far the one that does not reaches, when that is known. */
static enum err read_batch(struct journal_recovery *self, struct reader *reader, bool *ret_end,
                           uint64_t *ret_skip, struct err_info *info)
{
    struct journal_batch batch;
    struct block *block = NULL;
    const uint8_t *bytes;
    enum err err;

    *ret_end = true;
    *ret_skip = JOURNAL_SECTOR;
    err = reader_get(reader, reader->position, JOURNAL_BATCH_HEADER_SIZE, &bytes, info);
    if (err != ERR_OK || bytes == NULL ||
        !journal_batch_decode(bytes, reader->segment, reader->salt, &batch)) {
        return err;
    }
    if (self->batch_sequence != 0 && batch.sequence != self->batch_sequence) {
        if (reader->position == JOURNAL_HEADER_SIZE && self->end_position != 0) {
            return err_set(info, ERR_CORRUPT,
                           "'%s/%s' at %" PRIu64 ": batch %" PRIu64 " does not verify, but %" PRIu64
                           " stands in '%s'",
                           reader->dir, self->end_name, self->end_position, self->batch_sequence,
                           batch.sequence, reader->path);
        }
        return corrupt_at(reader, info, "a batch out of order");
    }
    if (journal_batch_extent(batch.size) > reader->size - reader->position) {
        return corrupt_at(reader, info, "the file is too short for its last batch");
    }
    err = reader_body(reader, &batch, &block, info);
    if (err != ERR_OK) {
        return err;
    }
    if (block == NULL) {
        *ret_skip = journal_batch_extent(batch.size);
        return reader->last ? ERR_OK
                            : corrupt_at(reader, info, "a batch does not match its checksum");
    }
    err = apply_batch(self, &batch, block, info);
    block_unref(block);
    if (err != ERR_OK) {
        return err_prefix(info, err, "'%s' at %" PRIu64, reader->path, reader->position);
    }
    self->batch_sequence = batch.sequence + 1;
    reader->last_position = reader->position;
    reader->position += journal_batch_extent(batch.size);
    *ret_end = false;
    return ERR_OK;
}

/* Nothing that verifies may stand behind the end. */
static enum err check_rest(struct reader *reader, uint64_t position, struct err_info *info)
{
    for (; position < reader->size; position += JOURNAL_SECTOR) {
        struct journal_batch batch;
        const uint8_t *bytes;
        enum err err;

        err = reader_get(reader, position, JOURNAL_BATCH_HEADER_SIZE, &bytes, info);
        if (err != ERR_OK) {
            return err;
        }
        if (bytes == NULL) {
            break;
        }
        if (journal_batch_decode(bytes, reader->segment, reader->salt, &batch)) {
            return err_set(info, ERR_CORRUPT,
                           "'%s' at %" PRIu64 ": no batch verifies here, but batch %" PRIu64
                           " follows at %" PRIu64,
                           reader->path, reader->position, batch.sequence, position);
        }
    }
    return ERR_OK;
}

static enum err read_batches(struct journal_recovery *self, struct reader *reader,
                             struct err_info *info)
{
    const uint8_t *bytes;
    uint64_t skip = 0;
    bool end = false;
    enum err err;

    while (!end) {
        err = read_batch(self, reader, &end, &skip, info);
        if (err != ERR_OK) {
            return err;
        }
    }
    err = check_rest(reader, reader->position + skip, info);
    if (err != ERR_OK) {
        return err;
    }
    /* R1; the very first batch of all may be torn. */
    if (reader->position == JOURNAL_HEADER_SIZE && (!reader->last || self->batch_sequence == 0)) {
        return corrupt_at(reader, info, "the first batch does not verify");
    }
    err = reader_get(reader, reader->position, JOURNAL_BATCH_HEADER_SIZE, &bytes, info);
    if (err != ERR_OK) {
        return err;
    }
    self->torn = bytes != NULL && reader->last && journal_batch_resembles(bytes, reader->segment);
    self->end_position = reader->position;
    journal_segment_name(self->end_name, reader->segment);
    return ERR_OK;
}

/*
 * R3. Where a file system has no O_DIRECT, the last write may have failed and yet be seen here: the
 * kernel takes what it could not write for written, and another sync would find nothing to do. The
 * same bytes in the same place can tear nothing.
 */
static enum err rewrite_last(struct reader *reader, struct err_info *info)
{
    uint64_t position = reader->last_position;

    while (position < reader->position) {
        uint64_t left = reader->position - position;
        struct iovec part = {.iov_len = left < WINDOW_SIZE ? left : WINDOW_SIZE};
        const uint8_t *bytes;
        enum err err;

        err = reader_get(reader, position, part.iov_len, &bytes, info);
        if (err != ERR_OK) {
            return err;
        }
        ASSERT(bytes != NULL); /* The batch was read before. */
        part.iov_base = (uint8_t *)bytes;
        err = io_write(reader->io, reader->fd, reader->path, &part, 1, position, 0, info);
        if (err != ERR_OK) {
            return err;
        }
        position += part.iov_len;
    }
    return ERR_OK;
}

/* R1, R2, R3: makes the end of the batches the end of the last segment. */
static enum err cut(struct journal_recovery *self, struct reader *reader, struct err_info *info)
{
    struct journal_segment *segment = &self->segments[self->segment_count - 1];
    enum err err;
    int rv;

    ASSERT(reader->last && reader->position % JOURNAL_SECTOR == 0);
    if (reader->position == JOURNAL_HEADER_SIZE) {
        rv = reader->io->unlink(reader->io, reader->path);
        self->segment_count--;
        return rv < 0 ? io_error(rv, "remove", reader->path, info)
                      : io_sync_dir(reader->io, reader->dir, info);
    }
    if (reader->size > reader->position) {
        rv = reader->io->truncate(reader->io, reader->fd, reader->position);
        if (rv < 0) {
            return io_error(rv, "truncate", reader->path, info);
        }
        segment->size = reader->position;
    }
    err = rewrite_last(reader, info);
    return err == ERR_OK ? io_sync(reader->io, reader->fd, reader->path, info) : err;
}

static enum err read_segment(struct journal_recovery *self, struct journal_files *files,
                             struct reader *reader, struct err_info *info)
{
    const uint8_t *header;
    enum err err;
    int rv;

    rv = reader->io->size(reader->io, reader->fd, &reader->size);
    if (rv < 0) {
        return io_error(rv, "stat", reader->path, info);
    }
    err = reader_get(reader, 0, JOURNAL_HEADER_SIZE, &header, info);
    if (err != ERR_OK) {
        return err;
    }
    if (header == NULL) {
        return corrupt_at(reader, info, "the header is cut off");
    }
    err = journal_header_check(
        header, reader->path,
        &(struct journal_header){.segment = reader->segment, .node_id = files->node_id},
        &reader->salt, info);
    if (err != ERR_OK) {
        return err;
    }
    if (reader->segment == 1) {
        self->batch_sequence = 1;
    }
    self->segments[self->segment_count - 1].size = reader->size;
    reader->position = JOURNAL_HEADER_SIZE;
    err = read_batches(self, reader, info);
    if (err != ERR_OK || !reader->last || self->looking) {
        return err;
    }
    return cut(self, reader, info);
}

static enum err recover_segment(struct journal_recovery *self, struct journal_files *files,
                                struct reader *reader, struct err_info *info)
{
    char name[JOURNAL_NAME_SIZE];
    enum err err;

    journal_segment_name(name, reader->segment);
    err = io_path(reader->path, files->dir, name, info);
    if (err == ERR_OK) {
        err =
            io_open(files->io, reader->path, self->looking ? O_RDONLY : O_RDWR, &reader->fd, info);
    }
    if (err != ERR_OK) {
        return err;
    }
    reader->window_start = 0;
    reader->window_size = 0;
    err = read_segment(self, files, reader, info);
    io_close(files->io, &reader->fd);
    return err;
}

/* ---- the directory ---- */

struct listing {
    struct journal_recovery *recovery;
    struct err_info *info;
    enum err err;
};

static int list_one(void *arg, const char *name)
{
    struct listing *listing = arg;
    struct journal_recovery *self = listing->recovery;
    uint64_t number;

    if (journal_segment_name_parse(name, &number)) {
        listing->err = grow((void **)&self->segments, self->segment_count, &self->segment_capacity,
                            sizeof self->segments[0], listing->info);
        if (listing->err == ERR_OK) {
            self->segments[self->segment_count++] = (struct journal_segment){.sequence = number};
        }
    } else if (journal_spare_name_parse(name, &number)) {
        listing->err = grow((void **)&self->spares, self->spare_count, &self->spare_capacity,
                            sizeof self->spares[0], listing->info);
        if (listing->err == ERR_OK) {
            self->spares[self->spare_count++] = number;
        }
    }
    return listing->err != ERR_OK ? 1 : 0;
}

static int compare_segments(const void *a, const void *b)
{
    uint64_t left = ((const struct journal_segment *)a)->sequence;
    uint64_t right = ((const struct journal_segment *)b)->sequence;

    return left < right ? -1 : left > right;
}

static enum err list_files(struct journal_recovery *self, struct journal_files *files,
                           struct err_info *info)
{
    struct listing listing = {.recovery = self, .info = info};
    int rv;

    rv = files->io->list(files->io, files->dir, list_one, &listing);
    if (listing.err != ERR_OK) {
        return listing.err;
    }
    if (rv < 0) {
        return io_error(rv, "list", files->dir, info);
    }
    if (self->segment_count > 0) {
        qsort(self->segments, self->segment_count, sizeof self->segments[0], compare_segments);
    }
    for (size_t i = 1; i < self->segment_count; i++) {
        if (self->segments[i].sequence != self->segments[i - 1].sequence + 1) {
            return err_set(
                info, ERR_CORRUPT, "'%s': segment %" PRIu64 " is missing, but %" PRIu64 " is there",
                files->dir, self->segments[i - 1].sequence + 1, self->segments[i].sequence);
        }
    }
    if (self->looking) {
        return ERR_OK;
    }
    /* What is seen may not be durable yet, and spares are going to be overwritten (F2). */
    return io_sync_dir(files->io, files->dir, info);
}

static enum err recover_segments(struct journal_recovery *self, struct journal_files *files,
                                 struct err_info *info)
{
    size_t count = self->segment_count;
    struct reader reader = {.io = files->io, .fd = -1, .dir = files->dir};
    enum err err = ERR_OK;

    reader.window = malloc(WINDOW_SIZE);
    if (reader.window == NULL) {
        return err_set(info, ERR_NOMEM, "no memory to read the journal");
    }
    /* segment_count grows along: a reset looks at the segments up to its own. */
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        self->segment_count = i + 1;
        reader.segment = self->segments[i].sequence;
        reader.last = i + 1 == count;
        err = recover_segment(self, files, &reader, info);
    }
    free(reader.window);
    return err;
}

enum err journal_recovery_run(struct journal_recovery *self, struct journal_files *files,
                              struct err_info *info)
{
    enum err err;

    *self = (struct journal_recovery){.sealed = true};
    err = list_files(self, files, info);
    if (err == ERR_OK) {
        err = recover_segments(self, files, info);
    }
    for (size_t i = 0; i < self->spare_count && err == ERR_OK; i++) {
        err = journal_files_add_spare(files, self->spares[i], info);
    }
    if (err == ERR_OK && self->batch_sequence == 0) {
        ASSERT(self->segment_count == 0);
        self->batch_sequence = 1;
    }
    return err;
}

enum err journal_recovery_look(struct journal_recovery *self, struct io *io, const char *dir,
                               uint64_t node_id, struct err_info *info)
{
    struct journal_files files = {.io = io, .node_id = node_id};
    enum err err;

    *self = (struct journal_recovery){.sealed = true, .looking = true};
    if (strlen(dir) >= sizeof files.dir) {
        return err_set(info, ERR_TOO_LARGE, "the path of the journal is too long");
    }
    memcpy(files.dir, dir, strlen(dir) + 1);
    err = list_files(self, &files, info);
    return err == ERR_OK ? recover_segments(self, &files, info) : err;
}

void journal_recovery_fini(struct journal_recovery *self)
{
    truncate_entries(self, 0);
    free(self->entries);
    free(self->segments);
    free(self->spares);
    *self = (struct journal_recovery){.sealed = true};
}
