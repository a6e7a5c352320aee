#include "log/segment_internal.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/block.h"
#include "base/bytes.h"

enum {
    NAME_DIGITS = 20,
};

/* What an index is made for, whatever a segment's bound is now: it may be another one tomorrow. */
#define INDEXED_SIZE_MAX (UINT64_C(4) << 30)

static const char *const suffixes[SEGMENT_FILE_COUNT] = {
    [SEGMENT_STORE] = ".store",
    [SEGMENT_INDEX] = ".index",
    [SEGMENT_TEMPORARY] = ".store.tmp",
    [SEGMENT_FILLING] = ".store.fill",
    [SEGMENT_FILLING_TEMPORARY] = ".store.fill.tmp",
    [SEGMENT_DAMAGED] = ".store.damaged",
    [SEGMENT_COMPACT] = ".store.compact",
    [SEGMENT_COMPACT_INDEX] = ".index.compact",
};

enum err segment_path(char buffer[IO_PATH_SIZE], const char *dir, uint64_t base_offset,
                      enum segment_file file, struct err_info *info)
{
    char name[NAME_DIGITS + 16];
    int size = snprintf(name, sizeof name, "%020" PRIu64 "%s", base_offset, suffixes[file]);

    ASSERT(size > NAME_DIGITS && size < (int)sizeof name);
    return io_path(buffer, dir, name, info);
}

bool segment_parse_name(const char *name, uint64_t *ret_base_offset, enum segment_file *ret_file)
{
    uint64_t value = 0;

    for (size_t i = 0; i < NAME_DIGITS; i++) {
        uint64_t digit = (uint64_t)(unsigned char)name[i] - '0';

        if (name[i] < '0' || name[i] > '9' || value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        if (strcmp(name + NAME_DIGITS, suffixes[i]) == 0) {
            *ret_base_offset = value;
            *ret_file = (enum segment_file)i;
            return true;
        }
    }
    return false;
}

/* An empty one over `store` and `index`, both taken over. */
static struct segment *segment_new(struct store *store, struct index *index,
                                   const struct segment *before)
{
    struct segment *self = malloc(sizeof *self);

    ASSERT(store != NULL);
    if (self == NULL) {
        return NULL;
    }
    *self = (struct segment){
        .base_offset = store->base_offset,
        .store = store,
        .index = index,
        .end_offset = store->base_offset,
        .first_append_time_us = INT64_MAX,
        .last_raft_index = before == NULL ? 0 : before->last_raft_index,
        .last_append_time_us = before == NULL ? INT64_MIN : before->last_append_time_us,
        .index_fd = -1,
    };
    atomic_init(&self->refs, 1);
    file_cache_item_init(&self->indexed, FILE_CACHE_MAP, segment_close_index, NULL);
    return self;
}

enum err segment_create(const struct segment_config *config, const struct segment_origin *origin,
                        struct segment **ret_segment, struct err_info *info)
{
    char path[IO_PATH_SIZE];
    struct store_options options = {
        .io = config->io,
        .files = config->files,
        .path = path,
        .base_offset = origin->base_offset,
        .generation = origin->generation,
        .rewrites = origin->rewrites,
        .temporary = origin->temporary || origin->rewrites > 0,
        .suffix = origin->rewrites > 0 ? suffixes[SEGMENT_COMPACT] + strlen(".store") : NULL,
    };
    struct store *store = NULL;
    struct index *index;
    struct segment *self;
    enum err err;

    ASSERT(IMPLIES(origin->rewrites > 0, !origin->filling && !origin->temporary));
    err = segment_path(path, config->dir, origin->base_offset,
                       origin->filling ? SEGMENT_FILLING : SEGMENT_STORE, info);
    if (err == ERR_OK) {
        err = store_create(&options, &store, info);
    }
    if (err != ERR_OK) {
        return err;
    }
    index = index_new(config->io, INDEXED_SIZE_MAX, config->index_interval);
    self = index == NULL ? NULL : segment_new(store, index, origin->before);
    if (self == NULL) {
        err = segment_no_memory(store, info);
        index_free(index);
        store_unref(store);
        return err;
    }
    self->filling = origin->filling;
    *ret_segment = self;
    return ERR_OK;
}

static struct segment *new_sealed(const struct segment_config *config, struct store *store,
                                  const struct index_seal *seal)
{
    struct segment *self = segment_new(store, NULL, NULL);

    if (self != NULL) {
        self->sealed = true;
        self->index_interval = config->index_interval;
        self->end_offset = seal->end_offset;
        self->last_raft_index = seal->last_raft_index;
        self->last_append_time_us = seal->last_append_time_us;
    }
    return self;
}

enum err segment_open(const struct segment_config *config, struct store *store,
                      struct segment **ret_segment, struct err_info *info)
{
    const struct index_header header = segment_index_header(store);
    char path[IO_PATH_SIZE];
    struct index *index = NULL;
    struct index_seal seal;
    struct segment *self;
    enum err err;

    err = segment_path(path, config->dir, store->base_offset, SEGMENT_INDEX, info);
    if (err == ERR_OK) {
        err = index_open(config->io, path, &header, &index, &seal, info);
    }
    if (err == ERR_OK) {
        err = segment_check_seal(store, &seal, info);
    }
    if (err != ERR_OK) {
        index_free(index);
        return err;
    }
    self = new_sealed(config, store, &seal);
    if (self == NULL) {
        index_free(index);
        return segment_no_memory(store, info);
    }
    segment_give_index(self, index);
    *ret_segment = self;
    return ERR_OK;
}

enum err segment_open_by_seal(const struct segment_config *config, struct store *store,
                              uint64_t next_base, struct segment **ret_segment,
                              struct err_info *info)
{
    const struct index_header header = segment_index_header(store);
    char path[IO_PATH_SIZE];
    struct index_seal seal;
    struct segment *self;
    enum err err;

    ASSERT(store->files != NULL);
    err = segment_path(path, config->dir, store->base_offset, SEGMENT_INDEX, info);
    if (err == ERR_OK) {
        err = index_read_seal(config->io, path, &header, &seal, info);
    }
    if (err == ERR_OK && (seal.store_size != store_size(store) || seal.end_offset != next_base ||
                          seal.last_position < STORE_HEADER_SIZE)) {
        err = err_set(info, ERR_CORRUPT, "the index of '%s' is stale", store->path);
    }
    if (err != ERR_OK) {
        return err;
    }
    self = new_sealed(config, store, &seal);
    if (self == NULL) {
        return segment_no_memory(store, info);
    }
    self->seal_only = true;
    *ret_segment = self;
    return ERR_OK;
}

/* Notes a batch that stands at `position` of the store. */
static void take(struct segment *self, const struct batch_header *header, uint64_t position)
{
    ASSERT(header->base_offset == self->end_offset); /* I2 */
    ASSERT(header->raft_index >= self->last_raft_index);
    ASSERT(header->append_time_us >= self->last_append_time_us);
    index_add(self->index, header->base_offset, position);
    if (self->end_offset == self->base_offset) {
        self->first_append_time_us = header->append_time_us;
    }
    self->last_raft_index = header->raft_index;
    self->last_append_time_us = header->append_time_us;
    atomic_store_explicit(&self->end_offset, batch_end_offset(header),
                          memory_order_release); /* I4 */
}

/* Does the batch follow what the segment holds? */
static enum err check_order(const struct segment *self, const struct batch_header *header,
                            uint64_t position, struct err_info *info)
{
    if (header->base_offset != self->end_offset) {
        (void)err_set(info, ERR_CORRUPT, "offset %" PRIu64 " stands where %" PRIu64 " belongs",
                      header->base_offset, self->end_offset);
        return store_error(self->store, position, ERR_CORRUPT, info);
    }
    if (header->raft_index < self->last_raft_index) {
        (void)err_set(info, ERR_CORRUPT, "raft index %" PRIu64 " follows %" PRIu64,
                      header->raft_index, self->last_raft_index);
        return store_error(self->store, position, ERR_CORRUPT, info);
    }
    if (header->append_time_us < self->last_append_time_us) {
        (void)err_set(info, ERR_CORRUPT, "append time %" PRIi64 " follows %" PRIi64,
                      header->append_time_us, self->last_append_time_us);
        return store_error(self->store, position, ERR_CORRUPT, info);
    }
    return ERR_OK;
}

/* Takes the batches of the store one after the other up to its end, or the first error. */
static enum err scan(struct segment *self, struct store_window *window, uint64_t *ret_position,
                     struct err_info *info)
{
    uint64_t position = STORE_HEADER_SIZE;
    enum err err = ERR_OK;

    ASSERT(self->end_offset == self->base_offset);
    while (position < store_size(self->store)) {
        struct batch_header header;

        err = store_window_header(window, position, &header, info);
        if (err == ERR_OK) {
            err = check_order(self, &header, position, info);
        }
        if (err == ERR_OK) {
            err = store_window_check_body(window, position, &header, info);
        }
        if (err != ERR_OK) {
            break;
        }
        take(self, &header, position);
        position += header.size;
    }
    *ret_position = position;
    return err;
}

enum err segment_recover(const struct segment_config *config, struct store *store,
                         const struct segment *before, uint64_t durable_end,
                         struct segment **ret_segment, struct segment_tail *ret_tail,
                         struct err_info *info)
{
    uint64_t size = store_size(store);
    struct store_window window = {.store = store, .capacity = SEGMENT_SCAN_SIZE};
    struct index *index;
    struct segment *self = NULL;
    enum err err;

    index = index_new(config->io, INDEXED_SIZE_MAX, config->index_interval);
    window.data = malloc(window.capacity);
    if (index != NULL && window.data != NULL) {
        self = segment_new(store, index, before);
    }
    if (self == NULL) {
        index_free(index);
        free(window.data);
        return segment_no_memory(store, info);
    }
    err = scan(self, &window, &ret_tail->position, info);
    free(window.data);
    ret_tail->torn = err == ERR_CORRUPT;
    ASSERT(ret_tail->torn || err != ERR_OK || ret_tail->position == size);
    if (err != ERR_OK && (err != ERR_CORRUPT || self->end_offset < durable_end)) {
        self->store = NULL; /* It stays the caller's. */
        segment_unref(self);
        return err;
    }
    *ret_segment = self;
    return ERR_OK;
}

/* The last batch of a non-empty segment: its position and the checksum of its header. */
static enum err find_last(const struct segment *self, struct index_seal *ret_seal,
                          struct err_info *info)
{
    struct segment_query query = {
        .offset = self->end_offset - 1,
        .end_max = self->end_offset,
        .size_max = 0,
    };
    struct segment_run run;
    uint8_t crc[4];
    enum err err;

    ASSERT(self->end_offset > self->base_offset);
    err = segment_find(self, &query, &run, info);
    if (err == ERR_OK) {
        err = store_read(self->store, run.position + BATCH_AT_CRC, crc, sizeof crc, info);
    }
    if (err == ERR_OK) {
        ret_seal->last_position = run.position;
        ret_seal->last_header_crc = bytes_get_u32(crc);
    }
    return err;
}

enum err segment_seal(const struct segment_config *config, const struct segment *self,
                      struct segment **ret_sealed, struct err_info *info)
{
    const struct index_header header = segment_index_header(self->store);
    char path[IO_PATH_SIZE];
    struct index_seal seal = {
        .store_size = store_size(self->store),
        .end_offset = self->end_offset,
        .last_raft_index = self->last_raft_index,
        .last_append_time_us = self->last_append_time_us,
    };
    struct index *index = NULL;
    struct segment *sealed;
    enum err err;

    ASSERT(!self->sealed);
    err = segment_path(path, config->dir, self->base_offset,
                       self->store->temporary ? SEGMENT_COMPACT_INDEX : SEGMENT_INDEX, info);
    if (err == ERR_OK && self->end_offset > self->base_offset) {
        err = find_last(self, &seal, info);
    }
    if (err == ERR_OK && self->reserved) {
        err = store_give_back(self->store, info);
    }
    if (err == ERR_OK) {
        err = index_seal(self->index, path, &header, &seal, &index, info);
    }
    if (err != ERR_OK) {
        return err;
    }
    sealed = new_sealed(config, self->store, &seal);
    if (sealed == NULL) {
        index_free(index);
        return segment_no_memory(self->store, info);
    }
    (void)store_ref(self->store);
    sealed->last_raft_index = self->last_raft_index; /* Of an empty one, those before it. */
    sealed->last_append_time_us = self->last_append_time_us;
    sealed->first_append_time_us = self->first_append_time_us;
    sealed->index_fd = index->fd;
    index->fd = -1;
    if (self->store->files != NULL) {
        file_cache_count(self->store->files, 1);
    }
    segment_give_index(sealed, index);
    *ret_sealed = sealed;
    return ERR_OK;
}

/* When the first batch of the store was appended. */
static enum err read_first_time(const struct store *store, int64_t *ret_us, struct err_info *info)
{
    uint8_t bytes[BATCH_HEADER_SIZE];
    struct store_window window = {.store = store, .data = bytes, .capacity = sizeof bytes};
    struct batch_header first = {0};
    enum err err = store_window_header(&window, STORE_HEADER_SIZE, &first, info);

    if (err == ERR_OK) {
        *ret_us = first.append_time_us;
    }
    return err;
}

enum err segment_cut(const struct segment_config *config, const struct segment *self,
                     struct store *store, const struct segment_cut *cut,
                     struct segment **ret_segment, struct err_info *info)
{
    int64_t first_us = self->first_append_time_us;
    const struct index *from;
    struct index *index;
    struct segment *segment;
    bool empty = cut->end_offset == self->base_offset;
    enum err err = segment_pin_index(self, &from, info);

    ASSERT(cut->position >= STORE_HEADER_SIZE);
    ASSERT(cut->end_offset >= self->base_offset && cut->end_offset <= self->end_offset);
    if (err != ERR_OK) {
        return err;
    }
    index = index_copy(from, cut->position, INDEXED_SIZE_MAX, config->index_interval);
    segment_unpin_index(self);
    if (index == NULL) {
        return segment_no_memory(store, info);
    }
    if (!empty && first_us == INT64_MAX) {
        err = read_first_time(store, &first_us, info);
    }
    segment = err == ERR_OK ? segment_new(store, index, cut->before) : NULL;
    if (segment == NULL) {
        index_free(index);
        return err == ERR_OK ? segment_no_memory(store, info) : err;
    }
    segment->end_offset = cut->end_offset;
    segment->first_append_time_us = empty ? INT64_MAX : first_us;
    if (cut->last != NULL) {
        ASSERT(batch_end_offset(cut->last) == cut->end_offset);
        segment->last_raft_index = cut->last->raft_index;
        segment->last_append_time_us = cut->last->append_time_us;
    }
    *ret_segment = segment;
    return ERR_OK;
}

enum err segment_measure(const struct segment *self, uint64_t end_max, struct segment_cut *ret_cut,
                         struct batch_header *ret_last, struct err_info *info)
{
    struct store_window window = {.store = self->store, .capacity = SEGMENT_SCAN_SIZE};
    struct batch_header last = {.append_time_us = INT64_MIN};
    uint64_t position = STORE_HEADER_SIZE;
    uint64_t offset = self->base_offset;

    enum err err = store_pin(self->store, NULL, info);

    if (err == ERR_LIMIT) {
        return err_set(info, ERR_NOMEM, "'%s': too many files are open", self->store->path);
    }
    window.data = err == ERR_OK ? malloc(window.capacity) : NULL;
    if (err == ERR_OK && window.data == NULL) {
        store_unpin(self->store);
        return segment_no_memory(self->store, info);
    }
    while (err == ERR_OK && position < store_size(self->store) && offset < end_max) {
        struct batch_header header = {0};

        if (store_window_header(&window, position, &header, NULL) != ERR_OK ||
            header.base_offset != offset || batch_end_offset(&header) > end_max ||
            header.raft_index < last.raft_index || header.append_time_us < last.append_time_us ||
            store_window_check_body(&window, position, &header, NULL) != ERR_OK) {
            break;
        }
        last = header;
        position += header.size;
        offset = batch_end_offset(&header);
    }
    free(window.data);
    if (err == ERR_OK) {
        store_unpin(self->store);
    }
    ASSERT(offset >= self->base_offset);
    *ret_last = last;
    *ret_cut = (struct segment_cut){
        .position = position,
        .end_offset = offset,
        .last = offset > self->base_offset ? ret_last : NULL,
    };
    return ERR_OK;
}

struct segment *segment_ref(struct segment *self)
{
    unsigned before = atomic_fetch_add_explicit(&self->refs, 1, memory_order_relaxed);

    ASSERT(before > 0 && before < UINT_MAX);
    return self;
}

void segment_unref(struct segment *self)
{
    unsigned before;

    if (self == NULL) {
        return;
    }
    before = atomic_fetch_sub_explicit(&self->refs, 1, memory_order_acq_rel);
    ASSERT(before > 0);
    if (before > 1) {
        return;
    }
    if (self->store != NULL) { /* else it was never the store's segment */
        segment_close_index_fd(self, &self->index_fd);
        if (self->store->files != NULL) {
            file_cache_forget(self->store->files, &self->indexed);
        }
    }
    index_free(self->index);
    store_unref(self->store);
    free(self);
}

enum err segment_append(struct segment *self, const struct batch_header *header,
                        const struct iovec *parts, int count, struct err_info *info)
{
    uint64_t position = store_size(self->store);
    enum err err;

    ASSERT(!self->sealed); /* I3 */
    err = store_append(self->store, parts, count, header->size, info);
    if (err == ERR_OK) {
        take(self, header, position);
    }
    return err;
}
