#include "raft_fsm/journal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "raft_fsm/journal_files.h"
#include "raft_fsm/journal_recovery.h"
#include "raft_fsm/journal_segment.h"
#include "raft_fsm/journal_terms.h"

enum {
    SEGMENT_SIZE_DEFAULT = 64 * 1024 * 1024,
    SEGMENT_SIZE_MIN = 64 * 1024,
    SEGMENT_SIZE_MAX = 1024 * 1024 * 1024,
    WRITE_SIZE_DEFAULT = 4 * 1024 * 1024,
};

_Static_assert(sizeof(((struct journal_contents *)0)->torn_path) >= JOURNAL_NAME_SIZE,
               "file names fit");

struct journal {
    struct journal_files files;
    uint32_t write_size_max;
    bool failed;                      /* J4 */
    bool sealed;                      /* The last batch is a seal, or there is none. */
    struct journal_segment *segments; /* owned; oldest first; the newest may be the current one */
    size_t segment_count;
    size_t segment_capacity;
    int fd; /* The current segment, which is the newest; -1: the next batch gets a new one. */
    char path[IO_PATH_SIZE];
    uint64_t salt;
    uint64_t position;
    uint64_t next_segment;
    uint64_t next_batch;
    uint64_t first_index;
    uint64_t last_index;
    struct journal_terms terms;
    uint8_t *staging; /* owned, aligned */
    size_t staging_size;
    struct entry *merged; /* owned; for journal_perform */
    size_t merged_capacity;
    struct journal_stats stats;
};

static void journal_check(const struct journal *self)
{
    ASSERT(self->first_index >= 1 && self->last_index + 1 >= self->first_index);
    ASSERT(IMPLIES(self->fd >= 0, self->segment_count > 0));
    ASSERT(IMPLIES(self->fd >= 0, self->position <= self->segments[self->segment_count - 1].size));
    ASSERT(self->position % JOURNAL_SECTOR == 0);
}

/* ---- one batch ---- */

/* Room for `size` bytes; what was there is lost. */
static enum err staging_reserve(struct journal *self, size_t size, struct err_info *info)
{
    size_t wanted = bytes_round_up(size, JOURNAL_BLOCK);
    uint8_t *staging;

    if (wanted <= self->staging_size) {
        return ERR_OK;
    }
    staging = aligned_alloc(JOURNAL_BLOCK, wanted);
    if (staging == NULL) {
        return err_set(info, ERR_NOMEM, "no memory to write %zu bytes", size);
    }
    free(self->staging);
    self->staging = staging;
    self->staging_size = wanted;
    return ERR_OK;
}

static enum err segments_reserve(struct journal *self, struct err_info *info)
{
    size_t capacity = self->segment_capacity == 0 ? 64 : self->segment_capacity * 2;
    struct journal_segment *segments;

    if (self->segment_count < self->segment_capacity) {
        return ERR_OK;
    }
    segments = reallocarray(self->segments, capacity, sizeof *segments);
    if (segments == NULL) {
        return err_set(info, ERR_NOMEM, "no memory for a list of segments");
    }
    self->segments = segments;
    self->segment_capacity = capacity;
    return ERR_OK;
}

/* Leaves the current segment, if any, for a new one with room for a batch of `extent` bytes. */
static enum err next_segment(struct journal *self, size_t extent, struct err_info *info)
{
    char name[JOURNAL_NAME_SIZE];
    struct journal_taken taken;
    enum err err;

    err = segments_reserve(self, info);
    if (err != ERR_OK) {
        return err;
    }
    journal_segment_name(name, self->next_segment);
    err = journal_files_take(&self->files, self->next_segment, JOURNAL_HEADER_SIZE + extent, &taken,
                             info);
    if (err != ERR_OK) {
        return err;
    }
    io_close(self->files.io, &self->fd);
    self->fd = taken.fd;
    self->salt = taken.salt;
    self->position = JOURNAL_HEADER_SIZE;
    self->segments[self->segment_count++] =
        (struct journal_segment){.sequence = self->next_segment, .size = taken.size};
    self->next_segment++;
    return io_path(self->path, self->files.dir, name, info);
}

/* Writes the batch whose frames stand in staging behind the room for its header. */
static enum err write_batch(struct journal *self, enum journal_batch_type type,
                            uint64_t first_index, uint32_t count, uint32_t size,
                            struct err_info *info)
{
    size_t extent = journal_batch_extent(size);
    struct journal_batch batch = {
        .sequence = self->next_batch,
        .first_index = first_index,
        .count = count,
        .size = size,
        .type = (uint8_t)type,
    };
    uint8_t *body = self->staging + JOURNAL_BATCH_HEADER_SIZE;
    enum err err = ERR_OK;

    ASSERT(!self->failed && extent <= self->staging_size);
    if (self->fd < 0 || extent > self->segments[self->segment_count - 1].size - self->position) {
        err = next_segment(self, extent, info);
    }
    if (err != ERR_OK) {
        return err;
    }
    batch.segment = self->segments[self->segment_count - 1].sequence;
    batch.body_crc = crc32c(body, size);
    if (type != JOURNAL_BATCH_RESET && first_index > self->first_index) {
        batch.prev_term = journal_terms_get(&self->terms, first_index - 1);
    }
    memset(body + size, 0, extent - JOURNAL_BATCH_HEADER_SIZE - size);
    journal_batch_encode(&batch, self->salt, self->staging);
    err = journal_files_write(&self->files, self->fd, self->path, self->staging, extent,
                              self->position, RWF_DSYNC, info);
    if (err != ERR_OK) {
        return err;
    }
    self->position += extent;
    self->next_batch++;
    self->sealed = type == JOURNAL_BATCH_SEAL;
    self->stats.writes++;
    self->stats.bytes += extent;
    journal_check(self);
    return ERR_OK;
}

/* A batch without entries. */
static enum err write_mark(struct journal *self, enum journal_batch_type type, uint64_t index,
                           struct err_info *info)
{
    enum err err = staging_reserve(self, JOURNAL_SECTOR, info);

    return err == ERR_OK ? write_batch(self, type, index, 0, 0, info) : err;
}

/* How many of the entries one write takes, and the size of their frames. */
static size_t split(const struct journal *self, const struct entry *entries, size_t count,
                    uint32_t *ret_size)
{
    size_t size = entry_frame_size(entries[0].size);
    size_t n = 1;

    while (n < count && n < UINT32_MAX &&
           size + entry_frame_size(entries[n].size) <= self->write_size_max) {
        size += entry_frame_size(entries[n].size);
        n++;
    }
    ASSERT(size <= UINT32_MAX - JOURNAL_SECTOR);
    *ret_size = (uint32_t)size;
    return n;
}

static enum err write_entries(struct journal *self, const struct entry *entries, size_t count,
                              uint32_t size, struct err_info *info)
{
    struct journal_segment *segment;
    uint8_t *at;
    enum err err;

    err = staging_reserve(self, journal_batch_extent(size), info);
    if (err != ERR_OK) {
        return err;
    }
    at = self->staging + JOURNAL_BATCH_HEADER_SIZE;
    for (size_t i = 0; i < count; i++) {
        ASSERT(entries[i].index == entries[0].index + i);
        memcpy(at, entries[i].frame, entry_frame_size(entries[i].size));
        at += entry_frame_size(entries[i].size);
    }
    err = write_batch(self, JOURNAL_BATCH_ENTRIES, entries[0].index, (uint32_t)count, size, info);
    if (err != ERR_OK) {
        return err;
    }
    for (size_t i = 0; i < count; i++) {
        if (journal_terms_set(&self->terms, entries[i].index, entries[i].term) != ERR_OK) {
            return err_set(info, ERR_NOMEM, "no memory for the terms of entries");
        }
    }
    self->last_index = entries[count - 1].index;
    segment = &self->segments[self->segment_count - 1];
    segment->index_max =
        self->last_index > segment->index_max ? self->last_index : segment->index_max;
    self->stats.entries += count;
    return ERR_OK;
}

/* J4: every failure of what changes the disk is the last thing that happens. */
static enum err fail_on(struct journal *self, enum err err)
{
    self->failed = self->failed || err != ERR_OK;
    return err;
}

static enum err refuse(struct err_info *info)
{
    return err_set(info, ERR_FAILED, "the journal has failed earlier");
}

/* ---- operations ---- */

enum err journal_append(struct journal *self, const struct entry *entries, size_t count,
                        struct err_info *info)
{
    if (self->failed) {
        return refuse(info);
    }
    ASSERT(IMPLIES(count > 0, entries[0].index <= self->last_index + 1));
    ASSERT(IMPLIES(count > 0, entries[0].index >= self->first_index));
    while (count > 0) {
        uint32_t size;
        size_t n = split(self, entries, count, &size);
        enum err err = fail_on(self, write_entries(self, entries, n, size, info));

        if (err != ERR_OK) {
            return err;
        }
        entries += n;
        count -= n;
    }
    return ERR_OK;
}

/* Frees segments from the oldest on, as long as nothing above index is in them (J2). The newest
 * one stays: it says where the log continues. */
static enum err release_segments(struct journal *self, uint64_t index, struct err_info *info)
{
    while (self->segment_count > 1 && self->segments[0].index_max <= index) {
        enum err err = journal_files_release(&self->files, self->segments[0].sequence,
                                             self->segments[0].size, info);

        if (err != ERR_OK) {
            return err;
        }
        self->segment_count--;
        memmove(self->segments, self->segments + 1, self->segment_count * sizeof self->segments[0]);
    }
    return ERR_OK;
}

enum err journal_trim(struct journal *self, uint64_t index, struct err_info *info)
{
    if (self->failed) {
        return refuse(info);
    }
    if (index >= self->first_index) {
        self->first_index = index < self->last_index ? index + 1 : self->last_index + 1;
        journal_terms_trim(&self->terms, self->first_index - 1);
    }
    journal_check(self);
    return fail_on(self, release_segments(self, index, info));
}

enum err journal_reset(struct journal *self, uint64_t next_index, struct err_info *info)
{
    enum err err;

    ASSERT(next_index >= 1);
    if (self->failed) {
        return refuse(info);
    }
    err = fail_on(self, write_mark(self, JOURNAL_BATCH_RESET, next_index, info));
    if (err != ERR_OK) {
        return err;
    }
    self->first_index = next_index;
    self->last_index = next_index - 1;
    journal_terms_clear(&self->terms);
    for (size_t i = 0; i < self->segment_count; i++) {
        self->segments[i].index_max = 0;
    }
    return fail_on(self, release_segments(self, 0, info));
}

enum err journal_seal(struct journal *self, struct err_info *info)
{
    if (self->failed) {
        return refuse(info);
    }
    if (self->sealed) {
        return ERR_OK;
    }
    return fail_on(self, write_mark(self, JOURNAL_BATCH_SEAL, self->last_index + 1, info));
}

enum err journal_prepare(struct journal *self, uint64_t step, bool *ret_more, struct err_info *info)
{
    enum err err;

    if (self->failed) {
        return refuse(info);
    }
    err = journal_files_fill(&self->files, step, ret_more, info);
    /* A full disk leaves what is there as it was: the next append will tell. */
    return err == ERR_NOSPACE ? err : fail_on(self, err);
}

uint64_t journal_last_index(const struct journal *self)
{
    return self->last_index;
}

size_t journal_room(const struct journal *self)
{
    uint64_t room;

    if (self->failed || self->fd < 0) {
        return 0;
    }
    room = self->segments[self->segment_count - 1].size - self->position;
    if (room < JOURNAL_BATCH_HEADER_SIZE) {
        return 0;
    }
    room -= JOURNAL_BATCH_HEADER_SIZE;
    return room < self->write_size_max ? (size_t)room : self->write_size_max;
}

void journal_stats(const struct journal *self, struct journal_stats *ret_stats)
{
    *ret_stats = self->stats;
}

/* ---- opening and closing ---- */

static struct journal_options with_defaults(const struct journal_options *options)
{
    struct journal_options filled = *options;

    filled.segment_size = options->segment_size == 0 ? SEGMENT_SIZE_DEFAULT : options->segment_size;
    filled.write_size_max =
        options->write_size_max == 0 ? WRITE_SIZE_DEFAULT : options->write_size_max;
    filled.spare_segments = options->spare_segments == 0 ? 1 : options->spare_segments;
    ASSERT(filled.segment_size % JOURNAL_BLOCK == 0);
    ASSERT(filled.segment_size >= SEGMENT_SIZE_MIN && filled.segment_size <= SEGMENT_SIZE_MAX);
    ASSERT(filled.spare_segments <= JOURNAL_SPARES_MAX);
    ASSERT(filled.write_size_max <= SEGMENT_SIZE_MAX);
    return filled;
}

/* Takes over the recovered segments and entries; the rest stays recovery's. */
static enum err adopt(struct journal *self, struct journal_recovery *recovery,
                      struct journal_contents *contents, struct err_info *info)
{
    for (size_t i = 0; i < recovery->entry_count; i++) {
        const struct entry *entry = &recovery->entries[i];

        if (journal_terms_set(&self->terms, entry->index, entry->term) != ERR_OK) {
            return err_set(info, ERR_NOMEM, "no memory for the terms of entries");
        }
    }
    self->first_index = recovery->first_index == 0 ? 1 : recovery->first_index;
    self->last_index = self->first_index + recovery->entry_count - 1;
    self->sealed = recovery->sealed;
    self->next_batch = recovery->batch_sequence;
    self->segments = recovery->segments;
    self->segment_count = recovery->segment_count;
    self->segment_capacity = recovery->segment_capacity;
    recovery->segments = NULL;
    self->next_segment =
        self->segment_count == 0 ? 1 : self->segments[self->segment_count - 1].sequence + 1;
    *contents = (struct journal_contents){
        .first_index = self->first_index,
        .entries = recovery->entries,
        .count = recovery->entry_count,
        .torn = recovery->torn,
        .torn_position = recovery->torn ? recovery->end_position : 0,
        .direct = self->files.direct,
    };
    recovery->entries = NULL;
    recovery->entry_count = 0;
    if (recovery->torn) {
        memcpy(contents->torn_path, recovery->end_name, sizeof recovery->end_name);
    }
    journal_check(self);
    return ERR_OK;
}

static void journal_free(struct journal *self)
{
    io_close(self->files.io, &self->fd);
    journal_files_close(&self->files);
    journal_terms_fini(&self->terms);
    free(self->segments);
    free(self->staging);
    free(self->merged);
    free(self);
}

enum err journal_open(const struct journal_options *options, struct journal **ret_journal,
                      struct journal_contents *ret_contents, struct err_info *info)
{
    struct journal_options filled = with_defaults(options);
    struct journal_recovery recovery = {.segments = NULL};
    struct journal_contents contents;
    struct journal *self;
    enum err err;

    ASSERT(options->node_id > 0);
    self = calloc(1, sizeof *self);
    if (self == NULL) {
        return err_set(info, ERR_NOMEM, "no memory for the journal");
    }
    self->fd = -1;
    self->write_size_max = filled.write_size_max;
    err = journal_files_open(&self->files, &filled, info);
    if (err == ERR_OK) {
        err = staging_reserve(self, journal_batch_extent(filled.write_size_max), info);
    }
    if (err == ERR_OK) {
        err = journal_recovery_run(&recovery, &self->files, info);
    }
    if (err == ERR_OK) {
        err = adopt(self, &recovery, &contents, info);
    }
    journal_recovery_fini(&recovery);
    if (err != ERR_OK) {
        journal_free(self);
        return err;
    }
    *ret_journal = self;
    *ret_contents = contents;
    return ERR_OK;
}

void journal_contents_fini(struct journal_contents *self)
{
    for (size_t i = 0; i < self->count; i++) {
        entry_unref(&self->entries[i]);
    }
    free(self->entries);
    *self = (struct journal_contents){.entries = NULL};
}

void journal_close(struct journal *self)
{
    if (self == NULL) {
        return;
    }
    if (!self->failed) {
        /* Without it, damage to the last batch is taken for a torn write: no data depends on it. */
        (void)journal_seal(self, NULL);
    }
    journal_free(self);
}

/* ---- tasks ---- */

struct journal_task *journal_task_new(enum journal_task_type type, unsigned count)
{
    struct journal_task *self = calloc(1, sizeof *self);

    ASSERT(IMPLIES(type != JOURNAL_APPEND, count == 0));
    if (self == NULL) {
        return NULL;
    }
    self->type = type;
    self->count = count;
    if (count > 0) {
        self->entries = calloc(count, sizeof self->entries[0]);
        if (self->entries == NULL) {
            free(self);
            return NULL;
        }
    }
    return self;
}

void journal_task_free(struct journal_task *self)
{
    if (self == NULL) {
        return;
    }
    for (unsigned i = 0; i < self->count; i++) {
        entry_unref(&self->entries[i]);
    }
    free(self->entries);
    free(self);
}

/* The appends from `first` on that continue one another, and how many entries they have. Returns
 * the task behind them. */
static struct journal_task *find_run(struct journal_task *first, size_t *ret_count)
{
    struct journal_task *task = first;
    size_t count = 0;
    uint64_t next = 0;

    while (task != NULL && task->type == JOURNAL_APPEND &&
           (count == 0 || task->count == 0 || task->entries[0].index == next)) {
        count += task->count;
        next = task->count > 0 ? task->entries[task->count - 1].index + 1 : next;
        task = task->next;
    }
    ASSERT(task != first);
    *ret_count = count;
    return task;
}

/* All entries of the tasks in [first, end) as one array, borrowed. */
static enum err merge_run(struct journal *self, const struct journal_task *first,
                          const struct journal_task *end, size_t count, struct err_info *info)
{
    size_t at = 0;

    if (count > self->merged_capacity) {
        struct entry *merged = reallocarray(self->merged, count, sizeof *merged);

        if (merged == NULL) {
            return err_set(info, ERR_NOMEM, "no memory to join %zu entries", count);
        }
        self->merged = merged;
        self->merged_capacity = count;
    }
    for (const struct journal_task *task = first; task != end; task = task->next) {
        if (task->count > 0) {
            memcpy(self->merged + at, task->entries, task->count * sizeof task->entries[0]);
            at += task->count;
        }
    }
    ASSERT(at == count);
    return ERR_OK;
}

/* Performs one or more tasks from `first` on; returns the first one that is not done. */
static struct journal_task *perform_run(struct journal *self, struct journal_task *first,
                                        enum err *ret_err, struct err_info *info)
{
    struct journal_task *end = first->next;
    enum err err = ERR_INVALID;
    size_t count;

    switch (first->type) {
    case JOURNAL_APPEND:
        end = find_run(first, &count);
        if (first->next == end) {
            err = journal_append(self, first->entries, first->count, info);
            break;
        }
        err = merge_run(self, first, end, count, info);
        if (err == ERR_OK) {
            err = journal_append(self, self->merged, count, info);
        }
        break;
    case JOURNAL_TRIM:
        err = journal_trim(self, first->index, info);
        break;
    case JOURNAL_RESET:
        err = journal_reset(self, first->index, info);
        break;
    }
    for (struct journal_task *task = first; task != end; task = task->next) {
        task->err = err;
    }
    *ret_err = err;
    return end;
}

enum err journal_perform(struct journal *self, struct journal_task *list, struct err_info *info)
{
    struct journal_task *task = list;
    enum err err = ERR_OK;

    while (task != NULL && err == ERR_OK) {
        task = perform_run(self, task, &err, info);
    }
    for (; task != NULL; task = task->next) {
        task->err = ERR_FAILED;
    }
    (void)fail_on(self, err); /* Later tasks must not overtake the ones that failed. */
    return err;
}
