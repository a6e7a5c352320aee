#include "fuzz/log_seeds.h"

#include "archive/chained.h"
#include "base/assert.h"
#include "log/segment.h"

struct collector {
    struct io *io;
    struct buf *to;
};

/* Three segments of two batches each, the last one active. */
static void make_segments(struct io *io, const struct chained *topic)
{
    const struct segment_config config = {
        .io = io, .dir = "/", .size_max = 4096, .index_interval = 128};
    struct segment *before = NULL;

    for (size_t i = 0; i < 3; i++) {
        const struct segment_origin origin = {.base_offset = topic->headers[2 * i].base_offset,
                                              .before = before};
        struct segment *segment;
        struct segment *sealed;
        enum err err = segment_create(&config, &origin, &segment, NULL);

        ASSERT(err == ERR_OK);
        for (size_t k = 2 * i; k < 2 * i + 2; k++) {
            const struct iovec part = {.iov_base = topic->bytes + topic->positions[k],
                                       .iov_len = topic->headers[k].size};

            err = segment_append(segment, &topic->headers[k], &part, 1, NULL);
            ASSERT(err == ERR_OK);
        }
        if (i < 2) {
            err = segment_seal(&config, segment, &sealed, NULL);
            ASSERT(err == ERR_OK);
            segment_unref(sealed);
        }
        segment_unref(before);
        before = segment;
    }
    segment_unref(before);
}

static void put_file(void *arg, const char *path, uint64_t size)
{
    const struct collector *collector = arg;
    struct buf file = {0};
    enum segment_file kind;
    uint64_t base_offset;

    (void)size;
    if (segment_parse_name(path + 1, &base_offset, &kind)) {
        fuzz_put_u8(collector->to, (uint8_t)kind);
        fuzz_put_u8(collector->to, (uint8_t)base_offset);
        fuzz_read_file(collector->io, path, &file);
        fuzz_put_part(collector->to, file.data, file.size);
        buf_fini(&file);
    }
}

void log_seeds_put(struct buf *to)
{
    struct mem_io disk;
    struct collector collector = {.io = fuzz_disk_init(&disk), .to = to};
    struct chained topic;

    chained_init(&topic, 4096, "t");
    for (uint32_t i = 0; i < 6; i++) {
        chained_add(&topic, 1 + i % 3, 10 + 30 * i);
    }
    make_segments(collector.io, &topic);
    mem_io_files(&disk, put_file, &collector);
    chained_fini(&topic);
    fuzz_disk_fini(&disk);
}
