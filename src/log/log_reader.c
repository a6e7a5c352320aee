/*
 * The raw reader: the bytes of all batches in a row, as an io.Reader of other languages.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "log/log_internal.h"

/* What is read ahead at once. */
enum { PIECE_SIZE = 256 * 1024 };

struct log_reader {
    struct segment **segments; /* owned, with references: nothing is lost to truncation */
    size_t count;
    size_t current;      /* the segment that holds `next` */
    uint64_t next;       /* offset to be read */
    uint64_t end;        /* of the log when the reader was made */
    struct block *piece; /* owned; verified batches, NULL when used up */
    size_t used;         /* bytes of it given out */
};

enum err log_reader_new(struct log *self, struct log_reader **ret_reader)
{
    struct log_reader *reader = calloc(1, sizeof *reader);
    enum err err;

    if (reader == NULL) {
        return ERR_NOMEM;
    }
    err = segment_list_snapshot(&self->list, &reader->segments, &reader->count, &reader->next,
                                &reader->end);
    if (err != ERR_OK) {
        free(reader);
        return err;
    }
    ASSERT(reader->next <= reader->end);
    *ret_reader = reader;
    return ERR_OK;
}

void log_reader_free(struct log_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    for (size_t i = 0; i < reader->count; i++) {
        segment_unref(reader->segments[i]);
    }
    block_unref(reader->piece);
    free(reader->segments);
    free(reader);
}

static enum err read_piece(struct log_reader *self, struct err_info *info)
{
    struct segment_query query = {
        .offset = self->next,
        .end_max = self->end,
        .size_max = PIECE_SIZE,
    };
    uint64_t limit;

    ASSERT(self->piece == NULL && self->next < self->end);
    self->used = 0;
    while (self->current + 1 < self->count &&
           self->segments[self->current + 1]->base_offset <= self->next) {
        self->current += 1;
    }
    limit = self->count == 0 ? 0 : self->segments[self->current]->end_offset;
    if (self->count == 0 || self->next < self->segments[self->current]->base_offset ||
        self->next >= limit) {
        return err_set(info, ERR_HOLE, "offset %" PRIu64 " is missing on this node's disk",
                       self->next);
    }
    query.end_max = limit < self->end ? limit : self->end;
    return segment_read(self->segments[self->current], &query, &self->piece, &self->next, info);
}

enum err log_reader_read(struct log_reader *reader, void *data, size_t size, size_t *ret_size,
                         struct err_info *info)
{
    size_t done = 0;

    while (done < size) {
        size_t n;

        if (reader->piece == NULL) {
            enum err err;

            if (reader->next == reader->end) {
                break;
            }
            err = read_piece(reader, info);
            if (err == ERR_HOLE && done > 0) {
                break; /* The next call says it. */
            }
            if (err != ERR_OK) {
                return err;
            }
        }
        n = reader->piece->size - reader->used;
        n = n < size - done ? n : size - done;
        memcpy((uint8_t *)data + done, reader->piece->data + reader->used, n);
        done += n;
        reader->used += n;
        if (reader->used == reader->piece->size) {
            block_unref(reader->piece);
            reader->piece = NULL;
        }
    }
    *ret_size = done;
    return ERR_OK;
}
