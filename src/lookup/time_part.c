#include "lookup/time_part.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"

enum { CAPACITY_MIN = 64 };

void time_table_init(struct time_table *self)
{
    *self = (struct time_table){.interval = TIME_INTERVAL};
}

void time_table_fini(struct time_table *self)
{
    free(self->entries);
    time_table_init(self);
}

void time_table_clear(struct time_table *self)
{
    self->count = 0;
    self->interval = TIME_INTERVAL;
    self->behind = 0;
}

static enum err make_room(struct time_table *self)
{
    size_t capacity = self->capacity == 0 ? CAPACITY_MIN : 2 * self->capacity;
    struct time_entry *entries;

    if (self->count < self->capacity) {
        return ERR_OK;
    }
    if (self->count == TIME_ENTRIES_MAX) { /* I2 */
        for (size_t i = 0; i < TIME_ENTRIES_MAX / 2; i++) {
            self->entries[i] = self->entries[2 * i];
        }
        self->count = TIME_ENTRIES_MAX / 2;
        self->interval *= 2;
        return ERR_OK;
    }
    entries = realloc(self->entries, capacity * sizeof *entries);
    if (entries == NULL) {
        return ERR_NOMEM;
    }
    self->entries = entries;
    self->capacity = capacity;
    ASSERT(capacity <= TIME_ENTRIES_MAX);
    return ERR_OK;
}

enum err time_table_add(struct time_table *self, uint64_t offset, const struct time_span *times,
                        uint64_t size)
{
    int64_t time_us = times->first_us;

    ASSERT(times->first_us <= times->last_us);
    ASSERT(IMPLIES(self->count > 0, self->entries[self->count - 1].offset < offset));
    if (self->count > 0 && time_us < self->last_time_us) {
        time_us = self->last_time_us;
    }
    if (self->count == 0 || self->behind >= self->interval) {
        enum err err = make_room(self);

        if (err != ERR_OK) {
            return err;
        }
        self->entries[self->count] = (struct time_entry){.offset = offset, .time_us = time_us};
        self->count += 1;
        self->behind = 0;
    }
    self->behind += size;
    self->last_time_us = times->last_us > time_us ? times->last_us : time_us;
    ASSERT(self->count > 0 && self->entries[self->count - 1].time_us <= time_us); /* I1 */
    return ERR_OK;
}

bool time_entries_find(const struct time_entry *entries, size_t count, int64_t time_us,
                       uint64_t *ret_from, uint64_t *ret_to)
{
    size_t low = 0;
    size_t high = count;

    ASSERT(count > 0);
    /* Entries below low are before the time, those from high on are not. */
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (entries[middle].time_us < time_us) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *ret_from = entries[low > 0 ? low - 1 : 0].offset;
    if (low == count) {
        return false;
    }
    *ret_to = entries[low].offset;
    return true;
}

enum err time_part_write(struct io *io, const char *dir, const struct time_table *table,
                         struct part_seal *seal, struct err_info *info)
{
    size_t size = table->count * TIME_ENTRY_SIZE;
    uint8_t *body;
    enum err err;

    ASSERT(table->count > 0 && table->count <= TIME_ENTRIES_MAX);
    ASSERT(seal->kind == PART_TIME && table->entries[table->count - 1].offset < seal->end_offset);
    body = malloc(size);
    if (body == NULL) {
        return err_set(info, ERR_NOMEM, "no memory for a time index");
    }
    for (size_t i = 0; i < table->count; i++) {
        bytes_put_u64(body + i * TIME_ENTRY_SIZE, table->entries[i].offset);
        bytes_put_u64(body + i * TIME_ENTRY_SIZE + 8, (uint64_t)table->entries[i].time_us);
    }
    seal->count = table->count;
    seal->first_time_us = table->entries[0].time_us;
    seal->last_time_us = table->last_time_us;
    seal->body_size = size;
    seal->body_crc32c = crc32c(body, size);
    err = part_write(io, dir, seal, body, info);
    free(body);
    return err;
}

static enum err decode(const struct part_seal *seal, const uint8_t *body,
                       struct time_entry *ret_entries, struct err_info *info)
{
    struct time_entry last = {.offset = seal->base_offset, .time_us = seal->first_time_us};

    if (crc32c(body, seal->body_size) != seal->body_crc32c) {
        return err_set(info, ERR_CORRUPT, "the checksum of positions 0 to %" PRIu64 " is wrong",
                       seal->body_size);
    }
    for (size_t i = 0; i < seal->count; i++) {
        struct time_entry entry = {
            .offset = bytes_get_u64(body + i * TIME_ENTRY_SIZE),
            .time_us = (int64_t)bytes_get_u64(body + i * TIME_ENTRY_SIZE + 8),
        };

        if ((i > 0 && entry.offset <= last.offset) || entry.offset < last.offset ||
            entry.time_us < last.time_us || entry.offset >= seal->end_offset ||
            entry.time_us > seal->last_time_us) {
            return err_set(info, ERR_CORRUPT, "entry %zu is out of order", i); /* I1 */
        }
        ret_entries[i] = entry;
        last = entry;
    }
    return ERR_OK;
}

static enum err read_entries(struct io *io, int fd, const struct part_seal *seal, const char *name,
                             struct time_entry **ret_entries, struct err_info *info)
{
    struct time_entry *entries;
    uint8_t *body;
    enum err err;

    if (seal->count == 0 || seal->count > TIME_ENTRIES_MAX ||
        seal->body_size != seal->count * TIME_ENTRY_SIZE) {
        return err_set(info, ERR_CORRUPT, "'%s': %" PRIu64 " entries in %" PRIu64 " bytes", name,
                       seal->count, seal->body_size);
    }
    body = malloc(seal->body_size);
    entries = calloc(seal->count, sizeof *entries);
    if (body == NULL || entries == NULL) {
        free(body);
        free(entries);
        return err_set(info, ERR_NOMEM, "no memory for time index '%s'", name);
    }
    err = part_read(io, fd, name, body, seal->body_size, 0, info);
    if (err == ERR_OK) {
        err = decode(seal, body, entries, info);
        err = err == ERR_OK ? err : err_prefix(info, err, "'%s'", name);
    }
    free(body);
    if (err != ERR_OK) {
        free(entries);
        return err;
    }
    *ret_entries = entries;
    return ERR_OK;
}

enum err time_part_read(struct io *io, const char *dir, const struct part_seal *named,
                        struct time_entry **ret_entries, size_t *ret_count, struct err_info *info)
{
    char name[PART_NAME_SIZE];
    struct part_seal seal;
    int fd;
    enum err err = part_open(io, dir, named, &fd, &seal, info);

    if (err != ERR_OK) {
        return err;
    }
    ASSERT(named->kind == PART_TIME);
    part_name(name, named);
    err = read_entries(io, fd, &seal, name, ret_entries, info);
    io_close(io, &fd);
    if (err == ERR_OK) {
        *ret_count = seal.count;
    }
    return err;
}
