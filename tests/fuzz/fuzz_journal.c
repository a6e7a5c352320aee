/*
 * A journal's directory with any segments in it: recovered, appended to, closed, and recovered
 * again, which finds what was there and what was appended.
 *
 *      u8 1: checksums are made right, 2: reset at the end, 4: trim | segments, up to 4: u8 number
 *      (0: a spare), a part, to which zeros are added up to 64 KiB unless the number's bit 7 is set
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "fuzz/fix.h"
#include "fuzz/fuzz.h"
#include "fuzz/journal_seeds.h"
#include "raft_fsm/journal.h"
#include "raft_fsm/journal_lab.h"
#include "raft_fsm/journal_segment.h"

enum { SEGMENTS_MAX = 4 };

static void put_segments(struct io *io, struct fuzz_input *input, bool fixed)
{
    static uint8_t segment[LAB_SEGMENT_SIZE];

    for (unsigned i = 0; i < SEGMENTS_MAX && input->size > 0; i++) {
        uint8_t first = fuzz_u8(input);
        uint8_t number = first & 0x7f;
        struct fuzz_input part = fuzz_part(input);
        char path[JOURNAL_NAME_SIZE + 1] = "/";

        memset(segment, 0, sizeof segment);
        if (part.size > 0) {
            memcpy(segment, part.data, part.size);
        }
        if (fixed) {
            fix_journal(segment, sizeof segment);
        }
        if (number == 0) {
            journal_spare_name(path + 1, 1);
        } else {
            journal_segment_name(path + 1, number);
        }
        fuzz_write_file(io, path, segment, first == number ? sizeof segment : part.size);
    }
}

static struct journal *open_again(const struct journal_options *options, uint64_t first,
                                  uint64_t last)
{
    struct journal_contents contents;
    struct journal *journal;
    enum err err = journal_open(options, &journal, &contents, NULL);

    ASSERT(err == ERR_OK && !contents.torn);
    ASSERT(contents.first_index <= first && contents.first_index + contents.count == last + 1);
    journal_contents_fini(&contents);
    return journal;
}

static void append(struct journal *journal, uint64_t index, uint64_t term)
{
    struct block *block = entry_block_new(3);
    struct entry entry;
    enum err err;

    ASSERT(block != NULL);
    memset(block->data + ENTRY_HEADER_SIZE, 'x', 3);
    entry_seal(block, 3, index, term, ENTRY_COMMAND, &entry);
    err = journal_append(journal, &entry, 1, NULL);
    ASSERT(err == ERR_OK);
    entry_unref(&entry);
}

/* What was found goes on: truncates half of it, appends, and finds that again. */
static void use(const struct journal_options *options, struct journal *journal,
                const struct journal_contents *contents, uint8_t control)
{
    uint64_t first = contents->first_index;
    uint64_t last = first + contents->count - 1;
    uint64_t next = first + contents->count / 2;
    enum err err;

    ASSERT(journal_last_index(journal) == last && first > 0);
    for (size_t i = 0; i < contents->count; i++) {
        const struct entry *entry = &contents->entries[i];

        ASSERT(entry->index == first + i);
        ASSERT(i == 0 || entry->term >= entry[-1].term);
    }
    if (next > UINT64_MAX - 10) {
        journal_close(journal);
        return;
    }
    append(journal, next, UINT64_MAX);
    ASSERT(journal_last_index(journal) == next);
    if ((control & 4) != 0) {
        err = journal_trim(journal, next - 1, NULL);
        ASSERT(err == ERR_OK);
    }
    journal_close(journal);
    journal = open_again(options, next, next);
    if ((control & 2) != 0) {
        err = journal_reset(journal, next + 5, NULL);
        ASSERT(err == ERR_OK);
        append(journal, next + 5, UINT64_MAX);
        journal_close(journal);
        journal = open_again(options, next + 5, next + 5);
    }
    journal_close(journal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    uint8_t control = fuzz_u8(&input);
    struct mem_io disk;
    const struct journal_options options = {.io = fuzz_disk_init(&disk),
                                            .dir = "/",
                                            .node_id = LAB_NODE,
                                            .segment_size = LAB_SEGMENT_SIZE,
                                            .write_size_max = 4096,
                                            .seed = 1};
    struct journal_contents contents;
    struct journal *journal;
    enum err err;

    put_segments(options.io, &input, (control & 1) != 0);
    err = journal_open(&options, &journal, &contents, NULL);
    if (err == ERR_OK) {
        use(&options, journal, &contents, control);
        journal_contents_fini(&contents);
    } else {
        ASSERT(err == ERR_CORRUPT || err == ERR_VERSION || err == ERR_WRONG_CLUSTER);
    }
    fuzz_disk_fini(&disk);
    return 0;
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    for (unsigned variant = 0; variant < 6; variant++) {
        struct buf seed = {0};

        fuzz_put_u8(&seed, (uint8_t)(1 | variant << 1));
        journal_seeds_put(&seed, variant);
        fuzz_emit(emit, arg, &seed);
    }
}
