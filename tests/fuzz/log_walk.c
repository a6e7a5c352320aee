#include "fuzz/log_walk.h"

#include "base/assert.h"

enum { CHUNK_SIZE = 256, STEPS_MAX = 200 };

static void read_all(struct log *log)
{
    uint64_t offset = log_start(log);

    for (unsigned i = 0; i < STEPS_MAX && offset < log_end(log); i++) {
        struct batch_header header;
        struct log_chunk chunk;
        struct log_hole hole;
        struct block *batches;
        uint64_t end_offset;
        enum err err = log_read(log, offset, UINT64_MAX, CHUNK_SIZE, &batches, &end_offset, NULL);

        if (err == ERR_OK) {
            ASSERT(end_offset > offset && end_offset <= log_end(log) && batches->size > 0);
            block_unref(batches);
            err = log_read_header(log, offset, &header, NULL);
            ASSERT(err == ERR_OK && header.base_offset <= offset);
            ASSERT(batch_end_offset(&header) > offset);
            err = log_find(log, offset, end_offset, CHUNK_SIZE, &chunk, NULL);
            ASSERT(err == ERR_OK && chunk.end_offset == end_offset);
            log_chunk_release(&chunk);
        } else if (err == ERR_HOLE) {
            size_t count = log_holes(log, offset, &hole, 1);

            ASSERT(count == 1 && hole.from <= offset && hole.to > offset);
            end_offset = hole.to;
        } else {
            ASSERT(err == ERR_CORRUPT);
            end_offset = offset + 1;
        }
        offset = end_offset;
    }
}

static void read_raw(struct log *log)
{
    struct log_reader *reader;
    uint8_t bytes[100];
    size_t size = 1;
    enum err err = log_reader_new(log, &reader);

    ASSERT(err == ERR_OK);
    while (err == ERR_OK && size > 0) {
        err = log_reader_read(reader, bytes, sizeof bytes, &size, NULL);
        ASSERT(err == ERR_OK || err == ERR_HOLE || err == ERR_CORRUPT);
    }
    log_reader_free(reader);
}

void log_walk(struct log *log)
{
    read_all(log);
    read_raw(log);
}
