/* Segments of journals. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive/dump_internal.h"
#include "base/assert.h"
#include "base/crc32c.h"
#include "raft_fsm/entry.h"
#include "raft_fsm/journal_segment.h"

enum { WINDOW_SIZE = 256 * 1024 };

struct journal_dump {
    struct dump *dump;
    struct io *io;
    const char *path;
    int fd;
    uint64_t size;
    struct journal_header header;
    uint8_t *window; /* owned */
    uint64_t window_position;
    size_t window_size;
};

/* `size` bytes at position; NULL and OK when the file ends before. */
static enum err get(struct journal_dump *self, uint64_t position, size_t size,
                    const uint8_t **ret_bytes)
{
    enum err err;

    ASSERT(size <= WINDOW_SIZE);
    *ret_bytes = NULL;
    if (position > self->size || size > self->size - position) {
        return ERR_OK;
    }
    if (position < self->window_position ||
        position + size > self->window_position + self->window_size) {
        self->window_position = position;
        self->window_size = 0;
        err = io_read(self->io, self->fd, self->path, self->window, WINDOW_SIZE, position,
                      &self->window_size, self->dump->info);
        if (err != ERR_OK) {
            return err;
        }
    }
    *ret_bytes =
        self->window_size < size ? NULL : self->window + (position - self->window_position);
    return ERR_OK;
}

static enum err body_crc(struct journal_dump *self, uint64_t position, uint32_t size,
                         uint32_t *ret_crc)
{
    uint32_t crc = 0;

    while (size > 0) {
        size_t part = size < WINDOW_SIZE ? size : WINDOW_SIZE;
        const uint8_t *bytes;
        enum err err = get(self, position, part, &bytes);

        if (err != ERR_OK) {
            return err;
        }
        if (bytes == NULL) {
            break; /* The checksum tells. */
        }
        crc = crc32c_extend(crc, bytes, part);
        position += part;
        size -= (uint32_t)part;
    }
    *ret_crc = crc;
    return ERR_OK;
}

static const char *type_name(uint8_t type)
{
    switch (type) {
    case JOURNAL_BATCH_ENTRIES:
        return "entries";
    case JOURNAL_BATCH_RESET:
        return "reset";
    case JOURNAL_BATCH_SEAL:
        return "seal";
    default:
        return "unknown";
    }
}

static const char *entry_type_name(uint8_t type)
{
    switch (type) {
    case ENTRY_COMMAND:
        return "command";
    case ENTRY_BARRIER:
        return "barrier";
    case ENTRY_CHANGE:
        return "members";
    default:
        return "unknown";
    }
}

static enum err dump_entry(struct dump *dump, const struct entry_head *entry)
{
    dump_begin(dump, "entry");
    dump_number(dump, "index", entry->index);
    dump_number(dump, "term", entry->term);
    dump_text(dump, "type", entry_type_name(entry->type));
    dump_number(dump, "size", entry->size);
    return dump_end(dump);
}

/* Walks over the entries of a batch; *ret_last is the last one. */
static enum err walk_entries(struct journal_dump *self, uint64_t position,
                             const struct journal_batch *batch, bool tell,
                             struct entry_head *ret_last)
{
    uint64_t end = position + batch->size;

    while (position + ENTRY_HEADER_SIZE <= end) {
        const uint8_t *bytes;
        enum err err = get(self, position, ENTRY_HEADER_SIZE, &bytes);

        if (err != ERR_OK || bytes == NULL) {
            return err;
        }
        *ret_last = entry_head_decode(bytes);
        if (ret_last->size > end - position) {
            break;
        }
        position += entry_frame_size(ret_last->size);
        if (tell && ret_last->index >= self->dump->options->from) {
            err = dump_entry(self->dump, ret_last);
        }
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

static enum err dump_batch(struct journal_dump *self, uint64_t position,
                           const struct journal_batch *batch)
{
    struct dump *dump = self->dump;
    uint64_t body = position + JOURNAL_BATCH_HEADER_SIZE;
    bool entries = batch->type == JOURNAL_BATCH_ENTRIES;
    struct entry_head last = {0};
    uint32_t crc = 0;
    enum err err = body_crc(self, body, batch->size, &crc);

    if (err == ERR_OK && entries && crc == batch->body_crc) {
        err = walk_entries(self, body, batch, false, &last);
    }
    if (err != ERR_OK) {
        return err;
    }
    dump_begin(dump, "journal_batch");
    dump_number(dump, "position", position);
    dump_number(dump, "sequence", batch->sequence);
    dump_text(dump, "type", type_name(batch->type));
    dump_number(dump, "index", batch->first_index);
    dump_number(dump, "entries", batch->count);
    dump_number(dump, "size", batch->size);
    if (entries) {
        dump_number(dump, "term", last.term);
        dump_number(dump, "previous_term", batch->prev_term);
    }
    dump_text(dump, "checksum", crc == batch->body_crc ? "ok" : "bad");
    err = dump_end(dump);
    if (err == ERR_OK && crc != batch->body_crc) {
        return dump_damage(dump, position, "the entries do not match their checksum");
    }
    return err == ERR_OK && entries && dump->options->records
               ? walk_entries(self, body, batch, true, &last)
               : err;
}

/* The first place from `position` on where a batch of this segment verifies; 0: none. */
static enum err find_batch(struct journal_dump *self, uint64_t position, uint64_t *ret_position)
{
    *ret_position = 0;
    for (; position < self->size; position += JOURNAL_SECTOR) {
        struct journal_batch batch;
        const uint8_t *bytes;
        enum err err = get(self, position, JOURNAL_BATCH_HEADER_SIZE, &bytes);

        if (err != ERR_OK || bytes == NULL) {
            return err;
        }
        if (journal_batch_decode(bytes, self->header.segment, self->header.salt, &batch)) {
            *ret_position = position;
            break;
        }
    }
    return ERR_OK;
}

/* No batch verifies at *position: what is it? Goes on behind it when it is damage. */
static enum err dump_gap(struct journal_dump *self, uint64_t *position)
{
    const uint8_t *bytes;
    uint64_t next = 0;
    enum err err = find_batch(self, *position + JOURNAL_SECTOR, &next);

    if (err != ERR_OK) {
        return err;
    }
    if (next != 0) {
        char text[96];

        (void)snprintf(text, sizeof text, "no batch verifies here, but one follows at %" PRIu64,
                       next); /* fits */
        err = dump_damage(self->dump, *position, text);
        *position = next;
        return err;
    }
    err = get(self, *position, JOURNAL_BATCH_HEADER_SIZE, &bytes);
    if (err == ERR_OK && bytes != NULL && journal_batch_resembles(bytes, self->header.segment)) {
        err = dump_torn(self->dump, *position, self->size - *position,
                        "the last batch does not verify: a write that was cut off");
    }
    *position = self->size;
    return err;
}

static enum err dump_batches(struct journal_dump *self)
{
    uint64_t position = JOURNAL_HEADER_SIZE;

    while (position < self->size && !dump_is_full(self->dump)) {
        struct journal_batch batch;
        const uint8_t *bytes;
        enum err err = get(self, position, JOURNAL_BATCH_HEADER_SIZE, &bytes);

        if (err != ERR_OK || bytes == NULL) {
            return err;
        }
        if (!journal_batch_decode(bytes, self->header.segment, self->header.salt, &batch)) {
            err = dump_gap(self, &position);
        } else {
            if (batch.first_index + batch.count > self->dump->options->from) {
                err = dump_batch(self, position, &batch);
            }
            position += journal_batch_extent(batch.size);
        }
        if (err != ERR_OK) {
            return err;
        }
    }
    return ERR_OK;
}

static enum err dump_segment(struct journal_dump *self)
{
    struct dump *dump = self->dump;
    struct err_info info = {0};
    const uint8_t *bytes = NULL;
    int rv = self->io->size(self->io, self->fd, &self->size);
    enum err err = rv < 0 ? io_error(rv, "stat", self->path, dump->info)
                          : get(self, 0, JOURNAL_HEADER_SIZE, &bytes);
    enum err found;

    if (err != ERR_OK) {
        return err;
    }
    found = bytes == NULL ? err_set(&info, ERR_CORRUPT, "the header is cut off")
                          : journal_header_decode(bytes, self->path, &self->header, &info);
    dump_begin_file(dump, "journal", self->size);
    if (found == ERR_OK) {
        dump_number(dump, "segment", self->header.segment);
        dump_number(dump, "node", self->header.node_id);
    }
    err = dump_end(dump);
    if (err != ERR_OK || found != ERR_OK) {
        return err != ERR_OK ? err : dump_damage(dump, 0, info.text);
    }
    return dump_batches(self);
}

enum err dump_journal(struct dump *self, const char *path)
{
    struct journal_dump journal = {.dump = self,
                                   .io = self->options->io,
                                   .path = path,
                                   .fd = -1,
                                   .window = malloc(WINDOW_SIZE)};
    enum err err = journal.window == NULL
                       ? err_set(self->info, ERR_NOMEM, "'%s': out of memory", path)
                       : io_open(journal.io, path, O_RDONLY, &journal.fd, self->info);

    if (err == ERR_OK) {
        err = dump_segment(&journal);
        io_close(journal.io, &journal.fd);
    }
    free(journal.window);
    return err;
}
