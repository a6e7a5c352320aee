#include "log/index.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "log/batch.h"
#include "log/store.h"

#define INDEX_SEAL_MAGIC UINT32_C(0x53584c51) /* "QLXS" */

enum {
    INDEX_VERSION = 1,
    INDEX_FLAGS_KNOWN = 0,

    AT_MAGIC = 0,
    AT_CRC = 4,
    AT_VERSION = 8,
    AT_FLAGS = 12,
    AT_BASE_OFFSET = 16,
    AT_GENERATION = 24,

    ENTRY_AT_OFFSET = 0,
    ENTRY_AT_POSITION = 8,

    SEAL_AT_MAGIC = 0,
    SEAL_AT_CRC = 4,
    SEAL_AT_STORE_SIZE = 8,
    SEAL_AT_END_OFFSET = 16,
    SEAL_AT_LAST_POSITION = 24,
    SEAL_AT_LAST_RAFT_INDEX = 32,
    SEAL_AT_LAST_APPEND_TIME = 40,
    SEAL_AT_LAST_HEADER_CRC = 48,
    SEAL_AT_COUNT = 52,

    /* No batch is smaller, so closer entries cannot be. */
    INTERVAL_MIN = BATCH_HEADER_SIZE + 1,
};

_Static_assert(AT_GENERATION + 8 == INDEX_HEADER_SIZE, "the generation ends the header");
_Static_assert(SEAL_AT_COUNT + 4 == INDEX_SEAL_SIZE, "the count ends the seal");
_Static_assert(ENTRY_AT_POSITION + 8 == INDEX_ENTRY_SIZE, "the position ends the entry");

struct index *index_new(struct io *io, uint64_t store_size_max, uint32_t interval)
{
    struct index *self = calloc(1, sizeof *self);

    ASSERT(interval > 0);
    if (self == NULL) {
        return NULL;
    }
    self->io = io;
    self->fd = -1;
    self->interval = interval < INTERVAL_MIN ? INTERVAL_MIN : interval;
    self->capacity = (size_t)(store_size_max / self->interval) + 2;
    self->pieces[0] = malloc((size_t)INDEX_PIECE_MIN * INDEX_ENTRY_SIZE); /* I1 needs the first. */
    if (self->pieces[0] == NULL) {
        free(self);
        return NULL;
    }
    return self;
}

/* Where entry i stands: in which piece, and at which place of it. The pieces before piece p > 0
 * have INDEX_PIECE_MIN << (p - 1) entries in all, as many as it has itself. */
static size_t piece_of(size_t i, size_t *ret_at)
{
    size_t piece = 0;
    size_t first = 0;

    if (i >= INDEX_PIECE_MIN) {
        piece = (size_t)(64 - __builtin_clzll(i / INDEX_PIECE_MIN));
        first = (size_t)INDEX_PIECE_MIN << (piece - 1);
    }
    ASSERT(piece < INDEX_PIECES_MAX && i >= first);
    *ret_at = i - first;
    return piece;
}

static size_t piece_size(size_t piece)
{
    return (size_t)INDEX_PIECE_MIN << (piece == 0 ? 0 : piece - 1);
}

struct index *index_copy(const struct index *from, uint64_t position, uint64_t store_size_max,
                         uint32_t interval)
{
    size_t count = index_count(from);
    struct index *self = index_new(from->io, store_size_max, interval);

    if (self == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        struct index_entry entry = index_get(from, i);

        if (entry.position >= position) {
            break;
        }
        index_add(self, entry.offset, entry.position);
    }
    ASSERT(index_count(self) <= count);
    return self;
}

void index_free(struct index *self)
{
    if (self == NULL) {
        return;
    }
    if (self->map != NULL) {
        (void)self->io->unmap(self->io, self->map, self->map_size); /* Nothing to lose in it. */
    }
    for (size_t i = 0; i < INDEX_PIECES_MAX; i++) {
        free(self->pieces[i]);
    }
    io_close(self->io, &self->fd);
    free(self);
}

struct index_entry index_entry_decode(const uint8_t from[INDEX_ENTRY_SIZE])
{
    return (struct index_entry){
        .offset = bytes_get_u64(from + ENTRY_AT_OFFSET),
        .position = bytes_get_u64(from + ENTRY_AT_POSITION),
    };
}

struct index_entry index_get(const struct index *self, size_t i)
{
    const uint8_t *at = self->entries;
    size_t place = i;

    ASSERT(i < self->capacity);
    if (at == NULL) {
        at = self->pieces[piece_of(i, &place)];
    }
    return index_entry_decode(at + place * INDEX_ENTRY_SIZE);
}

void index_add(struct index *self, uint64_t offset, uint64_t position)
{
    size_t count = index_count(self);
    size_t piece;
    size_t place;
    uint8_t *at;

    ASSERT(self->map == NULL);
    ASSERT(position >= STORE_HEADER_SIZE);
    if (count > 0) {
        struct index_entry last = index_get(self, count - 1);

        ASSERT(offset > last.offset && position > last.position); /* I1 */
        if (position - last.position < self->interval) {
            return;
        }
    }
    if (count == self->capacity) {
        return; /* Larger than was expected: sparser at its end, no less right. */
    }
    piece = piece_of(count, &place);
    if (self->pieces[piece] == NULL) {
        self->pieces[piece] = malloc(piece_size(piece) * INDEX_ENTRY_SIZE);
    }
    if (self->pieces[piece] == NULL) {
        return; /* The same. */
    }
    at = self->pieces[piece] + place * INDEX_ENTRY_SIZE;
    bytes_put_u64(at + ENTRY_AT_OFFSET, offset);
    bytes_put_u64(at + ENTRY_AT_POSITION, position);
    atomic_store_explicit(&self->count, count + 1, memory_order_release); /* I2 */
}

bool index_find(const struct index *self, uint64_t offset, struct index_entry *ret_entry)
{
    size_t low = 0;
    size_t high = index_count(self);

    ASSERT(high <= self->capacity);
    /* The answer is below `high`; everything below `low` is at or below offset. */
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (index_get(self, middle).offset <= offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == 0) {
        return false;
    }
    *ret_entry = index_get(self, low - 1);
    return true;
}

bool index_find_from(const struct index *self, uint64_t offset, struct index_entry *ret_entry)
{
    size_t low = 0;
    size_t high = index_count(self);
    size_t count = high;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (index_get(self, middle).offset < offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == count) {
        return false;
    }
    *ret_entry = index_get(self, low);
    return true;
}

/* ---- the file ---- */

static void put_header(uint8_t *to, uint64_t base_offset, uint64_t generation)
{
    bytes_put_u32(to + AT_MAGIC, INDEX_MAGIC);
    bytes_put_u32(to + AT_VERSION, INDEX_VERSION);
    bytes_put_u32(to + AT_FLAGS, 0);
    bytes_put_u64(to + AT_BASE_OFFSET, base_offset);
    bytes_put_u64(to + AT_GENERATION, generation);
    bytes_put_u32(to + AT_CRC, crc32c(to + AT_VERSION, INDEX_HEADER_SIZE - AT_VERSION));
}

/* Over the entries, whose checksum this is, and what follows it in the seal. */
static uint32_t seal_crc(uint32_t entries_crc, const uint8_t *seal)
{
    return crc32c_extend(entries_crc, seal + SEAL_AT_STORE_SIZE,
                         INDEX_SEAL_SIZE - SEAL_AT_STORE_SIZE);
}

static void put_seal(uint8_t *to, const struct index_seal *seal, uint32_t crc, size_t count)
{
    ASSERT(count <= UINT32_MAX);
    bytes_put_u32(to + SEAL_AT_MAGIC, INDEX_SEAL_MAGIC);
    bytes_put_u64(to + SEAL_AT_STORE_SIZE, seal->store_size);
    bytes_put_u64(to + SEAL_AT_END_OFFSET, seal->end_offset);
    bytes_put_u64(to + SEAL_AT_LAST_POSITION, seal->last_position);
    bytes_put_u64(to + SEAL_AT_LAST_RAFT_INDEX, seal->last_raft_index);
    bytes_put_u64(to + SEAL_AT_LAST_APPEND_TIME, (uint64_t)seal->last_append_time_us);
    bytes_put_u32(to + SEAL_AT_LAST_HEADER_CRC, seal->last_header_crc);
    bytes_put_u32(to + SEAL_AT_COUNT, (uint32_t)count);
    bytes_put_u32(to + SEAL_AT_CRC, seal_crc(crc, to));
}

enum err index_header_decode(const uint8_t from[INDEX_HEADER_SIZE], struct index_header *ret_header,
                             struct err_info *info)
{
    if (bytes_get_u32(from + AT_MAGIC) != INDEX_MAGIC ||
        bytes_get_u32(from + AT_CRC) != crc32c(from + AT_VERSION, INDEX_HEADER_SIZE - AT_VERSION)) {
        return err_set(info, ERR_CORRUPT, "the header does not verify");
    }
    if (bytes_get_u32(from + AT_VERSION) != INDEX_VERSION ||
        (bytes_get_u32(from + AT_FLAGS) & ~(uint32_t)INDEX_FLAGS_KNOWN) != 0) {
        return err_set(info, ERR_VERSION, "format version %" PRIu32 ", flags 0x%" PRIx32,
                       bytes_get_u32(from + AT_VERSION), bytes_get_u32(from + AT_FLAGS));
    }
    *ret_header = (struct index_header){
        .base_offset = bytes_get_u64(from + AT_BASE_OFFSET),
        .generation = bytes_get_u64(from + AT_GENERATION),
    };
    return ERR_OK;
}

static void get_seal(const uint8_t *from, struct index_seal *ret_seal)
{
    *ret_seal = (struct index_seal){
        .store_size = bytes_get_u64(from + SEAL_AT_STORE_SIZE),
        .end_offset = bytes_get_u64(from + SEAL_AT_END_OFFSET),
        .last_position = bytes_get_u64(from + SEAL_AT_LAST_POSITION),
        .last_raft_index = bytes_get_u64(from + SEAL_AT_LAST_RAFT_INDEX),
        .last_append_time_us = (int64_t)bytes_get_u64(from + SEAL_AT_LAST_APPEND_TIME),
        .last_header_crc = bytes_get_u32(from + SEAL_AT_LAST_HEADER_CRC),
    };
}

enum err index_seal_decode(const uint8_t from[INDEX_SEAL_SIZE], size_t count, uint32_t entries_crc,
                           struct index_seal *ret_seal, struct err_info *info)
{
    if (bytes_get_u32(from + SEAL_AT_MAGIC) != INDEX_SEAL_MAGIC ||
        bytes_get_u32(from + SEAL_AT_COUNT) != count ||
        bytes_get_u32(from + SEAL_AT_CRC) != seal_crc(entries_crc, from)) {
        return err_set(info, ERR_CORRUPT, "the seal does not verify");
    }
    get_seal(from, ret_seal);
    return ERR_OK;
}

/* The header is one of the index that is expected. */
static enum err check_header(const uint8_t *from, const struct index_header *expected,
                             struct err_info *info)
{
    struct index_header header = {0};
    enum err err = index_header_decode(from, &header, info);

    if (err == ERR_OK && (header.base_offset != expected->base_offset ||
                          header.generation != expected->generation)) {
        err = err_set(info, ERR_CORRUPT, "made for another store");
    }
    return err;
}

/* The seal belongs to a file of `size` bytes; its checksum is not looked at. */
static enum err check_seal(const uint8_t *seal, uint64_t size, struct err_info *info)
{
    uint64_t count = bytes_get_u32(seal + SEAL_AT_COUNT);

    ASSERT(size >= INDEX_HEADER_SIZE + INDEX_SEAL_SIZE);
    if (INDEX_HEADER_SIZE + count * INDEX_ENTRY_SIZE + INDEX_SEAL_SIZE != size ||
        bytes_get_u32(seal + SEAL_AT_MAGIC) != INDEX_SEAL_MAGIC) {
        return err_set(info, ERR_CORRUPT, "the seal does not verify");
    }
    return ERR_OK;
}

static enum err check_file(const uint8_t *data, size_t size, const struct index_header *expected,
                           struct index_seal *ret_seal, struct err_info *info)
{
    size_t count = (size - INDEX_HEADER_SIZE - INDEX_SEAL_SIZE) / INDEX_ENTRY_SIZE;
    const uint8_t *entries = data + INDEX_HEADER_SIZE;
    const uint8_t *seal = data + size - INDEX_SEAL_SIZE;
    enum err err = check_header(data, expected, info);

    if (err == ERR_OK) {
        err = check_seal(seal, size, info);
    }
    return err == ERR_OK ? index_seal_decode(seal, count, crc32c(entries, count * INDEX_ENTRY_SIZE),
                                             ret_seal, info)
                         : err;
}

/* Maps the file behind fd; the caller keeps fd. */
static enum err map_file(struct io *io, int fd, const char *path, size_t size,
                         struct index **ret_index, struct err_info *info)
{
    struct index *self = calloc(1, sizeof *self);
    int rv;

    ASSERT(size >= INDEX_HEADER_SIZE + INDEX_SEAL_SIZE);
    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "map '%s': out of memory", path);
    }
    rv = io->map(io, fd, size, false, &self->map);
    if (rv < 0) {
        free(self);
        return io_error(rv, "map", path, info);
    }
    self->io = io;
    self->fd = -1;
    self->map_size = size;
    self->entries = (const uint8_t *)self->map + INDEX_HEADER_SIZE;
    self->capacity = (size - INDEX_HEADER_SIZE - INDEX_SEAL_SIZE) / INDEX_ENTRY_SIZE;
    atomic_init(&self->count, self->capacity);
    *ret_index = self;
    return ERR_OK;
}

enum err index_seal(const struct index *self, const char *path, uint64_t base_offset,
                    uint64_t generation, const struct index_seal *seal, struct index **ret_sealed,
                    struct err_info *info)
{
    size_t count = index_count(self);
    uint8_t header[INDEX_HEADER_SIZE];
    uint8_t footer[INDEX_SEAL_SIZE];
    struct iovec parts[INDEX_PIECES_MAX + 2] = {
        {.iov_base = header, .iov_len = sizeof header},
    };
    struct index *sealed = NULL;
    uint32_t crc = 0;
    int used = 1;
    enum err err;
    int fd = -1;

    ASSERT(self->map == NULL);
    for (size_t done = 0; done < count; used++) {
        size_t piece = (size_t)(used - 1);
        size_t size = count - done < piece_size(piece) ? count - done : piece_size(piece);

        parts[used].iov_base = self->pieces[piece];
        parts[used].iov_len = size * INDEX_ENTRY_SIZE;
        crc = crc32c_extend(crc, self->pieces[piece], parts[used].iov_len);
        done += size;
    }
    put_header(header, base_offset, generation);
    put_seal(footer, seal, crc, count);
    parts[used] = (struct iovec){.iov_base = footer, .iov_len = sizeof footer};
    used += 1;
    err = io_open(self->io, path, O_RDWR | O_CREAT | O_TRUNC, &fd, info);
    if (err == ERR_OK) {
        err = io_write(self->io, fd, path, parts, used, 0, 0, info);
    }
    if (err == ERR_OK) {
        err = map_file(self->io, fd, path, sizeof header + count * INDEX_ENTRY_SIZE + sizeof footer,
                       &sealed, info);
    }
    if (err != ERR_OK) {
        io_close(self->io, &fd);
        return err;
    }
    ASSERT(sealed != NULL);
    sealed->fd = fd;
    sealed->interval = self->interval;
    ASSERT(index_count(sealed) == count);
    *ret_sealed = sealed;
    return ERR_OK;
}

bool index_equal(const struct index *self, const struct index *other)
{
    size_t count = index_count(self);
    bool equal = count == index_count(other);

    for (size_t i = 0; i < count && equal; i++) {
        struct index_entry a = index_get(self, i);
        struct index_entry b = index_get(other, i);

        equal = a.offset == b.offset && a.position == b.position;
    }
    return equal;
}

/* I1: a checksum says that the bytes are those that were written, not that they make sense. */
static enum err check_order(const struct index *self, uint64_t base_offset, struct err_info *info)
{
    struct index_entry before = {0};

    for (size_t i = 0; i < index_count(self); i++) {
        struct index_entry entry = index_get(self, i);

        if (i == 0 ? entry.offset != base_offset
                   : entry.offset <= before.offset || entry.position <= before.position) {
            return err_set(info, ERR_CORRUPT, "entry %zu is out of order", i);
        }
        before = entry;
    }
    return ERR_OK;
}

/* Opens the file, whose size is one that an index can have. */
static enum err open_file(struct io *io, const char *path, int *ret_fd, uint64_t *ret_size,
                          struct err_info *info)
{
    enum err err = io_open(io, path, O_RDONLY, ret_fd, info);
    int rv;

    if (err != ERR_OK) {
        return err;
    }
    rv = io->size(io, *ret_fd, ret_size);
    if (rv < 0) {
        err = io_error(rv, "stat", path, info);
    } else if (*ret_size < INDEX_HEADER_SIZE + INDEX_SEAL_SIZE || *ret_size > INT32_MAX) {
        err = err_set(info, ERR_CORRUPT, "'%s': %" PRIu64 " bytes are no index", path, *ret_size);
    }
    if (err != ERR_OK) {
        io_close(io, ret_fd);
    }
    return err;
}

enum err index_read_seal(struct io *io, const char *path, uint64_t base_offset, uint64_t generation,
                         struct index_seal *ret_seal, struct err_info *info)
{
    const struct index_header expected = {.base_offset = base_offset, .generation = generation};
    uint8_t header[INDEX_HEADER_SIZE];
    uint8_t seal[INDEX_SEAL_SIZE];
    uint64_t size = 0;
    size_t done[2] = {0};
    int fd = -1;
    enum err err = open_file(io, path, &fd, &size, info);

    if (err != ERR_OK) {
        return err;
    }
    err = io_read(io, fd, path, header, sizeof header, 0, &done[0], info);
    if (err == ERR_OK) {
        err = io_read(io, fd, path, seal, sizeof seal, size - sizeof seal, &done[1], info);
    }
    io_close(io, &fd);
    if (err == ERR_OK && (done[0] < sizeof header || done[1] < sizeof seal)) {
        err = err_set(info, ERR_CORRUPT, "'%s': the file became shorter", path);
    }
    if (err != ERR_OK) {
        return err;
    }
    err = check_header(header, &expected, info);
    err = err == ERR_OK ? check_seal(seal, size, info) : err;
    if (err != ERR_OK) {
        (void)err_prefix(info, err, "'%s'", path);
        return err;
    }
    get_seal(seal, ret_seal);
    return ERR_OK;
}

enum err index_open(struct io *io, const char *path, uint64_t base_offset, uint64_t generation,
                    struct index **ret_index, struct index_seal *ret_seal, struct err_info *info)
{
    const struct index_header expected = {.base_offset = base_offset, .generation = generation};
    struct index_seal seal = {0};
    struct index *self = NULL;
    uint64_t size = 0;
    int fd = -1;
    enum err err = open_file(io, path, &fd, &size, info);

    if (err != ERR_OK) {
        return err;
    }
    err = map_file(io, fd, path, (size_t)size, &self, info);
    io_close(io, &fd);
    if (err != ERR_OK) {
        return err;
    }
    ASSERT(self != NULL);
    err = check_file(self->map, self->map_size, &expected, &seal, info);
    err = err != ERR_OK ? err : check_order(self, base_offset, info);
    if (err != ERR_OK) {
        index_free(self);
        (void)err_prefix(info, err, "'%s'", path);
        return err;
    }
    *ret_seal = seal;
    *ret_index = self;
    return ERR_OK;
}
