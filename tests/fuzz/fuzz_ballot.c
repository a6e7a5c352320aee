/*
 * The file of term and vote. What opens is what both slots hold afterwards, and can be changed.
 *
 *      u8 1: checksums are made right, 2: cut behind what is given | the first slot's 44 bytes |
 * the second's | u16 position, u8 value of one byte more
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "fuzz/fuzz.h"
#include "raft_fsm/ballot.h"

enum { SLOT_SIZE = 4096, USED_SIZE = 44, CRC_POSITION = 40, NODE = 7 };

static void check_again(struct io *io, uint64_t term, uint64_t vote)
{
    struct ballot again;
    enum err err = ballot_open(&again, io, "/", NODE, false, NULL);

    ASSERT(err == ERR_OK && again.term == term && again.vote == vote);
    ballot_close(&again);
}

static void check(struct io *io, struct ballot *ballot)
{
    uint64_t term = ballot->term;
    uint64_t vote = ballot->vote;
    enum err err;

    check_again(io, term, vote);
    if (term < UINT64_MAX && ballot->sequence < UINT64_MAX) {
        err = ballot_write(ballot, term + 1, NODE, NULL);
        ASSERT(err == ERR_OK);
        check_again(io, term + 1, NODE);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {.data = data, .size = size};
    uint8_t control = fuzz_u8(&input);
    uint8_t slots[2 * SLOT_SIZE] = {0};
    size_t file_size = sizeof slots;
    struct mem_io disk;
    struct io *io = fuzz_disk_init(&disk);
    struct ballot ballot;
    uint16_t position;
    enum err err;

    for (size_t i = 0; i < 2; i++) {
        uint8_t *slot = slots + i * SLOT_SIZE;

        for (size_t k = 0; k < USED_SIZE; k++) {
            slot[k] = fuzz_u8(&input);
        }
        if ((control & 1) != 0) {
            bytes_put_u32(slot + CRC_POSITION, crc32c(slot, CRC_POSITION));
        }
    }
    position = fuzz_u16(&input);
    slots[position % sizeof slots] ^= fuzz_u8(&input);
    if ((control & 2) != 0) {
        file_size = position % sizeof slots;
    }
    fuzz_write_file(io, "/ballot", slots, file_size);
    err = ballot_open(&ballot, io, "/", NODE, true, NULL);
    if (err == ERR_OK) {
        check(io, &ballot);
        ballot_close(&ballot);
    } else {
        ASSERT(err == ERR_CORRUPT || err == ERR_VERSION);
    }
    fuzz_disk_fini(&disk);
    return 0;
}

void fuzz_seeds(fuzz_emit_cb emit, void *arg)
{
    for (uint64_t term = 0; term < 4; term++) {
        struct mem_io disk;
        struct io *io = fuzz_disk_init(&disk);
        struct ballot ballot;
        struct buf file = {0};
        struct buf seed = {0};
        enum err err = ballot_open(&ballot, io, "/", NODE, true, NULL);

        ASSERT(err == ERR_OK);
        if (term > 0) {
            err = ballot_write(&ballot, term, term - 1, NULL);
            ASSERT(err == ERR_OK);
        }
        ballot_close(&ballot);
        fuzz_read_file(io, "/ballot", &file);
        fuzz_put_u8(&seed, 1);
        fuzz_put(&seed, file.data, USED_SIZE);
        fuzz_put(&seed, file.data + SLOT_SIZE, USED_SIZE);
        buf_fini(&file);
        fuzz_emit(emit, arg, &seed);
        fuzz_disk_fini(&disk);
    }
}
