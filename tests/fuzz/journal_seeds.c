#include "fuzz/journal_seeds.h"

#include "base/assert.h"
#include "raft_fsm/journal_lab.h"
#include "raft_fsm/journal_segment.h"

struct collector {
    struct io *io;
    struct buf *to;
};

/* Without the zeros at its end; one that was cut is marked. */
static void put_file(void *arg, const char *path, uint64_t size)
{
    const struct collector *collector = arg;
    struct buf file = {0};
    uint64_t number;

    if (journal_segment_name_parse(path + 1, &number)) {
        fuzz_read_file(collector->io, path, &file);
        while (file.size > 0 && file.data[file.size - 1] == 0) {
            file.size--;
        }
        fuzz_put_u8(collector->to, (uint8_t)(number | (size < LAB_SEGMENT_SIZE ? 0x80U : 0)));
        fuzz_put_part(collector->to, file.data, file.size);
        buf_fini(&file);
    }
}

void journal_seeds_put(struct buf *to, unsigned variant)
{
    struct mem_io disk;
    struct collector collector = {.io = fuzz_disk_init(&disk), .to = to};
    const struct journal_options options = lab_options(collector.io, "/");
    struct journal_contents contents;
    struct journal *journal = lab_open(&options, &contents);
    enum err err;

    journal_contents_fini(&contents);
    for (unsigned i = 0; i < variant; i++) {
        err = lab_append(journal, 1 + i, 2, 1 + i / 2, 30 * i);
        ASSERT(err == ERR_OK);
    }
    if (variant % 2 == 1) {
        err = journal_reset(journal, 100, NULL);
        ASSERT(err == ERR_OK);
    }
    journal_close(journal);
    mem_io_files(&disk, put_file, &collector);
    if (variant > 2) {
        journal = lab_open(&options, &contents); /* A second segment. */
        err = lab_append(journal, contents.first_index + contents.count, 1, 9, 8);
        ASSERT(err == ERR_OK);
        journal_contents_fini(&contents);
        journal_close(journal);
        to->size = 1;
        mem_io_files(&disk, put_file, &collector);
    }
    fuzz_disk_fini(&disk);
}
